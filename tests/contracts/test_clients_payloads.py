"""The simulator's answers against recorded and documented payloads: same fields, same types."""

import json
from collections.abc import Iterator

import pytest

from hedgelock.simulator.scenarios import SCENARIOS
from hedgelock.simulator.streams import private_frame, public_frame
from hedgelock.simulator.venue import Venue

pytestmark = pytest.mark.clients
T0 = 1_700_000_000_000
ME = "hedgelock-sim"
LINEAR = {"category": "linear", "symbol": "BTCUSDT"}
SPOT = {"category": "spot", "symbol": "BTCUSDT"}
# what a newer exchange no longer sends, or sends under another name (fact sheet §4.3, §5)
GONE = {"mmrSysUpdateTime", "placeType", "ocoTriggerType", "availableToBorrow", "free"}


@pytest.fixture(scope="module")
def venue() -> Venue:
    """An exchange where everything has happened once."""
    venue = Venue(SCENARIOS["demo"], now_ms=T0)
    for topic in ("tickers.BTCUSDT", "publicTrade.BTCUSDT"):
        venue.streams.subscribe("linear", topic)
    sell = {**LINEAR, "side": "Sell", "orderType": "Market", "qty": "0.1"}
    resting = {**sell, "orderType": "Limit", "price": "60900", "orderLinkId": "rests"}
    transfer = {
        "transferId": "t", "coin": "USDT", "amount": "10", "fromAccountType": "UNIFIED",
        "toAccountType": "FUND",
    }  # fmt: skip
    for path, params in (
        ("order/create", sell),
        ("order/create", resting),
        ("asset/transfer/inter-transfer", transfer),
    ):
        reply = venue.request("POST", f"/v5/{path}", params, account=ME, now_ms=T0 + 1000)
        assert reply.code == 0, reply
    venue.advance(T0 + 46_000)
    return venue


def differences(theirs, ours, path="") -> Iterator[str]:
    """Fields that are missing or of another JSON type; more fields are fine."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key, value in theirs.items():
            if key in ours:
                yield from differences(value, ours[key], f"{path}.{key}")
            elif key not in GONE:
                yield f"{path}.{key} is missing"
    elif isinstance(theirs, list) and isinstance(ours, list):
        if theirs and ours:
            yield from differences(theirs[0], ours[0], f"{path}[]")
    elif type(theirs) is not type(ours) and theirs is not None:
        yield f"{path} is {ours!r}, theirs {theirs!r}"


ENDPOINTS = {
    "Trading/GetOrders": ("order/realtime", LINEAR),
    "Trading/GetOrderHistory": ("order/history", LINEAR),
    "Trading/GetUserTrades": ("execution/list", LINEAR),
    "Trading/GetPositions": ("position/list", LINEAR),
    "ExchangeData/GetLinearInverseTickers": ("market/tickers", LINEAR),
    "ExchangeData/GetSpotTickers": ("market/tickers", SPOT),
    "ExchangeData/GetLinearInverseSymbols": ("market/instruments-info", LINEAR),
    "ExchangeData/GetSpotSymbols": ("market/instruments-info", SPOT),
    "ExchangeData/GetRiskLimit": ("market/risk-limit", LINEAR),
    "ExchangeData/GetOrderbook": ("market/orderbook", LINEAR),
    "ExchangeData/GetTradeHistory": ("market/recent-trade", LINEAR),
    "ExchangeData/GetFundingRateHistory": ("market/funding/history", LINEAR),
    "ExchangeData/GetKlines": ("market/kline", {**LINEAR, "interval": "1"}),
    "ExchangeData/GetMarkPriceKlines": ("market/mark-price-kline", {**LINEAR, "interval": "1"}),
    "ExchangeData/GetIndexPriceKlines": ("market/index-price-kline", {**LINEAR, "interval": "1"}),
    "Account/GetBalances": ("account/wallet-balance", {"accountType": "UNIFIED"}),
    "Account/GetCollateralInfo": ("account/collateral-info", {}),
    "Account/GetMarginAccountInfo": ("account/info", {}),
    "Account/GetFeeRate": ("account/fee-rate", LINEAR),
    "Account/GetTransactionHistory": ("account/transaction-log", {}),
    "Account/GetAssetInfo": ("asset/coin/query-info", {}),
    "Account/GetApiKeyInfo": ("user/query-api", {}),
}


@pytest.mark.parametrize("name", ENDPOINTS)
def test_answers_have_the_documented_shape(venue, shared, name):
    file = shared / f"data/payloads/bybit_net/Endpoints/V5Api/{name}.json"
    theirs = json.loads(file.read_text())["response"]
    if isinstance(theirs, list):
        theirs = theirs[0]
    path, params = ENDPOINTS[name]
    reply = venue.request("GET", f"/v5/{path}", params, account=ME, now_ms=T0 + 46_000)
    assert reply.code == 0, reply
    assert list(differences(theirs.get("result", theirs), reply.result)) == []


STREAMS = {
    "Private/Order": "order",
    "Private/UserTrades": "execution",
    "Private/Position": "position",
    "Private/Balance": "wallet",
    "Private/MinimalUserTrades": "execution.fast",
    "Linear/Ticker": "tickers.BTCUSDT",
    "Linear/Trades": "publicTrade.BTCUSDT",
}


def frames(file) -> Iterator[dict]:
    """The data frames of a recorded subscription."""
    for step in json.loads(file.read_text())["steps"]:
        body = step if isinstance(step, dict) else {}
        for value in (body, *body.values()):
            if isinstance(value, dict) and "topic" in value and "data" in value:
                yield value


@pytest.fixture(scope="module")
def pushed(venue) -> list:
    snapshot = venue.streams.subscribe("linear", "tickers.BTCUSDT")
    return [snapshot, *venue.drain()]


@pytest.mark.parametrize("name", STREAMS)
def test_pushes_have_the_documented_shape(pushed, shared, name):
    topic = STREAMS[name]
    file = shared / f"data/payloads/bybit_net/Subscriptions/V5/{name}.json"
    theirs = list(frames(file))
    assert theirs, "nothing recorded"
    base = topic.split(".")[0]
    events = [e for e in pushed if e.topic == (topic if "BTC" in topic else base)]
    assert events
    ours = [
        public_frame(e) if e.kind else private_frame(e, topic, 1) or {"data": []} for e in events
    ]
    assert list(differences(theirs[0], ours[0])) == []
