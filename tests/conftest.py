"""Shared by every test: the float trap, real brokers, and where the shared data lies when it is there."""

from __future__ import annotations

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


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with recorded data; the test is skipped, by name, where it is absent."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("../shared is absent: recorded data is needed here")
    return folder
