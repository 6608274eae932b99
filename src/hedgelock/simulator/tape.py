"""The public tape: every trade, the account's and the market's own."""

from __future__ import annotations

from decimal import Decimal

from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.money import grain, text
from hedgelock.simulator.state import Event, Exchange


def print_trade(x: Exchange, c: Contract, *, side: str, price: Decimal, qty: Decimal) -> None:
    """Record a trade (`side` = taker) and push it where somebody listens."""
    before = x.market.quotes[c.key].last
    x.market.trade(c.key, price=price, qty=qty, value=grain(c.value(qty, price)))
    number = x.serial()
    trade_id = f"{c.symbol_id:04d}{number:016d}"
    x.trades[c.key].appendleft(
        {
            "execId": trade_id, "symbol": c.symbol, "price": text(price), "size": text(qty),
            "side": side, "time": str(x.now_ms), "isBlockTrade": False, "isRPITrade": False,
            "seq": str(x.sequence),
        }
    )  # fmt: skip
    topic = f"publicTrade.{c.symbol}"
    if (c.category, topic) not in x.wanted:
        return
    direction = "PlusTick" if price > before else "MinusTick" if price < before else "ZeroPlusTick"
    row = {
        "T": x.now_ms, "s": c.symbol, "S": side, "v": text(qty), "p": text(price), "L": direction,
        "i": trade_id, "BT": False, "RPI": False, "seq": x.sequence,
    }  # fmt: skip
    x.outbox.append(Event(topic, "", c.category, x.now_ms, [row], kind="snapshot"))
