"""README's commands, typed as they stand there, in a clean copy of the repository.

Every command of README is either run here or named in ELSEWHERE with the reason and the place where it
is run; one that is neither fails the test.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from trial import environment

from hedgelock.app import SERVICES

pytestmark = [pytest.mark.slow, pytest.mark.no_cover, pytest.mark.timeout(180)]

ROOT = Path(__file__).resolve().parent.parent.parent
IGNORED = shutil.ignore_patterns(
    ".git", ".venv", ".cache", "*_cache", ".hypothesis", "__pycache__", "data", "htmlcov", ".coverage*",
    ".env",
)

ELSEWHERE = {
    "make test": "this test is part of it; that it runs everything is tests/architecture's matter",
    "make test-core": "runs tests from within a test; CI and people run it, `make -n` is run here",
    "make soak": "ten minutes of kills; it is run by hand and by night",
    "make bench": "measures the machine, which the other tests disturb",
    "make lint": "CI runs it; it needs the development packages",
    "make types": "CI runs it; it needs the development packages",
    "make docker-build": "needs a Docker daemon; tests/architecture reads Dockerfile and compose",
    "docker-compose up -d": "needs a Docker daemon; tests/architecture/test_containers.py reads it",
    "make test-containers": "needs root and podman; it is a test itself",
    "hedgelock backup FILE": "tests/integration/test_restore.py, with an engine that runs",
    "hedgelock restore FILE": "tests/integration/test_restore.py, beside an exchange that goes on",
    "hedgelock upgrade": "tests/cli/test_cli_upkeep.py, on logs of other layouts",
    "./run_all_tests.sh": "the same as `make test`",
    "./run_core_tests.sh": "the same as `make test-core`",
    "./scripts/run_collector_soak_test.sh 5m": "five minutes; a duration it refuses is tried in "
    "tests/architecture",
    "poetry run pytest tests/integration/": "poetry is no part of the set-up; pyproject.toml is valid "
    "for it, and pytest runs these tests already",
    "scripts/kafka-broker.sh DIR PORT": "tests/kafka_broker.py starts every test broker with it",
    "hedgelock service NAME": "tests/integration/test_demo_kafka.py runs every service with it",
    "hedgelock operator kill": "tests/cli/test_cli_operate.py; it would end the demo",
}
"""Command of README -> why it is not typed here, and who does."""

PLAYED = "--speed 8 --exit-at-end"
"""What makes `make run` short and end by itself."""


def commands() -> list[str]:
    """Every command that README shows: lines of sh blocks, and commands between backticks."""
    text = (ROOT / "README.md").read_text("utf-8")
    found = []
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        found += [line.split("  #")[0].strip() for line in block.splitlines() if line.strip()]
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    starts = r"`((?:make|hedgelock|poetry|docker-compose|\./\w|scripts/\S+\.sh) ?[^`]*)`"
    found += re.findall(starts, prose)
    for group in re.findall(r"`hedgelock operator halt` \(([^)]*)\)", prose):
        found += [f"hedgelock operator {word}" for word in re.findall(r"`(\w+)`", group)]
    return list(dict.fromkeys(line.removeprefix(".venv/bin/").strip() for line in found))


class Copy:
    """A clean copy, its environment, and what was typed in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "hedgelock"
        shutil.copytree(ROOT, self.folder, ignore=IGNORED)
        (self.folder / "data").mkdir()
        self.env = environment(folder)
        # The data folder and the operator's key are README's business: as a newcomer has them.
        del self.env["DATA_DIR"]
        for name in ("UV_CACHE_DIR", "PIP_CACHE_DIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE",
                     "UV_INDEX_URL", "UV_DEFAULT_INDEX", "PIP_INDEX_URL", "UV_NATIVE_TLS",
                     "UV_SYSTEM_CERTS", "PIP_CERT", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"):
            for each in (name, name.lower()):
                if each in os.environ:
                    self.env[each] = os.environ[each]
        self.typed: set[str] = set()

    def type(self, command: str, *, given: str = "", code: int = 0) -> str:
        """Type a command of README, `given` in the place of its ID; stdout. Fails with stderr."""
        line = command.replace(" ID", f" {given}") if given else command
        self.typed.add(command)
        done = subprocess.run(
            ["bash", "-c", self._here(line)], cwd=self.folder, env=self.env, text=True,
            capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        )
        assert done.returncode == code, f"{line}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, command: str, *, arguments: str, log: str) -> subprocess.Popen[bytes]:
        """Start a command of README and go on."""
        self.typed.add(command)
        with (self.folder.parent / log).open("wb") as out:
            return subprocess.Popen(
                ["bash", "-c", f"exec {self._here(command)} {arguments}"], cwd=self.folder,
                env=self.env, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            )

    def _here(self, line: str) -> str:
        """The same with the ports of this copy, so that two runs do not meet."""
        names = {"8010": "SIM__PORT"}
        for at, name in enumerate(("collector", "risk-engine", "hedger", "trade-executor",
                                   "funding-engine", "safety")):
            names[str(8001 + at)] = f"HTTP__{name.replace('-', '_').upper()}_PORT"
        names["9096"] = "HTTP__RISK_ENGINE_METRICS_PORT"
        line = re.sub(r"(127\.0\.0\.1:)(\d+)", lambda m: m[1] + self.env[names[m[2]]], line)
        return re.sub(r"^hedgelock\b", ".venv/bin/hedgelock", line)

    def output(self, log: str) -> str:
        """What a started command has said so far."""
        return (self.folder.parent / log).read_text("utf-8", errors="replace")

    def is_up(self, variable: str, page: str) -> bool:
        """Whether a port of this copy answers 200."""
        try:
            urllib.request.urlopen(
                f"http://127.0.0.1:{self.env[variable]}{page}", timeout=2).close()
        except OSError:
            return False
        return True

    def until(self, is_so: object, what: str, log: str) -> None:
        """Wait up to a minute; a fresh .venv is made meanwhile."""
        assert callable(is_so)
        pause, deadline = threading.Event(), time.monotonic() + 90
        while not is_so():
            assert time.monotonic() < deadline, f"{what} did not happen:\n{self.output(log)[-3000:]}"
            pause.wait(0.1)


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    """A clean copy without .venv, log or settings."""
    return Copy(tmp_path)


def stop(process: subprocess.Popen[bytes]) -> int:
    """SIGTERM, as a supervisor would; the exit status."""
    process.send_signal(signal.SIGTERM)
    return process.wait(20)


def test_readmes_commands_do_what_it_says(copy: Copy) -> None:
    """A newcomer types README from top to bottom: the demo plays, and what it left can be asked."""
    shown = commands()
    play = copy.start("make run", arguments=f"ARGS='{PLAYED}'", log="run.log")
    try:
        copy.until(lambda: copy.is_up("HTTP__RISK_ENGINE_PORT", "/ready"), "readiness", "run.log")
        assert json.loads(copy.type("curl -s http://127.0.0.1:8002/ready"))["ready"]
        assert "# HELP" in copy.type("curl -s http://127.0.0.1:9096/metrics")
        copy.type("hedgelock operator halt")
        copy.type("hedgelock operator resume")
        assert play.wait(60) == 0, copy.output("run.log")[-3000:]
    finally:
        if play.poll() is None:
            stop(play)
    said = [json.loads(x) for x in copy.output("run.log").splitlines() if x.startswith('{"event"')]
    summary = next(line for line in said if line["event"] == "summary")
    assert summary["twin"]["liquidated"] and not summary["ours"]["liquidated"]
    decided = json.loads(copy.type("hedgelock peek hedge_decisions -n 3 --json").splitlines()[-1])
    copy.typed.remove("hedgelock peek hedge_decisions -n 3 --json")
    copy.type("hedgelock peek hedge_decisions -n 3")
    assert "the decision" in copy.type("hedgelock why ID", given=decided["id"].rpartition(".")[0])
    assert "folded again: same" in copy.type("hedgelock replay")
    assert "hedge_decisions" in copy.type("hedgelock topics")
    assert "all well" in copy.type("hedgelock doctor")
    assert "make run" in copy.type("make help")
    copy.type("cp .env.example .env && chmod 600 .env")
    assert "RISK__LTV_CAUTION_THRESHOLD" in copy.type("hedgelock config")
    assert "right" in copy.type("hedgelock rehearse --seed 42")
    simulator = copy.start("hedgelock simulate", arguments="", log="simulate.log")
    copy.until(lambda: copy.is_up("SIM__PORT", "/healthz"), "the simulator", "simulate.log")
    assert stop(simulator) == 0
    same = {"hedgelock run": "make run", "hedgelock peek TOPIC": "hedgelock peek hedge_decisions -n 3"}
    copy.typed |= {command for command, other in same.items() if other in copy.typed}
    missing = [line for line in shown if line not in copy.typed and line not in ELSEWHERE]
    assert not missing, f"README shows what no test types: {missing}"
    unknown = [line for line in copy.typed | ELSEWHERE.keys() if line not in shown and line not in same]
    assert not unknown, f"typed or excused, but not in README: {unknown}"
    for line in ELSEWHERE:
        if line.startswith("make "):
            subprocess.run(["make", "-n", line.split()[1]], cwd=copy.folder, env=copy.env, check=True,
                           capture_output=True)


def test_services_of_readme_are_those_there_are() -> None:
    """The table of services names every service and its two ports."""
    text = (ROOT / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| ([a-z-]+) \| (\d{4}) \| (\d{4}) \|", text, re.MULTILINE)
    from hedgelock.config import load

    http = load({}, env_file=None).http
    assert {name for name, _, _ in rows} == {*SERVICES, "simulator"}
    for name, port, metrics in rows:
        if name != "simulator":
            assert (int(port), int(metrics)) == (http.ports(name).http, http.ports(name).metrics)
