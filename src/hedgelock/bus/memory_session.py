"""Sessions of the bus in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from hedgelock.bus.embedded_hub import contents
from hedgelock.bus.embedded_store import known_topic
from hedgelock.bus.journal import RowsWritten
from hedgelock.bus.memory_log import MemoryLog, MemorySlot
from hedgelock.bus.signal import Signal
from hedgelock.errors import BusError, Fenced
from hedgelock.ports import Batch, Clock, Offsets, Record, StepRecord

_NOTHING: Final = Batch()

OnCommit = Callable[[Sequence[StepRecord]], None]
"""Called with the steps of a transaction, right before or right after it is written."""


class Process(Protocol):
    """The bus of the process that a session belongs to."""

    log: MemoryLog
    clock: Clock
    rows_written: RowsWritten

    def wrote(self, steps: Sequence[StepRecord]) -> None:
        """A session has committed: the transaction ends, unless a turn goes on."""


class MemorySession:
    """One member of one group; see `ports.Session`."""

    def __init__(
        self, bus: Process, *, service: str, instance: str, inputs: Sequence[str],
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
        self._cursors: dict[MemorySlot, int] = {}
        self._ready: dict[MemorySlot, None] = {}  # slots with unread records, oldest news first
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

    def notice(self, slot: MemorySlot) -> None:
        """There is something new in a slot that this session reads."""
        self._ready[slot] = None
        self._signal.set()

    def withdrawn(self, slot: MemorySlot) -> None:
        """What was told and never written is gone again: whoever saw it rewinds."""
        self._cursors[slot] = min(self._cursors[slot], len(slot.records))

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
        with self._log.changed:
            self._check_open()
            self._commit(steps, offsets)
            self._bus.wrote(steps)

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
                states = self._log.states.setdefault((self.service, step.partition), {})
                self._log.put(states, step.key, step.state)
        positions = self._log.positions.setdefault(self.service, {})
        for at, offset in offsets.items():
            self._log.put(positions, at, offset)
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

    def _listen(self, slot: MemorySlot, start: int, *, is_table: bool = False) -> None:
        slot.readers[self] = is_table
        self._cursors[slot] = start
        if start < len(slot.records):
            self.notice(slot)

    def _deafen(self, slot: MemorySlot) -> None:
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

    def _take(self, slot: MemorySlot, limit: int) -> list[Record]:
        """Up to `limit` unread records; a slot with more goes to the end of the queue."""
        start = self._cursors[slot]
        taken = slot.records[start:start + limit]
        self._cursors[slot] = start + len(taken)
        self._ready.pop(slot, None)
        if self._cursors[slot] < len(slot.records):
            self._ready[slot] = None
        return taken

    def _latest(self, slot: MemorySlot) -> list[Record]:
        """All unread rows of a table, conflated to the latest per key, in the log's order."""
        latest: dict[str, Record] = {}
        for record in self._take(slot, len(slot.records)):
            latest.pop(record.key, None)
            latest[record.key] = record
        return list(latest.values())
