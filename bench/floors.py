"""The least that any stack would need on this machine, in this run: what ratios are made of.

`python -m bench.floors socket` prints latencies of: one stream frame in, one signature, one order
POST out, nothing decided, server and client on one loop. `python -m bench.floors hop …` is one bare
exactly-once Kafka hop: consume, produce the output and a changelog record, commit both and the offset.
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
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import ClientSession, WSMsgType, web
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from bench.processes import HOST, ROOT, BenchError, end

FRAMES = 600
FRAME_EVERY_S = 0.02
HOPS = 3
MESSAGES = 300
MESSAGES_PER_S = 20.0
WARM_UP = 20
"""Messages that may meet a group still being joined; not counted."""
_PAD = b"x" * 400
_GIVE_UP_S = 60.0


def socket_ms() -> list[float]:
    """Latencies of the socket floor, measured in a fresh process."""
    done = subprocess.run(
        (sys.executable, "-m", "bench.floors", "socket"), cwd=ROOT, capture_output=True, text=True,
        timeout=120, check=True,
    )
    return [float(x) for x in json.loads(done.stdout)]


async def _socket_floor() -> list[float]:
    sent: dict[int, float] = {}
    took: list[float] = []

    async def stream(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        for i in range(FRAMES):
            sent[i] = time.perf_counter()
            frame = {"topic": "tickers.BTCUSDT", "data": {"i": i, "markPrice": "65000.1"}}
            await ws.send_str(json.dumps(frame))
            await asyncio.sleep(FRAME_EVERY_S)
        await ws.close()
        return ws

    async def order(request: web.Request) -> web.Response:
        body = await request.json()
        took.append((time.perf_counter() - sent[body["i"]]) * 1e3)
        return web.json_response({"retCode": 0})

    served = web.Application()
    served.router.add_get("/ws", stream)
    served.router.add_post("/order", order)
    runner = web.AppRunner(served)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    url = f"http://{HOST}:{runner.addresses[0][1]}"
    async with ClientSession() as session, session.ws_connect(f"{url}/ws") as ws:
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                frame = json.loads(message.data)
                hmac.new(b"k", message.data.encode(), hashlib.sha256).hexdigest()
                wanted = {"i": frame["data"]["i"]}
                async with session.post(f"{url}/order", json=wanted) as answer:
                    await answer.read()
    await runner.cleanup()
    return took[FRAMES // 10:]


# ---------------------------------------------------------------- disk

SYNCS = 200
SYNC_BYTES = 32_768
SYNC_EVERY_S = 0.01


def sync_ms(folder: Path) -> list[float]:
    """Latencies of one append and fdatasync: part of every order, which must survive power loss."""
    took = []
    handle = os.open(folder / "sync.bin", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for _ in range(SYNCS):
            time.sleep(SYNC_EVERY_S)
            began = time.perf_counter()
            os.write(handle, b"x" * SYNC_BYTES)
            os.fdatasync(handle)
            took.append((time.perf_counter() - began) * 1e3)
    finally:
        os.close(handle)
    return took


# ---------------------------------------------------------------- Kafka


def _consumer(bootstrap: str, group: str) -> Consumer:
    return Consumer({
        "bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "fetch.wait.max.ms": 50, "fetch.queue.backoff.ms": 1,
        "isolation.level": "read_committed",
    })


def _hop(bootstrap: str, number: int) -> None:
    """Serve one hop until killed."""
    consumer = _consumer(bootstrap, f"floor-{number}")
    producer = Producer({
        "bootstrap.servers": bootstrap, "linger.ms": 0, "transactional.id": f"floor-{number}",
        "retry.backoff.ms": 1,
    })
    producer.init_transactions()
    consumer.subscribe([_topic(number)])
    while True:
        first = consumer.poll(0.5)
        if first is None or first.error():
            continue
        producer.begin_transaction()
        for message in [first, *(m for m in consumer.consume(500, 0) if not m.error())]:
            producer.produce(_topic(number + 1), message.value())
        producer.produce(f"floor-state-{number}", _PAD, key=b"account")
        producer.send_offsets_to_transaction(
            consumer.position(consumer.assignment()), consumer.consumer_group_metadata()
        )
        producer.commit_transaction()


def _topic(number: int) -> str:
    return f"floor-{number}"


def kafka_ms(bootstrap: str, folder: Path) -> list[float]:
    """Latencies of `HOPS` bare exactly-once hops, each its own process."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    names = [_topic(i) for i in range(HOPS + 1)] + [f"floor-state-{i}" for i in range(HOPS)]
    for made in admin.create_topics([NewTopic(name, 1, 1) for name in names]).values():
        made.result()
    with (folder / "floor.log").open("ab") as log:
        hops = [
            subprocess.Popen(
                (sys.executable, "-m", "bench.floors", "hop", bootstrap, str(i)), cwd=ROOT,
                stdout=log, stderr=log,
            )
            for i in range(HOPS)
        ]
    sink = _consumer(bootstrap, "floor-sink")
    try:
        sink.subscribe([_topic(HOPS)])
        return _feed(bootstrap, sink)
    finally:
        sink.close()
        for hop in hops:
            hop.kill()
            end(hop)


def _feed(bootstrap: str, sink: Consumer) -> list[float]:
    """Send at a steady rate and time what arrives; the first message waits for every group."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0})
    took: list[float] = []
    sent, began = 1, time.perf_counter()
    _send(producer)
    while len(took) < MESSAGES + WARM_UP:
        if took and sent < MESSAGES + WARM_UP and (
            time.perf_counter() >= began + sent / MESSAGES_PER_S
        ):
            _send(producer)
            sent += 1
        for message in sink.consume(500, 0.002):
            if not message.error():
                took.append((time.monotonic() - float(message.value().rstrip(b"x"))) * 1e3)
                if len(took) == 1:
                    began = time.perf_counter()
        if time.perf_counter() > began + _GIVE_UP_S:
            raise BenchError(f"the bare Kafka hops stopped after {len(took)} messages")
    producer.flush(5.0)
    return took[WARM_UP:]


def _send(producer: Any) -> None:
    producer.produce(_topic(0), b"%f" % time.monotonic() + _PAD)
    producer.poll(0)


if __name__ == "__main__":
    if sys.argv[1] == "hop":
        _hop(sys.argv[2], int(sys.argv[3]))
    else:
        sys.stdout.write(json.dumps(uvloop.run(_socket_floor())))
