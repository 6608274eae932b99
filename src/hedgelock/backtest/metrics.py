"""Figures of many windows: shares, tails, costs, and what chance could make of them.

Windows overlap, so neighbours are not independent: intervals come from a circular block bootstrap over
windows (blocks of ≥ 10). Arrays are [path] or [draw, window]; money in units of the collateral's value
at the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hedgelock.backtest.lanes import Results
from hedgelock.history.tape import Floats, Integers

BLOCK_MIN = 10
DRAWS = 2_000
TAIL = 0.05
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean and where it lies with 95 % confidence."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Chance alone does not explain it."""
        return self.low > 0 or self.high < 0


def blocks(count: int, *, draws: int = DRAWS, block: int = BLOCK_MIN, seed: int = 1) -> Integers:
    """Indices [draw, count] of a circular block bootstrap: whole runs of `block` neighbours."""
    dice = np.random.default_rng(seed)
    block = min(block, count)
    starts = dice.integers(0, count, (draws, -(-count // block)))
    runs = (starts[:, :, None] + np.arange(block)) % count
    return np.asarray(runs.reshape(draws, -1)[:, :count])


def interval(values: Floats, *, draws: int = DRAWS, seed: int = 1) -> Interval:
    """The mean over windows (last axis), other axes averaged first."""
    flat = values.reshape(-1, values.shape[-1]).mean(0)
    means = flat[blocks(len(flat), draws=draws, seed=seed)].mean(1)
    side = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means, [side, 100 - side])
    return Interval(float(flat.mean()), float(low), float(high))


def shortfall(values: Floats) -> float:
    """Mean of the worst 5 %."""
    ranked = np.sort(values.ravel())
    return float(ranked[: max(1, int(np.ceil(TAIL * len(ranked))))].mean())


def upside_kept(equity: Floats, hold: Floats, start: Floats) -> float:
    """Σ gain ÷ Σ gain of the untouched account, over the windows in which that one gained."""
    gains = hold > start
    whole = (hold - start)[gains].sum()
    return float((equity - start)[gains].sum() / whole) if whole > 0 else float("nan")


class Honesty(NamedTuple):
    """mean(equity − hold + explicit costs − interest saved) on a martingale, and its standard error.

    Nobody gains by trading in a market without drift; what differs from zero by more than three
    standard errors would be an error of the books or a look into the future. The draws are a
    martingale from close to close: what a liquidation does inside a bar is compared at its close
    (`Results.inside`); `raw` is without that.
    """

    mean: float
    error: float
    raw: float

    @property
    def is_kept(self) -> bool:
        """Within three standard errors, or a millionth."""
        return abs(self.mean) <= max(3 * self.error, 1e-6)


def honesty(r: Results, setting: int) -> Honesty:
    """Paths are drawn independently, one sign per bar: plain standard errors."""
    saved = r.interest_hold[setting] - r.interest[setting]
    raw = r.equity[setting] - r.hold[setting] + r.explicit[setting] - saved
    drift = raw + r.inside[setting]
    error = float(drift.std(ddof=1) / np.sqrt(len(drift)))
    return Honesty(float(drift.mean()), error, float(raw.mean()))


@dataclass(frozen=True, slots=True)
class Summary:
    """A plan under one setting over all windows. Shares are fractions of windows."""

    windows: int
    liquidated: float
    loan: float
    margin: float
    margin_call: float
    equity: float
    equity_p5: float
    shortfall_usd: float
    shortfall_btc: float
    upside: float
    explicit: float
    fees: float
    slippage: float
    funding: float
    penalty: float
    interest_saved: float
    trades: float


def summary(r: Results, setting: int, *, margin_call: float = 0.85) -> Summary:
    """The figures of one setting."""
    i = setting
    liquidated = r.loan_liquidated[i] | r.margin_liquidated[i]
    saved = r.interest_hold[i] - r.interest[i]
    return Summary(
        windows=len(r.equity[i]), liquidated=float(liquidated.mean()),
        loan=float(r.loan_liquidated[i].mean()), margin=float(r.margin_liquidated[i].mean()),
        margin_call=float((r.ltv_max[i] >= margin_call).mean()), equity=float(r.equity[i].mean()),
        equity_p5=float(np.percentile(r.equity[i], 100 * TAIL)),
        shortfall_usd=shortfall(r.equity[i]), shortfall_btc=shortfall(r.equity[i] / r.end),
        upside=upside_kept(r.equity[i], r.hold[i], r.start[i]),
        explicit=float(r.explicit[i].mean()), fees=float(r.fees[i].mean()),
        slippage=float(r.slippage[i].mean()), funding=float(r.funding[i].mean()),
        penalty=float(r.penalty[i].mean()), interest_saved=float(saved.mean()),
        trades=float(r.trades[i].mean()),
    )


def pooled(parts: list[Results]) -> Results:
    """Paths of several runs as one."""
    from dataclasses import fields

    joined = {
        f.name: np.concatenate([getattr(r, f.name) for r in parts], axis=-1)
        for f in fields(Results)
    }
    return Results(**joined)
