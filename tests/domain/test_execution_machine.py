"""Any order of events, duplicates, losses, delays, faults and restarts: nothing happens twice.

The machine drives a desk against the honest venue. Answers keep their order per identity, as the
effect runner promises; everything else may come in any order, again, or never.
"""

from __future__ import annotations

from collections import defaultdict, deque

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from domain.execution_world import (
    PERP,
    T0,
    D,
    Desk,
    FakeVenue,
    cancel,
    place,
    policy,
    tick,
    treasury,
)
from hedgelock.domain.effect import Effect, Outcome, StreamReset
from hedgelock.domain.message import Message, Restored, Tick
from hedgelock.domain.order import OrderConfirmation, Side, TimeInForce, Urgency
from hedgelock.domain.treasury import TreasuryConfirmation, TreasuryKind
from hedgelock.services.effects import LOCAL, answer_to, identity_of

FAULTS = ["", "lost", "unheard", "late", "busy", "refused", "query_failed"]
pick = st.integers(0, 1_000)


class ExecutorMachine(RuleBasedStateMachine):
    """One account, one venue, and everything that can go wrong between them."""

    @initialize(pending=st.integers(0, 2))
    def open_the_desk(self, pending: int) -> None:
        """A fresh desk and venue."""
        self.desk = Desk()
        self.desk.tables.policies = policy(orders_per_minute_max=10_000)
        self.venue = FakeVenue(pending=pending)
        self.lines: dict[str, deque[Effect]] = defaultdict(deque)
        self.answers: dict[str, deque[Message]] = defaultdict(deque)
        self.pushes: list[Message] = []
        self.delivered: list[Message] = []
        self.count = 0
        self.last_stop = ""
        self.wanted: dict[str, object] = {}

    def take(self, message: Message) -> None:
        """Fold one message; its effects join their lines."""
        self.delivered.append(message)
        for effect in self.desk.feed(message):
            self.lines[identity_of(effect)].append(effect)

    def move_clock(self, ms: int) -> None:
        """Time passes for everybody; requests on their way arrive."""
        self.desk.now_ms += ms
        self.venue.now_ms = self.desk.now_ms
        self.venue.arrive()

    def next_number(self) -> int:
        """A number for a new intent."""
        self.count += 1
        return self.count

    # ------------------------------------------------------------ intents

    @rule(
        qty=st.sampled_from(["0.5", "1", "3", "5"]), side=st.sampled_from(Side),
        resting=st.booleans(), ttl=st.sampled_from([1_000, 5_000, 30_000]),
        depth=st.lists(st.sampled_from(["0", "0.2", "0.5"]), max_size=3),
        urgency=st.none() | st.sampled_from(Urgency), protective=st.booleans(),
    )
    def order(
        self, qty: str, side: Side, resting: bool, ttl: int, depth: list[str],
        urgency: Urgency | None, protective: bool,
    ) -> None:
        """The hedger wants an order."""
        number = self.next_number()
        self.venue.thin(number, *depth)
        now = self.desk.now_ms
        intent = place(
            number, qty=D(qty), side=side, price=D("60000.0") if resting else None,
            time_in_force=TimeInForce.GTC if resting else TimeInForce.IOC,
            decided_ts_ms=now, expires_ts_ms=now + ttl, urgency=urgency, protective=protective,
        )
        self.wanted[intent.intent_id] = intent
        self.take(intent)

    @rule(qty=st.sampled_from(["0.5", "1"]), replaces=st.booleans())
    def stop(self, qty: str, replaces: bool) -> None:
        """The hedger wants a stop, perhaps in the place of the one before."""
        number = self.next_number()
        now = self.desk.now_ms
        intent = place(
            number, qty=D(qty), side=Side.BUY, reduce_only=True, trigger_price=D("70000.0"),
            replaces=self.last_stop if replaces else "", decided_ts_ms=now,
            expires_ts_ms=now + 5_000,
        )
        self.last_stop = intent.intent_id
        self.wanted[intent.intent_id] = intent
        self.take(intent)

    @rule(ask=st.sampled_from(["60000.1", "60010.1", "59990.1"]))
    def the_book_moves(self, ask: str) -> None:
        """Other prices, seen now; between two such moves the book grows old."""
        self.desk.tables.ticks[PERP] = tick("59990.0", ask, ts_seen_ms=self.desk.now_ms)

    @precondition(lambda self: self.venue.orders)
    @rule(index=pick, qty=st.sampled_from(["0.1", "1"]))
    def somebody_trades(self, index: int, qty: str) -> None:
        """A resting order, or a stop that fired, is traded against."""
        names = sorted(self.venue.orders)
        self.venue.trade(names[index % len(names)], D(qty))
        self.collect()

    @rule(kind=st.sampled_from(TreasuryKind), ttl=st.sampled_from([1_000, 5_000, 30_000]),
          moves=st.booleans(), amount=st.sampled_from([100, 200]))
    def action(self, kind: TreasuryKind, ttl: int, moves: bool, amount: int) -> None:
        """The hedger wants money moved; amounts repeat, as real ones may."""
        now = self.desk.now_ms
        only = kind in (TreasuryKind.TRANSFER_TO_FUND, TreasuryKind.TRANSFER_TO_UNIFIED)
        wish = treasury(
            kind, self.next_number(), amount=D(amount), decided_ts_ms=now,
            transfer_amount=D(0 if only or not moves else amount), expires_ts_ms=now + ttl,
        )
        self.wanted[wish.intent_id] = wish
        self.take(wish)

    @rule()
    def cancel_all(self) -> None:
        """The hedger cancels everything."""
        self.take(cancel(self.next_number(), decided_ts_ms=self.desk.now_ms))

    # ------------------------------------------------------------ the world's course

    @rule(faults=st.lists(st.sampled_from(FAULTS), min_size=1, max_size=4))
    def go_wrong(self, faults: list[str]) -> None:
        """The next requests fare like this."""
        self.venue.faults.extend(faults)

    @precondition(lambda self: any(self.lines.values()))
    @rule(index=pick)
    def run_effect(self, index: int) -> None:
        """One line moves on by one request."""
        keys = sorted(key for key, line in self.lines.items() if line)
        key = keys[index % len(keys)]
        self.venue.now_ms = self.desk.now_ms
        effect = self.lines[key].popleft()
        expires = getattr(effect, "expires_ts_ms", None)
        if expires is not None and self.desk.now_ms >= expires:  # as the effect runner does
            said: Message = answer_to(
                effect, Outcome.REFUSED, code=LOCAL, text="expired", now_ms=self.desk.now_ms
            )
        else:
            said = self.venue.perform(effect)
        self.answers[key].append(said)
        self.collect()

    def collect(self) -> None:
        """Take the venue's pushes."""
        self.pushes += self.venue.pushes
        self.venue.pushes.clear()

    @precondition(lambda self: any(self.answers.values()))
    @rule(index=pick)
    def hear_answer(self, index: int) -> None:
        """An answer comes back."""
        keys = sorted(key for key, line in self.answers.items() if line)
        self.take(self.answers[keys[index % len(keys)]].popleft())

    @precondition(lambda self: self.pushes)
    @rule(index=pick, lost=st.booleans())
    def hear_push(self, index: int, lost: bool) -> None:
        """Any push arrives, or is lost."""
        push = self.pushes.pop(index % len(self.pushes))
        if not lost:
            self.take(push)

    @precondition(lambda self: self.delivered)
    @rule(index=pick)
    def hear_again(self, index: int) -> None:
        """Something old is delivered again; it must cause nothing at all new at the venue."""
        self.take(self.delivered[-1 - index % min(len(self.delivered), 20)])

    @precondition(lambda self: self.delivered)
    @rule()
    def hear_the_last_again(self) -> None:
        """The last message at once again changes nothing and has no effect."""
        before, said = self.desk.memory, len(self.desk.said)
        assert self.desk.feed(self.delivered[-1]) == []
        assert self.desk.memory == before
        assert len(self.desk.said) == said

    @rule(ms=st.sampled_from([1, 250, 1_000, 2_500, 10_000, 41_000]))
    def time_passes(self, ms: int) -> None:
        """The clock moves; requests on their way arrive; the runner ticks when the hold is over."""
        self.move_clock(ms)
        self.collect()
        if self.desk.until_ms is not None and self.desk.until_ms <= self.desk.now_ms:
            self.take(Tick(now_ms=self.desk.now_ms))

    @rule(ms=st.sampled_from([300, 1_500, 7_000]))
    def crash(self, ms: int) -> None:
        """The process dies: what was committed stays, the rest of it is gone."""
        self.lines.clear()
        self.answers.clear()
        self.pushes.clear()
        self.move_clock(ms)
        self.venue.pushes.clear()
        self.take(Restored(now_ms=self.desk.now_ms))
        self.take(StreamReset(account="main", ts_seen_ms=self.desk.now_ms))

    @rule()
    def stream_drops(self) -> None:
        """The private stream reconnects; what it would have said is lost."""
        self.move_clock(1)
        self.pushes.clear()
        self.venue.pushes.clear()
        self.take(StreamReset(account="main", ts_seen_ms=self.desk.now_ms))

    @rule()
    def all_goes_well(self) -> None:
        """Everything under way is done and heard, in order."""
        self.settle()

    # ------------------------------------------------------------ what must always hold

    @invariant()
    def nothing_happens_twice(self) -> None:
        """Never more filled than wanted, never two loan actions or transfers of one intent."""
        if not hasattr(self, "venue"):
            return
        for intent_id, wish in self.wanted.items():
            assert self.venue.filled_of(intent_id) <= getattr(wish, "qty", D(0))
            assert sum(s.intent_id == intent_id for s, _, _ in self.venue.loans) <= 1
            assert sum(s.intent_id == intent_id for s in self.venue.transfers.values()) <= 1

    @invariant()
    def one_order_of_an_intent_is_open_at_a_time(self) -> None:
        """Whatever the style: the next slice or price comes when the order before it is over."""
        if not hasattr(self, "venue"):
            return
        alive = [o.sent.intent_id for o in self.venue.orders.values() if not o.status.is_terminal]
        assert len(alive) == len(set(alive))

    @invariant()
    def no_price_is_worse_than_the_bound(self) -> None:
        """Every order at the venue lies inside what its intent allows."""
        if not hasattr(self, "venue"):
            return
        for order in self.venue.orders.values():
            sent = order.sent
            if sent.price is not None and sent.price != D("60000.0"):
                assert D(59_700) <= sent.price <= D(60_300) or (
                    sent.time_in_force is TimeInForce.POST_ONLY
                )

    @invariant()
    def nothing_is_imagined(self) -> None:
        """Every confirmed fill is the venue's, and the account is not frozen by honest news."""
        if not hasattr(self, "venue"):
            return
        assert not self.desk.memory.frozen
        real = {f.exec_id for o in self.venue.orders.values() for f in o.fills}
        for said in self.desk.said[-3:]:
            if isinstance(said, OrderConfirmation):
                assert {f.exec_id for f in said.fills} <= real

    def teardown(self) -> None:
        """When the world calms down, everything ends and the books agree."""
        if not hasattr(self, "venue"):
            return
        self.venue.faults.clear()
        self.time_passes(2_000)
        self.cancel_all()
        self.stream_drops()
        for _ in range(300):
            self.settle()
            if self.desk.until_ms is None:
                break
            self.time_passes(1_000)
        self.agree()

    def settle(self) -> None:
        """Let everything happen that needs no time; it must come to an end."""
        for _ in range(50):
            while any(self.lines.values()):
                self.run_effect(0)
            while any(self.answers.values()):
                self.hear_answer(0)
            while self.pushes:
                self.take(self.pushes.pop(0))
            if not any(self.lines.values()):
                return
        raise AssertionError("effects and answers chase each other without end")

    def agree(self) -> None:
        """Every intent is terminal, every fill confirmed, every loan action and transfer told."""
        self.nothing_happens_twice()
        told = {m.intent_id: m for m in self.desk.said if hasattr(m, "intent_id")}
        for intent_id in self.wanted:
            last = told[intent_id]
            assert last.is_terminal, intent_id  # type: ignore[attr-defined]
            if isinstance(last, OrderConfirmation):
                assert last.filled_qty == self.venue.filled_of(intent_id)
            else:
                assert isinstance(last, TreasuryConfirmation)
                lent = any(s.intent_id == intent_id for s, _, _ in self.venue.loans)
                moved = any(s.intent_id == intent_id for s in self.venue.transfers.values())
                assert (last.loan_amount > 0, last.moved_amount > 0) == (lent, moved)
        assert all(o.status.is_terminal for o in self.venue.orders.values())
        assert not self.desk.memory.frozen
        assert self.desk.now_ms > T0


ExecutorMachine.TestCase.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestExecutor = pytest.mark.no_cover(ExecutorMachine.TestCase)
