"""A crash at every effect boundary: the executor starts again, and nothing happens twice.

The session is scripted and deterministic, so the n-th effect of a run is the n-th of every run up to
the crash. For each effect and each phase the process dies there, is restored from what was
committed, and the venue's books are compared with those of the run without a crash.
"""

from __future__ import annotations

import enum
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from domain.execution_world import (
    T0,
    D,
    FakeVenue,
    Market,
    cancel,
    place,
    treasury,
)
from hedgelock.domain.effect import SendLoanAction, SendOrder, SendTransfer, StreamReset
from hedgelock.domain.message import Message, Restored, Tick
from hedgelock.domain.order import OrderConfirmation, Side, TimeInForce
from hedgelock.domain.treasury import TreasuryConfirmation, TreasuryKind

Script = tuple[tuple[int, Message], ...]
RESTART_MS = 400
TICK_MS = 250
END_MS = 120_000


class Phase(enum.Enum):
    """Where, around an effect, the process dies."""

    BEFORE_COMMIT = "before the commit"
    BEFORE_EFFECT = "after the commit, before the effect"
    BEFORE_ANSWER = "after the effect reached the venue, before its answer is recorded"
    AFTER_ANSWER = "after the answer is recorded"


class Crash(Exception):
    """The process died."""


@dataclass
class Process(Market):
    """The executor's process: reads the log, folds, commits, runs effects; dies once, on demand."""

    script: Script = ()
    crash_at: tuple[int, Phase] | None = None
    read: int = 0
    emitted: int = 0
    inbox: deque[Message] = field(default_factory=deque)
    phases: list[str] = field(default_factory=list)

    def play(self) -> None:
        """The whole session, with the restart when it dies."""
        while self.now_ms < T0 + END_MS:
            try:
                self._round()
            except Crash:
                self.inbox.clear()
                self.venue.pushes.clear()
                self.now_ms += RESTART_MS
                self.venue.now_ms = self.now_ms
                self.inbox.extend(
                    [Restored(now_ms=self.now_ms),
                     StreamReset(account="main", ts_seen_ms=self.now_ms)]
                )
                continue
            self.now_ms += TICK_MS
            self.venue.now_ms = self.now_ms

    def _round(self) -> None:
        while True:
            if self.inbox:
                self._fold(self.inbox[0])
                self.inbox.popleft()
            elif self.read < len(self.script) and self.script[self.read][0] + T0 <= self.now_ms:
                self._fold(self.script[self.read][1], reads=True)
            else:
                break
            self.inbox.extend(self.venue.pushes)
            self.venue.pushes.clear()
        if self.until_ms is not None and self.until_ms <= self.now_ms:
            self._fold(Tick(now_ms=self.now_ms))
            self._round()

    def _fold(self, message: Message, *, reads: bool = False) -> None:
        step = self.step(message)
        first = self.emitted
        self.emitted += len(step.effects)
        for number in range(first, self.emitted):
            self._die_here(number, Phase.BEFORE_COMMIT)
        self.commit(step)
        self.read += reads  # the offset is part of the commit
        for number, effect in enumerate(step.effects, first):
            self._die_here(number, Phase.BEFORE_EFFECT)
            answer = self.venue.perform(effect)
            self._die_here(number, Phase.BEFORE_ANSWER)
            self.inbox.append(answer)
            if self.crash_at == (number, Phase.AFTER_ANSWER):
                self.commit(self.step(answer))
                self._die_here(number, Phase.AFTER_ANSWER)

    def _die_here(self, number: int, phase: Phase) -> None:
        if self.crash_at == (number, phase):
            self.crash_at = None
            raise Crash


def script(ttl_ms: int) -> Script:
    """Orders of several shapes, a resting one that is cancelled, repayments and a borrowing."""
    def at(ms: int, message: Message) -> tuple[int, Message]:
        return (ms, message)

    def times(ms: int) -> dict[str, int]:
        return {"decided_ts_ms": T0 + ms, "expires_ts_ms": T0 + ms + ttl_ms}

    return (
        at(0, place(1, **times(0))),
        at(500, place(2, qty=D(3), **times(500))),
        at(4_000, treasury(TreasuryKind.REPAY, 50, **times(4_000))),
        at(6_000, place(3, side=Side.BUY, reduce_only=True, qty=D("0.5"), **times(6_000))),
        at(6_500, place(4, price=D(61_000), time_in_force=TimeInForce.GTC, **times(6_500))),
        at(9_000, treasury(TreasuryKind.BORROW, 51, **times(9_000))),
        at(9_100, treasury(TreasuryKind.REPAY, 52, amount=D(700), transfer_amount=D(0),
                           **times(9_100))),
        at(15_000, cancel(90, decided_ts_ms=T0 + 15_000)),
        at(16_000, treasury(TreasuryKind.REPAY_WITH_COLLATERAL, 53, **times(16_000))),
        at(16_100, treasury(TreasuryKind.TRANSFER_TO_UNIFIED, 54, transfer_amount=D(0),
                            **times(16_100))),
    )


def process(
    *, ttl_ms: int, faults: Sequence[str] = (), pending: int = 0,
    crash_at: tuple[int, Phase] | None = None,
) -> Process:
    """A process before its session. The first order is filled in three parts, the fourth rests."""
    venue = FakeVenue(pending=pending)
    venue.thin(1, "0.4", "0.2")
    venue.thin(4, "0")
    venue.faults.extend(faults)
    return Process(venue=venue, script=script(ttl_ms), crash_at=crash_at)


def books(world: Process) -> dict[str, object]:
    """What is left at the venue."""
    venue = world.venue
    return {
        "position": venue.position, "fund": venue.fund, "unified": venue.unified,
        "debt": venue.debt, "loans": len(venue.loans), "transfers": len(venue.transfers),
    }


def assert_at_most_once(world: Process) -> None:
    """No order, transfer or loan action happened twice, and nothing was overfilled or left open."""
    venue = world.venue
    tried = Counter(
        (o.sent.intent_id, o.sent.client_order_id) for o in venue.orders.values()
    )
    assert set(tried.values()) <= {1}
    for _, message in world.script:
        intent_id = getattr(message, "intent_id", "")
        assert venue.filled_of(intent_id) <= getattr(message, "qty", D(0))
        assert sum(sent.intent_id == intent_id for sent, _, _ in venue.loans) <= 1
        assert sum(s.intent_id == intent_id for s in venue.transfers.values()) <= 1
    for item in (*world.memory.orders.values(), *world.memory.actions.values()):
        assert item.is_terminal
    assert not world.memory.frozen
    latest: dict[str, OrderConfirmation] = {
        m.intent_id: m for m in world.said if isinstance(m, OrderConfirmation)
    }
    for confirmed in latest.values():
        assert confirmed.filled_qty == venue.filled_of(confirmed.intent_id), "a fill was lost"
        assert {f.exec_id for f in confirmed.fills} == {
            f.exec_id for o in venue.orders.values() for f in o.fills
            if o.sent.intent_id == confirmed.intent_id
        }
    for stated in {m.intent_id: m for m in world.said if isinstance(m, TreasuryConfirmation)}.values():
        lent = sum(s.intent_id == stated.intent_id for s, _, _ in venue.loans)
        moved = sum(s.intent_id == stated.intent_id for s in venue.transfers.values())
        assert (stated.loan_amount > 0, stated.moved_amount > 0) == (bool(lent), bool(moved))


PLANS = {
    "smooth": ((), 0),
    "doubtful answers": (("unheard", "", "lost", "busy", "", "unheard", "", "query_failed",
                          "unheard", "", "unheard", "", "lost"), 0),
    "slow treasury": ((), 2),
}
LONG_MS = 60_000
"""Long enough for every intent to be finished after the crash."""


def effects_of(faults: Sequence[str], pending: int, ttl_ms: int) -> int:
    """How many effects the session without a crash has."""
    world = process(ttl_ms=ttl_ms, faults=faults, pending=pending)
    world.play()
    return world.emitted


def test_the_session_is_worth_crashing() -> None:
    """The scripted session sends orders, transfers and loan actions, and all of them succeed."""
    world = process(ttl_ms=LONG_MS)
    world.play()
    assert_at_most_once(world)
    sent = Counter(type(effect) for effect in world.effects)
    assert sent[SendOrder] == 7
    assert sent[SendTransfer] == 3
    assert sent[SendLoanAction] == 4
    assert books(world) == {
        "position": D("-3.5"), "fund": D("7300"), "unified": D("12000"), "debt": D("33900"),
        "loans": 4, "transfers": 3,
    }


@pytest.mark.no_cover
@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("plan", PLANS)
def test_a_crash_anywhere_changes_nothing_at_the_venue(plan: str, phase: Phase) -> None:
    """With time to finish, the venue's books after any crash equal those of the run without."""
    faults, pending = PLANS[plan]
    calm = process(ttl_ms=LONG_MS, faults=faults, pending=pending)
    calm.play()
    assert_at_most_once(calm)
    for number in range(effects_of(faults, pending, LONG_MS)):
        world = process(
            ttl_ms=LONG_MS, faults=faults, pending=pending, crash_at=(number, phase)
        )
        world.play()
        assert world.crash_at is None, "the crash did not happen"
        assert_at_most_once(world)
        assert books(world) == books(calm), f"effect {number}, {phase.value}"


@pytest.mark.no_cover
@pytest.mark.parametrize("phase", Phase)
def test_an_expired_intent_ends_with_what_happened(phase: Phase) -> None:
    """With the short life of real intents some expire in the restart; all of them end, told true."""
    faults, pending = PLANS["doubtful answers"]
    for number in range(effects_of(faults, pending, 5_000)):
        world = process(ttl_ms=5_000, faults=faults, pending=pending, crash_at=(number, phase))
        world.play()
        assert_at_most_once(world)
