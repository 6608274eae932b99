"""`hedgelock run`: the simulator and the engine as child processes, kept alive, stopped together.

A child that dies is started again with growing delay; the engine restores its state from the log, so
a `kill -9` costs a second and no order. The script of the simulator starts when the engine is ready.
"""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from hedgelock.config import Mode, Settings
from hedgelock.config.child import child_environment
from hedgelock.errors import ConfigError
from hedgelock.telemetry import rotation
from hedgelock.telemetry.http import probe

_log = structlog.get_logger("supervisor")

_SERVICES = ("collector", "risk-engine", "hedger", "trade-executor", "funding-engine", "safety")
POLL_S = 0.05
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
RESTART_MIN_S = 0.1
RESTART_MAX_S = 5.0
STEADY_S = 3.0
"""A child that lived this long starts over with the shortest delay."""
ABANDONED_S = 20.0
"""An engine that could not be brought back for this long leaves its orders to the watchdog…"""
WATCHDOG_EVERY_S = 60.0
"""…which looks again this often until the engine is back."""
CONFIG_EXIT = 2
REFUSED_EXIT = 3
"""A child that cannot begin (a corrupt or busy log): at first a person's matter, later tried again."""


@dataclass
class Child:
    """One process: how to start it and how it fares."""

    name: str
    argv: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    delay_s: float = RESTART_MIN_S
    restart_at_s: float = field(default=0.0)
    gone_since_s: float = 0.0
    """When it died and has not lived steadily since; 0 = it lives."""

    @property
    def pid(self) -> int:
        """Process id, 0 when it does not run."""
        return self.process.pid if self.process and self.process.poll() is None else 0


class Supervisor:
    """Starts, watches and stops the children; `log_path` takes their stderr when given."""

    def __init__(self, settings: Settings, *, log_path: Path | None = None) -> None:
        self._settings = settings
        self._environment = child_environment(settings)
        self._log_path = log_path
        self._log_file = log_path.open("ab") if log_path else None
        self._stopping = threading.Event()
        self._log_trouble = False
        self.log_bytes_max = rotation.BYTES_MAX
        self.failure: str = ""
        self._status = 0
        self._was_ready = False
        self._watchdog_due_s = 0.0
        self._watchdogs: list[subprocess.Popen[bytes]] = []
        python = (sys.executable, "-m")
        self.children = [Child("engine", (*python, "hedgelock.app"))]
        if settings.trading_mode in (Mode.SIM, Mode.PAPER):
            self.children.insert(0, Child("simulator", (*python, "hedgelock.simulator")))
        if settings.trading_mode is Mode.PAPER:
            self.children.insert(1, Child("feed", (*python, "hedgelock.paper")))

    def run(self, on_start: Callable[[], None] = lambda: None) -> int:
        """Until SIGTERM or SIGINT (or `stop`); the exit status. Blocking, main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stopping.set())
        return self.watch(on_start)

    def stop(self) -> None:
        """Ask `watch` to end. Safe from any thread."""
        self._stopping.set()

    def watch(self, on_start: Callable[[], None] = lambda: None) -> int:
        """Like `run`, without touching signals: for a caller that has its own."""
        try:
            for child in self.children:
                self._start(child)
                if child.name == "simulator" and not self._await_simulator():
                    break
            else:
                if self._await_ready():
                    self._was_ready = True
                    self._start_script()
                    on_start()
            while not self.failure and not self._stopping.wait(POLL_S):
                for child in self.children:
                    self._tend(child)
                self._mind_the_abandoned(self.children[-1], time.monotonic())
                self._bound_log()
        finally:
            if self.failure:
                _log.critical("gave_up", reason=self.failure)
            self._stop_all()
        return self._status

    # ------------------------------------------------------------ children

    def _start(self, child: Child) -> None:
        # A session of their own: a Ctrl-C on the terminal reaches us alone, and we stop them in order.
        child.process = subprocess.Popen(
            child.argv, env=self._environment, stderr=self._log_file, stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        child.started_s = time.monotonic()
        child.restart_at_s = 0.0
        _log.info("child_started", child=child.name, pid=child.process.pid)

    def _tend(self, child: Child) -> None:
        now = time.monotonic()
        if child.restart_at_s:
            if now >= child.restart_at_s:
                self._start(child)
            return
        assert child.process is not None, "a child that was never started"
        status = child.process.poll()
        if status is None:
            if child.gone_since_s and now - child.started_s > STEADY_S:
                child.gone_since_s = 0.0
            return
        child.gone_since_s = child.gone_since_s or now
        if status == CONFIG_EXIT:
            self._fail(f"the {child.name} refused its configuration; its reason is in the log", 2)
            return
        if status == REFUSED_EXIT and not self._was_ready:
            self._fail(f"the {child.name} cannot start; its reason is in the log", 1)
            return
        if now - child.started_s > STEADY_S:
            child.delay_s = RESTART_MIN_S
        _log.warning("child_died", child=child.name, status=status, restart_s=child.delay_s)
        child.restart_at_s = now + child.delay_s
        child.delay_s = min(child.delay_s * 2, RESTART_MAX_S)

    def _mind_the_abandoned(self, engine: Child, now: float) -> None:
        """What the engine left resting must not fill while nobody can react."""
        self._watchdogs = [each for each in self._watchdogs if each.poll() is None]
        since = engine.gone_since_s
        if not since or now - since < ABANDONED_S or now < self._watchdog_due_s:
            return
        self._watchdog_due_s = now + WATCHDOG_EVERY_S
        _log.critical("engine_abandoned", seconds=round(now - since))
        self._start_watchdog()

    def _start_watchdog(self) -> None:
        self._watchdogs.append(
            subprocess.Popen(
                (sys.executable, "-m", "hedgelock.cli.watchdog"), env=self._environment,
                stderr=self._log_file, stdin=subprocess.DEVNULL, start_new_session=True,
            )
        )

    def _bound_log(self) -> None:
        if self._log_path is None:
            return
        try:
            rotation.rotate(self._log_path, bytes_max=self.log_bytes_max)
        except OSError as error:  # a full disk: the log is the last thing that may stop a run
            if not self._log_trouble:
                _log.warning("log_not_rotated", error=str(error))
            self._log_trouble = True

    def _fail(self, reason: str, status: int) -> None:
        self.failure, self._status = reason, status

    def _stop_all(self) -> None:
        for child in reversed(self.children):
            process = child.process
            if process is None or process.poll() is not None:
                continue
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                _log.warning("child_killed", child=child.name)
                process.kill()
                process.wait()
        for watchdog in self._watchdogs:
            watchdog.wait()  # it ends by itself within its time limit
        if self._log_file is not None:
            self._log_file.close()

    # ------------------------------------------------------------ getting ready

    def _await_simulator(self) -> bool:
        sim = self._settings.sim
        return self._await(lambda: probe(sim.host, sim.port)[0], "simulator")

    def _await_ready(self) -> bool:
        http_settings = self._settings.http
        ports = [http_settings.ports(name).http for name in _SERVICES]
        return self._await(
            lambda: all(probe(http_settings.host, port, "/ready")[0] for port in ports), "engine"
        )

    def _await(self, is_there: Callable[[], bool], name: str) -> bool:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._stopping.wait(POLL_S):
            for child in self.children:
                if child.process is not None:
                    self._tend(child)
            if self.failure:
                return False
            if is_there():
                return True
            if time.monotonic() > deadline:
                self._fail(f"the {name} is not ready after {READY_TIMEOUT_S:.0f} s: "
                           f"{self._reasons() or 'it does not answer'}", 1)
                return False
        return False

    def _reasons(self) -> str:
        """What the services that are not ready say of themselves."""
        http_settings = self._settings.http
        answers = (
            probe(http_settings.host, http_settings.ports(name).http, "/ready") for name in _SERVICES
        )
        return "; ".join(text for ok, text in answers if not ok)

    def _start_script(self) -> None:
        if self._settings.trading_mode is not Mode.SIM:
            return
        sim = self._settings.sim
        connection = http.client.HTTPConnection(sim.host, sim.port, timeout=5)
        try:
            connection.request("POST", "/sim/start")
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ConfigError(f"the simulator on port {sim.port} does not answer: {error}") from error
        finally:
            connection.close()
