"""doctor and healthcheck: each line ok, why not, what to do."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.cli_story import Cli, Log
from hedgelock.clock import SystemClock
from hedgelock.domain.safety import SafetyMode, SafetyReason, SafetyState
from hedgelock.exchanges.address import SharedBook
from hedgelock.exchanges.key_lock import KeyLock
from hedgelock.telemetry.http import probe


class _Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"service": "hedger", "status": "ok"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hedger(ports: dict[str, int]) -> Iterator[None]:
    """Something that answers as our hedger does."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", ports["HTTP__HEDGER_PORT"]), _Healthy)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield
    server.shutdown()
    server.server_close()
    thread.join()


def test_doctor_when_nothing_runs(cli: Cli) -> None:
    """On a fresh machine all is well; what does not run yet is said, not failed."""
    said = cli("doctor")
    assert said.code == 0
    assert "all 13 are free" in said.out and "no log yet" in said.out
    assert "simulator does not run" in said.out and "all well" in said.out


def test_doctor_warns_that_critical_lies_beyond_the_margin_call(cli: Cli) -> None:
    """The seed's CRITICAL .90 comes after the exchange's margin call .85."""
    rows = [json.loads(line) for line in cli("doctor", "--offline", "--json").out.splitlines()]
    (row,) = [r for r in rows if r["name"] == "thresholds"]
    assert row["level"] == "warn"
    assert "margin call at 85 %" in row["text"] and "RISK__LTV_CRITICAL_THRESHOLD" in row["todo"]


def test_doctor_names_a_busy_port(cli: Cli, ports: dict[str, int]) -> None:
    """A port of another program fails, with the variable and how to see whose it is."""
    with socket.create_server(("127.0.0.1", ports["HTTP__HEDGER_PORT"])) as server:
        # It answers at once with something that is not ours.
        thread = threading.Thread(target=_answer_nonsense, args=(server,), daemon=True)
        thread.start()
        said = cli("doctor", "--offline")
        thread.join(5)
    assert said.code == 1
    assert f"HTTP__HEDGER_PORT={ports['HTTP__HEDGER_PORT']} is taken" in said.out
    assert "ss -ltnp" in said.out


def _answer_nonsense(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello")


def test_doctor_knows_its_own(cli: Cli, hedger: None) -> None:
    """A port of our own service is no problem."""
    said = cli("doctor", "--offline")
    assert said.code == 0
    assert "HedgeLock runs: hedger" in said.out


def test_doctor_on_a_bad_configuration(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every problem of the configuration is listed; code 2."""
    monkeypatch.setenv("RISK__LTV_CAUTION_THRESHOLD", "0.9")
    monkeypatch.setenv("HTTP__HEDGER_PORT", "many")
    said = cli("doctor")
    assert said.code == 2
    assert "RISK__LTV_CAUTION_THRESHOLD" in said.out and "HTTP__HEDGER_PORT" in said.out


def test_doctor_on_an_impossible_folder(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A data folder that cannot be is a failure with what to do."""
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "file" / "data"))
    said = cli("doctor", "--offline")
    assert said.code == 1
    assert "cannot be written" in said.out and "DATA_DIR=" in said.out


def test_doctor_reads_the_log(cli: Cli, story: Log) -> None:
    """A log is summed up; unreadable messages and a halted account are pointed at."""
    story.put("safety_state", "main", SafetyState(
        account="main", version=1, mode=SafetyMode.HALTED, reason=SafetyReason.OPERATOR_HALT,
        flatten=False, command_id="c", text="", since_ts_ms=1), "safety:main:1.0")
    story.put_raw("quarantine", "main", b"{")
    said = cli("doctor", "--offline")
    assert said.code == 0
    assert "records of" in said.out and "1 messages could not be read" in said.out
    assert "account main is HALTED" in said.out


def test_doctor_on_a_broken_log(cli: Cli, tmp_path: Path) -> None:
    """A file that is no log fails with what to do, not with a traceback."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "hedgelock.db").write_bytes(b"not a database" * 1000)
    said = cli("doctor", "--offline")
    assert said.code == 1
    assert "move it away" in said.out


def test_healthcheck(cli: Cli, hedger: None) -> None:
    """0 when the service answers, 1 when it does not, 2 when there is none of that name."""
    assert cli("healthcheck", "hedger").code == 0
    assert cli("healthcheck", "safety").code == 1
    assert cli("healthcheck").code == 0
    assert cli("healthcheck", "simulator").code == 1
    assert cli("healthcheck", "hedgehog").code == 2


@pytest.fixture
def simulator(ports: dict[str, int], tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`hedgelock simulate` as a process of its own."""
    process = subprocess.Popen([sys.executable, "-m", "hedgelock.cli", "simulate", "--scenario", "calm"],
                               cwd=tmp_path, stderr=subprocess.DEVNULL)
    pause, deadline = threading.Event(), time.monotonic() + 30
    while not probe("127.0.0.1", ports["SIM__PORT"])[0] and time.monotonic() < deadline:
        pause.wait(0.05)
    yield process
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0, "Ctrl-C is an orderly stop"


@pytest.mark.slow
def test_doctor_asks_the_exchange(cli: Cli, simulator: subprocess.Popen[bytes]) -> None:
    """With an exchange to ask: clock, key, contract with its tiers, collateral and loan are shown."""
    said = cli("doctor")
    assert said.code == 0, said.out
    for words in ("ahead of this machine", "cannot withdraw", "margin tiers", "the loan counts 100 %",
                  "main owes 33,000"):
        assert words in said.out.replace("behind this machine", "ahead of this machine"), words


@pytest.mark.slow
def test_doctor_names_a_wrong_key(
    cli: Cli, simulator: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that the exchange refuses fails with what to do."""
    monkeypatch.setenv("ACCOUNTS__main__API_KEY", "nobody")
    monkeypatch.setenv("ACCOUNTS__main__API_SECRET", "nobody")
    monkeypatch.setenv("MODE", "sim")
    said = cli("doctor")
    assert said.code == 1
    assert "FAIL" in said.out and "→" in said.out


@pytest.mark.slow
def test_doctor_tells_of_neighbours(
    cli: Cli, simulator: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    ports: dict[str, int],
) -> None:
    """Another engine on our key and a stand-off of the address fail, each with what to do; no request leaves."""
    url = f"http://127.0.0.1:{ports['SIM__PORT']}"
    monkeypatch.setenv("SHARED_DIR", str(tmp_path / "machine"))
    lock = KeyLock(tmp_path / "machine", url, "hedgelock-sim")
    lock.acquire("data folder /elsewhere", now_ms=1_760_000_000_000)
    said = cli("doctor")
    lock.release()
    assert said.code == 1
    assert f"in use by process {os.getpid()} (data folder /elsewhere)" in said.out
    assert "may be asked 540 times" in said.out
    book = SharedBook(tmp_path / "machine")
    book.ban(url.removeprefix("http://"), SystemClock().now_ms() + 300_000)
    book.close()
    said = cli("doctor")
    assert said.code == 1
    assert "nobody asks it for" in said.out and "no engine on this machine uses" in said.out
    assert "ahead of this machine" not in said.out.replace("behind", "ahead of")
