"""The results protocol: run every cell in some processes and write what came out.

`document` is plain data (JSON): per cell, market and setting a `metrics.Summary`, the paired difference
of equity and costs to the reference plan with its interval, and the honesty test on the martingale.
The same seeds give the same document on every machine with the same numpy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from hedgelock.backtest import cells, metrics
from hedgelock.backtest.cells import Cell, Market
from hedgelock.backtest.lanes import Results
from hedgelock.backtest.plans import BASELINES, Plan
from hedgelock.backtest.sets import clipped
from hedgelock.backtest.terms import Terms
from hedgelock.history.files import read_bars, read_tape

REFERENCE = "ltv_target"
Found = dict[Cell, dict[str, Results]]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a market comes from. `daily`: spot bars of whole days, whose ranges clip the wicks."""

    perp: str
    funding: str | None = None
    spot: str | None = None
    daily: str | None = None
    hold_gaps: bool = False


STUDY = Sources(
    perp="mania_2021/BTCUSDT_perp_1h_binance.parquet",
    funding="mania_2021/BTCUSDT_funding_bybit.parquet",
    daily="daily/BTCUSDT_spot_1d_2021_2023.parquet",
)
"""The year of the study, inside the shared data folder."""
_SPOT_2023 = "multi_venue_8h_2023/binance_bybit_btc_eth_spot_linear_inverse_8h.parquet?"
_BYBIT_2023 = _SPOT_2023 + "exchange=bybit&crypto=bitcoin&"
HELD_OUT: Mapping[str, Sources] = {
    "2023": Sources(
        perp=_BYBIT_2023 + "contract=perpetual&pair=BTCUSDT",
        funding=_BYBIT_2023 + "contract=perpetual&pair=BTCUSDT",
        spot=_BYBIT_2023 + "contract=spot",
        daily=STUDY.daily,
    ),
    "2025": Sources(
        perp="bybit_2025/BTCUSDT_perp_5m.parquet", spot="bybit_2025/BTCUSDT_spot_5m.parquet",
        funding="bybit_2025/BTCUSDT_funding.parquet",
    ),
}
"""Years that nothing was chosen on; for the one report after the choice is frozen."""


def inside(folder: Path, sources: Sources) -> Sources:
    """The same files, looked for in `folder`."""
    def at(name: str | None) -> str | None:
        return None if name is None else str(folder / name)

    return Sources(str(folder / sources.perp), at(sources.funding), at(sources.spot),
                   at(sources.daily), sources.hold_gaps)


def market(sources: Sources) -> Market:
    """Read a market and clip its wicks where there are daily ranges to clip them with."""
    raw = read_tape(sources.perp, spot=sources.spot, funding=sources.funding,
                    hold_gaps=sources.hold_gaps)
    if sources.daily is None:
        return Market(raw, raw)
    first_ms, _, days = read_bars(sources.daily, hold_gaps=True)
    return Market(clipped(raw, first_ms, days), raw)


def run(
    wanted: Sequence[Cell], sources: Sources, *, processes: int = 2,
    plans: Mapping[str, Plan] = BASELINES, draws: Mapping[str, int] = cells.DRAWS,
    on_done: Callable[[Cell], None] = lambda _cell: None,
) -> Found:
    """Run the cells; `on_done` is called for each as it ends."""
    if processes <= 1:
        whole = market(sources)
        found: Found = {}
        for cell in wanted:
            found[cell] = cells.run(cell, plans[cell.plan], whole, Terms(), draws)
            on_done(cell)
        return found
    found = {}
    # Spawned, not forked: a caller may have threads.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        running = {
            pool.submit(_one, cell, plans[cell.plan].name, sources, draws): cell for cell in wanted
        }
        for done in as_completed(running):
            cell = running[done]
            found[cell] = done.result()
            on_done(cell)
    return {cell: found[cell] for cell in wanted}


def _one(
    cell: Cell, plan: str, sources: Sources, draws: Mapping[str, int]
) -> dict[str, Results]:
    """A cell in a process of its own; a plan travels by name."""
    from hedgelock.domain.money import trap_floats

    trap_floats()
    return cells.run(cell, BASELINES[plan], market(sources), Terms(), draws)


# ---------------------------------------------------------------- as data


def document(found: Found, sources: Sources) -> dict[str, Any]:
    """Everything as plain data."""
    rows = [
        row for cell, markets in found.items() for name, result in markets.items()
        for row in _rows(cell, name, result, found)
    ]
    return {"sources": {k: _name(v) for k, v in asdict(sources).items()}, "reference": REFERENCE,
            "rows": rows}


def _name(value: object) -> object:
    """Files without the folders of this machine."""
    if not isinstance(value, str):
        return value
    path, mark, query = value.partition("?")
    return Path(path).name + mark + query


def _rows(cell: Cell, name: str, result: Results, found: Found) -> Iterable[dict[str, Any]]:
    other = found.get(Cell(cell.kind, cell.days, cell.rhythm, REFERENCE), {}).get(name)
    for ltv in cells.LTVS:
        for pockets in cells.POCKETS:
            for delay in cells.delays(cell.kind, cell.rhythm):
                i = cells.setting_of(cell, ltv, pockets, delay)
                row: dict[str, Any] = {
                    "kind": cell.kind, "market": name, "days": cell.days, "rhythm": cell.rhythm,
                    "plan": cell.plan, "ltv": ltv, "pockets": "+".join(pockets), "delay": delay,
                    **_rounded(asdict(metrics.summary(result, i))),
                }
                if other is not None and cell.plan != REFERENCE:
                    row["against_reference"] = _against(result, other, i)
                if cell.kind == "martingale":
                    kept = metrics.honesty(result, i)
                    row["honesty"] = {**_rounded(kept._asdict()), "is_kept": kept.is_kept}
                yield row


def _against(result: Results, other: Results, i: int) -> dict[str, Any]:
    """Paired differences, plan less reference; intervals by block bootstrap over windows."""
    def paired(mine: Any, theirs: Any) -> dict[str, float]:
        return _rounded(metrics.interval(mine[i] - theirs[i])._asdict())

    return {"equity": paired(result.equity, other.equity),
            "explicit": paired(result.explicit, other.explicit)}


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()}


# ---------------------------------------------------------------- as files


def _compact(data: dict[str, Any]) -> str:
    """The document with its rows as lists under one head, a row to a line."""
    flat = [_flat(row) for row in data["rows"]]
    names = list(dict.fromkeys(name for row in flat for name in row))
    head = {**{k: v for k, v in data.items() if k != "rows"}, "columns": names}
    lines = [json.dumps([row.get(n) for n in names], separators=(",", ":")) for row in flat]
    opening = json.dumps(head)[:-1]
    return opening + ', "rows": [\n' + ",\n".join(lines) + "\n]}\n"


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Nested figures under dotted names."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{k}": v for k, v in _flat(value).items()}
        else:
            found[name] = value
    return found


def write(found: Found, sources: Sources, folder: Path) -> list[Path]:
    """README.md, tables.md, results.json and the figures; the paths written."""
    from hedgelock.backtest import drawing, study, tables

    data = document(found, sources)
    is_study = _name(sources.perp) == _name(STUDY.perp)
    compared = study.compare(found) if is_study else []
    files = {
        "README.md": tables.page(data, compared, study.REMARKS if is_study else ""),
        "tables.md": tables.everything(data),
        "results.json": _compact(data),
        "liquidated.svg": drawing.liquidated(data),
        "equity.svg": drawing.equity(data),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in files]
