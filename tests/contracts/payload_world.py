"""An exchange where everything has happened once, and how each endpoint is asked there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal as D
from typing import Any

from hedgelock.simulator.deeds import Deed
from hedgelock.simulator.incidents import Incident
from hedgelock.simulator.keys import KeyTerms
from hedgelock.simulator.scenarios import SCENARIOS, AccountSetup, RatioTier, Scenario, flat_ratio
from hedgelock.simulator.state import Event
from hedgelock.simulator.streams import private_frame, public_frame
from hedgelock.simulator.venue import Response, Venue

T0 = 1_700_000_000_000
ME = "payloads"
LINEAR = {"category": "linear", "symbol": "BTCUSDT"}
SPOT = {"category": "spot", "symbol": "BTCUSDT"}
INVERSE = {"category": "inverse", "symbol": "BTCUSD"}
CANDLES = {**LINEAR, "interval": "1"}
RATIOS = {
    "BTC": (RatioTier(D(0), D(10), D("0.95")), RatioTier(D(10), None, D("0.9"))),
    "ETH": (RatioTier(D(0), D(100), D("0.9")), RatioTier(D(100), None, D("0.85"))),
    "USDT": flat_ratio("1"),
    "USDC": flat_ratio("0.98"),
}


def scenario() -> Scenario:
    """Four quiet bases, one rich account with a loan, tiered ratios."""
    calm = SCENARIOS["calm"]
    prices = {"BTC": 60_000, "ETH": 3_000, "SOL": 150, "XRP": 0.5}
    owner = AccountSetup(
        key=ME, secret=ME, unified={"USDT": D(50_000), "BTC": D(20), "ETH": D(10)},
        fund={"USDT": D(20_000), "BTC": D(2)}, collateral={"BTC": D(5)}, debt={"USDT": D(100_000)},
    )  # fmt: skip
    return replace(
        calm,
        name="payloads",
        prices={base: ((0, price),) for base, price in prices.items()},
        funding=dict.fromkeys(prices, ((0, 0.0001),)),
        settlements_s=(30,),
        deeds=(Deed(at_s=20, kind="bystander", symbol="BTCUSDT", side="Buy", amount=D(1)),),
        accounts=(owner,),
        loan=replace(calm.loan, collateral_ratio=RATIOS),
        margin=replace(calm.margin, collateral_ratio=RATIOS),
    )


@dataclass
class World:
    """The exchange, its time, and what it has pushed."""

    venue: Venue
    now_ms: int = T0
    events: list[Event] = field(default_factory=list)
    _ids: int = 0

    def new(self, word: str) -> str:
        self._ids += 1
        return f"{word}-{self._ids}"

    def wait(self, ms: int) -> None:
        self.now_ms += ms
        self.venue.advance(self.now_ms)
        self.events += self.venue.drain()

    def ask(self, method: str, path: str, params: dict[str, Any]) -> Response:
        reply = self.venue.request(method, path, params, account=ME, now_ms=self.now_ms)
        self.events += self.venue.drain()
        return reply

    def do(self, path: str, **params: Any) -> dict[str, Any]:
        reply = self.ask("POST", f"/v5/{path}", params)
        assert reply.code == 0, (path, reply)
        return reply.result

    def order(self, qty: str = "0.01", **params: Any) -> dict[str, Any]:
        """A sale that rests, unless a market order is asked for."""
        given = {**LINEAR, "side": "Sell", "qty": qty, "orderType": "Limit", **params}
        if given["orderType"] == "Limit":
            given.setdefault("price", "60900")
        given.setdefault("orderLinkId", self.new("link"))
        return self.do("order/create", **given)

    def frames(self, topic: str) -> list[dict[str, Any]]:
        """Frames pushed on a topic."""
        base = (
            topic if "." in topic and topic != "execution.fast" else topic.split(".", maxsplit=1)[0]
        )
        found = []
        for event in self.events:
            if event.topic == base:
                frame = public_frame(event) if event.kind else private_frame(event, topic, 1)
                if frame is not None:
                    found.append(frame)
        return found


TOPICS = {
    "linear": ("tickers.BTCUSDT", "publicTrade.BTCUSDT", "kline.1.BTCUSDT",
               "orderbook.200.BTCUSDT", "insurance.USDT", "adlAlert.USDT",
               "allLiquidation.BTCUSDT"),
    "spot": ("tickers.BTCUSDT", "publicTrade.BTCUSDT", "priceLimit.BTCUSDT"),
}  # fmt: skip


def build() -> World:
    """Play everything once."""
    world = World(Venue(scenario(), now_ms=T0, limits_factor=1000, tick_ms=1000))
    world.venue.exchange.accounts[ME].terms = KeyTerms(dcp=True)
    for category, topics in TOPICS.items():
        for topic in topics:
            first = world.venue.streams.subscribe(category, topic)
            if first is not None:
                world.events.append(first)
    world.order("0.5", orderType="Market")
    world.order("0.1", orderType="Market", side="Buy", reduceOnly=True)
    world.order("0.01")
    cancelled = world.order("0.01")
    world.do("order/cancel", **LINEAR, orderId=cancelled["orderId"])
    world.order("0.01", **SPOT, orderType="Market")
    world.order("600", **INVERSE, orderType="Market")
    world.order("0.02", **{**LINEAR, "symbol": "ETHUSDT"}, orderType="Market", side="Buy")
    world.do("asset/transfer/inter-transfer", transferId="first", coin="USDT", amount="10",
             fromAccountType="UNIFIED", toAccountType="FUND")  # fmt: skip
    world.do("account/borrow", coin="USDT", amount="1000")
    world.do("crypto-loan-flexible/borrow", loanCurrency="USDT", loanAmount="100")
    world.do("crypto-loan-flexible/repay", loanCurrency="USDT", amount="50")
    world.do("crypto-loan-common/adjust-ltv", currency="BTC", amount="0.1", direction="0")
    world.wait(40_000)
    world.venue._tick_ms = 60_000  # an hour of interest needs no fine ticks
    world.wait(3_600_000)
    return world


Ask = Callable[[World], dict[str, Any]]


def _fixed(**params: Any) -> Ask:
    return lambda _: dict(params)


def _cancel(world: World) -> dict[str, Any]:
    return {**LINEAR, "orderId": world.order()["orderId"]}


def _amend(world: World) -> dict[str, Any]:
    return {**_cancel(world), "price": "60950"}


def _batch(*names: str) -> Ask:
    def ask(world: World) -> dict[str, Any]:
        rows = []
        for _ in range(2):
            row = {"symbol": "BTCUSDT", "orderId": world.order()["orderId"]}
            rows.append(row | dict.fromkeys(names, "60950"))
        return {"category": "linear", "request": rows}

    return ask


def _create_batch(world: World) -> dict[str, Any]:
    row = {
        "symbol": "BTCUSDT", "side": "Sell", "orderType": "Limit", "qty": "0.01", "price": "60900",
    }  # fmt: skip
    rows = [{**row, "orderLinkId": world.new("batch")} for _ in range(2)]
    return {"category": "linear", "request": rows}


def _quick_repayment(world: World) -> dict[str, Any]:
    """All dollars are sent away while a short loses, so that dollars are borrowed by themselves."""
    account = world.venue.exchange.accounts[ME]
    if account.owed:
        world.do("account/repay")
    ledger = world.venue.exchange.ledger
    held = ledger.balance(account.unified, "USDT")
    ledger.move("USDT", held + 500, source=account.unified, target="house")
    return {"coin": "USDT"}


def _no_convert_repay(world: World) -> dict[str, Any]:
    world.do("account/borrow", coin="BTC", amount="0.001")
    return {"coin": "BTC", "amount": "0.001"}


def _status(world: World) -> dict[str, Any]:
    world.venue.exchange.conditions.incidents.append(Incident("t06", world.now_ms, 0))
    return {}


ASKS: dict[tuple[str, str], Ask] = {
    ("GET", "market/kline"): _fixed(**CANDLES),
    ("GET", "market/mark-price-kline"): _fixed(**CANDLES),
    ("GET", "market/index-price-kline"): _fixed(**CANDLES),
    ("GET", "market/premium-index-price-kline"): _fixed(**CANDLES),
    ("GET", "market/instruments-info"): _fixed(**LINEAR),
    ("GET", "market/tickers"): _fixed(**LINEAR),
    ("GET", "market/orderbook"): _fixed(**LINEAR),
    ("GET", "market/recent-trade"): _fixed(**LINEAR),
    ("GET", "market/funding/history"): _fixed(**LINEAR),
    ("GET", "market/risk-limit"): _fixed(**LINEAR),
    ("GET", "market/price-limit"): _fixed(**LINEAR),
    ("GET", "market/open-interest"): _fixed(**LINEAR, intervalTime="5min"),
    ("GET", "market/account-ratio"): _fixed(**LINEAR, period="1h"),
    ("GET", "market/historical-volatility"): _fixed(category="option", period="30"),
    ("GET", "market/insurance"): _fixed(),
    ("GET", "market/delivery-price"): _fixed(category="option"),
    ("GET", "system/status"): _status,
    ("GET", "asset/delivery-record"): _fixed(category="option"),
    ("GET", "asset/withdraw/query-record"): _fixed(),
    ("POST", "position/add-margin"): _fixed(**LINEAR, margin="10"),
    ("POST", "position/set-auto-add-margin"): _fixed(**LINEAR, autoAddMargin=1),
    ("POST", "position/switch-isolated"): _fixed(**LINEAR, tradeMode=1),
    ("POST", "position/set-risk-limit"): _fixed(**LINEAR, riskId=2),
    ("POST", "position/set-tpsl-mode"): _fixed(**LINEAR, tpSlMode="Full"),
    ("GET", "account/wallet-balance"): _fixed(accountType="UNIFIED"),
    ("GET", "account/info"): _fixed(),
    ("GET", "account/instruments-info"): _fixed(**SPOT),
    ("GET", "account/collateral-info"): _fixed(),
    ("GET", "account/fee-rate"): _fixed(**LINEAR),
    ("GET", "account/transaction-log"): _fixed(),
    ("GET", "account/borrow-history"): _fixed(),
    ("GET", "asset/coin/query-info"): _fixed(),
    ("GET", "user/query-api"): _fixed(),
    ("GET", "user/get-member-type"): _fixed(),
    ("GET", "spot-margin-trade/data"): _fixed(currency="BTC"),
    ("GET", "spot-margin-trade/state"): _fixed(),
    ("GET", "spot-margin-trade/currency-data"): _fixed(),
    ("GET", "spot-margin-trade/interest-rate-history"): _fixed(currency="USDC"),
    ("GET", "spot-margin-trade/get-auto-repay-mode"): _fixed(),
    ("GET", "order/realtime"): lambda w: {**LINEAR, "orderId": w.order()["orderId"]},
    ("GET", "order/history"): _fixed(**LINEAR),
    ("GET", "order/spot-borrow-check"): _fixed(**SPOT, side="Buy"),
    ("GET", "execution/list"): _fixed(**LINEAR),
    ("GET", "position/list"): _fixed(**LINEAR),
    ("GET", "position/closed-pnl"): _fixed(**LINEAR),
    ("GET", "asset/transfer/query-inter-transfer-list"): _fixed(),
    ("POST", "account/set-margin-mode"): _fixed(setMarginMode="PORTFOLIO_MARGIN"),
    ("POST", "account/set-collateral-switch"): _fixed(coin="ETH", collateralSwitch="ON"),
    ("POST", "account/set-collateral-switch-batch"): _fixed(
        request=[{"coin": "ETH", "collateralSwitch": "OFF"}]
    ),
    ("POST", "account/set-limit-px-action"): _fixed(category="linear", modifyEnable=False),
    ("POST", "account/quick-repayment"): _quick_repayment,
    ("POST", "account/borrow"): _fixed(coin="BTC", amount="0.001"),
    ("POST", "account/no-convert-repay"): _no_convert_repay,
    ("POST", "spot-margin-trade/switch-mode"): _fixed(spotMarginMode="1"),
    ("POST", "spot-margin-trade/set-leverage"): _fixed(leverage="4"),
    ("POST", "spot-margin-trade/set-auto-repay-mode"): _fixed(currency="ETH", autoRepayMode="1"),
    ("POST", "position/set-leverage"): _fixed(**LINEAR, buyLeverage="7", sellLeverage="7"),
    ("POST", "position/switch-mode"): _fixed(**LINEAR, mode=0),
    ("POST", "position/trading-stop"): _fixed(
        **LINEAR, stopLoss="66000", slTriggerBy="MarkPrice", tpslMode="Full", positionIdx=0
    ),
    ("POST", "order/create"): lambda w: {
        **LINEAR, "side": "Sell", "orderType": "Limit", "qty": "0.01", "price": "60900",
        "orderLinkId": w.new("payload"),
    },
    ("POST", "order/cancel"): _cancel,
    ("POST", "order/amend"): _amend,
    ("POST", "order/cancel-all"): lambda w: LINEAR | {"orderId": w.order()["orderId"]},
    ("POST", "order/create-batch"): _create_batch,
    ("POST", "order/amend-batch"): _batch("price"),
    ("POST", "order/cancel-batch"): _batch(),
    ("POST", "order/pre-check"): lambda w: {
        **LINEAR, "side": "Sell", "orderType": "Limit", "qty": "0.01", "price": "60900",
        "orderLinkId": w.new("check"),
    },
    ("POST", "order/disconnected-cancel-all"): _fixed(product="DERIVATIVES", timeWindow=10),
}  # fmt: skip
"""How each endpoint is asked so that it answers with at least one row."""

SAME_PATH: dict[str, Ask] = {
    "ExchangeData/GetSpotTickers": _fixed(**SPOT),
    "ExchangeData/GetSpotSymbols": _fixed(**SPOT),
    "fetchOHLCV": _fixed(**CANDLES),
    "fetchOrderBook/Spot": _fixed(**SPOT),
    "fetchMyTrades/spot": _fixed(**SPOT),
}
"""Payloads whose endpoint has others that are asked differently."""
