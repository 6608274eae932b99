"""The last public trades of a contract: kept as facts, rendered only for whoever asks."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from hedgelock.simulator.money import text

PRINTS_KEPT = 1000


class Prints:
    """Recent trades, newest first when iterated."""

    def __init__(self, symbol: str, symbol_id: int) -> None:
        self._symbol = symbol
        self._prefix = f"{symbol_id:04d}"
        self._kept: deque[tuple[int, int, int, str, Decimal, Decimal]] = deque(maxlen=PRINTS_KEPT)

    def add(
        self, now_ms: int, number: int, sequence: int, *, side: str, price: Decimal, qty: Decimal
    ) -> None:
        """Record a trade; `number` makes its id, `side` is the taker's."""
        self._kept.appendleft((now_ms, number, sequence, side, price, qty))

    def trade_id(self, number: int) -> str:
        """Id of the trade with this serial number."""
        return f"{self._prefix}{number:016d}"

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for now_ms, number, sequence, side, price, qty in self._kept:
            yield {
                "execId": self.trade_id(number), "symbol": self._symbol, "price": text(price),
                "size": text(qty), "side": side, "time": str(now_ms), "isBlockTrade": False,
                "isRPITrade": False, "seq": str(sequence),
            }  # fmt: skip
