"""A transport that ends in the simulated exchange of the same process and the same virtual time."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from hedgelock.exchanges.transport import HttpAnswer, Socket, TransportFailed
from hedgelock.ports import Clock
from hedgelock.simulator import auth
from hedgelock.simulator.state import Event, Refused, Row
from hedgelock.simulator.streams import PRIVATE_TOPICS, private_frame, public_frame
from hedgelock.simulator.venue import Response, Venue, is_public

_encode = msgspec.json.Encoder().encode
ACK_DELAY_S = 0.005
DATA_DELAY_S = 0.010


@dataclass(frozen=True, slots=True)
class Weather:
    """How often things go wrong, each a probability per request (cuts: per second)."""

    lost_request: float = 0.0
    lost_answer: float = 0.0
    slow: float = 0.0
    busy: float = 0.0
    broken: float = 0.0
    cut_per_s: float = 0.0
    mute_per_s: float = 0.0
    until_ms: int = 0
    """Clear skies from this instant on."""


class Wire:
    """`exchanges.Transport`; one per simulated process. `sever` is the process' death."""

    def __init__(
        self, venue: Venue, clock: Clock, *, rng: random.Random, weather: Weather,
        note: Callable[[str, object], None], flush: Callable[[], None],
    ) -> None:
        self.venue = venue
        self.clock = clock
        self.weather = weather
        self._rng = rng
        self._note = note
        self._outside = contextvars.copy_context()
        """What is on its way belongs to the network, not to the process that sent it."""
        self._flush = flush
        self._sockets: dict[WireSocket, None] = {}
        self._is_severed = False
        self.on_arrival: Callable[[], None] | None = None
        """Called once, when the next request that changes something has been served."""

    # ------------------------------------------------------------ exchanges.Transport

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None,
        timeout_s: float,
    ) -> HttpAnswer:
        """One request, with what the weather makes of it."""
        rng, weather = self._rng, self._now()
        parts = urlsplit(url)
        out_s = 0.001 + 0.004 * rng.random()
        back_s = 0.001 + 0.004 * rng.random()
        lot = rng.random()
        if rng.random() < weather.slow:
            out_s += 8.0 * rng.random()
        if lot < weather.lost_request:
            await asyncio.sleep(min(timeout_s, out_s + rng.choice((0.0, timeout_s))))
            self._check(f"lost request {parts.path}")
            raise TransportFailed("connection", "cut before it arrived")
        answer = asyncio.get_running_loop().create_future()
        self._deliver(method, parts, headers, body or b"", out_s, back_s, answer)
        try:
            async with asyncio.timeout(timeout_s):
                found: HttpAnswer = await answer
        except TimeoutError:
            self._check(f"timeout {parts.path}")
            raise TransportFailed("timeout", f"{method} after {timeout_s} s") from None
        self._check("")
        if lot < weather.lost_request + weather.lost_answer:
            self._check(f"lost answer {parts.path}")
            raise TransportFailed("connection", "cut before the answer")
        return found

    def _deliver(self, method: str, parts: Any, headers: Mapping[str, str], body: bytes,
                 out_s: float, back_s: float, answer: asyncio.Future[HttpAnswer]) -> None:
        """Bytes that left arrive, whatever becomes of the sender."""
        loop, outside = asyncio.get_running_loop(), self._outside

        def arrive() -> None:
            reply = self._serve(method, parts.path, query=parts.query, headers=headers, body=body)
            if method == "POST" and self.on_arrival is not None:
                self.on_arrival()
                self.on_arrival = None
            outside.run(loop.call_later, back_s, respond, reply)
            outside.run(loop.call_later, back_s, self._flush)

        def respond(reply: HttpAnswer) -> None:
            if not answer.done():
                answer.set_result(reply)

        outside.run(loop.call_later, out_s, arrive)

    async def open_socket(self, url: str, *, timeout_s: float) -> Socket:
        """Open a WebSocket."""
        await asyncio.sleep(0.003)
        self._check("")
        socket = WireSocket(self, urlsplit(url).path)
        self._sockets[socket] = None
        return socket

    async def close(self) -> None:
        """Nothing is open."""

    # ------------------------------------------------------------ the exchange's side

    def sever(self) -> None:
        """The process is dead: nothing it sends from now on arrives."""
        self._is_severed = True
        for socket in list(self._sockets):
            socket.drop()

    def pushed(self, event: Event) -> None:
        """Something the exchange pushes."""
        for socket in list(self._sockets):
            socket.push(event)

    def storm(self, seconds: float) -> None:
        """Let the weather have its way with the sockets."""
        weather = self._now()
        for socket in list(self._sockets):
            if self._rng.random() < weather.cut_per_s * seconds:
                self._note("socket cut", socket.kind)
                socket.drop()
            elif self._rng.random() < weather.mute_per_s * seconds:
                self._note("socket mute", socket.kind)
                socket.is_mute = True

    def left(self, socket: WireSocket) -> None:
        """A socket closed."""
        self._sockets.pop(socket, None)

    def _now(self) -> Weather:
        return self.weather if self.clock.now_ms() < self.weather.until_ms else Weather()

    def _check(self, fault: str) -> None:
        if fault:
            self._note("fault", fault)
        if self._is_severed:
            raise TransportFailed("connection", "the process is dead")

    def _serve(
        self, method: str, path: str, *, query: str, headers: Mapping[str, str], body: bytes
    ) -> HttpAnswer:
        if self._is_severed:
            return HttpAnswer(500, {}, b"")
        now_ms = self.clock.now_ms()
        weather = self._now()
        try:
            if self._rng.random() < weather.busy:
                self._note("fault", f"10006 {path}")
                raise Refused(10006, "Too many visits. Exceeded the API Rate Limit.")
            if self._rng.random() < weather.broken:
                self._note("fault", f"10016 {path}")
                raise Refused(10016, "Internal server error")
            reply = self._answer(method, path, query=query, headers=headers, body=body)
        except Refused as refusal:
            return _envelope(refusal.code, refusal.message, {}, now_ms, None)
        return _envelope(reply.code, reply.message, reply.result, reply.time_ms, reply)

    def _answer(
        self, method: str, path: str, *, query: str, headers: Mapping[str, str], body: bytes
    ) -> Response:
        account = None
        if not is_public(path):
            given = auth.Credentials(
                headers.get("X-BAPI-API-KEY", ""), headers.get("X-BAPI-TIMESTAMP", ""),
                headers.get("X-BAPI-SIGN", ""), headers.get("X-BAPI-RECV-WINDOW", ""),
            )
            raw = body.decode() if method == "POST" else query
            account = auth.check_request(
                self.venue.exchange.by_key, given, raw=raw, now_ms=self.clock.now_ms()
            ).name
        params = (
            msgspec.json.decode(body) if method == "POST"
            else dict(parse_qsl(query, keep_blank_values=True))
        )
        return self.venue.request(
            method, path, params, account=account, now_ms=self.clock.now_ms()
        )


def _envelope(
    code: int, message: str, result: Row, now_ms: int, reply: Response | None
) -> HttpAnswer:
    limit, left, reset = 600, 599, now_ms + 1000
    if reply is not None:
        limit, left = reply.allowance.limit, reply.allowance.left
        reset = reply.allowance.reset_ms
    body = _encode(
        {"retCode": code, "retMsg": message, "result": result,
         "retExtInfo": reply.ext if reply else {}, "time": now_ms}
    )
    return HttpAnswer(200, {
        "x-bapi-limit": str(limit), "x-bapi-limit-status": str(left),
        "x-bapi-limit-reset-timestamp": str(reset), "timenow": str(now_ms),
    }, body)


@dataclass(eq=False)
class WireSocket:
    """One WebSocket between the process and the exchange."""

    wire: Wire
    path: str
    topics: dict[str, None] = field(default_factory=dict)
    account: str = ""
    is_mute: bool = False
    is_gone: bool = False
    numbers: int = 0
    frames: list[bytes] = field(default_factory=list)
    waiter: asyncio.Future[None] | None = None

    @property
    def kind(self) -> str:
        """`linear`, `spot` or `private`."""
        return self.path.rpartition("/")[2]

    # ------------------------------------------------------------ exchanges.Socket

    async def send(self, text: str) -> None:
        """A frame to the exchange."""
        if self.is_gone:
            raise TransportFailed("connection", "closed")
        if not self.is_mute:
            asyncio.get_running_loop().call_later(ACK_DELAY_S, self._take, msgspec.json.decode(text))

    async def receive(self) -> str | bytes:
        """The next frame."""
        while not self.frames:
            if self.is_gone:
                raise TransportFailed("connection", "closed")
            self.waiter = asyncio.get_running_loop().create_future()
            await self.waiter
        return self.frames.pop(0)

    async def close(self) -> None:
        """Close."""
        self.drop()

    # ------------------------------------------------------------ the exchange's side

    def drop(self) -> None:
        """The connection is gone."""
        self.is_gone = True
        self.wire.left(self)
        self._wake()

    def push(self, event: Event) -> None:
        """A frame of the exchange, where it is wanted."""
        if event.account:
            if event.account == self.account and event.topic in self.topics:
                self.numbers += 1
                frame = private_frame(event, event.topic, self.numbers)
                if frame is not None:
                    self._frame(frame)
        elif event.category == self.kind and event.topic in self.topics:
            self._frame(public_frame(event))

    def _frame(self, frame: Row) -> None:
        if not (self.is_mute or self.is_gone):
            self.frames.append(_encode(frame))
            self._wake()

    def _wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def _take(self, message: Row) -> None:
        op = message["op"]
        body: Row = {"success": True, "ret_msg": "", "op": op, "conn_id": "wire",
                     "req_id": message.get("req_id", "")}
        if op == "ping":
            body["op"] = "pong"
        elif op == "auth":
            key, expires, given = (str(x) for x in message["args"])
            try:
                self.account = auth.check_stream(
                    self.wire.venue.exchange.by_key, key=key, expires=expires, given=given,
                    now_ms=self.wire.clock.now_ms(),
                ).name
            except Refused as refusal:
                body |= {"success": False, "ret_msg": refusal.message}
        self._frame(body)
        if op == "subscribe":
            asyncio.get_running_loop().call_later(DATA_DELAY_S, self._subscribe, message["args"])

    def _subscribe(self, topics: list[str]) -> None:
        for topic in topics:
            self.topics[topic] = None
            if topic not in PRIVATE_TOPICS:
                first = self.wire.venue.streams.subscribe(self.kind, topic)
                if first is not None:
                    self._frame(public_frame(first))
