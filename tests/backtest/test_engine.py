"""The exact engine: books that balance, costs with their signs, delays, both ends of a bar, no look ahead."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal as D

import numpy as np
import pytest
from tapes import drawn, setting, settled, tape

from hedgelock.backtest.engine import Outcome, run
from hedgelock.backtest.plans import BASELINES, Plan, registered
from hedgelock.backtest.terms import Terms
from hedgelock.domain.policy import HedgePolicy, Strategy
from hedgelock.domain.sizing import decide
from hedgelock.history.tape import Series, Tape

FREE = Terms(slippage=D(0), loan_apr=D(0))


def hold_value(outcome: Outcome, ltv: str) -> D:
    """What the untouched account is worth at the end, no interest."""
    p0, p1 = outcome.start_price, outcome.end_price
    return D("1.1") * p1 + D("0.1") * p0 - D(ltv) * p0


def test_the_untouched_account_is_its_coins_cash_and_debt() -> None:
    """1 + .10 coins re-marked, .10 in USDT, the debt with an hour's interest per hour."""
    done = run(tape([41_000, 42_000], first=40_000), BASELINES["unhedged"], setting(ltv="0.60"))
    rate = D("0.05") / 8760
    assert float(done.equity) == pytest.approx(
        float(D("1.1") * 42_000 + 4_000 - 24_000 * (1 + rate) ** 2)
    )
    assert not done.events


@pytest.mark.parametrize("plan", ["ltv_target", "ladder", "sell_collateral", "delta_neutral"])
def test_every_dollar_is_accounted_for(plan: str) -> None:
    """equity = cash flows of the fills, re-marked coins, less fees, slippage, funding, interest, penalties."""
    terms = Terms()
    for seed in (7, 10):
        done = run(drawn(seed, 300), BASELINES[plan], setting(ltv="0.72"), terms=terms)
        if done.account.loan_liquidated or done.account.margin_liquidated:
            continue
        gain = D(0)
        for event in done.events:
            if event.kind in ("hedge", "realise"):
                gain += event.qty * event.price
            elif event.kind == "cover":
                gain += event.qty * event.price - event.qty * done.end_price
            elif event.kind == "repay_with_collateral":
                # The venue's fee is taken in coins.
                gain += event.qty - event.qty * D("1.02") / event.price * done.end_price
        # What is short at the end is bought back at the last price.
        held = sum(e.qty for e in done.events if e.kind in ("hedge", "realise"))
        gain -= held * done.end_price
        costs = done.account.costs
        known = hold_value(done, "0.72") + gain - costs.explicit + costs.penalty - costs.interest
        assert abs(done.equity - known) < D("1E-9")


def test_a_short_receives_positive_funding_and_pays_negative() -> None:
    """Two settlements at one price: −.001 then +.003 of the position's value leave .002 received."""
    market = tape([40_000] * 24, funding=settled([-0.001, 0.003], [8, 16]))
    done = run(market, BASELINES["delta_neutral"], setting(ltv="0.50"), terms=FREE)
    short = sum(e.qty for e in done.events)
    assert done.account.costs.funding == -short * 40_000 * D("0.002")


def test_a_late_repayment_lands_bars_later_and_can_come_too_late() -> None:
    """The price falls 9 % a bar: repaid at once the loan lives, a bar later it does not."""
    closes = [40_000, 36_400, 33_100, 30_100]
    plan = BASELINES["reserve_only"]
    prompt = run(tape(closes, first=40_000), plan, setting(ltv="0.70"), terms=FREE)
    late = run(tape(closes, first=40_000), plan, setting(ltv="0.70", delay=2), terms=FREE)
    assert prompt.account.debt < late.account.debt or late.account.loan_liquidated
    assert [e.bar for e in prompt.events] == [1, 2]
    assert [e.bar for e in late.events if e.kind == "repay"] == [1, 3]


def test_the_low_meets_the_loan_and_the_high_the_margin() -> None:
    """A wick down liquidates the loan, a wick up the pocket, whatever the close; in either order."""
    flat = np.full(3, 40_000.0)
    wick = np.array([40_000.0, 60_000.0, 40_000.0])
    dip = np.array([40_000.0, 27_000.0, 40_000.0])
    up = Tape("up", 0, 3_600_000, *([Series(flat, wick, flat, flat)] * 2))
    down = Tape("down", 0, 3_600_000, *([Series(flat, flat, dip, flat)] * 2))
    both = Tape("both", 0, 3_600_000, *([Series(flat, wick, dip, flat)] * 2))
    plan, account = BASELINES["delta_neutral"], setting(ltv="0.65")
    kinds = [
        [e.kind for e in run(market, plan, account).events if e.kind.endswith("liquidated")]
        for market in (up, down, both)
    ]
    assert kinds == [["margin_liquidated"], ["loan_liquidated"], ["loan_liquidated"]]


def test_a_liquidated_loan_gives_back_what_debt_and_fee_leave() -> None:
    """Sold at LTV .95 exactly, 2 % of the debt on top, in coins; decisions are over."""
    done = run(tape([40_000, 20_000, 60_000]), BASELINES["unhedged"], setting(ltv="0.65"), terms=FREE)
    price = D(26_000) / D("0.95")
    assert done.account.free_coins == 1 - D(26_000) / price * D("1.02")
    assert done.account.debt == 0
    assert done.ltv_max > 0.95


def test_orders_fill_where_latency_leaves_them() -> None:
    """Half a bar late in a bar from 40,000 to 39,000: sold at 39,500, slippage beside it."""
    done = run(tape([39_000, 38_000], first=40_000), BASELINES["delta_neutral"],
               setting(ltv="0.65", latency=0.5))
    assert done.events[0].price == D(39_500)


def test_future_prices_change_no_decision_before_them() -> None:
    """Look-ahead: with everything after bar 200 shuffled, all that happened up to then is the same."""
    market = drawn(10, 400)
    dice = np.random.default_rng(1)
    order = np.concatenate([np.arange(201), 201 + dice.permutation(199)])

    def shuffled(bars: Series) -> Series:
        return Series(bars.open[order], bars.high[order], bars.low[order], bars.close[order])

    funding = replace(market.funding, rate=np.where(
        market.funding.ts_ms > market.close_ms(200), -market.funding.rate, market.funding.rate
    ))
    other = replace(market, mark=shuffled(market.mark), index=shuffled(market.index), funding=funding)
    for name, plan in BASELINES.items():
        chosen = setting(ltv="0.72")
        before = [
            [e for e in run(t, plan, chosen).events if e.bar <= 200] for t in (market, other)
        ]
        assert before[0] == before[1]
        assert before[0] or name == "unhedged"
        assert run(market, plan, chosen).equity != run(other, plan, chosen).equity


@pytest.mark.parametrize("strategy", Strategy)
def test_any_registered_strategy_runs(strategy: Strategy) -> None:
    """Also those that have no kernel: they decide at every bar."""
    done = run(drawn(7, 60), registered(strategy), setting(ltv="0.72"))
    assert done.instants >= 1


def test_a_policy_that_finds_no_rest_is_a_bug() -> None:
    """Endless actions of one instant stop the run instead of hanging it."""
    def restless(s):
        ltv_max = D(1000) if s.exposure.held else D(-1000)
        return decide(s._replace(policy=HedgePolicy(ltv_max=ltv_max)))

    with pytest.raises(AssertionError, match="finds no rest"):
        run(tape([40_000]), Plan("restless", decider=restless), setting(ltv="0.60"))
