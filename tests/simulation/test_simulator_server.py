"""The carrier: raw sockets against a server on an ephemeral port, in the test's own loop."""

import asyncio
import hashlib
import hmac
import json
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import asynccontextmanager

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hedgelock.simulator.fault_kinds import Fault, Match
from hedgelock.simulator.server import is_loopback, serve

KEY = "hedgelock-sim"


def sign(text: str) -> str:
    return hmac.new(KEY.encode(), text.encode(), hashlib.sha256).hexdigest()


class Client:
    def __init__(self, server, session):
        self.server, self.session = server, session

    def headers(self, raw, *, offset_ms=0):
        stamp = str(time.time_ns() // 1_000_000 + offset_ms)
        return {
            "X-BAPI-API-KEY": KEY,
            "X-BAPI-TIMESTAMP": stamp,
            "X-BAPI-RECV-WINDOW": "5000",
            "X-BAPI-SIGN": sign(stamp + KEY + "5000" + raw),
        }

    async def get(self, path, query="", *, signed=True, offset_ms=0):
        headers = self.headers(query, offset_ms=offset_ms) if signed else {}
        url = f"{self.server.url}{path}" + (f"?{query}" if query else "")
        async with self.session.get(url, headers=headers) as reply:
            return reply.status, reply.headers, await reply.json(content_type=None)

    async def post(self, path, body):
        raw = body if isinstance(body, str) else json.dumps(body)
        async with self.session.post(
            f"{self.server.url}{path}", data=raw, headers=self.headers(raw)
        ) as reply:
            return await reply.json()

    def socket(self, path):
        return self.session.ws_connect(f"{self.server.url}{path}", max_msg_size=0)


@asynccontextmanager
async def simulator(scenario="calm", **options):
    server = await serve(scenario, port=0, **options)
    try:
        async with aiohttp.ClientSession() as session:
            yield Client(server, session)
    finally:
        await server.stop()


async def until(socket, wanted, *, deadline_s=5.0):
    """Read frames until one satisfies `wanted`; returns it and those before."""
    before = []
    async with asyncio.timeout(deadline_s):
        while True:
            frame = await socket.receive_json()
            if wanted(frame):
                return frame, before
            before.append(frame)


async def authenticate(socket):
    expires = time.time_ns() // 1_000_000 + 5000
    await socket.send_json({"op": "auth", "args": [KEY, expires, sign(f"GET/realtime{expires}")]})


ORDER = {"category": "linear", "symbol": "BTCUSDT", "side": "Sell", "orderType": "Market"}


async def test_envelope_headers_and_errors():
    async with simulator() as client:
        status, headers, body = await client.get("/v5/market/time", signed=False)
        assert status == 200
        assert set(body) == {"retCode", "retMsg", "result", "retExtInfo", "time"}
        assert abs(body["time"] - time.time_ns() // 1_000_000) < 2000
        assert {"X-Bapi-Limit", "X-Bapi-Limit-Status", "X-Bapi-Limit-Reset-Timestamp"} <= set(
            headers
        )
        assert (await client.get("/v5/nowhere"))[2]["retCode"] == 10017
        assert (await client.get("/elsewhere"))[2]["retCode"] == 10017
        assert (await client.get("/v5/account/info", signed=False))[2]["retCode"] == 10003
        assert (await client.get("/v5/account/info", offset_ms=-6000))[2]["retCode"] == 10002
        assert (await client.get("/v5/account/info", offset_ms=1500))[2]["retCode"] == 10002
        assert (await client.get("/x.com/v5/account/info"))[2]["retCode"] == 0, "a path prefix"
        for raw in ("not json", "[1]", "{"):
            assert (await client.post("/v5/order/create", raw))["retCode"] == 10001


async def test_signatures_are_checked_on_the_raw_query():
    async with simulator() as client:
        raw = "symbol=BTCUSDT&category=linear&cursor="
        assert (await client.get("/v5/position/list", raw))[2]["retCode"] == 0
        url = f"{client.server.url}/v5/position/list?category=linear&symbol=BTCUSDT"
        async with client.session.get(url, headers=client.headers(raw)) as reply:
            assert (await reply.json())["retCode"] == 10004


async def test_tickers_are_a_snapshot_and_then_deltas():
    async with simulator() as client, client.socket("/v5/public/linear") as socket:
        await socket.send_json({"req_id": "7", "op": "subscribe", "args": ["tickers.BTCUSDT"]})
        ack = await socket.receive_json()
        assert (ack["success"], ack["req_id"], ack["op"]) == (True, "7", "subscribe")
        first = await socket.receive_json()
        assert first["type"] == "snapshot"
        assert {"markPrice", "indexPrice", "fundingRate", "nextFundingTime"} <= set(first["data"])
        second = await socket.receive_json()
        assert second["type"] == "delta"
        assert len(second["data"]) < len(first["data"])
        assert second["cs"] > first["cs"]
        _, _, ticks = await client.get("/sim/ticks", signed=False)
        assert {second["cs"], second["ts"]} <= {v for t in ticks["ticks"] for v in t.values()}


async def test_orderbook_deltas_apply_cleanly():
    async with simulator("whipsaw") as client, client.socket("/v5/public/linear") as socket:
        await socket.send_json({"op": "subscribe", "args": ["orderbook.50.BTCUSDT"]})
        first, _ = await until(socket, lambda m: m.get("type") == "snapshot")
        book = {side: dict(first["data"][side]) for side in "ba"}
        for _ in range(5):
            frame, _ = await until(socket, lambda m: m.get("type") == "delta")
            for side in "ba":
                for price, size in frame["data"][side]:
                    if size == "0":
                        del book[side][price]  # raises for a level that was never sent
                    else:
                        book[side][price] = size
            assert len(book["b"]) == len(book["a"]) == 50
            assert max(map(float, book["b"])) < min(map(float, book["a"]))


async def test_other_public_topics_and_bad_ones():
    async with simulator() as client, client.socket("/v5/public/spot") as socket:
        topics = ["publicTrade.BTCUSDT", "kline.1.BTCUSDT", "orderbook.1.BTCUSDT"]
        await socket.send_json({"op": "subscribe", "args": topics})
        waiting = set(topics)
        while waiting:
            frame, _ = await until(socket, lambda m: m.get("topic") in waiting)
            waiting.discard(frame["topic"])
        for topic in ("nothing", "tickers.NOPE", "kline.7.BTCUSDT"):
            await socket.send_json({"op": "subscribe", "args": [topic]})
            ack, _ = await until(socket, lambda m: m.get("op") == "subscribe")
            assert ack["success"] is False
            assert ack["ret_msg"] == f"error:handler not found,topic:{topic}"
        await socket.send_json({"op": "subscribe", "args": topics[:1]})
        ack, _ = await until(socket, lambda m: m.get("op") == "subscribe")
        assert "already subscribed" in ack["ret_msg"]
        await socket.send_json({"op": "unsubscribe", "args": topics})
        await until(socket, lambda m: m.get("op") == "unsubscribe" and m["success"])
        await socket.send_json({"op": "ping", "req_id": "p"})
        pong, _ = await until(socket, lambda m: m.get("op") == "ping")
        assert (pong["ret_msg"], pong["req_id"]) == ("pong", "p")
        for bad in ("{", "[]", '{"op":5}'):
            await socket.send_str(bad)
            await until(socket, lambda m: m.get("success") is False)
    async with simulator() as client, client.socket("/v5/public/linear") as socket:
        await socket.close()
        assert client.server.venue.exchange.wanted == set()


async def test_an_order_is_acknowledged_and_then_pushed():
    async with simulator() as client, client.socket("/v5/private") as socket:
        await socket.send_json({"op": "subscribe", "args": ["order"]})
        assert (await socket.receive_json())["success"] is False
        await authenticate(socket)
        topics = ["order", "execution", "position", "wallet"]
        await socket.send_json({"op": "subscribe", "args": topics, "req_id": "s"})
        ack, before = await until(socket, lambda m: m.get("req_id") == "s")
        assert ack["success"] is True
        assert [(m["op"], m["success"]) for m in before] == [("auth", True)]
        while not subscribed(client.server, len(topics)):
            await socket.send_json({"op": "ping", "req_id": "wait"})
            await until(socket, lambda m: m.get("req_id") == "wait")
        sent_ns = time.perf_counter_ns()
        reply = await client.post("/v5/order/create", {**ORDER, "qty": "0.01", "orderLinkId": "a"})
        order_id = reply["result"]["orderId"]
        seen = {}
        for _ in range(4):
            frame = await asyncio.wait_for(socket.receive_json(), 5)
            seen[frame["topic"]] = frame["data"]
        assert set(seen) == set(topics)
        assert seen["order"][0]["orderId"] == seen["execution"][0]["orderId"] == order_id
        assert seen["execution"][0]["seq"] == seen["position"][0]["seq"]
        assert [c["coin"] for c in seen["wallet"][0]["coin"]] == ["USDT"]
        _, _, audit = await client.get("/sim/orders", f"account={KEY}", signed=False)
        (row,) = audit["orders"]
        assert row["orderLinkId"] == "a"
        assert sent_ns < row["received_ns"] < time.perf_counter_ns()


def subscribed(server, count):
    """Whether a private socket holds `count` subscriptions."""
    groups = server.gateway.hub._private.values()
    return any(len(s.topics) == count for group in groups for s in group)


async def test_subscriptions_by_category_and_fast_executions():
    async with simulator() as client, client.socket("/v5/private") as socket:
        await authenticate(socket)
        topics = ["order.spot", "execution.linear", "execution.fast", "dcp.future"]
        await socket.send_json({"op": "subscribe", "args": topics})
        await until(socket, lambda m: m.get("op") == "subscribe" and m["success"])
        while not subscribed(client.server, len(topics)):
            await socket.send_json({"op": "ping", "req_id": "wait"})
            await until(socket, lambda m: m.get("op") == "pong")
        await client.post("/v5/order/create", {**ORDER, "qty": "0.01", "orderLinkId": "a"})
        await client.post("/v5/order/create", {**ORDER, "qty": "0.01", "category": "spot"})
        last, before = await until(socket, lambda m: m.get("topic") == "order.spot")
        assert last["data"][0]["category"] == "spot"
        frames = {m["topic"]: m for m in reversed(before)}
        assert frames["execution.linear"]["data"][0]["orderLinkId"] == "a"
        fast = frames["execution.fast"]
        assert "id" not in fast
        assert "execFee" not in fast["data"][0]
        assert fast["data"][0]["orderLinkId"] == "a"
        assert "order.linear" not in frames


async def test_private_sockets_refuse_strangers_and_nonsense():
    async with simulator() as client, client.socket("/v5/private") as socket:
        soon = time.time_ns() // 1_000_000 + 5000
        for args in (
            [KEY, soon, "0" * 64],
            [KEY, 1, sign("GET/realtime1")],
            ["nobody", soon, "x"],
            [KEY],
            "x",
        ):
            await socket.send_json({"op": "auth", "args": args})
            assert (await socket.receive_json())["success"] is False
        await authenticate(socket)
        assert (await socket.receive_json())["success"] is True
        await socket.send_json({"op": "subscribe", "args": ["secrets"]})
        assert (await socket.receive_json())["ret_msg"] == "Invalid topic: secrets"
        await socket.send_json({"op": "subscribe", "args": "order"})
        assert (await socket.receive_json())["ret_msg"] == "error:args invalid"
        await socket.send_json({"op": "dance"})
        assert (await socket.receive_json())["success"] is False
        await socket.send_json({"op": "ping", "req_id": "p"})
        pong = await socket.receive_json()
        assert (pong["op"], pong["req_id"]) == ("pong", "p")


async def test_order_entry_over_the_trade_socket():
    async with simulator() as client, client.socket("/v5/trade") as socket:
        header = {"X-BAPI-TIMESTAMP": str(time.time_ns() // 1_000_000)}
        message = {"reqId": "1", "op": "order.create", "header": header}
        message["args"] = [{**ORDER, "qty": "0.01", "orderLinkId": "w"}]
        await socket.send_json(message)
        assert (await socket.receive_json())["retCode"] == 10003
        await authenticate(socket)
        assert (await socket.receive_json())["retCode"] == 0
        await authenticate(socket)
        assert (await socket.receive_json())["retCode"] == 20001
        await socket.send_json({**message, "reqId": "2"})
        ack = await socket.receive_json()
        assert (ack["reqId"], ack["retCode"], ack["op"]) == ("2", 0, "order.create")
        assert ack["data"]["orderLinkId"] == "w"
        assert ack["header"]["X-Bapi-Limit"] == "10"
        for changes, code in (
            ({"reqId": "2"}, 20006),
            ({"reqId": "3"}, 110072),
            ({"reqId": "4", "op": "order.fly"}, 10404),
            ({"reqId": "5", "header": {"X-BAPI-TIMESTAMP": "1"}}, 10002),
            ({"reqId": "6", "args": []}, 10001),
        ):
            await socket.send_json({**message, **changes})
            ack = await socket.receive_json()
            assert ack["retCode"] == code, changes
        await socket.send_json({"op": "ping"})
        assert (await socket.receive_json())["op"] == "pong"


async def test_the_control_api():
    async with simulator("demo", wait=True) as client:
        _, _, before = await client.get("/sim/state", signed=False)
        assert (before["waiting"], before["script_s"], before["finished"]) == (True, 0, False)
        async with client.session.post(f"{client.server.url}/sim/start") as reply:
            assert (await reply.json())["waiting"] is False
        mine = before["accounts"][KEY]
        assert mine["collateral"] == {"BTC": "1"}
        assert mine["unified"] == {"BTC": "0.1", "USDT": "6000"}
        assert abs(float(mine["equity_usd"]) - 35400) < 100
        assert (mine["liquidated"], mine["orders"], mine["fees_usd"]) == (False, 0, "0")
        assert (await client.get("/healthz", signed=False))[2]["status"] == "ok"
        assert (await client.get("/sim/nothing", signed=False))[0] == 404
        assert (await client.get("/sim/orders", "account=no", signed=False))[0] == 404


async def test_faults_on_real_sockets():
    """Cut, lost and slow answers, an abrupt end without a close frame, refused and silent sockets."""
    async with simulator() as client:
        faults = client.server.gateway.faults
        match = Match(path="/v5/order/create")
        for kind, links in (("cut", []), ("answer_lost", ["answer_lost"])):
            number = faults.add(Fault(kind, match))
            with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
                await client.post(
                    "/v5/order/create", {**ORDER, "qty": "0.01", "orderLinkId": kind}
                )
            faults.remove(number)
            orders = client.server.venue.exchange.accounts[KEY].orders
            assert [order.link for order in orders] == links
        number = faults.add(Fault("slow_answer", match, ms=80))
        before = time.perf_counter()
        body = {**ORDER, "qty": "0.01", "orderLinkId": "slow"}
        assert (await client.post("/v5/order/create", body))["retCode"] == 0
        assert time.perf_counter() - before >= 0.08
        faults.add(Fault("slow_request", match, ms=80))
        faults.remove(number)
        assert (await client.post("/v5/order/create", body))["retCode"] == 110072
        faults.clear()
        async with client.socket("/v5/private") as socket:
            await authenticate(socket)
            await socket.receive_json()
            faults.add(Fault("socket_dies", from_s=0, times=1))
            message = await asyncio.wait_for(socket.receive(), 5)
            assert message.type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}
            assert socket.close_code == 1006, "no close frame came"
        faults.clear()
        faults.add(Fault("socket_refused"))
        with pytest.raises(aiohttp.WSServerHandshakeError, match="503"):
            await client.socket("/v5/private")
        faults.clear()
        faults.add(Fault("socket_silent"))
        async with client.socket("/v5/private") as socket:
            await socket.send_json({"op": "ping"})
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(socket.receive(), 0.1)


async def test_a_scenario_file_is_served_with_its_faults(tmp_path):
    """Its market, its account and its faults are what a client meets."""
    path = tmp_path / "small.toml"
    path.write_text(
        'summary = "x"\n[market]\nprices.BTC = [[0, 50000], [9, 50000]]\nnoise_bps = 0\n'
        f'[[account]]\nkey = "{KEY}"\nunified = {{ USDT = "7" }}\n'
        '[[fault]]\nkind = "refuse"\ncode = 10016\nmatch = { path = "/v5/account/info" }\n'
    )
    async with simulator(str(path)) as client:
        assert (await client.get("/v5/account/info"))[2]["retCode"] == 10016
        _, _, state = await client.get("/sim/state", signed=False)
        assert state["index"]["BTC"] == "50000"
        assert state["accounts"][KEY]["unified"] == {"USDT": "7"}


async def test_metrics_can_be_scraped():
    async with (
        simulator("demo") as client,
        client.session.get(f"{client.server.url}/metrics") as reply,
    ):
        assert reply.content_type == "text/plain"
        families = {f.name: f for f in text_string_to_metric_families(await reply.text())}
    assert families["hedgelock_simulator_ltv"].samples[0].labels == {"account": KEY}
    assert abs(families["hedgelock_simulator_equity_usd"].samples[1].value - 35400) < 100
    assert families["hedgelock_simulator_index_price"].samples[0].labels == {"coin": "BTC"}
    assert families["hedgelock_simulator_fills"].type == "counter"


async def test_an_address_has_a_limit():
    async with simulator() as client:
        statuses = []
        for _ in range(601):
            async with client.session.get(f"{client.server.url}/v5/market/time") as reply:
                statuses.append((reply.status, await reply.text()))
        assert statuses[-1] == (403, "access too frequent")
        assert statuses[598][0] == 200


async def test_a_busy_port_and_a_foreign_address_are_refused():
    async with simulator() as client:
        with pytest.raises(OSError, match="in use"):
            await serve("calm", port=client.server.port)
    with pytest.raises(ValueError, match="loopback"):
        await serve("calm", port=0, host="0.0.0.0")
    with pytest.raises(ValueError, match="choose one of calm, crash, demo, mania, whipsaw"):
        await serve("no such script", port=0)
    assert is_loopback("localhost")
    assert not is_loopback("example.org")


@pytest.mark.no_cover
@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_the_process_ends_when_asked(name, unused_tcp_port):
    code = f"from hedgelock.simulator.server import run; run('calm', port={unused_tcp_port})"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) as process:
        try:
            deadline, pause = time.monotonic() + 15, threading.Event()
            while True:
                try:
                    url = f"http://127.0.0.1:{unused_tcp_port}/healthz"
                    with urllib.request.urlopen(url, timeout=1) as reply:
                        assert reply.status == 200
                    break
                except OSError:
                    assert time.monotonic() < deadline
                    pause.wait(0.05)
            process.send_signal(name)
            assert process.wait(10) == 0
        finally:
            process.kill()
