"""Market data routes, candles and public streams, in virtual time."""

import dataclasses
from decimal import Decimal as D

import pytest

from hedgelock.simulator.candles import Candles
from hedgelock.simulator.scenarios import SCENARIOS

T0 = 1_700_000_000_000
LISTED = {"category": "linear", "symbol": "BTCUSDT"}
MINUTE = 60_000


def test_every_scenario_is_playable(open_desk):
    for name, scenario in SCENARIOS.items():
        desk = open_desk(name, tick_ms=1000)
        desk.wait(int(scenario.duration_s * 1000) + 1000)
        x = desk.venue.exchange
        assert x.market.finished(desk.now_ms)
        settled = [at for at, _ in x.market.settled if at > 1_700_000_000_000]
        assert len(settled) == len(scenario.settlements_s)
        assert all(v == 0 for v in x.ledger.totals().values())


def test_mark_stays_near_index_and_prices_are_on_their_ticks(open_desk):
    desk = open_desk("whipsaw")
    for _ in range(100):
        desk.wait(1_000)
        row = desk.get("market/tickers", **LISTED)["list"][0]
        assert abs(D(row["markPrice"]) / D(row["indexPrice"]) - 1) < D("0.001")
        for field in ("lastPrice", "bid1Price", "ask1Price"):
            assert D(row[field]) % D("0.1") == 0
        assert D(row["bid1Price"]) < D(row["ask1Price"])
        assert D(row["lowPrice24h"]) <= D(row["lastPrice"]) <= D(row["highPrice24h"])


@pytest.mark.no_cover
def test_candles_are_recorded_aggregated_and_continued_into_the_past(open_desk):
    desk = open_desk("whipsaw")
    desk.wait(10 * MINUTE)
    rows = desk.get("market/kline", **LISTED, interval="1", limit=30)["list"]
    starts = [int(r[0]) for r in rows]
    assert starts == list(range(starts[0], starts[-1] - 1, -MINUTE)), "newest first, no gap"
    assert len(rows) == 30
    for _, first, high, low, last, volume, turnover in rows:
        assert D(low) <= min(D(first), D(last)) <= max(D(first), D(last)) <= D(high)
        assert D(volume) > 0
        assert D(turnover) >= 0
    five = desk.get("market/kline", **LISTED, interval="5", limit=2)["list"][0]
    inside = [r for r in rows if int(five[0]) <= int(r[0]) < int(five[0]) + 5 * MINUTE]
    assert D(five[2]) == max(D(r[2]) for r in inside)
    assert D(five[5]) == sum(D(r[5]) for r in inside)
    assert len(desk.get("market/mark-price-kline", **LISTED, interval="60")["list"][0]) == 5
    past = desk.get("market/kline", **LISTED, interval="D", limit=1000)["list"]
    assert len(past) == 1000
    again = desk.get("market/kline", **LISTED, interval="D", limit=1000)["list"]
    assert past == again
    assert desk.call("GET", "market/kline", **LISTED, interval="7").code == 10001


def test_a_candle_opens_at_the_close_before():
    candles = Candles(first=D(100), seed="s", started_ms=0)
    for now_ms, price in ((0, 100), (30_000, 105), (60_000, 95), (61_000, 97)):
        candles.add(now_ms, D(price), mark=D(price), index=D(price))
    first, second = candles.window("1", start_ms=0, end_ms=60_000, series="last")
    assert (first.open, first.high, first.close) == (100, 105, 105)
    assert (second.open, second.high, second.low, second.close) == (105, 105, 95, 97)
    assert candles.window("1", start_ms=120_000, end_ms=600_000, series="last") == []


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("market/tickers", {}, 10001),
        ("market/tickers", {"category": "nope"}, 10001),
        ("market/tickers", {"category": "option"}, 0),
        ("market/orderbook", {"category": "spot", "symbol": "NOPE"}, 170121),
        ("market/orderbook", {**LISTED, "limit": "x"}, 10001),
        ("market/instruments-info", {"category": "linear", "baseCoin": "ETH"}, 0),
        ("market/instruments-info", {"category": "inverse", "symbol": "BTCUSD"}, 0),
        ("market/risk-limit", {"category": "linear"}, 0),
        ("account/wallet-balance", {"accountType": "SPOT"}, 10001),
        ("account/wallet-balance", {"accountType": "UNIFIED", "coin": "BTC"}, 0),
        ("account/collateral-info", {"currency": "BTC"}, 0),
        ("account/transaction-log", {"startTime": "5", "endTime": "1"}, 10001),
        ("account/transaction-log", {"startTime": "5", "endTime": str(8 * 86_400_000)}, 10001),
        ("account/transaction-log", {"startTime": "5"}, 0),
        ("order/realtime", {"category": "linear"}, 10001),
        ("order/realtime", {"category": "spot"}, 0),
        ("order/realtime", {**LISTED, "openOnly": "1"}, 0),
        ("order/history", {**LISTED, "orderId": "nope"}, 0),
        ("position/list", {"category": "spot"}, 10001),
        ("position/list", {"category": "inverse"}, 0),
        ("asset/transfer/query-account-coin-balance", {"accountType": "FUND", "coin": "BTC"}, 0),
        ("asset/transfer/query-account-coin-balance", {"accountType": "X", "coin": "BTC"}, 131203),
        ("crypto-loan-common/max-collateral-amount", {}, 10001),
    ],
)
def test_answers_to_good_and_bad_questions(desk, path, params, code):
    assert desk.call("GET", path, **params).code == code


def test_history_shows_closed_orders_only(desk):
    resting = desk.order("Buy", "0.01", price="59000")
    by_id = {**LISTED, "orderId": resting["orderId"]}
    assert desk.get("order/history", **by_id)["list"] == []
    assert len(desk.get("order/realtime", **by_id)["list"]) == 1
    desk.post("order/cancel", **by_id)
    assert len(desk.get("order/history", **by_id)["list"]) == 1
    assert len(desk.get("order/realtime", **by_id)["list"]) == 1


def listen(desk, *topics, category="linear"):
    return [desk.venue.streams.subscribe(category, topic) for topic in topics]


def test_deltas_rebuild_the_ticker(open_desk):
    desk = open_desk("whipsaw")
    (first,) = listen(desk, "tickers.BTCUSDT")
    seen = dict(first.data)
    for _ in range(50):
        desk.wait(100)
    for event in desk.log:
        if event.topic == "tickers.BTCUSDT":
            assert event.kind == "delta"
            seen |= event.data
    row = desk.get("market/tickers", **LISTED)["list"][0]
    assert {k: seen[k] for k in row} == row


def test_a_second_listener_joins_where_the_first_one_is(open_desk):
    desk = open_desk("whipsaw")
    (first,) = listen(desk, "tickers.BTCUSDT", "orderbook.50.BTCUSDT")[:1]
    desk.order("Sell", "5", category="inverse", symbol="BTCUSD")
    desk.order("Buy", "0.2")  # changes the book between ticks
    (second,) = listen(desk, "tickers.BTCUSDT")
    assert second.data == first.data


def test_klines_confirm_the_minute_that_ended(open_desk):
    desk = open_desk("calm")
    listen(desk, "kline.1.BTCUSDT")
    desk.wait(2 * MINUTE)
    rows = [r for e in desk.log if e.topic.startswith("kline") for r in e.data]
    confirmed = [r for r in rows if r["confirm"]]
    assert len(confirmed) == 2
    assert confirmed[1]["start"] - confirmed[0]["start"] == MINUTE
    assert all(r["end"] - r["start"] == MINUTE - 1 for r in rows)
    assert len(rows) > 100


def test_trades_are_streamed_as_they_happen(desk):
    listen(desk, "publicTrade.BTCUSDT")
    desk.order("Buy", "0.25")
    trades = [r for e in desk.log if e.topic.startswith("publicTrade") for r in e.data]
    assert [(t["S"], t["v"], t["s"]) for t in trades] == [("Buy", "0.25", "BTCUSDT")]
    recent = desk.get("market/recent-trade", **LISTED, limit=1)["list"]
    assert (recent[0]["execId"], recent[0]["size"]) == (trades[0]["i"], "0.25")


def test_a_topic_without_audience_is_not_rendered(desk):
    listen(desk, "orderbook.50.BTCUSDT", "orderbook.1.BTCUSDT")
    desk.venue.streams.unsubscribe("linear", "orderbook.50.BTCUSDT")
    desk.wait(500)
    assert not [e for e in desk.log if e.topic.startswith("orderbook.50")]
    assert listen(desk, "nothing.BTCUSDT") == [None]


def test_the_level_one_book_is_snapshots_only(open_desk):
    desk = open_desk("whipsaw")
    listen(desk, "orderbook.1.BTCUSDT")
    desk.wait(2_000)
    frames = [e for e in desk.log if e.topic == "orderbook.1.BTCUSDT"]
    assert frames
    assert {e.kind for e in frames} == {"snapshot"}
    assert {len(e.data["b"]) for e in frames} == {1}


def test_a_level_one_book_that_stays_the_same_is_repeated_after_three_seconds(desk):
    """With the same u, so that a client can tell silence from stillness."""
    listen(desk, "orderbook.1.BTCUSDT")
    desk.wait(10_000)
    frames = [e for e in desk.log if e.topic == "orderbook.1.BTCUSDT"]
    assert [e.ts_ms - T0 for e in frames] == [3_000, 6_000, 9_000]
    assert len({e.data["u"] for e in frames}) == 1


def test_a_pocket_that_owes_sells_its_coins_before_its_position(open_desk, quiet_scenario):
    """Negative dollars without a position are repaid from the pocket's BTC at liquidation."""
    path = ((0, 60000), (1, 60000), (2, 66000), (4, 66000), (40, 8000))
    scenario = dataclasses.replace(quiet_scenario(), prices={"BTC": path, "ETH": ((0, 3000),)})
    desk = open_desk(scenario)
    desk.order("Sell", "1.5")
    desk.until(3_000)
    desk.order("Buy", "0", reduceOnly=True, closeOnTrigger=True)
    assert desk.balance("USDT") < -3000
    assert desk.wallet()["coin"][1]["borrowAmount"] != "0.000000000000000000"
    desk.until(40_000)
    kinds = {r["type"] for r in desk.get("account/transaction-log", limit=50)["list"]}
    assert {"CURRENCY_SELL", "CURRENCY_BUY"} <= kinds
    assert desk.account.margin_liquidated_ms > 0
    assert desk.balance("USDT") >= 0
    assert desk.balance("BTC") >= 0
    assert all(v == 0 for v in desk.venue.exchange.ledger.totals().values())
