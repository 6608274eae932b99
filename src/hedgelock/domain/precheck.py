"""What must hold before an order or a treasury action leaves: a list of checks, first refusal wins.

Each check is `(intent, context) -> Refusal | None`. They run when an intent arrives and, the ones
that time and people can change (`SEND_CHECKS`), again before every send; `forbidden` is the last of
them, asked by the shell at the very moment of sending. Missing context refuses: no policy, no terms
or no word from safety is never "allowed".
"""

from __future__ import annotations

import decimal
from decimal import Decimal

from hedgelock.domain.effect import Effect, SendLoanAction, SendOrder, SendTransfer
from hedgelock.domain.instrument import Instrument
from hedgelock.domain.limits import LIMIT_CHECKS, refusal_of_amount, settlement_check
from hedgelock.domain.order import PlaceOrder, Side
from hedgelock.domain.policy import ExecutionPolicy
from hedgelock.domain.refusal import (
    CLOCK_TOLERANCE_MS,
    RATE_WINDOW_MS,
    SLICES_MAX,
    Check,
    Context,
    Refusal,
    notional,
)
from hedgelock.domain.safety import SafetyMode, SafetyState
from hedgelock.domain.treasury import Pocket, TreasuryAction, TreasuryKind

__all__ = [
    "CHECKS", "CLOCK_TOLERANCE_MS", "PROTECTIVE_KINDS", "RATE_WINDOW_MS", "SLICES_MAX", "Check",
    "Context", "Refusal", "forbidden", "limit_price", "notional", "piece_max", "refusal_of",
    "refusal_of_action", "send_refusal_of_action", "slices",
]

PROTECTIVE_KINDS = frozenset(
    {TreasuryKind.REPAY, TreasuryKind.REPAY_WITH_COLLATERAL, TreasuryKind.TRANSFER_TO_UNIFIED}
)
"""Lower LTV or feed the trading pocket; borrowing and draining it are not protective."""


def limit_price(intent: PlaceOrder, instrument: Instrument, policy: ExecutionPolicy) -> Decimal:
    """The worst price the order may trade at; ≤ 0 or absurd ones are refused by `_price`.

    A market intent is bounded: mark·(1 + slippage_max) for a buy, mark·(1 − slippage_max) for a
    sale, rounded to the tick *inside* the bound. The stricter of intent and policy counts.
    """
    if intent.price is not None:
        return intent.price
    slippage = min(intent.slippage_max, policy.slippage_max)
    bound = intent.mark_price * (1 + intent.side.sign * slippage)
    inside = decimal.ROUND_FLOOR if intent.side is Side.BUY else decimal.ROUND_CEILING
    return (bound / instrument.tick_size).to_integral_value(inside) * instrument.tick_size


def piece_max(
    intent: PlaceOrder, instrument: Instrument, *, post_only: bool = False
) -> Decimal | None:
    """Largest size of one order in whole lots; None = the venue states no limit."""
    limits = [instrument.qty_max]
    if intent.price is None:
        limits.append(instrument.qty_market_max)
    if post_only:
        limits.append(instrument.qty_post_only_max)
    limit = min((x for x in limits if x is not None), default=None)
    if limit is None:
        return None
    return (limit / instrument.lot_size).to_integral_value(decimal.ROUND_FLOOR) * instrument.lot_size


def slices(
    intent: PlaceOrder, instrument: Instrument, *, post_only: bool = False,
    most: Decimal | None = None,
) -> tuple[Decimal, ...] | None:
    """The pieces an intent is sent in: equal but for the last, whole lots, Σ = qty.

    None when the venue's limit would ask for more than SLICES_MAX pieces. `most`: no piece larger
    than this either, where the venue's limit is not smaller still.

    The number of pieces is the fewest that respect the limit, and pieces are as equal as lots
    allow, so that the last one does not fall under the venue's minimum.
    """
    limit = piece_max(intent, instrument, post_only=post_only)
    if most is not None:
        limit = most if limit is None else min(limit, most)
    if limit is None or intent.qty <= limit:
        return (intent.qty,)
    if limit <= 0:
        return None
    count = int((intent.qty / limit).to_integral_value(decimal.ROUND_CEILING))
    if count > SLICES_MAX:
        return None
    lots = (intent.qty / count / instrument.lot_size).to_integral_value(decimal.ROUND_CEILING)
    piece = lots * instrument.lot_size
    return (*(piece,) * (count - 1), intent.qty - piece * (count - 1))


def _is_multiple(value: Decimal, step: Decimal) -> bool:
    # Not `%`: it raises when the quotient has more digits than the context's precision.
    ratio = value / step
    return ratio == ratio.to_integral_value()


def _expired(intent: PlaceOrder, context: Context) -> Refusal | None:
    return Refusal.EXPIRED if context.now_ms >= intent.expires_ts_ms else None


def _future(intent: PlaceOrder, context: Context) -> Refusal | None:
    is_ahead = intent.decided_ts_ms > context.now_ms + CLOCK_TOLERANCE_MS
    return Refusal.FROM_THE_FUTURE if is_ahead else None


def _safety(intent: PlaceOrder, context: Context) -> Refusal | None:
    return _order_forbidden(
        context.safety, reduce_only=intent.reduce_only, protective=intent.protective
    )


def _order_forbidden(
    safety: SafetyState | None, *, reduce_only: bool, protective: bool
) -> Refusal | None:
    if safety is None:
        return None if protective else Refusal.SAFETY_ABSENT
    if safety.mode is SafetyMode.REDUCING:
        return None if protective or reduce_only else Refusal.REDUCING
    if safety.mode is SafetyMode.HALTED:
        return None if protective else Refusal.HALTED
    if safety.mode is SafetyMode.KILLED:
        return None if safety.flatten and reduce_only else Refusal.KILLED
    return None


def _frozen(intent: PlaceOrder, context: Context) -> Refusal | None:
    # Frozen: something at the venue is not explained by our book, so nothing is opened; reducing
    # cannot make it worse because the venue itself holds it to the position's size.
    return Refusal.ACCOUNT_FROZEN if context.frozen and not intent.reduce_only else None


def _reconciled(intent: PlaceOrder, context: Context) -> Refusal | None:
    # Protection does not wait: what an unknown order could add to it is bounded by the position.
    is_free = intent.protective or intent.reduce_only
    return Refusal.RECONCILING if context.is_reconciling and not is_free else None


def _terms(_intent: PlaceOrder, context: Context) -> Refusal | None:
    if context.policy is None:
        return Refusal.POLICY_ABSENT
    return Refusal.INSTRUMENT_UNKNOWN if context.instrument is None else None


def _open(_intent: PlaceOrder, context: Context) -> Refusal | None:
    return Refusal.TOO_MANY_OPEN if context.open_intents >= context.open_intents_max else None


def _rate(intent: PlaceOrder, context: Context) -> Refusal | None:
    # Reduce-only orders are exempt: they end at zero by themselves, and a runaway opener must not
    # use up the way out.
    if context.policy is None or intent.reduce_only:
        return None
    busy = context.orders_last_minute >= context.policy.orders_per_minute_max
    return Refusal.TOO_MANY_ORDERS if busy else None


def _lot(intent: PlaceOrder, context: Context) -> Refusal | None:
    instrument = context.instrument
    if instrument is None:
        return Refusal.INSTRUMENT_UNKNOWN
    if not _is_multiple(intent.qty, instrument.lot_size):
        return Refusal.QTY_OFF_LOT
    if intent.qty < instrument.qty_min:
        return Refusal.QTY_TOO_SMALL
    if intent.trigger_price is not None:
        return None  # the venue splits what only reduces
    return Refusal.QTY_TOO_LARGE if slices(intent, instrument) is None else None


def _price(intent: PlaceOrder, context: Context) -> Refusal | None:
    instrument, policy = context.instrument, context.policy
    if instrument is None or policy is None:
        return Refusal.INSTRUMENT_UNKNOWN
    if intent.trigger_price is not None:
        on_tick = _is_multiple(intent.trigger_price, instrument.tick_size)
        return None if on_tick and intent.reduce_only else Refusal.STOP_IMPOSSIBLE
    price = limit_price(intent, instrument, policy)
    if price <= 0:
        return Refusal.PRICE_IMPOSSIBLE
    return None if _is_multiple(price, instrument.tick_size) else Refusal.PRICE_OFF_TICK


def _notional(intent: PlaceOrder, context: Context) -> Refusal | None:
    instrument, policy = context.instrument, context.policy
    if instrument is None or policy is None:
        return Refusal.INSTRUMENT_UNKNOWN
    value = notional(intent.qty, intent.mark_price, instrument)
    if value > policy.notional_max and intent.trigger_price is None:
        return Refusal.NOTIONAL_TOO_LARGE
    # The venue waives its minimum for orders that only reduce: dust must be closable.
    floor = None if intent.reduce_only else instrument.notional_min
    return Refusal.NOTIONAL_TOO_SMALL if floor is not None and value < floor else None


SEND_CHECKS: tuple[Check, ...] = (_expired, _safety, _frozen)
"""What may have changed between deciding and sending; asked before every send."""

REST_CHECKS: tuple[Check, ...] = (_safety, _frozen, settlement_check)
"""What takes an order away again that rests in the book."""

ATTEMPT_CHECKS: tuple[Check, ...] = (*SEND_CHECKS, settlement_check, _rate)
"""Before another order of the same intent."""

CHECKS: tuple[Check, ...] = (
    *SEND_CHECKS, _reconciled, _future, _terms, _open, _rate, _lot, _price, _notional, *LIMIT_CHECKS,
)
"""Everything, in order; asked when an intent arrives."""


def refusal_of(
    intent: PlaceOrder, context: Context, checks: tuple[Check, ...] = CHECKS
) -> Refusal | None:
    """The first check's refusal; None = the intent may go."""
    for check in checks:
        refusal = check(intent, context)
        if refusal is not None:
            return refusal
    return None


def _kind_forbidden(safety: SafetyState | None, kind: TreasuryKind) -> Refusal | None:
    if safety is not None and safety.mode is SafetyMode.KILLED:
        return Refusal.KILLED
    if kind in PROTECTIVE_KINDS:
        return None
    if safety is None:
        return Refusal.SAFETY_ABSENT
    return Refusal.HALTED if safety.mode is SafetyMode.HALTED else None


def send_refusal_of_action(action: TreasuryAction, context: Context) -> Refusal | None:
    """Whether a treasury action may (still) send its next part; None = yes."""
    if context.now_ms >= action.expires_ts_ms:
        return Refusal.EXPIRED
    if context.frozen and action.kind_of not in PROTECTIVE_KINDS:
        return Refusal.ACCOUNT_FROZEN
    return _kind_forbidden(context.safety, action.kind_of)


def refusal_of_action(action: TreasuryAction, context: Context) -> Refusal | None:
    """The first reason not to start a treasury action; None = start."""
    refusal = send_refusal_of_action(action, context)
    if refusal is not None:
        return refusal
    if action.decided_ts_ms > context.now_ms + CLOCK_TOLERANCE_MS:
        return Refusal.FROM_THE_FUTURE
    if context.open_intents >= context.open_intents_max:
        return Refusal.TOO_MANY_OPEN
    if action.kind_of is TreasuryKind.REPAY_WITH_COLLATERAL and not action.collateral_coin:
        return Refusal.COLLATERAL_COIN_ABSENT
    is_transfer = action.kind_of in (
        TreasuryKind.TRANSFER_TO_FUND, TreasuryKind.TRANSFER_TO_UNIFIED
    )
    if is_transfer and action.transfer_amount not in (0, action.amount):
        return Refusal.AMOUNT_AMBIGUOUS
    return refusal_of_amount(action, context)


def forbidden(effect: Effect, safety: SafetyState | None) -> str | None:
    """Safety's word at the moment of sending an effect; None = go.

    Queries and cancels always go: they open nothing and find out the truth. A transfer is judged by
    where it leads: into the trading pocket or towards a repayment it is protective.
    """
    refusal: Refusal | None = None
    match effect:
        case SendOrder():
            refusal = _order_forbidden(
                safety, reduce_only=effect.reduce_only, protective=effect.protective
            )
        case SendLoanAction():
            refusal = _kind_forbidden(safety, effect.kind_of)
        case SendTransfer():
            into_fund = effect.target is Pocket.FUND and not effect.protective
            kind = TreasuryKind.TRANSFER_TO_FUND if into_fund else TreasuryKind.TRANSFER_TO_UNIFIED
            refusal = _kind_forbidden(safety, kind)
        case _:
            pass
    return refusal.value if refusal is not None else None
