"""The vector engine decides as the exact one, account by account, to the last action."""

from __future__ import annotations

import numpy as np
import pytest
from tapes import T0, drawn, setting

from hedgelock.backtest.engine import run
from hedgelock.backtest.feed import Bent, Together, Windows, path_of
from hedgelock.backtest.lanes import Lanes, Results
from hedgelock.backtest.plans import BASELINES
from hedgelock.backtest.terms import Setting, Terms

SETTINGS = [
    setting(ltv=ltv, pocket_usdt=usdt, pocket_coins=coins, delay=delay)
    for ltv in ("0.55", "0.72") for usdt, coins in (("0.10", "0.10"), ("0.05", "0"))
    for delay in (0, 1)
]
BARS = 240


def assert_equal(result: Results, feed: Together, plan: str) -> None:
    """Every setting on every path, money to a ten-millionth of the collateral."""
    for path in range(len(result.end)):
        tape = path_of(feed, path, name="path", first_ms=T0)
        for i, chosen in enumerate(SETTINGS):
            exact = run(tape, BASELINES[plan], chosen)
            account, where = exact.account, f"{plan} {chosen} path {path}"
            assert account.loan_liquidated == result.loan_liquidated[i, path], where
            assert account.margin_liquidated == result.margin_liquidated[i, path], where
            unit = float(exact.start_price)
            got = [float(exact.equity_share), float(account.costs.explicit) / unit,
                   float(account.costs.interest) / unit, exact.ltv_max]
            known = [result.equity[i, path], result.explicit[i, path], result.interest[i, path],
                     result.ltv_max[i, path]]
            assert got == pytest.approx(known, abs=1e-7), where
            trades = [e for e in exact.events if e.kind in ("hedge", "realise", "cover")]
            assert len(trades) == result.trades[i, path], where


def market() -> Together:
    """Two falling windows with a basis and funding, and one in which the price jumps by 70 % in an hour."""
    tape = drawn(7, BARS + 240, basis=0.004)
    windows = Windows(tape, np.array([0, 240]), BARS)
    return Together([windows, Bent(Windows(tape, np.array([96]), BARS), BARS // 2, 1, 0.7)])


@pytest.mark.parametrize("plan", BASELINES)
def test_lanes_are_the_exact_engine(plan: str) -> None:
    """A basis between mark and index, funding, wicks, jumps, late repayments, every kind of end."""
    feed = market()
    result = Lanes(feed, BASELINES[plan], SETTINGS, terms=Terms()).run()
    assert_equal(result, feed, plan)
    ends = result.loan_liquidated | result.margin_liquidated
    if plan == "unhedged":
        assert 0 < result.loan_liquidated.sum() < ends.size, "some loans die, some live"
    if plan == "delta_neutral":
        assert 0 < result.margin_liquidated.sum() < ends.size, "some pockets die, some live"


@pytest.mark.parametrize("plan", ["ltv_target", "ladder"])
def test_a_draw_is_the_exact_engine(plan: str) -> None:
    """A martingale draw beside another, as the exact engine plays them."""
    tape = drawn(5, BARS)
    feed = Together([
        Windows(tape, np.array([0]), BARS, has_funding=False, seed=seed) for seed in (7, 8)
    ])
    result = Lanes(feed, BASELINES[plan], SETTINGS, terms=Terms()).run()
    assert_equal(result, feed, plan)


def test_an_outage_is_only_a_pause_of_decisions() -> None:
    """Blocked at every bar, the reference policy is the account as its first decision left it."""
    tape = drawn(11, 96)
    feed = Windows(tape, np.array([0]), 96)
    blocked = np.ones(96, bool)
    plan = BASELINES["ltv_target"]
    result = Lanes(feed, plan, [Setting()], terms=Terms(), blocked=blocked).run()
    exact = run(tape, plan, Setting(every=1_000_000))
    assert result.equity[0, 0] == pytest.approx(float(exact.equity_share), abs=1e-9)
