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

import hashlib
import heapq
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from hedgelock.bus.embedded_hub import Group, contents, located
from hedgelock.bus.embedded_store import MAP, known_topic
from hedgelock.bus.journal import RowsWritten
from hedgelock.bus.signal import Signal
from hedgelock.errors import BusError, Fenced
from hedgelock.ports import Batch, Clock, Offsets, Outgoing, Record, StepRecord
from hedgelock.topics import PARTITIONS

FOLLOW_EVERY_S: Final = 0.02
"""How long a follower waits for news before it looks whether its bus is closed."""

_NOTHING: Final = Batch()

OnCommit = Callable[[str, Sequence[StepRecord]], None]
"""(service, steps) right before or right after a commit."""


class _Slot:
    """One partition of one topic and the sessions that read it."""

    __slots__ = ("is_table", "partition", "readers", "records", "topic")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.records: list[Record] = []
        self.readers: dict[MemorySession, bool] = {}
        """Session → whether it reads the slot as a table."""


class MemoryLog:
    """What outlives a process: records, states, offsets; and who is in which group.

    `identity` names the log: the same identity gives the same log id.
    """

    def __init__(self, identity: str) -> None:
        self.log_id = hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()
        self.slots = {
            (name, partition): _Slot(name, partition)
            for name, topic in MAP.items() for partition in range(topic.partitions)
        }
        self.states: dict[tuple[str, int], dict[str, bytes]] = {}
        self.positions: dict[str, dict[tuple[str, int], int]] = {}
        self.groups: dict[str, Group] = {}
        self.listeners: dict[MemoryBus, Callable[[], None]] = {}
        self.changed = threading.Condition(threading.RLock())
        """Held by whoever reads or writes; contracts call from many threads, simulations from one."""

    def append(self, messages: Iterable[tuple[str, int, str, bytes]], now_ms: int) -> None:
        """Append (topic, partition, key, value) and tell whoever reads; with the lock held."""
        for topic, partition, key, value in messages:
            slot = self.slots[topic, partition]
            slot.records.append(Record(topic, partition, len(slot.records), key, value, now_ms))
            for reader in slot.readers:
                reader.notice(slot)
        self.changed.notify_all()
        self.tell()

    def tell(self) -> None:
        """Call every listener."""
        for listener in list(self.listeners.values()):
            listener()

    def digest(self) -> str:
        """Hash of every record in every topic: equal for equal runs."""
        hashed = hashlib.blake2b(digest_size=16)
        for slot in self.slots.values():
            for record in slot.records:
                hashed.update(repr(record).encode())
        return hashed.hexdigest()


class MemorySession:
    """One member of one group; see `ports.Session`."""

    def __init__(
        self, bus: MemoryBus, *, service: str, instance: str, inputs: Sequence[str],
        tables: Sequence[str],
    ) -> None:
        self.service = service
        self.instance = instance
        self.owned: frozenset[int] = frozenset()
        self._bus = bus
        self._log = bus.log
        self._signal = Signal()
        self._tables = [self._log.slots[t, p] for t in tables
                        for p in range(known_topic(t).partitions)]
        self._inputs = [self._log.slots[t, p] for t in inputs
                        for p in range(known_topic(t).partitions)]
        self._cursors: dict[_Slot, int] = {}
        self._ready: dict[_Slot, None] = {}  # slots with unread records, oldest news first
        self._known: frozenset[int] = frozenset()  # partitions as the caller knows them
        self._fresh: set[int] = set()  # partitions to hand out (again)
        self._changed = True
        self._woken = False
        self._fenced = ""
        self._closed = False

    @property
    def log_id(self) -> str:
        """See `ports.Session`."""
        return self._log.log_id

    # -- told by the log and its group, with the lock held

    def listen(self) -> None:
        """Read every table from its beginning on."""
        for slot in self._tables:
            self._listen(slot, 0, is_table=True)

    def notice(self, slot: _Slot) -> None:
        """There is something new in a slot that this session reads."""
        self._ready[slot] = None
        self._signal.set()

    def own(self, owned: frozenset[int]) -> None:
        """The group was dealt out anew."""
        lost = self.owned - owned
        self._fresh = (self._fresh | (owned - self.owned)) & owned
        self.owned = owned
        for slot in self._inputs:
            if slot.partition in lost:
                self._deafen(slot)
        self._changed = True
        self._signal.set()
        self._log.tell()

    def fence(self, why: str = "was opened again elsewhere") -> None:
        """Nothing can be read or written through this session any more."""
        self._fenced = why
        for slot in (*self._tables, *self._inputs):
            self._deafen(slot)
        self._signal.set()

    # -- used by the caller

    def poll(self, timeout_s: float, records_max: int = 200) -> Batch:
        """See `ports.Session`."""
        batch = self._collect(records_max)
        if timeout_s <= 0 or batch is not _NOTHING:
            return batch
        # The operating system's clock: a virtual one does not run while we wait.
        deadline = time.monotonic() + timeout_s
        while batch is _NOTHING and not self._woken:
            left = deadline - time.monotonic()
            if left <= 0 or not self._signal.wait(left):
                break
            batch = self._collect(records_max)
        self._woken = False
        return batch

    def restore(self, partition: int) -> dict[str, bytes]:
        """See `ports.Session`. Raises Fenced when the partition is not ours."""
        with self._log.changed:
            self._check_owns(partition)
            return dict(self._log.states.get((self.service, partition), {}))

    def commit(self, steps: Sequence[StepRecord], offsets: Offsets) -> None:
        """See `ports.Session`."""
        self._check_open()
        self._bus.before_commit(self.service, steps)
        with self._log.changed:
            self._commit(steps, offsets)
        self._bus.after_commit(self.service, steps)

    def rewind(self) -> None:
        """See `ports.Session`: tables are delivered whole again, too."""
        with self._log.changed:
            self._check_open()
            self._fresh = set(self.owned)
            self._changed = True
            self.listen()

    def wake(self) -> None:
        """See `ports.Session`."""
        self._woken = True
        self._signal.set()
        if not self._fenced:
            self._log.tell()

    def close(self) -> None:
        """See `ports.Session`; closing twice is closing once."""
        with self._log.changed:
            if self._closed:
                return
            self._closed = True
            for slot in (*self._tables, *self._inputs):
                self._deafen(slot)
            if not self._fenced:
                self._log.groups[self.service].leave(self)

    # -- how it works

    def _commit(self, steps: Sequence[StepRecord], offsets: Offsets) -> None:
        for step in steps:
            self._check_owns(step.partition)
        for _, partition in offsets:
            self._check_owns(partition)
        now_ms = self._bus.clock.now_ms()
        rows = self._bus.rows_written.missing(steps, now_ms)
        messages = list(contents(self.service, steps, rows))  # may raise: nothing is done yet
        for step in steps:
            if step.state is not None:
                at = (self.service, step.partition)
                self._log.states.setdefault(at, {})[step.key] = step.state
        self._log.positions.setdefault(self.service, {}).update(offsets)
        self._bus.rows_written.add(rows, now_ms)
        self._log.append(messages, now_ms)

    def _check_owns(self, partition: int) -> None:
        self._check_open()
        if partition not in self.owned:
            raise Fenced(
                f"{self.service}/{self.instance} no longer owns partition {partition}: drop its "
                "state, rewind and poll"
            )

    def _check_open(self) -> None:
        if self._fenced:
            raise Fenced(f"{self.service}/{self.instance} {self._fenced}: stop this one")
        if self._closed:
            raise BusError(f"the session {self.service}/{self.instance} is closed")

    def _listen(self, slot: _Slot, start: int, *, is_table: bool = False) -> None:
        slot.readers[self] = is_table
        self._cursors[slot] = start
        if start < len(slot.records):
            self.notice(slot)

    def _deafen(self, slot: _Slot) -> None:
        slot.readers.pop(self, None)
        self._cursors.pop(slot, None)
        self._ready.pop(slot, None)

    def _collect(self, records_max: int) -> Batch:
        if not self._ready and not self._changed:
            if self._fenced or self._closed:
                self._check_open()
            return _NOTHING
        with self._log.changed:
            self._check_open()
            revoked, assigned = self._take_ownership() if self._changed else ((), ())
            rows: list[Record] = []
            records: list[Record] = []
            for slot in list(self._ready):
                if slot.readers[self]:
                    rows += self._latest(slot)
                elif len(records) < records_max:
                    records += self._take(slot, records_max - len(records))
        if not (rows or records or revoked or assigned):
            return _NOTHING
        return Batch(revoked, assigned, tuple(rows), tuple(records))

    def _take_ownership(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Go to the committed offsets of what is new; (revoked, assigned)."""
        committed = self._log.positions.get(self.service, {})
        for slot in self._inputs:
            if slot.partition in self._fresh:
                self._listen(slot, committed.get((slot.topic, slot.partition), 0))
        revoked = tuple(sorted(self._known - self.owned))
        assigned = tuple(sorted(self._fresh))
        self._known = self.owned
        self._fresh = set()
        self._changed = False
        return revoked, assigned

    def _take(self, slot: _Slot, limit: int) -> list[Record]:
        """Up to `limit` unread records; a slot with more goes to the end of the queue."""
        start = self._cursors[slot]
        taken = slot.records[start:start + limit]
        self._cursors[slot] = start + len(taken)
        self._ready.pop(slot, None)
        if self._cursors[slot] < len(slot.records):
            self._ready[slot] = None
        return taken

    def _latest(self, slot: _Slot) -> list[Record]:
        """All unread rows of a table, conflated to the latest per key, in the log's order."""
        latest: dict[str, Record] = {}
        for record in self._take(slot, len(slot.records)):
            latest.pop(record.key, None)
            latest[record.key] = record
        return list(latest.values())


class MemoryPublisher:
    """See `ports.Publisher`: in the log before `publish` returns."""

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

    def flush(self, timeout_s: float) -> None:
        """Nothing waits."""

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
        self.before_commit: OnCommit = lambda _service, _steps: None
        self.after_commit: OnCommit = lambda _service, _steps: None
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
            self.log.changed.notify_all()

    # -- beyond ports.Bus

    def on_news(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever something was appended, woken or reassigned."""
        self.log.listeners[self] = listener

    def crash(self) -> None:
        """The process was killed: its sessions leave without a word and can do nothing more."""
        self._crashed = True
        self.log.listeners.pop(self, None)
        with self.log.changed:
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

    def _read(self, slots: list[_Slot], start: int | None, *, follow: bool) -> Iterator[Record]:
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

    def _merged(self, cursors: dict[_Slot, int]) -> Iterator[Record]:
        """Everything from the cursors to the ends as of now, by time; moves the cursors."""
        with self.log.changed:
            streams = [slot.records[at:] for slot, at in cursors.items()]
            for slot, stream in zip(list(cursors), streams, strict=True):
                cursors[slot] += len(stream)
        return heapq.merge(*streams, key=lambda record: (record.ts_ms, record.partition))


def _first(slot: _Slot, start: int | None) -> int:
    if start is None:
        return 0
    return max(0, len(slot.records) + start) if start < 0 else start
