"""Queries of orders and executions."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable

from hedgelock.simulator import api_market
from hedgelock.simulator.params import (
    DAY_MS,
    WEEK_MS,
    Params,
    limit,
    optional,
    page,
    window,
)
from hedgelock.simulator.routes import READ, Route
from hedgelock.simulator.rows import order_row
from hedgelock.simulator.state import OPEN_STATUSES, Account, Exchange, Order, Refused, Row

Keep = Callable[[Order], bool]
FILTERS: dict[str, Keep] = {
    "": lambda o: True,
    "Order": lambda o: not o.stop_type,
    "StopOrder": lambda o: o.stop_type == "Stop",
    "tpslOrder": lambda o: o.stop_type not in {"", "Stop"},
}


def find(x: Exchange, a: Account, params: Params) -> Order | None:
    """The order that orderId (first) or orderLinkId names in the category."""
    spot = optional(params, "category") == "spot"
    by_id = optional(params, "orderId")
    order = a.by_id.get(by_id) if by_id else a.by_link.get((spot, optional(params, "orderLinkId")))
    if order is not None and order.contract.category != optional(params, "category"):
        return None
    return order


def _visible(x: Exchange, order: Order) -> bool:
    """Whether queries know the order yet."""
    return x.now_ms >= order.created_ms + x.visibility_lag_ms


def _selects(x: Exchange, params: Params) -> Keep:
    """What the filters of a list request ask for."""
    group = api_market.category(params)
    symbol, settle = optional(params, "symbol"), optional(params, "settleCoin")
    base, kind = optional(params, "baseCoin"), optional(params, "orderFilter")
    status = optional(params, "orderStatus")
    if kind not in FILTERS:
        raise Refused(10001, "params error: orderFilter invalid")

    def keep(order: Order) -> bool:
        c = order.contract
        return (
            c.category == group
            and symbol in {"", c.symbol}
            and settle in {"", c.settle}
            and base in {"", c.base}
            and status in {"", order.status}
            and FILTERS[kind](order)
            and _visible(x, order)
        )

    return keep


def _page(orders: Iterable[Order], params: Params, keep: Keep) -> Row:
    """One page of orders that come newest first; the cursor is the last one's number."""
    size = limit(params, default=20, most=50)
    found = re.search(r"\d+", optional(params, "cursor"))
    before = int(found.group()) if found else 2**62
    picked: list[Order] = []
    cursor = ""
    for order in orders:
        if order.number >= before or not keep(order):
            continue
        if len(picked) == size:
            cursor = f"{picked[-1].number}%3A1%2C{picked[-1].number}%3A1"
            break
        picked.append(order)
    rows = [order_row(o) for o in picked]
    return {
        "category": optional(params, "category"), "list": rows, "nextPageCursor": cursor,
    }  # fmt: skip


def _named(params: Params) -> bool:
    return bool(optional(params, "orderId") or optional(params, "orderLinkId"))


def _one(params: Params, order: Order | None) -> Row:
    rows = [order_row(order)] if order is not None else []
    return {"category": optional(params, "category"), "list": rows, "nextPageCursor": ""}


def realtime(x: Exchange, a: Account, params: Params) -> Row:
    """GET order/realtime: open orders; with openOnly=1 the 500 most recently closed ones.

    An id finds an order in either place, whatever openOnly says.
    """
    named = ("symbol", "settleCoin", "baseCoin", "orderId", "orderLinkId")
    if api_market.category(params) == "linear" and not any(optional(params, n) for n in named):
        raise Refused(10001, "params error: symbol, settleCoin or baseCoin is required")
    if _named(params):
        order = find(x, a, params)
        known = order is not None and _visible(x, order) and (
            order.status in OPEN_STATUSES or order.order_id in a.closed_recently
        )  # fmt: skip
        return _one(params, order if known else None)
    if optional(params, "openOnly", "0") == "0":
        orders = a.open_orders.values()
    else:
        orders = [a.by_id[order_id] for order_id in set(a.closed_recently)]
    orders.sort(key=lambda o: o.number, reverse=True)
    return _page(orders, params, _selects(x, params))


def history(x: Exchange, a: Account, params: Params) -> Row:
    """GET order/history: closed orders, newest first.

    Those that ended without a fill are kept for 24 h, the others for good.
    """
    start, end = window(params, x.now_ms, span_ms=WEEK_MS, most_ms=WEEK_MS)

    def kept(order: Order) -> bool:
        return order.status not in OPEN_STATUSES and (
            order.filled_lots > 0 or order.updated_ms > x.now_ms - DAY_MS
        )

    selects = _selects(x, params)
    if _named(params):
        order = find(x, a, params)
        known = order is not None and kept(order) and _visible(x, order)
        return _one(params, order if known else None)
    first = bisect_left(a.orders, start, key=lambda o: o.created_ms)
    last = bisect_left(a.orders, end + 1, key=lambda o: o.created_ms)
    orders = (a.orders[i] for i in range(last - 1, first - 1, -1))
    return _page(orders, params, lambda o: kept(o) and selects(o))


def executions(x: Exchange, a: Account, params: Params) -> Row:
    """GET execution/list, newest first."""
    group, kind = api_market.category(params), optional(params, "execType")
    fields = {
        "symbol": optional(params, "symbol"),
        "orderId": optional(params, "orderId"),
        "orderLinkId": optional(params, "orderLinkId"),
        "execType": kind,
    }
    start, end = window(params, x.now_ms, span_ms=WEEK_MS, most_ms=WEEK_MS)

    def keep(row: Row) -> bool:
        return (
            row["category"] == group
            and start <= int(row["execTime"]) <= end
            and all(row[name] == value for name, value in fields.items() if value)
        )

    rows, cursor = page(a.executions, params, size=limit(params, default=50, most=100), keep=keep)
    return {"category": group, "list": rows, "nextPageCursor": cursor}


PRIVATE: dict[tuple[str, str], Route] = {
    ("GET", "/v5/order/realtime"): Route(realtime, READ),
    ("GET", "/v5/order/history"): Route(history, READ),
    ("GET", "/v5/execution/list"): Route(executions, READ),
}
