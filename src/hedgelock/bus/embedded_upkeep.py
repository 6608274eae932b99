"""Upkeep of the embedded log in a thread of its own: checkpoints, retention, compaction, vacuum.

It holds the writer's lock only for short pieces of work, so that a step never waits for it long.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from hedgelock.bus.embedded_store import MAP, Slot, connect, read_bounds, translate
from hedgelock.bus.journal import ROWS_MS
from hedgelock.errors import BusError, Fenced
from hedgelock.topics import JOURNAL_ROWS, Kind

if TYPE_CHECKING:
    from hedgelock.bus.embedded_hub import Hub
    from hedgelock.ports import Clock

_PIECE: Final = 100
"""Records deleted, or pages given back, per hold of the lock (well under a millisecond)."""

_PIECES_MAX: Final = 200
"""Pieces per slot and sweep; what is left waits for the next sweep."""

_CHECKPOINT_BYTES: Final = 4 << 20
"""Bytes written, by estimate, after which the WAL is folded into the file: well within the size that
it was given at the start, for syncing one that grows costs every order half as much again."""

_FRAMES_HELD_MAX: Final = 400
_PASSES_MAX: Final = 8
_FREE_PAGES_MIN: Final = 256
_SAMPLES: Final = 32


@dataclass(frozen=True, slots=True)
class Retention:
    """What the log keeps. `age_ms` overrides the topic map (None = for ever).

    `topic_bytes_max` bounds keys and values of one topic, by estimate; the oldest go first.
    `wal_bytes_max` bounds the write-ahead log; a reader that holds an old snapshot can exceed it.
    `compact_rows_min` is how many rows a table takes in before superseded ones are dropped.
    """

    age_ms: Mapping[str, int | None] = field(
        default_factory=lambda: MappingProxyType({JOURNAL_ROWS.name: ROWS_MS})
    )
    topic_bytes_max: int = 1 << 30
    wal_bytes_max: int = 16 << 20
    compact_rows_min: int = 1_000
    sweep_every_s: float = 10.0

    def age_max_ms(self, topic: str) -> int | None:
        """How old a record of a topic may get; None = for ever."""
        return self.age_ms[topic] if topic in self.age_ms else MAP[topic].retention_ms


class Upkeep:
    """The maintenance thread; `sweep` and `checkpoint` may also be called by hand in tests."""

    def __init__(self, hub: Hub, clock: Clock, retention: Retention) -> None:
        self._hub = hub
        self._store = hub.store
        self._clock = clock
        self._retention = retention
        self._stopping = threading.Event()
        self._compacted: dict[int, int] = {}  # table slot -> next offset when last compacted
        self.error: BusError | None = None
        self._db = connect(self._store.path, read_only=False)
        self._page_bytes = self._store.page_bytes
        self._thread = threading.Thread(target=self._run, name="bus-upkeep", daemon=True)

    def start(self) -> None:
        """Run until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, within one piece of work."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._db.close()

    def _run(self) -> None:
        waited_s, pause_s = 0.0, min(0.2, self._retention.sweep_every_s)
        while not self._stopping.wait(pause_s):
            waited_s += pause_s
            try:
                self._hub.settle()
                if self._store.pages_written * self._page_bytes >= _CHECKPOINT_BYTES:
                    self.checkpoint()
                if waited_s >= self._retention.sweep_every_s:
                    waited_s = 0.0
                    self.sweep()
                self.error = None
            except Fenced as error:
                self.error = error
                return
            except BusError as error:  # a full disk: go on sweeping, that is what frees it
                self.error = error

    # -- checkpoints

    def checkpoint(self) -> None:
        """Fold the WAL into the file; cut the WAL when it has outgrown its bound."""
        self._store.pages_written = 0
        frames, copied = self._checkpoint("PASSIVE")
        if frames * self._page_bytes <= self._retention.wal_bytes_max:
            return
        # Passive passes never see the end of a WAL that is always written to. Get close to it
        # first, so that the writer is held only for the rest.
        for _ in range(_PASSES_MAX):
            if frames - copied <= _FRAMES_HELD_MAX:
                break
            frames, copied = self._checkpoint("PASSIVE")
        with self._store.lock:
            self._checkpoint("RESTART")

    def _checkpoint(self, mode: str) -> tuple[int, int]:
        """(frames in the WAL, frames copied to the file so far)."""
        try:
            self._db.execute("PRAGMA busy_timeout=0")
            row = self._db.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        except sqlite3.Error as error:
            raise translate(error, self._store.path) from error
        return int(row[1]), int(row[2])

    # -- retention

    def sweep(self) -> None:
        """Drop what is too old, too much or superseded. Raises BusError, StorageFull."""
        for slot in self._store.slots.values():
            if self._stopping.is_set():
                return
            try:
                if MAP[slot.topic].kind is Kind.TABLE and slot.topic != JOURNAL_ROWS.name:
                    self._compact(slot)
                self._drop_old(slot)
            except sqlite3.Error as error:
                raise translate(error, self._store.path) from error
        self._give_pages_back()
        self._hub.write_pending()

    def _delete(self, ids: list[int], slot: Slot) -> None:
        for at in range(0, len(ids), _PIECE):
            with self._store.lock:
                self._store.delete(ids[at:at + _PIECE], slot)

    def _drop_old(self, slot: Slot) -> None:
        """Drop from the oldest on while it is past its age or the topic past its size."""
        age_max_ms = self._retention.age_max_ms(slot.topic)
        ts_min = -1 if age_max_ms is None else self._clock.now_ms() - age_max_ms
        excess = self._excess(slot)
        for _ in range(_PIECES_MAX):
            oldest = self._db.execute(
                "SELECT id, ts_ms FROM log WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?",
                (slot.first_id, slot.last_id, _PIECE),
            ).fetchall()
            ids = [i for at, (i, ts_ms) in enumerate(oldest) if at < excess or ts_ms < ts_min]
            if not ids:
                return
            self._delete(ids, slot)
            excess -= len(ids)
            if len(ids) < len(oldest) or self._stopping.is_set():
                return

    def _excess(self, slot: Slot) -> int:
        """How many of the oldest records go to keep the slot's share of the topic's bytes.

        The size is estimated from a few records spread over the slot: an exact sum would read
        all of it. A table's offsets have gaps, which overestimates it: tables never shed by size.
        """
        topic = MAP[slot.topic]
        if topic.kind is Kind.TABLE and topic.name != JOURNAL_ROWS.name:
            return 0
        low, following = read_bounds(self._db, slot)
        count = following - low
        if count < _SAMPLES:
            return 0
        sizes = [
            row[0] for i in range(_SAMPLES) if (row := self._db.execute(
                "SELECT length(key) + length(value) FROM log WHERE id = ?",
                (slot.first_id + low + i * count // _SAMPLES,),
            ).fetchone()) is not None
        ]
        mean = max(1.0, sum(sizes) / max(1, len(sizes)))
        return max(0, count - int(self._retention.topic_bytes_max / topic.partitions / mean))

    def _compact(self, slot: Slot) -> None:
        """Keep the latest row per key, once enough came in to make the scan worth it."""
        following = self._store.next[slot.number]
        since = following - self._compacted.get(slot.number, 0)
        if slot.number not in self._compacted:
            since = int(self._db.execute(
                "SELECT count(*) FROM log WHERE id BETWEEN ? AND ?",
                (slot.first_id, slot.last_id),
            ).fetchone()[0])
        if since < self._retention.compact_rows_min:
            return
        superseded = [row[0] for row in self._db.execute(
            "SELECT id FROM (SELECT id, max(id) OVER (PARTITION BY key) AS latest FROM log "
            "WHERE id BETWEEN ? AND ?) WHERE id < latest ORDER BY id",
            (slot.first_id, slot.last_id),
        )]
        self._delete(superseded, slot)
        self._compacted[slot.number] = following

    def _give_pages_back(self) -> None:
        """Shrink the file by its free pages, a piece at a time, keeping some for reuse."""
        for _ in range(_PIECES_MAX):
            with self._store.lock:
                db = self._store.db
                try:
                    free = int(db.execute("PRAGMA freelist_count").fetchone()[0])
                    if free <= _FREE_PAGES_MIN or self._stopping.is_set():
                        return
                    self._store.relax()
                    # A row without columns per page: `execute` would stop after the first one.
                    db.executescript(f"PRAGMA incremental_vacuum({_PIECE})")
                except sqlite3.Error as error:
                    raise translate(error, self._store.path) from error
                self._store.pages_written += _PIECE
