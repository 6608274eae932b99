"""Prices of one instrument at one moment.

Instruments are named `category:symbol` (`linear:BTCUSDT`, `inverse:BTCUSD`, `spot:BTCUSDT`), because
a venue uses the same symbol for several markets.
"""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from hedgelock.domain.message import Message


class MarketTick(Message, frozen=True, kw_only=True):
    """The venue's prices of one instrument.

    Prices are quote per base. `ts_event_ms` is the venue's clock, `ts_seen_ms` ours.
    """

    positive: ClassVar = ("mark_price", "index_price", "last_price", "bid_price", "ask_price")
    non_negative: ClassVar = ("bid_qty", "ask_qty")

    instrument: str
    mark_price: Decimal
    index_price: Decimal
    last_price: Decimal | None = None
    bid_price: Decimal | None = None
    ask_price: Decimal | None = None
    bid_qty: Decimal | None = None
    """What stands at the best bid, in the instrument's quantity."""
    ask_qty: Decimal | None = None
    ts_event_ms: int
    ts_seen_ms: int


def basis(tick: MarketTick) -> Decimal:
    """Mark minus index, quote per base; + = the perpetual trades at a premium."""
    return tick.mark_price - tick.index_price
