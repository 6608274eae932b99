"""One member of one Kafka consumer group, with exactly-once commits."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import OFFSET_INVALID, Consumer, KafkaException, Producer, TopicPartition

from hedgelock.bus.journal import RowsWritten, journal_key
from hedgelock.bus.kafka_client import (
    PASSING,
    TAKEOVER,
    WholeReader,
    consumer_settings,
    producer_settings,
    to_record,
    translate,
)
from hedgelock.errors import BusError, Fenced
from hedgelock.ports import Batch, Offsets, Record, StepRecord
from hedgelock.topics import JOURNAL, JOURNAL_ROWS, changelog

if TYPE_CHECKING:
    from hedgelock.bus.kafka import KafkaBus

WAKE_S: Final = 0.002
"""How long a waiting poll may overlook `wake`. librdkafka offers Python no way to interrupt a
poll; slices of 2 ms cost 1.4 % of a core."""

SESSION_TIMEOUT_MS: Final = 6_000
"""After this silence a member is dead (6 s is the least a stock broker accepts)."""

TRANSACTION_TIMEOUT_MS: Final = 10_000
"""A transaction left open by a dead member is aborted by the broker after this."""

COMMIT_TIMEOUT_S: Final = 8.0
LEAVE_TIMEOUT_S: Final = 3.0
START_TIMEOUT_S: Final = 30.0
RESTORE_TIMEOUT_S: Final = 30.0
_NOTHING: Final = Batch()
_FLOOD: Final = 20
"""Table rows taken in one poll, in multiples of `records_max`; conflated while they are taken."""


class KafkaSession:
    """See `ports.Session`.

    One consumer carries facts and tables: the group hands us the facts' partitions, and our own
    assignment adds the tables', so that a single wait sees both. Tables are read whole before the
    group is joined. A static member that closes keeps its partitions until the session timeout,
    so that a restart does not move them.
    """

    def __init__(
        self, bus: KafkaBus, *, service: str, instance: str, inputs: Sequence[str],
        tables: Sequence[str],
    ) -> None:
        self.service = service
        self.instance = instance
        self.owned: frozenset[int] = frozenset()
        self._bus = bus
        self._names = bus.names
        self._tables = frozenset(tables)
        self._known: frozenset[int] = frozenset()
        self._fresh: set[int] = set()
        self._facts: list[TopicPartition] = []
        self._latest: dict[tuple[str, str], Record] = {}  # tables as they stand, for rewinds
        self._rows_due = True
        self._table_next: dict[tuple[str, int], int] = {}
        self._gathered: list[Record] = []
        self._rows_written = RowsWritten()
        self._in_doubt = False
        self._woken = False
        self._fenced = False
        self._closed = False
        self._reader = WholeReader(bus.bootstrap, bus.names)
        # First the transactional id: this ends what an earlier session of the instance left open
        # and fences it, so that what we read next is final.
        self._producer = self._new_producer()
        self._read_tables()
        self._consumer = Consumer({
            **consumer_settings(bus.bootstrap),
            "group.id": bus.group(service),
            "group.instance.id": instance,
            "partition.assignment.strategy": "range",  # same partition number, same member
            "session.timeout.ms": SESSION_TIMEOUT_MS,
            "heartbeat.interval.ms": 1_000,
            "max.poll.interval.ms": 120_000,
        })
        if inputs:
            self._consumer.subscribe(
                [bus.on_broker(name) for name in inputs],
                on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke,
            )
        else:
            self._take(frozenset(range(bus.partitions(changelog(service)))), [])

    @property
    def log_id(self) -> str:
        """See `ports.Session`."""
        return self._bus.log_id

    # -- ports.Session

    def poll(self, timeout_s: float, records_max: int = 200) -> Batch:
        """See `ports.Session`."""
        self._check_open()
        deadline = time.monotonic() + timeout_s
        rows: dict[tuple[str, str], Record] = {}
        if self._rows_due:
            self._rows_due = False
            rows.update(self._latest)
        while True:
            self._gather(0 if self._has_news(rows) else deadline - time.monotonic(),
                         rows, records_max)
            if self._has_news(rows) or self._woken or time.monotonic() >= deadline:
                break
        self._woken = False
        return self._batch(rows)

    def restore(self, partition: int) -> dict[str, bytes]:
        """See `ports.Session`. Raises Fenced when the partition is not ours."""
        self._check_open()
        self._check_owns(partition)
        at = (self._bus.on_broker(changelog(self.service)), partition)
        # Up to the last record of all, decided or not: a commit of the previous owner may have
        # reached the group's offsets and not yet this topic, and would be missed otherwise.
        end = self._bus.last_offsets({at})
        states: dict[str, bytes] = {}
        for item in self._reader.read(
            self._bus.first_offsets({at}), timeout_s=RESTORE_TIMEOUT_S, at_least=end,
        ):
            if isinstance(item, Record):
                states[item.key] = item.value
        return states

    def commit(self, steps: Sequence[StepRecord], offsets: Offsets) -> None:
        """See `ports.Session`: one Kafka transaction."""
        self._check_open()
        for step in steps:
            self._check_owns(step.partition)
        for _, partition in offsets:
            self._check_owns(partition)
        if self._in_doubt:
            raise BusError("the last commit is undecided: rewind first")
        now_ms = self._bus.clock.now_ms()
        rows = self._rows_written.missing(steps, now_ms)
        try:
            self._producer.begin_transaction()
            self._in_doubt = True
            self._produce(steps, rows, now_ms)
            if offsets:
                self._producer.send_offsets_to_transaction(
                    [TopicPartition(self._bus.on_broker(t), p, o) for (t, p), o in offsets.items()],
                    self._consumer.consumer_group_metadata(), COMMIT_TIMEOUT_S,
                )
            self._producer.commit_transaction(COMMIT_TIMEOUT_S)
        except KafkaException as error:
            raise self._failed(error, "committing") from error
        except BufferError as error:
            raise BusError("committing: librdkafka's queue is full; rewind") from error
        self._in_doubt = False
        self._rows_written.add(rows, now_ms)

    def rewind(self) -> None:
        """See `ports.Session`: tables are delivered whole again, too."""
        self._check_open()
        if self._in_doubt:
            self._end_transaction()
        self._gathered.clear()
        self._fresh = set(self.owned)
        self._rows_due = True
        if self.owned:  # otherwise the group is being dealt out and will assign us anyway
            # Without an offset librdkafka asks the group for the committed one.
            self._assign(
                [TopicPartition(f.topic, f.partition, OFFSET_INVALID) for f in self._facts]
            )

    def wake(self) -> None:
        """See `ports.Session`; seen within `WAKE_S`."""
        self._woken = True

    def close(self) -> None:
        """See `ports.Session`; closing twice is closing once."""
        if self._closed:
            return
        self._closed = True
        self._bus.forget(self)
        try:
            if self._in_doubt and not self._fenced:
                self._end_transaction()
        except BusError:  # the broker aborts it when its time is up
            pass
        finally:
            self._leave()
            self._reader.close()

    def _leave(self) -> None:
        """Close the consumer, with nothing assigned and no rebalance on its way.

        librdkafka hangs for ever when a rebalance callback assigns inside `close` (its issue
        4884); so the callbacks that wait are served before.
        """
        deadline = time.monotonic() + LEAVE_TIMEOUT_S
        try:
            self._consumer.unsubscribe()
            if not self._facts:
                self._consumer.unassign()
            while time.monotonic() < deadline:
                if self._consumer.poll(WAKE_S) is None and not self._consumer.assignment():
                    break
        except (KafkaException, BusError):  # fenced, or the broker is away: nothing to give back
            pass
        self._consumer.close()

    # -- reading

    def _read_tables(self) -> None:
        starts = self._bus.first_offsets({
            (self._bus.on_broker(name), p)
            for name in self._tables for p in range(self._bus.partitions(name))
        })
        for item in self._reader.read(starts, timeout_s=START_TIMEOUT_S):
            if isinstance(item, Record):
                self._keep(item)
            else:
                self._table_next[item[0], item[1]] = item[2]

    def _keep(self, row: Record) -> None:
        key = (row.topic, row.key)
        self._latest.pop(key, None)  # re-insert: the order stays that of arrival
        self._latest[key] = row

    def _has_news(self, rows: Mapping[tuple[str, str], Record]) -> bool:
        return bool(rows or self._gathered or self._fresh or self._known - self.owned)

    def _gather(
        self, timeout_s: float, rows: dict[tuple[str, str], Record], records_max: int
    ) -> None:
        """Wait one slice for the first message, then take what is there already."""
        try:
            first = self._consumer.poll(max(0.0, min(WAKE_S, timeout_s)))
            messages = [] if first is None else [first]
            for _ in range(_FLOOD):
                for message in messages:
                    self._sort(message, rows)
                room = records_max - len(self._gathered)
                if not messages or room <= 0:
                    return
                messages = self._consumer.consume(room, 0)
        except KafkaException as error:
            raise self._failed(error, "reading") from error

    def _sort(self, message: Any, rows: dict[tuple[str, str], Record]) -> None:
        error = message.error()
        if error is not None:
            if error.code() in TAKEOVER:
                self._fenced = True
            if error.code() not in PASSING:
                raise translate(error, f"{self.service}/{self.instance} reading")
            return
        record = to_record(message, self._names)
        if record.topic in self._tables:
            self._table_next[message.topic(), record.partition] = record.offset + 1
            self._keep(record)
            rows.pop((record.topic, record.key), None)
            rows[record.topic, record.key] = record
        elif record.partition in self.owned:
            self._gathered.append(record)

    def _batch(self, rows: Mapping[tuple[str, str], Record]) -> Batch:
        if not self._has_news(rows):
            return _NOTHING
        revoked = tuple(sorted(self._known - self.owned))
        assigned = tuple(sorted(self._fresh))
        records = tuple(self._gathered)
        self._known = self.owned
        self._fresh = set()
        self._gathered = []
        return Batch(revoked, assigned, tuple(rows.values()), records)

    # -- the group; librdkafka calls these inside `poll`

    def _on_assign(self, _: Any, partitions: list[TopicPartition]) -> None:
        self._take(frozenset(p.partition for p in partitions), partitions)

    def _on_revoke(self, consumer: Any, _: list[TopicPartition]) -> None:
        self.owned = frozenset()
        self._facts = []
        self._gathered.clear()
        self._fresh.clear()
        consumer.unassign()

    def _take(self, owned: frozenset[int], facts: list[TopicPartition]) -> None:
        """Own these partitions from now on. All of them count as new, even those we had."""
        self.owned = owned
        self._fresh = set(owned)
        self._facts = facts
        self._assign(facts)

    def _assign(self, facts: list[TopicPartition]) -> None:
        tables = [TopicPartition(t, p, offset) for (t, p), offset in self._table_next.items()]
        try:
            self._consumer.assign([*facts, *tables])
        except KafkaException as error:
            raise self._failed(error, "assigning") from error

    # -- writing

    def _new_producer(self) -> Any:
        producer = Producer({
            **producer_settings(self._bus.bootstrap),
            "transactional.id": f"{self._bus.group(self.service)}.{self.instance}",
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
            "message.timeout.ms": TRANSACTION_TIMEOUT_MS,
        })
        try:
            producer.init_transactions(START_TIMEOUT_S)
        except KafkaException as error:
            raise self._failed(error, "starting") from error
        return producer

    def _produce(self, steps: Sequence[StepRecord], rows: Mapping[str, bytes],
                 now_ms: int) -> None:
        bus, states = self._bus, changelog(self.service)
        send = self._producer.produce
        for name, row in rows.items():
            send(bus.on_broker(JOURNAL_ROWS.name), row, name, 0, timestamp=now_ms)
        for step in steps:
            for message in step.outputs:
                topic, partition = bus.locate(message)
                send(topic, message.value, message.key, partition, timestamp=now_ms)
            if step.state is not None:
                send(bus.on_broker(states), step.state, step.key, step.partition,
                     timestamp=now_ms)
            if step.journal is not None:
                send(bus.on_broker(JOURNAL.name), step.journal,
                     journal_key(self.service, step.key), step.partition, timestamp=now_ms)

    def _end_transaction(self) -> None:
        """Decide what the last commit left open. Raises BusError when the broker is away."""
        try:
            self._producer.abort_transaction(COMMIT_TIMEOUT_S)
        except KafkaException as error:
            kind = error.args[0]
            if kind.fatal() or kind.code() in TAKEOVER:
                raise self._failed(error, "aborting") from error
            if kind.retriable():
                raise translate(kind, "aborting") from error
            # Not abortable any more: the commit itself was on its way. A producer of the same id
            # makes the broker finish it either way; the group's offsets then tell which.
            self._producer = self._new_producer()
        self._in_doubt = False

    def _failed(self, error: KafkaException, doing: str) -> BusError:
        kind = error.args[0]
        if kind.code() in TAKEOVER:
            self._fenced = True
        return translate(kind, f"{self.service}/{self.instance} {doing}")

    def _check_open(self) -> None:
        if self._fenced:
            raise Fenced(f"{self.service}/{self.instance} was opened again elsewhere: stop this one")
        if self._closed:
            raise BusError(f"the session {self.service}/{self.instance} is closed")

    def _check_owns(self, partition: int) -> None:
        if partition not in self.owned:
            raise Fenced(
                f"{self.service}/{self.instance} no longer owns partition {partition}: drop its "
                "state, rewind and poll"
            )
