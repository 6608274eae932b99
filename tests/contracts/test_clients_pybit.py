"""pybit 5.17, unmodified, against the simulator: REST, public, private and trade sockets."""

import copy
import queue
import sys
import time
import uuid

import pybit._websocket_trading as trading_module
import pybit.unified_trading as unified
import pytest
from pybit.exceptions import InvalidRequestError
from served import served

pytestmark = pytest.mark.clients
KEYS = {"api_key": "hedgelock-sim", "api_secret": "hedgelock-sim"}
BTC = {"category": "linear", "symbol": "BTCUSDT"}
LAUNCH = "from hedgelock.simulator.server import run; run('calm', port={port}, limits_factor=20)"


@pytest.fixture(scope="module")
def port():
    """A simulator in a process of its own."""
    with served(lambda number: [sys.executable, "-c", LAUNCH.format(port=number)]) as number:
        yield number


@pytest.fixture
def http(port):
    session = unified.HTTP(**KEYS)
    session.endpoint = f"http://127.0.0.1:{port}"
    yield session
    session.client.close()


@pytest.fixture
def sockets(port, monkeypatch):
    """Open pybit's sockets at the simulator; each is closed at the end."""
    base = f"ws://127.0.0.1:{port}/v5"
    monkeypatch.setattr(unified, "PUBLIC_WSS", base + "/public/{CHANNEL_TYPE}")
    monkeypatch.setattr(unified, "PRIVATE_WSS", f"{base}/private")
    monkeypatch.setattr(trading_module, "TRADE_WSS", f"{base}/trade")
    opened = []

    def connect(kind="", **options):
        made = (
            unified.WebSocketTrading(testnet=False, **KEYS)
            if kind == "trade"
            else unified.WebSocket(channel_type=kind, testnet=False, **options)
        )
        opened.append(made)
        return made

    yield connect
    for made in opened:
        made.exit()


def rows(reply):
    return reply["result"]["list"]


def test_public_market_data(http):
    assert int(http.get_server_time()["result"]["timeSecond"]) > 0
    (instrument,) = rows(http.get_instruments_info(**BTC))
    assert instrument["lotSizeFilter"]["qtyStep"] == "0.001"
    assert rows(http.get_instruments_info(category="linear", status="PreLaunch")) == []
    assert {r["symbol"] for r in rows(http.get_tickers(category="linear"))} >= {"BTCUSDT"}
    assert rows(http.get_tickers(category="spot", symbol="BTCUSDT"))[0]["usdIndexPrice"]
    assert rows(http.get_tickers(category="inverse", symbol="BTCUSD"))[0]["markPrice"]
    assert len(rows(http.get_funding_rate_history(**BTC, limit=3))) == 3
    assert len(rows(http.get_kline(**BTC, interval="60", limit=5))[0]) == 7
    assert len(rows(http.get_mark_price_kline(**BTC, interval="1", limit=5))[0]) == 5
    assert len(rows(http.get_index_price_kline(**BTC, interval="D", limit=5))) == 5
    assert len(http.get_orderbook(**BTC, limit=50)["result"]["b"]) == 50
    assert rows(http.get_public_trade_history(**BTC, limit=5))
    tiers = rows(http.get_risk_limit(**BTC))
    assert (tiers[0]["mmDeduction"], tiers[1]["mmDeduction"]) == ("", "1200")
    assert rows(http.get_tiered_collateral_ratio(currency="BTC"))


def test_account(http):
    (wallet,) = rows(http.get_wallet_balance(accountType="UNIFIED"))
    assert float(wallet["totalEquity"]) > 0
    assert http.get_account_info()["result"]["unifiedMarginStatus"] == 6
    assert {r["currency"] for r in rows(http.get_collateral_info())} >= {"BTC", "USDT"}
    assert rows(http.get_fee_rates(**BTC))[0]["takerFeeRate"] == "0.00055"
    assert "list" in http.get_transaction_log(accountType="UNIFIED")["result"]
    free = http.get_transferable_amount(coinName="BTC,USDT")["result"]["availableWithdrawalMap"]
    assert set(free) == {"BTC", "USDT"}
    assert http.get_api_key_information()["result"]["uta"] == 1
    assert http.get_coin_info()["result"]["rows"]


def test_orders(http):
    link = uuid.uuid4().hex
    placed = http.place_order(
        **BTC, side="Sell", orderType="Limit", qty="0.01", price="61000.0", orderLinkId=link
    )["result"]
    assert rows(http.get_open_orders(**BTC, orderLinkId=link))[0]["orderStatus"] == "New"
    with pytest.raises(InvalidRequestError) as error:
        http.place_order(**BTC, side="Sell", orderType="Market", qty="0.01", orderLinkId=link)
    assert error.value.status_code == 110072
    assert http.cancel_order(**BTC, orderId=placed["orderId"])["result"]["orderLinkId"] == link
    http.place_order(**BTC, side="Buy", orderType="Limit", qty="0.01", price="59000")
    assert len(rows(http.cancel_all_orders(category="linear", settleCoin="USDT"))) == 1
    sold = http.place_order(**BTC, side="Sell", orderType="Market", qty="0.02")["result"]
    (row,) = rows(http.get_order_history(**BTC, orderId=sold["orderId"]))
    assert row["orderStatus"] == "Filled"
    assert rows(http.get_executions(**BTC, orderId=sold["orderId"]))[0]["execType"] == "Trade"
    (position,) = rows(http.get_positions(**BTC))
    assert position["side"] == "Sell"
    assert len(rows(http.get_positions(category="linear", settleCoin="USDT"))) == 1
    leverage = {**BTC, "buyLeverage": "7", "sellLeverage": "7"}
    http.set_leverage(**leverage)
    with pytest.raises(InvalidRequestError) as error:
        http.set_leverage(**leverage)
    assert error.value.status_code == 110043
    http.place_order(**BTC, side="Buy", orderType="Market", qty="0.02", reduceOnly=True)
    http.place_order(category="spot", symbol="BTCUSDT", side="Sell", orderType="Market", qty="0.01")


def test_transfers_and_the_loan(http):
    transfer_id = str(uuid.uuid4())
    http.create_internal_transfer(
        transferId=transfer_id, coin="USDT", amount="500",
        fromAccountType="UNIFIED", toAccountType="FUND",
    )  # fmt: skip
    assert rows(http.get_internal_transfer_records(transferId=transfer_id))[0]["status"] == (
        "SUCCESS"
    )
    balances = http.get_coins_balance(accountType="FUND")["result"]["balance"]
    assert [b["coin"] for b in balances] == ["USDT"]
    one = http.get_coin_balance(accountType="UNIFIED", coin="USDT")["result"]["balance"]
    assert float(one["walletBalance"]) > 0
    before = http.get_position_new_crypto_loan()["result"]
    http.repay_flexible_crypto_loan(loanCurrency="USDT", loanAmount="400")
    http.borrow_flexible_crypto_loan(loanCurrency="USDT", loanAmount="100")
    after = http.get_position_new_crypto_loan()["result"]
    assert float(before["totalDebt"]) - float(after["totalDebt"]) == pytest.approx(300)
    assert rows(http.get_repayment_history_flexible_crypto_loan())[0]["repayAmount"] == "400"
    assert rows(http.get_borrowing_history_flexible_crypto_loan())[0]["initialLoanAmount"] == "100"
    assert rows(http.get_flexible_loans_flexible_crypto_loan())[0]["loanCurrency"] == "USDT"
    http.adjust_collateral_amount_new_crypto_loan(currency="BTC", amount="0.01", direction="1")
    assert rows(http.get_crypto_loan_ltv_adjustment_history_new_crypto_loan())[0]["direction"] == 1
    most = http.get_max_allowed_collateral_reduction_amount_new_crypto_loan(currency="BTC")
    assert float(most["result"]["maxCollateralAmount"]) > 0
    http.collateral_repayment_flexible_crypto_loan(
        loanCurrency="USDT", collateralCoin="BTC", amount="100"
    )
    assert http.get_collateral_coins_new_crypto_loan()["result"]["collateralRatioConfigList"]
    assert rows(http.get_borrowable_coins_new_crypto_loan())[0]["flexibleBorrowable"] is True


def test_rate_limits_are_waited_out(http):
    """pybit sleeps until the reset header's instant, which must lie in its future."""
    began = time.monotonic()
    for _ in range(130):  # the limit is 5/s × 20
        assert http.get_position_new_crypto_loan()["retCode"] == 0
    assert time.monotonic() - began > 0.9


def collect(inbox, topics, *, deadline_s=8):
    """First message of each topic."""
    found = {}
    deadline = time.monotonic() + deadline_s
    while set(found) != set(topics):
        message = inbox.get(timeout=max(0.01, deadline - time.monotonic()))
        found.setdefault(message["topic"], message)
    return found


def test_public_streams(sockets):
    """Four public topics arrive; pybit hands out one dictionary that it goes on changing, so copy."""
    inbox = queue.Queue()
    linear = sockets("linear")
    linear.ticker_stream("BTCUSDT", lambda m: inbox.put(copy.deepcopy(m)))
    linear.orderbook_stream(50, "BTCUSDT", lambda m: inbox.put(copy.deepcopy(m)))
    linear.trade_stream("BTCUSDT", lambda m: inbox.put(copy.deepcopy(m)))
    linear.kline_stream(1, "BTCUSDT", lambda m: inbox.put(copy.deepcopy(m)))
    topics = ["tickers.BTCUSDT", "orderbook.50.BTCUSDT", "publicTrade.BTCUSDT", "kline.1.BTCUSDT"]
    found = collect(inbox, topics)
    assert found["tickers.BTCUSDT"]["data"]["fundingRate"]
    assert len(found["orderbook.50.BTCUSDT"]["data"]["b"]) == 50
    seen = [inbox.get(timeout=5) for _ in range(20)]
    assert {m["topic"] for m in seen} >= {"tickers.BTCUSDT", "orderbook.50.BTCUSDT"}
    assert linear.is_connected()


def test_private_and_trade_streams(sockets, http):
    inbox, acknowledged, refused = queue.Queue(), queue.Queue(), queue.Queue()
    private = sockets("private", **KEYS)
    private.order_stream(inbox.put)
    private.execution_stream(inbox.put)
    private.position_stream(inbox.put)
    private.wallet_stream(inbox.put)
    trade = sockets("trade")
    link = uuid.uuid4().hex
    order = {**BTC, "side": "Buy", "orderType": "Market", "qty": "0.01", "orderLinkId": link}
    # the subscriptions take effect a little after their acknowledgements: trade until one is seen
    deadline = time.monotonic() + 8
    while inbox.empty() and time.monotonic() < deadline:
        http.place_order(**{**order, "orderLinkId": uuid.uuid4().hex})
    collect(inbox, ["order", "execution", "position", "wallet"])
    trade.place_order(acknowledged.put, refused.put, **order)
    assert acknowledged.get(timeout=5)["data"]["orderLinkId"] == link
    trade.place_order(acknowledged.put, refused.put, **order)
    assert refused.get(timeout=5)["retCode"] == 110072
    http.place_order(
        **BTC, side="Sell", orderType="Market", qty="0", reduceOnly=True, closeOnTrigger=True
    )
