"""Who calls the runners.

Embedded, all of them turn on the asyncio loop, one after the other in dependency order and in one
transaction: a decision crosses the whole chain without waking another thread, and its effect leaves
before anything else happens. On Kafka each runner has a thread, whose poll waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from hedgelock.errors import BusError, Fenced
from hedgelock.ports import Clock, LocalBus
from hedgelock.services.runner import Runner

_log = structlog.get_logger("pump")

BACKOFF_MIN_S = 0.1
BACKOFF_MAX_S = 2.0
STEADY_S = 1.0
"""So long without an error, and the bus counts as working again."""
SEND_S = 0.001
"""How long the loop belongs to an effect just handed over: until its request is on the wire."""
IDLE_S = 0.25
"""How long an idle runner waits before it looks at the clock again."""

OnFatal = Callable[[str, BaseException], None]
OnTrouble = Callable[[str, BusError | None], None]


class _Rounds:
    """Single rounds with a back-off per runner after bus errors.

    `on_fatal(service, error)` is called once, for what no retry mends: fenced, a newer schema, a
    bug outside a step. `on_trouble(service, error)` is called for every bus error, and with None
    when the bus works again.
    """

    def __init__(self, clock: Clock, on_fatal: OnFatal, on_trouble: OnTrouble) -> None:
        self._clock = clock
        self._on_fatal = on_fatal
        self._on_trouble = on_trouble
        self._retry: dict[str, tuple[float, float]] = {}

    def may_turn(self, runner: Runner[Any]) -> bool:
        """False while the runner waits after a bus error."""
        until, _ = self._retry.get(runner.service.name, (0.0, 0.0))
        return self._clock.monotonic_ms() >= until

    def turn(self, runner: Runner[Any], timeout_s: float) -> bool | None:
        """One turn, its effects still waiting; None when it was fatal (and `on_fatal` was told)."""
        try:
            busy = runner.turn(timeout_s)
        except BaseException as error:  # noqa: BLE001 - a bug here must stop the process
            if isinstance(error, BusError) and not isinstance(error, Fenced):
                self._failed(runner, error)
                return False
            self._on_fatal(runner.service.name, error)
            return None
        self._went_well(runner)
        return busy

    def undo(self, runner: Runner[Any], error: BusError) -> bool:
        """Take a turn back whose transaction failed; False when that was fatal."""
        try:
            runner.undo(error)
        except BusError as worse:
            self._on_fatal(runner.service.name, worse)
            return False
        self._failed(runner, error)
        return True

    def _failed(self, runner: Runner[Any], error: BusError) -> None:
        name = runner.service.name
        _, delay_s = self._retry.get(name, (0.0, BACKOFF_MIN_S))
        _log.warning("bus_unavailable", service=name, error=str(error), retry_s=delay_s)
        after = self._clock.monotonic_ms() + delay_s * 1e3
        self._retry[name] = (after, min(delay_s * 2, BACKOFF_MAX_S))
        self._on_trouble(name, error)

    def _went_well(self, runner: Runner[Any]) -> None:
        name = runner.service.name
        until, _ = self._retry.get(name, (0.0, 0.0))
        # One good round proves little (what is read again after an error is no write).
        if until and self._clock.monotonic_ms() > until + STEADY_S * 1e3:
            del self._retry[name]
            _log.info("bus_available", service=name)
            self._on_trouble(name, None)


class LoopPump:
    """Turns all runners on the running asyncio loop whenever the bus has news."""

    def __init__(
        self, runners: Sequence[Runner[Any]], *, clock: Clock, on_fatal: OnFatal,
        on_trouble: OnTrouble = lambda _service, _error: None,
        local: LocalBus | None = None,
    ) -> None:
        """`local`: the bus where it is one of this process, whose turns are transactions."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._transaction = local.turn if local else contextlib.nullcontext
        self._settle = local.settle if local else _nothing
        self._runners = runners
        self._rounds = _Rounds(clock, on_fatal, on_trouble)
        self._is_due = False
        self._is_turning = False
        self._has_more = False
        self._is_over = True
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin; on the loop's thread."""
        self._is_over = False
        self.wake()

    def wake(self) -> None:
        """There is news: turn soon. Safe from any thread; many calls make one round."""
        if self._is_turning:
            self._has_more = True
        elif not self._is_due and not self._is_over:
            self._is_due = True
            if threading.get_ident() == self._thread:  # nobody sleeps who would have to be woken
                self._loop.call_soon(self._run)
            else:
                self._loop.call_soon_threadsafe(self._run)

    def stop(self) -> None:
        """No further round; on the loop's thread."""
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()

    def join(self, _timeout_s: float) -> None:
        """Rounds run on the loop: after `stop` none is under way."""

    def _run(self) -> None:
        self._is_due = False
        if self._is_over:
            return
        # Our own commits are news too: asked for now, the next round would come before the effect
        # that this one hands over.
        self._is_turning, self._has_more = True, False
        turned = self._turn_all()
        acts = any(runner.has_effects for runner in turned or ())
        for runner in turned or ():
            runner.done()
        self._is_turning = False
        if turned is None:
            self.stop()
        elif acts:
            self._is_due = True
            self._loop.call_later(SEND_S, self._run)
        elif turned or self._has_more:
            self.wake()
        else:
            self._rest()

    def _rest(self) -> None:
        """There is nothing to do: what can wait until then, and a look at the clock later on."""
        self._settle()
        for runner in self._runners:
            runner.report()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(IDLE_S, self.wake)

    def _turn_all(self) -> list[Runner[Any]] | None:
        """Turn each, or up to the first with an effect; those that did something. None = fatal."""
        turned: list[Runner[Any]] = []
        is_over = False
        try:
            with self._transaction():
                for runner in self._runners:
                    if not self._rounds.may_turn(runner):
                        continue
                    did = self._rounds.turn(runner, 0.0)
                    if did is None:
                        is_over = True
                        break
                    if did:
                        turned.append(runner)
                    if runner.has_effects:
                        break  # it is next on the loop: nothing may come before it
        except BusError as error:
            undone = [self._rounds.undo(runner, error) for runner in turned]
            return [] if all(undone) and not is_over else None
        return None if is_over else turned


class ThreadPump(threading.Thread):
    """Turns one runner in a thread of its own; the bus' poll waits for news."""

    def __init__(
        self, runner: Runner[Any], *, clock: Clock, on_fatal: OnFatal,
        on_trouble: OnTrouble = lambda _service, _error: None,
    ) -> None:
        super().__init__(name=f"fold-{runner.service.name}", daemon=True)
        self._runner = runner
        self._rounds = _Rounds(clock, on_fatal, on_trouble)
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Finish the round under way, then end. Safe from any thread."""
        self._stopping.set()
        self._runner.session.wake()

    def run(self) -> None:
        """Thread body."""
        while not self._stopping.is_set():
            if not self._rounds.may_turn(self._runner):
                self._stopping.wait(IDLE_S)
                continue
            if self._rounds.turn(self._runner, IDLE_S) is None:
                return
            self._runner.done()
            self._runner.report()


def _nothing() -> None:
    """A bus elsewhere puts nothing off."""


Pump = LoopPump | ThreadPump
