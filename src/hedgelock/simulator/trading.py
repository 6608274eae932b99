"""Orders: acceptance, execution against the book, amendment and their end."""

from __future__ import annotations

from decimal import Decimal

from hedgelock.simulator import tpsl
from hedgelock.simulator.collateral import is_collateral
from hedgelock.simulator.endings import cancel, close, push
from hedgelock.simulator.fills import apply
from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.matching import BUY, Match
from hedgelock.simulator.money import ZERO, text
from hedgelock.simulator.rows import order_row
from hedgelock.simulator.state import Account, Exchange, Order, Refused
from hedgelock.simulator.tape import print_trade

__all__ = ["apply", "cancel", "close", "execute", "fill_maker", "submit", "trim_reduce_only"]

OPEN_ORDERS_MAX = 500  # per symbol (derivatives), in all (spot)
STOPS_MAX = 10  # conditional orders per symbol
SPOT_STOPS_MAX = 30
REASON_BY_TIF = {
    "IOC": "EC_NoImmediateQtyToFill",
    "FOK": "EC_CancelForNoFullFill",
    "PostOnly": "EC_PostOnlyWillTakeLiquidity",
}


def submit(x: Exchange, account: Account, order: Order) -> None:
    """Accept an order whose fields are valid, then execute it; raises `Refused` before."""
    c = order.contract
    spot_id = (c.is_spot, order.link)
    if order.link and spot_id in account.links:
        if c.is_spot:
            raise Refused(170141, "Duplicate clientOrderId.")
        raise Refused(110072, "OrderLinkedID is duplicate")
    _check_caps(account, order)
    waits = order.trigger is not None
    if waits:
        _check_listing(x, order)
    else:
        check_means(x, account, order)
    account.orders.append(order)
    account.by_id[order.order_id] = order
    if order.link:
        account.by_link[spot_id] = order
        account.links.add(spot_id)
    if waits:
        order.status = "Untriggered"
        account.open_orders.sync(order)
        x.stops.add(order)
        push(x, account, order)
    else:
        execute(x, account, order)


def _check_listing(x: Exchange, order: Order) -> None:
    key = order.contract.key
    if key in x.conditions.delisted:
        raise Refused(110074, "This contract is not live")
    if key in x.conditions.reduce_only and not order.only_reduces:
        raise Refused(30228, "No new positions during delisting.")


def _check_caps(account: Account, order: Order) -> None:
    """At most 500 active and 10 conditional orders per symbol; spot counts 500 in all."""
    c, orders = order.contract, account.open_orders
    crowd = orders.crowd(c)
    if c.is_spot:
        if sum(len(w.active) + len(w.stops) for k, w in orders.by_contract.items()
               if k.startswith("spot.")) >= OPEN_ORDERS_MAX:  # fmt: skip
            raise Refused(
                170810, "Cannot exceed maximum of 500 conditional, TP/SL and active orders."
            )
    elif order.trigger is None and len(crowd.active) >= OPEN_ORDERS_MAX:
        raise Refused(110020, "Not allowed to have more than 500 active orders")
    if order.trigger is not None:
        most = SPOT_STOPS_MAX if c.is_spot else STOPS_MAX
        if sum(o.stop_type == "Stop" for o in crowd.stops.values()) >= most:
            raise Refused(110009, "The number of stop orders exceeds the maximum allowable limit")


def check_means(x: Exchange, account: Account, order: Order) -> None:
    """Refuse an order that its contract does not allow or the pocket cannot carry."""
    _check_listing(x, order)
    if order.contract.is_spot:
        _check_coins(x, account, order)
    elif not order.only_reduces:
        c = order.contract
        if c.is_inverse and not is_collateral(x, account, c.settle):
            raise Refused(
                110101, "Inverse contracts need the settlement asset enabled as collateral."
            )
        _check_tier(x, account, order)
        after = x.report(account, order)
        if after.available < 0 and after.initial > x.report(account).initial:
            raise Refused(110007, "ab not enough for new order")


def _check_tier(x: Exchange, account: Account, order: Order) -> None:
    """Refuse what, with position and orders, needs a tier that the leverage does not allow."""
    c, lots = order.contract, order.lots - order.filled_lots
    position, crowd = x.position(account, c), account.open_orders.crowd(c)
    buying, selling = c.qty(crowd.buying), c.qty(crowd.selling)
    most = (
        position.size + buying + c.qty(lots)
        if order.side == BUY
        else selling + c.qty(lots) - position.size
    )
    value = c.value(max(most, ZERO), x.market.quotes[c.key].mark)
    _, tier = c.tier(value)
    if value > tier.limit or position.leverage > tier.leverage_max:
        raise Refused(
            110090,
            "Order placement failed as your position may exceed the max. limit. Please adjust your"
            f" leverage to {text(tier.leverage_max)} or below to increase the max. position limit",
        )


def _check_coins(x: Exchange, account: Account, order: Order) -> None:
    c = order.contract
    coin = c.quote if order.side == BUY else c.base
    need = c.qty(order.lots - order.filled_lots)
    if order.side == BUY:
        price = c.price(order.ticks)
        if order.kind == "Market":
            price = min(price, c.price(x.books[c.key].best_ask()) * Decimal("1.001"))
        need *= price
    held = account.open_orders.locked.get(coin, ZERO)
    if x.ledger.balance(account.unified, coin) - held < need:
        raise Refused(170131, "Insufficient balance.")


def execute(x: Exchange, account: Account, order: Order) -> None:
    """Match an order that has been accepted, rest what may rest, end what may not."""
    book = x.books[order.contract.key]
    best = book.best_ask() if order.side == BUY else book.best_bid()
    crosses = order.ticks >= best if order.side == BUY else order.ticks <= best
    if order.tif == "PostOnly" and crosses:
        return close(x, account, order, reason=REASON_BY_TIF["PostOnly"])
    if order.tif == "FOK" and book.available(order.side, limit_ticks=order.ticks) < order.open_lots:
        return close(x, account, order, reason=REASON_BY_TIF["FOK"])
    if crosses and not _match(x, account, order):
        return close(x, account, order, reason="EC_BySelfMatch", cancel_type="CancelBySmp")
    if order.open_lots and order.tif in {"GTC", "PostOnly"}:
        account.open_orders.sync(order)
        x.resting[order.order_id] = order
        book.rest(order.order_id, side=order.side, ticks=order.ticks, lots=order.open_lots)
        trim_reduce_only(x, account, order.contract)
    elif order.open_lots:
        partly = order.kind == "Market" and order.filled_lots
        reason = "EC_NoEnoughQtyToFill" if partly else REASON_BY_TIF["IOC"]
        return close(x, account, order, reason=reason)
    else:
        account.open_orders.sync(order)
    push(x, account, order)
    return None


def _match(x: Exchange, account: Account, order: Order) -> bool:
    """Take what the book offers; False when self-match prevention must end the taker.

    The order meets the book in price-time order up to the first order of its own account; then
    CancelMaker removes that one and goes on, CancelTaker and CancelBoth end the taker.
    """
    book = x.books[order.contract.key]
    own = account.open_orders.crowd(order.contract).active if order.smp != "None" else {}
    while order.open_lots:
        matches = book.take(
            order.side, lots=order.open_lots, limit_ticks=order.ticks, avoid=own
        )  # fmt: skip
        if matches:
            _fill(x, account, order, matches)
        met = book.head(order.side, limit_ticks=order.ticks) if own and order.open_lots else None
        maker = own.get(met or "")
        if maker is None:
            return True
        maker.smp_order_id, order.smp_order_id = order.order_id, maker.order_id
        if order.smp in {"CancelMaker", "CancelBoth"}:
            close(x, account, maker, reason="EC_BySelfMatch", cancel_type="CancelBySmp")
        if order.smp in {"CancelTaker", "CancelBoth"}:
            return False
    return True


def _fill(x: Exchange, account: Account, order: Order, matches: list[Match]) -> None:
    """Apply a taker's matches to both sides, and publish the trades."""
    c = order.contract
    rows = []
    for match in matches:
        price = c.price(match.ticks)
        if match.maker is not None:
            fill_maker(x, c, match)
        rows.append(apply(x, account, order, lots=match.lots, price=price, maker=False))
        print_trade(x, c, side=order.side, price=price, qty=c.qty(match.lots))
    x.emit("execution", account, rows)
    _after_fill(x, account, order)


def fill_maker(x: Exchange, contract: Contract, match: Match) -> Order | None:
    """Fill a resting order whose lots the book has already taken off; returns it.

    Earlier matches of the same taker may have ended or cut it, as reduce-only orders are: what
    is then missing the taker gets from the house.
    """
    order = x.resting.get(match.maker or "")
    if order is None:
        return None
    owner = x.accounts[order.account]
    price = contract.price(match.ticks)
    row = apply(x, owner, order, lots=min(match.lots, order.open_lots), price=price, maker=True)
    owner.open_orders.sync(order)
    x.books[contract.key].shrink(order.order_id, order.open_lots)
    if order.status == "Filled":
        del x.resting[order.order_id]
    push(x, owner, order, [row])
    _after_fill(x, owner, order)
    return order


def _after_fill(x: Exchange, account: Account, order: Order) -> None:
    """What follows a changed position: reduce-only orders and its TP/SL fit it again."""
    c = order.contract
    if c.is_spot:
        return
    trim_reduce_only(x, account, c)
    if order.take_profit or order.stop_loss:
        tpsl.attach(x, account, order)
    tpsl.follow(x, account, c)


def trim_reduce_only(x: Exchange, account: Account, contract: Contract) -> None:
    """Cut resting reduce-only orders to the position, cancelling those with nothing to reduce."""
    if contract.is_spot:
        return
    crowd = account.open_orders.crowd(contract)
    if not crowd.reducing:
        return
    size = x.position(account, contract).size
    for order in list(crowd.reducing.values()):
        reducible = -size if order.side == BUY else size
        lots = int(reducible / contract.lot) if reducible > 0 else 0
        if lots <= 0:
            cancel(x, account, order, cancel_type="CancelByReduceOnly")
        elif order.open_lots > lots:
            order.lots = order.filled_lots + lots
            x.books[contract.key].shrink(order.order_id, lots)
            x.emit("order", account, [order_row(order, pushed=True)])
