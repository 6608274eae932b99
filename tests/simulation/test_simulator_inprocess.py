"""The exchange below the real adapter, in one process and in virtual time: no socket, no thread."""

import asyncio
import heapq
import json
from decimal import Decimal

import msgspec
import pytest
from counter import ORDER, sign

from exchanges.test_bybit_effects import QUERY, SEND
from exchanges.test_transport_seam import START_MS, VirtualClock, VirtualLoop, virtual_seconds
from hedgelock.domain.account import PositionChanged
from hedgelock.domain.effect import ExecutionReport, OrderAnswer, OrderFacts, Outcome, StreamReset
from hedgelock.domain.market import MarketTick
from hedgelock.domain.order import OrderStatus
from hedgelock.exchanges.bybit import CAPABILITIES, BybitExchange, simulator_addresses
from hedgelock.exchanges.ccxt_venue import Credentials
from hedgelock.exchanges.transport import HttpAnswer, Transport, TransportFailed
from hedgelock.simulator.drawn import drawn
from hedgelock.simulator.fault_kinds import Fault, Match
from hedgelock.simulator.faults import Faults
from hedgelock.simulator.gateway import Gateway
from hedgelock.simulator.inprocess import Distance, InProcess, Pulse
from hedgelock.simulator.scenarios import SCENARIOS
from hedgelock.simulator.venue import Venue

ME = "hedgelock-sim"
SELL = msgspec.structs.replace(SEND, price=Decimal(50000), reduce_only=False)


class Loop(VirtualLoop):
    """A cancelled timer is no reason to wait in real time."""

    def _run_once(self):
        while self._scheduled and self._scheduled[0].cancelled():
            heapq.heappop(self._scheduled)._scheduled = False
            self._timer_cancelled_count -= 1
        super()._run_once()


def virtually(main):
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main)


def venue_ms():
    return VirtualClock().now_ms()


class World:
    """Exchange, pulse and one wire on the running loop."""

    def __init__(
        self, *faults: Fault, scenario: str = "calm", tick_ms: int = 100, **options: object
    ) -> None:
        loop = asyncio.get_running_loop()
        self.venue = Venue(SCENARIOS[scenario], now_ms=venue_ms(), tick_ms=tick_ms)
        self.gateway = Gateway(self.venue, later=loop.call_later, faults=Faults(faults))
        self.pulse = Pulse(self.gateway, venue_ms)
        self.pulse.start()
        self.wire = InProcess(
            self.gateway, venue_ms, answer=HttpAnswer, failed=TransportFailed, **options
        )

    def adapter(self) -> BybitExchange:
        wire: Transport = self.wire  # the type checker's proof is in the next line's call
        return BybitExchange(
            "main", Credentials(ME, ME), addresses=simulator_addresses(), transport=wire,
            capabilities=CAPABILITIES["sim"], clock=VirtualClock(), seed=7,
        )  # fmt: skip

    @property
    def orders(self):
        return self.venue.exchange.accounts[ME].orders


async def until(stream, kind):
    while True:
        message = await anext(stream)
        if isinstance(message, kind):
            return message


def test_an_order_and_its_pushes():
    """Signing, routing, matching, pushes: the adapter notices no difference to a socket."""

    async def main() -> None:
        world = World()
        exchange = world.adapter()
        private, market = exchange.private_stream(), exchange.market_stream(["linear:BTCUSDT"])
        await until(private, StreamReset)
        assert (await until(market, MarketTick)).mark_price > 59_000
        answer = await exchange.perform(SELL)
        assert isinstance(answer, OrderAnswer)
        assert answer.outcome is Outcome.ACCEPTED
        fill = await until(private, ExecutionReport)
        await until(private, PositionChanged)
        facts = await exchange.perform(QUERY)
        assert isinstance(facts, OrderFacts)
        assert facts.report.status is OrderStatus.FILLED
        assert facts.executions[0].fill == fill.fill
        await private.aclose()
        await market.aclose()
        await exchange.close()
        world.pulse.stop()

    virtually(main())


def test_the_distance_is_the_latency():
    """2 ms each way: an unhindered request takes 4 ms of virtual time, with jitter up to 14."""

    async def main() -> None:
        world = World()
        took = []
        for wire in (world.wire, World(distance=Distance(2, 5)).wire):
            before = VirtualClock().monotonic_ms()
            answer = await wire.request(
                "GET", "http://sim/v5/market/time", headers={}, body=None, timeout_s=1
            )
            assert answer.status == 200
            assert "x-bapi-limit" in answer.headers
            took.append(VirtualClock().monotonic_ms() - before)
        assert took[0] == pytest.approx(4)
        assert 4 < took[1] <= 14

    virtually(main())


def test_a_request_outlives_its_sender():
    """What was sent arrives, though its sender has timed out before the exchange saw it."""

    async def main() -> None:
        world = World(Fault("slow_request", Match(path="/v5/order/create"), ms=20_000))
        exchange = world.adapter()
        answer = await exchange.perform(SELL)
        assert answer.outcome is Outcome.DOUBTFUL
        assert world.orders == []
        await virtual_seconds(30)
        assert [order.link for order in world.orders] == []  # 10002: too old by then
        world.gateway.faults.clear()
        world.gateway.faults.add(Fault("answer_never", Match(path="/v5/order/create")))
        answer = await exchange.perform(SELL)
        assert answer.outcome is Outcome.DOUBTFUL
        assert [order.link for order in world.orders] == [SELL.client_order_id]

    virtually(main())


def test_frames_keep_their_order_on_one_socket():
    """Jitter never lets a frame overtake another on the same connection."""

    async def main() -> None:
        world = World(distance=Distance(1, 50))
        socket = await world.wire.open_socket("ws://sim/v5/public/linear", timeout_s=1)
        for number in range(50):
            await socket.send(f'{{"op":"ping","req_id":"{number}"}}')
        got = [msgspec.json.decode(await socket.receive())["req_id"] for _ in range(50)]
        assert got == [str(number) for number in range(50)]
        await socket.close()
        with pytest.raises(TransportFailed, match="closed"):
            await socket.receive()
        with pytest.raises(TransportFailed, match="closed"):
            await socket.send("{}")
        await virtual_seconds(1)
        assert world.gateway.hub.sessions == []

    virtually(main())


def test_an_idle_socket_is_dropped_after_ten_minutes():
    """The exchange closes a socket that has not spoken for ten minutes (fact sheet §1.1)."""

    async def main() -> None:
        world = World(tick_ms=5000)
        socket = await world.wire.open_socket("ws://sim/v5/private", timeout_s=1)
        with pytest.raises(TransportFailed, match="1001"):
            await socket.receive()
        assert 600_000 <= venue_ms() - START_MS < 640_000

    virtually(main())


def transcript(seed):
    """Everything that a client sent and got in 30 s under drawn faults, with its instant."""
    heard = []

    async def listen(world, path, *messages):
        while True:
            try:
                socket = await world.wire.open_socket(f"ws://sim{path}", timeout_s=2)
                for message in messages:
                    await socket.send(json.dumps(message()))
                while True:
                    frame = await socket.receive()
                    heard.append((venue_ms(), path, frame))
            except TransportFailed as error:
                heard.append((venue_ms(), path, error.kind))
                await virtual_seconds(0.5)

    async def order(world, number):
        body = json.dumps({**ORDER, "qty": "0.001", "orderLinkId": f"o{number}"})
        stamp = str(venue_ms())
        headers = {
            "X-BAPI-API-KEY": ME, "X-BAPI-TIMESTAMP": stamp, "X-BAPI-RECV-WINDOW": "5000",
            "X-BAPI-SIGN": sign(ME, stamp + ME + "5000" + body),
        }  # fmt: skip
        try:
            answer = await world.wire.request(
                "POST", "http://sim/v5/order/create", headers=headers, body=body.encode(),
                timeout_s=1,
            )  # fmt: skip
            heard.append((venue_ms(), number, answer.status, dict(answer.headers), answer.body))
        except TransportFailed as error:
            heard.append((venue_ms(), number, error.kind))

    def auth():
        expires = venue_ms() + 5000
        return {"op": "auth", "args": [ME, expires, sign(ME, f"GET/realtime{expires}")]}

    async def main():
        world = World(distance=Distance(1, 8), seed=seed)
        world.gateway.faults = drawn(seed, heal_s=20)
        topics = ["order", "execution", "position", "wallet"]
        listeners = [
            asyncio.ensure_future(listen(world, "/v5/private", auth, lambda: {"op": "subscribe", "args": topics})),
            asyncio.ensure_future(
                listen(world, "/v5/public/linear", lambda: {"op": "subscribe", "args": ["tickers.BTCUSDT"]})
            ),
        ]
        for number in range(60):
            await order(world, number)
            await virtual_seconds(0.4)
        for listener in listeners:
            listener.cancel()
        world.pulse.stop()

    virtually(main())
    return heard


@pytest.mark.no_cover
def test_the_same_seed_gives_the_same_bytes():
    """Jitter, faults, answers and pushes: a run is repeated to the byte and the millisecond."""
    for seed in range(4):
        first = transcript(seed)
        assert first == transcript(seed)
        assert len(first) > 200
    assert transcript(0) != transcript(1)


def test_what_a_transport_must_say_when_it_fails():
    """Timeouts, refusals, cuts and wrong addresses are the client's own exception, with its kind."""

    async def main() -> None:
        world = World()
        faults, wire = world.gateway.faults, world.wire

        async def ask():
            await wire.request("GET", "http://s/v5/market/time", headers={}, body=None, timeout_s=1)

        for fault, kind in (
            (Fault("cut"), "connection"), (Fault("answer_lost"), "connection"),
            (Fault("slow_answer", ms=2000), "timeout"), (Fault("slow_request", ms=2000), "timeout"),
        ):  # fmt: skip
            faults.add(fault)
            with pytest.raises(TransportFailed) as failure:
                await ask()
            assert failure.value.kind == kind, fault.kind
            faults.clear()
        with pytest.raises(TransportFailed, match="no socket at"):
            await wire.open_socket("ws://s/v5/order", timeout_s=1)
        faults.add(Fault("socket_refused"))
        with pytest.raises(TransportFailed, match="refused"):
            await wire.open_socket("ws://s/v5/private", timeout_s=1)
        faults.clear()
        for patience_s in (0.001, 0.003):  # before and after the exchange has accepted it
            with pytest.raises(TransportFailed) as failure:
                await wire.open_socket("ws://s/v5/private", timeout_s=patience_s)
            assert failure.value.kind == "timeout"
            await virtual_seconds(1)
            assert world.gateway.hub.sessions == []
        socket = await wire.open_socket("ws://s/v5/private", timeout_s=1)
        faults.add(Fault("socket_dies"))
        with pytest.raises(TransportFailed, match="reset by the exchange"):
            await socket.receive()
        faults.clear()
        socket = await wire.open_socket("ws://s/v5/private", timeout_s=1)
        await wire.close()
        with pytest.raises(TransportFailed, match="closed"):
            await socket.receive()
        await virtual_seconds(1)
        assert world.gateway.hub.sessions == [], "an abandoned socket is closed, too"

    virtually(main())
