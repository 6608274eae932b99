"""The demo on a real Kafka broker, every service its own process, each killed once."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from trial import (
    HEDGELOCK,
    Trial,
    assert_explained,
    assert_on_target,
    assert_replays,
    assert_story,
    audited,
    get,
    trial,
)

from hedgelock.app import SERVICES

pytestmark = [pytest.mark.slow, pytest.mark.timed, pytest.mark.kafka, pytest.mark.timeout(200)]

END_S = 123.0
KILLS = [
    (4.0, "funding-engine"), (18.0, "hedger"), (71.0, "risk-engine"), (78.0, "trade-executor"),
    (86.0, "collector"), (94.0, "safety"),
]
"""Script second and service; a killed one is started again at once, as a container would be.

A start takes some eight seconds of this script, in which the price falls 5 %: the hedger goes after
the first hedge, what it cannot do without only when the fall is over. `make soak` kills at random.
"""


def start_service(run: Trial, name: str) -> None:
    """Start one service process."""
    run.start(name, HEDGELOCK, "service", name)


def kill_and_start(run: Trial, name: str) -> None:
    """kill -9, then the restart that an orchestrator does."""
    run.processes[name].kill()
    run.processes[name].wait()
    start_service(run, name)


def test_the_account_survives_on_kafka_with_every_service_killed(
    tmp_path: Path, kafka_bootstrap: str
) -> None:
    """The same story over exactly-once Kafka; six kills cost no order, fill or repayment."""
    with trial(tmp_path, SIM__SPEED="4", KAFKA__BOOTSTRAP_SERVERS=kafka_bootstrap,
               KAFKA__PREFIX=f"{tmp_path.name}-") as run:
        run.start("simulator", sys.executable, "-m", "hedgelock.simulator")
        run.await_that("the simulator", lambda: get(f"{run.sim}/healthz"), 20)
        for name in SERVICES:
            start_service(run, name)
        run.await_that("readiness", lambda: all(run.ready(name) for name in SERVICES), 60)
        urlopen(Request(f"{run.sim}/sim/start", method="POST"), timeout=10).close()
        run.watch(END_S, KILLS, lambda name: kill_and_start(run, name))
        bus = run.bus()
        books = audited(run)
        assert_story(run)
        assert_on_target(run)
        assert_explained(books, bus)
        assert assert_replays(run, bus) > 100
        bus.close()
        assert set(run.stop().values()) == {0}
