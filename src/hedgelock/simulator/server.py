"""Carries the exchange over HTTP and WebSocket on one port; decides nothing.

Order latency is measured through this file: one handler without a router, JSON by msgspec,
signatures on the raw bytes, each public frame encoded once for all its subscribers.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import signal
import time
from collections.abc import Callable
from pathlib import Path

import structlog
import uvloop
from aiohttp import web

from hedgelock.clock import SystemClock
from hedgelock.simulator.faults import Faults
from hedgelock.simulator.gateway import Gateway
from hedgelock.simulator.request import Request, socket_path
from hedgelock.simulator.scenarios import SCENARIOS, Scenario
from hedgelock.simulator.script import is_file, read_script
from hedgelock.simulator.sockets import Socket
from hedgelock.simulator.venue import Venue

log = structlog.get_logger("simulator")
PORT = 8010
SYSTEM = SystemClock()


def wall_ms() -> int:
    """Exchange time over sockets."""
    return SYSTEM.now_ms()


class Carrier:
    """A gateway on aiohttp: reads requests, waits where it says, writes its answers."""

    def __init__(self, gateway: Gateway, clock: Callable[[], int] = wall_ms) -> None:
        self.gateway = gateway
        self.clock = clock
        self.closing: set[asyncio.Task[bool]] = set()

    async def beat(self) -> None:
        """Let the exchange's time pass."""
        while True:
            due_ms = self.gateway.next_ms() - self.clock()
            if due_ms > 0:
                await asyncio.sleep(due_ms / 1000)
            self.gateway.beat(self.clock())

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve one HTTP request or upgrade."""
        received_ns = time.perf_counter_ns()
        gateway, address = self.gateway, request.remote or ""
        path = socket_path(request.raw_path)
        if path:
            status = gateway.opens(path, address, self.clock())
            if status:
                return web.Response(status=status)
            return await Socket(gateway, request, self.clock, self.closing).serve(path)
        body = await request.read() if request.method == "POST" else b""
        asked = Request(request.method, request.raw_path, request.headers, body, address)
        verdict = gateway.arrive(asked, self.clock())
        if verdict is not None and verdict.hold_ms:
            await asyncio.sleep(verdict.hold_ms / 1000)
        reply = gateway.http(asked, self.clock(), received_ns=received_ns, verdict=verdict)
        batch = reply.batch
        try:
            if batch is not None and (reply.delay_s or reply.lost):
                gateway.release(batch)  # pushes do not wait for an answer that is late or lost
                batch = None
            if reply.delay_s:
                await asyncio.sleep(reply.delay_s)
            response = web.Response(
                status=reply.status or 500, body=reply.body, content_type=reply.content_type,
                headers=reply.headers,
            )  # fmt: skip
            if reply.lost:
                if request.transport is not None:
                    request.transport.abort()
                return response
            await response.prepare(request)
            await response.write_eof()
        finally:
            if batch is not None:
                gateway.release(batch)
        return response


class RunningServer:
    """A simulator that serves; `stop` ends it."""

    def __init__(self, carrier: Carrier, runner: web.ServerRunner, *, host: str, port: int) -> None:
        self.carrier = carrier
        self.host = host
        self.port = port
        self._runner = runner
        self._beat = asyncio.ensure_future(carrier.beat())

    @property
    def venue(self) -> Venue:
        """The exchange behind it."""
        return self.carrier.gateway.venue

    @property
    def gateway(self) -> Gateway:
        """Its edge: faults and sessions."""
        return self.carrier.gateway

    @property
    def url(self) -> str:
        """Base address of REST and control."""
        return f"http://{self.host}:{self.port}"

    async def until(self, stop: asyncio.Event) -> None:
        """Wait for `stop`; raises when the exchange's clock dies of a bug before it."""
        asked = asyncio.ensure_future(stop.wait())
        done, _ = await asyncio.wait({asked, self._beat}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if self._beat in done:
            self._beat.result()

    async def drop_sockets(self) -> None:
        """Close every WebSocket in order."""
        for session in self.gateway.hub.sessions:
            session.bye()
        await asyncio.gather(*self.carrier.closing)

    async def stop(self) -> None:
        """Close all sockets and free the port."""
        self._beat.cancel()
        await asyncio.wait({self._beat})
        await self.drop_sockets()
        await self._runner.cleanup()


async def serve(
    scenario: str | Scenario, *, port: int = PORT, speed: float = 1.0, wait: bool = False,
    seed: int = 1, host: str = "127.0.0.1", limits_factor: int = 1, allow_remote: bool = False,
    faults: Faults | None = None, live: bool = False,
) -> RunningServer:  # fmt: skip
    """Serve a scenario; port 0 picks a free one. `live`: prices are fed, see `live_feed`.

    `scenario` may be the path of a scenario file; its faults come with it. Raises OSError when the
    port is taken, ValueError for an unknown scenario or a foreign host, BadScript for a bad file.
    """
    if not allow_remote and not is_loopback(host):
        raise ValueError(f"the simulator binds loopback addresses only, not {host!r}")
    if isinstance(scenario, str) and is_file(scenario):
        told = read_script(Path(scenario))
        played, faults = told.scenario, faults or told.plan()
    else:
        played = named(scenario) if isinstance(scenario, str) else scenario
    venue = Venue(
        played, now_ms=wall_ms(), seed=seed, speed=speed, wait=wait or live,
        limits_factor=limits_factor,
    )  # fmt: skip
    venue.exchange.market.is_live = live
    gateway = Gateway(
        venue, later=asyncio.get_running_loop().call_later, faults=faults,
        limits_factor=limits_factor, local_only=not allow_remote,
    )  # fmt: skip
    carrier = Carrier(gateway)
    runner = web.ServerRunner(web.Server(carrier.handle, access_log=None), shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
    except OSError:
        await runner.cleanup()
        raise
    bound = int(runner.addresses[0][1])
    log.info("simulator.started", scenario=played.name, port=bound, speed=speed, wait=wait)
    return RunningServer(carrier, runner, host=host, port=bound)


def named(scenario: str) -> Scenario:
    """The scenario of that name; ValueError names those there are."""
    if scenario not in SCENARIOS:
        raise ValueError(f"no scenario {scenario!r}: choose one of {', '.join(sorted(SCENARIOS))}")
    return SCENARIOS[scenario]


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def run(
    scenario: str = "demo", *, port: int = PORT, speed: float = 1.0, wait: bool = False,
    seed: int = 1, host: str = "127.0.0.1", limits_factor: int = 1, allow_remote: bool = False,
    live: bool = False,
) -> None:  # fmt: skip
    """Serve until SIGTERM or SIGINT (blocking)."""

    async def until_stopped() -> None:
        server = await serve(
            scenario, port=port, speed=speed, wait=wait, seed=seed, host=host,
            limits_factor=limits_factor, allow_remote=allow_remote, live=live,
        )  # fmt: skip
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, stop.set)
        try:
            await server.until(stop)
        finally:
            await server.stop()
        log.info("simulator.stopped")

    # orders and rows are kept for the whole run: full collections would only find them alive
    gc.set_threshold(50_000, 20, 100)
    uvloop.run(until_stopped())
