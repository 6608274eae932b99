"""How an order is worked: what its urgency and the book make of it.

| urgency | style | how |
|---|---|---|
| at once | MARKET | immediate, at most `slippage_max` from the mark of the decision |
| brisk | IOC_LIMIT | immediate, first at most `slippage_brisk`, then `slippage_max` away |
| brisk, > `slice_notional` | SLICED | the same in pieces no larger than what stands at the best price |
| patient | POST_ONLY | rests at the best price and follows it for `rest_ms`, then as brisk |
| patient, no fresh book | as brisk | |

An order whose price the hedger named is worked AS_DECIDED. Nothing here makes an order larger, or its
worst price worse than the bound (`precheck.limit_price`).
"""

from __future__ import annotations

import decimal
import enum
from decimal import Decimal
from typing import Final, NamedTuple

from hedgelock.domain.instrument import Instrument, Settlement
from hedgelock.domain.market import MarketTick
from hedgelock.domain.money import ZERO, clip, floor_to
from hedgelock.domain.order import OrderStyle, PlaceOrder, Side, Urgency
from hedgelock.domain.policy import ExecutionPolicy
from hedgelock.domain.refusal import SLICES_MAX, Context, notional
from hedgelock.domain.risk import RiskState

REST_MARGIN_MS: Final = 2_000
"""An order stops resting this long before its intent expires, so that what is left can be taken."""


class StyleReason(enum.Enum):
    """Why an order is worked the way it is."""

    STOP = "stop"
    PRICE_NAMED = "price_named"
    AT_ONCE = "at_once"
    BRISK = "brisk"
    BRISK_AND_LARGE = "brisk_and_large"
    PATIENT = "patient"
    PATIENT_WITHOUT_BOOK = "patient_without_book"
    PATIENT_WITHOUT_TIME = "patient_without_time"


class Style(NamedTuple):
    """The style chosen and why. `rest_until_ms` 0 = its orders never rest."""

    style: OrderStyle
    reason: StyleReason
    rest_until_ms: int = 0


def urgency_of(state: RiskState, *, protective: bool) -> Urgency:
    """How soon: whatever protects goes at once, and so does everything in DANGER and CRITICAL.

    What does not protect is patient in NORMAL and brisk in CAUTION.
    """
    if protective or state in (RiskState.DANGER, RiskState.CRITICAL):
        return Urgency.AT_ONCE
    return Urgency.BRISK if state is RiskState.CAUTION else Urgency.PATIENT


def choose(intent: PlaceOrder, context: Context) -> Style:
    """How an intent is worked from now on."""
    if intent.price is not None:
        return Style(OrderStyle.AS_DECIDED, StyleReason.PRICE_NAMED)
    if intent.urgency in (None, Urgency.AT_ONCE):
        return Style(OrderStyle.MARKET, StyleReason.AT_ONCE)
    if intent.urgency is Urgency.BRISK:
        return _brisk(intent, context, StyleReason.BRISK)
    if context.policy is None or touch(intent.side, context.tick) is None:
        return _brisk(intent, context, StyleReason.PATIENT_WITHOUT_BOOK)
    until_ms = min(
        context.now_ms + context.policy.rest_ms, intent.expires_ts_ms - REST_MARGIN_MS
    )
    if until_ms <= context.now_ms:
        return _brisk(intent, context, StyleReason.PATIENT_WITHOUT_TIME)
    return Style(OrderStyle.POST_ONLY, StyleReason.PATIENT, until_ms)


def _brisk(intent: PlaceOrder, context: Context, reason: StyleReason) -> Style:
    instrument, policy = context.instrument, context.policy
    if instrument is None or policy is None:
        return Style(OrderStyle.IOC_LIMIT, reason)
    if notional(intent.qty, intent.mark_price, instrument) > policy.slice_notional:
        return Style(OrderStyle.SLICED, StyleReason.BRISK_AND_LARGE)
    return Style(OrderStyle.IOC_LIMIT, reason)


# ---------------------------------------------------------------- prices


def touch(side: Side, tick: MarketTick | None) -> Decimal | None:
    """The best price on the order's own side, where it would rest; None = not known."""
    if tick is None:
        return None
    return tick.bid_price if side is Side.BUY else tick.ask_price


def resting_price(
    intent: PlaceOrder, tick: MarketTick | None, instrument: Instrument, bound: Decimal
) -> Decimal | None:
    """Where a patient order rests: the best price of its side, never beyond the bound.

    Rounded to the tick away from the spread, so that it does not cross. None = no book.
    """
    best = touch(intent.side, tick)
    if best is None:
        return None
    is_buy = intent.side is Side.BUY
    best = min(best, bound) if is_buy else max(best, bound)
    away = decimal.ROUND_FLOOR if is_buy else decimal.ROUND_CEILING
    return (best / instrument.tick_size).to_integral_value(away) * instrument.tick_size


def inside_price_limit(
    price: Decimal, side: Side, tick: MarketTick | None, instrument: Instrument
) -> Decimal:
    """`price` brought inside what the venue takes now: mark·(1 ± X), rounded inwards.

    It only ever makes a price better for us. Without a fresh mark, or a stated X, it stays.
    """
    ratio = instrument.price_limit_ratio
    if tick is None or ratio is None:
        return price
    limit = tick.mark_price * (1 + side.sign * ratio)
    inside = decimal.ROUND_FLOOR if side is Side.BUY else decimal.ROUND_CEILING
    limit = (limit / instrument.tick_size).to_integral_value(inside) * instrument.tick_size
    return min(price, limit) if side is Side.BUY else max(price, limit)


# ---------------------------------------------------------------- sizes


def depth_piece(
    intent: PlaceOrder, policy: ExecutionPolicy, tick: MarketTick | None, instrument: Instrument
) -> Decimal:
    """The largest piece of a sliced order, whole lots > 0.

    What stands at the price it takes (the other side's best), at most `slice_notional`; at least
    an eighth of the order, for more than SLICES_MAX pieces would outlast it. Where the book is not
    known, `slice_notional`.
    """
    inverse = instrument.settlement is Settlement.INVERSE
    most = policy.slice_notional if inverse else policy.slice_notional / intent.mark_price
    shown: Decimal | None = None
    if tick is not None:
        shown = tick.ask_qty if intent.side is Side.BUY else tick.bid_qty
    least = intent.qty / SLICES_MAX
    lots = clip(most if shown is None else min(shown, most), least, intent.qty)
    piece = floor_to(lots, instrument.lot_size)
    # Rounding down must not make it nine pieces, nor none.
    if piece <= ZERO or piece * SLICES_MAX < intent.qty:
        piece += instrument.lot_size
    return max(piece, instrument.qty_min)
