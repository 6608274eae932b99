"""Reading an order request: every field checked, in the exchange's codes, before anything happens."""

from __future__ import annotations

import re
from decimal import Decimal

from hedgelock.simulator import api_market
from hedgelock.simulator.conditional import market_ticks
from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.matching import BUY, SELL
from hedgelock.simulator.money import ZERO, text
from hedgelock.simulator.orders import Trigger
from hedgelock.simulator.params import Params, amount, flag, need, optional
from hedgelock.simulator.price_limit import limited
from hedgelock.simulator.state import Account, Exchange, Order, Refused
from hedgelock.simulator.stops import trigger_price
from hedgelock.simulator.tpsl import check_sense

LINK_SHAPE = re.compile(r"[A-Za-z0-9_-]{0,36}")
PRICE_KINDS = frozenset({"LastPrice", "MarkPrice", "IndexPrice"})
SMP_TYPES = frozenset({"None", "CancelMaker", "CancelTaker", "CancelBoth"})
SPOT_POST_ONLY_MAX = Decimal(17000)


def read_order(x: Exchange, a: Account, params: Params) -> Order:
    """The order that a create request describes."""
    c = api_market.contract(x, params)
    side, kind = need(params, "side"), need(params, "orderType")
    if side not in {BUY, SELL} or kind not in {"Market", "Limit"}:
        raise Refused(10001, "params error: side or orderType invalid")
    if optional(params, "positionIdx", "0") not in {"0", ""}:
        raise Refused(10001, "position idx not match position mode")
    link = optional(params, "orderLinkId")
    if not LINK_SHAPE.fullmatch(link):
        raise Refused(10001, "params error: orderLinkId invalid")
    tif = _time_in_force(params, kind)
    trigger = _trigger(x, c, params)
    only_reduces = not c.is_spot and (flag(params, "reduceOnly") or flag(params, "closeOnTrigger"))
    slippage = _slippage(x, c, params, kind=kind)
    if kind == "Limit":
        ticks = limit_ticks(x, a, c, amount(params, "price"), side=side)
    else:
        ticks = 0 if trigger else market_ticks(x, c, side=side, slippage=slippage)
    lots = _lots(x, a, c, params, tif=tif, only_reduces=only_reduces, waits=trigger is not None)
    if not only_reduces:
        check_value(x, c, lots, kind=kind, ticks=ticks)
    order = Order(
        x.new_id("order") if not c.is_spot else str(2_000_000_000_000_000_000 + x.serial()),
        link, c, a.name, side, kind, tif, ticks, lots, x.serial(), x.now_ms, x.now_ms,
        x.market.quotes[c.key].last,
        reduce_only=flag(params, "reduceOnly") and not c.is_spot,
        close_on_trigger=flag(params, "closeOnTrigger") and not c.is_spot,
        market_unit=optional(params, "marketUnit"),
        is_leverage=optional(params, "isLeverage", "0") if c.is_spot else "",
        received_ns=x.received_ns, trigger=trigger, closes_all=trigger is not None and not lots,
        slippage=slippage, smp=optional(params, "smpType", "None"),
    )  # fmt: skip
    if trigger is not None:
        order.create_type, order.stop_type = "CreateByStopOrder", "Stop"
    if order.smp not in SMP_TYPES:
        raise Refused(10001, "params error: smpType invalid")
    _attach(x, order, params)
    return order


def _time_in_force(params: Params, kind: str) -> str:
    tif = "IOC" if kind == "Market" else optional(params, "timeInForce") or "GTC"
    if tif not in {"GTC", "IOC", "FOK", "PostOnly"}:
        raise Refused(10001, "params error: timeInForce invalid")
    return tif


def _trigger(x: Exchange, c: Contract, params: Params) -> Trigger | None:
    """The trigger of a conditional order; spot derives its direction from the last price."""
    if optional(params, "triggerPrice") in {"", "0"}:
        if optional(params, "orderFilter", "Order") in {"StopOrder", "tpslOrder"}:
            raise Refused(10001, "params error: triggerPrice is required")
        return None
    price, by = amount(params, "triggerPrice"), price_kind(params, "triggerBy")
    if price % c.tick:
        raise Refused(10001, "params error: triggerPrice invalid")
    current = trigger_price(x.market.quotes[c.key], by)
    if c.is_spot:
        return Trigger(price, price > current, "LastPrice")
    direction = optional(params, "triggerDirection")
    if direction not in {"1", "2"}:
        raise Refused(10001, "TriggerDirection invalid")
    return checked_trigger(Trigger(price, direction == "1", by), current)


def checked_trigger(trigger: Trigger, current: Decimal) -> Trigger:
    """A rising trigger must lie above the current price, a falling one below it."""
    if trigger.rising and trigger.price <= current:
        raise Refused(
            110092, f"expect Rising, but trigger_price[{text(trigger.price)}] <= current[{text(current)}]"
        )  # fmt: skip
    if not trigger.rising and trigger.price >= current:
        raise Refused(
            110093, f"expect Falling, but trigger_price[{text(trigger.price)}] >= current[{text(current)}]"
        )  # fmt: skip
    return trigger


def price_kind(params: Params, name: str) -> str:
    """LastPrice (the default), MarkPrice or IndexPrice."""
    by = optional(params, name) or "LastPrice"
    if by not in PRICE_KINDS:
        raise Refused(10001, f"params error: {name} invalid")
    return by


def _slippage(x: Exchange, c: Contract, params: Params, *, kind: str) -> Decimal | None:
    """A market order's own slippage tolerance as a fraction; None = the exchange's band."""
    unit = optional(params, "slippageToleranceType")
    if not unit or unit == "UNKNOWN" or kind != "Market":
        return None
    size = amount(params, "slippageTolerance")
    if unit == "Percent" and Decimal("0.01") <= size <= 10:
        return size / 100
    if unit == "TickSize" and 1 <= size <= 10000:
        return size * c.tick / x.market.quotes[c.key].last
    raise Refused(10001, "params error: slippageTolerance invalid")


def limit_ticks(x: Exchange, a: Account, c: Contract, price: Decimal, *, side: str) -> int:
    """A limit price in ticks, within the price limits."""
    if price % c.tick:
        if c.is_spot:
            raise Refused(170134, "Order price has too many decimals.")
        raise Refused(10001, "params error: price invalid")
    return int(limited(x, a, c, price, side=side) / c.tick)


def _lots(
    x: Exchange, a: Account, c: Contract, params: Params, *, tif: str, only_reduces: bool,
    waits: bool,
) -> int:  # fmt: skip
    side, kind = need(params, "side"), need(params, "orderType")
    qty = amount(params, "qty", zero=True)
    most = qty_most(c, kind=kind, tif=tif)
    if c.is_spot:
        return _spot_lots(x, c, params, qty, most=most)
    if only_reduces and not waits:
        size = x.position(a, c).size
        reducible = max(ZERO, -size if side == BUY else size)
        if not reducible:
            raise Refused(110017, "current position is zero, cannot fix reduce-only order qty")
        if not qty and flag(params, "reduceOnly") and flag(params, "closeOnTrigger"):
            qty = most
        qty = min(qty, reducible, most)
    elif waits and not qty and flag(params, "reduceOnly") and flag(params, "closeOnTrigger"):
        return 0
    return check_qty(c, qty, most=most)


def qty_most(c: Contract, *, kind: str, tif: str) -> Decimal:
    """The largest quantity of one order."""
    if kind == "Market":
        return c.qty_max_market
    return SPOT_POST_ONLY_MAX if c.is_spot and tif == "PostOnly" else c.qty_max


def check_qty(c: Contract, qty: Decimal, *, most: Decimal) -> int:
    """A derivative quantity in lots."""
    if qty > most:
        raise Refused(10001, "The number of contracts exceeds maximum limit allowed: too large")
    if qty < c.lot:
        raise Refused(110017, "orderQty will be truncated to zero.")
    if qty % c.lot or qty < c.qty_min:
        raise Refused(10001, "Qty invalid")
    return int(qty / c.lot)


def _spot_lots(x: Exchange, c: Contract, params: Params, qty: Decimal, *, most: Decimal) -> int:
    """Spot market buys are in quote coin unless `marketUnit` says otherwise."""
    side, kind = need(params, "side"), need(params, "orderType")
    by_value = optional(params, "marketUnit") or ("quoteCoin" if side == BUY else "baseCoin")
    if kind == "Market" and by_value == "quoteCoin":
        best = x.books[c.key].best_ask() if side == BUY else x.books[c.key].best_bid()
        qty = (qty / c.price(best)).quantize(c.lot, rounding="ROUND_DOWN")
    return check_spot_qty(c, qty, most=most)


def check_spot_qty(c: Contract, qty: Decimal, *, most: Decimal) -> int:
    """A spot quantity in lots."""
    if qty % c.lot:
        raise Refused(170137, "Order quantity has too many decimals.")
    if qty < c.qty_min:
        raise Refused(170136, "Order quantity lower than minimum.")
    if qty > most:
        raise Refused(170124, "Order amount too large.")
    return int(qty / c.lot)


def check_value(x: Exchange, c: Contract, lots: int, *, kind: str, ticks: int) -> None:
    """Refuse an order worth less than the contract's least value."""
    price = x.market.quotes[c.key].mark if kind == "Market" else c.price(ticks)
    worth = c.qty(lots) if c.is_inverse else c.qty(lots) * price
    if worth >= c.notional_min:
        return
    if c.is_spot:
        raise Refused(170140, "Order value exceeded lower limit.")
    raise Refused(110094, f"Order does not meet minimum order value {text(c.notional_min)}USDT")


def _attach(x: Exchange, order: Order, params: Params) -> None:
    """Take profit and stop loss that the filled order will give to its position."""
    c = order.contract
    for take, name in ((True, "takeProfit"), (False, "stopLoss")):
        if optional(params, name) in {"", "0"}:
            continue
        if c.is_spot or order.only_reduces:
            raise Refused(10001, f"{name} is not allowed on this order")
        if optional(params, "tpslMode", "Full") != "Full":
            raise Refused(10001, "params error: tpslMode of an order must be Full")
        price = amount(params, name)
        by = price_kind(params, "tpTriggerBy" if take else "slTriggerBy")
        quote = x.market.quotes[c.key]
        base = c.price(order.ticks) if order.kind == "Limit" else trigger_price(quote, by)
        check_sense(price, take=take, long=order.side == BUY, base=base, whose="order")
        if take:
            order.take_profit, order.tp_by = price, by
        else:
            order.stop_loss, order.sl_by = price, by
