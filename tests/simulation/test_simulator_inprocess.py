"""The exchange below the real adapter, in one process and in virtual time: no socket, no thread."""

import asyncio
from decimal import Decimal

import msgspec
import pytest

from exchanges.test_bybit_effects import QUERY, SEND
from exchanges.test_transport_seam import START_MS, VirtualClock, virtual_seconds, virtually
from hedgelock.domain.account import PositionChanged
from hedgelock.domain.execution import (
    ExecutionReport,
    OrderAnswer,
    OrderFacts,
    Outcome,
    StreamReset,
)
from hedgelock.domain.market import MarketTick
from hedgelock.domain.order import OrderStatus
from hedgelock.exchanges.bybit import CAPABILITIES, BybitExchange, simulator_addresses
from hedgelock.exchanges.ccxt_venue import Credentials
from hedgelock.exchanges.transport import HttpAnswer, Transport, TransportFailed
from hedgelock.simulator.fault_kinds import Fault, Match
from hedgelock.simulator.faults import Faults
from hedgelock.simulator.gateway import Gateway
from hedgelock.simulator.inprocess import Distance, InProcess, Pulse
from hedgelock.simulator.scenarios import SCENARIOS
from hedgelock.simulator.venue import Venue

ME = "hedgelock-sim"
SELL = msgspec.structs.replace(SEND, price=Decimal(50000), reduce_only=False)


def venue_ms():
    return VirtualClock().now_ms()


class World:
    """Exchange, pulse and one wire on the running loop."""

    def __init__(self, *faults: Fault, scenario: str = "calm", **options: object) -> None:
        loop = asyncio.get_running_loop()
        self.venue = Venue(SCENARIOS[scenario], now_ms=venue_ms())
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
        world = World()
        socket = await world.wire.open_socket("ws://sim/v5/private", timeout_s=1)
        with pytest.raises(TransportFailed, match="1001"):
            await socket.receive()
        assert 600_000 <= venue_ms() - START_MS < 640_000

    virtually(main())
