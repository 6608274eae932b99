"""Fills: what one execution does to positions, coins, fees, the log and closed profit."""

from __future__ import annotations

from decimal import Decimal

from hedgelock.simulator.closed_pnl import note_closing
from hedgelock.simulator.margin import Exposure
from hedgelock.simulator.matching import BUY, SELL
from hedgelock.simulator.money import FEES, HOUSE, ZERO, grain, text
from hedgelock.simulator.rows import execution_row
from hedgelock.simulator.state import Account, Exchange, Order, Position, Row


def apply(
    x: Exchange, account: Account, order: Order, *, lots: int, price: Decimal, maker: bool,
    kind: str = "Trade",
) -> Row:  # fmt: skip
    """Book one execution: position or coins, fee, log. Returns its row."""
    c = order.contract
    qty = c.qty(lots)
    value = grain(c.value(qty, price))
    rate = ZERO if kind == "AdlTrade" else c.maker_rate if maker else c.taker_rate
    order.filled_lots += lots
    order.filled_value += value
    order.updated_ms = x.now_ms
    order.status = "Filled" if order.filled_lots >= order.lots else "PartiallyFilled"
    if order.status == "Filled":
        account.closed_recently.append(order.order_id)
    account.fills += 1
    sequence = x.next_sequence()
    extra: Row = {"execType": kind, "isMaker": maker, "feeRate": text(rate), "seq": sequence}
    if c.is_spot:
        fee = _exchange_coins(x, account, order, qty=qty, value=value)
    else:
        fee = grain(value * rate)
        pnl, closed = _turn(x, account, order, qty=qty, price=price, fee=fee)
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
        log_kind = {"BustTrade": "LIQUIDATION", "AdlTrade": "ADL"}.get(kind, "TRADE")
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
    x: Exchange, account: Account, order: Order, *, qty: Decimal, price: Decimal, fee: Decimal
) -> tuple[Decimal, Decimal]:
    """Change the position by a fill; returns (realised profit in settle coin, closed quantity).

    The fill's fee is split by quantity: the closing part counts against the profit, the opening
    part waits in `open_fees` until what it opened is closed.
    """
    c = order.contract
    position = x.position(account, c)
    signed = qty if order.side == BUY else -qty
    closed = ZERO
    pnl = ZERO
    if qty and position.size and (position.size > 0) is not (signed > 0):
        closed = min(qty, abs(position.size))
        share = grain(position.entry_value * closed / abs(position.size))
        open_fee = grain(position.open_fees * closed / abs(position.size))
        close_fee = grain(fee * closed / qty)
        part = Exposure(c, closed.copy_sign(position.size), share, price, position.leverage)
        pnl = grain(part.upl)
        position.open_fees -= open_fee
        note_closing(
            x, account, order, qty=closed, entry_value=share, price=price, pnl=pnl,
            open_fee=open_fee, close_fee=close_fee, leverage=position.leverage,
        )  # fmt: skip
        position.entry_value -= share
        position.size += closed if signed > 0 else -closed
        if not position.size:
            position.entry_value = position.open_fees = ZERO
    opened = qty - closed
    if opened:
        if not position.size:
            _open(x, position)
        position.size += opened if signed > 0 else -opened
        position.entry_value += c.value(opened, price)
        position.open_fees += fee - grain(fee * closed / qty)
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
