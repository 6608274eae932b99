"""What order, position and profit queries know, and for how long."""

from dataclasses import replace
from decimal import Decimal as D

import pytest

LISTED = {"category": "linear", "symbol": "BTCUSDT"}
HOUR_MS = 3_600_000


def cancelled(desk, **params):
    order = desk.order("Buy", "0.001", price="30000", **params)
    desk.post("order/cancel", **LISTED, orderId=order["orderId"])
    return order["orderId"]


def test_realtime_lists_the_five_hundred_last_closed(desk):
    """openOnly=1 shows closed orders newest first, 500 of them; an id finds either kind."""
    gone = [cancelled(desk) for _ in range(510)]
    rests = desk.order("Buy", "0.001", price="30000")["orderId"]
    seen, cursor = [], ""
    while True:
        page = desk.get("order/realtime", **LISTED, openOnly=1, limit=50, cursor=cursor)
        seen += [r["orderId"] for r in page["list"]]
        cursor = page["nextPageCursor"]
        if not cursor:
            break
    assert seen == gone[:9:-1]
    named = [desk.get("order/realtime", **LISTED, orderId=i)["list"] for i in (rests, gone[-1])]
    assert [len(rows) for rows in named] == [1, 1]
    assert desk.get("order/realtime", **LISTED, orderId=gone[0])["list"] == []
    assert [r["orderId"] for r in desk.get("order/realtime", **LISTED)["list"]] == [rests]


def test_history_forgets_orders_without_fills_after_a_day(open_desk):
    """Cancelled without a fill: 24 h; with a fill: the whole window of seven days and beyond."""
    desk = open_desk(tick_ms=1_200_000)
    dry, filled = cancelled(desk, orderLinkId="dry"), desk.order("Sell", "0.01")["orderId"]
    ids = [r["orderId"] for r in desk.get("order/history", **LISTED)["list"]]
    assert ids == [filled, dry]
    desk.wait(24 * HOUR_MS + 1)
    ids = [r["orderId"] for r in desk.get("order/history", **LISTED)["list"]]
    assert ids == [filled]
    assert desk.get("order/history", **LISTED, orderLinkId="dry")["list"] == []
    assert desk.refused("Buy", "0.01", orderLinkId="dry") == 110072, "the id stays used"
    desk.wait(7 * 24 * HOUR_MS)
    assert desk.get("order/history", **LISTED)["list"] == []
    start = desk.now_ms - 9 * 24 * HOUR_MS
    old = desk.get("order/history", **LISTED, startTime=start, endTime=start + 7 * 24 * HOUR_MS)
    assert [r["orderId"] for r in old["list"]] == [filled]
    assert desk.call("GET", "order/history", **LISTED, startTime=start, endTime=desk.now_ms).code == (
        10001
    )


def test_a_new_order_may_be_missing_from_queries_for_a_while(desk):
    """Within `visibility_lag_ms` after the acknowledgement queries do not know it; cancel does."""
    desk.venue.exchange.visibility_lag_ms = 300
    reply = desk.post(
        "order/create", **LISTED, side="Buy", orderType="Limit", qty="0.01", price="59000",
        orderLinkId="late",
    )  # fmt: skip
    by_link = {**LISTED, "orderLinkId": "late"}
    assert desk.get("order/realtime", **by_link)["list"] == []
    assert desk.get("order/realtime", **LISTED)["list"] == []
    assert desk.call("POST", "order/create", **by_link, side="Buy", orderType="Market",
                     qty="0.01").code == 110072  # fmt: skip
    desk.wait(300)
    assert [r["orderId"] for r in desk.get("order/realtime", **LISTED)["list"]] == [
        reply["orderId"]
    ]
    sold = desk.post("order/create", **LISTED, side="Sell", orderType="Market", qty="0.01")
    assert desk.get("order/history", **LISTED, orderId=sold["orderId"])["list"] == []
    again = desk.post(
        "order/create", **LISTED, side="Buy", orderType="Limit", qty="0.01", price="59000"
    )
    assert desk.call("POST", "order/cancel", **LISTED, orderId=again["orderId"]).code == 0


def test_lists_filter_by_status_and_kind(desk):
    cancelled(desk)
    desk.order("Sell", "0.01")
    history = desk.get("order/history", **LISTED, orderStatus="Filled")["list"]
    assert [r["orderStatus"] for r in history] == ["Filled"]
    assert desk.call("GET", "order/history", **LISTED, orderFilter="Iceberg").code == 10001
    assert desk.get("order/history", **LISTED, orderFilter="StopOrder")["list"] == []


def test_closed_profit_is_net_of_both_fees(open_desk, quiet_scenario):
    """One row per closing order; Σ closedPnl = Σ execPnl − all fees once flat, without funding."""
    falls = ((0, 60000), (1, 60000), (2, 50000), (3, 50000), (4, 52000))
    desk = open_desk(replace(quiet_scenario(), prices={"BTC": falls, "ETH": ((0, 3000),)}))
    desk.order("Sell", "0.3")
    desk.until(2_500)
    part = desk.order("Buy", "0.1", reduceOnly=True)
    desk.until(4_500)
    turn = desk.order("Buy", "0.25")
    last = desk.order("Sell", "0.05")
    rows = desk.get("position/closed-pnl", **LISTED)["list"]
    assert [r["orderId"] for r in rows] == [o["orderId"] for o in (last, turn, part)]
    assert [(r["side"], r["closedSize"]) for r in rows] == [
        ("Sell", "0.05"), ("Buy", "0.2"), ("Buy", "0.1"),
    ]  # fmt: skip
    fills = desk.get("execution/list", **LISTED)["list"]
    pnl, fees = (sum(D(f[name]) for f in fills) for name in ("execPnl", "execFee"))
    assert sum(D(r["closedPnl"]) for r in rows) == pnl - fees
    assert desk.balance("USDT") - 6000 == pnl - fees
    assert sum(D(r["openFee"]) + D(r["closeFee"]) for r in rows) == fees
    first = rows[-1]
    assert D(first["cumEntryValue"]) == D(first["avgEntryPrice"]) * D("0.1")
    gain = D(first["cumEntryValue"]) - D(first["cumExitValue"])
    assert D(first["closedPnl"]) == gain - D(first["openFee"]) - D(first["closeFee"])
    (page,) = desk.get("position/closed-pnl", **LISTED, limit=1)["list"]
    assert page["orderId"] == last["orderId"]
    assert desk.get("position/closed-pnl", category="linear", symbol="ETHUSDT")["list"] == []


def test_closed_inverse_profit_is_in_coin(open_desk, quiet_scenario):
    falls = ((0, 60000), (1, 60000), (2, 50000))
    desk = open_desk(replace(quiet_scenario(), prices={"BTC": falls, "ETH": ((0, 3000),)}))
    inverse = {"category": "inverse", "symbol": "BTCUSD"}
    desk.order("Sell", "3000", **inverse)
    desk.until(3_000)
    desk.order("Buy", "3000", reduceOnly=True, **inverse)
    (row,) = desk.get("position/closed-pnl", **inverse)["list"]
    fees = D(row["openFee"]) + D(row["closeFee"])
    assert abs(D(row["closedPnl"]) + fees - D("0.01")) < D("0.000002")
    assert abs(D(row["avgEntryPrice"]) - 60000) < 5


def test_symbol_info_tells_leverage_without_a_position(desk):
    desk.post("position/set-leverage", **LISTED, buyLeverage="7", sellLeverage="7")
    info = desk.get("position/symbol-info", **LISTED)["list"]
    assert info == [{"symbol": "BTCUSDT", "leverage": "7", "side": "", "positionIdx": 0}]


@pytest.mark.parametrize(
    ("before", "params", "code"),
    [
        ("flat", {**LISTED, "mode": 0}, 110025),
        ("flat", {"category": "linear", "coin": "USDT", "mode": 0}, 110025),
        ("flat", {**LISTED, "mode": 3}, 110029),
        ("held", {**LISTED, "mode": 3}, 110024),
        ("held", {"category": "linear", "coin": "USDT", "mode": 3}, 110024),
        ("held", {"category": "linear", "symbol": "ETHUSDT", "mode": 3}, 110029),
        ("open", {**LISTED, "mode": 3}, 110028),
        ("flat", {"category": "inverse", "symbol": "BTCUSD", "mode": 3}, 110029),
        ("flat", {**LISTED, "mode": 1}, 10001),
        ("flat", {"category": "linear", "mode": 3}, 10001),
    ],
)
def test_hedge_mode_is_refused_by_its_reason(desk, before, params, code):
    if before == "held":
        desk.order("Sell", "0.01")
    elif before == "open":
        desk.order("Sell", "0.01", price="61000")
    assert desk.call("POST", "position/switch-mode", **params).code == code


def test_a_fill_or_kill_and_a_post_only_order_say_why_they_ended(desk):
    """Reasons as documented; a price that crosses nothing lets both live as they should."""
    killed = desk.order("Buy", "0.1", price="59000", timeInForce="FOK")
    assert (killed["rejectReason"], killed["cancelType"]) == ("EC_CancelForNoFullFill", "UNKNOWN")
    crossed = desk.order("Buy", "0.1", price="60500", timeInForce="PostOnly")
    assert (crossed["rejectReason"], crossed["cancelType"]) == (
        "EC_PostOnlyWillTakeLiquidity", "UNKNOWN",
    )  # fmt: skip
    missed = desk.order("Buy", "0.1", price="59000", timeInForce="IOC")
    assert missed["rejectReason"] == "EC_NoImmediateQtyToFill"
    assert len(desk.account.open_orders) == 0


def test_cancel_all_goes_by_symbol_coin_and_kind(desk):
    """symbol before baseCoin before settleCoin; orderFilter and stopOrderType narrow it."""
    desk.order("Sell", "0.1")
    desk.post("position/trading-stop", **LISTED, positionIdx=0, stopLoss="62000", takeProfit="50000")

    def refill():
        desk.post("order/cancel-all", category="linear", settleCoin="USDT", orderFilter="Order")
        desk.order("Buy", "0.01", price="59000")
        desk.order("Buy", "0.01", symbol="ETHUSDT", price="2900")

    for params, gone in (
        ({"symbol": "BTCUSDT", "baseCoin": "ETH", "orderFilter": "Order"}, 1),
        ({"baseCoin": "ETH"}, 1),
        ({"settleCoin": "BTC"}, 0),
        ({"settleCoin": "USDT", "stopOrderType": "TakeProfit"}, 1),
        ({"settleCoin": "USDT"}, 3),
    ):
        refill()
        answer = desk.post("order/cancel-all", category="linear", **params)
        assert len(answer["list"]) == gone, params
    assert desk.call("POST", "order/cancel-all", **LISTED, orderFilter="Iceberg").code == 10001


def test_positions_are_listed_by_coin_when_open(desk):
    desk.order("Sell", "0.1")
    desk.order("Sell", "1", symbol="ETHUSDT")
    desk.order("Sell", "100", category="inverse", symbol="BTCUSD")
    linear = desk.get("position/list", category="linear", settleCoin="USDT")["list"]
    assert [r["symbol"] for r in linear] == ["BTCUSDT", "ETHUSDT"]
    assert [r["symbol"] for r in desk.get("position/list", category="inverse")["list"]] == ["BTCUSD"]
    assert desk.call("GET", "position/list", category="spot").code == 10001
    assert desk.call("GET", "order/realtime", category="linear").code == 10001
    low = {**LISTED, "buyLeverage": "1", "sellLeverage": "1"}
    desk.order("Sell", "0.15")
    assert desk.call("POST", "position/set-leverage", **low).code == 110007
    assert desk.call("POST", "position/set-leverage", **{**low, "buyLeverage": "101",
                                                         "sellLeverage": "101"}).code == 10001  # fmt: skip
