"""Brings the live view its news: follows the bus and asks the simulator, in threads of their own.

Everything is read-only. What fails is said on the board and tried again.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from hedgelock.cli.board import TOPICS, Board
from hedgelock.cli.listeners import local
from hedgelock.errors import BusError

if TYPE_CHECKING:
    from hedgelock.bus.codec import Envelope
    from hedgelock.config import Settings
    from hedgelock.ports import Bus, Record

HISTORY: Final = 500
"""Records per partition that are read of an older log, to show where it stands."""

_SIM_EVERY_S: Final = 0.2
_RETRY_S: Final = 0.25
_TIMEOUT_S: Final = 2.0

Listen = Callable[["Record", "Envelope | None"], None]


class Feed:
    """Follows until stopped. `lock` guards the board; take it to look at the board."""

    def __init__(
        self, board: Board, settings: Settings, open_bus: Callable[[], Bus], *,
        listen: Listen = lambda _record, _envelope: None,
    ) -> None:
        self.board = board
        self.lock = threading.Lock()
        self._settings = settings
        self._open_bus = open_bus
        self._listen = listen
        self._stopping = threading.Event()
        self._bus: Bus | None = None
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin; the log and the simulator may come up later."""
        self._spawn(self._connect)
        if self._settings.trading_mode.value == "sim":
            self._spawn(self._ask_simulator)

    def stop(self) -> None:
        """End all threads."""
        self._stopping.set()
        if self._bus is not None:
            self._bus.close()
        for thread in self._threads:
            thread.join(_TIMEOUT_S)

    def _spawn(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True, name=f"feed-{len(self._threads)}")
        self._threads.append(thread)
        thread.start()

    # ---------------------------------------------------------------- the bus

    def _connect(self) -> None:
        while not self._stopping.is_set():
            try:
                self._bus = self._open_bus()
            except BusError:
                self._stopping.wait(_RETRY_S)  # the engine has not made its log yet
                continue
            for topic in TOPICS:
                self._spawn(lambda topic=topic: self._follow(topic))  # type: ignore[misc]
            return

    def _follow(self, topic: str) -> None:
        following: dict[int, int] = {}
        assert self._bus is not None, "followers start after the bus is open"
        while not self._stopping.is_set():
            start = min(following.values()) if following else -HISTORY
            try:
                for record in self._bus.read(topic, start=start, follow=True):
                    if self._stopping.is_set():
                        return
                    if record.offset >= following.get(record.partition, 0):
                        following[record.partition] = record.offset + 1
                        self._take(record)
            except BusError as error:
                self._say(f"the log cannot be read: {error}")
            self._stopping.wait(_RETRY_S)

    def _take(self, record: Record) -> None:
        with self.lock:
            envelope = self.board.take(record)
            self.board.trouble = ""
            self._listen(record, envelope)

    def _say(self, trouble: str) -> None:
        with self.lock:
            self.board.trouble = trouble

    # ---------------------------------------------------------------- the simulator

    def _ask_simulator(self) -> None:
        sim = self._settings.sim
        connection = http.client.HTTPConnection(local(sim.host), sim.port, timeout=_TIMEOUT_S)
        with contextlib.closing(connection):
            while not self._stopping.wait(_SIM_EVERY_S):
                try:
                    connection.request("GET", "/sim/state")
                    answer = connection.getresponse()
                    row = json.loads(answer.read())
                    with self.lock:
                        self.board.take_sim(row)
                except (OSError, http.client.HTTPException):
                    connection.close()  # not up yet, or just restarting: asked again
                except (ValueError, KeyError) as error:
                    connection.close()
                    self._say(f"port {sim.port} does not answer as our simulator would: {error!r}")
