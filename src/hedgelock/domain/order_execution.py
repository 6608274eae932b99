"""The life of one order intent: events change what is known, `order_schedule` does what is due.

Theory of operation. An intent is cut into slices; a slice is tried by up to ATTEMPTS_MAX orders, one
at a time, the next only when the one before is settled (terminal, and every execution that the venue
counted is booked). Each order's id is a pure function of (log, account, intent, slice, attempt), so
sending it again can never make two. Events (`on_…`) only write down facts and set timers;
`order_schedule.advance` turns due timers into effects. Repeating an event therefore changes nothing.

    doubt (no answer, doubtful answer, duplicate, restart)  →  UNKNOWN, ask
    found, and it is ours            →  adopted: its status and executions are taken over
    found, and it is not ours        →  not touched; the account stops opening and alarms
    absent, it may still go          →  the same id and body again
    absent, it may not go any more   →  terminal with Σ executions, once the question was asked after
                                        anything under way must have arrived (`absent_from_ms`)
    known to be there, but absent    →  given up after `absent_after_ms`
    the question failed              →  stays UNKNOWN, asked again with bounded back-off
"""

from __future__ import annotations

from msgspec.structs import replace

from hedgelock.domain import order as orders
from hedgelock.domain.effect import OrderAnswer, OrderReport, Outcome
from hedgelock.domain.execution_memory import Attempt, OrderIntent
from hedgelock.domain.execution_scene import RESTORED_SETTLE_MS, Scene, is_plausible_time
from hedgelock.domain.order import (
    Fill,
    IllegalMove,
    OrderEvent,
    OrderStatus,
    OrderType,
    Side,
)
from hedgelock.domain.refusal import Refusal

_SEEN = {
    OrderStatus.PENDING: OrderEvent.SEEN_NEW,
    OrderStatus.NEW: OrderEvent.SEEN_NEW,
    OrderStatus.PARTIALLY_FILLED: OrderEvent.SEEN_PARTIAL,
    OrderStatus.FILLED: OrderEvent.SEEN_FILLED,
    OrderStatus.CANCELLED: OrderEvent.SEEN_CANCELLED,
    OrderStatus.EXPIRED: OrderEvent.SEEN_CANCELLED,
    OrderStatus.REJECTED: OrderEvent.SEEN_REJECTED,
}
"""What a venue's row says. A status the adapter could not read (UNKNOWN) says nothing."""


# ---------------------------------------------------------------- cancel


def cancel(order: OrderIntent, scene: Scene) -> OrderIntent:
    """Stop the intent: cancel what may rest at the venue, send nothing more."""
    if order.is_terminal or order.is_cancelling:
        return order
    return replace(
        order, is_cancelling=True,
        attempts=tuple(_cancelled(attempt, scene) for attempt in order.attempts),
    )


def _cancelled(attempt: Attempt, scene: Scene) -> Attempt:
    if attempt.status.is_terminal:
        return attempt
    if attempt.send_at_ms is not None:
        return replace(attempt, send_at_ms=scene.now_ms)  # comes due, and is refused there
    return replace(attempt, cancel_at_ms=scene.now_ms)


# ---------------------------------------------------------------- events: what became known


def moved(attempt: Attempt, event: OrderEvent) -> Attempt:
    """The attempt after `event`; as it was where the table forbids the move."""
    status = orders.next_status(attempt.status, event)
    if isinstance(status, IllegalMove) or status is attempt.status:
        return attempt
    return replace(attempt, status=status)


def _ask(attempt: Attempt, at_ms: int) -> Attempt:
    """Ask by `at_ms`, unless a question is open already."""
    if attempt.asked_ts_ms or (attempt.ask_at_ms is not None and attempt.ask_at_ms <= at_ms):
        return attempt
    return replace(attempt, ask_at_ms=at_ms)


def on_answer(attempt: Attempt, answer: OrderAnswer, scene: Scene, deadline_ms: int) -> Attempt:
    """What the answer to a send, a cancel or a fruitless question tells.

    `deadline_ms` is when the intent expires.
    """
    if answer.is_cancel:
        return _on_cancel_answer(attempt, answer, scene)
    if answer.is_query:
        return _on_fruitless(attempt, answer, scene, deadline_ms)
    match answer.outcome:
        case Outcome.ACCEPTED | Outcome.DONE:
            return _on_accepted(attempt, answer)
        case Outcome.REFUSED:
            return _on_refused(attempt, answer, scene)
        case Outcome.DUPLICATE:
            return _on_duplicate(attempt, scene)
        case Outcome.DOUBTFUL:
            return _on_doubtful(attempt, answer, scene)
        case Outcome.BUSY:
            return _on_busy(attempt, answer, scene, deadline_ms)
        case _:
            return attempt  # ABSENT and QUERY_FAILED answer questions only


def _on_fruitless(
    attempt: Attempt, answer: OrderAnswer, scene: Scene, deadline_ms: int
) -> Attempt:
    """A question that brought no row."""
    if not attempt.asked_ts_ms or answer.ts_seen_ms < attempt.asked_ts_ms:
        return attempt  # answers a question that is no longer open
    if answer.outcome is Outcome.ABSENT:
        return _on_absent(attempt, scene, deadline_ms)
    at_ms = max(scene.ask_again_ms(attempt.asks), answer.retry_at_ms)
    return replace(
        attempt, asked_ts_ms=0, ask_at_ms=None if attempt.is_settled else at_ms
    )


def _on_cancel_answer(attempt: Attempt, answer: OrderAnswer, scene: Scene) -> Attempt:
    if attempt.is_settled or answer.outcome in (Outcome.ACCEPTED, Outcome.DONE):
        return attempt  # an ack: the row follows, or its absence is asked about by the timer
    if answer.outcome is Outcome.BUSY:
        return _ask(attempt, max(answer.retry_at_ms, scene.now_ms))
    return _ask(attempt, scene.now_ms)


def _on_accepted(attempt: Attempt, answer: OrderAnswer) -> Attempt:
    after = moved(attempt, OrderEvent.ACKNOWLEDGED)
    if after is attempt and attempt.was_seen:
        return attempt
    return replace(
        after, was_seen=True, send_at_ms=None,
        venue_order_id=answer.venue_order_id or attempt.venue_order_id,
    )


def _on_refused(attempt: Attempt, answer: OrderAnswer, scene: Scene) -> Attempt:
    if attempt.status not in (OrderStatus.PENDING, OrderStatus.UNKNOWN) or attempt.was_refused:
        return attempt
    text = f"{answer.code} {answer.text}".strip()
    if not attempt.was_doubted:
        return replace(
            moved(attempt, OrderEvent.REFUSED), text=text, send_at_ms=None, ask_at_ms=None
        )
    # An earlier send may have arrived, and this one be refused because of it (its margin is used
    # up, say): only the venue's own books can tell.
    doubted = moved(attempt, OrderEvent.DOUBTED)
    return _ask(
        replace(doubted, was_refused=True, text=text, send_at_ms=None,
                absent_from_ms=max(attempt.absent_from_ms, answer.ts_seen_ms + scene.settle_ms)),
        scene.now_ms,
    )


def _on_duplicate(attempt: Attempt, scene: Scene) -> Attempt:
    after = moved(attempt, OrderEvent.DUPLICATE)
    if after.status is not OrderStatus.UNKNOWN or after.lost_since_ms:
        return after
    return _ask(
        replace(after, was_doubted=True, lost_since_ms=scene.now_ms, send_at_ms=None), scene.now_ms
    )


def _on_doubtful(attempt: Attempt, answer: OrderAnswer, scene: Scene) -> Attempt:
    if attempt.status not in (OrderStatus.PENDING, OrderStatus.UNKNOWN) or (
        answer.ts_seen_ms < attempt.sent_ts_ms
    ):
        return attempt
    return _ask(
        replace(
            moved(attempt, OrderEvent.DOUBTED), was_doubted=True, send_at_ms=None,
            absent_from_ms=max(attempt.absent_from_ms, answer.ts_seen_ms + scene.settle_ms),
        ),
        scene.now_ms,
    )


def _on_busy(attempt: Attempt, answer: OrderAnswer, scene: Scene, deadline_ms: int) -> Attempt:
    is_stale = answer.ts_seen_ms < attempt.sent_ts_ms or attempt.send_at_ms is not None
    if attempt.status is not OrderStatus.PENDING or is_stale or not attempt.sent_ts_ms:
        return attempt  # in doubt already: the question under way decides
    return replace(
        moved(attempt, OrderEvent.POSTPONED), ask_at_ms=None,
        send_at_ms=scene.retry_ms(answer.retry_at_ms, deadline_ms),
    )


def _on_absent(attempt: Attempt, scene: Scene, deadline_ms: int) -> Attempt:
    """A question that worked found nothing (see the theory of operation above)."""
    asked_ms = attempt.asked_ts_ms
    open_again = replace(attempt, asked_ts_ms=0, ask_at_ms=scene.ask_again_ms(attempt.asks))
    if attempt.status.is_terminal:
        return replace(open_again, ask_at_ms=None) if attempt.is_settled else open_again
    if attempt.was_seen or attempt.lost_since_ms:
        since = attempt.lost_since_ms or scene.now_ms
        if scene.now_ms - since >= scene.timing.absent_after_ms:
            return given_up(open_again, "known to the venue, but nowhere to be found")
        return replace(open_again, lost_since_ms=since)
    final_from = attempt.absent_from_ms
    if scene.now_ms >= deadline_ms:
        # Nothing of ours leaves after the deadline; give what left before it time to arrive.
        final_from = max(final_from, deadline_ms + scene.settle_ms)
    elif not attempt.was_refused:
        # `advance` sends it again or, where that is forbidden by now, goes on asking.
        again_ms = min(scene.again_ms(attempt.sends), deadline_ms)
        return replace(open_again, send_at_ms=again_ms, ask_at_ms=None)
    if asked_ms < final_from:
        return replace(open_again, ask_at_ms=max(final_from, scene.now_ms + 1))
    if attempt.was_refused:
        return replace(moved(open_again, OrderEvent.REFUSED), ask_at_ms=None)
    return given_up(open_again, attempt.text or Refusal.EXPIRED.value)


def given_up(attempt: Attempt, text: str) -> Attempt:
    """Over without the venue's word: what is booked is all there will be."""
    return replace(
        moved(attempt, OrderEvent.GIVEN_UP), text=text, filled_qty=attempt.booked_qty,
        ask_at_ms=None, send_at_ms=None, cancel_at_ms=None,
    )


def mismatch(order: OrderIntent, attempt: Attempt, report: OrderReport) -> str:
    """Why the venue's order of our id cannot be ours; "" = it is ours.

    The venue may shrink a reduce-only order to the size of the position, so its quantity may be
    smaller than what we sent.
    """
    intent = order.intent
    expected = OrderType.LIMIT if intent.trigger_price is None else OrderType.MARKET
    shrunk = intent.reduce_only and report.qty < attempt.qty
    differs = {
        "instrument": report.instrument != intent.instrument,
        "side": report.side is not intent.side,
        "qty": report.qty != attempt.qty and not shrunk,
        "type": report.order_type is not expected,
        "reduce_only": report.reduce_only != intent.reduce_only,
        "time": not is_plausible_time(
            report.created_ts_ms, intent.decided_ts_ms, intent.expires_ts_ms
        ),
    }
    return ", ".join(name for name, is_different in differs.items() if is_different)


def is_price_worse(attempt: Attempt, report: OrderReport) -> bool:
    """The venue holds the order at a worse price than we sent: it may trade outside our bound.

    It clips prices to its limits, which can only make them better for us; so this never should be.
    """
    if report.price is None or report.order_type is not OrderType.LIMIT:
        return False
    is_buy = report.side is Side.BUY
    return report.price > attempt.price if is_buy else report.price < attempt.price


def on_report(attempt: Attempt, report: OrderReport, scene: Scene) -> Attempt:
    """The venue's row of an order that is ours; older news never replaces newer."""
    event = _SEEN.get(report.status)
    after = moved(attempt, event) if event else attempt
    filled = max(after.filled_qty, report.filled_qty)
    is_limit = report.price is not None and report.order_type is OrderType.LIMIT
    price = report.price if is_limit and report.price is not None else attempt.price
    is_news = (
        after is not attempt or filled != attempt.filled_qty or not attempt.was_seen
        or price != attempt.price
        or attempt.lost_since_ms or attempt.send_at_ms is not None
        or (report.venue_order_id and report.venue_order_id != attempt.venue_order_id)
    )
    if not is_news:
        return attempt
    return _timed(
        replace(
            after, filled_qty=filled, was_seen=True, lost_since_ms=0, send_at_ms=None, asks=0,
            price=price, venue_order_id=report.venue_order_id or attempt.venue_order_id,
            text=report.text or attempt.text,
        ),
        scene,
    )


def on_foreign(attempt: Attempt, text: str) -> Attempt:
    """The venue has an order of our id that is not ours: leave it alone and try nothing more."""
    return replace(
        attempt, status=OrderStatus.REJECTED, is_foreign=True, text=text, send_at_ms=None,
        ask_at_ms=None, asked_ts_ms=0, cancel_at_ms=None, filled_qty=attempt.booked_qty,
    )


def on_fill(attempt: Attempt, fill: Fill, scene: Scene) -> Attempt:
    """One execution (not known before) under an id of ours.

    Under an order that is not ours it is booked like any fact, and nothing else follows.
    """
    booked = attempt.booked_qty + fill.qty
    if attempt.is_foreign:
        return replace(attempt, fills=(*attempt.fills, fill), filled_qty=booked)
    event = OrderEvent.FILL_COMPLETE if booked >= attempt.qty else OrderEvent.FILL_PARTIAL
    return _timed(
        replace(
            moved(attempt, event), fills=(*attempt.fills, fill), was_seen=True, lost_since_ms=0,
            filled_qty=max(attempt.filled_qty, booked), send_at_ms=None, asks=0,
        ),
        scene,
    )


def _timed(attempt: Attempt, scene: Scene) -> Attempt:
    """Timers after news: none once settled, otherwise ask when nothing more is heard."""
    if attempt.is_settled:
        return replace(attempt, ask_at_ms=None, asked_ts_ms=0, cancel_at_ms=None)
    return replace(attempt, ask_at_ms=scene.ask_again_ms(attempt.asks))


def on_answered(attempt: Attempt, order: OrderIntent, scene: Scene) -> Attempt:
    """A question brought a row (taken in before): close it, and go on with a cancel if wanted."""
    if not attempt.asked_ts_ms:
        return attempt
    # A settled order has no open question (`_timed`), so this one has something left to find out.
    wants_cancel = (order.is_cancelling or attempt.is_stale) and not attempt.status.is_terminal
    if not wants_cancel and not attempt.status.is_terminal:
        # It is there and open: looked at again and again at the same pace, news or none.
        at_ms = scene.look_again_ms(is_stop=order.intent.trigger_price is not None)
        return replace(attempt, asked_ts_ms=0, asks=0, ask_at_ms=at_ms)
    later_ms = scene.ask_again_ms(attempt.asks)
    cancel_at_ms = scene.now_ms if attempt.asks <= 1 else later_ms
    return replace(
        attempt, asked_ts_ms=0, ask_at_ms=later_ms,
        cancel_at_ms=cancel_at_ms if wants_cancel else None,
    )


def on_restored(order: OrderIntent, scene: Scene) -> OrderIntent:
    """After a restart: everything that may have left is UNKNOWN and asked about, nothing is sent."""
    return replace(order, attempts=tuple(_restored(a, scene) for a in order.attempts))


def _restored(attempt: Attempt, scene: Scene) -> Attempt:
    if attempt.is_settled:
        return attempt
    if not attempt.sent_ts_ms:  # recorded for later, never handed over: it cannot be there
        at_ms = max(attempt.send_at_ms or 0, scene.now_ms + 1)
        return replace(attempt, send_at_ms=at_ms)
    return replace(
        moved(attempt, OrderEvent.DOUBTED), was_doubted=True, asked_ts_ms=0, asks=0,
        ask_at_ms=scene.now_ms, send_at_ms=None, cancel_at_ms=None,
        absent_from_ms=max(attempt.absent_from_ms, scene.now_ms + RESTORED_SETTLE_MS),
    )


def on_stream_reset(order: OrderIntent, scene: Scene) -> OrderIntent:
    """Pushes may have been missed: ask about every order that is not settled."""
    return replace(order, attempts=tuple(_reset(a, scene) for a in order.attempts))


def _reset(attempt: Attempt, scene: Scene) -> Attempt:
    if attempt.is_settled or not attempt.sent_ts_ms:
        return attempt
    # A question that is open now may have been answered before the gap: its answer, taken for that
    # of the new one, must not be the last word.
    final_from = scene.now_ms + 1 if attempt.asked_ts_ms else 0
    return replace(
        attempt, asked_ts_ms=0, asks=0, ask_at_ms=scene.now_ms,
        absent_from_ms=max(attempt.absent_from_ms, final_from),
    )
