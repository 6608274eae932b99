"""The minute's premium of each perpetual, from what its book would cost to trade."""

from __future__ import annotations

from decimal import Decimal

from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.matching import BUY, SELL, Book
from hedgelock.simulator.money import ZERO
from hedgelock.simulator.state import Exchange

SAMPLE_MS = 60_000
DEPTH = 50  # levels searched for the impact notional
PREMIUM_STEP = Decimal("0.00000001")


def impact_price(book: Book, c: Contract, side: str, notional: Decimal) -> Decimal:
    """Mean price of `notional` USD traded against one side of a book (BUY = the bids).

    Where the book holds less, the mean of all it holds; 0 for an empty one.
    """
    missing, value, base = notional, ZERO, ZERO
    for ticks, lots in book.levels(side, DEPTH):
        price, qty = c.price(ticks), c.qty(lots)
        worth = qty if c.is_inverse else qty * price
        part = min(worth, missing)
        value += part
        base += part / price
        missing -= part
        if missing <= 0:
            break
    return value / base if base else ZERO


def premium(x: Exchange, c: Contract) -> Decimal:
    """[max(0, impact bid − index) − max(0, index − impact ask)] ÷ index, a fraction."""
    notional, index = x.scenario.funding_terms.impact_notional, x.market.index[c.base]
    bid, ask = (impact_price(x.books[c.key], c, side, notional) for side in (BUY, SELL))
    return ((max(ZERO, bid - index) - max(ZERO, index - ask)) / index).quantize(PREMIUM_STEP)


def sample(x: Exchange) -> None:
    """Take this minute's premium of every perpetual into its funding and its candles."""
    for line in x.market.lines.values():
        if not line.contract.is_spot:
            value = premium(x, line.contract)
            line.clock.sample(value)
            line.candles.premium(x.now_ms, value)
