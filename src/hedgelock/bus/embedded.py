"""The embedded bus: a durable log in one SQLite file, shared by all services of one engine.

One process writes (the engine); others open the same file read-only while it does.

    embedded_store    the file: layout, transactions, errors
    embedded_hub      what sessions share: the one write, the newest records, the groups
    embedded_session  one member of a group
    embedded_upkeep   checkpoints and retention, in their own thread
"""

from __future__ import annotations

import contextlib
import heapq
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from hedgelock.bus.embedded_hub import Group, Hub
from hedgelock.bus.embedded_session import EmbeddedSession
from hedgelock.bus.embedded_store import (
    Slot,
    Store,
    connect,
    known_topic,
    read_bounds,
    read_chunk,
    read_slots,
    translate,
)
from hedgelock.bus.embedded_upkeep import Retention, Upkeep
from hedgelock.errors import BusError
from hedgelock.ports import Clock, Outgoing, Record
from hedgelock.topics import PARTITIONS

__all__ = ["EmbeddedBus", "EmbeddedPublisher", "Retention"]

FOLLOW_EVERY_S: Final = 0.02
"""How often a follower asks whether another process has written; about 5 µs each."""

_CHUNK: Final = 500


class EmbeddedPublisher:
    """See `ports.Publisher`: written before `publish` returns unless a commit is under way."""

    def __init__(self, hub: Hub, name: str) -> None:
        self.name = name
        self._hub = hub
        self._closed = False

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """See `ports.Publisher`. Raises StorageFull when 10,000 messages wait for the disk."""
        if self._closed:
            raise BusError(f"the publisher {self.name} is closed")
        self._hub.publish(messages)

    def flush(self, timeout_s: float) -> None:
        """See `ports.Publisher`: afterwards the messages survive a kill of this process."""
        self._hub.flush(timeout_s)

    def close(self) -> None:
        """See `ports.Publisher`."""
        if not self._closed:
            self._closed = True
            self._hub.flush(5.0)


class EmbeddedBus:
    """See `ports.Bus`. The same without a file: `memory.MemoryBus`.

    `read_only` opens a log that an engine may be writing; only `read`, `ends` and `log_id` work.
    `upkeep` False starts no thread: call `sweep` and `checkpoint` yourself. `bytes_max` bounds the
    file as a whole (None = the disk); a full one raises StorageFull. `wal_grown_bytes` is written
    to the WAL at once, so that it need not grow while decisions wait for it.
    Raises BusError (no such log, corrupt, another engine has it) and StorageFull (not writable).
    """

    def __init__(
        self, path: Path, *, clock: Clock, retention: Retention | None = None,
        read_only: bool = False, upkeep: bool = True, bytes_max: int | None = None,
        wal_grown_bytes: int = 0,
    ) -> None:
        self.path = path
        self._closing = threading.Event()
        self._hub: Hub | None = None
        self._upkeep: Upkeep | None = None
        if read_only:
            self._open_read_only()
            return
        store = Store(path, bytes_max=bytes_max, wal_grown_bytes=wal_grown_bytes)
        self.log_id, self._slots = store.log_id, store.slots
        self._hub = Hub(store, clock)
        self._upkeep = Upkeep(self._hub, clock, retention or Retention())
        if upkeep:
            self._upkeep.start()

    def _open_read_only(self) -> None:
        if not self.path.is_file():
            raise BusError(f"there is no log at {self.path}: start `hedgelock run` first")
        db = connect(self.path, read_only=True)
        try:
            self.log_id = str(
                db.execute("SELECT value FROM meta WHERE name = 'log_id'").fetchone()[0]
            )
            self._slots = read_slots(db)
        except sqlite3.Error as error:
            raise translate(error, self.path) from error
        finally:
            db.close()

    def _engine(self) -> Hub:
        if self._hub is None:
            raise BusError(f"{self.path} is open read-only: only the engine writes")
        if self._closing.is_set():
            raise BusError(f"the bus {self.path} is closed")
        return self._hub

    # -- ports.Bus

    def open(
        self, *, service: str, instance: str, inputs: Sequence[str], tables: Sequence[str]
    ) -> EmbeddedSession:
        """See `ports.Bus`. Opening an instance again fences its earlier session."""
        hub = self._engine()
        partitions = max((known_topic(name).partitions for name in inputs), default=PARTITIONS)
        session = EmbeddedSession(
            hub, service=service, instance=instance, inputs=inputs, tables=tables
        )
        with hub.store.lock, hub.mutex:
            session.listen()
            hub.groups.setdefault(service, Group(partitions)).join(session)
        return session

    def publisher(self, name: str) -> EmbeddedPublisher:
        """See `ports.Bus`."""
        return EmbeddedPublisher(self._engine(), name)

    def read(
        self, topic: str, *, partition: int | None = None, start: int | None = None,
        follow: bool = False,
    ) -> Iterator[Record]:
        """See `ports.Bus`. Partitions are merged by time. A closed bus ends a follower."""
        known = known_topic(topic)
        wanted = range(known.partitions) if partition is None else [partition]
        if partition is not None and not 0 <= partition < known.partitions:
            raise BusError(f"{topic} has partitions 0 to {known.partitions - 1}, not {partition}")
        return self._read([self._slots[topic, p] for p in wanted], start, follow=follow)

    def ensure_topics(self, services: Iterable[str]) -> None:
        """See `ports.Bus`: the file holds every topic of the map from the start."""

    def ends(self, topic: str) -> dict[int, tuple[int, int]]:
        """See `ports.Bus`."""
        self.settle()
        reader = self._reader()
        try:
            slots = [self._slots[topic, p] for p in range(known_topic(topic).partitions)]
            return {slot.partition: reader.bounds(slot) for slot in slots}
        finally:
            reader.close()

    def close(self) -> None:
        """See `ports.Bus`: waiting messages are written, the WAL is folded into the file."""
        if self._closing.is_set():
            return
        self._closing.set()
        if self._hub is not None and self._upkeep is not None:
            self._upkeep.stop()
            self._hub.signal.set()
            try:
                self._hub.flush(5.0)
            finally:
                self._hub.store.close()

    # -- beyond ports.Bus

    def on_news(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever something was appended, woken or reassigned.

        For whoever pumps all sessions of the engine. Called from any thread, so it must be quick.
        """
        self._engine().signal.listener = listener

    def turn(self) -> contextlib.AbstractContextManager[None]:
        """One transaction for all that is committed within; see `Hub.turn`."""
        return self._engine().turn()

    def settle(self) -> None:
        """Write the market rows that no step has taken along; the pump says it when all is quiet."""
        if self._hub is not None and not self._closing.is_set():
            self._hub.settle()

    @property
    def upkeep_error(self) -> BusError | None:
        """What the last sweep or checkpoint failed with; None when it went well."""
        return self._upkeep.error if self._upkeep else None

    def sweep(self) -> None:
        """Apply retention now; the upkeep thread does it by itself. Raises BusError."""
        self._engine()
        assert self._upkeep is not None
        self._upkeep.sweep()

    def checkpoint(self) -> None:
        """Fold the WAL into the file now. Raises BusError."""
        self._engine()
        assert self._upkeep is not None
        self._upkeep.checkpoint()

    # -- reading

    def _reader(self) -> _Reader:
        return _Reader(self.path)

    def _read(self, slots: list[Slot], start: int | None, *, follow: bool) -> Iterator[Record]:
        self.settle()
        reader = self._reader()
        try:
            cursors = {slot: reader.start(slot, start) for slot in slots}
            while True:
                yield from reader.merged(cursors)
                if not follow or not self._await_news(reader):
                    return
        finally:
            reader.close()

    def _await_news(self, reader: _Reader) -> bool:
        """Wait until another connection has committed; False when the bus closes."""
        while not reader.changed():
            if self._closing.wait(FOLLOW_EVERY_S):
                return False
        return True


class _Reader:
    """One look into the log beside the writer: a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = connect(path, read_only=True)
        self._version = -1

    def close(self) -> None:
        self._db.close()

    def changed(self) -> bool:
        """Whether anybody committed since the last call."""
        version = int(self._db.execute("PRAGMA data_version").fetchone()[0])
        changed, self._version = version != self._version, version
        return changed

    def bounds(self, slot: Slot) -> tuple[int, int]:
        """(oldest kept offset, next offset)."""
        try:
            return read_bounds(self._db, slot)
        except sqlite3.Error as error:
            raise translate(error, self._path) from error

    def start(self, slot: Slot, start: int | None) -> int:
        """Offset to begin at, for the `start` of `Bus.read`."""
        low, following = self.bounds(slot)
        if start is None:
            return low
        return max(low, following + start) if start < 0 else max(low, start)

    def merged(self, cursors: dict[Slot, int]) -> Iterator[Record]:
        """Everything from the cursors to the ends as of now, by time; moves the cursors."""
        ends = {slot: self.bounds(slot)[1] for slot in cursors}
        streams = [self._stream(slot, cursors[slot], ends[slot]) for slot in cursors]
        cursors.update(ends)
        return heapq.merge(*streams, key=lambda record: (record.ts_ms, record.partition))

    def _stream(self, slot: Slot, start: int, stop: int) -> Iterator[Record]:
        while start < stop:
            try:
                chunk = read_chunk(self._db, slot, start, stop, _CHUNK)
            except sqlite3.Error as error:
                raise translate(error, self._path) from error
            yield from chunk
            if len(chunk) < _CHUNK:
                return
            start = chunk[-1].offset + 1

