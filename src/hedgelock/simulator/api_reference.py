"""Public market routes beside prices: risk limits, open interest, insurance, ratios, components."""

from __future__ import annotations

from decimal import Decimal

from hedgelock.simulator.api_market import category, contract, perpetual
from hedgelock.simulator.instruments import tier_rows
from hedgelock.simulator.money import text
from hedgelock.simulator.params import Params, forward, limit, need, optional, whole
from hedgelock.simulator.realised import realised
from hedgelock.simulator.routes import Envelope, PublicHandler, PublicRoute
from hedgelock.simulator.state import Exchange, Refused, Row

HOUR_MS = 3_600_000
TIER_PAGE = 15  # symbols per page of risk limits
PERIODS_MS = {
    "5min": 300_000, "15min": 900_000, "30min": 1_800_000, "1h": HOUR_MS, "4h": 4 * HOUR_MS,
    "1d": 24 * HOUR_MS,
}  # fmt: skip
VOLATILITY_DAYS = ("7", "14", "21", "30", "60", "90", "180", "270")
VENUES = (("Binance", "0.5"), ("Bybit", "0.3"), ("OKX", "0.2"))
PRO_RATES = (("0.00028", "0.0001"), ("0.00025", "0.00005"), ("0.00022", "0.000025"))
MAKER_REBATES = ("-0.0000075", "-0.000015", "-0.000025")


def risk_limit(x: Exchange, params: Params) -> Row:
    """GET market/risk-limit: a named symbol, or pages of fifteen symbols."""
    group = category(params)
    if group not in {"linear", "inverse"}:
        raise Refused(10001, "params error: Category is invalid")
    if optional(params, "symbol"):
        found, cursor = [contract(x, params)], ""
    else:
        group_contracts = [c for c in x.contracts.values() if c.category == group]
        found, cursor = forward(group_contracts, params, size=TIER_PAGE)
    rows = [] if x.conditions.tiers_missing else [row for c in found for row in tier_rows(c)]
    return {"category": group, "list": rows, "nextPageCursor": cursor}


def _period(params: Params, name: str) -> int:
    word = need(params, name)
    if word not in PERIODS_MS:
        raise Refused(10001, f"params error: {name} invalid")
    return PERIODS_MS[word]


def _instants(x: Exchange, params: Params, step_ms: int) -> list[int]:
    """Starts of the periods asked for, newest first."""
    count = limit(params, default=50, most=200)
    end = min(whole(params, "endTime", x.now_ms), x.now_ms)
    start = whole(params, "startTime", 0)
    newest = end // step_ms * step_ms
    instants = [newest - number * step_ms for number in range(count)]
    return [at_ms for at_ms in instants if at_ms >= start]


def interest_history(x: Exchange, params: Params) -> Row:
    """GET market/open-interest, newest first."""
    c = perpetual(x, params)
    rows = []
    for at_ms in _instants(x, params, _period(params, "intervalTime")):
        both = x.interest.at(c, at_ms)
        rows.append(
            {
                "openInterest": text(both), "singleOpenInterest": text(both / 2),
                "timestamp": str(at_ms),
            }
        )  # fmt: skip
    return {"symbol": c.symbol, "category": c.category, "list": rows, "nextPageCursor": ""}


def account_ratio(x: Exchange, params: Params) -> Row:
    """GET market/account-ratio: share of accounts that are long, drawn from the instant."""
    c = perpetual(x, params)
    rows = []
    for at_ms in _instants(x, params, _period(params, "period")):
        long = Decimal(4500 + (at_ms // 300_000 * 7919 + c.symbol_id) % 1000).scaleb(-4)
        rows.append(
            {
                "symbol": c.symbol, "buyRatio": text(long), "sellRatio": text(1 - long),
                "timestamp": str(at_ms),
            }
        )  # fmt: skip
    return {"list": rows, "nextPageCursor": ""}


def insurance(x: Exchange, params: Params) -> Row:
    """GET market/insurance: the shared pool of each settle coin, and isolated ones."""
    rows = x.pools.rows(optional(params, "coin"))
    return {"updatedTime": str(x.now_ms // 60_000 * 60_000), "list": rows}


def adl_alert(x: Exchange, params: Params) -> Row:
    """GET market/adlAlert: how far each contract is from auto-deleveraging."""
    wanted = optional(params, "symbol")
    rows = [
        x.pools.alert(c)
        for c in x.contracts.values()
        if not c.is_spot and wanted in {"", c.symbol}
    ]
    return {"updatedTime": str(x.now_ms // 60_000 * 60_000), "list": rows}


def index_components(x: Exchange, params: Params) -> Row:
    """GET market/index-price-components: three venues, all at the index."""
    name = need(params, "indexName")
    c = x.contracts.get(f"linear.{name}") or x.contracts.get(f"inverse.{name}")
    if c is None:
        raise Refused(10001, "params error: indexName invalid")
    price = text(x.market.index[c.base])
    return {
        "indexName": name, "lastPrice": price, "updateTime": str(x.now_ms),
        "components": [
            {
                "exchange": venue, "spotPair": name, "equivalentPrice": price, "multiplier": "1",
                "price": price, "weight": weight,
            }
            for venue, weight in VENUES
        ],
    }  # fmt: skip


def volatility(x: Exchange, params: Params) -> Row:
    """GET market/historical-volatility: of the index, hourly, newest first.

    The exchange has it for its options only; it moves once a day here.
    """
    if category(params) != "option":
        raise Refused(10001, "params error: Category is invalid")
    days, base = optional(params, "period", "7"), optional(params, "baseCoin", "BTC")
    if days not in VOLATILITY_DAYS:
        raise Refused(10001, "params error: period invalid")
    c = next((c for c in x.contracts.values() if c.base == base and not c.is_spot), None)
    if c is None:
        raise Refused(10001, "params error: baseCoin invalid")
    start, end = whole(params, "startTime", 0), whole(params, "endTime", 0)
    if bool(start) is not bool(end) or end - start > 30 * 24 * HOUR_MS:
        raise Refused(10001, "params error: the time range is invalid")
    last = min(end or x.now_ms, x.now_ms) // HOUR_MS
    first = -(-start // HOUR_MS) if start else last
    hours = range(last, first - 1, -1)
    levels = realised(
        x.market.candles[c.key], period=int(days), days={hour // 24 for hour in hours} or {0}
    )
    return {
        "category": "option",
        "list": [
            {
                "period": int(days), "value": text(Decimal(f"{levels[hour // 24]:.8f}")),
                "time": str(hour * HOUR_MS),
            }
            for hour in hours
        ],
    }  # fmt: skip


def fee_groups(x: Exchange, params: Params) -> Row:
    """GET market/fee-group-info: all linear contracts are major ones here."""
    if need(params, "productType") != "contract":
        raise Refused(10001, "params error: productType invalid")
    symbols = [c.symbol for c in x.contracts.values() if c.category == "linear"]
    rows = [
        {
            "groupName": "G1(Major Coins)", "weightingFactor": 1, "symbolsNumbers": len(symbols),
            "symbols": symbols,
            "feeRates": {
                "pro": [_level(f"Pro {n}", *rates) for n, rates in enumerate(PRO_RATES, 1)],
                "marketMaker": [
                    _level(f"MM {n}", rebate=rebate) for n, rebate in enumerate(MAKER_REBATES, 1)
                ],
            },
            "updateTime": str(x.now_ms // HOUR_MS * HOUR_MS),
        }
    ]  # fmt: skip
    return {"list": rows if optional(params, "groupId", "1") == "1" else []}


def _level(name: str, taker: str = "", maker: str = "", *, rebate: str = "") -> Row:
    return {"level": name, "takerFeeRate": taker, "makerFeeRate": maker, "makerRebate": rebate}


def delivery_prices(x: Exchange, params: Params) -> Row:
    """GET market/delivery-price: nothing listed here is ever delivered."""
    return {"category": category(params), "list": [], "nextPageCursor": ""}


def system_status(x: Exchange, params: Params) -> Row:
    """GET system/status: maintenance, newest first."""
    wanted = {name: optional(params, name) for name in ("id", "state")}
    rows = [incident.row() for incident in reversed(x.conditions.incidents)]
    return {"list": [r for r in rows if all(v in {"", r[name]} for name, v in wanted.items())]}


PUBLIC: dict[str, PublicHandler] = {
    "/v5/system/status": system_status,
    "/v5/market/risk-limit": risk_limit,
    "/v5/market/open-interest": interest_history,
    "/v5/market/account-ratio": account_ratio,
    "/v5/market/insurance": insurance,
    "/v5/market/adlAlert": adl_alert,
    "/v5/market/index-price-components": index_components,
    "/v5/market/historical-volatility": volatility,
    "/v5/market/fee-group-info": fee_groups,
    "/v5/market/delivery-price": delivery_prices,
}
ODD: dict[str, PublicRoute] = {
    "/v5/market/historical-volatility": PublicRoute("SUCCESS", Envelope.FLAT),
    "/v5/market/index-price-components": PublicRoute(""),
    "/v5/system/status": PublicRoute(""),
    "/v5/market/delivery-price": PublicRoute("success"),
}
