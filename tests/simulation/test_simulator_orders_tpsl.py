"""Take profit and stop loss of positions: set, moved, cleared, executed, followed."""

from dataclasses import replace
from decimal import Decimal as D

import pytest

LISTED = {"category": "linear", "symbol": "BTCUSDT"}
FALLS = ((0, 60000), (1, 60000), (3, 58000), (6, 58000), (8, 61500))


def moving(open_desk, quiet_scenario, path=FALLS):
    return open_desk(replace(quiet_scenario(), prices={"BTC": path, "ETH": ((0, 3000),)}))


def set_stop(desk, **params):
    return desk.call("POST", "position/trading-stop", **LISTED, positionIdx=0, **params).code


def stops(desk, kind="tpslOrder"):
    rows = desk.get("order/realtime", **LISTED, orderFilter=kind)["list"]
    return {r["stopOrderType"]: r for r in rows}


def test_levels_are_shown_moved_and_cleared(desk):
    """Rows of position and orders show the levels; the same again is 34040; "0" clears one."""
    desk.order("Sell", "0.2")
    desk.log.clear()
    assert set_stop(desk, takeProfit="55000", stopLoss="63000", slTriggerBy="MarkPrice") == 0
    position = desk.position()
    assert (position["takeProfit"], position["stopLoss"]) == ("55000", "63000")
    assert desk.pushed("position")[-1]["stopLoss"] == "63000"
    orders = stops(desk)
    assert set(orders) == {"TakeProfit", "StopLoss"}
    loss = orders["StopLoss"]
    assert (loss["side"], loss["qty"], loss["orderType"], loss["orderStatus"]) == (
        "Buy", "0.2", "Market", "Untriggered",
    )  # fmt: skip
    assert (loss["createType"], loss["triggerBy"], loss["tpslMode"], loss["reduceOnly"]) == (
        "CreateByStopLoss", "MarkPrice", "Full", True,
    )  # fmt: skip
    assert set_stop(desk, takeProfit="55000") == 34040
    assert set_stop(desk, takeProfit="55000", stopLoss="62000", slTriggerBy="MarkPrice") == 0
    assert stops(desk)["StopLoss"]["orderId"] == loss["orderId"]
    assert set_stop(desk, takeProfit="0") == 0
    assert set_stop(desk, takeProfit="0") == 34040
    assert set_stop(desk) == 34040
    assert desk.position()["takeProfit"] == ""
    assert set(stops(desk)) == {"StopLoss"}


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"takeProfit": "61000"}, 10001),
        ({"stopLoss": "59000"}, 10001),
        ({"stopLoss": "59999.9"}, 10001),
        ({"stopLoss": "61000.05"}, 10001),
        ({"stopLoss": "x"}, 10001),
        ({"stopLoss": "61000", "slTriggerBy": "Mid"}, 10001),
        ({"stopLoss": "61000", "positionIdx": 1}, 10001),
        ({"stopLoss": "61000", "tpslMode": "Half"}, 10001),
        ({"stopLoss": "61000", "slOrderType": "Limit"}, 10001),
        ({"trailingStop": "100.05"}, 10001),
        ({"trailingStop": "60000"}, 10001),
        ({"trailingStop": "100.05", "stopLoss": "61000"}, 10001),
        ({"trailingStop": "100", "activePrice": "60500"}, 10001),
        ({"category": "spot", "stopLoss": "61000"}, 10001),
    ],
)
def test_levels_on_the_wrong_side_or_malformed_are_refused(desk, params, code):
    desk.order("Sell", "0.2")
    given = {**LISTED, **params}
    assert desk.call("POST", "position/trading-stop", **given).code == code
    assert stops(desk) == {}


def test_a_flat_position_takes_no_stop(desk):
    assert set_stop(desk, stopLoss="61000") == 10001


def test_a_stop_loss_closes_the_whole_position_and_clears_the_other(open_desk, quiet_scenario):
    """The one that fires carries its createType; its sibling ends with CancelByTpSlTsClear."""
    desk = moving(open_desk, quiet_scenario)
    desk.order("Buy", "0.1")
    assert set_stop(desk, takeProfit="65000", stopLoss="59000") == 0
    desk.order("Buy", "0.05")
    assert stops(desk)["StopLoss"]["qty"] == "0.15", "quantity follows the position"
    ids = {kind: row["orderId"] for kind, row in stops(desk).items()}
    desk.until(4_000)
    loss, profit = desk.row(ids["StopLoss"]), desk.row(ids["TakeProfit"])
    assert (loss["orderStatus"], loss["cumExecQty"], loss["createType"]) == (
        "Filled", "0.15", "CreateByStopLoss",
    )  # fmt: skip
    assert (profit["orderStatus"], profit["cancelType"]) == ("Deactivated", "CancelByTpSlTsClear")
    position = desk.position()
    assert (position["size"], position["takeProfit"], position["stopLoss"]) == ("0", "", "")
    assert desk.pushed("position")[-1]["stopLoss"] == "0"


def test_a_take_profit_of_a_short_fires_when_the_price_falls(open_desk, quiet_scenario):
    desk = moving(open_desk, quiet_scenario)
    desk.order("Sell", "0.1")
    set_stop(desk, takeProfit="59000")
    desk.until(4_000)
    (row,) = desk.get("position/closed-pnl", **LISTED)["list"]
    assert (row["side"], row["closedSize"], row["orderType"]) == ("Buy", "0.1", "Market")
    assert D(row["closedPnl"]) > 90
    assert [r["createType"] for r in desk.pushed("execution")][-1] == "CreateByTakeProfit"


def test_a_turned_position_loses_its_stops(desk):
    desk.order("Sell", "0.1")
    set_stop(desk, stopLoss="61000")
    desk.order("Buy", "0.3")
    assert (desk.position()["side"], stops(desk)) == ("Buy", {})


def test_a_cancelled_stop_leaves_the_position(desk):
    desk.order("Sell", "0.1")
    set_stop(desk, stopLoss="61000")
    desk.post("order/cancel", **LISTED, orderId=stops(desk)["StopLoss"]["orderId"])
    assert desk.position()["stopLoss"] == ""
    assert set_stop(desk, stopLoss="61000") == 0


def test_an_orders_levels_reach_the_position_when_it_fills(desk):
    """takeProfit and stopLoss of an opening order wait with it and are set by its first fill."""
    row = desk.order("Buy", "0.1", price="59500", takeProfit="62000", stopLoss="58000")
    assert (row["takeProfit"], row["stopLoss"], row["tpslMode"]) == ("62000", "58000", "Full")
    assert desk.position()["stopLoss"] == ""
    desk.post("order/amend", **LISTED, orderId=row["orderId"], stopLoss="57000", takeProfit="0")
    desk.post("order/amend", **LISTED, orderId=row["orderId"], price="60010")
    position = desk.position()
    assert (position["size"], position["takeProfit"], position["stopLoss"]) == ("0.1", "", "57000")


@pytest.mark.parametrize(
    "changes",
    [
        {"takeProfit": "59000"},
        {"stopLoss": "61000"},
        {"stopLoss": "59000", "reduceOnly": True},
        {"category": "spot", "stopLoss": "59000", "marketUnit": "baseCoin"},
        {"stopLoss": "59000", "tpslMode": "Partial"},
    ],
)
def test_levels_that_do_not_fit_the_order_are_refused(desk, changes):
    if changes.get("reduceOnly"):
        desk.order("Sell", "0.2")
    assert desk.refused("Buy", "0.1", **changes) == 10001


def test_partial_stops_are_orders_of_their_own(open_desk, quiet_scenario):
    """Mode Partial adds orders with quantities of their own, at most 20, limit or market."""
    desk = moving(open_desk, quiet_scenario)
    desk.order("Buy", "0.3")
    partial = {"tpslMode": "Partial", "stopLoss": "59000", "slSize": "0.1"}
    assert set_stop(desk, **partial) == 0
    assert set_stop(desk, **{**partial, "slSize": "0.9"}) == 10001
    assert set_stop(desk, tpslMode="Partial") == 10001
    assert set_stop(desk, tpslMode="Partial", stopLoss="0", slSize="0.1") == 10001
    limit = {"tpslMode": "Partial", "takeProfit": "61000", "tpSize": "0.1"}
    assert set_stop(desk, **limit, tpOrderType="Limit", tpLimitPrice="61000") == 0
    orders = stops(desk)
    assert (orders["PartialStopLoss"]["createType"], orders["PartialStopLoss"]["tpslMode"]) == (
        "CreateByPartialStopLoss", "Partial",
    )  # fmt: skip
    assert desk.position()["stopLoss"] == ""
    desk.until(4_000)
    assert desk.position()["size"] == "0.2"
    for _ in range(20 - len(desk.account.open_orders)):
        assert set_stop(desk, tpslMode="Partial", stopLoss="57000", slSize="0.1") == 0
    assert set_stop(desk, tpslMode="Partial", stopLoss="57000", slSize="0.1") == 110061


SWING = ((0, 60000), (1, 60000), (3, 61000), (4, 60800), (6, 62000), (8, 61000))


def test_a_trailing_stop_follows_the_best_price_and_closes_when_it_comes_back(
    open_desk, quiet_scenario
):
    """300 behind: 61,000 → 60,800 is not enough, 62,000 → 61,700 closes everything there."""
    desk = moving(open_desk, quiet_scenario, SWING)
    desk.order("Buy", "0.1")
    assert set_stop(desk, trailingStop="300") == 0
    assert set_stop(desk, trailingStop="300") == 34040
    assert desk.position()["trailingStop"] == "300"
    desk.until(4_000)
    (row,) = stops(desk).values()
    assert (row["stopOrderType"], row["triggerPrice"]) == ("TrailingStop", "60700")
    desk.until(8_000)
    row = desk.row(row["orderId"])
    assert (row["orderStatus"], row["createType"]) == ("Filled", "CreateByTrailingStop")
    assert D(61600) < D(row["avgPrice"]) <= D(61700)
    assert desk.position()["trailingStop"] == "0"


def test_a_trailing_stop_sleeps_until_its_active_price(open_desk, quiet_scenario):
    """Active from 61,500: the dip before does nothing; cleared by "0"; a short's goes down."""
    desk = moving(open_desk, quiet_scenario, SWING)
    desk.order("Buy", "0.1")
    assert set_stop(desk, trailingStop="100", activePrice="61500") == 0
    desk.until(4_500)
    (row,) = stops(desk).values()
    assert (row["triggerPrice"], desk.position()["size"]) == ("", "0.1")
    assert set_stop(desk, trailingStop="0") == 0
    assert stops(desk) == {}
    assert set_stop(desk, trailingStop="100", activePrice="61500") == 0
    desk.until(7_000)
    assert desk.position()["size"] == "0"
    desk.order("Sell", "0.1")
    assert set_stop(desk, trailingStop="200") == 0
    desk.wait(500)
    (row,) = stops(desk).values()
    quote = desk.venue.exchange.market.quotes["linear.BTCUSDT"]
    assert D(row["triggerPrice"]) <= quote.last + 200
    desk.order("Buy", "0.1")
    assert stops(desk) == {}
