"""Many accounts at once: which of them a tick concerns, and all of them marked anew.

`Screen` holds everybody's `hold` as arrays: one tick is compared with a million accounts, and only
those that it takes out of their region are stepped, by the same `risk.step` as ever.

`assess_many` marks all of a `Fleet` to one market: the same state, confidence, reason and figures as
`risk.step` gives each of them, in float64. Where LTV lies so near to a line that the last digits of
a float would decide, the account is `doubtful` and the caller steps it exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hedgelock.domain import kernels
from hedgelock.domain.hysteresis import Rungs
from hedgelock.domain.market import MarketTick
from hedgelock.domain.risk import Confidence, RiskReason, RiskState, rungs_of
from hedgelock.domain.step import Hold, PriceBox
from hedgelock.services.fleet import NEVER_MS, RUNGS, Bools, Fleet, Floats, Ints, Market

ROWS: Final = 16_384
"""Accounts marked at a time: their arrays fit the processor's cache."""
DOUBT: Final = 1e-12
"""Nearer than this fraction to a line, a float does not decide."""
STATES: Final = tuple(RiskState)
CONFIDENCES: Final = (Confidence.FRESH, Confidence.STALE)
REASONS: Final = (
    RiskReason.WITHIN_LIMITS, RiskReason.LTV_ABOVE_CAUTION, RiskReason.LTV_ABOVE_DANGER,
    RiskReason.LTV_ABOVE_CRITICAL, RiskReason.HELD_BY_HYSTERESIS, RiskReason.HELD_BY_DWELL,
    RiskReason.NO_COLLATERAL, RiskReason.INPUT_STALE,
)
"""What the arrays' codes mean."""
_maximum: Callable[[Any, Any], Any] = np.maximum
_HELD, _DWELLS, _UNCOVERED, _STALE = range(4, 8)


# ---------------------------------------------------------------- screening by hold


class Screen:
    """The price box of one instrument and the time limit of each account's hold."""

    def __init__(self, instrument: str, holds: Sequence[Hold]) -> None:
        """Take everybody's hold; a hold without a box for the instrument is left by no price."""
        self.instrument = instrument
        count = len(holds)
        self._bounds = [np.empty(count) for _ in range(4)]
        self._until = np.empty(count, dtype=np.int64)
        self._left = np.empty(count, dtype=np.bool_)
        self._part = np.empty(count, dtype=np.bool_)
        for at, hold in enumerate(holds):
            self.renew(at, hold)

    def renew(self, at: int, hold: Hold) -> None:
        """Account `at` was stepped and holds anew. Bounds are rounded inwards: never too large."""
        box: PriceBox | None = hold.boxes.get(self.instrument)
        limits = (-np.inf, np.inf, -np.inf, np.inf) if box is None else tuple(map(float, box))
        for number, (bound, limit) in enumerate(zip(self._bounds, limits, strict=True)):
            bound[at] = np.nextafter(limit, np.inf if number % 2 == 0 else -np.inf)
        self._until[at] = np.iinfo(np.int64).max if hold.until_ms is None else hold.until_ms

    def leavers(self, tick: MarketTick, now_ms: int) -> NDArray[np.intp]:
        """Accounts to step: outside their box at these prices, or past their time."""
        mark, index = float(tick.mark_price), float(tick.index_price)
        mark_low, mark_high, index_low, index_high = self._bounds
        left, part = self._left, self._part
        np.greater(mark_low, mark, out=left)
        for compare, bound, price in (
            (np.less, mark_high, mark), (np.greater, index_low, index), (np.less, index_high, index),
        ):
            compare(bound, price, out=part)
            np.logical_or(left, part, out=left)
        np.less_equal(self._until, now_ms, out=part)
        np.logical_or(left, part, out=left)
        return np.flatnonzero(left)


# ---------------------------------------------------------------- marking all anew


class Assessed(NamedTuple):
    """Everybody's assessment. Codes index STATES, REASONS and CONFIDENCES; figures as published.

    `ltv`, `ltv_net_fall` and the margin ratios are inf where `risk.step` says None.
    """

    state: Ints
    reason: Ints
    confidence: Ints
    has_latch: Bools
    level: Ints
    below: tuple[Ints, ...]
    doubtful: Bools
    ltv: Floats
    ltv_net_fall: Floats
    margin_ratio: Floats
    margin_ratio_rise: Floats
    margin_ratio_fall: Floats
    counted_value: Floats
    collateral_value: Floats
    net_delta: Floats


def assess_many(fleet: Fleet, market: Market, now_ms: int) -> Assessed:
    """Every account of the fleet at this market; `debt_value` is the fleet's `debt`."""
    parts = []
    for start in range(0, fleet.size, ROWS):
        rows = slice(start, start + ROWS)
        with np.errstate(divide="ignore", invalid="ignore"):
            parts.append(_assess(_part_of(fleet, rows), market, now_ms))
    columns: list[Any] = [
        tuple([np.concatenate(rungs) for rungs in zip(*column, strict=True)])
        if isinstance(column[0], tuple) else np.concatenate(column)
        for column in zip(*parts, strict=True)
    ]
    return Assessed(*columns)


def _part_of(fleet: Fleet, rows: slice) -> Fleet:
    cut: dict[str, Any] = {
        name: value[rows] for name, value in fleet._asdict().items()
        if isinstance(value, np.ndarray)
    }
    return fleet._replace(**cut, below=tuple([since[rows] for since in fleet.below]))


def _assess(fleet: Fleet, market: Market, now_ms: int) -> Assessed:
    hedge, risk = fleet.policy.hedge, fleet.policy.risk
    index = market.index_price
    counted_value = fleet.counted * index
    owes = fleet.debt > 0
    ltv = np.where(owes, kernels.ltv(fleet.debt, counted_value), 0.0)
    profit = kernels.linear_upl(fleet.qty, fleet.entry, market.mark_price)
    delta = fleet.qty
    if market.inverse is not None:
        delta = delta + kernels.inverse_delta(fleet.inverse_qty, fleet.inverse_entry)
    fall, rise = float(hedge.stress_fall), float(hedge.stress_rise)
    net = kernels.net_debt(
        fleet.debt, fund=fleet.fund, reserve=fleet.reserve, pocket_equity=fleet.cash + profit
    )
    net_fall: Any = np.full_like(ltv, np.inf)
    if fall < 1:
        net_fall = kernels.ltv_net(
            net, counted_value, hedge_value=-delta * index, fall=fall,
            cost_rate=float(hedge.cost_rate),
        )
        net_fall = np.where(counted_value > 0, net_fall, np.inf)
    pledged = fleet.pledged
    state, reason, confidence, has_latch, level, below = _judged(fleet, market, ltv, now_ms)
    now, up, down = [_margin_ratio(fleet, market, 1.0 + move) for move in (0.0, rise, -fall)]
    return Assessed(
        state, reason, confidence, has_latch, level, below, _is_doubtful(ltv, rungs_of(risk)),
        ltv, np.where(owes, net_fall, 0.0), now, up, down,
        counted_value, pledged * index, pledged + fleet.coins + fleet.fund_coins + delta,
    )


def _margin_ratio(fleet: Fleet, market: Market, scale: float) -> Floats:
    """accountMMRate with all prices × `scale`, as `margin.margin_ratio`; inf = no equity is left."""
    if scale <= 0:
        return np.full_like(fleet.cash, np.inf)
    borrow, index = float(fleet.policy.hedge.borrow_margin_rate), market.index_price * scale
    mark = market.mark_price * scale
    profit: Any = kernels.linear_upl(fleet.qty, fleet.entry, mark)
    needed: Floats = market.linear.needed(np.abs(fleet.qty) * mark)
    equity: Any = fleet.cash + profit
    needed = needed + _owed(equity) * borrow
    # Of what is owed nothing is counted, so counted and owed can be added (`margin_sums`).
    balance: Any = profit + fleet.cash_counted + np.minimum(fleet.cash, 0.0)
    coins: Any = fleet.coins_counted + np.minimum(fleet.coins, 0.0)
    equity = fleet.coins
    if market.inverse is not None:
        mark = market.inverse_mark * scale
        profit = kernels.inverse_upl(fleet.inverse_qty, fleet.inverse_entry, mark)
        needed = needed + market.inverse.needed(np.abs(fleet.inverse_qty) / mark) * index
        coins, equity = coins + profit, equity + profit
    needed = needed + _owed(equity) * (index * borrow)
    balance = balance + coins * index
    ratio = np.where(balance > 0, needed / balance, np.inf)
    return np.where((balance == 0) & (needed == 0), 0.0, ratio)


def _owed(equity: Floats) -> Floats:
    found: Floats = kernels.owed(equity, maximum=_maximum)
    return found


def _is_doubtful(ltv: Floats, rungs: Rungs) -> Bools:
    low, high = ltv * (1 - DOUBT), ltv * (1 + DOUBT)
    found = np.zeros(ltv.shape, dtype=np.bool_)
    for line in (*rungs.enter, *rungs.leave):
        found |= (low <= float(line)) & (high >= float(line))
    return found


def _judged(fleet: Fleet, market: Market, ltv: Floats, now_ms: int) -> tuple[Any, ...]:
    """State, reason, confidence and latch: `risk._judge` with `hysteresis.advance`, elementwise."""
    risk = fleet.policy.risk
    rungs = rungs_of(risk)
    stale = (now_ms - fleet.seen_first > risk.account_age_max_ms) | (
        fleet.seen_last - now_ms > risk.account_age_max_ms)
    stale |= market.is_stale
    if market.is_inverse_stale:
        stale |= fleet.inverse_qty != 0
    reached = np.zeros(ltv.shape, dtype=np.int64)
    for rung, line in enumerate(rungs.enter):
        reached[ltv >= float(line)] = rung + 1
    level = np.maximum(fleet.level, reached)
    below, kept = _timers(fleet, ltv, rungs, level, reached, now_ms)
    after = np.where(stale, level, kept)
    # Unseen time counts for nothing: with stale inputs every timer starts anew.
    below = [
        np.where(stale | (after <= rung), NEVER_MS, since) for rung, since in enumerate(below)
    ]
    first = stale & ~fleet.has_latch
    state = np.where(first, np.maximum(reached, 1), after)
    leave = np.array([0.0, *map(float, rungs.leave)])
    held = np.where(ltv < leave[state], _DWELLS, _HELD)
    reason = np.where(state == reached, reached, held)
    reason[stale] = _STALE
    reason[np.isinf(ltv)] = _UNCOVERED
    return (
        state, reason, stale.astype(np.int64), fleet.has_latch | ~stale,
        np.where(first, 0, after), tuple([np.where(first, NEVER_MS, since) for since in below]),
    )


def _timers(
    fleet: Fleet, ltv: Floats, rungs: Rungs, level: Ints, reached: Ints, now_ms: int
) -> tuple[list[Ints], Ints]:
    """Per rung since when LTV is below its leaving line, and the level that the dwell leaves."""
    dwell_ms = fleet.policy.risk.dwell_ms
    below: list[Ints] = []
    for rung in range(RUNGS):
        since = fleet.below[rung]
        since = np.where(since == NEVER_MS, now_ms, since)
        is_below = (rung < level) & (rung >= reached) & (ltv < float(rungs.leave[rung]))
        below.append(np.where(is_below, since, NEVER_MS))
    kept, falling = level, np.ones(ltv.shape, dtype=np.bool_)
    for rung in reversed(range(RUNGS)):
        is_top = falling & (level > rung)
        gone = is_top & (below[rung] != NEVER_MS) & (now_ms - below[rung] >= dwell_ms)
        kept = np.where(gone, rung, kept)
        falling &= ~is_top | gone
    return below, kept
