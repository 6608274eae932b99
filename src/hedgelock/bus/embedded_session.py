"""Sessions of the embedded bus: what is new reaches them from memory, the rest from the file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from hedgelock.bus.embedded_hub import Hub
from hedgelock.bus.embedded_store import Slot, known_topic
from hedgelock.bus.signal import Signal
from hedgelock.errors import BusError, Fenced
from hedgelock.ports import Batch, Offsets, Record, StepRecord

_CHUNK: Final = 500
_NOTHING: Final = Batch()


class EmbeddedSession:
    """One member of one group; see `ports.Session`."""

    def __init__(
        self, hub: Hub, *, service: str, instance: str, inputs: Sequence[str],
        tables: Sequence[str],
    ) -> None:
        self.service = service
        self.instance = instance
        self.owned: frozenset[int] = frozenset()
        self._hub = hub
        self._signal = Signal()
        self._tables = [hub.store.slots[t, p] for t in tables
                        for p in range(known_topic(t).partitions)]
        self._inputs = [hub.store.slots[t, p] for t in inputs
                        for p in range(known_topic(t).partitions)]
        self._is_table = {slot.number for slot in self._tables}
        self._cursors: dict[int, int] = {}
        self._ready: dict[int, None] = {}  # slots with unread records, oldest news first
        self._known: frozenset[int] = frozenset()  # partitions as the caller knows them
        self._fresh: set[int] = set()  # partitions to hand out (again)
        self._changed = True
        self._woken = False
        self._fenced = False
        self._closed = False

    @property
    def log_id(self) -> str:
        """See `ports.Session`."""
        return self._hub.store.log_id

    # -- told by the hub and the bus, with the hub's mutex held

    def listen(self) -> None:
        """Read every table from its beginning on."""
        for slot in self._tables:
            self._listen(slot, 0)

    def notice(self, slot: int) -> None:
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
        self._hub.signal.set()

    def fence(self) -> None:
        """Another session took this instance's place."""
        self._fenced = True
        self._stop_listening()
        self._signal.set()

    # -- used by the caller

    def poll(self, timeout_s: float, records_max: int = 200) -> Batch:
        """See `ports.Session`."""
        batch = self._collect(records_max)
        if timeout_s <= 0 or batch is not _NOTHING:
            return batch
        # The operating system's clock, not the bus's: a virtual clock does not run while we wait.
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
        with self._hub.store.lock:
            self.check_owns(partition)
            return self._hub.store.states(self.service, partition)

    def commit(self, steps: Sequence[StepRecord], offsets: Offsets) -> None:
        """See `ports.Session`."""
        self._check_open()
        self._hub.commit(self, steps, offsets)

    def rewind(self) -> None:
        """See `ports.Session`: tables are delivered whole again, too."""
        with self._hub.store.lock, self._hub.mutex:
            self._check_open()
            self._fresh = set(self.owned)
            self._changed = True
            self.listen()

    def wake(self) -> None:
        """See `ports.Session`."""
        self._woken = True
        self._signal.set()
        self._hub.signal.set()

    def close(self) -> None:
        """See `ports.Session`; closing twice is closing once."""
        with self._hub.store.lock, self._hub.mutex:
            if self._closed:
                return
            self._closed = True
            self._stop_listening()
            self._hub.groups[self.service].leave(self)

    def check_owns(self, partition: int) -> None:
        """Raises Fenced unless this session may write for the partition."""
        self._check_open()
        if partition not in self.owned:
            raise Fenced(
                f"{self.service}/{self.instance} no longer owns partition {partition}: drop its "
                "state, rewind and poll"
            )

    # -- how it works

    def _check_open(self) -> None:
        if self._fenced:
            raise Fenced(f"{self.service}/{self.instance} was opened again elsewhere: stop this one")
        if self._closed:
            raise BusError(f"the session {self.service}/{self.instance} is closed")

    def _stop_listening(self) -> None:
        for slot in (*self._tables, *self._inputs):
            self._deafen(slot)

    def _listen(self, slot: Slot, start: int) -> None:
        tail = self._hub.tails[slot.number]
        if self not in tail.readers:
            tail.readers.append(self)
        self._cursors[slot.number] = start
        if start < tail.next:
            self.notice(slot.number)

    def _deafen(self, slot: Slot) -> None:
        tail = self._hub.tails[slot.number]
        if self in tail.readers:
            tail.readers.remove(self)
        self._cursors.pop(slot.number, None)
        self._ready.pop(slot.number, None)

    def _collect(self, records_max: int) -> Batch:
        if not self._ready and not self._changed:
            if self._fenced or self._closed:
                self._check_open()
            return _NOTHING
        revoked, assigned = self._take_ownership() if self._changed else ((), ())
        with self._hub.mutex:
            self._check_open()
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
        if not (rows or records or revoked or assigned):
            return _NOTHING
        return Batch(revoked, assigned, tuple(rows), tuple(records))

    def _take_ownership(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Go to the committed offsets of what is new; (revoked, assigned)."""
        store = self._hub.store
        with store.lock, self._hub.mutex:
            self._check_open()
            committed = store.positions(self.service)
            for slot in self._inputs:
                if slot.partition in self._fresh:
                    self._listen(slot, committed.get(slot.number, 0))
            revoked = tuple(sorted(self._known - self.owned))
            assigned = tuple(sorted(self._fresh))
            self._known = self.owned
            self._fresh = set()
            self._changed = False
        return revoked, assigned

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
            for record in self._take(number, _CHUNK, self._hub.tails[number].next):
                latest.pop(record.key, None)  # re-insert, so that the order stays that of the log
                latest[record.key] = record
        return list(latest.values())
