"""Prices from a real market in place of a script's: what is fed, checked, and how old it may be.

The accounts, the matching and the loan stay the simulator's; index, mark, last price, funding rate and
settlement instants are the real exchange's. Without news the exchange falls silent instead of trading
at old prices.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

AGE_MAX_MS = 15_000  # of any contract's prices; a reader's socket is renewed after 10 s of silence
PRICE_MAX = Decimal("1E+12")
INTERVALS_H = (1, 2, 4, 8)


class Fed(msgspec.Struct, frozen=True, kw_only=True):
    """One contract as the real market has it. Quote per base; `rate` per interval, + = longs pay."""

    key: str
    index: Decimal
    mark: Decimal
    last: Decimal
    rate: Decimal | None = None
    interval_h: int = 8
    next_ms: int = 0

    def problem(self, known: Mapping[str, object]) -> str:
        """What is impossible about it; "" = nothing."""
        if self.key not in known:
            return f"no contract {self.key!r}"
        prices = (self.index, self.mark, self.last)
        if not all(p.is_finite() and 0 < p < PRICE_MAX for p in prices):
            return f"{self.key}: a price is not above 0"
        if self.rate is None:
            return ""
        if not self.rate.is_finite() or abs(self.rate) > 1:
            return f"{self.key}: {self.rate} is no funding rate"
        if self.interval_h not in INTERVALS_H or self.next_ms <= 0:
            return f"{self.key}: a funding rate without its schedule"
        return ""


_ROWS = msgspec.json.Decoder(list[Fed])


def parse(body: bytes, known: Mapping[str, object]) -> list[Fed]:
    """A feed's rows; ValueError for anything that is not wholly right."""
    try:
        rows = _ROWS.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"no feed: {error}") from error
    for row in rows:
        if problem := row.problem(known):
            raise ValueError(problem)
    return rows
