"""Batches: index-aligned answers, partial failures, the limit per order, and the trade socket."""

import pytest

from hedgelock.simulator.entry import EntrySession

T0 = 1_700_000_000_000
LISTED = {"category": "linear", "symbol": "BTCUSDT"}


def limit_buy(link, **changes):
    return {
        "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.01",
        "price": "59500", "orderLinkId": link, **changes,
    }  # fmt: skip


def test_a_batch_answers_order_by_order(desk):
    """Top-level code 0; failures stand at their index in retExtInfo.list with orderId ""."""
    orders = [limit_buy("a"), limit_buy("a"), limit_buy("c", qty="0.0001"), limit_buy("d")]
    reply = desk.call("POST", "order/create-batch", category="linear", request=orders)
    assert (reply.code, [c["code"] for c in reply.ext["list"]]) == (0, [0, 110072, 110017, 0])
    rows = reply.result["list"]
    assert [r["orderLinkId"] for r in rows] == ["a", "a", "c", "d"]
    assert [bool(r["orderId"]) for r in rows] == [True, False, False, True]
    assert [r["createAt"] for r in rows] == [str(T0), "", "", str(T0)]
    assert len(desk.account.open_orders) == 2
    amends = [
        {"symbol": "BTCUSDT", "orderLinkId": "a", "price": "59400"},
        {"symbol": "BTCUSDT", "orderLinkId": "c", "price": "59400"},
    ]
    reply = desk.call("POST", "order/amend-batch", category="linear", request=amends)
    assert [c["code"] for c in reply.ext["list"]] == [0, 110001]
    assert all("createAt" not in r for r in reply.result["list"])
    cancels = [{"symbol": "BTCUSDT", "orderLinkId": link} for link in ("c", "a", "d")]
    reply = desk.call("POST", "order/cancel-batch", category="linear", request=cancels)
    assert [c["code"] for c in reply.ext["list"]] == [110001, 0, 0]
    assert len(desk.account.open_orders) == 0


def test_a_batch_of_spot_orders_names_spot_codes(desk):
    orders = [limit_buy("s1", qty="0.001"), limit_buy("s1", qty="0.001"), limit_buy("s2", qty="9")]
    reply = desk.call("POST", "order/create-batch", category="spot", request=orders)
    assert [c["code"] for c in reply.ext["list"]] == [0, 170141, 170131]


@pytest.mark.parametrize(
    ("category", "request_", "code"),
    [
        ("linear", [limit_buy(f"n{n}") for n in range(21)], 10001),
        ("spot", [limit_buy(f"n{n}") for n in range(11)], 10001),
        ("linear", [], 10001),
        ("linear", None, 10001),
        ("linear", "text", 10001),
        ("linear", ["text"], 10001),
        ("future", [limit_buy("n")], 10001),
    ],
)
def test_a_malformed_batch_places_nothing(desk, category, request_, code):
    reply = desk.call("POST", "order/create-batch", category=category, request=request_)
    assert reply.code == code
    assert desk.account.orders == []


def test_a_batch_item_with_fields_of_wrong_types_fails_alone(desk):
    reply = desk.call(
        "POST", "order/create-batch", category="linear",
        request=[limit_buy("ok"), {"symbol": ["x"], "orderLinkId": {"a": 1}}],
    )  # fmt: skip
    assert [c["code"] for c in reply.ext["list"]] == [0, 10001]
    assert reply.result["list"][1]["symbol"] == ""


def test_the_limit_counts_orders_and_refuses_only_what_exceeds_it(open_desk):
    """10 per second: of 8 + 8 orders the last 6 fail with 10006; single orders have their own pool."""
    desk = open_desk(limits_factor=1)
    first = [limit_buy(f"a{n}") for n in range(8)]
    second = [limit_buy(f"b{n}") for n in range(8)]
    reply = desk.call("POST", "order/create-batch", category="linear", request=first)
    assert (reply.allowance.limit, reply.allowance.left) == (10, 2)
    reply = desk.call("POST", "order/create-batch", category="linear", request=second)
    assert [c["code"] for c in reply.ext["list"]] == [0] * 2 + [10006] * 6
    third = desk.call("POST", "order/create-batch", category="linear", request=second[2:3])
    assert (third.code, third.allowance.left) == (10006, 0)
    assert third.allowance.reset_ms > desk.now_ms
    assert desk.order("Buy", "0.01", price="59500")["orderStatus"] == "New"
    spot = [limit_buy(f"s{n}", qty="0.001") for n in range(8)]
    reply = desk.call("POST", "order/create-batch", category="spot", request=spot)
    assert [c["code"] for c in reply.ext["list"]] == [0] * 8
    desk.wait(1_001)
    reply = desk.call("POST", "order/create-batch", category="linear", request=second[2:])
    assert [c["code"] for c in reply.ext["list"]] == [0] * 6


def entered(session, desk, op, args, **changes):
    message = {
        "reqId": f"r{len(session.seen)}", "op": op, "args": [args],
        "header": {"X-BAPI-TIMESTAMP": desk.now_ms}, **changes,
    }  # fmt: skip
    return session.enter(desk.account, message, now_ms=desk.now_ms)


def test_every_order_operation_goes_over_the_trade_socket(desk):
    """Batches answer over the socket as over REST: data.list beside retExtInfo.list."""
    session = EntrySession(desk.venue)
    made = entered(session, desk, "order.create", {**LISTED, **limit_buy("w")})
    assert set(made) == {"reqId", "retCode", "retMsg", "op", "data", "retExtInfo", "header"}
    one = {**LISTED, "orderLinkId": "w"}
    assert entered(session, desk, "order.amend", {**one, "price": "59400"})["retCode"] == 0
    assert entered(session, desk, "order.cancel", one)["data"]["orderLinkId"] == "w"
    batch = {"category": "linear", "request": [limit_buy("x"), limit_buy("x")]}
    made = entered(session, desk, "order.create-batch", batch)
    assert [c["code"] for c in made["retExtInfo"]["list"]] == [0, 110072]
    assert [bool(r["orderId"]) for r in made["data"]["list"]] == [True, False]
    change = {"category": "linear", "request": [{**one, "orderLinkId": "x", "qty": "0.02"}]}
    made = entered(session, desk, "order.amend-batch", change)
    assert made["retExtInfo"]["list"] == [{"code": 0, "msg": "OK"}]
    gone = {"category": "linear", "request": [{"symbol": "BTCUSDT", "orderLinkId": "x"}]}
    made = entered(session, desk, "order.cancel-batch", gone)
    assert made["retExtInfo"]["list"] == [{"code": 0, "msg": "OK"}]
    assert entered(session, desk, "order.unknown", one)["retCode"] == 10404
