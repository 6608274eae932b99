"""The wire is a port: the whole adapter in one process, in virtual time, without a socket."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Coroutine, Mapping
from typing import Any

from exchanges.bybit_samples import SNAPSHOT
from exchanges.test_bybit_effects import SEND
from hedgelock.domain.effect import OrderAnswer, Outcome, StreamReset
from hedgelock.domain.market import MarketTick
from hedgelock.exchanges.bybit import CAPABILITIES, BybitExchange, simulator_addresses
from hedgelock.exchanges.ccxt_venue import Credentials
from hedgelock.exchanges.transport import HttpAnswer, Socket, TransportFailed

START_MS = 1_700_000_000_000


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time jumps to the next timer when nothing is ready."""

    def __init__(self) -> None:
        super().__init__()
        self.virtual_s = 0.0

    def time(self) -> float:
        """Virtual seconds."""
        return self.virtual_s

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.virtual_s = max(self.virtual_s, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


virtual_seconds = asyncio.sleep
"""On the virtual-time loop of this file no real time passes in it."""


class VirtualClock:
    """The loop's time."""

    def now_ms(self) -> int:
        """UTC epoch."""
        return START_MS + int(asyncio.get_running_loop().time() * 1000)

    def monotonic_ms(self) -> float:
        """The same, for durations."""
        return asyncio.get_running_loop().time() * 1000


class Wire:
    """A venue in this process. `up` False refuses sockets."""

    def __init__(self) -> None:
        self.up = True
        self.answers_pings = True
        self.opened_ms: list[float] = []
        self.paths: list[str] = []

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None,
        timeout_s: float,
    ) -> HttpAnswer:
        """Every request succeeds after a virtual second."""
        self.paths.append(url.partition("/v5/")[2])
        await virtual_seconds(1)
        result = {"orderId": "v", "timeNano": str(VirtualClock().now_ms() * 10**6)}
        answer = {"retCode": 0, "retMsg": "OK", "result": result, "time": VirtualClock().now_ms()}
        return HttpAnswer(200, {}, json.dumps(answer).encode())

    async def open_socket(self, url: str, *, timeout_s: float) -> Socket:
        """A socket that acknowledges, sends one snapshot and then falls silent."""
        self.opened_ms.append(VirtualClock().monotonic_ms())
        if not self.up:
            raise TransportFailed("connection", "refused")
        return _Wire(self)

    async def close(self) -> None:
        """Nothing to release."""


class _Wire:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._frames: deque[str] = deque()
        self._wake = asyncio.Event()
        self._closed = False

    async def send(self, text: str) -> None:
        message = json.loads(text)
        if message["op"] == "ping":
            if self._wire.answers_pings:
                self._push({"op": "pong"})
            return
        self._push({"success": True, "op": message["op"]})
        if "tickers.BTCUSDT" in message["args"]:
            self._push({"topic": "tickers.BTCUSDT", "type": "snapshot",
                        "ts": VirtualClock().now_ms(), "data": SNAPSHOT})

    def _push(self, frame: dict[str, Any]) -> None:
        self._frames.append(json.dumps(frame))
        self._wake.set()

    async def receive(self) -> str:
        while not self._frames:
            if self._closed:
                raise TransportFailed("connection", "closed")
            self._wake.clear()
            await self._wake.wait()
        return self._frames.popleft()

    async def close(self) -> None:
        self._closed = True
        self._wake.set()


def virtually(main: Coroutine[Any, Any, None]) -> None:
    """Run on a virtual-time loop."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)


def exchange(wire: Wire) -> BybitExchange:
    """The real adapter on the in-process wire."""
    return BybitExchange(
        "main", Credentials("k", "s"), addresses=simulator_addresses(), transport=wire,
        capabilities=CAPABILITIES["sim"], clock=VirtualClock(), seed=7,
    )


def test_an_order_in_virtual_time() -> None:
    """An effect runs through signing, wire and mapping; only virtual time passes."""

    async def main() -> None:
        wire = Wire()
        event = await exchange(wire).perform(SEND)
        assert isinstance(event, OrderAnswer)
        assert event.outcome is Outcome.ACCEPTED
        assert event.ts_seen_ms == START_MS + 1_000
        assert wire.paths == ["order/create"]

    virtually(main())


def test_silence_is_noticed_after_ten_seconds() -> None:
    """A ticker that stops while the socket stays open is replaced after topic_silence_max_s."""

    async def main() -> None:
        wire = Wire()
        stream = exchange(wire).market_stream(["linear:BTCUSDT"])
        ticks = 0
        async for message in stream:
            ticks += isinstance(message, MarketTick)
            if ticks == 3:
                break
        gaps_ms = [b - a for a, b in zip(wire.opened_ms, wire.opened_ms[1:], strict=False)]
        assert all(10_000 < gap_ms < 14_000 for gap_ms in gaps_ms)
        await stream.aclose()  # type: ignore[attr-defined]

    virtually(main())


def test_a_quiet_account_is_no_dead_stream_as_long_as_pongs_come() -> None:
    """Ten silent minutes keep one private socket; without pongs it is replaced within a minute."""

    async def main() -> None:
        wire = Wire()
        stream = exchange(wire).private_stream()
        assert isinstance(await anext(stream), StreamReset)
        later = asyncio.ensure_future(anext(stream))
        await virtual_seconds(600)
        assert len(wire.opened_ms) == 1
        wire.answers_pings = False
        assert isinstance(await later, StreamReset)
        assert wire.opened_ms[1] < 660_000
        await stream.aclose()  # type: ignore[attr-defined]

    virtually(main())


def test_an_hour_of_outage_stays_within_the_connection_limit() -> None:
    """Bybit takes 500 connections in 5 minutes: the back-off stays far below, and comes back."""

    async def main() -> None:
        wire = Wire()
        wire.up = False
        stream = exchange(wire).private_stream()
        first = asyncio.ensure_future(anext(stream))
        await virtual_seconds(3_600)
        assert not first.done()
        for start_ms in range(0, 3_600_000, 300_000):
            tries = [at for at in wire.opened_ms if start_ms <= at < start_ms + 300_000]
            assert 10 <= len(tries) <= 60
        wire.up = True
        assert isinstance(await first, StreamReset)
        assert VirtualClock().monotonic_ms() < 3_630_000
        await stream.aclose()  # type: ignore[attr-defined]

    virtually(main())
