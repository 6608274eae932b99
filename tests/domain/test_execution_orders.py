"""The life of order intents, told as tables: what happens → status, due effects.

Each row is one message or one wait. `status` is the confirmation's: `*` marks terminal, `?` unknown.
Effects are those that the row's step asked for: Send, Query, Cancel; `-` = none.
"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from domain.execution_world import (
    PERP,
    T0,
    D,
    Desk,
    Market,
    answer,
    cancel,
    facts,
    fill,
    instrument,
    kinds,
    place,
    policy,
    row,
    safety,
)
from hedgelock.domain.effect import OrderAnswer, Outcome, QueryOrder, SendOrder, StreamReset
from hedgelock.domain.message import Message, Restored
from hedgelock.domain.order import (
    ForeignCause,
    OrderStatus,
    OrderType,
    Side,
    TimeInForce,
    is_alarm,
)
from hedgelock.domain.safety import SafetyMode

WORDS = {"SendOrder": "Send", "QueryOrder": "Query", "CancelOrder": "Cancel"}
OUTCOMES = {outcome.value: outcome for outcome in Outcome}
STATUSES = {status.value: status for status in OrderStatus}


class Teller:
    """Plays a table against a desk."""

    def __init__(self, **intent: Any) -> None:
        self.desk = Desk()
        self.intent = intent
        self.fills = 0

    @property
    def sent(self) -> SendOrder:
        """The order sent last."""
        return [e for e in self.desk.effects if isinstance(e, SendOrder)][-1]

    def message(self, words: list[str]) -> Message:
        """The message that a row's words stand for."""
        match words:
            case ["place", *_]:
                return place(**self.intent)
            case ["cancel"]:
                return cancel()
            case ["cancel", outcome]:
                return OrderAnswer(
                    account="main", client_order_id=self.sent.client_order_id, is_cancel=True,
                    outcome=OUTCOMES[outcome], ts_seen_ms=self.desk.now_ms,
                    retry_at_ms=self.desk.now_ms + 300,
                )
            case ["row", status, *rest]:
                return row(self.sent, STATUSES[status], *rest)
            case ["facts", status, filled]:
                parts = [fill(self.sent, "q", filled)] if D(filled) else []
                return facts(row(self.sent, STATUSES[status], filled), parts)
            case ["facts", status, filled, booked]:
                parts = [fill(self.sent, "q", booked)] if D(booked) else []
                return facts(row(self.sent, STATUSES[status], filled), parts)
            case ["fill", exec_id, qty]:
                return fill(self.sent, exec_id, qty)
            case [word]:
                return self.word(word)
            case _:
                raise AssertionError(words)

    def word(self, word: str) -> Message:
        """A message that one word names; the venue's answers are named by their outcome."""
        match word:
            case "restored":
                return Restored(now_ms=self.desk.now_ms)
            case "reset":
                return StreamReset(account="main", ts_seen_ms=self.desk.now_ms)
            case "halt":
                self.desk.tables.safeties = safety(SafetyMode.HALTED, version=2)
                return self.desk.tables.safeties
            case "busy?":
                return answer(
                    self.sent, Outcome.BUSY, self.desk.now_ms, is_query=True,
                    retry_at_ms=self.desk.now_ms + 300,
                )
            case _:
                return answer(
                    self.sent, OUTCOMES[word], self.desk.now_ms,
                    retry_at_ms=self.desk.now_ms + 300, venue_order_id="v1",
                )

    def play(self, table: str) -> None:
        """Play every row and compare."""
        for number, line in enumerate(table.strip().splitlines(), 1):
            what, status, effects = (cell.strip() for cell in line.split("|"))
            if what.startswith("+"):
                found = self.desk.tick(int(what[1:]))
            else:
                found = self.desk.feed(self.message(what.split()))
            told = self.desk.order()
            got = told.status.value + "*" * told.is_terminal + "?" * told.is_unknown
            due = " ".join(WORDS[word] for word in kinds(found).split()) or "-"
            assert (got, due) == (status, effects), f"row {number}: {line.strip()}"


RESTING: dict[str, Any] = {"price": D("60000.0"), "time_in_force": TimeInForce.GTC}

STORIES: dict[str, tuple[dict[str, Any], str]] = {
    "acknowledged, filled in two parts": ({}, """
        place                       | pending             | Send
        accepted                    | new                 | -
        fill a 0.4                  | partially_filled    | -
        fill b 0.6                  | filled*             | -
        row filled 1                | filled*             | -
    """),
    "the push overtakes the ack": ({}, """
        place                       | pending             | Send
        fill a 1                    | filled*             | -
        accepted                    | filled*             | -
        row new                     | filled*             | -
    """),
    "terminal only when every execution is in our hands": ({}, """
        place                       | pending             | Send
        accepted                    | new                 | -
        row filled 1                | filled              | -
        fill a 0.4                  | filled              | -
        +2000                       | filled              | Query
        facts filled 1 0.6          | filled*             | -
    """),
    "executions that never come are asked for without end": ({}, """
        place                       | pending             | Send
        row cancelled 1             | cancelled           | -
        +2000                       | cancelled           | Query
        absent                      | cancelled           | -
        +2000                       | cancelled           | Query
        query_failed                | cancelled           | -
        +4000                       | cancelled           | Query
        facts cancelled 1 0.4       | cancelled           | -
        +8000                       | cancelled           | Query
        fill b 0.6                  | filled*             | -
    """),
    "two Filled messages": ({}, """
        place                       | pending             | Send
        fill a 1                    | filled*             | -
        row filled 1                | filled*             | -
        row filled 1                | filled*             | -
    """),
    "a fill after the cancel is booked": (RESTING, """
        place                       | pending             | Send
        accepted                    | new                 | -
        cancel                      | new                 | Cancel
        row cancelled 0             | cancelled*          | -
        fill a 0.3                  | cancelled*          | -
        fill a 0.3                  | cancelled*          | -
    """),
    "the cancel loses the race": (RESTING, """
        place                       | pending             | Send
        accepted                    | new                 | -
        cancel                      | new                 | Cancel
        cancel refused              | new                 | Query
        facts filled 1              | filled*             | -
    """),
    "a cancel is repeated until the order is gone": (RESTING, """
        place                       | pending             | Send
        accepted                    | new                 | -
        cancel                      | new                 | Cancel
        cancel busy                 | new                 | -
        +300                        | new                 | Query
        facts new 0                 | new                 | Cancel
        cancel accepted             | new                 | -
        row cancelled 0             | cancelled*          | -
        cancel accepted             | cancelled*          | -
    """),
    "a cancel before the order was sent again": ({}, """
        place                       | pending             | Send
        busy                        | pending             | -
        cancel                      | expired*            | -
    """),
    "a cancel in doubt": ({}, """
        place                       | pending             | Send
        doubtful                    | unknown?            | Query
        cancel                      | unknown?            | Cancel
        cancel refused              | unknown?            | -
        absent                      | unknown?            | -
        +2000                       | unknown?            | Query
        absent                      | unknown?            | -
        +4000                       | unknown?            | Query
        absent                      | unknown?            | -
        +1000                       | unknown?            | Query
        absent                      | expired*            | -
    """),
    "refused at once": ({}, """
        place                       | pending             | Send
        refused                     | rejected*           | -
        refused                     | rejected*           | -
        doubtful                    | rejected*           | -
        busy                        | rejected*           | -
        absent                      | rejected*           | -
        query_failed                | rejected*           | -
        duplicate                   | rejected*           | -
    """),
    "busy: the same id and body again, later": ({}, """
        place                       | pending             | Send
        busy                        | pending             | -
        busy                        | pending             | -
        +299                        | pending             | -
        +1                          | pending             | Send
        accepted                    | new                 | -
        busy                        | new                 | -
    """),
    "busy until it is too late": ({}, """
        place                       | pending             | Send
        +4900                       | unknown?            | Query
        busy                        | unknown?            | -
        absent                      | pending             | Send
        busy                        | pending             | -
        +100                        | pending             | -
        +1999                       | pending             | -
        +1                          | unknown?            | Query
        absent                      | expired*            | -
    """),
    "busy and then expired, never in doubt": ({"expires_ts_ms": T0 + 200}, """
        place                       | pending             | Send
        busy                        | pending             | -
        +200                        | expired*            | -
    """),
    "in doubt, asked, absent: again": ({}, """
        place                       | pending             | Send
        doubtful                    | unknown?            | Query
        absent                      | pending             | Send
        accepted                    | new                 | -
    """),
    "doubt upon doubt: sent ever later": ({}, """
        place                       | pending             | Send
        doubtful                    | unknown?            | Query
        absent                      | pending             | Send
        doubtful                    | unknown?            | Query
        absent                      | unknown?            | -
        +249                        | unknown?            | -
        +1                          | pending             | Send
        doubtful                    | unknown?            | Query
        absent                      | unknown?            | -
        +500                        | pending             | Send
    """),
    "a cancel that never helps is tried ever later": (RESTING, """
        place                       | pending             | Send
        cancel                      | pending             | Cancel
        cancel refused              | unknown?            | Query
        facts new 0                 | new                 | Cancel
        cancel refused              | new                 | Query
        facts new 0                 | new                 | Cancel
        cancel refused              | new                 | Query
        facts new 0                 | new                 | -
        +3999                       | new                 | -
        +1                          | new                 | Cancel
        cancel refused              | new                 | Query
        facts new 0                 | new                 | -
        +7999                       | new                 | -
        +1                          | new                 | Cancel
    """),
    "in doubt, asked, found": ({}, """
        place                       | pending             | Send
        doubtful                    | unknown?            | Query
        facts filled 1              | filled*             | -
    """),
    "a duplicate is success, once found": ({}, """
        place                       | pending             | Send
        doubtful                    | unknown?            | Query
        absent                      | pending             | Send
        duplicate                   | unknown?            | Query
        duplicate                   | unknown?            | -
        facts filled 1              | filled*             | -
    """),
    "a duplicate that is nowhere to be found for a minute": ({}, """
        place                       | pending             | Send
        duplicate                   | unknown?            | Query
        absent                      | unknown?            | -
        +2000                       | unknown?            | Query
        absent                      | unknown?            | -
        +30000                      | unknown?            | Query
        absent                      | unknown?            | -
        +30000                      | unknown?            | Query
        absent                      | expired*            | -
    """),
    "refused after a doubt: only the books can tell": ({}, """
        place                       | pending             | Send
        doubtful                    | unknown?            | Query
        absent                      | pending             | Send
        refused                     | unknown?            | Query
        refused                     | unknown?            | -
        absent                      | unknown?            | -
        +2000                       | unknown?            | Query
        absent                      | rejected*           | -
    """),
    "refused after a doubt, and there all the same": ({}, """
        place                       | pending             | Send
        doubtful                    | unknown?            | Query
        absent                      | pending             | Send
        refused                     | unknown?            | Query
        facts filled 1              | filled*             | -
    """),
    "a failed question leaves it unknown": ({}, """
        place                       | pending             | Send
        doubtful                    | unknown?            | Query
        query_failed                | unknown?            | -
        query_failed                | unknown?            | -
        +2000                       | unknown?            | Query
        busy?                       | unknown?            | -
        +3999                       | unknown?            | -
        +1                          | unknown?            | Query
        facts cancelled 0.5         | cancelled*          | -
    """),
    "unheard of": ({}, """
        place                       | pending             | Send
        +1999                       | pending             | -
        +1                          | unknown?            | Query
        +2000                       | unknown?            | -
        accepted                    | new                 | -
        facts new 0                 | new                 | -
    """),
    "a late answer to the send, while the question is open": ({}, """
        place                       | pending             | Send
        +2000                       | unknown?            | Query
        doubtful                    | unknown?            | -
        absent                      | pending             | Send
    """),
    "news while a question is open": ({}, """
        place                       | pending             | Send
        doubtful                    | unknown?            | Query
        row new                     | new                 | -
        +2000                       | new                 | -
        facts new 0                 | new                 | -
        +4000                       | new                 | Query
    """),
    "cancelled in the pause before the second try": ({}, """
        place                       | pending             | Send
        row cancelled 0             | pending             | -
        cancel                      | expired*            | -
        reset                       | expired*            | -
    """),
    "a question that is never answered": ({}, """
        place                       | pending             | Send
        doubtful                    | unknown?            | Query
        +39999                      | unknown?            | -
        +1                          | unknown?            | Query
        absent                      | unknown?            | -
        +2000                       | unknown?            | Query
        absent                      | expired*            | -
    """),
    "after a restart nothing is sent, everything is asked": ({}, """
        place                       | pending             | Send
        restored                    | unknown?            | Query
        restored                    | unknown?            | -
        absent                      | pending             | Send
        accepted                    | new                 | -
        +100                        | new                 | -
        restored                    | unknown?            | Query
        facts filled 1              | filled*             | -
        +100                        | filled*             | -
        restored                    | filled*             | -
    """),
    "after a restart, too late to send again": ({}, """
        place                       | pending             | Send
        +6000                       | unknown?            | Query
        restored                    | unknown?            | Query
        absent                      | unknown?            | -
        +2000                       | unknown?            | Query
        absent                      | expired*            | -
    """),
    "after a restart, halted meanwhile": ({"protective": False}, """
        place                       | pending             | Send
        halt                        | pending             | -
        restored                    | unknown?            | Query
        absent                      | unknown?            | -
        +2000                       | unknown?            | Query
        absent                      | unknown?            | -
        +5000                       | unknown?            | Query
        absent                      | expired*            | -
    """),
    "known to the venue and then nowhere": (RESTING, """
        place                       | pending             | Send
        row partially_filled 0.4    | partially_filled    | -
        fill a 0.4                  | partially_filled    | -
        restored                    | unknown?            | Query
        absent                      | unknown?            | -
        +60000                      | unknown?            | Query
        absent                      | expired*            | -
    """),
    "the stream was interrupted": ({}, """
        place                       | pending             | Send
        accepted                    | new                 | -
        reset                       | new                 | Query
        reset                       | new                 | -
        facts cancelled 0           | pending             | -
        +100                        | pending             | -
        reset                       | pending             | -
        +400                        | pending             | Send
    """),
    "the stream was interrupted while a question was open": ({}, """
        place                       | pending             | Send
        +6900                       | unknown?            | Query
        reset                       | unknown?            | Query
        absent                      | unknown?            | -
        absent                      | unknown?            | -
        +2000                       | unknown?            | Query
        absent                      | expired*            | -
    """),
    "an immediate order's rest is tried three times": ({}, """
        place                       | pending             | Send
        facts cancelled 0.4         | partially_filled    | -
        +499                        | partially_filled    | -
        +1                          | partially_filled    | Send
        row cancelled 0             | partially_filled    | -
        +500                        | partially_filled    | Send
        row cancelled 0             | cancelled*          | -
    """),
    "no second try for what the venue refuses": ({}, """
        place                       | pending             | Send
        row rejected                | rejected*           | -
    """),
    "no second try for a resting order": (
        {**RESTING, "time_in_force": TimeInForce.POST_ONLY}, """
        place                       | pending             | Send
        row cancelled 0             | cancelled*          | -
    """),
    "no second try when too little time is left": ({"expires_ts_ms": T0 + 500}, """
        place                       | pending             | Send
        row cancelled 0             | cancelled*          | -
    """),
    "no second try once halted": ({"protective": False}, """
        place                       | pending             | Send
        halt                        | pending             | -
        row cancelled 0             | cancelled*          | -
    """),
    "halted in the pause before the second try": ({"protective": False}, """
        place                       | pending             | Send
        row cancelled 0             | pending             | -
        halt                        | pending             | -
        +500                        | expired*            | -
    """),
    "restarted in the pause before the second try": ({}, """
        place                       | pending             | Send
        row cancelled 0             | pending             | -
        +500                        | pending             | Send
        row cancelled 0             | pending             | -
        restored                    | pending             | -
        +500                        | pending             | Send
    """),
    "a reduce-only order that the venue shrank": ({"reduce_only": True}, """
        place                       | pending             | Send
        facts filled 0.7            | cancelled*          | -
    """),
    "given up, and there after all: it is cancelled": ({"expires_ts_ms": T0 + 200}, """
        place                       | pending             | Send
        busy                        | pending             | -
        +200                        | expired*            | -
        row new                     | new                 | Cancel
        row cancelled 0.3           | cancelled           | -
        fill a 0.3                  | cancelled*          | -
    """),
    "given up, and filled after all": ({"expires_ts_ms": T0 + 200}, """
        place                       | pending             | Send
        busy                        | pending             | -
        +200                        | expired*            | -
        fill a 1                    | filled*             | -
    """),
    "refused, and acknowledged after all": ({}, """
        place                       | pending             | Send
        refused                     | rejected*           | -
        accepted                    | new                 | Cancel
        cancel accepted             | new                 | -
        row cancelled 0             | cancelled*          | -
    """),
    "a repeated intent is one intent": ({}, """
        place                       | pending             | Send
        place again                 | pending             | -
        accepted                    | new                 | -
        place again                 | new                 | -
        fill a 1                    | filled*             | -
        place again                 | filled*             | -
        cancel                      | filled*             | -
    """),
    "a row that nobody can read says only what was filled": ({}, """
        place                       | pending             | Send
        row unknown 0.4             | pending             | -
        +2000                       | unknown?            | Query
        facts cancelled 1           | filled*             | -
    """),
}


@pytest.mark.parametrize("story", STORIES)
def test_story(story: str) -> None:
    """Each table tells one life; status and effects must be as told, row by row."""
    intent, table = STORIES[story]
    Teller(**intent).play(table)


def test_the_order_that_is_sent() -> None:
    """A market intent leaves as a limit IOC at its bound, with the intent's own identity."""
    desk = Desk()
    desk.feed(place())
    (sent,) = desk.effects
    assert isinstance(sent, SendOrder)
    assert (sent.order_type, sent.time_in_force) == (OrderType.LIMIT, TimeInForce.IOC)
    assert (sent.price, sent.qty, sent.side) == (D("59700.0"), D(1), Side.SELL)
    assert (sent.protective, sent.reduce_only) == (True, False)
    assert sent.expires_ts_ms == T0 + 5_000
    assert sent.client_order_id == desk.order().client_order_id


def test_sending_again_sends_the_same() -> None:
    """After a doubt the second send is equal to the first, field by field."""
    teller = Teller()
    teller.play("""
        place                       | pending             | Send
        doubtful                    | unknown?            | Query
        absent                      | pending             | Send
    """)
    first, query, second = teller.desk.effects
    assert first == second
    assert isinstance(query, QueryOrder)
    assert query.since_ts_ms < T0


def test_a_limit_intent_keeps_its_price_and_time_in_force() -> None:
    """Only market intents are made immediate."""
    desk = Desk()
    desk.feed(place(price=D("61000.0"), time_in_force=TimeInForce.POST_ONLY))
    (sent,) = desk.effects
    assert isinstance(sent, SendOrder)
    assert (sent.price, sent.time_in_force) == (D("61000.0"), TimeInForce.POST_ONLY)


def test_slices_follow_one_another() -> None:
    """More than the venue takes at once leaves piece by piece, each with its own id."""
    market = Market()
    market.run(place(qty=D(5)))
    sends = [e for e in market.effects if isinstance(e, SendOrder)]
    assert [e.qty for e in sends] == [D("1.667"), D("1.667"), D("1.666")]
    assert len({e.client_order_id for e in sends}) == 3
    assert market.order().status is OrderStatus.FILLED
    assert market.order().filled_qty == 5


def test_a_slice_that_fails_ends_the_intent() -> None:
    """What is left of a slice after its last try is not made up for by the next slice."""
    market = Market()
    market.venue.thin(1, "1", "0", "0")
    market.run(place(qty=D(4)))
    market.wait(3_000)
    told = market.order()
    assert (told.status, told.filled_qty, told.is_terminal) == (OrderStatus.CANCELLED, 1, True)


def test_a_cancel_between_slices_ends_the_intent() -> None:
    """A cancelled intent sends no further slice, even when the slice under way is filled."""
    teller = Teller(qty=D(4))
    teller.play("""
        place                       | pending             | Send
        cancel                      | pending             | Cancel
        facts filled 2              | cancelled*          | -
    """)


def test_a_late_fill_shrinks_the_next_try() -> None:
    """What the order before still filled in the pause is not bought again."""
    teller = Teller()
    teller.play("""
        place                       | pending             | Send
        facts cancelled 0.4         | partially_filled    | -
    """)
    first = teller.sent
    teller.desk.feed(fill(first, "late", "0.5"))
    assert kinds(teller.desk.tick(500)) == "SendOrder"
    assert teller.sent.qty == D("0.1")


def test_a_late_fill_of_everything_ends_the_intent() -> None:
    """When nothing is left the next try is not made."""
    teller = Teller()
    teller.play("""
        place                       | pending             | Send
        facts cancelled 0.4         | partially_filled    | -
    """)
    teller.desk.feed(fill(teller.sent, "late", "0.6"))
    assert kinds(teller.desk.tick(500)) == ""
    told = teller.desk.order()
    assert (told.status, told.filled_qty, told.is_terminal) == (OrderStatus.FILLED, 1, True)


def test_terms_that_vanish_end_the_tries() -> None:
    """Without contract terms nobody knows whether the rest is enough to order."""
    teller = Teller()
    teller.play("place | pending | Send")
    teller.desk.tables.instruments.clear()
    teller.play("row cancelled 0 | cancelled* | -")


@pytest.mark.parametrize(
    ("around", "reason", "status"),
    [
        ({"expires_ts_ms": T0}, "expired", OrderStatus.EXPIRED),
        ({"qty": D("0.0001")}, "qty_off_lot", OrderStatus.REJECTED),
        ({"instrument": "linear:DOGEUSDT"}, "instrument_unknown", OrderStatus.REJECTED),
    ],
)
def test_a_refused_intent_is_told_at_once(
    around: dict[str, Any], reason: str, status: OrderStatus
) -> None:
    """A refusal is terminal, says why, has no order and no effect, and is told once."""
    desk = Desk()
    assert desk.feed(place(**around)) == []
    told = desk.order()
    assert (told.status, told.text, told.is_terminal) == (status, reason, True)
    assert told.client_order_id == ""
    desk.feed(place(**around))
    assert len(desk.said) == 1


def test_an_unfinished_intent_of_an_old_policy_goes_on() -> None:
    """Without a policy nothing new starts, but what is under way is followed up."""
    teller = Teller()
    teller.play("place | pending | Send")
    teller.desk.tables.policies = None
    teller.play("+2000 | unknown? | Query")
    assert teller.desk.feed(place(2)) == []
    assert teller.desk.order(2).text == "policy_absent"


def test_the_rate_limit_counts_orders_that_left() -> None:
    """More than so many sends a minute are refused, whatever the intents; reducing is exempt."""
    desk = Desk()
    desk.tables.policies = policy(orders_per_minute_max=2)
    desk.feed(place(1), place(2), place(3), place(4, reduce_only=True))
    assert desk.order(3).text == "too_many_orders"
    assert kinds(desk.effects) == "SendOrder SendOrder SendOrder"
    desk.now_ms += 60_000
    late = {"decided_ts_ms": desk.now_ms, "expires_ts_ms": desk.now_ms + 5_000}
    assert isinstance(desk.feed(place(5, **late))[-1], SendOrder)


def test_the_next_slice_waits_for_no_rate_limit() -> None:
    """A slice over the limit is given up, not sent late."""
    market = Market()
    market.tables.policies = policy(orders_per_minute_max=1)
    market.run(place(qty=D(4)))
    told = market.order()
    assert (told.status, told.filled_qty, told.text) == (
        OrderStatus.EXPIRED, 2, "too_many_orders"
    )


# ---------------------------------------------------------------- adoption and alarms

DIFFERENT: list[tuple[str, dict[str, Any]]] = [
    ("instrument", {"instrument": "linear:ETHUSDT"}),
    ("side", {"side": Side.BUY}),
    ("qty", {"qty": D("0.9")}),
    ("qty", {"qty": D("1.1")}),
    ("type", {"order_type": OrderType.MARKET}),
    ("reduce_only", {"reduce_only": True}),
    ("time", {"created_ts_ms": T0 - 5_001}),
    ("time", {"created_ts_ms": T0 + 10_001}),
    ("time", {"created_ts_ms": 0}),
]


@pytest.mark.parametrize(("name", "changes"), DIFFERENT)
def test_an_order_that_is_not_ours_is_not_adopted(name: str, changes: dict[str, Any]) -> None:
    """Our id with another body: the intent ends, the account opens nothing and says so."""
    teller = Teller()
    teller.play("""
        place                       | pending             | Send
        doubtful                    | unknown?            | Query
    """)
    desk = teller.desk
    assert desk.feed(facts(row(teller.sent, OrderStatus.NEW, **changes))) == []
    told = desk.order()
    assert is_alarm(told)
    assert name in told.text
    assert (told.status, told.is_terminal) == (OrderStatus.REJECTED, True)
    assert desk.memory.frozen
    assert desk.feed(place(2)) == []
    assert desk.order(2).text == "account_frozen"
    assert kinds(desk.feed(place(3, reduce_only=True))) == "SendOrder"
    said = len(desk.said)
    desk.feed(row(desk_first(desk), OrderStatus.CANCELLED))
    assert len(desk.said) == said
    assert desk.feed(fill(desk_first(desk), "f", "0.1")) == []
    told = desk.order()
    assert (told.status, told.is_terminal, told.filled_qty) == (
        OrderStatus.REJECTED, True, D("0.1")
    )


def desk_first(desk: Desk) -> SendOrder:
    """The first order of a desk."""
    return next(e for e in desk.effects if isinstance(e, SendOrder))


def test_a_reduce_only_order_may_be_smaller_but_not_larger() -> None:
    """The venue shrinks reduce-only orders to the position; it never grows them."""
    teller = Teller(reduce_only=True)
    teller.play("place | pending | Send")
    teller.desk.feed(row(teller.sent, OrderStatus.NEW, qty=D("0.6")))
    assert not teller.desk.memory.frozen
    teller.desk.feed(row(teller.sent, OrderStatus.NEW, qty=D("1.6")))
    assert teller.desk.memory.frozen


@pytest.mark.parametrize("changes", [{"side": Side.BUY}, {"instrument": "linear:ETHUSDT"}])
def test_an_execution_that_is_not_ours_alarms(changes: dict[str, Any]) -> None:
    """Our id on somebody else's trade is not booked."""
    teller = Teller()
    teller.play("place | pending | Send")
    teller.desk.feed(fill(teller.sent, "a", "1", **changes))
    assert is_alarm(teller.desk.order())
    assert teller.desk.order().fills == ()
    assert teller.desk.memory.frozen


def test_more_than_asked_for_is_booked_and_alarms() -> None:
    """The venue's facts stand, even impossible ones; and a person is told."""
    teller = Teller()
    teller.play("place | pending | Send")
    teller.desk.feed(fill(teller.sent, "a", "1"), fill(teller.sent, "b", "0.5"))
    told = teller.desk.order()
    assert is_alarm(told)
    assert (told.filled_qty, told.is_terminal) == (D("1.5"), True)


@pytest.mark.parametrize("exec_type", ["Funding", "Settle", "Delivery"])
def test_what_is_no_trade_is_no_fill(exec_type: str) -> None:
    """Funding and settlement rows move money, not our orders."""
    teller = Teller()
    teller.play("place | pending | Send")
    teller.desk.feed(fill(teller.sent, "a", "1", exec_type=exec_type))
    assert teller.desk.order().fills == ()


@pytest.mark.parametrize("client_order_id", ["", "manual-7", "xx-hl"])
@pytest.mark.parametrize(
    ("exec_type", "cause"), [("AdlTrade", ForeignCause.ADL), ("Trade", ForeignCause.NOT_OURS),
                             ("BustTrade", ForeignCause.LIQUIDATION)],
)
def test_what_others_did_is_told_once_and_booked_as_not_ours(
    client_order_id: str, exec_type: str, cause: ForeignCause
) -> None:
    """Liquidation, ADL and a human's fills are told with their cause, once; no intent changes."""
    teller = Teller()
    teller.play("place | pending | Send")
    before = teller.desk.memory
    theirs = fill(teller.sent, "a", "1", client_order_id=client_order_id, exec_type=exec_type)
    said = len(teller.desk.said)
    teller.desk.feed(
        theirs, theirs, row(teller.sent, OrderStatus.NEW, client_order_id=client_order_id)
    )
    assert [m.cause for m in teller.desk.said[said:]] == [cause]
    assert teller.desk.memory == replace(before, foreign=("a",))


def test_funding_is_no_fill() -> None:
    """An execution row that moves money and no position is nobody's fill."""
    teller = Teller()
    teller.play("place | pending | Send")
    before = teller.desk.memory
    teller.desk.feed(fill(teller.sent, "a", "1", client_order_id="", exec_type="Funding"))
    assert teller.desk.memory == before


def test_an_unknown_order_of_our_prefix_freezes_once() -> None:
    """An id like ours that no book of ours holds: opening stops, one alarm per order."""
    desk = Desk()
    desk.feed(place())
    sent = desk_first(desk)
    odd = "hl" + "a" * 26
    desk.feed(row(sent, OrderStatus.CANCELLED, client_order_id=odd))
    assert not desk.memory.frozen, "it is over and did nothing"
    desk.feed(fill(sent, "z", "0.2", client_order_id=odd))
    alarm = desk.said[-1]
    assert is_alarm(alarm)  # type: ignore[arg-type]
    assert odd in desk.memory.frozen
    count = len(desk.said)
    desk.feed(fill(sent, "zz", "0.2", client_order_id=odd))
    desk.feed(row(sent, OrderStatus.NEW, client_order_id=odd))
    assert len(desk.said) == count
    desk.feed(row(sent, OrderStatus.NEW, client_order_id="hl" + "b" * 26))
    assert len(desk.said) == count + 1
    assert odd in desk.memory.frozen, "the first reason stays"


def test_answers_to_unknown_orders_are_ignored() -> None:
    """An answer whose order was forgotten changes nothing."""
    desk = Desk()
    desk.feed(place())
    sent = desk_first(desk)
    before = desk.memory
    desk.feed(
        OrderAnswer(
            account="main", client_order_id="hlx", outcome=Outcome.REFUSED, ts_seen_ms=T0
        )
    )
    harmless = row(sent, OrderStatus.CANCELLED, client_order_id="other")
    desk.feed(facts(harmless))
    assert desk.memory == before


def test_a_cancel_reaches_only_its_instrument_and_its_past() -> None:
    """`instrument` narrows a cancel; what was decided after it is left alone, even redelivered."""
    desk = Desk()
    other = "linear:ETHUSDT"
    desk.tables.instruments[other] = instrument(instrument=other)
    desk.feed(place(1, **RESTING), place(2, instrument=other, **RESTING))
    wish = cancel(instrument=PERP)
    found = desk.feed(wish)
    assert [e.instrument for e in found] == [PERP]  # type: ignore[union-attr]
    desk.feed(place(3, **RESTING, decided_ts_ms=T0 + 1))
    assert desk.feed(wish) == []
    assert desk.feed(cancel(98)) != []
    assert not desk.memory.orders["hedger:main:3.0"].is_cancelling


def test_busy_without_a_time_is_tried_soon() -> None:
    """When the venue does not say when, a quarter of a second is waited."""
    teller = Teller()
    teller.play("place | pending | Send")
    teller.desk.feed(answer(teller.sent, Outcome.BUSY, T0))
    assert teller.desk.until_ms == T0 + 250


def test_an_old_busy_says_nothing_about_the_new_send() -> None:
    """An answer seen before the last send belongs to the send before."""
    teller = Teller()
    teller.play("""
        place                       | pending             | Send
        busy                        | pending             | -
        +300                        | pending             | Send
    """)
    before = teller.desk.memory
    assert teller.desk.feed(answer(teller.sent, Outcome.BUSY, T0)) == []
    assert teller.desk.feed(answer(teller.sent, Outcome.DOUBTFUL, T0)) == []
    assert teller.desk.feed(answer(teller.sent, Outcome.ABSENT, T0, is_query=False)) == []
    assert teller.desk.memory == before


def test_an_old_answer_says_nothing_about_the_open_question() -> None:
    """Absence that was seen before the question was asked answers an earlier one."""
    teller = Teller()
    teller.play("""
        place                       | pending             | Send
        +2000                       | unknown?            | Query
    """)
    before = teller.desk.memory
    for outcome in (Outcome.ABSENT, Outcome.QUERY_FAILED):
        assert teller.desk.feed(answer(teller.sent, outcome, T0 + 1_999)) == []
    assert teller.desk.memory == before
