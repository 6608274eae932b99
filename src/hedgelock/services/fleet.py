"""Accounts that look alike as arrays, and the market that they share.

One hedge instrument and perhaps one inverse contract of the same coin, debts in the quote, collateral
and wallet in coin and quote, everything read, the same policy but for the reserve. `Fleet.of` leaves
out who is different. Floats: figures of a million accounts for screens and for `risk_many`; money is
never moved by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from hedgelock.domain.instrument import MarginTier
from hedgelock.domain.margin import CoinLine
from hedgelock.domain.market import MarketTick
from hedgelock.domain.money import ZERO
from hedgelock.domain.policy import Policy
from hedgelock.domain.risk import RiskMemory
from hedgelock.domain.scene import Scene, look
from hedgelock.domain.step import Tables

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Codes = NDArray[np.int8]

RUNGS: Final = 3
NEVER_MS: Final = -1
"""In `Fleet.below`: not below."""


class Fleet(NamedTuple):
    """Accounts that look alike, as arrays over the same index. Coins, USDT, our clock in ms."""

    policy: Policy
    inverse: str
    """The inverse contract that some may hold; "" = none."""
    debt: Floats
    pledged: Floats
    counted: Floats
    """Coins of the pledge that the loan counts."""
    cash: Floats
    cash_margin: Floats
    """What margin counts of it, less what is owed."""
    coins: Floats
    coins_margin: Floats
    fund: Floats
    fund_coins: Floats
    reserve: Floats
    qty: Floats
    entry: Floats
    """1 where nothing is held."""
    inverse_qty: Floats
    inverse_entry: Floats
    seen_first: Ints
    """When the oldest of the four facts was seen."""
    seen_last: Ints
    has_latch: Bools
    level: Codes
    below: tuple[Ints, ...]
    """Per rung, since when LTV is below its leaving line; NEVER_MS = it is not, or not held."""

    @property
    def size(self) -> int:
        """How many accounts."""
        return int(self.debt.size)

    @classmethod
    def of(
        cls, memories: Sequence[RiskMemory], tables: Tables, *, inverse: str = "", now_ms: int
    ) -> tuple[Fleet, list[int]]:
        """(the fleet, which of `memories` are in it, in its order). The first sets the policy.

        ValueError when none fits.
        """
        rows: list[tuple[float, ...]] = []
        kept: list[int] = []
        house: Policy | None = None
        for at, memory in enumerate(memories):
            policy = tables.policy(memory.account)
            if policy is None:
                continue
            house = house or _anybodys(policy)
            scene = look(memory.view, policy, tables, now_ms)
            if _anybodys(policy) == house and _fits(scene, memory, inverse):
                rows.append(_row(scene, memory, inverse))
                kept.append(at)
        if house is None or not rows:
            raise ValueError("none of these accounts can be assessed with others")
        table = np.array(rows, dtype=np.float64).T
        numbers = {
            name: np.ascontiguousarray(column)
            for name, column in zip(_NUMBERS, table, strict=False)
        }
        first, last, latched, level, *below = (
            column.astype(np.int64) for column in table[len(_NUMBERS):]
        )
        return cls(
            house, inverse, **numbers, seen_first=first, seen_last=last,
            has_latch=latched.astype(np.bool_), level=level.astype(np.int8), below=tuple(below),
        ), kept


_NUMBERS = (
    "debt", "pledged", "counted", "cash", "cash_margin", "coins", "coins_margin", "fund",
    "fund_coins", "reserve", "qty", "entry", "inverse_qty", "inverse_entry",
)
"""Fields of a fleet that are floats, in the order of `_row`."""


def _anybodys(policy: Policy) -> Policy:
    """A policy without what is an account's own."""
    hedge = msgspec.structs.replace(policy.hedge, reserve=None)
    return msgspec.structs.replace(policy, account="", version=0, hedge=hedge)


def _fits(scene: Scene, memory: RiskMemory, inverse: str) -> bool:
    hedge, loan, book = scene.policy.hedge, scene.loan, scene.book
    wallet = memory.view.wallet
    if not scene.is_complete or wallet is None or scene.tick is None:
        return False
    return (
        all(line.coin == hedge.coin or not line.collateral_qty for line in loan.lines)
        and all(line.coin == hedge.quote or not line.debt_qty for line in loan.lines)
        and {line.coin for line in book.coins} <= {hedge.coin, hedge.quote}
        and len(book.coins) == len({line.coin for line in book.coins})
        and all(
            (line.instrument, line.is_inverse, line.base, line.settle) in (
                (hedge.instrument, False, hedge.coin, hedge.quote),
                (inverse, True, hedge.coin, hedge.coin),
            ) for line in book.positions
        )
        and len(book.positions) == len({line.instrument for line in book.positions})
    )


def _wallet(line: CoinLine | None) -> tuple[Decimal, Decimal]:
    """(wallet, counted less owed) of a coin: of what is owed nothing is counted."""
    if line is None:
        return ZERO, ZERO
    return line.wallet_qty, line.counted_qty if line.wallet_qty > 0 else line.wallet_qty


def _row(scene: Scene, memory: RiskMemory, inverse: str) -> tuple[float, ...]:
    hedge, view, latch = scene.policy.hedge, memory.view, memory.latch
    wallet = {line.coin: line for line in scene.book.coins}
    held = {line.instrument: line for line in scene.book.positions}
    cash, coins = wallet.get(hedge.quote), wallet.get(hedge.coin)
    linear, other = held.get(hedge.instrument), held.get(inverse)
    counted = sum([line.counted_qty for line in scene.loan.lines], ZERO)
    facts = (view.wallet, view.positions, view.fund, view.loan)
    seen = [fact.ts_seen_ms for fact in facts if fact is not None]
    below = latch.below_ms if latch is not None else ()
    numbers: list[Any] = [
        view.debt_of(hedge.quote), view.collateral_of(hedge.coin), counted,
        *_wallet(cash), *_wallet(coins),
        view.fund_qty(hedge.quote), view.fund_qty(hedge.coin), hedge.reserve or 0,
        linear.position_qty if linear is not None else 0,
        linear.entry_price if linear is not None else 1,
        other.position_qty if other is not None else 0,
        other.entry_price if other is not None else 1,
        min(seen), max(seen), latch is not None, latch.level if latch is not None else 0,
    ]
    numbers += [
        NEVER_MS if rung >= len(below) or below[rung] is None else below[rung]
        for rung in range(RUNGS)
    ]
    return tuple(map(float, numbers))


# ---------------------------------------------------------------- the market


class Curve(NamedTuple):
    """Margin tiers of an instrument as arrays."""

    notional_max: Floats
    rate: Floats
    deduction: Floats
    fee: float

    @classmethod
    def of(cls, tiers: Sequence[MarginTier], taker_fee: Decimal) -> Curve:
        """From the instrument's tiers."""
        table = np.array(
            [(tier.notional_max, tier.maintenance_rate, tier.deduction) for tier in tiers],
            dtype=np.float64,
        )
        return cls(table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy(), float(taker_fee))

    def needed(self, value: Floats) -> Floats:
        """Maintenance margin with the fee to close, ≥ 0; `value` in settle coin."""
        rate: Any = self.rate[0]
        deduction: Any = self.deduction[0]
        if value.max(initial=0.0) > self.notional_max[0]:
            last = self.notional_max.size - 1
            tier = np.minimum(np.searchsorted(self.notional_max, value), last)
            rate, deduction = self.rate[tier], self.deduction[tier]
        # `kernels.maintenance` with rate and fee added up first: half the passes over memory.
        found: Floats = value * (rate + self.fee)
        found -= deduction
        return np.maximum(found, 0, out=found)


class Market(NamedTuple):
    """The prices and terms that all of a fleet share, and how old they are."""

    mark_price: float
    index_price: float
    linear: Curve
    inverse_mark: float
    inverse: Curve | None
    is_stale: bool
    """The price or the funding is older than allowed, or there is no funding at all."""
    is_inverse_stale: bool
    """The inverse contract's price is: whoever holds one sees stale."""

    @classmethod
    def of(cls, fleet: Fleet, tables: Tables, now_ms: int) -> Market:
        """The market now. ValueError when a price or contract is missing: then step one by one."""
        hedge, limits = fleet.policy.hedge, fleet.policy.risk

        def price_of(name: str) -> tuple[MarketTick, Curve, bool]:
            tick, contract = tables.market(name), tables.instrument(name)
            if tick is None or contract is None or not contract.tiers:
                raise ValueError(f"no price or no tiers of {name}")
            old = abs(now_ms - tick.ts_seen_ms) > limits.market_age_max_ms
            return tick, Curve.of(contract.tiers, contract.taker_fee), old

        tick, curve, stale = price_of(hedge.instrument)
        other, other_curve, other_stale = price_of(fleet.inverse) if fleet.inverse else (
            None, None, False)
        funding = tables.funding(hedge.instrument)
        if funding is None or abs(now_ms - funding.ts_seen_ms) > limits.funding_age_max_ms:
            stale = True
        return cls(
            float(tick.mark_price), float(tick.index_price), curve,
            float(other.mark_price) if other is not None else 1.0, other_curve, stale, other_stale,
        )
