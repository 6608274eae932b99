"""How HedgeLock talks to librdkafka: settings for latency, errors by who acts, whole reads."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from hedgelock.errors import BusError, Fenced
from hedgelock.ports import Record

LOGGER: Final = logging.getLogger("hedgelock.bus.kafka")

TAKEOVER: Final = frozenset({
    KafkaError._FENCED,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.INVALID_PRODUCER_EPOCH,
})
"""Another session has taken this instance's place: this one is over."""

MOVED: Final = frozenset({
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
})
"""The group has moved on: rewind, and go on with what is ours then."""

PASSING: Final = frozenset({
    KafkaError._PARTITION_EOF,
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._MAX_POLL_EXCEEDED,  # partitions are lost, which the rebalance tells us
    KafkaError.UNKNOWN_TOPIC_OR_PART,  # just created: the broker's metadata lag a little
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
})
"""Errors of a consumer that librdkafka mends by itself."""

LEADERLESS: Final = frozenset({
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
})

CONNECT_TIMEOUT_S: Final = 5.0
_CHUNK: Final = 1_000


def translate(error: KafkaError, doing: str) -> BusError:
    """What happened, why, and what to do about it."""
    if error.code() in TAKEOVER:
        return Fenced(f"{doing}: another session of this instance took over ({error.str()})")
    if error.code() in MOVED:
        return Fenced(f"{doing}: the group was dealt out again ({error.str()})")
    return BusError(
        f"{doing}: {error.str()} ({error.name()}); is the broker of KAFKA__BOOTSTRAP_SERVERS up?"
    )


def common_settings(bootstrap: str) -> dict[str, Any]:
    """Settings of every client: come back quickly, do not hammer a broker that is down."""
    return {
        "bootstrap.servers": bootstrap,
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1_000,
        "socket.keepalive.enable": True,
        "socket.nagle.disable": True,
        "allow.auto.create.topics": False,
        "logger": LOGGER,
    }


def consumer_settings(bootstrap: str) -> dict[str, Any]:
    """Settings of every consumer: read-committed, low latency, 16 MiB of prefetch."""
    return {
        **common_settings(bootstrap),
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "fetch.wait.max.ms": 50,
        # How long a partition whose queue was full, or which had an error, waits before the next
        # fetch: the default of a second would be the latency of every first message.
        "fetch.queue.backoff.ms": 1,
        "fetch.error.backoff.ms": 10,
        "queued.min.messages": 20_000,
        "queued.max.messages.kbytes": 16_384,
    }


def producer_settings(bootstrap: str) -> dict[str, Any]:
    """Settings of every producer: idempotent, nothing held back to fill a batch."""
    return {
        **common_settings(bootstrap),
        "enable.idempotence": True,
        "linger.ms": 0,
        "retry.backoff.ms": 1,
        "retry.backoff.max.ms": 100,
    }


def to_record(message: Any, names: Mapping[str, str]) -> Record:
    """A librdkafka message as the port knows it; `names` maps the broker's topics to ours."""
    key = message.key()
    return Record(
        names[message.topic()], message.partition(), message.offset(),
        key.decode(errors="replace") if key else "", message.value() or b"",
        message.timestamp()[1],
    )


class WholeReader:
    """Reads partitions from an offset to where they end now, outside any group.

    One consumer that is kept, because a connection costs more than most reads.
    """

    def __init__(self, bootstrap: str, names: Mapping[str, str]) -> None:
        self._names = names
        self._met: set[str] = set()
        self._consumer = Consumer({
            **consumer_settings(bootstrap),
            "group.id": "hedgelock-reader",  # demanded by librdkafka; no group is joined
            "enable.partition.eof": True,
            # The broker says "this is the end" by an empty answer, which it gives after this
            # time. Only ever paid during a read: nothing is assigned in between.
            "fetch.wait.max.ms": 5,
        })

    def read(
        self, starts: Mapping[tuple[str, int], int], *, timeout_s: float,
        at_least: Mapping[tuple[str, int], int] | None = None,
    ) -> Iterator[Record | tuple[str, int, int]]:
        """Yield each record, and (topic, partition, next offset) at each partition's end.

        Topics are the broker's names. Give real offsets: librdkafka takes half a second to look
        up a logical one. A partition with an entry in `at_least` ends only at or
        after that offset: transactions that are still open before it are waited for. Raises
        BusError when nothing came for `timeout_s`.
        """
        left = set(starts)
        self._consumer.assign([TopicPartition(t, p, offset) for (t, p), offset in starts.items()])
        quiet_since = time.monotonic()
        try:
            self._meet({topic for topic, _ in starts})
            while left:
                for message in self._chunk():
                    error = message.error()
                    at = (message.topic(), message.partition())
                    if error is None:
                        yield to_record(message, self._names)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        if at in left and message.offset() >= (at_least or {}).get(at, 0):
                            left.discard(at)
                            yield (*at, message.offset())
                        continue
                    elif error.code() not in PASSING:
                        raise translate(error, f"reading {at[0]}")
                    quiet_since = time.monotonic()
                if time.monotonic() - quiet_since > timeout_s:
                    raise BusError(
                        f"{', '.join(sorted({t for t, _ in left}))} could not be read to the end "
                        f"within {timeout_s:.0f} s: is the broker up, is a transaction left open?"
                    )
        finally:
            self._consumer.unassign()

    def _meet(self, topics: set[str]) -> None:
        """Ask for the leaders of topics that are new here: librdkafka does so once a second."""
        if topics <= self._met:
            return
        for topic in topics - self._met:
            try:
                self._consumer.list_topics(topic, timeout=CONNECT_TIMEOUT_S)
            except KafkaException:  # only an acceleration: the read itself tells what is wrong
                return
        self._met |= topics

    def _chunk(self) -> Sequence[Any]:
        try:
            first = self._consumer.poll(0.1)
            return [] if first is None else [first, *self._consumer.consume(_CHUNK, 0)]
        except KafkaException as error:
            raise translate(error.args[0], "reading") from error

    def close(self) -> None:
        """Drop the connection."""
        self._consumer.close()
