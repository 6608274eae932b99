"""Market and lending reference data: contracts, tiers, pages, interest, ratios, pools."""

import itertools
import math
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal as D

import pytest

from hedgelock.simulator.api_reference import TIER_PAGE
from hedgelock.simulator.candles import Candles
from hedgelock.simulator.instruments import CONTRACTS, listed, tier_rows

T0 = 1_700_000_000_000
HOUR = 3_600_000
BTC = {"category": "linear", "symbol": "BTCUSDT"}


def market(desk, path, **params):
    return desk.get(f"market/{path}", **params)


@pytest.fixture
def four(open_desk, quiet_scenario):
    """A market that prices four coins."""
    prices = {"BTC": 60_000, "ETH": 3_000, "SOL": 150, "XRP": 0.5}
    return open_desk(
        replace(
            quiet_scenario(),
            prices={base: ((0, price),) for base, price in prices.items()},
            funding=dict.fromkeys(prices, ((0, 0.0001),)),
        )
    )


def test_only_priced_bases_are_listed(four, open_desk, quiet_scenario):
    one = open_desk(replace(quiet_scenario(), prices={"BTC": ((0, 60000),)}))
    assert set(one.venue.exchange.contracts) == set(listed({"BTC"}))
    assert set(one.venue.exchange.contracts) == {"linear.BTCUSDT", "inverse.BTCUSD", "spot.BTCUSDT"}
    assert set(four.venue.exchange.contracts) == set(CONTRACTS)
    assert one.venue.exchange.coins == ["BTC", "USDC", "USDT"]


@pytest.mark.parametrize("key", CONTRACTS)
def test_every_contract_is_whole(four, key):
    """It can be asked for, its filters agree with its ticks, and a small order is filled."""
    c = CONTRACTS[key]
    named = {"category": c.category, "symbol": c.symbol}
    (row,) = market(four, "instruments-info", **named)["list"]
    assert D(row["priceFilter"]["tickSize"]) == c.tick
    (ticker,) = market(four, "tickers", **named)["list"]
    assert D(ticker["ask1Price"]) - D(ticker["bid1Price"]) >= c.tick
    assert D(ticker["bid1Price"]) % c.tick == 0
    assert market(four, "orderbook", **named)["s"] == c.symbol
    if c.is_spot:
        return
    assert row["leverageFilter"]["maxLeverage"] == f"{c.leverage_max:.2f}"
    digits = len(row["priceFilter"]["tickSize"].partition(".")[2])
    assert int(row["priceScale"]) == digits
    sold = {"BTC": "0.001", "ETH": "0.01", "SOL": "1", "XRP": "20"}[c.base]
    order = four.order("Sell", "10" if c.is_inverse else sold, **named)
    assert order["orderStatus"] == "Filled"


@pytest.mark.parametrize("key", [k for k, c in CONTRACTS.items() if not c.is_spot])
def test_tiers_keep_margin_continuous(key):
    """At each limit both tiers ask for the same maintenance margin; rates and limits rise."""
    tiers = CONTRACTS[key].tiers
    for low, high in itertools.pairwise(tiers):
        assert low.limit * low.mm_rate - low.deduction == low.limit * high.mm_rate - high.deduction
        assert low.limit < high.limit
        assert low.mm_rate < high.mm_rate
        assert low.leverage_max > high.leverage_max
    for tier in tiers:
        assert 0 < tier.mm_rate < tier.im_rate <= 1
        assert abs(1 / tier.leverage_max - tier.im_rate) < D("0.0001")


def test_tiers_come_in_no_particular_order(four):
    rows = market(four, "risk-limit", category="linear", symbol="SOLUSDT")["list"]
    assert [r["id"] for r in rows] == [2, 1, 3, 4]
    assert {r["isLowestRisk"] for r in rows} == {0, 1}
    assert [r["mmDeduction"] for r in rows if r["isLowestRisk"]] == [""]
    assert sorted(rows, key=lambda r: r["id"]) == sorted(
        tier_rows(CONTRACTS["linear.SOLUSDT"]), key=lambda r: r["id"]
    )


def test_tiers_come_in_pages_of_fifteen_symbols(four):
    """Forty symbols are three pages; together they are everything, once."""
    x = four.venue.exchange
    model = CONTRACTS["linear.BTCUSDT"]
    x.contracts = {f"linear.T{n}": replace(model, symbol=f"T{n}", symbol_id=n) for n in range(40)}
    seen, cursor, pages = [], "", 0
    while True:
        page = market(four, "risk-limit", category="linear", cursor=cursor)
        symbols = list(dict.fromkeys(r["symbol"] for r in page["list"]))
        assert len(symbols) <= TIER_PAGE
        seen += symbols
        pages, cursor = pages + 1, page["nextPageCursor"]
        if not cursor:
            break
    assert seen == [f"T{n}" for n in range(40)]
    assert pages == 3
    assert four.call("GET", "market/risk-limit", category="linear", cursor="x").code == 10001


def test_tiers_may_be_missing(desk):
    desk.venue.exchange.conditions.tiers_missing = True
    assert market(desk, "risk-limit", **BTC)["list"] == []


def test_instruments_come_in_pages(four):
    first = market(four, "instruments-info", category="linear", limit=3)
    rest = market(four, "instruments-info", category="linear", limit=3,
                  cursor=first["nextPageCursor"])  # fmt: skip
    symbols = [r["symbol"] for page in (first, rest) for r in page["list"]]
    assert symbols == ["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"]
    assert rest["nextPageCursor"] == ""
    spot = market(four, "instruments-info", category="spot", limit=1)
    assert len(spot["list"]) == 2, "spot ignores limits"
    for status in ("PreLaunch", "Closed"):
        empty = market(four, "instruments-info", category="linear", status=status)
        assert (empty["list"], empty["nextPageCursor"]) == ([], "")
    for base in ("BTC", "ETH", "SOL", "XRP", "MNT", "DOGE"):
        assert market(four, "instruments-info", category="option", baseCoin=base)["list"] == []
    only = market(four, "instruments-info", category="linear", baseCoin="ETH")["list"]
    assert [r["symbol"] for r in only] == ["ETHUSDT"]


def test_open_interest_counts_the_accounts_twice(desk):
    """Every position has the crowd on its other side; the value is at mark."""
    before = D(market(desk, "tickers", **BTC)["list"][0]["openInterest"])
    desk.order("Sell", "0.2")
    row = market(desk, "tickers", **BTC)["list"][0]
    assert D(row["openInterest"]) - before == D("0.4")
    assert D(row["singleOpenInterest"]) * 2 == D(row["openInterest"])
    assert D(row["openInterestValue"]) == D(row["openInterest"]) * D(row["markPrice"])
    inverse = market(desk, "tickers", category="inverse", symbol="BTCUSD")["list"][0]
    assert D(inverse["openInterestValue"]) < D(inverse["openInterest"]), "USD, and its worth in BTC"
    history = market(desk, "open-interest", **BTC, intervalTime="1h", limit=3)["list"]
    stamps = [int(r["timestamp"]) for r in history]
    assert [a - b for a, b in itertools.pairwise(stamps)] == [HOUR, HOUR]


def test_long_short_ratios_add_up_to_one(desk):
    rows = market(desk, "account-ratio", **BTC, period="4h", limit=30)["list"]
    assert len(rows) == 30
    assert {D(r["buyRatio"]) + D(r["sellRatio"]) for r in rows} == {1}
    assert len({r["buyRatio"] for r in rows}) > 10
    assert rows == market(desk, "account-ratio", **BTC, period="4h", limit=30)["list"]


def test_insurance_and_alerts_tell_what_the_pool_holds(desk):
    ledger = desk.venue.exchange.ledger
    ledger.move("USDT", D(500), source="outside", target="insurance")
    held = ledger.balance("insurance", "USDT")
    (row,) = market(desk, "insurance", coin="USDT")["list"]
    assert (D(row["balance"]), row["symbols"]) == (held, "BTCUSDT,ETHUSDT")
    assert {r["coin"] for r in market(desk, "insurance")["list"]} == {"BTC", "ETH", "USDT"}
    alerts = market(desk, "adlAlert")["list"]
    assert {r["symbol"] for r in alerts} == {"BTCUSDT", "ETHUSDT", "BTCUSD", "ETHUSD"}
    assert D(market(desk, "adlAlert", symbol="BTCUSDT")["list"][0]["balance"]) == held


def test_pool_topics_push_what_changed(four):
    """insurance.*: a delta for an isolated pool's new balance; adlAlert.*: all each second, numbers."""
    desk, streams = four, four.venue.streams
    for topic in ("insurance.USDT", "insurance.inverse", "adlAlert.USDT", "adlAlert.inverse"):
        assert streams.known("linear", topic)
        first = streams.subscribe("linear", topic)
        assert first.kind == "snapshot"
        assert bool(first.data) is (topic != "insurance.inverse"), "isolated pools only"
    assert not streams.known("spot", "insurance.USDT")
    assert not streams.known("linear", "insurance.DOGE")
    assert streams.subscribe("linear", "insurance.DOGE") is None
    desk.wait(3_000)
    pushed = [e.topic for e in desk.log]
    assert "insurance.USDT" not in pushed, "nothing changed"
    assert pushed.count("adlAlert.USDT") == 3
    alert = next(e for e in desk.log if e.topic == "adlAlert.inverse").data[0]
    assert set(alert) == {"c", "s", "b", "mb", "i_pr", "pr", "adl_tt", "adl_sr"}
    assert {type(alert[k]) for k in alert if k not in "cs"} == {float}
    ledger = desk.venue.exchange.ledger
    ledger.move("USDT", D(7), source="outside", target="insurance")
    desk.wait(1_000)
    assert "insurance.USDT" not in [e.topic for e in desk.log], "the shared pool is not streamed"
    ledger.move("USDT", D(7), source="outside", target="insurance/linear.SOLUSDT")
    desk.wait(1_000)
    (event,) = [e for e in desk.log if e.topic == "insurance.USDT"]
    assert (event.kind, set(event.data[0])) == (
        "delta", {"coin", "symbols", "balance", "updateTime"},
    )  # fmt: skip
    streams.unsubscribe("linear", "adlAlert.USDT")
    desk.log.clear()
    desk.wait(2_000)
    assert "adlAlert.USDT" not in [e.topic for e in desk.log]


def test_index_components_weigh_one(desk):
    answer = market(desk, "index-price-components", indexName="BTCUSDT")
    assert sum(D(c["weight"]) for c in answer["components"]) == 1
    assert {c["price"] for c in answer["components"]} == {answer["lastPrice"]} == {"60000"}
    assert desk.call("GET", "market/index-price-components", indexName="X").code == 10001


def test_historical_volatility_is_flat_and_hourly(desk):
    reply = desk.call("GET", "market/historical-volatility", category="option", period="30")
    body = reply.body()
    assert (body["category"], body["retMsg"], type(body["result"])) == ("option", "SUCCESS", list)
    assert "retExtInfo" not in body
    assert body["result"][0]["period"] == 30
    day = market(desk, "historical-volatility", category="option",
                 startTime=T0 - 24 * HOUR, endTime=T0)["list"]  # fmt: skip
    assert len(day) == 24
    for wrong in ({"period": "8"}, {"startTime": T0}, {"category": "linear"}, {"baseCoin": "DOGE"},
                  {"startTime": T0 - 31 * 24 * HOUR, "endTime": T0}):  # fmt: skip
        params = {"category": "option", **wrong}
        assert desk.call("GET", "market/historical-volatility", **params).code == 10001


def test_historical_volatility_is_that_of_the_index(desk):
    """√(mean squared log return of the daily index candles × 365); the made-up past has .45."""
    asked = {"category": "option", "baseCoin": "BTC"}
    (row,) = market(desk, "historical-volatility", **asked, period="7")["list"]
    days = market(desk, "index-price-kline", **BTC, interval="D", limit=9)["list"]
    closes = [float(k[4]) for k in reversed(days)][:-1]
    moves = [math.log(b / a) ** 2 for a, b in itertools.pairwise(closes)]
    assert len(moves) == 7
    assert float(row["value"]) == pytest.approx(math.sqrt(sum(moves) / 7 * 365), abs=1e-6)
    (year,) = market(desk, "historical-volatility", **asked, period="270")["list"]
    assert 0.35 < float(year["value"]) < 0.55
    ether = market(desk, "historical-volatility", category="option", baseCoin="ETH")["list"]
    assert ether[0]["value"] != row["value"]


def test_weeks_open_on_monday_and_months_on_the_first(desk):
    """T0 is Tuesday, 14 November 2023; the candle that is not over is the last one."""
    def opens(interval, **params):
        rows = market(desk, "kline", **BTC, interval=interval, limit=3, **params)["list"]
        return [datetime.fromtimestamp(int(r[0]) / 1000, UTC) for r in rows]

    def day(year, month, number):
        return datetime(year, month, number, tzinfo=UTC)

    assert opens("W") == [day(2023, 11, 13), day(2023, 11, 6), day(2023, 10, 30)]
    assert opens("M") == [day(2023, 11, 1), day(2023, 10, 1), day(2023, 9, 1)]
    new_year = round(day(2023, 1, 1).timestamp() * 1000)
    assert opens("M", end=new_year) == [day(2023, 1, 1), day(2022, 12, 1), day(2022, 11, 1)]
    assert opens("M", start=new_year - 1) == [day(2023, 3, 1), day(2023, 2, 1), day(2023, 1, 1)]
    assert opens("W", start=new_year) == [day(2023, 1, 16), day(2023, 1, 9), day(2023, 1, 2)]
    for interval in ("M", "W", "1"):
        assert opens(interval, start=10**16 - 1) == []
        assert opens(interval, end=1) == ([] if interval == "W" else [day(1970, 1, 1)])


def test_long_candles_hold_the_whole_run():
    """Five days, a dollar a minute: days and the week are whole, minutes are kept for three days."""
    monday = 1_699_833_600_000
    candles = Candles(first=D(60_000), seed="s", started_ms=monday)
    for minute in range(5 * 1440 + 1):
        price = D(60_000 + minute)
        candles.add(monday + minute * 60_000, price, mark=price, index=price)
        candles.traded(D(1), price)

    def between(interval, **days):
        first, last = (monday + int(24 * HOUR * n) for n in (days["first"], days["last"]))
        return candles.window(interval, start_ms=first, end_ms=last, series="last")

    days = between("D", first=0, last=4)
    assert [(k.open, k.close, k.volume) for k in days[:2]] == [(60_000, 61_439, 1440), (61_439, 62_879, 1440)]
    (week,) = between("W", first=0, last=5)
    assert (week.open, week.low, week.close, week.volume) == (60_000, 60_000, 67_200, 7201)
    assert sum(k.volume for k in between("60", first=0, last=5)) == week.volume
    assert between("1", first=1, last=1.9) == []
    assert len(between("1", first=2.5, last=3)) == 721


def test_the_24_hours_of_a_ticker_are_the_last_ones(open_desk, quiet_scenario):
    """Two days, the price rises by a dollar a minute: at a full hour what is older is gone."""
    rise = {"BTC": ((0, 60_000), (172_800, 62_880)), "ETH": ((0, 3000),)}
    desk = open_desk(replace(quiet_scenario(), prices=rise), tick_ms=300_000)
    first = market(desk, "tickers", **BTC)["list"][0]
    assert first["prevPrice24h"] == first["prevPrice1h"] == first["lowPrice24h"] == "60000"
    desk.wait(48 * HOUR)
    row = market(desk, "tickers", **BTC)["list"][0]
    assert D(row["lowPrice24h"]) == pytest.approx(D(61_440), abs=60)
    assert D(row["prevPrice24h"]) == pytest.approx(D(61_440), abs=60)
    candles = market(desk, "kline", **BTC, interval="60", limit=25)["list"]
    assert sum(D(k[5]) for k in candles[:24]) <= D(row["volume24h"]) <= sum(D(k[5]) for k in candles)
    assert D(row["highPrice24h"]) == max(D(k[2]) for k in candles)


def test_the_price_of_an_hour_ago():
    candles = Candles(first=D(1), seed="s", started_ms=0)
    for minute in range(70):
        candles.add(minute * 60_000, D(minute), mark=D(1), index=D(1))
    assert candles.ago(60) == 8, "ten to sixty-nine closed, and what opened the first of them"
    assert candles.ago(70) is None


def test_open_interest_is_remembered(open_desk):
    """Each five minutes is as it was then; before the start a crowd is made up."""
    desk = open_desk(tick_ms=10_000)
    asked = {**BTC, "intervalTime": "5min", "limit": 200}
    held = D(market(desk, "tickers", **BTC)["list"][0]["openInterest"])
    desk.wait(6 * 60_000)
    desk.order("Sell", "0.2")
    desk.wait(10 * 60_000)
    rows = market(desk, "open-interest", **asked)["list"]
    now = [D(r["openInterest"]) for r in rows if int(r["timestamp"]) >= T0]
    assert now == [held + D("0.4"), held + D("0.4"), held]
    past = [D(r["openInterest"]) for r in rows if int(r["timestamp"]) < T0]
    assert len(set(past)) > 100
    assert all(abs(value / held - 1) <= D("0.03") for value in past)
    assert rows == market(desk, "open-interest", **asked)["list"]


def test_candles_count_from_a_start_or_back_from_an_end(open_desk):
    """start alone: the candles that follow it; end alone or nothing: those before it."""
    desk = open_desk("calm")

    def starts(path="kline", **params):
        rows = market(desk, path, **BTC, interval="60", limit=3, **params)["list"]
        return [int(r[0]) for r in rows]

    newest = T0 // HOUR * HOUR
    assert starts() == [newest - n * HOUR for n in range(3)]
    early = newest - 50 * HOUR
    assert starts(start=early) == [early + n * HOUR for n in (2, 1, 0)]
    assert starts(end=early) == [early - n * HOUR for n in range(3)]
    assert starts(start=early, end=early + HOUR) == [early + HOUR, early]
    assert starts("premium-index-price-kline", start=early) == starts(start=early)
    desk.wait(5_000)
    row = market(desk, "premium-index-price-kline", **BTC, interval="1")["list"][0]
    opened, high, low, closed = (D(v) for v in row[1:])
    assert low <= min(opened, closed) <= max(opened, closed) <= high
    assert abs(closed) < D("0.001")


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("premium-index-price-kline", {"category": "inverse", "symbol": "BTCUSD", "interval": "1"}),
        ("mark-price-kline", {"category": "spot", "symbol": "BTCUSDT", "interval": "1"}),
        ("funding/history", {"category": "spot", "symbol": "BTCUSDT"}),
        ("funding/history", {**BTC, "startTime": T0}),
        ("risk-limit", {"category": "spot"}),
        ("open-interest", {**BTC, "intervalTime": "2h"}),
        ("open-interest", BTC),
        ("account-ratio", {**BTC, "period": "x"}),
        ("fee-group-info", {"productType": "spot"}),
        ("kline", {**BTC, "interval": "2"}),
    ],
)
def test_what_makes_no_sense_is_refused(desk, path, params):
    assert desk.call("GET", f"market/{path}", **params).code == 10001


def test_fee_groups_and_deliveries(four):
    (group,) = market(four, "fee-group-info", productType="contract")["list"]
    assert group["symbolsNumbers"] == len(group["symbols"]) == 4
    assert group["feeRates"]["marketMaker"][0]["takerFeeRate"] == ""
    assert market(four, "fee-group-info", productType="contract", groupId="2")["list"] == []
    assert market(four, "delivery-price", category="linear")["list"] == []


def test_lending_data_agree_with_each_other(desk):
    """The same ratio and rates in every place that shows them."""
    vip = desk.get("spot-margin-trade/data", vipLevel="No VIP", currency="BTC")["vipCoinList"]
    (row,) = vip[0]["list"]
    tiers = desk.get("spot-margin-trade/collateral", currency="BTC")["list"][0]
    info = desk.get("account/collateral-info", currency="BTC")["list"][0]
    assert (
        row["collateralRatio"]
        == info["collateralRatio"]
        == (tiers["collateralRatioList"][0]["collateralRatio"])
    )
    assert row["hourlyBorrowRate"] == info["hourlyBorrowRate"]
    assert row["maxBorrowingAmount"] == info["maxBorrowingAmount"]
    order = desk.get("spot-margin-trade/data")["vipCoinList"][0]["list"]
    assert [r["currency"] for r in order] == ["USDT", "USDC", "BTC", "ETH"]
    assert [r["liquidationOrder"] for r in order] == ["1", "2", "3", "4"]
    assert desk.get("spot-margin-trade/data", vipLevel="VIP-9")["vipCoinList"] == []
    (tier,) = desk.get("spot-margin-trade/position-tiers", currency="USDT")["list"]
    rates = tier["positionTiersRatioList"][0]
    assert (rates["positionMMR"], rates["positionIMR"], rates["maxLeverage"]) == (
        "0.04",
        "0.2",
        "5",
    )
    (coin,) = desk.get("spot-margin-trade/currency-data", currency="USDT")["list"]
    assert coin["flexibleManualBorrowAccuracy"] == "8"
    lent = desk.get("crypto-loan-common/loanable-data", currency="USDT")["list"][0]
    hourly = D(desk.get("crypto-loan-flexible/ongoing-coin")["list"][0]["hourlyInterestRate"])
    assert D(lent["flexibleAnnualizedInterestRate"]) == hourly * 8760
    assert (lent["annualizedInterestRate30D"], lent["annualizedInterestRate60D"]) == ("0.04", "")


def test_envelopes_are_as_odd_as_the_exchanges(desk):
    """Bare for account/info, text in retExtInfo for some margin routes, odd messages."""
    assert set(desk.call("GET", "account/info").body()) == {"retCode", "retMsg", "result"}
    assert set(desk.call("GET", "spot-margin-trade/data").body()) == {"retCode", "retMsg", "result"}
    reply = desk.call("GET", "spot-margin-trade/interest-rate-history", currency="USDT")
    assert reply.body()["retExtInfo"] == "{}"
    assert desk.call("GET", "user/query-api").message == ""
    assert desk.call("GET", "crypto-loan-common/position").message == "ok"
    assert desk.call("GET", "account/withdrawal", coinName="BTC").message == "request.success"
