"""How large the hedge should be: a registry of strategies, each one function of the situation.

    target = h_protective + m · h_discretionary        (coins short)

m is the funding multiplier of the paying side; it never touches the protective part. Margin, band,
lots and what is in flight are applied afterwards, alike for all (`hedging`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import NamedTuple

from hedgelock.domain import short_leg
from hedgelock.domain.money import ONE, ZERO, clip
from hedgelock.domain.policy import Strategy
from hedgelock.domain.risk import RiskState
from hedgelock.domain.situation import Situation
from hedgelock.domain.solver_case import short_wanted

_HALF = Decimal("0.5")
_LEAVE = Decimal("0.9")
_BPS = 10_000


class Target(NamedTuple):
    """What a strategy wants, in coins short, both ≥ 0."""

    protective: Decimal
    discretionary: Decimal


def ltv_target(situation: Situation) -> Target:
    """B*: the short with which net LTV after a fall of s is L; all of it protective.

    h* = clip((N − L·V·(1−s)) / (P·(s − c·(1−s))), 0, C + b). DESIGN §5. s is fixed, or follows the
    volatility where policy says so (`Situation.fall`).
    """
    policy, fall = situation.policy, situation.fall
    left = ONE - fall
    excess = situation.net_need - policy.ltv_max * situation.counted_value * left
    per_coin = situation.mark_price * (fall - policy.cost_rate * left)
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


def carry(situation: Situation) -> Target:
    """B*, and beside it a short that collects funding while shorts receive enough of it.

    It begins at `carry_enter_apr`, when the next 72 h are expected to earn a round trip, and ends
    below `carry_leave_apr`; what is held tells which of the two counts. At most `carry_ratio` of
    C + b in all, and no more than margin carries through the rally with accountMMRate at
    `carry_margin_max`: the risk budget. Where longs receive, nothing is held beside the protective
    part: a long would take the net delta beyond C + b.
    """
    protective = ltv_target(situation).protective
    funding, tactics = situation.funding, situation.tactics
    if funding is None:
        return Target(protective, situation.discretionary_held(protective))
    is_held = situation.discretionary_held(protective) > situation.policy.no_trade_band * _HALF
    if not (funding.apr >= tactics.carry_leave_apr if is_held else _is_worth_it(situation)):
        return Target(protective, ZERO)
    budget = situation.headroom._replace(ratio_max=tactics.carry_margin_max)
    most = min(
        tactics.carry_ratio * situation.short_max, budget.hedge_cap(situation.balances.equity)
    )
    return Target(protective, max(ZERO, most - protective))


def _is_worth_it(situation: Situation) -> bool:
    """Enough is received now, and is expected to last long enough to earn a round trip."""
    funding = situation.funding
    assert funding is not None
    round_trip = 2 * _BPS * situation.policy.cost_rate
    return (
        funding.apr >= situation.tactics.carry_enter_apr
        and funding.income_bps is not None
        and funding.income_bps > round_trip
    )


def vol_harvest(situation: Situation) -> Target:
    """B*, and beside it a share of C + b that follows the volatility, with target and stop.

    The hedge ratio is low below the lower threshold of σ, medium up to the upper one, high from it;
    a rung held is left only .9 × its edge below. Rebalanced to the ratio as holdings change. After
    the profit target (k·σ) or the trailing stop the discretionary part rests (`short_leg`). Without
    a known σ what is held stays.
    """
    protective = ltv_target(situation).protective
    if situation.leg.is_resting:
        return Target(protective, ZERO)
    sigma = situation.volatility_day
    if sigma is None:
        return Target(protective, situation.discretionary_held(protective))
    wanted = _harvest_ratio(situation, sigma) * situation.short_max
    kept = _harvest_ratio(situation, sigma / _LEAVE) * situation.short_max
    if situation.exposure.low > kept - situation.policy.no_trade_band:
        wanted = kept
    return Target(protective, max(ZERO, wanted - protective))


def with_leg(situation: Situation, now_ms: int) -> Situation:
    """`situation` with its discretionary short looked at; only `vol_harvest` has one to look at."""
    if situation.policy.strategy is not Strategy.VOL_HARVEST:
        return situation
    held = situation.discretionary_held(ltv_target(situation).protective)
    leg = short_leg.advance(
        situation.leg, held=held, mark_price=situation.mark_price,
        volatility=situation.volatility_day, tactics=situation.tactics, now_ms=now_ms,
    )
    return situation._replace(leg=leg)


def _harvest_ratio(situation: Situation, sigma: Decimal) -> Decimal:
    tactics = situation.tactics
    if sigma >= tactics.harvest_volatility_high:
        return tactics.harvest_ratio_high
    if sigma >= tactics.harvest_volatility_low:
        return tactics.harvest_ratio_medium
    return tactics.harvest_ratio_low


def min_cost(situation: Situation) -> Target:
    """The account solver's short: the cheapest way to stay inside policy in every cell (`solver`)."""
    return Target(short_wanted(situation), ZERO)


STRATEGIES: Mapping[Strategy, Callable[[Situation], Target]] = {
    Strategy.LTV_TARGET: ltv_target,
    Strategy.LADDER: ladder,
    Strategy.CARRY: carry,
    Strategy.VOL_HARVEST: vol_harvest,
    Strategy.MIN_COST: min_cost,
}
"""To add a strategy: one function, one line here, one name in `policy.Strategy`."""
