"""Recorded prices as arrays: bars of mark and index, and the funding settled among them.

Bar i opens at `first_ms + i·step_ms` and closes one step later. Prices are quote per base, funding
rates fractions per interval, + = longs pay. Arrays are read-only by convention: transformations
(`backtest.sets`) make new tapes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Bars of one price; all four of one length."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats

    def __len__(self) -> int:
        return len(self.close)

    def between(self, first: int, last: int) -> Series:
        """Bars [first, last)."""
        cut = slice(first, last)
        return Series(self.open[cut], self.high[cut], self.low[cut], self.close[cut])

    @property
    def is_sound(self) -> bool:
        """Every price is positive and finite, and low ≤ open, close ≤ high."""
        least = np.minimum(self.open, self.close)
        most = np.maximum(self.open, self.close)
        finite = np.isfinite(self.low).all() and np.isfinite(self.high).all()
        ordered = (self.low <= least).all() and (self.high >= most).all()
        return bool(finite and ordered and (self.low > 0).all())


@dataclass(frozen=True, slots=True, eq=False)
class Settlements:
    """Funding as it settled: instants (rising), rates, and the interval that each rate was for."""

    ts_ms: Integers
    rate: Floats
    interval_h: Floats

    def __len__(self) -> int:
        return len(self.ts_ms)


def no_funding() -> Settlements:
    """A market without funding."""
    return Settlements(np.empty(0, np.int64), np.empty(0), np.empty(0))


@dataclass(frozen=True, slots=True, eq=False)
class Tape:
    """One market. `index` values collateral and loan, `mark` the perpetual."""

    name: str
    first_ms: int
    step_ms: int
    mark: Series
    index: Series
    funding: Settlements = field(default_factory=no_funding)

    def __len__(self) -> int:
        return len(self.mark)

    def close_ms(self, bar: int) -> int:
        """When bar `bar` closes; −1 = when the first one opens."""
        return self.first_ms + (bar + 1) * self.step_ms

    def between(self, first: int, last: int) -> Tape:
        """Bars [first, last), with all funding (what lies outside settles nothing)."""
        return replace(
            self, first_ms=self.first_ms + first * self.step_ms,
            mark=self.mark.between(first, last), index=self.index.between(first, last),
        )

    def funding_bars(self) -> tuple[Integers, Floats, Floats]:
        """(bar at whose close it settles, rate, interval in hours) of every settlement inside.

        An instant that lies inside a bar settles at that bar's close. Venues stamp settlements some
        milliseconds late: up to half a second counts as on time.
        """
        late = self.funding.ts_ms - 500
        bars = -(-(late - self.first_ms) // self.step_ms) - 1
        inside = (bars >= 0) & (bars < len(self)) & (self.funding.ts_ms > self.first_ms + 500)
        return bars[inside], self.funding.rate[inside], self.funding.interval_h[inside]

    def rate_before(self) -> tuple[float, float]:
        """(rate, interval in hours) that settled last at or before the tape begins; (0, 8) for none."""
        known = np.nonzero(self.funding.ts_ms <= self.first_ms + 500)[0]
        if not len(known):
            return 0.0, 8.0
        return float(self.funding.rate[known[-1]]), float(self.funding.interval_h[known[-1]])


def single(name: str, first_ms: int, step_ms: int, bars: Series, funding: Settlements) -> Tape:
    """A market with one price: mark = index."""
    return Tape(name, first_ms, step_ms, bars, bars, funding)
