"""Plays a scenario: index, mark and last prices, predicted funding, settlement instants.

    mark = median(index × (1 + last settled rate × time to funding ÷ interval),
                  index + mean of (mid − index) over `basis_ms`, last)

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
from typing import TypeVar

from hedgelock.simulator.candles import Candles
from hedgelock.simulator.funding_clock import HOUR_MS, FundingClock
from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.live_feed import AGE_MAX_MS, Fed
from hedgelock.simulator.money import ONE, ZERO
from hedgelock.simulator.paths import Course, course
from hedgelock.simulator.scenarios import Scenario

NOISE_MEMORY = 0.9  # of the noise of one tick, this fraction remains in the next
NOISE_KICK = math.sqrt(1 - NOISE_MEMORY**2)
PAST_SETTLEMENTS = 100
NEVER_MS = 2**62
T = TypeVar("T")


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
    volume: Decimal = ZERO  # of 24 to 25 h: base coin, or USD for inverse
    turnover: Decimal = ZERO
    tick_direction: str = "ZeroPlusTick"
    premiums: deque[Decimal] = field(default_factory=deque)  # mid − index of recent ticks
    premium_sum: Decimal = ZERO


@dataclass(slots=True)
class Line:
    """A contract on the market: its quote, candles, funding and where its book stands."""

    contract: Contract
    quote: Quote
    candles: Candles
    clock: FundingClock
    places: Decimal  # of mark prices
    rate: Course | None  # a scripted funding rate
    premium: Course | None  # of mid over index, a fraction
    gap: float = 0.0  # a deed's premium


@dataclass(slots=True)
class Market:
    """The script and the prices that follow from it."""

    scenario: Scenario
    contracts: Mapping[str, Contract]
    seed: int
    speed: float
    started_ms: int | None
    tick_ms: int = 100
    quotes: dict[str, Quote] = field(default_factory=dict)
    index: dict[str, Decimal] = field(default_factory=dict)
    candles: dict[str, Candles] = field(default_factory=dict)
    is_live: bool = False  # prices are fed from a real market; the script's are for the start only
    fed: dict[str, Fed] = field(default_factory=dict)
    fed_at_ms: dict[str, int] = field(default_factory=dict)
    lines: dict[str, Line] = field(default_factory=dict)
    due_ms: int = NEVER_MS  # the next settlement of any contract; never while waiting
    gaps: dict[str, float] = field(default_factory=dict)  # factors on the scripted price, by base
    _courses: list[tuple[str, Course, str]] = field(default_factory=list)
    _noise: dict[str, float] = field(default_factory=dict)
    _dice: dict[str, random.Random] = field(default_factory=dict)
    _rate_texts: dict[float, Decimal] = field(default_factory=dict)
    _basis_ticks: int = 1

    def open(self, now_ms: int) -> None:
        """Set the first prices and the funding history before the start."""
        self._basis_ticks = max(1, self.scenario.basis_ms // self.tick_ms)
        for base, source in self.scenario.prices.items():
            path = course(source)
            self._dice[base] = random.Random(f"{self.seed}:{base}")
            self._noise[base] = 0.0
            self._courses.append((base, path, f".{_places(path.at(0.0))}f"))
        self._move_index(now_ms)
        for key, contract in self.contracts.items():
            self._list(key, contract, now_ms)
        if self.started_ms is not None:
            self._schedule(now_ms)

    def _list(self, key: str, contract: Contract, now_ms: int) -> None:
        scenario, price = self.scenario, self.index[contract.base]
        ticks = round(price / contract.tick)
        quote = Quote(price, price, contract.price(ticks), ticks, price, price, price)
        candles = Candles(
            first=price, seed=f"{self.seed}:{key}", started_ms=now_ms, inverse=contract.is_inverse
        )
        rate, premium = (_of(m, contract) for m in (scenario.funding, scenario.premium))
        told = _of(scenario.settlements, contract) or ()
        clock = FundingClock(
            scenario.funding_terms,
            _of(scenario.intervals_h, contract) or scenario.funding_interval_h,
            contract.base,
            self.speed,
            tuple(at_s for at_s, _ in told) or scenario.settlements_s,
            tuple(settled for _, settled in told),
        )
        line = Line(
            contract, quote, candles, clock, Decimal(1).scaleb(-_places(float(price))),
            course(rate) if rate is not None else None,
            course(premium) if premium is not None and not contract.is_spot else None,
        )  # fmt: skip
        self.lines[key], self.quotes[key], self.candles[key] = line, quote, candles
        first = now_ms // clock.interval_ms * clock.interval_ms
        rate_now = self._rate(line, now_ms)
        for number in range(PAST_SETTLEMENTS - 1, -1, -1):
            clock.history.append((first - number * clock.interval_ms, rate_now))

    # ------------------------------------------------------------------ script and settlements

    def start(self, now_ms: int) -> None:
        """Start the script clock; a second start changes nothing."""
        if self.started_ms is None:
            self.started_ms = now_ms
            self._schedule(now_ms)

    def play_at(self, speed: float, now_ms: int) -> None:
        """Play the script at another speed from here on; it goes on where it is."""
        if self.started_ms is not None:
            self.started_ms = now_ms - round(self.script_ms(now_ms) / speed)
        self.speed = speed
        for line in self.lines.values():
            line.clock.speed = speed
        if self.started_ms is not None:
            self._schedule(now_ms)

    def feed(self, rows: list[Fed], now_ms: int) -> None:
        """Take over a real market's prices; the first whole set starts the market."""
        for row in rows:
            if row.key not in self.fed:
                quote = self.quotes[row.key]
                quote.open_24h = quote.high_24h = quote.low_24h = row.last
            self.fed[row.key], self.fed_at_ms[row.key] = row, now_ms
        if len(self.fed) == len(self.contracts):
            self.start(now_ms)
        for row in rows:
            if row.rate is not None:
                self.lines[row.key].clock.follow(row.rate, row.interval_h, row.next_ms)
        self._find_due()

    def is_silent(self, now_ms: int) -> bool:
        """Whether a live market has no prices, or only old ones: then nothing trades."""
        if not self.is_live:
            return False
        if self.started_ms is None:
            return True
        return now_ms - min(self.fed_at_ms.values()) > AGE_MAX_MS

    def script_ms(self, now_ms: int) -> int:
        """Time on the script, 0 while waiting."""
        if self.started_ms is None:
            return 0
        return int(max(0, now_ms - self.started_ms) * self.speed)

    def at_ms(self, script_s: float) -> int:
        """Exchange time of a script second; never while waiting."""
        if self.started_ms is None:
            return NEVER_MS
        return self.started_ms + math.ceil(script_s * 1000 / self.speed)

    def finished(self, now_ms: int) -> bool:
        """Whether the script has run to its end (the market goes on)."""
        return self.script_ms(now_ms) >= self.scenario.duration_s * 1000

    def next_settlement_ms(self, now_ms: int, key: str = "") -> int:
        """Exchange time of the next settlement of a contract, or of any."""
        lines = [self.lines[key]] if key else [
            n for n in self.lines.values() if not n.contract.is_spot
        ]  # fmt: skip
        if self.started_ms is None:
            return min(n.clock.upcoming(now_ms, None) for n in lines)
        return min(n.clock.next_ms for n in lines)

    def settle(self, at_ms: int) -> dict[str, Decimal]:
        """Fix the rates of the contracts due at `at_ms` and schedule their next settlements."""
        rates: dict[str, Decimal] = {}
        for key, line in self.lines.items():
            if line.clock.next_ms > at_ms:
                continue
            rate = self._rate(line, at_ms)
            line.clock.settle(at_ms, rate, started_ms=self.started_ms or at_ms)
            if not line.contract.is_spot:
                rates[key] = rate
        self._find_due()
        return rates

    def switch_funding(self, key: str, interval_h: int, now_ms: int) -> None:
        """Change a contract's funding interval, as the exchange does without notice."""
        self.lines[key].clock.switch(interval_h, now_ms)
        if self.started_ms is not None:
            self._find_due()

    def rate(self, key: str, now_ms: int) -> Decimal:
        """What a contract's funding rate would be if it settled now."""
        return self._rate(self.lines[key], now_ms)

    def rates(self, now_ms: int) -> dict[str, Decimal]:
        """The rate per base coin, that of its first perpetual."""
        found: dict[str, Decimal] = {}
        for line in self.lines.values():
            if not line.contract.is_spot and line.contract.base not in found:
                found[line.contract.base] = self._rate(line, now_ms)
        return found

    @property
    def settled(self) -> list[tuple[int, dict[str, Decimal]]]:
        """Every settlement instant known, oldest first, with the rates per contract."""
        found: dict[int, dict[str, Decimal]] = {}
        for key, line in self.lines.items():
            if not line.contract.is_spot:
                for at_ms, rate in line.clock.history:
                    found.setdefault(at_ms, {})[key] = rate
        return sorted(found.items())

    def _schedule(self, now_ms: int) -> None:
        for line in self.lines.values():
            line.clock.next_ms = line.clock.upcoming(now_ms, self.started_ms)
        self._find_due()

    def _find_due(self) -> None:
        self.due_ms = min((n.clock.next_ms for n in self.lines.values()), default=NEVER_MS)

    def _rate(self, line: Line, now_ms: int) -> Decimal:
        if line.rate is None or line.clock.forced is not None:
            return line.clock.rate
        return self._quantised(line.rate.at(self.script_ms(now_ms) / 1000))

    def _quantised(self, rate: float) -> Decimal:
        """A scripted rate in steps of 1e-8; remembered, because a script dwells on its values."""
        found = self._rate_texts.get(rate)
        if found is None:
            if len(self._rate_texts) > 1000:
                self._rate_texts.clear()
            found = Decimal(f"{rate:.8f}").normalize() + ZERO
            self._rate_texts[rate] = found
        return found

    # ------------------------------------------------------------------ prices

    def tick(self, now_ms: int) -> None:
        """Move every price one tick on."""
        self._move_index(now_ms)
        at_s = self.script_ms(now_ms) / 1000
        waiting = self.started_ms is None
        for line in self.lines.values():
            clock = line.clock
            due_ms = clock.upcoming(now_ms, None) if waiting else clock.next_ms
            self._move_quote(line, at_s, clock.share_left(now_ms, due_ms))
            quote = line.quote
            line.candles.add(now_ms, quote.last, mark=quote.mark, index=quote.index)

    def trade(self, key: str, *, price: Decimal, qty: Decimal, value: Decimal) -> None:
        """Record a trade: last price, volume and turnover."""
        quote = self.quotes[key]
        if price != quote.last:
            quote.tick_direction = "PlusTick" if price > quote.last else "MinusTick"
        quote.last = price
        quote.volume += qty
        quote.turnover += value
        self.candles[key].traded(qty, value)

    def roll_day(self, now_ms: int) -> None:
        """At a full hour: what is older than a day leaves the 24 h figures."""
        for line in self.lines.values():
            day, quote = line.candles.day(now_ms), line.quote
            if day is not None:
                quote.open_24h, quote.high_24h, quote.low_24h = day.open, day.high, day.low
                quote.volume, quote.turnover = day.volume, day.turnover

    def _move_index(self, now_ms: int) -> None:
        at_s = self.script_ms(now_ms) / 1000
        spread = self.scenario.noise_bps / 10_000
        for base, path, places in self._courses:
            fair = path.at(at_s)
            if spread:
                shock = self._dice[base].gauss(0.0, 1.0) * NOISE_KICK
                noise = self._noise[base] * NOISE_MEMORY + shock * spread
                self._noise[base] = noise
                fair *= 1 + noise
            if base in self.gaps:
                fair *= self.gaps[base]
            self.index[base] = Decimal(format(fair, places))
        for row in self.fed.values():
            if row.rate is not None:
                self.index[self.contracts[row.key].base] = row.index

    def _move_quote(self, line: Line, at_s: float, share: Decimal) -> None:
        """The mid follows the index at its premium; the mark as the module says."""
        contract, quote = line.contract, line.quote
        if (fed := self.fed.get(contract.key)) is not None:
            _overlay(quote, fed, contract)
            return
        index = self.index[contract.base]
        before = quote.mid_ticks
        quote.index = index
        if line.premium is None and not line.gap:
            mid_ticks = round(index / contract.tick)
        else:
            premium = line.gap + (line.premium.at(at_s) if line.premium is not None else 0.0)
            mid_ticks = round(float(index) * (1 + premium) / float(contract.tick))
        last = contract.tick * mid_ticks
        quote.last, quote.mid_ticks = last, mid_ticks
        if mid_ticks != before:
            quote.tick_direction = "PlusTick" if mid_ticks > before else "MinusTick"
        premiums = quote.premiums
        basis = last - index
        premiums.append(basis)
        total = quote.premium_sum + basis
        if len(premiums) > self._basis_ticks:
            total -= premiums.popleft()
        quote.premium_sum = total
        rate = line.clock.last_rate
        if line.rate is not None:  # a script tells its rates in time for the mark to follow them
            rate = self._quantised(line.rate.at(at_s))
        by_funding = index * (ONE + rate * share)
        by_basis = index + total / len(premiums)
        quote.mark = sorted((by_funding, by_basis, last))[1].quantize(line.places)
        if last > quote.high_24h:
            quote.high_24h = last
        elif last < quote.low_24h:
            quote.low_24h = last


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


def _places(price: float) -> int:
    """Decimals of index and mark: two from 100 USD on, four below, six below 1."""
    return 2 if price >= 100 else 4 if price >= 1 else 6


def _of(entries: Mapping[str, T], contract: Contract) -> T | None:
    """The entry of a contract, or of its base coin."""
    found = entries.get(contract.key)
    return entries.get(contract.base) if found is None else found


__all__ = ["HOUR_MS", "NEVER_MS", "Line", "Market", "Quote"]
