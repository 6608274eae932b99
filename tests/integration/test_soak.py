"""The demo at its own speed with twenty kill -9 on each bus; `make soak` runs it.

The kills come from a seed that is printed; HEDGELOCK_SOAK_SEED repeats a run.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import sys
from collections.abc import Callable, Sequence
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
    child_pid,
    get,
    sigkill,
    trial,
)

from hedgelock.app import SERVICES

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

KILLS = 20
FIRST_KILL_S, LAST_KILL_S, END_S = 2.0, 117.0, 126.0
"""Script seconds. After the last kill there is time to be back and finish what was under way."""

GAP_MIN_S = 2.5
"""Kills closer than this would only prove that what never runs protects nobody."""


@pytest.fixture
def chance() -> random.Random:
    """The seeded source of kill times and victims; the seed is printed."""
    seed = int(os.environ.get("HEDGELOCK_SOAK_SEED") or secrets.randbits(32))
    print(f"\nrepeat with HEDGELOCK_SOAK_SEED={seed}")  # noqa: T201 - the way to repeat a failure
    return random.Random(seed)


def schedule(chance: random.Random, names: Sequence[str]) -> list[tuple[float, str]]:
    """Script second and victim of every kill, at least GAP_MIN_S apart."""
    spare = LAST_KILL_S - FIRST_KILL_S - GAP_MIN_S * KILLS
    offsets = sorted(chance.uniform(0, spare) for _ in range(KILLS))
    return [
        (round(FIRST_KILL_S + offset + GAP_MIN_S * at, 2), chance.choice(names))
        for at, offset in enumerate(offsets)
    ]


def judge(run: Trial, kills: Sequence[tuple[float, str]]) -> None:
    """Every promise of the demo, at its own speed and after all kills; prints the figures."""
    assert run.kills == [name for _, name in kills]
    ours, twin = run.moments[-1].ours, run.moments[-1].twin
    first = next(m for m in run.moments if m.ours["orders"])
    bus = run.bus()
    try:
        figures = {
            "first hedge at LTV": first.ours["ltv"], "highest LTV": ours["ltv_max"],
            "last LTV": ours["ltv"], "orders": ours["orders"], "fills": ours["fills"],
            "repayments": ours["repayments"], "borrows": ours["borrows"],
            "pocket": ours["unified_equity_usd"], "equity": ours["equity_usd"],
            "twin's": twin["equity_usd"],
        }
        print(", ".join(f"{name} {value}" for name, value in figures.items()))  # noqa: T201
        books = audited(run)
        assert_story(run)
        assert_on_target(run)
        assert_explained(books, bus)
        steps = assert_replays(run, bus)
        print(f"{len(books.orders)} order intents, {len(books.actions)} treasury actions, "  # noqa: T201
              f"{steps} steps folded again: same")
    finally:
        bus.close()


def play(
    run: Trial, chance: random.Random, names: Sequence[str], kill: Callable[[str], None]
) -> None:
    """The script with its kills, then until the account has nothing under way."""
    kills = schedule(chance, names)
    print("kills:", " ".join(f"{at:.1f}:{name}" for at, name in kills))  # noqa: T201
    run.watch(END_S, kills, kill)
    judge(run, kills)


def test_twenty_kills_of_the_engine_cost_nothing(tmp_path: Path, chance: random.Random) -> None:
    """Embedded, at the script's own speed: no order doubled, no fill lost, nothing repaid twice."""
    with trial(tmp_path, SIM__SPEED="1") as run:
        run.start("run", HEDGELOCK, "run")
        run.await_that("the script's start", lambda: run.look().script_s > 0, 60)
        parent = run.processes["run"].pid

        def kill_engine(_: str) -> None:
            # A kill that comes late waits for a whole engine; the scheduled ones hit whatever there is.
            run.await_that("an engine at work", lambda: run.ready("hedger"), 20)
            sigkill(child_pid(parent, "hedgelock.app"))

        play(run, chance, ["engine"], kill_engine)
        assert run.stop() == {"run": 0}


@pytest.mark.kafka
def test_twenty_kills_of_services_cost_nothing(
    tmp_path: Path, kafka_bootstrap: str, chance: random.Random
) -> None:
    """Kafka, every service its own process, any of them killed and started again at once."""
    with trial(tmp_path, SIM__SPEED="1", KAFKA__BOOTSTRAP_SERVERS=kafka_bootstrap,
               KAFKA__PREFIX=f"{tmp_path.name}-") as run:
        run.start("simulator", sys.executable, "-m", "hedgelock.simulator")
        run.await_that("the simulator", lambda: get(f"{run.sim}/healthz"), 20)
        for name in SERVICES:
            run.start(name, HEDGELOCK, "service", name)
        run.await_that("readiness", lambda: all(run.ready(name) for name in SERVICES), 60)
        urlopen(Request(f"{run.sim}/sim/start", method="POST"), timeout=10).close()

        def kill_service(name: str) -> None:
            run.processes[name].send_signal(signal.SIGKILL)
            run.processes[name].wait()
            run.start(name, HEDGELOCK, "service", name)

        play(run, chance, SERVICES, kill_service)
        assert set(run.stop().values()) == {0}
