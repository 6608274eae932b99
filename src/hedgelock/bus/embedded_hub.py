"""What the sessions of one process share: the one write, the newest records, the groups."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
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


class Tail:
    """The newest records of one slot and the sessions that wait for more; under `Hub.mutex`."""

    def __init__(self, slot: Slot, next_offset: int) -> None:
        self.slot = slot
        self.next = next_offset
        self.first = next_offset
        self.records: list[Record] = []
        self.readers: list[EmbeddedSession] = []

    def append(self, record: Record) -> None:
        """Remember one committed record if anybody listens."""
        self.next = record.offset + 1
        if not self.readers or len(record.value) > TAIL_VALUE_BYTES_MAX:
            self.records.clear()
            self.first = self.next
            return
        self.records.append(record)
        if len(self.records) > 2 * TAIL_RECORDS:
            del self.records[:TAIL_RECORDS]
            self.first += TAIL_RECORDS


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
            store.write(
                [self._logged(r) for r in records],
                states=[(session.service, s.partition, s.key, s.state)
                        for s in steps if s.state is not None],
                positions=[(session.service, store.slots[at].number, offset)
                           for at, offset in offsets.items()],
                durable=any(s.durable for s in steps),
            )
            self._rows_written.add(new_rows, now_ms)
            self._deliver(records)

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

    def _deliver(self, records: Sequence[Record]) -> None:
        """Hand committed records to whoever reads them; with `store.lock` held."""
        with self.mutex:
            for record in records:
                number = self.store.slots[record.topic, record.partition].number
                self.store.next[number] = record.offset + 1
                tail = self.tails[number]
                tail.append(record)
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
        for message in messages:
            known_topic(message.topic)
        if self._pending and self._pending_count + len(messages) > PENDING_MAX:
            self.flush(PENDING_WAIT_S)
        if messages:
            with self.mutex:
                self._pending.append(tuple(messages))
                self._pending_count += len(messages)
            self.write_pending()

    def write_pending(self) -> None:
        """Write what was published, unless another thread is at the file and will do it.

        An error leaves the messages waiting; `flush` reports it, the next write tries again.
        """
        # Looked at again after every release: a publisher that found the lock taken has put its
        # messages here before it looked, so the last one out sees them.
        while self._pending and self.store.lock.acquire(blocking=False):
            try:
                self._append_pending()
            except BusError:
                return
            finally:
                self.store.lock.release()

    def flush(self, timeout_s: float) -> None:
        """Write everything published so far. Raises BusError or StorageFull when it cannot be."""
        if not self._pending:  # messages leave the queue after their transaction
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
        if not waiting:
            return
        records = self._number(
            (located(message) for messages in waiting for message in messages),
            self._clock.now_ms(),
        )
        self.store.write([self._logged(r) for r in records])
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
