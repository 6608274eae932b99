"""The loop pump: one transaction per turn of all runners, effects after it, nothing half done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from hedgelock.bus import codec
from hedgelock.bus.embedded import EmbeddedBus
from hedgelock.clock import SystemClock
from hedgelock.domain.account import FundBalance, FundRead
from hedgelock.domain.step import Output, Step
from hedgelock.domain.treasury import TreasuryConfirmation, TreasuryKind, TreasuryStage
from hedgelock.errors import BusError, Fenced, StorageFull
from hedgelock.ports import Outgoing
from hedgelock.services.pump import LoopPump
from hedgelock.services.runner import Runner
from hedgelock.services.service import Emitted, Service

NARROW = 400_000
"""Bytes that the log may have: enough for its ordinary messages."""


class Count(msgspec.Struct, frozen=True):
    """How many messages came."""

    seen: int = 0


def confirmed(intent_id: str) -> TreasuryConfirmation:
    """Some message that belongs on `trade_confirmations`."""
    return TreasuryConfirmation(
        account="main", intent_id=intent_id, kind_of=TreasuryKind.REPAY, coin="USDT",
        amount=Decimal(1), stage=TreasuryStage.DONE, moved_amount=Decimal(0),
        loan_amount=Decimal(1), is_terminal=True, is_unknown=False, text="", revision=1,
        ts_confirmed_ms=1,
    )


def first(state: Count, _tables: object, body: object, _now: object) -> Step[Count]:
    """Passes every read on."""
    if not isinstance(body, FundRead):
        return Step(state)
    told = Output("trade_confirmations", "main", confirmed(f"i{state.seen}"))
    return Step(Count(state.seen + 1), outputs=(told,))


def second(state: Count, _tables: object, body: object, _now: object) -> Step[Count]:
    """Acts on every read that was passed on."""
    if not isinstance(body, TreasuryConfirmation):
        return Step(state)
    seen = state.seen + 1
    return Step(Count(seen), effects=(f"effect {seen}",))  # type: ignore[arg-type]


FIRST, SECOND = (
    Service(name=name, inputs=(topic,), tables=(), step=step, initial=lambda _key: Count(),
            state_type=Count)
    for name, topic, step in (
        ("first", "account_raw", first), ("second", "trade_confirmations", second),
    )
)


class Plant:
    """Two services in a row on one loop, and what came of them."""

    def __init__(self, path: Path, *, bytes_max: int | None = None) -> None:
        clock = SystemClock()
        self.bus = EmbeddedBus(path, clock=clock, upkeep=False, bytes_max=bytes_max)
        self.out = self.bus.publisher("test")
        self.acted: list[str] = []
        self.written: list[int] = []
        """States of `second` in the file when its effects were handed over."""
        self.trouble: list[BusError | None] = []
        self.fatal: list[BaseException] = []
        self._changed = asyncio.Event()
        self.runners = [
            Runner(service, self.bus.open(service=service.name, instance="0",
                                          inputs=service.inputs, tables=()),
                   clock=clock, act=self._act)
            for service in (FIRST, SECOND)
        ]
        self.pump = LoopPump(
            self.runners, clock=clock, local=self.bus,
            on_fatal=lambda _name, error: self._note(self.fatal, error),
            on_trouble=lambda _name, error: self._note(self.trouble, error),
        )
        self.bus.on_news(self.pump.wake)
        self.pump.start()

    def _note(self, into: list[Any], item: object) -> None:
        into.append(item)
        self._changed.set()

    def _act(self, effects: Sequence[Emitted]) -> None:
        other = EmbeddedBus(self.bus.path, clock=SystemClock(), read_only=True)
        self.written.append(len(list(other.read("trade_confirmations"))))
        other.close()
        for emitted in effects:
            self._note(self.acted, emitted.effect)

    def read(self, number: int, coin: str = "USDT") -> None:
        balance = FundBalance(coin=coin, qty=Decimal(1), transferable_qty=Decimal(1))
        body = FundRead(account="main", balances=(balance,), ts_requested_ms=number,
                        ts_event_ms=number, ts_seen_ms=number)
        value = codec.encode(body, id=f"t:{number}", trace=codec.new_trace(str(number)), causes=(),
                             ts_ms=number)
        self.out.publish([Outgoing("account_raw", "main", value)])

    async def until(self, what: Callable[[], object]) -> None:
        """Let the loop turn until something is so."""
        async with asyncio.timeout(10):
            while not what():
                self._changed.clear()
                await self._changed.wait()

    def stop(self) -> None:
        """No further turn."""
        self.pump.stop()
        self.bus.close()


async def test_a_message_crosses_the_chain_in_one_transaction(tmp_path: Path) -> None:
    """The effect is handed over when all that led to it is in the file."""
    plant = Plant(tmp_path / "log.db")
    plant.read(1)
    await plant.until(lambda: plant.acted)
    assert (plant.acted, plant.written) == (["effect 1"], [1])
    for number in (2, 3):
        plant.read(number)
    await plant.until(lambda: len(plant.acted) == 3)
    assert plant.acted == ["effect 1", "effect 2", "effect 3"]
    plant.stop()


async def test_a_turn_that_cannot_be_written_is_taken_back_by_all(tmp_path: Path) -> None:
    """Nobody acts, everybody restores; when there is room again each message steps exactly once."""
    plant = Plant(tmp_path / "log.db", bytes_max=NARROW)
    db = plant.bus._engine().store.db
    pages = int(db.execute("PRAGMA max_page_count").fetchone()[0])
    plant.read(1)
    await plant.until(lambda: plant.acted)
    for number in range(2, 40):
        plant.read(number, coin=f"C{number}" * 40)
    plant.runners[1].deliver("main", confirmed("said by the venue, and in no log"))
    used = int(db.execute("PRAGMA page_count").fetchone()[0])
    db.execute(f"PRAGMA max_page_count={used}").fetchall()  # full, before the loop has turned
    await plant.until(lambda: plant.trouble)
    assert isinstance(plant.trouble[0], StorageFull)
    at_failure = len(plant.acted)
    db.execute(f"PRAGMA max_page_count={pages}").fetchall()
    await plant.until(lambda: len(plant.acted) == 40)
    assert plant.acted == [f"effect {n}" for n in range(1, 41)]
    assert at_failure == 1
    assert [r.states()["main"] for r in plant.runners] == [Count(39), Count(40)]
    assert plant.fatal == []
    plant.stop()


async def test_a_fenced_session_ends_this_engine(tmp_path: Path) -> None:
    """A session opened again elsewhere is fenced: fatal, and nobody acts."""
    plant = Plant(tmp_path / "log.db")
    plant.bus.open(service="second", instance="0", inputs=SECOND.inputs, tables=())
    plant.read(1)
    await plant.until(lambda: plant.fatal)
    assert isinstance(plant.fatal[0], Fenced)
    assert plant.acted == []
    plant.stop()


def test_effects_wait_for_done(tmp_path: Path) -> None:
    """`turn` commits and keeps them; only `done` hands them over, once."""
    bus = EmbeddedBus(tmp_path / "log.db", clock=SystemClock(), upkeep=False)
    acted: list[Emitted] = []
    runner = Runner(SECOND, bus.open(service="second", instance="0", inputs=SECOND.inputs,
                                     tables=()), clock=SystemClock(), act=acted.extend)
    runner.run_once(0)
    runner.deliver("main", confirmed("i"))
    assert runner.turn(0)
    assert runner.has_effects
    assert acted == []
    runner.done()
    runner.done()
    assert [e.effect for e in acted] == ["effect 1"]
    bus.close()
