"""How long the exchange remembers an account's past.

Orders that ended without a fill: 24 h, and the last 500 that ended (fact sheet §5.3). Everything
else: two years, and at most `ROWS_KEPT` rows of a kind, the bound of this process' memory. That a
client order id was used is never forgotten, and neither are balances, positions and totals.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import TypeVar

from hedgelock.simulator.history import History
from hedgelock.simulator.orders import OPEN_STATUSES, Order
from hedgelock.simulator.params import DAY_MS
from hedgelock.simulator.state import Account, Exchange

T = TypeVar("T")
YEARS_MS = 730 * DAY_MS
ROWS_KEPT = 100_000


def forget(x: Exchange) -> None:
    """Drop what is too old; once an hour is enough."""
    before_ms = x.now_ms - YEARS_MS
    for account in x.accounts.values():
        _forget_orders(account, now_ms=x.now_ms)
        _shorten(account.executions, before_ms, lambda row: int(row["execTime"]))
        _shorten(account.log, before_ms, lambda row: int(row["transactionTime"]))
        _shorten(account.closed_pnl, before_ms, lambda row: int(row["createdTime"]))
        _shorten(account.borrow_hours, before_ms, lambda row: int(row["createdTime"]))
        open_orders = account.open_orders
        account.closing = {k: v for k, v in account.closing.items() if k in open_orders}


def _forget_orders(account: Account, *, now_ms: int) -> None:
    recent = set(account.closed_recently)

    def keep(order: Order) -> bool:
        return (
            order.status in OPEN_STATUSES
            or order.order_id in recent
            or order.updated_ms > now_ms - (YEARS_MS if order.filled_lots else DAY_MS)
        )

    dropped = account.orders.sift(keep)
    ended = [o for o in account.orders if o.status not in OPEN_STATUSES]
    excess = {o.order_id for o in ended[:max(0, len(ended) - ROWS_KEPT)]} - recent
    if excess:
        dropped += account.orders.sift(lambda order: order.order_id not in excess)
    for order in dropped:
        del account.by_id[order.order_id]
        account.by_link.pop((order.contract.is_spot, order.link), None)


def _shorten(rows: History[T], before_ms: int, when: Callable[[T], int]) -> None:
    old = bisect_left(rows, before_ms, key=when)
    rows.forget(max(old, len(rows) - ROWS_KEPT))
