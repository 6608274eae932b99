"""The control API: faults, accounts, keys, speed, audits; loopback only."""

import json
from decimal import Decimal as D

import pytest
from counter import ME, T0, Counter

from hedgelock.simulator.request import Request


def control(counter, method, target, body=None, *, address="127.0.0.1"):
    raw = json.dumps(body).encode() if body is not None else b""
    reply = counter.gateway.http(Request(method, target, {}, raw, address), counter.now_ms)
    return reply.status, json.loads(reply.body)


@pytest.fixture
def counter():
    return Counter()


def test_faults_are_planned_listed_and_healed(counter):
    match = {"path": "/v5/order/create"}
    status, added = control(
        counter, "POST", "/sim/faults", {"kind": "refuse", "code": 10016, "match": match}
    )
    assert (status, added) == (200, {"id": 1})
    assert json.loads(counter.sell("a").body)["retCode"] == 10016
    _, listed = control(counter, "GET", "/sim/faults")
    assert [(row["id"], row["hits"]) for row in listed["faults"]] == [(1, 1)]
    assert control(counter, "DELETE", "/sim/faults?id=7")[0] == 404
    assert control(counter, "DELETE", "/sim/faults?id=1")[1]["faults"] == []
    assert json.loads(counter.sell("b").body)["retCode"] == 0


def test_a_fault_from_now_on_for_some_seconds(counter):
    counter.wait(5000)
    control(counter, "POST", "/sim/faults", {"kind": "refuse", "code": 10016, "for_s": 2})
    assert json.loads(counter.sell("a").body)["retCode"] == 10016
    counter.wait(2000)
    assert json.loads(counter.sell("b").body)["retCode"] == 0
    control(counter, "POST", "/sim/faults", {"kind": "cut"})
    assert control(counter, "DELETE", "/sim/faults")[1]["faults"] == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"kind": "hut"}, "kind 'hut' is unknown"),
        ({"kind": "refuse"}, "refuse needs code"),
        ({"kind": "cut", "until": 3}, "unknown field `until`"),
        ({"kind": "cut", "for_s": "x"}, "Expected `float`"),
        ([], "Expected `object`"),
    ],
)
def test_a_wrong_fault_is_explained(counter, body, words):
    status, answer = control(counter, "POST", "/sim/faults", body)
    assert status == 400
    assert words in answer["error"]
    assert counter.gateway.faults.quiet


def test_the_kinds_are_told(counter):
    _, told = control(counter, "GET", "/sim/faults/kinds")
    assert told["kinds"]["cut"]["stage"] == "request"
    _, told = control(counter, "GET", "/sim/deeds/kinds")
    assert told["kinds"]["adl"]["needs"] == ["account", "symbol", "amount"]
    assert (told["kinds"]["adl"]["ends"], told["kinds"]["price_gap"]["ends"]) == (False, True)


def test_accounts_are_created_with_pockets_debts_and_terms(counter):
    account = {
        "key": "mine", "secret": "s", "unified": {"USDT": "100.5"}, "debt": {"USDT": "50"},
        "collateral": {"BTC": "0.5"}, "limits_factor": 5,
    }  # fmt: skip
    assert control(counter, "POST", "/sim/accounts", account)[0] == 200
    assert control(counter, "POST", "/sim/accounts", account)[0] == 400, "twice"
    assert control(counter, "POST", "/sim/accounts", {**account, "key": "x", "debt": {"USDT": "-1"}})[0] == 400
    _, state = control(counter, "GET", "/sim/state")
    mine = state["accounts"]["mine"]
    assert (mine["unified"], mine["debt"]) == ({"USDT": "100.5"}, {"USDT": "50"})
    assert counter.venue.exchange.accounts["mine"].terms.limits_factor == 5


def test_what_a_key_may_do_changes(counter):
    """Read-only, addresses, expiry and permissions act at once; what is not given stays."""
    def terms(**change):
        return control(counter, "POST", "/sim/accounts/terms", {"key": ME, **change})[0]

    def sell():
        return json.loads(counter.sell().body)["retCode"]

    assert terms(read_only=True) == 200
    assert sell() == 10005
    assert counter.get("account/info")["retCode"] == 0
    assert terms(read_only=False, ips=["10.0.0.1"]) == 200
    assert sell() == 10010
    assert counter.get("account/info", address="10.0.0.1")["retCode"] == 0
    assert terms(ips=["*"], expires_ms=T0 + 500) == 200
    assert sell() == 0
    line = counter.private("order")
    counter.wait(40_000)
    assert line.ended == "cut"
    assert sell() == 33004
    assert terms(expires_ms=T0 + 10**9, permissions={"Spot": ["SpotTrade"]}) == 200
    assert sell() == 10005
    assert json.loads(counter.sell(category="spot").body)["retCode"] == 0
    assert control(counter, "POST", "/sim/accounts/terms", {"key": "nobody"})[0] == 404


def test_raised_limits_are_the_accounts_own(counter):
    control(counter, "POST", "/sim/accounts/terms", {"key": ME, "limits_factor": 3})
    codes = [json.loads(counter.sell(qty="0.001").body)["retCode"] for _ in range(31)]
    assert codes == [0] * 30 + [10006]


def test_the_speed_changes_where_the_script_is(counter):
    counter.wait(10_000)
    before = control(counter, "GET", "/sim/state")[1]["script_s"]
    after = control(counter, "POST", "/sim/speed", {"speed": 4})[1]
    assert (before, after["script_s"], after["speed"]) == (10, 10, 4)
    counter.wait(5000)
    assert control(counter, "GET", "/sim/state")[1]["script_s"] == 30
    assert control(counter, "POST", "/sim/speed", {"speed": 0})[0] == 400


def test_requests_are_kept_for_audits(counter):
    counter.sell("a")
    counter.ask("GET", "market/time", key="")
    rows = control(counter, "GET", f"/sim/requests?account={ME}")[1]["requests"]
    assert [(r["path"], r["code"], r["link"], r["via"]) for r in rows] == [
        ("/v5/order/create", 0, "a", "rest")
    ]
    assert len(control(counter, "GET", "/sim/requests")[1]["requests"]) == 2


def test_strangers_are_refused(counter):
    for method, path in (("GET", "/sim/state"), ("POST", "/sim/faults"), ("DELETE", "/sim/faults")):
        assert control(counter, method, path, address="10.0.0.1")[0] == 403
    assert control(counter, "GET", "/healthz", address="10.0.0.1")[0] == 200
    status, answer = control(counter, "GET", "/sim/nothing")
    assert status == 404
    assert "POST /sim/faults" in answer["error"]


def test_deeds_are_put_on_the_agenda(counter):
    """At once when no second is given; a wrong one is explained."""
    before = counter.venue.exchange.market.index["BTC"]
    gap = {"kind": "price_gap", "coin": "BTC", "amount": "-0.1"}
    assert control(counter, "POST", "/sim/deeds", gap)[0] == 200
    counter.wait(200)
    assert counter.venue.exchange.market.index["BTC"] < before * D("0.92")
    assert control(counter, "POST", "/sim/deeds", {"kind": "quake"})[0] == 400
    later = {**gap, "at_s": 5, "symbol": "DOGEUSDT"}
    assert "no contract" in control(counter, "POST", "/sim/deeds", later)[1]["error"]


def test_settlements_follow_the_speed(quiet_scenario):
    """A settlement at script second 10 comes after 5 s at twice the speed."""
    counter = Counter(scenario=quiet_scenario())
    control(counter, "POST", "/sim/speed", {"speed": 2})
    state = control(counter, "GET", "/sim/state")[1]
    assert state["next_settlement_ms"] == T0 + 5_000
