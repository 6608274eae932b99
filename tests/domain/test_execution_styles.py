"""Order styles in closed loop with a venue: resting and following, slicing, taking what is left."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.execution_world import (
    LOG,
    T0,
    D,
    Desk,
    FakeVenue,
    Market,
    facts,
    fill,
    funding,
    instrument,
    place,
    row,
    safety,
    tick,
)
from hedgelock.domain.effect import CancelOrder, SendOrder
from hedgelock.domain.execution_memory import OrderIntent
from hedgelock.domain.message import Restored
from hedgelock.domain.order import (
    OrderStatus,
    OrderStyle,
    PlaceOrder,
    Side,
    TimeInForce,
    Urgency,
    client_order_id,
)
from hedgelock.domain.safety import SafetyMode

PERP = "linear:BTCUSDT"


def patient(number: int = 1, **changes: Any) -> PlaceOrder:
    """A discretionary sale of 1 BTC with all the time that patience has."""
    fields: dict[str, Any] = {
        "protective": False, "urgency": Urgency.PATIENT, "expires_ts_ms": T0 + 15_000,
    }
    return place(number, **{**fields, **changes})


def book(market: Desk, bid: str, ask: str, **changes: Any) -> None:
    """The best prices now."""
    market.tables.ticks[PERP] = tick(bid, ask, ts_seen_ms=market.now_ms, **changes)


def market() -> Market:
    """A venue where nobody takes what rests, and a book of 59,999.9 / 60,000.1."""
    made = Market()
    made.venue.thin(1, *("0",) * 20)
    book(made, "59999.9", "60000.1")
    return made


def sent(made: Desk) -> list[SendOrder]:
    """Orders sent so far."""
    return [e for e in made.effects if isinstance(e, SendOrder)]


def pass_time(made: Market, seconds: int, bid: str = "59999.9", ask: str = "60000.1") -> None:
    """Seconds with a fresh book."""
    for _ in range(seconds):
        book(made, bid, ask)
        made.wait(1_000)


def test_a_patient_order_rests_and_is_left_alone_while_it_rests_well() -> None:
    """Post-only at the ask, nothing else for nine seconds, and no question finds it changed."""
    made = market()
    made.run(patient())
    (order,) = sent(made)
    assert (order.price, order.time_in_force) == (D("60000.1"), TimeInForce.POST_ONLY)
    pass_time(made, 9)
    assert len(sent(made)) == 1
    assert not [e for e in made.effects if isinstance(e, CancelOrder)]
    made.venue.trade(order.client_order_id, D(1))
    made.run()
    pass_time(made, 1)
    assert made.order().status is OrderStatus.FILLED


def test_it_follows_the_best_price_with_an_order_of_its_own_identity() -> None:
    """The ask moves: the old order is cancelled before the new one exists, ids by attempt."""
    made = market()
    made.run(patient())
    pass_time(made, 2, "59989.9", "59990.1")
    first, second = sent(made)
    assert second.price == D("59990.1")
    ids = [
        client_order_id(log_id=LOG, account="main", decision="hedger:main:1.0", slice_no=0,
                        attempt=attempt)
        for attempt in (0, 1)
    ]
    assert [first.client_order_id, second.client_order_id] == ids
    assert made.venue.orders[first.client_order_id].status is OrderStatus.CANCELLED
    assert sum(not o.status.is_terminal for o in made.venue.orders.values()) == 1


def test_what_was_filled_while_it_rested_is_not_asked_for_again() -> None:
    """0.4 trades while it rests: the next order is 0.6."""
    made = market()
    made.run(patient())
    made.venue.trade(sent(made)[0].client_order_id, D("0.4"))
    pass_time(made, 2, "59989.9", "59990.1")
    assert sent(made)[-1].qty == D("0.6")


def test_when_its_time_is_over_it_takes_what_is_there() -> None:
    """After `rest_ms`: cancelled, then immediate inside the tight bound, then inside the whole."""
    made = market()
    made.run(patient())
    pass_time(made, 13, "59979.9", "59980.1")
    taking = [o for o in sent(made) if o.time_in_force is TimeInForce.IOC]
    assert [o.price for o in taking] == [D("59940.0"), D("59700.0"), D("59700.0")]
    assert made.order().is_terminal
    assert made.now_ms < T0 + 15_000


def test_the_tight_bound_is_around_the_mark_of_now() -> None:
    """The mark moved .2 % since the decision: the first try follows it, inside the whole bound."""
    made = market()
    made.run(place(urgency=Urgency.BRISK))
    assert sent(made)[0].price == D("59940.0")
    for side, mark, expected in (
        (Side.SELL, "59880", "59820.2"), (Side.SELL, "59000", "59700.0"),
        (Side.BUY, "60120", "60180.1"), (Side.BUY, "62000", "60300.0"),
    ):
        other = market()
        book(other, "1", "99999", mark_price=D(mark))
        other.run(place(urgency=Urgency.BRISK, side=side))
        assert sent(other)[0].price == D(expected)


def test_it_does_not_follow_for_ever() -> None:
    """A book that moves every second: eight resting orders at most, then it takes."""
    made = market()

    made.run(patient(expires_ts_ms=T0 + 40_000))
    for second in range(12):
        pass_time(made, 1, "59900", str(D("60000.1") + second))
    resting = [o for o in sent(made) if o.time_in_force is TimeInForce.POST_ONLY]
    assert 2 <= len(resting) <= 8
    assert sent(made)[-1].time_in_force is TimeInForce.IOC


def desk_with_book() -> Desk:
    """A desk that sees a book, its patient order at the venue."""
    desk = Desk()
    book(desk, "59999.9", "60000.1")
    desk.feed(patient())
    desk.feed(row(sent(desk)[0], OrderStatus.NEW))
    return desk


def test_the_eighth_resting_order_is_the_last() -> None:
    """The venue cancels each as it would cross: after eight the ninth takes."""
    desk = Desk()
    book(desk, "59999.9", "60000.1")
    desk.feed(patient())
    for _ in range(8):
        assert sent(desk)[-1].time_in_force is TimeInForce.POST_ONLY
        desk.feed(row(sent(desk)[-1], OrderStatus.CANCELLED))
        desk.tick(500)
        book(desk, "59999.9", "60000.1")
    assert sent(desk)[-1].time_in_force is TimeInForce.IOC
    assert len(sent(desk)) == 9


def test_without_a_book_it_takes() -> None:
    """The book grows old while it rests: it is taken away, and what is left goes immediately."""
    desk = desk_with_book()
    desk.now_ms += 6_000
    (gone,) = desk.tick(0)[-1:]
    assert isinstance(gone, CancelOrder)
    (again,) = desk.feed(row(sent(desk)[0], OrderStatus.CANCELLED))
    assert isinstance(again, SendOrder)
    assert again.time_in_force is TimeInForce.IOC


@pytest.mark.parametrize("why", ["halted", "settlement_near"])
def test_a_resting_order_is_taken_away_when_it_may_rest_no_more(why: str) -> None:
    """HALTED, or a settlement that it would pay: cancelled, said why, and not tried again."""
    desk = desk_with_book()
    if why == "halted":
        desk.tables.safeties = safety(SafetyMode.HALTED)
    else:
        desk.tables.fundings[PERP] = funding("-0.001", funding_next_ts_ms=T0 + 61_000)
    book(desk, "59999.9", "60000.1")
    gone = desk.tick(1_000)
    assert [type(e) for e in gone] == [CancelOrder]
    desk.feed(row(sent(desk)[0], OrderStatus.CANCELLED))
    assert (desk.order().is_terminal, desk.order().text) == (True, why)
    assert len(sent(desk)) == 1


def test_old_funding_counts_as_unknown() -> None:
    """A context older than funding may be says nothing of the next settlement."""
    desk = Desk()
    desk.tables.fundings[PERP] = funding(ts_seen_ms=T0 - 300_001)
    assert desk.feed(place(protective=False)) == []
    assert desk.order().text == "funding_unknown"


def test_a_resting_order_whose_terms_are_gone_is_taken_away() -> None:
    """Without the instrument's steps no price can be said to be right."""
    desk = desk_with_book()
    desk.tables.instruments.clear()
    assert [type(e) for e in desk.tick(1_000)] == [CancelOrder]


def test_a_cancel_that_got_lost_is_repeated() -> None:
    """A restart between a cancel and its answer: the order is found open and cancelled again."""
    desk = desk_with_book()
    book(desk, "59989.9", "59990.1")
    assert [type(e) for e in desk.tick(1_000)] == [CancelOrder]
    desk.now_ms += 1_000
    desk.feed(Restored(now_ms=desk.now_ms))


    again = desk.feed(facts(row(sent(desk)[0], OrderStatus.NEW)))
    assert [type(e) for e in again] == [CancelOrder]


def test_protection_does_not_wait_behind_patience() -> None:
    """A protective purchase cancels the patient sale; a protective sale beside it does not."""
    desk = desk_with_book()
    same = desk.feed(place(2))
    assert [type(e) for e in same] == [SendOrder]
    opposite = desk.feed(place(3, side=Side.BUY))
    assert [type(e) for e in opposite] == [CancelOrder, SendOrder]
    assert not [e for e in desk.tick(1_000) if isinstance(e, CancelOrder)]


def test_slices_follow_one_another_each_with_its_identity() -> None:
    """300,000 USDT against 2 BTC shown: 1.667, 1.667, 1.666; the next when the last is settled."""
    made = Market()
    book(made, "59999.9", "60000.1", bid_qty=D(2))
    made.run(place(qty=D(5), urgency=Urgency.BRISK))
    assert [o.qty for o in sent(made)] == [D("1.667")]
    made.wait(250)
    made.wait(250)
    orders = sent(made)
    assert [o.qty for o in orders] == [D("1.667"), D("1.667"), D("1.666")]
    assert len({o.client_order_id for o in orders}) == 3
    assert made.order().status is OrderStatus.FILLED
    assert (made.order().style, made.order().style_reason) == (OrderStyle.SLICED, "brisk_and_large")


def test_a_slice_is_not_sent_when_its_terms_are_gone() -> None:
    """The instrument vanished from the tables between two slices: what is left ends, unsent."""
    desk = Desk()
    desk.feed(place(qty=D(3)))
    (first,) = sent(desk)
    desk.tables.instruments.clear()
    desk.feed(fill(first, "a", "1.5"), row(first, OrderStatus.FILLED, "1.5"))
    assert len(sent(desk)) == 1
    assert desk.order().is_terminal
    assert desk.order().filled_qty == D("1.5")


@pytest.mark.parametrize(("reduce_only", "orders"), [(False, 1), (True, 2)])
def test_what_is_left_must_be_worth_an_order(reduce_only: bool, orders: int) -> None:
    """0.00008 BTC are worth 4.80, below the venue's least of 5: ended, unless it only reduces."""
    made = Market()
    made.tables.instruments[PERP] = instrument(lot_size=D("0.00001"), qty_min=D("0.00001"))
    made.venue.thin(1, "0.99992")
    made.run(place(reduce_only=reduce_only))
    made.wait(1_000)
    assert len(sent(made)) == orders
    assert made.order().is_terminal


def test_a_patient_order_larger_than_one_may_rest_is_cut() -> None:
    """Post-only maximum 0.6: two halves, one after the other."""
    made = market()
    made.tables.instruments[PERP] = instrument(qty_post_only_max=D("0.6"))
    made.run(patient())
    made.venue.trade(sent(made)[0].client_order_id, D(1))
    made.run(*made.venue.pushes)
    pass_time(made, 1)
    assert [o.qty for o in sent(made)] == [D("0.5"), D("0.5")]


MOVES = st.lists(
    st.sampled_from(["up", "down", "second", "effect", "effect", "answer", "push", "lose", "trade",
                     "restart"]),
    min_size=20, max_size=60,
)


@given(MOVES, st.sampled_from(["1", "5"]), st.sampled_from([Urgency.PATIENT, Urgency.BRISK]))
def test_however_slow_the_venue_it_never_holds_two_orders_of_an_intent(
    moves: list[str], qty: str, urgency: Urgency
) -> None:
    """Requests, answers and pushes come late, lost or after a restart; prices move meanwhile."""
    desk, venue = Desk(), FakeVenue()
    ask, waiting, answers = D("60000.1"), deque[Any](), deque[Any]()
    book(desk, "59000", str(ask))
    waiting += desk.feed(
        patient(qty=D(qty), urgency=urgency, expires_ts_ms=T0 + 60_000)
    )
    for move in moves:
        venue.now_ms = desk.now_ms
        match move:
            case "up" | "down":
                ask += D(10) if move == "up" else D(-10)
                book(desk, "59000", str(ask))
            case "second" | "restart":
                desk.now_ms += 1_000
                if move == "restart":
                    waiting.clear()
                    answers.clear()
                    waiting += desk.feed(Restored(now_ms=desk.now_ms))
                else:
                    waiting += desk.tick(0)
            case "effect" if waiting:
                answers.append(venue.perform(waiting.popleft()))
            case "answer" if answers:
                waiting += desk.feed(answers.popleft())
            case "push" if venue.pushes:
                waiting += desk.feed(venue.pushes.popleft())
            case "lose" if venue.pushes:
                venue.pushes.pop()
            case "trade" if venue.orders:
                venue.trade(list(venue.orders)[-1], D("0.3"))
        alive = [o for o in venue.orders.values() if not o.status.is_terminal]
        assert len(alive) <= 1
        assert venue.filled_of("hedger:main:1.0") <= D(qty)
        assert not desk.memory.frozen


# ---------------------------------------------------------------- what the venue clipped


def intent_of(desk: Desk) -> OrderIntent:
    """The only intent."""
    return next(iter(desk.memory.orders.values()))


@pytest.mark.parametrize(
    ("side", "held", "accepted"),
    [("sell", "59800", True), ("sell", "59699.9", False), ("buy", "60200", True),
     ("buy", "60300.1", False), ("sell", None, True)],
)
def test_a_clipped_price_is_read_back(side: str, held: str | None, accepted: bool) -> None:
    """Clipped in our favour: the venue's price is the order's; the other way: cancelled, said why."""
    desk = Desk()
    (first,) = desk.feed(place(side=Side(side)))
    assert isinstance(first, SendOrder)
    seen = row(first, OrderStatus.NEW, price=D(held) if held else None)
    after = desk.feed(seen, seen)
    if accepted:
        assert after == []
        assert intent_of(desk).attempts[0].price == (D(held) if held else first.price)
    else:
        assert [type(e) for e in after] == [CancelOrder]
        desk.feed(row(first, OrderStatus.CANCELLED, price=D(held or 0)))
        assert desk.order().text == "price_outside_bound"
        assert desk.order().is_terminal
    assert not desk.memory.frozen


# ---------------------------------------------------------------- looking again


def test_an_open_order_is_looked_at_every_two_seconds() -> None:
    """An order that rests is asked about at a steady pace, however often nothing changed."""
    made = Market()
    made.venue.thin(1, "0")
    made.run(place(price=D("61000.0"), time_in_force=TimeInForce.GTC))
    asked = []
    for _ in range(40):
        before = len(made.effects)
        made.wait(250)
        asked += [made.now_ms] * (len(made.effects) - before)
    gaps = {b - a for a, b in itertools.pairwise(asked)}
    assert gaps == {2_000}
