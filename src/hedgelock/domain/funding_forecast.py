"""What holding a perpetual will cost in funding: means over time, and an expectation with a band.

Three sources, each where it is best:

- the exchange's own prediction, for the settlement under way. Its premium average weighs minute i
  with i (fact sheet §8.1), so that after the share e of the interval e² of the average is known;
- AR(1) on the settled APRs, for the rest of it and for the settlements after it;
- persistence (everything stays as predicted now), which is the other end of the band.

Costs are in bps of notional, + = this side pays. Everything here is per hour or per year underneath,
so a switch of the interval changes the schedule and the size of a payment, never the APR.
"""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import NamedTuple

import msgspec

from hedgelock.domain.money import ONE, ZERO, clip, saturate

HOURS_PER_YEAR = 8760
HISTORY_MAX = 64
"""Settlements remembered: three weeks at 8 h, 2.7 days at 1 h."""
HORIZONS_H = (8, 24, 72)
_HOUR_MS = 3_600_000
_BPS = 10_000
_PAIRS_MIN = 8
"""With fewer pairs of settlements the prior persistence is used."""
_PRIOR = Decimal("0.8")
"""Correlation of APRs 8 h apart: .73-.88 in 2021 (BTC, ETH on Bybit and Binance)."""
_PRIOR_GAP_H = Decimal(8)
_PHI_MIN, _PHI_MAX = Decimal("0.05"), Decimal("0.98")
_INTERVAL_MIN_H = Decimal("0.25")
"""No venue settles more often; a misread interval must not make a forecast of a million steps."""
_GAPS_MAX = Decimal(200)
_QUANTILE = Decimal("1.645")
"""Of the normal law, one-sided 5 %: the band holds 90 % where the model does."""


class Settled(msgspec.Struct, frozen=True, array_like=True):
    """One settlement: `rate` was paid for the `interval_h` hours before `ts_ms`; + = longs paid."""

    ts_ms: int
    rate: Decimal
    interval_h: Decimal

    @property
    def apr(self) -> Decimal:
        """Simple, per year, signed like the rate."""
        return self.rate * HOURS_PER_YEAR / self.interval_h


History = tuple[Settled, ...]
"""Oldest first, ascending in time."""


class Prediction(NamedTuple):
    """The settlement under way as the exchange announces it. `cap` bounds |rate|, None = unknown."""

    rate: Decimal
    interval_h: Decimal
    next_ts_ms: int
    cap: Decimal | None = None


class HoldingCost(NamedTuple):
    """Funding of holding a *long* for `horizon_h`, bps of notional, + = it pays; a short: × −1.

    `low` ≤ `expected` ≤ `high`; the band is the hull of persistence and of the 90 % range.
    """

    horizon_h: int
    expected: Decimal
    low: Decimal
    high: Decimal

    def of_short(self) -> HoldingCost:
        """The same for a short."""
        return HoldingCost(self.horizon_h, -self.expected, -self.high, -self.low)


class Persistence(NamedTuple):
    """AR(1) of the APR: x(t) = mean + phi^(t ÷ gap_h)·(x(0) − mean) + noise.

    `variance` is the stationary one, of APR².
    """

    mean: Decimal
    phi: Decimal
    gap_h: Decimal
    variance: Decimal

    def over(self, hours: Decimal) -> Decimal:
        """phi per `hours` (≥ 0); after 200 gaps nothing is left that a digit could show."""
        return self.phi ** min(hours / self.gap_h, _GAPS_MAX)


def record(history: History, settled: Settled) -> History:
    """`history` with one more settlement; one that is not newer than the last changes nothing."""
    if history and settled.ts_ms <= history[-1].ts_ms:
        return history
    return (*history, settled)[-HISTORY_MAX:]


def settles_in_ms(next_ts_ms: int, now_ms: int) -> int | None:
    """Time to the next settlement, ms > 0; None = the announced one has passed, so nobody knows."""
    left = next_ts_ms - now_ms
    return left if left > 0 else None


def mean_apr(history: History, *, now_ms: int, window_h: int) -> Decimal | None:
    """Mean APR of the last `window_h` hours, weighted by time; None = nothing settled in them.

    Σ apr_i · t_i ÷ Σ t_i, t_i = the part of interval i inside the window: eight hourly settlements
    weigh as much as one of eight hours. The part of the window without a settlement counts nowhere.
    """
    start_ms = now_ms - window_h * _HOUR_MS
    weighted, weight = ZERO, ZERO
    for settled in history:
        began_ms = settled.ts_ms - int(settled.interval_h * _HOUR_MS)
        inside = min(settled.ts_ms, now_ms) - max(began_ms, start_ms)
        if inside > 0:
            weighted += settled.apr * inside
            weight += inside
    return saturate(weighted / weight) if weight else None


def fit(history: History) -> Persistence | None:
    """AR(1) by least squares on successive settlements, weighted by time; None = no history.

    phi is clipped to [.05, .98] per mean gap; with fewer than 8 pairs, or a series that never
    moves, it is the prior .8 per 8 h.
    """
    hours = sum((s.interval_h for s in history), ZERO)
    if not hours:
        return None
    mean = sum((s.apr * s.interval_h for s in history), ZERO) / hours
    spread = sum(((s.apr - mean) ** 2 * s.interval_h for s in history), ZERO) / hours
    pairs = list(itertools.pairwise(history))
    both = square = gaps = ZERO
    for before, after in pairs:
        gap = Decimal(after.ts_ms - before.ts_ms) / _HOUR_MS
        both += (before.apr - mean) * (after.apr - mean) * gap
        square += (before.apr - mean) ** 2 * gap
        gaps += gap
    if len(pairs) < _PAIRS_MIN or not square:
        return Persistence(mean, _PRIOR, _PRIOR_GAP_H, spread)
    phi = clip(both / square, _PHI_MIN, _PHI_MAX)
    return Persistence(mean, phi, gaps / len(pairs), spread)


def holding_costs(
    history: History, prediction: Prediction, *, now_ms: int,
    horizons_h: tuple[int, ...] = HORIZONS_H,
) -> tuple[HoldingCost, ...]:
    """What a long pays over each horizon (ascending, h), with a band.

    A settlement exactly at the horizon's end counts. One that is due already is taken to be the
    next that has not been announced: one interval later.
    """
    model = fit(history)
    steps = _Path(history, prediction, model, now_ms)
    costs: list[HoldingCost] = []
    for horizon_h in horizons_h:
        steps.advance_to(now_ms + horizon_h * _HOUR_MS)
        costs.append(steps.cost(horizon_h))
    return tuple(costs)


class _Path:
    """Walks along the settlements ahead, adding up expectation, variance and persistence.

    x is the APR, deviations from its expectation follow d' = ψ·d + ε. With S the sum so far:
    var S' = var S + 2ψ·cov(S, d) + var d', cov(S', d') = ψ·cov(S, d) + var d'.
    """

    def __init__(
        self, history: History, prediction: Prediction, model: Persistence | None, now_ms: int
    ) -> None:
        interval_h = max(prediction.interval_h, _INTERVAL_MIN_H)
        self._interval_ms = int(interval_h * _HOUR_MS)
        missed = max(0, now_ms - prediction.next_ts_ms) // self._interval_ms
        is_due = prediction.next_ts_ms <= now_ms
        self._next_ms = prediction.next_ts_ms + (missed + is_due) * self._interval_ms
        self._model = model
        self._factor = interval_h * _BPS / HOURS_PER_YEAR
        self._now_apr = prediction.rate * HOURS_PER_YEAR / prediction.interval_h
        cap = prediction.cap
        self._cap = None if cap is None else cap * HOURS_PER_YEAR / prediction.interval_h
        self._decay = ONE if model is None else model.over(interval_h)
        left = Decimal(self._next_ms - now_ms) / self._interval_ms
        known = (ONE - min(ONE, left)) ** 2 if model is not None else ONE
        guess = self._guess(history)
        self._apr = known * self._now_apr + (ONE - known) * guess
        self._open = ONE - known
        self._sum = self._persistent = ZERO
        self._var_dev = self._cov = self._var_sum = ZERO
        self._is_first = True

    def _guess(self, history: History) -> Decimal:
        """E of the settlement under way from those before it alone."""
        model = self._model
        if model is None:
            return self._now_apr
        last = history[-1]
        hours = Decimal(max(0, self._next_ms - last.ts_ms)) / _HOUR_MS
        return model.mean + (last.apr - model.mean) * model.over(hours)

    def advance_to(self, end_ms: int) -> None:
        """Take in every settlement up to `end_ms`."""
        while self._next_ms <= end_ms:
            self._settle()
            self._next_ms += self._interval_ms

    def _settle(self) -> None:
        model, decay = self._model, self._decay
        fresh = ZERO if model is None else model.variance * (ONE - decay * decay)
        if self._is_first:
            self._is_first = False
            self._var_dev = fresh * self._open * self._open
            self._cov = self._var_sum = self._var_dev
        else:
            if model is not None:
                self._apr = model.mean + (self._apr - model.mean) * decay
            self._var_dev = decay * decay * self._var_dev + fresh
            self._var_sum += 2 * decay * self._cov + self._var_dev
            self._cov = decay * self._cov + self._var_dev
        self._sum += self._bounded(self._apr)
        self._persistent += self._bounded(self._now_apr)

    def _bounded(self, apr: Decimal) -> Decimal:
        return apr if self._cap is None else clip(apr, -self._cap, self._cap)

    def cost(self, horizon_h: int) -> HoldingCost:
        """The figures up to here."""
        expected, persistent = self._sum * self._factor, self._persistent * self._factor
        spread = _QUANTILE * self._var_sum.sqrt() * self._factor
        return HoldingCost(
            horizon_h, saturate(expected), saturate(min(expected - spread, persistent)),
            saturate(max(expected + spread, persistent)),
        )
