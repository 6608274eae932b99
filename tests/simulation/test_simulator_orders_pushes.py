"""What a change of an order pushes, and how each private topic renders it (fact sheet §6)."""

from hedgelock.simulator.streams import private_frame

ME, TWIN = "hedgelock-sim", "unprotected-sim"
LISTED = {"category": "linear", "symbol": "BTCUSDT"}


def mine(desk, who=ME):
    return [e for e in desk.log if e.account == who]


def frames(desk, topic, who=ME):
    made = (private_frame(e, topic, 1) for e in mine(desk, who) if e.topic == topic.split(".")[0])
    return [f for f in made if f is not None]


def met(desk):
    """A resting sell of mine filled by the twin's market order."""
    desk.order("Sell", "0.1", price="60000", orderLinkId="maker", timeInForce="PostOnly")
    desk.who = TWIN
    desk.log.clear()
    desk.order("Buy", "0.1", orderLinkId="taker")


def test_every_change_pushes_order_position_and_wallet(desk):
    order = desk.order("Buy", "0.1", price="59000")
    assert [e.topic for e in mine(desk)] == ["order", "position", "wallet"]
    desk.log.clear()
    desk.post("order/amend", **LISTED, orderId=order["orderId"], price="59100")
    assert [e.topic for e in mine(desk)] == ["order", "position", "wallet"]
    desk.log.clear()
    desk.post("order/cancel", **LISTED, orderId=order["orderId"])
    assert [e.topic for e in mine(desk)] == ["order", "position", "wallet"]


def test_both_sides_of_a_match_hear_of_it(desk):
    met(desk)
    assert [e.topic for e in mine(desk)] == ["execution", "order", "position", "wallet"]
    assert [e.topic for e in mine(desk, TWIN)] == ["execution", "order", "position", "wallet"]
    (fill,) = frames(desk, "execution")[0]["data"]
    assert (fill["isMaker"], fill["orderLinkId"], fill["execType"]) == (True, "maker", "Trade")
    assert desk.pushed("order")[-1]["orderStatus"] == "Filled"


def test_fast_executions_are_bare_and_makers_have_no_link(desk):
    """execution.fast: no id, eleven fields, orderLinkId "" for the maker, trades only."""
    met(desk)
    (maker,), (taker,) = frames(desk, "execution.fast"), frames(desk, "execution.fast", TWIN)
    assert set(maker) == {"topic", "creationTime", "data"}
    assert set(maker["data"][0]) == {
        "category", "symbol", "orderId", "orderLinkId", "execId", "execPrice", "execQty", "side",
        "isMaker", "execTime", "seq",
    }  # fmt: skip
    assert (maker["data"][0]["orderLinkId"], taker["data"][0]["orderLinkId"]) == ("", "taker")
    slow = frames(desk, "execution")[0]["data"][0]
    assert slow["execId"] == maker["data"][0]["execId"]
    desk.log.clear()
    desk.until(11_000)
    assert [r["execType"] for r in desk.pushed("execution")] == ["Funding"]
    assert frames(desk, "execution.fast", TWIN) == []


def test_categorised_topics_carry_their_category_only(desk):
    desk.order("Sell", "0.1")
    desk.order("Sell", "100", category="inverse", symbol="BTCUSD")
    for topic in ("order", "execution", "position"):
        for category in ("linear", "inverse"):
            rows = [r for f in frames(desk, f"{topic}.{category}") for r in f["data"]]
            assert {r["category"] for r in rows} == {category}
        assert len(frames(desk, topic)) == 2
    (frame,) = frames(desk, "order.linear")
    assert set(frame) == {"id", "topic", "creationTime", "data"}


def test_the_order_that_closes_tells_its_profit(desk):
    """closedPnl of a pushed order is its own row of position/closed-pnl."""
    desk.order("Sell", "0.1")
    desk.order("Buy", "0.1", reduceOnly=True)
    (row,) = desk.get("position/closed-pnl", **LISTED)["list"]
    assert [r["closedPnl"] for r in desk.pushed("order")] == ["0", row["closedPnl"]]
    assert float(row["closedPnl"]) < 0
