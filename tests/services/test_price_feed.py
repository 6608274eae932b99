"""Prices by REST while their sockets are silent: when it starts, how fast it asks, when it stops."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
import structlog

from hedgelock.domain.funding import FundingRate
from hedgelock.domain.market import MarketTick
from hedgelock.domain.message import Message
from hedgelock.errors import VenueBusy, VenueError
from hedgelock.exchanges.bybit import CAPABILITIES
from hedgelock.rehearsal.loop import VirtualClock, VirtualLoop
from hedgelock.services.price_feed import PriceFeed, PricePolicy

EPOCH_MS = 1_767_225_600_000
PERP, SPOT = "linear:BTCUSDT", "spot:BTCUSDT"


async def passed(seconds: float) -> None:
    """Until so much virtual time has passed."""
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, over.set)
    await over.wait()


class Market:
    """A venue whose sockets say what the test puts in, and whose REST answers with a price."""

    account = "main"
    capabilities = CAPABILITIES["sim"]

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        self.pushes: asyncio.Queue[Any] = asyncio.Queue()
        self.asked_s: dict[str, list[float]] = {PERP: [], SPOT: []}
        self.error: VenueError | None = None
        self.answers_after_s = 0.005

    async def market_stream(self, _instruments: Sequence[str]) -> AsyncIterator[object]:
        """What the test put in."""
        while True:
            yield await self.pushes.get()

    async def read_prices(
        self, instrument: str, *, ts_seen_ms: int
    ) -> tuple[MarketTick, FundingRate | None]:
        """A price, or the error that was put in."""
        self.asked_s[instrument].append(self.clock.monotonic_ms() / 1e3)
        await passed(self.answers_after_s)
        if self.error is not None:
            raise self.error
        rate = None if instrument == SPOT else FundingRate(
            instrument=instrument, funding_rate=Decimal("0.0001"), funding_interval_h=Decimal(8),
            funding_next_ts_ms=EPOCH_MS + 1, ts_event_ms=ts_seen_ms, ts_seen_ms=ts_seen_ms,
        )
        return self.tick(instrument, ts_seen_ms), rate

    def tick(self, instrument: str, seen_ms: int) -> MarketTick:
        """A tick seen at an instant."""
        return MarketTick(instrument=instrument, mark_price=Decimal(1), index_price=Decimal(1),
                          ts_event_ms=seen_ms, ts_seen_ms=seen_ms)

    def push(self, *instruments: str) -> None:
        """The sockets say a price now."""
        for name in instruments:
            self.pushes.put_nowait(self.tick(name, self.clock.now_ms()))


class Run:
    """A feed at work in virtual time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.clock = VirtualClock(loop, EPOCH_MS)
        self.market = Market(self.clock)
        self.published: list[tuple[float, str, Message]] = []
        self.failures: list[str] = []
        self.feed = PriceFeed(
            self.market, self.clock,  # type: ignore[arg-type]
            instruments=(PERP, SPOT), policy=PricePolicy(), publish=self._publish,
            failed=self._failed, is_behind=lambda: False, seed="one",
        )
        self.tasks = [loop.create_task(self.feed.stream()), loop.create_task(self.feed.watch())]

    def _publish(self, topic: str, rows: Sequence[tuple[str, Message]]) -> None:
        self.published += [(self.loop.time(), topic, message) for _, message in rows]

    def _failed(self, part: str, error: Exception, _failures: int) -> float:
        self.failures.append(f"{part}: {error}")
        return 0.0

    def ticks(self, instrument: str) -> list[tuple[float, MarketTick]]:
        """(published at s, tick) of an instrument."""
        return [(at_s, m) for at_s, _, m in self.published
                if isinstance(m, MarketTick) and m.instrument == instrument]

    def until(self, second: float, act: Callable[[], None] = lambda: None) -> None:
        """Let `act` happen now, then time pass."""
        act()
        self.loop.run_until_complete(passed(second - self.loop.time()))

    def push_until(self, second: float, *names: str) -> None:
        """The sockets of these instruments tick every 100 ms."""
        while self.loop.time() + 0.1 <= second:
            self.until(self.loop.time() + 0.1, lambda: self.market.push(*names))


@pytest.fixture
def run() -> Iterator[Run]:
    """A feed on a loop of its own."""
    loop = VirtualLoop()
    made = Run(loop)
    yield made
    for task in made.tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*made.tasks, return_exceptions=True))
    loop.close()


@contextmanager
def logged() -> Iterator[list[dict[str, Any]]]:
    """What is logged within."""
    with structlog.testing.capture_logs() as lines:
        yield lines


def test_a_socket_that_speaks_is_never_asked_beside(run: Run) -> None:
    """Ten seconds of ticks: not one request."""
    run.push_until(10.0, PERP, SPOT)
    assert run.market.asked_s == {PERP: [], SPOT: []}
    assert not run.feed.stats.is_polling


def test_prices_go_on_within_three_seconds_of_silence(run: Run) -> None:
    """Silent from second 5 to 65: a price at least every 1.3 s, dated by its request, funding too."""
    with logged() as lines:
        run.push_until(5.0, PERP, SPOT)
        run.until(65.0)
        assert run.feed.stats.is_polling
        run.push_until(66.0, PERP, SPOT)
        asked = len(run.market.asked_s[PERP])
        run.push_until(80.0, PERP, SPOT)
    for name in (PERP, SPOT):
        times = [at_s for at_s, _ in run.ticks(name)]
        gaps = [after - before for before, after in itertools.pairwise(times)]
        assert max(gaps) <= 3.1
        assert max(g for g, at_s in zip(gaps, times, strict=False) if at_s > 8.1) <= 1.3
    assert all(t.ts_seen_ms <= EPOCH_MS + at_s * 1e3 - 5 for at_s, t in run.ticks(PERP)
               if 8.0 < at_s < 65.0)
    assert [topic for _, topic, _ in run.published].count("funding_rates") >= 6
    assert len(run.market.asked_s[PERP]) == asked, "the socket speaks again: no more requests"
    assert not run.feed.stats.is_polling
    assert 45 <= asked <= 75
    waits = {round(b - a, 4) for a, b in zip(
        run.market.asked_s[PERP], run.market.asked_s[PERP][1:], strict=False)}
    assert len(waits) > 20, "jittered"
    said = [(line["event"], line["log_level"]) for line in lines]
    assert said == [("price_sockets_silent", "warning"), ("price_sockets_back", "warning")]


def test_only_the_silent_instrument_is_asked_for(run: Run) -> None:
    """The spot socket ticks on: only the perpetual is read."""
    run.push_until(20.0, SPOT)
    assert run.market.asked_s[SPOT] == []
    assert len(run.market.asked_s[PERP]) >= 12


def test_refusals_slow_the_pace_and_the_first_answer_restores_it(run: Run) -> None:
    """While REST refuses it is asked ever less often, down to one in four seconds."""
    run.market.error = VenueBusy("no room", code="paced")
    run.until(30.0)
    refused = run.market.asked_s[PERP]
    assert len(refused) <= 10
    assert max(b - a for a, b in itertools.pairwise(refused)) <= 4.9
    assert run.failures.count("prices: paced: no room") == 2 * len(refused)
    assert run.ticks(PERP) == []
    run.market.error = None
    run.until(45.0)
    assert len(run.ticks(PERP)) >= 8


def test_an_answer_that_comes_late_is_given_up(run: Run) -> None:
    """Two seconds without an answer and the next one is asked for: a price of then is old by now."""
    run.market.answers_after_s = 60.0
    run.until(6.0)
    assert run.ticks(PERP) == []
    assert "prices: timeout: no price within 2000 ms" in run.failures
    assert run.feed.stats.polls == 0


def test_a_socket_that_spoke_meanwhile_knows_better(run: Run) -> None:
    """An answer that was asked for before the socket spoke again is dropped."""
    run.market.answers_after_s = 1.0
    run.until(3.5)
    run.until(4.5, lambda: run.market.push(PERP))
    assert [tick.ts_seen_ms - EPOCH_MS for _, tick in run.ticks(PERP)] == [3_500]
    assert [tick.ts_seen_ms - EPOCH_MS for _, tick in run.ticks(SPOT)] == [3_000]
