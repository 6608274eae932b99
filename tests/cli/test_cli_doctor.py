"""doctor and healthcheck: each line ok, why not, what to do."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.cli_story import Cli, Log
from hedgelock.domain.safety import SafetyMode, SafetyReason, SafetyState


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
