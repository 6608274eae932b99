"""Orders: acceptance, kinds, fills, queries and what is pushed."""

from dataclasses import replace
from decimal import Decimal as D

import pytest

from hedgelock.simulator.matching import BUY, SELL, Book, BookShape, Match

LISTED = {"category": "linear", "symbol": "BTCUSDT"}


def thin(scenario, levels=3):
    """A book of few levels of 1,000 USDT each."""
    return replace(scenario, book=BookShape(levels=levels, level_notional=1_000, growth=0.0))


def test_a_market_order_fills_at_once(desk):
    row = desk.order("Sell", "0.5", orderLinkId="hl-1")
    assert (row["orderStatus"], row["cumExecQty"], row["leavesQty"]) == ("Filled", "0.5", "0")
    assert (row["orderType"], row["timeInForce"], row["orderLinkId"]) == ("Market", "IOC", "hl-1")
    fills = desk.get("execution/list", **LISTED)["list"]
    assert sum(D(f["execQty"]) for f in fills) == D("0.5")
    assert all(D(f["execFee"]) == D(f["execValue"]) * D("0.00055") for f in fills)
    assert row["cumFeeDetail"] == {"USDT": str(sum(D(f["execFee"]) for f in fills).normalize())}
    position = desk.position()
    assert (position["side"], position["size"]) == ("Sell", "0.5")
    assert position["seq"] == max(f["seq"] for f in fills)
    assert D(position["avgPrice"]) == sum(D(f["execValue"]) for f in fills) / D("0.5")
    assert [r["orderStatus"] for r in desk.pushed("order")] == ["Filled"]
    assert [r["execId"] for r in desk.pushed("execution")] == [f["execId"] for f in fills[::-1]]
    assert desk.pushed("position")[-1]["entryPrice"] == position["avgPrice"]
    assert "avgPrice" not in desk.pushed("position")[-1]


def test_profit_and_fees_reach_the_wallet(open_desk, quiet_scenario):
    falls = ((0, 60000), (1, 60000), (2, 50000))
    desk = open_desk(replace(quiet_scenario(), prices={"BTC": falls, "ETH": ((0, 3000),)}))
    desk.order("Sell", "0.1")
    desk.until(3_000)
    closed = desk.order("Buy", "0.1", reduceOnly=True)
    fills = desk.get("execution/list", **LISTED)["list"]
    entry = sum(D(f["execValue"]) for f in fills if f["side"] == "Sell")
    leaving = sum(D(f["execValue"]) for f in fills if f["side"] == "Buy")
    fees = sum(D(f["execFee"]) for f in fills)
    assert desk.balance("USDT") == 6000 + entry - leaving - fees
    assert sum(D(f["execPnl"]) for f in fills) == entry - leaving
    assert sum(D(f["closedSize"]) for f in fills) == D("0.1")
    assert closed["reduceOnly"] is True
    assert desk.position()["side"] == ""


def test_inverse_profit_is_in_coin(open_desk, quiet_scenario):
    """The vector of §8.3: short 30,000 USD from 60,000 to 50,000 makes .1 BTC (.01 for 3,000)."""
    falls = ((0, 60000), (1, 60000), (2, 50000))
    desk = open_desk(replace(quiet_scenario(), prices={"BTC": falls, "ETH": ((0, 3000),)}))
    inverse = {"category": "inverse", "symbol": "BTCUSD"}
    desk.order("Sell", "3000", **inverse)
    desk.until(3_000)
    desk.order("Buy", "3000", reduceOnly=True, **inverse)
    fills = desk.get("execution/list", category="inverse")["list"]
    assert abs(sum(D(f["execPnl"]) for f in fills) - D("0.01")) < D("0.000002")
    assert {f["feeCurrency"] for f in fills} == {"BTC"}


def test_a_reversing_order_flips_the_position(desk):
    desk.order("Sell", "0.3")
    desk.order("Buy", "0.5")
    position = desk.position()
    assert (position["side"], position["size"]) == ("Buy", "0.2")


def test_a_flat_symbol_is_listed_and_empty(desk):
    flat = desk.position()
    assert (flat["side"], flat["size"], flat["positionValue"], flat["unrealisedPnl"]) == (
        "", "0", "", "",
    )  # fmt: skip
    assert (flat["seq"], flat["positionIdx"], flat["leverage"]) == (-1, 0, "10")
    assert desk.get("position/list", category="linear", settleCoin="USDT")["list"] == []
    assert desk.call("GET", "position/list", category="linear").code == 10001


@pytest.mark.no_cover
def test_a_link_id_is_used_once_for_ever(open_desk):
    desk = open_desk(tick_ms=1_200_000)
    desk.order("Sell", "0.01", orderLinkId="once")
    assert desk.refused("Sell", "0.01", orderLinkId="once") == 110072
    desk.wait(30 * 86_400_000)
    assert desk.refused("Buy", "0.01", orderLinkId="once") == 110072
    resting = desk.order("Sell", "0.01", price="61000", orderLinkId="two")
    desk.post("order/cancel", **LISTED, orderLinkId="two")
    assert desk.row(resting["orderId"])["orderStatus"] == "Cancelled"
    assert desk.refused("Sell", "0.01", orderLinkId="two") == 110072
    spot = {"category": "spot", "symbol": "BTCUSDT", "orderLinkId": "once"}
    desk.order("Sell", "0.01", **spot)
    assert desk.refused("Sell", "0.01", **spot) == 170141
    desk.who = "unprotected-sim"
    desk.order("Sell", "0.01", orderLinkId="once")


def test_a_refused_order_leaves_its_id_free(desk):
    assert desk.refused("Sell", "50", orderLinkId="mine") == 110007
    desk.order("Sell", "0.01", orderLinkId="mine")


def test_reduce_only_never_opens(desk):
    assert desk.refused("Buy", "0.1", reduceOnly=True) == 110017
    desk.order("Sell", "0.2")
    assert desk.refused("Sell", "0.1", reduceOnly=True) == 110017
    row = desk.order("Buy", "0.5", reduceOnly=True)
    assert (row["qty"], row["cumExecQty"]) == ("0.2", "0.2")
    assert desk.position()["size"] == "0"


def test_resting_reduce_only_orders_follow_the_position(desk):
    desk.order("Sell", "0.2")
    first = desk.order("Buy", "0.2", price="59900", reduceOnly=True)
    desk.order("Buy", "0.15")
    assert desk.row(first["orderId"])["leavesQty"] == "0.05"
    desk.order("Buy", "0.05", reduceOnly=True)
    assert desk.row(first["orderId"])["cancelType"] == "CancelByReduceOnly"


def test_full_close_by_zero_quantity(desk):
    desk.order("Sell", "0.35")
    desk.order("Buy", "0", reduceOnly=True, closeOnTrigger=True)
    assert desk.position()["size"] == "0"
    assert desk.refused("Buy", "0") == 110017


def test_post_only_that_would_cross_is_cancelled_after_acceptance(desk):
    row = desk.order("Buy", "0.1", price="60010", timeInForce="PostOnly")
    assert (row["orderStatus"], row["rejectReason"], row["cancelType"]) == (
        "Cancelled", "EC_PostOnlyWillTakeLiquidity", "UNKNOWN",
    )  # fmt: skip
    assert row["leavesQty"] == "0"
    rests = desk.order("Buy", "0.1", price="59990", timeInForce="PostOnly")
    assert rests["orderStatus"] == "New"
    assert (rests["avgPrice"], rests["leavesQty"], rests["leavesValue"]) == ("", "0.1", "5999")


def test_ioc_takes_what_there_is(open_desk, quiet_scenario):
    desk = open_desk(thin(quiet_scenario()))
    row = desk.order("Buy", "0.5", price="60000.1", timeInForce="IOC")
    assert row["orderStatus"] == "Cancelled"
    assert 0 < D(row["cumExecQty"]) < D("0.1")
    assert row["rejectReason"] == "EC_NoImmediateQtyToFill"
    assert desk.position()["size"] == row["cumExecQty"]


def test_a_market_order_larger_than_the_book_is_filled_in_part(open_desk, quiet_scenario):
    desk = open_desk(thin(quiet_scenario()))
    row = desk.order("Sell", "0.5")
    assert row["orderStatus"] == "Cancelled"
    assert 0 < D(row["cumExecQty"]) < D("0.5")
    empty = desk.order("Sell", "0.5")
    assert (empty["orderStatus"], empty["cumExecQty"]) == ("Cancelled", "0")
    desk.wait(100)
    again = desk.order("Sell", "0.01")
    assert again["orderStatus"] == "Filled", "the book refills with the next tick"


def test_fill_or_kill_is_all_or_nothing(open_desk, quiet_scenario):
    desk = open_desk(thin(quiet_scenario()))
    row = desk.order("Buy", "0.5", price="60100", timeInForce="FOK")
    assert (row["orderStatus"], row["cumExecQty"]) == ("Cancelled", "0")
    assert row["rejectReason"] == "EC_CancelForNoFullFill"
    row = desk.order("Buy", "0.01", price="60100", timeInForce="FOK")
    assert row["orderStatus"] == "Filled"


def test_a_resting_order_is_filled_as_maker_when_the_market_comes(open_desk, quiet_scenario):
    falls = ((0, 60000), (1, 60000), (3, 59000))
    desk = open_desk(replace(quiet_scenario(), prices={"BTC": falls, "ETH": ((0, 3000),)}))
    row = desk.order("Buy", "0.1", price="59500")
    assert row["orderStatus"] == "New"
    desk.log.clear()
    desk.until(4_000)
    row = desk.row(row["orderId"])
    assert row["orderStatus"] == "Filled"
    (fill,) = desk.get("execution/list", **LISTED)["list"]
    assert (fill["isMaker"], fill["execPrice"], fill["feeRate"]) == (True, "59500", "0.0002")
    assert [e.topic for e in desk.log if e.account] == ["execution", "order", "position", "wallet"]


def test_accounts_trade_with_each_other_by_price_then_time(desk):
    desk.order("Sell", "0.1", price="60000", orderLinkId="first", timeInForce="PostOnly")
    desk.who = "unprotected-sim"
    desk.order("Sell", "0.1", price="60000", orderLinkId="second", timeInForce="PostOnly")
    taker = desk.order("Buy", "0.15")
    assert taker["orderStatus"] == "Filled"
    assert {f["execPrice"] for f in desk.get("execution/list", **LISTED)["list"]} == {"60000"}
    second = desk.get("order/realtime", **LISTED, orderLinkId="second")["list"][0]
    assert (second["orderStatus"], second["leavesQty"]) == ("PartiallyFilled", "0.05")
    desk.who = "hedgelock-sim"
    first = desk.get("order/realtime", **LISTED, orderLinkId="first")["list"][0]
    assert first["orderStatus"] == "Filled"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"qty": "0.0005"}, 110017),
        ({"qty": "0.0015"}, 10001),
        ({"qty": "nan"}, 10001),
        ({"qty": "-1"}, 10001),
        ({"qty": ""}, 10001),
        ({"qty": "1e99"}, 10001),
        ({"qty": "501"}, 10001),
        ({"side": "sell"}, 10001),
        ({"symbol": "NOPE"}, 10001),
        ({"category": "future"}, 10001),
        ({"price": "60000.05", "orderType": "Limit"}, 10001),
        ({"price": "1e30", "orderType": "Limit"}, 10001),
        ({"orderType": "Limit"}, 10001),
        ({"orderLinkId": "x" * 37}, 10001),
        ({"orderLinkId": "a b"}, 10001),
        ({"positionIdx": 1}, 10001),
        ({"timeInForce": "GFD", "orderType": "Limit", "price": "60000"}, 10001),
        ({"category": "spot", "qty": "0.0000001"}, 170137),
        ({"category": "spot", "qty": "0.00001"}, 170140),
        ({"category": "spot", "qty": "1"}, 170131),
        ({"category": "spot", "symbol": "NOPE"}, 170121),
        ({"category": "spot", "price": "60000.05", "orderType": "Limit"}, 170134),
        ({"category": "spot", "price": "50000", "orderType": "Limit", "qty": "0.01"}, 170194),
    ],
)
def test_bad_orders_are_refused_by_code(desk, changes, code):
    base = {**LISTED, "side": "Sell", "orderType": "Market", "qty": "0.01"}
    assert desk.call("POST", "order/create", **{**base, **changes}).code == code
    assert desk.account.orders == []


def test_least_value_binds_opening_and_not_closing(open_desk, quiet_scenario):
    cheap = {"BTC": ((0, 60000), (1, 60000), (2, 4000)), "ETH": ((0, 3000),)}
    desk = open_desk(replace(quiet_scenario(), prices=cheap))
    desk.order("Sell", "0.002")
    desk.until(3_000)
    assert desk.refused("Sell", "0.001") == 110094
    desk.order("Buy", "0.001", reduceOnly=True)


def test_prices_beyond_the_limit_are_clipped(desk):
    row = desk.order("Sell", "0.01", price="50000")
    assert row["price"] == "59400", "mark × (1 − X), above mark × (1 − Y)"
    assert row["orderStatus"] == "Filled"


def test_cancel_and_cancel_all(desk):
    placed = [desk.order("Buy", "0.01", price=f"{59000 + n}") for n in range(3)]
    desk.post("order/cancel", **LISTED, orderId=placed[0]["orderId"])
    assert desk.call("POST", "order/cancel", **LISTED, orderId=placed[0]["orderId"]).code == 110001
    assert desk.call("POST", "order/cancel", **LISTED, orderId="nope").code == 110001
    assert desk.call("POST", "order/cancel-all", category="linear").code == 10001
    gone = desk.post("order/cancel-all", category="linear", settleCoin="USDT")
    assert [g["orderId"] for g in gone["list"]] == [p["orderId"] for p in placed[1:]]
    assert desk.get("order/realtime", **LISTED)["list"] == []
    rows = desk.get("order/history", **LISTED)["list"]
    assert {r["cancelType"] for r in rows} == {"CancelByUser"}
    assert {r["leavesQty"] for r in rows} == {"0"}


def test_lists_are_paged_newest_first(desk):
    placed = [desk.order("Buy", "0.01", price=f"{58900 + n}")["orderId"] for n in range(7)]
    seen, cursor = [], ""
    while True:
        page = desk.get("order/realtime", **LISTED, limit=3, cursor=cursor)
        seen += [r["orderId"] for r in page["list"]]
        cursor = page["nextPageCursor"]
        if not cursor:
            break
        desk.order("Buy", "0.01", price="58800")
    assert seen == placed[::-1]


def test_spot_market_orders_swap_coins(desk):
    desk.order("Sell", "0.05", category="spot")
    usdt = desk.balance("USDT")
    assert desk.balance("BTC") == D("0.05")
    assert abs(usdt - (6000 + D("0.05") * 60000 * D("0.999"))) < 1
    desk.order("Buy", "1500", category="spot")
    assert abs(desk.balance("BTC") - (D("0.05") + D("0.025") * D("0.999"))) < D("0.00001")
    kinds = [(r["currency"], r["type"]) for r in desk.get("account/transaction-log")["list"]]
    assert {("BTC", "TRADE"), ("USDT", "TRADE")} <= set(kinds)
    fills = desk.get("execution/list", category="spot")["list"]
    assert {f["feeCurrency"] for f in fills} == {"BTC", "USDT"}


def test_resting_spot_orders_lock_coins(desk):
    desk.order("Sell", "0.08", category="spot", price="61000")
    coin = next(c for c in desk.wallet()["coin"] if c["coin"] == "BTC")
    assert coin["locked"] == "0.08"
    assert desk.refused("Sell", "0.05", category="spot") == 170131


def test_leverage_unchanged_is_said(desk):
    params = {**LISTED, "buyLeverage": "5", "sellLeverage": "5"}
    assert desk.call("POST", "position/set-leverage", **params).code == 0
    assert desk.call("POST", "position/set-leverage", **params).code == 110043
    assert desk.position()["leverage"] == "5"
    assert (
        desk.call("POST", "position/set-leverage", **LISTED, buyLeverage="5", sellLeverage="6").code
        == 10001
    )


def book_at(mid=1000, **shape):
    book = Book(BookShape(**shape))
    book.recentre(mid_ticks=mid, best_lots=100)
    return book


def test_matching_consumes_levels_in_order():
    book = book_at(levels=3, growth=0.0)
    asks = book.levels(SELL, 10)
    assert [t for t, _ in asks] == [1001, 1006, 1011]
    first, second = asks[0][1], asks[1][1]
    assert book.take(BUY, lots=first + 5, limit_ticks=2000) == [
        Match(1001, first, None),
        Match(1006, 5, None),
    ]
    assert book.levels(SELL, 10)[0] == (1006, second - 5)
    assert book.take(BUY, lots=10, limit_ticks=1005) == []
    assert book.available(BUY, limit_ticks=1006) == second - 5


def test_resting_orders_stand_before_the_synthetic_book():
    book = book_at()
    book.rest("a", side=SELL, ticks=1001, lots=5)
    book.rest("b", side=SELL, ticks=1000, lots=5)
    book.rest("c", side=SELL, ticks=1001, lots=5)
    matched = book.take(BUY, lots=20, limit_ticks=1001)
    assert [(m.maker, m.lots) for m in matched] == [("b", 5), ("a", 5), ("c", 5), (None, 5)]
    book.remove("a")
    assert book.best_ask() == 1001


def test_a_book_that_moves_through_resting_orders_fills_them_within_its_size():
    book = book_at(levels=2, growth=0.0)
    book.rest("far", side=BUY, ticks=990, lots=10_000)
    book.rest("near", side=BUY, ticks=995, lots=50)
    assert book.sweep() == []
    book.recentre(mid_ticks=980, best_lots=100)
    filled = book.sweep()
    assert [(m.maker, m.ticks) for m in filled] == [("near", 995), ("far", 990)]
    assert filled[0].lots == 50
    assert filled[1].lots < 300
