"""Closed profit and loss: one row per order that closed something, net of both fees."""

from __future__ import annotations

from decimal import Decimal

from hedgelock.simulator.money import ZERO, grain, text
from hedgelock.simulator.state import Account, Exchange, Order, Row

EIGHT = Decimal("0.00000001")


def note_closing(
    x: Exchange, account: Account, order: Order, *, qty: Decimal, entry_value: Decimal,
    price: Decimal, pnl: Decimal, open_fee: Decimal, close_fee: Decimal, leverage: Decimal,
) -> None:  # fmt: skip
    """Add a closing fill to its order's row.

    closedPnl = Σ pnl − opening fees of what was closed − closing fees, in settle coin; funding is
    not part of it (fact sheet §4.4).
    """
    row = account.closing.get(order.order_id)
    if row is None:
        row = account.closing[order.order_id] = _blank(x, order, leverage)
        account.closed_pnl.append(row)
    c = order.contract
    closed = Decimal(row["closedSize"]) + qty
    entered = Decimal(row["cumEntryValue"]) + grain(entry_value)
    left = Decimal(row["cumExitValue"]) + grain(c.value(qty, price))
    opening, closing = Decimal(row["openFee"]) + open_fee, Decimal(row["closeFee"]) + close_fee
    net = Decimal(row["closedPnl"]) + pnl - open_fee - close_fee
    order.closed_pnl = net
    row |= {
        "closedSize": text(closed), "cumEntryValue": text(entered), "cumExitValue": text(left),
        "avgEntryPrice": _average(order, closed, entered),
        "avgExitPrice": _average(order, closed, left), "openFee": text(opening),
        "closeFee": text(closing), "closedPnl": text(net),
        "fillCount": str(int(row["fillCount"]) + 1), "updatedTime": str(x.now_ms),
    }  # fmt: skip


def _average(order: Order, qty: Decimal, value: Decimal) -> str:
    ratio = qty / value if order.contract.is_inverse else value / qty
    return text(ratio.quantize(EIGHT))


def _blank(x: Exchange, order: Order, leverage: Decimal) -> Row:
    c = order.contract
    taken_over = order.create_type in {"CreateByLiq", "CreateByTakeOver_PassThrough"}
    kind = "BustTrade" if taken_over else "Trade"
    if order.create_type.startswith("CreateByAdl"):
        kind = "AdlTrade"
    return {
        "symbol": c.symbol, "category": c.category, "orderId": order.order_id, "side": order.side,
        "qty": text(c.qty(order.lots)), "orderPrice": text(c.price(order.ticks)),
        "orderType": order.kind, "execType": kind, "closedSize": "0", "cumEntryValue": "0",
        "avgEntryPrice": "0", "cumExitValue": "0", "avgExitPrice": "0", "closedPnl": text(ZERO),
        "fillCount": "0", "leverage": text(leverage), "openFee": "0", "closeFee": "0",
        "createdTime": str(x.now_ms), "updatedTime": str(x.now_ms),
    }  # fmt: skip
