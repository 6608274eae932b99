"""Are the probabilities true? Accounts are placed before recorded hours, and what came is counted.

Every hour an account stands 1, 2 and 3 standard deviations above its barrier, deviations being those
of the *fit* months, so that the distance says nothing of the present. The risk-engine's volatility
and first passage (`domain/volatility.py`, `forecast/barrier.py`) say how likely the barrier is
touched within 1, 24 and 168 hours; an hour's low at or below it is a touch.

    log loss = −mean(y·ln p + (1 − y)·ln(1 − p))               y = 1 where it was touched

and three ways of not looking at the market are its rivals, each per distance and horizon: the base
rate of the fit months (what could be known), that of the held-out months themselves (what could
not), and a Gaussian with the same expected variance. Windows lie whole inside their months; months
used to fit the constants never score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hedgelock.domain.volatility import HALF_FAST_H, HALF_SLOW_H, PRIOR, REVERT_H
from hedgelock.forecast.barrier import HOURS_PER_YEAR, Walk, first_passage, touches

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FIT_MONTHS: Final = (1, 3, 5, 7, 9, 11)
"""Of 2021: the constants of volatility and tails were chosen on these."""
HELD_MONTHS: Final = (2, 4, 6, 8, 10, 12)
HORIZONS_H: Final = (1, 24, 168)
SIGMAS: Final = (1, 2, 3)
WARM_UP_H: Final = 168
_LEAST: Final = 1e-6
"""Probabilities are published to six digits: none counts as surer than this."""
_EDGES: Final = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 1.0)


class Hours(NamedTuple):
    """Hourly candles: close, high, low, and the month of each bar."""

    high: Floats
    low: Floats
    close: Floats
    month: Ints


class Scored(NamedTuple):
    """One distance and horizon in the held-out months. Losses in nats."""

    horizon_h: int
    sigmas: int
    accounts: int
    seen: float
    said: float
    base_rate: float
    """Frequency in the fit months."""
    loss: float
    loss_base: float
    loss_hindsight: float
    """Of the held-out months' own frequency, which nobody could know."""
    loss_gaussian: float


class Bin(NamedTuple):
    """Of everything that was said to be between `low` and `high`: how likely, and how often it was seen."""

    low: float
    high: float
    accounts: int
    said: float
    seen: float


def read_hours(path: Path) -> Hours:
    """Candles from a Parquet file with ts, high, low, close; ts ascending, hourly."""
    frame = pl.read_parquet(path).sort("ts")
    high, low, close = (frame[name].to_numpy() for name in ("high", "low", "close"))
    return Hours(high, low, close, frame["ts"].dt.month().to_numpy().astype(np.int64))


# ---------------------------------------------------------------- what was said


def means(hours: Hours) -> tuple[Floats, Floats]:
    """(fast, slow) variance per year after each hour, as `domain.volatility` folds whole hours."""
    seen = np.log(hours.high / hours.low) ** 2 / (4 * math.log(2)) * HOURS_PER_YEAR
    return _forgetting(seen, float(HALF_FAST_H)), _forgetting(seen, float(HALF_SLOW_H))


def _forgetting(values: Floats, half_life: float) -> Floats:
    weight, mean = 1 - 2 ** (-1 / half_life), float(PRIOR)
    found = np.empty_like(values)
    for at, value in enumerate(values):
        mean += weight * (value - mean)
        found[at] = mean
    return found


def expected(hours: Hours, horizon_h: int) -> Floats:
    """Mean variance per year expected of the next hours, after each hour (`Variances.over`)."""
    fast, slow = means(hours)
    decay = horizon_h / float(REVERT_H)
    found: Floats = slow + (fast - slow) * (1 - math.exp(-decay)) / decay
    return found


def said(variance: Floats, distance: float, horizon_h: int) -> Floats:
    """`barrier.touches` of a line `distance` below in log price, interpolated in ln variance."""
    grid = np.linspace(np.log(variance.min()), np.log(variance.max()), 161)
    values = [touches(Walk(math.exp(x), horizon_h), math.exp(-distance)) for x in grid]
    return np.interp(np.log(variance), grid, values)


def gaussian(variance: Floats, distance: float, horizon_h: int) -> Floats:
    """The same without fat tails."""
    years = horizon_h / HOURS_PER_YEAR
    grid = np.linspace(np.log(variance.min()), np.log(variance.max()), 161)
    values = [first_passage(distance, math.exp(x) * years, math.exp(x) * years / 2) for x in grid]
    return np.interp(np.log(variance), grid, values)


# ---------------------------------------------------------------- what was seen


def lowest_ahead(hours: Hours, horizon_h: int) -> Floats:
    """ln(lowest low of the next hours ÷ this close); NaN where the record ends too early."""
    found = np.full(hours.close.size, np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(hours.low[1:], horizon_h).min(axis=1)
    found[: windows.size] = np.log(windows / hours.close[: windows.size])
    return found


def placed_in(hours: Hours, months: Sequence[int], horizon_h: int) -> NDArray[np.intp]:
    """Hours after the warm-up whose window lies whole inside `months`."""
    inside = np.isin(hours.month, months)
    last = np.minimum(np.arange(inside.size) + horizon_h, inside.size - 1)
    whole = inside & inside[last]
    whole[:WARM_UP_H] = False
    whole[max(0, inside.size - horizon_h):] = False
    return np.flatnonzero(whole)


def log_loss(probability: Floats, touched: Floats) -> float:
    """−mean(y·ln p + (1 − y)·ln(1 − p)), p kept off 0 and 1."""
    p = np.clip(probability, _LEAST, 1 - _LEAST)
    return float(-(touched * np.log(p) + (1 - touched) * np.log(1 - p)).mean())


def deviation(hours: Hours, months: Sequence[int]) -> float:
    """Standard deviation per √year of the months' hourly closes."""
    moves = np.diff(np.log(hours.close), prepend=np.log(hours.close[0]))
    inside = moves[np.isin(hours.month, months)]
    return float(np.sqrt((inside**2).mean() * HOURS_PER_YEAR))


class Cell(NamedTuple):
    """One distance and horizon: the scores, and what was said and seen hour by hour."""

    scored: Scored
    said: Floats
    touched: Floats


def cells(
    hours: Hours, fit: Sequence[int] = FIT_MONTHS, held: Sequence[int] = HELD_MONTHS
) -> list[Cell]:
    """Every distance at every horizon, scored on the held-out months."""
    sigma = deviation(hours, fit)
    found = []
    for horizon_h in HORIZONS_H:
        ahead, variance = lowest_ahead(hours, horizon_h), expected(hours, horizon_h)
        before, after = placed_in(hours, fit, horizon_h), placed_in(hours, held, horizon_h)
        for sigmas in SIGMAS:
            distance = sigmas * sigma * math.sqrt(horizon_h / HOURS_PER_YEAR)
            touched = (ahead[after] <= -distance).astype(np.float64)
            base = float((ahead[before] <= -distance).mean())
            likely = said(variance[after], distance, horizon_h)
            plain = gaussian(variance[after], distance, horizon_h)
            scored = Scored(
                horizon_h, sigmas, touched.size, float(touched.mean()), float(likely.mean()), base,
                log_loss(likely, touched),
                log_loss(np.full_like(touched, base), touched),
                log_loss(np.full_like(touched, touched.mean()), touched),
                log_loss(plain, touched),
            )
            found.append(Cell(scored, likely, touched))
    return found


def reliability(found: Sequence[Cell], edges: Sequence[float] = _EDGES) -> list[Bin]:
    """The reliability table: said against seen, by how likely it was said to be. Empty bins left out."""
    likely = np.concatenate([cell.said for cell in found])
    touched = np.concatenate([cell.touched for cell in found])
    bins = []
    for low, high in pairwise(edges):
        inside = (likely >= low) & ((likely < high) | (high == edges[-1]))
        if inside.any():
            bins.append(Bin(low, high, int(inside.sum()), float(likely[inside].mean()),
                            float(touched[inside].mean())))
    return bins


def pooled(found: Sequence[Cell]) -> dict[str, float]:
    """Mean losses over all distances and horizons, each counting alike."""
    rows = [cell.scored for cell in found]
    return {
        name: sum(getattr(row, name) for row in rows) / len(rows)
        for name in ("loss", "loss_base", "loss_hindsight", "loss_gaussian")
    }
