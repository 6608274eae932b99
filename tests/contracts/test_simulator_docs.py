"""docs/simulator.md: its Python runs against a simulator, its scenario file plays, its tables are whole."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from served import served

from hedgelock.simulator.fault_kinds import KINDS
from hedgelock.simulator.script import parse_script

pytestmark = pytest.mark.clients
ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "simulator.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def port():
    """The command of the page, on a free port."""
    (first, _) = blocks("sh")
    assert first.split()[:1] == ["hedgelock"]

    def command(number):
        return [sys.executable, "-m", "hedgelock.cli", *first.split()[1:], "--port", str(number)]

    with served(command) as number:
        yield number


def test_the_python_of_the_page_runs(port):
    """All blocks in order, in one process, with the port replaced and nothing else."""
    code = "\n".join(blocks("python")).replace("8010", str(port))
    assert code.count("assert") >= 12
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_scenario_file_of_the_page_plays():
    (text,) = blocks("toml")
    script = parse_script(Path("page.toml"), tomllib.loads(text))
    assert [account.key for account in script.scenario.accounts] == ["my-bot"]
    assert len(script.checks) == 2


def test_every_kind_of_fault_is_in_the_table():
    rows = re.findall(r"^\| (request|push|socket|world).*$", PAGE, flags=re.MULTILINE)
    table = "\n".join(line for line in PAGE.splitlines() if line.startswith("| ") and "`" in line)
    assert len(rows) == 5
    assert set(re.findall(r"`(\w+)`", table)) == set(KINDS)
