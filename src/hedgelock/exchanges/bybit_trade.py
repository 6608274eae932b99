"""Order entry over Bybit's trade socket: requests out, the answer to each, nothing lost in between.

A request that has left and was not answered is in doubt, whatever became of the connection; while
there is no connection, nothing leaves here and the caller takes the REST route.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from hedgelock.errors import BadMessage, OutcomeUnknown, VenueError, VenueForbidden
from hedgelock.exchanges.bybit_channels import PING, OnBad, request
from hedgelock.exchanges.ccxt_venue import RECV_WINDOW_MS, REQUEST_TIMEOUT_S, Answer, CcxtVenue
from hedgelock.exchanges.fields import Row, decode_json
from hedgelock.exchanges.transport import Socket, TransportFailed
from hedgelock.ports import Clock

PATHS = {"/v5/order/create": "order.create", "/v5/order/cancel": "order.cancel"}
RESTARTING = frozenset({"10016", "10019"})
"""The venue's trade service restarts: another connection reaches one that does not."""
_ENCODE = msgspec.json.Encoder().encode


class TradeChannel:
    """The trade socket's conversation; a `stream.Channel`."""

    def __init__(
        self, url: str, *, venue: CcxtVenue, clock: Clock, on_bad: OnBad,
        timeout_s: float = REQUEST_TIMEOUT_S,
    ) -> None:
        self.url = url
        self._timeout_s = timeout_s
        self._venue = venue
        self._clock = clock
        self._on_bad = on_bad
        self._socket: Socket | None = None
        self._waiting: dict[str, asyncio.Future[Row]] = {}
        self._requests = 0
        self.restart: Callable[[], None] = _nothing
        """Asks for another connection."""

    @property
    def is_open(self) -> bool:
        """Whether a request can leave now."""
        return self._socket is not None

    def ticking(self) -> tuple[str, ...]:
        """Nothing comes unasked; pongs are the sign of life."""
        return ()

    async def greet(self, socket: Socket) -> None:
        """Log in. A refusal is tried again for ever: orders go by REST meanwhile, which says why."""
        answer = await request(
            socket, {"op": "auth", "args": self._venue.login()}, self.on_frame
        )
        try:
            await self._venue.check(answer, {})
        except BadMessage as error:
            raise VenueError(f"unreadable login: {error}", code="greeting") from error
        except VenueForbidden as error:
            raise VenueError(error.text, code=error.code) from error
        self._socket = socket

    def opened(self) -> None:
        """Nothing was subscribed."""

    def closed(self) -> None:
        """Whatever was not answered is in doubt now."""
        self._socket = None
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(TransportFailed("connection", "the trade socket closed"))

    def ping(self) -> str:
        """Bybit's own ping."""
        return PING

    def on_frame(self, raw: str | bytes) -> None:
        """Hand an answer to whoever waits for it; one that nobody awaits any more is dropped."""
        try:
            row = Row(decode_json(raw))
            request_id = row.text_or("reqId")
        except BadMessage as error:
            self._on_bad("trade", str(error), raw.encode() if isinstance(raw, str) else raw)
            return
        answer = self._waiting.get(request_id)
        if answer is not None and not answer.done():
            answer.set_result(row)

    async def call(self, path: str, body: Mapping[str, Any]) -> Answer:
        """One order request, sent once. Raises VenueError: OutcomeUnknown = it may have happened.

        VenueBusy = not sent, or not taken: it counts in the windows that REST shares.
        """
        socket = self._socket
        if socket is None:
            raise OutcomeUnknown("the trade socket is not open", code="connection")
        self._venue.admit_to_socket(path)
        self._requests += 1
        request_id = str(self._requests)
        frame = _ENCODE({
            "reqId": request_id,
            "header": {
                "X-BAPI-TIMESTAMP": str(self._venue.stamp_ms()),
                "X-BAPI-RECV-WINDOW": str(RECV_WINDOW_MS),
            },
            "op": PATHS[path], "args": [body],
        }).decode()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Row] = loop.create_future()
        self._waiting[request_id] = answer
        late = loop.call_later(self._timeout_s, _give_up, answer, self._timeout_s)
        ts_requested_ms = self._clock.now_ms()
        try:
            await socket.send(frame)
            row = await answer
        except TransportFailed as error:
            raise OutcomeUnknown(str(error), code=error.kind) from error
        finally:
            late.cancel()
            self._waiting.pop(request_id, None)
        return await self._read(path, row, ts_requested_ms=ts_requested_ms)

    async def _read(self, path: str, row: Row, *, ts_requested_ms: int) -> Answer:
        ts_seen_ms = self._clock.now_ms()
        try:
            header = row.row("header") if "header" in row else Row({})
            headers = {name.lower(): header.text_or(name) for name in header.names()}
            self._venue.note_limits(path, headers)
            await self._venue.check(row, headers)
            event_ms = header.ts_ms("Timenow") if "Timenow" in header else None
            result = row.row("data")
        except BadMessage as error:
            raise OutcomeUnknown(f"unreadable answer: {error}", code="unreadable") from error
        except VenueError as error:
            if error.code in RESTARTING:
                self.restart()
            raise
        if event_ms is None:
            event_ms = (ts_requested_ms + ts_seen_ms) // 2 + self._venue.offset_ms
        return Answer(result, ts_requested_ms, event_ms, ts_seen_ms)


def _nothing() -> None:
    """Before a socket carries the channel there is none to restart."""


def _give_up(answer: asyncio.Future[Row], after_s: float) -> None:
    if not answer.done():
        answer.set_exception(
            TransportFailed("timeout", f"no answer in {after_s} s on the trade socket")
        )
