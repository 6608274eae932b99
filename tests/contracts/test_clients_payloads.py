"""The simulator's answers against recorded and documented payloads: same fields, same JSON types.

Every payload whose endpoint or topic exists here is compared, recursively; what differs on
purpose stands in EXCUSED with its reason. More fields than the payload has are fine: the exchange
adds fields, and the newest documentation knows more than a recording of two years ago.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from payload_world import ASKS, ME, SAME_PATH, T0, World, build

from hedgelock.simulator.entry import PATHS, EntrySession
from hedgelock.simulator.server import serve
from hedgelock.simulator.venue import PRIVATE, PUBLIC

pytestmark = pytest.mark.clients
ENDPOINTS_MATCHED = 62
FRAMES_MATCHED = 11
RECORDINGS_MATCHED = 27

EXCUSED = {
    ".mmrSysUpdateTime": "a typo of the documentation's sample; its table says mmrSysUpdatedTime",
    ".isPublicRpi": "RPI orders are not simulated",
    ".myRpiPermission": "RPI orders are not simulated",
    ".permissions.Options": "the key may not trade options: an empty list",
    ".xstockMultiplier": "of tokenised stocks",
    ".result.list[].nextPageCursor": "ccxt copies the page's cursor into the row",
    ".result.list[].timestamp": "ccxt copies the envelope's time into the ticker",
}
"""Differences that stay, by the end of their path."""

UNLISTED = {
    "ExchangeData/GetOptionSymbols": "no options here: the list is empty",
    "ExchangeData/GetOptionTickers": "no options here: the list is empty",
    "ExchangeData/GetLinearInverseSymbolsPreListing": "nothing is listed before its launch",
    "ExchangeData/GetDeliveryPrice": "nothing is ever delivered",
    "Trading/GetDeliveryHistory": "nothing is ever delivered",
    "Account/GetWithdrawals": "coins never leave",
}
"""Payloads of products that are not simulated: only the envelope is compared."""

REFUSED = {
    "Account/SwitchPositionMode": (110025, "every account is one-way already"),
    "Account/AddOrReduceMargin": (110015, "isolated margin only"),
    "Account/SetAutoAddMargin": (110015, "isolated margin only"),
    "Account/SwitchCrossIsolatedMargin": (100028, "of the account before unification"),
    "Account/SetRiskLimit": (100028, "of the account before unification"),
    "Account/SetTakeProfitStopLossMode": (100028, "of the account before unification"),
}
"""Payloads of successes that cannot happen here: the code is compared, and the envelope."""


@pytest.fixture(scope="module")
def world() -> World:
    return build()


def differences(theirs, ours, path="", *, quoted=False) -> Iterator[str]:
    """Fields that are missing or of another JSON type, each with its path.

    `quoted`: the recording has every number as text, so a number of ours may stand for digits.
    """
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key, value in theirs.items():
            if key in ours:
                yield from differences(value, ours[key], f"{path}.{key}", quoted=quoted)
            else:
                yield f"{path}.{key} is missing"
    elif isinstance(theirs, list) and isinstance(ours, list):
        if theirs and not ours:
            yield f"{path} is empty"
        for value in theirs:  # rows differ by what happened: one of ours must have the shape
            tries = [list(_row(value, row, f"{path}[]", quoted=quoted)) for row in ours[:20]]
            yield from min(tries, key=len, default=[])
    elif quoted and isinstance(theirs, str) and type(ours) is int and theirs.isdigit():
        return
    elif type(theirs) is not type(ours) and theirs is not None:
        yield f"{path} is {ours!r}, theirs {theirs!r}"


def _row(theirs, ours, path, *, quoted) -> Iterator[str]:
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) != len(ours):
        yield f"{path} has {len(ours)} columns, theirs {len(theirs)}"
    yield from differences(theirs, ours, path, quoted=quoted)


def unexcused(theirs, ours, **options) -> list[str]:
    return [
        problem
        for problem in dict.fromkeys(differences(theirs, ours, **options))
        if not problem.split(" ")[0].endswith(tuple(EXCUSED))
    ]


def test_the_comparison_finds_what_it_must():
    """Missing fields, other types, empty lists and shorter rows are found, at any depth."""
    theirs = {"a": [{"b": "1", "c": 2, "d": True}], "e": [["1", "2"]], "f": None, "g": "7"}
    assert unexcused(theirs, theirs) == []
    ours = {"a": [{"b": 1, "d": 1}], "e": [["1"]], "f": 3, "g": 7}
    assert unexcused(theirs, ours) == [
        ".a[].b is 1, theirs '1'", ".a[].c is missing", ".a[].d is 1, theirs True",
        ".e[] has 1 columns, theirs 2", ".g is 7, theirs '7'",
    ]  # fmt: skip
    assert unexcused({"a": [1]}, {"a": []}) == [".a is empty"]
    assert unexcused({"g": "7"}, {"g": 7}, quoted=True) == []
    assert unexcused({"mmrSysUpdateTime": ""}, {}) == []


def documented(shared: Path) -> dict[str, dict]:
    """The REST payloads of the documentation, by name, whose route is simulated."""
    root = shared / "data/payloads/bybit_net/Endpoints/V5Api"
    found = {}
    for file in sorted(root.glob("*/*.json")):
        payload = json.loads(file.read_text())
        method, path = payload["method"], payload["path"]
        routed = path in PUBLIC if method == "GET" else False
        if "response" in payload and (routed or (method, path) in PRIVATE):
            found[f"{file.parent.name}/{file.stem}"] = payload
    return found


def test_every_documented_answer_has_its_shape_here(world, shared):
    """For each documented REST payload of a simulated route: same fields, same JSON types."""
    problems, matched = {}, 0
    for name, payload in documented(shared).items():
        method, path = payload["method"], payload["path"]
        key = (method, path.removeprefix("/v5/"))
        assert key in ASKS, f"{name}: say in payload_world.ASKS how {key} is asked"
        reply = world.ask(method, path, SAME_PATH.get(name, ASKS[key])(world))
        theirs, ours = payload["response"], reply.body()
        if name in UNLISTED:
            theirs["result"] |= {key: [] for key in ("list", "rows") if key in theirs["result"]}
        if name in REFUSED:
            theirs["result"] = {}
        found = unexcused(theirs, ours)
        if reply.code != REFUSED.get(name, (theirs["retCode"], ""))[0]:
            found.append(f"answered {reply.code} {reply.message}")
        problems |= {name: found} if found else {}
        matched += not found
    assert problems == {}
    assert matched >= ENDPOINTS_MATCHED, matched


FRAMES = {
    "Private/Order": "order",
    "Private/UserTrades": "execution",
    "Private/MinimalUserTrades": "execution.fast",
    "Private/Position": "position",
    "Private/Balance": "wallet",
    "Linear/Ticker": "tickers.BTCUSDT",
    "Linear/Trades": "publicTrade.BTCUSDT",
    "Linear/Liquidations": "allLiquidation.BTCUSDT",
    "Spot/Ticker": "tickers.BTCUSDT",
    "Spot/PriceLimit": "priceLimit.BTCUSDT",
    "Spot/Trades": "publicTrade.BTCUSDT",
}
NOT_PUSHED = {
    "Private/Greeks": "options only",
    "Private/SpreadUserTrade": "spreads are not simulated",
    "Spot/SystemStatus": "no status channel",
    "Spot/Concurrent": "truncated upstream: a check of the client's dispatch, no payload",
    "Option/Book": "no options", "Option/Ticker": "no options", "Option/Klines": "no options",
    "Option/Trades": "no options",
}  # fmt: skip


def recorded(file: Path) -> list[dict]:
    """The data frames of a subscription's recording."""
    steps = json.loads(file.read_text())["steps"]
    bodies = [step.get("json") for step in steps if step.get("dir") == "recv"]
    return [b for b in bodies if isinstance(b, dict) and "topic" in b and "data" in b]


def test_every_documented_push_has_its_shape_here(world, shared):
    """For each documented frame of a simulated topic: same fields, same JSON types."""
    root = shared / "data/payloads/bybit_net/Subscriptions/V5"
    names = {f"{file.parent.name}/{file.stem}" for file in root.glob("*/*.json")}
    assert names == FRAMES.keys() | NOT_PUSHED.keys(), "a new recording wants its place"
    matched = 0
    for name, topic in FRAMES.items():
        ours = world.frames(topic)
        if name.startswith("Spot"):
            ours = [f for f in ours if "usdIndexPrice" in f["data"] or name != "Spot/Ticker"]
        assert ours, f"{name}: nothing was pushed"
        for theirs in recorded(root / f"{name}.json"):
            assert unexcused(theirs, ours[0]) == [], name
            matched += 1
    assert matched >= FRAMES_MATCHED, matched


def test_order_entry_answers_have_the_recorded_shape(world, shared):
    """The trade socket's acknowledgements, for each operation that exists here."""
    root = shared / "data/payloads/bybit_net/Socket/V5Api/Private"
    account = world.venue.exchange.accounts[ME]
    session = EntrySession(world.venue)
    compared = 0
    for file in sorted(root.glob("*.json")):
        steps = json.loads(file.read_text())["steps"]
        sent, theirs = (s["json"] for s in steps[-2:])
        if sent["op"] not in PATHS:
            continue
        path = PATHS[sent["op"]].removeprefix("/v5/")
        message = {
            **sent, "reqId": world.new("req"), "args": [ASKS["POST", path](world)],
            "header": {**sent["header"], "X-BAPI-TIMESTAMP": str(world.now_ms)},
        }  # fmt: skip
        ours = session.enter(account, message, now_ms=world.now_ms) | {
            "connId": "added by the socket"
        }
        assert ours["retCode"] == 0, ours
        assert unexcused(theirs, ours) == [], file.stem
        compared += 1
    assert compared == 3


STREAMED = {
    "tickers": "tickers.BTCUSDT", "orderbook": "orderbook.200.BTCUSDT",
    "publicTrade": "publicTrade.BTCUSDT", "kline": "kline.1.BTCUSDT",
}  # fmt: skip


def test_a_real_capture_has_the_shape_of_our_streams(world, shared):
    """Each frame captured from the exchange in 2026: snapshots and deltas, fields and types."""
    file = shared / "data/payloads/cryptofeed_slice/bybit_v5_linear_DOGEUSDT.jsonl"
    compared = dict.fromkeys(STREAMED, 0)
    for line in file.read_text().splitlines():
        record = json.loads(line)
        theirs = record["data"] if record["t"] == "recv" else {}
        kind = theirs.get("topic", "").split(".")[0]
        if kind not in STREAMED:
            continue
        snapshots = [f for f in world.frames(STREAMED[kind]) if f["type"] == "snapshot"]
        ours = snapshots[0]
        if kind == "orderbook" and theirs["type"] == "delta":
            ours = {**ours, "data": {**ours["data"], "b": ours["data"]["b"] or [["1", "1"]]}}
        assert unexcused(theirs, ours) == [], theirs
        compared[kind] += 1
    assert all(compared.values()), compared
    assert sum(compared.values()) >= 100


def test_captured_instruments_have_the_shape_of_ours(world, shared):
    """Rows of instruments-info captured in 2026, perpetuals and spot pairs."""
    for category, kept in (("linear", "LinearPerpetual"), ("spot", "")):
        file = shared / f"data/payloads/cryptofeed_slice/instruments_info_{category}.json"
        rows = json.loads(file.read_text())["result"]["list"]
        ours = world.ask("GET", "/v5/market/instruments-info", {"category": category}).result
        for row in rows:
            if row.get("contractType", "") == kept:
                assert unexcused(row, ours["list"][0]) == [], row["symbol"]


METHODS = {
    "fetchOpenInterest": "market/open-interest", "fetchBalance": "account/wallet-balance",
    "fetchClosedOrder": "order/history", "fetchClosedOrders": "order/history",
    "fetchPosition": "position/list", "fetchMyTrades": "execution/list",
    "fetchFundingHistory": "execution/list", "fetchLedger": "account/transaction-log",
    "fetchOHLCV": "market/kline", "fetchOrderBook": "market/orderbook",
    "fetchTrades": "market/recent-trade", "fetchTicker": "market/tickers",
    "fetchFundingRates": "market/tickers", "fetchFundingRate": "market/tickers",
    "fetchPositionHistory": "position/closed-pnl", "fetchOrder": "order/history",
    "fetchBorrowRateHistory": "spot-margin-trade/interest-rate-history",
    "fetchTransfers": "asset/transfer/query-inter-transfer-list", "createOrder": "order/create",
    "cancelAllOrders": "order/cancel-all", "borrowCrossMargin": "account/borrow",
    "repayCrossMargin": "account/no-convert-repay",
}  # fmt: skip
WRITES = {"createOrder", "cancelAllOrders", "borrowCrossMargin", "repayCrossMargin"}


def test_recorded_answers_of_real_accounts_have_their_shape_here(world, shared):
    """Answers that ccxt recorded; its recordings have every number as text."""
    file = shared / "data/payloads/ccxt_static/bybit_response_subset.json"
    cases = json.loads(file.read_text())["methods"]
    assert cases.keys() == METHODS.keys(), "a new recording wants its endpoint"
    problems, matched = [], 0
    for name, recordings in cases.items():
        path, method = METHODS[name], "POST" if name in WRITES else "GET"
        if path == "position/closed-pnl" and ("GET", f"/v5/{path}") not in PRIVATE:
            continue
        for recording in recordings:
            spot = "spot" in recording.get("description", "").lower() and method == "GET"
            params = ASKS[method, path](world)
            if spot:
                params = {**params, "category": "spot", "symbol": "BTCUSDT"}
            reply = world.ask(method, f"/v5/{path}", params)
            assert reply.code == 0, (name, reply)
            found = unexcused(recording["httpResponse"], reply.body(), quoted=True)
            problems += [(name, recording.get("description"), *found)] if found else []
            matched += not found
    assert problems == []
    assert matched >= RECORDINGS_MATCHED, matched


async def test_acknowledgements_have_the_captured_shape(shared):
    """Over a real socket: what the exchange answered to a subscription in 2026, and its pong."""
    capture = shared / "data/payloads/cryptofeed_slice/bybit_v5_linear_DOGEUSDT.jsonl"
    records = [json.loads(line)["data"] for line in capture.read_text().splitlines()[1:]]
    theirs = next(r for r in records if r.get("op") == "subscribe" and "success" in r)
    server = await serve("calm", port=0)
    address = f"{server.url.replace('http', 'ws')}/v5/public/linear"
    async with aiohttp.ClientSession() as session, session.ws_connect(address) as socket:
        topics = ["tickers.BTCUSDT", "insurance.USDT", "adlAlert.inverse"]
        await socket.send_json({"op": "subscribe", "args": topics})
        seen = {}
        while len(seen) < 4:
            frame = await socket.receive_json(timeout=5)
            seen.setdefault(frame.get("topic", frame.get("op")), frame)
        assert set(seen) == {"subscribe", *topics}
        assert unexcused(theirs, seen["subscribe"]) == []
        assert seen["subscribe"]["success"] is True
        await socket.send_json({"op": "ping"})
        while (frame := await socket.receive_json(timeout=5)).get("op") != "ping":
            pass
        assert (frame["success"], frame["ret_msg"]) == (True, "pong")
    await server.stop()


def test_time_passes_as_it_was_played(world):
    """The world is the one that these tests were written for: an hour after its start."""
    assert world.now_ms - T0 >= 3_600_000
    assert all(total == 0 for total in world.venue.exchange.ledger.totals().values())
