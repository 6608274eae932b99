"""Private routes of orders, executions and positions."""

from __future__ import annotations

import re
from decimal import Decimal

from hedgelock.simulator import api_market
from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.matching import BUY, SELL
from hedgelock.simulator.money import ONE, ZERO, text
from hedgelock.simulator.params import (
    WEEK_MS,
    Params,
    amount,
    flag,
    limit,
    need,
    optional,
    page,
    window,
)
from hedgelock.simulator.routes import READ, WRITE, Route
from hedgelock.simulator.rows import order_row, position_row, push_position
from hedgelock.simulator.state import OPEN_STATUSES, Account, Exchange, Order, Refused, Row
from hedgelock.simulator.trading import cancel, submit

LINK_SHAPE = re.compile(r"[A-Za-z0-9_-]{0,36}")
MARKET_BAND = Decimal("0.05")  # a market order is an IOC limit this far from mark
PRICE_LIMIT = Decimal("0.02")  # derivative limit prices are clipped to mark ± this


def create(x: Exchange, a: Account, params: Params) -> Row:
    """POST order/create."""
    c = api_market.contract(x, params)
    order = _parse(x, a, c, params)
    submit(x, a, order)
    return {"orderId": order.order_id, "orderLinkId": order.link}


def _parse(x: Exchange, a: Account, c: Contract, params: Params) -> Order:
    side, kind = need(params, "side"), need(params, "orderType")
    if side not in {BUY, SELL} or kind not in {"Market", "Limit"}:
        raise Refused(10001, "params error: side or orderType invalid")
    if optional(params, "positionIdx", "0") not in {"0", ""}:
        raise Refused(10001, "position idx not match position mode")
    if optional(params, "triggerPrice") not in {"", "0"}:
        raise Refused(10001, "conditional orders are not simulated yet")
    link = optional(params, "orderLinkId")
    if not LINK_SHAPE.fullmatch(link):
        raise Refused(10001, "params error: orderLinkId invalid")
    tif = "IOC" if kind == "Market" else optional(params, "timeInForce") or "GTC"
    if tif not in {"GTC", "IOC", "FOK", "PostOnly"}:
        raise Refused(10001, "params error: timeInForce invalid")
    reduce_only = flag(params, "reduceOnly") and not c.is_spot
    quote = x.market.quotes[c.key]
    ticks = _ticks(c, params, side=side, kind=kind, mark=quote.mark)
    lots = _lots(x, a, c, params, side=side, kind=kind, reduce_only=reduce_only)
    if not reduce_only:
        price = quote.mark if kind == "Market" else c.price(ticks)
        worth = c.qty(lots) if c.is_inverse else c.qty(lots) * price
        if worth < c.notional_min:
            code, message = (170140, "Order value exceeded lower limit.") if c.is_spot else (
                110094, f"Order does not meet minimum order value {text(c.notional_min)}USDT",
            )  # fmt: skip
            raise Refused(code, message)
    return Order(
        x.new_id("order") if not c.is_spot else str(2_000_000_000_000_000_000 + x.serial()),
        link, c, a.name, side, kind, tif, ticks, lots, x.serial(), x.now_ms, x.now_ms, quote.last,
        reduce_only=reduce_only, close_on_trigger=flag(params, "closeOnTrigger"),
        market_unit=optional(params, "marketUnit"),
        is_leverage=optional(params, "isLeverage", "0") if c.is_spot else "",
        received_ns=x.received_ns,
    )  # fmt: skip


def _ticks(c: Contract, params: Params, *, side: str, kind: str, mark: Decimal) -> int:
    if kind == "Market":
        bound = mark * (ONE + MARKET_BAND if side == BUY else ONE - MARKET_BAND)
        return int(bound / c.tick)
    price = amount(params, "price")
    if price % c.tick:
        if c.is_spot:
            raise Refused(170134, "Order price has too many decimals.")
        raise Refused(10001, "params error: price invalid")
    if c.is_spot:
        if price > mark * (1 + MARKET_BAND) and side == BUY:
            raise Refused(170193, "Buy order price cannot be higher than the limit.")
        if price < mark * (1 - MARKET_BAND) and side == SELL:
            raise Refused(170194, "Sell order price cannot be lower than the limit.")
        return int(price / c.tick)
    if side == BUY:
        price = min(price, mark * (1 + PRICE_LIMIT))
    else:
        price = max(price, mark * (1 - PRICE_LIMIT))
    return int(price / c.tick)


def _lots(
    x: Exchange, a: Account, c: Contract, params: Params, *, side: str, kind: str,
    reduce_only: bool,
) -> int:  # fmt: skip
    qty = amount(params, "qty", zero=True)
    most = c.qty_max_market if kind == "Market" else c.qty_max
    if c.is_spot:
        return _spot_lots(x, c, params, qty, side=side, kind=kind)
    if reduce_only:
        size = x.position(a, c).size
        reducible = max(ZERO, -size if side == BUY else size)
        if not reducible:
            raise Refused(110017, "current position is zero, cannot fix reduce-only order qty")
        if not qty and flag(params, "closeOnTrigger"):
            qty = most
        qty = min(qty, reducible, most)
    if qty > most:
        raise Refused(10001, "The number of contracts exceeds maximum limit allowed")
    if qty < c.lot:
        raise Refused(110017, "orderQty will be truncated to zero.")
    if qty % c.lot or qty < c.qty_min:
        raise Refused(10001, "Qty invalid")
    return int(qty / c.lot)


def _spot_lots(
    x: Exchange, c: Contract, params: Params, qty: Decimal, *, side: str, kind: str
) -> int:
    """Spot market buys are in quote coin unless `marketUnit` says otherwise."""
    by_value = optional(params, "marketUnit", "quoteCoin" if side == BUY else "baseCoin")
    if kind == "Market" and by_value == "quoteCoin":
        best = x.books[c.key].best_ask() if side == BUY else x.books[c.key].best_bid()
        qty = (qty / c.price(best)).quantize(c.lot, rounding="ROUND_DOWN")
    if qty % c.lot:
        raise Refused(170137, "Order quantity has too many decimals.")
    if qty < c.qty_min:
        raise Refused(170136, "Order quantity lower than minimum.")
    if qty > (c.qty_max_market if kind == "Market" else c.qty_max):
        raise Refused(170124, "Order amount too large.")
    return int(qty / c.lot)


def _find(x: Exchange, a: Account, params: Params) -> Order | None:
    """The order that orderId (first) or orderLinkId names in the category."""
    spot = optional(params, "category") == "spot"
    by_id = optional(params, "orderId")
    order = a.by_id.get(by_id) if by_id else a.by_link.get((spot, optional(params, "orderLinkId")))
    if order is not None and order.contract.category != optional(params, "category"):
        return None
    return order


def cancel_one(x: Exchange, a: Account, params: Params) -> Row:
    """POST order/cancel."""
    c = api_market.contract(x, params)
    order = _find(x, a, params)
    if order is None or order.contract is not c or order.status not in OPEN_STATUSES:
        if c.is_spot:
            raise Refused(170213, "Order does not exist.")
        raise Refused(110001, "order not exists or too late to cancel")
    cancel(x, a, order)
    return {"orderId": order.order_id, "orderLinkId": order.link}


def cancel_all(x: Exchange, a: Account, params: Params) -> Row:
    """POST order/cancel-all."""
    group = api_market.category(params)
    symbol, base = optional(params, "symbol"), optional(params, "baseCoin")
    settle = optional(params, "settleCoin")
    if group != "spot" and not (symbol or base or settle):
        raise Refused(10001, "params error: symbol, baseCoin or settleCoin is required")
    gone = []
    for order in list(a.open_orders.values()):
        c = order.contract
        if c.category != group or (symbol and c.symbol != symbol):
            continue
        if not symbol and ((base and c.base != base) or (settle and c.settle != settle)):
            continue
        cancel(x, a, order)
        gone.append({"orderId": order.order_id, "orderLinkId": order.link})
    return {"list": gone, "success": "1"}


def _orders(
    x: Exchange, a: Account, params: Params, *, open_only: bool, any_status: bool = False
) -> Row:
    group = api_market.category(params)
    symbol, settle = optional(params, "symbol"), optional(params, "settleCoin")
    base = optional(params, "baseCoin")
    by_id = bool(optional(params, "orderId") or optional(params, "orderLinkId"))
    start, end = 0, x.now_ms
    if not open_only:
        start, end = window(params, x.now_ms, span_ms=WEEK_MS, most_ms=WEEK_MS)
    found = _find(x, a, params) if by_id else None
    if by_id:
        visible = found is not None and (any_status or found.status not in OPEN_STATUSES)
        rows = [order_row(found)] if found is not None and visible else []
        return {"category": group, "list": rows, "nextPageCursor": ""}

    def keep(order: Order) -> bool:
        c = order.contract
        return (
            c.category == group
            and symbol in {"", c.symbol}
            and settle in {"", c.settle}
            and base in {"", c.base}
            and (order.status in OPEN_STATUSES) is open_only
            and start <= order.created_ms <= end
        )

    size = limit(params, default=20, most=50)
    orders, cursor = page(a.orders, params, size=size, keep=keep)
    return {
        "category": group, "list": [order_row(o) for o in orders], "nextPageCursor": cursor,
    }  # fmt: skip


def realtime(x: Exchange, a: Account, params: Params) -> Row:
    """GET order/realtime: open orders, or recently closed ones with openOnly=1."""
    named = ("symbol", "settleCoin", "baseCoin", "orderId", "orderLinkId")
    if api_market.category(params) == "linear" and not any(optional(params, n) for n in named):
        raise Refused(10001, "params error: symbol, settleCoin or baseCoin is required")
    open_only = optional(params, "openOnly", "0") == "0"
    return _orders(x, a, params, open_only=open_only, any_status=True)


def history(x: Exchange, a: Account, params: Params) -> Row:
    """GET order/history: closed orders, newest first."""
    return _orders(x, a, params, open_only=False)


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


def positions(x: Exchange, a: Account, params: Params) -> Row:
    """GET position/list: a named symbol even when flat, otherwise open positions only."""
    group = api_market.category(params)
    symbol, settle = optional(params, "symbol"), optional(params, "settleCoin")
    base = optional(params, "baseCoin")
    if group == "spot":
        raise Refused(10001, "params error: Category is invalid")
    if group == "linear" and not (symbol or settle or base):
        raise Refused(10001, "params error: symbol or settleCoin is required")
    if symbol:
        found = [x.position(a, api_market.contract(x, params))]
    else:
        found = [
            p
            for _, p in sorted(a.positions.items())
            if p.size and p.contract.category == group and settle in {"", p.contract.settle}
        ]
    rows = [position_row(x, a, p) for p in found]
    return {"category": group, "nextPageCursor": "", "list": rows}


def set_leverage(x: Exchange, a: Account, params: Params) -> Row:
    """POST position/set-leverage; both sides equal, unchanged is 110043."""
    c = api_market.contract(x, params)
    wanted = amount(params, "buyLeverage")
    if wanted != amount(params, "sellLeverage"):
        raise Refused(10001, "buy leverage must equal sell leverage")
    if c.is_spot or not ONE <= wanted <= c.leverage_max:
        raise Refused(10001, "leverage invalid")
    position = x.position(a, c)
    if position.leverage == wanted:
        raise Refused(110043, "leverage not modified")
    before, position.leverage = position.leverage, wanted
    report = x.report(a)
    if wanted < before and report.available < 0:
        position.leverage = before
        raise Refused(110007, "ab not enough for new leverage")
    push_position(x, a, position)
    return {}


PRIVATE: dict[tuple[str, str], Route] = {
    ("GET", "/v5/position/list"): Route(positions, READ),
    ("POST", "/v5/position/set-leverage"): Route(set_leverage, WRITE),
    ("POST", "/v5/order/create"): Route(create, WRITE),
    ("POST", "/v5/order/cancel"): Route(cancel_one, WRITE),
    ("POST", "/v5/order/cancel-all"): Route(cancel_all, WRITE),
    ("GET", "/v5/order/realtime"): Route(realtime, READ),
    ("GET", "/v5/order/history"): Route(history, READ),
    ("GET", "/v5/execution/list"): Route(executions, READ),
}
