"""The image and docker-compose.yml, really run: every service a container, on a real Kafka.

Not named `test_…`, so that only `make test-containers` (scripts/test_containers.sh) runs it: it needs
root, podman and the image.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from trial import Trial, assert_explained, audit, environment

from containers.fleet import KAFKA, OURS, Fleet, must, podman

pytestmark = pytest.mark.timeout(300)

IMAGE_BYTES_MAX = 700_000_000
"""Base image included; see `test_the_image_holds_no_tools`."""


class ContainerTrial(Trial):
    """A run whose exchange is asked from inside its container."""

    fleet: Fleet

    def at_exchange(self, path: str) -> Any:
        return self.fleet.sim(path)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Every container of the compose file, healthy."""
    assert os.environ.get("HEDGELOCK_CONTAINERS"), "type: make test-containers"
    fleet = Fleet({"LOG_LEVEL": "INFO"}, tmp_path_factory.mktemp("fleet"))
    try:
        fleet.up()
        yield fleet
    finally:
        fleet.down()


@pytest.fixture(scope="module")
def run(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> ContainerTrial:
    """The same as the integration tests' auditor wants it."""
    folder = tmp_path_factory.mktemp("run")
    run = ContainerTrial(environment(folder, KAFKA__BOOTSTRAP_SERVERS=KAFKA), folder)
    run.fleet = fleet
    return run


@pytest.mark.parametrize("name", ["simulator", *OURS])
def test_a_container_has_no_rights(fleet: Fleet, name: str) -> None:
    """Not root, no capability, nothing to gain by setuid, and nowhere to write but data and tmp."""
    status = dict(
        line.split(":\t", 1) for line in fleet.inside(name, "cat", "/proc/self/status").splitlines()
        if ":\t" in line
    )
    assert status["Uid"].split() == ["10001"] * 4
    assert {status[key] for key in ("CapEff", "CapPrm", "CapBnd")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert podman("exec", name, "touch", "/opt/hedgelock/x").returncode != 0
    fleet.inside(name, "touch", "/data/x", "/tmp/x")


def test_an_order_is_filled_and_explained(fleet: Fleet, run: ContainerTrial) -> None:
    """The demo's first hedge is decided, sent and filled across containers; `why` inside tells it."""

    def filled() -> dict[str, Any] | None:
        rows = run.at_exchange("/sim/orders?account=hedgelock-sim")["orders"]
        return next((row for row in rows if row["orderStatus"] == "Filled"), None)

    order = fleet.until(filled, "a filled order", 90)

    def story() -> str:
        done = podman("exec", "--env=COLUMNS=200", "hedger", "hedgelock", "why", order["orderLinkId"])
        return done.stdout if "filled" in done.stdout else ""

    told = fleet.until(story, "its story", 20)
    for word in ("price", "funding of", "why CAUTION", "what was ordered", "filled at",
                 order["orderLinkId"], order["orderId"]):
        assert word in told, told


def test_a_killed_container_comes_back_and_nothing_is_doubled(
    fleet: Fleet, run: ContainerTrial
) -> None:
    """SIGKILL in the executor's container: its restart policy starts it again, the books agree."""
    before = fleet.state("trade-executor")["Pid"]
    os.kill(before, signal.SIGKILL)

    def is_back() -> bool:
        return fleet.state("trade-executor")["Pid"] not in (before, 0)

    fleet.until(is_back, "its restart", 20)
    fleet.until(lambda: fleet.is_healthy("trade-executor"), "the executor's return", 60)
    bus = run.bus()
    try:
        fleet.until(lambda: _agrees(run, bus), "the books to agree", 30)
    finally:
        bus.close()


def _agrees(run: Trial, bus: Any) -> bool:
    try:
        audit(run, bus)
    except AssertionError:
        return False
    return True


def test_sigterm_ends_every_container_with_zero_and_loses_nothing(
    fleet: Fleet, run: ContainerTrial
) -> None:
    """`stop` sends SIGTERM: status 0 within the grace period, no order doubled, no fill lost.

    Those that decide go first, and what they have ordered gets time to end: what is under way when
    an executor stops is found out by its next start (tests/integration/test_shutdown.py).
    """
    executor = OURS.index("trade-executor")
    statuses = {name: fleet.stop(name) for name in OURS[:executor]}
    bus = run.bus()
    try:
        fleet.until(lambda: _agrees(run, bus), "the last orders to end", 30)
    finally:
        bus.close()
    statuses |= {name: fleet.stop(name) for name in OURS[executor:]}
    assert statuses == dict.fromkeys(OURS, 0), fleet.logs()
    bus = run.bus()
    try:
        books = audit(run, bus)
        assert_explained(books, bus)
    finally:
        bus.close()
    assert fleet.stop("simulator") == 0


def test_the_image_holds_no_tools(fleet: Fleet) -> None:
    """One image of bounded size, without compiler or build leftovers; its size is reported."""
    image = json.loads(must("image", "inspect", "hedgelock:latest"))[0]
    base = json.loads(must("image", "inspect", "docker.io/library/python:3.11-slim-bookworm"))[0]
    size, own = image["Size"], image["Size"] - base["Size"]
    sys.stdout.write(f"\nimage {size / 1e6:.0f} MB, {own / 1e6:.0f} MB of them above the base image; "
                     f"all healthy after {fleet.seconds['up']:.0f} s\n")
    assert size <= IMAGE_BYTES_MAX
    found = must("run", "--rm", "--network=none", "--entrypoint=sh", "hedgelock:latest", "-c",
                 "command -v gcc cc make git; ls -A /build /root/.cache 2>/dev/null; true")
    assert found == ""
