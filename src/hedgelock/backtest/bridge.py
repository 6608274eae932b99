"""What may have happened inside a bar: random paths that fit its open, high, low and close.

A library of Brownian paths, each with its place of open and close inside its own range; every bar takes
at random one whose places are those of the bar (to a fortieth of the range), stretched to the bar's
range and bent to its very open and close. High and low are met exactly. Straight lines through the
extremes (`sets.split`) instead let the price turn round at each extreme for certain, which charges
every hedger a whipsaw per bar that no real market has; `tests/backtest/test_bridge.py` shows both
against recorded five-minute bars.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np

from hedgelock.history.tape import Floats, Integers, Series, Tape

PATHS = 120_000
STEPS_PER_PART = 5
GRID = 40


class Library(NamedTuple):
    """Paths in units of their range: arrays [path, part]; `order` sorts them by grid cell."""

    close: Floats
    high: Floats
    low: Floats
    begin: Floats
    end: Floats
    order: Integers
    first: Integers
    """Where each cell begins in `order`; one more than there are cells."""
    nearest: Integers
    """For each cell the nearest one that is not empty."""


def bridged(tape: Tape, parts: int, seed: int) -> Tape:
    """Each bar as `parts` equal ones on a random path that fits it."""
    dice = np.random.default_rng(seed)
    mark = _walk(tape.mark, parts, dice)
    index = mark if tape.index is tape.mark else _walk(tape.index, parts, dice)
    return replace(tape, step_ms=tape.step_ms // parts, mark=mark, index=index)


def _walk(bars: Series, parts: int, dice: np.random.Generator) -> Series:
    library = _library(parts)
    span = bars.high - bars.low
    unit = np.where(span > 0, span, 1.0)
    begin, end = (bars.open - bars.low) / unit, (bars.close - bars.low) / unit
    cell = library.nearest[_cell(begin, end)]
    count = library.first[cell + 1] - library.first[cell]
    taken = library.order[library.first[cell] + dice.integers(0, count)]
    time = np.arange(1, parts + 1) / parts
    off_begin, off_end = begin - library.begin[taken], end - library.end[taken]
    bend = off_begin[:, None] * (1 - time) + off_end[:, None] * time
    close = np.clip(library.close[taken] + bend, 0.0, 1.0)
    close[:, -1] = end
    opens = np.concatenate([begin[:, None], close[:, :-1]], axis=1)
    high, low = library.high[taken], library.low[taken]
    # The part that holds the extreme keeps it, whatever the bend; the others stay inside.
    top = np.where(high >= high.max(1, keepdims=True), 1.0, np.clip(high + bend, 0.0, 1.0))
    bottom = np.where(low <= low.min(1, keepdims=True), 0.0, np.clip(low + bend, 0.0, 1.0))
    top = np.maximum(top, np.maximum(opens, close))
    bottom = np.minimum(bottom, np.minimum(opens, close))

    def price(part: Floats) -> Floats:
        return np.asarray((bars.low[:, None] + part * span[:, None]).ravel())

    return Series(price(opens), price(top), price(bottom), price(close))


def _cell(begin: Floats, end: Floats) -> Integers:
    row = np.clip((begin * GRID).astype(np.int64), 0, GRID - 1)
    column = np.clip((end * GRID).astype(np.int64), 0, GRID - 1)
    return np.asarray(row * GRID + column)


@cache
def _library(parts: int) -> Library:
    dice = np.random.default_rng(parts)
    steps = dice.standard_normal((PATHS, parts * STEPS_PER_PART)).cumsum(1)
    course = np.concatenate([np.zeros((PATHS, 1)), steps], axis=1)
    least = course.min(1, keepdims=True)
    course = (course - least) / (course.max(1, keepdims=True) - least)
    # Each part with the point that it begins at.
    pieces = np.stack([
        course[:, i * STEPS_PER_PART:(i + 1) * STEPS_PER_PART + 1] for i in range(parts)
    ], axis=1)
    begin, end = course[:, 0], course[:, -1]
    cell = _cell(begin, end)
    order = np.argsort(cell, kind="stable")
    count = np.bincount(cell, minlength=GRID * GRID)
    first = np.concatenate([[0], count.cumsum()])
    return Library(pieces[:, :, -1].copy(), pieces.max(2), pieces.min(2), begin, end, order, first,
                   _nearest(count))


def _nearest(count: Integers) -> Integers:
    filled = np.nonzero(count)[0]
    row, column = np.divmod(np.arange(GRID * GRID), GRID)
    apart = (row[:, None] - row[filled]) ** 2 + (column[:, None] - column[filled]) ** 2
    return np.asarray(filled[apart.argmin(1)])
