"""Private routes of positions: lists, leverage, stops, closed profit, mode."""

from __future__ import annotations

from decimal import Decimal

from hedgelock.simulator import api_market, tpsl
from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.money import ONE, ZERO, text
from hedgelock.simulator.orders import Trigger
from hedgelock.simulator.params import WEEK_MS, Params, amount, limit, need, optional, page, window
from hedgelock.simulator.routes import READ, WRITE, Route
from hedgelock.simulator.rows import position_row, push_position
from hedgelock.simulator.state import Account, Exchange, Position, Refused, Row
from hedgelock.simulator.stops import trigger_price
from hedgelock.simulator.ticket import check_qty, limit_ticks, price_kind


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
    _, tier = c.tier(c.value(abs(position.size), x.market.quotes[c.key].mark))
    if wanted > tier.leverage_max:
        raise Refused(110013, "cannot set leverage due to risk limit level")
    before, position.leverage = position.leverage, wanted
    report = x.report(a)
    if wanted < before and report.available < 0:
        position.leverage = before
        raise Refused(110007, "ab not enough for new leverage")
    push_position(x, a, position)
    return {}


def trading_stop(x: Exchange, a: Account, params: Params) -> Row:
    """POST position/trading-stop: take profit and stop loss of a position; "0" cancels.

    Mode Full: one market order each for the whole position. Mode Partial: one more order for
    tpSize or slSize. A trailing stop follows the last price by `trailingStop` from `activePrice` on.
    """
    c = _perpetual(x, params)
    if optional(params, "positionIdx", "0") not in {"0", ""}:
        raise Refused(10001, "position idx not match position mode")
    position = x.position(a, c)
    if not position.size:
        raise Refused(10001, "can not set tp/sl/ts for zero position")
    mode = optional(params, "tpslMode", "Full") or "Full"
    if mode not in {"Full", "Partial"}:
        raise Refused(10001, "params error: tpslMode invalid")
    wanted = [level for take in (True, False) if (level := _level(x, c, position, params, take))]
    trailing = _trailing(x, position, params)
    if mode == "Partial":
        _add_partial(x, a, position, params, wanted)
    else:
        kinds = {optional(params, n) for n in ("tpOrderType", "slOrderType")}
        if "Limit" in kinds:
            raise Refused(10001, "params error: Full mode supports market orders only")
        changed = [
            tpsl.set_full(x, a, position, take=take, price=price, by=by)
            for take, price, by in wanted
        ]
        if trailing is not None:
            distance, active = trailing
            changed.append(tpsl.set_trailing(x, a, position, distance=distance, active=active))
        if not any(changed):
            raise Refused(34040, "not modified")
    push_position(x, a, position)
    return {}


def _trailing(x: Exchange, position: Position, params: Params) -> tuple[Decimal, Decimal] | None:
    """(distance, active price) of a requested trailing stop, distance 0 = cancel."""
    if not optional(params, "trailingStop"):
        return None
    distance, active = amount(params, "trailingStop", zero=True), ZERO
    last = x.market.quotes[position.contract.key].last
    if optional(params, "activePrice") not in {"", "0"}:
        active = amount(params, "activePrice")
        tpsl.check_sense(active, take=True, long=position.size > 0, base=last)
    if distance % position.contract.tick or distance >= last:
        raise Refused(10001, "params error: trailingStop invalid")
    return distance, active


def _level(
    x: Exchange, c: Contract, position: Position, params: Params, take: bool
) -> tuple[bool, Decimal, str] | None:
    """(take?, price, price kind) of a requested level, price 0 = cancel; None when not asked for."""
    name, kind = ("takeProfit", "tpTriggerBy") if take else ("stopLoss", "slTriggerBy")
    if not optional(params, name):
        return None
    price, by = amount(params, name, zero=True), price_kind(params, kind)
    if price % c.tick:
        raise Refused(10001, f"params error: {name} invalid")
    if price:
        base = trigger_price(x.market.quotes[c.key], by)
        tpsl.check_sense(price, take=take, long=position.size > 0, base=base)
    return take, price, by


def _add_partial(
    x: Exchange, a: Account, position: Position, params: Params,
    wanted: list[tuple[bool, Decimal, str]],
) -> None:  # fmt: skip
    c = position.contract
    orders = []
    for take, price, by in wanted:
        word = "tp" if take else "sl"
        if not price:
            raise Refused(10001, "params error: cancel a partial TP/SL by its orderId")
        most = min(abs(position.size), c.qty_max_market)
        lots = check_qty(c, amount(params, f"{word}Size"), most=most)
        ticks = 0
        if optional(params, f"{word}OrderType") == "Limit":
            side = "Sell" if position.size > 0 else "Buy"
            ticks = limit_ticks(x, a, c, amount(params, f"{word}LimitPrice"), side=side)
        orders.append((Trigger(price, (position.size > 0) is take, by), take, lots, ticks))
    if not orders:
        raise Refused(10001, "params error: takeProfit or stopLoss is required")
    tpsl.check_partial_room(a, c, len(orders))
    for trigger, take, lots, ticks in orders:
        tpsl.add_partial(x, a, position, trigger, take=take, lots=lots, limit_ticks=ticks)


def _perpetual(x: Exchange, params: Params) -> Contract:
    c = api_market.contract(x, params)
    if c.is_spot:
        raise Refused(10001, "params error: Category is invalid")
    return c


def closed_pnl(x: Exchange, a: Account, params: Params) -> Row:
    """GET position/closed-pnl, newest first; the net of opening and closing fees."""
    group, symbol = api_market.category(params), optional(params, "symbol")
    start, end = window(params, x.now_ms, span_ms=WEEK_MS, most_ms=WEEK_MS)

    def keep(row: Row) -> bool:
        return (
            row["category"] == group
            and symbol in {"", row["symbol"]}
            and start <= int(row["createdTime"]) <= end
        )

    size = limit(params, default=50, most=100)
    rows, cursor = page(a.closed_pnl, params, size=size, keep=keep)
    listed = [{k: v for k, v in r.items() if k != "category"} for r in rows]
    return {"category": group, "list": listed, "nextPageCursor": cursor}


def symbol_info(x: Exchange, a: Account, params: Params) -> Row:
    """GET position/symbol-info: leverage of contracts, held or not."""
    rows = [
        {
            "symbol": c.symbol, "leverage": text(x.position(a, c).leverage), "side": "",
            "positionIdx": 0,
        }
        for c in api_market.listed(x, params)
        if not c.is_spot
    ]  # fmt: skip
    return {"category": need(params, "category"), "list": rows}


def switch_mode(x: Exchange, a: Account, params: Params) -> Row:
    """POST position/switch-mode: every account is one-way; hedge mode is refused by its reason."""
    group, coin = need(params, "category"), optional(params, "coin")
    mode = need(params, "mode")
    if mode not in {"0", "3"} or not (coin or optional(params, "symbol")):
        raise Refused(10001, "params error: mode, symbol or coin invalid")
    contracts = (
        [_perpetual(x, params)]
        if optional(params, "symbol")
        else [c for c in x.contracts.values() if c.category == group and c.settle == coin]
    )
    if mode == "0":
        raise Refused(110025, "Position mode is not modified")
    if group != "linear":
        raise Refused(110029, "This symbol does not support hedge mode")
    if any(a.positions[c.key].size for c in contracts if c.key in a.positions):
        raise Refused(110024, "You have an existing position, so position mode cannot be switched")
    if any(o.contract in contracts for o in a.open_orders.values()):
        raise Refused(110028, "You have existing open orders, so position mode cannot be switched")
    raise Refused(110029, "This symbol does not support hedge mode")


PRIVATE: dict[tuple[str, str], Route] = {
    ("GET", "/v5/position/list"): Route(positions, READ),
    ("GET", "/v5/position/closed-pnl"): Route(closed_pnl, READ),
    ("GET", "/v5/position/symbol-info"): Route(symbol_info, READ),
    ("POST", "/v5/position/set-leverage"): Route(set_leverage, WRITE),
    ("POST", "/v5/position/switch-mode"): Route(switch_mode, WRITE),
    ("POST", "/v5/position/trading-stop"): Route(trading_stop, WRITE),
}
