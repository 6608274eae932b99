"""Copies of the embedded log: backup while the engine runs, restore, and upgrade of an older layout.

A copy is made whole under another name, checked, and only then given its name; so a file with the
right name is always complete. A restored log gets an identity of its own: order ids are hashes of the
log's, and what the old log ordered after the backup must never be ordered again under the same ids.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from hedgelock.bus.embedded_lock import ProcessLock
from hedgelock.bus.embedded_store import OFFSET_BITS, SCHEMA_VERSION, connect, translate
from hedgelock.errors import BusError

COMPANIONS = ("-wal", "-shm")
"""What SQLite keeps beside a database; folded into a copy before it is given its name."""


class Migration(NamedTuple):
    """The way from one layout to the next: what it does in words, and its statements."""

    summary: str
    statements: tuple[str, ...]


MIGRATIONS: dict[int, Migration] = {}
"""Layout n → how it becomes n + 1. Empty while there has been one layout only."""


class Summary(NamedTuple):
    """What a log says of itself. `newest_ts_ms` is its last record's time, None when it is empty."""

    layout: int
    log_id: str
    mode: str
    newest_ts_ms: int | None
    size_bytes: int


class Restored(NamedTuple):
    """A copy that is ready to take its place: where it lies, whose it was, who it is now."""

    path: Path
    source: Summary
    log_id: str


def summary(path: Path) -> Summary:
    """What is in a log or backup; opened read-only. Raises BusError."""
    if not path.is_file():
        raise BusError(f"there is no log at {path}")
    with contextlib.closing(connect(path, read_only=True)) as db, _translating(path):
        return _summary(db, path)


def backup(source: Path, target: Path, *, marks: Mapping[str, str] = MappingProxyType({})) -> Summary:
    """Copy a log as it is at one moment, while an engine may write it; `marks` go into the copy.

    Replaces `target`. The copy is one file, readable by its owner only. Raises BusError, StorageFull.
    """
    if not source.is_file():
        raise BusError(f"there is no log at {source}")
    part = _part_of(target)
    with contextlib.closing(connect(source, read_only=True)) as db:
        with _translating(source):
            _summary(db, source)  # ours at all?
        _copy(db, part)
    try:
        with contextlib.closing(connect(part, read_only=False)) as copy, _translating(part):
            _change(copy, {**marks, "writer": ""})
            _check(copy, part)
        found = summary(part)
        _finish(part, target)
    except BusError:
        _remove(part)
        raise
    return found


def restored_copy(source: Path, folder: Path, *, now_ms: int) -> Restored:
    """A checked copy of a backup in `folder`, under a new log id. `install` gives it its name.

    Raises BusError: no log, damaged, or of a newer layout; StorageFull.
    """
    found = summary(source)
    if found.layout > SCHEMA_VERSION:
        raise BusError(too_new(source, found.layout))
    part, log_id = _part_of(folder / source.name), secrets.token_hex(16)
    with contextlib.closing(connect(source, read_only=True)) as db:
        _copy(db, part)
    try:
        with contextlib.closing(connect(part, read_only=False)) as copy, _translating(part):
            _check(copy, part)
            _change(copy, {"log_id": log_id, "writer": "", "restored_from": found.log_id,
                           "restored_ts_ms": str(now_ms)})
    except BusError:
        _remove(part)
        raise
    return Restored(part, found, log_id)


def install(copy: Restored, target: Path) -> None:
    """Give a restored copy its name. The caller holds the log's lock and moved the old log aside."""
    for suffix in ("", *COMPANIONS):
        # A write-ahead log left alone would be played into the new file.
        assert not target.with_name(target.name + suffix).exists(), "the old log is still in place"
    _finish(copy.path, target)


def too_new(path: Path, layout: int) -> str:
    """What to say of a log that a newer HedgeLock wrote."""
    return (f"{path} has layout {layout}, this HedgeLock knows {SCHEMA_VERSION}: a newer version "
            "wrote it, use that one")


# ---------------------------------------------------------------- upgrade


def plan(layout: int, *, to: int = SCHEMA_VERSION) -> list[Migration]:
    """The migrations from a layout to `to`, in order; [] when it is current.

    Raises BusError when a step is not known, or the layout is newer than `to`.
    """
    if layout > to:
        raise BusError(f"layout {layout} is newer than {to}: a newer HedgeLock wrote it, use that one")
    missing = [number for number in range(layout, to) if number not in MIGRATIONS]
    if missing:
        raise BusError(f"this HedgeLock knows no way from layout {missing[0]} to {missing[0] + 1}: "
                       "upgrade with the versions between")
    return [MIGRATIONS[number] for number in range(layout, to)]


def migrate(path: Path, *, to: int = SCHEMA_VERSION) -> int:
    """Bring a log to layout `to`, in one transaction; its layout before. Takes the engine's lock.

    Raises BusError (an engine runs, no way known, a statement failed); nothing is changed then.
    """
    lock = ProcessLock(path)
    try:
        with contextlib.closing(connect(path, read_only=False)) as db, _translating(path):
            layout = _summary(db, path).layout
            steps = plan(layout, to=to)
            db.execute("BEGIN IMMEDIATE")
            try:
                for step in steps:
                    for statement in step.statements:
                        db.execute(statement)
                db.execute("UPDATE meta SET value = ? WHERE name = 'schema'", (str(to),))
                _check(db, path)
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
            return layout
    finally:
        lock.release()


def states(path: Path) -> list[tuple[str, str, bytes]]:
    """(service, key, state) of everything that services stored. Raises BusError."""
    with contextlib.closing(connect(path, read_only=True)) as db, _translating(path):
        rows = db.execute("SELECT service, key, state FROM states ORDER BY service, key").fetchall()
        return [(str(service), str(key), bytes(state)) for service, key, state in rows]


# ---------------------------------------------------------------- parts


def _summary(db: sqlite3.Connection, path: Path) -> Summary:
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
        raise BusError(f"{path} is no log of HedgeLock")
    meta = dict(db.execute("SELECT name, value FROM meta").fetchall())
    if not meta.get("schema", "").isdecimal() or not meta.get("log_id"):
        raise BusError(f"{path} is no log of HedgeLock")
    return Summary(int(meta["schema"]), meta["log_id"], meta.get("mode", ""), _newest(db),
                   path.stat().st_size)


def _newest(db: sqlite3.Connection) -> int | None:
    """Time of the newest record: the last of each slot is one key seek."""
    found: list[int] = []
    for (slot,) in db.execute("SELECT slot FROM slots").fetchall():
        row = db.execute("SELECT ts_ms FROM log WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1",
                         (slot << OFFSET_BITS, ((slot + 1) << OFFSET_BITS) - 1)).fetchone()
        if row is not None:
            found.append(row[0])
    return max(found, default=None)


def _part_of(target: Path) -> Path:
    """The name of an unfinished copy; what an earlier attempt left there is removed."""
    part = target.with_name(f"{target.name}.part")
    _remove(part)
    return part


def _remove(part: Path) -> None:
    for suffix in ("", *COMPANIONS):
        part.with_name(part.name + suffix).unlink(missing_ok=True)


def _copy(source: sqlite3.Connection, part: Path) -> None:
    """Everything as of now into a new file of one's own; one snapshot, writers go on meanwhile."""
    try:
        os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except OSError as error:
        raise BusError(f"{part.parent} cannot be written: {error.strerror}") from error
    try:
        with contextlib.closing(connect(part, read_only=False)) as copy, _translating(part):
            # All pages in one step: page by page, a busy writer would make it start over for ever.
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE").fetchall()
    except BusError:
        _remove(part)
        raise


def _change(copy: sqlite3.Connection, meta: Mapping[str, str]) -> None:
    copy.execute("BEGIN IMMEDIATE")
    copy.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(meta.items()))
    copy.execute("COMMIT")


def _check(db: sqlite3.Connection, path: Path) -> None:
    """Raises BusError when SQLite finds the file damaged."""
    found = [row[0] for row in db.execute("PRAGMA integrity_check(3)").fetchall()]
    if found != ["ok"]:
        raise BusError(f"{path} is damaged: {'; '.join(found)}")


def _finish(part: Path, target: Path) -> None:
    """On the disk, then under its name, then the name on the disk."""
    _sync(part)
    part.replace(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _translating(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise translate(error, path) from error
