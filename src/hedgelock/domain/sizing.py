"""The decision: from the numbers of one moment to actions and a reason. DESIGN §5, §3.6.

- A hedge order = target − (held + in flight), in lots, outside a band, inside every cap.
- The band never blocks a reduction that h_cap demands; the short never exceeds C + b.
- Without fresh inputs only a protective raise (or an urgent repayment from cash) is decided.
- Missing data never removes a hedge; HALTED forbids what is not protective, REDUCING what adds to it.
- A pinned hedge is left alone until LTV reaches `urgent_at`; what margin demands is done all the same.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from hedgelock.domain import harvest
from hedgelock.domain.inflight import Purpose
from hedgelock.domain.instrument import Instrument
from hedgelock.domain.money import ONE, ZERO, ceil_to, clip, floor_to
from hedgelock.domain.order import Side
from hedgelock.domain.policy import Strategy
from hedgelock.domain.safety import SafetyMode
from hedgelock.domain.situation import Action, HedgeReason, MoneyAction, OrderAction, Situation
from hedgelock.domain.solver_case import sale_wanted
from hedgelock.domain.strategies import STRATEGIES
from hedgelock.domain.treasury import TreasuryKind

_HALF = Decimal("0.5")


class Numbers(NamedTuple):
    """What a decision came from. Coins short; USDT."""

    target: Decimal
    h_cap: Decimal
    repay_wanted: Decimal


class Decision(NamedTuple):
    """What to do and why; the reason is that of the most pressing part."""

    actions: tuple[Action, ...]
    reason: HedgeReason
    numbers: Numbers


def decide(s: Situation) -> Decision:
    """Everything the policy wants now. Money first, then the size of the short."""
    wish = harvest.claim(s)
    # What the pocket cannot pay anyway is no reason to give up the hedge: at most U leaves.
    leaving = min(wish.wanted, max(ZERO, s.balances.equity))
    cap = s.headroom.hedge_cap(s.balances.equity - leaving)
    wanted, frozen = _wanted(s)
    size = min(wanted, cap)
    numbers = Numbers(size, cap, wish.wanted)
    cover = _cover(s)
    hedge, why = _resize(s, size=size, cap=cap, wanted=wanted, is_frozen=frozen)
    if hedge is not None and not s.may_order:
        hedge, why = None, HedgeReason.BACKING_OFF
    is_lowering = (
        hedge is not None and hedge.reason is HedgeReason.MARGIN_LOWERED and wish.wanted > 0
    )
    money = harvest.plan(s, wish, is_lowering=is_lowering)
    if money == harvest.IDLE and s.policy.strategy is Strategy.MIN_COST:
        money = _sale(s)
    if hedge is not None and any(isinstance(a, OrderAction) for a in money.actions):
        # A slice is closed beside the size wanted, never beside another order.
        money = harvest.Plan((), why)
    if money.actions and cover is not None:
        money = harvest.Plan((), HedgeReason.QUOTE_COVERED)
    actions: list[Action] = [*money.actions]
    if cover is not None:
        actions.insert(0, cover)
    if hedge is not None:
        actions.append(hedge)
    if actions:
        return Decision(tuple(actions), actions[0].reason, numbers)
    if why in (HedgeReason.WITHIN_BAND, HedgeReason.ORDER_IN_FLIGHT):
        if s.balances.equity < -s.cover_min and not s.has_spot_order:
            why = HedgeReason.COVER_IMPOSSIBLE
        elif money.reason is not None:
            why = money.reason
    return Decision((), why, numbers)


def _sale(s: Situation) -> harvest.Plan:
    """Collateral sold in place of a short that pays too much, where the solver says so."""
    may = s.is_fresh and s.is_settled and s.may_move and not s.has_treasury
    may = may and not s.is_repay_forbidden
    amount = sale_wanted(s) if may and s.mode is SafetyMode.ACTIVE else ZERO
    if amount < s.money_min or amount <= 0:
        return harvest.IDLE
    reason = HedgeReason.COLLATERAL_REPAY
    action = MoneyAction(TreasuryKind.REPAY_WITH_COLLATERAL, amount, ZERO, reason)
    return harvest.Plan((action,), reason)


def _wanted(s: Situation) -> tuple[Decimal, bool]:
    """The short the strategy wants, before margin; and whether discretionary size is frozen.

    target = h_protective + m · h_discretionary. Where funding is unknown, inputs are stale or
    safety says HALTED, discretionary size neither grows nor shrinks; REDUCING: it only shrinks.
    """
    target = STRATEGIES[s.policy.strategy](s)
    frozen = s.multiplier is None or not s.is_fresh or s.mode is SafetyMode.HALTED
    if frozen or s.multiplier is None:
        most = target.protective + target.discretionary
        wanted = max(target.protective, min(s.exposure.low, most))
    else:
        wanted = target.protective + s.multiplier * target.discretionary
        if s.mode is SafetyMode.REDUCING:
            wanted = max(target.protective, min(s.exposure.low, wanted))
    limit = min(s.short_max, s.policy.position_size_max)
    return clip(wanted, ZERO, limit), frozen and target.discretionary > 0


def _resize(
    s: Situation, *, size: Decimal, cap: Decimal, wanted: Decimal, is_frozen: bool
) -> tuple[OrderAction | None, HedgeReason]:
    """The order that takes the short to `size`, or None and why not."""
    policy, exposure = s.policy, s.exposure
    band = policy.no_trade_band
    # Where margin binds, stay half a band inside it: the next tick shall not demand a crumb again.
    slack = band * _HALF
    if exposure.low > min(cap, s.short_max) and exposure.low > 0 and s.is_fresh:
        is_margin = exposure.low > cap
        reason = HedgeReason.MARGIN_LOWERED if is_margin else HedgeReason.NET_SHORT_LOWERED
        order = _lower(s, max(ZERO, min(size, cap - slack)) if is_margin else size, reason)
        if order is not None:
            return order, reason
    if s.is_hedge_pinned and not s.is_urgent and s.reopen_qty <= 0:
        return None, HedgeReason.PINNED
    missing = min(size, cap - slack) - exposure.high
    if s.reopen_qty > 0 and missing > 0:
        qty = missing if missing >= band else min(s.reopen_qty, missing)
        return _raise(s, qty, HedgeReason.HARVEST_REOPEN)
    if missing >= band and missing > 0:
        return _raise(s, missing, HedgeReason.HEDGE_RAISED)
    if exposure.low - size >= band and exposure.low > size:
        if not s.is_fresh:
            return None, HedgeReason.INPUT_STALE
        if s.mode is SafetyMode.HALTED:
            return None, HedgeReason.HALTED
        order = _lower(s, size, HedgeReason.HEDGE_LOWERED)
        return order, HedgeReason.BELOW_MINIMUM if order is None else order.reason
    if wanted - size >= band and wanted - exposure.high >= band:
        return None, HedgeReason.CAPPED_BY_MARGIN
    if is_frozen:
        return None, HedgeReason.FUNDING_UNKNOWN
    if s.has_hedge_order:
        return None, HedgeReason.ORDER_IN_FLIGHT
    return None, HedgeReason.WITHIN_BAND


def _raise(
    s: Situation, more: Decimal, reason: HedgeReason
) -> tuple[OrderAction | None, HedgeReason]:
    """Sell `more` coins, rounded down to lots and limits.

    Where discretionary size must wait for a settlement, what protects does not: only that is sold.
    """
    protective = STRATEGIES[s.policy.strategy](s).protective - s.exposure.high
    qty = _saleable(s, more)
    if s.sale_guard is not None and qty > protective:
        qty = _saleable(s, max(ZERO, protective)) if protective >= s.policy.no_trade_band else ZERO
        if qty <= 0:
            return None, s.sale_guard
    if qty < s.instrument.qty_min or qty * s.mark_price < (s.instrument.notional_min or ZERO):
        return None, HedgeReason.BELOW_MINIMUM
    action = OrderAction(
        Side.SELL, qty, reduce_only=False, protective=protective >= qty,
        purpose=Purpose.HEDGE, reason=reason,
    )
    return action, reason


def _saleable(s: Situation, more: Decimal) -> Decimal:
    return floor_to(min(more, _order_max(s, s.instrument)), s.instrument.lot_size)


def _lower(s: Situation, size: Decimal, reason: HedgeReason) -> OrderAction | None:
    """Buy back to `size`, reduce-only. What a cap demands is rounded up to lots, else down."""
    is_demanded = reason is not HedgeReason.HEDGE_LOWERED
    round_to = ceil_to if is_demanded else floor_to
    lot = s.instrument.lot_size
    most = floor_to(min(s.exposure.low, _order_max(s, s.instrument)), lot)
    qty = min(round_to(s.exposure.low - size, lot), most)
    if qty < s.instrument.qty_min or qty <= 0:
        return None
    return OrderAction(
        Side.BUY, qty, reduce_only=True, protective=is_demanded,
        purpose=Purpose.HEDGE, reason=reason,
    )


def _order_max(s: Situation, instrument: Instrument) -> Decimal:
    """The largest order allowed, coins."""
    limits = (instrument.qty_max, instrument.qty_market_max)
    return min((s.execution.notional_max / s.mark_price, *(x for x in limits if x is not None)))


def _cover(s: Situation) -> OrderAction | None:
    """Sell pocket coins for the USDT that is owed: a second loan dies on the next fall.

    From U < −m to U = +m, m = `cover_min`.
    """
    spot, owed = s.spot, -s.balances.equity
    if owed <= s.cover_min or spot is None or s.has_spot_order or not (s.is_fresh and s.may_order):
        return None
    owed += s.cover_min
    net = s.mark_price * (ONE - spot.taker_fee) * (ONE - s.execution.slippage_max)
    most = floor_to(min(s.balances.coin_qty, _order_max(s, spot)), spot.lot_size)
    qty = min(max(ceil_to(owed / net, spot.lot_size), spot.qty_min), most) if net > 0 else ZERO
    if qty < spot.qty_min or qty * s.mark_price < (spot.notional_min or ZERO):
        return None
    return OrderAction(
        Side.SELL, qty, reduce_only=False, protective=True, purpose=Purpose.COVER,
        reason=HedgeReason.QUOTE_COVERED,
    )
