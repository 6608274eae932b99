"""What the sessions of both local buses share: slots, cursors, ownership, waiting.

`S` is a partition of a topic as its log knows it, `K` how cursors name it. A log tells its sessions
what is new with `notice`, a group whom the partitions belong to with `own` and `fence`.
"""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, Generic, Protocol, TypeVar

from hedgelock.bus.signal import Signal
from hedgelock.errors import BusError, Fenced
from hedgelock.ports import Batch, Record

NOTHING: Final = Batch()


class Partition(Protocol):
    """One partition of one topic."""

    @property
    def partition(self) -> int:
        """Its number."""


S = TypeVar("S", bound=Partition)
K = TypeVar("K")


class LocalSession(ABC, Generic[S, K]):
    """One member of one group; see `ports.Session`, of which `restore` and `commit` are missing."""

    def __init__(
        self, *, service: str, instance: str, inputs: Sequence[S], tables: Sequence[S]
    ) -> None:
        self.service = service
        self.instance = instance
        self.owned: frozenset[int] = frozenset()
        self._inputs = inputs
        self._tables = tables
        self._signal = Signal()
        self._cursors: dict[K, int] = {}
        self._ready: dict[K, None] = {}  # slots with unread records, oldest news first
        self._known: frozenset[int] = frozenset()  # partitions as the caller knows them
        self._fresh: set[int] = set()  # partitions to hand out (again)
        self._changed = True
        self._woken = False
        self._fenced = ""
        self._closed = False

    # -- what a log is asked

    @abstractmethod
    def _locked(self) -> contextlib.AbstractContextManager[object]:
        """Hold what ownership and cursors change under."""

    @abstractmethod
    def _hear(self, slot: S, start: int) -> tuple[K, bool]:
        """Be told of what comes to a slot: its key, and whether there is more than `start` now."""

    @abstractmethod
    def _unhear(self, slot: S) -> K:
        """Be told no more; the slot's key. Twice is once."""

    @abstractmethod
    def _committed(self) -> dict[K, int]:
        """Where this service reads on, by slot; absent = at the beginning."""

    @abstractmethod
    def _key(self, slot: S) -> K:
        """How cursors name a slot."""

    @abstractmethod
    def _gather(self, records_max: int) -> tuple[list[Record], list[Record]]:
        """The unread (rows of tables, records of inputs)."""

    @abstractmethod
    def _tell(self) -> None:
        """Tell whoever pumps the sessions of this process."""

    @abstractmethod
    def _leave(self) -> None:
        """Leave the group; having left already is fine."""

    # -- told by the log and the group, with the lock held

    def listen(self) -> None:
        """Read every table from its beginning on."""
        for slot in self._tables:
            self._listen(slot, 0)

    def notice(self, slot: K) -> None:
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
        self._tell()

    def fence(self, why: str = "was opened again elsewhere") -> None:
        """Nothing can be read or written through this session any more."""
        self._fenced = why
        self._stop_listening()
        self._signal.set()

    # -- used by the caller

    def poll(self, timeout_s: float, records_max: int = 200) -> Batch:
        """See `ports.Session`."""
        batch = self._collect(records_max)
        if timeout_s <= 0 or batch is not NOTHING:
            return batch
        # The operating system's clock, not the bus's: a virtual clock does not run while we wait.
        deadline = time.monotonic() + timeout_s
        while batch is NOTHING and not self._woken:
            left = deadline - time.monotonic()
            if left <= 0 or not self._signal.wait(left):
                break
            batch = self._collect(records_max)
        self._woken = False
        return batch

    def rewind(self) -> None:
        """See `ports.Session`: tables are delivered whole again, too."""
        with self._locked():
            self.check_open()
            self._fresh = set(self.owned)
            self._changed = True
            self.listen()

    def wake(self) -> None:
        """See `ports.Session`."""
        self._woken = True
        self._signal.set()
        self._tell()

    def close(self) -> None:
        """See `ports.Session`; closing twice is closing once."""
        with self._locked():
            if self._closed:
                return
            self._closed = True
            self._stop_listening()
            self._leave()

    def check_owns(self, partition: int) -> None:
        """Raises Fenced unless this session may write for the partition."""
        self.check_open()
        if partition not in self.owned:
            raise Fenced(
                f"{self.service}/{self.instance} no longer owns partition {partition}: drop its "
                "state, rewind and poll"
            )

    def check_open(self) -> None:
        """Raises Fenced or BusError when nothing can be read or written any more."""
        if self._fenced:
            raise Fenced(f"{self.service}/{self.instance} {self._fenced}: stop this one")
        if self._closed:
            raise BusError(f"the session {self.service}/{self.instance} is closed")

    # -- how it works

    def _stop_listening(self) -> None:
        for slot in (*self._tables, *self._inputs):
            self._deafen(slot)

    def _listen(self, slot: S, start: int) -> None:
        key, more = self._hear(slot, start)
        self._cursors[key] = start
        if more:
            self.notice(key)

    def _deafen(self, slot: S) -> None:
        key = self._unhear(slot)
        self._cursors.pop(key, None)
        self._ready.pop(key, None)

    def _collect(self, records_max: int) -> Batch:
        if not self._ready and not self._changed:
            if self._fenced or self._closed:
                self.check_open()
            return NOTHING
        revoked, assigned = self._take_ownership() if self._changed else ((), ())
        rows, records = self._gather(records_max)
        if not (rows or records or revoked or assigned):
            return NOTHING
        return Batch(revoked, assigned, tuple(rows), tuple(records))

    def _take_ownership(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Go to the committed offsets of what is new; (revoked, assigned)."""
        with self._locked():
            self.check_open()
            committed = self._committed()
            for slot in self._inputs:
                if slot.partition in self._fresh:
                    self._listen(slot, committed.get(self._key(slot), 0))
            revoked = tuple(sorted(self._known - self.owned))
            assigned = tuple(sorted(self._fresh))
            self._known = self.owned
            self._fresh = set()
            self._changed = False
        return revoked, assigned


def conflate(latest: dict[str, Record], records: Sequence[Record]) -> None:
    """Keep the latest row per key, in the log's order."""
    for record in records:
        latest.pop(record.key, None)  # re-insert, so that the order stays that of the log
        latest[record.key] = record
