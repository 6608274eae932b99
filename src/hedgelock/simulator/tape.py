"""The public tape: every trade, the account's and the market's own."""

from __future__ import annotations

from decimal import Decimal

from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.money import grain, text
from hedgelock.simulator.state import Event, Exchange


def print_trade(x: Exchange, c: Contract, *, side: str, price: Decimal, qty: Decimal) -> None:
    """Record a trade (`side` = taker) and push it where somebody listens."""
    key = c.key
    before = x.market.quotes[key].last
    x.market.trade(key, price=price, qty=qty, value=grain(c.value(qty, price)))
    number = x.serial()
    prints = x.trades[key]
    prints.add(x.now_ms, number, x.sequence, side=side, price=price, qty=qty)
    topic = f"publicTrade.{c.symbol}"
    if not x.wanted or (c.category, topic) not in x.wanted:
        return
    direction = "PlusTick" if price > before else "MinusTick" if price < before else "ZeroPlusTick"
    row = {
        "T": x.now_ms, "s": c.symbol, "S": side, "v": text(qty), "p": text(price), "L": direction,
        "i": prints.trade_id(number), "BT": False, "RPI": False, "seq": x.sequence,
    }  # fmt: skip
    x.outbox.append(Event(topic, "", c.category, x.now_ms, [row], kind="snapshot"))
