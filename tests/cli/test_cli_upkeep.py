"""`backup`, `restore`, `upgrade`: copies that are whole, refusals that lose nothing."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.cli_story import Cli, Log, tick
from hedgelock.bus import codec, embedded_copy
from hedgelock.bus.embedded import EmbeddedBus
from hedgelock.bus.embedded_copy import Migration
from hedgelock.bus.embedded_store import SCHEMA_VERSION
from hedgelock.cli import logfile, words
from hedgelock.clock import SystemClock
from hedgelock.errors import BusError
from hedgelock.ports import Outgoing

BTC = "linear:BTCUSDT"


def meta(path: Path) -> dict[str, str]:
    """What a log says of itself."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        return dict(db.execute("SELECT name, value FROM meta").fetchall())


def count(path: Path) -> int:
    """Records in a log."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT count(*) FROM log").fetchone()[0])


def plant(path: Path, **values: str) -> None:
    """Overwrite what a log says of itself."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(values.items()))
        db.commit()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data folder of `cli`."""
    folder = tmp_path / "data"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def closed(data: Path) -> Path:
    """A log with one record that no engine has open."""
    path = data / "hedgelock.db"
    log = Log(path)
    log.put("market_data", BTC, tick(), "collector:tick:1")
    log.bus.close()
    return path


@pytest.fixture
def older(closed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A log of a layout before the first, and the way from it to today's."""
    with contextlib.closing(sqlite3.connect(closed)) as db:
        db.execute("ALTER TABLE slots RENAME COLUMN next_min TO floor")
        db.commit()
    plant(closed, schema=str(SCHEMA_VERSION - 1))
    way = Migration("slots.floor is called next_min",
                    ("ALTER TABLE slots RENAME COLUMN floor TO next_min",))
    monkeypatch.setitem(embedded_copy.MIGRATIONS, SCHEMA_VERSION - 1, way)
    return closed


# ---------------------------------------------------------------- backup


def test_a_backup_is_one_moment_of_a_log_that_is_written(cli: Cli, log: Log, tmp_path: Path) -> None:
    """While a thread writes pairs in one transaction each, a copy holds whole pairs only."""
    out, stop, written = log.bus.publisher("pairs"), threading.Event(), threading.Event()
    value = codec.encode(tick(), id="x", trace=codec.new_trace("x"), causes=(), ts_ms=1)

    def write() -> None:
        while not stop.is_set():
            out.publish([Outgoing("market_data", BTC, value)] * 2)
            written.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert written.wait(10)
        for number in range(5):
            said = cli("backup", str(tmp_path / f"{number}.db"))
            assert said.code == 0, said.err
    finally:
        stop.set()
        writer.join()
    counts = [count(tmp_path / f"{number}.db") for number in range(5)]
    assert counts == sorted(counts)
    assert counts[0] > 0
    assert all(number % 2 == 0 for number in counts)


def test_a_backup_is_a_single_private_file_that_says_until_when(
    cli: Cli, story: Log, tmp_path: Path, data: Path
) -> None:
    """No write-ahead log beside it, readable by its owner only, same log id, newest record named."""
    logfile.marker(data / "hedgelock.db").write_text("testnet\n")
    said = cli("backup", "b.db")
    (newest,) = story.bus.read("trade_confirmations")
    assert f"until {words.moment(newest.ts_ms)}" in said.out
    assert [path.name for path in tmp_path.glob("b.db*")] == ["b.db"]
    assert stat.S_IMODE((tmp_path / "b.db").stat().st_mode) == 0o600
    assert meta(tmp_path / "b.db")["log_id"] == story.bus.log_id
    assert meta(tmp_path / "b.db")["mode"] == "testnet"
    assert meta(tmp_path / "b.db")["writer"] == ""


def test_a_backup_overwrites_only_with_force(cli: Cli, story: Log, tmp_path: Path) -> None:
    """An existing file stays as it is without --force; the log itself is no target."""
    (tmp_path / "b.db").write_text("mine")
    assert cli("backup", "b.db").code == 2
    assert (tmp_path / "b.db").read_text() == "mine"
    assert cli("backup", "b.db", "--force").code == 0
    assert count(tmp_path / "b.db") == 7
    assert cli("backup", "data/hedgelock.db", "--force").code == 2


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (("backup", "b.db"), 1, "no log at"),
        (("backup", "nowhere/b.db"), 2, "no folder"),
        (("backup", "data"), 2, "is a folder"),
        (("restore", "b.db"), 1, "no log at"),
        (("upgrade",), 1, "no log at"),
    ],
)
def test_what_is_not_there_is_named(
    cli: Cli, data: Path, argv: tuple[str, ...], code: int, words: str
) -> None:
    """Each missing file or folder is an error with its name, and leaves nothing behind."""
    said = cli(*argv)
    assert said.code == code
    assert words in said.err
    assert not (data / "hedgelock.db").exists()


@pytest.mark.parametrize("argv", [("backup", "b.db"), ("restore", "b.db"), ("upgrade", "--dry-run")])
def test_on_kafka_they_say_what_to_do_instead(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, argv: tuple[str, ...]
) -> None:
    """The broker's log is not ours to copy: code 2 and the broker's own way."""
    monkeypatch.setenv("KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    said = cli(*argv)
    assert said.code == 2
    assert "broker" in said.err


# ---------------------------------------------------------------- restore


def test_a_restored_log_is_the_same_under_a_new_id(cli: Cli, closed: Path, tmp_path: Path) -> None:
    """Records and mode come back, the id does not: ids of orders are hashes of it."""
    logfile.marker(closed).write_text("demo\n")
    before = meta(closed)["log_id"]
    assert cli("backup", "b.db").code == 0
    for path in closed.parent.iterdir():
        path.unlink()
    said = cli("restore", "b.db")
    assert said.code == 0, said.err
    assert "until" in said.out
    after = meta(closed)
    assert after["log_id"] != before
    assert after["restored_from"] == before
    assert logfile.mode_of(closed) == "demo"
    assert count(closed) == 1
    assert meta(tmp_path / "b.db")["log_id"] == before
    with contextlib.closing(EmbeddedBus(closed, clock=SystemClock(), upkeep=False)) as bus:
        assert [r.offset for r in bus.read("market_data")] == [0]
    assert cli("restore", "b.db", "--force").code == 0
    assert meta(closed)["log_id"] not in (before, after["log_id"])


def test_restore_moves_the_present_log_aside_and_only_with_force(
    cli: Cli, closed: Path, tmp_path: Path
) -> None:
    """Without --force nothing changes; with it the log that was there is kept in old/."""
    cli("backup", "b.db")
    present = meta(closed)["log_id"]
    said = cli("restore", "b.db")
    assert said.code == 2
    assert "--force" in said.err
    assert meta(closed)["log_id"] == present
    assert cli("restore", "b.db", "--force").code == 0
    kept = list((closed.parent / logfile.OLD).glob("*.db"))
    assert [meta(path)["log_id"] for path in kept] == [present]


def test_a_write_ahead_log_without_its_log_is_not_played_into_the_restored_one(
    cli: Cli, log: Log, tmp_path: Path
) -> None:
    """Somebody deleted hedgelock.db alone: what lies beside it does not reach the restored log."""
    path = log.bus.path
    log.put("market_data", BTC, tick(), "collector:tick:1")
    assert cli("backup", "b.db").code == 0
    log.put("market_data", BTC, tick(), "collector:tick:2")
    stale = path.with_name(path.name + "-wal").read_bytes()
    log.bus.close()
    path.unlink()
    path.with_name(path.name + "-wal").write_bytes(stale)
    assert cli("restore", "b.db").code == 0
    assert count(path) == 1
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_restore_refuses_while_an_engine_writes(cli: Cli, log: Log, tmp_path: Path) -> None:
    """The engine's lock holds restore off, its pid is named, and the engine goes on."""
    cli("backup", "b.db")
    said = cli("restore", "b.db", "--force")
    assert said.code == 1
    assert "another engine (pid" in said.err
    log.put("market_data", BTC, tick(), "collector:tick:1")


def test_a_damaged_backup_changes_nothing(cli: Cli, closed: Path, tmp_path: Path) -> None:
    """A backup with a broken page is refused before the present log is touched."""
    log = Log(closed)
    for number in range(300):
        log.put("market_data", BTC, tick(), f"collector:tick:{number}")
    log.bus.close()
    cli("backup", "b.db")
    content = bytearray((tmp_path / "b.db").read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle:middle + 4096] = b"\xff" * 4096
    (tmp_path / "b.db").write_bytes(content)
    present = meta(closed)["log_id"]
    said = cli("restore", "b.db", "--force")
    assert said.code == 1
    assert "damaged" in said.err or "not a readable" in said.err
    assert meta(closed)["log_id"] == present
    assert not list(closed.parent.glob("*.part*"))


@pytest.mark.parametrize("content", [b"", b"no database at all", b"x" * 5000])
def test_what_is_no_backup_is_refused(cli: Cli, data: Path, tmp_path: Path, content: bytes) -> None:
    """A file that is no log of ours is named as such."""
    (tmp_path / "b.db").write_bytes(content)
    said = cli("restore", "b.db")
    assert said.code == 1
    assert "no log of HedgeLock" in said.err or "not a readable" in said.err
    assert not (data / "hedgelock.db").exists()


# ---------------------------------------------------------------- upgrade


def test_the_present_layout_needs_nothing(cli: Cli, closed: Path) -> None:
    """A current log stays byte for byte as it is."""
    before = closed.read_bytes()
    said = cli("upgrade")
    assert said.code == 0
    assert "nothing to change" in said.out
    assert closed.read_bytes() == before


def test_a_dry_run_names_the_changes_and_makes_none(cli: Cli, older: Path) -> None:
    """--dry-run says what would happen to an older log; its bytes stay."""
    before = older.read_bytes()
    said = cli("upgrade", "--dry-run")
    assert said.code == 0, said.err
    assert "layout 0 → 1: slots.floor is called next_min" in said.out
    assert older.read_bytes() == before


def test_an_older_log_is_saved_then_brought_up(cli: Cli, older: Path) -> None:
    """The engine refuses it and names the command; afterwards it opens, and the backup is the old one."""
    with pytest.raises(BusError, match="hedgelock upgrade"):
        EmbeddedBus(older, clock=SystemClock())
    said = cli("upgrade")
    assert said.code == 0, said.err
    assert meta(older)["schema"] == str(SCHEMA_VERSION)
    with contextlib.closing(EmbeddedBus(older, clock=SystemClock(), upkeep=False)) as bus:
        assert [r.offset for r in bus.read("market_data")] == [0]
    (saved,) = (older.parent / logfile.OLD).glob("before-upgrade-from-0-*.db")
    assert meta(saved)["schema"] == "0"


def test_a_failing_migration_leaves_the_log_as_it_was(
    cli: Cli, older: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All or nothing: a statement that fails undoes those before it."""
    way = embedded_copy.MIGRATIONS[0]
    broken = way._replace(statements=(*way.statements, "DROP TABLE no_such_table"))
    monkeypatch.setitem(embedded_copy.MIGRATIONS, 0, broken)
    said = cli("upgrade")
    assert said.code == 1
    assert "as it was" in said.err
    assert meta(older)["schema"] == "0"
    with contextlib.closing(sqlite3.connect(older)) as db:
        db.execute("SELECT floor FROM slots")


def test_a_newer_log_is_refused_everywhere(cli: Cli, closed: Path, tmp_path: Path) -> None:
    """What a newer HedgeLock wrote is neither upgraded nor restored, and stays as it is."""
    plant(closed, schema=str(SCHEMA_VERSION + 1))
    said = cli("upgrade")
    assert said.code == 1
    assert "newer" in said.err
    assert cli("backup", "b.db").code == 0
    closed.unlink()
    said = cli("restore", "b.db")
    assert said.code == 1
    assert "newer" in said.err
    assert not closed.exists()


def test_a_way_that_is_not_known_is_refused(cli: Cli, closed: Path) -> None:
    """An old layout without a migration is not guessed at."""
    plant(closed, schema="0")
    said = cli("upgrade")
    assert said.code == 1
    assert "no way from layout 0" in said.err


def test_states_that_this_version_cannot_read_are_found_before_it_starts(
    cli: Cli, closed: Path
) -> None:
    """A stored state of an unknown shape or service makes upgrade fail and names it."""
    with contextlib.closing(sqlite3.connect(closed)) as db:
        db.execute("INSERT INTO states VALUES ('hedger', 0, 'main', ?)",
                   (b'{"seq": 7, "state": "not a state"}',))
        db.commit()
    said = cli("upgrade", "--dry-run")
    assert said.code == 1
    assert "hedger for main" in said.err


# ---------------------------------------------------------------- old logs


def test_old_logs_are_bounded(closed: Path, data: Path) -> None:
    """old/ keeps the newest of simulations and of others, each up to its number."""
    folder = data / logfile.OLD
    folder.mkdir()
    for number in range(30):
        for mode in ("sim", "live"):
            old = folder / f"{mode}-{number:02}.db"
            old.touch()
            logfile.marker(old).write_text(mode)
    os.utime(closed, (1, 1))  # older than all of them: still the last that was moved
    moved = logfile.move_aside(closed)
    assert moved.exists()
    left = {mode: sorted(folder.glob(f"{mode}-*.db")) for mode in ("sim", "live")}
    assert len(left["sim"]) == logfile.OLD_SIM_MAX
    assert len(left["live"]) == logfile.OLD_MAX - 1  # the one just moved has no mode
    assert left["sim"][-1].name == "sim-29.db"
    assert len(list(folder.glob("*.mode"))) == len(left["sim"]) + len(left["live"])
