"""Shared by every test: the float trap, real brokers, and where the shared data lies when it is there."""

from __future__ import annotations

import gc
import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from hedgelock.domain.money import trap_floats
from kafka_broker import kafka_bootstrap

__all__ = ["kafka_bootstrap"]

ROOT = Path(__file__).resolve().parent.parent

trap_floats()

# Time is no property of what is tested: a busy machine must not fail an example.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who waits long begins first; tests of one file share a process, unless they say not.

    With it they share what is costly to set up. Those of tests/integration set nothing up together.
    """
    items.sort(key=lambda item: not any(map(item.get_closest_marker, ("slow", "kafka"))))
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            is_alone = "tests/integration/" in item.nodeid
            group = item.nodeid if is_alone else item.nodeid.partition("::")[0]
            item.add_marker(pytest.mark.xdist_group(group))


def pytest_collection_finish() -> None:
    """What is there now stays: the collector of garbage need not look at it again and again."""
    gc.collect()
    gc.freeze()


_TRACED = "COVERAGE_PROCESS_CONFIG"
"""Tells the processes that a test starts to measure coverage."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """`no_cover` holds for the processes that the test starts as well."""
    if item.get_closest_marker("no_cover") is None or _TRACED not in os.environ:
        return (yield)
    traced = os.environ.pop(_TRACED)
    try:
        return (yield)
    finally:
        os.environ[_TRACED] = traced


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with recorded data; the test is skipped, by name, where it is absent."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("../shared is absent: recorded data is needed here")
    return folder
