"""After a start: the venue's open orders against our books, and what may be opened until then."""

from __future__ import annotations

from typing import Any

import pytest

from domain.execution_world import T0, D, Desk, Market, fill, place, row
from hedgelock.domain.effect import (
    CancelOrder,
    ListOrders,
    OpenOrders,
    OrderReport,
    Outcome,
    SendOrder,
    StreamReset,
)
from hedgelock.domain.message import Restored
from hedgelock.domain.order import OrderStatus, TimeInForce, is_alarm


def lists(desk: Desk) -> int:
    """How often the open orders were asked for."""
    return sum(isinstance(effect, ListOrders) for effect in desk.effects)


def answer(desk: Desk, *reports: OrderReport, **changes: Any) -> OpenOrders:
    """The venue's open orders now."""
    fields: dict[str, Any] = {
        "account": "main", "outcome": Outcome.DONE, "reports": reports, "ts_seen_ms": desk.now_ms,
    }
    return OpenOrders(**{**fields, **changes})


def restarted() -> Desk:
    """A desk whose process has just come back, with an order that may be anywhere."""
    desk = Desk()
    desk.feed(place(price=D("61000.0"), time_in_force=TimeInForce.GTC))
    desk.now_ms += 1_000
    desk.feed(Restored(now_ms=desk.now_ms))
    return desk


def sent_by(desk: Desk) -> SendOrder:
    """The first order sent."""
    return next(effect for effect in desk.effects if isinstance(effect, SendOrder))


def later(number: int, desk: Desk, **changes: Any) -> Any:
    """An intent of now."""
    return place(number, decided_ts_ms=desk.now_ms, expires_ts_ms=desk.now_ms + 5_000, **changes)


def test_until_the_open_orders_are_known_nothing_discretionary_is_opened() -> None:
    """RECONCILING refuses what neither protects nor reduces; the answer lifts it."""
    desk = restarted()
    desk.feed(later(2, desk, protective=False), later(3, desk),
              later(4, desk, protective=False, reduce_only=True))
    assert desk.order(2).text == "reconciling"
    assert desk.order(3).status is desk.order(4).status is OrderStatus.PENDING
    desk.feed(answer(desk))
    desk.feed(later(5, desk, protective=False))
    assert desk.order(5).status is OrderStatus.PENDING
    assert lists(desk) == 1


def test_an_open_order_that_nobody_knows_stops_opening_and_says_which() -> None:
    """Our prefix, an id in no book: frozen, one alarm with the id, protection by reducing goes on."""
    desk = restarted()
    odd = "hl" + "b" * 26
    desk.feed(answer(desk, row(sent_by(desk), OrderStatus.NEW, client_order_id=odd)))
    assert odd in desk.memory.frozen
    assert [m.client_order_id for m in desk.said if hasattr(m, "text") and is_alarm(m)] == [odd]
    desk.feed(later(2, desk), later(3, desk, reduce_only=True))
    assert desk.order(2).text == "account_frozen"
    assert desk.order(3).status is OrderStatus.PENDING


def test_an_open_order_of_ours_that_differs_stops_opening_and_says_in_what() -> None:
    """The venue holds our id with another quantity: a mismatch that nothing explains."""
    desk = restarted()
    desk.feed(answer(desk, row(sent_by(desk), OrderStatus.NEW, qty=D(2))))
    assert "differs in qty" in desk.memory.frozen


def test_our_own_open_orders_are_adopted_and_others_left_alone() -> None:
    """What we sent is as the venue says; an order of a person is not our business."""
    desk = restarted()
    mine = sent_by(desk)
    desk.feed(answer(desk, row(mine, OrderStatus.NEW), row(
        mine, OrderStatus.NEW, client_order_id="by-hand")))
    assert desk.order().status is OrderStatus.NEW
    assert not desk.memory.frozen


def test_an_order_given_up_that_is_open_after_all_is_taken_away() -> None:
    """Listed although it had ended here: it lives again only to be cancelled."""
    desk = Desk()
    (sent,) = desk.feed(place(price=D("61000.0"), time_in_force=TimeInForce.GTC))
    assert isinstance(sent, SendOrder)
    desk.feed(row(sent, OrderStatus.REJECTED))
    assert desk.order().is_terminal
    desk.feed(StreamReset(account="main", ts_seen_ms=T0 + 5))
    effects = desk.feed(answer(desk, row(sent, OrderStatus.NEW)))
    assert [type(e) for e in effects] == [CancelOrder]


@pytest.mark.parametrize(
    ("answered", "wait_ms"), [("query_failed", 2_000), ("busy", 7_000), ("silence", 40_000)],
)
def test_a_list_that_failed_is_asked_for_again(answered: str, wait_ms: int) -> None:
    """After two seconds, when the venue says, or when nobody answered for forty seconds."""
    desk = restarted()
    if answered != "silence":
        desk.feed(answer(desk, outcome=Outcome(answered), retry_at_ms=desk.now_ms + 7_000 * (
            answered == "busy")))
    desk.tick(wait_ms - 1)
    assert lists(desk) == 1
    desk.tick(1)
    assert lists(desk) == 2
    assert desk.memory.is_reconciling


def test_a_stream_that_broke_is_reconciled_without_holding_anything_up() -> None:
    """A reconnection asks for the list, too, but opening goes on meanwhile."""
    desk = Desk()
    desk.feed(StreamReset(account="main", ts_seen_ms=T0))
    assert lists(desk) == 1
    desk.feed(place(2, protective=False))
    assert desk.order(2).status is OrderStatus.PENDING
    desk.feed(answer(desk), answer(desk, row(sent_by(desk), OrderStatus.NEW,
                                             client_order_id="hl" + "c" * 26)))
    assert not desk.memory.frozen, "an answer to no question"


def test_what_others_did_is_remembered_within_bounds() -> None:
    """Each execution that is not ours is told once; the memory of them stays small."""
    market = Market()
    market.run(place())
    sent = sent_by(market)
    for number in range(100):
        market.run(fill(sent, f"adl{number}", "0.1", client_order_id="", exec_type="AdlTrade"))
    assert len(market.memory.foreign) == 32
    assert sum(type(m).__name__ == "ForeignFill" for m in market.said) == 100
