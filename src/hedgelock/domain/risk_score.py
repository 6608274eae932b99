"""One number for how near the account is to being liquidated: 0 nothing to fear, 100 it happens.

    part          0 .. 100
    ltv           100·LTV ÷ the LTV that liquidates the loan
    margin        100·accountMMRate
    stress        90·load of the worse of −25 % and +25 % (`stress.load`), at most 90: not yet true
    probability   100·(1 + log10(p) ÷ 5) of being liquidated within a day: 1 % is 60, .1 % is 40
    blindness     65 with stale inputs, 90 with absent ones

The score is the highest part: any one cliff kills, and the others do not help against it.
"""

from __future__ import annotations

from decimal import Decimal

from hedgelock.domain.message import Value
from hedgelock.domain.money import ONE, ZERO, clip

HUNDRED = Decimal(100)
STRESS_MAX = Decimal(90)
STALE, ABSENT = Decimal(65), Decimal(90)
_DECADES = 5
_LEAST = Decimal("1E-5")


class ScoreParts(Value, frozen=True, kw_only=True):
    """What the score is made of, 0 to 100 each. A part that cannot be computed is 100."""

    ltv: Decimal
    margin: Decimal
    stress: Decimal
    probability: Decimal
    blindness: Decimal

    @property
    def score(self) -> Decimal:
        """The highest part."""
        return max(self.ltv, self.margin, self.stress, self.probability, self.blindness)

    @property
    def driver(self) -> str:
        """The name of the highest part; the first of equals."""
        parts = ("ltv", "margin", "stress", "probability", "blindness")
        return max(parts, key=lambda name: getattr(self, name))


def cliff_part(used: Decimal | None, most: Decimal = HUNDRED) -> Decimal:
    """`most` × how much of a cliff is used up (1 = all of it); None = infinite: `most`."""
    return most if used is None else clip(used * most, ZERO, most)


def probability_part(probability: Decimal) -> Decimal:
    """100·(1 + log10(p) ÷ 5), 0 up to a hundred-thousandth. `probability` 0..1."""
    if probability <= _LEAST:
        return ZERO
    return clip(HUNDRED * (ONE + probability.log10() / _DECADES), ZERO, HUNDRED)
