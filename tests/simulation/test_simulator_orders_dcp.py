"""Disconnection protection: when the window runs, what it cancels, and for whom."""

import pytest

from hedgelock.simulator.dcp import NEVER_MS, DisconnectProtection
from hedgelock.simulator.hub import Hub
from hedgelock.simulator.keys import KeyTerms

ME, TWIN = "hedgelock-sim", "unprotected-sim"
LISTED = {"category": "linear", "symbol": "BTCUSDT"}
SET = "order/disconnected-cancel-all"


@pytest.fixture
def dcp() -> DisconnectProtection:
    return DisconnectProtection(enabled=lambda name: name == ME)


def test_the_window_starts_with_the_last_disconnection_and_a_connection_resets_it(dcp):
    dcp.connected(ME, "dcp.future", 0)
    dcp.connected(ME, "dcp.future", 0)
    dcp.disconnected(ME, "dcp.future", 1_000)
    assert dcp.next_ms() == NEVER_MS, "one connection is left"
    dcp.disconnected(ME, "dcp.future", 2_000)
    assert dcp.next_ms() == 12_000
    dcp.connected(ME, "dcp.future", 11_999)
    assert dcp.next_ms() == NEVER_MS
    dcp.disconnected(ME, "dcp.future", 20_000)
    assert dcp.due(29_999) == []
    assert dcp.due(30_000) == [(ME, "DERIVATIVES")]
    assert dcp.due(99_999) == [], "once"


def test_products_and_accounts_are_watched_apart(dcp):
    dcp.connected(ME, "dcp.future", 0)
    dcp.connected(ME, "dcp.spot", 0)
    dcp.connected(TWIN, "dcp.future", 0)
    dcp.disconnected(TWIN, "dcp.future", 0)
    assert dcp.next_ms() == NEVER_MS, "not enabled for the twin"
    dcp.disconnected(ME, "dcp.spot", 5)
    assert dcp.due(NEVER_MS) == [(ME, "SPOT")]
    dcp.disconnected(ME, "dcp.option", 5)
    assert dcp.next_ms() == NEVER_MS, "it was never connected"


def test_a_new_window_applies_after_ten_seconds(dcp):
    dcp.configure(ME, "DERIVATIVES", window_s=40, now_ms=0)
    assert dcp.window_s(ME, "DERIVATIVES", 9_999) == 10
    assert dcp.window_s(ME, "DERIVATIVES", 10_000) == 40
    dcp.connected(ME, "DERIVATIVES", 0)
    dcp.disconnected(ME, "DERIVATIVES", 10_000)
    assert dcp.next_ms() == 50_000


def test_orders_of_the_product_go_at_the_exact_instant(desk):
    """Linear, inverse and waiting orders go with CancelByDCP; spot ones and other accounts' stay."""
    x = desk.venue.exchange
    desk.account.terms = KeyTerms(dcp=True)
    desk.order("Sell", "0.02")
    mine = [
        desk.order("Buy", "0.01", price="59000")["orderId"],
        desk.order("Buy", "0", triggerPrice="61000", triggerDirection=1, reduceOnly=True,
                   closeOnTrigger=True)["orderId"],
    ]  # fmt: skip
    inverse = desk.order("Buy", "100", category="inverse", symbol="BTCUSD", price="59000")
    spot = desk.order("Buy", "0.01", category="spot", price="59500")
    desk.who = TWIN
    other = desk.order("Buy", "0.01", price="59000")
    desk.who = ME
    x.dcp.connected(ME, "dcp.future", desk.now_ms)
    x.dcp.disconnected(ME, "dcp.future", desk.now_ms)
    assert desk.venue.next_event_ms() <= desk.now_ms + 10_000
    desk.wait(9_999)
    assert desk.row(mine[0])["orderStatus"] == "New"
    desk.log.clear()
    desk.wait(1)
    gone = [desk.row(i) for i in mine] + [desk.row(inverse["orderId"], "inverse")]
    assert [r["orderStatus"] for r in gone] == ["Cancelled", "Deactivated", "Cancelled"]
    assert {r["cancelType"] for r in gone} == {"CancelByDCP"}
    assert {r["updatedTime"] for r in gone} == {str(desk.now_ms)}
    assert {r["cancelType"] for r in desk.pushed("order")} == {"CancelByDCP"}
    assert desk.row(spot["orderId"], "spot")["orderStatus"] == "New"
    assert desk.position()["size"] == "0.02", "positions stay"
    desk.who = TWIN
    assert desk.row(other["orderId"])["orderStatus"] == "New"


def test_the_routes_set_and_tell_the_window(desk):
    """Not enabled: an empty list and 10005; enabled: the products that were set."""
    body = {"product": "DERIVATIVES", "timeWindow": 40}
    assert desk.call("POST", SET, **body).code == 10005
    assert desk.get("account/query-dcp-info") == {"dcpInfos": []}
    desk.account.terms = KeyTerms(dcp=True)
    assert desk.get("account/query-dcp-info") == {"dcpInfos": []}
    reply = desk.call("POST", SET, **body)
    assert (reply.code, reply.message) == (0, "success")
    (info,) = desk.get("account/query-dcp-info")["dcpInfos"]
    assert info == {"product": "DERIVATIVES", "dcpStatus": "ON", "timeWindow": "10"}
    desk.wait(10_000)
    assert desk.get("account/query-dcp-info")["dcpInfos"][0]["timeWindow"] == "40"
    for bad in ({"timeWindow": 2}, {"timeWindow": 301}, {"timeWindow": 40, "product": "FUTURES"}):
        assert desk.call("POST", SET, **bad).code == 10001


class Line:
    """As much of a private session as the hub needs."""

    category = ""

    def __init__(self, account):
        self.account, self.topics = account, set()


def test_sessions_arm_and_start_the_window_by_their_dcp_topic(desk):
    """Subscribing arms once per session; the last to leave or unsubscribe starts the window."""
    x = desk.venue.exchange
    desk.account.terms = KeyTerms(dcp=True)
    hub = Hub(desk.venue.streams, x)
    lines = [Line(desk.account) for _ in range(3)]
    for line in lines:
        hub.join(line)
        hub.subscribe(line, "order")
    for line in (lines[0], lines[0], lines[1]):
        hub.subscribe(line, "dcp.future")
    hub.leave(lines[2])
    hub.unsubscribe(lines[0], "dcp.future")
    assert x.dcp.next_ms() == NEVER_MS
    order = desk.order("Buy", "0.01", price="59000")
    hub.leave(lines[1])
    desk.wait(10_000)
    assert desk.row(order["orderId"])["cancelType"] == "CancelByDCP"
