"""Funding: settled at its instant between every open position and the house."""

from __future__ import annotations

from decimal import Decimal

from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.matching import BUY, SELL
from hedgelock.simulator.money import HOUSE, grain, text
from hedgelock.simulator.rows import execution_row, push_position, push_wallet
from hedgelock.simulator.state import Account, Exchange, Order


def settle_funding(x: Exchange, rates: dict[str, Decimal]) -> None:
    """Exchange funding between every open position of the contracts in `rates` and the house, now.

    Positive rate: longs pay. `execFee` is + when paid, the log's `funding` + when received.
    """
    for account in x.accounts.values():
        for key, position in sorted(account.positions.items()):
            contract = x.contracts[key]
            if position.size and key in rates:
                _settle_position(x, account, contract, rates[key])


def _settle_position(x: Exchange, account: Account, c: Contract, rate: Decimal) -> None:
    position = x.position(account, c)
    mark = x.market.quotes[c.key].mark
    qty = abs(position.size)
    value = grain(c.value(qty, mark))
    own_rate = rate if position.size > 0 else -rate
    paid = grain(value * own_rate)
    x.ledger.move(c.settle, paid, source=account.unified, target=HOUSE)
    position.realised -= paid
    position.realised_total -= paid
    position.seq = x.next_sequence()
    position.updated_ms = x.now_ms
    side = BUY if position.size > 0 else SELL
    marker = Order(
        x.new_id("funding"), "", c, account.name, side, "UNKNOWN", "", 0, 0, 0, x.now_ms, x.now_ms,
        mark, create_type="", status="Filled",
    )  # fmt: skip
    row = execution_row(
        x, marker, qty=qty, price=mark, value=value, fee=paid, execType="Funding",
        feeRate=text(own_rate), seq=position.seq, leavesQty="0",
    )  # fmt: skip
    account.executions.append(row)
    x.book(
        account, "SETTLEMENT", c.settle, funding=-paid, symbol=c.symbol, category=c.category,
        side=side, qty=text(qty), size=text(position.size), tradePrice=text(mark),
        feeRate=text(own_rate), tradeId=row["execId"], orderId=row["orderId"],
    )  # fmt: skip
    x.emit("execution", account, [row])
    push_position(x, account, position)
    push_wallet(x, account, c.settle)
