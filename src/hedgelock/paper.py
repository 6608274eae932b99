"""`python -m hedgelock.paper`: a real market's prices into the simulator, for MODE=paper.

Paper trading is the simulator with real prices: its accounts, matching, loan and liquidations, moved by
the public tickers of the real exchange. Nothing here needs a key, and no order ever leaves.

Only whole sets are fed: until every contract of the simulator has been quoted nothing trades, and when
the real market falls silent so does the simulated one.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import aiohttp
import msgspec
import structlog

from hedgelock.clock import SystemClock
from hedgelock.config import load
from hedgelock.domain.funding import FundingRate
from hedgelock.domain.instrument import category_of
from hedgelock.domain.market import MarketTick
from hedgelock.domain.money import trap_floats
from hedgelock.errors import ConfigError
from hedgelock.exchanges.bybit import CAPABILITIES, Addresses, BybitExchange
from hedgelock.exchanges.ccxt_venue import Credentials
from hedgelock.ports import Clock
from hedgelock.simulator.live_feed import Fed
from hedgelock.telemetry import log

_log = structlog.get_logger("paper")

PUSH_S: Final = 0.1
"""The simulator ticks as often: what comes faster is conflated."""
TICK_AGE_MAX_MS: Final = 2_000
"""An instrument whose stream fell silent is not fed again; the simulator then falls silent itself."""
RETRY_S: Final = 1.0
TIMEOUT_S: Final = 5.0

Push = Callable[[list[Fed]], Awaitable[None]]


class Prices:
    """The newest quotation of each instrument (`linear:BTCUSDT`), as the simulator takes them."""

    def __init__(self) -> None:
        self._ticks: dict[str, MarketTick] = {}
        self._rates: dict[str, FundingRate] = {}

    def take(self, event: object) -> None:
        """A tick or a funding rate of the real market."""
        match event:
            case MarketTick():
                self._ticks[event.instrument] = event
            case FundingRate():
                self._rates[event.instrument] = event

    def rows(self, now_ms: int) -> list[Fed]:
        """What is known whole and fresh: a perpetual without its funding rate is not, nor an old tick."""
        rows = []
        for name, tick in self._ticks.items():
            rate = self._rates.get(name)
            if rate is None and category_of(name) != "spot":
                continue
            if now_ms - tick.ts_seen_ms > TICK_AGE_MAX_MS:
                continue
            rows.append(
                Fed(
                    key=name.replace(":", ".", 1), index=tick.index_price, mark=tick.mark_price,
                    last=tick.last_price or tick.mark_price,
                    rate=rate.funding_rate if rate else None,
                    interval_h=int(rate.funding_interval_h) if rate else 8,
                    next_ms=rate.funding_next_ts_ms if rate else 0,
                )
            )
        return rows


async def feed(events: AsyncIterator[object], push: Push, clock: Clock) -> None:
    """Push the newest prices for as long as there are events, at most every PUSH_S.

    A push that fails is tried again with newer prices: the simulator may be starting.
    """
    prices, is_new = Prices(), asyncio.Event()

    async def collect() -> None:
        async for event in events:
            prices.take(event)
            is_new.set()

    collecting = asyncio.create_task(collect())
    try:
        while not collecting.done():
            waiting = asyncio.create_task(is_new.wait())
            await asyncio.wait({waiting, collecting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            is_new.clear()
            try:
                await push(prices.rows(clock.now_ms()))
                pause_s = PUSH_S
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                _log.warning("feed_not_taken", error=str(error) or type(error).__name__)
                pause_s = RETRY_S
            await asyncio.wait({collecting}, timeout=pause_s)
        collecting.result()
    finally:
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)


def pusher(session: aiohttp.ClientSession, url: str) -> Push:
    """POST to the simulator's control address."""

    async def push(rows: list[Fed]) -> None:
        if not rows:
            return
        async with session.post(
            f"{url}/sim/feed", data=msgspec.json.encode(rows),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
        ) as answer:
            if answer.status != 200:
                text = (await answer.text())[:300]
                raise aiohttp.ClientError(f"the simulator refuses the feed ({answer.status}): {text}")

    return push


async def wanted(session: aiohttp.ClientSession, url: str) -> list[str]:
    """The simulator's contracts as the adapter names them; asked until it answers."""
    while True:
        try:
            async with session.get(
                f"{url}/sim/feed", timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)
            ) as answer:
                if answer.status == 200:
                    keys: list[str] = msgspec.json.decode(await answer.read())["contracts"]
                    return sorted(key.replace(".", ":", 1) for key in keys)
                reason = (await answer.text())[:300]
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
        _log.warning("simulator_not_there", url=url, reason=reason)
        await asyncio.sleep(RETRY_S)


async def run(feed_url: str, simulator_url: str) -> None:
    """Feed until cancelled."""
    clock = SystemClock()
    source = BybitExchange(
        "paper", Credentials("", ""), addresses=Addresses("", feed_url.rstrip("/"), ""),
        capabilities=CAPABILITIES["paper"], clock=clock,
        on_bad=lambda topic, reason, _raw: _log.warning("unreadable", topic=topic, reason=reason),
    )
    try:
        async with aiohttp.ClientSession() as session:
            events = source.market_stream(await wanted(session, simulator_url))
            await feed(events, pusher(session, simulator_url), clock)
    finally:
        await source.close()


async def _until_stopped(feed_url: str, simulator_url: str) -> None:
    task = asyncio.ensure_future(run(feed_url, simulator_url))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    await asyncio.wait({task})
    if not task.cancelled():
        task.result()


def main() -> int:
    """Feed the configured simulator until SIGTERM; 2 when the configuration is wrong."""
    trap_floats()
    try:
        settings = load()
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    log.configure(settings.log_level, secrets=settings.secrets())
    sim = settings.sim
    asyncio.run(_until_stopped(sim.feed_url, f"http://{sim.server}:{sim.port}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
