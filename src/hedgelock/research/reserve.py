"""How large the reserve R should be: the 99th percentile of what an account needs along its path.

    need(t)  = repayment(t) + margin(t) − gains(t)          fractions of V at the start, per account
    R / V    = q99 over paths of max over t of need(t), ≥ 0

- repayment: what brings LTV from `harvest_at` or more back to `harvest_to`; what was repaid stays so;
- margin: what the trading pocket lacks beside what it began with, so that a short h outlives +u;
- gains: the short's unrealised profit, as far as it can be realised: after the fee of closing it,
  and only from `delay` hours on (positions are closed, moved and repaid in that time).

Paths are bootstrapped from hourly returns in circular blocks (volatility comes in clusters; 72 h by
default), 30 days each, with funding of the same hours, interest compounding every hour. For absence
(72 h without anybody, so no harvest, no refill) the need is what has to be there at the start: gains
count only after it, and slippage is that of a weekend, three times as large. The seed's deployment
curve is the alternative: a share of the reserve at .65, .75 and .85.

Floats and numpy: this is a study; its result is a number that a person writes into policy
(`HEDGER__RESERVE_USDT`). Sources: issue 5, DESIGN §5, field-lessons §2.8.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Paths = NDArray[np.float64]
HOURS_PER_DAY = 24
DEPLOYMENT = ((0.65, 0.25), (0.75, 0.50), (0.85, 1.00))
"""The seed's curve: from this LTV, this share of the reserve is deployed."""


class Account(NamedTuple):
    """Where an account begins; shares of V, its counted collateral then (so V = 1)."""

    ltv: float
    short: float = 0.0
    """Linear short, as a share of the collateral's coins."""
    pocket: float = 0.10
    """USDT of the trading pocket."""
    pocket_coins: float = 0.10
    """Its coins, as a share of the collateral's."""


class Rules(NamedTuple):
    """What is repaid when, and what things cost. Fractions."""

    harvest_at: float = 0.75
    harvest_to: float = 0.70
    stress_rise: float = 0.25
    maintenance_rate: float = 0.00555
    coin_ratio: float = 0.95
    interest_apr: float = 0.08
    cost_rate: float = 0.001
    slippage: float = 0.0005
    delay_h: int = 1
    """Hours until a gain has become a repayment."""
    absence_h: int = 72
    weekend_factor: float = 3.0


class Study(NamedTuple):
    """The need along many paths, as shares of V at the start."""

    reserve: float
    """R ÷ V: the 99th percentile of the path-wise peak."""
    reserve_absent: float
    """The same, for an absence from the start."""
    percentiles: tuple[float, float, float]
    """Peak: 95th, 99th, largest."""
    paths: int


class History(NamedTuple):
    """Hourly log returns and the funding that a *short* received in each of those hours."""

    returns: Paths
    funding: Paths


def bootstrap(
    history: History, *, paths: int, days: int, block_h: int, seed: int
) -> History:
    """`paths` × hours of returns and funding, in circular blocks of `block_h` drawn alike for both.

    Same seed, same paths. Blocks wrap round the end, so that every hour is drawn as often as any.
    """
    hours, length = days * HOURS_PER_DAY, len(history.returns)
    random = np.random.default_rng(seed)
    blocks = -(-hours // block_h)
    starts = random.integers(0, length, size=(paths, blocks))
    at = (starts[:, :, None] + np.arange(block_h)).reshape(paths, -1)[:, :hours] % length
    return History(history.returns[at], history.funding[at])


def compounded(hourly_apr: float, hours: int) -> Paths:
    """What 1 owed grows to after 1..hours hours at an APR that compounds every hour."""
    growth = 1.0 + hourly_apr / (365 * HOURS_PER_DAY)
    return np.asarray(growth ** np.arange(1, hours + 1), dtype=np.float64)


def peak_need(
    drawn: History, account: Account, rules: Rules, *, slippage_factor: float = 1.0,
    blind_h: int = 0,
) -> Paths:
    """The largest need on each path, shares of V, ≥ 0; gains of the first `blind_h` hours count not.

    Repayment at time t is what is lacking to `harvest_to` the first time LTV stands at `harvest_at`
    or above, and again whenever it does: the running maximum of D(t) − to·V(t) over those hours is
    exactly the sum of the repayments.
    """
    price = np.exp(np.cumsum(drawn.returns, axis=1))
    hours = price.shape[1]
    debt = account.ltv * compounded(rules.interest_apr, hours)[None, :]
    lacking = np.where(debt >= rules.harvest_at * price, debt - rules.harvest_to * price, 0.0)
    repaid = np.maximum.accumulate(np.maximum(lacking, 0.0), axis=1)
    held = account.short
    cost = (rules.cost_rate + rules.slippage * slippage_factor) * price * held
    profit = held * (1.0 - price) + held * np.cumsum(drawn.funding * price, axis=1)
    realisable = np.maximum(profit - cost, 0.0)
    late = max(rules.delay_h, blind_h)
    usable = np.zeros_like(realisable)
    usable[:, late:] = realisable[:, : hours - late]
    rise = rules.stress_rise
    loads = held * price * (rise + (1.0 + rise) * rules.maintenance_rate) + cost
    coins = rules.coin_ratio * account.pocket_coins * price * (1.0 + rise)
    margin = np.maximum(loads - coins - account.pocket - np.minimum(profit, 0.0), 0.0)
    need = repaid + margin - usable
    return np.asarray(np.maximum(need.max(axis=1), 0.0), dtype=np.float64)


def study(
    history: History, account: Account, rules: Rules, *, paths: int = 4000, days: int = 30,
    block_h: int = 72, seed: int = 1,
) -> Study:
    """The reserve that 99 % of bootstrapped paths do not exceed, attended and absent."""
    drawn = bootstrap(history, paths=paths, days=days, block_h=block_h, seed=seed)
    peaks = peak_need(drawn, account, rules)
    away = History(drawn.returns[:, : rules.absence_h], drawn.funding[:, : rules.absence_h])
    absent = peak_need(
        away, account, rules, slippage_factor=rules.weekend_factor, blind_h=rules.absence_h
    )
    p95, p99 = np.quantile(peaks, (0.95, 0.99))
    return Study(
        float(p99), float(np.quantile(absent, 0.99)), (float(p95), float(p99), float(peaks.max())),
        paths,
    )


def deployed(ltv: float, reserve: float) -> float:
    """The seed's curve: how much of the reserve is out at this LTV, same unit as `reserve`.

    Steps, not slopes: a quarter from .65, a half from .75, all from .85.
    """
    share = 0.0
    for level, portion in DEPLOYMENT:
        if ltv >= level:
            share = portion
    return share * reserve
