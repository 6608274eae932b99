"""The probability that a price, or the price over a growing debt, touches a line within some time.

X = ln(P ÷ P now) is a Brownian motion with variance v per year. Of the price over the debt the drift
is μ = −v/2 − r (a martingale price, a debt that grows at r); of the price alone −v/2. First passage
through −d within T years, with s = √(v·T) (reflection principle; Harrison 1985):

    P = Φ((−d − μ·T) ÷ s) + e^(−2·μ·d ÷ v) · Φ((−d + μ·T) ÷ s)

and of a line above the same with −μ. Watched only every Δt instead of always, the line is touched as
if it lay .5826·√(v·Δt) further away (Broadie, Glasserman, Kou 1997): what Monte Carlo must allow for.

**Fat tails.** v itself is not known: it is drawn once, from a log-normal with the expected variance
as its mean and a spread that shrinks slowly with the horizon, on seven Gauss–Hermite nodes. So the
probability is a scale mixture of first-passage probabilities; a Gaussian with the same variance
misses every second fall of 10 % within a day (2021).

Floats: a probability is no money. Inputs are plain numbers; d = 0 is touched already.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

HOURS_PER_YEAR: Final = 8760.0
SPREAD: Final = 1.2
"""Standard deviation of ln v at a horizon of one hour."""
SPREAD_FADES: Final = 0.05
"""It shrinks as hours^−this."""
WATCHED: Final = 0.5826
"""−ζ(½) ÷ √(2π)."""

_NODES: Final = (
    (-3.7504397177257425, 0.000548268855972217), (-2.366759410734541, 0.03075712396758652),
    (-1.1544053947399682, 0.2401231786050127), (0.0, 0.45714285714285724),
    (1.1544053947399682, 0.2401231786050127), (2.366759410734541, 0.03075712396758652),
    (3.7504397177257425, 0.000548268855972217),
)
"""(standard normal, weight): Gauss–Hermite, probabilists', seven points."""
_SQRT2: Final = math.sqrt(2)
_EXPONENT_MAX: Final = 700.0


class Walk(NamedTuple):
    """How the price may move within a horizon. Variance per year, growth of the debt per year."""

    variance: float
    """Expected of this horizon, > 0."""
    hours: float
    growth: float = 0.0
    """r; 0 where the line does not move with the debt."""


def touches(walk: Walk, factor: float | None) -> float:
    """Probability that price ÷ price now reaches `factor` (> 0) in time; None = no line: 0.

    Below 1 the line is touched from above, above 1 from below; the debt's growth works downwards.
    """
    if factor is None or factor <= 0.0:
        return 0.0
    if factor == 1.0:
        return 1.0
    spread = SPREAD * walk.hours**-SPREAD_FADES
    years = walk.hours / HOURS_PER_YEAR
    distance, side = abs(math.log(factor)), 1.0 if factor > 1 else -1.0
    found = 0.0
    for node, weight in _NODES:
        variance = walk.variance * math.exp(spread * (node - spread / 2))
        drift = side * (-variance / 2 - walk.growth)
        found += weight * first_passage(distance, variance * years, drift * years)
    return min(1.0, found)


def first_passage(distance: float, variance: float, drift: float) -> float:
    """Probability that a Brownian motion reaches `distance` (≥ 0) above its start.

    `variance` (≥ 0) and `drift` are of the whole horizon; the module's formula, mirrored.
    """
    if distance <= 0:
        return 1.0
    if variance <= 0:
        return float(drift >= distance)
    deviation = math.sqrt(variance)
    exponent = min(_EXPONENT_MAX, 2 * drift * distance / variance)
    direct = _normal((drift - distance) / deviation)
    mirrored = math.exp(exponent) * _normal((-drift - distance) / deviation)
    return min(1.0, direct + mirrored)


def watched_factor(factor: float, variance: float, step_years: float) -> float:
    """Where a line must be drawn for a path seen every `step_years` to touch it as often as `factor`.

    Nearer to the price by .5826·σ·√Δt (the continuity correction, used the other way round).
    """
    shift = WATCHED * math.sqrt(variance * step_years)
    return factor * math.exp(shift if factor < 1 else -shift)


def _normal(value: float) -> float:
    """Φ: the standard normal's distribution function."""
    return math.erfc(-value / _SQRT2) / 2
