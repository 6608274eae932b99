"""Markets made from a recorded one: wicks clipped, mirrored, split finer, joined coarser.

All return new tapes. None looks ahead of what it replaces except `clipped`, which uses a day's own
spot range, and is for wicks only.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Literal

import numpy as np

from hedgelock.history.tape import DAY_MS, Floats, Series, Settlements, Tape, no_funding

Order = Literal["low_first", "high_first"]
ORDERS: tuple[Order, ...] = ("low_first", "high_first")
CLIP = 0.005


def clipped(tape: Tape, day_first_ms: int, days: Series) -> Tape:
    """Both prices held within the day's range ± .5 %: a wick that spot never saw was one venue's.

    `days` are daily bars from `day_first_ms`; days that they do not have are left alone.
    """
    opens = tape.first_ms + np.arange(len(tape), dtype=np.int64) * tape.step_ms
    day = (opens - day_first_ms) // DAY_MS
    known = (day >= 0) & (day < len(days))
    place = np.clip(day, 0, len(days) - 1)
    low = np.where(known, days.low[place] * (1 - CLIP), 0.0)
    high = np.where(known, days.high[place] * (1 + CLIP), np.inf)

    def cut(bars: Series) -> Series:
        return Series(*(np.clip(x, low, high) for x in (bars.open, bars.high, bars.low, bars.close)))

    mark = cut(tape.mark)
    index = mark if tape.index is tape.mark else cut(tape.index)
    return replace(tape, mark=mark, index=index)


def mirrored(tape: Tape, *, reflect_funding: bool) -> Tape:
    """Log returns negated, P → P0²/P; funding changes its sign with them, or there is none."""

    def turn(bars: Series, pivot: float) -> Series:
        return Series(pivot / bars.open, pivot / bars.low, pivot / bars.high, pivot / bars.close)

    pivot = float(tape.index.open[0]) ** 2
    mark = turn(tape.mark, pivot)
    index = mark if tape.index is tape.mark else turn(tape.index, pivot)
    paid = tape.funding
    funding = Settlements(paid.ts_ms, -paid.rate, paid.interval_h) if reflect_funding else no_funding()
    return replace(tape, name=f"{tape.name}, mirrored", mark=mark, index=index, funding=funding)


def without_funding(tape: Tape) -> Tape:
    """The same prices, no funding."""
    return replace(tape, funding=no_funding())


def split(tape: Tape, parts: int, order: Order) -> Tape:
    """Each bar as `parts` (a multiple of 3) equal ones on straight lines through its extremes.

    Open → first extreme → second extreme → close, a third of the bar each. It is the coarsest path
    that a bar allows and no more than that: real prices go back and forth between the corners.
    """
    if parts % 3:
        raise ValueError(f"a bar has three legs: {parts} parts do not share them")
    leg = parts // 3
    share = np.arange(1, leg + 1) / leg

    def course(bars: Series) -> Series:
        near, far = (bars.low, bars.high) if order == "low_first" else (bars.high, bars.low)
        corners = (bars.open, near, far, bars.close)
        legs = [
            start[:, None] + (end - start)[:, None] * share
            for start, end in itertools.pairwise(corners)
        ]
        close: Floats = np.concatenate(legs, axis=1).ravel()
        start = np.concatenate([bars.open[:, None], close.reshape(-1, parts)[:, :-1]], axis=1).ravel()
        return Series(start, np.maximum(start, close), np.minimum(start, close), close)

    mark = course(tape.mark)
    index = mark if tape.index is tape.mark else course(tape.index)
    return replace(tape, step_ms=tape.step_ms // parts, mark=mark, index=index)


def joined(tape: Tape, parts: int) -> Tape:
    """Every `parts` bars as one; an incomplete last one is left out."""
    whole = len(tape) // parts

    def fold(bars: Series) -> Series:
        rows = [x[: whole * parts].reshape(whole, parts)
                for x in (bars.open, bars.high, bars.low, bars.close)]
        return Series(rows[0][:, 0], rows[1].max(1), rows[2].min(1), rows[3][:, -1])

    mark = fold(tape.mark)
    index = mark if tape.index is tape.mark else fold(tape.index)
    return replace(tape, step_ms=tape.step_ms * parts, mark=mark, index=index)


def windows(tape: Tape, days: int, every_days: int = 3) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """First bars of the windows of `days`, one every `every_days`."""
    per_day = DAY_MS // tape.step_ms
    return np.arange(0, len(tape) - days * per_day + 1, every_days * per_day, dtype=np.int64)
