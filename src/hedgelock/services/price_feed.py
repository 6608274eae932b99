"""Prices and funding onto the bus: from the sockets, and by REST while the sockets say nothing.

A socket that is silent, open or not, blinds whoever marks an account with it, and is renewed only
after many seconds. So whatever instrument was not heard of for `blind_after_ms` is asked for by REST,
again and again at a jittered pace, until its socket speaks again. A price that was asked for is dated
by the request: it may be no younger than that.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from hedgelock.domain.funding import FundingRate
from hedgelock.domain.market import MarketTick
from hedgelock.domain.message import Message
from hedgelock.errors import VenueError
from hedgelock.ports import Clock, Exchange

_log = structlog.get_logger("collector")

Publish = Callable[[str, Sequence[tuple[str, Message]]], None]
"""(topic, (key, message) in order)."""
Failed = Callable[[str, Exception, int], float]
"""(part, error, failures before) → ms to wait; counts and logs."""


@dataclass(frozen=True, slots=True)
class PricePolicy:
    """When prices are repeated and when they are asked for."""

    funding_repeat_ms: int = 10_000
    blind_after_ms: int = 3_000
    """A socket silent for so long is not waited for: prices older than 5 s decide nothing new."""
    poll_ms: int = 1_000
    """And again so much later, less or more a fifth."""
    poll_timeout_ms: int = 2_000
    """An answer that takes longer is old already; the next one is not."""
    retry_max_ms: int = 4_000
    """While none of them comes the pace halves each time, down to this."""
    jitter: float = 0.2
    look_ms: int = 50
    """Silence is looked for no more often than this: what rounding leaves must not spin."""


@dataclass(slots=True)
class PriceStats:
    """What happened to prices so far."""

    conflated: int = 0
    tick_seen_ms: dict[str, int] = field(default_factory=dict)
    """Our clock at the newest tick per instrument, whichever way it came."""
    polls: int = 0
    """Prices that were asked for by REST and came."""
    is_polling: bool = False


class PriceFeed:
    """The market of one collector. `is_behind` says that the bus lags: ticks are then conflated."""

    def __init__(
        self, exchange: Exchange, clock: Clock, *, instruments: Sequence[str], policy: PricePolicy,
        publish: Publish, failed: Failed, is_behind: Callable[[], bool], seed: str,
    ) -> None:
        self.stats = PriceStats()
        self._exchange = exchange
        self._clock = clock
        self._instruments = tuple(instruments)
        self._policy = policy
        self._publish = publish
        self._failed = failed
        self._is_behind = is_behind
        self._rng = random.Random(seed)
        self._held: dict[str, MarketTick] = {}
        self._is_publishing = False
        self._funding: dict[str, tuple[tuple[object, ...], int]] = {}
        self._streamed_ms: dict[str, float] = {}
        self._blind_since_ms = 0.0
        self._polls_before = 0

    # ------------------------------------------------------------ sockets

    async def stream(self) -> None:
        """Publish what the sockets say, until they fail."""
        async for event in self._exchange.market_stream(self._instruments):
            match event:
                case MarketTick():
                    self._streamed_ms[event.instrument] = self._clock.monotonic_ms()
                    self._take_tick(event)
                case FundingRate():
                    self._take_funding(event)

    def _take_tick(self, tick: MarketTick) -> None:
        self.stats.tick_seen_ms[tick.instrument] = tick.ts_seen_ms
        if tick.instrument in self._held:
            self.stats.conflated += 1
        self._held[tick.instrument] = tick
        if not self._is_behind() and not self._is_publishing:
            # At the end of this turn of the loop: ticks of several sockets share one append.
            self._is_publishing = True
            asyncio.get_running_loop().call_soon(self.publish_held)

    def publish_held(self) -> None:
        """Publish the newest tick of each instrument that waits."""
        self._is_publishing = False
        if self._held:
            self._publish("market_data", list(self._held.items()))
            self._held.clear()

    def _take_funding(self, rate: FundingRate) -> None:
        """Publish on a change of rate, schedule or cap, and every `funding_repeat_ms`."""
        terms = (
            rate.funding_rate, rate.funding_interval_h, rate.funding_next_ts_ms, rate.funding_cap
        )
        known = self._funding.get(rate.instrument)
        if (
            known is not None and known[0] == terms
            and rate.ts_seen_ms - known[1] < self._policy.funding_repeat_ms
        ):
            return
        self._funding[rate.instrument] = (terms, rate.ts_seen_ms)
        self._publish("funding_rates", [(rate.instrument, rate)])

    # ------------------------------------------------------------ REST

    async def watch(self) -> None:
        """Ask for the prices of every instrument whose socket is silent, as long as it is."""
        start_ms, failures = self._clock.monotonic_ms(), 0
        for name in self._instruments:
            self._streamed_ms.setdefault(name, start_ms)
        while True:
            now_ms = self._clock.monotonic_ms()
            silent = self._silent(now_ms)
            if not silent:
                self._seeing(now_ms)
                oldest_ms = min(self._streamed_ms[name] for name in self._instruments)
                wait_ms = oldest_ms + self._policy.blind_after_ms - now_ms
                await asyncio.sleep(max(wait_ms, self._policy.look_ms) / 1000)
                continue
            self._blind(silent, now_ms)
            came = await asyncio.gather(*(self._poll(name, failures) for name in silent))
            failures = 0 if any(came) else failures + 1
            spread = self._policy.jitter * (2 * self._rng.random() - 1)
            wait_ms = min(self._policy.poll_ms * 2**failures, self._policy.retry_max_ms)
            await asyncio.sleep(wait_ms * (1 + spread) / 1000)

    def _silent(self, now_ms: float) -> list[str]:
        limit_ms = self._policy.blind_after_ms
        return [n for n in self._instruments if now_ms - self._streamed_ms[n] >= limit_ms]

    async def _poll(self, name: str, failures: int) -> bool:
        """Ask once; False = nothing came. What the socket said meanwhile is newer."""
        asked_ms, requested_ms = self._clock.monotonic_ms(), self._clock.now_ms()
        try:
            async with asyncio.timeout(self._policy.poll_timeout_ms / 1000):
                tick, rate = await self._exchange.read_prices(name, ts_seen_ms=requested_ms)
        except VenueError as error:
            self._failed("prices", error, failures)
            return False
        except TimeoutError:
            late = VenueError(f"no price within {self._policy.poll_timeout_ms} ms", code="timeout")
            self._failed("prices", late, failures)
            return False
        if self._streamed_ms[name] < asked_ms:
            self.stats.polls += 1
            self._take_tick(tick)
            if rate is not None:
                self._take_funding(rate)
        return True

    def _blind(self, silent: list[str], now_ms: float) -> None:
        if not self.stats.is_polling:
            self.stats.is_polling = True
            self._blind_since_ms, self._polls_before = now_ms, self.stats.polls
            _log.warning(
                "price_sockets_silent", account=self._exchange.account, instruments=silent,
                silent_ms=self._policy.blind_after_ms, instead="prices are read by REST",
            )

    def _seeing(self, now_ms: float) -> None:
        if self.stats.is_polling:
            self.stats.is_polling = False
            _log.warning(
                "price_sockets_back", account=self._exchange.account,
                seconds=round((now_ms - self._blind_since_ms) / 1000, 1),
                polls=self.stats.polls - self._polls_before,
            )
