"""The account solver's question, from what the hedger looks at: a `Situation`.

Only what the executor can do is available; inverse contracts, top-ups and spot sales are priced and
shown, not done. The money that the loan wants back is paid by `harvest`, under the same limits and
alike for all strategies; what is the solver's own is the size of the short, and collateral sold in
place of a short that pays too much.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from hedgelock.domain.actions import (
    EXECUTABLE,
    ActionKind,
    Holdings,
    Limits,
    Perp,
    Terms,
    Tier,
)
from hedgelock.domain.inflight import Purpose
from hedgelock.domain.liquidation import interest_growth
from hedgelock.domain.money import ONE, ZERO, ceil_to, floor_to
from hedgelock.domain.order import Side
from hedgelock.domain.situation import Action, MoneyAction, OrderAction, Situation
from hedgelock.domain.solver import Plan, solve
from hedgelock.domain.solver_problem import Case, Rounding
from hedgelock.domain.stress import FUNDING_CAP, NOTHING, SHOCKS
from hedgelock.domain.treasury import TreasuryKind
from hedgelock.domain.what_if import WhatIf, size_up, what_if

CELLS = ((None, NOTHING), *SHOCKS)
EXACT = Rounding(floor_to, ceil_to)
FORECAST_H = 72
"""Hours that `ShortFunding.income_bps` is for."""
_CENT = Decimal("0.01")
_COIN_STEP = Decimal("0.00000001")
_PER_DAY = 3
"""Settlements of a day at 8 h; a cap is charged for a day."""
_BPS = 10_000
_DOLLAR = ONE


def case_of(
    s: Situation, available: frozenset[ActionKind] = EXECUTABLE
) -> Case[Decimal]:
    """The question at this moment. The short counts as what is certain (`exposure.low`)."""
    held = s.balances
    short = max(ZERO, s.exposure.low)
    holdings = Holdings(
        held.debt, held.fund, held.equity, held.coin_qty, held.collateral_qty, short, ZERO
    )
    return Case(holdings, _terms(s), _limits(s), CELLS, available, EXACT)


def plan_of(situation: Situation) -> Plan[Decimal]:
    """What the solver would do now."""
    return solve(case_of(situation))


def short_wanted(s: Situation) -> Decimal:
    """The short that the solver wants, coins; all of it protective.

    Where the inputs are not fresh nothing is given back, nor where a sale is to take its place and
    has still to be done: the short is at least what is certain.
    """
    plan = plan_of(s)
    keeps = not s.is_fresh or _sale(plan) > 0
    return max(plan.after.short, s.exposure.low) if keeps else plan.after.short


def sale_wanted(s: Situation) -> Decimal:
    """USDT that the solver would repay with collateral now; 0 = nothing."""
    return _sale(plan_of(s))


def _sale(plan: Plan[Decimal]) -> Decimal:
    return sum(
        (a.size for a in plan.actions if a.kind is ActionKind.REPAY_WITH_COLLATERAL), ZERO
    )


_HEDGES = {Side.SELL: ActionKind.SHORT_LINEAR, Side.BUY: ActionKind.REDUCE_LINEAR}
_MONEY = {
    TreasuryKind.BORROW: ActionKind.BORROW,
    TreasuryKind.REPAY_WITH_COLLATERAL: ActionKind.REPAY_WITH_COLLATERAL,
    TreasuryKind.TRANSFER_TO_FUND: ActionKind.TRANSFER_OUT,
    TreasuryKind.TRANSFER_TO_UNIFIED: ActionKind.TRANSFER_IN,
}


def preview(s: Situation, actions: Sequence[Action], *, ltv_liquidation: Decimal) -> WhatIf:
    """What the hedger's own actions, of whatever strategy, make of the account; see `what_if`."""
    case = case_of(s)
    parts = [size_up(case, *part) for action in actions for part in _as_kinds(action)]
    return what_if(case, parts, ltv_liquidation=ltv_liquidation)


def _as_kinds(action: Action) -> list[tuple[ActionKind, Decimal]]:
    match action:
        case OrderAction(purpose=Purpose.COVER):
            return [(ActionKind.SELL_SPOT, action.qty)]
        case OrderAction():
            return [(_HEDGES[action.side], action.qty)]
        case MoneyAction(kind_of=TreasuryKind.REPAY):
            moved = min(action.amount, action.transfer_amount)
            parts = [
                (ActionKind.REPAY_FUND, action.amount - moved), (ActionKind.REPAY_POCKET, moved),
            ]
            return [(kind, size) for kind, size in parts if size > 0]
        case MoneyAction():
            return [(_MONEY[action.kind_of], action.amount)]
        case _:
            return []


def _terms(s: Situation) -> Terms[Decimal]:
    policy, held = s.policy, s.balances
    gain = ZERO if s.entry_price is None else s.entry_price - s.mark_price
    fees = 2 * s.mark_price * s.instrument.taker_fee
    counted = s.headroom.cushion / (s.index_price * (ONE + s.headroom.rise))
    margin_ratio = counted / held.coin_qty if held.coin_qty else ZERO
    spot_fee = s.spot.taker_fee if s.spot is not None else ZERO
    # Without a gain nothing can be realised: what is in the pocket is what is released.
    released = held.withdrawable if gain > fees else max(held.withdrawable, held.equity)
    return Terms(
        index_price=s.index_price, mark_price=s.mark_price, loan_ratio=s.loan_ratio,
        loan_ratio_next=s.loan_ratio, margin_ratio=margin_ratio, margin_ratio_next=margin_ratio,
        linear=_linear(s), inverse=_NO_PERP, spot_cost=spot_fee + policy.cost_rate,
        collateral_cost=spot_fee + policy.cost_rate, sale_premium=s.tactics.solver_sale_premium,
        realise_cost=fees / gain if gain > fees else ZERO, released=released,
        interest=interest_growth(s.interest_hourly or ZERO, s.tactics.solver_horizon_h) - ONE,
        borrow_margin_rate=policy.borrow_margin_rate, cent=_CENT, coin_step=_COIN_STEP,
    )


_NO_PERP: Perp[Decimal] = Perp(ZERO, ZERO, ZERO, ZERO, _DOLLAR, _DOLLAR, ())


def _linear(s: Situation) -> Perp[Decimal]:
    """Funding that is not known, or not forecast, costs what the rate now says; unknown: nothing."""
    funding, hours = s.funding, Decimal(s.tactics.solver_horizon_h)
    income = ZERO
    if funding is not None and funding.income_bps is not None:
        income = funding.income_bps / _BPS * hours / FORECAST_H
    elif funding is not None:
        income = funding.apr * hours / _HOURS_PER_YEAR
    return Perp(
        cost=s.policy.cost_rate, taker_fee=s.instrument.taker_fee, funding=-income,
        funding_day_rate=_PER_DAY * FUNDING_CAP, lot=s.instrument.lot_size,
        qty_min=s.instrument.qty_min,
        tiers=tuple(
            Tier(tier.notional_max, tier.maintenance_rate, tier.deduction)
            for tier in s.instrument.tiers
        ),
    )


_HOURS_PER_YEAR = 8760


def _limits(s: Situation) -> Limits[Decimal]:
    policy, tactics = s.policy, s.tactics
    return Limits(
        ltv_max=policy.ltv_max, margin_max=s.headroom.ratio_max, harvest_at=policy.harvest_at,
        harvest_to=policy.harvest_to, urgent_at=policy.urgent_at, urgent_to=policy.urgent_to,
        refill_below=policy.refill_below, reserve=s.reserve,
        amount_min=max(s.money_min, _CENT), borrow_max=s.execution.borrow_per_day_max,
        size_max=policy.position_size_max, band=policy.no_trade_band, aim=tactics.solver_aim,
        saving_min=max(_CENT, tactics.solver_saving_min * s.counted_value),
        cells_fall=s.fall, cells_rise=policy.stress_rise,
    )
