"""Bybit's histories beside the transaction log: closed profits, interest, and what the venue closed.

Signs: profits + = gained; interest + = paid.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from hedgelock.domain.order import Side
from hedgelock.exchanges.bybit_parse import ORDER_STATUSES, SIDES
from hedgelock.exchanges.fields import Row


class ClosedProfit(NamedTuple):
    """What one order closed. `pnl` is net of both fees, in the settle coin; no funding in it."""

    instrument: str
    venue_order_id: str
    side: Side
    """Of the closing order: SELL closed a long."""
    qty: Decimal
    entry_price: Decimal
    exit_price: Decimal
    pnl: Decimal
    exec_type: str
    ts_ms: int


class Borrowing(NamedTuple):
    """One hour's interest on unified borrowing. `cost` + = paid, in `coin`."""

    coin: str
    borrowed_qty: Decimal
    charged_qty: Decimal
    """The part that bears interest: the free quota is left out."""
    hourly_rate: Decimal
    cost: Decimal
    ts_ms: int


class StopTerms(NamedTuple):
    """What an order row says of its trigger. `rises` True = it fires at or above the price."""

    trigger_price: Decimal
    rises: bool
    trigger_by: str
    is_waiting: bool


def parse_closed_profit(row: Row, *, category: str) -> ClosedProfit:
    """One closed-pnl row. Its time is updatedTime: createdTime is nanoseconds in some samples."""
    return ClosedProfit(
        instrument=f"{category}:{row.name('symbol')}",
        venue_order_id=row.name("orderId"),
        side=row.one_of("side", SIDES),
        qty=row.decimal("closedSize"),
        entry_price=row.decimal("avgEntryPrice"),
        exit_price=row.decimal("avgExitPrice"),
        pnl=row.decimal("closedPnl"),
        exec_type=row.name("execType"),
        ts_ms=row.ts_ms("updatedTime"),
    )


def parse_borrowing(row: Row) -> Borrowing:
    """One borrow-history row; `InterestBearingBorrowSize` really has a capital I."""
    return Borrowing(
        coin=row.name("currency"),
        borrowed_qty=row.decimal("borrowAmount"),
        charged_qty=row.decimal("InterestBearingBorrowSize"),
        hourly_rate=row.decimal("hourlyBorrowRate"),
        cost=row.decimal("borrowCost"),
        ts_ms=row.ts_ms("createdTime"),
    )


_DIRECTIONS = {1: True, 2: False}
_WAITING = {status: status == "Untriggered" for status in ORDER_STATUSES}
TRIGGERS = {"LastPrice": "LastPrice", "MarkPrice": "MarkPrice", "IndexPrice": "IndexPrice"}


def parse_stop(row: Row) -> StopTerms | None:
    """The trigger of an order row; None for a plain order ("" or 0.00 as trigger price)."""
    price = row.given("triggerPrice")
    if not price:
        return None
    direction = row.integer("triggerDirection")
    if direction not in _DIRECTIONS:
        raise row.bad("triggerDirection", f"neither rising (1) nor falling (2): {direction}")
    return StopTerms(
        trigger_price=price,
        rises=_DIRECTIONS[direction],
        trigger_by=row.one_of("triggerBy", TRIGGERS),
        is_waiting=row.one_of("orderStatus", _WAITING),
    )
