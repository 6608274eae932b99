"""Funding: at the exact instant, to the right side, with both exchanges' signs."""

from dataclasses import replace
from decimal import Decimal as D

import pytest

from hedgelock.simulator.paths import Corners

T0 = 1_700_000_000_000


@pytest.mark.parametrize(
    ("side", "rate", "exec_fee", "own_rate"),
    [
        ("Sell", 0.0001, "-3", "-0.0001"),  # the vector of the fact sheet: a short receives
        ("Buy", 0.0001, "3", "0.0001"),
        ("Sell", -0.0015, "45", "0.0015"),  # mania: shorts pay
        ("Buy", -0.0015, "-45", "-0.0015"),
    ],
)
def test_the_side_that_pays(open_desk, quiet_scenario, side, rate, exec_fee, own_rate):
    funding = {"BTC": ((0, rate),), "ETH": ((0, rate),)}
    desk = open_desk(replace(quiet_scenario(), funding=funding))
    desk.order(side, "0.5")
    before = desk.balance("USDT")
    desk.log.clear()
    desk.until(9_999)
    assert desk.balance("USDT") == before
    desk.until(10_000)
    assert desk.balance("USDT") - before == -D(exec_fee)
    (row,) = desk.get("execution/list", category="linear", execType="Funding")["list"]
    assert (row["execFee"], row["feeRate"], row["execQty"]) == (exec_fee, own_rate, "0.5")
    assert row["execPrice"] == "60000"
    assert row["execTime"] == str(T0 + 10_000)
    assert (row["orderType"], row["orderQty"], row["side"]) == ("UNKNOWN", "0", side)
    (log,) = desk.get("account/transaction-log", type="SETTLEMENT")["list"]
    assert D(log["funding"]) == -D(exec_fee)
    assert D(log["change"]) == -D(exec_fee)
    assert log["feeRate"] == own_rate
    assert log["tradeId"] == row["execId"]
    assert [r["execId"] for r in desk.pushed("execution")] == [row["execId"]]
    (wallet,) = desk.pushed("wallet")
    assert [c["coin"] for c in wallet["coin"]] == ["USDT"]
    assert D(wallet["coin"][0]["walletBalance"]) == desk.balance("USDT")
    assert desk.position()["seq"] == row["seq"]


def test_only_positions_open_at_the_instant_pay(desk):
    desk.until(10_000)
    desk.order("Sell", "0.5")
    desk.wait(5_000)
    assert desk.get("execution/list", category="linear", execType="Funding")["list"] == []


def test_inverse_positions_settle_in_coin(desk):
    desk.order("Sell", "5000", category="inverse", symbol="BTCUSD")
    before = desk.balance("BTC")
    desk.until(10_000)
    mark = desk.venue.exchange.market.quotes["inverse.BTCUSD"].mark
    assert desk.balance("BTC") - before == (D(5000) / mark * D("0.0001")).quantize(D("1E-10"))


def test_history_and_ticker_follow_the_settlement(desk):
    listed = {"category": "linear", "symbol": "BTCUSDT"}
    ticker = desk.get("market/tickers", **listed)["list"][0]
    assert ticker["nextFundingTime"] == str(T0 + 10_000)
    assert (ticker["fundingRate"], ticker["fundingIntervalHour"]) == ("0.0001", "8")
    count = len(desk.get("market/funding/history", **listed)["list"])
    desk.until(10_000)
    rows = desk.get("market/funding/history", **listed)["list"]
    assert len(rows) == count + 1
    assert rows[0] == {
        "symbol": "BTCUSDT",
        "fundingRate": "0.0001",
        "fundingRateTimestamp": str(T0 + 10_000),
    }
    after = desk.get("market/tickers", **listed)["list"][0]
    assert after["nextFundingTime"] == str(T0 + 10_000 + 8 * 3_600_000)
    assert desk.call("GET", "market/funding/history", **listed, startTime="1").code == 10001


def test_a_path_is_straight_between_its_corners():
    path = ((10, 100.0), (20, 200.0), (40, 0.0))
    assert [Corners(path).at(at) for at in (0, 10, 15, 20, 30, 40, 99)] == [
        100.0, 100.0, 150.0, 200.0, 100.0, 0.0, 0.0,
    ]  # fmt: skip
