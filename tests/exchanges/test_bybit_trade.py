"""Order entry over the trade socket: what left and was not answered is in doubt, nothing goes twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Self

import pytest
from aiohttp import web

from exchanges.bybit_stub import KEYS, Make, Stub
from exchanges.test_bybit_effects import CANCEL, QUERY, SEND
from hedgelock.clock import SystemClock
from hedgelock.domain.effect import OrderAnswer, Outcome
from hedgelock.errors import OutcomeUnknown, VenueBusy, VenueRefused
from hedgelock.exchanges.address import Address, Guard
from hedgelock.exchanges.bybit import BybitExchange
from hedgelock.exchanges.bybit_dialect import BybitDialect
from hedgelock.exchanges.bybit_trade import TradeChannel
from hedgelock.exchanges.ccxt_venue import CcxtVenue
from hedgelock.exchanges.pace import Paces
from hedgelock.exchanges.transport import AiohttpTransport, TransportFailed

PATH = "/v5/order/create"
Reply = Callable[[dict[str, Any]], dict[str, Any] | None]


class Wire:
    """A socket whose other end is a function; None = no answer."""

    def __init__(self, reply: Reply) -> None:
        self.sent: list[dict[str, Any]] = []
        self.asked = asyncio.Event()
        self._reply = reply
        self._frames: asyncio.Queue[str] = asyncio.Queue()

    async def send(self, text: str) -> None:
        """Take a frame and queue its answer."""
        message = json.loads(text)
        self.sent.append(message)
        if message["op"] != "auth":
            self.asked.set()
        answer = self._reply(message)
        if answer is not None:
            await self._frames.put(json.dumps(answer))

    async def receive(self) -> str:
        """The next answer."""
        return await self._frames.get()

    async def close(self) -> None:
        """Nothing to release."""


def accepted(message: dict[str, Any]) -> dict[str, Any]:
    """What the venue says when all is well."""
    now_ms = SystemClock().now_ms()
    return {
        "reqId": message.get("reqId", ""), "retCode": 0, "retMsg": "OK", "op": message["op"],
        "data": {"orderId": "v-1", "orderLinkId": "hl1"}, "retExtInfo": {},
        "header": {"X-Bapi-Limit": "10", "X-Bapi-Limit-Status": "7",
                   "X-Bapi-Limit-Reset-Timestamp": str(now_ms), "Timenow": str(now_ms)},
    }


def failing(code: int, **header: str) -> Reply:
    """A venue that lets us in and refuses every order."""

    def reply(message: dict[str, Any]) -> dict[str, Any]:
        if message["op"] == "auth":
            return accepted(message)
        return accepted(message) | {"retCode": code, "retMsg": "no", "data": {}, "header": header}

    return reply


class Entry:
    """A channel that is logged in, reading its wire."""

    def __init__(self, reply: Reply, guard: Guard | None = None) -> None:
        self.limits: list[tuple[str, int, int, int]] = []
        self.bad: list[str] = []
        self.restarts = 0
        clock = SystemClock()
        venue = CcxtVenue(
            "bybit", KEYS, base_url="http://127.0.0.1:9", dialect=BybitDialect(),
            transport=AiohttpTransport(), clock=clock,
            on_limits=lambda *told: self.limits.append(told), guard=guard,
        )
        self.channel = TradeChannel(
            "ws://unused", venue=venue, clock=clock, timeout_s=0.05,
            on_bad=lambda _topic, reason, _raw: self.bad.append(reason),
        )
        self.channel.restart = self._restart
        self.wire = Wire(reply)

    def _restart(self) -> None:
        self.restarts += 1

    async def __aenter__(self) -> Self:
        await self.channel.greet(self.wire)
        self._reading = asyncio.create_task(self._read())
        return self

    async def _read(self) -> None:
        while True:
            self.channel.on_frame(await self.wire.receive())

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        self.channel.closed()


async def test_an_accepted_order_brings_its_id_its_time_and_the_limits() -> None:
    """One frame out with the order as its only argument; the answer's limits are told."""
    async with Entry(accepted) as entry:
        answer = await entry.channel.call(PATH, {"symbol": "BTCUSDT"})
    assert answer.result.text("orderId") == "v-1"
    assert answer.ts_requested_ms <= answer.ts_seen_ms
    assert [limit[:3] for limit in entry.limits] == [("order/create", 10, 7)]
    login, order = entry.wire.sent
    assert (login["op"], login["args"][0]) == ("auth", KEYS.api_key)
    assert (order["op"], order["args"]) == ("order.create", [{"symbol": "BTCUSDT"}])
    assert set(order["header"]) == {"X-BAPI-TIMESTAMP", "X-BAPI-RECV-WINDOW"}


@pytest.mark.parametrize(
    ("code", "error", "restarts"),
    [(110007, VenueRefused, 0), (10429, VenueBusy, 0), (20006, VenueBusy, 0),
     (10016, OutcomeUnknown, 1), (10019, OutcomeUnknown, 1)],
)
async def test_a_refusal_means_what_it_means_by_rest(
    code: int, error: type[Exception], restarts: int
) -> None:
    """Refused and busy did nothing; a restarting venue leaves doubt and gets a new connection."""
    async with Entry(failing(code)) as entry:
        with pytest.raises(error):
            await entry.channel.call(PATH, {})
    assert entry.restarts == restarts


async def test_a_busy_answer_says_when_to_come_back() -> None:
    """The reset header is the time of the next attempt."""
    later_ms = SystemClock().now_ms() + 400
    limits = {"X-Bapi-Limit": "10", "X-Bapi-Limit-Status": "0",
              "X-Bapi-Limit-Reset-Timestamp": str(later_ms)}
    async with Entry(failing(10006, **limits)) as entry:
        with pytest.raises(VenueBusy) as caught:
            await entry.channel.call(PATH, {})
    assert caught.value.retry_at_ms == later_ms


async def test_the_socket_and_rest_share_the_windows_of_a_key() -> None:
    """Ten creations a second by both ways together: the next does not leave, and is not in doubt."""
    clock = SystemClock()
    address = Address("http://127.0.0.1:9", clock)
    guard = Guard(address, Paces())
    for _ in range(6):
        assert guard.paces.take("POST", "order/create", clock.monotonic_ms()) == 0
    async with Entry(failing(110007), guard) as entry:
        for _ in range(4):
            with pytest.raises(VenueRefused):
                await entry.channel.call(PATH, {})
        with pytest.raises(VenueBusy, match="no room for order/create") as told:
            await entry.channel.call(PATH, {})
        assert told.value.code == "paced"
        with pytest.raises(VenueRefused):
            await entry.channel.call("/v5/order/cancel", {})
    assert [frame["op"] for frame in entry.wire.sent] == ["auth", *["order.create"] * 4, "order.cancel"]
    assert guard.paces.take("POST", "order/create", clock.monotonic_ms()) > 0


async def test_the_socket_counts_for_the_address_and_outlives_its_stand_off() -> None:
    """Without room for the address nothing leaves; a 403 that shut REST out does not concern it."""
    clock = SystemClock()
    address = Address("http://127.0.0.1:9", clock)
    address.ban()
    async with Entry(accepted, Guard(address, Paces())) as entry:
        await entry.channel.call(PATH, {})
        while not address.take_socket():
            pass
        with pytest.raises(VenueBusy, match="no room"):
            await entry.channel.call(PATH, {})
    assert len(entry.wire.sent) == 2


async def test_silence_leaves_doubt() -> None:
    """No answer in time is an unknown outcome, and an answer after that changes nothing."""
    async with Entry(lambda m: accepted(m) if m["op"] == "auth" else None) as entry:
        with pytest.raises(OutcomeUnknown) as caught:
            await entry.channel.call(PATH, {})
        entry.channel.on_frame(json.dumps(accepted(entry.wire.sent[1])))
    assert caught.value.code == "timeout"


async def test_a_connection_that_ends_leaves_doubt_and_is_not_used_again() -> None:
    """Whoever waits hears of it at once; the next request does not leave here."""
    async with Entry(lambda m: accepted(m) if m["op"] == "auth" else None) as entry:
        waiting = asyncio.create_task(entry.channel.call(PATH, {}))
        await entry.wire.asked.wait()
        entry.channel.closed()
        with pytest.raises(OutcomeUnknown) as caught:
            await waiting
        assert caught.value.code == "connection"
        assert not entry.channel.is_open
        with pytest.raises(OutcomeUnknown):
            await entry.channel.call(PATH, {})
    assert len(entry.wire.sent) == 2


async def test_a_send_that_fails_leaves_doubt() -> None:
    """Bytes may have left before the socket said no."""
    async with Entry(accepted) as entry:

        async def broken(_text: str) -> None:
            raise TransportFailed("connection", "reset")

        entry.wire.send = broken  # type: ignore[method-assign]
        with pytest.raises(OutcomeUnknown):
            await entry.channel.call(PATH, {})


@pytest.mark.parametrize("raw", ["{", "[]", '{"reqId": 7}'])
async def test_a_frame_that_cannot_be_read_is_told(raw: str) -> None:
    """It is counted and handed over; the answers after it arrive."""
    async with Entry(accepted) as entry:
        entry.channel.on_frame(raw)
        await entry.channel.call(PATH, {})
    assert len(entry.bad) == 1


@pytest.mark.parametrize("spoilt", [{"data": []}, {"header": 3}, {"header": {"Timenow": "soon"}}])
async def test_an_answer_that_cannot_be_read_leaves_doubt(spoilt: dict[str, Any]) -> None:
    """The venue said something about the order, and nobody knows what."""
    async with Entry(
        lambda m: accepted(m) if m["op"] == "auth" else accepted(m) | spoilt
    ) as entry:
        with pytest.raises(OutcomeUnknown) as caught:
            await entry.channel.call(PATH, {})
    assert caught.value.code == "unreadable"


async def _opened(exchange: BybitExchange) -> None:
    """The first effect opens the trade socket; wait until the login is through."""
    await exchange.perform(QUERY)
    async with asyncio.timeout(5):
        while not exchange.has_trade_socket:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0)


async def test_orders_take_the_socket_once_it_is_open(stub: Stub, make: Make) -> None:
    """Neither the order nor its cancel is sent by REST then."""
    seen: list[str] = []

    async def serve(ws: web.WebSocketResponse, message: dict[str, Any]) -> None:
        seen.append(message["op"])
        await ws.send_json(accepted(message))

    stub.on_socket = serve
    exchange = make(stub.port)
    await _opened(exchange)
    sent, cancelled = await exchange.perform(SEND), await exchange.perform(CANCEL)
    assert isinstance(sent, OrderAnswer)
    assert isinstance(cancelled, OrderAnswer)
    assert (sent.outcome, cancelled.outcome) == (Outcome.ACCEPTED, Outcome.ACCEPTED)
    assert [op for op in seen if op != "ping"] == ["auth", "order.create", "order.cancel"]
    assert stub.count(PATH) == stub.count("/v5/order/cancel") == 0


async def test_without_the_socket_orders_go_by_rest(stub: Stub, make: Make) -> None:
    """A login that is refused for ever does not stop a hedge."""

    async def serve(ws: web.WebSocketResponse, message: dict[str, Any]) -> None:
        await ws.send_json(accepted(message) | {"retCode": 10004, "retMsg": "error sign"})

    stub.on_socket = serve
    stub.answer(PATH, {"orderId": "v-2", "orderLinkId": "hl1"})
    exchange = make(stub.port)
    await exchange.perform(QUERY)
    await asyncio.wait_for(stub.opened.wait(), 5)
    sent = await exchange.perform(SEND)
    assert isinstance(sent, OrderAnswer)
    assert (sent.outcome, sent.venue_order_id) == (Outcome.ACCEPTED, "v-2")
    assert stub.count(PATH) == 1
    assert not exchange.has_trade_socket
