"""collector: what the exchange says, onto the bus, with the time it was asked for and seen.

Market ticks and funding as they come; wallet, positions, loan and FUND every few seconds, and *now*
whenever something happened that may have moved them. Every loop mends itself: failures are counted,
logged and retried with back-off; only a person can mend a refused key, which `on_forbidden` tells.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from hedgelock.bus.codec import encode, new_trace
from hedgelock.domain.account import LedgerLine, PositionChanged
from hedgelock.domain.effect import OrderReport, StreamReset
from hedgelock.domain.message import Message
from hedgelock.domain.registry import Quarantined
from hedgelock.errors import BusError, VenueError, VenueForbidden
from hedgelock.ports import Clock, Exchange, Outgoing, Publisher
from hedgelock.services import ban_watch, clock_watch
from hedgelock.services.price_feed import PriceFeed, PricePolicy, PriceStats

_log = structlog.get_logger("collector")

UNREADABLE_TOPICS_MAX = 100  # counted apart; names are the sender's choice
_MONEY_TOPICS = frozenset({"order", "execution", "position", "account_ledger"})
"""Payloads that tell of money; the others are asked for again anyway."""


@dataclass(frozen=True, slots=True)
class CollectorPolicy:
    """How often, at least and at most."""

    baseline_ms: int = 5_000
    """Wallet, positions, loan and FUND are read at least this often."""
    read_gap_ms: int = 250
    """…and at most this often: Bybit's loan and FUND reads allow 5 a second."""
    prices: PricePolicy = field(default_factory=PricePolicy)
    ledger_ms: int = 30_000
    ledger_overlap_ms: int = 600_000
    """The log is read again this far back: lines may appear late."""
    ledger_first_ms: int = 86_400_000
    reference_ms: int = 3_600_000
    clock_ms: int = 3_600_000
    retry_first_ms: int = 500
    retry_max_ms: int = 5_000
    forbidden_retry_ms: int = 60_000
    flush_s: float = 5.0
    quarantined_per_minute: int = 30
    """Beyond this, unreadable payloads are only counted: a flood must not fill the log."""


@dataclass(slots=True)
class CollectorStats:
    """What happened so far; read by metrics and by readiness."""

    published: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    resets: int = 0
    unreadable: dict[str, int] = field(default_factory=dict)
    hints: int = 0
    reads: int = 0
    clock_offset_ms: int = 0
    connected: bool = False
    prices: PriceStats = field(default_factory=PriceStats)
    read_seen_ms: dict[str, int] = field(default_factory=dict)
    """Our clock at the newest successful read per kind."""


class LedgerReader(Protocol):
    """A venue that keeps a transaction log."""

    async def read_ledger(self, since_ts_ms: int) -> list[LedgerLine]:
        """Lines since an instant, oldest first."""


def _ignore(_account: str, _error: VenueForbidden) -> None:
    """Default of `on_forbidden`: the log and the counters tell."""


class Collector:
    """One account's eyes. Create and run it on one asyncio loop."""

    def __init__(
        self, exchange: Exchange, publisher: Publisher, clock: Clock, *,
        instruments: Sequence[str], coins: Sequence[str], boot: str = "",
        policy: CollectorPolicy | None = None, ledger: LedgerReader | None = None,
        connect: bool = True, is_behind: Callable[[], bool] = lambda: False,
        on_forbidden: Callable[[str, VenueForbidden], None] = _ignore,
    ) -> None:
        """`boot` tells this run's message ids from those of others; default: the start in ms.

        `instruments` () publishes no market: a second account on the same venue. `is_behind` says
        that the bus lags: ticks are then held, the newest per instrument, until it does not.
        """
        self.stats = CollectorStats()
        self._exchange = exchange
        self._publisher = publisher
        self._clock = clock
        self._instruments = tuple(instruments)
        self._coins = tuple(coins)
        self._boot = boot or str(clock.now_ms())
        self._policy = policy if policy is not None else CollectorPolicy()
        self._ledger = ledger
        self._connect = connect
        self._on_forbidden = on_forbidden
        self._count = 0
        self._lines: dict[tuple[str, ...], int] = {}
        self._ledger_since_ms: int | None = None
        self._quarantine_minute = (0, 0)
        self._ban = ban_watch.BanWatch(clock)
        self._prices = PriceFeed(
            exchange, clock, instruments=self._instruments, policy=self._policy.prices,
            publish=self._publish_all, failed=self._failed, is_behind=is_behind,
            seed=f"{exchange.account} {self._boot}",
        )
        self.stats.prices = self._prices.stats
        self._stopping = asyncio.Event()
        self._dirty = asyncio.Event()
        self._clock_due = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    # ------------------------------------------------------------ life

    @property
    def clock_offset_ms(self) -> int:
        """Venue clock minus ours, as last measured."""
        return self.stats.clock_offset_ms

    def hint(self) -> None:
        """Something happened to the account: read everything, asked for after this instant.

        Safe from any thread; any number of hints during one set of reads make one more set.
        """
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._hinted)

    def _hinted(self) -> None:
        self.stats.hints += 1
        self._dirty.set()

    def stop(self) -> None:
        """End `run` after flushing. Safe from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
        else:
            self._stopping.set()

    async def run(self) -> None:
        """Until `stop`. What was published is in the log when this returns (or BusError)."""
        self._loop = asyncio.get_running_loop()
        stopped = asyncio.create_task(self._stopping.wait())
        work = asyncio.create_task(self._work())
        try:
            await asyncio.wait({stopped, work}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            for task in (stopped, work):
                task.cancel()
            await asyncio.gather(stopped, work, return_exceptions=True)
            self._prices.publish_held()
            self._publisher.flush(self._policy.flush_s)

    async def _work(self) -> None:
        if self._connect:
            await self._mended("connect", self._exchange.connect)
        self.stats.connected = True
        loops: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("account", self._account_loop), ("clock", self._clock_loop),
        ]
        if self._exchange.capabilities.private_stream:
            loops.append(("private_stream", self._private_loop))
        if self._instruments:
            loops.append(("market_stream", self._prices.stream))
            if self._exchange.capabilities.rest_prices:
                loops.append(("prices", self._prices.watch))
            loops.append(("reference", self._reference_loop))
        if self._ledger is not None:
            loops.append(("account_ledger", self._ledger_loop))
        tasks = [asyncio.create_task(self._mended(name, loop)) for name, loop in loops]
        try:
            # A loop ends only by a bug: its exception ends the collector, loudly and as it is.
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _mended(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run `work` until it ends by itself, whatever the exchange or the bus does meanwhile."""
        failures = 0
        while True:
            began_ms = self._clock.monotonic_ms()
            try:
                await work()
                return
            except (VenueError, BusError) as error:
                if self._clock.monotonic_ms() - began_ms > self._policy.forbidden_retry_ms:
                    failures = 0
                delay_ms = self._failed(name, error, failures)
                failures += 1
            await asyncio.sleep(delay_ms / 1000)

    def _failed(self, name: str, error: Exception, failures: int) -> float:
        """Count, log and tell; returns how long to wait (ms)."""
        self.stats.failures[name] = self.stats.failures.get(name, 0) + 1
        policy = self._policy
        delay_ms = min(policy.retry_max_ms, policy.retry_first_ms * 2 ** min(failures, 10))
        if isinstance(error, VenueForbidden):
            delay_ms = policy.forbidden_retry_ms
            self._on_forbidden(self._exchange.account, error)
        self._ban.heard(self._exchange.account, error)
        if isinstance(error, VenueError) and error.code in ("10002", "-1"):
            self._clock_due.set()
        _log.warning(
            "read_failed", account=self._exchange.account, part=name, error=str(error),
            kind=type(error).__name__, retry_ms=delay_ms,
        )
        return float(delay_ms)

    # ------------------------------------------------------------ publishing

    def _outgoing(self, topic: str, key: str, message: Message) -> Outgoing:
        self._count += 1
        name = f"collector:{self._exchange.account}:{self._boot}:{self._count}"
        value = encode(message, id=name, trace=new_trace(name), causes=(),
                       ts_ms=self._clock.now_ms())
        self.stats.published[topic] = self.stats.published.get(topic, 0) + 1
        return Outgoing(topic, key, value)

    def _publish(self, topic: str, key: str, message: Message) -> None:
        self._publish_all(topic, [(key, message)])

    def _publish_all(self, topic: str, rows: Sequence[tuple[str, Message]]) -> None:
        self._publisher.publish([self._outgoing(topic, key, message) for key, message in rows])

    def quarantine(self, topic: str, reason: str, raw: bytes) -> None:
        """Keep what the venue sent and we could not read; the adapter's `on_bad`.

        What may have moved money is read by REST at once. Call on the collector's loop.
        """
        counts = self.stats.unreadable
        name = topic if topic in counts or len(counts) < UNREADABLE_TOPICS_MAX else "others"
        counts[name] = counts.get(name, 0) + 1
        now_ms = self._clock.now_ms()
        moves_money = topic in _MONEY_TOPICS
        if moves_money:
            self._dirty.set()
        if now_ms // 60_000 != self._quarantine_minute[0]:
            self._quarantine_minute = (now_ms // 60_000, 0)
        minute, count = self._quarantine_minute
        _log.warning("unreadable", account=self._exchange.account, topic=topic, reason=reason)
        if count >= self._policy.quarantined_per_minute:
            return
        self._quarantine_minute = (minute, count + 1)
        account = self._exchange.account
        message = Quarantined(
            topic=f"venue:{topic}", partition=-1, offset=-1, key=account, service="collector",
            reason=reason, moves_money=moves_money, value=raw.decode("utf-8", "replace"),
            ts_seen_ms=now_ms,
        )
        self._publish("quarantine", account, message)

    # ------------------------------------------------------------ reference

    async def _reference_loop(self) -> None:
        while True:
            for instrument in await self._exchange.read_instruments(self._instruments):
                self._publish("instruments", instrument.instrument, instrument)
            for terms in await self._exchange.read_collateral_terms(self._coins):
                self._publish("instruments", f"coin:{terms.coin}", terms)
            await asyncio.sleep(self._policy.reference_ms / 1000)

    # ------------------------------------------------------------ account

    async def _private_loop(self) -> None:
        """Publish position pushes; whatever else moved money is read by REST, now."""
        async for event in self._exchange.private_stream():
            match event:
                case OrderReport():
                    continue
                case StreamReset():
                    self.stats.resets += 1
                case PositionChanged():
                    self._publish("account_raw", self._exchange.account, event)
            self._dirty.set()

    async def _account_loop(self) -> None:
        """One set of reads at a time: at the baseline, or sooner when something happened."""
        wait_ms, failures = 0.0, 0
        while True:
            await self._until_due(wait_ms)
            # Cleared before the first request leaves: a hint from here on asks for one more set.
            self._dirty.clear()
            began_ms = self._clock.monotonic_ms()
            failed = await self._read_all()
            failures = failures + 1 if failed else 0
            wait_ms = float(self._policy.baseline_ms)
            if failed:
                retry_ms = self._policy.retry_first_ms * 2 ** min(failures - 1, 10)
                wait_ms = float(min(retry_ms, self._policy.retry_max_ms))
            spent_ms = self._clock.monotonic_ms() - began_ms
            gap_ms = self._policy.read_gap_ms - spent_ms
            if gap_ms > 0:
                await asyncio.sleep(gap_ms / 1000)
            wait_ms = max(0.0, wait_ms - max(spent_ms, self._policy.read_gap_ms))

    async def _until_due(self, wait_ms: float) -> None:
        try:
            async with asyncio.timeout(wait_ms / 1000):
                await self._dirty.wait()
        except TimeoutError:
            return

    async def _read_all(self) -> bool:
        """Wallet, positions, FUND and loan at the same time; True when one of them failed."""
        exchange = self._exchange
        reads: list[tuple[str, Callable[[], Awaitable[Message]]]] = [
            ("wallet", exchange.read_wallet), ("positions", exchange.read_positions),
        ]
        if exchange.capabilities.transfers:
            reads.append(("fund", exchange.read_fund))
        if exchange.capabilities.loans:
            reads.append(("loan", exchange.read_loan))
        self.stats.reads += 1
        results = await asyncio.gather(*(self._read_one(name, read) for name, read in reads))
        return not all(results)

    async def _read_one(self, name: str, read: Callable[[], Awaitable[Message]]) -> bool:
        try:
            fact = await read()
            self._publish("account_raw", self._exchange.account, fact)
        except (VenueError, BusError) as error:
            self._failed(name, error, 0)
            return False
        self.stats.read_seen_ms[name] = self._clock.now_ms()
        return True

    # ------------------------------------------------------------ ledger and clock

    async def _ledger_loop(self) -> None:
        while True:
            await self._read_ledger()
            await asyncio.sleep(self._policy.ledger_ms / 1000)

    async def _read_ledger(self) -> None:
        """Publish the lines not seen before, oldest first; the overlap catches those that are late."""
        assert self._ledger is not None
        venue_ms = self._clock.now_ms() + self.stats.clock_offset_ms
        since_ms = self._ledger_since_ms
        if since_ms is None:
            since_ms = venue_ms - self._policy.ledger_first_ms
        newest_ms = since_ms + self._policy.ledger_overlap_ms
        fresh = []
        for line in await self._ledger.read_ledger(since_ms):
            # Documented samples show one id on two lines: the id alone is no identity.
            key = (line.line_id, line.line_type, line.coin, line.trade_id)
            newest_ms = max(newest_ms, line.ts_event_ms)
            if key not in self._lines:
                self._lines[key] = line.ts_event_ms
                fresh.append(line)
        account = self._exchange.account
        self._publisher.publish([self._outgoing("account_ledger", account, x) for x in fresh])
        self._ledger_since_ms = max(since_ms, newest_ms - self._policy.ledger_overlap_ms)
        self._lines = {k: ms for k, ms in self._lines.items() if ms >= self._ledger_since_ms}

    async def _clock_loop(self) -> None:
        """Measure the clock at the start, every hour, and after a refused timestamp."""
        while True:
            self._clock_due.clear()
            self.stats.clock_offset_ms = await self._exchange.clock_offset_ms()
            wait_ms = clock_watch.next_ms(self.stats.clock_offset_ms, self._policy.clock_ms)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_ms / 1000):
                    await self._clock_due.wait()
