"""What happens when margin no longer covers a unified pocket."""

from __future__ import annotations

from decimal import Decimal

from hedgelock.simulator import borrowing
from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.matching import BUY, SELL
from hedgelock.simulator.money import GRAIN, HOUSE, INSURANCE, ZERO, grain
from hedgelock.simulator.rows import order_row, position_row, push_wallet
from hedgelock.simulator.state import Account, Exchange, Order
from hedgelock.simulator.trading import apply, cancel

LIQUIDATION_STEPS = 4  # a position is taken over in this many parts, until margin suffices
CONVERSION_FEE = Decimal("0.001")


def liquidate_margin(x: Exchange, account: Account) -> bool:
    """Liquidate a unified pocket whose maintenance margin is not covered; True when it did."""
    if (
        not account.positions
        and not account.owed
        and all(v >= 0 for v in x.ledger.coins(account.unified).values())
    ):
        return False
    if x.report(account).mm_rate < 1:
        return False
    account.margin_liquidated_ms = x.now_ms
    for order in list(account.open_orders.values()):
        cancel(x, account, order, cancel_type="CancelAllBeforeLiq")
    if x.report(account).mm_rate >= 1:
        _convert_to_repay(x, account)
    for part in range(LIQUIDATION_STEPS, 0, -1):
        if x.report(account).mm_rate < 1:
            break
        for key, position in sorted(account.positions.items()):
            if position.size:
                _take_over(x, account, x.contracts[key], part)
    if x.report(account).mm_rate >= 1:
        _convert_to_repay(x, account)
        _cover_by_insurance(x, account)
    return True


def _take_over(x: Exchange, account: Account, c: Contract, part: int) -> None:
    """Close 1/part of a position at mark (BustTrade)."""
    position = x.position(account, c)
    held = int(abs(position.size) / c.lot)
    lots = -(-held // part)
    mark = x.market.quotes[c.key].mark
    ticks = round(mark / c.tick)
    side = SELL if position.size > 0 else BUY
    order = Order(
        x.new_id("order"), "", c, account.name, side, "Market", "IOC", ticks, lots, x.serial(),
        x.now_ms, x.now_ms, mark, reduce_only=True, create_type="CreateByLiq",
    )  # fmt: skip
    account.orders.append(order)
    account.by_id[order.order_id] = order
    position.status = "Liq"
    row = apply(x, account, order, lots=lots, price=c.price(ticks), maker=False, kind="BustTrade")
    x.emit("execution", account, [row])
    x.emit("order", account, [order_row(order, pushed=True)])
    x.emit("position", account, [position_row(x, account, position, pushed=True)])
    position.status = "Normal"
    push_wallet(x, account, c.settle)


def _convert_to_repay(x: Exchange, account: Account) -> None:
    """Sell coins of the pocket at index until no coin's wallet is negative, or none is left."""
    borrowing.settle_all(x, account)
    owing = dict.fromkeys(account.owed, ZERO) | x.ledger.coins(account.unified)
    for owed, balance in owing.items():
        missing = (account.owed.get(owed, ZERO) - balance) * x.price(owed)
        for coin, held in x.ledger.coins(account.unified).items():
            if missing <= 0:
                break
            if held <= 0 or coin == owed:
                continue
            price = x.price(coin)
            sold = min(held, grain(missing / (1 - CONVERSION_FEE) / price) + GRAIN)
            bought = grain(sold * price * (1 - CONVERSION_FEE) / x.price(owed))
            x.ledger.move(coin, sold, source=account.unified, target=HOUSE)
            x.ledger.move(owed, bought, source=HOUSE, target=account.unified)
            x.book(account, "CURRENCY_SELL", coin, cash_flow=-sold)
            x.book(account, "CURRENCY_BUY", owed, cash_flow=bought)
            missing -= bought * x.price(owed)
            push_wallet(x, account, coin, owed)
    borrowing.settle_all(x, account)


def _cover_by_insurance(x: Exchange, account: Account) -> None:
    for coin, balance in x.ledger.coins(account.unified).items():
        if balance < 0:
            x.ledger.move(coin, -balance, source=INSURANCE, target=account.unified)
            x.book(account, "BONUS", coin, cash_flow=-balance)
            push_wallet(x, account, coin)
    borrowing.write_off(x, account)
