"""Where a position stands in the queue for auto-deleveraging.

    score = profit ÷ entry value × effective leverage        (a loss ÷ leverage instead)

Effective leverage = position value ÷ margin balance. The exchange ranks against a crowd that the
simulator does not hold, so the five lights compare with fixed scores. Source: fact sheet §8.6.
"""

from __future__ import annotations

from decimal import Decimal

from hedgelock.simulator.margin import Exposure
from hedgelock.simulator.money import ZERO

LIGHTS = (ZERO, Decimal("0.05"), Decimal("0.5"), Decimal(2))
LEVERAGE_MOST = Decimal(1000)


def score(exposure: Exposure, *, value_usd: Decimal, balance: Decimal) -> Decimal:
    """Rank of a position; higher is deleveraged first. `balance` is the margin balance in USD."""
    if not exposure.size or not exposure.entry_value:
        return ZERO
    leverage = min(LEVERAGE_MOST, value_usd / balance) if balance > 0 else LEVERAGE_MOST
    profit = exposure.upl / exposure.entry_value
    return profit * leverage if profit >= 0 or not leverage else profit / leverage


def indicator(found: Decimal) -> int:
    """adlRankIndicator of an open position: 1 for a losing one, to 5."""
    return 1 + sum(found > light for light in LIGHTS)
