"""The loop whose time jumps: instants, deadlocks, no threads; and what a killed process leaves."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from hedgelock.bus.memory import MemoryBus, MemoryLog
from hedgelock.clock import SystemClock
from hedgelock.errors import BusError, Fenced
from hedgelock.ports import Outgoing, StepRecord
from hedgelock.rehearsal.loop import Deadlock, VirtualClock, VirtualLoop, origin
from hedgelock.topics import partition_of

HOUR_S = 3_600.0


def test_time_jumps_to_the_next_timer() -> None:
    """Hours pass without waiting, exactly; what is due at one instant rings at that instant."""
    loop = VirtualLoop()
    clock = VirtualClock(loop, 1_000)
    seen: list[tuple[str, int]] = []

    async def main() -> None:
        for name, delay_s in (("b", 2 * HOUR_S), ("a", HOUR_S), ("c", 2 * HOUR_S)):
            loop.call_later(delay_s, lambda n=name: seen.append((n, clock.now_ms())))
        async with asyncio.timeout(3 * HOUR_S):
            await loop.create_future()

    with pytest.raises(TimeoutError):
        loop.run_until_complete(main())
    loop.close()
    assert sorted(seen) == [("a", 3_601_000), ("b", 7_201_000), ("c", 7_201_000)]
    assert clock.monotonic_ms() == pytest.approx(3 * HOUR_S * 1e3)


def test_a_deadlock_says_who_waits() -> None:
    """Everything waits and no timer is set: an error instead of a hang."""
    loop = VirtualLoop()

    async def main() -> None:
        await loop.create_task(forever(), name="the-one-that-waits")

    async def forever() -> None:
        await loop.create_future()

    with pytest.raises(Deadlock, match="the-one-that-waits"):
        loop.run_until_complete(main())
    for task in loop.tasks():
        task.cancel()
    loop.run_until_complete(asyncio.gather(*loop.tasks(), return_exceptions=True))
    loop.close()


def test_there_are_no_threads() -> None:
    """A thread's timing would be somebody else's."""
    loop = VirtualLoop()

    async def main() -> None:
        await asyncio.to_thread(int)

    with pytest.raises(RuntimeError, match="no threads"):
        loop.run_until_complete(main())
    loop.close()


def test_timers_of_one_context_are_forgotten() -> None:
    """A kill takes the timers of its process and leaves those of others."""
    loop = VirtualLoop()
    whose = contextvars.ContextVar("whose", default="")
    rang: list[str] = []

    async def main() -> None:
        for name in ("dead", "alive"):
            context = contextvars.copy_context()
            context.run(whose.set, name)
            loop.call_later(1.0, rang.append, name, context=context)
        loop.forget(lambda handle: origin(handle)[0].get(whose) == "dead")
        await asyncio.wait_for(asyncio.Event().wait(), 2.0)

    with pytest.raises(TimeoutError):
        loop.run_until_complete(main())
    loop.close()
    assert rang == ["alive"]


# ---------------------------------------------------------------- turns of the bus in memory


def opened(log: MemoryLog) -> tuple[MemoryBus, object]:
    """A process on the log with one session that owns everything."""
    bus = MemoryBus(log, clock=SystemClock())
    session = bus.open(service="hedger", instance="1", inputs=["account_raw"], tables=[])
    session.poll(0)
    return bus, session


def step(value: str) -> StepRecord:
    """One step of account `a` that says `value`."""
    out = (Outgoing("hedge_trades", "a", value.encode()),)
    return StepRecord(partition_of("a"), "a", value.encode(), out, None, (), durable=True)


def values(log: MemoryLog) -> list[bytes]:
    """What stands in the log."""
    return [r.value for r in log.slots["hedge_trades", partition_of("a")].records]


def test_a_turn_is_all_or_nothing() -> None:
    """What is committed in a turn is seen at once and gone again when its transaction fails."""
    log = MemoryLog("turns")
    bus, session = opened(log)
    with bus.turn():
        session.commit([step("one")], {("account_raw", 0): 1})  # type: ignore[attr-defined]
    assert values(log) == [b"one"]

    def refuse(_steps: object) -> None:
        raise BusError("planted")

    bus.before_commit = refuse
    with pytest.raises(BusError, match="planted"), bus.turn():  # noqa: PT012 - its end raises
        session.commit([step("two")], {("account_raw", 0): 2})  # type: ignore[attr-defined]
        assert values(log) == [b"one", b"two"]
    assert values(log) == [b"one"]
    assert log.positions["hedger"]["account_raw", 0] == 1
    assert log.states["hedger", partition_of("a")] == {"a": b"one"}


def test_a_crash_keeps_what_is_written_and_nothing_else() -> None:
    """Prices told before their transaction, and a turn that had not ended, die with the process."""
    log = MemoryLog("crash")
    bus, session = opened(log)
    publisher = bus.publisher("collector")
    publisher.publish([Outgoing("account_raw", "a", b"fact")])
    publisher.publish([Outgoing("market_data", "linear:BTCUSDT", b"price")])
    with pytest.raises(Fenced), bus.turn():  # noqa: PT012 - the second commit is a dead one
        session.commit([step("lost")], {})  # type: ignore[attr-defined]
        bus.crash()
        session.commit([step("dead")], {})  # type: ignore[attr-defined]
    assert values(log) == []
    assert log.slots["market_data", 0].records == []
    assert len(log.slots["account_raw", partition_of("a")].records) == 1
    with pytest.raises(Fenced, match="killed"):
        publisher.publish([Outgoing("account_raw", "a", b"late")])
    _, session = opened(log)
    session.commit([step("new")], {})  # type: ignore[attr-defined]
    assert values(log) == [b"new"]
