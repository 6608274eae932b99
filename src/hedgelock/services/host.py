"""One process: any set of services, their threads, their HTTP, their hands; started and stopped.

Start: tables and policies are in the bus, sessions join, HTTP answers, the fold threads run, the
collector connects. Stop (SIGTERM): the collector ends, effects under way finish briefly, the fold
threads finish their round and leave their groups. Whatever is lost in between is asked for again.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast

import msgspec
import structlog
from fastapi import Request, Response
from fastapi.responses import JSONResponse

from hedgelock.bus import codec
from hedgelock.config import Settings
from hedgelock.domain.command import OperatorCommand
from hedgelock.domain.order import ForeignFill, OrderConfirmation
from hedgelock.domain.policy import HOUSE
from hedgelock.domain.treasury import TreasuryConfirmation
from hedgelock.errors import BadMessage, BusError, VenueError, VenueForbidden
from hedgelock.ports import Bus, Clock, Exchange, LocalBus, Outgoing
from hedgelock.services.collector import Collector, LedgerReader
from hedgelock.services.collector_source import CollectorSource
from hedgelock.services.observe import Telemetry
from hedgelock.services.pump import LoopPump, Pump, ThreadPump
from hedgelock.services.runner import Runner
from hedgelock.services.service import Service
from hedgelock.services.trade_executor import Hands
from hedgelock.telemetry.http import HttpServers, Listener

_log = structlog.get_logger("host")

OnLimits = Callable[[str, int, int, int], None]
"""(endpoint, limit, left, reset_ms) after an answer whose headers say so."""

CONNECT_RETRY_S = 1.0
CONNECT_RETRY_MAX_S = 30.0
STOP_TIMEOUT_S = 5.0
SETTLED_S = 2.0
"""After this what was loaded stays: the collector of garbage need not look at it again."""
COMMAND_BYTES_MAX = 4_096
COMMAND_FLUSH_S = 2.0


class Host:
    """Runs `names` of `services` (and the collector) on one bus until `stop`."""

    def __init__(
        self,
        settings: Settings,
        bus: Bus,
        *,
        names: Sequence[str],
        services: Mapping[str, Service[Any]],
        make_exchange: Callable[[str, OnLimits], Exchange],
        clock: Clock,
        local: LocalBus | None,
        is_process: bool = True,
    ) -> None:
        """`local`: the bus where it is one of this process; else every service gets a thread.

        `is_process` False inside a simulation: no pages, and the garbage is somebody else's.
        """
        self._local = local
        self._is_process = is_process
        self._settings = settings
        self._bus = bus
        self._names = names
        self._clock = clock
        self._make_exchange = make_exchange
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._interrupted = threading.Event()
        self._fatal: tuple[str, BaseException] | None = None
        self._publisher = bus.publisher("host")
        self._telemetry = {name: Telemetry(name, clock) for name in names}
        self._runners: dict[str, Runner[Any]] = {}
        for name in names:
            if name in services:
                self._runners[name] = self._make_runner(services[name])
        self._hands: Hands | None = None
        self._collectors: dict[str, Collector] = {}
        self._sources: dict[str, CollectorSource] = {}
        self._exchanges: list[Exchange] = []
        self._tasks: list[asyncio.Task[None]] = []

    # ------------------------------------------------------------ life

    def stop(self) -> None:
        """Begin an orderly stop; on the loop's thread."""
        self._stop.set()

    async def run(self) -> int:
        """Until stopped; 0, or 1 when something fatal ended it (it is in the log)."""
        http = HttpServers(self._pages()) if self._is_process else None
        if http is not None:
            await http.start()
        pumps = self._pumps()
        try:
            await self._start_hands()
            for pump in pumps:
                pump.start()
            self._start_collectors()
            if self._is_process:
                self._loop.call_later(SETTLED_S, _freeze_garbage)
            _log.info("started", services=list(self._names))
            await self._stop.wait()
        finally:
            _log.info("stopping", services=list(self._names))
            await self._end(pumps)
            if http is not None:
                await http.stop()
        if self._fatal is not None:
            name, error = self._fatal
            _log.critical("fatal", service=name, error=f"{type(error).__name__}: {error}")
            return 1
        return 0

    async def _end(self, pumps: list[Pump]) -> None:
        for collector in self._collectors.values():
            collector.stop()
        if self._hands is not None:
            await self._hands.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for exchange in self._exchanges:
            await exchange.close()
        for pump in pumps:
            pump.stop()
        for pump in pumps:
            if isinstance(pump, ThreadPump):
                await asyncio.to_thread(pump.join, STOP_TIMEOUT_S)
        for runner in self._runners.values():
            runner.session.close()
        self._publisher.close()

    def _on_fatal(self, name: str, error: BaseException) -> None:
        _log.error("service_died", service=name, error=str(error), exc_info=error)
        if isinstance(error, BusError):
            self._telemetry[name].bus_trouble(error)
        self._fatal = (name, error)
        self._loop.call_soon_threadsafe(self._stop.set)

    def _on_trouble(self, name: str, error: BusError | None) -> None:
        self._telemetry[name].bus_trouble(error)

    # ------------------------------------------------------------ folding

    def _make_runner(self, service: Service[Any]) -> Runner[Any]:
        session = self._bus.open(
            service=service.name, instance=self._settings.kafka.instance, inputs=service.inputs,
            tables=service.tables,
        )
        telemetry = self._telemetry[service.name]
        observed = telemetry.observed()
        if service.name == "trade-executor":
            observed.output = self._after_confirmation(observed.output)
            observed.forgotten = self._forget
        act = self._act if service.name == "trade-executor" else (lambda _effects: None)
        return Runner(service, session, clock=self._clock, act=act, observed=observed)

    def _act(self, effects: Sequence[Any]) -> None:
        assert self._hands is not None, "effects before the executor's hands"
        self._hands.act(effects)

    def _forget(self, accounts: list[str]) -> None:
        if self._hands is not None:
            self._hands.forget(accounts)

    def _after_confirmation(
        self, then: Callable[[str, codec.Envelope], None]
    ) -> Callable[[str, codec.Envelope], None]:
        """Embedded: a confirmation that money moved tells the collector to read at once."""

        def output(topic: str, envelope: codec.Envelope) -> None:
            then(topic, envelope)
            if topic == "trade_confirmations" and _tells_of_money(envelope.body):
                self._hint(envelope.body.account)

        return output

    def _hint(self, account: str) -> None:
        collector = self._collectors.get(account)
        if collector is not None:
            collector.hint()

    def _pumps(self) -> list[Pump]:
        runners = list(self._runners.values())
        if self._local is None:
            return [
                ThreadPump(runner, clock=self._clock, on_fatal=self._on_fatal,
                           on_trouble=self._on_trouble)
                for runner in runners
            ]
        pump = LoopPump(runners, clock=self._clock, on_fatal=self._on_fatal,
                        on_trouble=self._on_trouble, local=self._local)
        self._local.on_news(pump.wake)
        return [pump]

    # ------------------------------------------------------------ the world

    async def _start_hands(self) -> None:
        runner = self._runners.get("trade-executor")
        if runner is None:
            return
        names = self._settings.account_names()
        exchanges = {name: self._exchange(name, self._limits_of(name)) for name in names}
        telemetry = self._telemetry["trade-executor"]
        self._hands = Hands(exchanges, self._clock, runner, performed=telemetry.effect)
        for name, exchange in exchanges.items():
            exchange.on_bad = self._bad_of(name)
            self._spawn("trade-executor", self._connect(name, exchange))
            if exchange.capabilities.private_stream:
                self._spawn("trade-executor", self._listen(name, exchange))

    def _limits_of(self, account: str) -> OnLimits:
        def on_limits(endpoint: str, limit: int, left: int, reset_ms: int) -> None:
            if self._hands is not None:
                self._hands.on_limits(account, endpoint, limit, left, reset_ms)

        return on_limits

    def _bad_of(self, account: str) -> Callable[[str, str, bytes], None]:
        """The executor counts what it cannot read; the collector, who reads the same, keeps it."""
        telemetry = self._telemetry["trade-executor"]
        return lambda topic, reason, _raw: telemetry.bad_input(account, topic, reason)

    def _exchange(self, account: str, on_limits: OnLimits = lambda *_: None) -> Exchange:
        exchange = self._make_exchange(account, on_limits)
        self._exchanges.append(exchange)
        return exchange

    def _spawn(self, service: str, work: Coroutine[Any, Any, None]) -> None:
        """A task whose failure is a bug: what may fail is mended inside."""
        task = asyncio.create_task(work)

        def ended(done: asyncio.Task[None]) -> None:
            if not done.cancelled() and (error := done.exception()) is not None:
                self._on_fatal(service, error)

        task.add_done_callback(ended)
        self._tasks.append(task)

    async def _connect(self, account: str, exchange: Exchange) -> None:
        """Connect, again and again: an exchange that is down must not stop what folds."""
        telemetry, delay_s = self._telemetry["trade-executor"], CONNECT_RETRY_S
        while True:
            try:
                await exchange.connect()
            except VenueError as error:
                telemetry.trouble(f"{account} at the exchange", str(error))
                _log.error("exchange_unavailable", account=account, reason=str(error),
                           retry_s=delay_s)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, CONNECT_RETRY_MAX_S)
            else:
                telemetry.trouble(f"{account} at the exchange", "")
                _log.info("exchange_connected", account=account)
                for text in exchange.warnings:
                    _log.warning("key_warning", account=account, reason=text)
                return

    async def _listen(self, account: str, exchange: Exchange) -> None:
        """The private stream, again and again: a key that is refused must not stop what folds."""
        assert self._hands is not None, "a stream before the executor's hands"
        telemetry, delay_s = self._telemetry["trade-executor"], CONNECT_RETRY_S
        heard = self._clock.monotonic_ms

        def alive() -> None:
            telemetry.trouble(f"{account}'s private stream", "")

        while True:
            began_ms = heard()
            try:
                await self._hands.listen(exchange, alive)
            except VenueError as error:
                if heard() - began_ms > CONNECT_RETRY_MAX_S * 1e3:
                    delay_s = CONNECT_RETRY_S
                telemetry.trouble(f"{account}'s private stream", str(error))
                _log.error("stream_refused", account=account, reason=str(error), retry_s=delay_s)
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, CONNECT_RETRY_MAX_S)

    def _start_collectors(self) -> None:
        if "collector" not in self._names:
            return
        telemetry = self._telemetry["collector"]
        policy = self._settings.policy(HOUSE).hedge
        instruments: tuple[str, ...] = (policy.instrument, policy.spot_instrument)
        for account in self._settings.account_names():
            exchange = self._exchange(account)
            collector = Collector(
                exchange, self._publisher, self._clock, instruments=instruments,
                coins=(policy.coin, policy.quote), ledger=cast(LedgerReader, exchange),
                on_forbidden=self._on_forbidden,
            )
            instruments = ()  # one account's collector publishes the market for all
            self._collectors[account] = collector
            exchange.on_bad = collector.quarantine
            source = CollectorSource(collector, exchange, self._clock)
            self._sources[account] = source
            telemetry.watch(account, source)
            self._spawn("collector", collector.run())
        if "trade-executor" not in self._names:
            threading.Thread(target=self._follow_confirmations, daemon=True).start()

    def _on_forbidden(self, account: str, error: VenueForbidden) -> None:
        self._sources[account].forbidden = str(error)
        _log.critical("key_refused", account=account, reason=str(error))

    def _follow_confirmations(self) -> None:
        """On Kafka the collector hears of confirmations through the bus; its own thread."""
        while not self._stop.is_set():
            try:
                for record in self._bus.read("trade_confirmations", start=-1, follow=True):
                    if _tells_of_money(codec.decode(record.value).body):
                        self._loop.call_soon_threadsafe(self._hint, record.key)
            except (BusError, BadMessage) as error:
                _log.warning("hints_interrupted", error=str(error))
                self._interrupted.wait(CONNECT_RETRY_S)

    # ------------------------------------------------------------ pages

    def _pages(self) -> list[Listener]:
        host = self._settings.http.host
        pages: list[Listener] = []
        for name in self._names:
            ports = self._settings.http.ports(name)
            app = self._telemetry[name].app(self._runners.get(name))
            if name == "safety":
                app.post("/operator")(self._operator)
            variable = f"HTTP__{name.replace('-', '_').upper()}"
            pages += [
                Listener(app, host, ports.http, f"{variable}_PORT"),
                Listener(app, host, ports.metrics, f"{variable}_METRICS_PORT"),
            ]
        return pages

    async def _operator(self, request: Request) -> Response:
        """Put a signed command on the bus; safety checks signature, age and uniqueness."""
        status, answer = await self._take_command(request)
        metrics = self._telemetry["safety"].metrics
        metrics.http_requests_total.inc(path="/operator", status=status)
        if status >= HTTPStatus.BAD_REQUEST:
            metrics.bad_input_total.inc(source="operator")
            _log.warning("operator_refused", status=status, reason=answer["reason"])
        return JSONResponse(answer, status_code=status)

    async def _take_command(self, request: Request) -> tuple[int, dict[str, str]]:
        raw = b""
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > COMMAND_BYTES_MAX:
                reason = f"a command is shorter than {COMMAND_BYTES_MAX} bytes"
                return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"reason": reason}
        try:
            body = msgspec.json.decode(raw, type=OperatorCommand)
        except (msgspec.DecodeError, ValueError) as error:
            return HTTPStatus.UNPROCESSABLE_ENTITY, {"reason": f"not a command: {error}"}
        names = self._settings.account_names()
        if body.account not in (HOUSE, *names):
            reason = f"there is no account {body.account!r}; configured: {', '.join(names)}"
            return HTTPStatus.NOT_FOUND, {"reason": reason}
        ident = f"operator:{body.account}:{body.command_id}"
        value = codec.encode(body, id=ident, trace=codec.new_trace(ident), causes=(),
                             ts_ms=self._clock.now_ms())
        try:
            self._publisher.publish([Outgoing("operator_commands", body.account, value)])
            await asyncio.to_thread(self._publisher.flush, COMMAND_FLUSH_S)
        except BusError as error:
            return HTTPStatus.SERVICE_UNAVAILABLE, {"reason": f"not written: {error}"}
        return HTTPStatus.OK, {"id": ident}


def _freeze_garbage() -> None:
    gc.collect()
    gc.freeze()


def _tells_of_money(body: object) -> bool:
    """A confirmation after which wallet, position, FUND or loan may read otherwise."""
    match body:
        case OrderConfirmation():
            return body.is_terminal or bool(body.filled_qty)
        case ForeignFill():
            return True
        case TreasuryConfirmation():
            return body.is_terminal or bool(body.moved_amount or body.loan_amount)
    return False
