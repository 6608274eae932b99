"""How far the consumer groups of one log have read, as the broker knows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException

from hedgelock.bus.kafka_client import translate

TIMEOUT_S: Final = 15.0

MARKERS_MAX: Final = 64
"""A group this close to the end may have read everything: commit markers take offsets, too."""


class Position(NamedTuple):
    """A group's next offset in a partition, with the names that the broker uses."""

    group: str
    topic: str
    partition: int
    following: int


def groups_of(admin: Any, prefix: str) -> list[str]:
    """Names of the groups that begin with `prefix`. Raises BusError."""
    try:
        listed = admin.list_consumer_groups(request_timeout=TIMEOUT_S).result()
    except KafkaException as error:
        raise translate(error.args[0], "asking for consumer groups") from error
    return sorted(g.group_id for g in listed.valid if g.group_id.startswith(prefix))


def committed(admin: Any, groups: Sequence[str]) -> list[Position]:
    """What these groups have committed, partition by partition. Raises BusError."""
    found: list[Position] = []
    for group in groups:  # one group per request is all that the client takes
        try:
            (future,) = admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group)], request_timeout=TIMEOUT_S
            ).values()
            taken = future.result().topic_partitions
        except KafkaException as error:
            raise translate(error.args[0], "asking for a group's offsets") from error
        found += [Position(group, t.topic, t.partition, t.offset) for t in taken if t.offset >= 0]
    return found


def nearly_done(
    positions: Sequence[Position], ends: Mapping[tuple[str, int], int]
) -> dict[tuple[str, int], int]:
    """Where to read from to see whether records or only markers are left: (topic, partition) → offset."""
    start: dict[tuple[str, int], int] = {}
    for one in positions:
        at = (one.topic, one.partition)
        if 0 < ends[at] - one.following <= MARKERS_MAX:
            start[at] = min(one.following, start.get(at, one.following))
    return start


def without_markers(
    positions: Sequence[Position], ends: Mapping[tuple[str, int], int],
    newest: Mapping[tuple[str, int], int],
) -> list[Position]:
    """The same; a group with nothing but markers ahead stands at the end.

    `newest` is the highest offset of a record found from `nearly_done`'s offsets on.
    """
    result = []
    for one in positions:
        at = (one.topic, one.partition)
        near = 0 < ends[at] - one.following <= MARKERS_MAX
        done = near and newest.get(at, -1) < one.following
        result.append(one._replace(following=ends[at]) if done else one)
    return result
