"""Strategies: how large the short should be, and which part of it protects."""

from __future__ import annotations

import msgspec
import pytest
from hedge_situations import LADDER, amounts, situation, situations
from hedge_world import D, policy
from hypothesis import given
from hypothesis import strategies as st

from hedgelock.domain.inflight import Purpose
from hedgelock.domain.order import Side
from hedgelock.domain.policy import Strategy, TacticsPolicy
from hedgelock.domain.risk import RiskState
from hedgelock.domain.short_leg import LegState, ShortLeg, advance
from hedgelock.domain.situation import OrderAction, ShortFunding, Situation, stressed_ltv
from hedgelock.domain.sizing import decide
from hedgelock.domain.strategies import (
    STRATEGIES,
    Target,
    carry,
    ladder,
    ltv_target,
    vol_harvest,
    with_leg,
)


def test_every_strategy_of_the_policy_exists() -> None:
    """A name that a policy can hold has its function."""
    assert set(STRATEGIES) == set(Strategy)


def test_ltv_target_is_b_star_to_the_letter() -> None:
    """(N − L·V·(1−s)) / (P·(s − c·(1−s))) at 50,000: (36,600 − 31,875) / 12,462.5."""
    assert ltv_target(situation("50000")) == Target(D(4_725) / D("12462.5"), D(0))


@pytest.mark.parametrize(("price", "expected"), [("60000", "0"), ("30000", "1.1")])
def test_ltv_target_is_never_net_short_nor_long(price: str, expected: str) -> None:
    """Clipped to 0 where no hedge is needed and to C + b where all is not enough."""
    assert ltv_target(situation(price)).protective == D(expected)


@given(situations())
def test_the_target_brings_stressed_ltv_to_the_limit(s: Situation) -> None:
    """Inside the clip, ltv_net(−s) with h* is exactly L."""
    short = ltv_target(s).protective
    if 0 < short < s.short_max:
        after = stressed_ltv(s, short)
        assert after is not None
        assert abs(after - s.policy.ltv_max) < D("1e-20")


def test_stressed_ltv_without_collateral_is_infinite() -> None:
    """V = 0 has no LTV; None stands for infinite."""
    assert stressed_ltv(situation(collateral="0"), D(0)) is None


@given(amounts("0", "1"), amounts("0.001", "0.5"))
def test_more_short_never_raises_stressed_ltv(short: object, more: object) -> None:
    """The hedge earns when the price falls."""
    s = situation("45000")
    a, b = stressed_ltv(s, D(short)), stressed_ltv(s, D(short) + D(more))  # type: ignore[arg-type]
    assert a is not None
    assert b is not None
    assert b < a


@pytest.mark.parametrize(("state", "expected"), [
    (RiskState.NORMAL, Target(D(0), D(0))),
    (RiskState.CAUTION, Target(D(0), D("0.1"))),
    (RiskState.DANGER, Target(D("0.5"), D(0))),
    (RiskState.CRITICAL, Target(D(1), D(0))),
])
def test_the_ladder_of_the_seed(state: RiskState, expected: Target) -> None:
    """CAUTION a fixed discretionary short; DANGER half of the collateral, CRITICAL all of it."""
    assert ladder(situation("50000", hedge=LADDER, risk_state=state)) == expected


def test_the_ladder_is_never_net_short() -> None:
    """The fixed size of CAUTION is no more than what is owned."""
    s = situation(
        hedge=policy(strategy=Strategy.LADDER, caution_size=D(5)).hedge,
        risk_state=RiskState.CAUTION,
    )
    assert ladder(s).discretionary == D("1.1")


# ---------------------------------------------------------------- the fall that follows volatility

FOLLOWS = TacticsPolicy(fall_volatility_ref=D("0.04"))


@pytest.mark.parametrize(("sigma", "fall"), [
    (None, "0.25"), ("0.04", "0.25"), ("0.056", "0.35"), ("0.01", "0.15"), ("0.2", "0.45"),
])
def test_the_fall_follows_the_volatility_within_bounds(sigma, fall) -> None:
    """s = .25·σ ÷ .04 between .15 and .45; not known volatility leaves it at .25."""
    s = situation(tactics=FOLLOWS, volatility_day=None if sigma is None else D(sigma))
    assert s.fall == D(fall)


def test_the_fall_is_fixed_unless_policy_says_otherwise() -> None:
    """The reference policy B* knows no volatility."""
    assert situation(volatility_day=D("0.2")).fall == D("0.25")


def test_a_larger_fall_asks_for_a_larger_hedge() -> None:
    """In wild markets the target is larger, and it still brings stressed LTV to the limit."""
    calm = situation("50000", tactics=FOLLOWS, volatility_day=D("0.04"))
    wild = situation("50000", tactics=FOLLOWS, volatility_day=D("0.05"))
    short = ltv_target(wild).protective
    assert short > ltv_target(calm).protective > 0
    after = stressed_ltv(wild, short)
    assert after is not None
    assert abs(after - D("0.85")) < D("1e-20")


# ---------------------------------------------------------------- carry

RICH = ShortFunding(D("0.5"), D(40))


def test_carry_collects_within_its_budget() -> None:
    """Beside the protective part up to half of C + b, less where the margin budget says so."""
    rich = situation("60000", equity="30000", funding=RICH)
    assert carry(rich) == Target(D(0), D("0.55"))
    poor = situation("60000", equity="1000", funding=RICH)
    assert D(0) < carry(poor).discretionary < D("0.55")
    budget = poor.headroom._replace(ratio_max=D("0.5")).hedge_cap(D(1000))
    assert sum(carry(poor)) == budget


@pytest.mark.parametrize(("apr", "income", "short", "collects"), [
    ("0.15", "21", "0", True), ("0.149", "21", "0", False), ("0.15", "20", "0", False),
    ("0.5", None, "0", False), ("0.05", "0", "0.3", True), ("0.049", "99", "0.3", False),
    ("-1", "-99", "0.3", False),
])
def test_carry_begins_and_ends_at_two_levels(apr, income, short, collects) -> None:
    """It begins when it earns a round trip at 15 %, ends below 5 %, and never pays."""
    funding = ShortFunding(D(apr), None if income is None else D(income))
    s = situation(equity="30000", short=short, entry="60000", funding=funding)
    assert (carry(s).discretionary > 0) is collects


def test_carry_keeps_what_it_holds_while_funding_is_not_known() -> None:
    """Missing is neither a reason to begin nor one to leave."""
    s = situation("60000", short="0.3", entry="60000")
    assert carry(s) == Target(D(0), D("0.3"))


# ---------------------------------------------------------------- vol_harvest


@pytest.mark.parametrize(("sigma", "short", "ratio"), [
    ("0.01", "0", "0.2"), ("0.02", "0", "0.4"), ("0.039", "0", "0.4"), ("0.04", "0", "0.6"),
    ("0.0381", "0.66", "0.6"), ("0.0359", "0.66", "0.4"), ("0.019", "0.44", "0.4"),
    ("0.0179", "0.44", "0.2"),
])
def test_the_hedge_ratio_follows_the_volatility(sigma, short, ratio) -> None:
    """.2 / .4 / .6 of C + b at 2 % and 4 % a day; a rung that is held is left a tenth below."""
    s = situation(short=short, entry="60000", volatility_day=D(sigma))
    assert vol_harvest(s) == Target(D(0), D(ratio) * D("1.1"))


def test_vol_harvest_rests_and_waits_for_volatility() -> None:
    """Resting there is nothing beside the protective part; without σ what is held stays."""
    resting = ShortLeg(LegState.PROFIT_TARGET, 1)
    assert vol_harvest(situation(volatility_day=D("0.04"), leg=resting)) == Target(D(0), D(0))
    assert vol_harvest(situation(short="0.3", entry="60000")) == Target(D(0), D("0.3"))


def walk(*prices: str, leg: ShortLeg | None = None, held: str = "0.3", hours: int = 1) -> ShortLeg:
    """The leg after these prices, an hour apart, at σ = 2 %."""
    leg = leg or ShortLeg()
    for i, price in enumerate(prices):
        leg = advance(leg, held=D(held), mark_price=D(price), volatility=D("0.02"),
                      tactics=TacticsPolicy(), now_ms=i * hours * 3_600_000)
    return leg


@pytest.mark.parametrize(("prices", "state"), [
    (("100",), LegState.OPEN), (("100", "97.01"), LegState.OPEN),
    (("100", "97"), LegState.PROFIT_TARGET), (("100", "98", "99.95"), LegState.OPEN),
    (("100", "98", "99.96"), LegState.TRAILING_STOP), (("100", "102"), LegState.TRAILING_STOP),
])
def test_target_and_stop_of_the_leg(prices, state) -> None:
    """Closed at k·σ = 3 % gained, or 2 % above the lowest price since it was opened."""
    assert walk(*prices).state is state


def test_the_leg_rests_and_is_free_again() -> None:
    """After target or stop four hours; what is closed by others is free at once."""
    rested = walk("100", "97", "97", "97", "97")
    assert rested.state is LegState.PROFIT_TARGET
    assert walk("100", "97", "97", "97", "97", "97").state is LegState.FREE
    assert walk("100", leg=walk("100"), held="0").state is LegState.FREE
    free = ShortLeg()
    assert walk("100", leg=free, held="0") is free


def test_a_leg_without_volatility_only_remembers() -> None:
    """No σ: nothing is taken, nothing is stopped, the best price is kept."""
    leg = advance(walk("100"), held=D(1), mark_price=D(50), volatility=None,
                  tactics=TacticsPolicy(), now_ms=1)
    assert (leg.state, leg.best_price) == (LegState.OPEN, D(50))


def test_the_leg_is_looked_at_for_vol_harvest_alone() -> None:
    """The others carry no memory of a discretionary short."""
    plain = situation(short="0.3", entry="60000", volatility_day=D("0.02"))
    assert with_leg(plain, 5) is plain
    harvest = situation(short="0.3", entry="60000", volatility_day=D("0.02"),
                        hedge=policy(strategy=Strategy.VOL_HARVEST).hedge)
    opened = with_leg(harvest, 5).leg
    assert (opened.state, opened.opened_price) == (LegState.OPEN, D(60_000))
    low = harvest._replace(mark_price=D(58_200), leg=opened)
    assert with_leg(low, 6).leg.state is LegState.PROFIT_TARGET


# ---------------------------------------------------------------- all of them


@given(situations(), st.none() | amounts("0", "0.2"), st.none() | st.tuples(
    amounts("-4", "4"), st.none() | amounts("-300", "300")), st.sampled_from(list(LegState)))
def test_no_strategy_shrinks_the_protective_part(s, sigma, funding, state) -> None:
    """What carry and vol_harvest add is ≥ 0 and stands beside all of B*, inside C + b."""
    s = s._replace(
        volatility_day=sigma, leg=ShortLeg(state),
        funding=None if funding is None else ShortFunding(*funding),
    )
    for strategy in (carry, vol_harvest):
        target = strategy(s)
        assert target.protective == ltv_target(s).protective
        assert target.discretionary >= 0
        assert target.protective + target.discretionary <= max(s.short_max, s.exposure.low)


@given(situations(), st.sampled_from([Strategy.CARRY, Strategy.VOL_HARVEST]),
       amounts("0.001", "0.2"))
def test_band_lots_and_caps_hold_for_all(s, strategy, sigma) -> None:
    """However large a strategy's wish, the short stays in lots, under h_cap and C + b."""
    s = s._replace(
        policy=msgspec.structs.replace(s.policy, strategy=strategy), volatility_day=sigma,
        funding=RICH,
    )
    for action in decide(s).actions:
        if isinstance(action, OrderAction) and action.purpose is Purpose.HEDGE:
            assert action.qty % s.instrument.lot_size == 0
            if action.side is Side.SELL:
                after = s.exposure.high + action.qty
                assert after <= s.short_max
                assert after <= s.headroom.hedge_cap(s.balances.equity)
