"""What must hold before an order or a treasury action leaves: a list of checks, first refusal wins.

Each check is `(intent, context) -> Refusal | None`. They run when an intent arrives and, the ones
that time and people can change (`SEND_CHECKS`), again before every send; `forbidden` is the last of
them, asked by the shell at the very moment of sending. Missing context refuses: no policy, no terms
or no word from safety is never "allowed".
"""

from __future__ import annotations

import decimal
import enum
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

from hedgelock.domain.effect import Effect, SendLoanAction, SendOrder, SendTransfer
from hedgelock.domain.instrument import Instrument, Settlement
from hedgelock.domain.order import PlaceOrder, Side
from hedgelock.domain.policy import ExecutionPolicy
from hedgelock.domain.safety import SafetyMode, SafetyState
from hedgelock.domain.treasury import Pocket, TreasuryAction, TreasuryKind

SLICES_MAX = 8
"""An order that the venue's size limits would cut into more pieces is refused."""

CLOCK_TOLERANCE_MS = 5_000
"""How far two clocks may differ before their times are not believed."""

RATE_WINDOW_MS = 60_000
"""The window of `ExecutionPolicy.orders_per_minute_max`."""

PROTECTIVE_KINDS = frozenset(
    {TreasuryKind.REPAY, TreasuryKind.REPAY_WITH_COLLATERAL, TreasuryKind.TRANSFER_TO_UNIFIED}
)
"""Lower LTV or feed the trading pocket; borrowing and draining it are not protective."""


class Refusal(enum.Enum):
    """Why an intent is not executed (any further)."""

    EXPIRED = "expired"
    FROM_THE_FUTURE = "from_the_future"
    """Decided later than now: a clock is wrong, and no deadline means anything."""
    TOO_OLD = "too_old"
    """Decided before what is already forgotten: it may have been executed long ago."""
    POLICY_ABSENT = "policy_absent"
    SAFETY_ABSENT = "safety_absent"
    HALTED = "halted"
    KILLED = "killed"
    ACCOUNT_FROZEN = "account_frozen"
    INSTRUMENT_UNKNOWN = "instrument_unknown"
    QTY_OFF_LOT = "qty_off_lot"
    QTY_TOO_SMALL = "qty_too_small"
    QTY_TOO_LARGE = "qty_too_large"
    PRICE_OFF_TICK = "price_off_tick"
    PRICE_IMPOSSIBLE = "price_impossible"
    NOTIONAL_TOO_SMALL = "notional_too_small"
    NOTIONAL_TOO_LARGE = "notional_too_large"
    TOO_MANY_ORDERS = "too_many_orders"
    TOO_MANY_OPEN = "too_many_open"
    CANCELLED = "cancelled"
    COLLATERAL_COIN_ABSENT = "collateral_coin_absent"
    AMOUNT_AMBIGUOUS = "amount_ambiguous"


class Context(NamedTuple):
    """What the checks may look at. `frozen` "" = not frozen; `open_intents` are not terminal."""

    now_ms: int
    policy: ExecutionPolicy | None
    safety: SafetyState | None
    instrument: Instrument | None
    frozen: str
    orders_last_minute: int
    open_intents: int
    open_intents_max: int


Check = Callable[[PlaceOrder, Context], Refusal | None]


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


def piece_max(intent: PlaceOrder, instrument: Instrument) -> Decimal | None:
    """Largest size of one order in whole lots; None = the venue states no limit."""
    limit = instrument.qty_max
    if intent.price is None and instrument.qty_market_max is not None:
        limit = instrument.qty_market_max if limit is None else min(limit, instrument.qty_market_max)
    if limit is None:
        return None
    return (limit / instrument.lot_size).to_integral_value(decimal.ROUND_FLOOR) * instrument.lot_size


def slices(intent: PlaceOrder, instrument: Instrument) -> tuple[Decimal, ...] | None:
    """The pieces an intent is sent in: equal but for the last, whole lots, Σ = qty.

    None when the venue's limit would ask for more than SLICES_MAX pieces.

    The number of pieces is the fewest that respect the limit, and pieces are as equal as lots
    allow, so that the last one does not fall under the venue's minimum.
    """
    limit = piece_max(intent, instrument)
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


def notional(qty: Decimal, price: Decimal, instrument: Instrument) -> Decimal:
    """Order value in quote units; an inverse contract's quantity already is (1 USD each)."""
    return qty if instrument.settlement is Settlement.INVERSE else qty * price


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
    if safety.mode is SafetyMode.HALTED:
        return None if protective else Refusal.HALTED
    if safety.mode is SafetyMode.KILLED:
        return None if safety.flatten and reduce_only else Refusal.KILLED
    return None


def _frozen(intent: PlaceOrder, context: Context) -> Refusal | None:
    # Frozen: something at the venue is not explained by our book, so nothing is opened; reducing
    # cannot make it worse because the venue itself holds it to the position's size.
    return Refusal.ACCOUNT_FROZEN if context.frozen and not intent.reduce_only else None


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
    return Refusal.QTY_TOO_LARGE if slices(intent, instrument) is None else None


def _price(intent: PlaceOrder, context: Context) -> Refusal | None:
    instrument, policy = context.instrument, context.policy
    if instrument is None or policy is None:
        return Refusal.INSTRUMENT_UNKNOWN
    price = limit_price(intent, instrument, policy)
    if price <= 0:
        return Refusal.PRICE_IMPOSSIBLE
    return None if _is_multiple(price, instrument.tick_size) else Refusal.PRICE_OFF_TICK


def _notional(intent: PlaceOrder, context: Context) -> Refusal | None:
    instrument, policy = context.instrument, context.policy
    if instrument is None or policy is None:
        return Refusal.INSTRUMENT_UNKNOWN
    value = notional(intent.qty, intent.mark_price, instrument)
    if value > policy.notional_max:
        return Refusal.NOTIONAL_TOO_LARGE
    # The venue waives its minimum for orders that only reduce: dust must be closable.
    floor = None if intent.reduce_only else instrument.notional_min
    return Refusal.NOTIONAL_TOO_SMALL if floor is not None and value < floor else None


SEND_CHECKS: tuple[Check, ...] = (_expired, _safety, _frozen)
"""What may have changed between deciding and sending; asked before every send."""

ATTEMPT_CHECKS: tuple[Check, ...] = (*SEND_CHECKS, _rate)
"""Before another order of the same intent."""

CHECKS: tuple[Check, ...] = (*SEND_CHECKS, _future, _terms, _open, _rate, _lot, _price, _notional)
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
    return None


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
