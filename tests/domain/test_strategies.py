"""Strategies: how large the short should be, and which part of it protects."""

from __future__ import annotations

import pytest
from hedge_situations import LADDER, amounts, situation, situations
from hedge_world import D, policy
from hypothesis import given

from hedgelock.domain.policy import Strategy
from hedgelock.domain.risk import RiskState
from hedgelock.domain.situation import Situation, stressed_ltv
from hedgelock.domain.strategies import STRATEGIES, Target, ladder, ltv_target


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
