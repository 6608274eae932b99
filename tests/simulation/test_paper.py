"""MODE=paper: the simulator's accounts and matching at a real market's prices, and silence without them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal

import aiohttp
import msgspec
import pytest

from hedgelock import paper
from hedgelock.domain.funding import FundingRate
from hedgelock.domain.market import MarketTick
from hedgelock.simulator.instruments import CONTRACTS
from hedgelock.simulator.live_feed import AGE_MAX_MS, Fed
from hedgelock.simulator.scenarios import SCENARIOS
from hedgelock.simulator.server import RunningServer, serve
from hedgelock.simulator.venue import Venue

LISTED = {k: c for k, c in CONTRACTS.items() if c.base in SCENARIOS["calm"].prices}
T0 = 1_700_002_740_000
"""A minute before a full hour: settlements lie on the grid of UTC hours."""
ME = "hedgelock-sim"
HOUR_MS = 3_600_000
SELL = {"category": "linear", "symbol": "BTCUSDT", "side": "Sell", "orderType": "Market", "qty": "0.1"}


def rows(price: str = "98765.4", *, rate: str = "0.0002", next_ms: int = T0 + HOUR_MS) -> list[Fed]:
    """A whole set of prices; every base at the same."""
    return [
        Fed(key=key, index=Decimal(price), mark=Decimal(price) + 1, last=Decimal(price),
            rate=None if c.is_spot else Decimal(rate), interval_h=1, next_ms=next_ms)
        for key, c in LISTED.items()
    ]


@pytest.fixture
def venue() -> Venue:
    """A live market that nobody has fed yet."""
    made = Venue(SCENARIOS["calm"], now_ms=T0, wait=True)
    made.exchange.market.is_live = True
    made.streams.subscribe("linear", "tickers.BTCUSDT")
    return made


def sell(venue: Venue, now_ms: int) -> int:
    """retCode of a market order."""
    return venue.request("POST", "/v5/order/create", SELL, account=ME, now_ms=now_ms).code


def pushed(venue: Venue) -> int:
    """How many ticker pushes came since the last look."""
    return sum(e.topic == "tickers.BTCUSDT" for e in venue.drain())


@pytest.mark.no_cover
def test_nothing_trades_before_the_first_whole_set(venue: Venue) -> None:
    """Without prices no order is taken and no ticker is pushed: a script's price must not pass for real."""
    venue.advance(T0 + 5_000)
    assert sell(venue, T0 + 5_000) == 10016
    venue.feed(rows()[:-1], T0 + 6_000)
    venue.advance(T0 + 7_000)
    assert sell(venue, T0 + 7_000) == 10016
    assert pushed(venue) == 0


def test_orders_fill_at_the_real_price(venue: Venue) -> None:
    """After a feed quotes, mark and the book stand where the real market does."""
    venue.feed(rows(), T0 + 1_000)
    venue.advance(T0 + 1_500)
    quote = venue.exchange.market.quotes["linear.BTCUSDT"]
    assert (quote.index, quote.mark, quote.last) == (
        Decimal("98765.4"), Decimal("98766.4"), Decimal("98765.4"))
    assert venue.exchange.market.index["BTC"] == Decimal("98765.4")
    assert sell(venue, T0 + 1_600) == 0
    position = venue.exchange.accounts[ME].positions["linear.BTCUSDT"]
    assert abs(position.average - Decimal("98765.4")) < 100
    assert pushed(venue) > 0


def test_old_prices_silence_the_exchange(venue: Venue) -> None:
    """One contract without news for too long: no pushes, no orders; with news both go on."""
    venue.feed(rows(), T0)
    venue.advance(T0 + 1_000)
    assert pushed(venue) > 0
    late = T0 + AGE_MAX_MS + 1_000
    venue.feed([row for row in rows() if row.key != "linear.BTCUSDT"], late)
    venue.advance(late + 500)
    venue.drain()
    venue.advance(late + 2_000)
    assert pushed(venue) == 0
    assert sell(venue, late + 2_000) == 10016
    venue.feed(rows("90000"), late + 3_000)
    venue.advance(late + 4_000)
    assert sell(venue, late + 4_000) == 0
    assert pushed(venue) > 0


def test_funding_settles_once_at_the_real_instant_and_rate(venue: Venue) -> None:
    """The fed rate is paid at the fed instant, once, though the feed names it a little longer."""
    soon = T0 + 60_000
    fed = rows(rate="0.001", next_ms=soon)
    venue.feed(fed, T0)
    venue.advance(T0 + 1_000)
    assert sell(venue, T0 + 1_000) == 0
    for at_ms in range(T0 + 2_000, soon + 20_000, 10_000):
        venue.feed(fed, at_ms)
        venue.advance(at_ms)
    paid = [at for at, rates in venue.exchange.market.settled if at > T0 and (rates.get("BTC") or rates.get("linear.BTCUSDT"))]
    assert paid == [soon]
    assert venue.exchange.market.next_settlement_ms(soon + 20_000) == soon + HOUR_MS
    venue.feed(rows(rate="0.0005", next_ms=T0 + 3 * HOUR_MS), soon + 21_000)
    assert venue.exchange.market.next_settlement_ms(soon + 21_000) == T0 + 3 * HOUR_MS


# ---------------------------------------------------------------- over real sockets


@pytest.fixture
async def servers() -> AsyncIterator[tuple[RunningServer, RunningServer]]:
    """(the real exchange, played by a second simulator; the paper exchange)."""
    real = await serve("crash", port=0, speed=20.0)
    live = await serve("calm", port=0, live=True)
    yield real, live
    await real.stop()
    await live.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for the exchange's own clock to bring it about."""
    gone = asyncio.Event()
    async with asyncio.timeout(20):
        while not condition():
            asyncio.get_running_loop().call_later(0.02, gone.set)
            await gone.wait()
            gone.clear()


async def test_the_paper_market_follows_the_real_one(
    servers: tuple[RunningServer, RunningServer],
) -> None:
    """Prices of one exchange's public stream arrive in the other's quotes, and move with them."""
    real, live = servers
    theirs, ours = (s.venue.exchange.market for s in servers)
    seen: set[Decimal] = set()
    run = asyncio.create_task(
        paper.run(f"ws://{real.host}:{real.port}/v5/public", live.url))

    def follows() -> bool:
        seen.add(ours.quotes["linear.BTCUSDT"].mark)
        return len(seen) > 5

    await until(lambda: ours.started_ms is not None)
    await until(follows)
    assert not ours.is_silent(live.carrier.clock())
    mark, real_mark = ours.quotes["linear.BTCUSDT"].mark, theirs.quotes["linear.BTCUSDT"].mark
    assert abs(mark / real_mark - 1) < Decimal("0.02")
    assert ours.next_settlement_ms(0) == theirs.next_settlement_ms(0)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)


async def test_the_feed_waits_for_its_simulator() -> None:
    """A push that is not taken is tried again with newer prices."""
    tick = MarketTick(instrument="spot:BTCUSDT", mark_price=Decimal(5), index_price=Decimal(5),
                      ts_event_ms=1, ts_seen_ms=1)
    pushes: list[list[Fed]] = []

    class Still:
        def now_ms(self) -> int:
            return 1

        def monotonic_ms(self) -> float:
            return 1.0

    async def events() -> AsyncIterator[object]:
        for number in range(3):
            yield msgspec.structs.replace(tick, index_price=Decimal(number + 1))
            await until(lambda number=number: len(pushes) > number)

    async def push(rows: list[Fed]) -> None:
        pushes.append(rows)
        if len(pushes) == 1:
            raise aiohttp.ClientError("starting")

    await paper.feed(events(), push, Still())
    assert [row[0].index for row in pushes][-1] == 3
    assert pushes[0][0].key == "spot.BTCUSDT"


def test_only_whole_and_fresh_quotations_are_fed() -> None:
    """A perpetual without its funding rate, or an old tick, is left out rather than guessed."""
    prices = paper.Prices()
    perpetual = MarketTick(instrument="linear:BTCUSDT", mark_price=Decimal(7), index_price=Decimal(6),
                           last_price=Decimal(8), ts_event_ms=T0, ts_seen_ms=T0)
    prices.take(perpetual)
    assert prices.rows(T0) == []
    prices.take(FundingRate(
        instrument="linear:BTCUSDT", funding_rate=Decimal("-0.0003"), funding_interval_h=Decimal(4),
        funding_next_ts_ms=T0 + 9, funding_cap=None, ts_event_ms=T0, ts_seen_ms=T0))
    (row,) = prices.rows(T0)
    assert row == Fed(key="linear.BTCUSDT", index=Decimal(6), mark=Decimal(7), last=Decimal(8),
                      rate=Decimal("-0.0003"), interval_h=4, next_ms=T0 + 9)
    assert prices.rows(T0 + paper.TICK_AGE_MAX_MS + 1) == []


@pytest.mark.parametrize(("body", "words"), [
    (b"{", "no feed"), (b"[{}]", "key"),
    (b'[{"key":"linear.DOGE","index":"1","mark":"1","last":"1"}]', "no contract"),
    (b'[{"key":"linear.BTCUSDT","index":"0","mark":"1","last":"1"}]', "not above 0"),
    (b'[{"key":"linear.BTCUSDT","index":"NaN","mark":"1","last":"1"}]', "not above 0"),
    (b'[{"key":"linear.BTCUSDT","index":"1","mark":"1","last":"1","rate":"2"}]', "no funding rate"),
    (b'[{"key":"linear.BTCUSDT","index":"1","mark":"1","last":"1","rate":"0.1"}]', "schedule"),
])
async def test_an_impossible_feed_is_refused_whole(
    servers: tuple[RunningServer, RunningServer], body: bytes, words: str
) -> None:
    """Nothing of a bad feed is taken, and a market that plays a script takes none at all."""
    real, live = servers
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{live.url}/sim/feed", data=body) as answer:
            assert answer.status == 400
            assert words in (await answer.text())
        async with session.post(f"{real.url}/sim/feed", data=b"[]") as answer:
            assert answer.status == 400
    assert not live.venue.exchange.market.fed
