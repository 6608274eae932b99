"""The topic map and the services say the same."""

from __future__ import annotations

from hedgelock.app import SERVICES, folded
from hedgelock.bus.codec import CARRIES
from hedgelock.config import load
from hedgelock.topics import TOPICS, Kind


def test_what_a_service_reads_is_what_the_map_says() -> None:
    """Inputs are facts, tables are tables, and the map names exactly these consumers."""
    services = folded(load({}, env_file=None))
    for name, service in services.items():
        assert all(TOPICS[topic].kind is Kind.FACTS for topic in service.inputs)
        assert all(TOPICS[topic].kind is Kind.TABLE for topic in service.tables)
        mapped = {topic.name for topic in TOPICS.values() if name in topic.consumers}
        assert set(service.inputs) | set(service.tables) == mapped, name


def test_every_topic_carries_something_and_its_producer_exists() -> None:
    """No topic without messages, none written by a service that does not exist yet."""
    assert CARRIES.keys() == TOPICS.keys()
    known = {*SERVICES, "app", "operator", "any service"}
    assert {topic.producer for topic in TOPICS.values()} <= known
