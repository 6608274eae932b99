"""How large the hedge should be: a registry of strategies, each one function of the situation.

    target = h_protective + m · h_discretionary        (coins short)

m is the funding multiplier of the paying side; it never touches the protective part. Margin, band,
lots and what is in flight are applied afterwards, alike for all (`hedging`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import NamedTuple

from hedgelock.domain.money import ONE, ZERO, clip
from hedgelock.domain.policy import Strategy
from hedgelock.domain.risk import RiskState
from hedgelock.domain.situation import Situation

_HALF = Decimal("0.5")


class Target(NamedTuple):
    """What a strategy wants, in coins short, both ≥ 0."""

    protective: Decimal
    discretionary: Decimal


def ltv_target(situation: Situation) -> Target:
    """B*: the short with which net LTV after a fall of s is L; all of it protective.

    h* = clip((N − L·V·(1−s)) / (P·(s − c·(1−s))), 0, C + b). DESIGN §5.
    """
    policy = situation.policy
    left = ONE - policy.stress_fall
    excess = situation.net_need - policy.ltv_max * situation.counted_value * left
    per_coin = situation.mark_price * (policy.stress_fall - policy.cost_rate * left)
    return Target(clip(excess / per_coin, ZERO, situation.short_max), ZERO)


def ladder(situation: Situation) -> Target:
    """The seed's: CAUTION a fixed discretionary size, DANGER half of C, CRITICAL all of C."""
    collateral = situation.balances.collateral_qty
    match situation.risk_state:
        case RiskState.CRITICAL:
            return Target(collateral, ZERO)
        case RiskState.DANGER:
            return Target(collateral * _HALF, ZERO)
        case RiskState.CAUTION:
            return Target(ZERO, min(situation.policy.caution_size, situation.short_max))
    return Target(ZERO, ZERO)


STRATEGIES: Mapping[Strategy, Callable[[Situation], Target]] = {
    Strategy.LTV_TARGET: ltv_target,
    Strategy.LADDER: ladder,
}
"""To add a strategy: one function, one line here, one name in `policy.Strategy`."""
