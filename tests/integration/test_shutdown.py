"""SIGTERM and Ctrl-C at several moments: status 0 within 5 s, and the next start goes on as if nothing was."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from tamper import Tamper
from trial import HEDGELOCK, Trial, audited, child_pid, trial

from hedgelock.app import SERVICES

pytestmark = [pytest.mark.slow, pytest.mark.no_cover, pytest.mark.timeout(120)]

STOP_S = 5.0


def ends_well(run: Trial, name: str, number: signal.Signals) -> None:
    """Send a signal; the process ends with 0 in time, and its last words are no traceback."""
    process = run.processes[name]
    began = time.monotonic()
    process.send_signal(number)
    assert process.wait(15) == 0, run.log(name)
    assert time.monotonic() - began < STOP_S, f"{time.monotonic() - began:.1f} s"
    assert "Traceback" not in run.log_of(name), run.log(name)


MOMENTS = ("/v5/order/create", "/v5/asset/transfer/inter-transfer", "/v5/crypto-loan-flexible/repay")
"""The exchange has done what these asked for, and the answer never comes."""


@pytest.mark.timed
def test_sigterm_during_an_order_a_transfer_and_a_repayment(tmp_path: Path) -> None:
    """Whatever is under way is found out by the next start: no order, fill or repayment twice or lost."""
    with trial(tmp_path, SIM__SPEED="4", LOG_LEVEL="DEBUG") as run, Tamper(run.sim) as proxy:
        run.env |= proxy.environment()
        run.start_simulator()
        run.start_engine()
        run.start_script()
        for path in MOMENTS:
            under_way = proxy.hold(path)
            run.await_that(path, under_way.is_set, 30)
            ends_well(run, "engine", signal.SIGTERM)
            run.start_engine()
        run.watch(100, (), None)
        assert len(audited(run).orders) > 5
        ends_well(run, "engine", signal.SIGINT)
        ours = run.look().ours
        assert ours["repayments"] >= 2 and not ours["liquidated"]
        check_log(run)


def test_the_whole_of_it_ends_with_zero_and_leaves_no_child(tmp_path: Path) -> None:
    """Ctrl-C on `hedgelock run` ends simulator and engine too, in time."""
    with trial(tmp_path, SIM__SPEED="4") as run:
        run.start("run", HEDGELOCK, "run")
        run.await_that("the script", lambda: run.look().script_s > 12, 40)
        children = [child_pid(run.processes["run"].pid, name)
                    for name in ("hedgelock.app", "hedgelock.simulator")]
        assert all(children)
        ends_well(run, "run", signal.SIGINT)
        assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def test_a_signal_while_it_starts_is_obeyed(tmp_path: Path) -> None:
    """An engine told to stop at once, its exchange still away, ends within the time."""
    with trial(tmp_path) as run:
        run.start("engine", *run.engine_argv)
        run.await_that("the first page", lambda: run.why_not_ready("hedger") is not None, 30)
        assert any("at the exchange" in reason for reason in run.why_not_ready("trade-executor"))
        ends_well(run, "engine", signal.SIGTERM)


@pytest.mark.kafka
def test_every_service_on_kafka_ends_with_zero(tmp_path: Path, kafka_bootstrap: str) -> None:
    """SIGTERM to each service of a hedging system: 0 in time, no traceback, and back at work again."""
    with trial(tmp_path, SIM__SPEED="4", KAFKA__BOOTSTRAP_SERVERS=kafka_bootstrap,
               KAFKA__PREFIX=f"{tmp_path.name}-") as run:
        run.start_simulator()
        for name in SERVICES:
            run.start(name, HEDGELOCK, "service", name)
        run.await_that("readiness", lambda: all(run.ready(name) for name in SERVICES), 60)
        run.start_script()
        run.await_that("an order", lambda: run.look().ours["orders"] > 0, 20)
        for name in SERVICES:
            ends_well(run, name, signal.SIGTERM)
            run.start(name, HEDGELOCK, "service", name)
        orders = run.look().ours["orders"]
        run.await_that("going on", lambda: run.look().ours["orders"] > orders, 30)
        run.await_that("readiness again", lambda: all(run.ready(name) for name in SERVICES), 30)
        assert set(run.stop().values()) == {0}


SECRETS = ("hedgelock-sim", "x-bapi-sign")
LINES_MAX, BYTES_MAX = 800, 500_000
"""Of a whole demo at level DEBUG, four starts included."""


def check_log(run: Trial) -> None:
    """Every line is JSON; it says what happened and no more, without secrets or errors."""
    lines = run.lines("engine")
    assert len(lines) < LINES_MAX
    assert (run.folder / "engine.log").stat().st_size < BYTES_MAX
    assert not [line for line in lines if line["level"] in ("error", "critical")]
    text = run.log_of("engine").lower()
    assert [secret for secret in SECRETS if secret in text] == []
    assert {"order_decided", "order_done", "treasury_done", "risk"} <= {x["event"] for x in lines}


def memory_kb(pid: int) -> int:
    """Memory of a process that is its own: file pages, shared with others, come and go. In kB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss_Anon:"):
            return int(line.split()[1])
    raise AssertionError("no Pss_Anon")


GROWTH_MAX_KB = 3_000
FULL_AT_S = 300
"""Script second at which the newest records that stay in memory (512 per topic) are all there."""


@pytest.mark.soak
@pytest.mark.timeout(200)
def test_memory_levels_off(tmp_path: Path) -> None:
    """Once what is kept in memory is full (near 90 MB), thirty seconds more add next to nothing."""
    with trial(tmp_path, SIM__SPEED="4") as run:
        run.start_simulator()
        run.start_engine()
        pid = run.processes["engine"].pid
        run.start_script()
        run.watch(FULL_AT_S, (), None)
        before_kb = memory_kb(pid)
        run.watch(FULL_AT_S + 120, (), None)
        assert memory_kb(pid) - before_kb < GROWTH_MAX_KB
        assert run.stop() == {"simulator": 0, "engine": 0}
