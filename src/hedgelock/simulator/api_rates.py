"""Public routes of lending: collateral ratios, borrow rates and limits of both loan products."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from hedgelock.simulator import borrowing, loans
from hedgelock.simulator.money import ONE, text
from hedgelock.simulator.params import Params, optional
from hedgelock.simulator.routes import Envelope, PublicHandler, PublicRoute
from hedgelock.simulator.scenarios import RatioTier
from hedgelock.simulator.state import Exchange, Row

RATE_DIGITS = Decimal("0.00000001")


def _ratio_rows(tiers: Sequence[RatioTier], low: str, high: str) -> list[Row]:
    return [
        {
            low: text(t.qty_min), high: "" if t.qty_max is None else text(t.qty_max),
            "collateralRatio": text(t.ratio),
        }
        for t in tiers
    ]  # fmt: skip


def margin_ratios(x: Exchange, params: Params) -> Row:
    """GET spot-margin-trade/collateral: tiered ratios of the unified pocket, bounds in coins."""
    wanted = optional(params, "currency")
    ratios = x.scenario.margin.collateral_ratio
    return {
        "list": [
            {"currency": coin, "collateralRatioList": _ratio_rows(tiers, "minQty", "maxQty")}
            for coin, tiers in ratios.items()
            if wanted in {"", coin}
        ]
    }


def margin_coins(x: Exchange, params: Params) -> Row:
    """GET spot-margin-trade/data: rates and limits of the one VIP level there is."""
    wanted, terms = optional(params, "currency"), x.scenario.margin
    rows = []
    for number, coin in enumerate(borrowing.liquidation_order(x), start=1):
        tiers = terms.collateral_ratio.get(coin)
        if wanted not in {"", coin}:
            continue
        rows.append(
            {
                "currency": coin, "borrowable": True,
                "hourlyBorrowRate": text(terms.borrow_hourly_rate),
                "maxBorrowingAmount": text(terms.borrow_max), "liquidationOrder": str(number),
                "marginCollateral": tiers is not None,
                "collateralRatio": text(tiers[0].ratio) if tiers else "0",
            }
        )  # fmt: skip
    level = optional(params, "vipLevel", "No VIP").replace("%20", " ")
    return {"vipCoinList": [{"vipLevel": level, "list": rows}] if level == "No VIP" else []}


def borrow_tiers(x: Exchange, params: Params) -> Row:
    """GET spot-margin-trade/position-tiers: margin rates of what is borrowed."""
    wanted, terms = optional(params, "currency"), x.scenario.margin
    tier = {
        "tier": "1", "borrowLimit": text(terms.borrow_max),
        "positionMMR": text(terms.borrow_mm_rate), "positionIMR": text(terms.borrow_im_rate),
        "maxLeverage": text((ONE / terms.borrow_im_rate).quantize(RATE_DIGITS)),
    }  # fmt: skip
    return {
        "list": [
            {"currency": coin, "positionTiersRatioList": [tier]}
            for coin in x.coins
            if wanted in {"", coin}
        ]
    }


def borrow_coins(x: Exchange, params: Params) -> Row:
    """GET spot-margin-trade/currency-data: what can be borrowed by hand, floating rates only."""
    wanted = optional(params, "currency")
    step = borrowing.COIN_STEP
    return {
        "list": [
            {
                "currency": coin, "flexibleManualBorrowable": True,
                "minFlexibleManualBorrowQty": text(step),
                "flexibleManualBorrowAccuracy": str(-int(step.as_tuple().exponent)),
                "fixedManualBorrowable": False, "minFixedManualBorrowQty": "",
                "fixedManualBorrowAccuracy": "", "fixedInterestRateAccuracy": "",
                "minFixedInterestRate": "", "maxFixedInterestRate": "",
            }
            for coin in x.coins
            if wanted in {"", coin}
        ]
    }  # fmt: skip


def loan_ratios(x: Exchange, params: Params) -> Row:
    """GET crypto-loan-common/collateral-data: tiered ratios of the loan, bounds in coins."""
    wanted = optional(params, "currency")
    ratios = x.scenario.loan.collateral_ratio
    coins = [coin for coin in ratios if wanted in {"", coin}]
    return {
        "collateralRatioConfigList": [
            {
                "collateralRatioList": _ratio_rows(ratios[coin], "minValue", "maxValue"),
                "currencies": coin,
            }
            for coin in coins
        ],
        "currencyLiquidationList": [
            {"currency": coin, "liquidationOrder": number} for number, coin in enumerate(coins, 1)
        ],
    }


def loanable(x: Exchange, params: Params) -> Row:
    """GET crypto-loan-common/loanable-data: what the crypto loan lends."""
    wanted, terms = optional(params, "currency"), x.scenario.loan
    flexible = text(terms.hourly_rate * 24 * 365)
    fixed = {
        f"annualizedInterestRate{days}D": text(loans.FIXED_RATES[days])
        if days in loans.FIXED_RATES
        else ""
        for days in (7, 14, 30, 60, 90, 180)
    }
    return {
        "list": [
            {
                "currency": coin, "fixedBorrowable": True, "flexibleBorrowable": True,
                "fixedBorrowingAccuracy": 8, "flexibleBorrowingAccuracy": 8,
                "maxBorrowingAmount": text(loans.LOAN_MAX),
                "minFixedBorrowingAmount": text(terms.amount_min),
                "minFlexibleBorrowingAmount": text(terms.amount_min),
                "vipLevel": optional(params, "vipLevel", "VIP0"),
                "flexibleAnnualizedInterestRate": flexible, **fixed,
            }
            for coin in loans.LENDABLE
            if wanted in {"", coin}
        ]
    }  # fmt: skip


MARGIN = "/v5/spot-margin-trade"
PUBLIC: dict[str, PublicHandler] = {
    f"{MARGIN}/collateral": margin_ratios,
    f"{MARGIN}/data": margin_coins,
    f"{MARGIN}/position-tiers": borrow_tiers,
    f"{MARGIN}/currency-data": borrow_coins,
    "/v5/crypto-loan-common/collateral-data": loan_ratios,
    "/v5/crypto-loan-common/loanable-data": loanable,
}
ODD: dict[str, PublicRoute] = {
    f"{MARGIN}/data": PublicRoute("success", Envelope.BARE),
    f"{MARGIN}/collateral": PublicRoute(envelope=Envelope.EXT_TEXT),
    f"{MARGIN}/position-tiers": PublicRoute(envelope=Envelope.EXT_TEXT),
    f"{MARGIN}/currency-data": PublicRoute(envelope=Envelope.EXT_TEXT),
    "/v5/crypto-loan-common/collateral-data": PublicRoute("ok"),
    "/v5/crypto-loan-common/loanable-data": PublicRoute("ok"),
}
