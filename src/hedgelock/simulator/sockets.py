"""WebSocket sessions: authentication, subscriptions, pings, order entry, and fan-out."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import WSMsgType, web

from hedgelock.simulator import auth
from hedgelock.simulator.entry import EntrySession
from hedgelock.simulator.state import Account, Event, Refused, Row
from hedgelock.simulator.streams import PRIVATE_TOPICS, Streams, private_frame, public_frame

if TYPE_CHECKING:
    from hedgelock.simulator.server import Carrier

ACK_DELAY_S = 0.005  # clients register their callbacks only after sending (fact sheet §10.5)
DATA_DELAY_S = 0.010
CLOSE_TIMEOUT_S = 1.0  # how long a peer may take to answer our close frame
FRAMES_MAX = 20_000  # frames waiting for a slow reader before it is cut
ENCODE = msgspec.json.Encoder().encode
CONNECTION_NUMBERS = itertools.count(1)


class Hub:
    """Who listens to what."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._public: dict[tuple[str, str], set[Socket]] = {}
        self._private: dict[str, set[Socket]] = {}
        self._sockets: set[Socket] = set()
        self._pushes = itertools.count(0x592324)

    def join(self, socket: Socket) -> None:
        """Know a socket, so that it can be closed."""
        self._sockets.add(socket)

    def leave(self, socket: Socket) -> None:
        """Forget a socket and its subscriptions."""
        self._sockets.discard(socket)
        for topic in list(socket.topics):
            self.unsubscribe(socket, topic)
        for audience in self._private.values():
            audience.discard(socket)

    def subscribe(self, socket: Socket, topic: str) -> None:
        """Add a subscription; public topics send their snapshot first."""
        socket.topics.add(topic)
        if socket.account is not None:
            self._private.setdefault(socket.account.name, set()).add(socket)
            return
        first = self._streams.subscribe(socket.category, topic)
        if first is not None:
            socket.send(ENCODE(public_frame(first)))
        self._public.setdefault((socket.category, topic), set()).add(socket)

    def unsubscribe(self, socket: Socket, topic: str) -> None:
        """Drop a subscription; topics without audience are no longer rendered."""
        socket.topics.discard(topic)
        audience = self._public.get((socket.category, topic))
        if audience is None:
            return
        audience.discard(socket)
        if not audience:
            del self._public[socket.category, topic]
            self._streams.unsubscribe(socket.category, topic)

    def publish(self, event: Event) -> None:
        """Send a public event to its audience, encoded once."""
        audience = self._public.get((event.category, event.topic))
        if audience:
            frame = ENCODE(public_frame(event))
            for socket in audience:
                socket.send(frame)

    def push(self, event: Event) -> None:
        """Send a private event to the account's sockets."""
        audience = self._private.get(event.account)
        if not audience:
            return
        number = next(self._pushes)
        for socket in audience:
            for topic in sorted(socket.topics):
                if topic.partition(".")[0] != event.topic:
                    continue
                frame = private_frame(event, topic, number)
                if frame is not None:
                    socket.send(ENCODE(frame))

    async def close(self) -> None:
        """Close every socket."""
        for socket in list(self._sockets):
            await socket.close()


class Socket:
    """One WebSocket session of kind public, private or trade."""

    def __init__(self, carrier: Carrier, request: web.BaseRequest, path: str) -> None:
        self._carrier = carrier
        self._request = request
        self._kind = path.split("/")[2]
        self.category = path.rpartition("/")[2] if self._kind == "public" else ""
        self.account: Account | None = None
        self.topics: set[str] = set()
        self._entry = EntrySession(carrier.venue)
        self._id = f"sim{next(CONNECTION_NUMBERS):08x}"
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(FRAMES_MAX)
        self._ws = web.WebSocketResponse(
            compress=False, max_msg_size=1 << 20, timeout=CLOSE_TIMEOUT_S
        )

    def send(self, frame: bytes) -> None:
        """Queue a frame; a reader too slow for the bound is cut."""
        try:
            self._queue.put_nowait(frame)
        except asyncio.QueueFull:
            self._drop()

    def _drop(self) -> None:
        if self._request.transport is not None:
            self._request.transport.abort()

    async def close(self) -> None:
        """Close in order."""
        await self._ws.close(code=1001)

    async def serve(self) -> web.WebSocketResponse:
        """Run the session until its end."""
        await self._ws.prepare(self._request)
        self._carrier.hub.join(self)
        writer = asyncio.ensure_future(self._write())
        try:
            async for message in self._ws:
                if message.type is WSMsgType.TEXT:
                    self._receive(message.data)
        finally:
            self._carrier.hub.leave(self)
            writer.cancel()
            with suppress(asyncio.CancelledError):
                await writer
        return self._ws

    async def _write(self) -> None:
        while (frame := await self._queue.get()) is not None:
            try:
                await self._ws.send_frame(frame, WSMsgType.TEXT)
            except (ConnectionError, RuntimeError):
                return  # the reader notices the end of the connection

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(delay_s, action)

    def _reply(self, body: Row) -> None:
        frame = ENCODE(body)
        self._later(ACK_DELAY_S, lambda: self.send(frame))

    def _receive(self, text: str) -> None:
        try:
            message = msgspec.json.decode(text)
        except msgspec.DecodeError:
            message = None
        if not isinstance(message, dict) or not isinstance(message.get("op"), str):
            self._reply({"success": False, "ret_msg": "Invalid request", "conn_id": self._id})
            return
        op, request_id = message["op"], message.get("req_id", message.get("reqId"))
        if op == "ping":
            self._pong(request_id)
        elif op == "auth":
            self._authenticate(message)
        elif self._kind == "trade":
            self._trade(message)
        elif op in {"subscribe", "unsubscribe"}:
            self._subscribe(op, message)
        else:
            self._ack(op, request_id, error=f"error:unknown op {op}")

    def _pong(self, request_id: Any) -> None:
        now = str(self._carrier.clock())
        if self._kind == "public":
            body: Row = {"success": True, "ret_msg": "pong", "conn_id": self._id, "op": "ping"}
            body["req_id"] = request_id or ""
        elif self._kind == "private":
            body = {"req_id": request_id or "", "op": "pong", "args": [now], "conn_id": self._id}
        else:
            body = {"retCode": 0, "retMsg": "OK", "op": "pong", "data": [now], "connId": self._id}
        self._reply(body)

    def _authenticate(self, message: Row) -> None:
        arguments = message.get("args")
        error: Refused | None = None
        try:
            if not isinstance(arguments, list) or len(arguments) != 3:
                raise Refused(10001, "Params error")
            if self._kind == "trade" and self.account is not None:
                raise Refused(20001, "Repeat auth")
            key, expires, given = (str(a) for a in arguments)
            exchange = self._carrier.venue.exchange
            self.account = auth.check_stream(
                exchange.by_key, key=key, expires=expires, given=given, now_ms=self._carrier.clock()
            )
        except Refused as refusal:
            error = refusal
        if self._kind == "trade":
            code, text = (error.code, error.message) if error else (0, "OK")
            body: Row = {"retCode": code, "retMsg": text, "op": "auth", "connId": self._id}
            if "reqId" in message:
                body["reqId"] = message["reqId"]
            self._reply(body)
        else:
            self._ack("auth", message.get("req_id"), error=error.message if error else "")

    def _ack(self, op: str, request_id: Any, *, error: str = "") -> None:
        body: Row = {"success": not error, "ret_msg": error, "conn_id": self._id, "op": op}
        if request_id is not None:
            body["req_id"] = request_id
        elif op != "auth":
            body["req_id"] = ""
        self._reply(body)

    def _subscribe(self, op: str, message: Row) -> None:
        topics, request_id = message.get("args"), message.get("req_id")
        if not isinstance(topics, list) or not all(isinstance(t, str) for t in topics):
            self._ack(op, request_id, error="error:args invalid")
            return
        error = self._refusal(topics) if op == "subscribe" else ""
        self._ack(op, request_id, error=error)
        if error:
            return
        hub = self._carrier.hub
        change = hub.subscribe if op == "subscribe" else hub.unsubscribe

        def apply() -> None:
            if not self._ws.closed:
                for topic in topics:
                    change(self, topic)

        self._later(DATA_DELAY_S, apply)

    def _refusal(self, topics: list[str]) -> str:
        for topic in topics:
            if topic in self.topics:
                return f"error:already subscribed,topic:{topic}"
            if self._kind == "private":
                if self.account is None:
                    return "Request not authorized"
                if topic not in PRIVATE_TOPICS:
                    return f"Invalid topic: {topic}"
            elif not self._carrier.venue.streams.known(self.category, topic):
                return f"error:handler not found,topic:{topic}"
        return ""

    def _trade(self, message: Row) -> None:
        """Enter an order: execute at once, acknowledge, then let the pushes go."""
        now_ms = self._carrier.clock()
        body = self._entry.enter(self.account, message, now_ms=now_ms)
        batch = self._carrier.collect()
        body["connId"] = self._id
        frame = ENCODE(body)

        def acknowledge() -> None:
            self.send(frame)
            self._carrier.release(batch)

        self._later(ACK_DELAY_S, acknowledge)
