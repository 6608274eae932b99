"""Candles of one contract: recorded since the start, made up (seeded) before it.

A tick only appends to the open minute; its high and low are found when the minute closes or
somebody asks. Minutes are kept for three days; hours, of which longer candles are made, for two
years. A made-up candle lies around the first price, the wider the longer it is: closes are apart
as at a volatility of `PAST_VOLATILITY`.
"""

from __future__ import annotations

import math
import random
from collections import deque
from dataclasses import dataclass
from decimal import Decimal

from hedgelock.simulator.intervals import (
    DAY_MS,
    INTERVALS_MS,
    MINUTE_MS,
    opening,
    openings,
)
from hedgelock.simulator.money import ZERO

HOUR_MS = 60 * MINUTE_MS
MINUTES_KEPT = 3 * 1440
HOURS_KEPT = 2 * 365 * 24
SERIES = ("last", "mark", "index", "premium")
PAST_VOLATILITY = 0.45  # standard deviation of log returns × √(periods a year)
YEAR_MS = 365 * DAY_MS
TURNOVER_STEP = Decimal("0.00000001")


@dataclass(slots=True)
class Candle:
    """Prices of one interval; volume in base coin (USD for inverse), turnover the other one."""

    start_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal = ZERO
    turnover: Decimal = ZERO

    def copy(self, start_ms: int) -> Candle:
        """The same prices as the beginning of a candle that opened at `start_ms`."""
        return Candle(
            start_ms, self.open, self.high, self.low, self.close, self.volume, self.turnover
        )

    def merge(self, later: Candle) -> None:
        """Extend by a candle that follows."""
        self.high = max(self.high, later.high)
        self.low = min(self.low, later.low)
        self.close = later.close
        self.volume += later.volume
        self.turnover += later.turnover


class Candles:
    """One-minute candles of last, mark, index price and premium, aggregated on demand."""

    def __init__(
        self, *, first: Decimal, seed: str, started_ms: int, inverse: bool = False
    ) -> None:
        self._first = first
        self._inverse = inverse  # volume in USD, turnover in coins
        self._seed = seed
        self._started_ms = started_ms
        self._minutes: dict[str, deque[Candle]] = {
            name: deque(maxlen=MINUTES_KEPT) for name in SERIES
        }
        self._hours: dict[str, deque[Candle]] = {
            name: deque(maxlen=HOURS_KEPT) for name in SERIES
        }
        self._open: dict[str, list[Decimal]] = {name: [] for name in SERIES}
        self._last, self._mark, self._index = (self._open[n] for n in ("last", "mark", "index"))
        self._start_ms = -1
        self._end_ms = -1
        self._volume = self._turnover = ZERO

    def add(self, now_ms: int, last: Decimal, *, mark: Decimal, index: Decimal) -> None:
        """Record the prices of one tick."""
        if now_ms >= self._end_ms:
            self._roll(now_ms)
        self._last.append(last)
        self._mark.append(mark)
        self._index.append(index)

    def premium(self, now_ms: int, premium: Decimal) -> None:
        """Record a premium of this minute."""
        if now_ms >= self._end_ms:
            self._roll(now_ms)
        self._open["premium"].append(premium)

    def traded(self, qty: Decimal, value: Decimal) -> None:
        """Add a trade's volume and turnover to the current candle."""
        if self._last:
            self._volume += qty
            self._turnover += value

    def window(self, interval: str, *, start_ms: int, end_ms: int, series: str) -> list[Candle]:
        """Candles that open within [start_ms, end_ms], oldest first."""
        recorded: dict[int, Candle] = {}
        for part in self._known(series, interval, opening(interval, start_ms)):
            start = opening(interval, part.start_ms)
            if start in recorded:
                recorded[start].merge(part)
            else:
                recorded[start] = part.copy(start)
        known = [
            recorded[start] if start in recorded else self._past(start, interval, series)
            for start in openings(interval, start_ms, end_ms)
        ]
        return [candle for candle in known if candle is not None]

    def ago(self, minutes: int) -> Decimal | None:
        """The last price of so many minutes ago; None before there was one."""
        kept = self._minutes["last"]
        return kept[-minutes].open if len(kept) >= minutes else None

    def day(self, now_ms: int) -> Candle | None:
        """The 24 hours up to now, by whole hours at their beginning; None before they are over."""
        hours = self._known("last", "60", now_ms - DAY_MS)
        if not hours or hours[0].start_ms >= now_ms - DAY_MS + HOUR_MS:
            return None
        whole = hours[0].copy(hours[0].start_ms)
        for hour in hours[1:]:
            whole.merge(hour)
        return whole

    def _known(self, series: str, interval: str, start_ms: int) -> list[Candle]:
        """What an interval is made of, from `start_ms` on, the open minute last."""
        kept = self._hours if INTERVALS_MS[interval] >= HOUR_MS else self._minutes
        known: list[Candle] = []
        for part in reversed(kept[series]):
            if part.start_ms < start_ms:
                break
            known.append(part)
        known.reverse()
        if (still_open := self._closed(series)) is not None:
            known.append(still_open)
        return known

    def _roll(self, now_ms: int) -> None:
        """Close the open minute and open the one of `now_ms`."""
        for name, values in self._open.items():
            if (closed := self._closed(name)) is not None:
                self._minutes[name].append(closed)
                self._keep_hour(self._hours[name], closed)
            values.clear()
        self._volume = self._turnover = ZERO
        self._start_ms = now_ms // MINUTE_MS * MINUTE_MS
        self._end_ms = self._start_ms + MINUTE_MS

    @staticmethod
    def _keep_hour(hours: deque[Candle], minute: Candle) -> None:
        start_ms = minute.start_ms // HOUR_MS * HOUR_MS
        if hours and hours[-1].start_ms == start_ms:
            hours[-1].merge(minute)
        else:
            hours.append(minute.copy(start_ms))

    def _closed(self, name: str) -> Candle | None:
        """The open minute as a candle; it opens at the close before."""
        values, minutes = self._open[name], self._minutes[name]
        if not values:
            return None
        first = minutes[-1].close if minutes else values[0]
        traded = (self._volume, self._turnover) if name == "last" else (ZERO, ZERO)
        return Candle(
            self._start_ms, first, max(first, *values), min(first, *values), values[-1], *traded
        )

    def _past(self, start_ms: int, interval: str, series: str) -> Candle | None:
        if start_ms >= self._started_ms:
            return None
        step = INTERVALS_MS[interval]
        dice = random.Random(f"{self._seed}:{start_ms}:{step}")
        if series == "premium":
            drawn = [Decimal(dice.randint(-20, 20)).scaleb(-6) for _ in range(4)]
        else:
            # Two closes drawn evenly from ± reach are reach × √(2 ÷ 3) apart.
            reach = PAST_VOLATILITY * math.sqrt(1.5 * step / YEAR_MS)
            step_price = Decimal("0.1") if self._first >= 100 else Decimal("0.0001")
            drawn = [
                (self._first * Decimal(f"{1 + dice.uniform(-reach, reach):.6f}")).quantize(
                    step_price
                )
                for _ in range(4)
            ]
        volume = Decimal(dice.randint(1, 99))
        turnover = volume / drawn[3] if self._inverse else volume * drawn[3]
        traded = (volume, turnover.quantize(TURNOVER_STEP)) if series == "last" else (ZERO, ZERO)
        return Candle(start_ms, drawn[0], max(drawn), min(drawn), drawn[3], *traded)
