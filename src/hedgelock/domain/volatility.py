"""How much a price moves: a fast and a slow mean of its variance, from the ranges of its hours.

A bar is an hour (or whatever time passed until the first look after it). Its variance is Parkinson's,
from the highest and lowest price seen:

    v = ln(high ÷ low)² ÷ (4·ln 2) ÷ bar's years              fraction² per year

Both means forget exponentially, mean += (1 − 2^(−bar ÷ half-life))·(v − mean), the fast one with a
half-life of 36 h, the slow one of 30 days. What they expect of the coming T hours:

    variance(T) = slow + (fast − slow)·(1 − e^(−κT)) ÷ (κT)      κ = 1 ÷ 336 h

so that a calm day before a storm does not say calm for ever. All is Decimal, rounded to twelve
digits: a replay folds the same state on any machine. Half-life and κ were fitted on the odd months
of 2021 (`research/probability_score.py` scores them on the even ones).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from hedgelock.domain.money import ONE, digits

BAR_MS: Final = 3_600_000
PRIOR: Final = Decimal("0.64")
"""Variance per year before anything was seen: 80 % a year."""
HALF_FAST_H: Final = Decimal(36)
HALF_SLOW_H: Final = Decimal(720)
REVERT_H: Final = Decimal(336)
"""1 ÷ κ."""
WATCHED_H: Final = Decimal(2)
"""A bar counts for no more time than this: what lies beyond nobody watched, and it says no calm."""
SPREAD_MAX: Final = ONE
"""ln(high ÷ low) of a bar: whatever says more is a wrong price, and must not last for weeks."""

_HOURS_PER_YEAR = Decimal(8760)
_MS_PER_HOUR = Decimal(BAR_MS)
_PARKINSON = Decimal("2.772588722239781")
"""4·ln 2."""
_TWO = Decimal(2)
_DIGITS = digits(12)


class Volatility(msgspec.Struct, frozen=True):
    """What was seen of a price. Variances per year, as fractions²; prices quote per base."""

    since_ms: int
    """When the open bar began, our clock."""
    high: Decimal
    low: Decimal
    fast: Decimal = PRIOR
    slow: Decimal = PRIOR


class Variances(NamedTuple):
    """The two means now, per year."""

    fast: Decimal
    slow: Decimal

    def over(self, hours: Decimal) -> Decimal:
        """The mean variance per year expected of the next `hours` (> 0)."""
        decay = hours / REVERT_H
        return self.slow + (self.fast - self.slow) * (ONE - (-decay).exp(_DIGITS)) / decay


def observe(known: Volatility | None, price: Decimal, now_ms: int) -> Volatility:
    """With `price` (> 0) seen at `now_ms`; the same object when that says nothing new.

    A clock that went back begins the bar anew.
    """
    if known is None:
        return Volatility(now_ms, price, price)
    passed_ms = now_ms - known.since_ms
    if passed_ms >= BAR_MS or passed_ms < 0:
        # The price that ends a bar begins the next: no move between two bars is lost.
        high, low = max(known.high, price), min(known.low, price)
        whole = msgspec.structs.replace(known, high=high, low=low)
        means = variances(whole, now_ms)
        return Volatility(now_ms, price, price, means.fast, means.slow)
    if known.low <= price <= known.high:
        return known
    high, low = max(known.high, price), min(known.low, price)
    return msgspec.structs.replace(known, high=high, low=low)


def variances(known: Volatility, now_ms: int) -> Variances:
    """The means with the open bar counted for the time it lasted so far, so that a crash counts now."""
    hours = min(WATCHED_H, Decimal(now_ms - known.since_ms) / _MS_PER_HOUR)
    if hours <= 0:
        return Variances(known.fast, known.slow)
    spread = min(SPREAD_MAX, (known.high / known.low).ln(_DIGITS))
    seen = spread * spread / _PARKINSON / (hours / _HOURS_PER_YEAR)
    return Variances(
        _closer(known.fast, seen, hours, HALF_FAST_H), _closer(known.slow, seen, hours, HALF_SLOW_H)
    )


def _closer(mean: Decimal, seen: Decimal, hours: Decimal, half_life_h: Decimal) -> Decimal:
    weight = ONE - _DIGITS.power(_TWO, -hours / half_life_h)
    return _DIGITS.plus(mean + weight * (seen - mean))


def daily_sigma(variance: Decimal) -> Decimal:
    """Standard deviation of a day's log return, of a variance per year. Fraction, ≥ 0."""
    return (variance / 365).sqrt(_DIGITS)
