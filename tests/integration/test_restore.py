"""A backup taken while the engine trades, the log lost, the backup restored: nothing is ordered twice."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from trial import OURS, Trial, sigkill, trial

from hedgelock.config import load
from hedgelock.domain.hedging import HedgeDecision
from hedgelock.domain.order import OrderConfirmation

pytestmark = [pytest.mark.timed, pytest.mark.timeout(120)]


def at_venue(run: Trial) -> list[dict[str, Any]]:
    """Every order that the exchange ever got from us."""
    rows: list[dict[str, Any]] = run.at_exchange(f"/sim/orders?account={OURS}")["orders"]
    return rows


def short(run: Trial) -> Decimal:
    """The short held at the exchange, in coins."""
    held = run.at_exchange("/sim/state")["accounts"][OURS]["positions"]
    return -sum((Decimal(p["size"]) for k, p in held.items() if k.startswith("linear")), Decimal(0))


def is_on_target(run: Trial) -> bool:
    """Whether the short is what the last decision wants, within the band."""
    last = [b for b in run.bodies("hedge_decisions") if isinstance(b, HedgeDecision)][-1]
    band = load({}, env_file=None).policy("main").hedge.no_trade_band
    return abs(short(run) - min(last.target, last.h_cap)) <= band


def test_a_restored_log_repeats_no_order_and_takes_the_exchanges_word(tmp_path: Path) -> None:
    """Backup in the fall, more orders, `kill -9`, log lost, restore: every id once, position as held.

    The orders of the lost time are in no book of the restored log; the position they made is, because
    it is read from the exchange, and the next decision starts from it.
    """
    with trial(tmp_path, SIM__SPEED="2") as run:
        run.start_simulator()
        run.start_engine()
        run.start_script()
        run.await_that("a first order", lambda: at_venue(run), 60)
        done = run.command("backup", "safe.db")
        assert done.returncode == 0, done.stderr
        known = len(at_venue(run))
        run.await_that("orders that the backup does not know", lambda: len(at_venue(run)) > known, 40)
        sigkill(run.processes["engine"].pid)
        run.processes["engine"].wait()
        before, held = at_venue(run), short(run)
        for path in (tmp_path / "data").glob("hedgelock.db*"):
            path.unlink()
        done = run.command("restore", "safe.db")
        assert done.returncode == 0, done.stderr
        books = {b.client_order_id for b in run.bodies("trade_confirmations")
                 if isinstance(b, OrderConfirmation)}
        lost = {row["orderLinkId"] for row in before} - books
        assert lost, "the backup already knew every order: the test proves nothing"
        decided = len(run.bodies("hedge_decisions"))
        run.start_engine()
        run.await_that("new orders", lambda: len(at_venue(run)) > len(before), 40)
        later = [b for b in run.bodies("hedge_decisions")[decided:] if isinstance(b, HedgeDecision)]
        first = next(b for b in later if b.actions)
        assert first.held == held, "it did not take the exchange's word"
        run.await_that("the target", lambda: is_on_target(run), 20)
        links = Counter(row["orderLinkId"] for row in at_venue(run))
        assert max(links.values()) == 1
        assert links.keys() - {row["orderLinkId"] for row in before}
        modes = {state.mode.value for state in run.bodies("safety_state")}
        assert modes == {"active"}
        assert run.stop()["simulator"] == 0
