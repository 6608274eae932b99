"""What decides: the live decision with a policy, or a frozen baseline.

The baselines are the live decision at the limits of its own policy where that says it all: with
L → ∞ the reference policy never hedges, with L → −∞ it is short all it owns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from decimal import Decimal as D

from hedgelock.domain import harvest
from hedgelock.domain.money import ONE, ZERO, floor_to
from hedgelock.domain.policy import (
    ExecutionPolicy,
    FundingPolicy,
    HedgePolicy,
    RiskPolicy,
    Strategy,
)
from hedgelock.domain.situation import HedgeReason, MoneyAction, Situation
from hedgelock.domain.sizing import Decision, Numbers, decide
from hedgelock.domain.treasury import TreasuryKind

Decider = Callable[[Situation], Decision]

NEVER = D(1000)
"""An LTV that no account has."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A named way to decide. `has_kernel`: `kernel` has the same rules on arrays."""

    name: str
    hedge: HedgePolicy = field(default_factory=HedgePolicy)
    risk: RiskPolicy = field(default_factory=RiskPolicy)
    funding: FundingPolicy = field(default_factory=FundingPolicy)
    execution: ExecutionPolicy = field(default_factory=ExecutionPolicy)
    decider: Decider = decide
    has_kernel: bool = False


def wait(_: Situation) -> Decision:
    """Never do anything."""
    return _quiet(HedgeReason.WITHIN_BAND)


def sell_collateral(s: Situation) -> Decision:
    """At LTV ≥ .80 sell locked coins for debt until LTV is .75; nothing else is touched.

    A of debt is repaid with coins worth A·(1 + fee), the fee being the venue's:
    (D − A) = to·(V − κ_c·A·(1 + fee)); `policy.cost_rate` holds the fee.
    """
    policy, held, value = s.policy, s.balances, s.counted_value
    if held.debt <= 0 or held.debt < policy.urgent_at * value or s.has_treasury:
        return _quiet(HedgeReason.WITHIN_BAND)
    slope = ONE - policy.urgent_to * s.loan_ratio * (ONE + policy.cost_rate)
    worth = held.collateral_qty * s.index_price / (ONE + policy.cost_rate)
    wanted = (held.debt - policy.urgent_to * value) / slope
    amount = floor_to(min(wanted, held.debt, worth), harvest.CENT)
    if amount < max(s.money_min, harvest.CENT):
        return _quiet(HedgeReason.BELOW_MINIMUM)
    reason = HedgeReason.COLLATERAL_REPAY
    action = MoneyAction(TreasuryKind.REPAY_WITH_COLLATERAL, amount, ZERO, reason)
    return Decision((action,), reason, Numbers(ZERO, ZERO, wanted))


def _quiet(reason: HedgeReason) -> Decision:
    return Decision((), reason, Numbers(ZERO, ZERO, ZERO))


def live(name: str, **changes: object) -> Plan:
    """The live decision with the default policy, changed as given."""
    return Plan(name, hedge=_hedge(**changes), has_kernel=True)


def _hedge(**changes: object) -> HedgePolicy:
    return HedgePolicy(**changes)  # type: ignore[arg-type]


_LIQUIDATION_FEE = D("0.02")

BASELINES: Mapping[str, Plan] = {
    plan.name: plan
    for plan in (
        Plan("unhedged", decider=wait, has_kernel=True),
        live("reserve_only", ltv_max=NEVER, urgent_at=NEVER, urgent_to=D("0.70"),
             refill_below=ZERO),
        Plan("sell_collateral", hedge=_hedge(cost_rate=_LIQUIDATION_FEE),
             decider=sell_collateral, has_kernel=True),
        # Harvest, but no last resort: that is what the study's ladder was.
        live("ladder", strategy=Strategy.LADDER, urgent_at=NEVER, urgent_to=D("0.70")),
        live("ltv_target"),
        live("delta_neutral", ltv_max=-NEVER),
    )
}  # fmt: skip
"""The frozen baselines of the results; `ltv_target` is B*."""


def registered(strategy: Strategy) -> Plan:
    """The live decision with a registered strategy and the default policy otherwise."""
    known = strategy in (Strategy.LTV_TARGET, Strategy.LADDER)
    return Plan(strategy.value, hedge=_hedge(strategy=strategy), has_kernel=known)


def with_reserve(plan: Plan, reserve: Decimal) -> HedgePolicy:
    """The plan's policy with its reserve written in, as the safety service does once."""
    import msgspec

    if plan.hedge.reserve is not None:
        return plan.hedge
    return msgspec.structs.replace(plan.hedge, reserve=reserve)
