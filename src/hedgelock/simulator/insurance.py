"""The insurance pools: what they hold, and when they no longer can carry a takeover.

The contracts of a settle coin share a pool; some contracts have an isolated one. Deleveraging of
the winning side starts when a takeover would leave a pool empty, or (above `THRESHOLD`) down by
30 % within 8 h, and ends when it is down by less than 25 % and not empty. Source: fact sheet §8.6,
§2.11.
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
class Pool:
    """One pool; the money itself is in the ledger."""

    coin: str
    holder: str
    contracts: tuple[Contract, ...]  # whose losses it carries
    isolated: bool
    hourly: deque[Decimal] = field(default_factory=lambda: deque(maxlen=HOURS))
    active: bool = False  # its contracts' winners are being deleveraged


class Pools:
    """All pools, by name: the settle coin, or the key of a contract with an isolated one."""

    def __init__(
        self, ledger: Ledger, prices: Mapping[str, Decimal], contracts: Mapping[str, Contract]
    ) -> None:
        self._ledger = ledger
        self._prices = prices  # USD per coin; dollars are absent
        self._contracts = [c for c in contracts.values() if not c.is_spot]
        self._pools: dict[str, Pool] = {}

    def open(self, opening: Mapping[str, Decimal]) -> None:
        """Pay the opening balances in; a settle coin without one has an empty pool."""
        alone = [c for c in self._contracts if c.key in opening]
        for coin in dict.fromkeys(c.settle for c in self._contracts):
            sharing = tuple(c for c in self._contracts if c.settle == coin and c not in alone)
            self._pools[coin] = Pool(coin, INSURANCE, sharing, isolated=False)
        for c in alone:
            self._pools[c.key] = Pool(c.settle, f"{INSURANCE}/{c.key}", (c,), isolated=True)
        for name, pool in self._pools.items():
            amount = opening.get(name, ZERO)
            self._ledger.move(pool.coin, amount, source=OUTSIDE, target=pool.holder)
            pool.hourly.append(amount)

    @property
    def names(self) -> list[str]:
        """Every pool's name."""
        return list(self._pools)

    def holder(self, c: Contract) -> str:
        """Whose money in the ledger carries a contract's losses."""
        return self._of(c).holder

    def record(self) -> None:
        """Remember this hour's balances."""
        for pool in self._pools.values():
            pool.hourly.append(self._balance(pool))

    def exhausted(self, c: Contract, change: Decimal) -> bool:
        """Whether a takeover of `c` that changes its pool by `change` must deleverage instead."""
        if change >= 0:
            return False
        pool = self._of(c)
        after, ratio = self._balance(pool) + change, self._pnl_ratio(pool, change)
        large = after * self._prices.get(pool.coin, Decimal(1)) > THRESHOLD
        if after <= 0 or (large and ratio < START_RATIO):
            pool.active = True
        elif ratio > STOP_RATIO:
            pool.active = False
        return pool.active

    def drain(self, name: str) -> None:
        """Take everything out of a pool that holds something."""
        pool = self._pools[name]
        held = max(ZERO, self._balance(pool))
        self._ledger.move(pool.coin, held, source=pool.holder, target=OUTSIDE)

    def rows(self, coin: str = "", *, isolated: bool = False) -> list[dict[str, str]]:
        """Rows of market/insurance, one per pool; `isolated` ones only, if asked for."""
        found = []
        for pool in self._pools.values():
            if not pool.contracts or coin not in {"", pool.coin} or (isolated and not pool.isolated):
                continue
            balance = self._balance(pool)
            value = balance * self._prices.get(pool.coin, Decimal(1))
            found.append(
                {
                    "coin": pool.coin, "symbols": ",".join(c.symbol for c in pool.contracts),
                    "balance": text(balance), "value": text(value),
                }
            )  # fmt: skip
        return found

    def alert(self, c: Contract) -> dict[str, str]:
        """The row of market/adlAlert for a contract."""
        pool = self._of(c)
        ratio = self._pnl_ratio(pool).quantize(Decimal("0.000001"))
        return {
            "coin": c.settle, "symbol": c.symbol, "balance": text(self._balance(pool)),
            "maxBalance": text(self._peak(pool)), "insurancePnlRatio": text(START_RATIO),
            "pnlRatio": text(ratio), "adlTriggerThreshold": text(THRESHOLD),
            "adlStopRatio": text(STOP_RATIO),
        }  # fmt: skip

    def _of(self, c: Contract) -> Pool:
        return self._pools.get(c.key) or self._pools[c.settle]

    def _balance(self, pool: Pool) -> Decimal:
        """Coins in the pool; below zero it owes."""
        return self._ledger.balance(pool.holder, pool.coin)

    def _peak(self, pool: Pool) -> Decimal:
        """Largest balance of the last hours."""
        return max(self._balance(pool), *pool.hourly, ZERO)

    def _pnl_ratio(self, pool: Pool, change: Decimal = ZERO) -> Decimal:
        """Loss (−) since the peak as a fraction of it, after a further `change`."""
        peak = self._peak(pool)
        return (self._balance(pool) + change - peak) / peak if peak > 0 else ZERO
