"""Which order of an intent comes first and which next: its size, its price, whether it rests.

The next order exists only when the one before is settled: terminal, and every execution that the venue
counted is booked. So nothing is ever in the book twice.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec.structs import replace

from hedgelock.domain import order as orders
from hedgelock.domain import precheck
from hedgelock.domain.execution_memory import Attempt, OrderIntent
from hedgelock.domain.execution_scene import (
    ATTEMPT_PAUSE_MS,
    ATTEMPTS_MAX,
    RESTING_ATTEMPTS_MAX,
    SLICE_PAUSE_MS,
    Scene,
)
from hedgelock.domain.money import ZERO
from hedgelock.domain.order import OrderStatus, OrderStyle, PlaceOrder, Side, TimeInForce
from hedgelock.domain.order_style import (
    StyleReason,
    choose,
    depth_piece,
    inside_price_limit,
    resting_price,
)
from hedgelock.domain.refusal import Context, Refusal

_GENTLE = frozenset({OrderStyle.IOC_LIMIT, OrderStyle.SLICED, OrderStyle.POST_ONLY})
"""Styles whose first try stays inside `slippage_brisk`."""


def refused(intent: PlaceOrder, refusal: Refusal, scene: Scene) -> OrderIntent:
    """An intent that is over before it began."""
    return OrderIntent(intent=intent, refusal=refusal.value, ended_ts_ms=max(scene.now_ms, 1))


def start(intent: PlaceOrder, scene: Scene, context: Context) -> OrderIntent:
    """A new intent: refused at once, or with its first order ready to go."""
    refusal = precheck.refusal_of(intent, context)
    if refusal is not None:
        return refused(intent, refusal, scene)
    assert context.instrument is not None, "the checks refuse an unknown instrument"
    assert context.policy is not None, "the checks refuse without a policy"
    if intent.trigger_price is not None:
        return _stop(intent, intent.trigger_price, scene)
    style = choose(intent, context)
    is_sliced = style.style is OrderStyle.SLICED
    most = depth_piece(
        intent, context.policy, context.tick, context.instrument
    ) if is_sliced else None
    pieces = precheck.slices(
        intent, context.instrument, post_only=style.style is OrderStyle.POST_ONLY, most=most
    ) or precheck.slices(intent, context.instrument)
    assert pieces is not None, "the checks refuse what cannot be cut"
    order = OrderIntent(
        intent=intent, style=style.style, style_reason=style.reason.value,
        rest_until_ms=style.rest_until_ms, pieces=pieces,
    )
    return _with_attempt(order, context, scene, slice_no=0, qty=pieces[0], pause_ms=0)


def _stop(intent: PlaceOrder, trigger_price: Decimal, scene: Scene) -> OrderIntent:
    """A stop: one order for all of it, for the venue splits what reduces by itself."""
    attempt = Attempt(
        slice_no=0, attempt_no=0, qty=intent.qty, price=trigger_price, send_at_ms=scene.now_ms,
        client_order_id=orders.client_order_id(
            log_id=scene.log_id, account=intent.account, decision=intent.intent_id, slice_no=0,
            attempt=0,
        ),
    )
    return OrderIntent(
        intent=intent, style=OrderStyle.AS_DECIDED, style_reason=StyleReason.STOP.value,
        pieces=(intent.qty,), attempts=(attempt,),
    )


def _with_attempt(
    order: OrderIntent, context: Context, scene: Scene, *, slice_no: int, qty: Decimal,
    pause_ms: int,
) -> OrderIntent:
    """`order` with one more order to send, `pause_ms` from now."""
    before = [a for a in order.attempts if a.slice_no == slice_no]
    resting = _may_rest(order, before, context)
    attempt = Attempt(
        slice_no=slice_no,
        attempt_no=len(before),
        client_order_id=orders.client_order_id(
            log_id=scene.log_id, account=order.intent.account, decision=order.intent.intent_id,
            slice_no=slice_no, attempt=len(before),
        ),
        qty=qty,
        price=_taking_price(order, before, context) if resting is None else resting,
        is_maker=resting is not None,
        send_at_ms=scene.now_ms + pause_ms,
    )
    return replace(order, attempts=(*order.attempts, attempt))


# ---------------------------------------------------------------- prices


def _may_rest(
    order: OrderIntent, before: list[Attempt], context: Context
) -> Decimal | None:
    """Where the next order of a slice rests; None = it takes."""
    rested = [a for a in before if a.is_maker]
    is_over = len(rested) < len(before) or len(rested) >= RESTING_ATTEMPTS_MAX
    if is_over or context.now_ms >= order.rest_until_ms:
        return None
    return _resting_price(order, context)


def _resting_price(order: OrderIntent, context: Context) -> Decimal | None:
    instrument, policy = context.instrument, context.policy
    if instrument is None or policy is None:
        return None
    bound = precheck.limit_price(order.intent, instrument, policy)
    return resting_price(order.intent, context.tick, instrument, bound)


def resting_price_now(order: OrderIntent, scene: Scene) -> Decimal | None:
    """Where a patient order should rest now; None = no fresh book, or no terms."""
    return _resting_price(order, scene.context(order.intent, with_book=True))


def _taking_price(order: OrderIntent, before: list[Attempt], context: Context) -> Decimal:
    """The limit of an order that takes: the bound, or nearer to the mark on a first gentle try."""
    intent, instrument, policy = order.intent, context.instrument, context.policy
    assert instrument is not None, "nothing is tried without terms"
    assert policy is not None, "nothing is tried without a policy"
    bound = precheck.limit_price(intent, instrument, policy)
    if intent.price is not None:
        return bound
    is_first = all(a.is_maker for a in before)
    if is_first and order.style in _GENTLE:
        # Around the mark of now, if it is known: the one of the decision may be ten seconds old.
        mark = intent.mark_price if context.tick is None else context.tick.mark_price
        near = replace(intent, mark_price=mark, slippage_max=policy.slippage_brisk)
        price = precheck.limit_price(near, instrument, policy)
        bound = min(price, bound) if intent.side is Side.BUY else max(price, bound)
    return inside_price_limit(bound, intent.side, context.tick, instrument)


# ---------------------------------------------------------------- the next one


def rest_of_slice(order: OrderIntent, upto: Attempt) -> Decimal:
    """What of the slice of `upto` its other orders have not filled."""
    others = (
        max(a.filled_qty, a.booked_qty)
        for a in order.attempts
        if a.slice_no == upto.slice_no and a.attempt_no != upto.attempt_no
    )
    return order.pieces[upto.slice_no] - sum(others, ZERO)


def proceed(order: OrderIntent, scene: Scene) -> OrderIntent:
    """The next order or the end, once every order so far is settled; else `order` as it is."""
    if not all(a.is_settled for a in order.attempts):
        return order
    last = order.attempts[-1]
    rest = rest_of_slice(order, last) - last.booked_qty
    if rest <= 0 and not order.is_cancelling and last.slice_no + 1 < len(order.pieces):
        context = scene.context(order.intent, with_book=True)
        if context.instrument is not None and context.policy is not None:
            is_sliced = order.style is OrderStyle.SLICED
            return _with_attempt(
                order, context, scene, slice_no=last.slice_no + 1,
                qty=order.pieces[last.slice_no + 1], pause_ms=SLICE_PAUSE_MS if is_sliced else 0,
            )
    elif rest > 0 and _may_try_again(order, last, scene):
        context = scene.context(order.intent, with_book=True)
        if _is_enough(order, rest, context):
            # An order that we took away leaves the book as it was; one that found nothing inside
            # its bound waits for the book to fill again.
            pause_ms = 0 if last.is_stale else ATTEMPT_PAUSE_MS
            return _with_attempt(
                order, context, scene, slice_no=last.slice_no, qty=rest, pause_ms=pause_ms
            )
    return replace(order, ended_ts_ms=max(scene.now_ms, 1))


def _is_enough(order: OrderIntent, rest: Decimal, context: Context) -> bool:
    """The venue takes an order of what is left: its least quantity and, opening, its least value."""
    instrument, intent = context.instrument, order.intent
    if instrument is None or context.policy is None or rest < instrument.qty_min:
        return False
    least = None if intent.reduce_only else instrument.notional_min
    return least is None or precheck.notional(rest, intent.mark_price, instrument) >= least


def _may_try_again(order: OrderIntent, last: Attempt, scene: Scene) -> bool:
    intent = order.intent
    takers = sum(1 for a in order.attempts if a.slice_no == last.slice_no and not a.is_maker)
    if order.is_cancelling or last.is_foreign or takers >= ATTEMPTS_MAX:
        return False
    # Only an immediate order whose rest the venue cancelled: a refusal would repeat itself, a
    # resting order was taken away by somebody, a shrunk reduce-only order has nothing left to reduce.
    is_stop = intent.trigger_price is not None
    is_immediate = intent.price is None or intent.time_in_force is TimeInForce.IOC
    if is_stop or not is_immediate or last.status is not OrderStatus.CANCELLED:
        return False
    if scene.now_ms + ATTEMPT_PAUSE_MS >= intent.expires_ts_ms:
        return False
    context = scene.context(intent)
    return precheck.refusal_of(intent, context, precheck.ATTEMPT_CHECKS) is None
