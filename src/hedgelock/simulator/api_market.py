"""Public market routes."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from hedgelock.simulator.candles import INTERVALS_MS
from hedgelock.simulator.instruments import Contract, instrument_row, tier_rows
from hedgelock.simulator.matching import BUY, SELL
from hedgelock.simulator.money import text
from hedgelock.simulator.params import Params, limit, need, optional, whole
from hedgelock.simulator.routes import PublicHandler, PublicRoute
from hedgelock.simulator.scenarios import RatioTier
from hedgelock.simulator.state import Exchange, Refused, Row

CATEGORIES = frozenset({"linear", "inverse", "spot", "option"})
TIER_PAGE = 15


def category(params: Params) -> str:
    """The required category."""
    name = need(params, "category")
    if name not in CATEGORIES:
        raise Refused(10001, "params error: Category is invalid")
    return name


def contract(x: Exchange, params: Params) -> Contract:
    """The contract that `category` and `symbol` name."""
    group, symbol = category(params), need(params, "symbol")
    found = x.contracts.get(f"{group}.{symbol}")
    if found is None:
        if group == "spot":
            raise Refused(170121, "Invalid symbol.")
        raise Refused(10001, "params error: symbol invalid")
    return found


def listed(x: Exchange, params: Params) -> list[Contract]:
    """The contracts of a category, or the one that is named."""
    if optional(params, "symbol"):
        return [contract(x, params)]
    group, base = category(params), optional(params, "baseCoin")
    return [c for c in x.contracts.values() if c.category == group and (not base or c.base == base)]


def server_time(x: Exchange, params: Params) -> Row:
    """GET market/time."""
    return {"timeSecond": str(x.now_ms // 1000), "timeNano": str(x.now_ms * 1_000_000)}


def instruments(x: Exchange, params: Params) -> Row:
    """GET market/instruments-info."""
    hours = x.scenario.funding_interval_h
    rows = []
    if optional(params, "status") in {"", "Trading"}:
        rows = [instrument_row(c, interval_h=hours) for c in listed(x, params)]
    return {"category": category(params), "list": rows, "nextPageCursor": ""}


def ticker_row(x: Exchange, c: Contract) -> Row:
    """A row of market/tickers."""
    quote, book = x.market.quotes[c.key], x.books[c.key]
    (bid, bid_lots), (ask, ask_lots) = book.levels(BUY, 1)[0], book.levels(SELL, 1)[0]
    change = (quote.last / quote.open_24h - 1).quantize(Decimal("0.000001"))
    row: Row = {
        "symbol": c.symbol, "lastPrice": text(quote.last), "indexPrice": text(quote.index),
        "markPrice": text(quote.mark), "prevPrice24h": text(quote.open_24h),
        "price24hPcnt": text(change), "highPrice24h": text(quote.high_24h),
        "lowPrice24h": text(quote.low_24h), "prevPrice1h": text(quote.open_24h),
        "turnover24h": text(quote.turnover.quantize(Decimal("0.0001"))),
        "volume24h": text(quote.volume), "bid1Price": text(c.price(bid)),
        "bid1Size": text(c.qty(bid_lots)), "ask1Price": text(c.price(ask)),
        "ask1Size": text(c.qty(ask_lots)),
    }  # fmt: skip
    if c.is_spot:
        row["usdIndexPrice"] = row.pop("indexPrice")
        del row["markPrice"], row["prevPrice1h"]
        return row
    return row | {
        "openInterest": "49237.372", "openInterestValue": "3282488184.17",
        "singleOpenInterest": "24618.686", "singleOpenInterestValue": "1641244092.08",
        "fundingRate": text(x.market.rates[c.base]),
        "nextFundingTime": str(x.market.next_settlement_ms(x.now_ms)),
        "fundingIntervalHour": str(x.scenario.funding_interval_h), "fundingCap": "0.005",
        "predictedDeliveryPrice": "", "basisRate": "", "basis": "", "basisRateYear": "",
        "deliveryFeeRate": "", "deliveryTime": "0", "preOpenPrice": "", "preQty": "",
        "curPreListingPhase": "",
    }  # fmt: skip


def tickers(x: Exchange, params: Params) -> Row:
    """GET market/tickers."""
    return {"category": category(params), "list": [ticker_row(x, c) for c in listed(x, params)]}


def funding_history(x: Exchange, params: Params) -> Row:
    """GET market/funding/history: settled rates, newest first."""
    c = contract(x, params)
    start, end = whole(params, "startTime", 0), whole(params, "endTime", 2**62)
    if start and end == 2**62:
        raise Refused(10001, "params error: endTime is required with startTime")
    rows = [
        {
            "symbol": c.symbol, "fundingRate": text(rates[c.base]),
            "fundingRateTimestamp": str(at_ms),
        }
        for at_ms, rates in reversed(x.market.settled)
        if start <= at_ms <= end
    ]  # fmt: skip
    return {"category": c.category, "list": rows[: limit(params, default=200, most=200)]}


def _klines(x: Exchange, params: Params, series: str) -> Row:
    c = contract(x, {"category": "linear", **params})
    interval = need(params, "interval")
    if interval not in INTERVALS_MS:
        raise Refused(10001, "params error: interval invalid")
    count, step = limit(params, default=200, most=1000), INTERVALS_MS[interval]
    end = min(whole(params, "end", x.now_ms), x.now_ms)
    start = max(whole(params, "start", 0), end - count * step + 1)
    candles = x.market.candles[c.key].window(interval, start_ms=start, end_ms=end, series=series)
    rows = []
    for k in reversed(candles[-count:]):
        row = [str(k.start_ms), *(text(p) for p in (k.open, k.high, k.low, k.close))]
        if series == "last":
            row += [text(k.volume), text(k.turnover)]
        rows.append(row)
    return {"symbol": c.symbol, "category": c.category, "list": rows}


def kline(x: Exchange, params: Params) -> Row:
    """GET market/kline, newest first."""
    return _klines(x, params, "last")


def mark_kline(x: Exchange, params: Params) -> Row:
    """GET market/mark-price-kline."""
    return _klines(x, params, "mark")


def index_kline(x: Exchange, params: Params) -> Row:
    """GET market/index-price-kline."""
    return _klines(x, params, "index")


def book_side(x: Exchange, c: Contract, side: str, depth: int) -> list[list[str]]:
    """Levels of one side as [price, size] text, best first."""
    levels = x.books[c.key].levels(side, depth)
    return [[text(c.price(ticks)), text(c.qty(lots))] for ticks, lots in levels]


def orderbook(x: Exchange, params: Params) -> Row:
    """GET market/orderbook."""
    c = contract(x, params)
    depth = limit(params, default=1 if c.is_spot else 25, most=1000)
    return {
        "s": c.symbol, "b": book_side(x, c, BUY, depth), "a": book_side(x, c, SELL, depth),
        "ts": x.now_ms, "u": x.sequence, "seq": x.sequence, "cts": x.now_ms,
    }  # fmt: skip


def recent_trades(x: Exchange, params: Params) -> Row:
    """GET market/recent-trade."""
    c = contract(x, params)
    count = limit(params, default=60 if c.is_spot else 500, most=60 if c.is_spot else 1000)
    return {"category": c.category, "list": list(x.trades[c.key])[:count]}


def risk_limit(x: Exchange, params: Params) -> Row:
    """GET market/risk-limit."""
    rows = [row for c in listed(x, params) for row in tier_rows(c)]
    return {"category": category(params), "list": rows, "nextPageCursor": ""}


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


def loan_ratios(x: Exchange, params: Params) -> Row:
    """GET crypto-loan-common/collateral-data."""
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
    """GET crypto-loan-common/loanable-data."""
    terms = x.scenario.loan
    return {
        "list": [
            {
                "currency": "USDT", "fixedBorrowable": False, "flexibleBorrowable": True,
                "fixedBorrowingAccuracy": 8, "flexibleBorrowingAccuracy": 8,
                "maxBorrowingAmount": "8000000", "minFixedBorrowingAmount": "",
                "minFlexibleBorrowingAmount": text(terms.amount_min), "vipLevel": "VIP0",
                "flexibleAnnualizedInterestRate": text(terms.hourly_rate * 8760),
                "annualizedInterestRate7D": "", "annualizedInterestRate14D": "",
                "annualizedInterestRate30D": "", "annualizedInterestRate60D": "",
                "annualizedInterestRate90D": "", "annualizedInterestRate180D": "",
            }
        ]
    }  # fmt: skip


PUBLIC: dict[str, PublicHandler] = {
    "/v5/market/time": server_time,
    "/v5/market/instruments-info": instruments,
    "/v5/market/tickers": tickers,
    "/v5/market/funding/history": funding_history,
    "/v5/market/kline": kline,
    "/v5/market/mark-price-kline": mark_kline,
    "/v5/market/index-price-kline": index_kline,
    "/v5/market/orderbook": orderbook,
    "/v5/market/recent-trade": recent_trades,
    "/v5/market/risk-limit": risk_limit,
    "/v5/spot-margin-trade/collateral": margin_ratios,
    "/v5/crypto-loan-common/collateral-data": loan_ratios,
    "/v5/crypto-loan-common/loanable-data": loanable,
}
ODD: dict[str, PublicRoute] = {}
