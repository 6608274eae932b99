"""The operator against a running engine: halt, resume, kill; replays, forgeries and junk change nothing."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from trial import OURS, Trial, ask, get, trial

from hedgelock.cli.operate import make_command
from hedgelock.config import load
from hedgelock.domain.command import OperatorAction, OperatorCommand, sign
from hedgelock.domain.safety import SafetyMode, SafetyState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def word(run: Trial) -> SafetyState:
    """Safety's latest word."""
    return run.bodies("safety_state")[-1]


def post(run: Trial, command: OperatorCommand) -> int:
    """Hand a command in; the status."""
    return ask(run.url("safety", "/operator"), msgspec.json.encode(command)).status


def command(run: Trial, action: OperatorAction) -> OperatorCommand:
    """A command as the operator would sign it now."""
    return make_command(load(run.env, env_file=None), "main", action, flatten=False)


def heard(run: Trial) -> int:
    """Commands that safety has consumed from the bus."""
    return int(run.metric("safety", "records_total", topic="operator_commands"))


def orders(run: Trial) -> list[dict[str, object]]:
    """Every order of ours at the exchange."""
    return list(get(f"{run.sim}/sim/orders?account={OURS}")["orders"])


def position(run: Trial) -> float:
    """What is held of the hedge at the exchange."""
    return sum(abs(float(p["size"])) for p in run.look().ours["positions"].values())


JUNK = [
    (b"", 422), (b"{not json", 422), (b"[]", 422), (b"null", 422), (b"{}", 422), (b"\xff\xfe", 422),
    (b'{"kind": "MarketTick"}', 422),
    (b'{"kind": "OperatorCommand", "account": 5}', 422),
    ((b'{"kind": "OperatorCommand", "account": "main", "command_id": "x", "action": "explode",'
     b' "flatten": false, "issued_ts_ms": 1, "signature": ""}'), 422),
    ((b'{"kind": "OperatorCommand", "account": "main", "command_id": "x", "action": "halt",'
     b' "flatten": "maybe", "issued_ts_ms": NaN, "signature": ""}'), 422),
    ((b'{"kind": "OperatorCommand", "account": "nobody", "command_id": "x", "action": "halt",'
     b' "flatten": false, "issued_ts_ms": 1, "signature": ""}'), 404),
    (b"x" * 100_000, 413),
]


def check_junk(run: Trial) -> None:
    """Junk is answered with a reason, counted, and never reaches the bus."""
    before = heard(run)
    for body, status in JUNK:
        answer = ask(run.url("safety", "/operator"), body)
        assert (answer.status, bool(answer.body["reason"])) == (status, True), (body, answer)
    assert ask(run.url("safety", "/operator")).status == 405
    assert run.metric("safety", "bad_input_total", source="operator") == len(JUNK)
    assert heard(run) == before


def check_forged(run: Trial) -> None:
    """A command that another key signed, an old one and one from the future change no mode."""
    good = command(run, OperatorAction.KILL)
    key = b"hedgelock-sim-operator"
    old = msgspec.structs.replace(good, command_id="old", issued_ts_ms=good.issued_ts_ms - 60_000)
    early = msgspec.structs.replace(good, command_id="early", issued_ts_ms=good.issued_ts_ms + 60_000)
    for bad, why in (
        (msgspec.structs.replace(good, signature=sign(good, b"another key")), "signature"),
        (msgspec.structs.replace(good, flatten=True), "signature"),
        (msgspec.structs.replace(old, signature=sign(old, key)), "expired"),
        (msgspec.structs.replace(early, signature=sign(early, key)), "in the future"),
    ):
        assert post(run, bad) == 200
        run.await_that("safety's refusal", lambda why=why: why in word(run).text, 5)
        assert word(run).mode is SafetyMode.ACTIVE
    run.env["OPERATOR__KEY"] = "a-key-of-somebody-else-entirely"
    said = run.command("operator", "kill", "--flatten", "--yes")
    del run.env["OPERATOR__KEY"]
    assert said.returncode == 1
    assert "signature is not the operator's" in said.stderr and "OPERATOR__KEY" in said.stderr
    assert word(run).mode is SafetyMode.ACTIVE
    assert any("signature is not" in str(line.get("text", "")) for line in run.lines("engine"))


def check_replay(run: Trial) -> None:
    """A signed command counts once: handed in again after a resume it halts nothing."""
    halt = command(run, OperatorAction.HALT)
    assert post(run, halt) == 200
    run.await_that("the halt", lambda: word(run).mode is SafetyMode.HALTED, 5)
    assert post(run, command(run, OperatorAction.RESUME)) == 200
    run.await_that("the resume", lambda: word(run).mode is SafetyMode.ACTIVE, 5)
    before, version = heard(run), word(run).version
    assert [post(run, halt) for _ in range(3)] == [200] * 3
    run.await_that("three more commands", lambda: heard(run) == before + 3, 5)
    assert (word(run).mode, word(run).version) == (SafetyMode.ACTIVE, version)


def test_junk_forgeries_and_replays_change_nothing(tmp_path: Path) -> None:
    """Only a fresh command with the operator's signature changes the mode, once; the rest is seen."""
    with trial(tmp_path) as run:
        run.start_simulator()
        run.start_engine()
        run.await_that("safety's first word", lambda: word(run).mode is SafetyMode.ACTIVE, 10)
        check_junk(run)
        check_forged(run)
        check_replay(run)
        assert run.metric("safety", "safety_mode", account="main") == 0
        assert run.stop() == {"simulator": 0, "engine": 0}


@pytest.mark.timed
def test_halt_resume_and_kill_are_obeyed(tmp_path: Path) -> None:
    """Halted opens no discretionary hedge; resumed goes on; killed cancels, closes reduce-only, stays out."""
    with trial(tmp_path, SIM__SPEED="4", HEDGER__STRATEGY="ladder",
               HEDGER__CAUTION_HEDGE_SIZE_BTC="0.6") as run:
        run.start_simulator()
        run.start_engine()
        run.await_that("safety's first word", lambda: word(run).mode is SafetyMode.ACTIVE, 10)
        assert run.command("operator", "halt").returncode == 0
        run.start_script()
        run.await_that("caution", lambda: float(run.look().ours["ltv"]) > 0.67, 20)
        assert orders(run) == [], "a discretionary hedge while halted"
        assert run.metric("safety", "safety_mode", account="main") == 2
        resumed = run.command("operator", "resume")
        assert resumed.returncode == 0, resumed.stderr
        run.await_that("the hedge", lambda: position(run) > 0, 10)
        killed = run.command("operator", "kill", "--flatten", "--yes")
        assert killed.returncode == 0, killed.stderr
        assert "KILLED" in killed.stdout
        run.await_that("flat", lambda: position(run) == 0 and not run.look().ours["open_orders"], 10)
        sent, repaid = orders(run), run.look().ours["repayments"]
        assert sent[-1]["reduceOnly"] is True, sent[-1]
        start_s = run.look().script_s
        run.watch(start_s + 20, (), None)
        assert len(orders(run)) == len(sent), "opened something after a kill"
        assert position(run) == 0
        assert run.look().ours["repayments"] == repaid, "repaid after a kill"
        assert run.metric("safety", "safety_mode", account="main") == 3
        assert run.stop() == {"simulator": 0, "engine": 0}
