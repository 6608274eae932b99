"""pybit 5.17 and ccxt 4.5, unmodified: a day of an account without trading much.

Load markets, move coins, borrow, repay, switch collateral, read the log page by page, and meet
the errors of each.
"""

import asyncio
import threading
import time
import urllib.parse
import uuid
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal as D

import ccxt.pro
import pybit.unified_trading as unified
import pytest
from payload_world import ME, scenario
from pybit.exceptions import InvalidRequestError

from hedgelock.simulator import borrowing
from hedgelock.simulator.scenarios import SCENARIOS
from hedgelock.simulator.server import serve

pytestmark = pytest.mark.clients
NAME = "account-day"


@pytest.fixture(autouse=True)
def _at_any_minute(monkeypatch):
    """The clients stamp requests with the wall clock: a run at five past must not be refused."""
    monkeypatch.setattr(borrowing, "BLACKOUT_MS", (0, 0))


@pytest.fixture(scope="module")
def market():
    """The scenario of the payloads, under a name of its own."""
    SCENARIOS[NAME] = replace(scenario(), name=NAME)
    yield NAME
    del SCENARIOS[NAME]


@pytest.fixture
def simulator(market):
    """A simulator on a loop in a thread of its own; yields (server, its loop)."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(awaitable):
        return asyncio.run_coroutine_threadsafe(awaitable, loop).result(20)

    server = run(serve(market, port=0, limits_factor=1000))
    yield server, run
    run(server.stop())
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture
def http(simulator):
    session = unified.HTTP(api_key=ME, api_secret=ME)
    session.endpoint = simulator[0].url
    yield session
    session.client.close()


def rows(reply):
    return reply["result"]["list"]


def code(call, **params):
    """The retCode with which the exchange refuses a call."""
    with pytest.raises(InvalidRequestError) as error:
        call(**params)
    return error.value.status_code


def move(http, amount, *, coin="USDT", into="FUND", transfer_id=None):
    source = "UNIFIED" if into == "FUND" else "FUND"
    return http.create_internal_transfer(
        transferId=transfer_id or str(uuid.uuid4()), coin=coin, amount=amount,
        fromAccountType=source, toAccountType=into,
    )  # fmt: skip


def test_pybit_reads_every_market(http):
    """One or many symbols, three categories, tiers page by page, rates of lending."""
    for category, symbols in {
        "linear": {"BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"},
        "inverse": {"BTCUSD", "ETHUSD"},
        "spot": {"BTCUSDT", "ETHUSDT"},
    }.items():
        assert {r["symbol"] for r in rows(http.get_instruments_info(category=category))} == symbols
        assert {r["symbol"] for r in rows(http.get_tickers(category=category))} == symbols
    first = http.get_instruments_info(category="linear", limit=3)["result"]
    rest = http.get_instruments_info(category="linear", limit=3, cursor=first["nextPageCursor"])
    assert [r["symbol"] for r in rows(rest)] == ["XRPUSDT"]
    xrp = {"category": "linear", "symbol": "XRPUSDT"}
    limits = [D(r["riskLimitValue"]) for r in rows(http.get_risk_limit(**xrp))]
    assert limits != sorted(limits), "the exchange promises no order"
    assert len(rows(http.get_premium_index_price_kline(**xrp, interval="1", limit=5))) == 5
    assert len(rows(http.get_open_interest(**xrp, intervalTime="1h", limit=4))) == 4
    assert len(rows(http.get_long_short_ratio(**xrp, period="1h", limit=4))) == 4
    assert http.get_insurance(coin="USDT")["result"]["list"][0]["coin"] == "USDT"
    assert rows(http.get_funding_rate_history(**xrp, limit=2))
    assert rows(http.get_public_trade_history(**xrp))
    tiers = rows(http.get_tiered_collateral_ratio(currency="BTC"))[0]["collateralRatioList"]
    assert [t["collateralRatio"] for t in tiers] == ["0.95", "0.9"]
    assert http.spot_margin_trade_get_vip_margin_data(currency="BTC")["result"]["vipCoinList"]
    assert http.get_historical_volatility(category="option")["result"][0]["period"] == 7
    assert code(http.get_tickers, category="linear", symbol="NOPE") == 10001


def test_pybit_borrows_and_repays(http):
    """Borrow dollars, see the debt, repay part without conversion and the rest with it."""
    before = rows(http.get_wallet_balance(accountType="UNIFIED"))[0]
    assert http.borrow(coin="USDT", amount="1500")["result"] == {"coin": "USDT", "amount": "1500"}
    wallet = rows(http.get_wallet_balance(accountType="UNIFIED", coin="USDT"))[0]
    (coin,) = wallet["coin"]
    assert (coin["spotBorrow"], coin["borrowAmount"]) == ("1500", "1500")
    assert wallet["totalEquity"] == before["totalEquity"]
    info = rows(http.get_collateral_info(currency="USDT"))[0]
    assert (info["borrowAmount"], info["maxBorrowingAmount"]) == ("1500", "8000000")
    assert code(http.borrow, coin="DOGE", amount="1") == 34022010
    assert code(http.borrow, coin="USDT", amount="9000000") == 34022030
    assert code(http.borrow, coin="USDT", amount="7900000") == 34022031
    assert code(http.repay_liability, coin="USDT") == 182120
    assert http.manual_no_convert_repay(coin="USDT", amount="500")["result"]["resultStatus"] == "SU"
    assert code(http.manual_no_convert_repay, coin="USDT", amount="5000") == 34022027
    assert http.repay(coin="USDT")["result"]["resultStatus"] == "SU"
    assert code(http.repay, coin="USDT") == 34022041
    assert http.get_borrow_history(currency="USDT")["retCode"] == 0
    assert code(http.spot_margin_trade_set_leverage, leverage="11") == 176034
    http.spot_margin_trade_set_leverage(leverage="4")
    assert http.spot_margin_trade_get_status_and_leverage()["result"]["spotLeverage"] == "4"


def test_pybit_moves_coins_and_switches_collateral(http):
    transfer_id = str(uuid.uuid4())
    assert move(http, "100", transfer_id=transfer_id)["result"]["status"] == "SUCCESS"
    again = {"into": "FUND", "transfer_id": transfer_id, "http": http, "amount": "100"}
    assert code(move, **again) == 131214
    assert code(move, http=http, amount="90000000") == 131212
    assert code(move, http=http, amount="0.0000000001") == 131210
    one = http.get_coin_balance(accountType="UNIFIED", coin="USDT", withTransferSafeAmount=1)
    assert one["result"]["balance"]["transferSafeAmount"] == "49900"
    funds = http.get_coins_balance(accountType="FUND")["result"]["balance"]
    assert {b["coin"] for b in funds} == {"BTC", "USDT"}
    http.set_collateral_coin(coin="ETH", collateralSwitch="OFF")
    assert rows(http.get_collateral_info(currency="ETH"))[0]["collateralSwitch"] is False
    assert code(http.set_collateral_coin, coin="USDT", collateralSwitch="OFF") == 182111
    http.batch_set_collateral_coin(request=[{"coin": "ETH", "collateralSwitch": "ON"}])
    assert code(http.set_margin_mode, setMarginMode="PORTFOLIO_MARGIN") == 3400045
    assert http.set_margin_mode(setMarginMode="REGULAR_MARGIN")["result"]["reasons"] == []
    assert http.get_account_info()["result"]["marginMode"] == "REGULAR_MARGIN"


def test_pybit_walks_the_log_with_its_cursor(http):
    """Cursors come percent-encoded; put into the query as they are they miss and repeat nothing."""
    for _ in range(11):
        move(http, "1")
    seen, cursor, pages = [], None, 0
    while cursor != "":
        page = http.get_transaction_log(limit=4, type="TRANSFER_OUT", cursor=cursor)["result"]
        seen += [r["id"] for r in page["list"]]
        cursor, pages = page["nextPageCursor"], pages + 1
        assert not cursor or ("%3A" in cursor and "%2C" in cursor)
    assert (len(seen), len(set(seen)), pages) == (11, 11, 3)
    assert code(http.get_transaction_log, cursor="nonsense") == 10001


def test_pybit_lives_with_the_loan(http, simulator):
    """Fixed and flexible loans, collateral, and what the platform refuses."""
    exchange = simulator[0].venue.exchange
    adjust = http.adjust_collateral_amount_new_crypto_loan
    assert code(adjust, currency="BTC", amount="50", direction="0") == 148012
    assert code(adjust, currency="DOGE", amount="1", direction="0") == 148004
    assert code(adjust, currency="BTC", amount="50", direction="1") == 148037
    assert code(adjust, currency="BTC", amount="4.9", direction="1") == 148009
    exchange.conditions.col_res = "2"
    assert code(adjust, currency="BTC", amount="0.1", direction="0") == 148006
    assert http.get_position_new_crypto_loan()["result"]["colRes"] == "2"
    exchange.conditions.col_res = "0"
    borrow = http.borrow_flexible_crypto_loan
    assert code(borrow, loanCurrency="DOGE", loanAmount="10") == 148001
    assert code(borrow, loanCurrency="USDT", loanAmount="0.5") == 148002
    assert code(borrow, loanCurrency="USDT", loanAmount="900000") == 148009
    repay = http.repay_flexible_crypto_loan
    assert code(repay, loanCurrency="USDC", loanAmount="1") == 148032
    assert code(repay, loanCurrency="USDT", loanAmount="100001") == 148038
    assert code(repay, loanCurrency="USDT", loanAmount="50000") == 148029
    exchange.loan_processing_ms = 400
    before = http.get_position_new_crypto_loan()["result"]["totalDebt"]
    repay_id = repay(loanCurrency="USDT", loanAmount="1000")["result"]["repayId"]
    assert code(repay, loanCurrency="USDT", loanAmount="1000") == 148021
    history = http.get_repayment_history_flexible_crypto_loan
    assert rows(history(repayId=repay_id))[0]["repayStatus"] == 2
    assert http.get_position_new_crypto_loan()["result"]["totalDebt"] == before
    deadline = time.monotonic() + 10
    while rows(history(repayId=repay_id))[0]["repayStatus"] == 2:
        assert time.monotonic() < deadline
    after = http.get_position_new_crypto_loan()["result"]["totalDebt"]
    assert D(before) - D(after) == pytest.approx(D(1000), abs=D(1)), "an hour's interest apart"
    exchange.loan_processing_ms = 0
    fixed = {"orderCurrency": "USDT", "orderAmount": "5000", "term": "30"}
    waiting = http.borrow_fixed_crypto_loan(**fixed, annualRate="0.01")["result"]["orderId"]
    orders = http.get_borrowing_orders_fixed_crypto_loan
    assert rows(orders(orderId=waiting))[0]["state"] == 1
    http.create_borrowing_order_fixed_crypto_loan(orderId=waiting)  # pybit's name for cancelling
    assert rows(orders(orderId=waiting))[0]["state"] == 4
    lent = http.borrow_fixed_crypto_loan(**fixed, annualRate="0.05")["result"]["orderId"]
    (contract,) = rows(http.get_borrowing_contract_info_fixed_crypto_loan(orderId=lent))
    assert (contract["residualPrincipal"], contract["status"]) == ("5000", 1)
    http.repay_fixed_crypto_loan(loanId=contract["loanId"])
    assert code(http.repay_fixed_crypto_loan, loanId=contract["loanId"]) == 148032
    assert rows(http.get_repayment_history_fixed_crypto_loan())[0]["repayAmount"] == "5000"
    assert all(total == 0 for total in exchange.ledger.totals().values())


def test_pybit_is_refused_what_its_account_has_not(http):
    """Isolated margin's own calls and those of the account before unification, each by its code."""
    btc = {"category": "linear", "symbol": "BTCUSDT"}
    assert code(http.add_or_reduce_margin, **btc, margin="10") == 110015
    assert code(http.set_auto_add_margin, **btc, autoAddMargin=1) == 110015
    assert code(http.confirm_new_risk_limit, **btc) == 10001
    assert code(http.switch_margin_mode, **btc, tradeMode=1, buyLeverage="5") == 100028
    assert code(http.set_risk_limit, **btc, riskId=2) == 100028
    assert code(http.set_tp_sl_mode, **btc, tpSlMode="Full") == 100028
    settings = http.get_user_setting_config()["result"]
    assert settings == {"lpaSpot": False, "lpaPerp": False, "deltaEnable": False}
    http.set_limit_price_action(category="linear", modifyEnable=False)
    assert http.get_user_setting_config()["result"]["lpaPerp"] is True
    assert http.get_system_status()["result"]["list"] == []
    coins = http.get_transferable_coin(fromAccountType="FUND", toAccountType="UNIFIED")
    assert {"BTC", "USDT"} <= set(coins["result"]["list"])
    assert code(http.get_master_deposit_address, coin="DOGE") == 10001


@asynccontextmanager
async def exchange(market):
    server = await serve(market, port=0, limits_factor=1000)
    private = f"ws://127.0.0.1:{server.port}/v5/private"
    client = ccxt.pro.bybit(
        {
            "apiKey": ME,
            "secret": ME,
            "urls": {
                "api": dict.fromkeys(("spot", "futures", "v2", "public", "private"), server.url)
                | {"ws": {"private": {"contract": private}}}
            },
            "enableRateLimit": False,
        }
    )
    try:
        yield client, server
    finally:
        await client.close()
        await server.stop()


async def test_ccxt_loads_all_markets_and_their_tiers(market):
    """ccxt's start-up asks for coins, three categories, unlisted contracts and six option bases."""
    async with exchange(market) as (x, _):
        markets = await x.load_markets()
        assert set(markets) == {
            "BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT", "XRP/USDT:USDT", "BTC/USD:BTC",
            "ETH/USD:ETH", "BTC/USDT", "ETH/USDT",
        }  # fmt: skip
        precision = markets["XRP/USDT:USDT"]["precision"]
        assert (precision["amount"], precision["price"]) == (0.1, 0.0001)
        assert markets["ETH/USD:ETH"]["inverse"] is True
        assert set(await x.fetch_currencies()) == {"BTC", "ETH", "SOL", "XRP", "USDC", "USDT"}
        tickers = await x.fetch_tickers(["BTC/USDT:USDT", "XRP/USDT:USDT"])
        assert len(tickers) == 2
        rates = await x.fetch_funding_rates(["BTC/USDT:USDT", "SOL/USDT:USDT"])
        assert {r["interval"] for r in rates.values()} == {"8h"}
        assert await x.fetch_open_interest("BTC/USDT:USDT")
        history = await x.fetch_open_interest_history("BTC/USDT:USDT", "1h", limit=3)
        assert len(history) == 3
        premium = await x.fetch_premium_index_ohlcv("BTC/USDT:USDT", "1m", limit=3)
        assert len(premium) == 3
        assert abs(premium[0][4]) < 0.01
        assert len(await x.fetch_ohlcv("ETH/USDT", "1h", limit=3)) == 3


async def test_ccxt_borrows_repays_and_transfers(market):
    async with exchange(market) as (x, server):
        await x.load_markets()
        moved = await x.transfer("USDT", 25, "unified", "fund")
        assert moved["status"] == "ok"
        with pytest.raises(ccxt.InsufficientFunds, match="131212"):
            await x.transfer("USDT", 10**9, "unified", "fund")
        borrowed = await x.borrow_cross_margin("USDT", 300)
        assert (borrowed["currency"], borrowed["amount"]) == ("USDT", 300)
        # its async client sends the space of "No VIP" as it is, which no HTTP server takes
        rate = await x.fetch_cross_borrow_rate("USDT", {"vipLevel": "No%20VIP"})
        assert rate["rate"] == 0.0000034
        assert len(await x.fetch_borrow_rate_history("USDT", limit=5)) == 5
        assert server.venue.exchange.accounts[ME].owed == {"USDT": 300}
        await x.repay_cross_margin("USDT", 300)
        with pytest.raises(ccxt.ExchangeError, match="34022041"):
            await x.repay_cross_margin("USDT", 1)
        with pytest.raises(ccxt.ExchangeError, match="34022031"):
            await x.borrow_cross_margin("USDT", 7_900_000)
        with pytest.raises(ccxt.ExchangeError, match="10017"):
            await x.private_get_v5_ins_loan_product_infos()
        assert (await x.fetch_trading_fees())["XRP/USDT:USDT"]["taker"] == 0.00055
        assert (await x.fetch_trading_fee("ETH/USDT"))["taker"] == 0.001
        assert all(total == 0 for total in server.venue.exchange.ledger.totals().values())


async def test_ccxt_walks_the_log_with_its_cursor(market):
    """The cursor is handed back decoded or encoded: both are the same page."""
    async with exchange(market) as (x, _):
        await x.load_markets()
        for _ in range(5):
            await x.transfer("USDT", 1, "unified", "fund")
        get_log = x.private_get_v5_account_transaction_log
        first = (await get_log({"limit": "2"}))["result"]
        cursor = first["nextPageCursor"]
        second = (await get_log({"limit": "2", "cursor": cursor}))["result"]
        decoded = urllib.parse.unquote(cursor)
        assert (await get_log({"limit": "2", "cursor": decoded}))["result"] == second
        ids = [r["id"] for r in first["list"] + second["list"]]
        assert len(set(ids)) == 4
        entries = await x.fetch_ledger("USDT", limit=3)
        assert [e["amount"] for e in entries] == [1, 1, 1]
        assert {e["info"]["type"] for e in entries} == {"TRANSFER_OUT"}
