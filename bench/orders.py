"""1,000 orders a second over the trade socket, beside ten stream subscribers.

Simulator, order client and subscribers are three processes. Latency = order message handed to the
socket → its acknowledgement read; the simulator's own delay of 5 ms (clients register callbacks
after sending) is part of it. Every order is a market order that fills, so each brings an order, an
execution, a position and a wallet push to five private subscribers; five public ones follow book,
trades and ticker.

    python -m bench.orders serve PORT | subscribe PORT | order PORT
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import uvloop

from bench.figures import Figure, spread
from bench.processes import BenchError, Site, end, is_ok, site
from hedgelock.simulator import server

KEY = "hedgelock-sim"
RATE = 1000
SECONDS = 6.0
WARM_UP_S = 1.0
LIMITS_FACTOR = 1000
PUBLIC, PRIVATE = 5, 5
P99_MS = 20.0
FEWEST = 0.98
"""Share of the wanted rate that must have been reached, or the latency says nothing."""
READY = "every subscriber listens"
PUBLIC_TOPICS = ["orderbook.50.BTCUSDT", "publicTrade.BTCUSDT", "tickers.BTCUSDT"]
PRIVATE_TOPICS = ["order", "execution", "position", "wallet"]


def measure() -> list[Figure]:
    """Rate and latency of order entry; the p99 has a bar, and the rate, too."""
    with site() as made:
        port = made.sim_port
        children = [made.start("orders-serve", "-m", "bench.orders", "serve", str(port))]
        made.wait(lambda: is_ok(port, "/healthz"), "the simulator", children)
        listener = made.start("orders-subscribe", "-m", "bench.orders", "subscribe", str(port))
        made.wait(lambda: READY in _log(made, "orders-subscribe"), "the subscribers", [listener])
        client = made.start("orders-order", "-m", "bench.orders", "order", str(port))
        found = _result(made, client, "orders-order")
        end(listener)
        heard = _result(made, listener, "orders-subscribe")
        spent_s = _cpu_s(children[0].pid)
        end(children[0])
    reached = found["orders"] / found["seconds"]
    missing = max(0.0, FEWEST * RATE - reached)
    note = f"{found['orders']} orders, {heard['frames']} frames to {PUBLIC + PRIVATE} subscribers"
    return [
        Figure("orders_rate_missing", missing, "1/s", 0.0, note=f"{reached:.0f} of {RATE} orders/s"),
        *spread("orders", found["ms"], "ms", bars=(None, P99_MS), note=note),
        Figure("orders_cpu", spent_s / found["orders"] * 1e6, "us", note="of the simulator, an order"),
    ]


def _result(made: Site, child: subprocess.Popen[bytes], name: str) -> dict[str, Any]:
    if child.wait(60) != 0:
        raise BenchError(f"{name} failed: {_log(made, name)[-2000:]}")
    result: dict[str, Any] = json.loads(_log(made, name).splitlines()[-1])
    return result


def _log(made: Site, name: str) -> str:
    return (made.folder / f"{name}.log").read_text()


def _cpu_s(pid: int) -> float:
    """Processor time of a process so far, start-up included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _auth() -> dict[str, Any]:
    expires = time.time_ns() // 1_000_000 + 10_000
    text = f"GET/realtime{expires}"
    given = hmac.new(KEY.encode(), text.encode(), hashlib.sha256).hexdigest()
    return {"op": "auth", "args": [KEY, expires, given]}


async def subscribe(port: int) -> dict[str, Any]:
    """Ten subscribers that read and drop, until SIGTERM."""
    frames = listening = 0
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(15, stop.set)

    async def read(session: aiohttp.ClientSession, path: str, topics: list[str]) -> None:
        nonlocal frames, listening
        async with session.ws_connect(f"http://127.0.0.1:{port}{path}", max_msg_size=0) as socket:
            if path == "/v5/private":
                await socket.send_json(_auth())
            await socket.send_json({"op": "subscribe", "args": topics})
            async for message in socket:
                frames += 1
                if '"op":"subscribe"' in message.data:
                    listening += 1
                    if listening == PUBLIC + PRIVATE:
                        print(READY, flush=True)

    async with aiohttp.ClientSession() as session:
        readers = [
            asyncio.ensure_future(read(session, path, topics))
            for path, topics, count in (
                ("/v5/public/linear", PUBLIC_TOPICS, PUBLIC),
                ("/v5/private", PRIVATE_TOPICS, PRIVATE),
            )
            for _ in range(count)
        ]
        await stop.wait()
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
    return {"frames": frames}


async def order(port: int) -> dict[str, Any]:
    """Send market orders at the wanted rate; the latencies after the warm-up, in ms."""
    sent: dict[str, int] = {}
    took: list[float] = []
    refused: list[str] = []
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{port}/v5/trade", max_msg_size=0) as socket,
    ):
        await socket.send_json(_auth())
        await socket.receive()
        count = int(RATE * (SECONDS + WARM_UP_S))

        async def read() -> None:
            for _ in range(count):
                message = await socket.receive()
                now_ns = time.perf_counter_ns()
                answer = msgspec.json.decode(message.data)
                if answer["retCode"]:
                    refused.append(f"{answer['retCode']} {answer['retMsg']}")
                took.append((now_ns - sent[answer["reqId"]]) / 1e6)

        reader = asyncio.ensure_future(read())
        began = time.perf_counter()
        for number in range(count):
            ahead = began + number / RATE - time.perf_counter()
            if ahead > 0:
                await asyncio.sleep(ahead)
            body = {
                "category": "linear", "symbol": "BTCUSDT", "orderType": "Market", "qty": "0.001",
                "side": "Buy" if number % 2 else "Sell", "orderLinkId": f"bench-{number}",
            }
            header = {"X-BAPI-TIMESTAMP": str(time.time_ns() // 1_000_000)}
            message = {"reqId": str(number), "op": "order.create", "header": header, "args": [body]}
            sent[str(number)] = time.perf_counter_ns()
            await socket.send_str(msgspec.json.encode(message).decode())
        await reader
        seconds = time.perf_counter() - began
    if refused:
        raise SystemExit(f"{len(refused)} orders were refused, the first with {refused[0]}")
    return {"orders": count, "seconds": seconds, "ms": took[int(RATE * WARM_UP_S):]}


def main(argv: list[str]) -> None:
    """One of the three processes."""
    role, port = argv[0], int(argv[1])
    if role == "serve":
        server.run("calm", port=port, limits_factor=LIMITS_FACTOR)
        return
    roles: dict[str, Callable[[int], Coroutine[Any, Any, dict[str, Any]]]] = {
        "subscribe": subscribe, "order": order,
    }
    print(json.dumps(uvloop.run(roles[role](port))))


if __name__ == "__main__":
    main(sys.argv[1:])
