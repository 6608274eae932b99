"""Markets replayed from files: Parquet, Feather (both need polars) or CSV, one coin or many.

    replayed("BTCUSDT_spot_5m.parquet", funding="BTCUSDT_funding.parquet")
    replayed({"BTC": Coin("btc.csv", perp="btc_perp.csv"), "ETH": Coin("eth.csv")}, gaps="hold")

A price file has `ts` (the bar's open, UTC: a date-time or epoch milliseconds) and open, high, low,
close, or one price column. A funding file has `ts` (the settlement), `rate` (a fraction per
interval) and `interval_h`. Script second 0 is the first instant that all coins have.
"""

from __future__ import annotations

import csv
import importlib
import math
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path as FilePath
from typing import Any, Literal

from hedgelock.simulator.paths import Course
from hedgelock.simulator.scenarios import (
    LOAN_TERMS,
    MARGIN_TERMS,
    AccountSetup,
    Scenario,
    twins,
)

Gaps = Literal["refuse", "hold"]
BAR_COLUMNS = ("open", "high", "low", "close")
GAPS_TOLD = 3
CORNER_MS = 1  # a close stands this much before the next open, which may differ
Value = float | Decimal | None


class ReplayError(ValueError):
    """A file cannot be played: which one, where, why, and what to do."""


@dataclass(frozen=True, slots=True)
class File:
    """A file and what to take from it: one price `column` (at the bar's end), or whole bars."""

    path: FilePath | str
    column: str = ""
    where: Mapping[str, str] = field(default_factory=dict)  # only rows with these values
    rate_column: str = "rate"


Source = File | FilePath | str


@dataclass(frozen=True, slots=True)
class Coin:
    """The files of one base coin: index (or spot) prices, the perpetual's prices, its funding."""

    prices: Source
    perp: Source | None = None
    funding: Source | None = None


class Bars:
    """A course through bars: open, the extreme nearer to it, the other one, close.

    Between two bars that do not touch (a gap) the close is held.
    """

    def __init__(self, first_ms: int) -> None:
        self._first_ms = first_ms
        self._times, self._values = array("d"), array("d")

    def add(self, at_ms: float, value: float) -> None:
        """Append a corner."""
        self._times.append((at_ms - self._first_ms) / 1000)
        self._values.append(value)

    def at(self, at_s: float) -> float:
        """Value at a script second; flat outside."""
        times, values = self._times, self._values
        after = bisect_right(times, at_s)
        if after == 0:
            return values[0]
        if after == len(times):
            return values[-1]
        since, until = times[after - 1], times[after]
        share = (at_s - since) / (until - since)
        return values[after - 1] + (values[after] - values[after - 1]) * share


@dataclass(frozen=True, slots=True)
class Premium:
    """The perpetual's premium over the index, from both paths; a fraction."""

    perp: Course
    index: Course

    def at(self, at_s: float) -> float:
        """Value at a script second."""
        return self.perp.at(at_s) / self.index.at(at_s) - 1


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of a file: instants (ms, rising) and values per column."""

    name: str
    ts: tuple[int, ...]
    columns: Mapping[str, Sequence[Value]]

    @property
    def step_ms(self) -> int:
        """Length of a bar: the least distance of two rows."""
        return min((b - a for a, b in zip(self.ts, self.ts[1:], strict=False)), default=60_000)

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """(end of a bar, start of the next) wherever rows are missing, in ms."""
        step = self.step_ms
        return [
            (a + step, b)
            for a, b in zip(self.ts, self.ts[1:], strict=False)
            if b - a > step
        ]  # fmt: skip


def replayed(
    coins: Source | Coin | Mapping[str, Source | Coin],
    *,
    funding: Source | None = None,
    base: str = "BTC",
    gaps: Gaps = "refuse",
    first_ms: int | None = None,
    last_ms: int | None = None,
    accounts: tuple[AccountSetup, ...] | None = None,
) -> Scenario:
    """A scenario that plays recorded prices, and settles recorded funding at its instants.

    Without a funding file the rate is predicted by the formula. `gaps` says what missing bars mean:
    "refuse" raises and names them, "hold" keeps the last price until the next bar.
    """
    given = coins if isinstance(coins, Mapping) else {base: coins}
    named = {name: c if isinstance(c, Coin) else Coin(c) for name, c in given.items()}
    if funding is not None:
        first = next(iter(named))
        named[first] = Coin(named[first].prices, named[first].perp, funding)
    within = _window(first_ms, last_ms)
    tables = {name: _prices(coin.prices, within, gaps) for name, coin in named.items()}
    perps = {
        name: _prices(coin.perp, within, gaps)
        for name, coin in named.items()
        if coin.perp is not None
    }
    begin_ms = max(_begin_ms(t) for t in (*tables.values(), *perps.values()))
    end_ms = min(t.ts[-1] + t.step_ms for t in (*tables.values(), *perps.values()))
    if end_ms <= begin_ms:
        raise ReplayError("the files have no time in common; choose others")
    prices = {name: _course(table, begin_ms) for name, table in tables.items()}
    settlements = {
        name: _settlements(coin.funding, within, begin_ms)
        for name, coin in named.items()
        if coin.funding is not None
    }
    missing = sum(len(t.gaps) for t in (*tables.values(), *perps.values()))
    label = ", ".join(f"{name} from {table.name}" for name, table in tables.items())
    return Scenario(
        name="replay",
        summary=f"{label}, {_iso(begin_ms)} to {_iso(end_ms)}, {missing} gaps",
        duration_s=(end_ms - begin_ms) / 1000,
        prices=prices,
        funding={},
        settlements_s=(),
        accounts=twins("33000") if accounts is None else accounts,
        loan=LOAN_TERMS,
        margin=MARGIN_TERMS,
        noise_bps=0.0,
        premium={name: Premium(_course(t, begin_ms), prices[name]) for name, t in perps.items()},
        settlements=settlements,
        origin_ms=begin_ms,
    )


def _window(first_ms: int | None, last_ms: int | None) -> Callable[[int], bool]:
    low = -(2**62) if first_ms is None else first_ms
    high = 2**62 if last_ms is None else last_ms
    return lambda at_ms: low <= at_ms <= high


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="minutes")


def _begin_ms(table: Table) -> int:
    """A bar has a price from its open on, a single column from the bar's end on."""
    return table.ts[0] + (0 if "open" in table.columns else table.step_ms)


def _prices(source: Source, within: Callable[[int], bool], gaps: Gaps) -> Table:
    file = source if isinstance(source, File) else File(source)
    table = read(file, (file.column,) if file.column else BAR_COLUMNS, within)
    for name, values in table.columns.items():
        for at_ms, value in zip(table.ts, values, strict=True):
            if value is None or not math.isfinite(value) or value <= 0:
                raise ReplayError(f"{table.name}: {name} at {_iso(at_ms)} is {value}, not a price")
    if gaps == "refuse" and table.gaps:
        told = ", ".join(f"{_iso(a)} to {_iso(b)}" for a, b in table.gaps[:GAPS_TOLD])
        raise ReplayError(
            f"{table.name}: {len(table.gaps)} gaps, {told}; "
            'choose another window, or gaps="hold" to keep the last price'
        )
    return table


def _course(table: Table, begin_ms: int) -> Bars:
    """The corners of every bar; over a gap the last price is held until the next bar opens."""
    bars, step = Bars(begin_ms), table.step_ms
    names = BAR_COLUMNS if "open" in table.columns else tuple(table.columns)
    reopened = dict(table.gaps)
    rows = zip(table.ts, *(table.columns[name] for name in names), strict=True)
    for at_ms, *values in rows:
        prices = [float(value or 0) for value in values]
        if len(prices) == 1:
            bars.add(at_ms + step, prices[0])
        else:
            _bar(bars, at_ms, step, prices)
        open_ms = reopened.get(at_ms + step)
        if open_ms is not None:
            bars.add(open_ms - CORNER_MS, prices[-1])
    return bars


def _bar(bars: Bars, at_ms: int, step: int, prices: Sequence[float]) -> None:
    """Open, the extreme nearer to it, the other one, and the close just before the next open."""
    first, high, low, last = prices
    near, far = (low, high) if first - low <= high - first else (high, low)
    for part, value in enumerate((first, near, far)):
        bars.add(at_ms + step * part / 3, value)
    bars.add(at_ms + step - CORNER_MS, last)


def _settlements(
    source: Source, within: Callable[[int], bool], begin_ms: int
) -> tuple[tuple[float, Decimal], ...]:
    file = source if isinstance(source, File) else File(source)
    table = read(file, (file.rate_column,), within)
    found = []
    for at_ms, value in zip(table.ts, table.columns[file.rate_column], strict=True):
        if value is None or not math.isfinite(value):
            raise ReplayError(f"{table.name}: the rate at {_iso(at_ms)} is {value}")
        if at_ms > begin_ms:
            rate = value if isinstance(value, Decimal) else Decimal(str(value))
            found.append(((at_ms - begin_ms) / 1000, rate))
    if not found:
        raise ReplayError(f"{table.name}: no settlement after {_iso(begin_ms)}")
    return tuple(found)


# ---------------------------------------------------------------------- reading


def read(file: File, names: Sequence[str], within: Callable[[int], bool]) -> Table:
    """The named columns of a file, rows rising in time, filtered by `file.where` and `within`."""
    path = FilePath(file.path)
    if not path.is_file():
        raise ReplayError(f"{path}: there is no such file")
    rows = _csv_rows(path) if path.suffix == ".csv" else _polars_rows(path)
    instants: list[int] = []
    columns: dict[str, list[Value]] = {name: [] for name in names}
    for number, row in enumerate(rows, start=1):
        if any(str(row.get(name)) != value for name, value in file.where.items()):
            continue
        missing = [name for name in ("ts", *names) if name not in row]
        if missing:
            raise ReplayError(f"{path.name}: no column {missing[0]!r}; it has {', '.join(row)}")
        at_ms = _instant(row["ts"], path, number)
        if not within(at_ms):
            continue
        if instants and at_ms <= instants[-1]:
            raise ReplayError(f"{path.name}: row {number} is not later than the row before it")
        instants.append(at_ms)
        for name in names:
            columns[name].append(_number(row[name], path, number))
    if not instants:
        raise ReplayError(f"{path.name}: no rows in the chosen window")
    return Table(path.name, tuple(instants), columns)


def _csv_rows(path: FilePath) -> Iterable[Mapping[str, Any]]:
    with path.open(newline="", encoding="utf-8") as lines:
        yield from csv.DictReader(lines)


def _polars_rows(path: FilePath) -> Iterable[Mapping[str, Any]]:
    readers = {".parquet": "read_parquet", ".feather": "read_ipc", ".arrow": "read_ipc"}
    if path.suffix not in readers:
        raise ReplayError(f"{path.name}: not a .parquet, .feather, .arrow or .csv file")
    try:
        polars = importlib.import_module("polars")
    except ImportError as error:
        raise ReplayError(
            f"{path.name}: reading {path.suffix} needs polars: pip install polars, or use CSV"
        ) from error
    frame = getattr(polars, readers[path.suffix])(path)
    rows: Iterable[Mapping[str, Any]] = frame.iter_rows(named=True)
    return rows


def _instant(value: object, path: FilePath, number: int) -> int:
    """Epoch milliseconds of a date-time (without a zone: UTC), its ISO text, or a number."""
    if isinstance(value, str) and not value.isdigit():
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise ReplayError(f"{path.name}: row {number}: ts {value!r} is no time") from error
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return round(aware.timestamp() * 1000)
    if isinstance(value, int | str):
        return int(value)
    raise ReplayError(f"{path.name}: row {number}: ts {value!r} is no time")


def _number(value: object, path: FilePath, number: int) -> Value:
    if value is None or value == "":
        return None
    if isinstance(value, int | float):
        return float(value)
    try:
        return Decimal(str(value))
    except InvalidOperation as error:
        raise ReplayError(f"{path.name}: row {number}: {value!r} is no number") from error
