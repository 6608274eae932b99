"""Plays a plan to its end and audits what is left.

Safety phase: the script, with faults and deaths. Heal phase: everything works, the price stands
still. Then the system must come to rest with right books; `Report.findings` is empty if it did.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import structlog

from hedgelock.domain.execution_memory import ExecutionMemory
from hedgelock.domain.hedge_memory import HedgeMemory, is_settled
from hedgelock.domain.money import trap_floats
from hedgelock.domain.risk import Confidence
from hedgelock.rehearsal.auditor import Finding, Rule, audit, is_excused, rests_as_stop, state_of
from hedgelock.rehearsal.loop import VirtualLoop
from hedgelock.rehearsal.plan import Kill, Plan, drawn
from hedgelock.rehearsal.world import World, settings_of

T = TypeVar("T")
REPLAY_EVERY = 4
"""Folding the journal again costs a fifth of a run: one seed in so many does it."""
LEDGER_S = 33
"""So many seconds without news, and the system is at rest: the log is read every 30 s."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a rehearsal came to."""

    plan: Plan
    findings: tuple[Finding, ...]
    digest: str
    """Hash of all that the exchange pushed and the log holds: the same seed gives the same."""
    trace: tuple[tuple[int, str, object], ...] = field(repr=False)
    """(ms since the start, kind, what): faults, deaths, warnings of the log."""
    virtual_s: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def command(self) -> str:
        """What plays it again."""
        return f"hedgelock rehearse --seed {self.plan.seed}"


def rehearse(plan: Plan | int) -> Report:
    """Play a plan, or the one drawn from a seed."""
    chosen = drawn(plan) if isinstance(plan, int) else plan

    async def play(world: World) -> Report:
        await _direct(world, chosen)
        await settle(world, chosen.settle_max_s)
        world.note("audit", "")
        rules = [rule for rule in Rule if rule is not Rule.REPLAY or chosen.seed % REPLAY_EVERY == 0]
        findings = tuple(audit(world, rules))
        account = world.account()
        counts = {
            "lives": len(world.lives), "orders": len(account.orders),
            "excused": int(is_excused(world)),
            "repayments": len(account.repayments), "borrows": len(account.borrows),
            "faults": sum(int(str(row["hits"])) for row in world.gateway.faults.listing()),
        }
        virtual_s = world.loop.time()
        return Report(chosen, findings, world.digest(), tuple(world.trace), virtual_s, counts)

    return in_world(chosen, play)


def in_world(plan: Plan, play: Callable[[World], Awaitable[T]]) -> T:
    """Make the plan's world, `play` in it, and leave nothing behind."""
    trap_floats()
    loop = VirtualLoop()

    async def main() -> T:
        world = World(
            plan.scenario, seed=plan.seed, tick_ms=plan.tick_ms,
            faults=plan.faults, settings=settings_of(()),
        )
        with _logged(world):
            try:
                return await play(world)
            finally:
                world.kill()
                await world.buried()

    try:
        return loop.run_until_complete(main())
    finally:
        loop.close()


@contextlib.contextmanager
def _logged(world: World) -> Iterator[None]:
    """Warnings and alarms go into the trace instead of to the terminal."""

    def take(_logger: object, method: str, event: Any) -> Any:
        if world.life is not None and not world.died.is_set():
            name = event.pop("event", "")
            world.note(method, (name, {k: str(v) for k, v in event.items() if k != "exc_info"}))
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[take], wrapper_class=structlog.make_filtering_bound_logger(30),
        logger_factory=structlog.ReturnLoggerFactory(), cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)


async def _direct(world: World, plan: Plan) -> None:
    """The script, with its deaths."""
    world.start()
    world.boot()
    for kill in plan.kills:
        await until(world, kill.at_s)
        await _die(world, kill)
    await until(world, plan.heal_s)


async def until(world: World, second: float) -> None:
    """Let the world run to a script second."""
    wait_s = second - world.loop.time()
    if wait_s > 0:
        await asyncio.sleep(wait_s)


async def _die(world: World, kill: Kill) -> None:
    world.arm(kill.death)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(8):
            await world.died.wait()
    world.kill()  # the moment may not have come
    await world.buried()
    await asyncio.sleep(kill.down_s)
    world.boot()


async def settle(world: World, most_s: float) -> None:
    """Until the system is at rest and has read everything, or for too long."""
    quiet_s, lines, deadline_s = 0, -1, world.loop.time() + most_s
    while world.loop.time() < deadline_s and quiet_s < LEDGER_S:
        await asyncio.sleep(1.0)
        is_same = lines == (lines := len(world.account().log))
        quiet_s = quiet_s + 1 if is_same and _is_quiet(world) else 0


def _is_quiet(world: World) -> bool:
    executor = state_of(world, "trade-executor", ExecutionMemory)
    hedger = state_of(world, "hedger", HedgeMemory)
    if executor is None or hedger is None or not is_settled(hedger):
        return False
    if hedger.risk is None or hedger.risk.confidence is not Confidence.FRESH:
        return False
    orders_over = all(o.is_terminal or rests_as_stop(o) for o in executor.orders.values())
    return orders_over and all(action.is_terminal for action in executor.actions.values())


__all__ = ["Report", "in_world", "rehearse", "settle", "until"]
