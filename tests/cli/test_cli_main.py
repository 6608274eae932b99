"""The command line as a whole: help, start-up, refusals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cli.cli_story import Cli

COMMANDS = ("run", "service", "simulate", "config", "topics", "peek", "why", "replay", "doctor",
            "operator", "healthcheck", "backup", "restore", "upgrade", "rehearse")


def test_help_names_every_command(cli: Cli) -> None:
    """`--help` names every command and shows examples."""
    said = cli("--help")
    assert said.code == 0
    for name in COMMANDS:
        assert f" {name} " in said.out
    assert "Examples" in said.out


@pytest.mark.parametrize("argv", [(name,) for name in COMMANDS if name != "operator"]
                         + [("operator",), ("operator", "halt"), ("operator", "kill")])
def test_every_command_has_help_with_examples(cli: Cli, argv: tuple[str, ...]) -> None:
    """Each command explains itself and gives at least one example to copy."""
    said = cli(*argv, "--help")
    assert said.code == 0
    assert "Examples" in said.out
    assert f"hedgelock {' '.join(argv)}" in said.out


def test_help_imports_no_exchange_library() -> None:
    """Start-up must not wait for ccxt or a web framework."""
    code = (
        "import sys\n"
        "from hedgelock.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'ccxt', 'fastapi', 'confluent_kafka', 'aiohttp', 'pydantic'} & set(sys.modules)\n"
        "sys.stderr.write(repr(sorted(heavy)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]"


def test_refuses_to_run_without_assertions() -> None:
    """Under `python -O` nothing starts, and the reason is said."""
    done = subprocess.run([sys.executable, "-O", "-m", "hedgelock.cli", "--help"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "assertions" in done.stderr
    assert done.stdout == ""


def test_usage_errors_leave_with_two(cli: Cli) -> None:
    """A command that does not exist is the caller's mistake: code 2."""
    assert cli("hedge-everything").code == 2


def test_bad_configuration_leaves_with_two(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad setting is named with its value and an example, and nothing is run."""
    monkeypatch.setenv("RISK__LTV_DANGER_THRESHOLD", "eighty")
    said = cli("topics")
    assert said.code == 2
    assert "RISK__LTV_DANGER_THRESHOLD" in said.err and "eighty" in said.err
    assert "do:" in said.err


def test_version(cli: Cli) -> None:
    """`--version` prints one line."""
    said = cli("--version")
    assert said.out.startswith("hedgelock ") and said.code == 0


def test_service_alone_needs_kafka(cli: Cli) -> None:
    """The embedded log has one writer: a single service says what to set instead of fencing it."""
    said = cli("service", "hedger")
    assert said.code == 2
    assert "KAFKA__BOOTSTRAP_SERVERS" in said.err


def test_unknown_service_is_corrected(cli: Cli) -> None:
    """A misspelt service gets the nearest name and the whole list."""
    said = cli("service", "hegder")
    assert said.code == 2
    assert "did you mean hedger?" in said.err and "risk-engine" in said.err


def test_a_scenario_file_that_cannot_be_played_is_explained(cli: Cli, tmp_path: Path) -> None:
    """Exit code 2 with file, place, problem and an example; nothing listens."""
    path = tmp_path / "bad.toml"
    path.write_text('summary = "x"\n[[fault]]\nkind = "hut"\n', encoding="utf-8")
    said = cli("simulate", "--script", str(path))
    assert said.code == 2
    assert "bad.toml: [fault] 1: kind 'hut' is unknown" in " ".join(said.err.split())


def test_unknown_scenario_lists_all(cli: Cli) -> None:
    """A script that does not exist lists those that do, with what happens in them."""
    said = cli("simulate", "--scenario", "boom")
    assert said.code == 2
    assert "whipsaw" in said.err and "mania" in said.err


def test_simulator_stays_on_this_machine(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a container the simulator, whose keys everybody knows, refuses other addresses."""
    monkeypatch.setattr("hedgelock.cli.start._CONTAINER_MARKS", ())
    monkeypatch.setenv("SIM__HOST", "0.0.0.0")
    said = cli("simulate")
    assert said.code == 2
    assert "SIM__HOST=127.0.0.1" in said.err
