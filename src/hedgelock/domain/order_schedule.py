"""What is due for an order intent now: sends, questions, cancels, the next order, the end.

Events (`order_execution`) write down facts and set timers; `advance` turns due timers into effects.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from hedgelock.domain import precheck
from hedgelock.domain.effect import CancelOrder, Effect, QueryOrder, SendOrder
from hedgelock.domain.execution_memory import Attempt, OrderIntent
from hedgelock.domain.execution_scene import QUESTION_LOST_MS, Scene
from hedgelock.domain.money import ZERO
from hedgelock.domain.order import (
    ALARM,
    Fill,
    OrderConfirmation,
    OrderEvent,
    OrderStatus,
    OrderType,
    Side,
    TimeInForce,
)
from hedgelock.domain.order_attempts import proceed, rest_of_slice, resting_price_now
from hedgelock.domain.order_execution import cancel, given_up, moved
from hedgelock.domain.refusal import Refusal

UNEXPLAINED = "unexplained:"
"""Intent id of a confirmation that belongs to no intent: an order of ours that we do not know."""


class Advanced(NamedTuple):
    """The intent after what was due was done. `sends`: orders that left."""

    order: OrderIntent
    effects: tuple[Effect, ...]
    sends: int


def deadline_of(order: OrderIntent) -> int | None:
    """When this intent next needs a step; None = never by time alone, as of what is over."""
    if _is_over(order):
        return None  # a patient order that was filled has had its next price fixed already
    due = [
        at
        for a in order.attempts
        for at in (a.send_at_ms, a.ask_at_ms, a.cancel_at_ms, a.reprice_at_ms)
        if at is not None
    ]
    return min(due, default=None)


def advance(order: OrderIntent, scene: Scene) -> Advanced:
    """Do everything that is due at `scene.now_ms`. Doing it twice does nothing the second time."""
    if _is_over(order):
        return Advanced(order, (), 0)
    if order.is_terminal:
        # Taken for over, and the venue has it after all: it must not trade on unasked.
        order = cancel(replace(order, ended_ts_ms=0, is_cancelling=False), scene)
    effects: list[Effect] = []
    sends = 0
    while True:
        for index in range(len(order.attempts)):
            order, done = _due(order, index, scene)
            effects += done
            sends += sum(isinstance(effect, SendOrder) for effect in done)
        after = proceed(order, scene)
        if after is order or after.is_terminal:
            return Advanced(after, tuple(effects), sends)
        order = after


def _is_over(order: OrderIntent) -> bool:
    return order.is_terminal and all(a.is_settled for a in order.attempts)


def _due(order: OrderIntent, index: int, scene: Scene) -> tuple[OrderIntent, list[Effect]]:
    attempt = order.attempts[index]
    effects: list[Effect] = []
    if attempt.send_at_ms is not None and attempt.send_at_ms <= scene.now_ms:
        attempt = _send(order, attempt, scene, effects)
    if attempt.reprice_at_ms is not None and attempt.reprice_at_ms <= scene.now_ms:
        attempt = _reprice(order, attempt, scene)
    if attempt.cancel_at_ms is not None and attempt.cancel_at_ms <= scene.now_ms:
        attempt = replace(attempt, cancel_at_ms=None, ask_at_ms=scene.ask_again_ms(attempt.asks))
        effects.append(
            CancelOrder(
                account=order.intent.account, client_order_id=attempt.client_order_id,
                instrument=order.intent.instrument,
            )
        )
    if attempt.ask_at_ms is not None and attempt.ask_at_ms <= scene.now_ms:
        attempt = _question(order, attempt, scene, effects)
    if attempt is order.attempts[index]:
        return order, effects
    kept = order.attempts
    return replace(order, attempts=(*kept[:index], attempt, *kept[index + 1:])), effects


def _send(
    order: OrderIntent, attempt: Attempt, scene: Scene, effects: list[Effect]
) -> Attempt:
    intent = order.intent
    refusal = Refusal.CANCELLED if order.is_cancelling else precheck.refusal_of(
        intent, scene.context(intent),
        precheck.SEND_CHECKS if attempt.sent_ts_ms else precheck.ATTEMPT_CHECKS,
    )
    qty = attempt.qty if attempt.sent_ts_ms else min(attempt.qty, rest_of_slice(order, attempt))
    if refusal is None and qty <= 0:
        refusal = Refusal.CANCELLED  # a late fill of the order before it took all of it
    if refusal is not None:
        if not attempt.was_doubted:
            return given_up(attempt, refusal.value)
        # It may be there and may not go again: only questions are left. `on_answer` ends it once
        # they were asked late enough after the deadline.
        return replace(
            attempt, send_at_ms=None, text=refusal.value,
            ask_at_ms=scene.ask_again_ms(attempt.asks),
        )
    is_stop = intent.trigger_price is not None
    effects.append(
        SendOrder(
            account=intent.account, intent_id=intent.intent_id,
            client_order_id=attempt.client_order_id, instrument=intent.instrument,
            side=intent.side, order_type=OrderType.MARKET if is_stop else OrderType.LIMIT, qty=qty,
            price=None if is_stop else attempt.price, trigger_price=intent.trigger_price,
            time_in_force=_time_in_force(order, attempt),
            reduce_only=intent.reduce_only, expires_ts_ms=intent.expires_ts_ms,
            protective=intent.protective,
        )
    )
    return replace(
        moved(attempt, OrderEvent.RESENT), qty=qty, send_at_ms=None, sent_ts_ms=scene.now_ms,
        sends=attempt.sends + 1,
        asked_ts_ms=0, ask_at_ms=scene.now_ms + scene.timing.query_after_ms,
        absent_from_ms=scene.now_ms + scene.settle_ms,
        reprice_at_ms=_look_at_ms(order, scene) if attempt.is_maker else None,
    )


def _time_in_force(order: OrderIntent, attempt: Attempt) -> TimeInForce:
    if attempt.is_maker:
        return TimeInForce.POST_ONLY
    return TimeInForce.IOC if order.intent.price is None else order.intent.time_in_force


def _look_at_ms(order: OrderIntent, scene: Scene) -> int:
    """When to look whether a resting order still rests well; its time is over at the latest."""
    return max(scene.now_ms + 1, min(scene.now_ms + scene.timing.reprice_ms, order.rest_until_ms))


def _reprice(order: OrderIntent, attempt: Attempt, scene: Scene) -> Attempt:
    """Leave a resting order while it rests at the best price and may; else take it away.

    What is left of it then rests elsewhere or is taken (`order_attempts.proceed`).
    """
    if attempt.status.is_terminal or order.is_cancelling:
        return replace(attempt, reprice_at_ms=None)
    refusal = precheck.refusal_of(
        order.intent, scene.context(order.intent), precheck.REST_CHECKS
    )
    is_well = attempt.price == resting_price_now(order, scene)
    if refusal is None and is_well and scene.now_ms < order.rest_until_ms:
        return replace(attempt, reprice_at_ms=_look_at_ms(order, scene))
    return replace(
        attempt, reprice_at_ms=None, is_stale=True, cancel_at_ms=scene.now_ms,
        text=attempt.text if refusal is None else refusal.value,
    )


def _question(
    order: OrderIntent, attempt: Attempt, scene: Scene, effects: list[Effect]
) -> Attempt:
    if attempt.asked_ts_ms and scene.now_ms < attempt.asked_ts_ms + QUESTION_LOST_MS:
        return replace(attempt, ask_at_ms=attempt.asked_ts_ms + QUESTION_LOST_MS)
    if attempt.asked_ts_ms:  # the old question may yet be answered: that answer decides nothing
        attempt = replace(attempt, absent_from_ms=max(attempt.absent_from_ms, scene.now_ms + 1))
    if attempt.status is OrderStatus.PENDING:  # unheard of for too long
        attempt = replace(moved(attempt, OrderEvent.DOUBTED), was_doubted=True)
    effects.append(
        QueryOrder(
            account=order.intent.account, client_order_id=attempt.client_order_id,
            instrument=order.intent.instrument,
            since_ts_ms=order.intent.decided_ts_ms - precheck.CLOCK_TOLERANCE_MS,
        )
    )
    return replace(
        attempt, asked_ts_ms=scene.now_ms, asks=attempt.asks + 1,
        ask_at_ms=scene.now_ms + QUESTION_LOST_MS,
    )


# ---------------------------------------------------------------- what others are told


class View(NamedTuple):
    """What a confirmation shows; a new one is due when this changes."""

    client_order_id: str
    venue_order_id: str
    fills: int
    status: OrderStatus
    is_terminal: bool
    is_unknown: bool
    text: str


def view(order: OrderIntent) -> View:
    """The intent as others see it. One order speaks for it: the latest."""
    last = order.attempts[-1] if order.attempts else None
    return View(
        client_order_id=last.client_order_id if last else "",
        venue_order_id=last.venue_order_id if last else "",
        fills=sum(len(a.fills) for a in order.attempts),
        status=_status(order),
        is_terminal=order.is_terminal,
        is_unknown=any(a.status is OrderStatus.UNKNOWN for a in order.attempts),
        text=order.alarm or order.refusal or (last.text if last else ""),
    )


def _status(order: OrderIntent) -> OrderStatus:
    if not order.attempts:
        is_late = order.refusal == Refusal.EXPIRED.value
        return OrderStatus.EXPIRED if is_late else OrderStatus.REJECTED
    status = order.attempts[-1].status
    booked = order.booked_qty
    if order.is_terminal:
        if booked >= order.intent.qty:
            return OrderStatus.FILLED
        # The last order was filled and yet something is left: cut short, or shrunk by the venue.
        return OrderStatus.CANCELLED if status is OrderStatus.FILLED else status
    if booked and status in (OrderStatus.PENDING, OrderStatus.NEW):
        return OrderStatus.PARTIALLY_FILLED
    return status


def confirmation(order: OrderIntent, now_ms: int) -> OrderConfirmation:
    """The intent's confirmation at its current revision."""
    seen = view(order)
    return OrderConfirmation(
        account=order.intent.account, intent_id=order.intent.intent_id,
        client_order_id=seen.client_order_id, venue_order_id=seen.venue_order_id,
        instrument=order.intent.instrument, side=order.intent.side, qty=order.intent.qty,
        filled_qty=order.booked_qty,
        fills=tuple(fill for a in order.attempts for fill in a.fills),
        status=seen.status, is_terminal=seen.is_terminal, is_unknown=seen.is_unknown,
        reduce_only=order.intent.reduce_only, text=seen.text, revision=order.revision,
        ts_confirmed_ms=now_ms, is_stop=order.intent.trigger_price is not None,
        style=order.style if order.attempts else None, style_reason=order.style_reason,
    )


def unexplained(
    account: str, client_order_id: str, venue_order_id: str, *, instrument: str, side: Side,
    fill: Fill | None, now_ms: int,
) -> OrderConfirmation:
    """The alarm about an order with our prefix that is in no book of ours."""
    qty = fill.qty if fill else ZERO
    return OrderConfirmation(
        account=account, intent_id=UNEXPLAINED + client_order_id,
        client_order_id=client_order_id, venue_order_id=venue_order_id, instrument=instrument,
        side=side, qty=qty, filled_qty=qty, fills=(fill,) if fill else (),
        status=OrderStatus.UNKNOWN, is_terminal=True, is_unknown=False, reduce_only=False,
        text=f"{ALARM}an order with our prefix, but unknown: does another HedgeLock use this key, or was"
        " this log restored from a copy? the account opens nothing",
        revision=1, ts_confirmed_ms=now_ms,
    )
