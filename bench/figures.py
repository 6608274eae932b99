"""A measured figure and its bar; the arithmetic, the table and the JSON of a run."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

RESULTS = Path(__file__).resolve().parent / "results.json"


@dataclass(frozen=True)
class Figure:
    """A value in `unit`; `bar` None = reported only. `or_bar` is another bar that may be met instead.

    `note` says what else was seen (n, max).
    """

    name: str
    value: float
    unit: str
    bar: float | None = None
    or_bar: float | None = None
    note: str = ""

    @property
    def limit(self) -> float | None:
        """The bar that counts: the larger of the two."""
        bars = [bar for bar in (self.bar, self.or_bar) if bar is not None]
        return max(bars, default=None)

    @property
    def ok(self) -> bool:
        """At or below the bar; a value that is not a number never is."""
        if math.isnan(self.value):
            return False
        return self.limit is None or self.value <= self.limit


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0..1) of all values do not exceed; NaN for none.

    >>> percentile([3, 1, 2, 4], 0.5)
    2
    """
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def spread(name: str, values: Sequence[float], unit: str, *, bars: Sequence[float | None] = (None, None),
           or_bars: Sequence[float | None] = (None, None), note: str = "") -> list[Figure]:
    """p50 and p99 of `values`, each with its bar; n and max are in the note."""
    said = f"n {len(values)}, max {max(values, default=math.nan):.2f} {unit}"
    said = f"{said}, {note}" if note else said
    return [
        Figure(f"{name}_{label}_{unit}", percentile(values, share), unit, bar, or_bar, said)
        for label, share, bar, or_bar in zip(
            ("p50", "p99"), (0.50, 0.99), bars, or_bars, strict=True
        )
    ]


def missed(figures: Iterable[Figure]) -> list[str]:
    """Names of figures that miss their bar."""
    return [figure.name for figure in figures if not figure.ok]


def as_json(figures: Iterable[Figure]) -> dict[str, dict[str, Any]]:
    """`{name: {value, unit, bar, ok}}`; a value that is not a number is null."""
    return {
        figure.name: {
            "value": None if math.isnan(figure.value) else round(figure.value, 4),
            "unit": figure.unit,
            "bar": None if figure.limit is None else round(figure.limit, 4),
            "ok": figure.ok,
        }
        for figure in figures
    }


def write(figures: Iterable[Figure], path: Path = RESULTS) -> None:
    """Merge these figures into the file: a run of some names keeps the others."""
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | as_json(figures), indent=2) + "\n")


def table(figures: Iterable[Figure]) -> Table:
    """Figure, bar, ok for people."""
    shown = Table(title=machine(), title_justify="left")
    shown.add_column("figure")
    for name in ("value", "bar"):
        shown.add_column(name, justify="right")
    shown.add_column("ok")
    shown.add_column("note", overflow="fold")
    for figure in figures:
        ok = "–" if figure.limit is None and figure.ok else "ok" if figure.ok else "MISSED"
        colour = {"ok": "green", "MISSED": "bold red"}.get(ok, "dim")
        bar = "" if figure.limit is None else f"≤ {figure.limit:,.2f} {figure.unit}"
        shown.add_row(figure.name, f"{figure.value:,.2f} {figure.unit}", bar,
                      f"[{colour}]{ok}[/]", figure.note)
    return shown


def machine() -> str:
    """What this ran on, and how busy it was."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo")
         if line.startswith("model name")), platform.processor(),
    )
    memory_kb = next((int(x.split()[1]) for x in _lines("/proc/meminfo")), 0)
    load = " ".join(f"{x:.1f}" for x in os.getloadavg())
    return (f"{model} × {os.cpu_count()}, {memory_kb / 1e6:.0f} GB, Linux {platform.release()}, "
            f"Python {platform.python_version()}, load {load}")


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
