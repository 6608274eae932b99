"""What the executor remembers, forgets and never forgets; freezing and thawing; the whole step."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from domain.execution_world import (
    LOG,
    PERP,
    T0,
    D,
    Desk,
    FakeTables,
    Market,
    cancel,
    fill,
    instrument,
    kinds,
    place,
    policy,
    row,
    safety,
    through_json,
    treasury,
)
from hedgelock.domain import execution, execution_memory
from hedgelock.domain.account import Position, PositionChanged
from hedgelock.domain.effect import SendOrder, StreamReset
from hedgelock.domain.execution_memory import ExecutionMemory
from hedgelock.domain.message import Message, Restored, Tick
from hedgelock.domain.order import OrderConfirmation, OrderStatus, is_alarm
from hedgelock.domain.registry import Quarantined
from hedgelock.domain.safety import SafetyMode, SafetyReason
from hedgelock.domain.step import Now
from hedgelock.domain.treasury import TreasuryKind

FREEZE = Quarantined(
    topic="hedge_trades", partition=0, offset=7, key="main", service="trade-executor",
    reason="bad", moves_money=True, value="{}", ts_seen_ms=T0,
)


def filled(market: Market, number: int, **changes: Any) -> None:
    """One intent from decision to fill, decided now."""
    market.run(place(
        number, decided_ts_ms=market.now_ms, expires_ts_ms=market.now_ms + 5_000, **changes
    ))


def kept_of(desk: Desk) -> list[str]:
    """Intents whose whole story the memory holds, filed or not."""
    return [*desk.memory.orders, *(entry.intent_id for entry in desk.memory.ended)]


def test_terminal_intents_are_dropped_but_not_forgotten() -> None:
    """The state stays small, and an intent that was dropped is never executed again."""
    market = Market()
    market.tables.policies = policy(orders_per_minute_max=10_000)
    first = place(0, decided_ts_ms=T0, expires_ts_ms=T0 + 10_000_000)
    market.run(first)
    for number in range(1, 60):
        filled(market, number)
        market.now_ms += 10_000
    assert len(kept_of(market)) <= execution_memory.ENDED_MAX
    assert first.intent_id not in kept_of(market)
    said = len(market.said)
    market.run(first)
    assert len(market.said) == said
    assert len(market.venue.orders) == 60


def test_a_burst_is_kept_within_a_hard_bound() -> None:
    """However fast intents end, no more than so many are kept whole."""
    market = Market()
    market.tables.policies = policy(orders_per_minute_max=10_000)
    for number in range(100):
        filled(market, number)
    assert len(kept_of(market)) == execution_memory.ENDED_MAX
    market.now_ms += execution_memory.ENDED_KEPT_MAX_MS
    market.run(Tick(now_ms=market.now_ms))
    assert kept_of(market) == []


def test_treasury_actions_are_dropped_alike() -> None:
    """Terminal treasury actions go the same way and are not repeated either."""
    market = Market()
    action = treasury(TreasuryKind.TRANSFER_TO_FUND, expires_ts_ms=T0 + 10_000_000)
    market.run(action)
    market.now_ms += execution_memory.ENDED_KEPT_MAX_MS
    market.run(Tick(now_ms=market.now_ms))
    assert market.memory.actions == {}
    market.run(action)
    assert len(market.venue.transfers) == 1


def test_what_even_the_ids_forgot_is_too_old() -> None:
    """Beyond the remembered ids, time decides: an intent from before is refused, loudly."""
    market = Market()
    market.tables.policies = policy(orders_per_minute_max=10_000)
    for number in range(execution_memory.RETIRED_MAX + 70):
        filled(market, number)
        market.now_ms += 1
    market.now_ms += execution_memory.ENDED_KEPT_MAX_MS
    market.run(Tick(now_ms=market.now_ms))
    assert len(market.memory.retired) == execution_memory.RETIRED_MAX
    orders = len(market.venue.orders)
    market.run(place(0, expires_ts_ms=market.now_ms + 5_000))
    assert market.order(0).text == "too_old"
    market.run(treasury(expires_ts_ms=market.now_ms + 5_000))
    assert market.action().text == "too_old"
    assert len(market.venue.orders) == orders


def test_a_decision_from_the_future_is_refused_and_shuts_nothing_out() -> None:
    """A clock that was wrong once must not make every later intent too old."""
    market = Market()
    market.tables.policies = policy(orders_per_minute_max=10_000)
    year = 365 * 86_400_000
    future = {"decided_ts_ms": T0 + year, "expires_ts_ms": T0 + 2 * year}
    market.run(place(0, **future), treasury(**future))
    assert market.order(0).text == market.action().text == "from_the_future"
    for number in range(1, execution_memory.RETIRED_MAX + 70):
        filled(market, number)
        market.now_ms += 1
    market.now_ms += execution_memory.ENDED_KEPT_MAX_MS
    market.run(Tick(now_ms=market.now_ms))
    filled(market, 9_999)
    assert market.order(9_999).status is OrderStatus.FILLED


def test_a_late_push_of_a_dropped_order_does_not_alarm() -> None:
    """Orders of dropped intents are still known as ours."""
    market = Market()
    market.run(place())
    sent = next(e for e in market.effects if isinstance(e, SendOrder))
    market.now_ms += execution_memory.ENDED_KEPT_MAX_MS
    market.run(Tick(now_ms=market.now_ms))
    market.run(fill(sent, "x1", "0.5"), row(sent, OrderStatus.FILLED, "1"))
    assert not market.memory.frozen


def test_too_many_at_once_are_refused() -> None:
    """The number of intents under way is bounded, for orders and for treasury actions."""
    desk = Desk()
    desk.tables.policies = policy(orders_per_minute_max=10_000)
    most = execution_memory.OPEN_MAX
    desk.feed(*(place(number) for number in range(most + 1)))
    assert desk.order(most).text == "too_many_open"
    desk.feed(*(
        treasury(TreasuryKind.TRANSFER_TO_FUND, 100 + number) for number in range(most + 1)
    ))
    assert desk.action(100 + most).text == "too_many_open"


# ---------------------------------------------------------------- what is over, filed


def shown(seq: int) -> PositionChanged:
    """The venue's word of a position that holds every fill up to `seq`."""
    position = Position(
        instrument=PERP, position_qty=D("-0.4"), entry_price=D(60_000), upl=D(0),
        liquidation_price=None, leverage=None, status="Normal", adl_rank=0, seq=seq,
    )
    return PositionChanged(account="main", position=position, ts_event_ms=T0, ts_seen_ms=T0 + 40)


def ended_sale() -> tuple[Desk, SendOrder]:
    """A sale of 1 BTC of which .4 was filled before it was cancelled."""
    desk = Desk()
    desk.feed(shown(6))
    (sent,) = [e for e in desk.feed(place()) if isinstance(e, SendOrder)]
    desk.feed(fill(sent, "x1", "0.4", seq=7), row(sent, OrderStatus.CANCELLED, "0.4"))
    desk.now_ms += 6_000
    desk.feed(Tick(now_ms=desk.now_ms))
    return desk, sent


def filed_sale() -> tuple[Desk, SendOrder]:
    """The same, seen in the position."""
    desk, sent = ended_sale()
    desk.feed(shown(7))
    return desk, sent


def test_an_intent_that_is_over_and_seen_is_filed() -> None:
    """It costs no step any more, and its id stays known: delivered again, it is not executed."""
    desk, _ = filed_sale()
    assert desk.memory.orders == {}
    assert [entry.intent_id for entry in desk.memory.ended] == [place().intent_id]
    assert desk.feed(place()) == []
    assert desk.memory.orders == {}


def test_a_fill_that_the_position_does_not_show_keeps_its_intent() -> None:
    """Until then it counts for how short the account is."""
    desk, _ = ended_sale()
    desk.tick(1)
    assert (list(desk.memory.orders), desk.memory.ended) == ([place().intent_id], ())


def test_a_late_fill_of_a_filed_intent_is_booked_and_told() -> None:
    """The whole intent comes back: its next confirmation holds every fill."""
    desk, sent = filed_sale()
    before = desk.order()
    desk.feed(fill(sent, "x2", "0.1", seq=8))
    after = desk.order()
    assert (after.revision, after.filled_qty) == (before.revision + 1, D("0.5"))
    assert [f.exec_id for f in after.fills] == ["x1", "x2"]
    assert (list(desk.memory.orders), desk.memory.ended) == ([place().intent_id], ())


@pytest.mark.parametrize("news", ["fill", "row"])
def test_old_news_of_a_filed_intent_changes_nothing(news: str) -> None:
    """A repeated execution or row leaves it filed where it was, and tells nobody."""
    desk, sent = filed_sale()
    before, said = desk.memory, len(desk.said)
    desk.feed(fill(sent, "x1", "0.4", seq=7) if news == "fill" else row(sent, OrderStatus.CANCELLED, "0.4"))
    assert through_json(desk.memory) == before
    assert len(desk.said) == said


def test_a_late_fill_finds_its_intent_among_all_that_are_filed() -> None:
    """Another one's fill is not taken for the first's."""
    desk, _ = filed_sale()
    second = place(2, decided_ts_ms=desk.now_ms, expires_ts_ms=desk.now_ms + 5_000)
    (sent,) = [e for e in desk.feed(second) if isinstance(e, SendOrder)]
    desk.feed(fill(sent, "y1", "0.4", seq=8), row(sent, OrderStatus.CANCELLED, "0.4"))
    desk.now_ms += 6_000
    desk.feed(Tick(now_ms=desk.now_ms), shown(8))
    assert [entry.intent_id for entry in desk.memory.ended] == [
        place().intent_id, second.intent_id
    ]
    desk.feed(fill(sent, "y2", "0.1", seq=9))
    assert list(desk.memory.orders) == [second.intent_id]
    assert desk.order(2).filled_qty == D("0.5")


def test_a_filed_intent_of_which_the_venue_counts_more_is_asked_about() -> None:
    """A row tells of an execution that never came: the intent is back until it is in our hands."""
    desk, sent = filed_sale()
    effects = desk.feed(row(sent, OrderStatus.CANCELLED, "0.5"))
    assert (list(desk.memory.orders), desk.memory.ended) == ([place().intent_id], ())
    effects += desk.tick(10_000)
    assert "QueryOrder" in kinds(effects)


def test_a_stream_that_was_cut_asks_nothing_about_what_is_over() -> None:
    """An intent that is settled and only waits to be seen in the position gets no question."""
    desk, _ = ended_sale()
    desk.tick(1)
    before = desk.memory.orders
    effects = desk.feed(StreamReset(account="main", ts_seen_ms=desk.now_ms))
    assert desk.memory.orders == before
    assert "QueryOrder" not in kinds(effects)


# ---------------------------------------------------------------- freezing

RESUMED: list[tuple[str, dict[str, Any], bool]] = [
    ("resumed after the freeze", {}, True),
    ("the word it knew already", {"version": 1}, False),
    ("a breaker holds since", {"mode": SafetyMode.REDUCING, "reason": SafetyReason.BREAKER}, True),
    ("resumed before, said again since", {"version": 3, "resumed_version": 1}, False),
    ("said before the freeze", {"resumed_ts_ms": T0 - 1}, False),
    ("not by a person", {"resumed_version": None, "resumed_ts_ms": None}, False),
    ("the house's word", {"account": "*"}, False),
    ("halted", {"mode": SafetyMode.HALTED, "reason": SafetyReason.OPERATOR_HALT}, False),
]


@pytest.mark.parametrize(("name", "changes", "lifts"), RESUMED)
def test_only_a_person_after_the_freeze_lifts_it(
    name: str, changes: dict[str, Any], lifts: bool
) -> None:
    """A resume that a person gave knowing nothing of the freeze does not lift it."""
    desk = Desk()
    desk.feed(FREEZE)
    assert "hedge_trades" in desk.memory.frozen
    version = changes.get("version", 2)
    fields: dict[str, Any] = {
        "version": version, "reason": SafetyReason.OPERATOR_RESUME, "since_ts_ms": T0 + 1,
        "resumed_version": version, "resumed_ts_ms": T0 + 1, **changes
    }
    desk.tables.safeties = safety(**fields)
    desk.feed(desk.tables.safeties)
    assert (desk.memory.frozen == "") is lifts, name
    desk.tables.safeties = safety(SafetyMode.ACTIVE, version=3)
    assert (kinds(desk.feed(place())) == "SendOrder") is lifts


def test_a_freeze_without_a_word_of_safety() -> None:
    """An account that safety never spoke of freezes like any other."""
    desk = Desk()
    desk.tables.safeties = None
    desk.feed(FREEZE)
    assert desk.memory.frozen_version == 0
    desk.feed(place())
    assert desk.order().text == "account_frozen"


def test_an_unreadable_message_that_moves_no_money_freezes_nothing() -> None:
    """Only what may have been an order or a transfer stops the account."""
    desk = Desk()
    desk.feed(msgspec.structs.replace(FREEZE, moves_money=False))
    assert not desk.memory.frozen


def test_a_resume_of_an_account_that_is_not_frozen_changes_nothing() -> None:
    """Safety's ordinary words leave the memory as it is."""
    desk = Desk()
    desk.feed(safety(reason=SafetyReason.OPERATOR_RESUME, version=5))
    assert desk.memory == Desk().memory


def test_an_alarm_is_told_from_an_ordinary_confirmation() -> None:
    """Safety and alerts ask one function, and nobody parses texts."""
    market = Market()
    market.run(place())
    assert not is_alarm(market.order())


# ---------------------------------------------------------------- the step as a whole

def test_messages_that_only_wake() -> None:
    """Policies, terms and ticks change nothing by themselves; the memory is the very same object."""
    memory = ExecutionMemory()
    tables = FakeTables()
    now = Now(T0, "trade-executor:main:1", LOG)
    for message in (Tick(now_ms=T0), policy(), instrument()):
        step = execution.step(memory, tables, message, now)
        assert step.state is memory
        assert (step.outputs, step.effects, step.hold.until_ms) == ((), (), None)


def test_confirmations_go_to_their_topic_under_their_account() -> None:
    """The key is the account, whatever the message was."""
    step = execution.step(
        ExecutionMemory(), FakeTables(), place(), Now(T0, "trade-executor:main:1", LOG)
    )
    (output,) = step.outputs
    assert (output.topic, output.key) == ("trade_confirmations", "main")
    assert step.hold.until_ms == T0 + 2_000
    assert step.hold.boxes == {}


def test_revisions_count_every_change_and_no_repetition() -> None:
    """Each confirmation of an intent has the next revision; hearing a thing twice tells nothing."""
    market = Market()
    market.venue.thin(1, "0.4")
    market.run(place(), treasury())
    market.wait(3_000)
    for intent_id in ("hedger:main:1.0", "hedger:main:50.0"):
        revisions = [m.revision for m in market.said if m.intent_id == intent_id]  # type: ignore[attr-defined]
        assert revisions == list(range(1, len(revisions) + 1))
    fills = [len(m.fills) for m in market.said if isinstance(m, OrderConfirmation)]
    assert fills == sorted(fills), "fills are cumulative"


@pytest.mark.parametrize("message", [
    place(), cancel(), treasury(), Restored(now_ms=T0), Tick(now_ms=T0), FREEZE, safety(),
])
def test_the_same_message_at_once_changes_nothing(message: Message) -> None:
    """Delivered twice in a row, any message has the effects and outputs of one delivery."""
    market = Market()
    market.run(place(7, qty=D(3)), treasury(TreasuryKind.BORROW, 57))
    market.feed(place(8), treasury(TreasuryKind.REPAY, 58, coin="USDC"))
    market.feed(message)
    before, said = market.memory, len(market.said)
    assert market.feed(message) == []
    assert market.memory == before
    assert len(market.said) == said


def test_the_memory_survives_its_encoding() -> None:
    """State goes through JSON and comes back equal, with everything in it."""
    market = Market()
    market.venue.thin(1, "0.4")
    market.run(place(), treasury(), place(2, price=D("61000.0")), FREEZE)
    assert through_json(market.memory) == market.memory
