"""The exchange inside this process: no sockets, no threads, time of the running event loop.

    gateway = Gateway(venue, later=loop.call_later)
    pulse = Pulse(gateway, clock_ms); pulse.start()
    wire = InProcess(gateway, clock_ms, answer=HttpAnswer, failed=TransportFailed)
    adapter = BybitExchange(..., transport=wire)

On a virtual-time loop a day passes as fast as it is computed. A request that was sent arrives even
when its sender has given up or is gone, as on a network.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from hedgelock.simulator.faults import Verdict
from hedgelock.simulator.gateway import Gateway
from hedgelock.simulator.request import Reply, Request, socket_path

A = TypeVar("A")
Answered = Callable[[int, Mapping[str, str], bytes], A]
"""Makes the caller's answer type of status, headers (lower case) and body."""
Failed = Callable[[str, str], Exception]
"""Makes the caller's exception of a kind (`timeout`, `connection`) and a text."""


class Pulse:
    """Lets the exchange's time pass on the running loop."""

    def __init__(self, gateway: Gateway, clock_ms: Callable[[], int]) -> None:
        self._gateway = gateway
        self._clock_ms = clock_ms
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin; the next event of the exchange is always scheduled from here on."""
        due_ms = max(0, self._gateway.next_ms() - self._clock_ms())
        self._timer = asyncio.get_running_loop().call_later(due_ms / 1000, self._beat)

    def stop(self) -> None:
        """Let the exchange's time stand still."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        self._gateway.beat(self._clock_ms())
        self.start()


@dataclass(frozen=True, slots=True)
class Distance:
    """Network delay one way: `ms` plus up to `jitter_ms`, drawn per message."""

    ms: float = 2.0
    jitter_ms: float = 0.0


class InProcess(Generic[A]):
    """One client's way to the exchange, in the shape of a transport: requests and sockets.

    Neither the answer type nor the exception of the client's layer is imported: both are given.
    """

    def __init__(
        self, gateway: Gateway, clock_ms: Callable[[], int], *, answer: Answered[A],
        failed: Failed, distance: Distance | None = None, seed: int = 1,
        address: str = "127.0.0.1",
    ) -> None:  # fmt: skip
        self.gateway = gateway
        self.clock_ms = clock_ms
        self.failed = failed
        self.address = address
        self._answer = answer
        self._distance = distance or Distance()
        self._dice = random.Random(f"distance:{seed}")
        self._sockets: dict[InProcessSocket, None] = {}

    def way_s(self) -> float:
        """Delay of the next message, one way."""
        far = self._distance
        return (far.ms + (self._dice.random() * far.jitter_ms if far.jitter_ms else 0.0)) / 1000

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None,
        timeout_s: float,
    ) -> A:  # fmt: skip
        """One request, sent once. Raises what `failed` makes."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[Reply] = loop.create_future()
        raised = {name.upper(): value for name, value in headers.items()}
        request = Request(method, _target(url), raised, body or b"", self.address)
        loop.call_later(self.way_s(), self._arrived, request, waiting)
        try:
            async with asyncio.timeout(timeout_s):
                reply = await waiting
        except TimeoutError as error:
            raise self.failed("timeout", f"{method} after {timeout_s} s") from error
        if reply.lost:
            raise self.failed("connection", "the connection ended without an answer")
        lower = {name.lower(): value for name, value in reply.headers.items()}
        return self._answer(reply.status, lower, reply.body)

    def _arrived(self, request: Request, waiting: asyncio.Future[Reply]) -> None:
        verdict = self.gateway.arrive(request, self.clock_ms())
        if verdict is not None and verdict.hold_ms:
            held = partial(self._serve, request, waiting, verdict)
            asyncio.get_running_loop().call_later(verdict.hold_ms / 1000, held)
        else:
            self._serve(request, waiting, verdict)

    def _serve(
        self, request: Request, waiting: asyncio.Future[Reply], verdict: Verdict | None
    ) -> None:
        reply = self.gateway.http(request, self.clock_ms(), verdict=verdict)
        if reply.batch is not None:
            self.gateway.release(reply.batch)
        loop = asyncio.get_running_loop()
        loop.call_later(reply.delay_s + self.way_s(), _settle, waiting, reply)

    async def open_socket(self, url: str, *, timeout_s: float) -> InProcessSocket:
        """Open a WebSocket. Raises what `failed` makes."""
        path = socket_path(_target(url))
        if not path:
            raise self.failed("connection", f"no socket at {url}")
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[InProcessSocket | None] = loop.create_future()
        loop.call_later(self.way_s(), self._accept, path, opened)
        try:
            async with asyncio.timeout(timeout_s):
                socket = await opened
        except TimeoutError as error:
            raise self.failed("timeout", f"socket after {timeout_s} s") from error
        if socket is None:
            raise self.failed("connection", "the socket was refused")
        return socket

    def _accept(self, path: str, opened: asyncio.Future[InProcessSocket | None]) -> None:
        now_ms = self.clock_ms()
        status = self.gateway.opens(path, self.address, now_ms)
        loop = asyncio.get_running_loop()
        if status or opened.done():
            loop.call_later(self.way_s(), _settle, opened, None)
            return
        socket = InProcessSocket(self)
        socket.attach(path, now_ms)
        self._sockets[socket] = None
        loop.call_later(self.way_s(), self._hand_over, opened, socket)

    def _hand_over(
        self, opened: asyncio.Future[InProcessSocket | None], socket: InProcessSocket
    ) -> None:
        if opened.done():  # whoever asked has given up meanwhile
            socket.abandon()
        else:
            opened.set_result(socket)

    def forget(self, socket: InProcessSocket) -> None:
        """A socket is over."""
        self._sockets.pop(socket, None)

    async def close(self) -> None:
        """End every socket; what is on its way still arrives."""
        for socket in list(self._sockets):
            await socket.close()


class InProcessSocket:
    """One WebSocket: the client's side, and the `Wire` of the exchange's session.

    Frames travel in order, each with its own delay; one that would overtake waits.
    """

    def __init__(self, line: InProcess[A]) -> None:
        self._line = line
        self._inbox: deque[str] = deque()
        self._outgoing: deque[str] = deque()
        self._incoming: deque[Callable[[], None]] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._ended = ""
        self._last_out_s = 0.0
        self._last_in_s = 0.0

    def attach(self, path: str, now_ms: int) -> None:
        """Begin the session at the exchange."""
        line = self._line
        self._session = line.gateway.session(path, self, address=line.address, now_ms=now_ms)

    def abandon(self) -> None:
        """Nobody is there to use it."""
        self._session.end()
        self._end("abandoned")

    # ------------------------------------------------------------ the client's side

    async def send(self, text: str) -> None:
        """Send one text frame."""
        if self._ended:
            raise self._line.failed("connection", self._ended)
        loop = asyncio.get_running_loop()
        self._last_out_s = max(self._last_out_s, loop.time() + self._line.way_s())
        self._outgoing.append(text)
        loop.call_at(self._last_out_s, self._heard)

    def _heard(self) -> None:
        self._session.receive(self._outgoing.popleft(), self._line.clock_ms())

    async def receive(self) -> str:
        """The next frame, or what `failed` makes once the socket has ended and is read empty."""
        while not self._inbox:
            if self._ended:
                raise self._line.failed("connection", self._ended)
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self._inbox.popleft()

    async def close(self) -> None:
        """Close; a waiting `receive` then raises."""
        if not self._ended:
            asyncio.get_running_loop().call_later(self._line.way_s(), self._session.end)
        self._end("closed")

    # ------------------------------------------------------------ the exchange's side

    def put(self, frame: bytes) -> None:
        """A frame leaves the exchange."""
        self._travel(partial(self._take, frame.decode()))

    def cut(self) -> None:
        """The connection ends without a close frame."""
        self._travel(partial(self._end, "reset by the exchange"))

    def bye(self) -> None:
        """The exchange closes in order."""
        self._travel(partial(self._end, "closed by the exchange (1001)"))

    def _travel(self, arrive: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._incoming.append(arrive)
        self._last_in_s = max(self._last_in_s, loop.time() + self._line.way_s())
        loop.call_at(self._last_in_s, self._arrive)

    def _arrive(self) -> None:
        # the queue keeps the order: timers of one instant may fire in any
        self._incoming.popleft()()

    def _take(self, text: str) -> None:
        if not self._ended:
            self._inbox.append(text)
            self._wake()

    def _end(self, why: str) -> None:
        self._ended = self._ended or why
        self._line.forget(self)
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


def _settle(waiting: asyncio.Future[A], outcome: A) -> None:
    if not waiting.done():
        waiting.set_result(outcome)


def _target(url: str) -> str:
    """Path and query of a URL, as they stand in it."""
    _, _, rest = url.partition("://")
    return "/" + rest.partition("/")[2]
