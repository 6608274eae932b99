"""What only a real broker can show: topics, processes that die, a broker that is away."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from bench.ports import free_port
from bus_logs import (
    KafkaLog,
    collect,
    fact,
    settle,
    step,
    until,
    values,
)
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from hedgelock.bus.kafka import LOG_IDENTITY, KafkaBus
from hedgelock.cli.show import lags
from hedgelock.clock import SystemClock
from hedgelock.errors import BusError
from hedgelock.topics import PARTITIONS, TOPICS, Kind, changelog

pytestmark = pytest.mark.kafka

MEMBER = """
import json
import sys
from hedgelock.bus.kafka import KafkaBus
from hedgelock.clock import SystemClock
bootstrap, prefix, instance = sys.argv[1:]
session = KafkaBus(bootstrap, clock=SystemClock(), prefix=prefix).open(
    service="risk-engine", instance=instance, inputs=["account_raw"], tables=["policies"])
while True:
    batch = session.poll(1.0)
    if batch.revoked or batch.assigned:
        print(json.dumps([batch.revoked, batch.assigned]), flush=True)
"""


@pytest.fixture
def log(kafka_bootstrap: str) -> Iterator[KafkaLog]:
    """An empty log."""
    made = KafkaLog(kafka_bootstrap)
    yield made
    made.close()


def configuration(log: KafkaLog, topic: str) -> dict[str, str]:
    """What the broker says about a topic."""
    resource = ConfigResource(ResourceType.TOPIC, log.prefix + topic)
    admin = AdminClient({"bootstrap.servers": log.bootstrap})
    [future] = admin.describe_configs([resource]).values()
    return {name: entry.value for name, entry in future.result(15).items()}


def test_topics_are_created_as_the_map_says(log: KafkaLog) -> None:
    bus = log.bus()
    assert isinstance(bus, KafkaBus)
    bus.ensure_topics(["risk-engine"])
    there = AdminClient({"bootstrap.servers": log.bootstrap}).list_topics(timeout=15).topics
    for name, topic in TOPICS.items():
        assert len(there[log.prefix + name].partitions) == topic.partitions
        policy = set(configuration(log, name)["cleanup.policy"].split(","))
        assert ("compact" in policy) == (topic.kind is Kind.TABLE)
        if topic.retention_ms is not None:
            assert configuration(log, name)["retention.ms"] == str(topic.retention_ms)
    assert configuration(log, "steps")["retention.ms"] == str(14 * 86_400_000)
    assert configuration(log, changelog("risk-engine"))["cleanup.policy"] == "compact"
    assert configuration(log, LOG_IDENTITY)["retention.ms"] == "-1"


def test_creating_topics_and_identity_at_once_agree(log: KafkaLog) -> None:
    buses = [log.start() for _ in range(4)]
    drawn: list[str] = []

    def draw(bus: KafkaBus) -> None:
        drawn.append(bus.log_id)

    threads = [threading.Thread(target=draw, args=(bus,)) for bus in buses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drawn) == 4
    assert len(set(drawn)) == 1


class Member:
    """A member in a process of its own, which can be killed."""

    def __init__(self, log: KafkaLog, instance: str) -> None:
        self.owned: set[int] = set()
        self._process = subprocess.Popen(
            [sys.executable, "-c", MEMBER, log.bootstrap, log.prefix, instance],
            stdout=subprocess.PIPE, text=True,
        )
        self._ear = threading.Thread(target=self._listen)
        self._ear.start()

    def _listen(self) -> None:
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                revoked, assigned = json.loads(line)
                self.owned = self.owned - set(revoked) | set(assigned)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)
        self._ear.join()


def test_a_killed_member_comes_back_at_once_and_a_dead_one_is_replaced(log: KafkaLog) -> None:
    session = log.bus().open(
        service="risk-engine", instance="1", inputs=["account_raw"], tables=["policies"]
    )
    mine, everything = settle({"1": session})["1"], set(range(PARTITIONS))

    def shared_with(other: set[int]) -> bool:
        batch = session.poll(0.02)
        mine.difference_update(batch.revoked)
        mine.update(batch.assigned)
        return not mine & other and mine | other == everything and bool(other)

    two = Member(log, "2")
    until(lambda: shared_with(two.owned))
    kept, other = set(mine), set(two.owned)

    two.kill()
    start = time.monotonic()
    two = Member(log, "2")
    until(lambda: shared_with(two.owned))
    # Two seconds on a quiet machine, of which Python takes a part: it did not wait for the
    # session timeout, and the first member kept what it had.
    assert time.monotonic() - start < 5.0
    assert (mine, two.owned) == (kept, other)

    two.kill()
    start = time.monotonic()
    until(lambda: not shared_with(set()) and mine == everything)
    assert time.monotonic() - start < 15.0  # 10 s on a quiet machine


def test_many_states_are_restored_quickly(log: KafkaLog) -> None:
    session = log.bus().open(
        service="risk-engine", instance="1", inputs=["account_raw"], tables=[]
    )
    settle({"1": session})
    keys = [f"account-{n}" for n in range(40_000)]
    for start in range(0, len(keys), 4_000):
        session.commit([step(k, "x" * 200) for k in keys[start:start + 4_000]], {})
    begin = time.monotonic()
    found = {k for p in range(PARTITIONS) for k in session.restore(p)}
    assert len(found) == len(keys)
    assert time.monotonic() - begin < 10.0, "40,000 records a second on a quiet machine"


def test_an_absent_broker_is_named() -> None:
    bus = KafkaBus(f"127.0.0.1:{free_port()}", clock=SystemClock())
    with pytest.raises(BusError, match="KAFKA__BOOTSTRAP_SERVERS"):
        bus.open(service="hedger", instance="1", inputs=["risk_state"], tables=[])
    bus.close()


def test_a_message_too_large_is_refused_and_the_rest_goes_on(log: KafkaLog) -> None:
    session = log.bus().open(
        service="risk-engine", instance="1", inputs=["account_raw"], tables=[]
    )
    settle({"1": session})
    with pytest.raises(BusError, match="committing"):
        session.commit([step("a", "s", fact("a", "x" * 2_000_000, "risk_state"))], {})
    session.rewind()
    log.publish(fact("a", 1))
    assert values(collect(session, 1)) == ["1"]
    session.commit([step("a", "s", fact("a", "fine", "risk_state"))], {})
    assert values(log.bus().read("risk_state")) == ["fine"]


def test_closing_in_the_middle_of_a_rebalance_does_not_hang(log: KafkaLog) -> None:
    for n in range(12):
        joining = log.bus().open(
            service=f"group-{n}", instance="1", inputs=["account_raw"], tables=["policies"]
        )
        for _ in range(n):  # a little later into the joining each time
            joining.poll(0.004)
        joining.close()


def test_lag_counts_records_and_no_commit_markers(log: KafkaLog) -> None:
    """What each group has still to read, as `hedgelock topics` shows it; a marker is nothing to read."""
    bus = log.bus()
    assert isinstance(bus, KafkaBus)
    risk = bus.open(service="risk-engine", instance="0", inputs=["account_raw"], tables=[])
    hedger = bus.open(service="hedger", instance="0", inputs=["risk_state"], tables=[])
    log.publish(fact("a", 1), fact("a", 2))
    seen = collect(risk, 2)
    risk.commit([step("a", "s", fact("a", "x", "risk_state"))], {
        ("account_raw", seen[0].partition): seen[0].offset + 1})
    (word,) = collect(hedger, 1)
    hedger.commit([step("a", "s")], {("risk_state", word.partition): word.offset + 1})

    def behind(topic: str) -> dict[str, int]:
        return lags(bus, topic, bus.ends(topic))

    assert behind("account_raw") == {"risk-engine": 1}
    assert behind("risk_state") == {"hedger": 0}
    assert bus.ends("risk_state")[word.partition][1] > word.offset + 1, "no marker: nothing is proved"
    risk.commit([step("a", "s")], {("account_raw", seen[1].partition): seen[1].offset + 1})
    assert behind("account_raw") == {"risk-engine": 0}
