"""One simulated machine: exchange, log and engine, wired together in virtual time.

The exchange and the log outlive the engine. `boot` starts an engine as `app.run_engine` does;
`kill` ends it as SIGKILL does: nothing of it writes, sends or cleans up afterwards.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from hedgelock import app
from hedgelock.bus.memory import MemoryBus, MemoryLog
from hedgelock.config import Settings, load
from hedgelock.errors import Fenced
from hedgelock.exchanges.transport import HttpAnswer, TransportFailed
from hedgelock.ports import StepRecord
from hedgelock.rehearsal.loop import VirtualClock, VirtualLoop, origin
from hedgelock.rehearsal.plan import Death
from hedgelock.simulator.fault_kinds import Fault
from hedgelock.simulator.faults import Faults, Verdict
from hedgelock.simulator.gateway import Gateway
from hedgelock.simulator.inprocess import Distance, InProcess, Pulse
from hedgelock.simulator.request import Reply, Request
from hedgelock.simulator.scenarios import Scenario
from hedgelock.simulator.state import Event
from hedgelock.simulator.venue import Venue

EPOCH_MS = 1_767_225_600_000
"""2026-01-01 00:00 UTC: the first moment of every rehearsal."""
SETTINGS: Mapping[str, str] = {"RISK__DWELL_S": "5", "FUNDING__DWELL_S": "5"}
"""Scripts last a minute: states are left after seconds instead of minutes, as in the demo."""


_encode = msgspec.json.Encoder().encode

_LIFE: contextvars.ContextVar[int] = contextvars.ContextVar("life", default=0)
"""Which engine a callback or task belongs to; 0 = the exchange and whoever directs."""


def _dies_with(handle: asyncio.Handle, number: int) -> bool:
    """It is the engine's own; what it has sent belongs to the network and arrives."""
    context, module = origin(handle)
    return context.get(_LIFE) == number and not module.startswith("hedgelock.simulator")


class Life(NamedTuple):
    """One engine process."""

    number: int
    bus: MemoryBus
    wire: InProcess[HttpAnswer]
    task: asyncio.Task[int]


@functools.lru_cache(maxsize=16)
def settings_of(changes: tuple[tuple[str, str], ...]) -> Settings:
    """Settings of a rehearsal, nothing inherited from the environment."""
    return load({**SETTINGS, **dict(changes)}, env_file=None)


class _Venue(Venue):
    """The exchange, with the hash of everything that it has pushed."""

    pushed: hashlib.blake2b

    def drain(self) -> list[Event]:
        """See `Venue`."""
        events = super().drain()
        for event in events:
            self.pushed.update(_encode(event))
        return events


class _Gateway(Gateway):
    """The exchange's edge, with a word to whoever waits for a request that changes something."""

    on_change: Callable[[], None] | None = None

    def http(
        self, request: Request, now_ms: int, *, received_ns: int = 0, verdict: Verdict | None = None
    ) -> Reply:
        """See `Gateway`."""
        reply = super().http(request, now_ms, received_ns=received_ns, verdict=verdict)
        if request.method == "POST" and self.on_change is not None:
            self.on_change()
            self.on_change = None
        return reply


class World:
    """See the module. Make it on the virtual loop that runs it."""

    def __init__(
        self, scenario: Scenario, *, seed: int, tick_ms: int = 500, faults: Sequence[Fault] = (),
        settings: Settings,
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop), "a rehearsal needs virtual time"
        self.loop = loop
        self.clock = VirtualClock(loop, EPOCH_MS)
        self.settings = settings
        self.seed = seed
        self.faults = tuple(faults)
        self.venue = _Venue(scenario, now_ms=EPOCH_MS, seed=seed, tick_ms=tick_ms)
        self.venue.pushed = hashlib.blake2b(digest_size=16)
        outside = contextvars.copy_context()
        self.gateway = _Gateway(
            self.venue, faults=Faults(faults, seed=seed),
            later=lambda delay_s, act: loop.call_later(delay_s, act, context=outside),
        )
        self.log = MemoryLog(f"rehearsal {seed}")
        self.lives: list[Life] = []
        self.died = asyncio.Event()
        self.trace: list[tuple[int, str, object]] = []
        self._pulse = Pulse(self.gateway, self.clock.now_ms)
        self._dice = random.Random(f"lives {seed}")
        self._keeper = asyncio.current_task()

    # ------------------------------------------------------------ the engine

    @property
    def life(self) -> Life | None:
        """The engine that runs, None when none does."""
        if self.lives and not self.lives[-1].task.done():
            return self.lives[-1]
        return None

    def start(self) -> None:
        """Let the exchange's time pass."""
        self._pulse.start()

    def boot(self) -> Life:
        """Start an engine on the log as it is."""
        assert self.life is None, "one engine at a time"
        number = len(self.lives) + 1
        self.died.clear()
        self.gateway.on_change = None
        bus = MemoryBus(self.log, clock=self.clock)
        bus.ensure_topics(app.SERVICES)
        app.seed(bus, self.settings, self.clock)
        wire = InProcess(
            self.gateway, self.clock.now_ms, answer=HttpAnswer, failed=TransportFailed,
            distance=Distance(2.0, 4.0), seed=self._dice.getrandbits(32),
        )
        own = contextvars.copy_context()
        own.run(_LIFE.set, number)
        host = own.run(
            app.make_host, self.settings, bus, clock=self.clock, transport=wire, is_process=False,
            seed=self._dice.getrandbits(32),
        )
        task = self.loop.create_task(host.run(), name=f"engine-{number}", context=own)
        life = Life(number, bus, wire, task)
        self.lives.append(life)
        self.note("boot", number)
        return life

    def kill(self) -> None:
        """SIGKILL, now: what is committed and what has left stays; everything else is gone."""
        life = self.life
        if life is None or self.died.is_set():
            return
        self.note("kill", life.number)
        self.died.set()
        life.bus.crash()
        self.loop.forget(lambda handle: _dies_with(handle, life.number))
        for task in self._tasks():
            task.cancel()
        self.loop.create_task(life.wire.close(), name=f"resets-{life.number}")

    async def buried(self) -> None:
        """Until nothing of a killed engine is left."""
        while tasks := self._tasks():
            await asyncio.gather(*tasks, return_exceptions=True)

    def arm(self, death: Death) -> None:
        """Kill the engine at the next such moment."""
        life = self.life
        assert life is not None, "nothing to kill"

        def die(steps: Sequence[StepRecord]) -> None:
            if any(step.durable for step in steps):
                self.kill()
                raise Fenced("this process was killed")

        match death:
            case Death.ANY:
                self.kill()
            case Death.BEFORE_COMMIT:
                life.bus.before_commit = die
            case Death.AFTER_COMMIT:
                life.bus.after_commit = die
            case Death.ON_ARRIVAL:
                self.gateway.on_change = self.kill

    def _tasks(self) -> list[asyncio.Task[Any]]:
        return [task for task in self.loop.tasks() if task is not self._keeper]

    def note(self, kind: str, what: object) -> None:
        """Something for the trace."""
        self.trace.append((self.clock.now_ms() - EPOCH_MS, kind, what))

    def digest(self) -> str:
        """Hash of everything that the exchange pushed and the log holds."""
        return f"{self.venue.pushed.hexdigest()}:{self.log.digest()}"

    def account(self) -> Any:
        """The watched account at the exchange."""
        return next(iter(self.venue.exchange.accounts.values()))
