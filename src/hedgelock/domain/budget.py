"""What the account has spent of its daily and hourly limits, folded from our own fills and actions.

Folded into the executor's state at event time, so it survives restarts and cannot be reset by one.
Counted is what happened (fills, loans paid out), not what was tried; what is under way is added by
whoever asks. Repayments count when they start: their limit is there to stop a loop.
"""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from hedgelock.domain.instrument import Instrument, Settlement
from hedgelock.domain.money import ONE, ZERO
from hedgelock.domain.order import Fill
from hedgelock.domain.rolling import DAY, HOUR, Rolling, added, total


class Budget(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Rolling sums: money in the quote coin, repayments as a count."""

    turnover: Rolling = ()
    spend: Rolling = ()
    """Fees plus slippage against the mark at decision time."""
    borrowed: Rolling = ()
    repayments: Rolling = ()

    def turnover_day(self, now_ms: int) -> Decimal:
        """Notional filled in the last day."""
        return total(self.turnover, now_ms=now_ms, span=DAY)

    def spend_day(self, now_ms: int) -> Decimal:
        """Fees and slippage of the last day."""
        return total(self.spend, now_ms=now_ms, span=DAY)

    def borrowed_day(self, now_ms: int) -> Decimal:
        """Borrowed in the last day."""
        return total(self.borrowed, now_ms=now_ms, span=DAY)

    def repayments_hour(self, now_ms: int) -> Decimal:
        """Repayments started in the last hour."""
        return total(self.repayments, now_ms=now_ms, span=HOUR)


def cost_of(fill: Fill, instrument: Instrument | None, mark_price: Decimal) -> Decimal:
    """Fee plus slippage of a fill, ≥ 0, in quote units.

    Slippage = sign·(price − mark)·qty for linear and spot; qty·sign·(price − mark)/mark for
    inverse (1 USD each). A gain against the mark and a rebate buy nothing back. A fee in the base
    coin is valued at the fill's price, one in any other coin than quote or base by the taker rate.
    """
    inverse = instrument is not None and instrument.settlement is Settlement.INVERSE
    value = fill.qty if inverse else fill.qty * fill.price
    moved = fill.side.sign * (fill.price - mark_price) * fill.qty
    slippage = moved / mark_price if inverse else moved
    if instrument is None or fill.fee_coin == instrument.quote:
        fee = fill.fee
    elif fill.fee_coin == instrument.base:
        fee = fill.fee * fill.price
    else:
        fee = value * instrument.taker_fee
    return max(ZERO, slippage) + max(ZERO, fee)


def with_fill(
    budget: Budget, fill: Fill, *, instrument: Instrument | None, mark_price: Decimal, now_ms: int
) -> Budget:
    """`budget` after one more fill of ours, decided at `mark_price`."""
    inverse = instrument is not None and instrument.settlement is Settlement.INVERSE
    value = fill.qty if inverse else fill.qty * fill.price
    cost = cost_of(fill, instrument, mark_price)
    at_ms = fill.ts_ms
    return replace(
        budget,
        turnover=added(budget.turnover, value, at_ms=at_ms, now_ms=now_ms, span=DAY),
        spend=added(budget.spend, cost, at_ms=at_ms, now_ms=now_ms, span=DAY),
    )


def with_borrowing(budget: Budget, amount: Decimal, *, now_ms: int) -> Budget:
    """`budget` after `amount` more was borrowed."""
    more = added(budget.borrowed, amount, at_ms=now_ms, now_ms=now_ms, span=DAY)
    return replace(budget, borrowed=more)


def with_repayment(budget: Budget, *, now_ms: int) -> Budget:
    """`budget` after one more repayment was started."""
    more = added(budget.repayments, ONE, at_ms=now_ms, now_ms=now_ms, span=HOUR)
    return replace(budget, repayments=more)
