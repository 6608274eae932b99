"""Plays a scenario: index, mark and last prices, predicted funding, settlement instants.

Paths are drawn with floats and quantised to ticks through text; from there on prices are exact.
Script time runs `speed` times as fast as exchange time; ticks come each `tick_ms` of exchange
time, whatever the speed.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from hedgelock.simulator.candles import Candles
from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.live_feed import AGE_MAX_MS, Fed
from hedgelock.simulator.money import ZERO
from hedgelock.simulator.scenarios import Path, Scenario

CENT = Decimal("0.01")
HOUR_MS = 3_600_000
PREMIUMS_KEPT = 300  # ticks of the moving basis
NOISE_MEMORY = 0.9  # of the noise of one tick, this fraction remains in the next


@dataclass(slots=True)
class Quote:
    """Current prices of one contract, quote units per base coin."""

    index: Decimal
    mark: Decimal
    last: Decimal
    mid_ticks: int
    open_24h: Decimal
    high_24h: Decimal
    low_24h: Decimal
    volume: Decimal = ZERO  # since the start: base coin, or USD for inverse
    turnover: Decimal = ZERO
    tick_direction: str = "ZeroPlusTick"
    premiums: deque[Decimal] = field(default_factory=deque)  # mid − index of recent ticks
    premium_sum: Decimal = ZERO


@dataclass(slots=True)
class Market:
    """The script and the prices that follow from it."""

    scenario: Scenario
    contracts: Mapping[str, Contract]
    seed: int
    speed: float
    started_ms: int | None
    quotes: dict[str, Quote] = field(default_factory=dict)
    index: dict[str, Decimal] = field(default_factory=dict)
    rates: dict[str, Decimal] = field(default_factory=dict)
    settled: deque[tuple[int, dict[str, Decimal]]] = field(
        default_factory=lambda: deque(maxlen=200)
    )
    candles: dict[str, Candles] = field(default_factory=dict)
    is_live: bool = False  # prices are fed from a real market; the script's are for the start only
    fed: dict[str, Fed] = field(default_factory=dict)
    fed_at_ms: dict[str, int] = field(default_factory=dict)
    _noise: dict[str, float] = field(default_factory=dict)
    _dice: dict[str, random.Random] = field(default_factory=dict)
    _settlements_done: int = 0
    _last_settled_ms: int = 0

    def open(self, now_ms: int) -> None:
        """Set the first prices and the funding history before the start."""
        for base in self.scenario.prices:
            self._dice[base] = random.Random(f"{self.seed}:{base}")
            self._noise[base] = 0.0
        self._move_index(now_ms)
        for key, contract in self.contracts.items():
            price = self.index[contract.base]
            ticks = round(price / contract.tick)
            self.quotes[key] = Quote(
                price, price, contract.price(ticks), ticks, price, price, price
            )
            self.candles[key] = Candles(first=price, seed=f"{self.seed}:{key}", started_ms=now_ms)
        interval_ms = self.scenario.funding_interval_h * HOUR_MS
        first = now_ms // interval_ms * interval_ms
        for number in range(99, -1, -1):
            self.settled.append((first - number * interval_ms, dict(self.rates)))

    def start(self, now_ms: int) -> None:
        """Start the script clock; a second start changes nothing."""
        if self.started_ms is None:
            self.started_ms = now_ms

    def feed(self, rows: list[Fed], now_ms: int) -> None:
        """Take over a real market's prices; the first ones start the market."""
        for row in rows:
            if row.key not in self.fed:
                quote = self.quotes[row.key]
                quote.open_24h = quote.high_24h = quote.low_24h = row.last
            self.fed[row.key], self.fed_at_ms[row.key] = row, now_ms
        self._follow_feed()
        if len(self.fed) == len(self.contracts):
            self.start(now_ms)

    def is_silent(self, now_ms: int) -> bool:
        """Whether a live market has no prices, or only old ones: then nothing trades."""
        if not self.is_live:
            return False
        if self.started_ms is None:
            return True
        return now_ms - min(self.fed_at_ms.values()) > AGE_MAX_MS

    def _follow_feed(self) -> None:
        for row in self.fed.values():
            base = self.contracts[row.key].base
            if row.rate is not None or base not in self.index:
                self.index[base] = row.index
            if row.rate is not None:
                self.rates[base] = row.rate

    def script_ms(self, now_ms: int) -> int:
        """Time on the script, 0 while waiting."""
        if self.started_ms is None:
            return 0
        return int(max(0, now_ms - self.started_ms) * self.speed)

    def finished(self, now_ms: int) -> bool:
        """Whether the script has run to its end (the market goes on)."""
        return self.script_ms(now_ms) >= self.scenario.duration_s * 1000

    def next_settlement_ms(self, now_ms: int) -> int:
        """Exchange time of the next funding settlement."""
        told = [row for row in self.fed.values() if row.rate is not None]
        if told:
            # The feed may name a settlement for a while after it has happened.
            ahead_ms = [row.next_ms for row in told if row.next_ms > self._last_settled_ms]
            after_ms = self._last_settled_ms + min(row.interval_h for row in told) * HOUR_MS
            return min(ahead_ms, default=after_ms)
        instants = self.scenario.settlements_s
        if self._settlements_done < len(instants):
            at_ms = math.ceil(instants[self._settlements_done] * 1000 / self.speed)
            return (now_ms if self.started_ms is None else self.started_ms) + at_ms
        return max(self._last_settled_ms, self.started_ms or now_ms) + (
            self.scenario.funding_interval_h * HOUR_MS
        )

    def settlement_due(self, now_ms: int) -> bool:
        """Whether a settlement instant has come; never while waiting."""
        return self.started_ms is not None and self.next_settlement_ms(now_ms) <= now_ms

    def settle(self, at_ms: int) -> dict[str, Decimal]:
        """Fix the rates of the settlement at `at_ms` and schedule the next one."""
        self._move_rates(at_ms)
        self._settlements_done += 1
        self._last_settled_ms = at_ms
        rates = dict(self.rates)
        self.settled.append((at_ms, rates))
        return rates

    def tick(self, now_ms: int) -> None:
        """Move every price one tick on."""
        self._move_index(now_ms)
        left_ms = self.next_settlement_ms(now_ms) - now_ms
        share = Decimal(left_ms) / (self.scenario.funding_interval_h * HOUR_MS)
        for key, contract in self.contracts.items():
            self._move_quote(self.quotes[key], contract, share)
            quote = self.quotes[key]
            self.candles[key].add(now_ms, quote.last, mark=quote.mark, index=quote.index)

    def trade(self, key: str, *, price: Decimal, qty: Decimal, value: Decimal) -> None:
        """Record a trade: last price, volume and turnover."""
        quote = self.quotes[key]
        if price != quote.last:
            quote.tick_direction = "PlusTick" if price > quote.last else "MinusTick"
        quote.last = price
        quote.volume += qty
        quote.turnover += value
        self.candles[key].traded(qty, value)

    def _move_index(self, now_ms: int) -> None:
        at_s = self.script_ms(now_ms) / 1000
        spread = self.scenario.noise_bps / 10_000
        for base, path in self.scenario.prices.items():
            shock = self._dice[base].gauss(0.0, 1.0) * math.sqrt(1 - NOISE_MEMORY**2)
            self._noise[base] = self._noise[base] * NOISE_MEMORY + shock * spread
            fair = along(path, at_s) * (1 + self._noise[base])
            self.index[base] = Decimal(f"{fair:.2f}")
        self._move_rates(now_ms)

    def _move_rates(self, now_ms: int) -> None:
        at_s = self.script_ms(now_ms) / 1000
        for base, path in self.scenario.funding.items():
            self.rates[base] = Decimal(f"{along(path, at_s):.8f}").normalize() + ZERO
        self._follow_feed()

    def _move_quote(self, quote: Quote, contract: Contract, share: Decimal) -> None:
        """Mark = median(funding basis, moving basis, last); the mid follows the index."""
        if (fed := self.fed.get(contract.key)) is not None:
            _overlay(quote, fed, contract)
            return
        index = self.index[contract.base]
        before = quote.mid_ticks
        quote.index = index
        quote.mid_ticks = round(index / contract.tick)
        quote.last = contract.price(quote.mid_ticks)
        if quote.mid_ticks != before:
            quote.tick_direction = "PlusTick" if quote.mid_ticks > before else "MinusTick"
        quote.premiums.append(quote.last - index)
        quote.premium_sum += quote.premiums[-1]
        if len(quote.premiums) > PREMIUMS_KEPT:
            quote.premium_sum -= quote.premiums.popleft()
        by_funding = index * (1 + self.rates.get(contract.base, ZERO) * share)
        by_basis = index + quote.premium_sum / len(quote.premiums)
        quote.mark = sorted((by_funding, by_basis, quote.last))[1].quantize(CENT)
        quote.high_24h = max(quote.high_24h, quote.last)
        quote.low_24h = min(quote.low_24h, quote.last)


def _overlay(quote: Quote, fed: Fed, contract: Contract) -> None:
    """The real market's prices; the book stands around its last price."""
    before = quote.mid_ticks
    quote.index, quote.mark = fed.index, fed.mark
    quote.mid_ticks = round(fed.last / contract.tick)
    quote.last = contract.price(quote.mid_ticks)
    if quote.mid_ticks != before:
        quote.tick_direction = "PlusTick" if quote.mid_ticks > before else "MinusTick"
    quote.high_24h = max(quote.high_24h, quote.last)
    quote.low_24h = min(quote.low_24h, quote.last)


def along(path: Path, at_s: float) -> float:
    """Value of a piecewise linear path, flat before its first and after its last corner."""
    before = path[0]
    for corner in path:
        if corner[0] > at_s:
            if corner is path[0]:
                return corner[1]
            share = (at_s - before[0]) / (corner[0] - before[0])
            return before[1] + (corner[1] - before[1]) * share
        before = corner
    return before[1]
