"""Conditional orders at the moment their price is reached."""

from __future__ import annotations

from decimal import Decimal

from hedgelock.simulator.endings import close
from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.matching import BUY
from hedgelock.simulator.money import ONE
from hedgelock.simulator.rows import order_row
from hedgelock.simulator.state import Account, Exchange, Order, Refused
from hedgelock.simulator.trading import check_means, execute

MARKET_BAND = Decimal("0.05")  # a market order is an IOC limit this far from mark


def fire(x: Exchange) -> None:
    """Trigger every conditional order whose price has been reached, one after the other.

    A triggered market order may move the last price and so wake the next one.
    """
    x.stops.trail(x.market.quotes)
    while (order := x.stops.pop_due(x.market.quotes)) is not None:
        _trigger(x, x.accounts[order.account], order)


def _trigger(x: Exchange, account: Account, order: Order) -> None:
    """Untriggered → Triggered → New → …; without position or margin → Cancelled."""
    c = order.contract
    position = x.position(account, c)
    if position.take_profit is order:
        position.take_profit = None
    if position.stop_loss is order:
        position.stop_loss = None
    if position.trailing is order:
        position.trailing = None
    order.status, order.updated_ms = "Triggered", x.now_ms
    x.emit("order", account, [order_row(order, pushed=True)])
    order.status = "New"
    account.open_orders.crowd(c).stops.pop(order.order_id, None)
    if order.kind == "Market":
        order.ticks = market_ticks(x, c, side=order.side, slippage=order.slippage)
    if order.only_reduces and not c.is_spot:
        held = -position.size if order.side == BUY else position.size
        most = int((c.qty_max_market if order.kind == "Market" else c.qty_max) / c.lot)
        wanted = most if order.closes_all else order.lots
        order.lots = min(wanted, most, int(held / c.lot)) if held > 0 else 0
        if order.lots <= 0:
            order.lots = max(0, wanted)
            return close(
                x, account, order, reason="EC_Others", cancel_type="CancelByReduceOnly"
            )  # fmt: skip
    try:
        check_means(x, account, order)
    except Refused:
        return close(x, account, order, reason="EC_Others")
    return execute(x, account, order)


def market_ticks(x: Exchange, c: Contract, *, side: str, slippage: Decimal | None = None) -> int:
    """The price bound of a market order: 5 % from mark, or its own tolerance from the best price."""
    if slippage is None:
        base, band = x.market.quotes[c.key].mark, MARKET_BAND
    else:
        book = x.books[c.key]
        base, band = c.price(book.best_ask() if side == BUY else book.best_bid()), slippage
    return int(base * (ONE + band if side == BUY else ONE - band) / c.tick)
