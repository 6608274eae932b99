"""Amending orders: what may change, what is refused, and who keeps his place in the queue."""

from dataclasses import replace
from decimal import Decimal as D

import pytest

from hedgelock.simulator.matching import BookShape

LISTED = {"category": "linear", "symbol": "BTCUSDT"}


def amend(desk, order, **changes):
    return desk.call("POST", "order/amend", **LISTED, orderId=order["orderId"], **changes)


def test_price_and_quantity_are_changed_and_pushed(desk):
    """An accepted amendment answers the ids, and the stream tells the order's new terms."""
    order = desk.order("Buy", "0.1", price="59500", orderLinkId="hl-a")
    desk.log.clear()
    reply = amend(desk, order, qty="0.2", price="59600")
    assert reply.result == {"orderId": order["orderId"], "orderLinkId": "hl-a"}
    (row,) = desk.pushed("order")
    assert (row["orderStatus"], row["qty"], row["price"]) == ("New", "0.2", "59600")
    assert {e.topic for e in desk.log} == {"order", "position", "wallet"}
    again = desk.call("POST", "order/amend", **LISTED, orderLinkId="hl-a", price="59700")
    assert again.code == 0
    assert desk.row(order["orderId"])["price"] == "59700"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 10001),
        ({"qty": "0.1"}, 10001),
        ({"qty": "0.1", "price": "59500"}, 10001),
        ({"qty": "0.0001"}, 110017),
        ({"qty": "0.1005"}, 10001),
        ({"qty": "2000"}, 10001),
        ({"qty": "nan"}, 10001),
        ({"price": "59500.05"}, 10001),
        ({"price": "0"}, 10001),
        ({"price": "3000000"}, 110003),
        ({"qty": "9"}, 110007),
        ({"takeProfit": "59000"}, 10001),
        ({"orderId": "nope"}, 110001),
        ({"orderId": "", "orderLinkId": ""}, 10001),
    ],
)
def test_a_refused_amendment_changes_nothing(desk, changes, code):
    order = desk.order("Buy", "0.1", price="59500")
    before, margin = desk.row(order["orderId"]), desk.wallet()
    given = {**LISTED, "orderId": order["orderId"], **changes}
    assert desk.call("POST", "order/amend", **given).code == code
    assert (desk.row(order["orderId"]), desk.wallet()) == (before, margin)


def test_nothing_changed_is_said_in_words(desk):
    order = desk.order("Buy", "0.1", price="59500")
    reply = amend(desk, order, price="59500.0")
    assert (reply.code, reply.message.split(",")[0]) == (
        10001, "The order remains unchanged as the parameters entered match the existing ones.",
    )  # fmt: skip


def test_a_closed_order_cannot_be_amended(desk):
    order = desk.order("Buy", "0.1", price="59500")
    desk.post("order/cancel", **LISTED, orderId=order["orderId"])
    assert amend(desk, order, qty="0.2").code == 110001
    filled = desk.order("Buy", "0.1")
    assert amend(desk, filled, qty="0.2").code == 110001


def partly_filled(open_desk, quiet_scenario):
    book = BookShape(levels=1, level_notional=1_000, growth=0.0)
    desk = open_desk(replace(quiet_scenario(), book=book))
    order = desk.order("Buy", "0.5", price="60000.1")
    assert order["orderStatus"] == "PartiallyFilled"
    return desk, order, D(order["cumExecQty"])


def test_the_new_quantity_is_the_total_and_must_exceed_what_is_filled(open_desk, quiet_scenario):
    """`qty` counts what is filled already; at or below it the answer is 110064."""
    desk, order, filled = partly_filled(open_desk, quiet_scenario)
    assert amend(desk, order, qty=str(filled)).code == 110064
    assert amend(desk, order, qty=str(filled + D("0.1"))).code == 0
    row = desk.row(order["orderId"])
    assert (row["orderStatus"], row["leavesQty"]) == ("PartiallyFilled", "0.1")


def queue(desk):
    """Ids of the resting sells at 60,000 in the order in which a buyer meets them."""
    desk.who = "unprotected-sim"
    desk.order("Buy", "0.3")
    desk.who = "hedgelock-sim"
    fills = desk.get("execution/list", **LISTED)["list"]
    return [f["orderLinkId"] for f in fills if f["isMaker"]][::-1]


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        ([{"qty": "0.05"}], "a"),
        ([{"qty": "0.2"}], "b"),
        ([{"price": "60000.5"}, {"price": "60000"}], "b"),
        ([{"takeProfit": "59000"}], "a"),
    ],
)
def test_only_a_smaller_quantity_at_the_same_price_keeps_its_place(desk, changes, first):
    """Price or quantity up: to the back of the queue; quantity down or TP/SL: the place stays."""
    for link in ("a", "b"):
        desk.order("Sell", "0.1", price="60000", orderLinkId=link)
    for change in changes:
        assert desk.call("POST", "order/amend", **LISTED, orderLinkId="a", **change).code == 0
    assert queue(desk)[0] == first


def test_a_price_amended_through_the_book_trades_at_once(desk):
    order = desk.order("Buy", "0.1", price="59500")
    amend(desk, order, price="60010")
    row = desk.row(order["orderId"])
    assert (row["orderStatus"], row["avgPrice"]) == ("Filled", "60000.1")


def test_a_post_only_order_amended_through_the_book_is_cancelled(desk):
    order = desk.order("Buy", "0.1", price="59500", timeInForce="PostOnly")
    assert amend(desk, order, price="60010").code == 0
    row = desk.row(order["orderId"])
    assert (row["orderStatus"], row["rejectReason"]) == (
        "Cancelled", "EC_PostOnlyWillTakeLiquidity",
    )  # fmt: skip
    assert desk.account.open_orders.values() == []


def test_an_amended_price_beyond_the_limit_is_clipped(desk):
    order = desk.order("Sell", "0.1", price="61000")
    amend(desk, order, price="50000")
    assert desk.row(order["orderId"])["price"] == "59400"


def test_a_reduce_only_order_never_grows_past_the_position(desk):
    desk.order("Sell", "0.2")
    order = desk.order("Buy", "0.1", price="59500", reduceOnly=True)
    amend(desk, order, qty="0.9")
    assert desk.row(order["orderId"])["qty"] == "0.2"


def test_spot_orders_are_amended_within_the_coins_there_are(desk):
    spot = {"category": "spot", "symbol": "BTCUSDT"}
    order = desk.order("Sell", "0.05", price="60500", category="spot")
    amended = {**spot, "orderId": order["orderId"]}
    assert desk.call("POST", "order/amend", **amended, qty="0.2").code == 170131
    assert desk.call("POST", "order/amend", **amended, qty="0.08", price="60400").code == 0
    coin = next(c for c in desk.wallet()["coin"] if c["coin"] == "BTC")
    assert coin["locked"] == "0.08"
    assert desk.call("POST", "order/amend", **spot, orderId="nope", qty="1").code == 170213


def test_margin_follows_the_amended_order(desk):
    """Order margin after an amendment is that of a fresh order with the same terms."""
    order = desk.order("Buy", "0.1", price="59500")
    amend(desk, order, qty="0.25", price="59400")
    amended = desk.wallet()["totalInitialMargin"]
    desk.post("order/cancel", **LISTED, orderId=order["orderId"])
    assert desk.wallet()["totalInitialMargin"] == "0"
    desk.order("Buy", "0.25", price="59400")
    assert desk.wallet()["totalInitialMargin"] == amended


def test_stops_are_amended_in_every_term(desk):
    """A waiting limit stop changes its price kind, its limit and its quantity; wrong ones fail."""
    order = desk.order(
        "Buy", "0.1", price="61500", triggerPrice="61000", triggerDirection=1
    )
    amended = {**LISTED, "orderId": order["orderId"]}
    for bad in ({"triggerPrice": "61000.05"}, {"triggerBy": "Mid", "triggerPrice": "61000"}):
        assert desk.call("POST", "order/amend", **amended, **bad).code == 10001
    assert desk.call("POST", "order/amend", **amended, triggerPrice="61000",
                     triggerBy="MarkPrice", price="60100", qty="0.2").code == 0  # fmt: skip
    row = desk.row(order["orderId"])
    assert (row["triggerBy"], row["price"], row["qty"]) == ("MarkPrice", "60100", "0.2")
    quote = desk.venue.exchange.market.quotes["linear.BTCUSDT"]
    quote.mark = D(61000)
    desk.call("GET", "account/info")
    assert amend(desk, order, triggerPrice="61100").code == 110001, "it has fired"


def test_levels_of_a_reducing_order_cannot_be_amended(desk):
    desk.order("Sell", "0.2")
    order = desk.order("Buy", "0.1", price="59500", reduceOnly=True)
    assert amend(desk, order, stopLoss="59000").code == 10001
    opening = desk.order("Buy", "0.1", price="59500", stopLoss="59000", takeProfit="60500")
    assert amend(desk, opening, stopLoss="59600").code == 10001
    assert amend(desk, opening, stopLoss="58000", slTriggerBy="MarkPrice").code == 0
    row = desk.row(opening["orderId"])
    assert (row["stopLoss"], row["slTriggerBy"], row["takeProfit"]) == ("58000", "MarkPrice", "60500")
