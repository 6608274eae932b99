"""Takeover of what margin cannot save: at the price that leaves the account with nothing.

The bankruptcy prices of all positions lie the same fraction k beyond their marks, so that

    worth of the coins + Σ (profit at the price − closing fee) = 0

The insurance pool takes the positions at these prices and closes them at mark: its profit or
loss. When the pool is exhausted, winners are deleveraged at these prices instead.
"""

from __future__ import annotations

from decimal import Decimal

from hedgelock.simulator import adl, forced
from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.margin import Exposure
from hedgelock.simulator.matching import BUY, SELL
from hedgelock.simulator.money import HOUSE, ONE, ZERO, grain, text
from hedgelock.simulator.rows import push_wallet
from hedgelock.simulator.state import Account, Event, Exchange, Order, Position

CONVERSION_FEE = Decimal("0.001")
SHIFT_MOST = Decimal("0.99")
HALVINGS = 60


def worth(x: Exchange, account: Account) -> Decimal:
    """USD that the pocket's coins are worth without its positions, conversion fee paid."""
    total = ZERO
    for coin, state in x.report(account).coins.items():
        cash = (state.equity - state.upl) * state.price
        sold = cash > 0 and coin in x.market.index
        total += cash * (ONE - CONVERSION_FEE) if sold else cash
    return total


def left(x: Exchange, account: Account, shift: Decimal) -> Decimal:
    """USD left when every position is closed `shift` × mark beyond its mark."""
    total = worth(x, account)
    for position in account.positions.values():
        if position.size:
            c = position.contract
            price = _beyond(x, position, shift)
            closed = Exposure(c, position.size, position.entry_value, price, position.leverage)
            total += (closed.upl - closed.value * c.taker_rate) * x.price(c.settle)
    return total


def bankrupt(x: Exchange, account: Account) -> bool:
    """Whether closing everything at mark would leave nothing."""
    return left(x, account, ZERO) <= 0


def bankruptcy_shift(x: Exchange, account: Account) -> Decimal:
    """The k at which nothing is left; below zero where the account is bankrupt at mark."""
    low, high = -SHIFT_MOST, SHIFT_MOST
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if left(x, account, middle) >= 0:
            low = middle
        else:
            high = middle
    return low


def take_over(x: Exchange, account: Account) -> None:
    """Close every position of an account at its bankruptcy price."""
    shift = bankruptcy_shift(x, account)
    for key, position in sorted(account.positions.items()):
        if position.size:
            c = x.contracts[key]
            ticks = max(1, round(_beyond(x, position, shift) / c.tick))
            _take(x, account, position, c.price(ticks))


def _beyond(x: Exchange, position: Position, shift: Decimal) -> Decimal:
    """The price `shift` worse than mark for this position."""
    mark = x.market.quotes[position.contract.key].mark
    return mark * (ONE - shift) if position.size > 0 else mark * (ONE + shift)


def _take(x: Exchange, account: Account, position: Position, price: Decimal) -> None:
    c, long = position.contract, position.size > 0
    lots = int(abs(position.size) / c.lot)
    close_position(
        x, account, position, lots=lots, price=price, create_type="CreateByTakeOver_PassThrough"
    )
    gain = _gain(x, c, qty=c.qty(lots), long=long, price=price)
    if x.pools.exhausted(c, gain):
        lots -= adl.deleverage(x, c, losing_long=long, lots=lots, price=price)
        gain = _gain(x, c, qty=c.qty(lots), long=long, price=price)
    x.ledger.move(c.settle, gain, source=HOUSE, target=x.pools.holder(c))


def _gain(x: Exchange, c: Contract, *, qty: Decimal, long: bool, price: Decimal) -> Decimal:
    """What the pool makes of a position taken at `price` and closed at mark, in settle coin."""
    mark = x.market.quotes[c.key].mark
    return grain(Exposure(c, qty if long else -qty, c.value(qty, price), mark, ONE).upl)


def close_position(
    x: Exchange, account: Account, position: Position, *, lots: int, price: Decimal,
    create_type: str,
) -> None:  # fmt: skip
    """Close `lots` of a position by the exchange's own hand (BustTrade), and tell everybody."""
    c, long = position.contract, position.size > 0
    order = Order(
        x.new_id("order"), "", c, account.name, SELL if long else BUY, "Market", "IOC",
        round(price / c.tick), lots, x.serial(), x.now_ms, x.now_ms, x.market.quotes[c.key].mark,
        reduce_only=True, create_type=create_type,
    )  # fmt: skip
    forced.carry_out(x, account, position, order, price=price, kind="BustTrade")
    push_wallet(x, account, c.settle)
    topic = f"allLiquidation.{c.symbol}"
    if (c.category, topic) in x.wanted:
        told = {
            "T": x.now_ms, "s": c.symbol, "S": BUY if long else SELL, "v": text(c.qty(lots)),
            "p": text(price),
        }  # fmt: skip
        x.outbox.append(Event(topic, "", c.category, x.now_ms, [told], kind="snapshot"))
