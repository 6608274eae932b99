"""Realised volatility of a coin, from the daily candles of its index.

    volatility over n days = √(Σ ln(close_i ÷ close_i−1)² ÷ n × 365)

A fraction per year; floats, because nothing is booked from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from hedgelock.simulator.candles import Candles
from hedgelock.simulator.intervals import DAY_MS


def realised(candles: Candles, *, period: int, days: Iterable[int]) -> dict[int, float]:
    """Volatility over the `period` days before each of `days` (days since the epoch)."""
    wanted = sorted(days)
    start_ms, end_ms = (wanted[0] - period - 1) * DAY_MS, (wanted[-1] - 1) * DAY_MS
    known = candles.window("D", start_ms=max(0, start_ms), end_ms=end_ms, series="index")
    closes = {c.start_ms // DAY_MS: float(c.close) for c in known}
    moves = {
        day: math.log(close / closes[day - 1]) ** 2
        for day, close in closes.items()
        if day - 1 in closes
    }
    found = {}
    for day in wanted:
        within = [moves[n] for n in range(day - period, day) if n in moves]
        found[day] = math.sqrt(sum(within) / len(within) * 365) if within else 0.0
    return found
