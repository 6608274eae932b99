"""What the exchange forgets, and what it never does."""

from decimal import Decimal as D

import pytest

from hedgelock.simulator import retention
from hedgelock.simulator.exposition import exposition
from hedgelock.simulator.history import History

LISTED = {"category": "linear", "symbol": "BTCUSDT"}
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@pytest.fixture
def desk(open_desk):
    return open_desk(tick_ms=1_200_000)


def cancelled(desk, number):
    placed = desk.post(
        "order/create", **LISTED, side="Buy", orderType="Limit", qty="0.001", price="30000",
        orderLinkId=f"dry-{number}",
    )  # fmt: skip
    desk.post("order/cancel", **LISTED, orderId=placed["orderId"])


def test_orders_without_fills_leave_memory_after_a_day(desk):
    """All but the last 500 that ended; their ids stay used, the totals and open orders stay."""
    account = desk.account
    filled = desk.order("Sell", "0.01")["orderId"]
    rests = desk.order("Buy", "0.001", price="30000")["orderId"]
    stop = desk.order("Buy", "0.01", price="66000", triggerPrice="66000", triggerDirection=1)
    for number in range(520):
        cancelled(desk, number)
    desk.wait(DAY_MS - 1)
    assert len(account.orders) == 523
    desk.wait(HOUR_MS)
    assert len(account.orders) == len(account.by_id) == 503
    assert {filled, rests, stop["orderId"]} <= account.by_id.keys()
    assert len(account.by_link) == 500
    assert desk.refused("Buy", "0.01", orderLinkId="dry-0") == 110072
    assert account.orders.total == 523
    assert 'orders_total{account="hedgelock-sim"} 523' in exposition(desk.venue)
    assert len(desk.get("order/realtime", **LISTED, openOnly=1, limit=50)["list"]) == 50
    assert desk.post("order/cancel", **LISTED, orderId=rests)["orderId"] == rests


def test_fills_are_kept_for_two_years(desk):
    """Executions, log, closed profit and filled orders; balances and positions are for ever."""
    account = desk.account
    desk.order("Sell", "0.02")
    desk.order("Buy", "0.01")
    before = desk.balance("USDT"), desk.position()["size"]
    kinds = (account.orders, account.executions, account.log, account.closed_pnl)
    kept = [len(rows) for rows in kinds]
    assert kept == [2, 2, 2, 1]
    account.closed_recently.clear()
    x = desk.venue.exchange
    started = x.now_ms
    for days, left in ((729, kept), (731, [0, 0, 0, 0])):
        x.now_ms = started + days * DAY_MS
        retention.forget(x)
        assert [len(rows) for rows in kinds] == left
    assert [rows.gone for rows in kinds] == kept
    assert (desk.balance("USDT"), account.positions["linear.BTCUSDT"].size) == (before[0], D("-0.01"))
    assert account.closing == {}
    assert all(total == 0 for total in x.ledger.totals().values())


def test_a_cursor_goes_on_while_the_oldest_rows_are_forgotten(desk, monkeypatch):
    """Pages neither repeat nor skip what is still there, and the last one says so."""
    for _ in range(12):
        desk.order("Sell", "0.001")
    known = [r["execId"] for r in desk.account.executions][::-1]
    first = desk.get("execution/list", **LISTED, limit=4)
    monkeypatch.setattr(retention, "ROWS_KEPT", 7)
    retention.forget(desk.venue.exchange)
    assert len(desk.account.executions) == 7
    assert len(desk.account.orders) == 12, "the last five hundred"
    rest = desk.get("execution/list", **LISTED, limit=4, cursor=first["nextPageCursor"])
    seen = [r["execId"] for page in (first, rest) for r in page["list"]]
    assert seen == known[:7]
    assert rest["nextPageCursor"] == ""
    stale = desk.get("execution/list", **LISTED, cursor="2%3A1%2C1%3A1")
    assert (stale["list"], stale["nextPageCursor"]) == ([], "")


def test_rows_are_bounded_even_within_a_day(desk, monkeypatch):
    """The oldest ended orders go first; what is open or among the last that ended stays."""
    rests = desk.order("Buy", "0.001", price="30000")["orderId"]
    for _ in range(6):
        desk.order("Sell", "0.001")
    desk.account.closed_recently.clear()
    monkeypatch.setattr(retention, "ROWS_KEPT", 2)
    last = [o.order_id for o in desk.account.orders][-2:]
    retention.forget(desk.venue.exchange)
    assert [o.order_id for o in desk.account.orders] == [rests, *last]


def test_a_history_counts_what_it_has_forgotten():
    rows = History()
    rows += [1, 2, 3, 4, 5]
    assert (rows.forget(2), rows, rows.gone, rows.total) == ([1, 2], [3, 4, 5], 2, 5)
    assert (rows.sift(lambda n: n != 4), rows, rows.gone) == ([4], [3, 5], 3)
    assert rows.sift(bool) == []
