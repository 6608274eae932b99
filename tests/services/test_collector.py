"""The collector: what is published when, what is read when, and what never stops it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from hedgelock.bus.codec import Envelope, decode
from hedgelock.clock import SystemClock
from hedgelock.domain.account import (
    FundRead,
    LedgerLine,
    LoanRead,
    Position,
    PositionChanged,
    PositionsRead,
    WalletRead,
)
from hedgelock.domain.effect import Effect, OrderReport, StreamReset, VenueEvent
from hedgelock.domain.funding import FundingRate
from hedgelock.domain.instrument import CollateralTerms, Instrument
from hedgelock.domain.market import MarketTick
from hedgelock.domain.order import OrderStatus, OrderType, Side
from hedgelock.domain.registry import Quarantined
from hedgelock.errors import OutcomeUnknown, VenueBusy, VenueError, VenueForbidden
from hedgelock.exchanges.bybit import CAPABILITIES, BybitExchange, simulator_addresses
from hedgelock.exchanges.ccxt_venue import Credentials
from hedgelock.ports import Capabilities, Outgoing
from hedgelock.services import clock_watch
from hedgelock.services.collector import UNREADABLE_TOPICS_MAX, Collector, CollectorPolicy
from hedgelock.services.collector_source import CollectorSource
from hedgelock.simulator.server import serve
from hedgelock.telemetry.metrics import Metrics

CLOCK = SystemClock()
QUICK = CollectorPolicy(
    baseline_ms=60_000, read_gap_ms=5, retry_first_ms=5, retry_max_ms=10, forbidden_retry_ms=5,
    ledger_ms=10, clock_ms=60_000,
)
READS = ("wallet", "positions", "fund", "loan")


class Memory:
    """A publisher that keeps what it is given, decoded, and tells who waits for it."""

    def __init__(self) -> None:
        self.messages: list[tuple[Outgoing, Envelope]] = []
        self.flushed = 0
        self._grew = asyncio.Event()

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Append; a message that does not belong on its topic raises here."""
        self.messages += [(m, decode(m.value, m.topic)) for m in messages]
        self._grew.set()

    def flush(self, timeout_s: float) -> None:
        """Count."""
        self.flushed += 1

    def close(self) -> None:
        """Nothing to release."""

    def bodies(self, kind: type) -> list[Any]:
        """Messages of one kind so far."""
        return [envelope.body for _, envelope in self.messages if isinstance(envelope.body, kind)]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something published makes `condition` true."""
        async with asyncio.timeout(5):
            while not condition():
                self._grew.clear()
                await self._grew.wait()


class Venue:
    """An exchange in memory: streams are queues, reads can be held or made to fail."""

    account = "main"

    def __init__(self, capabilities: Capabilities = CAPABILITIES["sim"]) -> None:
        self.capabilities = capabilities
        self.market: asyncio.Queue[Any] = asyncio.Queue()
        self.private: asyncio.Queue[Any] = asyncio.Queue()
        self.asked: list[tuple[str, int]] = []
        self.errors: dict[str, list[VenueError]] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.lines: list[LedgerLine] = []
        self.ledger_since: list[int] = []
        self.clock_reads = 0
        self.offset_ms = 7
        self.warnings: tuple[str, ...] = ()

    async def _read(self, name: str) -> dict[str, Any]:
        self.asked.append((name, CLOCK.now_ms()))
        self.entered.set()
        requested_ms = CLOCK.now_ms()
        await self.gate.wait()
        if self.errors.get(name):
            raise self.errors[name].pop(0)
        return {"account": "main", "ts_requested_ms": requested_ms, "ts_event_ms": requested_ms,
                "ts_seen_ms": CLOCK.now_ms()}

    async def connect(self) -> None:
        """Fail as told."""
        if self.errors.get("connect"):
            raise self.errors["connect"].pop(0)

    async def close(self) -> None:
        """Nothing to close."""

    async def clock_offset_ms(self) -> int:
        """A venue 7 ms ahead, unless a test says otherwise."""
        self.clock_reads += 1
        return self.offset_ms

    async def read_wallet(self) -> WalletRead:
        """An empty wallet."""
        return WalletRead(coins=(), withdrawable=(), margin_balance=None, maintenance_margin=None,
                          margin_ratio=None, **await self._read("wallet"))

    async def read_positions(self) -> PositionsRead:
        """Flat."""
        return PositionsRead(positions=(), **await self._read("positions"))

    async def read_fund(self) -> FundRead:
        """Empty."""
        return FundRead(balances=(), **await self._read("fund"))

    async def read_loan(self) -> LoanRead:
        """No debt."""
        return LoanRead(debts=(), collateral=(), ltv=None, collateral_state=0,
                        **await self._read("loan"))

    async def read_instruments(self, instruments: Sequence[str]) -> list[Instrument]:
        """None."""
        return []

    async def read_collateral_terms(self, coins: Sequence[str]) -> list[CollateralTerms]:
        """Nothing counts."""
        return [
            CollateralTerms(coin=coin, loan_tiers=(), margin_tiers=(), ts_seen_ms=1)
            for coin in coins
        ]

    async def read_ledger(self, since_ts_ms: int) -> list[LedgerLine]:
        """Every line since."""
        self.ledger_since.append(since_ts_ms)
        return [line for line in self.lines if line.ts_event_ms >= since_ts_ms]

    async def read_prices(
        self, instrument: str, *, ts_seen_ms: int
    ) -> tuple[MarketTick, FundingRate | None]:
        """Nobody asks: no socket is silent for so long here."""
        raise NotImplementedError

    async def market_stream(self, instruments: Sequence[str]) -> AsyncIterator[object]:
        """What the test put in; an error put in is raised."""
        while True:
            yield _raised(await self.market.get())

    async def private_stream(self) -> AsyncIterator[object]:
        """What the test put in; an error put in is raised."""
        while True:
            yield _raised(await self.private.get())

    async def perform(self, effect: Effect) -> VenueEvent:
        """Not for the collector."""
        raise NotImplementedError

    def count(self, name: str) -> int:
        """How often a read was asked for."""
        return sum(1 for asked, _ in self.asked if asked == name)


def _raised(item: Any) -> Any:
    if isinstance(item, Exception):
        raise item
    return item


@asynccontextmanager
async def running(venue: Any, memory: Memory, **kwargs: Any) -> AsyncIterator[Collector]:
    """A collector at work, stopped and flushed at the end."""
    kwargs.setdefault("policy", QUICK)
    kwargs.setdefault("instruments", ["linear:BTCUSDT"])
    collector = Collector(venue, memory, CLOCK, coins=["BTC"], **kwargs)
    task = asyncio.create_task(collector.run())
    try:
        yield collector
    finally:
        collector.stop()
        async with asyncio.timeout(5):
            await task
    assert memory.flushed == 1


def tick(mark: int) -> MarketTick:
    """A tick of BTCUSDT."""
    return MarketTick(instrument="linear:BTCUSDT", mark_price=Decimal(mark),
                      index_price=Decimal(mark), ts_event_ms=1, ts_seen_ms=CLOCK.now_ms())


def rate(value: str, seen_ms: int, **change: Any) -> FundingRate:
    """A funding rate of BTCUSDT."""
    made = FundingRate(
        instrument="linear:BTCUSDT", funding_rate=Decimal(value), funding_interval_h=Decimal(8),
        funding_next_ts_ms=1, ts_event_ms=1, ts_seen_ms=seen_ms,
    )
    return msgspec.structs.replace(made, **change)


def line(number: str, ts_ms: int, *, trade: str = "") -> LedgerLine:
    """A ledger line."""
    zero = Decimal(0)
    return LedgerLine(
        account="main", line_id=number, line_type="TRADE", coin="USDT", instrument="", side="",
        qty=zero, price=None, cash_flow=zero, funding=zero, fee=zero, change=zero, balance=zero,
        client_order_id="", trade_id=trade, ts_event_ms=ts_ms, ts_seen_ms=ts_ms,
    )


def full_sets(memory: Memory) -> int:
    """How many whole sets of the four reads were published."""
    kinds = (WalletRead, PositionsRead, FundRead, LoanRead)
    return min(len(memory.bodies(kind)) for kind in kinds)


# ---------------------------------------------------------------- reading


async def test_everything_is_read_at_the_start() -> None:
    """Four facts, keyed by account, with ids that never repeat and no causes."""
    venue, memory = Venue(), Memory()
    async with running(venue, memory, boot="b1"):
        await memory.until(lambda: full_sets(memory) == 1)
    ids = [envelope.id for _, envelope in memory.messages]
    assert len(set(ids)) == len(ids)
    assert all(name.startswith("collector:main:b1:") for name in ids)
    assert all(m.key == "main" for m, _ in memory.messages if m.topic == "account_raw")
    assert all(envelope.causes == () for _, envelope in memory.messages)


async def test_hints_during_a_set_make_exactly_one_more() -> None:
    """A hundred hints while reads are under way are one more set, asked for after the last hint."""
    venue, memory = Venue(), Memory()
    venue.gate.clear()
    async with running(venue, memory) as collector:
        async with asyncio.timeout(5):
            await venue.entered.wait()
        for _ in range(100):
            collector.hint()
        hinted_ms = CLOCK.now_ms()
        venue.gate.set()
        await memory.until(lambda: full_sets(memory) == 2)
        assert collector.stats.reads == 2
        late = [at_ms for _, at_ms in venue.asked[4:]]
        assert len(late) == 4
        assert min(late) >= hinted_ms


@pytest.mark.parametrize("kind", ["reset", "position", "unknown"])
async def test_what_may_have_moved_money_reads_now(kind: str) -> None:
    """A reset, a position or any other push but an order row starts a set of reads."""
    venue, memory = Venue(), Memory()
    position = Position(
        instrument="linear:BTCUSDT", position_qty=Decimal(-1), entry_price=Decimal(1),
        upl=Decimal(0), liquidation_price=None, leverage=None, status="Normal", adl_rank=0, seq=1,
    )
    events: dict[str, Any] = {
        "reset": StreamReset(account="main", ts_seen_ms=1),
        "position": PositionChanged(
            account="main", position=position, ts_event_ms=1, ts_seen_ms=1
        ),
        "unknown": object(),
    }
    async with running(venue, memory) as collector:
        await memory.until(lambda: full_sets(memory) == 1)
        venue.private.put_nowait(events[kind])
        await memory.until(lambda: full_sets(memory) == 2)
        assert len(memory.bodies(PositionChanged)) == (kind == "position")
        assert collector.stats.resets == (kind == "reset")


async def test_an_order_row_alone_reads_nothing() -> None:
    """A resting order moves no money; what it does when filled comes as an execution."""
    venue, memory = Venue(), Memory()
    order = OrderReport(
        account="main", client_order_id="x", venue_order_id="v", instrument="linear:BTCUSDT",
        side=Side.BUY, order_type=OrderType.LIMIT, qty=Decimal(1), filled_qty=Decimal(0),
        reduce_only=False, status=OrderStatus.NEW, text="", created_ts_ms=1, ts_event_ms=1,
        ts_seen_ms=1,
    )
    async with running(venue, memory) as collector:
        await memory.until(lambda: full_sets(memory) == 1)
        venue.private.put_nowait(order)
        venue.market.put_nowait(tick(1))
        await memory.until(lambda: len(memory.bodies(MarketTick)) == 1)
        assert venue.private.empty()
        assert collector.stats.reads == 1


async def test_one_failing_read_does_not_hide_the_others() -> None:
    """The three that worked are published, the fourth is counted and asked again soon."""
    venue, memory = Venue(), Memory()
    venue.errors["loan"] = [OutcomeUnknown("gone", code="timeout"), VenueBusy("slow", code="10006")]
    async with running(venue, memory) as collector:
        await memory.until(lambda: full_sets(memory) == 1)
        assert len(memory.bodies(WalletRead)) == 3
        assert collector.stats.failures == {"loan": 2}


async def test_a_mode_without_loans_reads_none() -> None:
    """Capabilities decide what is asked: no loan, no transfers, no private stream."""
    venue, memory = Venue(Capabilities(False, False, True, False, False)), Memory()
    async with running(venue, memory):
        await memory.until(lambda: len(memory.bodies(PositionsRead)) == 1)
    assert {name for name, _ in venue.asked} == {"wallet", "positions"}


# ---------------------------------------------------------------- mending


async def test_a_refused_key_is_told_and_tried_again() -> None:
    """VenueForbidden reaches the callback with its words; the collector stays alive."""
    venue, memory = Venue(), Memory()
    told: list[tuple[str, str]] = []
    venue.errors["connect"] = [VenueForbidden("key expired", code="33004")]
    async with running(
        venue, memory, on_forbidden=lambda account, error: told.append((account, error.code))
    ):
        await memory.until(lambda: full_sets(memory) == 1)
    assert told == [("main", "33004")]


async def test_a_broken_stream_is_opened_again() -> None:
    """A stream that ends in an error is counted and started anew."""
    venue, memory = Venue(), Memory()
    async with running(venue, memory) as collector:
        venue.market.put_nowait(OutcomeUnknown("gone"))
        venue.market.put_nowait(tick(2))
        await memory.until(lambda: len(memory.bodies(MarketTick)) == 1)
        assert collector.stats.failures["market_stream"] == 1


async def test_a_refused_timestamp_measures_the_clock() -> None:
    """After 10002 the offset is measured at once, not in an hour."""
    venue, memory = Venue(), Memory()
    async with running(venue, memory) as collector:
        await memory.until(lambda: full_sets(memory) == 1)
        assert collector.clock_offset_ms == 7
        venue.errors["wallet"] = [VenueBusy("stamp", code="10002")]
        collector.hint()
        await memory.until(lambda: len(memory.bodies(LoanRead)) >= 3)
        assert venue.clock_reads == 2


async def test_a_clock_too_far_off_alarms_and_is_measured_again_soon() -> None:
    """Beyond 500 ms either way: the metric says so and the next measurement is a minute away."""
    venue, memory = Venue(), Memory()
    venue.offset_ms = -501
    async with running(venue, memory) as collector:
        await memory.until(lambda: full_sets(memory) == 1)
        metrics = Metrics("collector")
        CollectorSource(collector, venue, CLOCK).show(metrics)
        assert b"clock_is_off 1.0" in metrics.exposition()
    assert [clock_watch.next_ms(ms, 3_600_000) for ms in (-501, -500, 0, 500, 501)] == [
        60_000, 3_600_000, 3_600_000, 3_600_000, 60_000]


async def test_a_bug_stops_the_collector_loudly() -> None:
    """What is no venue's or bus's failure is not retried in silence: `run` raises it."""
    venue, memory = Venue(), Memory()
    venue.market.put_nowait(ZeroDivisionError())
    collector = Collector(
        venue, memory, CLOCK, coins=[], instruments=["linear:BTCUSDT"], policy=QUICK
    )
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(collector.run(), 5)
    assert memory.flushed == 1


# ---------------------------------------------------------------- publishing


async def test_ticks_are_conflated_only_while_the_bus_lags() -> None:
    """Behind: the newest is held; not behind: it goes out; on stop what is held goes out too."""
    venue, memory = Venue(), Memory()
    behind = [True]
    async with running(venue, memory, is_behind=lambda: behind[0]) as collector:
        for mark in (1, 2, 3):
            venue.market.put_nowait(tick(mark))
        venue.market.put_nowait(rate("0.1", 1))
        await memory.until(lambda: len(memory.bodies(FundingRate)) == 1)
        assert memory.bodies(MarketTick) == []
        behind[0] = False
        venue.market.put_nowait(tick(4))
        await memory.until(lambda: len(memory.bodies(MarketTick)) == 1)
        assert collector.stats.prices.conflated == 3
        behind[0] = True
        venue.market.put_nowait(tick(5))
        venue.market.put_nowait(rate("0.2", 1))
        await memory.until(lambda: len(memory.bodies(FundingRate)) == 2)
    assert [t.mark_price for t in memory.bodies(MarketTick)] == [4, 5]


async def test_funding_is_published_on_change_and_every_ten_seconds() -> None:
    """Same terms within ten seconds are not repeated; rate, interval and schedule count as terms."""
    venue, memory = Venue(), Memory()
    sent = [
        rate("0.1", 0), rate("0.1", 9_999), rate("0.1", 10_000), rate("0.2", 10_001),
        rate("0.2", 10_002, funding_interval_h=Decimal(1)),
        rate("0.2", 10_003, funding_interval_h=Decimal(1), funding_next_ts_ms=2),
    ]
    async with running(venue, memory):
        for item in sent:
            venue.market.put_nowait(item)
        await memory.until(lambda: len(memory.bodies(FundingRate)) == 5)
    assert [r.ts_seen_ms for r in memory.bodies(FundingRate)] == [0, 10_000, 10_001, 10_002, 10_003]


async def test_reference_data_has_its_own_keys() -> None:
    """Collateral terms are keyed by coin, apart from instruments."""
    venue, memory = Venue(), Memory()
    async with running(venue, memory):
        await memory.until(lambda: len(memory.bodies(CollateralTerms)) == 1)
    assert [m.key for m, e in memory.messages if m.topic == "instruments"] == ["coin:BTC"]


async def test_ledger_lines_come_once_however_often_they_are_read() -> None:
    """The log is read again over an overlap; a line is published once; one id may hold two trades."""
    venue, memory = Venue(), Memory()
    now_ms = CLOCK.now_ms()
    venue.lines = [line("a", now_ms - 1_000, trade="1"), line("a", now_ms - 999, trade="2")]
    async with running(venue, memory, ledger=venue):
        await memory.until(lambda: len(memory.bodies(LedgerLine)) == 2)
        venue.lines.append(line("late", now_ms - 2_000))
        await memory.until(lambda: len(memory.bodies(LedgerLine)) == 3)
        rounds = len(venue.ledger_since)
        venue.lines.append(line("b", now_ms))
        await memory.until(lambda: len(memory.bodies(LedgerLine)) == 4)
        assert len(venue.ledger_since) > rounds
    assert [x.line_id for x in memory.bodies(LedgerLine)] == ["a", "a", "late", "b"]


async def test_unreadable_payloads_are_kept_counted_and_bounded() -> None:
    """What could not be read goes to quarantine whole; if it tells of money, everything is read now."""
    venue, memory = Venue(), Memory()
    policy = dataclasses.replace(QUICK, quarantined_per_minute=2)
    async with running(venue, memory, policy=policy) as collector:
        await memory.until(lambda: full_sets(memory) == 1)
        collector.quarantine("tickers.BTCUSDT", "no price", b"{}")
        for _ in range(3):
            collector.quarantine("execution", "execFee: empty", b'{"a":"\xff"}')
        await memory.until(lambda: full_sets(memory) == 2)
        assert collector.stats.unreadable == {"tickers.BTCUSDT": 1, "execution": 3}
        for number in range(2 * UNREADABLE_TOPICS_MAX):
            collector.quarantine(f"junk{number}", "no topic of ours", b"{}")
        counts = collector.stats.unreadable
        assert len(counts) == UNREADABLE_TOPICS_MAX + 1
        assert sum(counts.values()) == 4 + 2 * UNREADABLE_TOPICS_MAX
    kept = memory.bodies(Quarantined)
    assert 2 <= len(kept) <= 4  # a minute may turn in between
    assert [k.moves_money for k in kept[:2]] == [False, True]


async def test_a_second_account_publishes_no_market() -> None:
    """Without instruments neither ticks nor terms are collected."""
    venue, memory = Venue(), Memory()
    async with running(venue, memory, instruments=[]):
        await memory.until(lambda: full_sets(memory) == 1)
    assert {m.topic for m, _ in memory.messages} == {"account_raw"}


async def test_collecting_from_the_simulator() -> None:
    """Against real sockets every topic of the collector gets messages its consumers can decode."""
    server, memory = await serve("demo", port=0, wait=True), Memory()
    exchange = BybitExchange(
        "main", Credentials("hedgelock-sim", "hedgelock-sim"),
        addresses=simulator_addresses(port=server.port), capabilities=CAPABILITIES["sim"],
        clock=CLOCK,
    )
    try:
        async with running(exchange, memory, ledger=exchange, policy=CollectorPolicy()):
            await memory.until(
                lambda: {m.topic for m, _ in memory.messages}
                >= {"market_data", "funding_rates", "instruments", "account_raw"}
                and full_sets(memory) >= 2  # the start, and the stream's reset
            )
    finally:
        await exchange.close()
        await server.stop()
    assert memory.bodies(LoanRead)[0].debts[0].qty == 36600
