"""Bars for many paths at once, one after the other: windows of a tape, or draws made from them.

Every path of a feed has the same bar length and the same phase to the hour. `rate` is the funding that
settles at the bar's close, 0 where none does; `apr` the one that settled last, per year, with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from hedgelock.history.tape import HOUR_MS, Floats, Integers, Series, Settlements, Tape

HOURS_PER_YEAR = 8760


class Bar(NamedTuple):
    """One bar of every path. Prices, rates: arrays [path]; `hours` full hours that end with it."""

    mark_high: Floats
    mark_low: Floats
    mark_close: Floats
    index_high: Floats
    index_low: Floats
    index_close: Floats
    rate: Floats
    apr: Floats
    hours: int


class Feed(Protocol):
    """Bars of some paths."""

    @property
    def start(self) -> Floats:
        """Index price at which each path opens."""

    @property
    def mark_start(self) -> Floats:
        """Mark price at which each path opens."""

    @property
    def apr_start(self) -> Floats:
        """The funding known before the first bar, per year."""

    @property
    def step_ms(self) -> int:
        """Bar length."""

    def __len__(self) -> int:
        """Bars."""

    def __iter__(self) -> Iterator[Bar]:
        """The bars, in order; every iteration gives the same."""


def aprs(tape: Tape) -> tuple[Floats, Floats]:
    """(rate that settles at each bar's close, APR that settled last by then)."""
    bars, rates, hours = tape.funding_bars()
    rate = np.zeros(len(tape))
    np.add.at(rate, bars, rates)
    apr = np.full(len(tape), np.nan)
    apr[bars] = rates * HOURS_PER_YEAR / hours
    before, interval = tape.rate_before()
    known = np.where(np.isnan(apr), 0, np.arange(1, len(tape) + 1))
    last = np.maximum.accumulate(known)
    filled = np.concatenate([[before * HOURS_PER_YEAR / interval], apr])[last]
    return rate, filled


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Windows of one tape: path i is `length` bars from bar `first[i]`.

    `reflected` draws a martingale from them: each bar's simple return against the close before is
    turned round with p = ½, the bar's high and low with it (x → 2 − x), which leaves the mean at the
    close before; `seed` draws, one sign per path and bar. Funding is the window's own, or none.
    """

    tape: Tape
    first: Integers
    length: int
    has_funding: bool = True
    seed: int | None = None

    def __post_init__(self) -> None:
        hour_bars = max(1, HOUR_MS // self.tape.step_ms)
        assert len(set((self.first % hour_bars).tolist())) <= 1, "paths share the hour's phase"
        assert int(self.first.max()) + self.length <= len(self.tape), "windows lie on the tape"

    @property
    def start(self) -> Floats:
        return self.tape.index.open[self.first]

    @property
    def mark_start(self) -> Floats:
        return self.tape.mark.open[self.first]

    @property
    def apr_start(self) -> Floats:
        if not self.has_funding:
            return np.zeros(len(self.first))
        before, interval = self.tape.rate_before()
        _, apr = aprs(self.tape)
        first = before * HOURS_PER_YEAR / interval
        return np.where(self.first > 0, apr[self.first - 1], first)

    @property
    def step_ms(self) -> int:
        return self.tape.step_ms

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Bar]:
        rate, apr = aprs(self.tape)
        if not self.has_funding:
            rate, apr = np.zeros_like(rate), np.zeros_like(apr)
        closes = self.tape.first_ms + np.arange(1, len(self.tape) + 1) * self.tape.step_ms
        hours = closes // HOUR_MS - (closes - self.tape.step_ms) // HOUR_MS
        prices = self._real() if self.seed is None else self._drawn(self.seed)
        for t, row in enumerate(prices):
            at = self.first + t
            yield Bar(*row, rate[at], apr[at], int(hours[at[0]]))

    def _real(self) -> Iterator[tuple[Floats, ...]]:
        mark, index = self.tape.mark, self.tape.index
        for t in range(self.length):
            at = self.first + t
            yield (mark.high[at], mark.low[at], mark.close[at],
                   index.high[at], index.low[at], index.close[at])

    def _drawn(self, seed: int) -> Iterator[tuple[Floats, ...]]:
        """Mark = index: a basis between two reflected series would mean nothing."""
        bars = self.tape.index
        dice = np.random.default_rng(seed)
        now = self.start
        for t in range(self.length):
            at = self.first + t
            before = bars.open[at] if t == 0 else bars.close[at - 1]
            turned = dice.integers(0, 2, len(at)) == 1
            up, down, end = bars.high[at] / before, bars.low[at] / before, bars.close[at] / before
            high = now * np.where(turned, 2 - down, up)
            low = now * np.where(turned, 2 - up, down)
            now = now * np.where(turned, 2 - end, end)
            # A gap between two bars may leave the close before outside the bar.
            yield high, low, now, high, low, now


def path_of(feed: Feed, path: int, *, name: str, first_ms: int) -> Tape:
    """One path of a feed as a tape, so that the exact engine can play it; mark and index apart.

    Funding settles at the closes of its bars, with an 8 h interval.
    """
    rows = [tuple(float(x[path]) for x in bar[:6]) + (float(bar.rate[path]),) for bar in feed]
    columns = np.array(rows).T
    mark = _series(float(feed.mark_start[path]), columns[:3])
    index = _series(float(feed.start[path]), columns[3:6])
    closes = first_ms + np.arange(1, len(rows) + 1, dtype=np.int64) * feed.step_ms
    paid = np.nonzero(columns[6])[0]
    before = float(feed.apr_start[path]) * 8 / HOURS_PER_YEAR
    funding = Settlements(
        np.concatenate([[first_ms - 8 * HOUR_MS], closes[paid]]).astype(np.int64),
        np.concatenate([[before], columns[6][paid]]), np.full(len(paid) + 1, 8.0),
    )
    return Tape(name, first_ms, feed.step_ms, mark, index, funding)


def _series(first: float, rows: Sequence[Floats]) -> Series:
    high, low, close = (np.asarray(row) for row in rows)
    opens = np.concatenate([[first], close[:-1]])
    return Series(opens, high, low, close)
