"""What happens when margin no longer covers a unified pocket."""

from __future__ import annotations

from hedgelock.simulator import borrowing
from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.margin import MarginReport
from hedgelock.simulator.money import GRAIN, HOUSE, INSURANCE, ZERO, grain
from hedgelock.simulator.rows import push_wallet
from hedgelock.simulator.state import Account, Exchange
from hedgelock.simulator.takeover import CONVERSION_FEE, bankrupt, close_position, take_over
from hedgelock.simulator.trading import cancel

LIQUIDATION_PARTS = (4, 3, 2)  # a position is reduced by a quarter of what it was, three times


def liquidate_margin(x: Exchange, account: Account) -> MarginReport | None:
    """Liquidate a pocket whose maintenance margin is not covered; the report of any other one.

    Orders are cancelled, coins are converted to repay what is borrowed, positions are reduced in
    steps at mark, each only while the step before did not suffice. What even that cannot save is
    taken over at the bankruptcy price, at once where nothing is left at mark.
    """
    report = x.report(account)
    if report.mm_rate < 1:
        return report
    account.margin_liquidated_ms = x.now_ms
    for order in list(account.open_orders.values()):
        cancel(x, account, order, cancel_type="CancelAllBeforeLiq")
    for part in LIQUIDATION_PARTS:
        if x.report(account).mm_rate >= 1:
            _convert_to_repay(x, account)
        if x.report(account).mm_rate < 1 or bankrupt(x, account):
            break
        for key, position in sorted(account.positions.items()):
            if position.size:
                _reduce(x, account, x.contracts[key], part)
    if x.report(account).mm_rate >= 1:
        take_over(x, account)
        _convert_to_repay(x, account)
        _cover_by_insurance(x, account)
    return None


def _reduce(x: Exchange, account: Account, c: Contract, part: int) -> None:
    """Close 1/part of a position at mark."""
    position = x.position(account, c)
    held = int(abs(position.size) / c.lot)
    ticks = round(x.market.quotes[c.key].mark / c.tick)
    close_position(
        x, account, position, lots=-(-held // part), price=c.price(ticks),
        create_type="CreateByLiq",
    )  # fmt: skip


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
