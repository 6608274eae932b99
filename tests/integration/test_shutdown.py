"""SIGTERM and Ctrl-C at several moments: status 0 within 5 s, and the next start goes on as if nothing was."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from trial import HEDGELOCK, Trial, audit, child_pid, trial

from hedgelock.bus import codec
from hedgelock.domain.treasury import TreasuryAction, TreasuryConfirmation, TreasuryKind

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

STOP_S = 5.0


def ends_well(run: Trial, name: str, number: signal.Signals) -> None:
    """Send a signal; the process ends with 0 in time, and its last words are no traceback."""
    process = run.processes[name]
    began = time.monotonic()
    process.send_signal(number)
    assert process.wait(15) == 0, run.log(name)
    assert time.monotonic() - began < STOP_S, f"{time.monotonic() - began:.1f} s"
    assert "Traceback" not in run.log_of(name), run.log(name)


def repaying(run: Trial) -> bool:
    """A repayment is decided and its end is not on the bus yet."""
    bus = run.bus()
    try:
        open_: set[str] = set()
        for topic in ("treasury_actions", "trade_confirmations"):
            for record in bus.read(topic):
                body = codec.decode(record.value).body
                if isinstance(body, TreasuryAction) and body.kind_of is TreasuryKind.REPAY:
                    open_.add(body.intent_id)
                elif isinstance(body, TreasuryConfirmation) and body.is_terminal:
                    open_.discard(body.intent_id)
        return bool(open_)
    finally:
        bus.close()


def test_sigterm_during_an_order_and_during_a_repayment(tmp_path: Path) -> None:
    """Whatever is under way is found out by the next start: no order, fill or repayment twice or lost."""
    with trial(tmp_path, SIM__SPEED="4") as run:
        run.start_simulator()
        run.start_engine()
        run.start_script()
        run.await_that("an order", lambda: run.look().ours["orders"] > 0, 20)
        ends_well(run, "engine", signal.SIGTERM)
        run.start_engine()
        run.await_that("a repayment under way", lambda: repaying(run), 30)
        ends_well(run, "engine", signal.SIGTERM)
        run.start_engine()
        orders = run.look().ours["orders"]
        run.await_that("going on", lambda: run.look().ours["orders"] > orders, 20)
        ends_well(run, "engine", signal.SIGINT)
        run.start_engine()
        run.watch(123, (), None)
        bus = run.bus()
        books = audit(run, bus)
        bus.close()
        assert len(books.orders) > 5 and books.actions
        assert not run.look().ours["liquidated"]
        assert run.stop() == {"simulator": 0, "engine": 0}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_whole_of_it_ends_with_zero_and_leaves_no_child(
    tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C on `hedgelock run` ends simulator and engine too, in time."""
    with trial(tmp_path, SIM__SPEED="4") as run:
        run.start("run", HEDGELOCK, "run")
        run.await_that("the script", lambda: run.look().script_s > 12, 40)
        children = [child_pid(run.processes["run"].pid, name)
                    for name in ("hedgelock.app", "hedgelock.simulator")]
        assert all(children)
        ends_well(run, "run", number)
        assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def test_a_signal_while_it_starts_is_obeyed(tmp_path: Path) -> None:
    """An engine told to stop at once, its exchange still away, ends within the time."""
    with trial(tmp_path) as run:
        run.start("engine", *run.engine_argv)
        run.await_that("the first page", lambda: run.why_not_ready("hedger") is not None, 30)
        assert any("at the exchange" in reason for reason in run.why_not_ready("trade-executor"))
        ends_well(run, "engine", signal.SIGTERM)


def memory_kb(pid: int) -> int:
    """Private and shared pages of a process, in kB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise AssertionError("no Pss")


SECRETS = ("hedgelock-sim-operator", "key-that-is-no-secret-but-hidden", "x-bapi-sign")
GROWTH_MAX_KB, MEMORY_MAX_KB = 30_000, 130_000
"""The newest 512 records of every topic that is read stay in memory; then it levels off (near 90 MB)."""
LINES_MAX = 600


def test_thirty_seconds_of_demo_keep_memory_and_log_within_bounds(tmp_path: Path) -> None:
    """Memory levels off, the log says what happened and no more, every line is JSON without secrets."""
    with trial(tmp_path, SIM__SPEED="4", LOG_LEVEL="DEBUG") as run:
        run.start_simulator()
        run.start_engine()
        pid = run.processes["engine"].pid
        run.start_script()
        run.watch(30, (), None)
        before_kb = memory_kb(pid)
        run.watch(123, (), None)
        grown_kb = memory_kb(pid) - before_kb
        assert grown_kb < GROWTH_MAX_KB, f"{before_kb} kB grew by {grown_kb} kB"
        assert before_kb + grown_kb < MEMORY_MAX_KB
        assert run.stop() == {"simulator": 0, "engine": 0}
        lines = run.lines("engine")
        assert len(lines) < LINES_MAX
        assert not [line for line in lines if line["level"] in ("error", "critical")]
        text = json.dumps(lines).lower()
        assert [secret for secret in SECRETS if secret in text] == []
        assert {"order_decided", "order_done", "treasury_done", "risk"} <= {x["event"] for x in lines}
    assert os.path.getsize(tmp_path / "engine.log") < 400_000
