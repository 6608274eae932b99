"""The contracts that the simulator lists, with their margin tiers, fees and filters."""

from __future__ import annotations

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

PERP_TAKER, PERP_MAKER, SPOT_FEE = Decimal("0.00055"), Decimal("0.0002"), Decimal("0.001")

CONTRACTS: dict[str, Contract] = {
    c.key: c
    for c in (
        Contract(
            "linear", "BTCUSDT", "BTC", "USDT", "USDT", Decimal("0.1"), Decimal("0.001"), Decimal("0.001"),
            Decimal(1190), Decimal(500), Decimal(5), PERP_TAKER, PERP_MAKER, Decimal(100), BTCUSDT_TIERS, 5,
        ),
        Contract(
            "linear", "ETHUSDT", "ETH", "USDT", "USDT", Decimal("0.01"), Decimal("0.01"), Decimal("0.01"),
            Decimal(7240), Decimal(3000), Decimal(5), PERP_TAKER, PERP_MAKER, Decimal(100), ETHUSDT_TIERS, 6,
        ),
        Contract(
            "inverse", "BTCUSD", "BTC", "USD", "BTC", Decimal("0.1"), Decimal(1), Decimal(1),
            Decimal(25000000), Decimal(5000000), Decimal(1), PERP_TAKER, PERP_MAKER, Decimal(100), BTCUSD_TIERS, 1,
        ),
        Contract(
            "spot", "BTCUSDT", "BTC", "USDT", "USDT", Decimal("0.1"), Decimal("0.000001"), Decimal("0.000001"),
            Decimal(83), Decimal(41), Decimal(5), SPOT_FEE, SPOT_FEE, Decimal(10), (), 2,
        ),
    )
}  # fmt: skip
PERPETUALS = tuple(c for c in CONTRACTS.values() if not c.is_spot)


def instrument_row(
    contract: Contract, *, interval_h: int, funding_cap: Decimal
) -> dict[str, Any]:
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
        }  # fmt: skip
    name = "InversePerpetual" if c.is_inverse else "LinearPerpetual"
    return {
        "symbol": c.symbol, "symbolId": c.symbol_id, "contractType": name, "status": "Trading",
        "baseCoin": c.base, "quoteCoin": c.quote, "settleCoin": c.settle,
        "launchTime": "1585526400000", "deliveryTime": "0", "deliveryFeeRate": "",
        "priceScale": "2",
        "leverageFilter": {
            "minLeverage": "1", "maxLeverage": f"{c.leverage_max:.2f}", "leverageStep": "0.01",
        },
        "priceFilter": {
            "minPrice": f"{c.tick:.2f}", "maxPrice": "1999999.80", "tickSize": f"{c.tick:.2f}",
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
    """The rows of /v5/market/risk-limit: rates as fractions, lowest tier without deduction."""
    return [
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
