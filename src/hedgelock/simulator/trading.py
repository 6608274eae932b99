"""Orders: acceptance, execution against the book, fills and what they do to money."""

from __future__ import annotations

from decimal import Decimal

from hedgelock.simulator.collateral import is_collateral
from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.margin import Exposure
from hedgelock.simulator.matching import BUY, SELL, Match
from hedgelock.simulator.money import FEES, HOUSE, ZERO, grain, text
from hedgelock.simulator.rows import (
    execution_row,
    locked_coins,
    order_row,
    push_position,
    push_wallet,
)
from hedgelock.simulator.state import Account, Exchange, Order, Position, Refused, Row
from hedgelock.simulator.tape import print_trade

OPEN_ORDERS_MAX = 500
REASON_BY_TIF = {
    "IOC": "EC_NoImmediateQtyToFill",
    "FOK": "EC_CancelForNoFullFill",
    "PostOnly": "EC_PostOnlyWillTakeLiquidity",
}


def submit(x: Exchange, account: Account, order: Order) -> None:
    """Accept an order whose fields are valid, then execute it; raises `Refused` before."""
    c = order.contract
    spot_id = (c.is_spot, order.link)
    if order.link and spot_id in account.by_link:
        if c.is_spot:
            raise Refused(170141, "Duplicate clientOrderId.")
        raise Refused(110072, "OrderLinkedID is duplicate")
    if sum(o.contract is c for o in account.open_orders.values()) >= OPEN_ORDERS_MAX:
        raise Refused(110020, "Not allowed to have more than 500 active orders")
    if c.is_spot:
        _check_coins(x, account, order)
    elif not order.reduce_only:
        _check_margin(x, account, order)
    account.orders.append(order)
    account.by_id[order.order_id] = order
    if order.link:
        account.by_link[spot_id] = order
    _execute(x, account, order)


def _check_margin(x: Exchange, account: Account, order: Order) -> None:
    c = order.contract
    if c.is_inverse and not is_collateral(x, account, c.settle):
        raise Refused(110101, "Inverse contracts need the settlement asset enabled as collateral.")
    before, after = x.report(account), x.report(account, order)
    if after.available < 0 and after.initial > before.initial:
        raise Refused(110007, "ab not enough for new order")


def _check_coins(x: Exchange, account: Account, order: Order) -> None:
    c = order.contract
    held = locked_coins(account)
    coin = c.quote if order.side == BUY else c.base
    need = c.qty(order.lots)
    if order.side == BUY:
        price = c.price(order.ticks)
        if order.kind == "Market":
            price = min(price, c.price(x.books[c.key].best_ask()) * Decimal("1.001"))
        need *= price
    if x.ledger.balance(account.unified, coin) - held.get(coin, ZERO) < need:
        raise Refused(170131, "Insufficient balance.")


def _execute(x: Exchange, account: Account, order: Order) -> None:
    book = x.books[order.contract.key]
    best = book.best_ask() if order.side == BUY else book.best_bid()
    crosses = order.ticks >= best if order.side == BUY else order.ticks <= best
    if order.tif == "PostOnly" and crosses:
        return close(x, account, order, reason=REASON_BY_TIF["PostOnly"])
    if order.tif == "FOK" and book.available(order.side, limit_ticks=order.ticks) < order.lots:
        return close(x, account, order, reason=REASON_BY_TIF["FOK"])
    matches = book.take(order.side, lots=order.lots, limit_ticks=order.ticks) if crosses else []
    if matches:
        _fill(x, account, order, matches)
    if order.open_lots and order.tif in {"GTC", "PostOnly"}:
        account.open_orders[order.order_id] = order
        book.rest(order.order_id, side=order.side, ticks=order.ticks, lots=order.open_lots)
        trim_reduce_only(x, account, order.contract)
    elif order.open_lots:
        return close(x, account, order, reason=REASON_BY_TIF["IOC"])
    _push(x, account, order)
    return None


def _push(x: Exchange, account: Account, order: Order, rows: list[Row] | None = None) -> None:
    x.emit("execution", account, rows or [])
    x.emit("order", account, [order_row(order, pushed=True)])
    if not order.contract.is_spot:
        push_position(x, account, x.position(account, order.contract))
    c = order.contract
    push_wallet(x, account, *((c.base, c.quote) if c.is_spot else (c.settle,)))


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
    trim_reduce_only(x, account, c)


def fill_maker(x: Exchange, contract: Contract, match: Match) -> None:
    """Fill a resting order whose lots the book has already taken off."""
    for owner in x.accounts.values():
        order = owner.open_orders.get(match.maker or "")
        if order is None:
            continue
        price = contract.price(match.ticks)
        row = apply(x, owner, order, lots=match.lots, price=price, maker=True)
        if order.status == "Filled":
            del owner.open_orders[order.order_id]
        _push(x, owner, order, [row])
        trim_reduce_only(x, owner, contract)
        return


def apply(
    x: Exchange, account: Account, order: Order, *, lots: int, price: Decimal, maker: bool,
    kind: str = "Trade",
) -> Row:  # fmt: skip
    """Book one execution: position or coins, fee, log. Returns its row."""
    c = order.contract
    qty = c.qty(lots)
    value = grain(c.value(qty, price))
    rate = c.maker_rate if maker else c.taker_rate
    order.filled_lots += lots
    order.filled_value += value
    order.updated_ms = x.now_ms
    order.status = "Filled" if order.filled_lots >= order.lots else "PartiallyFilled"
    account.fills += 1
    sequence = x.next_sequence()
    extra: Row = {"execType": kind, "isMaker": maker, "feeRate": text(rate), "seq": sequence}
    if c.is_spot:
        fee = _exchange_coins(x, account, order, qty=qty, value=value)
    else:
        fee = grain(value * rate)
        pnl, closed = _turn(x, account, order, qty=qty, price=price)
        x.ledger.move(c.settle, pnl, source=HOUSE, target=account.unified)
        x.ledger.move(c.settle, fee, source=account.unified, target=FEES)
        position = x.position(account, c)
        position.realised += pnl - fee
        position.realised_total += pnl - fee
        position.seq = sequence
        extra |= {"closedSize": text(closed), "execPnl": text(pnl)}
        _charge(x, account, order, c.settle, fee)
        extra["feeCurrency"] = c.settle
        row = execution_row(x, order, qty=qty, price=price, value=value, fee=fee, **extra)
        log_kind = "LIQUIDATION" if kind == "BustTrade" else "TRADE"
        _log(x, account, row, coin=c.settle, kind=log_kind, cash_flow=pnl, fee=fee)
        account.executions.append(row)
        return row
    extra["feeCurrency"] = c.base if order.side == BUY else c.quote
    row = execution_row(x, order, qty=qty, price=price, value=value, fee=fee, **extra)
    sign = 1 if order.side == BUY else -1
    coins = ((c.base, sign * qty), (c.quote, -sign * value))
    for coin, flow in coins:
        paid = fee if coin == extra["feeCurrency"] else ZERO
        _log(x, account, row, coin=coin, kind="TRADE", cash_flow=flow, fee=paid)
    account.executions.append(row)
    return row


def _exchange_coins(
    x: Exchange, account: Account, order: Order, *, qty: Decimal, value: Decimal
) -> Decimal:
    """Swap base against quote with the house; the fee comes off what is received."""
    c = order.contract
    out, into = ((c.quote, value), (c.base, qty))
    if order.side == SELL:
        out, into = into, out
    x.ledger.move(out[0], out[1], source=account.unified, target=HOUSE)
    x.ledger.move(into[0], into[1], source=HOUSE, target=account.unified)
    fee = grain(into[1] * c.taker_rate)
    x.ledger.move(into[0], fee, source=account.unified, target=FEES)
    _charge(x, account, order, into[0], fee)
    return fee


def _charge(x: Exchange, account: Account, order: Order, coin: str, fee: Decimal) -> None:
    order.fees[coin] = order.fees.get(coin, ZERO) + fee
    account.fees_usd += fee * x.price(coin)


def _turn(
    x: Exchange, account: Account, order: Order, *, qty: Decimal, price: Decimal
) -> tuple[Decimal, Decimal]:
    """Change the position by a fill; returns (realised profit in settle coin, closed quantity)."""
    c = order.contract
    position = x.position(account, c)
    signed = qty if order.side == BUY else -qty
    closed = ZERO
    pnl = ZERO
    if position.size and (position.size > 0) is not (signed > 0):
        closed = min(qty, abs(position.size))
        share = position.entry_value * closed / abs(position.size)
        part = Exposure(c, closed.copy_sign(position.size), share, price, position.leverage)
        pnl = grain(part.upl)
        position.entry_value -= share
        position.size += closed if signed > 0 else -closed
        if not position.size:
            position.entry_value = ZERO
    opened = qty - closed
    if opened:
        if not position.size:
            _open(x, position)
        position.size += opened if signed > 0 else -opened
        position.entry_value += c.value(opened, price)
    position.updated_ms = x.now_ms
    return pnl, closed


def _open(x: Exchange, position: Position) -> None:
    position.realised = ZERO
    position.open_ms = x.now_ms
    position.created_ms = position.created_ms or x.now_ms


def _log(
    x: Exchange, account: Account, row: Row, *, coin: str, kind: str, cash_flow: Decimal,
    fee: Decimal,
) -> None:  # fmt: skip
    position = account.positions.get(f"{row['category']}.{row['symbol']}")
    x.book(
        account, kind, coin, cash_flow=cash_flow, fee=fee, symbol=row["symbol"],
        category=row["category"], side=row["side"], qty=row["execQty"],
        size=text(position.size) if position else "0", tradePrice=row["execPrice"],
        feeRate=row["feeRate"], tradeId=row["execId"], orderId=row["orderId"],
        orderLinkId=row["orderLinkId"],
    )  # fmt: skip


def trim_reduce_only(x: Exchange, account: Account, contract: Contract) -> None:
    """Cut resting reduce-only orders to the position, cancelling those with nothing to reduce."""
    if contract.is_spot:
        return
    size = x.position(account, contract).size
    for order in list(account.open_orders.values()):
        if order.contract is not contract or not order.reduce_only:
            continue
        reducible = -size if order.side == BUY else size
        lots = int(reducible / contract.lot) if reducible > 0 else 0
        if lots <= 0:
            cancel(x, account, order, cancel_type="CancelByReduceOnly")
        elif order.open_lots > lots:
            order.lots = order.filled_lots + lots
            x.books[contract.key].shrink(order.order_id, lots)
            x.emit("order", account, [order_row(order, pushed=True)])


def close(
    x: Exchange, account: Account, order: Order, *, reason: str, cancel_type: str = "UNKNOWN"
) -> None:
    """End an order that stays unfilled, in part or whole, and push it."""
    partial = order.contract.is_spot and order.filled_lots
    order.status = "PartiallyFilledCanceled" if partial else "Cancelled"
    order.reject_reason = reason
    order.cancel_type = cancel_type
    order.updated_ms = x.now_ms
    account.open_orders.pop(order.order_id, None)
    x.books[order.contract.key].remove(order.order_id)
    _push(x, account, order)


def cancel(
    x: Exchange, account: Account, order: Order, *, cancel_type: str = "CancelByUser"
) -> None:
    """Cancel an open order."""
    close(x, account, order, reason="EC_PerCancelRequest", cancel_type=cancel_type)
