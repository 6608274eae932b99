"""Candles of one contract: recorded since the start, made up (seeded, flat) before it."""

from __future__ import annotations

import random
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
SERIES = ("last", "mark", "index")


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
    """One-minute candles of last, mark and index price, aggregated on demand."""

    def __init__(self, *, first: Decimal, seed: str, started_ms: int) -> None:
        self._first = first
        self._seed = seed
        self._started_ms = started_ms
        self._minutes: dict[str, list[Candle]] = {name: [] for name in SERIES}

    def add(self, now_ms: int, last: Decimal, *, mark: Decimal, index: Decimal) -> None:
        """Record the prices of one tick."""
        start = now_ms // MINUTE_MS * MINUTE_MS
        for name, price in zip(SERIES, (last, mark, index), strict=True):
            minutes = self._minutes[name]
            if not minutes or minutes[-1].start_ms != start:
                first = minutes[-1].close if minutes else price
                minutes.append(Candle(start, first, max(first, price), min(first, price), price))
                del minutes[:-MINUTES_KEPT]
                continue
            candle = minutes[-1]
            candle.high = max(candle.high, price)
            candle.low = min(candle.low, price)
            candle.close = price

    def traded(self, qty: Decimal, value: Decimal) -> None:
        """Add a trade's volume and turnover to the current candle."""
        if minutes := self._minutes["last"]:
            minutes[-1].volume += qty
            minutes[-1].turnover += value

    def window(self, interval: str, *, start_ms: int, end_ms: int, series: str) -> list[Candle]:
        """Candles that start within [start_ms, end_ms], oldest first."""
        step = INTERVALS_MS[interval]
        recorded: dict[int, Candle] = {}
        for minute in self._minutes[series]:
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
        known = [recorded[s] if s in recorded else self._past(s, step) for s in starts]
        return [candle for candle in known if candle is not None]

    def _past(self, start_ms: int, step: int) -> Candle | None:
        if start_ms >= self._started_ms:
            return None
        dice = random.Random(f"{self._seed}:{start_ms}:{step}")
        drawn = [
            (self._first * (10_000 + dice.randint(-20, 20)) / 10_000).quantize(Decimal("0.1"))
            for _ in range(4)
        ]
        return Candle(
            start_ms, drawn[0], max(drawn), min(drawn), drawn[3], Decimal(dice.randint(1, 99))
        )
