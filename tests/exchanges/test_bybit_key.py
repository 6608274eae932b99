"""API keys and accounts: what is refused, what is warned of, and the exchange's own dead man's switch."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from exchanges.bybit_stub import FAST, Make, Stub, envelope
from hedgelock.errors import VenueForbidden
from hedgelock.exchanges.bybit import CAPABILITIES, MODE_SETTINGS, BybitSettings
from hedgelock.exchanges.bybit_key import (
    EXPIRY_WARN_DAYS,
    KeyTerms,
    key_problems,
    key_warnings,
    parse_dcp,
    parse_key,
)
from hedgelock.exchanges.fields import Row

KEY: dict[str, Any] = {
    "readOnly": 0, "ips": ["203.0.113.7"], "deadlineDay": 80, "permissions": {
        "ContractTrade": ["Order", "Position"], "Spot": ["SpotTrade"], "Wallet": ["AccountTransfer"]},
}
ACCOUNT = {"unifiedMarginStatus": 6, "marginMode": "REGULAR_MARGIN"}


def terms(**fields: Any) -> KeyTerms:
    """A key that will do, but for the given fields."""
    return parse_key(Row({**KEY, **fields}))


@pytest.mark.parametrize("mode", ["live", "testnet", "demo", "sim", "paper"])
@pytest.mark.parametrize("name", ["Withdraw", "WithdrawV2", "SubAccountWithdraw"])
def test_a_key_that_can_withdraw_is_refused_in_every_mode(mode: str, name: str) -> None:
    """`live` above all, by any permission that is named a withdrawal."""
    settings = MODE_SETTINGS.get(mode, BybitSettings())
    wallet = {**KEY["permissions"], "Wallet": ["AccountTransfer", name]}
    assert settings.refuse_withdrawal_keys
    assert settings.check_key or mode == "demo", "demo has no such endpoint and no money"
    problems = key_problems(
        terms(permissions=wallet), capabilities=CAPABILITIES[mode],
        refuse_withdrawal=settings.refuse_withdrawal_keys,
    )
    assert problems == ["the key may withdraw: take that permission away"]


def test_a_good_key_has_neither_problems_nor_warnings() -> None:
    """Bound to an address, far from its end, able to trade, unable to withdraw."""
    key = terms()
    assert key_warnings(key) == []
    assert key_problems(key, capabilities=CAPABILITIES["live"], refuse_withdrawal=True) == []


@pytest.mark.parametrize(("days", "warned"), [
    (EXPIRY_WARN_DAYS, False), (EXPIRY_WARN_DAYS - 1, True), (0, True), (-2, False)])
def test_a_key_near_its_end_is_warned_of(days: int, warned: bool) -> None:
    """Below 14 days; a negative number is Bybit's way of saying that it does not end."""
    found = key_warnings(terms(deadlineDay=days))
    assert bool(found) is warned
    assert all(f"{days} days" in text and "new one" in text for text in found)


@pytest.mark.parametrize("ips", [["*"], [], [""], ["203.0.113.7", "*"]])
def test_a_key_for_every_address_is_warned_of(ips: list[str]) -> None:
    """Unbound in any of the ways in which that is written."""
    (text,) = key_warnings(terms(ips=ips))
    assert "every address" in text and "bind it" in text


async def test_warnings_are_known_after_connect(stub: Stub, make: Make) -> None:
    """A key that works but deserves care connects, and its warnings can be shown."""
    stub.answer("/v5/user/query-api", {**KEY, "ips": ["*"], "deadlineDay": 3})
    stub.answer("/v5/account/info", ACCOUNT)
    exchange = make(stub.port)
    await exchange.connect()
    assert len(exchange.warnings) == 2


async def test_live_refuses_a_clock_that_is_a_second_off(stub: Stub, make: Make) -> None:
    """`live` does not connect when the clocks are further apart than Bybit tolerates; testnet does."""
    stub.answer("/v5/market/time", {"timeSecond": "1", "timeNano": "1"})

    async def time(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        from hedgelock.clock import SystemClock

        ahead_ms = SystemClock().now_ms() + 1_500
        return envelope({"timeSecond": "1", "timeNano": str(ahead_ms * 1_000_000)})

    stub.routes["/v5/market/time"] = time
    stub.answer("/v5/user/query-api", KEY)
    stub.answer("/v5/account/info", ACCOUNT)
    with pytest.raises(VenueForbidden, match="timedatectl"):
        await make(stub.port, settings=MODE_SETTINGS["live"]._replace(socket=FAST)).connect()
    await make(stub.port).connect()


@pytest.mark.parametrize(("infos", "window"), [
    ([], None),
    ([{"product": "DERIVATIVES", "dcpStatus": "ON", "timeWindow": "10"}], 10),
    ([{"product": "DERIVATIVES", "dcpStatus": "OFF", "timeWindow": "10"}], None),
    ([{"product": "SPOT", "dcpStatus": "ON", "timeWindow": "10"}], None),
])
def test_the_dead_mans_window_of_derivatives_is_read(infos: list[Any], window: int | None) -> None:
    """Only ON for derivatives counts; anything else is no protection."""
    assert parse_dcp(Row({"dcpInfos": infos})) == window


@pytest.mark.parametrize(("infos", "sets", "armed"), [
    ([], 0, None),
    ([{"product": "DERIVATIVES", "dcpStatus": "ON", "timeWindow": "30"}], 0, 30),
    ([{"product": "DERIVATIVES", "dcpStatus": "ON", "timeWindow": "10"}], 1, 30),
])
async def test_the_dead_mans_switch_is_armed_where_it_exists(
    stub: Stub, make: Make, infos: list[Any], sets: int, armed: int | None
) -> None:
    """Brought to our window once where Bybit enabled it; the private socket then listens to it."""
    stub.answer("/v5/user/query-api", KEY)
    stub.answer("/v5/account/info", ACCOUNT)
    stub.answer("/v5/account/query-dcp-info", {"dcpInfos": infos})
    stub.answer("/v5/order/disconnected-cancel-all", {})
    heard: list[dict[str, Any]] = []

    async def on_socket(ws: web.WebSocketResponse, message: dict[str, Any]) -> None:
        heard.append(message)
        await ws.send_json({"success": True, "ret_msg": "", "op": message["op"]})

    stub.on_socket = on_socket
    exchange = make(stub.port, settings=BybitSettings(socket=FAST, dcp_window_s=30))
    await exchange.connect()
    assert stub.count("/v5/order/disconnected-cancel-all") == sets
    assert exchange.dcp_window_s == armed
    stream = exchange.private_stream()
    await anext(stream)
    topics = [topic for m in heard if m["op"] == "subscribe" for topic in m["args"]]
    assert ("dcp.future" in topics) is (armed is not None)
    await stream.aclose()  # type: ignore[attr-defined]


async def test_an_account_without_the_switch_connects(stub: Stub, make: Make) -> None:
    """Where the route does not exist nothing is armed and nothing fails."""
    stub.answer("/v5/user/query-api", KEY)
    stub.answer("/v5/account/info", ACCOUNT)
    exchange = make(stub.port, settings=BybitSettings(socket=FAST, dcp_window_s=30))
    await exchange.connect()
    assert exchange.dcp_window_s is None
