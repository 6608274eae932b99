"""Contract terms: steps, limits, fees, margin tiers and collateral ratios, as the venue states them."""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import ClassVar

from hedgelock.domain.message import Message, Value


class Settlement(enum.Enum):
    """How profit is paid: in quote coin, in base coin, or by delivery of the coin itself."""

    LINEAR = "linear"
    INVERSE = "inverse"
    SPOT = "spot"


class MarginTier(Value, frozen=True, kw_only=True):
    """One margin tier. Applies to the whole value while it is ≤ `notional_max`.

    maintenance = notional × maintenance_rate − deduction. `notional_max` and `deduction` are in the
    settle coin (USDT for linear, BTC for BTCUSD).
    """

    positive: ClassVar = ("notional_max", "initial_rate", "maintenance_rate")
    non_negative: ClassVar = ("deduction",)

    notional_max: Decimal
    initial_rate: Decimal
    maintenance_rate: Decimal
    deduction: Decimal


class Instrument(Message, frozen=True, kw_only=True):
    """What may be traded and how. Quantities in base units (inverse: USD contracts of 1).

    `tiers` ascend by `notional_max`; venues list them in any order, adapters sort them.
    """

    positive: ClassVar = (
        "tick_size", "lot_size", "qty_min", "qty_max", "qty_market_max", "qty_post_only_max",
        "price_limit_ratio",
    )
    non_negative: ClassVar = ("notional_min", "taker_fee")

    instrument: str
    settlement: Settlement
    base: str
    quote: str
    settle: str
    tick_size: Decimal
    lot_size: Decimal
    qty_min: Decimal
    qty_max: Decimal | None = None
    qty_market_max: Decimal | None = None
    qty_post_only_max: Decimal | None = None
    notional_min: Decimal | None = None
    taker_fee: Decimal
    maker_fee: Decimal
    tiers: tuple[MarginTier, ...] = ()
    price_limit_ratio: Decimal | None = None
    """X: the venue takes no sale below mark·(1 − X) and no purchase above mark·(1 + X)."""
    ts_seen_ms: int

    def __post_init__(self) -> None:
        """Refuse tiers out of order: taking the first that fits would understate the margin."""
        super().__post_init__()
        limits = [tier.notional_max for tier in self.tiers]
        if limits != sorted(limits):
            raise ValueError(f"Instrument.tiers of {self.instrument} do not ascend: {limits}")


class CollateralTier(Value, frozen=True, kw_only=True):
    """The venue counts `ratio` (0..1) of each coin between `qty_min` and `qty_max` (None = no end)."""

    non_negative: ClassVar = ("qty_min", "ratio")

    qty_min: Decimal
    qty_max: Decimal | None
    ratio: Decimal


class CollateralTerms(Message, frozen=True, kw_only=True):
    """How much of a coin counts, for the crypto loan and for the trading account."""

    coin: str
    loan_tiers: tuple[CollateralTier, ...]
    margin_tiers: tuple[CollateralTier, ...]
    ts_seen_ms: int


def category_of(instrument: str) -> str:
    """`linear` of `linear:BTCUSDT`."""
    return instrument.partition(":")[0]


def symbol_of(instrument: str) -> str:
    """`BTCUSDT` of `linear:BTCUSDT`."""
    return instrument.partition(":")[2]


def counted_qty(qty: Decimal, tiers: tuple[CollateralTier, ...]) -> Decimal:
    """Σ over tiers of the part of `qty` (≥ 0, coins) inside the tier × its ratio.

    >>> tiers = (CollateralTier(qty_min=Decimal(0), qty_max=Decimal(1), ratio=Decimal("0.95")),
    ...          CollateralTier(qty_min=Decimal(1), qty_max=None, ratio=Decimal("0.9")))
    >>> counted_qty(Decimal(2), tiers)
    Decimal('1.85')
    """
    total = Decimal(0)
    for tier in tiers:
        top = qty if tier.qty_max is None else min(qty, tier.qty_max)
        if top > tier.qty_min:
            total += (top - tier.qty_min) * tier.ratio
    return total
