"""Signing, error meanings, limits and the clock, against a scripted server."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from aiohttp import web

from exchanges.bybit_stub import KEYS, Make, Stub, envelope
from hedgelock.clock import SystemClock
from hedgelock.errors import (
    OutcomeUnknown,
    VenueBusy,
    VenueError,
    VenueForbidden,
    VenueRefused,
)
from hedgelock.exchanges.bybit_dialect import BybitDialect
from hedgelock.exchanges.ccxt_venue import CcxtVenue, Credentials
from hedgelock.exchanges.transport import AiohttpTransport


class Frozen:
    """A clock that stands still."""

    def __init__(self, now_ms: int) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        """The set time."""
        return self.ms

    def monotonic_ms(self) -> float:
        """The same."""
        return float(self.ms)


def venue(port: int, clock: Any = None, **kwargs: Any) -> CcxtVenue:
    """A connection to the scripted server."""
    return CcxtVenue(
        "bybit", kwargs.pop("credentials", KEYS), base_url=f"http://127.0.0.1:{port}",
        dialect=BybitDialect(), transport=kwargs.pop("transport", AiohttpTransport()),
        clock=clock or SystemClock(), **kwargs,
    )


@pytest.fixture
async def transport() -> Any:
    """A transport that is closed at the end."""
    made = AiohttpTransport()
    yield made
    await made.close()


def test_the_published_signing_vectors() -> None:
    """GET, POST and socket signatures equal the fact sheet's vectors."""
    clock = Frozen(1_700_000_000_100)  # stamped 100 ms early: the vectors' 1700000000000
    made = venue(1, clock, credentials=Credentials("testkey", "testsecret"))
    made._ccxt.options["recvWindow"] = 5000  # the vectors'
    get = made._sign(
        "GET", "/v5/order/realtime", {"category": "linear", "symbol": "BTCUSDT"}, signed=True
    )
    assert get["url"].endswith("?category=linear&symbol=BTCUSDT")
    assert get["headers"]["X-BAPI-SIGN"] == (
        "f2f79889fd1201752936b389c890e9d393e01e0311a6d8785fb80753aa26c69b"
    )
    post = made._sign(
        "POST", "/v5/order/create",
        {"category": "linear", "symbol": "BTCUSDT", "side": "Sell", "orderType": "Market",
         "qty": "0.01"}, signed=True,
    )
    assert post["headers"]["X-BAPI-SIGN"] == (
        "b92a1c5b944c70fdd11326ddebfb7b50a5bfcdc3336e6895f02eea9d38297731"
    )
    assert made.hmac_hex("GET/realtime1700000010000") == (
        "6a806639d27b1c24c3808a191e9d0274d0c9d3a04a160233856d65840dfda2c8"
    )


def test_keys_are_never_printed() -> None:
    """The repr of credentials shows neither half."""
    assert repr(Credentials("abc", "def")) == "Credentials(***)"


async def test_a_cursor_travels_as_it_was_signed(stub: Stub, transport: Any) -> None:
    """A percent-encoded cursor reaches the server byte for byte."""
    stub.answer("/v5/execution/list", {"list": []})
    await venue(stub.port, transport=transport).get(
        "/v5/execution/list", {"category": "linear", "cursor": "a%3A1%2Cb"}
    )
    assert stub.requests[0][1] == "/v5/execution/list?category=linear&cursor=a%3A1%2Cb"


@pytest.mark.no_cover
def test_importing_one_venue_leaves_the_others_alone() -> None:
    """The lean import loads bybit only, and a later `import ccxt` still works in full."""
    code = (
        "import sys\n"
        "from hedgelock.exchanges.ccxt_venue import ccxt_class\n"
        "lean = ccxt_class('bybit')\n"
        "assert 'ccxt' not in sys.modules and 'ccxt.binance' not in sys.modules\n"
        "import ccxt.async_support, ccxt.pro\n"
        "assert ccxt.async_support.bybit is lean and hasattr(ccxt, 'binance')\n"
        "assert issubclass(ccxt.pro.bybit, lean)\n"
        "assert ccxt_class('bybit') is lean\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


TABLE: list[tuple[int, type[VenueError]]] = [
    (10000, OutcomeUnknown), (10016, OutcomeUnknown), (10014, OutcomeUnknown),
    (10019, OutcomeUnknown), (170146, OutcomeUnknown),
    (10002, VenueBusy), (-1, VenueBusy), (10006, VenueBusy), (10018, VenueBusy),
    (110079, VenueBusy), (148019, VenueBusy), (148021, VenueBusy),
    (10003, VenueForbidden), (10004, VenueForbidden), (10005, VenueForbidden),
    (10007, VenueForbidden), (10008, VenueForbidden), (10009, VenueForbidden),
    (10010, VenueForbidden), (10017, VenueForbidden), (10024, VenueForbidden),
    (10027, VenueForbidden), (10028, VenueForbidden), (10029, VenueForbidden),
    (33004, VenueForbidden), (100028, VenueForbidden),
    (10001, VenueRefused), (110001, VenueRefused), (110007, VenueRefused), (110017, VenueRefused),
    (110043, VenueRefused), (110072, VenueRefused), (131212, VenueRefused), (131214, VenueRefused),
    (148038, VenueRefused), (170141, VenueRefused), (999999, VenueRefused),
]


@pytest.mark.parametrize(("code", "kind"), TABLE)
async def test_what_a_code_means(
    stub: Stub, transport: Any, code: int, kind: type[VenueError]
) -> None:
    """Each code of the fact sheet is refused, busy, forbidden or doubt, and keeps its number."""
    stub.answer("/v5/order/create", code=code, text="because")
    with pytest.raises(kind) as caught:
        await venue(stub.port, transport=transport).call("POST", "/v5/order/create", {"a": "b"})
    assert type(caught.value) is kind
    assert caught.value.code == str(code)


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (403, "access too frequent", VenueBusy), (403, "", VenueBusy),
        (403, "block access from your country", VenueForbidden), (429, "", VenueBusy),
        (401, "", VenueForbidden), (404, "nothing", VenueForbidden), (400, "bad", VenueRefused),
        (500, "", OutcomeUnknown), (502, "<html>", OutcomeUnknown), (504, "", OutcomeUnknown),
        (200, "<html>", OutcomeUnknown), (200, "[]", OutcomeUnknown), (200, "{}", OutcomeUnknown),
        (200, '{"retCode":"x"}', OutcomeUnknown), (302, "", OutcomeUnknown),
    ],
)
async def test_what_a_status_means(
    stub: Stub, transport: Any, status: int, text: str, kind: type[VenueError]
) -> None:
    """HTTP errors and unreadable answers: what may have happened is doubt, never a refusal."""

    async def route(_request: web.Request, _body: dict[str, Any]) -> web.Response:
        return web.Response(status=status, text=text, headers={"Location": "/v5/elsewhere"})

    stub.routes["/v5/order/create"] = route
    with pytest.raises(kind) as caught:
        await venue(stub.port, transport=transport).call("POST", "/v5/order/create", {"a": "b"})
    assert type(caught.value) is kind
    assert len(stub.requests) == 1


async def test_a_ban_is_obeyed_without_asking(stub: Stub, transport: Any) -> None:
    """After HTTP 403 nothing leaves for ten minutes: every call is busy at once."""

    async def route(_request: web.Request, _body: dict[str, Any]) -> web.Response:
        return web.Response(status=403, text="access too frequent")

    stub.routes["/v5/account/info"] = route
    clock = Frozen(1_700_000_000_000)
    made = venue(stub.port, clock, transport=transport)
    for _ in range(3):
        with pytest.raises(VenueBusy):
            await made.get("/v5/account/info")
    assert len(stub.requests) == 1
    clock.ms += 600_001
    with pytest.raises(VenueBusy):
        await made.get("/v5/account/info")
    assert len(stub.requests) == 2


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_cut_connection_is_doubt_and_never_sent_twice(
    stub: Stub, transport: Any, method: str
) -> None:
    """A request that could move money reaches the server once, whatever happens to its answer."""
    stub.drop("/v5/order/create")
    with pytest.raises(OutcomeUnknown) as caught:
        await venue(stub.port, transport=transport).call(method, "/v5/order/create", {"a": "b"})
    assert caught.value.code == "connection"
    if method == "POST":
        assert len(stub.requests) == 1


async def test_a_kept_connection_that_dies_does_not_repeat_a_post(
    stub: Stub, transport: Any
) -> None:
    """On a reused connection a HTTP library may try again by itself: not for what moves money."""
    stub.answer("/v5/account/info", {})
    stub.drop("/v5/order/create")
    made = venue(stub.port, transport=transport)
    await made.get("/v5/account/info")
    with pytest.raises(OutcomeUnknown):
        await made.call("POST", "/v5/order/create", {"a": "b"})
    assert stub.count("/v5/order/create") == 1


async def test_nobody_listens_is_doubt(unused_tcp_port: int, transport: Any) -> None:
    """A refused connection is treated like a lost one."""
    with pytest.raises(OutcomeUnknown):
        await venue(unused_tcp_port, transport=transport).call("GET", "/v5/market/time", signed=False)


async def test_a_refused_timestamp_measures_the_clock_and_reads_again(
    stub: Stub, transport: Any
) -> None:
    """10002 on a read: the clock is measured, the request stamped anew, once."""
    answers = [envelope(code=10002, text="timestamp"), envelope({"x": "1"})]

    async def route(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return answers.pop(0)

    stub.routes["/v5/account/info"] = route
    clock = Frozen(SystemClock().now_ms() - 90_000)
    made = venue(stub.port, clock, transport=transport)
    answer = await made.get("/v5/account/info")
    assert answer.result.text("x") == "1"
    assert 89_000 < made.offset_ms < 91_000
    stamps = [int(h["X-BAPI-TIMESTAMP"]) for _, p, _, h in stub.requests if "account" in p]
    assert stamps[1] - stamps[0] > 80_000


async def test_the_offset_is_the_median(stub: Stub, transport: Any) -> None:
    """One slow or wrong answer among five does not move the clock."""
    clock = Frozen(1_700_000_000_000)
    served = iter([clock.ms + 50, clock.ms + 40, clock.ms + 9_000, clock.ms + 60, clock.ms - 9_000])

    async def route(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
        return envelope({"timeSecond": "0", "timeNano": str(next(served) * 10**6)})

    stub.routes["/v5/market/time"] = route
    assert await venue(stub.port, clock, transport=transport).sync_clock() == 50


async def test_limits_are_told_in_our_clock(stub: Stub, transport: Any) -> None:
    """X-Bapi-Limit* of every answer reach the token buckets; nonsense is left out."""
    seen: list[tuple[str, int, int, int]] = []
    clock = Frozen(1_700_000_000_000)
    made = venue(stub.port, clock, transport=transport, on_limits=lambda *a: seen.append(a))
    made.offset_ms = 500
    headers = {"X-Bapi-Limit": "10", "X-Bapi-Limit-Status": "9",
               "X-Bapi-Limit-Reset-Timestamp": str(clock.ms + 600)}
    stub.answer("/v5/order/create", {}, headers=headers)
    await made.call("POST", "/v5/order/create", {"a": "b"})
    assert seen == [("order/create", 10, 9, clock.ms + 100)]
    stub.answer("/v5/order/create", {}, headers={**headers, "X-Bapi-Limit": "many"})
    await made.call("POST", "/v5/order/create", {"a": "b"})
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("reset_in_ms", "wait_ms"), [(300, 300), (-50, 1_000), (10**9, 1_000)]
)
async def test_too_many_visits_waits_for_the_reset(
    stub: Stub, transport: Any, reset_in_ms: int, wait_ms: int
) -> None:
    """10006 comes back at the header's reset; one in the past or far away means one second."""
    clock = Frozen(1_700_000_000_000)
    headers = {"X-Bapi-Limit": "10", "X-Bapi-Limit-Status": "0",
               "X-Bapi-Limit-Reset-Timestamp": str(clock.ms + reset_in_ms)}
    stub.answer("/v5/order/create", code=10006, headers=headers)
    with pytest.raises(VenueBusy) as caught:
        await venue(stub.port, clock, transport=transport).call("POST", "/v5/order/create", {"a": "b"})
    assert caught.value.retry_at_ms == clock.ms + wait_ms


async def test_no_key_is_said_before_anything_is_sent(stub: Stub, transport: Any) -> None:
    """A signed request without keys is refused here."""
    made = venue(stub.port, transport=transport, credentials=Credentials("", ""))
    with pytest.raises(VenueForbidden, match="API key"):
        await made.get("/v5/account/info")
    assert stub.requests == []


KEY = {"readOnly": 0, "permissions": {
    "ContractTrade": ["Order", "Position"], "Spot": ["SpotTrade"], "Wallet": ["AccountTransfer"]}}


@pytest.mark.parametrize(
    ("key", "info", "words"),
    [
        ({**KEY, "readOnly": 1}, {}, "read-only"),
        ({**KEY, "permissions": {"Wallet": []}}, {}, "ContractTrade Order"),
        ({**KEY, "permissions": {**KEY["permissions"], "Wallet": ["AccountTransfer", "Withdraw"]}},
         {}, "may withdraw"),
        (KEY, {"unifiedMarginStatus": 3, "marginMode": "REGULAR_MARGIN"}, "upgrade"),
        (KEY, {"unifiedMarginStatus": 6, "marginMode": "ISOLATED_MARGIN"}, "cross margin"),
    ],
)
async def test_connect_says_what_to_do(
    stub: Stub, make: Make, key: dict[str, Any], info: dict[str, Any], words: str
) -> None:
    """A key or account that will not do is refused at connect, in words that help."""
    stub.answer("/v5/user/query-api", key)
    stub.answer("/v5/account/info", info)
    with pytest.raises(VenueForbidden, match=words):
        await make(stub.port).connect()


async def test_connect_passes_with_what_is_needed(stub: Stub, make: Make) -> None:
    """A trading key without withdrawal on a UTA 2.0 cross account connects in few calls."""
    stub.answer("/v5/user/query-api", KEY)
    stub.answer("/v5/account/info", {"unifiedMarginStatus": 6, "marginMode": "REGULAR_MARGIN"})
    await make(stub.port).connect()
    assert len(stub.requests) == 7
