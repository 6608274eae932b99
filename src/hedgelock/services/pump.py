"""The thread that folds.

Embedded, one thread pumps all runners in dependency order (a decision then crosses the whole chain
without waking another thread); on Kafka each process pumps its one runner.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from hedgelock.errors import BusError, Fenced
from hedgelock.ports import Clock
from hedgelock.services.runner import Runner

_log = structlog.get_logger("pump")

BACKOFF_MIN_S = 0.1
BACKOFF_MAX_S = 5.0
STEADY_S = 1.0
"""So long without an error, and the bus counts as working again."""


class Pump(threading.Thread):
    """Runs runners until stopped. `wait(timeout_s)` blocks while all are idle (None: poll waits).

    `on_fatal(service, error)` is called once, from this thread, for what no retry mends: fenced, a
    newer schema, a bug outside a step. `on_trouble(service, error)` is called for every bus error,
    and with None when the bus works again.
    """

    def __init__(
        self,
        runners: Sequence[Runner[Any]],
        *,
        clock: Clock,
        wait: Callable[[float], object] | None,
        on_fatal: Callable[[str, BaseException], None],
        on_trouble: Callable[[str, BusError | None], None] = lambda _service, _error: None,
        idle_s: float = 0.1,
    ) -> None:
        super().__init__(name="fold-" + "-".join(r.service.name for r in runners), daemon=True)
        self._runners = runners
        self._clock = clock
        self._wait = wait
        self._on_fatal = on_fatal
        self._on_trouble = on_trouble
        self._idle_s = idle_s
        self._stopping = threading.Event()
        self._retry: dict[str, tuple[float, float]] = {}

    def stop(self) -> None:
        """Finish the round under way, then end. Safe from any thread."""
        self._stopping.set()
        for runner in self._runners:
            runner.session.wake()

    def run(self) -> None:
        """Thread body."""
        while not self._stopping.is_set():
            busy = False
            for runner in self._runners:
                try:
                    busy |= self._round(runner)
                except BaseException as error:  # noqa: BLE001 - a bug here must stop the process
                    self._on_fatal(runner.service.name, error)
                    return
            if not busy and self._wait is not None:
                self._wait(self._idle_s)

    def _round(self, runner: Runner[Any]) -> bool:
        name = runner.service.name
        until, delay_s = self._retry.get(name, (0.0, BACKOFF_MIN_S))
        if until and self._clock.monotonic_ms() < until:
            if self._wait is None:
                self._stopping.wait(delay_s)
            return False
        try:
            busy = runner.run_once(0.0 if self._wait is not None else self._idle_s)
        except Fenced:
            raise
        except BusError as error:
            _log.warning("bus_unavailable", service=name, error=str(error), retry_s=delay_s)
            after = self._clock.monotonic_ms() + delay_s * 1e3
            self._retry[name] = (after, min(delay_s * 2, BACKOFF_MAX_S))
            self._on_trouble(name, error)
            return False
        # One good round proves little (what is read again after an error is no write).
        if until and self._clock.monotonic_ms() > until + STEADY_S * 1e3:
            del self._retry[name]
            _log.info("bus_available", service=name)
            self._on_trouble(name, None)
        return busy
