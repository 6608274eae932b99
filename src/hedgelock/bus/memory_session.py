"""Sessions of the bus in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Protocol

from hedgelock.bus.embedded_hub import contents
from hedgelock.bus.embedded_store import known_topic
from hedgelock.bus.journal import RowsWritten
from hedgelock.bus.local_session import LocalSession, conflate
from hedgelock.bus.memory_log import MemoryLog, MemorySlot
from hedgelock.ports import Clock, Offsets, Record, StepRecord

OnCommit = Callable[[Sequence[StepRecord]], None]
"""Called with the steps of a transaction, right before or right after it is written."""


class Process(Protocol):
    """The bus of the process that a session belongs to."""

    log: MemoryLog
    clock: Clock
    rows_written: RowsWritten

    def wrote(self, steps: Sequence[StepRecord]) -> None:
        """A session has committed: the transaction ends, unless a turn goes on."""


class MemorySession(LocalSession[MemorySlot, MemorySlot]):
    """One member of one group; see `ports.Session`."""

    def __init__(
        self, bus: Process, *, service: str, instance: str, inputs: Sequence[str],
        tables: Sequence[str],
    ) -> None:
        self._bus = bus
        self._log = bus.log
        read, table = (
            [bus.log.slots[t, p] for t in names for p in range(known_topic(t).partitions)]
            for names in (inputs, tables)
        )
        super().__init__(service=service, instance=instance, inputs=read, tables=table)
        self._are_tables = set(table)

    @property
    def log_id(self) -> str:
        """See `ports.Session`."""
        return self._log.log_id

    def withdrawn(self, slot: MemorySlot) -> None:
        """What was told and never written is gone again: whoever saw it rewinds."""
        self._cursors[slot] = min(self._cursors[slot], len(slot.records))

    def restore(self, partition: int) -> dict[str, bytes]:
        """See `ports.Session`. Raises Fenced when the partition is not ours."""
        with self._log.changed:
            self.check_owns(partition)
            return dict(self._log.states.get((self.service, partition), {}))

    def commit(self, steps: Sequence[StepRecord], offsets: Offsets) -> None:
        """See `ports.Session`."""
        with self._log.changed:
            self.check_open()
            self._commit(steps, offsets)
            self._bus.wrote(steps)

    # -- how it works

    def _commit(self, steps: Sequence[StepRecord], offsets: Offsets) -> None:
        for step in steps:
            self.check_owns(step.partition)
        for _, partition in offsets:
            self.check_owns(partition)
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

    def _locked(self) -> contextlib.AbstractContextManager[object]:
        return self._log.changed

    def _key(self, slot: MemorySlot) -> MemorySlot:
        return slot

    def _hear(self, slot: MemorySlot, start: int) -> tuple[MemorySlot, bool]:
        slot.readers[self] = None
        return slot, start < len(slot.records)

    def _unhear(self, slot: MemorySlot) -> MemorySlot:
        slot.readers.pop(self, None)
        return slot

    def _committed(self) -> dict[MemorySlot, int]:
        offsets = self._log.positions.get(self.service, {})
        return {self._log.slots[at]: offset for at, offset in offsets.items()}

    def _tell(self) -> None:
        if not self._fenced:
            self._log.tell()

    def _leave(self) -> None:
        self._log.groups[self.service].leave(self)

    def _gather(self, records_max: int) -> tuple[list[Record], list[Record]]:
        rows: list[Record] = []
        records: list[Record] = []
        with self._log.changed:
            self.check_open()
            for slot in list(self._ready):
                if slot in self._are_tables:
                    latest: dict[str, Record] = {}
                    conflate(latest, self._take(slot, len(slot.records)))
                    rows += latest.values()
                elif len(records) < records_max:
                    records += self._take(slot, records_max - len(records))
        return rows, records

    def _take(self, slot: MemorySlot, limit: int) -> list[Record]:
        """Up to `limit` unread records; a slot with more goes to the end of the queue."""
        start = self._cursors[slot]
        taken = slot.records[start:start + limit]
        self._cursors[slot] = start + len(taken)
        self._ready.pop(slot, None)
        if self._cursors[slot] < len(slot.records):
            self._ready[slot] = None
        return taken
