"""The runs of the results protocol: which markets, lengths, rhythms and settings, and how they are run.

A cell is one (days, rhythm, plan) over all markets of a kind at once; a kind of one run so that the
accounts of all its markets share the work.

    markets    real · unclipped · mirror (funding reflected, none, or as recorded) · for five-minute
               decisions on coarser bars also real on straight lines, low first and high first
    martingale `DRAWS` draws per window, each bar's return reflected with p = ½, no funding
    stress     −20 % in one bar · −40 % in a day · an hour without decisions in which it falls 10 % ·
               +40 % in a week; each begins in the middle of the window
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Literal, NamedTuple

import numpy as np

from hedgelock.backtest import sets
from hedgelock.backtest.bridge import bridged
from hedgelock.backtest.feed import Bent, Feed, Together, Windows
from hedgelock.backtest.figures import Flags
from hedgelock.backtest.lanes import Lanes, Results
from hedgelock.backtest.plans import Plan
from hedgelock.backtest.terms import Setting, Terms
from hedgelock.history.tape import DAY_MS, HOUR_MS, Tape

Kind = Literal["markets", "martingale", "stress"]
KINDS: tuple[Kind, ...] = ("markets", "martingale", "stress")
RHYTHMS = {"5m": 300_000, "1h": HOUR_MS}
LTVS = ("0.55", "0.65", "0.72")
POCKETS = (("0.10", "0.10"), ("0.05", "0"))
DELAYS = (0, 1)
DRAWS = {"5m": 16, "1h": 64}
"""Martingale draws per window. With 16 hourly ones a bias of the books and chance look alike."""
BRIDGE_SEED = 2021


class Stress(NamedTuple):
    """A move over some time, beginning in the middle of each window. 0 ms = one bar."""

    name: str
    move: float
    lasts_ms: int
    is_outage: bool = False


STRESSES = (
    Stress("−20 % in one bar", -0.20, 0),
    Stress("−40 % in a day", -0.40, DAY_MS),
    Stress("an hour's outage at −10 %", -0.10, HOUR_MS, is_outage=True),
    Stress("+40 % in a week", 0.40, 7 * DAY_MS),
)


@dataclass(frozen=True, slots=True)
class Market:
    """The recorded tape, as it is and with its wicks clipped."""

    clipped: Tape
    raw: Tape


@dataclass(frozen=True, slots=True)
class Cell:
    """One run."""

    kind: Kind
    days: int
    rhythm: str
    plan: str


def delays(kind: Kind, rhythm: str) -> tuple[int, ...]:
    """Repayment delays in bars. Martingale draws every five minutes are the dear ones: none there."""
    return (0,) if kind == "martingale" and rhythm == "5m" else DELAYS


def settings(kind: Kind, rhythm: str) -> list[Setting]:
    """Start LTV × pockets × delay."""
    return [
        Setting(ltv=Decimal(ltv), pocket_usdt=Decimal(usdt), pocket_coins=Decimal(coins),
                delay=delay)
        for ltv in LTVS for usdt, coins in POCKETS for delay in delays(kind, rhythm)
    ]


def at_step(tape: Tape, step_ms: int) -> Tape:
    """The tape in bars of `step_ms`: joined where it is finer, a random path inside where coarser."""
    if tape.step_ms == step_ms:
        return tape
    if tape.step_ms < step_ms:
        return sets.joined(tape, step_ms // tape.step_ms)
    return bridged(tape, tape.step_ms // step_ms, BRIDGE_SEED)


def run(
    cell: Cell, plan: Plan, market: Market, terms: Terms, draws: Mapping[str, int] = DRAWS
) -> dict[str, Results]:
    """The results of a cell by market."""
    step_ms = RHYTHMS[cell.rhythm]
    length = cell.days * DAY_MS // step_ms
    if cell.kind == "stress":
        return _stressed(cell, plan, market, terms)
    feeds: dict[str, Feed] = {}
    if cell.kind == "martingale":
        tape = at_step(market.clipped, step_ms)
        first = sets.windows(tape, cell.days)
        feeds["martingale"] = Together([
            Windows(tape, first, length, has_funding=False, seed=seed) for seed in range(1, draws[cell.rhythm] + 1)
        ])
    else:
        for name, tape in _markets(market, step_ms, cell.rhythm).items():
            feeds[name] = Windows(tape, sets.windows(tape, cell.days), length)
    return _together(feeds, plan, settings(cell.kind, cell.rhythm), terms)


def _markets(market: Market, step_ms: int, rhythm: str) -> dict[str, Tape]:
    hourly = market.clipped
    mirror = sets.mirrored(hourly, reflect_funding=True)
    coarse = {
        "real": hourly,
        "real, wicks unclipped": market.raw,
        "mirror": mirror,
        "mirror, no funding": sets.without_funding(mirror),
        "mirror, funding as recorded": replace(mirror, funding=hourly.funding),
    }
    found = {name: at_step(tape, step_ms) for name, tape in coarse.items()}
    parts = hourly.step_ms // step_ms
    if rhythm == "5m" and parts > 1:
        for order in sets.ORDERS:
            found[f"real, {order.replace('_', ' ')}"] = sets.split(hourly, parts, order)
    return found


def _together(
    feeds: dict[str, Feed], plan: Plan, chosen: list[Setting], terms: Terms,
    blocked: Flags | None = None,
) -> dict[str, Results]:
    every = Together(list(feeds.values()))
    whole = Lanes(every, plan, chosen, terms=terms, blocked=blocked).run()
    found, first = {}, 0
    for name, feed in feeds.items():
        last = first + len(feed.opening.index_close)
        found[name] = cut(whole, first, last)
        first = last
    return found


def cut(whole: Results, first: int, last: int) -> Results:
    """Paths [first, last) of results."""
    return Results(**{f.name: getattr(whole, f.name)[..., first:last] for f in fields(Results)})


def _stressed(cell: Cell, plan: Plan, market: Market, terms: Terms) -> dict[str, Results]:
    step_ms = RHYTHMS[cell.rhythm]
    tape = at_step(market.clipped, step_ms)
    length = cell.days * DAY_MS // step_ms
    middle = length // 2
    chosen = settings(cell.kind, cell.rhythm)
    calm = Windows(tape, sets.windows(tape, cell.days), length)
    found: dict[str, Results] = {}
    for is_outage in (False, True):
        feeds: dict[str, Feed] = {
            s.name: Bent(calm, middle, max(1, s.lasts_ms // step_ms), s.move)
            for s in STRESSES if s.is_outage == is_outage
        }
        blocked = np.zeros(length, bool)
        # The decision at the end of the hour is the first that is made again.
        blocked[middle:middle + max(1, HOUR_MS // step_ms - 1)] = is_outage
        found |= _together(feeds, plan, chosen, terms, blocked)
    return found


def setting_of(cell: Cell, ltv: str, pockets: tuple[str, str] = POCKETS[0], delay: int = 0) -> int:
    """The place of a setting in the cell's `settings`."""
    waits = delays(cell.kind, cell.rhythm)
    place = LTVS.index(ltv) * len(POCKETS) + POCKETS.index(pockets)
    return place * len(waits) + waits.index(delay)


def cells(
    plans: Sequence[str], *, days: Sequence[int] = (30, 90), rhythms: Sequence[str] = ("5m", "1h")
) -> list[Cell]:
    """All cells, the long ones first.

    Stress on the shorter windows only, and martingale draws of the longer ones hourly only.
    """
    found = [
        Cell(kind, n, rhythm, plan)
        for kind in KINDS for n in days for rhythm in rhythms for plan in plans
        if n == min(days) or not (kind == "stress" or (kind == "martingale" and rhythm == "5m"))
    ]
    return sorted(found, key=lambda c: (-c.days, c.rhythm != "5m", c.kind != "martingale"))
