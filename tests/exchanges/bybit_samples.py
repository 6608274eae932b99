"""Well-formed Bybit rows that tests spoil field by field."""

from __future__ import annotations

from typing import Any

from hedgelock.exchanges import bybit_parse as parse
from hedgelock.exchanges.fields import Row

SEEN = parse.Seen("main", 1_700_000_000_000, 1_700_000_000_005)
POSITION: dict[str, Any] = {
    "positionIdx": 0, "symbol": "BTCUSDT", "side": "Sell", "size": "0.5", "avgPrice": "60000",
    "positionStatus": "Normal", "adlRankIndicator": 2, "leverage": "10", "liqPrice": "",
    "unrealisedPnl": "-0.25", "seq": 7,
}
EXECUTION: dict[str, Any] = {
    "symbol": "BTCUSDT", "orderId": "v", "orderLinkId": "hl1", "side": "Sell", "execFee": "16.5",
    "execId": "e", "execPrice": "60000", "execQty": "0.5", "execType": "Trade",
    "execTime": "1746270400353", "feeCurrency": "", "isMaker": False, "closedSize": "0", "seq": 9,
}
ORDER: dict[str, Any] = {
    "orderId": "v", "orderLinkId": "hl1", "symbol": "BTCUSDT", "qty": "0.010", "side": "Sell",
    "orderStatus": "New", "price": "", "cancelType": "UNKNOWN", "rejectReason": "EC_NoError", "leavesQty": "0",
    "cumExecQty": "0.000", "orderType": "Limit", "reduceOnly": False,
    "createdTime": "1684738540559", "updatedTime": "1684738540561",
}
COIN: dict[str, Any] = {
    "coin": "BTC", "walletBalance": "1.5", "spotBorrow": "0.5", "borrowAmount": "0.5",
    "accruedInterest": "0", "unrealisedPnl": "0", "locked": "0", "marginCollateral": True,
    "collateralSwitch": True, "equity": "1.0",
}
TIER: dict[str, Any] = {
    "symbol": "BTCUSDT", "riskLimitValue": "2000000", "maintenanceMargin": "0.005",
    "initialMargin": "0.01", "maxLeverage": "100.00", "mmDeduction": "",
}
TIER_2: dict[str, Any] = {
    **TIER, "riskLimitValue": "2600000", "maintenanceMargin": "0.0056", "initialMargin": "0.0111",
    "maxLeverage": "90.00", "mmDeduction": "1200",
}

SNAPSHOT: dict[str, Any] = {
    "symbol": "BTCUSDT", "lastPrice": "1", "indexPrice": "60001", "markPrice": "60000.5",
    "bid1Price": "59999.9", "ask1Price": "60000.1", "fundingRate": "0.0001",
    "nextFundingTime": "1760371200000", "fundingIntervalHour": "8", "fundingCap": "0.005",
}


def frame(kind: str, data: dict[str, Any], ts: int = 1_760_325_052_730) -> Row:
    """A ticker push."""
    return Row({"topic": "tickers.BTCUSDT", "type": kind, "ts": ts,
                "data": {"symbol": "BTCUSDT", **data}})
