"""Plays a scenario file against the whole of HedgeLock and answers its checks."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from hedgelock.domain.situation import HedgeReason
from hedgelock.rehearsal.auditor import standing
from hedgelock.rehearsal.checks import Sample, failures
from hedgelock.rehearsal.plan import Plan
from hedgelock.rehearsal.rehearse import in_world, settle
from hedgelock.rehearsal.world import World
from hedgelock.simulator.fault_kinds import ALWAYS_S
from hedgelock.simulator.script import Script

SAMPLE_S = 0.5
"""How often the hedge is looked at."""
AFTERWARDS_S = 5.0
"""Where nothing heals, the run ends so long after its script."""


class Played(NamedTuple):
    """What a scenario came to."""

    failures: tuple[str, ...]
    trace: tuple[tuple[int, str, object], ...]
    samples: tuple[Sample, ...]


def play(script: Script, *, tick_ms: int = 500) -> Played:
    """Play a script to its end, with its kills and faults, and answer its checks."""
    plan = Plan(script.seed, script.name, script.scenario, script.faults, tick_ms=tick_ms)

    async def run(world: World) -> Played:
        samples = await _direct(world, script)
        if script.healed_s < ALWAYS_S and world.life is not None:
            await settle(world, 120.0)
        return Played(
            tuple(failures(world, samples, script.checks)), tuple(world.trace), tuple(samples)
        )

    return in_world(plan, run)


async def _direct(world: World, script: Script) -> list[Sample]:
    samples: list[Sample] = []
    events = sorted(
        [(kill.at_s, False) for kill in script.kills]
        + [(kill.back_s, True) for kill in script.kills if kill.back_s < ALWAYS_S]
    )
    world.start()
    world.boot()
    healed_s = script.healed_s if script.healed_s < ALWAYS_S else 0.0
    end_s = max(script.scenario.duration_s, healed_s) + AFTERWARDS_S
    while world.loop.time() < end_s:
        next_s = world.loop.time() + SAMPLE_S
        while events and events[0][0] <= next_s:
            at_s, is_back = events.pop(0)
            await asyncio.sleep(max(0.0, at_s - world.loop.time()))
            if is_back:
                world.boot()
            else:
                world.kill()
                await world.buried()
        await asyncio.sleep(max(0.0, next_s - world.loop.time()))
        found = standing(world) if world.life is not None else HedgeReason.NO_ASSESSMENT
        samples.append(
            Sample(world.loop.time(), None if isinstance(found, HedgeReason) else found)
        )
    return samples
