"""The topic map is whole: every topic is written by one service and read by at least one."""

from __future__ import annotations

import dataclasses

import pytest

from hedgelock.bus.codec import CARRIES
from hedgelock.config.machine import HttpSettings
from hedgelock.topics import TOPICS, Kind, Topic

SERVICES = frozenset(
    ["collector", "risk-engine", "hedger", "trade-executor", "funding-engine", "safety", "treasury", "alerts", "forecaster"]
)
PRODUCERS = SERVICES | {"app", "operator", "any service"}


def problems(topics: dict[str, Topic]) -> list[str]:
    """What is wrong with a topic map."""
    wrong: list[str] = []
    for name, topic in topics.items():
        if name != topic.name:
            wrong.append(f"{name}: is filed under another name")
        if topic.producer not in PRODUCERS:
            wrong.append(f"{name}: producer {topic.producer!r} is not one service")
        if not topic.consumers:
            wrong.append(f"{name}: nobody reads it")
        wrong += [f"{name}: unknown consumer {c}" for c in topic.consumers if c not in SERVICES]
        if topic.partitions < 1:
            wrong.append(f"{name}: has no partition")
        if topic.kind is Kind.FACTS and topic.retention_ms is None:
            wrong.append(f"{name}: facts kept for ever fill the disk")
    return wrong


def test_the_map_is_whole() -> None:
    """One producer, at least one consumer, a bound on what is kept."""
    assert problems(TOPICS) == []


@pytest.mark.parametrize(
    "change",
    [
        {"producer": "collector hedger"},
        {"consumers": ()},
        {"consumers": ("nobody",)},
        {"partitions": 0},
        {"retention_ms": None},
        {"name": "other"},
    ],
)
def test_a_hole_in_the_map_is_noticed(change: dict[str, object]) -> None:
    """Each kind of hole is found when planted."""
    assert problems({"risk_state": dataclasses.replace(TOPICS["risk_state"], **change)})


def test_every_topic_says_what_it_carries() -> None:
    """The codec knows the messages of every topic and of no other."""
    assert CARRIES.keys() == TOPICS.keys()


def test_running_services_have_ports() -> None:
    """Every service that folds or collects has an HTTP and a metrics port of its own."""
    http = HttpSettings()
    ports = [
        port
        for name in ("collector", "risk-engine", "hedger", "trade-executor", "funding-engine", "safety")
        for port in http.ports(name)
    ]
    assert len(set(ports)) == 12
    assert not {9090, 9092} & set(ports)
