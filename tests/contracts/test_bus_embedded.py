"""What only the SQLite file can show: processes, kills, full disks, retention, upkeep."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from bus_logs import collect, deadline, fact, first_batch, settle, step, until, values

from hedgelock.bus.embedded import EmbeddedBus, Retention
from hedgelock.bus.embedded_hub import (
    PENDING_MAX,
    TAIL_RECORDS,
    TAIL_VALUE_BYTES_MAX,
    UNWRITTEN_MAX,
)
from hedgelock.clock import SystemClock
from hedgelock.errors import BusError, Fenced, StorageFull
from hedgelock.ports import Outgoing, Session
from hedgelock.topics import JOURNAL_ROWS, partition_of

DAY_MS = 86_400_000


class SetClock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic_ms(self) -> float:
        return float(self.ms)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


def opened(path: Path, **options: object) -> EmbeddedBus:
    """A bus whose upkeep runs only when told."""
    return EmbeddedBus(path, **{"clock": SystemClock(), "upkeep": False, **options})  # type: ignore[arg-type]


def session_of(bus: EmbeddedBus, instance: str = "1") -> Session:
    return bus.open(
        service="risk-engine", instance=instance, inputs=["account_raw"], tables=["market_data"]
    )


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )


# ---------------------------------------------------------------- processes


def test_what_was_flushed_survives_a_kill(path: Path) -> None:
    child = python(
        """
import os, signal, sys
from pathlib import Path
from hedgelock.bus.embedded import EmbeddedBus
from hedgelock.clock import SystemClock
from hedgelock.ports import Outgoing
publisher = EmbeddedBus(Path(sys.argv[1]), clock=SystemClock()).publisher("child")
publisher.publish([Outgoing("account_raw", "a", b"%d" % n) for n in range(100)])
publisher.flush(5.0)
os.kill(os.getpid(), signal.SIGKILL)
""",
        path,
    )
    _, errors = child.communicate(timeout=30)
    assert child.returncode == -9, errors
    bus = opened(path)
    assert values(bus.read("account_raw")) == [str(n) for n in range(100)]
    bus.close()


def test_a_second_engine_is_told_who_has_the_log(path: Path) -> None:
    bus = opened(path)
    child = python(
        """
import sys
from pathlib import Path
from hedgelock.bus.embedded import EmbeddedBus
from hedgelock.clock import SystemClock
from hedgelock.errors import BusError
try:
    EmbeddedBus(Path(sys.argv[1]), clock=SystemClock())
except BusError as error:
    print(error)
""",
        path,
    )


    said, errors = child.communicate(timeout=30)
    assert f"another engine (pid {os.getpid()}) already writes" in said, errors
    bus.close()
    opened(path).close()


def test_an_engine_that_lost_the_file_is_fenced(path: Path) -> None:
    old = opened(path)
    session = session_of(old)
    settle({"1": session})
    path.with_name("log.db.lock").unlink()  # an operator "cleans up"
    new = opened(path)
    with pytest.raises(Fenced, match="another engine"):
        session.commit([step("a", "zombie", fact("a", 1, "risk_state"))], {})
    with pytest.raises(Fenced):
        old.sweep() if list(old.read("risk_state")) else session.commit([step("a", "z")], {})
    assert list(new.read("risk_state")) == []
    new.close()


def test_another_process_reads_while_the_engine_writes(path: Path) -> None:
    bus = opened(path)
    publisher = bus.publisher("test")
    publisher.publish([fact("a", 0)])
    reader = python(
        """
import sys
from pathlib import Path
from hedgelock.bus.embedded import EmbeddedBus
from hedgelock.clock import SystemClock
bus = EmbeddedBus(Path(sys.argv[1]), clock=SystemClock(), read_only=True)
print(bus.log_id, flush=True)
for record in bus.read("account_raw", follow=True):
    print(record.value.decode(), flush=True)
    if record.value == b"3":
        break
bus.close()
""",
        path,
    )
    assert reader.stdout
    assert reader.stdout.readline().strip() == bus.log_id
    for n in range(4):
        assert reader.stdout.readline().strip() == str(n)
        publisher.publish([fact("a", n + 1)])
    reader.communicate(timeout=30)
    assert reader.returncode == 0
    bus.close()


def test_read_only_reads_after_the_engine_is_gone_and_writes_nothing(path: Path) -> None:
    bus = opened(path)
    bus.publisher("test").publish([fact("a", 1)])
    bus.close()
    reader = opened(path, read_only=True)
    assert values(reader.read("account_raw")) == ["1"]
    assert reader.ends("account_raw")[partition_of("a")] == (0, 1)
    with pytest.raises(BusError, match="read-only"):
        reader.publisher("test")
    with pytest.raises(BusError, match="read-only"):
        session_of(reader)
    reader.close()


# ---------------------------------------------------------------- bad storage


def test_a_missing_log_says_what_to_start(path: Path) -> None:
    with pytest.raises(BusError, match="start `hedgelock run` first"):
        opened(path, read_only=True)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_no_log_is_refused(path: Path, *, read_only: bool) -> None:
    path.write_bytes(b"this is not a database, it is a text" * 200)
    with pytest.raises(BusError, match="not a readable SQLite file"):
        opened(path, read_only=read_only)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageFull, match="cannot make the folder"):
        opened(tmp_path / "file" / "log.db")
    with pytest.raises(StorageFull, match="cannot write in"):
        opened(Path("/proc/self/log.db"))


def test_a_newer_layout_is_refused(path: Path) -> None:
    opened(path).close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE meta SET value = '99' WHERE name = 'schema'")
    db.close()
    with pytest.raises(BusError, match="layout 99"):
        opened(path)


def commit_until_full(session: Session) -> int:
    """How many commits found room."""
    for n in range(1_000):
        try:
            session.commit([step("a", f"{n + 1}", fact("a", "x" * 2_000, "risk_state"))], {})
        except StorageFull:
            return n
    pytest.fail("the disk never filled up")


def test_a_full_disk_is_told_and_nothing_is_lost(path: Path) -> None:
    bus = opened(path, bytes_max=400_000)
    session = session_of(bus)
    settle({"1": session})
    kept = commit_until_full(session)
    assert session.restore(partition_of("a")) == {"a": str(kept).encode()}
    assert len(list(bus.read("risk_state"))) == kept
    # Published messages wait, and are reported, until there is room.
    publisher = bus.publisher("test")
    publisher.publish([fact("a", "y" * 2_000) for _ in range(50)])
    with pytest.raises(StorageFull, match="free space"):
        publisher.flush(1.0)
    with pytest.raises(StorageFull):
        bus.close()
    again = opened(path)
    assert len(list(again.read("risk_state"))) == kept
    again.close()


def test_room_made_by_retention_lets_waiting_messages_in(path: Path) -> None:
    clock = SetClock()
    bus = opened(path, bytes_max=400_000, clock=clock)
    publisher = bus.publisher("test")
    for n in range(60):
        publisher.publish([fact("a", f"{n}" + "x" * 5_000)])
    publisher.publish([fact("a", "z" * 150_000)])
    with pytest.raises(StorageFull):
        publisher.flush(1.0)
    clock.ms += 401 * DAY_MS
    bus.sweep()
    publisher.flush(1.0)
    assert [r.value[:1] for r in bus.read("account_raw")] == [b"z"]
    assert bus.ends("account_raw")[partition_of("a")] == (60, 61)
    bus.close()


def test_too_many_waiting_messages_are_refused(path: Path) -> None:
    bus = opened(path, bytes_max=300_000)
    publisher = bus.publisher("test")
    batch = [fact("a", "x" * 1_000) for _ in range(PENDING_MAX // 4)]
    for _ in range(4):
        publisher.publish(batch)  # none of it finds room
    with pytest.raises(StorageFull):
        publisher.publish(batch)
    with pytest.raises(StorageFull):
        bus.close()


# ---------------------------------------------------------------- from memory and from the file


def test_a_table_row_comes_before_the_fact_that_followed_it(path: Path) -> None:
    bus = opened(path)
    session = session_of(bus)
    settle({"1": session})
    bus.publisher("test").publish([fact("BTC", "price", "market_data"), fact("a", 1)])
    batch = session.poll(0)
    assert [*values(batch.rows), *values(batch.records)] == ["price", "1"]
    bus.close()


@pytest.mark.parametrize("size", [1, TAIL_VALUE_BYTES_MAX + 1])
def test_a_reader_behind_the_memory_tail_catches_up(path: Path, size: int) -> None:
    bus = opened(path)
    session = session_of(bus)
    settle({"1": session})
    publisher, amount = bus.publisher("test"), 4 * TAIL_RECORDS if size == 1 else 20
    for n in range(amount):
        publisher.publish([fact("a", f"{n} " + "x" * size)])
    assert [v.split()[0] for v in values(collect(session, amount, 100))] == [
        str(n) for n in range(amount)
    ]
    publisher.publish([fact("a", "last")])
    assert values(session.poll(0).records) == ["last"]
    bus.close()


def test_a_busy_topic_does_not_starve_another(path: Path) -> None:
    bus = opened(path)
    session = bus.open(
        service="hedger", instance="1", inputs=["account_raw", "risk_state"], tables=[]
    )
    settle({"1": session})
    publisher = bus.publisher("test")
    publisher.publish([fact("a", n) for n in range(5_000)])
    publisher.publish([fact("a", "quiet", "risk_state")])
    seen: list[str] = []
    until(lambda: seen.extend(values(session.poll(0, 50).records)) or "quiet" in seen)
    assert len(seen) <= 100
    bus.close()


def test_the_bus_tells_the_pump_of_all_sessions(path: Path) -> None:
    """What was appended, committed or woken is news, told at once in whichever thread did it."""
    bus = opened(path)
    one, two = session_of(bus), bus.open(
        service="hedger", instance="1", inputs=["risk_state"], tables=[]
    )
    settle({"1": one})
    settle({"1": two})
    told: list[str] = []
    bus.on_news(lambda: told.append(threading.current_thread().name))
    bus.publisher("test").publish([fact("a", 1)])
    assert told
    told.clear()
    one.commit([step("a", "s", fact("a", 2, "risk_state"))], {})
    assert told
    assert values(two.poll(0).records) == ["2"]
    told.clear()
    two.wake()
    assert told
    told.clear()
    thread = threading.Thread(target=one.wake, name="another")
    thread.start()
    thread.join()
    assert told == ["another"]
    bus.close()


def test_publishing_never_waits_for_a_commit(path: Path) -> None:
    bus = opened(path)
    session = session_of(bus)
    settle({"1": session})
    store = bus._engine().store  # the one place where the lock can be held on purpose
    taken, enough = threading.Event(), threading.Event()

    def commit_slowly() -> None:
        with store.lock:
            taken.set()
            enough.wait(10)

    other = threading.Thread(target=commit_slowly)
    other.start()
    assert taken.wait(10)
    bus.publisher("test").publish([fact("a", 1)])
    assert not any(session.poll(0))
    enough.set()
    other.join()
    assert values(session.poll(0).records) == ["1"]  # written by whoever let the lock go
    bus.close()


# ---------------------------------------------------------------- turns

RISK = partition_of("a")


def hedger_of(bus: EmbeddedBus) -> Session:
    """A member of the next service of the chain."""
    return bus.open(service="hedger", instance="1", inputs=["risk_state"], tables=[])


def texts(path: Path, topic: str) -> list[str]:
    """What another process reads."""
    bus = EmbeddedBus(path, clock=SystemClock(), read_only=True)
    try:
        return values(list(bus.read(topic)))
    finally:
        bus.close()


def test_a_turn_is_read_at_once_and_written_at_its_end(path: Path) -> None:
    """The chain goes on from memory; the disk gets all of it in one transaction, or nothing yet."""
    bus = opened(path)
    risk = session_of(bus)
    settle({"1": risk})
    bus.publisher("test").publish([fact("a", 1)])
    with bus.turn():
        (record,) = risk.poll(0).records
        risk.commit([step("a", "s1", fact("a", 2, "risk_state"))], {("account_raw", RISK): 1})
        hedger = hedger_of(bus)  # even one that joins only now
        batches = [hedger.poll(0), hedger.poll(0)]
        assert [v for b in batches for v in values(b.records)] == ["2"]
        hedger.commit([step("a", "s2", fact("a", 3, "hedge_trades"))], {("risk_state", RISK): 1})
        assert texts(path, "risk_state") == texts(path, "hedge_trades") == []
    assert record.value == b"1"
    assert (texts(path, "risk_state"), texts(path, "hedge_trades")) == (["2"], ["3"])
    assert (risk.restore(RISK), hedger.restore(RISK)) == ({"a": b"s1"}, {"a": b"s2"})
    bus.close()


def test_a_turn_that_cannot_be_written_never_was(path: Path) -> None:
    """A full disk at the end: offsets, records and states are withdrawn, and the next turn is whole."""
    bus = opened(path, bytes_max=300_000)
    risk = session_of(bus)
    hedger = hedger_of(bus)
    settle({"1": risk})
    settle({"1": hedger})
    bus.publisher("test").publish([fact("a", 1)])
    with pytest.raises(StorageFull), bus.turn():  # noqa: PT012 - it is the end that raises
        risk.poll(0)
        risk.commit([step("a", "s1", Outgoing("risk_state", "a", b"x" * 500_000))],
                    {("account_raw", RISK): 1})
        assert len(hedger.poll(0).records) == 1
    risk.rewind()
    hedger.rewind()
    assert texts(path, "risk_state") == []
    with bus.turn():
        assert values(first_batch(risk).records) == ["1"]
        assert risk.restore(RISK) == {}
        risk.commit([step("a", "s1", fact("a", 2, "risk_state"))], {("account_raw", RISK): 1})
        (record,) = first_batch(hedger).records
        assert (record.offset, record.value) == (0, b"2")
    assert texts(path, "risk_state") == ["2"]
    bus.close()


def test_what_is_published_during_a_turn_follows_it(path: Path) -> None:
    """A turn that fails must not take offsets that others have been given meanwhile."""
    bus = opened(path)
    risk = session_of(bus)
    settle({"1": risk})
    with bus.turn():
        risk.commit([step("a", "s", fact("a", 1, "risk_state"))], {})
        bus.publisher("test").publish([fact("a", 2, "risk_state")])
        assert bus._engine().store.next[bus._slots["risk_state", RISK].number] == 1
    assert texts(path, "risk_state") == ["1", "2"]
    bus.close()


def test_large_values_and_many_of_them_cross_a_turn(path: Path) -> None:
    """Memory is the only place that has them: no bound of the tail drops what is not written."""
    bus = opened(path)
    risk, hedger = session_of(bus), hedger_of(bus)
    settle({"1": risk})
    settle({"1": hedger})
    large = b"x" * (TAIL_VALUE_BYTES_MAX + 1)
    with bus.turn():
        outputs = [Outgoing("risk_state", "a", b"%d" % n) for n in range(3 * TAIL_RECORDS)]
        risk.commit([step("a", "s", Outgoing("risk_state", "a", large), *outputs)], {})
        seen = [r.value for r in collect(hedger, len(outputs) + 1)]
    assert seen == [large, *(o.value for o in outputs)]
    bus.close()


def test_a_price_is_read_before_it_is_written_and_never_written_after_its_use(path: Path) -> None:
    """Rows of a fleeting table ride on the next transaction; without one `settle` writes them."""
    bus = opened(path)
    risk = session_of(bus)
    settle({"1": risk})
    publisher = bus.publisher("test")
    publisher.publish([Outgoing("market_data", "m", b"1")])
    assert values(risk.poll(0).rows) == ["1"]
    assert texts(path, "market_data") == []
    risk.commit([step("a", "s", fact("a", 2, "risk_state"))], {})
    assert (texts(path, "market_data"), texts(path, "risk_state")) == (["1"], ["2"])
    publisher.publish([Outgoing("market_data", "m", b"3")])
    bus.settle()
    publisher.publish([Outgoing("market_data", "m", b"4")])
    publisher.flush(1.0)
    assert texts(path, "market_data") == ["1", "3", "4"]
    publisher.publish([Outgoing("market_data", "m", b"5")])
    assert values(list(bus.read("market_data"))) == ["1", "3", "4", "5"]
    for n in range(UNWRITTEN_MAX + 1):
        publisher.publish([Outgoing("market_data", "m", b"%d" % n)])
    assert len(texts(path, "market_data")) == 4 + UNWRITTEN_MAX + 1  # enough waited
    bus.close()


def test_prices_wait_for_a_disk_that_is_full(path: Path) -> None:
    """Nothing of them is lost, and the decision upon them fails as a whole."""
    bus = opened(path, bytes_max=300_000)
    risk = session_of(bus)
    settle({"1": risk})
    bus.publisher("test").publish([Outgoing("market_data", "m", b"1")])
    with pytest.raises(StorageFull):
        risk.commit([step("a", "s", Outgoing("risk_state", "a", b"x" * 500_000))], {})
    assert (texts(path, "market_data"), texts(path, "risk_state")) == ([], [])
    bus.settle()
    assert texts(path, "market_data") == ["1"]
    bus.close()


def test_a_killed_turn_leaves_no_trace(path: Path) -> None:
    child = python(
        """
import os, signal, sys
from pathlib import Path
from hedgelock.bus.embedded import EmbeddedBus
from hedgelock.clock import SystemClock
from hedgelock.ports import Outgoing, StepRecord
bus = EmbeddedBus(Path(sys.argv[1]), clock=SystemClock())
session = bus.open(service="risk-engine", instance="1", inputs=["account_raw"], tables=[])
session.poll(0)
with bus.turn():
    session.commit([StepRecord(0, "a", b"s", (Outgoing("risk_state", "a", b"1"),), b"{}", (), True)], {})
    os.kill(os.getpid(), signal.SIGKILL)
""",
        path,
    )
    child.communicate(timeout=20)
    bus = opened(path)
    assert list(bus.read("risk_state")) == []
    assert session_of(bus).poll(0).assigned
    bus.close()


def test_a_grown_wal_is_no_part_of_the_log(path: Path) -> None:
    """The working size is there before the first commit; the file holds nothing of it."""
    bus = opened(path, wal_grown_bytes=2 << 20)
    wal = path.with_name(path.name + "-wal")
    assert wal.stat().st_size >= 2 << 20
    bus.publisher("test").publish([fact("a", 1)])
    assert texts(path, "account_raw") == ["1"]
    bus.close()
    assert path.stat().st_size < 1 << 20
    full = opened(path, bytes_max=300_000, wal_grown_bytes=2 << 20)
    assert values(list(full.read("account_raw"))) == ["1"]  # no room to grow is no error
    full.close()


def test_many_publishers_and_commits_at_once_lose_nothing(path: Path) -> None:
    bus = opened(path, upkeep=True, retention=Retention(sweep_every_s=0.01))
    session = session_of(bus)
    settle({"1": session})

    def publish(name: str) -> None:
        publisher = bus.publisher(name)
        for n in range(500):
            publisher.publish([fact(name, n)])
        publisher.close()

    threads = [threading.Thread(target=publish, args=(f"p{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    seen: dict[str, list[str]] = {f"p{i}": [] for i in range(4)}
    for _ in deadline():
        batch = session.poll(0.05)
        for record in batch.records:
            seen[record.key].append(record.value.decode())
            session.commit([step(record.key, "s", fact(record.key, 1, "risk_state"))],
                           {(record.topic, record.partition): record.offset + 1})
        if all(len(v) == 500 for v in seen.values()):
            break
    for thread in threads:
        thread.join()
    assert all(v == [str(n) for n in range(500)] for v in seen.values())
    assert len(list(bus.read("risk_state"))) == 2_000
    bus.close()


# ---------------------------------------------------------------- upkeep


def test_old_facts_go_and_offsets_stay(path: Path) -> None:
    clock = SetClock()
    bus = opened(path, clock=clock)
    publisher, where = bus.publisher("test"), partition_of("a")
    publisher.publish([fact("a", n) for n in range(10)])
    clock.ms += 200 * DAY_MS
    publisher.publish([fact("a", n) for n in range(10, 20)])
    clock.ms += 201 * DAY_MS
    bus.sweep()
    assert bus.ends("account_raw")[where] == (10, 20)
    assert values(bus.read("account_raw")) == [str(n) for n in range(10, 20)]
    clock.ms += 400 * DAY_MS
    bus.sweep()
    assert bus.ends("account_raw")[where] == (20, 20)
    bus.close()
    bus = opened(path, clock=clock)
    bus.publisher("test").publish([fact("a", "next")])
    [record] = bus.read("account_raw")
    assert record.offset == 20
    bus.close()


def test_a_topic_is_kept_below_its_size(path: Path) -> None:
    bus = opened(path, retention=Retention(topic_bytes_max=400_000))
    bus.publisher("test").publish([fact("a", f"{n:04}" + "x" * 996) for n in range(2_000)])
    bus.sweep()
    kept = values(bus.read("account_raw"))
    assert 90 <= len(kept) <= 110, "a quarter of the topic's size: four partitions share it"
    assert kept[-1].startswith("1999")
    bus.close()


def test_tables_are_compacted_to_the_latest_row_per_key(path: Path) -> None:
    bus = opened(path, retention=Retention(compact_rows_min=100))
    bus.publisher("test").publish([fact(f"coin-{n % 7}", n, "symbols") for n in range(1_000)])
    bus.sweep()
    assert values(bus.read("symbols")) == [str(n) for n in range(993, 1_000)]
    rows = first_batch(bus.open(service="x", instance="1", inputs=[], tables=["symbols"])).rows
    assert values(rows) == [str(n) for n in range(993, 1_000)]
    bus.close()


def test_a_journal_row_is_written_again_after_a_day_and_kept_with_its_steps(path: Path) -> None:
    clock = SetClock()
    bus = opened(path, clock=clock)
    session = session_of(bus)
    settle({"1": session})
    for _ in range(20):
        session.commit([step("a", "s", journal="j", rows=(("h", b"row"),))], {})
        session.commit([step("a", "s", journal="j", rows=(("h", b"row"),))], {})
        clock.ms += DAY_MS
        bus.sweep()
    rows, steps = list(bus.read(JOURNAL_ROWS.name)), list(bus.read("steps"))
    assert 14 <= len(rows) <= 16
    assert rows[0].ts_ms <= steps[0].ts_ms
    bus.close()


def test_the_file_shrinks_and_the_wal_stays_small(path: Path) -> None:
    clock = SetClock()
    bus = opened(path, clock=clock, retention=Retention(wal_bytes_max=1 << 20))
    publisher = bus.publisher("test")
    for _ in range(40):
        publisher.publish([fact("a", "x" * 1_000) for _ in range(250)])
        bus.checkpoint()
    assert Path(f"{path}-wal").stat().st_size < 4 << 20
    full = path.stat().st_size
    clock.ms += 401 * DAY_MS
    until(lambda: bus.sweep() or bus.ends("account_raw")[partition_of("a")] == (10_000, 10_000))
    bus.sweep()
    bus.close()
    assert path.stat().st_size < full / 2


def test_the_upkeep_thread_works_by_itself(path: Path) -> None:
    bus = opened(path, upkeep=True, retention=Retention(compact_rows_min=10, sweep_every_s=0.01))
    bus.publisher("test").publish([fact("BTC", n, "symbols") for n in range(100)])
    until(lambda: values(bus.read("symbols")) == ["99"])
    assert bus.upkeep_error is None
    bus.close()


@pytest.mark.no_cover
def test_opening_does_not_read_the_log(path: Path) -> None:
    bus = opened(path)
    publisher = bus.publisher("test")
    for _ in range(40):
        publisher.publish([fact("a", "x" * 100) for _ in range(2_500)])
    bus.close()

    def opening_s() -> float:
        start = time.perf_counter()
        bus = opened(path)
        session = session_of(bus)
        session.poll(0)
        elapsed = time.perf_counter() - start
        bus.close()
        return elapsed

    assert min(opening_s() for _ in range(3)) < 0.2, "100,000 messages"


def test_a_closed_bus_says_so(path: Path) -> None:
    bus = opened(path)
    publisher = bus.publisher("test")
    bus.close()
    bus.close()
    for use in (lambda: bus.publisher("x"), lambda: session_of(bus), bus.sweep):
        with pytest.raises(BusError, match="is closed"):
            use()  # type: ignore[operator]
    with pytest.raises(BusError, match="closed"):
        publisher.publish([Outgoing("account_raw", "a", b"late")])


