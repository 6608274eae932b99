"""Amending an open order: price, quantity, trigger, attached take profit and stop loss."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from hedgelock.simulator.endings import push
from hedgelock.simulator.matching import BUY
from hedgelock.simulator.money import ZERO
from hedgelock.simulator.orders import Trigger
from hedgelock.simulator.params import Params, amount, optional
from hedgelock.simulator.state import Account, Exchange, Order, Refused
from hedgelock.simulator.stops import trigger_price
from hedgelock.simulator.ticket import (
    check_qty,
    check_spot_qty,
    check_value,
    checked_trigger,
    limit_ticks,
    price_kind,
    qty_most,
)
from hedgelock.simulator.tpsl import check_sense
from hedgelock.simulator.trading import execute

UNCHANGED = "The order remains unchanged as the parameters entered match the existing ones."


@dataclass(frozen=True, slots=True)
class Terms:
    """What may be amended, as it stands or as it is wanted."""

    ticks: int
    lots: int
    trigger: Trigger | None
    take_profit: Decimal
    stop_loss: Decimal
    tp_by: str
    sl_by: str


def amend(x: Exchange, account: Account, order: Order, params: Params) -> None:
    """Change an open order; raises `Refused` before anything has changed.

    An active order keeps its place in the book only when its quantity shrinks at an unchanged
    price; otherwise it queues anew and may trade at once.
    """
    before, after = _terms(order), _wanted(x, account, order, params)
    if before == after:
        raise Refused(10001, UNCHANGED)
    waits = order.status == "Untriggered"
    _put(order, after)
    if not waits and (after.ticks, after.lots) != (before.ticks, before.lots):
        account.open_orders.sync(order)
        try:
            _check_means(x, account, order, before)
        except Refused:
            _put(order, before)
            account.open_orders.sync(order)
            raise
    order.updated_ms = x.now_ms
    if waits:
        if after.trigger != before.trigger:
            x.stops.add(order)
        push(x, account, order)
        return
    book = x.books[order.contract.key]
    if after.ticks == before.ticks and after.lots <= before.lots:
        book.shrink(order.order_id, order.open_lots)
        push(x, account, order)
        return
    book.remove(order.order_id)
    del x.resting[order.order_id]
    execute(x, account, order)


def _terms(order: Order) -> Terms:
    return Terms(
        order.ticks, order.lots, order.trigger, order.take_profit, order.stop_loss, order.tp_by,
        order.sl_by,
    )  # fmt: skip


def _put(order: Order, terms: Terms) -> None:
    order.ticks, order.lots, order.trigger = terms.ticks, terms.lots, terms.trigger
    order.take_profit, order.stop_loss = terms.take_profit, terms.stop_loss
    order.tp_by, order.sl_by = terms.tp_by, terms.sl_by


def _wanted(x: Exchange, a: Account, order: Order, params: Params) -> Terms:
    c, ticks = order.contract, order.ticks
    if optional(params, "price") and order.kind == "Limit":
        ticks = limit_ticks(x, a, c, amount(params, "price"), side=order.side)
    lots = _wanted_lots(x, a, order, params)
    if (ticks, lots) != (order.ticks, order.lots) and not order.only_reduces:
        check_value(x, c, lots, kind=order.kind, ticks=ticks)
    trigger = order.trigger
    if optional(params, "triggerPrice") and trigger is not None:
        if order.status != "Untriggered":
            raise Refused(110001, "order not exists or too late to replace")
        by = price_kind(params, "triggerBy") if optional(params, "triggerBy") else trigger.by
        price = amount(params, "triggerPrice")
        if price % c.tick:
            raise Refused(10001, "params error: triggerPrice invalid")
        wanted = Trigger(price, trigger.rising, by)
        if wanted != trigger:
            trigger = checked_trigger(wanted, trigger_price(x.market.quotes[c.key], by))
    take, tp_by = _level(order, params, ticks, take=True)
    stop, sl_by = _level(order, params, ticks, take=False)
    return Terms(ticks, lots, trigger, take, stop, tp_by, sl_by)


def _wanted_lots(x: Exchange, a: Account, order: Order, params: Params) -> int:
    """The new total quantity; it must exceed what is filled, and fit the position if it reduces."""
    if not optional(params, "qty") or order.closes_all:
        return order.lots
    c, qty = order.contract, amount(params, "qty")
    most = qty_most(c, kind=order.kind, tif=order.tif)
    if order.only_reduces and order.status != "Untriggered":
        size = x.position(a, c).size
        held = max(ZERO, -size if order.side == BUY else size)
        qty = min(qty, held + c.qty(order.filled_lots))
    lots = check_spot_qty(c, qty, most=most) if c.is_spot else check_qty(c, qty, most=most)
    if lots <= order.filled_lots:
        raise Refused(110064, "Replaced quantity is not greater than the filled quantity")
    return lots


def _level(order: Order, params: Params, ticks: int, *, take: bool) -> tuple[Decimal, str]:
    """An attached take profit or stop loss; "0" removes it."""
    name, kind = ("takeProfit", "tpTriggerBy") if take else ("stopLoss", "slTriggerBy")
    price = order.take_profit if take else order.stop_loss
    by = order.tp_by if take else order.sl_by
    if not optional(params, name):
        return price, by
    price = amount(params, name, zero=True)
    if optional(params, kind):
        by = price_kind(params, kind)
    if price and (order.contract.is_spot or order.only_reduces):
        raise Refused(10001, f"{name} is not allowed on this order")
    if price and order.kind == "Limit":
        base = order.contract.price(ticks)
        check_sense(price, take=take, long=order.side == BUY, base=base, whose="order")
    return price, by


def _check_means(x: Exchange, a: Account, order: Order, before: Terms) -> None:
    """Refuse a larger or dearer order that the pocket cannot carry (it is already in the sums)."""
    c = order.contract
    if c.is_spot:
        coin = c.quote if order.side == BUY else c.base
        if x.ledger.balance(a.unified, coin) < a.open_orders.locked.get(coin, ZERO):
            raise Refused(170131, "Insufficient balance.")
    elif not order.only_reduces and order.lots > before.lots:
        report = x.report(a)
        if report.available < 0:
            raise Refused(110007, "ab not enough for new order")
