"""How orders end, and what is pushed whenever an order changes."""

from __future__ import annotations

from hedgelock.simulator.orders import ACTIVE_STATUSES
from hedgelock.simulator.rows import order_row, push_position, push_wallet
from hedgelock.simulator.state import Account, Exchange, Order, Row


def push(x: Exchange, account: Account, order: Order, rows: list[Row] | None = None) -> None:
    """Queue what a change of an order pushes: executions, the order, its position, its coins."""
    c = order.contract
    x.emit("execution", account, rows or [])
    x.emit("order", account, [order_row(order, pushed=True)])
    if not c.is_spot:
        push_position(x, account, x.position(account, c))
    if order.status not in {"Untriggered", "Deactivated"}:
        push_wallet(x, account, *((c.base, c.quote) if c.is_spot else (c.settle,)))


def close(
    x: Exchange, account: Account, order: Order, *, reason: str, cancel_type: str = "UNKNOWN"
) -> None:
    """End an order that stays unfilled, in part or whole, and push it."""
    partial = order.contract.is_spot and order.filled_lots
    order.status = "PartiallyFilledCanceled" if partial else "Cancelled"
    _end(x, account, order, reason=reason, cancel_type=cancel_type)


def end_stop(x: Exchange, account: Account, order: Order, *, cancel_type: str) -> None:
    """End a conditional order that has not been triggered."""
    order.status = "Deactivated"
    position = x.position(account, order.contract)
    if position.take_profit is order:
        position.take_profit = None
    if position.stop_loss is order:
        position.stop_loss = None
    if position.trailing is order:
        position.trailing = None
    _end(x, account, order, reason="EC_PerCancelRequest", cancel_type=cancel_type)


def _end(x: Exchange, account: Account, order: Order, *, reason: str, cancel_type: str) -> None:
    order.reject_reason = reason
    order.cancel_type = cancel_type
    order.updated_ms = x.now_ms
    account.open_orders.sync(order)
    account.closed_recently.append(order.order_id)
    if x.resting.pop(order.order_id, None) is not None:
        x.books[order.contract.key].remove(order.order_id)
    push(x, account, order)


def cancel(
    x: Exchange, account: Account, order: Order, *, cancel_type: str = "CancelByUser"
) -> None:
    """Cancel an open order; one that was waiting for its trigger is deactivated."""
    if order.status in ACTIVE_STATUSES:
        close(x, account, order, reason="EC_PerCancelRequest", cancel_type=cancel_type)
    else:
        end_stop(x, account, order, cancel_type=cancel_type)
