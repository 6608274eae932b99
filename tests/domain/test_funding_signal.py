"""Leaving the paying side, coming back, changing over: what it takes, and that it pays."""

from __future__ import annotations

import itertools
from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import T0, amounts

from hedgelock.domain.funding_forecast import (
    HISTORY_MAX,
    History,
    HoldingCost,
    Prediction,
    Settled,
    holding_costs,
    record,
)
from hedgelock.domain.funding_signal import (
    ExitLatch,
    ExitReason,
    ExitSignal,
    FlipReason,
    FlipView,
    FundingSide,
    exit_signal,
    flip,
    paying_hours,
)
from hedgelock.domain.policy import FundingPolicy

HOUR = 3_600_000
POLICY = FundingPolicy()
LONG, SHORT = FundingSide.LONG, FundingSide.SHORT
OUT = ExitLatch(True, T0, T0 // 86_400_000, 1)


INSIDE = ExitLatch()


def look(latch=INSIDE, apr="4", cost="40", side=LONG, at_ms=T0, policy=POLICY) -> ExitSignal:
    """The signal when 72 h of a long are expected to cost `cost` bps."""
    expected = HoldingCost(72, D(cost), D(cost), D(cost))
    return exit_signal(latch, side, apr=D(apr), cost=expected, policy=policy, now_ms=at_ms)


@pytest.mark.parametrize(("apr", "hours"), [("3", "4.38"), ("1", "13.14")])
def test_the_round_trip_in_hours_of_paying(apr: str, hours: str) -> None:
    """.0015 × 8760 ÷ a: 4.4 h at 300 %, 13 h at 100 %."""
    assert paying_hours(D(apr), D(15)) == D(hours)


@pytest.mark.parametrize(("apr", "cost", "side", "reason"), [
    ("4", "40", LONG, ExitReason.EXIT), ("-4", "-40", SHORT, ExitReason.EXIT),
    ("4", "40", SHORT, ExitReason.RECEIVES), ("0", "0", LONG, ExitReason.RECEIVES),
    ("3", "15.1", LONG, ExitReason.EXIT), ("2.99", "99", LONG, ExitReason.BELOW_EXIT),
    ("4", "15", LONG, ExitReason.TOO_SHORT), ("4", "-5", LONG, ExitReason.TOO_SHORT),
])
def test_a_side_is_left_when_paying_costs_more_than_leaving(apr, cost, side, reason) -> None:
    """Only the payer leaves, at the exit level, and only when it lasts long enough to be worth it."""
    signal = look(apr=apr, cost=cost, side=side)
    assert signal.reason is reason
    assert signal.is_out is (reason is ExitReason.EXIT)


def test_it_stays_out_until_the_rate_and_the_cooldown_are_over() -> None:
    """Re-entry needs both: below the level of re-entry, and four hours."""
    cool = POLICY.exit_cooldown_ms
    assert look(OUT, apr="1", at_ms=T0 + cool).reason is ExitReason.STAYS_OUT
    assert look(OUT, apr="0.9", at_ms=T0 + cool - 1).reason is ExitReason.STAYS_OUT
    back = look(OUT, apr="0.9", at_ms=T0 + cool)
    assert back.reason is ExitReason.REENTER
    assert not back.is_out


def test_after_a_reentry_the_cooldown_holds_too() -> None:
    """Coming back and leaving again at once is what burns money."""
    back = ExitLatch(False, T0, T0 // 86_400_000, 1)
    assert look(back, at_ms=T0 + 1).reason is ExitReason.COOLDOWN
    assert look(back, at_ms=T0 + POLICY.exit_cooldown_ms).reason is ExitReason.EXIT


def test_the_cap_counts_exits_of_a_day() -> None:
    """Two exits a day at most; a new day counts from nothing."""
    day = T0 // 86_400_000
    spent = ExitLatch(False, 1, day, POLICY.exits_per_day_max)
    assert look(spent).reason is ExitReason.CAP_REACHED
    assert look(spent, at_ms=T0 + 86_400_000).latch.exits == 1


@given(st.lists(st.tuples(amounts("-5", "5"), amounts("-90", "90")), max_size=60))
def test_no_series_makes_it_flap(series) -> None:
    """Whatever the rates do every hour, a day sees no more exits than its cap, spaced by cooldowns."""
    latch, exits = ExitLatch(), []
    for i, (apr, cost) in enumerate(series):
        signal = look(latch, str(apr), str(cost), at_ms=T0 + i * HOUR)
        if signal.is_out and not latch.is_out:
            exits.append(T0 + i * HOUR)
        latch = signal.latch
    for at in exits:
        assert sum(1 for other in exits if other // 86_400_000 == at // 86_400_000) <= 2
    assert all(b - a >= 2 * POLICY.exit_cooldown_ms for a, b in itertools.pairwise(exits))


@pytest.mark.parametrize(("changes", "reason"), [
    ({}, FlipReason.FLIP), ({"net_delta": D("1.2")}, FlipReason.NET_DELTA),
    ({"ltv_stressed": None}, FlipReason.LOAN_UNSAFE),
    ({"ltv_stressed": D("0.86")}, FlipReason.LOAN_UNSAFE),
    ({"margin_stressed": None}, FlipReason.MARGIN_UNSAFE),
    ({"margin_stressed": D("1.01")}, FlipReason.MARGIN_UNSAFE),
])
def test_a_flip_needs_a_safe_account_after_it(changes, reason) -> None:
    """Inside policy in the worst cell, and never more coins than C + b."""
    safe = FlipView(D("1.1"), D("1.1"), D("0.85"), D(1))._replace(**changes)
    out = ExitSignal(OUT, ExitReason.EXIT)
    assert flip(out, safe, ltv_max=D("0.85"), margin_ratio_max=D(1)) is reason
    inside = ExitSignal(ExitLatch(), ExitReason.RECEIVES)
    assert flip(inside, safe, ltv_max=D("0.85"), margin_ratio_max=D(1)) is FlipReason.NO_EXIT


# ---------------------------------------------------------------- on series


def run(rows: list[Settled], policy: FundingPolicy, side: FundingSide) -> tuple[int, D]:
    """Decide after every settlement, on what is known then; (exits, funding avoided).

    The prediction for the next settlement is what was settled last: the worst that a live
    prediction can be at the start of an interval.
    """
    latch, history, exits, avoided = ExitLatch(), (), 0, D(0)
    for settled, following in itertools.pairwise(rows):
        history = record(history, settled)
        ahead = Prediction(
            settled.apr * following.interval_h / 8760, following.interval_h, following.ts_ms
        )
        (cost,) = holding_costs(history, ahead, now_ms=settled.ts_ms, horizons_h=(72,))
        signal = exit_signal(
            latch, side, apr=settled.apr, cost=cost, policy=policy, now_ms=settled.ts_ms
        )
        exits += signal.is_out and not latch.is_out
        latch = signal.latch
        if signal.is_out:
            avoided += following.rate * side.sign
    return exits, avoided


@pytest.mark.parametrize("coin", ["BTC", "ETH"])
def test_leaving_at_50_and_returning_at_17_percent_pays_over_2021(shared, coin: str) -> None:
    """Exits plus re-entries of 2021's longs cost less than the funding that they avoided."""
    polars = pytest.importorskip("polars")
    table = polars.read_parquet(shared / f"data/mania_2021/{coin}USDT_funding_bybit.parquet")
    rows = [
        Settled(int(ts.timestamp()) * 1000, D(str(rate)), D(str(hours)))
        for ts, rate, hours in zip(table["ts"], table["rate"], table["interval_h"], strict=True)
    ]
    policy = FundingPolicy(exit_apr=D("0.50"), reentry_apr=D("0.17"))
    exits, avoided = run(rows, policy, LONG)
    cost = exits * policy.round_trip_cost
    assert exits > 5
    assert cost < avoided
    # A margin, so that a rule that merely breaks even is noticed.
    assert avoided - cost > D("0.15")


def spike(apr: str) -> list[Settled]:
    """Calm at 8 h, a mania that settles every 4 h and then every hour at the same APR, calm again."""
    rows: list[Settled] = []
    at = T0
    calm, high = D("0.10"), D(apr)
    for hours, level, count in ((8, calm, 40), (4, high, 12), (1, high, 48), (8, calm, 10)):
        for _ in range(count):
            at += hours * HOUR
            rows.append(Settled(at, level * hours / 8760, D(hours)))
    return rows


@pytest.mark.parametrize("side", [LONG, SHORT])
def test_a_series_that_switches_8_4_1_h_is_left_once_and_pays(side: FundingSide) -> None:
    """The switch of the interval is no second exit, and the payer leaves once, whichever side it is."""
    rows = [Settled(r.ts_ms, r.rate * side.sign, r.interval_h) for r in spike("4")]
    exits, avoided = run(rows, POLICY, side)
    assert exits == 1
    assert exits * POLICY.round_trip_cost < avoided
    assert run(rows, POLICY, SHORT if side is LONG else LONG) == (0, 0)


def test_history_is_as_long_as_the_engine_keeps() -> None:
    """The forecasts above see no more than the engine remembers."""
    history: History = ()
    for settled in spike("4"):
        history = record(history, settled)
    assert len(history) == HISTORY_MAX
