"""What the exchange closes by its own hand, and whom it tells."""

from __future__ import annotations

from decimal import Decimal

from hedgelock.simulator.rows import order_row, position_row
from hedgelock.simulator.state import Account, Exchange, Order, Position
from hedgelock.simulator.trading import apply

STATUS = {"BustTrade": "Liq", "AdlTrade": "Adl"}  # of the position, while it lasts


def carry_out(
    x: Exchange, account: Account, position: Position, order: Order, *, price: Decimal, kind: str
) -> None:
    """Fill an order that nobody sent, whole and at `price`; `kind` is the execution's type."""
    account.orders.append(order)
    account.by_id[order.order_id] = order
    position.status = STATUS[kind]
    row = apply(x, account, order, lots=order.lots, price=price, maker=False, kind=kind)
    x.emit("execution", account, [row])
    x.emit("order", account, [order_row(order, pushed=True)])
    x.emit("position", account, [position_row(x, account, position, pushed=True)])
    position.status = "Normal"
