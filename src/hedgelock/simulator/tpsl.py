"""Take profit and stop loss of a position: conditional orders that end with it.

In mode Full there is at most one of each, a market order for the whole position; in mode Partial
there may be several, each with its own quantity (fact sheet §4.4).
"""

from __future__ import annotations

from decimal import Decimal

from hedgelock.simulator.endings import end_stop, push
from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.matching import BUY, SELL
from hedgelock.simulator.money import text
from hedgelock.simulator.orders import Trigger
from hedgelock.simulator.rows import order_row
from hedgelock.simulator.state import Account, Exchange, Order, Position, Refused
from hedgelock.simulator.stops import trigger_price

TAKE_PROFIT, STOP_LOSS, TRAILING = "TakeProfit", "StopLoss", "TrailingStop"
PARTIAL_MAX = 20


def check_sense(
    price: Decimal, *, take: bool, long: bool, base: Decimal, whose: str = "position"
) -> None:
    """A take profit lies on the winning side of `base`, a stop loss on the losing one."""
    name, above = ("TakeProfit", long) if take else ("StopLoss", not long)
    if (price > base) is above and price != base:
        return
    side, relation = ("Buy" if long else "Sell"), ("higher" if above else "lower")
    raise Refused(
        10001,
        f"{name}:{text(price)} set for {side} {whose} should be {relation} than base_price:{text(base)}",
    )


def set_full(
    x: Exchange, account: Account, position: Position, *, take: bool, price: Decimal, by: str
) -> bool:
    """Set, move or clear (price 0) the whole position's take profit or stop loss.

    Returns False when that changes nothing.
    """
    current = position.take_profit if take else position.stop_loss
    trigger = Trigger(price, (position.size > 0) is take, by)
    if current is None:
        if not price:
            return False
        lots = int(abs(position.size) / position.contract.lot)
        order = _stop(x, account, position, trigger, kind=TAKE_PROFIT if take else STOP_LOSS)
        order.lots, order.closes_all = lots, True
        if take:
            position.take_profit = order
        else:
            position.stop_loss = order
        _wait(x, account, order)
    elif not price:
        end_stop(x, account, current, cancel_type="CancelByUser")
    elif current.trigger == trigger:
        return False
    else:
        current.trigger = trigger
        current.updated_ms = x.now_ms
        x.stops.add(current)
        x.emit("order", account, [order_row(current, pushed=True)])
    return True


def set_trailing(
    x: Exchange, account: Account, position: Position, *, distance: Decimal, active: Decimal
) -> bool:
    """Set, change or clear (distance 0) the stop that follows the best last price.

    It closes the whole position once the price has come back by `distance` from its best since
    `active` was reached (0 = at once). Returns False when that changes nothing.
    """
    current = position.trailing
    if current is None and not distance:
        return False
    if current is not None and (current.trail, current.active_price) == (distance, active):
        return False
    if current is not None:
        end_stop(x, account, current, cancel_type="CancelByUser")
    if distance:
        order = _stop(x, account, position, None, kind=TRAILING)
        order.lots, order.closes_all = int(abs(position.size) / position.contract.lot), True
        order.trail, order.active_price = distance, active
        position.trailing = order
        _wait(x, account, order)
        x.stops.follow(order)
    return True


def check_partial_room(account: Account, contract: Contract, more: int) -> None:
    """Refuse more than 20 partial take profits and stop losses."""
    stops = account.open_orders.crowd(contract).stops.values()
    if sum(o.stop_type.startswith("Partial") for o in stops) + more > PARTIAL_MAX:
        raise Refused(110061, "Not allowed to have more than 20 TP/SLs under Partial tpSlMode")


def add_partial(
    x: Exchange, account: Account, position: Position, trigger: Trigger, *, take: bool, lots: int,
    limit_ticks: int,
) -> None:  # fmt: skip
    """Add a take profit or stop loss for part of the position; `limit_ticks` 0 = market."""
    order = _stop(
        x, account, position, trigger, kind=f"Partial{TAKE_PROFIT if take else STOP_LOSS}"
    )
    order.lots = lots
    if limit_ticks:
        order.kind, order.tif, order.ticks = "Limit", "GTC", limit_ticks
    _wait(x, account, order)


def attach(x: Exchange, account: Account, order: Order) -> None:
    """Give the position the take profit and stop loss that a filled opening order carries."""
    position = x.position(account, order.contract)
    if not position.size or (position.size > 0) is not (order.side == BUY):
        return
    quote = x.market.quotes[order.contract.key]
    for take, price, by in (
        (True, order.take_profit, order.tp_by), (False, order.stop_loss, order.sl_by),
    ):  # fmt: skip
        above = (position.size > 0) is take
        if price and (price > trigger_price(quote, by)) is above:
            set_full(x, account, position, take=take, price=price, by=by)


def follow(x: Exchange, account: Account, contract: Contract) -> None:
    """Keep the stops of a position to its size; a closed or turned position clears them."""
    position = x.position(account, contract)
    crowd = account.open_orders.crowd(contract)
    if not crowd.stops:
        return
    closing = SELL if position.size > 0 else BUY
    for order in list(crowd.stops.values()):
        if order.stop_type == "Stop" or order.status != "Untriggered":
            continue
        if not position.size or order.side != closing:
            end_stop(x, account, order, cancel_type="CancelByTpSlTsClear")
        elif order.closes_all:
            order.lots = int(abs(position.size) / contract.lot)


def _stop(
    x: Exchange, account: Account, position: Position, trigger: Trigger | None, *, kind: str
) -> Order:
    c = position.contract
    return Order(
        x.new_id("order"), "", c, account.name, SELL if position.size > 0 else BUY, "Market",
        "IOC", 0, 0, x.serial(), x.now_ms, x.now_ms, x.market.quotes[c.key].last,
        reduce_only=True, close_on_trigger=True, status="Untriggered",
        create_type=f"CreateBy{kind}", trigger=trigger, stop_type=kind,
    )  # fmt: skip


def _wait(x: Exchange, account: Account, order: Order) -> None:
    account.orders.append(order)
    account.by_id[order.order_id] = order
    account.open_orders.sync(order)
    if order.trigger is not None:
        x.stops.add(order)
    push(x, account, order)
