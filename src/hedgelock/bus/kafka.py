"""The Kafka bus: exactly-once steps on a real broker, through confluent-kafka.

`kafka_client` has settings, errors and whole reads; `kafka_session` one member of a group.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from hedgelock.bus import kafka_groups
from hedgelock.bus.journal import ROWS_MS
from hedgelock.bus.kafka_client import (
    CONNECT_TIMEOUT_S,
    LEADERLESS,
    WholeReader,
    common_settings,
    producer_settings,
    translate,
)
from hedgelock.bus.kafka_session import KafkaSession
from hedgelock.errors import BusError
from hedgelock.ports import Clock, Outgoing, Record
from hedgelock.topics import (
    JOURNAL,
    JOURNAL_ROWS,
    PARTITIONS,
    TOPICS,
    Kind,
    Topic,
    changelog,
    partition_of,
)

LOG_IDENTITY: Final = "log_identity"
"""One record, for ever: the log's id. Whoever comes first writes it; the lowest offset counts."""

ADMIN_TIMEOUT_S: Final = 15.0
READ_TIMEOUT_S: Final = 15.0
FOLLOW_EVERY_S: Final = 0.05
RETRY_S: Final = 0.01
_MAP: Final = {**TOPICS, JOURNAL.name: JOURNAL, JOURNAL_ROWS.name: JOURNAL_ROWS}


class KafkaPublisher:
    """See `ports.Publisher`: an idempotent producer, nothing held back."""

    def __init__(self, bus: KafkaBus, name: str) -> None:
        self._bus = bus
        self._error: KafkaError | None = None
        self._producer = Producer({
            **producer_settings(bus.bootstrap), "client.id": f"hedgelock-{name}",
        })

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """See `ports.Publisher`. Raises BusError for an unknown topic or a full queue."""
        located = [(*self._bus.locate(m), m) for m in messages]
        now_ms = self._bus.clock.now_ms()
        try:
            for topic, partition, message in located:
                self._producer.produce(
                    topic, message.value, message.key, partition,
                    on_delivery=self._on_delivery, timestamp=now_ms,
                )
        except BufferError as error:
            raise BusError(
                "100,000 published messages wait for the broker: is it up?"
            ) from error
        except KafkaException as error:
            raise translate(error.args[0], "publishing") from error
        self._producer.poll(0)  # delivery reports

    def flush(self, timeout_s: float) -> None:
        """See `ports.Publisher`. An error is reported once; its messages are lost."""
        left = self._producer.flush(timeout_s)
        error, self._error = self._error, None
        if error is not None:
            raise translate(error, "publishing")
        if left:
            raise BusError(f"{left} published messages still wait for the broker: is it up?")

    def close(self) -> None:
        """See `ports.Publisher`."""
        self.flush(10.0)

    def _on_delivery(self, error: KafkaError | None, _: Any) -> None:
        if error is not None:
            self._error = error


class KafkaBus:
    """See `ports.Bus`.

    `prefix` goes before topic and group names, so that logs can share a broker; `replication` is
    the number of copies of each topic that it creates. The broker is first asked at the first use.
    """

    def __init__(
        self, bootstrap: str, *, clock: Clock, prefix: str = "", replication: int = 1
    ) -> None:
        self.bootstrap = bootstrap
        self.clock = clock
        self.names: dict[str, str] = {prefix + name: name for name in (*_MAP, LOG_IDENTITY)}
        self._prefix = prefix
        self._replication = replication
        self._admin_client: AdminClient | None = None
        self._ensured: set[str] = set()
        self._log_id = ""
        self._sessions: list[KafkaSession] = []
        self._closing = threading.Event()

    # -- ports.Bus

    def open(
        self, *, service: str, instance: str, inputs: Sequence[str], tables: Sequence[str]
    ) -> KafkaSession:
        """See `ports.Bus`. Opening an instance again fences its earlier session."""
        for name in (*inputs, *tables):
            self.on_broker(name)
        self.ensure_topics([service])
        session = KafkaSession(
            self, service=service, instance=instance, inputs=inputs, tables=tables
        )
        self._sessions.append(session)
        return session

    def publisher(self, name: str) -> KafkaPublisher:
        """See `ports.Bus`."""
        self.ensure_topics(())
        return KafkaPublisher(self, name)

    def read(
        self, topic: str, *, partition: int | None = None, start: int | None = None,
        follow: bool = False,
    ) -> Iterator[Record]:
        """See `ports.Bus`; partitions come as they come. A closed bus ends a follower."""
        name = self.on_broker(topic)
        wanted = range(self.partitions(topic)) if partition is None else [partition]
        if partition is not None and not 0 <= partition < self.partitions(topic):
            raise BusError(
                f"{topic} has partitions 0 to {self.partitions(topic) - 1}, not {partition}"
            )
        self.ensure_topics(())
        return self._read([(name, p) for p in wanted], start, follow=follow)

    def ends(self, topic: str) -> dict[int, tuple[int, int]]:
        """See `ports.Bus`. Commit markers take offsets, too."""
        name = self.on_broker(topic)
        self.ensure_topics(())
        at = {(name, p) for p in range(self.partitions(topic))}
        low, high = self.first_offsets(at), self._next_offsets(at)
        return {p: (low[name, p], high[name, p]) for _, p in sorted(at)}

    def positions(self) -> list[tuple[str, str, int, int]]:
        """(service, topic, partition, next offset) of every group of this log. Raises BusError."""
        admin, first = self._admin(), self.group("")
        taken = kafka_groups.committed(admin, kafka_groups.groups_of(admin, first))
        ends = self._next_offsets({(p.topic, p.partition) for p in taken})
        newest: dict[tuple[str, int], int] = {}
        start = kafka_groups.nearly_done(taken, ends)
        reader = WholeReader(self.bootstrap, self.names)
        try:
            for record in _until_end(reader, start):
                newest[self._prefix + record.topic, record.partition] = record.offset
        finally:
            reader.close()
        return [
            (p.group.removeprefix(first), self.names[p.topic], p.partition, p.following)
            for p in kafka_groups.without_markers(taken, ends, newest)
        ]

    def close(self) -> None:
        """See `ports.Bus`."""
        self._closing.set()
        for session in list(self._sessions):
            session.close()

    # -- beyond ports.Bus

    @property
    def log_id(self) -> str:
        """See `ports.Session.log_id`. Raises BusError."""
        if not self._log_id:
            self.ensure_topics(())
            self._log_id = self._read_log_id() or self._draw_log_id()
        return self._log_id

    def ensure_topics(self, services: Iterable[str]) -> None:
        """Create what is missing of the map and of these services' changelogs. Raises BusError.

        Any number of processes may do so at once. Existing topics keep their configuration.
        """
        wanted = {name: _settings(topic) for name, topic in _MAP.items()}
        wanted[LOG_IDENTITY] = (1, {"cleanup.policy": "delete", "retention.ms": "-1"})
        for service in services:
            self.names[self._prefix + changelog(service)] = changelog(service)
            wanted[changelog(service)] = (PARTITIONS, _CHANGELOG)
        wanted = {n: how for n, how in wanted.items() if n not in self._ensured}
        if not wanted:
            return
        admin = self._admin()
        try:
            there = admin.list_topics(timeout=CONNECT_TIMEOUT_S).topics
            missing = [
                NewTopic(self._prefix + name, partitions, self._replication, config=config)
                for name, (partitions, config) in wanted.items()
                if self._prefix + name not in there
            ]
            if missing:
                futures = admin.create_topics(missing, operation_timeout=ADMIN_TIMEOUT_S)
                for future in futures.values():
                    _wait_created(future)
                self._wait_for_leaders({topic.topic for topic in missing})
        except KafkaException as error:
            raise translate(error.args[0], "creating topics") from error
        self._ensured |= set(wanted)

    def _wait_for_leaders(self, names: set[str]) -> None:
        """A client that meets a topic without a leader sleeps up to a second: let none do so."""
        deadline = time.monotonic() + ADMIN_TIMEOUT_S
        while time.monotonic() < deadline:
            there = self._admin().list_topics(timeout=ADMIN_TIMEOUT_S).topics
            if all(name in there and there[name].partitions
                   and all(p.leader >= 0 for p in there[name].partitions.values())
                   for name in names):
                return
            self._closing.wait(RETRY_S)
        raise BusError("new topics have no leader: are enough brokers up for their copies?")

    # -- used by sessions and publishers

    def on_broker(self, topic: str) -> str:
        """The broker's name of a topic. Raises BusError for a name that is not on the map."""
        name = self._prefix + topic
        if name not in self.names:
            raise BusError(f"unknown topic {topic!r}: topics.py is the map of all topics")
        return name

    def group(self, service: str) -> str:
        """The consumer group of a service."""
        return f"{self._prefix}hedgelock.{service}"

    @staticmethod
    def partitions(topic: str) -> int:
        """Partitions of a topic of the map, or of a changelog."""
        return _MAP[topic].partitions if topic in _MAP else PARTITIONS

    def locate(self, message: Outgoing) -> tuple[str, int]:
        """Topic (as the broker names it) and partition. Raises BusError for an unknown topic."""
        topic = _MAP.get(message.topic)
        if topic is None:
            raise BusError(f"unknown topic {message.topic!r}: topics.py is the map of all topics")
        return self._prefix + topic.name, partition_of(message.key, topic.partitions)

    def last_offsets(self, at: set[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Next offsets, transactions that are still open included. Raises BusError."""
        return self._offsets(at, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED)

    def first_offsets(self, at: set[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Oldest kept offsets. Raises BusError."""
        return self._offsets(at, OffsetSpec.earliest(), IsolationLevel.READ_COMMITTED)

    def forget(self, session: KafkaSession) -> None:
        """A session closed itself."""
        if session in self._sessions:
            self._sessions.remove(session)

    # -- how it works

    def _admin(self) -> Any:
        if self._admin_client is None:
            self._admin_client = AdminClient(common_settings(self.bootstrap))
        return self._admin_client

    def _next_offsets(self, at: set[tuple[str, int]]) -> dict[tuple[str, int], int]:
        return self._offsets(at, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)

    def _offsets(
        self, at: set[tuple[str, int]], spec: Any, isolation: Any
    ) -> dict[tuple[str, int], int]:
        if not at:
            return {}
        deadline = time.monotonic() + ADMIN_TIMEOUT_S
        while True:
            try:
                futures = self._admin().list_offsets(
                    {TopicPartition(t, p): spec for t, p in at}, isolation_level=isolation,
                    request_timeout=ADMIN_TIMEOUT_S,
                )
                return {(tp.topic, tp.partition): f.result().offset for tp, f in futures.items()}
            except KafkaException as error:
                kind = error.args[0]
                # A partition has no leader for a moment after its creation or a broker's death.
                if kind.code() not in LEADERLESS or time.monotonic() > deadline:
                    raise translate(kind, "asking for offsets") from error
            self._closing.wait(RETRY_S)

    def _read_log_id(self) -> str:
        first = next(self._read([(self.on_broker(LOG_IDENTITY), 0)], None, follow=False), None)
        return first.value.decode() if first else ""

    def _draw_log_id(self) -> str:
        producer = Producer(producer_settings(self.bootstrap))
        producer.produce(self.on_broker(LOG_IDENTITY), secrets.token_hex(16), "log_id", 0)
        if producer.flush(ADMIN_TIMEOUT_S):
            raise BusError("the log's identity could not be written: is the broker up?")
        return self._read_log_id()  # another process may have been first

    def _read(
        self, at: list[tuple[str, int]], start: int | None, *, follow: bool
    ) -> Iterator[Record]:
        reader = WholeReader(self.bootstrap, self.names)
        try:
            if start is not None and start < 0:
                cursors = {}
                for one in at:
                    records, cursors[one] = self._last(reader, one, -start)
                    yield from records
            else:
                cursors = self.first_offsets(set(at))
                if start is not None:
                    # Past the end the broker would start over from the oldest record.
                    ends = self._next_offsets(set(at))
                    cursors = {one: min(max(low, start), ends[one]) for one, low in cursors.items()}
                yield from _until_end(reader, cursors)
            while follow and not self._closing.wait(FOLLOW_EVERY_S):
                yield from _until_end(reader, cursors)
        finally:
            reader.close()

    def _last(
        self, reader: WholeReader, at: tuple[str, int], count: int
    ) -> tuple[Iterable[Record], int]:
        """The last `count` records of a partition and its next offset.

        Commit markers take offsets without being records, so look back further until enough.
        """
        low, high = self.first_offsets({at})[at], self._next_offsets({at})[at]
        back = 2 * count + 16
        while True:
            cursors = {at: max(low, high - back)}
            found = deque(_until_end(reader, cursors), maxlen=count)
            if len(found) == count or high - back <= low:
                return found, cursors[at]
            back *= 4


def _until_end(reader: WholeReader, cursors: dict[tuple[str, int], int]) -> Iterator[Record]:
    """Records from the cursors to the ends as they are met; moves the cursors."""
    for item in reader.read(dict(cursors), timeout_s=READ_TIMEOUT_S):
        if isinstance(item, Record):
            yield item
        else:
            cursors[item[0], item[1]] = item[2]


_SMALL_SEGMENTS: Final = {
    # Only closed segments are compacted: small ones keep a restart's reading short.
    "segment.bytes": str(32 << 20),
    "segment.ms": "600000",
    "min.cleanable.dirty.ratio": "0.2",
}
_CHANGELOG: Final = {"cleanup.policy": "compact", **_SMALL_SEGMENTS}


def _settings(topic: Topic) -> tuple[int, dict[str, str]]:
    """(partitions, configuration) of a topic of the map."""
    retention_ms = ROWS_MS if topic.name == JOURNAL_ROWS.name else topic.retention_ms
    if topic.kind is Kind.FACTS:
        keep = "-1" if retention_ms is None else str(retention_ms)
        return topic.partitions, {"cleanup.policy": "delete", "retention.ms": keep}
    if retention_ms is None:
        return topic.partitions, {"cleanup.policy": "compact", **_SMALL_SEGMENTS}
    return topic.partitions, {
        "cleanup.policy": "compact,delete", "retention.ms": str(retention_ms), **_SMALL_SEGMENTS,
    }


def _wait_created(future: Any) -> None:
    try:
        future.result(ADMIN_TIMEOUT_S)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise


__all__ = ["KafkaBus", "KafkaPublisher"]
