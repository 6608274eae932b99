"""Market files: Parquet, Feather (both need polars) or CSV, into arrays; nothing filled, all checked.

A price file has `ts` (the bar's open, UTC: date-time, ISO text or epoch milliseconds) and open, high,
low, close, or one price column of closes. A funding file has `ts` (the settlement), a rate column
(`rate` or `funding_rate`, a fraction per interval) and perhaps `interval_h`. A source may name rows
and columns behind the path: `file.parquet?contract=linear&column=um_close`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import numpy as np

from hedgelock.errors import HedgeLockError
from hedgelock.history.tape import HOUR_MS, Floats, Integers, Series, Settlements, Tape

BAR_COLUMNS = ("open", "high", "low", "close")
RATE_COLUMNS = ("rate", "funding_rate")
GAPS_TOLD = 3


class HistoryError(HedgeLockError):
    """A file of recorded prices cannot be used: which one, where, why, and what to do."""


class Source(NamedTuple):
    """A file, the rows of it that count, and the price column where there are no bars."""

    path: Path
    where: Mapping[str, str]
    column: str


def source(text: str | Path) -> Source:
    """`path?name=value&column=close` as a source.

    >>> source("a.csv?contract=linear&column=um_close").column
    'um_close'
    """
    path, _, query = str(text).partition("?")
    asked = dict(parse_qsl(query))
    return Source(Path(path), {k: v for k, v in asked.items() if k != "column"},
                  asked.get("column", ""))


class Frame(NamedTuple):
    """Columns of a file, rows rising in time."""

    name: str
    ts_ms: Integers
    columns: Mapping[str, Floats]

    @property
    def step_ms(self) -> int:
        """Length of a bar: the least distance of two rows."""
        return int(np.diff(self.ts_ms).min()) if len(self.ts_ms) > 1 else 60_000

    def gaps(self) -> list[tuple[int, int]]:
        """(end of a bar, open of the next) wherever bars are missing."""
        apart = np.diff(self.ts_ms)
        step = self.step_ms
        return [
            (int(self.ts_ms[i]) + step, int(self.ts_ms[i + 1]))
            for i in np.nonzero(apart > step)[0]
        ]


def read(asked: Source) -> Frame:
    """The numeric columns of a file. Raises HistoryError with file and reason."""
    path = asked.path
    if not path.is_file():
        raise HistoryError(f"{path}: there is no such file")
    polars = _polars(path)
    readers = {".parquet": "read_parquet", ".feather": "read_ipc", ".arrow": "read_ipc",
               ".csv": "read_csv"}
    if path.suffix not in readers:
        raise HistoryError(f"{path.name}: not a .parquet, .feather, .arrow or .csv file")
    options = {"try_parse_dates": True} if path.suffix == ".csv" else {}
    frame = getattr(polars, readers[path.suffix])(path, **options)
    if "ts" not in frame.columns:
        raise HistoryError(f"{path.name}: no column 'ts'; it has {', '.join(frame.columns)}")
    for name, value in asked.where.items():
        if name not in frame.columns:
            raise HistoryError(f"{path.name}: no column {name!r} to choose rows by")
        frame = frame.filter(polars.col(name).cast(polars.String) == value)
    if not len(frame):
        raise HistoryError(f"{path.name}: no rows in the chosen part")
    instants = _instants(frame["ts"], polars, path.name)
    late = np.nonzero(np.diff(instants) <= 0)[0]
    if len(late):
        raise HistoryError(f"{path.name}: row {int(late[0]) + 2} is not later than the one before it")
    numeric = {
        name: frame[name].cast(polars.Float64).to_numpy()
        for name in frame.columns if name != "ts" and frame[name].dtype.is_numeric()
    }
    return Frame(path.name, instants, numeric)


def _polars(path: Path) -> Any:
    try:
        return importlib.import_module("polars")
    except ImportError as error:
        raise HistoryError(
            f"{path.name}: reading it needs polars: pip install 'hedgelock[research]'"
        ) from error


def _instants(column: Any, polars: Any, name: str) -> Integers:
    """Epoch milliseconds; date-times without a zone are UTC."""
    kind = column.dtype
    if kind == polars.String:
        column = column.str.to_datetime(time_unit="ms", time_zone="UTC", strict=False)
    elif kind.is_integer():
        return np.asarray(column.cast(polars.Int64).to_numpy(), dtype=np.int64)
    elif not kind.is_temporal():
        raise HistoryError(f"{name}: ts is neither a time nor milliseconds")
    if column.null_count():
        raise HistoryError(f"{name}: a ts is no time")
    return np.asarray(column.dt.epoch("ms").to_numpy(), dtype=np.int64)


def read_bars(text: str | Path, *, hold_gaps: bool = False) -> tuple[int, int, Series]:
    """(open of the first bar, bar length, bars). Gaps are refused, or held at the last close.

    A single price column becomes bars that open at the close before; they know no wicks.
    """
    asked = source(text)
    frame = read(asked)
    columns = frame.columns
    if asked.column or not all(name in columns for name in BAR_COLUMNS):
        name = asked.column or "close"
        if name not in columns:
            raise HistoryError(f"{frame.name}: no bars and no price column; it has {', '.join(columns)}")
        close = columns[name]
        before = np.concatenate([close[:1], close[:-1]])
        bars = Series(before, np.maximum(before, close), np.minimum(before, close), close)
    else:
        bars = Series(*(columns[name] for name in BAR_COLUMNS))
    if not bars.is_sound:
        raise HistoryError(f"{frame.name}: a price is missing, not positive, or outside its bar")
    if frame.gaps():
        if not hold_gaps:
            raise HistoryError(_told(frame))
        return int(frame.ts_ms[0]), frame.step_ms, _held(frame, bars)
    return int(frame.ts_ms[0]), frame.step_ms, bars


def _told(frame: Frame) -> str:
    found = frame.gaps()
    first = ", ".join(f"{np.datetime64(a, 'ms')} to {np.datetime64(b, 'ms')}"
                      for a, b in found[:GAPS_TOLD])
    return f"{frame.name}: {len(found)} gaps, {first}; choose another part, or hold the last price"


def _held(frame: Frame, bars: Series) -> Series:
    """Bars on the whole grid; a missing one stands at the close before it."""
    place = (frame.ts_ms - frame.ts_ms[0]) // frame.step_ms
    grid = np.arange(int(place[-1]) + 1)
    known = np.searchsorted(place, grid, side="right") - 1
    is_there = place[known] == grid
    close = bars.close[known]
    return Series(*(
        np.where(is_there, column[known], close)
        for column in (bars.open, bars.high, bars.low, bars.close)
    ))


def read_funding(text: str | Path) -> Settlements:
    """Settled funding; without an `interval_h` column the interval is the time since the one before."""
    asked = source(text)
    frame = read(asked)
    names = [asked.column] if asked.column else [n for n in RATE_COLUMNS if n in frame.columns]
    if not names or names[0] not in frame.columns:
        raise HistoryError(f"{frame.name}: no rate column; it has {', '.join(frame.columns)}")
    rate = frame.columns[names[0]]
    keep = np.isfinite(rate)
    ts_ms, rate = frame.ts_ms[keep], rate[keep]
    if "interval_h" in frame.columns:
        hours = frame.columns["interval_h"][keep]
    else:
        apart = np.diff(ts_ms, prepend=ts_ms[:1] - 8 * HOUR_MS)
        hours = np.rint(apart / HOUR_MS).astype(np.float64)
    if not (np.isfinite(hours).all() and (hours > 0).all()):
        raise HistoryError(f"{frame.name}: an interval is missing or not positive")
    return Settlements(ts_ms, rate, hours)


def read_tape(
    perp: str | Path, *, spot: str | Path | None = None, funding: str | Path | None = None,
    hold_gaps: bool = False,
) -> Tape:
    """A market from files; `spot` prices value collateral and loan where given, else the perpetual's.

    With both, the tape is what they have in common; their bars must be of one length.
    """
    first, step, mark = read_bars(perp, hold_gaps=hold_gaps)
    index = mark
    if spot is not None:
        first_spot, step_spot, other = read_bars(spot, hold_gaps=hold_gaps)
        if step_spot != step:
            raise HistoryError(f"{source(spot).path.name}: bars of {step_spot // 1000} s beside "
                               f"bars of {step // 1000} s")
        start = max(first, first_spot)
        last = min(first + len(mark) * step, first_spot + len(other) * step)
        if last <= start or (first_spot - first) % step:
            raise HistoryError(f"{source(spot).path.name}: no bars in common with the perpetual's")
        mark = mark.between((start - first) // step, (last - first) // step)
        index = other.between((start - first_spot) // step, (last - first_spot) // step)
        first = start
    settled = read_funding(funding) if funding is not None else None
    name = source(perp).path.stem
    tape = Tape(name, first, step, mark, index)
    return tape if settled is None else Tape(name, first, step, mark, index, settled)
