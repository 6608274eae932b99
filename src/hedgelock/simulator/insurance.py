"""The insurance pools: what they hold, and when they no longer can carry a takeover.

One pool per settle coin. Deleveraging of the winning side starts when a takeover would leave a
pool empty, or (above `THRESHOLD`) down by 30 % within 8 h, and ends when it is down by less than
25 % and not empty. Source: fact sheet §8.6, §2.11.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.money import INSURANCE, OUTSIDE, ZERO, Ledger, text

THRESHOLD = Decimal(10_000)  # USD
START_RATIO, STOP_RATIO = Decimal("-0.3"), Decimal("-0.25")
HOURS = 8


@dataclass(slots=True)
class Pools:
    """Balances of the last hours, by coin; the money itself is in the ledger."""

    ledger: Ledger
    prices: Mapping[str, Decimal]  # USD per coin; dollars are absent
    hourly: dict[str, deque[Decimal]] = field(default_factory=dict)
    active: set[str] = field(default_factory=set)  # coins whose winners are being deleveraged

    def open(self, opening: Mapping[str, Decimal]) -> None:
        """Pay the opening balances in."""
        for coin, amount in opening.items():
            self.ledger.move(coin, amount, source=OUTSIDE, target=INSURANCE)
            self.hourly[coin] = deque([amount], maxlen=HOURS)

    def record(self) -> None:
        """Remember this hour's balances."""
        for coin, kept in self.hourly.items():
            kept.append(self.balance(coin))

    def balance(self, coin: str) -> Decimal:
        """Coins in the pool; below zero it owes."""
        return self.ledger.balance(INSURANCE, coin)

    def peak(self, coin: str) -> Decimal:
        """Largest balance of the last hours."""
        return max(self.balance(coin), *self.hourly.get(coin, ()), ZERO)

    def pnl_ratio(self, coin: str, change: Decimal = ZERO) -> Decimal:
        """Loss (−) since the peak as a fraction of it, after a further `change`."""
        peak = self.peak(coin)
        return (self.balance(coin) + change - peak) / peak if peak > 0 else ZERO

    def exhausted(self, coin: str, change: Decimal) -> bool:
        """Whether a takeover that changes the pool by `change` must deleverage instead."""
        if change >= 0:
            return False
        after, ratio = self.balance(coin) + change, self.pnl_ratio(coin, change)
        large = after * self.prices.get(coin, Decimal(1)) > THRESHOLD
        if after <= 0 or (large and ratio < START_RATIO):
            self.active.add(coin)
        elif ratio > STOP_RATIO:
            self.active.discard(coin)
        return coin in self.active

    def drain(self, coin: str) -> None:
        """Take everything out of a pool that holds something."""
        self.ledger.move(coin, max(ZERO, self.balance(coin)), source=INSURANCE, target=OUTSIDE)

    def rows(self, contracts: Mapping[str, Contract], coin: str = "") -> list[dict[str, str]]:
        """Rows of market/insurance, one per coin."""
        found = []
        for name in self.hourly:
            symbols = ",".join(
                c.symbol for c in contracts.values() if c.settle == name and not c.is_spot
            )
            if symbols and coin in {"", name}:
                balance = self.balance(name)
                value = balance * self.prices.get(name, Decimal(1))
                found.append(
                    {
                        "coin": name, "symbols": symbols, "balance": text(balance),
                        "value": text(value),
                    }
                )  # fmt: skip
        return found

    def alert(self, c: Contract) -> dict[str, str]:
        """The row of market/adlAlert for a contract."""
        ratio = self.pnl_ratio(c.settle).quantize(Decimal("0.000001"))
        return {
            "coin": c.settle, "symbol": c.symbol, "balance": text(self.balance(c.settle)),
            "maxBalance": text(self.peak(c.settle)), "insurancePnlRatio": text(START_RATIO),
            "pnlRatio": text(ratio), "adlTriggerThreshold": text(THRESHOLD),
            "adlStopRatio": text(STOP_RATIO),
        }  # fmt: skip
