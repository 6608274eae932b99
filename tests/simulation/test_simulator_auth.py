"""Signatures (vectors of §1.2), the clock window, and rate limits."""

import pytest

from hedgelock.simulator import auth
from hedgelock.simulator.keys import KeyTerms
from hedgelock.simulator.limits import Limit, RateLimits, Window
from hedgelock.simulator.state import Account, Refused

NOW = 1_700_000_000_000
ACCOUNTS = {"testkey": Account("testkey", "testkey", "testsecret", uid=1)}
QUERY = "category=linear&symbol=BTCUSDT"
QUERY_SIGN = "f2f79889fd1201752936b389c890e9d393e01e0311a6d8785fb80753aa26c69b"
BODY = '{"category":"linear","symbol":"BTCUSDT","side":"Sell","orderType":"Market","qty":"0.01"}'
BODY_SIGN = "b92a1c5b944c70fdd11326ddebfb7b50a5bfcdc3336e6895f02eea9d38297731"
STREAM_SIGN = "6a806639d27b1c24c3808a191e9d0274d0c9d3a04a160233856d65840dfda2c8"


def check(raw, sign, *, key="testkey", timestamp=str(NOW), window="5000", now_ms=NOW):
    given = auth.Credentials(key, timestamp, sign, window)
    return auth.check_request(ACCOUNTS, given, raw=raw, now_ms=now_ms)


@pytest.mark.parametrize(("raw", "sign"), [(QUERY, QUERY_SIGN), (BODY, BODY_SIGN)])
def test_signatures_of_the_fact_sheet(raw, sign):
    assert check(raw, sign).name == "testkey"
    assert check(raw, sign, window="").name == "testkey", "5000 is the default"
    with pytest.raises(Refused) as refusal:
        check(raw.replace(":", ": ").replace("&", "&&"), sign)
    assert refusal.value.code == 10004


@pytest.mark.parametrize(
    ("offset_ms", "fine"), [(0, True), (-1000, False), (-999, True), (5000, True), (5001, False)]
)
def test_the_clock_window(offset_ms, fine):
    """`offset_ms` = exchange clock − client clock."""
    if fine:
        assert check(QUERY, QUERY_SIGN, now_ms=NOW + offset_ms)
        return
    with pytest.raises(Refused) as refusal:
        check(QUERY, QUERY_SIGN, now_ms=NOW + offset_ms)
    assert refusal.value.code == 10002
    assert refusal.value.message == (
        "invalid request, please check your server timestamp or recv_window param. "
        f"req_timestamp[{NOW}],server_timestamp[{NOW + offset_ms}],recv_window[5000]"
    )


@pytest.mark.parametrize("timestamp", ["", "abc", "-1", "1.5"])
def test_nonsense_timestamps(timestamp):
    with pytest.raises(Refused) as refusal:
        check(QUERY, QUERY_SIGN, timestamp=timestamp)
    assert refusal.value.code == 10002


def test_unknown_key():
    with pytest.raises(Refused) as refusal:
        check(QUERY, QUERY_SIGN, key="nobody")
    assert refusal.value.code == 10003


def stream(expires="1700000010000", given=STREAM_SIGN, key="testkey"):
    return auth.check_stream(ACCOUNTS, key=key, expires=expires, given=given, now_ms=NOW)


def test_stream_authentication():
    assert stream().name == "testkey"
    for changes, code in (
        ({"expires": "1699999999999"}, 10002),
        ({"expires": "soon"}, 10002),
        ({"given": "0" * 64}, 10004),
        ({"key": "nobody"}, 10003),
    ):
        with pytest.raises(Refused) as refusal:
            stream(**changes)
        assert refusal.value.code == code


def test_a_window_rolls_and_resets_in_the_future():
    window = Window(Limit(3))
    assert [window.admit(NOW + n * 100).left for n in range(3)] == [2, 1, 0]
    refused = window.admit(NOW + 300)
    assert refused.refused
    assert refused.reset_ms == NOW + 1001
    assert window.admit(NOW + 999).reset_ms > NOW + 999
    assert not window.admit(NOW + 1000).refused


def test_limits_are_per_account_and_endpoint():
    limits = RateLimits()
    one = Limit(1)
    assert not limits.admit("a", "x", one, NOW).refused
    assert limits.admit("a", "x", one, NOW).refused
    assert not limits.admit("b", "x", one, NOW).refused
    assert not limits.admit("a", "y", one, NOW).refused
    assert not RateLimits(factor=2).admit("a", "x", one, NOW).refused


def test_orders_beyond_ten_a_second_are_refused(open_desk):
    desk = open_desk(limits_factor=1)
    order = {
        "category": "linear", "symbol": "BTCUSDT", "side": "Sell", "orderType": "Market",
        "qty": "0.001",
    }  # fmt: skip
    replies = [desk.call("POST", "order/create", **order) for _ in range(11)]
    assert [r.code for r in replies] == [0] * 10 + [10006]
    assert [r.allowance.left for r in replies] == [*range(9, -1, -1), 0]
    assert replies[0].allowance.reset_ms == desk.now_ms
    assert replies[-1].allowance.reset_ms > desk.now_ms
    assert len(desk.account.orders) == 10
    assert desk.call("POST", "order/create", **{**order, "category": "spot"}).code == 0
    desk.wait(1000)
    assert desk.call("POST", "order/create", **order).code == 0


def test_unknown_routes(desk):
    assert desk.call("GET", "nowhere").code == 10017
    assert desk.call("GET", "order/create").code == 10017
    assert desk.call("POST", "market/time").code == 10017
    desk.who = ""
    assert desk.call("GET", "account/info").code == 10003


ORDERING, TRANSFER = "/v5/order/create", "/v5/asset/transfer/inter-transfer"


@pytest.mark.parametrize(
    ("permissions", "path", "params", "open_"),
    [
        ({"ContractTrade": ("Order",)}, ORDERING, {"category": "linear"}, True),
        ({"ContractTrade": ("Position",)}, ORDERING, {"category": "linear"}, False),
        ({"Spot": ("SpotTrade",)}, ORDERING, {"category": "linear"}, False),
        ({"Spot": ("SpotTrade",)}, ORDERING, {"category": "spot"}, True),
        ({"ContractTrade": ("Position",)}, "/v5/position/set-leverage", {}, True),
        ({"ContractTrade": ("Order",)}, "/v5/position/set-leverage", {}, False),
        ({"Wallet": ("AccountTransfer",)}, TRANSFER, {}, True),
        ({"Wallet": ("SubMemberTransfer",)}, TRANSFER, {}, False),
        ({"Spot": ("SpotTrade",)}, "/v5/crypto-loan-flexible/repay", {}, True),
        ({"ContractTrade": ("Order",)}, "/v5/crypto-loan-flexible/repay", {}, False),
        ({"ContractTrade": ("Order",)}, "/v5/account/set-collateral-switch", {}, True),
        ({}, "/v5/account/set-collateral-switch", {}, False),
    ],
)
def test_a_route_asks_for_its_permission(permissions, path, params, open_):
    """Writing needs it, reading needs none, and a read-only key writes nothing."""
    terms = KeyTerms(permissions=permissions)
    assert auth.may(terms, "POST", path, params) is open_
    assert auth.may(terms, "GET", path, params)
    assert not auth.may(KeyTerms(read_only=True), "POST", path, params)
    lost = frozenset(permissions)
    assert not auth.may(terms, "POST", path, params, lost=lost), "the whole group was taken away"


def test_a_key_expires_and_knows_its_addresses():
    bound = KeyTerms(ips=("10.0.0.1",), expires_ms=NOW)
    assert auth.key_refusal(bound, address="10.0.0.1", now_ms=NOW - 1) is None
    assert auth.key_refusal(bound, address="10.0.0.1", now_ms=NOW)[0] == 33004
    assert auth.key_refusal(bound, address="10.0.0.2", now_ms=NOW - 1)[0] == 10010
    assert auth.key_refusal(KeyTerms(), address="anywhere", now_ms=NOW) is None
