"""Candles of one contract: recorded since the start, made up (seeded, flat) before it.

A tick only appends to the open minute; its high and low are found when the minute closes or
somebody asks.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from decimal import Decimal

from hedgelock.simulator.money import ZERO

MINUTE_MS = 60_000
MINUTES_KEPT = 3 * 1440
INTERVALS_MS = {
    **{str(m): m * MINUTE_MS for m in (1, 3, 5, 15, 30, 60, 120, 240, 360, 720)},
    "D": 1440 * MINUTE_MS,
    "W": 7 * 1440 * MINUTE_MS,
    "M": 30 * 1440 * MINUTE_MS,
}
SERIES = ("last", "mark", "index", "premium")


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

    def merge(self, later: Candle) -> None:
        """Extend by a candle that follows."""
        self.high = max(self.high, later.high)
        self.low = min(self.low, later.low)
        self.close = later.close
        self.volume += later.volume
        self.turnover += later.turnover


class Candles:
    """One-minute candles of last, mark, index price and premium, aggregated on demand."""

    def __init__(self, *, first: Decimal, seed: str, started_ms: int) -> None:
        self._first = first
        self._seed = seed
        self._started_ms = started_ms
        self._minutes: dict[str, deque[Candle]] = {
            name: deque(maxlen=MINUTES_KEPT) for name in SERIES
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
        """Candles that start within [start_ms, end_ms], oldest first."""
        step = INTERVALS_MS[interval]
        recorded: dict[int, Candle] = {}
        for minute in self._known(series, start_ms // step * step):
            start = minute.start_ms // step * step
            if start in recorded:
                recorded[start].merge(minute)
            else:
                recorded[start] = Candle(
                    start, minute.open, minute.high, minute.low, minute.close,
                    minute.volume, minute.turnover,
                )  # fmt: skip
        first = -(-start_ms // step) * step
        starts = range(first, end_ms + 1, step)
        known = [recorded[s] if s in recorded else self._past(s, step, series) for s in starts]
        return [candle for candle in known if candle is not None]

    def _known(self, series: str, start_ms: int) -> list[Candle]:
        """Recorded minutes from `start_ms` on, the open one last."""
        known: list[Candle] = []
        for minute in reversed(self._minutes[series]):
            if minute.start_ms < start_ms:
                break
            known.append(minute)
        known.reverse()
        if (still_open := self._closed(series)) is not None:
            known.append(still_open)
        return known

    def _roll(self, now_ms: int) -> None:
        """Close the open minute and open the one of `now_ms`."""
        for name, values in self._open.items():
            if (closed := self._closed(name)) is not None:
                self._minutes[name].append(closed)
            values.clear()
        self._volume = self._turnover = ZERO
        self._start_ms = now_ms // MINUTE_MS * MINUTE_MS
        self._end_ms = self._start_ms + MINUTE_MS

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

    def _past(self, start_ms: int, step: int, series: str) -> Candle | None:
        if start_ms >= self._started_ms:
            return None
        dice = random.Random(f"{self._seed}:{start_ms}:{step}")
        if series == "premium":
            drawn = [Decimal(dice.randint(-20, 20)).scaleb(-6) for _ in range(4)]
        else:
            step_price = Decimal("0.1") if self._first >= 100 else Decimal("0.0001")
            drawn = [
                (self._first * (10_000 + dice.randint(-20, 20)) / 10_000).quantize(step_price)
                for _ in range(4)
            ]
        return Candle(
            start_ms, drawn[0], max(drawn), min(drawn), drawn[3], Decimal(dice.randint(1, 99))
        )
