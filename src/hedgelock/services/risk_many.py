"""Many accounts at once: which of them a tick concerns, and all of them marked anew.

`Screen` holds everybody's `hold` as arrays: one tick is compared with a million accounts, and only
those that it takes out of their region are stepped, by the same `risk.step` as ever.

`assess_many` marks all of a `Fleet` to one market: the same state, confidence, reason and figures as
`risk.step` gives each of them, in float64. Where LTV lies so near to a line that the last digits of
a float would decide, the account is `doubtful` and the caller steps it exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from hedgelock.domain import kernels
from hedgelock.domain.hysteresis import Rungs
from hedgelock.domain.market import MarketTick
from hedgelock.domain.risk import Confidence, RiskReason, RiskState, rungs_of
from hedgelock.domain.step import Hold, PriceBox
from hedgelock.services.fleet import (
    NEVER_MS,
    RUNGS,
    Bools,
    Codes,
    Fleet,
    Floats,
    Ints,
    Market,
)

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
_HELD, _DWELLS, _UNCOVERED, _STALE = range(4, 8)


P = TypeVar("P", "Fleet", "Assessed")

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

    state: Codes
    reason: Codes
    confidence: Codes
    has_latch: Bools
    level: Codes
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

    @classmethod
    def room(cls, size: int) -> Assessed:
        """Arrays to be filled; keep them from tick to tick: new memory costs more than marking."""
        made: dict[str, Any] = {name: np.empty(size) for name in cls._fields}
        made |= {
            name: np.empty(size, dtype=np.int8)
            for name in ("state", "reason", "confidence", "level")
        }
        made |= {name: np.empty(size, dtype=np.bool_) for name in ("has_latch", "doubtful")}
        made["below"] = tuple([np.empty(size, dtype=np.int64) for _ in range(RUNGS)])
        return cls(**made)


def assess_many(
    fleet: Fleet, market: Market, now_ms: int, room: Assessed | None = None
) -> Assessed:
    """Every account of the fleet at this market, into `room`; `debt_value` is the fleet's `debt`."""
    whole = room or Assessed.room(fleet.size)
    with np.errstate(divide="ignore", invalid="ignore"):
        for start in range(0, fleet.size, ROWS):
            rows = slice(start, start + ROWS)
            _assess(_part_of(fleet, rows), market, now_ms, _part_of(whole, rows))
    return whole


def _part_of(whole: P, rows: slice) -> P:
    cut: dict[str, Any] = {
        name: value[rows] for name, value in whole._asdict().items()
        if isinstance(value, np.ndarray)
    }
    return whole._replace(**cut, below=tuple([since[rows] for since in whole.below]))


def _assess(fleet: Fleet, market: Market, now_ms: int, out: Assessed) -> None:
    hedge, index = fleet.policy.hedge, market.index_price
    fall, rise = float(hedge.stress_fall), float(hedge.stress_rise)
    np.multiply(fleet.counted, index, out=out.counted_value)
    np.divide(fleet.debt, out.counted_value, out=out.ltv)
    profit = kernels.linear_upl(fleet.qty, fleet.entry, market.mark_price)
    delta = fleet.qty
    if market.inverse is not None:
        delta = delta + kernels.inverse_delta(fleet.inverse_qty, fleet.inverse_entry)
    net = kernels.net_debt(
        fleet.debt, fund=fleet.fund, reserve=fleet.reserve, pocket_equity=fleet.cash + profit
    )
    net_fall: Any = np.inf
    if fall < 1:
        net_fall = kernels.ltv_net(
            net, out.counted_value, hedge_value=-delta * index, fall=fall,
            cost_rate=float(hedge.cost_rate),
        )
    out.ltv_net_fall[:] = net_fall
    if not out.counted_value.min() > 0:
        out.ltv_net_fall[out.counted_value <= 0] = np.inf
    if not fleet.debt.min() > 0:
        debtless = fleet.debt <= 0
        out.ltv[debtless] = out.ltv_net_fall[debtless] = 0
    size, owes_coins = np.abs(fleet.qty), bool(fleet.coins.min() < 0)
    for found, move in (
        (out.margin_ratio, 0.0), (out.margin_ratio_rise, rise), (out.margin_ratio_fall, -fall),
    ):
        _margin_ratio(fleet, market, 1.0 + move, size=size, owes_coins=owes_coins, out=found)
    np.multiply(fleet.pledged, index, out=out.collateral_value)
    out.net_delta[:] = fleet.pledged + fleet.coins + fleet.fund_coins + delta
    _judge(fleet, market, now_ms, out)


# ---------------------------------------------------------------- the pocket


def _margin_ratio(
    fleet: Fleet, market: Market, scale: float, *, size: Floats, owes_coins: bool, out: Floats
) -> None:
    """accountMMRate with all prices × `scale`, as `margin.margin_ratio`; inf = no equity is left."""
    if scale <= 0:
        out.fill(np.inf)
        return
    borrow, index = float(fleet.policy.hedge.borrow_margin_rate), market.index_price * scale
    mark = market.mark_price * scale
    profit: Any = kernels.linear_upl(fleet.qty, fleet.entry, mark)
    needed = market.linear.needed(size * mark)
    owed = np.minimum(fleet.cash + profit, 0)
    owed *= borrow
    needed -= owed
    coins = fleet.coins_margin
    balance = profit
    balance += fleet.cash_margin
    if market.inverse is not None:
        mark = market.inverse_mark * scale
        gain: Any = kernels.inverse_upl(fleet.inverse_qty, fleet.inverse_entry, mark)
        needed += market.inverse.needed(np.abs(fleet.inverse_qty) / mark) * index
        needed -= np.minimum(fleet.coins + gain, 0) * (index * borrow)
        coins = coins + gain
    elif owes_coins:
        needed -= np.minimum(fleet.coins, 0) * (index * borrow)
    balance += coins * index
    np.divide(needed, balance, out=out)
    if not balance.min() > 0:
        gone = balance <= 0
        out[gone] = np.where((balance[gone] == 0) & (needed[gone] == 0), 0, np.inf)


# ---------------------------------------------------------------- the states


def _judge(fleet: Fleet, market: Market, now_ms: int, out: Assessed) -> None:
    """State, reason, confidence and latch: `risk._judge` with `hysteresis.advance`, elementwise."""
    risk, ltv = fleet.policy.risk, out.ltv
    rungs = rungs_of(risk)
    reached: Codes = np.zeros(ltv.shape, dtype=np.int8)
    out.doubtful.fill(0)
    for number, line in enumerate((*rungs.enter, *rungs.leave)):
        is_there = ltv >= float(line) * (1 - DOUBT)
        if number < RUNGS:
            np.copyto(reached, number + 1, where=is_there)
        is_there &= ltv <= float(line) * (1 + DOUBT)
        np.logical_or(out.doubtful, is_there, out=out.doubtful)
    level = np.maximum(fleet.level, reached)
    _advance(fleet, rungs, level, reached, now_ms, out)
    stale = (fleet.seen_first < now_ms - risk.account_age_max_ms) | (
        fleet.seen_last > now_ms + risk.account_age_max_ms)
    stale |= market.is_stale
    if market.is_inverse_stale:
        stale |= fleet.inverse_qty != 0
    out.confidence[:] = stale
    np.logical_or(fleet.has_latch, ~stale, out=out.has_latch)
    out.state[:] = out.level
    out.reason[:] = reached
    leave = np.array([0.0, *map(float, rungs.leave)])
    held = np.flatnonzero(out.state != reached)
    out.reason[held] = np.where(ltv[held] < leave[out.state[held]], _DWELLS, _HELD)
    if stale.any():
        _blind(fleet, np.flatnonzero(stale), level, reached, out)
    if not out.counted_value.min() > 0:
        out.reason[np.isinf(ltv)] = _UNCOVERED


def _advance(
    fleet: Fleet, rungs: Rungs, level: Codes, reached: Codes, now_ms: int, out: Assessed
) -> None:
    """The latch of who sees: which held rungs are below their line since when, and which are left."""
    waiting = []
    for rung, line in enumerate(rungs.leave):
        is_below = (level > rung) & (reached <= rung) & (out.ltv < float(line))
        rows = np.flatnonzero(is_below)
        since = fleet.below[rung][rows]
        since[since == NEVER_MS] = now_ms
        out.below[rung].fill(NEVER_MS)
        out.below[rung][rows] = since
        waiting.append((rows, since))
    out.level[:] = level
    for rung in reversed(range(RUNGS)):
        rows, since = waiting[rung]
        gone = rows[(out.level[rows] == rung + 1) & (now_ms - since >= fleet.policy.risk.dwell_ms)]
        out.level[gone] = rung
        out.below[rung][gone] = NEVER_MS


def _blind(
    fleet: Fleet, rows: NDArray[np.intp], level: Codes, reached: Codes, out: Assessed
) -> None:
    """Who sees only old inputs: raised by what is known, never lowered; every timer starts anew."""
    for since in out.below:
        since[rows] = NEVER_MS
    latched = fleet.has_latch[rows]
    out.level[rows] = np.where(latched, level[rows], 0)
    out.state[rows] = np.where(latched, level[rows], np.maximum(reached[rows], 1))
    out.reason[rows] = _STALE
