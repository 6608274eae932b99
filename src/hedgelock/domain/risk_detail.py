"""What stands behind an assessment: the stress cells, where the account dies, and how likely it is.

Nothing is decided from it on the way of an order, and computing it takes longer than deciding: so it
is a message of its own, made on the clock's ticks (`forecast/outlook.py`), when something changed.
"""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import ClassVar, Final

import msgspec

from hedgelock.domain.message import Message, Value
from hedgelock.domain.money import digits, saturate
from hedgelock.domain.risk import Confidence, RiskMemory, RiskState
from hedgelock.domain.risk_score import ScoreParts
from hedgelock.domain.stress import StressCell
from hedgelock.domain.volatility import Volatility

HORIZONS_H: Final = (1, 24, 168)
_DIGITS = digits(10)


class RiskLevel(enum.Enum):
    """What may be reached, by LTV; LIQUIDATION also by the trading pocket's margin."""

    CAUTION = "caution"
    DANGER = "danger"
    CRITICAL = "critical"
    MARGIN_CALL = "margin_call"
    LIQUIDATION = "liquidation"


class StressFigures(Value, frozen=True, kw_only=True):
    """The account after one shock (`stress.CellResult`). None = infinite. Equity in USD."""

    cell: StressCell
    ltv: Decimal | None
    ltv_net: Decimal | None
    margin_ratio: Decimal | None
    equity: Decimal


class LiquidationPrices(Value, frozen=True, kw_only=True):
    """Where something is liquidated on either side of the price; None = no price there does it.

    Prices quote per base; distances as fractions of today's price, and in standard deviations of a
    day's log return. Nought = liquidated already.
    """

    non_negative: ClassVar = ("below", "above", "distance_below", "distance_above")

    below: Decimal | None = None
    above: Decimal | None = None
    distance_below: Decimal | None = None
    distance_above: Decimal | None = None
    sigmas_below: Decimal | None = None
    sigmas_above: Decimal | None = None


class ReachProbability(Value, frozen=True, kw_only=True):
    """How likely a level is reached within `horizon_h` hours, 0..1.

    `frozen`: nothing moves any more. `under_policy`: what the hedge held now gains is harvested and
    repaid; that the policy would hedge more on the way is not counted, so it is no less than true.
    """

    non_negative: ClassVar = ("frozen", "under_policy")

    level: RiskLevel
    horizon_h: int
    frozen: Decimal
    under_policy: Decimal


class RiskDetail(Message, frozen=True, kw_only=True):
    """The figures behind the assessment of the same moment. Money in USD, fractions without suffix.

    Without what it needs (`confidence` ABSENT) it is empty but for the score, which then is high.
    `volatility` per √year is what the next day is expected to bring. Loan prices are index prices
    with an hour's interest, pocket prices are marks, both of the hedged coin.
    """

    account: str
    policy_version: int
    state: RiskState
    confidence: Confidence
    score: Decimal
    parts: ScoreParts
    cells: tuple[StressFigures, ...] = ()
    worst: StressCell | None = None
    worst_load: Decimal | None = None
    """Share of the nearer cliff that the worst cell uses up, 1 = liquidated; None = all and more."""
    loan: LiquidationPrices = LiquidationPrices()
    pocket: LiquidationPrices = LiquidationPrices()
    volatility: Decimal | None = None
    probabilities: tuple[ReachProbability, ...] = ()
    index_price: Decimal | None = None
    mark_price: Decimal | None = None
    assessed_ts_ms: int

    def probability(self, level: RiskLevel, horizon_h: int) -> ReachProbability | None:
        """The probability of a level within a horizon; None = not computed."""
        for found in self.probabilities:
            if found.level is level and found.horizon_h == horizon_h:
                return found
        return None


class Detailed(msgspec.Struct, frozen=True):
    """When the last detail was published and at which price, and when the next is due."""

    ts_ms: int
    due_ms: int
    index_price: Decimal | None


class OutlookMemory(RiskMemory, frozen=True, kw_only=True):
    """What the risk-engine remembers of one account, with what its details are made of."""

    volatility: Volatility | None = None
    detailed: Detailed | None = None


def legible(value: Decimal) -> Decimal:
    """Ten significant digits, in the range that messages carry."""
    return saturate(_DIGITS.plus(value))
