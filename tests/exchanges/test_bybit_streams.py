"""Sockets: merging, resets, silence, refused logins, frames that cannot be read."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from exchanges.bybit_samples import EXECUTION, ORDER, POSITION, SNAPSHOT
from exchanges.bybit_stub import FAST, Make, Stub
from hedgelock.clock import SystemClock
from hedgelock.domain.account import PositionChanged
from hedgelock.domain.effect import ExecutionReport, OrderReport, StreamReset
from hedgelock.domain.funding import FundingRate
from hedgelock.domain.market import MarketTick
from hedgelock.errors import VenueForbidden
from hedgelock.exchanges.bybit_channels import Facts, Latest
from hedgelock.exchanges.bybit_parse import WalletPushed
from hedgelock.exchanges.stream import SocketPolicy, back_off_s

BTC = ["linear:BTCUSDT"]


async def take(stream: AsyncIterator[Any], count: int) -> list[Any]:
    """The next messages, within five seconds."""
    async with asyncio.timeout(5):
        return [await anext(stream) for _ in range(count)]


def ticker(kind: str, **data: Any) -> dict[str, Any]:
    """A ticker frame."""
    return {"topic": "tickers.BTCUSDT", "type": kind, "ts": SystemClock().now_ms(),
            "data": {"symbol": "BTCUSDT", **data}}


def private(topic: str, row: dict[str, Any]) -> dict[str, Any]:
    """A private frame."""
    return {"id": "1", "topic": topic, "creationTime": SystemClock().now_ms(),
            "data": [{"category": "linear", **row}]}


async def ack(ws: web.WebSocketResponse, message: dict[str, Any]) -> None:
    """Answer an operation with success."""
    await ws.send_json({"success": True, "ret_msg": "", "op": message["op"]})


async def test_ticks_are_merged_and_funding_follows(stub: Stub, make: Make) -> None:
    """A snapshot gives a tick and a rate; a delta a tick with the rest unchanged."""

    async def serve(ws: web.WebSocketResponse, message: dict[str, Any]) -> None:
        await ack(ws, message)
        if message["op"] == "subscribe":
            assert message["args"] == ["tickers.BTCUSDT"]
            await ws.send_json(ticker("snapshot", **SNAPSHOT))

    stub.on_socket = serve
    stream = make(stub.port).market_stream(BTC)
    tick, rate = await take(stream, 2)
    assert isinstance(tick, MarketTick)
    assert isinstance(rate, FundingRate)
    await stub.sockets[0].send_json(ticker("delta", markPrice="60010"))
    (after,) = await take(stream, 1)
    assert (after.mark_price, after.index_price) == (60010, 60001)
    await stream.aclose()  # type: ignore[attr-defined]


async def test_a_dropped_market_socket_comes_back_with_a_snapshot(stub: Stub, make: Make) -> None:
    """After a drop nothing is merged across the gap and the stream goes on by itself."""

    async def serve(ws: web.WebSocketResponse, message: dict[str, Any]) -> None:
        await ack(ws, message)
        if message["op"] == "subscribe":
            await ws.send_json(ticker("delta", markPrice="1"))
            mark = str(60000 + len(stub.sockets))
            await ws.send_json(ticker("snapshot", **{**SNAPSHOT, "markPrice": mark}))

    stub.on_socket = serve
    bad: list[tuple[str, str]] = []
    exchange = make(stub.port, on_bad=lambda topic, reason, _raw: bad.append((topic, reason)))
    stream = exchange.market_stream(BTC)
    first, _ = await take(stream, 2)
    await stub.sockets[0].close()
    second = (await take(stream, 1))[0]
    assert (first.mark_price, second.mark_price) == (60001, 60002)
    assert len(bad) == exchange.bad_messages == 2  # the two deltas before a snapshot
    assert exchange.sockets[0].stats.connects == 2
    await stream.aclose()  # type: ignore[attr-defined]


async def test_silence_while_connected_is_a_dead_stream(stub: Stub, make: Make) -> None:
    """Pongs without ticks are not life: the socket is replaced."""

    async def serve(ws: web.WebSocketResponse, message: dict[str, Any]) -> None:
        await ack(ws, message)
        if message["op"] == "subscribe":
            await ws.send_json(ticker("snapshot", **SNAPSHOT))

    stub.on_socket = serve
    exchange = make(stub.port)
    stream = exchange.market_stream(BTC)
    messages = await take(stream, 5)
    assert sum(isinstance(m, MarketTick) for m in messages) >= 2
    assert exchange.sockets[0].stats.stale >= 1
    await stream.aclose()  # type: ignore[attr-defined]


async def test_private_frames_become_facts_after_a_reset(stub: Stub, make: Make) -> None:
    """First StreamReset, then orders, executions, positions and wallet hints in order."""
    stream = make(stub.port).private_stream()
    (reset,) = await take(stream, 1)
    assert isinstance(reset, StreamReset)
    ws = stub.sockets[0]
    await ws.send_json(private("order", ORDER))
    await ws.send_json(private("execution", {**EXECUTION, "execPnl": "2"}))
    await ws.send_json(private("position", {**POSITION, "entryPrice": "59000"}))
    await ws.send_json(private("wallet", {"accountType": "UNIFIED"}))
    order, execution, position, wallet = await take(stream, 4)
    assert isinstance(order, OrderReport)
    assert isinstance(execution, ExecutionReport)
    assert execution.fill.pnl == 2
    assert isinstance(position, PositionChanged)
    assert position.position.entry_price == 59000
    assert isinstance(wallet, WalletPushed)
    await ws.close()
    (again,) = await take(stream, 1)
    assert isinstance(again, StreamReset)
    await stream.aclose()  # type: ignore[attr-defined]


async def test_frames_that_cannot_be_read_are_handed_over(stub: Stub, make: Make) -> None:
    """A bad frame or row is counted with its reason and its bytes; the good ones still come."""
    bad: list[tuple[str, str, bytes]] = []
    exchange = make(stub.port, on_bad=lambda *args: bad.append(args))
    stream = exchange.private_stream()
    await take(stream, 1)
    ws = stub.sockets[0]
    await ws.send_str("not json")
    await ws.send_json({"topic": "order", "creationTime": "x", "data": []})
    await ws.send_json(private("greeks", {}))
    mixed = private("order", ORDER)
    mixed["data"].insert(0, {**mixed["data"][0], "orderStatus": "Odd"})
    await ws.send_json(mixed)
    again, order = await take(stream, 2)
    assert isinstance(again, StreamReset)  # a row of ours was missed: it must be asked for
    assert isinstance(order, OrderReport)
    assert exchange.bad_messages == len(bad) == 4
    assert "orderStatus" in bad[3][1]
    assert b"Odd" in bad[3][2]
    await ws.send_json(private("order", {**ORDER, "qty": "0", "orderLinkId": ""}))
    await ws.send_json(private("order", ORDER))
    (next_order,) = await take(stream, 1)
    assert isinstance(next_order, OrderReport)  # somebody else's odd order resets nothing
    assert len(bad) == 5
    await stream.aclose()  # type: ignore[attr-defined]


async def test_a_refused_login_ends_in_words_for_a_person(stub: Stub, make: Make) -> None:
    """Three refusals in a row: VenueForbidden; the clock is measured anew between them."""

    async def serve(ws: web.WebSocketResponse, message: dict[str, Any]) -> None:
        await ws.send_json({"success": False, "ret_msg": "error:invalid sign", "op": "auth"})

    stub.on_socket = serve
    stream = make(stub.port).private_stream()
    with pytest.raises(VenueForbidden, match="BYBIT__API_KEY"):
        await take(stream, 1)
    assert len(stub.sockets) == FAST.auth_failures_max
    assert stub.count("/v5/market/time") >= 3


async def test_a_refused_subscription_is_tried_again(stub: Stub, make: Make) -> None:
    """A subscription that fails is not taken for one: the socket is closed and made anew."""

    async def serve(ws: web.WebSocketResponse, message: dict[str, Any]) -> None:
        failed = message["op"] == "subscribe" and len(stub.sockets) == 1
        await ws.send_json({"success": not failed, "ret_msg": "", "op": message["op"]})

    stub.on_socket = serve
    exchange = make(stub.port)
    stream = exchange.private_stream()
    (reset,) = await take(stream, 1)
    assert isinstance(reset, StreamReset)
    assert len(stub.sockets) == 2
    await stream.aclose()  # type: ignore[attr-defined]


async def test_a_slow_market_reader_gets_the_newest() -> None:
    """Prices are replaced while they wait; order of first arrival is kept."""
    out = Latest()
    for key, item in (("a", 1), ("b", 2), ("a", 3)):
        out.put(key, item)
    assert [await out.get(), await out.get()] == [3, 2]


async def test_too_many_facts_are_dropped_only_with_a_reset() -> None:
    """A full queue is emptied and the connection is dropped: the reader hears a reset."""
    kicked: list[int] = []
    out = Facts()
    out.overflowed = lambda: kicked.append(1)
    for number in range(10_001):
        out.put(number)
    assert kicked == [1]
    out.put("next")
    assert await out.get() == "next"


@given(failures=st.integers(0, 10_000), seed=st.integers())
def test_back_off_is_bounded_and_jittered(failures: int, seed: int) -> None:
    """Delays stay between half of the first and the greatest, however long it goes on."""
    policy = SocketPolicy()
    delay_s = back_off_s(failures, policy, random.Random(seed))
    assert policy.delay_first_s / 2 <= delay_s <= policy.delay_max_s
