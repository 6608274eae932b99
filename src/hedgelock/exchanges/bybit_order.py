"""An order in Bybit's words."""

from __future__ import annotations

from typing import Any

from hedgelock.domain.effect import SendOrder
from hedgelock.domain.instrument import category_of, symbol_of
from hedgelock.domain.order import OrderType, Side, TimeInForce
from hedgelock.exchanges.bybit_loan import plain

_TIME_IN_FORCE = {
    TimeInForce.GTC: "GTC", TimeInForce.IOC: "IOC", TimeInForce.FOK: "FOK",
    TimeInForce.POST_ONLY: "PostOnly",
}


def order_body(effect: SendOrder) -> dict[str, Any]:
    """The order as Bybit wants it. One-way mode; a market order on spot counts base coins."""
    category = category_of(effect.instrument)
    body: dict[str, Any] = {
        "category": category,
        "symbol": symbol_of(effect.instrument),
        "side": "Buy" if effect.side is Side.BUY else "Sell",
        "orderType": "Limit" if effect.order_type is OrderType.LIMIT else "Market",
        "qty": plain(effect.qty),
        "timeInForce": _TIME_IN_FORCE[effect.time_in_force],
        "orderLinkId": effect.client_order_id,
    }
    if effect.price is not None and effect.order_type is OrderType.LIMIT:
        body["price"] = plain(effect.price)
    if category == "spot":
        if effect.order_type is OrderType.MARKET:
            body["marketUnit"] = "baseCoin"
    else:
        body["positionIdx"] = 0
        body["reduceOnly"] = effect.reduce_only
    if effect.trigger_price is not None:
        body["triggerPrice"] = plain(effect.trigger_price)
        body["triggerDirection"] = 1 if effect.side is Side.BUY else 2
        body["triggerBy"] = "MarkPrice"
        # Where margin is short, the venue takes other orders away to let this one through.
        body["closeOnTrigger"] = effect.reduce_only
    return body
