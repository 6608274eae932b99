"""What the sessions of one process share: the one write, the newest records, the groups."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from hedgelock.bus.embedded_store import OFFSET_BITS, Slot, Store, known_topic
from hedgelock.bus.journal import RowsWritten, journal_key
from hedgelock.bus.signal import Signal
from hedgelock.errors import BusError
from hedgelock.ports import Clock, Offsets, Outgoing, Record, StepRecord
from hedgelock.topics import JOURNAL, JOURNAL_ROWS, partition_of

if TYPE_CHECKING:
    from hedgelock.bus.embedded_session import EmbeddedSession

TAIL_RECORDS: Final = 256
"""Newest records of a slot kept in memory at least (twice that at most)."""

TAIL_VALUE_BYTES_MAX: Final = 65_536
"""A larger value is read back from the file, so that a tail never holds more than 32 MiB."""

PENDING_MAX: Final = 10_000
"""Published messages that may wait for the file; one more makes its publisher wait."""

PENDING_WAIT_S: Final = 1.0

UNWRITTEN_MAX: Final = 64
"""Fleeting rows that are read already and wait for the next transaction to take them along."""


class Tail:
    """The newest records of one slot and the sessions that wait for more; under `Hub.mutex`."""

    def __init__(self, slot: Slot, next_offset: int) -> None:
        self.slot = slot
        self.next = next_offset
        self.first = next_offset
        self.records: list[Record] = []
        self.readers: list[EmbeddedSession] = []

    def append(self, record: Record, *, written: bool) -> None:
        """Remember a record if anybody listens, or if memory is the only place that has it yet."""
        self.next = record.offset + 1
        if not written:
            self.records.append(record)
            return
        if not self.readers or len(record.value) > TAIL_VALUE_BYTES_MAX:
            self.records.clear()
            self.first = self.next
            return
        self.records.append(record)
        if len(self.records) > 2 * TAIL_RECORDS:
            del self.records[:TAIL_RECORDS]
            self.first += TAIL_RECORDS

    def withdraw(self, following: int) -> None:
        """Forget what was never written: everything from offset `following` on."""
        del self.records[max(0, following - self.first):]
        self.next = following
        self.first = min(self.first, following)


@dataclass(slots=True)
class Turn:
    """What the sessions committed since the turn began, for one transaction at its end."""

    records: list[Record] = field(default_factory=list)
    states: list[tuple[str, int, str, bytes]] = field(default_factory=list)
    positions: list[tuple[str, int, int]] = field(default_factory=list)
    durable: bool = False
    heads: dict[int, int] = field(default_factory=dict)
    """Next offset of each slot that was written to, as it was before."""


class Member(Protocol):
    """A session as its group sees it."""

    instance: str

    def own(self, owned: frozenset[int]) -> None:
        """The group was dealt out anew."""

    def fence(self) -> None:
        """Another session took this instance's place."""


class Group:
    """The members of one service; ranges of partitions by sorted instance name."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.members: dict[str, Member] = {}

    def join(self, session: Member) -> None:
        """Add a member; an earlier session of the same instance is fenced."""
        older = self.members.get(session.instance)
        if older is not None:
            older.fence()
        self.members[session.instance] = session
        self.assign()

    def leave(self, session: Member) -> None:
        """Give the partitions of a member to the others."""
        if self.members.get(session.instance) is session:
            del self.members[session.instance]
            self.assign()

    def assign(self) -> None:
        """Deal the partitions out again: member i owns a contiguous range."""
        count = len(self.members)
        for i, name in enumerate(sorted(self.members)):
            owned = {p for p in range(self.partitions) if p * count // self.partitions == i}
            self.members[name].own(frozenset(owned))


class Hub:
    """The engine's side of the log.

    Lock order: `store.lock`, then `mutex`. Ownership of partitions changes under both, so a
    commit, which holds the first, cannot lose a partition half way.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self.mutex = threading.Lock()
        self.signal = Signal()
        self.tails = {s.number: Tail(s, store.next[s.number]) for s in store.slots.values()}
        self.groups: dict[str, Group] = {}
        self._clock = clock
        store.lock.after = self.write_pending
        self._pending: deque[tuple[Outgoing, ...]] = deque()
        self._pending_count = 0
        self._unwritten: list[Record] = []  # under store.lock
        self._turn: Turn | None = None  # under store.lock
        self._rows_written = RowsWritten()

    # -- the one write

    def commit(
        self, session: EmbeddedSession, steps: Sequence[StepRecord], offsets: Offsets
    ) -> None:
        """See `ports.Session.commit`."""
        store = self.store
        with store.lock:
            for step in steps:
                session.check_owns(step.partition)
            for _, partition in offsets:
                session.check_owns(partition)
            now_ms = self._clock.now_ms()
            new_rows = self._rows_written.missing(steps, now_ms)
            records = self._number(contents(session.service, steps, new_rows), now_ms)
            states = [(session.service, s.partition, s.key, s.state)
                      for s in steps if s.state is not None]
            positions = [(session.service, store.slots[at].number, offset)
                         for at, offset in offsets.items()]
            durable = any(s.durable for s in steps)
            turn = self._turn
            if turn is None:
                self._write(records, states, positions, durable=durable)
            else:
                for record in records:
                    number = store.slots[record.topic, record.partition].number
                    turn.heads.setdefault(number, store.next[number])
                turn.records += records
                turn.states += states
                turn.positions += positions
                turn.durable |= durable
            self._rows_written.add(new_rows, now_ms)
            self._deliver(records, written=turn is None)

    def _write(
        self, records: Sequence[Record], states: Sequence[tuple[str, int, str, bytes]] = (),
        positions: Sequence[tuple[str, int, int]] = (), *, durable: bool = False,
    ) -> None:
        """One transaction, taking along what was told first; with `store.lock` held."""
        self.store.write(
            [self._logged(r) for r in (*self._unwritten, *records)],
            states=states, positions=positions, durable=durable,
        )
        self._unwritten.clear()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Everything that is committed within becomes one transaction at the end, or nothing does.

        Meanwhile it is read from memory, so that a decision crosses the whole chain in one write.
        Raises BusError at the end: whoever committed within must rewind. Nobody else writes
        meanwhile; what is published waits.
        """
        with self.store.lock:
            turn = self._turn = Turn()
            try:
                yield
            finally:
                self._turn = None
                if turn.records or turn.states or turn.positions:
                    self._end(turn)

    def _end(self, turn: Turn) -> None:
        try:
            self._write(turn.records, turn.states, turn.positions, durable=turn.durable)
        except BusError:
            with self.mutex:
                for number, following in turn.heads.items():
                    self.store.next[number] = following
                    self.tails[number].withdraw(following)
            self._rows_written = RowsWritten()
            raise

    def _number(
        self, contents: Iterable[tuple[str, int, str, bytes]], now_ms: int
    ) -> list[Record]:
        """Give each message its offset; nothing is taken until `_deliver`."""
        slots, following = self.store.slots, self.store.next
        heads: dict[int, int] = {}
        records = []
        for topic, partition, key, value in contents:
            number = slots[topic, partition].number
            offset = heads.get(number, following[number])
            heads[number] = offset + 1
            records.append(Record(topic, partition, offset, key, value, now_ms))
        return records

    def _logged(self, record: Record) -> tuple[int, str, bytes, int]:
        number = self.store.slots[record.topic, record.partition].number
        return (number << OFFSET_BITS) + record.offset, record.key, record.value, record.ts_ms

    def _deliver(self, records: Sequence[Record], *, written: bool = True) -> None:
        """Hand records to whoever reads them; with `store.lock` held."""
        with self.mutex:
            for record in records:
                number = self.store.slots[record.topic, record.partition].number
                self.store.next[number] = record.offset + 1
                tail = self.tails[number]
                tail.append(record, written=written)
                for reader in tail.readers:
                    reader.notice(number)
        self.signal.set()

    # -- publishing

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Write at once if the file is free; if not, whoever holds it writes for us.

        So the caller (the event loop) does not wait for a commit's fsync; only when too much
        waits already does it, for a bounded time. Raises StorageFull or BusError when that did
        not help, BusError for an unknown topic; then nothing of `messages` was taken.
        """
        self.store.check_open()
        topics = [known_topic(message.topic) for message in messages]
        if all(topic.is_fleeting for topic in topics) and self._tell_first(messages):
            return
        if self._pending and self._pending_count + len(messages) > PENDING_MAX:
            self.flush(PENDING_WAIT_S)
        if messages:
            with self.mutex:
                self._pending.append(tuple(messages))
                self._pending_count += len(messages)
            self.write_pending()

    def _tell_first(self, messages: Sequence[Outgoing]) -> bool:
        """Hand fleeting rows to their readers now; the next transaction writes them.

        A price reaches the decision without a transaction of its own, and what was decided upon it
        is never on the disk without it. False = not now: others wait, or somebody is at the file.
        """
        if self._pending or len(self._unwritten) + len(messages) > UNWRITTEN_MAX:
            return False
        if not self.store.lock.acquire(blocking=False):
            return False
        try:
            records = self._number(map(located, messages), self._clock.now_ms())
            self._unwritten += records
            self._deliver(records, written=False)
        finally:
            self.store.lock.release()
        self.write_pending()
        return True

    def settle(self) -> None:
        """Write the rows that no transaction has taken along; an error leaves them waiting."""
        if not self._unwritten and self.store.is_braced:
            return
        with contextlib.suppress(BusError), self.store.lock:
            if self._unwritten:
                self._write(())
            self.store.brace()

    def write_pending(self) -> None:
        """Write what was published, unless another thread is at the file and will do it.

        An error leaves the messages waiting; `flush` reports it, the next write tries again.
        """
        # Looked at again after every release: a publisher that found the lock taken has put its
        # messages here before it looked, so the last one out sees them.
        while self._pending and self.store.lock.acquire(blocking=False):
            try:
                if self._turn is not None:
                    return  # this very thread; the lock's release at the turn's end comes here again
                self._append_pending()
            except BusError:
                return
            finally:
                self.store.lock.release()

    def flush(self, timeout_s: float) -> None:
        """Write everything published so far. Raises BusError or StorageFull when it cannot be."""
        if not self._pending and not self._unwritten:  # messages leave the queue after their transaction
            return
        if not self.store.lock.acquire(timeout=timeout_s):
            raise BusError(f"{self.store.path} was busy for {timeout_s} s")
        try:
            self._append_pending()
        finally:
            self.store.lock.release()
        self.write_pending()

    def _append_pending(self) -> None:
        """One transaction for everything that waits; with `store.lock` held."""
        with self.mutex:
            waiting = list(self._pending)
        records = self._number(
            (located(message) for messages in waiting for message in messages),
            self._clock.now_ms(),
        )
        if records or self._unwritten:
            self._write(records)
        with self.mutex:
            for messages in waiting:
                self._pending.popleft()
                self._pending_count -= len(messages)
        self._deliver(records)


def located(message: Outgoing) -> tuple[str, int, str, bytes]:
    """(topic, partition, key, value) of a message. Raises BusError for an unknown topic."""
    partitions = known_topic(message.topic).partitions
    return message.topic, partition_of(message.key, partitions), message.key, message.value


def contents(
    service: str, steps: Sequence[StepRecord], new_rows: dict[str, bytes]
) -> Iterable[tuple[str, int, str, bytes]]:
    """Everything that a commit appends, in the order in which it is appended."""
    for name, row in new_rows.items():
        yield JOURNAL_ROWS.name, 0, name, row
    for step in steps:
        for message in step.outputs:
            yield located(message)
        if step.journal is not None:
            yield JOURNAL.name, step.partition, journal_key(service, step.key), step.journal
