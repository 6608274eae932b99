"""When and how sessions answer: delays, echoes, bounds, silence."""

import pytest
from counter import ORDER, Counter

from hedgelock.simulator.session import ARGS_CHARS_MAX, ENTRIES

TICKER = "tickers.BTCUSDT"


@pytest.fixture
def counter():
    return Counter()


@pytest.mark.parametrize("path", ["/v5/public/linear", "/v5/private", "/v5/trade"])
def test_nothing_is_answered_within_five_milliseconds(counter, path):
    """Clients register their callbacks only after sending; an instant answer finds nobody."""
    line = counter.line(path)
    line.send(op="ping")
    counter.wait(4)
    assert line.frames == []
    counter.wait(1)
    assert len(line.frames) == 1


def test_data_comes_after_the_acknowledgement_of_its_topic(counter):
    """First the answer, 5 ms later the snapshot, however busy the topic is already."""
    counter.line("/v5/public/linear").subscribe(TICKER)
    counter.wait(95)
    line = counter.line("/v5/public/linear")
    line.send(op="subscribe", args=[TICKER], req_id="a")
    counter.wait(9)
    assert [f.get("req_id") for f in line.frames] == ["a"]
    counter.wait(1)
    assert [f.get("type") for f in line.frames] == [None, "snapshot"]


def test_an_order_is_acknowledged_before_its_pushes(counter):
    """By socket: answer, then order, execution, position and wallet."""
    private = counter.private("order", "execution", "position", "wallet")
    trade = counter.line("/v5/trade")
    assert trade.auth()["retCode"] == 0
    trade.order("1")
    counter.wait(4)
    assert trade.frames == private.frames == []
    counter.wait(1)
    assert [f["reqId"] for f in trade.frames] == ["1"]
    assert {f["topic"] for f in private.frames} == {"order", "execution", "position", "wallet"}


def test_ids_are_echoed_as_they_came_and_left_out_where_none_was(counter):
    public, private = counter.line("/v5/public/linear"), counter.line()
    trade = counter.line("/v5/trade")
    strange = "6b1f-Ü-0001"
    for line in (public, private):
        line.send(op="ping", req_id=strange)
        line.send(op="ping", req_id=7)
        line.send(op="ping")
    trade.auth()
    header = {"X-BAPI-TIMESTAMP": counter.now_ms}  # a number, as pybit sends it
    trade.send(op="order.create", header=header, args=[{**ORDER, "qty": "0.01"}])
    trade.order("x" * 36)
    counter.wait(20)
    for line in (public, private):
        assert [f["req_id"] for f in line.frames] == [strange, "7", ""]
    first, second = trade.frames
    assert (first["retCode"], "reqId" in first) == (0, False)
    assert second["reqId"] == "x" * 36


def test_a_connection_bounds_what_it_subscribes(counter):
    """Spot: ten topics in a request; everywhere 21,000 characters in all; private: one way of naming."""
    spot = counter.line("/v5/public/spot")
    topics = [f"kline.{n}.{s}" for n in (1, 3, 5, 15, 30, 60) for s in ("BTCUSDT", "ETHUSDT")]
    spot.send(op="subscribe", args=topics[:11])
    counter.wait(20)
    assert spot.frames.pop()["success"] is False
    assert not spot.session.topics
    spot.send(op="subscribe", args=topics[:10])
    counter.wait(20)
    assert spot.frames.pop(0)["success"] is True
    linear = counter.line("/v5/public/linear")
    linear.send(op="subscribe", args=["x" * (ARGS_CHARS_MAX + 1)])
    counter.wait(20)
    assert "length" in linear.frames.pop()["ret_msg"]
    private = counter.private()
    for topics, fine in (
        (["order", "execution.linear"], False),
        (["order", "order.linear"], False),
        (["order.linear", "execution.linear", "wallet"], True),
    ):
        private.send(op="subscribe", args=topics)
        counter.wait(20)
        assert private.frames.pop(0)["success"] is fine, topics


def test_three_thousand_messages_a_second_from_one_address():
    """10403 on the trade socket, and again free a second later."""
    counter = Counter(limits_factor=1000)
    counter.gateway._limits.factor = 1
    trade = counter.line("/v5/trade")
    trade.auth()
    header = {"X-BAPI-TIMESTAMP": str(counter.now_ms)}
    message = {"op": "order.cancel", "header": header, "args": [{"category": "linear"}]}
    for _ in range(ENTRIES.count + 1):
        trade.send(**message)
    counter.wait(10)
    codes = [f["retCode"] for f in trade.frames]
    assert codes.count(10403) == 1
    assert codes[-1] == 10403
    counter.wait(1_000)
    trade.order("again")
    counter.wait(10)
    assert trade.frames[-1]["retCode"] == 0


def test_a_moving_mark_pushes_neither_wallet_nor_position():
    """Unrealised profit alone is silent: whoever needs it computes it from the tickers."""
    counter = Counter(scenario="whipsaw")
    line = counter.private("wallet", "position")
    counter.sell()
    counter.wait(20)
    assert line.frames
    line.frames.clear()
    before = counter.get("account/wallet-balance", accountType="UNIFIED")["result"]["list"][0]
    counter.wait(5_000)
    after = counter.get("account/wallet-balance", accountType="UNIFIED")["result"]["list"][0]
    assert after["totalPerpUPL"] != before["totalPerpUPL"]
    assert line.frames == []
    assert len(after["accountMMRate"].partition(".")[2]) <= 4
    (usdt,) = [c for c in after["coin"] if c["coin"] == "USDT"]
    assert usdt["borrowAmount"] == "0.000000000000000000"
