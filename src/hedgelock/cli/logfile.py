"""The embedded log before a run: whose it is, whether it may go on, and moving an old one aside.

A simulation begins a new exchange every time, and a log of another exchange would mislead every
service: it is moved aside. A log of a real account is never moved unless the operator says so.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hedgelock.cli.console import PROBLEM, USAGE, fail, note

if TYPE_CHECKING:
    from hedgelock.config import Settings

NAME = "hedgelock.db"
OLD = "old"
"""Folder in the data folder that takes logs moved aside."""

OLD_SIM_MAX = 5
OLD_MAX = 20
"""Logs kept there: of simulations, which are moved aside at every start, and of everything else."""

_SUFFIXES = ("", "-wal", "-shm", ".mode")


def prepare(settings: Settings, *, fresh: bool | None, yes: bool) -> None:
    """Make the log ready for a run in this mode, or leave with what is wrong.

    `fresh` None: a simulation starts anew, everything else goes on where it stopped.
    """
    if settings.kafka.bootstrap_servers:
        if fresh:
            fail("--fresh cannot empty a Kafka log", why="topics on a broker may belong to others",
                 todo="start on new topics: KAFKA__PREFIX=run2 hedgelock run", code=USAGE)
        return
    path = settings.data_dir / NAME
    check_folder(path)
    _claim(path, settings, fresh=fresh, yes=yes)


def check_folder(path: Path) -> None:
    """Make the log's folder, or leave with what is wrong."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"the data folder {path.parent} cannot be made", why=error.strerror or str(error),
             todo="choose another: --data-dir FOLDER, or DATA_DIR=FOLDER", code=PROBLEM)


def _claim(path: Path, settings: Settings, *, fresh: bool | None, yes: bool) -> None:
    from hedgelock.bus.embedded_lock import ProcessLock

    # Raises BusError naming the pid when an engine writes this log now.
    lock = ProcessLock(path)
    try:
        mode = settings.trading_mode.value
        known = mode_of(path)
        if path.exists():
            # Where the exchange begins anew, so must the log.
            if fresh is None and mode in ("sim", "paper") and known == mode:
                move_aside(path)
            elif fresh:
                _confirm(path, known, yes=yes)
                move_aside(path)
            elif known not in (mode, ""):
                fail(f"the log {path} belongs to mode {known}, this is mode {mode}",
                     why="what one exchange did must not steer orders on another",
                     todo=f"DATA_DIR=data-{mode} hedgelock run, or MODE={known}", code=USAGE)
        marker(path).write_text(mode + "\n")
    except OSError as error:
        fail(f"the data folder {path.parent} cannot be written", why=error.strerror or str(error),
             todo="choose another: --data-dir FOLDER, or mend its permissions")
    finally:
        lock.release()


def _confirm(path: Path, mode: str, *, yes: bool) -> None:
    """A log that is no simulation's is moved aside only when the operator says so."""
    if mode == "sim" or yes:
        return
    warning = (f"{path} knows what is under way at the exchange; a new log must find it out again")
    if not sys.stdin.isatty():
        fail("--fresh needs a yes", why=warning, todo="add --yes if that is meant", code=USAGE)
    note(warning)
    if not typer.confirm(f"Move {path} aside and start with an empty log?"):
        fail("nothing was changed", todo="start without --fresh to go on where it stopped", code=USAGE)


def clear_place(path: Path) -> None:
    """Move what is in a log's place aside, also a write-ahead log whose log is gone. Lock held."""
    if path.exists():
        move_aside(path)
        return
    folder = path.parent / OLD
    for suffix in _SUFFIXES[1:]:
        part = path.with_name(path.name + suffix)
        if part.exists():
            folder.mkdir(exist_ok=True)
            part.replace(folder / f"{part.name}.orphan")


def move_aside(path: Path) -> Path:
    """Move a log and its companions into `old/`; its new place. The lock must be held."""
    stamp = dt.datetime.fromtimestamp(path.stat().st_mtime, tz=dt.UTC).strftime("%Y%m%dT%H%M%S")
    folder = path.parent / OLD
    folder.mkdir(exist_ok=True)
    target, number = folder / f"{path.stem}-{stamp}{path.suffix}", 1
    while target.exists():
        number += 1
        target = folder / f"{path.stem}-{stamp}-{number}{path.suffix}"
    _fold_wal(path)
    for suffix in _SUFFIXES:
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(target.with_name(target.name + suffix))
    note(f"the old log was moved to {target}")
    _forget_oldest(folder, target)
    return target


def _forget_oldest(folder: Path, moved: Path) -> None:
    """Keep the log just moved and the newest others; simulations' are counted apart."""
    logs = sorted(folder.glob("*.db"), key=lambda log: log.stat().st_mtime_ns, reverse=True)
    logs = [moved, *(log for log in logs if log != moved)]
    simulated = [log for log in logs if mode_of(log) == "sim"]
    others = [log for log in logs if log not in simulated]
    gone = (*simulated[OLD_SIM_MAX:], *others[OLD_MAX:])
    for log in gone:
        for suffix in _SUFFIXES:
            log.with_name(log.name + suffix).unlink(missing_ok=True)
    if gone:
        note(f"{folder} keeps {OLD_SIM_MAX} logs of simulations and {OLD_MAX} others; removed: "
             f"{', '.join(log.name for log in gone)}")


def _fold_wal(path: Path) -> None:
    """Put everything into the main file, so that it is whole by itself; a broken one moves as it is."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def marker(path: Path) -> Path:
    """The file beside a log that says which mode wrote it."""
    return path.with_name(path.name + ".mode")


def mode_of(path: Path) -> str:
    """The mode that wrote the log; "" when nothing says so."""
    said = marker(path)
    return said.read_text().strip() if said.exists() else ""
