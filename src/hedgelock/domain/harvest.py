"""Money between the pockets and the loan: harvest, refill, last resort. DESIGN §5.

A hedge's gain saves the loan only once it is realised, moved and repaid. With LTV = D / V:

- LTV ≥ .75: repay x = D − F − .70·V; LTV ≥ .80: x = D − F − .75·V, with whatever is there already.
- What the pocket gives: min(x, U, what h_cap still allows), and only money that the venue lets out.
- Money missing because the gain is unrealised: close a slice of the short; it is reopened at once.
- Nothing left to pay with at ≥ .80: repay with collateral to .75.
- LTV < .65 and U + F < R: borrow min(.65·V − D + F, R − U − F).

Amounts below max(.01·V, the venue's minimum) wait.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from hedgelock.domain.inflight import Purpose
from hedgelock.domain.money import ONE, ZERO, ceil_to, floor_to
from hedgelock.domain.order import Side
from hedgelock.domain.safety import SafetyMode
from hedgelock.domain.situation import (
    Action,
    HedgeReason,
    MoneyAction,
    OrderAction,
    Situation,
)
from hedgelock.domain.treasury import TreasuryKind

CENT = Decimal("0.01")
"""Amounts are given to the venue in whole cents, rounded towards doing less."""


REST_SHARE = 5
"""The rest of a realisation below one part in so many of a slice is left to the next one."""


class Claim(NamedTuple):
    """What the loan wants from the trading pocket now, USDT."""

    need: Decimal
    """D − to·V: the whole repayment; 0 when LTV is low enough."""
    wanted: Decimal
    """x = need − F, 0 while it is below the minimum: what U must give."""
    is_urgent: bool


class Plan(NamedTuple):
    """What to do about money; `reason` None = nothing is wanted."""

    actions: tuple[Action, ...]
    reason: HedgeReason | None


IDLE = Plan((), None)
"""Nothing is wanted."""


def claim(situation: Situation) -> Claim:
    """How much the loan wants repaid at this LTV."""
    policy, held, value = situation.policy, situation.balances, situation.counted_value
    if held.debt <= 0 or held.debt < policy.harvest_at * value:
        return Claim(ZERO, ZERO, is_urgent=False)
    is_urgent = situation.is_urgent
    if situation.is_repay_forbidden and not is_urgent:
        return Claim(ZERO, ZERO, is_urgent=False)
    need = held.debt - (policy.urgent_to if is_urgent else policy.harvest_to) * value
    wanted = need - held.fund
    return Claim(need, wanted if wanted >= situation.money_min else ZERO, is_urgent)


def plan(situation: Situation, wish: Claim, *, is_lowering: bool) -> Plan:
    """What to do about money. `is_lowering`: the short is still above h_cap(U − x)."""
    # Urgent: another slice would only keep the money that is there from settling and being paid.
    is_going_on = situation.realising > 0 and not situation.is_settled and not wish.is_urgent
    if wish.need > 0 and is_going_on:
        return _go_on(situation, is_lowering=is_lowering)
    if wish.need > 0:
        action = _harvest(situation, wish, is_lowering=is_lowering)
    else:
        action = _replenish(situation)
    if action.actions:
        # Everything below is decided on settled money only, one action at a time.
        if situation.has_treasury:
            return Plan((), HedgeReason.TREASURY_IN_FLIGHT)
        if not situation.is_settled:
            return Plan((), HedgeReason.SETTLING)
        is_order = isinstance(action.actions[0], OrderAction)
        if not (situation.may_order if is_order else situation.may_move):
            return Plan((), HedgeReason.BACKING_OFF)
    return action


def _harvest(situation: Situation, wish: Claim, *, is_lowering: bool) -> Plan:
    held, least = situation.balances, max(situation.money_min, CENT)
    from_fund = max(ZERO, min(held.fund, wish.need))
    spare = held.equity - situation.headroom.equity_needed(situation.exposure.high)
    limit = max(ZERO, min(wish.wanted, held.equity, spare))
    # The closing fee of the short stays behind, or the pocket would borrow to pay it.
    kept = situation.exposure.held * situation.mark_price * situation.policy.cost_rate
    released = max(ZERO, held.withdrawable - max(ZERO, kept))
    ready = min(limit, released)
    if not situation.is_fresh and not wish.is_urgent:
        return Plan((), HedgeReason.INPUT_STALE)
    if is_lowering and not wish.is_urgent:
        return Plan((), HedgeReason.LOWERING_FIRST)
    slice_of = None
    if not is_lowering:  # lowering the short realises by itself
        slice_of = _slice(situation, limit=limit, released=released, least=least - from_fund)
    # In a fall the claim grows while it is being realised: a rest below the minimum, or a second
    # realisation, is left to the next payment; the loan must not wait for the last slice.
    is_worth_it = limit - ready >= least and not situation.has_realised
    must_wait = slice_of is not None and not wish.is_urgent and is_worth_it
    moved = floor_to(ready, CENT)
    amount = floor_to(min(moved + from_fund, held.debt), CENT)
    if amount >= least and not must_wait:
        reason = HedgeReason.URGENT_REPAY if wish.is_urgent else HedgeReason.HARVEST_REPAY
        return Plan((MoneyAction(TreasuryKind.REPAY, amount, moved, reason),), reason)
    if slice_of is not None and situation.is_fresh:
        return Plan((slice_of,), HedgeReason.HARVEST_REALISE)
    if wish.is_urgent and situation.is_fresh and not is_lowering:
        return _repay_with_collateral(situation, least)
    return Plan((), HedgeReason.BELOW_MINIMUM)


def _go_on(situation: Situation, *, is_lowering: bool) -> Plan:
    """The next slice of a realisation under way.

    The whole was decided on settled money; its slices follow each other as fast as they fill, since
    in a fall the claim grows while balances are being read.
    """
    waits = is_lowering or situation.has_hedge_order or situation.has_treasury
    if waits or not (situation.is_fresh and situation.may_order):
        return Plan((), HedgeReason.SETTLING)
    worth_it = situation.policy.no_trade_band * _gain(situation) / REST_SHARE
    action = _close(situation, situation.realising) if situation.realising >= worth_it else None
    if action is None:
        return Plan((), HedgeReason.SETTLING)
    return Plan((action,), HedgeReason.HARVEST_REALISE)


def _slice(
    situation: Situation, *, limit: Decimal, released: Decimal, least: Decimal
) -> OrderAction | None:
    """The slice of the short to close so that its gain becomes money; None = it would not help.

    Closing frees cash only where cash is what is short (not margin), and is worth its fees only
    when all that can be realised makes a payment of `least`. Coins, ≤ the band.
    """
    held = situation.balances
    if held.withdrawable + ONE < held.cash:  # bound by margin
        return None
    missing = min(limit - min(released, held.cash), at_once(situation))
    most = situation.exposure.low * _gain(situation)
    if min(limit, min(released, held.cash) + most) < least:
        return None
    return _close(situation, missing)


def at_once(situation: Situation) -> Decimal:
    """What `slices_max` slices of a band q realise of a short h, USDT: q · gain · Σ (1 − q/h)^k.

    Each reopening takes the average entry down to what is left: without it the last slices would be
    more than was meant, and their orders more than the venue takes in a second.
    """
    band, short = situation.policy.no_trade_band, situation.exposure.low
    left = max(ZERO, ONE - band / short) if short > 0 else ZERO
    slices, share = ZERO, ONE
    for _ in range(situation.policy.slices_max):
        slices += share
        share *= left
    return band * _gain(situation) * slices


def _gain(situation: Situation) -> Decimal:
    """What closing and reopening one coin of the short realises now, USDT; ≤ 0 = a loss."""
    entry, mark = situation.entry_price, situation.mark_price
    return ZERO if entry is None else entry - mark - 2 * mark * situation.instrument.taker_fee


def _close(situation: Situation, missing: Decimal) -> OrderAction | None:
    """Close as much as realises `missing` USDT, at most the band; None = nothing to gain."""
    lot, short, gain = situation.instrument.lot_size, situation.exposure.low, _gain(situation)
    if missing < CENT or gain <= 0 or short <= 0 or situation.reopen_qty > 0:
        return None
    largest = max(situation.policy.no_trade_band, situation.instrument.qty_min)
    qty = floor_to(min(largest, ceil_to(missing / gain, lot), short), lot)
    if qty < situation.instrument.qty_min:
        return None
    return OrderAction(
        Side.BUY, qty, reduce_only=True, protective=True, purpose=Purpose.REALISE,
        reason=HedgeReason.HARVEST_REALISE, realise_rest=max(ZERO, missing - qty * gain),
    )


def _repay_with_collateral(situation: Situation, least: Decimal) -> Plan:
    """Sell locked coins worth A: (D − F − A) = to·(V − κ_c·A), never more than there is."""
    policy, held, value = situation.policy, situation.balances, situation.counted_value
    kept = ONE - policy.urgent_to * situation.loan_ratio
    excess = held.debt - held.fund - policy.urgent_to * value
    worth = held.collateral_qty * situation.index_price
    if kept <= 0 or excess <= 0 or worth <= 0:
        return Plan((), HedgeReason.NOTHING_TO_REPAY_WITH)
    amount = floor_to(min(excess / kept, held.debt, worth), CENT)
    if amount < least:
        return Plan((), HedgeReason.BELOW_MINIMUM)
    reason = HedgeReason.COLLATERAL_REPAY
    action = MoneyAction(TreasuryKind.REPAY_WITH_COLLATERAL, amount, ZERO, reason)
    return Plan((action,), reason)


def _replenish(situation: Situation) -> Plan:
    policy, held, value = situation.policy, situation.balances, situation.counted_value
    if not situation.is_fresh or situation.mode is SafetyMode.HALTED:
        return IDLE
    least = max(situation.money_min, CENT)
    missing = situation.reserve - held.equity
    back = floor_to(min(held.fund, missing), CENT)
    if back >= least:
        reason = HedgeReason.FUND_RETURN
        return Plan((MoneyAction(TreasuryKind.TRANSFER_TO_UNIFIED, back, back, reason),), reason)
    if held.debt >= policy.refill_below * value or missing <= held.fund:
        return IDLE
    room = policy.refill_below * value - held.debt + held.fund
    amount = floor_to(min(room, missing - held.fund), CENT)
    if amount < least:
        return Plan((), HedgeReason.BELOW_MINIMUM)
    reason = HedgeReason.REFILL
    # F stays where it is: the room counted on it, and D − F must end at or below .65·V.
    return Plan((MoneyAction(TreasuryKind.BORROW, amount, amount, reason),), reason)
