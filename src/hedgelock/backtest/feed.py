"""Bars for many paths at once, one after the other: windows of a tape, or draws made from them.

Every path of a feed has the same bar length and the same phase to the hour. `rate` is the funding that
settles at the bar's close, 0 where none does; `apr` the one that settled last, per year, with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from hedgelock.history.tape import HOUR_MS, Floats, Integers, Series, Settlements, Tape

HOURS_PER_YEAR = 8760


_NONE: Floats = np.zeros(0)


class Bar(NamedTuple):
    """One bar of every path. Prices, rates: arrays [path]; `hours` full hours that end with it."""

    mark_high: Floats
    mark_low: Floats
    mark_close: Floats
    index_high: Floats
    index_low: Floats
    index_close: Floats
    rate: Floats = _NONE
    apr: Floats = _NONE
    hours: int = 0


class Feed(Protocol):
    """Bars of some paths."""

    @property
    def opening(self) -> Bar:
        """The prices at which each path opens, and the funding known then; a bar without length."""

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
    def opening(self) -> Bar:
        """The opens of the first bars, and the funding that settled last before them."""
        mark, index = self.tape.mark.open[self.first], self.tape.index.open[self.first]
        none = np.zeros(len(self.first))
        before, interval = self.tape.rate_before()
        _, apr = aprs(self.tape)
        known = np.where(self.first > 0, apr[self.first - 1], before * HOURS_PER_YEAR / interval)
        return Bar(mark, mark, mark, index, index, index, none, known if self.has_funding else none)

    @property
    def step_ms(self) -> int:
        """The tape's."""
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
            yield row._replace(rate=rate[at], apr=apr[at], hours=int(hours[at[0]]))

    def _real(self) -> Iterator[Bar]:
        mark, index = self.tape.mark, self.tape.index
        for t in range(self.length):
            at = self.first + t
            yield Bar(mark.high[at], mark.low[at], mark.close[at], index.high[at], index.low[at],
                      index.close[at])

    def _drawn(self, seed: int) -> Iterator[Bar]:
        """Mark = index: a basis between two reflected series would mean nothing."""
        bars = self.tape.index
        dice = np.random.default_rng(seed)
        now = self.opening.index_close
        for t in range(self.length):
            at = self.first + t
            before = bars.open[at] if t == 0 else bars.close[at - 1]
            turned = dice.integers(0, 2, len(at)) == 1
            up, down, end = bars.high[at] / before, bars.low[at] / before, bars.close[at] / before
            high = now * np.where(turned, 2 - down, up)
            low = now * np.where(turned, 2 - up, down)
            now = now * np.where(turned, 2 - end, end)
            # A gap between two bars may leave the close before outside the bar.
            yield Bar(high, low, now, high, low, now)


@dataclass(frozen=True, slots=True, eq=False)
class Bent:
    """A feed whose market also moves by the factor 1 + `move` over `bars` bars from bar `at`."""

    feed: Feed
    at: int
    bars: int
    move: float

    @property
    def opening(self) -> Bar:
        """As it was."""
        return self.feed.opening

    @property
    def step_ms(self) -> int:
        """As it was."""
        return self.feed.step_ms

    def __len__(self) -> int:
        return len(self.feed)

    def __iter__(self) -> Iterator[Bar]:
        before = 1.0
        for t, bar in enumerate(self.feed):
            done = min(1.0, max(0.0, (t - self.at + 1) / self.bars))
            after = (1 + self.move) ** done
            up, down = max(before, after), min(before, after)
            yield bar._replace(
                mark_high=bar.mark_high * up, mark_low=bar.mark_low * down,
                mark_close=bar.mark_close * after, index_high=bar.index_high * up,
                index_low=bar.index_low * down, index_close=bar.index_close * after,
            )
            before = after


@dataclass(frozen=True, slots=True, eq=False)
class Together:
    """Several feeds of one length and phase, side by side: the paths of the first come first."""

    feeds: Sequence[Feed]

    def __post_init__(self) -> None:
        assert len({(len(f), f.step_ms) for f in self.feeds}) == 1, "feeds of one shape"

    @property
    def opening(self) -> Bar:
        """All openings."""
        return _beside([f.opening for f in self.feeds])

    @property
    def step_ms(self) -> int:
        """The one of all."""
        return self.feeds[0].step_ms

    def __len__(self) -> int:
        return len(self.feeds[0])

    def __iter__(self) -> Iterator[Bar]:
        for bars in zip(*self.feeds, strict=True):
            yield _beside(bars)


def _beside(bars: Sequence[Bar]) -> Bar:
    """One bar of the paths of all."""
    hours = bars[0].hours
    assert all(bar.hours == hours for bar in bars), "one phase to the hour"
    columns: list[Any] = [np.concatenate(c) for c in zip(*(bar[:8] for bar in bars), strict=True)]
    return Bar(*columns)._replace(hours=hours)


def path_of(feed: Feed, path: int, *, name: str, first_ms: int) -> Tape:
    """One path of a feed as a tape, so that the exact engine can play it; mark and index apart.

    Funding settles at the closes of its bars, with an 8 h interval.
    """
    rows = [[float(x[path]) for x in bar[:7]] for bar in feed]
    opening = feed.opening
    columns = np.array(rows).T
    mark = _series(float(opening.mark_close[path]), columns[:3])
    index = _series(float(opening.index_close[path]), columns[3:6])
    closes = first_ms + np.arange(1, len(rows) + 1, dtype=np.int64) * feed.step_ms
    paid = np.nonzero(columns[6])[0]
    before = float(opening.apr[path]) * 8 / HOURS_PER_YEAR
    funding = Settlements(
        np.concatenate([[first_ms - 8 * HOUR_MS], closes[paid]]).astype(np.int64),
        np.concatenate([[before], columns[6][paid]]), np.full(len(paid) + 1, 8.0),
    )
    return Tape(name, first_ms, feed.step_ms, mark, index, funding)


def _series(first: float, rows: Floats) -> Series:
    high, low, close = rows
    opens = np.concatenate([[first], close[:-1]])
    return Series(opens, high, low, close)
