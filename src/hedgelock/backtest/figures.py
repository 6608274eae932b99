"""A plan's and the venue's numbers as floats, and the venue's margin on arrays.

Formulas as in `simulator.margin` and `domain.headroom`, for one linear short in the first margin tier
beside coins and USDT; `Figures` refuses accounts that could leave that tier.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hedgelock.backtest.account import LEVERAGE
from hedgelock.backtest.plans import Plan
from hedgelock.backtest.terms import Terms
from hedgelock.history.tape import Floats

Flags = NDArray[np.bool_]
TINY = 1e-9


class Figures(NamedTuple):
    """Everything that a decision and the cliffs depend on beside the account."""

    fall: float
    rise: float
    ltv_max: float
    band: float
    cost_rate: float
    borrow_rate: float
    harvest_at: float
    harvest_to: float
    urgent_at: float
    urgent_to: float
    refill_below: float
    action_min: float
    cover_fraction: float
    slices_max: int
    caution_size: float
    size_max: float
    ratio_max: float
    notional_max: float
    slippage_max: float
    enter: tuple[float, ...]
    leave: tuple[float, ...]
    dwell_ms: int
    lot: float
    qty_min: float
    qty_max: float
    notional_min: float
    taker: float
    maintenance: float
    initial: float
    tier_max: float
    spot_lot: float
    spot_min: float
    spot_max: float
    spot_notional_min: float
    spot_taker: float
    slippage: float
    loan_ratio: float
    coin_ratio: float
    ltv_initial: float
    ltv_call: float
    ltv_liquidation: float
    liquidation_fee: float
    conversion_fee: float
    margin_borrow_rate: float
    margin_borrow_initial: float
    margin_borrow_hourly: float


def figures(plan: Plan, terms: Terms) -> Figures:
    """The numbers of a plan at a venue."""
    hedge, risk, run = plan.hedge, plan.risk, plan.execution
    perp, spot, margin = terms.perp, terms.spot, terms.margin
    enter = (risk.ltv_caution, risk.ltv_danger, risk.ltv_critical)
    given = (
        hedge.stress_fall, hedge.stress_rise, hedge.ltv_max, hedge.no_trade_band, hedge.cost_rate,
        hedge.borrow_margin_rate, hedge.harvest_at, hedge.harvest_to, hedge.urgent_at,
        hedge.urgent_to, hedge.refill_below, hedge.action_fraction_min,
        hedge.cover_fraction,
    )
    contract = (
        perp.lot, perp.qty_min, min(perp.qty_max, perp.qty_max_market), perp.notional_min,
        perp.taker_rate, perp.tiers[0].mm_rate, max(1 / LEVERAGE, perp.tiers[0].im_rate),
        perp.tiers[0].limit, spot.lot, spot.qty_min, min(spot.qty_max, spot.qty_max_market),
        spot.notional_min, spot.taker_rate,
    )
    venue = (
        terms.slippage, terms.loan_ratio, terms.coin_ratio, terms.ltv_initial,
        terms.ltv_margin_call, terms.ltv_liquidation, terms.liquidation_fee, terms.conversion_fee,
        margin.borrow_mm_rate, margin.borrow_im_rate, margin.borrow_hourly_rate,
    )
    limits = (hedge.caution_size, hedge.position_size_max, risk.margin_ratio_max, run.notional_max,
              run.slippage_max)
    values: list[Any] = [float(x) for x in given]
    values += [hedge.slices_max, *(float(x) for x in limits), tuple(float(x) for x in enter)]
    values += [tuple(float(x - risk.ltv_leave_below) for x in enter), risk.dwell_ms]
    values += [float(x) for x in (*contract, *venue)]
    return Figures(*values)


# ---------------------------------------------------------------- headroom, as the domain computes it


class Room(NamedTuple):
    """What h_cap depends on beside U, per account. `cushion` = K."""

    plain: Floats
    borrowing: Floats
    cushion: Floats
    most: Floats


def room(f: Figures, mark: Floats, index: Floats, coins: Floats) -> Room:
    """The account policy at +u, as `domain.headroom`."""
    up = 1 + f.rise
    plain = mark * (f.ratio_max * f.rise + up * (f.maintenance + f.taker))
    cushion = coins * f.coin_ratio * index * up
    return Room(plain, plain + mark * f.borrow_rate * f.rise, cushion, f.tier_max / (mark * up))


def hedge_cap(f: Figures, r: Room, equity: Floats) -> Floats:
    """h_cap(U), coins ≥ 0."""
    open_room = f.ratio_max * (equity + r.cushion)
    fits = np.minimum(open_room / r.plain, (open_room + f.borrow_rate * equity) / r.borrowing)
    return np.maximum(np.minimum(fits, r.most), 0.0)


def equity_needed(f: Figures, r: Room, short: Floats) -> Floats:
    """The least U with `short` ≤ h_cap(U)."""
    own = short * r.plain / f.ratio_max - r.cushion
    owing = (short * r.borrowing - f.ratio_max * r.cushion) / (f.ratio_max + f.borrow_rate)
    return np.where(short > 0, np.maximum(own, owing), -r.cushion)


# ---------------------------------------------------------------- margin, as the venue computes it


class Held(NamedTuple):
    """The trading pocket of each account."""

    cash: Floats
    coins: Floats
    short: Floats
    entry_value: Floats


def is_margin_dead(f: Figures, held: Held, mark: Floats, index: Floats) -> Flags:
    """accountMMRate ≥ 1 with a short."""
    value = held.short * mark
    equity = held.cash + held.entry_value - value
    balance = equity + held.coins * f.coin_ratio * index
    needed = value * (f.maintenance + f.taker) + np.maximum(-equity, 0) * f.margin_borrow_rate
    return np.asarray((held.short > 0) & (needed >= balance))


def withdrawable(f: Figures, held: Held, mark: Floats, index: Floats) -> Floats:
    """USDT that the venue lets out."""
    value = held.short * mark
    upl = held.entry_value - value
    equity = held.cash + upl
    own = np.maximum(held.cash + np.minimum(upl, 0), 0)
    initial = value * (f.initial + f.taker) + np.maximum(-equity, 0) * f.margin_borrow_initial
    free = equity + held.coins * f.coin_ratio * index - initial
    return np.minimum(own, np.maximum(free, 0))
