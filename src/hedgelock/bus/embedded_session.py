"""Sessions of the embedded bus: what is new reaches them from memory, the rest from the file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

from hedgelock.bus.embedded_hub import Hub
from hedgelock.bus.embedded_store import Slot, known_topic
from hedgelock.bus.local_session import LocalSession, conflate
from hedgelock.ports import Offsets, Record, StepRecord

_CHUNK: Final = 500


class EmbeddedSession(LocalSession[Slot, int]):
    """One member of one group; see `ports.Session`."""

    def __init__(
        self, hub: Hub, *, service: str, instance: str, inputs: Sequence[str],
        tables: Sequence[str],
    ) -> None:
        self._hub = hub
        read, table = (
            [hub.store.slots[t, p] for t in names for p in range(known_topic(t).partitions)]
            for names in (inputs, tables)
        )
        super().__init__(service=service, instance=instance, inputs=read, tables=table)
        self._is_table = {slot.number for slot in table}

    @property
    def log_id(self) -> str:
        """See `ports.Session`."""
        return self._hub.store.log_id

    def restore(self, partition: int) -> dict[str, bytes]:
        """See `ports.Session`. Raises Fenced when the partition is not ours."""
        with self._hub.store.lock:
            self.check_owns(partition)
            return self._hub.store.states(self.service, partition)

    def commit(self, steps: Sequence[StepRecord], offsets: Offsets) -> None:
        """See `ports.Session`."""
        self.check_open()
        self._hub.commit(self, steps, offsets)

    # -- how it works

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with self._hub.store.lock, self._hub.mutex:
            yield

    def _key(self, slot: Slot) -> int:
        return slot.number

    def _hear(self, slot: Slot, start: int) -> tuple[int, bool]:
        tail = self._hub.tails[slot.number]
        if self not in tail.readers:
            tail.readers.append(self)
        return slot.number, start < tail.next

    def _unhear(self, slot: Slot) -> int:
        tail = self._hub.tails[slot.number]
        if self in tail.readers:
            tail.readers.remove(self)
        return slot.number

    def _committed(self) -> dict[int, int]:
        return self._hub.store.positions(self.service)

    def _tell(self) -> None:
        self._hub.signal.set()

    def _leave(self) -> None:
        self._hub.groups[self.service].leave(self)

    def _gather(self, records_max: int) -> tuple[list[Record], list[Record]]:
        with self._hub.mutex:
            self.check_open()
            # Facts are read up to where they end now; a table row that was there before a fact
            # therefore always comes before it.
            ends = {number: self._hub.tails[number].next for number in self._ready}
        rows: list[Record] = []
        for number in ends:
            if number in self._is_table:
                rows += self._latest(number)
        records: list[Record] = []
        for number, end in ends.items():
            if number not in self._is_table and len(records) < records_max:
                records += self._take(number, records_max - len(records), end)
        return rows, records

    def _take(self, number: int, limit: int, end: int) -> list[Record]:
        """Up to `limit` unread records before offset `end` of a slot; moves the cursor."""
        with self._hub.mutex:
            self._ready.pop(number, None)
            cursor = self._cursors.get(number)
            if cursor is None:  # the partition went to another member meanwhile
                return []
            tail = self._hub.tails[number]
            first = min(tail.first, end)
            if cursor >= tail.first:
                at = cursor - tail.first
                taken = tail.records[at:at + min(limit, max(0, end - cursor))]
                self._move(number, cursor + len(taken))
                return taken
        taken = self._hub.store.read(tail.slot, cursor, first, limit)
        with self._hub.mutex:
            if self._cursors.get(number) != cursor:
                return []
            # Fewer than asked: the file holds no more before `first`, gaps of retention included.
            self._move(number, taken[-1].offset + 1 if len(taken) == limit else first)
        return taken

    def _move(self, number: int, cursor: int) -> None:
        """Set the cursor; a slot with more to read goes to the end of the queue."""
        self._cursors[number] = cursor
        if cursor < self._hub.tails[number].next:
            self._ready[number] = None

    def _latest(self, number: int) -> list[Record]:
        """All unread rows of a table, conflated to the latest per key."""
        latest: dict[str, Record] = {}
        while number in self._ready:
            conflate(latest, self._take(number, _CHUNK, self._hub.tails[number].next))
        return list(latest.values())
