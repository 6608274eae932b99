"""What every bus promises, shown on all: the SQLite file, a real Kafka broker, the memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from bus_logs import (
    EmbeddedLog,
    InMemoryLog,
    KafkaLog,
    Log,
    after,
    collect,
    deadline,
    fact,
    first_batch,
    key_in,
    settle,
    step,
    until,
    values,
)

from hedgelock.clock import SystemClock
from hedgelock.errors import BusError, Fenced
from hedgelock.ports import Outgoing, Session
from hedgelock.topics import JOURNAL, JOURNAL_ROWS, PARTITIONS, partition_of


@pytest.fixture(params=["embedded", "memory", pytest.param("kafka", marks=pytest.mark.kafka)])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    """An empty log."""
    if request.param == "embedded":
        made: Log = EmbeddedLog(tmp_path)
    elif request.param == "memory":
        made = InMemoryLog()
    else:
        made = KafkaLog(request.getfixturevalue("kafka_bootstrap"))
    yield made
    made.close()


def open_risk(log: Log, instance: str = "1", service: str = "risk-engine") -> Session:
    """A session that reads account facts and two tables."""
    return log.bus().open(
        service=service, instance=instance, inputs=["account_raw"],
        tables=["market_data", "policies"],
    )


# ---------------------------------------------------------------- order, groups, redelivery


def test_order_is_kept_per_key(log: Log) -> None:
    session = open_risk(log)
    keys = [key_in(p) for p in range(PARTITIONS)]
    log.publish(*(fact(key, n) for n in range(50) for key in keys))
    records = collect(session, 200)
    for key in keys:
        assert values(r for r in records if r.key == key) == [str(n) for n in range(50)]
    assert all(r.partition == partition_of(r.key) for r in records)


def test_groups_read_independently(log: Log) -> None:
    one, other = open_risk(log), open_risk(log, service="hedger")
    log.publish(fact("a", 1))
    [record] = collect(one, 1)
    one.commit([step("a", "s")], after([record]))
    assert values(collect(other, 1)) == ["1"]


def test_a_new_group_starts_at_the_oldest_record(log: Log) -> None:
    log.publish(fact("a", 1), fact("a", 2))
    assert values(collect(open_risk(log), 2)) == ["1", "2"]


def test_rewind_redelivers_what_was_not_committed(log: Log) -> None:
    session = open_risk(log)
    log.publish(fact("a", 1), fact("a", 2), fact("a", 3))
    first, *_ = collect(session, 3)
    session.commit([step("a", "one")], after([first]))
    session.rewind()
    batch = first_batch(session)
    assert batch.assigned == tuple(range(PARTITIONS))
    records = batch.records or tuple(collect(session, 2))
    assert values(records) == ["2", "3"]
    assert session.restore(partition_of("a")) == {"a": b"one"}


def test_a_crash_redelivers_what_was_not_committed(log: Log) -> None:
    session = open_risk(log)
    log.publish(fact("a", 1), fact("a", 2))
    first, _ = collect(session, 2)
    session.commit([step("a", "one")], after([first]))
    log.crash()
    again = open_risk(log)
    assert values(collect(again, 1)) == ["2"]
    assert again.restore(partition_of("a")) == {"a": b"one"}


def test_committed_records_do_not_come_back(log: Log) -> None:
    session = open_risk(log)
    log.publish(fact("a", 1))
    session.commit([step("a", "one")], after(collect(session, 1)))
    log.crash()
    again = open_risk(log)
    log.publish(fact("a", 2))
    assert values(collect(again, 1)) == ["2"]


# ---------------------------------------------------------------- the one write


def test_a_commit_is_one_write(log: Log) -> None:
    session = open_risk(log)
    reader = log.bus().open(
        service="hedger", instance="1", inputs=["risk_state"], tables=["policies"]
    )
    settle({"hedger": reader})
    log.publish(fact("a", 1), fact("b", 2))
    records = collect(session, 2)
    session.commit(
        [
            step("a", "sa", fact("a", "out a", "risk_state"), journal="ja", rows=(("h1", b"r1"),)),
            step("b", "sb", fact("b", "out b", "risk_state"), journal="jb", durable=True,
                 rows=(("h1", b"r1"), ("h2", b"r2"))),
        ],
        after(records),
    )
    assert sorted(values(collect(reader, 2))) == ["out a", "out b"]
    bus = log.bus()
    journal = {(r.key, r.value) for r in bus.read(JOURNAL.name)}
    assert journal == {("risk-engine/a", b"ja"), ("risk-engine/b", b"jb")}
    assert [(r.key, r.value) for r in bus.read(JOURNAL_ROWS.name)] == [("h1", b"r1"), ("h2", b"r2")]
    assert session.restore(partition_of("a"))["a"] == b"sa"
    assert session.restore(partition_of("b"))["b"] == b"sb"


def test_a_failed_commit_leaves_nothing(log: Log) -> None:
    session = open_risk(log)
    log.publish(fact("a", 1))
    records = collect(session, 1)
    with pytest.raises(BusError, match="unknown topic 'nowhere'"):
        session.commit(
            [step("a", "s", fact("a", "out", "risk_state"), fact("a", "x", "nowhere"))],
            after(records),
        )
    session.rewind()
    assert values(collect(session, 1)) == ["1"]
    assert session.restore(partition_of("a")) == {}
    assert list(log.bus().read("risk_state")) == []
    session.commit([step("a", "s", fact("a", "out", "risk_state"))], after(records))
    assert values(log.bus().read("risk_state")) == ["out"]


def test_a_crash_in_the_middle_of_a_commit_leaves_nothing(log: Log) -> None:
    session = open_risk(log)
    log.publish(fact("a", 1))
    records = collect(session, 1)
    with pytest.raises(BusError, match="unknown topic"):
        session.commit(
            [step("a", "s", fact("a", "out", "risk_state"), fact("a", "x", "nowhere"))],
            after(records),
        )
    log.crash()  # Kafka: the transaction stays open
    again = open_risk(log)
    assert values(collect(again, 1)) == ["1"]
    assert again.restore(partition_of("a")) == {}
    again.commit([step("a", "s", fact("a", "good", "risk_state"))], after(records))
    assert values(log.bus().read("risk_state")) == ["good"]


def test_a_step_without_state_keeps_the_stored_one(log: Log) -> None:
    session = open_risk(log)
    log.publish(fact("a", 1), fact("a", 2))
    first, second = collect(session, 2)
    session.commit([step("a", "one")], after([first]))
    session.commit([step("a", None, fact("a", "bad", "quarantine"))], after([second]))
    assert session.restore(partition_of("a")) == {"a": b"one"}
    assert values(log.bus().read("quarantine")) == ["bad"]


def test_offsets_alone_can_be_committed(log: Log) -> None:
    session = open_risk(log)
    log.publish(fact("a", 1))
    session.commit([], after(collect(session, 1)))
    log.publish(fact("a", 2))
    session.rewind()
    assert values(collect(session, 1)) == ["2"]


def test_a_step_from_a_table_alone_has_no_position(log: Log) -> None:
    session = open_risk(log)
    settle({"1": session})
    session.commit([step("a", "s", fact("a", "out", "risk_state"))], {})
    assert values(log.bus().read("risk_state")) == ["out"]
    assert session.restore(partition_of("a")) == {"a": b"s"}


def test_journal_rows_are_written_once(log: Log) -> None:
    session = open_risk(log)
    settle({"1": session})
    for _ in range(3):
        session.commit([step("a", "s", rows=(("h", b"row"),))], {})
    assert [(r.key, r.value) for r in log.bus().read(JOURNAL_ROWS.name)] == [("h", b"row")]


def test_states_are_kept_per_service_and_partition(log: Log) -> None:
    risk, hedger = open_risk(log), open_risk(log, service="hedger")
    settle({"1": risk})
    settle({"1": hedger})
    keys = [key_in(p) for p in range(PARTITIONS)]
    risk.commit([step(key, f"old {key}") for key in keys], {})
    risk.commit([step(key, f"risk {key}") for key in keys], {})
    hedger.commit([step(keys[0], "hedger")], {})
    for p, key in enumerate(keys):
        assert risk.restore(p) == {key: f"risk {key}".encode()}
    assert hedger.restore(0) == {keys[0]: b"hedger"}
    assert hedger.restore(1) == {}


# ---------------------------------------------------------------- members


def test_a_zombie_is_fenced(log: Log) -> None:
    zombie = open_risk(log)
    log.publish(fact("a", 1))
    records = collect(zombie, 1)
    new = open_risk(log)
    assert values(collect(new, 1)) == ["1"]
    with pytest.raises(Fenced):
        zombie.commit([step("a", "zombie", fact("a", "z", "risk_state"))], after(records))
    with pytest.raises(Fenced):
        zombie.rewind()
    with pytest.raises(Fenced):
        zombie.poll(0)
    new.commit([step("a", "new", fact("a", "n", "risk_state"))], after(records))
    assert new.restore(partition_of("a")) == {"a": b"new"}
    assert values(log.bus().read("risk_state")) == ["n"]


def test_members_share_the_partitions(log: Log) -> None:
    one = open_risk(log, "1")
    owned = settle({"1": one})
    assert owned == {"1": set(range(PARTITIONS))}
    two = open_risk(log, "2")
    owned = settle({"1": one, "2": two}, owned)
    log.publish(*(fact(key_in(p), p) for p in range(PARTITIONS)))
    for name, session in (("1", one), ("2", two)):
        records = collect(session, len(owned[name]))
        assert {r.partition for r in records} == owned[name]


def test_a_moved_partition_takes_its_state_along(log: Log) -> None:
    one = open_risk(log, "1")
    keys = [key_in(p) for p in range(PARTITIONS)]
    owned = settle({"1": one})
    log.publish(*(fact(key, 1) for key in keys))
    records = collect(one, PARTITIONS)
    one.commit([step(key, f"by one: {key}") for key in keys], after(records))
    two = open_risk(log, "2")
    owned = settle({"1": one, "2": two}, owned)
    for p in owned["2"]:
        assert two.restore(p) == {keys[p]: f"by one: {keys[p]}".encode()}
    lost = min(owned["2"])
    with pytest.raises(Fenced):
        one.commit([step(keys[lost], "late")], {("account_raw", lost): 9})
    with pytest.raises(Fenced):
        one.restore(lost)
    # That was no takeover: the member goes on with what it still has.
    one.rewind()
    assert set(first_batch(one).assigned) == owned["1"]
    kept = min(owned["1"])
    one.commit([step(keys[kept], "still mine")], {})
    assert one.restore(kept) == {keys[kept]: b"still mine"}
    log.publish(fact(keys[lost], 2))
    assert values(collect(two, 1)) == ["2"]


def test_a_closed_member_leaves_its_partitions_to_the_others(log: Log) -> None:
    one, two = open_risk(log, "1"), open_risk(log, "2")
    mine = settle({"1": one, "2": two})["1"]
    two.close()
    with pytest.raises(BusError, match="closed"):
        two.poll(0)
    until(lambda: mine.update(one.poll(0.05).assigned) or mine == set(range(PARTITIONS)))


def test_a_topic_of_one_partition_goes_to_the_owner_of_partition_0(log: Log) -> None:
    sessions = {
        name: log.bus().open(
            service="alerts", instance=name, inputs=["quarantine", "risk_state"], tables=[]
        )
        for name in ("1", "2")
    }
    owned = settle(sessions)
    owner = next(name for name, held in owned.items() if 0 in held)
    log.publish(fact("a", "bad", "quarantine"), fact("zz", "worse", "quarantine"))
    records = collect(sessions[owner], 2)
    assert values(records) == ["bad", "worse"]
    assert {r.partition for r in records} == {0}
    assert not any(s.poll(0).records for n, s in sessions.items() if n != owner)


# ---------------------------------------------------------------- tables


def test_tables_come_whole_before_any_fact(log: Log) -> None:
    log.publish(
        *(fact(f"coin-{n % 300}", n, "market_data") for n in range(900)),
        fact("a", "policy", "policies"),
        *(fact("a", n) for n in range(10)),
    )
    session = open_risk(log)
    rows: dict[tuple[str, str], str] = {}
    for _ in deadline():
        batch = session.poll(0.05)
        rows.update({(r.topic, r.key): r.value.decode() for r in batch.rows})
        if batch.records:
            break
    assert len(rows) == 301
    assert rows["market_data", "coin-7"] == "607"
    assert rows["policies", "a"] == "policy"


def test_rows_are_conflated_and_facts_are_not(log: Log) -> None:
    session = open_risk(log)
    settle({"1": session})
    log.publish(*(fact("BTC", n, "market_data") for n in range(500)))
    log.publish(*(fact("a", n) for n in range(500)))
    rows, records = 0, 0
    last = ""
    for _ in deadline():
        batch = session.poll(0.05)
        assert len({(r.topic, r.key) for r in batch.rows}) == len(batch.rows)
        rows, records = rows + len(batch.rows), records + len(batch.records)
        last = batch.rows[-1].value.decode() if batch.rows else last
        if records == 500 and last == "499":
            break
    assert rows < 500


def test_every_member_reads_every_row(log: Log) -> None:
    log.publish(fact("BTC", 1, "market_data"))
    for name in ("1", "2"):
        session = open_risk(log, name)
        rows = until(lambda s=session: s.poll(0.05).rows)  # type: ignore[misc]
        assert values(rows) == ["1"]


def test_a_rewind_brings_the_tables_again(log: Log) -> None:
    session = open_risk(log)
    log.publish(fact("BTC", 1, "market_data"), fact("ETH", 2, "market_data"))
    assert sorted(_rows(session, 2)) == ["1", "2"]
    session.rewind()
    assert sorted(_rows(session, 2)) == ["1", "2"]


def _rows(session: Session, amount: int) -> list[str]:
    rows: list[str] = []
    until(lambda: rows.extend(values(session.poll(0.05).rows)) or len(rows) >= amount)
    return rows


# ---------------------------------------------------------------- back-pressure and waiting


def test_a_poll_brings_no_more_facts_than_asked(log: Log) -> None:
    session = open_risk(log)
    log.publish(*(fact(key_in(n % PARTITIONS), n) for n in range(2_000)))
    seen: list[str] = []
    for _ in deadline():
        batch = session.poll(0.05, records_max=37)
        assert len(batch.records) <= 37
        seen += values(batch.records)
        if len(seen) >= 2_000:
            break
    assert sorted(map(int, seen)) == list(range(2_000))


def test_a_slow_reader_misses_nothing(log: Log) -> None:
    slow = open_risk(log)
    settle({"1": slow})
    for start in range(0, 3_000, 500):
        log.publish(*(fact("a", n) for n in range(start, start + 500)))
    assert values(collect(slow, 3_000)) == [str(n) for n in range(3_000)]


def test_a_waiting_poll_returns_when_a_message_comes(log: Log) -> None:
    session = open_risk(log)
    settle({"1": session})
    publisher = log.bus().publisher("test")
    thread = threading.Thread(target=publisher.publish, args=([fact("a", 1)],))
    thread.start()
    batch = session.poll(20.0)
    thread.join()
    publisher.close()
    assert values(batch.records) == ["1"]


def test_wake_ends_a_waiting_poll(log: Log) -> None:
    session = open_risk(log)
    settle({"1": session})
    thread = threading.Thread(target=session.wake)
    thread.start()
    assert not any(session.poll(110.0))  # the test's own time limit is 120 s
    thread.join()


# ---------------------------------------------------------------- reading outside groups


def test_read_takes_a_partition_and_a_start(log: Log) -> None:
    log.publish(*(fact(key_in(p), f"{p}.{n}") for n in range(5) for p in range(PARTITIONS)))
    bus = log.bus()
    assert sorted(values(bus.read("account_raw"))) == [
        f"{p}.{n}" for p in range(PARTITIONS) for n in range(5)
    ]
    assert values(bus.read("account_raw", partition=2)) == [f"2.{n}" for n in range(5)]
    assert values(bus.read("account_raw", partition=2, start=3)) == ["2.3", "2.4"]
    assert values(bus.read("account_raw", partition=2, start=-2)) == ["2.3", "2.4"]
    assert values(bus.read("account_raw", partition=2, start=-99)) == [f"2.{n}" for n in range(5)]
    assert sorted(values(bus.read("account_raw", start=-1))) == [
        f"{p}.4" for p in range(PARTITIONS)
    ]
    assert bus.ends("account_raw") == dict.fromkeys(range(PARTITIONS), (0, 5))
    with pytest.raises(BusError, match="0 to 3"):
        bus.read("account_raw", partition=4)


def test_a_negative_start_counts_records_of_commits(log: Log) -> None:
    session = open_risk(log)
    settle({"1": session})
    for n in range(6):
        session.commit([step("a", "s", fact("a", n, "risk_state"))], {})
    where = partition_of("a")
    assert values(log.bus().read("risk_state", partition=where, start=-2)) == ["4", "5"]


def test_an_empty_topic_reads_as_empty(log: Log) -> None:
    assert list(log.bus().read("policies")) == []
    assert list(log.bus().read("policies", start=-3)) == []
    assert log.bus().ends("policies") == {0: (0, 0)}


def test_follow_goes_on_until_the_bus_closes(log: Log) -> None:
    log.publish(fact("a", 0))
    seen: list[str] = []
    more = threading.Event()

    def follow() -> None:
        for record in log.bus().read("account_raw", start=-1, follow=True):
            seen.append(record.value.decode())
            more.set()

    thread = threading.Thread(target=follow)
    thread.start()
    for n in range(1, 4):
        assert more.wait(30.0)
        more.clear()
        log.publish(fact("a", n))
    until(lambda: len(seen) == 4)
    log.bus().close()
    thread.join(30.0)
    assert not thread.is_alive()
    assert seen == ["0", "1", "2", "3"]


def test_an_unknown_topic_is_refused(log: Log) -> None:
    bus = log.bus()
    publisher = bus.publisher("test")
    for use in (
        lambda: bus.open(service="hedger", instance="1", inputs=["nowhere"], tables=[]),
        lambda: bus.open(service="hedger", instance="1", inputs=[], tables=["nowhere"]),
        lambda: bus.read("nowhere"),
        lambda: bus.ends("nowhere"),
        lambda: publisher.publish([Outgoing("nowhere", "a", b"")]),
    ):
        with pytest.raises(BusError, match="unknown topic 'nowhere'"):
            use()
    publisher.close()


# ---------------------------------------------------------------- identity


def test_the_log_keeps_its_identity(log: Log) -> None:
    drawn = open_risk(log).log_id
    assert len(bytes.fromhex(drawn)) == 16
    log.crash()
    assert open_risk(log, "2").log_id == drawn


def test_records_carry_their_time(log: Log) -> None:
    before = SystemClock().now_ms()
    log.publish(fact("a", 1))
    session = open_risk(log)
    [record] = collect(session, 1)
    session.commit([step("a", "s", fact("a", 2, "risk_state"))], after([record]))
    [output] = log.bus().read("risk_state")
    assert before <= record.ts_ms <= output.ts_ms <= SystemClock().now_ms()
