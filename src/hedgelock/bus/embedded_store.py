"""The SQLite file under the embedded bus: its schema, its one writer, its errors.

Every record of every topic lives in one table whose integer key is `slot << 40 | offset`, a slot
being one (topic, partition). Appends, reads from an offset and "the last offset of a slot" are
then plain key seeks, so opening a log costs the same with a thousand or a million messages.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hedgelock.bus.embedded_lock import ProcessLock, WriterLock
from hedgelock.errors import BusError, Fenced, StorageFull
from hedgelock.ports import Record
from hedgelock.topics import JOURNAL, JOURNAL_ROWS, TOPICS, Topic

OFFSET_BITS = 40
SCHEMA_VERSION = 1
_CACHE_SIZE = -4_000  # KiB when negative: what is appended is read from memory, not from here
_PAGE_BYTES = 2_048  # of a new file: what an order waits for is the bytes of the pages it touched
MAP: dict[str, Topic] = {**TOPICS, JOURNAL.name: JOURNAL, JOURNAL_ROWS.name: JOURNAL_ROWS}

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE slots (
  slot INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL,
  next_min INTEGER NOT NULL DEFAULT 0, UNIQUE (topic, partition));
CREATE TABLE log (
  id INTEGER PRIMARY KEY, key TEXT NOT NULL, value BLOB NOT NULL, ts_ms INTEGER NOT NULL);
CREATE TABLE states (
  service TEXT NOT NULL, partition INTEGER NOT NULL, key TEXT NOT NULL, state BLOB NOT NULL,
  PRIMARY KEY (service, partition, key));
CREATE TABLE positions (
  service TEXT NOT NULL, slot INTEGER NOT NULL, next INTEGER NOT NULL,
  PRIMARY KEY (service, slot)) WITHOUT ROWID;
"""
_UPSERT_STATE = (  # in place: REPLACE would rewrite the index too, and every page is synced
    "INSERT INTO states VALUES (?, ?, ?, ?) ON CONFLICT (service, partition, key)"
    " DO UPDATE SET state = excluded.state"
)
_FULL_CODES = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN,
     sqlite3.SQLITE_PERM}
)
_CORRUPT_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class Slot(NamedTuple):
    """One partition of one topic, under its number in the file."""

    number: int
    topic: str
    partition: int

    @property
    def first_id(self) -> int:
        """Key of offset 0."""
        return self.number << OFFSET_BITS

    @property
    def last_id(self) -> int:
        """Key of the highest offset there can be."""
        return ((self.number + 1) << OFFSET_BITS) - 1

    def record(self, row: tuple[int, str, bytes, int]) -> Record:
        """The record that a row of `log` holds."""
        return Record(self.topic, self.partition, row[0] - self.first_id, row[1], row[2], row[3])


def known_topic(name: str) -> Topic:
    """The topic's row of the map. Raises BusError for a name that is not on it."""
    topic = MAP.get(name)
    if topic is None:
        raise BusError(f"unknown topic {name!r}: topics.py is the map of all topics")
    return topic


def translate(error: sqlite3.Error, path: Path) -> BusError:
    """What happened, why, and what to do about it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _FULL_CODES:
        return StorageFull(
            f"the log {path} cannot be written ({error}): the disk is full, its quota is used up "
            "or the folder is read-only; free space or mend the permissions"
        )
    if code in _CORRUPT_CODES:
        return BusError(
            f"the log {path} is not a readable SQLite file ({error}): move it away and restore a "
            "copy, or start with a new path"
        )
    return BusError(f"the log {path} failed: {error}")


def connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    """One connection; statements wait up to 2 s for another process. Raises BusError."""
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    try:
        db = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, timeout=2.0,
            cached_statements=64,
        )
    except sqlite3.Error as error:
        raise translate(error, path) from error
    try:
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error as error:
        db.close()
        raise translate(error, path) from error
    return db


def read_slots(db: sqlite3.Connection) -> dict[tuple[str, int], Slot]:
    """The numbers that this file gave to its topics' partitions."""
    rows = db.execute("SELECT slot, topic, partition FROM slots").fetchall()
    return {(topic, partition): Slot(slot, topic, partition) for slot, topic, partition in rows}


def read_chunk(
    db: sqlite3.Connection, slot: Slot, start: int, stop: int, limit: int
) -> list[Record]:
    """At most `limit` records with start ≤ offset < stop, in order."""
    first = slot.first_id
    rows = db.execute(
        "SELECT id, key, value, ts_ms FROM log WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        (first + start, first + stop, limit),
    ).fetchall()
    return [slot.record(row) for row in rows]


def read_bounds(db: sqlite3.Connection, slot: Slot) -> tuple[int, int]:
    """(oldest kept offset, next offset); both equal when nothing is kept."""
    span = (slot.first_id, slot.last_id)
    # Two statements: SQLite seeks for a lone min() or max(), but scans for both at once.
    # The end first: a record that lands in between is then past it, not before a missing start.
    high = db.execute("SELECT max(id) FROM log WHERE id BETWEEN ? AND ?", span).fetchone()[0]
    low = db.execute("SELECT min(id) FROM log WHERE id BETWEEN ? AND ?", span).fetchone()[0]
    floor = db.execute("SELECT next_min FROM slots WHERE slot = ?", (slot.number,)).fetchone()[0]
    if high is None:
        return int(floor), int(floor)
    return low - slot.first_id, max(int(floor), high - slot.first_id + 1)


class Store:
    """The writing side of the file: one connection under one lock.

    Everything that touches the connection holds `lock`; callers take it, because what they check
    before a write (who owns a partition) and what they tell after it belong to the same section.
    """

    def __init__(self, path: Path, *, bytes_max: int | None, wal_grown_bytes: int = 0) -> None:
        self.path = path
        self.lock = WriterLock()
        self.log_id = ""
        self.pages_written = 0
        self.is_braced = False
        """Transactions wait for the disk."""
        self._closed = False
        self._process_lock = self._take_folder()
        try:
            self.db = connect(path, read_only=False)
            try:
                self._prepare(bytes_max)
                if wal_grown_bytes:
                    self._grow_wal(wal_grown_bytes)
            except sqlite3.Error as error:
                self.db.close()
                raise translate(error, path) from error
        except BusError:
            self._process_lock.release()
            raise

    def _take_folder(self) -> ProcessLock:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageFull(
                f"cannot make the folder {self.path.parent} ({error.strerror}): choose another or "
                "mend its permissions"
            ) from error
        return ProcessLock(self.path)

    def _prepare(self, bytes_max: int | None) -> None:
        db = self.db
        for pragma in (
            f"page_size={_PAGE_BYTES}", "auto_vacuum=INCREMENTAL", "journal_mode=WAL", "synchronous=NORMAL",
            "wal_autocheckpoint=0", f"cache_size={_CACHE_SIZE}", "temp_store=MEMORY",
        ):
            db.execute(f"PRAGMA {pragma}").fetchall()
        if bytes_max is not None:
            page = int(db.execute("PRAGMA page_size").fetchone()[0])
            db.execute(f"PRAGMA max_page_count={max(64, bytes_max // page)}").fetchall()
        db.execute("BEGIN IMMEDIATE")
        with self._finishing():
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
                for statement in _SCHEMA.split(";\n"):
                    db.execute(statement)
                db.execute("INSERT INTO meta VALUES ('schema', ?)", (str(SCHEMA_VERSION),))
                db.execute("INSERT INTO meta VALUES ('log_id', ?)", (secrets.token_hex(16),))
                db.execute("INSERT INTO meta VALUES ('writer', '')")
            meta = dict(db.execute("SELECT name, value FROM meta").fetchall())
            if meta["schema"] != str(SCHEMA_VERSION):
                raise BusError(
                    f"the log {self.path} has layout {meta['schema']}, this HedgeLock writes "
                    f"{SCHEMA_VERSION}: type `hedgelock upgrade --dry-run`, or take another path"
                )
            self.log_id = meta["log_id"]
            # A fresh token per opening: an engine that lost the file unknowingly (its lock file
            # was removed, say) finds another token at its next commit and is fenced.
            self._writer = secrets.token_hex(8)
            db.execute("UPDATE meta SET value = ? WHERE name = 'writer'", (self._writer,))
            db.executemany(
                "INSERT INTO slots (topic, partition) VALUES (?, ?) ON CONFLICT DO NOTHING",
                [(t.name, p) for t in MAP.values() for p in range(t.partitions)],
            )
            db.execute("COMMIT")
        self.page_bytes = int(db.execute("PRAGMA page_size").fetchone()[0])
        self.slots = read_slots(db)
        self.next = {s.number: read_bounds(db, s)[1] for s in self.slots.values()}

    def _grow_wal(self, size: int) -> None:
        """Give the WAL its working size, for to sync a file that grows costs half as much again.

        Pages beyond the cache go there uncommitted, and a rollback leaves the file its length.
        """
        db = self.db
        with contextlib.suppress(sqlite3.Error):
            db.execute("PRAGMA cache_size=8")
            db.execute("BEGIN IMMEDIATE")
            with self._finishing():
                db.execute("CREATE TABLE grown (filling BLOB)")
                for _ in range(size >> 20):
                    db.execute("INSERT INTO grown VALUES (zeroblob(1048576))")
        db.execute(f"PRAGMA cache_size={_CACHE_SIZE}").fetchall()

    @contextlib.contextmanager
    def _finishing(self) -> Iterator[None]:
        try:
            yield
        finally:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")

    def write(
        self, log: Sequence[tuple[int, str, bytes, int]], *,
        states: Sequence[tuple[str, int, str, bytes]] = (),
        positions: Sequence[tuple[str, int, int]] = (), durable: bool = False,
    ) -> None:
        """One transaction, with `lock` held; all or nothing. Raises Fenced, StorageFull, BusError.

        `durable` waits for the disk, and with it everything written before is on the disk.
        """
        self.check_open()
        db = self.db
        try:
            self.relax(durable=durable)  # cannot be changed inside a transaction
            db.execute("BEGIN IMMEDIATE")
            self._check_writer()
            if log:
                db.executemany("INSERT INTO log VALUES (?, ?, ?, ?)", log)
            if states:
                db.executemany(_UPSERT_STATE, states)
            if positions:
                db.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?, ?)", positions)
            db.execute("COMMIT")
        except sqlite3.Error as error:
            raise translate(error, self.path) from error
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
        self.pages_written += self._frames([row[2] for row in log]) + self._frames(
            [row[3] for row in states]
        )

    def _frames(self, values: Sequence[bytes]) -> int:
        """About how many pages the WAL takes for a few values, by what a busy account was seen to."""
        return 4 + sum(1 + len(value) // self.page_bytes for value in values)

    def relax(self, *, durable: bool = False) -> None:
        """Whether the next transactions wait for the disk; with `lock` held, outside of any."""
        if durable is not self.is_braced:
            self.db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            self.is_braced = durable

    def brace(self) -> None:
        """Be ready for a durable write: an order need not wait for the switch. With `lock` held."""
        self.check_open()
        with self._translating():
            self.relax(durable=True)

    def check_open(self) -> None:
        """Raises BusError after `close`."""
        if self._closed:
            raise BusError(f"the bus {self.path} is closed")

    def _check_writer(self) -> None:
        row = self.db.execute("SELECT value FROM meta WHERE name = 'writer'").fetchone()
        if row[0] != self._writer:
            raise Fenced(f"another engine opened {self.path} after this one: stop this process")

    def read(self, slot: Slot, start: int, stop: int, limit: int) -> list[Record]:
        """Records of a slot, from the file; takes the lock. Raises BusError."""
        with self.lock, self._translating():
            return read_chunk(self.db, slot, start, stop, limit)

    def positions(self, service: str) -> dict[int, int]:
        """Slot number -> committed next offset of a group; with `lock` held."""
        with self._translating():
            return dict(self.db.execute(
                "SELECT slot, next FROM positions WHERE service = ?", (service,)
            ).fetchall())

    def states(self, service: str, partition: int) -> dict[str, bytes]:
        """Committed states of one partition; with `lock` held."""
        with self._translating():
            return dict(self.db.execute(
                "SELECT key, state FROM states WHERE service = ? AND partition = ?",
                (service, partition),
            ).fetchall())

    @contextlib.contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise translate(error, self.path) from error

    def delete(self, ids: Sequence[int], slot: Slot) -> None:
        """Drop a few records of a slot, keeping its offsets; with `lock` held."""
        db = self.db
        try:
            self.relax()
            db.execute("BEGIN IMMEDIATE")
            self._check_writer()
            db.executemany("DELETE FROM log WHERE id = ?", [(i,) for i in ids])
            # Kept beside the log, so that a slot swept empty does not count from 0 again.
            db.execute(
                "UPDATE slots SET next_min = ? WHERE slot = ?",
                (self.next[slot.number], slot.number),
            )
            db.execute("COMMIT")
        except sqlite3.Error as error:
            raise translate(error, self.path) from error
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
        self.pages_written += 4 + len(ids)

    def close(self) -> None:
        """Fold the WAL into the file and let the next engine in."""
        with self.lock:
            self._closed = True
            with contextlib.suppress(sqlite3.Error):  # a reader may hold it back: no harm
                self.db.execute("PRAGMA busy_timeout=0")
                self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            self.db.close()
        self._process_lock.release()
