"""Conditional orders: accepted, watched, triggered, cancelled."""

from dataclasses import replace
from decimal import Decimal as D

import pytest

LISTED = {"category": "linear", "symbol": "BTCUSDT"}
FALLS = ((0, 60000), (1, 60000), (3, 58000), (6, 58000), (8, 61500))


def moving(open_desk, quiet_scenario, path=FALLS):
    return open_desk(replace(quiet_scenario(), prices={"BTC": path, "ETH": ((0, 3000),)}))


def stop(desk, side="Buy", qty="0.1", **changes):
    given = {"triggerPrice": "61000", "triggerDirection": 1, **changes}
    placed = desk.post(
        "order/create", **{**LISTED, "side": side, "qty": qty,
                           "orderType": "Limit" if "price" in given else "Market", **given}
    )  # fmt: skip
    return desk.row(placed["orderId"], given.get("category", "linear"))


def test_a_stop_waits_without_margin(desk):
    """Untriggered, no order margin, shown among the open orders, not in the book."""
    row = stop(desk, orderLinkId="guard")
    assert (row["orderStatus"], row["stopOrderType"], row["triggerBy"]) == (
        "Untriggered", "Stop", "LastPrice",
    )  # fmt: skip
    assert (row["triggerPrice"], row["triggerDirection"], row["price"]) == ("61000", 1, "0")
    assert desk.wallet()["totalInitialMargin"] == "0"
    listed = desk.get("order/realtime", **LISTED)["list"]
    assert [o["orderId"] for o in listed] == [row["orderId"]]
    stops = desk.get("order/realtime", **LISTED, orderFilter="StopOrder")["list"]
    assert len(stops) == 1
    assert desk.get("order/realtime", **LISTED, orderFilter="Order")["list"] == []
    assert [e.topic for e in desk.log] == ["order", "position"]


def test_a_market_stop_has_no_price_and_no_value(desk):
    """Linear or inverse: price and leavesValue are "0" until it is triggered."""
    for contract in ({}, {"category": "inverse", "symbol": "BTCUSD", "qty": "100"}):
        row = stop(desk, **contract)
        assert (row["price"], row["leavesValue"]) == ("0", "0")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"triggerPrice": "59000"}, 110092),
        ({"triggerPrice": "60000"}, 110092),
        ({"triggerDirection": 2}, 110093),
        ({"triggerPrice": "60000", "triggerDirection": 2}, 110093),
        ({"triggerDirection": 0}, 10001),
        ({"triggerDirection": None}, 10001),
        ({"triggerPrice": "61000.05"}, 10001),
        ({"triggerPrice": "nan"}, 10001),
        ({"triggerBy": "Mid"}, 10001),
        ({"qty": "0"}, 110017),
    ],
)
def test_a_trigger_must_lie_ahead_of_the_price(desk, changes, code):
    base = {"side": "Buy", "qty": "0.1", "triggerPrice": "61000", "triggerDirection": 1}
    given = {**LISTED, "orderType": "Market", **base, **changes}
    assert desk.call("POST", "order/create", **given).code == code
    assert desk.account.orders == []


def test_a_stop_runs_through_triggered_and_new_to_filled(open_desk, quiet_scenario):
    desk = moving(open_desk, quiet_scenario)
    desk.order("Buy", "0.1")
    row = stop(desk, "Sell", triggerPrice="59000", triggerDirection=2, reduceOnly=True)
    desk.log.clear()
    desk.until(4_000)
    statuses = [r["orderStatus"] for r in desk.pushed("order") if r["orderId"] == row["orderId"]]
    assert statuses == ["Triggered", "Filled"]
    row = desk.row(row["orderId"])
    assert (row["createType"], row["stopOrderType"]) == ("CreateByStopOrder", "Stop")
    assert D(58900) < D(row["avgPrice"]) <= D(59000)
    assert desk.position()["size"] == "0"
    (fill,) = [f for f in desk.pushed("execution") if f["orderId"] == row["orderId"]]
    assert (fill["stopOrderType"], fill["createType"]) == ("Stop", "CreateByStopOrder")


def test_a_triggered_limit_order_rests(open_desk, quiet_scenario):
    desk = moving(open_desk, quiet_scenario)
    row = stop(
        desk, "Buy", triggerPrice="59000", triggerDirection=2, price="58500", timeInForce="GTC"
    )
    desk.until(2_200)
    row = desk.row(row["orderId"])
    assert (row["orderStatus"], row["price"]) == ("New", "58500")
    assert D(desk.wallet()["totalInitialMargin"]) > 0, "margin is taken once triggered"
    desk.until(4_000)
    assert desk.row(row["orderId"])["orderStatus"] == "Filled"


@pytest.mark.parametrize("by", ["LastPrice", "MarkPrice", "IndexPrice"])
def test_each_price_kind_wakes_its_own_orders(desk, by):
    """Only the price of the order's kind counts."""
    row = stop(desk, triggerBy=by)
    quote = desk.venue.exchange.market.quotes["linear.BTCUSDT"]
    others = {"LastPrice": "last", "MarkPrice": "mark", "IndexPrice": "index"}
    mine = others.pop(by)
    for name in others.values():
        setattr(quote, name, D(62000))
    desk.call("GET", "account/info")
    assert desk.row(row["orderId"])["orderStatus"] == "Untriggered"
    setattr(quote, mine, D(61000))
    desk.call("GET", "account/info")
    assert desk.row(row["orderId"])["orderStatus"] == "Filled"


def test_a_trade_of_another_account_moves_the_last_price_and_wakes_a_stop(desk):
    row = stop(desk, triggerPrice="60005", orderLinkId="chain")
    desk.who = "unprotected-sim"
    desk.order("Sell", "0.01", price="60006", timeInForce="PostOnly")
    desk.venue.exchange.books["linear.BTCUSDT"].recentre(mid_ticks=601_000, best_lots=1_000)
    desk.who = "hedgelock-sim"
    assert desk.order("Buy", "0.01")["avgPrice"] == "60006"
    assert desk.row(row["orderId"])["orderStatus"] == "Filled"


def test_a_triggered_order_without_margin_is_cancelled(open_desk, quiet_scenario):
    desk = moving(open_desk, quiet_scenario)
    row = stop(desk, "Sell", "10", triggerPrice="59000", triggerDirection=2)
    assert row["orderStatus"] == "Untriggered"
    desk.until(4_000)
    row = desk.row(row["orderId"])
    assert (row["orderStatus"], row["cumExecQty"], row["rejectReason"]) == (
        "Cancelled", "0", "EC_Others",
    )  # fmt: skip


@pytest.mark.parametrize("flag", ["reduceOnly", "closeOnTrigger"])
def test_a_reducing_stop_without_position_is_cancelled_when_triggered(
    open_desk, quiet_scenario, flag
):
    desk = moving(open_desk, quiet_scenario)
    row = stop(desk, "Sell", triggerPrice="59000", triggerDirection=2, **{flag: True})
    desk.until(4_000)
    row = desk.row(row["orderId"])
    assert (row["orderStatus"], row["cancelType"]) == ("Cancelled", "CancelByReduceOnly")
    assert desk.position()["size"] == "0"


def test_a_reducing_stop_shrinks_to_the_position(open_desk, quiet_scenario):
    desk = moving(open_desk, quiet_scenario)
    desk.order("Buy", "0.05")
    row = stop(desk, "Sell", "0.4", triggerPrice="59000", triggerDirection=2, reduceOnly=True)
    desk.until(4_000)
    assert desk.row(row["orderId"])["cumExecQty"] == "0.05"
    assert desk.position()["side"] == "", "it never turns the position"


def test_quantity_zero_closes_whatever_is_there(open_desk, quiet_scenario):
    desk = moving(open_desk, quiet_scenario)
    given = {"reduceOnly": True, "closeOnTrigger": True}
    row = stop(desk, "Sell", "0", triggerPrice="59000", triggerDirection=2, **given)
    desk.order("Buy", "0.123")
    desk.until(4_000)
    row = desk.row(row["orderId"])
    assert (row["orderStatus"], row["cumExecQty"]) == ("Filled", "0.123")


def test_a_cancelled_stop_is_deactivated_and_sleeps_for_ever(open_desk, quiet_scenario):
    desk = moving(open_desk, quiet_scenario)
    row = stop(desk, "Sell", triggerPrice="59000", triggerDirection=2)
    desk.post("order/cancel", **LISTED, orderId=row["orderId"])
    desk.until(4_000)
    row = desk.row(row["orderId"])
    assert (row["orderStatus"], row["cancelType"]) == ("Deactivated", "CancelByUser")
    (closed,) = desk.get("order/history", **LISTED)["list"]
    assert closed["orderStatus"] == "Deactivated"


def test_an_amended_trigger_counts_and_the_old_one_does_not(open_desk, quiet_scenario):
    desk = moving(open_desk, quiet_scenario)
    row = stop(desk, "Sell", triggerPrice="59000", triggerDirection=2)
    amended = {**LISTED, "orderId": row["orderId"]}
    assert desk.call("POST", "order/amend", **amended, triggerPrice="59000").code == 10001
    assert desk.call("POST", "order/amend", **amended, triggerPrice="60500").code == 110093
    assert desk.call("POST", "order/amend", **amended, triggerPrice="57000", qty="0.2").code == 0
    desk.until(5_000)
    row = desk.row(row["orderId"])
    assert (row["orderStatus"], row["triggerPrice"], row["qty"]) == ("Untriggered", "57000", "0.2")
    assert desk.call("POST", "order/amend", **amended, triggerPrice="57990").code == 0
    assert desk.call("POST", "order/amend", **amended, triggerPrice="57000").code == 0
    assert desk.call("POST", "order/amend", **amended, triggerPrice="57999", qty="0.01").code == 0
    desk.wait(1_000)
    assert desk.row(row["orderId"])["orderStatus"] == "Untriggered"


def test_ten_conditional_orders_per_symbol(desk):
    for _ in range(10):
        stop(desk)
    given = {"triggerPrice": "61000", "triggerDirection": 1}
    assert desk.refused("Buy", "0.1", **given) == 110009
    assert desk.order("Buy", "0.1", price="59500")["orderStatus"] == "New"
    gone = desk.post("order/cancel-all", **LISTED, orderFilter="StopOrder")
    assert len(gone["list"]) == 10
    assert len(desk.account.open_orders) == 1


def test_spot_stops_take_their_direction_from_the_price(open_desk, quiet_scenario):
    desk = moving(open_desk, quiet_scenario)
    given = {"category": "spot", "orderFilter": "StopOrder", "triggerPrice": "59000"}
    row = desk.order("Sell", "0.05", **given)
    assert (row["orderStatus"], row["triggerDirection"]) == ("Untriggered", 2)
    assert desk.wallet()["coin"][0]["locked"] == "0"
    given = {"category": "spot", "orderFilter": "tpslOrder"}
    assert desk.refused("Sell", "0.05", **given) == 10001
    desk.until(4_000)
    assert desk.row(row["orderId"], "spot")["orderStatus"] == "Filled"
    assert desk.balance("BTC") == D("0.05")


def test_a_stop_fires_before_the_liquidation_of_the_same_tick(open_desk, quiet_scenario):
    """A gap that crosses the stop and the margin cliff at once reaches the stop first."""
    gap = ((0, 60000), (1, 60000), (1.05, 50000))
    desk = moving(open_desk, quiet_scenario, gap)
    desk.order("Buy", "1")
    stop(desk, "Sell", "0", triggerPrice="59000", triggerDirection=2, reduceOnly=True,
         closeOnTrigger=True)  # fmt: skip
    desk.until(1_200)
    (closing,) = [f for f in desk.pushed("execution") if f["closedSize"] != "0"][:1]
    assert (closing["execType"], closing["stopOrderType"]) == ("Trade", "Stop")
