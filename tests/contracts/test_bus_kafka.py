"""What only a real broker can show: topics, processes that die, a broker that is away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from bus_logs import (
    KafkaLog,
    collect,
    deadline,
    fact,
    settle,
    step,
    until,
    values,
)
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from hedgelock.bus.kafka import LOG_IDENTITY, KafkaBus
from hedgelock.clock import SystemClock
from hedgelock.errors import BusError
from hedgelock.topics import PARTITIONS, TOPICS, Kind, changelog
from kafka_broker import free_port_pair

pytestmark = pytest.mark.kafka

MEMBER = """
import sys
from hedgelock.bus.kafka import KafkaBus
from hedgelock.clock import SystemClock
bootstrap, prefix, instance = sys.argv[1:]
session = KafkaBus(bootstrap, clock=SystemClock(), prefix=prefix).open(
    service="risk-engine", instance=instance, inputs=["account_raw"], tables=["policies"])
while True:
    for partition in session.poll(1.0).assigned:
        print(partition, flush=True)
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


def member(log: KafkaLog, instance: str) -> subprocess.Popen[str]:
    """A member in a process of its own, which can be killed."""
    return subprocess.Popen(
        [sys.executable, "-c", MEMBER, log.bootstrap, log.prefix, instance],
        stdout=subprocess.PIPE, text=True,
    )


def test_a_killed_member_comes_back_at_once_and_a_dead_one_is_replaced(log: KafkaLog) -> None:
    one = log.bus().open(
        service="risk-engine", instance="1", inputs=["account_raw"], tables=["policies"]
    )
    mine = settle({"1": one})["1"]
    child = member(log, "2")
    assert child.stdout
    until(lambda: _follow(one, mine) and len(mine) < PARTITIONS)
    other = set(range(PARTITIONS)) - mine
    assert {int(child.stdout.readline()) for _ in other} == other
    kept = set(mine)

    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=30)
    child = member(log, "2")
    assert child.stdout
    os.set_blocking(child.stdout.fileno(), False)
    back: set[int] = set()
    start = time.monotonic()
    for _ in deadline():
        _follow(one, mine)
        back.update(int(line) for line in child.stdout.read().split())
        if back == other:
            break
    # Two seconds on a quiet machine, of which Python takes a part; it did not wait for the
    # session timeout, and the first member kept what it had.
    assert time.monotonic() - start < 5.0
    assert mine == kept

    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=30)
    start = time.monotonic()
    until(lambda: _follow(one, mine) and len(mine) == PARTITIONS)
    assert time.monotonic() - start < 15.0  # 10 s on a quiet machine


def _follow(session, owned: set[int]) -> bool:  # type: ignore[no-untyped-def]
    batch = session.poll(0.02)
    owned -= set(batch.revoked)
    owned |= set(batch.assigned)
    return True


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
    bus = KafkaBus(f"127.0.0.1:{free_port_pair()}", clock=SystemClock())
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
