"""What an independent study found for the baselines on 2021, and how near these results come.

Windows of 30 days, BTC 2021 and its mirror, pockets .10 + .10, start LTV .65 / .72. % liquidated with
decisions every five minutes; equity (units of the collateral at the start), its 5th percentile and the
share of the upside kept with hourly ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from hedgelock.backtest import cells, metrics
from hedgelock.backtest.cells import Cell
from hedgelock.backtest.results import Found

LTVS = ("0.65", "0.72")
MARKETS = ("real", "mirror, funding as recorded")
SHARE_ROOM, MONEY_ROOM = 0.015, 0.01


class Told(NamedTuple):
    """Figures at start LTV .65 and .72; fractions."""

    liquidated: tuple[float, float]
    equity: tuple[float, float]
    equity_p5: tuple[float, float]
    upside: tuple[float, float]
    liquidated_1h: tuple[float, float] | None = None


STUDY: Mapping[str, Told] = {
    "unhedged": Told((0.121, 0.223), (0.574, 0.505), (0.190, 0.192), (1.00, 0.98)),
    "reserve_only": Told((0.004, 0.040), (0.575, 0.501), (0.199, 0.096), (1.00, 1.00)),
    "sell_collateral": Told((0.0, 0.0), (0.573, 0.501), (0.210, 0.200), (0.98, 0.92), (0.040, 0.027)),
    "ladder": Told((0.009, 0.045), (0.575, 0.500), (0.195, 0.110), (1.00, 1.00)),
    "ltv_target": Told((0.0, 0.0), (0.577, 0.505), (0.305, 0.282), (0.93, 0.75)),
    "delta_neutral": Told((0.0, 0.0), (0.578, 0.507), (0.516, 0.424), (0.16, 0.30)),
}


class Compared(NamedTuple):
    """One figure of the study beside ours."""

    plan: str
    figure: str
    ltv: str
    theirs: float
    ours: float
    room: float

    @property
    def agrees(self) -> bool:
        """Within the room that the issue gives."""
        return abs(self.ours - self.theirs) <= self.room + 5e-4


def compare(found: Found, days: int = 30) -> list[Compared]:
    """Every figure of the study that the runs at hand can answer."""
    rows: list[Compared] = []
    for plan, told in STUDY.items():
        cell = Cell("markets", days, "1h", plan)
        five, hour = (found.get(replace(cell, rhythm=rhythm)) for rhythm in ("5m", "1h"))
        for n, ltv in enumerate(LTVS):
            i = cells.setting_of(cell, ltv)
            if five is not None:
                share = metrics.summary(metrics.pooled([five[m] for m in MARKETS]), i).liquidated
                rows.append(Compared(plan, "liquidated, 5 min", ltv, told.liquidated[n], share, SHARE_ROOM))
            if hour is None:
                continue
            ours = metrics.summary(metrics.pooled([hour[m] for m in MARKETS]), i)
            if told.liquidated_1h is not None:
                rows.append(Compared(plan, "liquidated, 1 h", ltv, told.liquidated_1h[n],
                                     ours.liquidated, SHARE_ROOM))
            rows += [
                Compared(plan, "mean equity, 1 h", ltv, told.equity[n], ours.equity, MONEY_ROOM),
                Compared(plan, "5th percentile, 1 h", ltv, told.equity_p5[n], ours.equity_p5, MONEY_ROOM),
                Compared(plan, "upside kept, 1 h", ltv, told.upside[n], ours.upside, SHARE_ROOM),
            ]
    return rows
