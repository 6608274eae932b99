"""pybit 5.17, unmodified, doing a whole trading day: every order kind, every common error, its end."""

import queue
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from contextlib import suppress
from pathlib import Path

import pybit._websocket_trading as trading_module
import pybit.unified_trading as unified
import pytest
from pybit.exceptions import InvalidRequestError

pytestmark = pytest.mark.clients
KEYS = {"api_key": "hedgelock-sim", "api_secret": "hedgelock-sim"}
BTC = {"category": "linear", "symbol": "BTCUSDT"}
SPOT = {"category": "spot", "symbol": "BTCUSDT"}
INVERSE = {"category": "inverse", "symbol": "BTCUSD"}
LIMIT = {"orderType": "Limit", "side": "Buy", "qty": "0.01", "price": "59500"}
MARKET = {"orderType": "Market", "side": "Sell", "qty": "0.01"}


@pytest.fixture
def port():
    """The day's simulator in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    day = Path(__file__).with_name("trading_day.py")
    command = [sys.executable, str(day), str(number)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 15
        while True:
            health = f"http://127.0.0.1:{number}/healthz"
            with suppress(OSError), urllib.request.urlopen(health, timeout=1):
                break
            assert time.monotonic() < deadline, "the simulator did not start"
        yield number
        process.terminate()
        assert process.wait(10) == 0


class Day:
    """One trader with REST, a trade socket and everything that the private stream says."""

    def __init__(self, port, monkeypatch):
        base = f"ws://127.0.0.1:{port}/v5"
        monkeypatch.setattr(unified, "PRIVATE_WSS", f"{base}/private")
        monkeypatch.setattr(trading_module, "TRADE_WSS", f"{base}/trade")
        self.port = port
        self.http = unified.HTTP(**KEYS)
        self.http.endpoint = f"http://127.0.0.1:{port}"
        self.said = queue.Queue()
        self.seen = []
        self.private = unified.WebSocket(channel_type="private", testnet=False, **KEYS)
        self.private.order_stream(self.said.put)
        self.private.execution_stream(self.said.put)
        self.private.position_stream(self.said.put)
        self.private.wallet_stream(self.said.put)
        self.trade = unified.WebSocketTrading(testnet=False, **KEYS)
        # subscriptions take effect a little after their acknowledgements: knock until heard
        self.until(lambda: len({m["topic"] for m in self.seen}) >= 3, knock=self.knock)

    def knock(self):
        """Do something that the order, position and wallet topics tell of."""
        self.place(**BTC, **LIMIT)

    def close(self):
        self.private.exit()
        self.trade.exit()
        self.http.client.close()

    def until(self, reached, *, knock=None, within_s=8):
        """Read the private stream until `reached()`."""
        deadline = time.monotonic() + within_s
        while not reached():
            assert time.monotonic() < deadline, [m["topic"] for m in self.seen]
            if knock is not None:
                knock()
            with suppress(queue.Empty):
                self.seen.append(self.said.get(timeout=0.05))

    def rows(self, topic, **wanted):
        """Rows of a topic seen so far that have these values."""
        return [
            row
            for m in self.seen
            if m["topic"] == topic
            for row in m["data"]
            if all(row[k] == v for k, v in wanted.items())
        ]

    def place(self, **order):
        return self.http.place_order(**order)["result"]["orderId"]

    def order(self, order_id, group=BTC):
        """An order as order/realtime tells it."""
        rows = self.http.get_open_orders(category=group["category"], orderId=order_id)
        return rows["result"]["list"][0]

    def placed(self, group=BTC, **order):
        return self.order(self.place(**group, **order), group)

    def by_socket(self, operation, **request):
        """Call a method of the trade socket and wait for its answer, good or bad."""
        answers = queue.Queue()
        getattr(self.trade, operation)(answers.put, answers.put, **request)
        return answers.get(timeout=5)

    def start(self):
        """Let the script run: funding, then the gap."""
        url = f"http://127.0.0.1:{self.port}/sim/start"
        with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=5):
            pass


@pytest.fixture
def day(port, monkeypatch):
    opened = Day(port, monkeypatch)
    yield opened
    opened.close()


def trade_every_kind(day):
    """Market, limit, IOC, FOK, PostOnly, amended, cancelled, reducing, spot and inverse."""
    assert len(day.http.get_instruments_info(category="linear")["result"]["list"]) >= 2
    assert day.http.cancel_all_orders(**BTC)["result"]["success"] == "1"
    bought = day.placed(orderType="Market", side="Buy", qty="0.05")
    assert (bought["orderStatus"], bought["cumExecQty"]) == ("Filled", "0.05")
    rests = day.placed(**LIMIT, orderLinkId="day-1")
    assert (rests["orderStatus"], rests["orderLinkId"]) == ("New", "day-1")
    day.http.amend_order(**BTC, orderLinkId="day-1", price="59400", qty="0.02")
    rests = day.order(rests["orderId"])
    assert (rests["price"], rests["qty"]) == ("59400", "0.02")
    day.http.cancel_order(**BTC, orderLinkId="day-1")
    assert day.order(rests["orderId"])["cancelType"] == "CancelByUser"
    assert day.placed(**LIMIT, timeInForce="IOC")["rejectReason"] == "EC_NoImmediateQtyToFill"
    assert day.placed(**LIMIT, timeInForce="FOK")["rejectReason"] == "EC_CancelForNoFullFill"
    crossing = {**LIMIT, "price": "60100", "timeInForce": "PostOnly"}
    assert day.placed(**crossing)["rejectReason"] == "EC_PostOnlyWillTakeLiquidity"
    assert day.placed(**LIMIT, timeInForce="PostOnly")["orderStatus"] == "New"
    assert day.placed(**{**LIMIT, "price": "66000"}, timeInForce="IOC")["price"] == "60600"
    assert day.placed(INVERSE, **{**MARKET, "qty": "600"})["orderStatus"] == "Filled"
    assert day.placed(SPOT, **MARKET)["orderStatus"] == "Filled"
    out = day.placed(**{**MARKET, "qty": "0"}, reduceOnly=True, closeOnTrigger=True)
    assert out["orderStatus"] == "Filled"
    day.place(**INVERSE, side="Buy", orderType="Market", qty="600", reduceOnly=True)
    closed = day.http.get_closed_pnl(**BTC)["result"]["list"]
    assert (closed[0]["orderId"], closed[0]["side"]) == (out["orderId"], "Sell")
    assert len(day.http.cancel_all_orders(**BTC)["result"]["list"]) == 1


def trade_batches(day):
    """Three batches over REST and over the trade socket, each with one failure at its index."""
    for call in (
        lambda verb, **request: getattr(day.http, verb)(**request),
        day.by_socket,
    ):
        links = [uuid.uuid4().hex for _ in range(2)]
        orders = [{"symbol": "BTCUSDT", **LIMIT, "orderLinkId": link} for link in links]
        made = call("place_batch_order", category="linear", request=[*orders, orders[0]])
        assert [c["code"] for c in made["retExtInfo"]["list"]] == [0, 0, 110072]
        named = [{"symbol": "BTCUSDT", "orderLinkId": link} for link in (*links, "nobody")]
        changes = [{**n, "price": "59300"} for n in named]
        made = call("amend_batch_order", category="linear", request=changes)
        assert [c["code"] for c in made["retExtInfo"]["list"]] == [0, 0, 110001]
        made = call("cancel_batch_order", category="linear", request=named)
        assert [c["code"] for c in made["retExtInfo"]["list"]] == [0, 0, 110001]
    link = uuid.uuid4().hex
    assert day.by_socket("place_order", **BTC, **LIMIT, orderLinkId=link)["retCode"] == 0
    one = {**BTC, "orderLinkId": link}
    assert day.by_socket("amend_order", **one, price="59300")["data"]["orderLinkId"] == link
    assert day.by_socket("cancel_order", **one)["retCode"] == 0
    assert day.by_socket("cancel_order", **one)["retCode"] == 110001


def trade_stops(day):
    """Conditional orders and the position's own stops."""
    day.place(**BTC, **MARKET)
    stop = day.placed(
        orderType="Market", side="Buy", qty="0.01", triggerPrice="61000", triggerDirection=1,
        triggerBy="MarkPrice", reduceOnly=True,
    )  # fmt: skip
    assert (stop["orderStatus"], stop["stopOrderType"]) == ("Untriggered", "Stop")
    day.http.amend_order(**BTC, orderId=stop["orderId"], triggerPrice="61500")
    day.http.cancel_order(**BTC, orderId=stop["orderId"])
    assert day.order(stop["orderId"])["orderStatus"] == "Deactivated"
    day.http.set_trading_stop(**BTC, positionIdx=0, takeProfit="55000", stopLoss="62000")
    (position,) = day.http.get_positions(**BTC)["result"]["list"]
    assert (position["takeProfit"], position["stopLoss"]) == ("55000", "62000")
    day.http.set_trading_stop(**BTC, positionIdx=0, takeProfit="0", stopLoss="0")
    day.place(**BTC, side="Buy", orderType="Market", qty="0.01", reduceOnly=True)
    check = day.http.pre_check_order(**BTC, **MARKET)["result"]
    assert check["postImrE4"] > check["preImrE4"]


def errors(day):
    """(what was asked, its code) for the errors that a trader meets most."""
    http, far = day.http, {"triggerPrice": "59000", "triggerDirection": 1}
    leverage = {**BTC, "buyLeverage": "10", "sellLeverage": "10"}
    day.place(**BTC, **LIMIT, orderLinkId="twice")
    held = {**BTC, "side": "Sell", "orderType": "Market", "qty": "0.01"}
    return [
        (lambda: http.place_order(**BTC, **LIMIT, orderLinkId="twice"), 110072),
        (lambda: http.amend_order(**BTC, orderLinkId="twice", price="59500"), 10001),
        (lambda: http.set_leverage(**leverage), 110043),
        (lambda: http.place_order(**{**held, "qty": "40"}), 110007),
        (lambda: http.cancel_order(**BTC, orderId="nobody"), 110001),
        (lambda: http.amend_order(**BTC, orderId="nobody", qty="1"), 110001),
        (lambda: http.place_order(**BTC, **{**LIMIT, "qty": "0.001", "price": "4000"}), 110094),
        (lambda: http.place_order(**held, reduceOnly=True), 110017),
        (lambda: http.place_order(**{**held, "qty": "0.0001"}), 110017),
        (lambda: http.place_order(**{**held, "qty": "0.0015"}), 10001),
        (lambda: http.place_order(**{**held, "symbol": "NOPE"}), 10001),
        (lambda: http.place_order(**BTC, **{**LIMIT, "price": "59500.05"}), 10001),
        (lambda: http.place_order(**held, positionIdx=1), 10001),
        (lambda: http.place_order(**held, **far), 110092),
        (lambda: http.place_order(**held, **{**far, "triggerPrice": "61000",
                                              "triggerDirection": 2}), 110093),
        (lambda: http.set_trading_stop(**BTC, positionIdx=0, stopLoss="61000"), 10001),
        (lambda: http.switch_position_mode(**BTC, mode=0), 110025),
        (lambda: http.place_order(**SPOT, **MARKET | {"qty": "5"}), 170131),
        (lambda: http.place_order(**SPOT, **MARKET | {"qty": "0.00001"}), 170140),
        (lambda: http.cancel_order(**SPOT, orderId="nobody"), 170213),
        (lambda: http.set_dcp(timeWindow=40, product="DERIVATIVES"), 10005),
    ]  # fmt: skip


def fill_the_book(day):
    """500 active orders, then 110020 for the next; ten stops, then 110009."""
    day.http.cancel_all_orders(**BTC)
    order = {"symbol": "BTCUSDT", **LIMIT, "qty": "0.001", "price": "30000"}
    for _ in range(25):
        made = day.http.place_batch_order(category="linear", request=[order] * 20)
        assert {c["code"] for c in made["retExtInfo"]["list"]} == {0}
    made = day.http.place_batch_order(category="linear", request=[order])
    assert [c["code"] for c in made["retExtInfo"]["list"]] == [110020]
    stop = {**order, "triggerPrice": "31000", "triggerDirection": 2}
    made = day.http.place_batch_order(category="linear", request=[stop] * 11)
    assert [c["code"] for c in made["retExtInfo"]["list"]] == [0] * 10 + [110009]
    assert len(day.http.cancel_all_orders(**BTC)["result"]["list"]) == 510


def be_funded_and_liquidated(day):
    """A short receives funding, its stop fires in the rally, and the rest does not survive it."""
    day.http.place_order(**BTC, side="Sell", orderType="Market", qty="1.2")
    stop = day.place(
        **BTC, side="Buy", orderType="Market", qty="0.2", triggerPrice="61000",
        triggerDirection=1, triggerBy="MarkPrice", reduceOnly=True,
    )  # fmt: skip
    day.place(**BTC, **{**LIMIT, "price": "50000"}, orderLinkId="resting")
    day.start()
    day.until(lambda: day.rows("execution", execType="Funding"))
    (funding,) = day.rows("execution", execType="Funding")
    assert float(funding["execFee"]) < 0, "a short receives when the rate is positive"
    day.until(lambda: day.rows("order", orderId=stop, orderStatus="Filled"))
    told = [r["orderStatus"] for r in day.rows("order", orderId=stop)]
    assert told == ["Untriggered", "Triggered", "Filled"]
    day.until(lambda: day.rows("execution", execType="BustTrade"))
    hands = {r["createType"] for r in day.rows("execution", execType="BustTrade")}
    assert hands <= {"CreateByLiq", "CreateByTakeOver_PassThrough"}
    day.until(lambda: day.rows("position", positionStatus="Liq"))
    day.until(lambda: day.rows("order", orderLinkId="resting", cancelType="CancelAllBeforeLiq"))
    day.until(lambda: day.rows("position", size="0"))
    log = day.http.get_transaction_log(accountType="UNIFIED", limit=50)["result"]["list"]
    kinds = {r["type"] for r in log}
    assert {"SETTLEMENT", "LIQUIDATION"} <= kinds
    (row, *_) = [r for r in log if r["type"] == "SETTLEMENT"]
    assert float(row["funding"]) == -float(funding["execFee"])


def test_a_whole_trading_day(day):
    """pybit trades every order kind, meets every common error, is funded and is liquidated."""
    trade_every_kind(day)
    trade_batches(day)
    trade_stops(day)
    for ask, code in errors(day):
        with pytest.raises(InvalidRequestError) as refused:
            ask()
        assert refused.value.status_code == code
    fill_the_book(day)
    be_funded_and_liquidated(day)
    day.until(lambda: day.rows("order", orderStatus="Untriggered"))
    told = {r["orderStatus"] for r in day.rows("order")}
    assert {"New", "Filled", "Cancelled", "Untriggered", "Deactivated"} <= told
    assert day.private.is_connected() and day.trade.is_connected()
