"""Keeping the embedded log: `backup`, `restore`, `upgrade`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from hedgelock.cli.console import PROBLEM, USAGE, examples, fail, load_settings, note, out

if TYPE_CHECKING:
    from hedgelock.bus.embedded_copy import Migration
    from hedgelock.config import Settings

_BROKER_WORDS = {
    "backup": "the broker keeps the log: give topics copies with KAFKA__REPLICATION_FACTOR=3, or mirror "
    "the cluster; copying a broker's files while it runs loses transactions",
    "restore": "restore the broker's topics with the broker's own tools while no service runs; a set of "
    "topics under a new KAFKA__PREFIX starts a new log with new order ids",
    "upgrade": "nothing is to be upgraded on the broker: stop the services, start the new version",
}


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(
        epilog=examples(
            "hedgelock backup monday.db  –  while HedgeLock runs",
            "hedgelock backup monday.db --force  –  replace an earlier one",
        ),
    )(backup)
    app.command(
        epilog=examples(
            "hedgelock restore monday.db  –  HedgeLock must not run",
            "hedgelock restore monday.db --force  –  the present log is moved to data/old first",
        ),
    )(restore)
    app.command(
        epilog=examples(
            "hedgelock upgrade --dry-run  –  what would change",
            "hedgelock upgrade  –  a backup first, then the change",
        ),
    )(upgrade)


File = Annotated[Path, typer.Argument(help="The backup; a file of its own.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]


def _log_of(settings: Settings, command: str) -> Path:
    """The embedded log; on Kafka leave with what to do instead."""
    from hedgelock.cli.logfile import NAME

    if settings.kafka.bootstrap_servers:
        fail(f"hedgelock {command} is for the embedded log; this one is on Kafka",
             why=_BROKER_WORDS[command],
             todo="unset KAFKA__BOOTSTRAP_SERVERS if the log in DATA_DIR is meant", code=USAGE)
    return settings.data_dir / NAME


def _until(newest_ts_ms: int | None) -> str:
    from hedgelock.cli import words

    return "it is empty" if newest_ts_ms is None else f"until {words.moment(newest_ts_ms)}"


# ---------------------------------------------------------------- backup


def backup(file: File, force: Force = False) -> None:
    """Copy the log into one file, checked, as it is at this moment. HedgeLock may run meanwhile."""
    from hedgelock.bus import embedded_copy
    from hedgelock.cli import words
    from hedgelock.cli.logfile import mode_of
    from hedgelock.clock import SystemClock

    path = _log_of(load_settings(), "backup")
    if file.is_dir():
        fail(f"{file} is a folder", todo=f"hedgelock backup {file / 'hedgelock-backup.db'}", code=USAGE)
    if not file.parent.is_dir():
        fail(f"there is no folder {file.parent}", todo=f"mkdir -p {file.parent}", code=USAGE)
    if file.exists() and (path.exists() and file.samefile(path)):
        fail(f"{file} is the log itself", todo="choose another name", code=USAGE)
    if file.exists() and not force:
        fail(f"{file} exists", why="a backup is not overwritten by accident",
             todo=f"another name, or hedgelock backup {file} --force", code=USAGE)
    marks = {"mode": mode_of(path), "backup_ts_ms": str(SystemClock().now_ms())}
    found = embedded_copy.backup(path, file, marks=marks)
    out().print(f"[bold]{file}[/] holds the log {_until(found.newest_ts_ms)}: "
                f"{words.size_of(found.size_bytes)}, checked", soft_wrap=True)
    note(f"back again: hedgelock restore {file}")


# ---------------------------------------------------------------- restore


def restore(file: File, force: Force = False) -> None:
    """Put a backup in the place of the log. HedgeLock must not run.

    The restored log gets a new id, so that no order id of the old one is ever used again. What
    happened after the backup is not in it: at the start HedgeLock reads its account from the exchange.
    """
    from hedgelock.bus import embedded_copy
    from hedgelock.bus.embedded_lock import ProcessLock
    from hedgelock.cli import logfile
    from hedgelock.clock import SystemClock

    settings = load_settings()
    path = _log_of(settings, "restore")
    logfile.check_folder(path)
    lock = ProcessLock(path)  # an engine that writes this log now is named
    try:
        if path.exists() and file.exists() and file.samefile(path):
            fail(f"{file} is the log itself", todo="name a backup", code=USAGE)
        if path.exists() and not force:
            fail(f"there is a log at {path}", why="it may know what is under way at the exchange",
                 todo=f"hedgelock restore {file} --force moves it to {path.parent / logfile.OLD} first",
                 code=USAGE)
        copy = embedded_copy.restored_copy(file, path.parent, now_ms=SystemClock().now_ms())
        logfile.clear_place(path)
        embedded_copy.install(copy, path)
        if copy.source.mode:
            logfile.marker(path).write_text(copy.source.mode + "\n")
    except OSError as error:
        fail(f"the data folder {path.parent} cannot be written", why=error.strerror or str(error),
             todo="mend its permissions; nothing of the backup was lost")
    finally:
        lock.release()
    _tell_restored(settings, path, copy)


def _tell_restored(settings: Settings, path: Path, copy: object) -> None:
    from hedgelock.bus.embedded_copy import Restored
    from hedgelock.bus.embedded_store import SCHEMA_VERSION

    assert isinstance(copy, Restored)
    found, mode = copy.source, settings.trading_mode.value
    out().print(f"[bold]{path}[/] holds the log {_until(found.newest_ts_ms)}; what came later is not in it",
                soft_wrap=True)
    note(f"its id was {found.log_id}, is {copy.log_id}: no order id of the old log comes again")
    note("at the start positions, balances and the loan are read from the exchange, whose word counts; "
         "an order of the lost time that rests there stops the account until you looked: hedgelock doctor")
    if found.layout < SCHEMA_VERSION:
        note("it has an older layout: hedgelock upgrade")
    if found.mode not in ("", mode):
        note(f"it is of mode {found.mode}, and this is mode {mode}: start it with MODE={found.mode}")
    elif mode == "sim":
        note("a simulation starts afresh by itself; to go on with this log: hedgelock run --keep")


# ---------------------------------------------------------------- upgrade


def upgrade(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would change.")
    ] = False,
) -> None:
    """Bring the log of an older version to this one's layout: a backup first, then all or nothing.

    Also reads every stored state as the new version would, so that a version that cannot go on from
    this log is found out before it starts.
    """
    from hedgelock import __version__, app
    from hedgelock.bus import embedded_copy
    from hedgelock.bus.embedded_store import SCHEMA_VERSION

    settings = load_settings()
    path = _log_of(settings, "upgrade")
    found = embedded_copy.summary(path)
    if found.layout > SCHEMA_VERSION:
        fail(f"HedgeLock {__version__} cannot use this log", why=embedded_copy.too_new(path, found.layout))
    steps = embedded_copy.plan(found.layout)
    stored = embedded_copy.states(path)
    unreadable = app.unreadable_states(settings, stored) if not steps else []
    for service, key, why in unreadable:
        note(f"the state of {service} for {key} cannot be read: {why}")
    if unreadable:
        fail(f"HedgeLock {__version__} cannot go on from {len(unreadable)} of {len(stored)} states",
             todo="use the version that wrote this log, or `hedgelock run --fresh`")
    console = out()
    if not steps:
        console.print(f"{path}: layout {found.layout} is current, {len(stored)} states are readable; "
                      "nothing to change", soft_wrap=True)
        return
    _show(found.layout, steps)
    if dry_run:
        note("nothing was changed: --dry-run")
        return
    _apply(settings, path, found.layout)


def _show(layout: int, steps: list[Migration]) -> None:
    for number, step in enumerate(steps, layout):
        out().print(f"layout {number} → {number + 1}: {step.summary}", soft_wrap=True)


def _apply(settings: Settings, path: Path, layout: int) -> None:
    from hedgelock import app
    from hedgelock.bus import embedded_copy
    from hedgelock.bus.embedded_lock import ProcessLock
    from hedgelock.bus.embedded_store import SCHEMA_VERSION
    from hedgelock.cli import logfile
    from hedgelock.errors import BusError

    ProcessLock(path).release()  # before the backup: an engine that runs is named now, not after it
    saved = path.parent / logfile.OLD / f"before-upgrade-from-{layout}-{os.getpid()}.db"
    saved.parent.mkdir(exist_ok=True)
    mode = logfile.mode_of(path)
    embedded_copy.backup(path, saved, marks={"mode": mode})
    logfile.marker(saved).write_text(mode + "\n")
    note(f"a backup: {saved}")
    try:
        embedded_copy.migrate(path)
    except BusError as error:
        _undone(str(error), saved)
    unreadable = app.unreadable_states(settings, embedded_copy.states(path))
    if unreadable:
        fail(f"{len(unreadable)} states cannot be read after the upgrade", why=unreadable[0][2],
             todo=f"with the version before: hedgelock restore {saved} --force")
    out().print(f"[bold]{path}[/] has layout {SCHEMA_VERSION} now", soft_wrap=True)


def _undone(why: str, saved: Path) -> NoReturn:
    fail("the upgrade was not made; the log is as it was", why=why,
         todo=f"its backup: {saved}", code=PROBLEM)
