"""Every kind of fault, through the gateway, in virtual time without sockets."""

import json

import pytest
from counter import ME, ORDER, T0, Counter

from hedgelock.simulator.drawn import drawn
from hedgelock.simulator.fault_kinds import KINDS, Fault, Match
from hedgelock.simulator.faults import Faults, Seen
from hedgelock.simulator.tampering import spoilt, with_failures, without_items


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault("fire"), "kind 'fire' is unknown: choose one of answer_lost"),
        (Fault("refuse"), "refuse needs code"),
        (Fault("cut", ms=5), "cut takes no ms: it takes nothing"),
        (Fault("cut", share=0), r"share 0 is not in \(0, 1\]"),
        (Fault("cut", from_s=5, until_s=4), "from_s 5 is after until_s 4"),
        (Fault("push_late", ms=-5), "ms -5 is negative"),
        (Fault("cut", nth=-1), "nth, times and every_s are not negative"),
        (Fault("cut", Match(via="pigeon")), "match.via 'pigeon' is neither rest nor socket"),
        (Fault("edit_push", field="x", op="burn"), "op 'burn' is unknown"),
        (Fault("outage", part="moon"), "part 'moon' is unknown: choose one of all, borrowing"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(fault, words):
    with pytest.raises(ValueError, match=words):
        Faults([fault])


def test_every_kind_is_described():
    """The table is the documentation: a line each."""
    assert all(kind.doc and set(kind.needs) <= set(kind.takes) for kind in KINDS.values())


CREATE = Match(path="/v5/order/create")


def code(reply):
    return json.loads(reply.body)["retCode"]


# ---------------------------------------------------------------- when and for whom


def test_a_fault_acts_in_its_window_of_script_seconds_only():
    counter = Counter(Fault("refuse", CREATE, from_s=10, until_s=20, code=10016))
    for at_s, expected in ((9.9, 0), (10, 10016), (19.9, 10016), (20, 0)):
        counter.wait(int(T0 + at_s * 1000 - counter.now_ms))
        assert code(counter.sell()) == expected, at_s


def test_the_nth_match_and_so_many_hits():
    counter = Counter(
        Fault("refuse", CREATE, nth=2, code=10016), Fault("refuse", CREATE, times=1, code=10000)
    )
    assert [code(counter.sell()) for _ in range(4)] == [10000, 10016, 0, 0]
    listing = counter.gateway.faults.listing()
    assert [(row["met"], row["hits"]) for row in listing] == [(4, 1), (1, 1)]


def test_a_share_of_matches_is_hit_and_a_seed_repeats_it():
    def hits(seed):
        faults = Faults([Fault("refuse", share=0.3, code=10016)], seed=seed)
        seen = Seen("GET", "/v5/market/time", "rest", "", "", "here")
        return [faults.request(seen, script_s=0, now_ms=0).code != 0 for _ in range(1000)]

    assert hits(1) == hits(1) != hits(2)
    assert 250 < sum(hits(1)) < 350


@pytest.mark.parametrize(
    ("match", "hit"),
    [
        ({"method": "POST"}, True), ({"method": "GET"}, False),
        ({"path": "/v5/order/*"}, True), ({"path": "/v5/position/*"}, False),
        ({"via": "rest"}, True), ({"via": "socket"}, False),
        ({"account": ME}, True), ({"account": "unprotected-sim"}, False),
        ({"symbol": "BTCUSDT"}, True), ({"symbol": "ETHUSDT"}, False),
    ],
)  # fmt: skip
def test_whom_a_fault_hits(match, hit):
    counter = Counter(Fault("refuse", Match(**match), code=10016))
    assert (code(counter.sell()) == 10016) is hit


def test_faults_come_and_go_while_it_runs():
    counter = Counter()
    number = counter.gateway.faults.add(Fault("refuse", CREATE, code=10016))
    assert code(counter.sell()) == 10016
    assert counter.gateway.faults.remove(number)
    assert not counter.gateway.faults.remove(number)
    assert code(counter.sell()) == 0


# ---------------------------------------------------------------- requests


@pytest.mark.parametrize("wanted", [10000, 10002, 10006, 10016, 10019, 110007, 110072, 170131])
def test_any_code_can_be_answered_without_serving(wanted):
    counter = Counter(Fault("refuse", CREATE, code=wanted))
    reply = counter.sell("a")
    assert code(reply) == wanted
    assert counter.links == []


def test_an_injected_rate_limit_resets_strictly_in_the_future():
    """pybit sleeps until the header's instant: a past one raises there (fact sheet §10.3)."""
    counter = Counter(Fault("rate_limited", CREATE))
    reply = counter.sell("a")
    assert code(reply) == 10006
    assert int(reply.headers["X-Bapi-Limit-Reset-Timestamp"]) > counter.now_ms
    assert reply.headers["X-Bapi-Limit-Status"] == "0"
    assert counter.links == []


def test_an_unknown_outcome_is_served_and_answered_with_an_error():
    counter = Counter(Fault("unknown_outcome", CREATE, code=10000))
    reply = counter.sell("a")
    assert (code(reply), json.loads(reply.body)["result"]) == (10000, {})
    assert counter.links == ["a"]
    assert code(counter.sell("b", qty="99999")) != 10000, "a refusal stays a refusal"


def test_a_lost_answer_leaves_the_order_and_a_cut_request_does_not():
    counter = Counter(
        Fault("answer_lost", Match(path="/v5/order/create"), nth=1), Fault("cut", CREATE, nth=2)
    )
    lost, cut, fine = counter.sell("a"), counter.sell("b"), counter.sell("c")
    assert (lost.lost, cut.lost, fine.lost) == (True, True, False)
    assert counter.links == ["a", "c"]


def test_a_slow_answer_and_a_slow_request():
    """The slow answer's order is there at once; the slow request's comes when it arrives."""
    counter = Counter(Fault("slow_answer", CREATE, nth=1, ms=700))
    assert counter.sell("a").delay_s == 0.7
    assert counter.account.orders[0].created_ms == T0
    counter.gateway.faults.clear()
    counter.gateway.faults.add(Fault("slow_request", CREATE, ms=400))
    assert counter.sell("b").delay_s == 0
    assert counter.account.orders[1].created_ms == T0 + 400
    assert counter.sell("c", stamp_ms=counter.now_ms - 4_700)
    assert counter.links == ["a", "b"], "400 ms later the third was older than its window"


def test_an_answer_that_never_comes():
    counter = Counter(Fault("answer_never", CREATE))
    reply = counter.sell("a")
    assert (reply.lost, reply.delay_s) == (True, 60)
    assert counter.links == ["a"]


def test_an_ip_ban_lasts_ten_minutes_and_spares_other_addresses():
    counter = Counter(Fault("ip_ban", nth=2), tick_ms=5000)
    statuses = [counter.ask("GET", "market/time").status for _ in range(3)]
    assert statuses == [200, 403, 403]
    assert counter.ask("GET", "market/time", address="10.0.0.2").status == 200
    counter.wait(599_900)
    assert counter.ask("GET", "market/time").status == 403
    counter.wait(200)
    assert counter.ask("GET", "market/time").status == 200


def test_too_many_requests_shut_an_address_out_for_ten_minutes():
    counter = Counter(tick_ms=5000)
    statuses = [counter.ask("GET", "market/time").status for _ in range(601)]
    assert statuses == [200] * 600 + [403]
    counter.wait(300_000)
    assert counter.ask("GET", "market/time").status == 403
    counter.wait(300_001)
    assert counter.ask("GET", "market/time").status == 200


def test_http_errors():
    counter = Counter(Fault("http_error", times=1), Fault("http_error", status=429))
    assert [counter.ask("GET", "market/time").status for _ in range(2)] == [429, 429]
    counter = Counter(Fault("http_error"))
    assert counter.sell("a").status == 503
    assert counter.links == []


@pytest.mark.parametrize(
    ("part", "closed", "open_"),
    [
        ("orders", ("POST", "order/create"), ("GET", "order/realtime")),
        ("transfers", ("POST", "asset/transfer/inter-transfer"), ("GET", "account/info")),
        ("loans", ("GET", "crypto-loan-common/position"), ("GET", "account/info")),
        ("loan_writes", ("POST", "crypto-loan-flexible/repay"), ("GET", "account/info")),
        ("reads", ("GET", "account/info"), ("POST", "order/cancel-all")),
        ("private_reads", ("GET", "account/info"), ("GET", "market/time")),
        ("market", ("GET", "market/time"), ("GET", "account/info")),
        ("writes", ("POST", "order/cancel-all"), ("GET", "account/info")),
        ("borrowing", ("POST", "account/borrow"), ("GET", "account/info")),
        ("all", ("GET", "market/time"), None),
    ],
)
def test_parts_of_the_exchange_fail_apart(part, closed, open_):
    counter = Counter(Fault("outage", part=part))
    assert code(counter.ask(*closed)) == 10016
    if open_:
        assert code(counter.ask(*open_, category="linear", symbol="BTCUSDT")) != 10016


def test_top_up_and_refill_are_refused_and_taking_out_is_not():
    counter = Counter(Fault("top_up_refused"), Fault("refill_refused"))
    adjust = {"currency": "BTC", "amount": "0.01"}
    path = "crypto-loan-common/adjust-ltv"
    assert counter.post(path, **adjust, direction="0")["retCode"] == 148012
    assert counter.post(path, **adjust, direction="1")["retCode"] != 148012
    borrow = {"loanCurrency": "USDT", "loanAmount": "100"}
    assert counter.post("crypto-loan-flexible/borrow", **borrow)["retCode"] == 148011


def test_an_order_is_missing_from_the_list_for_a_while_after_its_ack():
    counter = Counter(Fault("orders_hidden", ms=300))
    assert code(counter.sell("a", orderType="Limit", price="70000")) == 0
    asked = {"category": "linear", "symbol": "BTCUSDT"}
    assert counter.get("order/realtime", **asked)["result"]["list"] == []
    counter.wait(300)
    (row,) = counter.get("order/realtime", **asked)["result"]["list"]
    assert row["orderLinkId"] == "a"


@pytest.mark.parametrize(
    ("field", "op", "found"),
    [
        ("fundingRate", "drop", "absent"), ("list.0.fundingRate", "blank", ""),
        ("list.*.fundingRate", "nan", "NaN"), ("fundingRate", "null", None),
        ("fundingRate", "number", 1), ("fundingRate", "set", "1e999"),
        ("fundingRate", "list", ["0.0001"]), ("list.7.fundingRate", "drop", "0.0001"),
        ("*.*.fundingRate", "empty", {}),
    ],
)  # fmt: skip
def test_answers_are_spoilt_field_by_field(field, op, found):
    value = "1e999" if op == "set" else ""
    counter = Counter(
        Fault("edit_answer", Match(path="/v5/market/tickers"), field=field, op=op, value=value)
    )
    asked = {"category": "linear", "symbol": "BTCUSDT", "key": ""}
    (row,) = counter.get("market/tickers", **asked)["result"]["list"]
    assert row.get("fundingRate", "absent") == found
    counter.gateway.faults.clear()
    (row,) = counter.get("market/tickers", **asked)["result"]["list"]
    assert row["fundingRate"] == "0.0001", "the exchange itself is unharmed"


def test_tiers_go_missing():
    fault = Fault("edit_answer", Match(path="/v5/market/risk-limit"), field="list", op="empty")
    counter = Counter(fault)
    answer = counter.get("market/risk-limit", category="linear", symbol="BTCUSDT", key="")
    assert (answer["retCode"], answer["result"]["list"]) == (0, [])


# ---------------------------------------------------------------- pushes

TOPICS = ("order", "execution", "position", "wallet")


def pushes(*faults, wait_ms=10_000):
    """Topics in the order in which the pushes of one market order come, with their delays."""
    counter = Counter(*faults)
    line = counter.private(*TOPICS)
    counter.sell("a")
    for _ in range(wait_ms // 50):
        for frame in line.frames:
            frame.setdefault("seen_ms", counter.now_ms - T0)
        counter.wait(50)
    return line.frames


def test_pushes_in_peace():
    """Which topic comes first is not promised; that each comes once is."""
    assert sorted(f["topic"] for f in pushes()) == sorted(TOPICS)


def test_a_push_is_lost():
    """The ack without its push: the order is there, nobody says so."""
    found = pushes(Fault("push_lost", Match(topic="execution")))
    assert sorted(f["topic"] for f in found) == ["order", "position", "wallet"]


def test_a_push_is_late():
    found = pushes(Fault("push_late", Match(topic="order"), ms=2000))
    assert sorted(f["topic"] for f in found[:-1]) == ["execution", "position", "wallet"]
    assert found[-1]["topic"] == "order"
    assert 2000 <= found[-1]["seen_ms"] - found[0]["seen_ms"] <= 2100


def test_a_push_comes_twice():
    found = pushes(Fault("push_twice", Match(topic="execution"), ms=500))
    first, last = [f for f in found if f["topic"] == "execution"]
    assert first["data"] == last["data"]
    assert last["seen_ms"] - first["seen_ms"] >= 500
    assert len(found) == 5


def test_pushes_are_swapped():
    peace = [f["topic"] for f in pushes()]
    found = pushes(Fault("push_swapped", Match(topic="execution")))
    at = peace.index("execution")
    peace[at], peace[at + 1] = peace[at + 1], peace[at]
    assert [f["topic"] for f in found] == peace


def test_two_filled_messages():
    found = pushes(Fault("filled_twice"))
    rows = [f["data"][0] for f in found if f["topic"] == "order"]
    assert [row["orderStatus"] for row in rows] == ["Filled", "Filled"]
    assert rows[0]["orderId"] == rows[1]["orderId"]
    assert [f["topic"] for f in found].count("execution") == 1


def test_pushes_are_spoilt():
    found = pushes(Fault("edit_push", Match(topic="wallet"), field="totalEquity", op="blank"))
    assert found[-1]["data"][0]["totalEquity"] == ""


def test_public_topics_are_lost_by_symbol():
    counter = Counter(Fault("push_lost", Match(symbol="BTCUSDT")))
    line = counter.line("/v5/public/linear").subscribe("tickers.BTCUSDT", "tickers.ETHUSDT")
    line.frames.clear()
    counter.wait(1000)
    assert {f["topic"] for f in line.frames} == {"tickers.ETHUSDT"}


# ---------------------------------------------------------------- sockets


def test_a_socket_dies_without_a_close_frame_and_again():
    counter = Counter(
        Fault("socket_dies", Match(path="/v5/private"), from_s=5, until_s=16, every_s=10)
    )
    lines = [counter.line(), counter.line("/v5/public/linear")]
    counter.wait(4900)
    assert [line.ended for line in lines] == ["", ""]
    counter.wait(200)
    assert [line.ended for line in lines] == ["cut", ""]
    again = counter.line()
    counter.wait(8000)
    assert again.ended == ""
    counter.wait(3000)
    assert again.ended == "cut"
    late = counter.line()
    counter.wait(60_000)
    assert late.ended == ""


def test_a_socket_stays_open_and_says_nothing():
    """Neither data nor pongs; what it hears it still does."""
    counter = Counter(Fault("socket_silent", from_s=1, until_s=5))
    line, trade = counter.private("order"), counter.line("/v5/trade")
    trade.auth()
    counter.wait(1000)
    line.send(op="ping")
    trade.order("1", orderLinkId="a")
    counter.wait(1000)
    assert (line.frames, trade.frames, line.ended) == ([], [], "")
    assert counter.links == ["a"]
    counter.wait(4000)
    line.send(op="ping")
    counter.wait(10)
    assert line.frames[0]["op"] == "pong"


def test_a_deaf_socket_hears_nothing():
    counter = Counter(Fault("socket_silent", Match(path="/v5/trade"), from_s=1, deaf=True))
    trade = counter.line("/v5/trade")
    trade.auth()
    counter.wait(1000)
    trade.order("1", orderLinkId="a")
    counter.wait(1000)
    assert (trade.frames, counter.links) == ([], [])


def test_one_topic_falls_silent_and_pongs_go_on():
    counter = Counter(Fault("socket_silent", Match(topic="tickers.*"), from_s=1))
    line = counter.line("/v5/public/linear").subscribe("tickers.BTCUSDT", "orderbook.50.BTCUSDT")
    counter.wait(1500)
    line.frames.clear()
    line.send(op="ping")
    counter.wait(1000)
    assert {f.get("topic", f.get("op")) for f in line.frames} == {"ping", "orderbook.50.BTCUSDT"}


def test_sockets_are_refused():
    counter = Counter(Fault("socket_refused", Match(path="/v5/public/*"), until_s=5))
    assert counter.gateway.opens("/v5/public/linear", "a", counter.now_ms) == 503
    assert counter.gateway.opens("/v5/private", "a", counter.now_ms) == 0
    counter.wait(5000)
    assert counter.gateway.opens("/v5/public/linear", "a", counter.now_ms) == 0


class Protection:
    """Stands in for the exchange's disconnection protection and keeps what it is told."""

    def __init__(self):
        self.told = []

    def connected(self, account, product, now_ms):
        self.told.append(("connected", account, product))

    def disconnected(self, account, product, now_ms):
        self.told.append(("disconnected", account, product))

    def next_ms(self):
        return 2**62


@pytest.mark.parametrize("end", ["cut", "bye", "end", "unsubscribe"])
def test_disconnection_protection_hears_who_listens(end):
    """Subscribing arms, every end of the connection starts the window, exactly once."""
    counter = Counter()
    counter.venue.exchange.dcp = protection = Protection()
    line = counter.private("order", "dcp.future")
    assert protection.told == [("connected", ME, "dcp.future")]
    if end == "unsubscribe":
        line.send(op="unsubscribe", args=["dcp.future"])
        counter.wait(20)
    getattr(line.session, "end" if end == "unsubscribe" else end)()
    counter.wait(1000)
    assert protection.told[1:] == [("disconnected", ME, "dcp.future")]


def test_five_hundred_sockets_in_five_minutes():
    """New connections per address are limited (fact sheet §1.6)."""
    counter = Counter()
    found = [counter.gateway.opens("/v5/private", "a", counter.now_ms) for _ in range(501)]
    assert found == [0] * 500 + [403]


# ---------------------------------------------------------------- the trade socket


@pytest.mark.parametrize(
    ("fault", "answer", "links"),
    [
        (Fault("refuse", CREATE, code=110007), 110007, []),
        (Fault("rate_limited", CREATE), 10006, []),
        (Fault("http_error", CREATE, status=429), 10429, []),
        (Fault("http_error", CREATE), 10016, []),
        (Fault("unknown_outcome", CREATE, code=10019), 10019, ["a"]),
        (Fault("refuse", Match(via="rest"), code=110007), 0, ["a"]),
    ],
)
def test_faults_reach_the_trade_socket(fault, answer, links):
    counter = Counter(fault)
    trade = counter.line("/v5/trade")
    trade.auth()
    trade.order("1", orderLinkId="a")
    counter.wait(10)
    (frame,) = trade.frames
    assert (frame["retCode"], frame["reqId"]) == (answer, "1")
    assert int(frame["header"]["X-Bapi-Limit-Reset-Timestamp"]) >= T0
    assert counter.links == links


def test_an_ack_is_late_lost_or_comes_with_the_end():
    counter = Counter(
        Fault("slow_answer", CREATE, nth=1, ms=500), Fault("answer_never", CREATE, nth=2),
        Fault("slow_request", CREATE, nth=3, ms=200), Fault("answer_lost", CREATE, nth=4),
    )  # fmt: skip
    trade = counter.line("/v5/trade")
    trade.auth()
    for number, link in enumerate("abc"):
        trade.order(str(number), orderLinkId=link)
    counter.wait(100)
    assert (trade.frames, counter.links) == ([], ["a", "b"])
    counter.wait(1000)
    assert [frame["reqId"] for frame in trade.frames] == ["2", "0"]
    assert counter.links == ["a", "b", "c"]
    trade.order("3", orderLinkId="d")
    assert (trade.ended, counter.links) == ("cut", ["a", "b", "c", "d"])


# ---------------------------------------------------------------- the world


def test_a_clock_that_runs_ahead_or_behind():
    """Checks, market/time, envelope and pushes agree on the wrong time; 10002 at the bound."""
    counter = Counter(Fault("clock_skew", from_s=1, until_s=9, ms=-1200))
    trade = counter.line("/v5/trade")
    trade.auth()
    counter.wait(2000)
    answer = counter.get("market/time", key="")
    assert answer["time"] == counter.now_ms - 1200
    assert answer["result"]["timeNano"] == str((counter.now_ms - 1200) * 10**6)
    assert code(counter.sell("a")) == 10002
    trade.order("1", orderLinkId="b")
    counter.wait(10)
    assert trade.frames.pop()["retCode"] == 10002
    assert code(counter.sell("c", stamp_ms=counter.now_ms - 1200)) == 0
    line = counter.line("/v5/public/linear").subscribe("tickers.BTCUSDT")
    counter.wait(100)
    assert line.frames[-1]["ts"] <= counter.now_ms - 1200
    counter.wait(8000)
    assert code(counter.sell("d")) == 0


@pytest.mark.parametrize(
    ("kind", "answer"), [("key_revoked", 10003), ("key_expired", 33004), ("ip_changed", 10010)]
)
def test_a_key_that_is_no_longer_good(kind, answer):
    """Requests are refused, its sockets are dropped, new ones turned away; others live on."""
    counter = Counter(Fault(kind, Match(account=ME), from_s=5, until_s=20))
    line, trade, other = counter.private("order"), counter.line("/v5/trade"), counter.line()
    trade.auth()
    other.auth("unprotected-sim")
    assert code(counter.sell("a")) == 0
    counter.wait(5000)
    assert (line.ended, trade.ended, other.ended) == ("cut", "cut", "")
    assert code(counter.sell("b")) == answer
    assert counter.line().auth()["success"] is False
    assert counter.get("account/info", key="unprotected-sim")["retCode"] == 0
    assert counter.links == ["a"]
    counter.wait(15_000)
    assert code(counter.sell("c")) == 0


def test_a_permission_is_taken_away():
    counter = Counter(Fault("permission_removed", permission="Order", from_s=5))
    trade = counter.line("/v5/trade")
    trade.auth()
    counter.wait(5000)
    assert code(counter.sell("a")) == 10005
    assert counter.get("account/info")["retCode"] == 0
    trade.order("1", orderLinkId="b")
    counter.wait(10)
    assert trade.frames[-1]["retCode"] == 10005
    move = {"transferId": "t", "coin": "USDT", "amount": "1"}
    pockets = {"fromAccountType": "UNIFIED", "toAccountType": "FUND"}
    assert counter.post("asset/transfer/inter-transfer", **move, **pockets)["retCode"] == 0
    assert counter.links == []


# ---------------------------------------------------------------- drawn from a seed


def test_drawn_plans_repeat_and_heal():
    """1,000 seeds: each plan makes sense, repeats, and is over, lingering included, at heal_s."""
    kinds = set()
    for seed in range(1000):
        plan, again = drawn(seed, heal_s=60, from_s=5), drawn(seed, heal_s=60, from_s=5)
        faults = [row["fault"] for row in plan.listing()]
        assert faults == [row["fault"] for row in again.listing()]
        for fault in faults:
            kinds.add(fault["kind"])
            assert 5 <= fault["from_s"] < fault["until_s"]
            assert fault["until_s"] + (fault["ms"] or 0) / 1000 <= 60
    assert len(kinds) >= 23


@pytest.mark.no_cover
def test_after_healing_the_exchange_is_as_good_as_new():
    """Whatever was drawn, an order placed after heal_s is served and pushed once, in time."""
    for seed in range(12):
        counter = Counter(tick_ms=500)
        counter.gateway.faults = drawn(seed, heal_s=30)
        sent_ms = 0
        while counter.now_ms < T0 + 30_000:
            counter.wait(500)
            counter.sell(f"{seed}-{sent_ms}", side="Buy" if sent_ms % 1000 else "Sell")
            sent_ms += 500
        counter.wait(10_000)
        line = counter.private("order", "execution")
        assert code(counter.sell("after")) == 0, seed
        assert sorted(f["topic"] for f in line.frames) == ["execution", "order"], seed


# ---------------------------------------------------------------- batches


def test_a_batch_with_its_failures_put_back():
    """The exchange sees the rest; failed places have no orderId and their own code (§5.2)."""
    orders = [{"symbol": "BTCUSDT", "orderLinkId": link} for link in "abc"]
    params = {"category": "linear", "request": orders}
    failed = {1: (110007, "short of margin")}
    sent = without_items(params, failed)
    assert [order["orderLinkId"] for order in sent["request"]] == ["a", "c"]
    rows = [{"orderId": link, "orderLinkId": link} for link in "ac"]
    fine = {"code": 0, "msg": "OK"}
    result, ext = with_failures(params, {"list": rows}, {"list": [fine, fine]}, failed)
    assert [(row["orderId"], row["orderLinkId"]) for row in result["list"]] == [
        ("a", "a"), ("", "b"), ("c", "c")
    ]  # fmt: skip
    assert [row["code"] for row in ext["list"]] == [0, 110007, 0]
    assert without_items({"request": 5}, failed) == {"request": 5}
    assert with_failures({}, {"x": 1}, {}, failed) == ({"x": 1}, {})


@pytest.mark.parametrize("via", ["rest", "socket"])
@pytest.mark.parametrize("items", [(1,), (0, 1, 2)])
def test_a_batch_fails_in_part_or_whole(via, items):
    """Over REST and the trade socket: what fails was never placed, the rest is."""
    counter = Counter(Fault("batch_partial", items=items, code=110072, message="duplicate"))
    orders = [{**ORDER, "qty": "0.01", "orderLinkId": link} for link in "abc"]
    for order in orders:
        del order["category"]
    batch = {"category": "linear", "request": orders}
    if via == "rest":
        answer = counter.post("order/create-batch", **batch)
        codes, rows = answer["retExtInfo"]["list"], answer["result"]["list"]
    else:
        trade = counter.line("/v5/trade")
        trade.auth()
        header = {"X-BAPI-TIMESTAMP": str(counter.now_ms)}
        trade.send(reqId="1", op="order.create-batch", header=header, args=[batch])
        counter.wait(10)
        (answer,) = trade.frames
        codes, rows = answer["retExtInfo"]["list"], answer["data"]["list"]
    assert answer["retCode"] == 0
    assert [row["code"] for row in codes] == [110072 if n in items else 0 for n in range(3)]
    assert [bool(row["orderId"]) for row in rows] == [n not in items for n in range(3)]
    assert counter.links == [link for n, link in enumerate("abc") if n not in items]


def test_spoiling_leaves_what_does_not_match():
    body = {"list": [{"a": {"b": "1"}}, {"a": "2"}], "n": ["x", {"b": 3}]}

    def spoil(field, op):
        return spoilt(body, [Fault("edit_answer", field=field, op=op)])

    assert spoil("list.*.a.b", "drop") == {**body, "list": [{"a": {}}, {"a": "2"}]}
    assert spoil("list.1", "drop")["list"][1] == {}
    assert spoil("n", "empty")["n"] == []
    assert spoil("b", "number") == {"list": [{"a": {"b": 1}}, {"a": "2"}], "n": ["x", {"b": 1}]}
    assert spoil("list.x.a", "drop") == spoil("a.b.c", "drop") == body
