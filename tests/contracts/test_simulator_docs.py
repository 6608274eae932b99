"""docs/simulator.md: its Python runs against a simulator, its scenario file plays, its tables are whole."""

import json
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from served import served

from hedgelock.config.machine import SimSettings
from hedgelock.simulator.control import ROUTES
from hedgelock.simulator.fault_kinds import KINDS
from hedgelock.simulator.generators import MODELS
from hedgelock.simulator.scenarios import SCENARIOS
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


def test_the_commands_for_a_scenario_file_run(tmp_path):
    """A script that waits, started by the page's second command: its curl is asked as it stands."""
    (_, commands), (text,) = blocks("sh"), blocks("toml")
    serve, start = commands.splitlines()
    file = tmp_path / "my_scenario.toml"
    file.write_text(text)
    words = serve.split()[1:]
    words[words.index(file.name)] = str(file)

    def command(number):
        return [sys.executable, "-m", "hedgelock.cli", *words, "--port", str(number)]

    def script_s(number):
        with urlopen(f"http://127.0.0.1:{number}/sim/state", timeout=5) as reply:
            return json.load(reply)["script_s"]

    with served(command) as number:
        assert script_s(number) == 0
        curl = re.fullmatch(r"curl -X (POST) (http://\S+)", start)
        address = curl[2].replace("8010", str(number))
        urlopen(Request(address, method=curl[1]), timeout=5).close()
        deadline = time.monotonic() + 10
        while not script_s(number):
            assert time.monotonic() < deadline


def test_the_names_of_the_page_are_those_of_the_program():
    """Every scenario, generator and setting that it names exists, and none is missing."""
    for name in (*SCENARIOS, *MODELS):
        assert f"`{name}`" in PAGE
    folder = ROOT / "tests" / "simulation" / "scenarios"
    assert f"has {len(list(folder.glob('*.toml')))} of them" in PAGE
    for name in re.findall(r"`SIM__(\w+)`", PAGE):
        assert name.lower() in SimSettings.model_fields
    known = {path for _, path in ROUTES}
    asked = {f"/sim/{path}" for path in re.findall(r"/sim/([\w/]+)", PAGE)}
    assert asked - {"/sim/"} <= known | {"/sim/faults/kinds"}


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
