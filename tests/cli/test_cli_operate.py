"""operator: signed, shown before, checked after."""

from __future__ import annotations

import contextlib
import http.server
import io
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal as D

import msgspec
import pytest

from cli.cli_story import Cli, Log, positions, risk
from hedgelock.cli import kill_preview
from hedgelock.domain.command import OperatorCommand, verify
from hedgelock.domain.policy import Policy
from hedgelock.domain.safety import SafetyMode, SafetyReason, SafetyState
from hedgelock.telemetry.metrics import Metrics

KEY = b"hedgelock-sim-operator"
_MODES = {"halt": SafetyMode.HALTED, "reduce": SafetyMode.REDUCING, "resume": SafetyMode.ACTIVE, "kill": SafetyMode.KILLED}


class Safety:
    """A safety service at its door: keeps commands and answers on the log as told."""

    def __init__(self, log: Log, port: int) -> None:
        self.commands: list[OperatorCommand] = []
        self.status = 200
        self.refusal = ""
        self._log = log
        safety = self

        class Door(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(safety.status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")
                if safety.status == 200:
                    safety.take(msgspec.json.decode(body, type=OperatorCommand))

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Door)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def take(self, command: OperatorCommand) -> None:
        """Obey, or refuse with `refusal`."""
        self.commands.append(command)
        text = f"{command.action.value} {command.command_id} refused: {self.refusal}"
        self._log.put("safety_state", command.account, SafetyState(
            account=command.account, version=len(self.commands),
            mode=SafetyMode.ACTIVE if self.refusal else _MODES.get(command.action.value, SafetyMode.ACTIVE),
            reason=SafetyReason.OPERATOR_HALT, flatten=command.flatten,
            command_id="" if self.refusal else command.command_id,
            text=text if self.refusal else "", since_ts_ms=1,
            hedge_pinned_until_ms=command.until_ts_ms if command.action.value == "pin_hedge" else None,
            repay_forbidden_until_ms=command.until_ts_ms if command.action.value == "forbid_repay" else None,
        ), f"safety:{command.account}:{len(self.commands)}.0")

    def close(self) -> None:
        """Close the door."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def safety(log: Log, ports: dict[str, int]) -> Iterator[Safety]:
    """Safety's HTTP door beside a log."""
    door = Safety(log, ports["HTTP__SAFETY_PORT"])
    yield door
    door.close()


def test_halt_is_signed_and_takes_effect(cli: Cli, safety: Safety) -> None:
    """The command carries the operator's signature, and its effect is shown."""
    said = cli("operator", "halt")
    assert said.code == 0
    assert "main is HALTED" in said.out
    (command,) = safety.commands
    assert verify(command, KEY)
    assert (command.account, command.flatten) == ("main", False)


@pytest.mark.parametrize(("argv", "action", "hours"), [
    (["reduce"], "reduce", None), (["pin", "--hours", "8"], "pin_hedge", 8), (["pin", "--hours", "0"], "pin_hedge", None),
    (["no-repay"], "forbid_repay", 2), (["alive"], "alive", None),
])
def test_pins_and_heartbeats_say_until_when(
    cli: Cli, safety: Safety, argv: list[str], action: str, hours: int | None
) -> None:
    """Signed like the rest; the end is counted from now, and what holds is shown."""
    said = cli("operator", *argv)
    assert said.code == 0, said.err
    (command,) = safety.commands
    assert verify(command, KEY)
    assert command.action.value == action
    until = command.until_ts_ms
    assert (None if until is None else until - command.issued_ts_ms) == (hours and hours * 3_600_000)
    assert ("until" in said.out) is (until is not None)


def test_one_word_can_bind_every_account(cli: Cli, safety: Safety) -> None:
    """`--account all` addresses the house, for a kill after each account's preview."""
    assert "every account is HALTED" in cli("operator", "halt", "--account", "all").out
    assert safety.commands[0].account == "*"


def test_every_command_has_an_id_of_its_own(cli: Cli, safety: Safety) -> None:
    """Safety consumes an id once: two commands never share one."""
    cli("operator", "halt")
    cli("operator", "resume")
    assert len({command.command_id for command in safety.commands}) == 2


def test_a_refusal_is_said(cli: Cli, safety: Safety) -> None:
    """What safety refuses is an error with its reason."""
    safety.refusal = "already halted"
    said = cli("operator", "halt")
    assert said.code == 1
    assert "refused to halt main" in said.err and "already halted" in said.err


def test_a_wrong_key_is_said(cli: Cli, safety: Safety) -> None:
    """A signature that is not the operator's points at OPERATOR__KEY."""
    safety.refusal = "signature is not the operator's"
    assert "OPERATOR__KEY" in cli("operator", "halt").err


def test_an_http_error_is_said(cli: Cli, safety: Safety) -> None:
    """A door that answers with an error did not take the command."""
    safety.status = 422
    said = cli("operator", "halt")
    assert said.code == 1 and "HTTP 422" in said.err


def test_without_an_engine_nothing_is_pretended(cli: Cli, log: Log) -> None:
    """Where nothing listens, the operator is told that the command was not delivered."""
    said = cli("operator", "halt")
    assert said.code == 1
    assert "not delivered" in said.err and "exchange" in said.err


def test_no_effect_in_time_is_said(
    cli: Cli, safety: Safety, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that was delivered and shows no effect is neither success nor failure: it is said."""
    monkeypatch.setattr("hedgelock.cli.operate.EFFECT_TIMEOUT_S", 0.0)
    ignore: Callable[[OperatorCommand], None] = safety.commands.append
    monkeypatch.setattr(safety, "take", ignore)
    said = cli("operator", "halt")
    assert said.code == 1
    assert "may still be taken up" in said.err


def test_kill_needs_a_yes(cli: Cli, safety: Safety, monkeypatch: pytest.MonkeyPatch) -> None:
    """Off a terminal nobody can type the account's name: without --yes nothing is sent."""
    monkeypatch.setattr("sys.stdin", io.StringIO())
    said = cli("operator", "kill")
    assert said.code == 2
    assert safety.commands == []


def test_kill_shows_what_it_means(cli: Cli, story: Log, safety: Safety) -> None:
    """Before a kill the LTV after it stands on the screen; --flatten travels with the command."""
    said = cli("operator", "kill", "--flatten", "--yes")
    assert said.code == 0
    assert "close the hedge of 0.3000 BTC" in said.out and "95.0 %  beyond the margin call" in said.out
    assert "main is KILLED" in said.out and "being closed" in said.out
    assert safety.commands[0].flatten


class Page(http.server.BaseHTTPRequestHandler):
    """A service's metrics."""

    metrics: Metrics

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.metrics.exposition())

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def carriers(ports: dict[str, int], frozen: dict[str, int]) -> Iterator[None]:
    """Metrics pages of hedger and trade-executor, `account_frozen` of main as given."""
    with contextlib.ExitStack() as stack:
        for name, code in frozen.items():
            page = type("Page", (Page,), {"metrics": Metrics(name)})
            page.metrics.account_frozen.set(code, account="main")
            port = ports[f"HTTP__{name.replace('-', '_').upper()}_METRICS_PORT"]
            server = http.server.ThreadingHTTPServer(("127.0.0.1", port), page)
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
        yield


def test_kill_warns_when_nobody_would_close(cli: Cli, safety: Safety) -> None:
    """Without hedger and executor a kill cancels and closes nothing, and says so before it asks."""
    said = cli("operator", "kill", "--flatten", "--yes").out
    assert "The hedger does not answer" in said
    assert "The trade-executor does not answer" in said
    assert "exchange's own site" in said


@pytest.mark.parametrize(("code", "warns"), [(0, False), (1, False), (2, True)])
def test_kill_warns_of_a_frozen_account(
    cli: Cli, safety: Safety, ports: dict[str, int], code: int, warns: bool
) -> None:
    """Frozen by an error (2) nothing closes; opening nothing (1) does not hinder a kill."""
    with carriers(ports, {"hedger": 0, "trade-executor": code}):
        said = cli("operator", "kill", "--flatten", "--yes")
    assert ("has frozen main" in said.out) is warns
    assert "does not answer" not in said.out
    assert said.code == 0


def test_kill_of_an_unassessed_account(cli: Cli, safety: Safety) -> None:
    """Where the LTV is unknown, that is said instead of a number."""
    assert "not known here" in cli("operator", "kill", "--yes").out


def test_unknown_account(cli: Cli, safety: Safety) -> None:
    """An account that is not configured is the caller's mistake."""
    said = cli("operator", "halt", "--account", "spare")
    assert said.code == 2 and "main" in said.err
    assert safety.commands == []


def test_unhedged_ltv_takes_the_gain_out_again() -> None:
    """Without 0.3 short at 50,000: .85 + .3·50,000·(.25 − .001·.75) ÷ (50,000·.75) = .9497."""
    preview = kill_preview.Preview("main", Policy(account="main", version=1), risk(), D("0.3"))
    assert kill_preview.unhedged_ltv_fall(preview) == D("0.9497")
    assert kill_preview.unhedged_ltv_fall(preview._replace(short=D(0))) == D("0.85")
    assert kill_preview.unhedged_ltv_fall(preview._replace(risk=None)) is None


def test_preview_reads_the_position(log: Log) -> None:
    """The hedge that a kill would close is the one on the bus; unreadable records are passed over."""
    log.put("account_raw", "main", positions("-0.25"), "p:1")
    log.put_raw("account_raw", "main", b"{")
    seen = kill_preview.read(log.bus, Policy(account="main", version=1), "main")
    assert seen.short == D("0.25")
    assert seen.risk is None


def test_status_says_what_an_account_may_do_and_why(cli: Cli, log: Log) -> None:
    """ACTIVE ends with 0; halted for an order that is not ours ends with 1, its words and what to do."""
    log.put("risk_state", "main", risk(), "risk-engine:main:1.0")
    assert cli("operator", "status").code == 1, "nobody has said yet that it is active"
    word = SafetyState(
        account="main", version=1, mode=SafetyMode.ACTIVE, reason=SafetyReason.STARTED,
        flatten=False, command_id="", text="", since_ts_ms=1,
    )
    log.put("safety_state", "main", word, "safety:main:1.0")
    said = cli("operator", "status")
    assert said.code == 0
    assert "main is ACTIVE" in said.out and "LTV 72.0 %, CAUTION, inputs FRESH" in said.out
    halted = msgspec.structs.replace(
        word, version=2, mode=SafetyMode.HALTED, reason=SafetyReason.UNEXPLAINED_ORDER,
        text="ALARM an order with our prefix, but unknown",
    )
    log.put("safety_state", "main", halted, "safety:main:2.0")
    said = cli("operator", "status", "--account", "main")
    assert said.code == 1
    assert "main is HALTED" in said.out and "an order at the exchange is not ours" in said.out
    assert "ALARM an order with our prefix" in said.out and "operator resume" in said.out
