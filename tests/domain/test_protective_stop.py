"""The stop at the exchange: where it stands, when it moves, and that it is never counted twice."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
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
    kinds,
    place,
    row,
)
from domain.execution_world import safety as word
from domain.hedge_situations import situation
from domain.hedge_world import World, instrument
from hedgelock.domain import protective_stop
from hedgelock.domain.effect import CancelOrder, Outcome, QueryOrder, SendOrder
from hedgelock.domain.headroom import Headroom
from hedgelock.domain.hedge_memory import is_settled
from hedgelock.domain.hedging import PositionDiffers
from hedgelock.domain.inflight import Exposure
from hedgelock.domain.instrument import Instrument
from hedgelock.domain.margin import Book, CoinLine, PositionLine, margin_ratio
from hedgelock.domain.message import Restored
from hedgelock.domain.order import (
    CancelOrders,
    ForeignCause,
    ForeignFill,
    OrderConfirmation,
    OrderStatus,
    OrderType,
    PlaceOrder,
    Side,
    TimeInForce,
)
from hedgelock.domain.protective_stop import (
    MOVE_GAP_MS,
    STOP_PAUSE_MS,
    StopMemory,
    StopReason,
    StopWatch,
    decide,
    rise_to,
    told,
    wanted,
)
from hedgelock.domain.risk import Confidence
from hedgelock.domain.safety import SafetyMode, SafetyReason, SafetyState

ZERO = D(0)
RATIO = D("0.9")

# ---------------------------------------------------------------- where it stands


def headroom(coins: str = "0.1", mark: str = "60000") -> Headroom:
    """The demo account's pocket: coins at .95, auto-borrowing at .04."""
    return Headroom(
        D(mark), D("0.25"), D(coins) * D("0.95") * D(mark) * D("1.25"), D(1), D("0.04"),
        instrument(),
    )


def ratio_after(head: Headroom, *, equity: Decimal, short: Decimal, rise: Decimal) -> Decimal | None:
    """accountMMRate after the rise, by the formula that the risk-engine uses."""
    terms: Instrument = head.instrument
    position = PositionLine(
        PERP, "BTC", "USDT", False, -short, head.mark, head.mark, D(1), terms.taker_fee, terms.tiers
    )
    coins = head.cushion / (1 + head.rise)
    lines = (CoinLine("USDT", equity, equity, D(1)), CoinLine("BTC", D(1), coins / head.mark, head.mark))
    return margin_ratio(Book(lines, (position,), "USDT", head.borrow_rate, True), rise)


@given(
    equity=st.decimals("1000", "50000", places=0), short=st.decimals("0.05", "30", places=2),
    coins=st.decimals("0", "1", places=2),
)
def test_the_stop_stands_where_the_margin_ratio_reaches_its_limit(
    equity: Decimal, short: Decimal, coins: Decimal
) -> None:
    """At the rise found, accountMMRate by the risk-engine's own formula is the ratio asked for."""
    head = headroom(str(coins))
    rise = rise_to(head, equity=equity, short=short, ratio=RATIO)
    assume(rise is not None and rise > D("-0.9"))
    assert rise is not None
    found = ratio_after(head, equity=equity, short=short, rise=rise)
    assert found is not None
    assert abs(found - RATIO) < D("0.0001")


def test_coins_that_outgrow_the_short_need_no_stop() -> None:
    """One coin in the pocket beside a tenth of a coin short: a rally only helps."""
    assert rise_to(headroom("1"), equity=D(6000), short=D("0.1"), ratio=RATIO) is None


def test_no_tier_no_stop() -> None:
    """Without tiers, or beyond the last, nothing can be said of the margin there."""
    bare = headroom()._replace(instrument=instrument(tiers=()))
    assert rise_to(bare, equity=D(6000), short=D(1), ratio=RATIO) is None
    assert rise_to(headroom(), equity=D(900_000), short=D(60), ratio=RATIO) is None


def seen(short: str = "0.5", **changes: Any) -> Any:
    """The demo account with a short of so many coins."""
    held = D(short)
    return situation(exposure=Exposure(held, held, held, held), **changes)


def test_the_trigger_is_a_whole_tick_above_the_mark() -> None:
    """Rounded down, towards the safe side; never nearer than one per cent."""
    price = wanted(seen(), D("0.5"))
    assert price is not None
    assert price % D("0.1") == 0
    assert price > D(60_600)
    near = wanted(seen(), D("13"))
    assert near == D("60600.0")


@pytest.mark.parametrize("ratio", ["0", "0.9"])
def test_policy_may_want_none(ratio: str) -> None:
    """0 switches it off; so does a short of nothing, and a cliff that is out of sight."""
    s = seen()
    s = s._replace(policy=replace(s.policy, stop_margin_ratio=D(ratio)))
    assert (wanted(s, D("0.5")) is None) is (ratio == "0")
    assert wanted(s, ZERO) is None
    assert wanted(s, D("0.001")) is None


# ---------------------------------------------------------------- when it moves


def watch(qty: str = "0.5", price: str | Decimal | None = None, **changes: Any) -> StopWatch:
    """A stop that the venue has."""
    at = wanted(seen(), D("0.5")) if price is None else D(price)
    assert at is not None
    fields: dict[str, Any] = {
        "intent_id": "s1", "qty": D(qty), "trigger_price": at, "is_live": True, "revision": 1,
    }
    return StopWatch(**{**fields, **changes})


HERE = wanted(seen(), D("0.5")) or ZERO
CASES: list[tuple[str, tuple[StopWatch, ...], dict[str, Any], bool, StopReason]] = [
    ("none yet", (), {}, False, StopReason.PLACED),
    ("as it should be", (watch(),), {}, False, StopReason.KEPT),
    ("half a band smaller", (watch("0.475"),), {}, False, StopReason.KEPT),
    ("more than half a band smaller", (watch("0.474"),), {}, False, StopReason.RESIZED),
    ("larger", (watch("0.526"),), {}, False, StopReason.RESIZED),
    ("a little off", (watch(price=HERE * D("1.0099")),), {}, False, StopReason.KEPT),
    ("off", (watch(price=HERE * D("1.011")),), {}, False, StopReason.MOVED),
    ("flat", (watch(),), {"short": "0"}, False, StopReason.REMOVED),
    ("long", (watch(),), {"short": "-0.5"}, False, StopReason.REMOVED),
    ("flat, and none", (), {"short": "0"}, False, StopReason.NOT_NEEDED),
    ("an order is decided", (), {}, True, StopReason.BUSY),
    ("an order is under way", (), {"has_hedge_order": True}, False, StopReason.BUSY),
    ("not yet at the venue", (watch("0.1", is_live=False),), {}, False, StopReason.BUSY),
    ("one replaces the other", (watch("0.1"), watch(intent_id="s2")), {}, False, StopReason.BUSY),
    ("being removed", (watch("0.1", is_leaving=True),), {}, False, StopReason.BUSY),
    ("inputs are old", (watch("0.1"),), {"confidence": Confidence.STALE}, False,
     StopReason.NOT_FRESH),
]


@pytest.mark.parametrize(("name", "stops", "changes", "is_ordering", "expected"), CASES)
def test_what_is_done_about_the_stop(
    name: str, stops: tuple[StopWatch, ...], changes: dict[str, Any], is_ordering: bool,
    expected: StopReason,
) -> None:
    """Placed when missing, moved when off, removed when flat, otherwise left alone."""
    s = seen(**changes)
    decision = decide(StopMemory(stops=stops), s, now_ms=T0, is_ordering=is_ordering)
    assert decision.reason is expected, name
    changing = expected in (StopReason.PLACED, StopReason.RESIZED, StopReason.MOVED)
    assert (decision.place == D("0.5")) is changing
    assert decision.replaces == ("s1" if changing and stops else "")
    assert decision.remove == (("s1",) if expected is StopReason.REMOVED else ())
    after = protective_stop.after(StopMemory(stops=stops), decision, intent_id="new", now_ms=T0)
    assert len(after.stops) == len(stops) + changing


def test_a_pause_keeps_a_new_stop_back_but_removes_an_old_one() -> None:
    """While its place is left alone nothing is placed there; a stop for nothing still goes."""
    paused = told(
        StopMemory(stops=(watch(),)),
        confirmed(OrderStatus.CANCELLED, is_terminal=True, revision=2),
    )
    assert paused.stops == ()
    at = paused.pause.until_ms
    assert at == T0 + STOP_PAUSE_MS
    assert decide(paused, seen(), now_ms=at - 1, is_ordering=False).reason is StopReason.PAUSED
    assert decide(paused, seen(), now_ms=at, is_ordering=False).reason is StopReason.PLACED


def test_a_stop_is_not_moved_twice_in_ten_seconds() -> None:
    """What stands is left standing for a while: hedges come first; a missing one is placed at once."""
    moved = StopMemory(stops=(watch("0.1"),), placed_ts_ms=T0)
    early = decide(moved, seen(), now_ms=T0 + MOVE_GAP_MS - 1, is_ordering=False)
    assert early.reason is StopReason.PAUSED
    later = decide(moved, seen(), now_ms=T0 + MOVE_GAP_MS, is_ordering=False)
    assert later.reason is StopReason.RESIZED
    none = decide(StopMemory(placed_ts_ms=T0), seen(), now_ms=T0, is_ordering=False)
    assert none.reason is StopReason.PLACED


def confirmed(status: OrderStatus, **changes: Any) -> OrderConfirmation:
    """The executor's word on stop s1."""
    fields: dict[str, Any] = {
        "account": "main", "intent_id": "s1", "client_order_id": "hl1", "venue_order_id": "v1",
        "instrument": PERP, "side": Side.BUY, "qty": D("0.5"), "filled_qty": ZERO, "fills": (),
        "status": status, "is_terminal": False, "is_unknown": False, "reduce_only": True,
        "text": "", "revision": 2, "ts_confirmed_ms": T0, "is_stop": True,
    }
    return OrderConfirmation(**{**fields, **changes})


def test_words_on_a_stop() -> None:
    """Old and strange words change nothing; it is live once the venue named it."""
    memory = StopMemory(stops=(watch(is_live=False, revision=1),))
    assert told(memory, confirmed(OrderStatus.NEW, revision=1)) is memory
    assert told(memory, confirmed(OrderStatus.NEW, intent_id="other")) is memory
    pending = told(memory, confirmed(OrderStatus.PENDING, venue_order_id=""))
    assert not pending.stops[0].is_live
    live = told(pending, confirmed(OrderStatus.NEW, revision=3))
    assert live.stops[0].is_live
    assert told(live, confirmed(OrderStatus.UNKNOWN, revision=4, venue_order_id="")).stops[0].is_live


@pytest.mark.parametrize(
    "before",
    [(watch(is_leaving=True),), (watch(), watch(intent_id="s2"))],
    ids=["removed", "replaced"],
)
def test_an_end_that_was_wanted_brings_no_pause(before: tuple[StopWatch, ...]) -> None:
    """A stop that was removed or replaced went as intended."""
    after = told(StopMemory(stops=before), confirmed(OrderStatus.CANCELLED, is_terminal=True))
    assert after.stops == before[1:]
    assert after.pause.until_ms == 0


# ---------------------------------------------------------------- the hedger keeps it


def hedged() -> World:
    """The demo account at LTV .76 with its hedge and its stop."""
    world = World()
    world.deliver(*world.facts())
    for price in range(60_000, 50_000, -500):
        world.tick(D(price))
    world.now_ms += MOVE_GAP_MS
    world.deliver(*world.facts(), world.assessment())
    assert world.position < 0
    return world


def test_the_stop_follows_the_hedge() -> None:
    """One stop stands, reduce-only, protective, for about the short; moved a bounded number of times."""
    world = hedged()
    (stop,) = world.stops.values()
    assert (stop.side, stop.reduce_only, stop.protective) == (Side.BUY, True, True)
    assert abs(stop.qty + world.position) <= D("0.025")
    assert stop.trigger_price is not None
    assert stop.trigger_price > world.price * D("1.01")


def test_a_stop_is_not_in_flight() -> None:
    """With a stop standing balances settle, and no order waits for it."""
    world = hedged()
    assert world.memory.orders == ()
    assert world.memory.stop.stops[0].is_live


def test_the_stop_goes_when_the_short_is_gone() -> None:
    """The loan is repaid by hand, the hedger closes the short: the stop is taken away, once."""
    world = hedged()
    world.debt = ZERO
    for _ in range(3):
        world.deliver(*world.facts(), world.assessment())
    assert world.position == 0
    assert world.stops == {}
    assert world.memory.stop.stops == ()


def test_a_position_that_our_fills_do_not_explain_is_told_once() -> None:
    """A person bought back a little: expected and found are told, and what is found is believed."""
    world = hedged()
    expected = world.position
    world.position += D("0.01")
    world.seq += 1
    world.now_ms += MOVE_GAP_MS
    # Read twice: what changed by somebody else's hand is settled only by reads that follow it.
    outputs = [m for _ in range(3) for fact in world.facts() for m in _told(world, fact)]
    (differs,) = [m for m in outputs if isinstance(m, PositionDiffers)]
    assert (differs.expected_qty, differs.found_qty) == (expected, world.position)
    assert not [m for m in outputs if isinstance(m, PlaceOrder) and m.trigger_price is None]


def test_an_adl_fill_makes_the_money_be_read_anew() -> None:
    """Told by the executor: nothing counts as settled until reads that were sent after it."""
    world = hedged()
    adl = ForeignFill(
        account="main", cause=ForeignCause.ADL, exec_type="AdlTrade", venue_order_id="v",
        fill=world.orders[-1][1], ts_seen_ms=world.now_ms + 10,
    )
    assert is_settled(world.memory)
    world.step(adl)
    assert not is_settled(world.memory)
    world.now_ms += 20
    world.deliver(*world.facts())
    assert is_settled(world.memory)


def _told(world: World, message: Any) -> list[Any]:
    return [output.message for output in world.step(message).outputs]


def test_halting_keeps_the_stop_and_killing_takes_it_away() -> None:
    """HALTED cancels what could open and keeps what protects; KILLED cancels everything."""
    for mode, keeps in ((SafetyMode.HALTED, True), (SafetyMode.KILLED, False)):
        world = hedged()
        world.tables.safety_row = SafetyState(
            account="main", version=2, mode=mode, reason=SafetyReason.OPERATOR_HALT, flatten=False,
            command_id="c", text="", since_ts_ms=world.now_ms,
        )
        (wish, *_) = [m for m in _told(world, world.tables.safety_row) if isinstance(m, CancelOrders)]
        assert wish.keep_stops is keeps


def test_a_stop_that_fired_is_a_fill_like_any_other() -> None:
    """Its fills are booked and counted until the position shows them; no second stop is placed."""
    world = hedged()
    (stop,) = world.stops.values()
    done = world.fill(stop)
    world.step(replace(done, is_stop=True, venue_order_id="v", revision=9))
    assert world.memory.stop.stops == ()
    assert stop.qty in [w.filled_qty for w in world.memory.orders]
    assert world.memory.effects.hedge_qty == stop.qty


# ---------------------------------------------------------------- the executor obeys


def stop(number: int = 1, **changes: Any) -> PlaceOrder:
    """Buy 1 BTC back when the mark rises to 70,000."""
    fields: dict[str, Any] = {
        "side": Side.BUY, "reduce_only": True, "trigger_price": D("70000.0"), "reason": "stop_placed",
    }
    return place(number, **{**fields, **changes})


def stop_row(sent: SendOrder, status: OrderStatus, filled: str = "0", **changes: Any) -> Any:
    """The venue's row of a stop: a market order without a price."""
    return row(sent, status, filled, **{"order_type": OrderType.MARKET, **changes})


def test_a_stop_is_sent_as_one_conditional_market_order() -> None:
    """No price, the trigger, reduce-only; larger than a market order may be, it stays one."""
    desk = Desk()
    (sent,) = desk.feed(stop(qty=D(20)))
    assert isinstance(sent, SendOrder)
    assert (sent.order_type, sent.price, sent.trigger_price) == (OrderType.MARKET, None, D(70_000))
    assert (sent.qty, sent.reduce_only, sent.time_in_force) == (D(20), True, TimeInForce.IOC)
    assert desk.feed(stop_row(sent, OrderStatus.NEW, price=D(71_000))) == []
    assert desk.order().is_stop
    assert not desk.memory.frozen


@pytest.mark.parametrize(
    "bad", [{"trigger_price": D("70000.05")}, {"reduce_only": False}],
)
def test_an_impossible_stop_is_refused(bad: dict[str, Any]) -> None:
    """Off the tick, or one that could open: never sent."""
    desk = Desk()
    assert desk.feed(stop(**bad)) == []
    assert desk.order().text == "stop_impossible"


def live(desk: Desk, number: int, **changes: Any) -> SendOrder:
    """A stop that the venue has."""
    sent = desk.feed(stop(number, **changes))[-1]
    assert isinstance(sent, SendOrder)
    desk.feed(stop_row(sent, OrderStatus.NEW))
    return sent


def test_the_new_stop_stands_before_the_old_one_goes() -> None:
    """The old stop is cancelled only when the venue has the new one; a refused one changes nothing."""
    desk = Desk()
    old = live(desk, 1)
    (new,) = desk.feed(stop(2, trigger_price=D(71_000), replaces="hedger:main:1.0"))
    assert isinstance(new, SendOrder)
    (gone,) = desk.feed(stop_row(new, OrderStatus.NEW))
    assert isinstance(gone, CancelOrder)
    assert gone.client_order_id == old.client_order_id
    desk.feed(stop_row(old, OrderStatus.CANCELLED))
    assert desk.order(1).is_terminal
    assert desk.feed(stop(3, replaces="hedger:main:2.0", trigger_price=D("0.05"))) == []
    assert not desk.order(2).is_terminal


def test_a_stop_that_ended_before_it_stood_replaces_nothing() -> None:
    """The venue refuses the new stop: the old one stays."""
    desk = Desk()
    live(desk, 1)
    (new,) = desk.feed(stop(2, replaces="hedger:main:1.0"))
    assert isinstance(new, SendOrder)
    assert desk.feed(stop_row(new, OrderStatus.REJECTED)) == []
    assert desk.order(2).is_terminal
    assert not desk.order(1).is_terminal


def test_only_the_named_are_cancelled_and_stops_are_kept() -> None:
    """`intents` names them; `keep_stops` spares stops; neither: everything goes."""
    desk = Desk()
    named, other = live(desk, 1), live(desk, 2)
    assert desk.feed(cancel(90, keep_stops=True)) == []
    (gone,) = desk.feed(cancel(91, intents=("hedger:main:1.0",)))
    assert isinstance(gone, CancelOrder)
    assert gone.client_order_id == named.client_order_id
    (gone,) = desk.feed(cancel(92))
    assert isinstance(gone, CancelOrder)
    assert gone.client_order_id == other.client_order_id


def test_a_stop_outlives_its_deadline_and_a_restart() -> None:
    """Its deadline is for sending; after a restart it is found, and looked at twice a minute."""
    desk = Desk()
    sent = live(desk, 1)
    desk.now_ms = T0 + 3_600_000
    assert kinds(desk.feed(Restored(now_ms=desk.now_ms))) == "QueryOrder"
    desk.feed(facts(stop_row(sent, OrderStatus.NEW)))
    assert not desk.order().is_terminal
    assert desk.until_ms is not None
    assert desk.until_ms >= desk.now_ms + 30_000


def test_a_stop_that_vanished_ends_and_is_not_sent_again() -> None:
    """Nowhere to be found for a minute: terminal, so that the hedger places another."""
    desk = Desk()
    live(desk, 1)
    for _ in range(20):
        asked = desk.tick(10_000)
        for effect in asked:
            if isinstance(effect, QueryOrder):
                desk.feed(answer(effect, Outcome.ABSENT, desk.now_ms))
    assert desk.order().is_terminal
    assert sum(isinstance(e, SendOrder) for e in desk.effects) == 1


def test_a_stop_that_fired_is_over_and_tried_only_once() -> None:
    """Partly filled and cancelled by the venue: no second order, and its cost counts from the trigger."""
    desk = Desk()
    sent = live(desk, 1)
    desk.feed(
        fill(sent, "a", "0.4", price=D(70_010)), stop_row(sent, OrderStatus.CANCELLED, "0.4")
    )
    assert desk.order().is_terminal
    assert desk.order().filled_qty == D("0.4")
    assert sum(isinstance(e, SendOrder) for e in desk.effects) == 1
    assert desk.memory.budget.spend_day(desk.now_ms) == D(5)


def test_safety_lets_a_stop_pass_while_halted() -> None:
    """It protects: HALTED and a freeze let it pass, KILLED does not."""
    for mode, text in ((SafetyMode.HALTED, ""), (SafetyMode.KILLED, "killed")):
        desk = Market()
        desk.tables.safeties = word(mode)
        desk.feed(stop())
        assert desk.order().text == text
