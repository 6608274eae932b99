"""The bus in memory: the same promises without a file, for simulations of the whole system.

A `MemoryLog` is what would be on the disk: it outlives every process. A `MemoryBus` is one process'
view of it; `crash` leaves it as a kill would: what was committed stands, everything else is gone,
and nothing that still runs of that process can write any more.

    log = MemoryLog("seed 7")
    bus = MemoryBus(log, clock=clock)
    bus.crash()
    bus = MemoryBus(log, clock=clock)      # the next process

Same calls, same times → the same log, byte for byte.
"""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from hedgelock.bus.embedded_hub import Group, located
from hedgelock.bus.embedded_store import known_topic
from hedgelock.bus.journal import RowsWritten
from hedgelock.bus.memory_log import MemoryLog, MemorySlot
from hedgelock.bus.memory_session import MemorySession, OnCommit
from hedgelock.errors import BusError, Fenced
from hedgelock.ports import Clock, Outgoing, Record, StepRecord
from hedgelock.topics import PARTITIONS

__all__ = ["MemoryBus", "MemoryLog", "MemoryPublisher", "MemorySession"]

FOLLOW_EVERY_S: Final = 0.02
"""How long a follower waits for news before it looks whether its bus is closed."""


class MemoryPublisher:
    """See `ports.Publisher`: in the log before `publish` returns; prices with the next transaction."""

    def __init__(self, bus: MemoryBus, name: str) -> None:
        self.name = name
        self._bus = bus
        self._closed = False

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """See `ports.Publisher`. Raises Fenced when the process was killed."""
        self._bus.check_open()
        if self._closed:
            raise BusError(f"the publisher {self.name} is closed")
        with self._bus.log.changed:
            self._bus.log.append([located(m) for m in messages], self._bus.clock.now_ms())
            if not all(known_topic(message.topic).is_fleeting for message in messages):
                self._bus.settle()

    def flush(self, timeout_s: float) -> None:
        """See `ports.Publisher`."""
        self._bus.check_open()
        self._bus.settle()

    def close(self) -> None:
        """See `ports.Publisher`."""
        self._closed = True


class MemoryBus:
    """See `ports.Bus`: one process on a `MemoryLog`.

    `before_commit` and `after_commit` may be replaced: a simulation kills the process there, by
    calling `crash` and raising.
    """

    def __init__(self, log: MemoryLog, *, clock: Clock) -> None:
        self.log = log
        self.clock = clock
        self.rows_written = RowsWritten()
        self.before_commit: OnCommit = lambda _steps: None
        self.after_commit: OnCommit = lambda _steps: None
        self._turn: list[StepRecord] | None = None
        self._sessions: list[MemorySession] = []
        self._closed = False
        self._crashed = False

    # -- ports.Bus

    def open(
        self, *, service: str, instance: str, inputs: Sequence[str], tables: Sequence[str]
    ) -> MemorySession:
        """See `ports.Bus`. Opening an instance again fences its earlier session."""
        self.check_open()
        partitions = max((known_topic(name).partitions for name in inputs), default=PARTITIONS)
        for name in tables:
            known_topic(name)
        session = MemorySession(
            self, service=service, instance=instance, inputs=inputs, tables=tables
        )
        with self.log.changed:
            session.listen()
            self.log.groups.setdefault(service, Group(partitions)).join(session)
        self._sessions.append(session)
        return session

    def publisher(self, name: str) -> MemoryPublisher:
        """See `ports.Bus`."""
        self.check_open()
        return MemoryPublisher(self, name)

    def read(
        self, topic: str, *, partition: int | None = None, start: int | None = None,
        follow: bool = False,
    ) -> Iterator[Record]:
        """See `ports.Bus`. Partitions are merged by time. A closed bus ends a follower."""
        known = known_topic(topic)
        wanted = range(known.partitions) if partition is None else [partition]
        if partition is not None and not 0 <= partition < known.partitions:
            raise BusError(f"{topic} has partitions 0 to {known.partitions - 1}, not {partition}")
        slots = [self.log.slots[topic, p] for p in wanted]
        return self._read(slots, start, follow=follow)

    def ensure_topics(self, services: Iterable[str]) -> None:
        """See `ports.Bus`: the log holds every topic of the map from the start."""

    def ends(self, topic: str) -> dict[int, tuple[int, int]]:
        """See `ports.Bus`."""
        count = known_topic(topic).partitions
        return {p: (0, len(self.log.slots[topic, p].records)) for p in range(count)}

    def close(self) -> None:
        """See `ports.Bus`: the log stays."""
        self._closed = True
        self.log.listeners.pop(self, None)
        with self.log.changed:
            if not self._crashed:
                self.log.write()
            self.log.changed.notify_all()

    # -- beyond ports.Bus

    def on_news(self, listener: Callable[[], None]) -> None:
        """See `ports.LocalBus`."""
        self.log.listeners[self] = listener

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """See `ports.LocalBus`."""
        steps = self._turn = []
        try:
            yield
        finally:
            self._turn = None
            if not self._crashed:
                self._end(steps)

    def settle(self) -> None:
        """See `ports.LocalBus`."""
        if self._turn is None:
            with self.log.changed:
                self.log.write()

    def wrote(self, steps: Sequence[StepRecord]) -> None:
        """See `memory_session.Process`."""
        if self._turn is not None:
            self._turn += steps
        else:
            self._end(steps)

    def _end(self, steps: Sequence[StepRecord]) -> None:
        with self.log.changed:
            try:
                self.before_commit(steps)
            except BusError:
                self.log.withdraw()
                self.rows_written = RowsWritten()
                raise
            self.log.write()
        self.after_commit(steps)

    def crash(self) -> None:
        """The process was killed: its sessions leave without a word and can do nothing more."""
        self._crashed = True
        self.log.listeners.pop(self, None)
        with self.log.changed:
            self.log.withdraw()
            for session in self._sessions:
                session.fence("belonged to a process that was killed")
                self.log.groups[session.service].leave(session)
        self._sessions.clear()

    def check_open(self) -> None:
        """Raises Fenced after a crash, BusError after `close`."""
        if self._crashed:
            raise Fenced("this process was killed")
        if self._closed:
            raise BusError("the bus is closed")

    def _read(self, slots: list[MemorySlot], start: int | None, *, follow: bool) -> Iterator[Record]:
        cursors = {slot: _first(slot, start) for slot in slots}
        while True:
            yield from self._merged(cursors)
            if not follow:
                return
            with self.log.changed:
                while all(len(slot.records) == at for slot, at in cursors.items()):
                    if self._closed or self._crashed:
                        return
                    self.log.changed.wait(FOLLOW_EVERY_S)

    def _merged(self, cursors: dict[MemorySlot, int]) -> Iterator[Record]:
        """Everything from the cursors to the ends as of now, by time; moves the cursors."""
        with self.log.changed:
            streams = [slot.records[at:] for slot, at in cursors.items()]
            for slot, stream in zip(list(cursors), streams, strict=True):
                cursors[slot] += len(stream)
        return heapq.merge(*streams, key=lambda record: (record.ts_ms, record.partition))


def _first(slot: MemorySlot, start: int | None) -> int:
    if start is None:
        return 0
    return max(0, len(slot.records) + start) if start < 0 else start
