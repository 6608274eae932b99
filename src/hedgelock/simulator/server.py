"""Carries the exchange over HTTP and WebSocket on one port; decides nothing.

Order latency is measured through this file: one handler without a router, JSON by msgspec,
signatures on the raw bytes, each public frame encoded once for all its subscribers.
"""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

import msgspec
import structlog
import uvloop
from aiohttp import web

from hedgelock.clock import SystemClock
from hedgelock.simulator import auth, control
from hedgelock.simulator.exposition import CONTENT_TYPE, exposition
from hedgelock.simulator.limits import IP_REQUESTS, IP_WINDOW_MS, Limit, RateLimits
from hedgelock.simulator.scenarios import SCENARIOS, Scenario
from hedgelock.simulator.sockets import Hub, Socket
from hedgelock.simulator.state import Event, Refused, Row
from hedgelock.simulator.venue import Response, Venue, is_public

log = structlog.get_logger("simulator")
JSON = "application/json"
TICKS_KEPT = 20_000
PORT = 8010
SYSTEM = SystemClock()


def wall_ms() -> int:
    """Exchange time over sockets."""
    return SYSTEM.now_ms()


@dataclass(slots=True)
class Batch:
    """Private events of one request, held until its acknowledgement has been written."""

    events: list[Event]
    ready: bool = False


@dataclass(slots=True)
class Carrier:
    """The exchange, its sockets, and what is on its way between them."""

    venue: Venue
    hub: Hub
    ip_limits: RateLimits
    local_only: bool
    ticks: deque[Row] = field(default_factory=lambda: deque(maxlen=TICKS_KEPT))
    _batches: deque[Batch] = field(default_factory=deque)
    clock: Callable[[], int] = wall_ms

    def collect(self) -> Batch:
        """Send the public events now; return the private ones, held in their order."""
        batch = Batch([])
        for event in self.venue.drain():
            if event.account:
                batch.events.append(event)
            else:
                self._note_tick(event)
                self.hub.publish(event)
        self._batches.append(batch)
        return batch

    def release(self, batch: Batch) -> None:
        """Let a batch go, and those that waited behind it."""
        batch.ready = True
        while self._batches and self._batches[0].ready:
            for event in self._batches.popleft().events:
                self.hub.push(event)

    def _note_tick(self, event: Event) -> None:
        """Remember when a tick's first frame left, so that a bench can match orders to it."""
        if event.topic.startswith("tickers.") and (
            not self.ticks or self.ticks[-1]["id"] != event.sequence
        ):
            sent_ns = time.perf_counter_ns()
            self.ticks.append({"id": event.sequence, "ts": event.ts_ms, "ns": sent_ns})

    async def beat(self) -> None:
        """Let the exchange's time pass."""
        while True:
            due_ms = self.venue.next_event_ms() - self.clock()
            if due_ms > 0:
                await asyncio.sleep(due_ms / 1000)
            self.venue.advance(self.clock())
            self.release(self.collect())

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve one HTTP request or upgrade."""
        received_ns = time.perf_counter_ns()
        path, _, query = request.raw_path.partition("?")
        if path == "/metrics":
            return web.Response(
                body=exposition(self.venue).encode(), headers={"Content-Type": CONTENT_TYPE}
            )
        if path == "/healthz" or path.startswith("/sim/"):
            return control.answer(self, request, path, query)
        _, found, tail = path.partition("/v5/")
        if not found:
            return self._envelope(None, Refused(10017, "Route not found."))
        path = f"/v5/{tail}"  # clients may need a path prefix
        if path.startswith("/v5/public/") or path in {"/v5/private", "/v5/trade"}:
            return await Socket(self, request, path).serve()
        address = request.remote or ""
        if self.ip_limits.admit(
            address, "ip", Limit(IP_REQUESTS, IP_WINDOW_MS), self.clock()
        ).refused:
            return web.Response(status=403, text="access too frequent", content_type="text/plain")
        body = await request.read() if request.method == "POST" else b""
        try:
            reply = self._serve(request, path, query=query, body=body, received_ns=received_ns)
        except Refused as refusal:
            return self._envelope(None, refusal)
        batch = self.collect()
        try:
            response = self._envelope(reply, None)
            await response.prepare(request)
            await response.write_eof()
        finally:
            self.release(batch)
        return response

    def _serve(
        self, request: web.BaseRequest, path: str, *, query: str, body: bytes, received_ns: int
    ) -> Response:
        now_ms = self.clock()
        account = None
        if not is_public(path) and "X-BAPI-API-KEY" in request.headers:
            headers = request.headers
            given = auth.Credentials(
                headers.get("X-BAPI-API-KEY", ""), headers.get("X-BAPI-TIMESTAMP", ""),
                headers.get("X-BAPI-SIGN", ""), headers.get("X-BAPI-RECV-WINDOW", ""),
            )  # fmt: skip
            raw = body.decode("utf-8", "replace") if request.method == "POST" else query
            by_key = self.venue.exchange.by_key
            account = auth.check_request(by_key, given, raw=raw, now_ms=now_ms).name
        if request.method == "POST":
            params = parse_body(body)
        else:
            params = dict(parse_qsl(query, keep_blank_values=True))
        return self.venue.request(
            request.method, path, params, account=account, now_ms=now_ms, received_ns=received_ns
        )

    def _envelope(self, reply: Response | None, refusal: Refused | None) -> web.Response:
        now_ms = self.clock()
        whole: Row
        if reply is None:
            code, message = (refusal.code, refusal.message) if refusal else (10016, "")
            whole = {
                "retCode": code, "retMsg": message, "result": {}, "retExtInfo": {}, "time": now_ms,
            }  # fmt: skip
            limit, left, reset = 600, 599, now_ms
        else:
            now_ms, allowance = reply.time_ms, reply.allowance
            limit, left, reset = allowance.limit, allowance.left, allowance.reset_ms
            whole = reply.body()
        body = msgspec.json.encode(whole)
        headers = {
            "X-Bapi-Limit": str(limit),
            "X-Bapi-Limit-Status": str(left),
            "X-Bapi-Limit-Reset-Timestamp": str(reset),
            "Timenow": str(now_ms),
        }
        return web.Response(body=body, content_type=JSON, headers=headers)


def parse_body(body: bytes) -> Row:
    """A JSON object, or 10001."""
    if not body:
        return {}
    try:
        parsed = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(10001, "params error: body is not JSON") from error
    if not isinstance(parsed, dict):
        raise Refused(10001, "params error: body is not an object")
    return parsed


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
        return self.carrier.venue

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

    async def stop(self) -> None:
        """Close all sockets and free the port."""
        self._beat.cancel()
        await asyncio.wait({self._beat})
        await self.carrier.hub.close()
        await self._runner.cleanup()


async def serve(
    scenario: str | Scenario, *, port: int = PORT, speed: float = 1.0, wait: bool = False,
    seed: int = 1, host: str = "127.0.0.1", limits_factor: int = 1, allow_remote: bool = False,
) -> RunningServer:  # fmt: skip
    """Serve a scenario; port 0 picks a free one.

    Raises OSError when the port is taken, ValueError for an unknown scenario or a foreign host.
    """
    if not allow_remote and not is_loopback(host):
        raise ValueError(f"the simulator binds loopback addresses only, not {host!r}")
    script = named(scenario) if isinstance(scenario, str) else scenario
    venue = Venue(
        script, now_ms=wall_ms(), seed=seed, speed=speed, wait=wait, limits_factor=limits_factor
    )
    limits = RateLimits(factor=limits_factor)
    carrier = Carrier(venue, Hub(venue.streams), limits, local_only=not allow_remote)
    runner = web.ServerRunner(web.Server(carrier.handle, access_log=None), shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, host, port)
    try:
        await site.start()
    except OSError:
        await runner.cleanup()
        raise
    bound = int(runner.addresses[0][1])
    log.info("simulator.started", scenario=script.name, port=bound, speed=speed, wait=wait)
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
) -> None:  # fmt: skip
    """Serve until SIGTERM or SIGINT (blocking)."""

    async def until_stopped() -> None:
        server = await serve(
            scenario, port=port, speed=speed, wait=wait, seed=seed, host=host,
            limits_factor=limits_factor, allow_remote=allow_remote,
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

    uvloop.run(until_stopped())
