"""The contracts that the simulator lists, with their margin tiers, fees and filters."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hedgelock.simulator.money import ZERO, text


@dataclass(frozen=True, slots=True)
class Tier:
    """One step of a risk-limit ladder; rates are fractions of position value."""

    limit: Decimal  # position value up to which the tier holds: USDT (linear), BTC (inverse)
    mm_rate: Decimal
    im_rate: Decimal
    leverage_max: Decimal
    deduction: Decimal


@dataclass(frozen=True, slots=True)
class Contract:
    """A tradable symbol. Linear and spot quantities are in base coin, inverse ones in USD."""

    category: str  # linear, inverse, spot
    symbol: str
    base: str
    quote: str
    settle: str
    tick: Decimal
    lot: Decimal
    qty_min: Decimal
    qty_max: Decimal
    qty_max_market: Decimal
    notional_min: Decimal
    taker_rate: Decimal
    maker_rate: Decimal
    leverage_max: Decimal = Decimal(100)
    tiers: tuple[Tier, ...] = ()
    symbol_id: int = 0

    @property
    def key(self) -> str:
        """Unique name: the same symbol may be listed as spot and as linear."""
        return f"{self.category}.{self.symbol}"

    @property
    def is_inverse(self) -> bool:
        """Whether value and profit are in base coin."""
        return self.category == "inverse"

    @property
    def is_spot(self) -> bool:
        """Whether a fill exchanges coins at once instead of opening a position."""
        return self.category == "spot"

    @property
    def price_digits(self) -> int:
        """Decimals of a price on the wire: those of the tick, at least two."""
        return max(2, -int(self.tick.as_tuple().exponent))

    @property
    def price_max(self) -> Decimal:
        """Highest price that an order may have."""
        return self.tick * 19_999_998

    def value(self, qty: Decimal, price: Decimal) -> Decimal:
        """Value of `qty` at `price`, in quote coin (linear, spot) or base coin (inverse)."""
        return qty / price if self.is_inverse else qty * price

    def price(self, ticks: int) -> Decimal:
        """Price of an integer number of ticks."""
        return self.tick * ticks

    def qty(self, lots: int) -> Decimal:
        """Quantity of an integer number of lots."""
        return self.lot * lots

    def tier(self, value: Decimal) -> tuple[int, Tier]:
        """Number (from 1) and terms of the tier that holds a position of `value` ≥ 0."""
        for number, tier in enumerate(self.tiers, start=1):
            if value <= tier.limit:
                return number, tier
        return len(self.tiers), self.tiers[-1]


def ladder(*steps: str) -> tuple[Tier, ...]:
    """Build tiers from "limit mm_rate leverage_max" rows; deductions keep margin continuous."""
    tiers: list[Tier] = []
    for step in steps:
        limit, mm_rate, leverage_max = (Decimal(word) for word in step.split())
        deduction = ZERO
        if tiers:
            last = tiers[-1]
            deduction = last.limit * (mm_rate - last.mm_rate) + last.deduction
        im_rate = (1 / leverage_max).quantize(Decimal("0.0001"))
        tiers.append(Tier(limit, mm_rate, im_rate, leverage_max, deduction))
    return tuple(tiers)


BTCUSDT_TIERS = ladder(
    "2000000 0.005 100",
    "2600000 0.0056 90",
    "3200000 0.0063 80",
    "3800000 0.0067 75",
    "4400000 0.0071 70",
    "5000000 0.0077 65",
    "5600000 0.0091 55",
    "8500000 0.01 50",
    "10000000 0.013 45",
    "14000000 0.015 40",
    "20000000 0.016 35",
    "28000000 0.02 30",
    "38000000 0.025 25",
    "50000000 0.029 20",
)
BTCUSD_TIERS = ladder("150 0.005 100", "300 0.01 50", "450 0.015 33", "600 0.02 25")
ETHUSDT_TIERS = ladder("1000000 0.005 100", "2000000 0.01 50", "4000000 0.02 25")
ETHUSD_TIERS = ladder("3000 0.005 100", "6000 0.01 50", "9000 0.015 33", "12000 0.02 25")
SOLUSDT_TIERS = ladder("300000 0.005 100", "1500000 0.01 50", "3000000 0.02 25", "6000000 0.05 10")
XRPUSDT_TIERS = ladder("200000 0.0067 75", "1000000 0.01 50", "2500000 0.02 25", "5000000 0.05 10")

UNORDERED = frozenset({"SOL", "XRP"})

PERP_TAKER, PERP_MAKER, SPOT_FEE = Decimal("0.00055"), Decimal("0.0002"), Decimal("0.001")


def _perpetual(
    name: str, base: str, steps: str, tiers: tuple[Tier, ...], *, number: int
) -> Contract:
    """A perpetual from "tick lot qty_max qty_max_market notional_min"; USD names are inverse."""
    tick, lot, qty_max, qty_max_market, notional_min = (Decimal(word) for word in steps.split())
    inverse = name == f"{base}USD"
    return Contract(
        "inverse" if inverse else "linear", name, base, "USD" if inverse else "USDT",
        base if inverse else "USDT", tick, lot, lot, qty_max, qty_max_market, notional_min,
        PERP_TAKER, PERP_MAKER, tiers[0].leverage_max, tiers, number,
    )  # fmt: skip


def _spot(name: str, base: str, steps: str, *, number: int) -> Contract:
    """A spot pair against USDT from "tick lot qty_max qty_max_market notional_min"."""
    tick, lot, qty_max, qty_max_market, notional_min = (Decimal(word) for word in steps.split())
    return Contract(
        "spot", name, base, "USDT", "USDT", tick, lot, lot, qty_max, qty_max_market, notional_min,
        SPOT_FEE, SPOT_FEE, Decimal(10), (), number,
    )  # fmt: skip


CONTRACTS: dict[str, Contract] = {
    c.key: c
    for c in (
        _perpetual("BTCUSDT", "BTC", "0.1 0.001 1190 500 5", BTCUSDT_TIERS, number=5),
        _perpetual("ETHUSDT", "ETH", "0.01 0.01 7240 3000 5", ETHUSDT_TIERS, number=6),
        _perpetual("SOLUSDT", "SOL", "0.01 0.1 80000 16000 5", SOLUSDT_TIERS, number=18),
        _perpetual("XRPUSDT", "XRP", "0.0001 0.1 3000000 600000 5", XRPUSDT_TIERS, number=10),
        _perpetual("BTCUSD", "BTC", "0.1 1 25000000 5000000 1", BTCUSD_TIERS, number=1),
        _perpetual("ETHUSD", "ETH", "0.01 1 10000000 2000000 1", ETHUSD_TIERS, number=2),
        _spot("BTCUSDT", "BTC", "0.1 0.000001 83 41 5", number=9),
        _spot("ETHUSDT", "ETH", "0.01 0.00001 2000 700 5", number=11),
    )
}
"""The full catalogue; an exchange lists those whose base its scenario prices."""


def listed(bases: Container[str]) -> dict[str, Contract]:
    """The contracts of the catalogue on these base coins."""
    return {key: c for key, c in CONTRACTS.items() if c.base in bases}


def instrument_row(contract: Contract, *, interval_h: int, funding_cap: Decimal) -> dict[str, Any]:
    """The row of /v5/market/instruments-info."""
    c = contract
    if c.is_spot:
        return {
            "symbol": c.symbol, "symbolId": c.symbol_id, "baseCoin": c.base, "quoteCoin": c.quote,
            "innovation": "0", "status": "Trading", "marginTrading": "utaOnly", "stTag": "0",
            "lotSizeFilter": {
                "basePrecision": text(c.lot), "quotePrecision": "0.0000001",
                "minOrderQty": text(c.qty_min), "maxOrderQty": "17000",
                "minOrderAmt": text(c.notional_min), "maxOrderAmt": "1999999999",
                "maxLimitOrderQty": text(c.qty_max), "maxMarketOrderQty": text(c.qty_max_market),
                "postOnlyMaxLimitOrderSize": "17000",
            },
            "priceFilter": {"tickSize": text(c.tick)},
            "riskParameters": {"priceLimitRatioX": "0.01", "priceLimitRatioY": "0.01"},
            "symbolType": "",
        }  # fmt: skip
    name = "InversePerpetual" if c.is_inverse else "LinearPerpetual"
    digits = c.price_digits
    tick = f"{c.tick:.{digits}f}"
    return {
        "symbol": c.symbol, "symbolId": c.symbol_id, "contractType": name, "status": "Trading",
        "baseCoin": c.base, "quoteCoin": c.quote, "settleCoin": c.settle,
        "launchTime": "1585526400000", "deliveryTime": "0", "deliveryFeeRate": "",
        "priceScale": str(digits),
        "leverageFilter": {
            "minLeverage": "1", "maxLeverage": f"{c.leverage_max:.2f}", "leverageStep": "0.01",
        },
        "priceFilter": {
            "minPrice": tick, "maxPrice": f"{c.price_max:.{digits}f}", "tickSize": tick,
        },
        "lotSizeFilter": {
            "minNotionalValue": text(c.notional_min), "maxOrderQty": text(c.qty_max),
            "maxMktOrderQty": text(c.qty_max_market), "minOrderQty": text(c.qty_min),
            "qtyStep": text(c.lot), "postOnlyMaxOrderQty": text(c.qty_max),
        },
        "unifiedMarginTrade": True, "fundingInterval": interval_h * 60,
        "copyTrading": "none" if c.is_inverse else "both",
        "upperFundingRate": text(funding_cap), "lowerFundingRate": text(-funding_cap),
        "isPreListing": False, "preListingInfo": None,
        "riskParameters": {"priceLimitRatioX": "0.01", "priceLimitRatioY": "0.02"},
        "symbolType": "", "displayName": "", "forbidUplWithdrawal": False,
    }  # fmt: skip


def tier_rows(contract: Contract) -> list[dict[str, Any]]:
    """The rows of /v5/market/risk-limit: rates as fractions, lowest tier without deduction.

    The exchange promises no order; those of some contracts come by the text of their limit.
    """
    rows = [
        {
            "id": number,
            "symbol": contract.symbol,
            "riskLimitValue": text(tier.limit),
            "maintenanceMargin": text(tier.mm_rate),
            "initialMargin": text(tier.im_rate),
            "isLowestRisk": int(number == 1),
            "maxLeverage": f"{tier.leverage_max:.2f}",
            "mmDeduction": text(tier.deduction) if number > 1 else "",
        }
        for number, tier in enumerate(contract.tiers, start=1)
    ]
    return (
        sorted(rows, key=lambda r: str(r["riskLimitValue"])) if contract.base in UNORDERED else rows
    )
