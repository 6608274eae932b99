"""The collector alone, for as long as you say: scripts/run_collector_soak_test.sh [DURATION].

Real sockets to the simulator (calm, then whipsaw, with the exchange gone for a moment between
them) through a relay that cuts every connection now and then; an embedded log in a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest
from bench.ports import free_port

from hedgelock.bus.embedded import EmbeddedBus
from hedgelock.clock import SystemClock
from hedgelock.exchanges.bybit import CAPABILITIES, BybitExchange, simulator_addresses
from hedgelock.exchanges.ccxt_venue import Credentials
from hedgelock.ports import Outgoing, Publisher
from hedgelock.services.collector import Collector

SOAK_S = float(os.environ.get("HEDGELOCK_SOAK_S", "300"))
CUTS = max(2, min(60, int(SOAK_S // 90)))
"""Times that every connection is cut, the exchange's own restart not counted.

No oftener: a connection that lasted less than 30 s is opened again ever more slowly, as Bybit's limit
on connections asks for, and then a gap of many seconds is what the policy wants.
"""

LOOK_S = 0.1
TICK_GAP_MAX_MS = 2_000
FACT_AGE_MAX_MS = 10_000
DOWN_MAX_MS = 6_000
"""Ticks are back this long after a cut or after the exchange is back: back-off included."""

MEMORY_SLOPE_MAX = 2.0
"""MB of anonymous memory per minute over the second half; caches have filled by then."""

MEMORY_FLAT_MB = 8.0
"""A short run has no slope worth the name: growth below this is noise."""

INSTRUMENT = "linear:BTCUSDT"
FACTS = ("wallet", "positions", "fund", "loan")

pytestmark = [pytest.mark.soak, pytest.mark.timeout(SOAK_S + 90)]


class Relay:
    """A TCP relay in front of the exchange; `cut` aborts every connection through it."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self._upstream = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> int:
        """Reset all connections, as a lost route does; how many there were."""
        count = len(self._writers) // 2
        for writer in list(self._writers):
            writer.transport.abort()
        return count

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, up_writer}
        await asyncio.gather(self._pump(reader, up_writer), self._pump(up_reader, writer))
        self._writers -= {writer, up_writer}

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@contextlib.asynccontextmanager
async def simulator(scenario: str, port: int, folder: Path) -> AsyncIterator[None]:
    """The exchange in a process of its own: its memory is not the collector's."""
    with (folder / f"{scenario}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).parent / "hedgelock"), "simulate", "--scenario", scenario,
            "--port", str(port), stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            cwd=folder,
        )
    try:
        yield
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 20)


class Counted:
    """The log's publisher, counting messages per topic."""

    def __init__(self, publisher: Publisher) -> None:
        self.counts: dict[str, int] = {}
        self._publisher = publisher

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Write and count."""
        self._publisher.publish(messages)
        for message in messages:
            self.counts[message.topic] = self.counts.get(message.topic, 0) + 1

    def flush(self, timeout_s: float) -> None:
        """To the disk."""
        self._publisher.flush(timeout_s)

    def close(self) -> None:
        """Nothing more."""
        self._publisher.close()


def anonymous_mb() -> float:
    """Memory of this process that is no file's; MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("the kernel does not tell RssAnon")


@dataclass
class Watch:
    """What was seen while it ran. Times in monotonic or wall ms of one machine."""

    collector: Collector
    clock: SystemClock
    gap_max_ms: float = 0.0
    down_max_ms: float = 0.0
    age_max_ms: dict[str, int] = field(default_factory=dict)
    memory: list[tuple[float, float]] = field(default_factory=list)
    tasks: set[int] = field(default_factory=set)
    _cut_ms: float = 0.0
    """Since then a gap has a cause: a cut, or an exchange that is gone; 0 = no cause."""

    def cut(self) -> None:
        """From now on the stream is down for a reason."""
        self._cut_ms = self._cut_ms or self.clock.now_ms()

    def look(self) -> None:
        """One sample of everything; fails at once when a bound is passed."""
        now_ms = self.clock.now_ms()
        seen = self.collector.stats.prices.tick_seen_ms.get(INSTRUMENT, 0)
        if self._cut_ms and seen > self._cut_ms + TICK_GAP_MAX_MS / 20:
            self.down_max_ms = max(self.down_max_ms, seen - self._cut_ms)
            self._cut_ms = 0.0
        gap = now_ms - seen
        if self._cut_ms:
            assert gap <= DOWN_MAX_MS, f"no tick {gap} ms after the connection was cut"
        else:
            self.gap_max_ms = max(self.gap_max_ms, gap)
            assert gap <= TICK_GAP_MAX_MS, f"no tick for {gap} ms on a healthy connection"
        for name in FACTS:
            age = now_ms - self.collector.stats.read_seen_ms[name]
            self.age_max_ms[name] = max(self.age_max_ms.get(name, 0), age)
            assert age <= FACT_AGE_MAX_MS, f"{name} is {age} ms old"
        self.memory.append((self.clock.monotonic_ms() / 60_000, anonymous_mb()))

    def slope(self) -> tuple[float, float]:
        """Growth over the second half: MB per minute, and MB in all."""
        half = self.memory[len(self.memory) // 2 :]
        times, sizes = [t for t, _ in half], [mb for _, mb in half]
        return statistics.linear_regression(times, sizes).slope, max(sizes) - sizes[0]


async def until(what: str, is_so: object, timeout_s: float = 20.0) -> None:
    """Wait for it; the loop goes on meanwhile."""
    assert callable(is_so)
    tick = asyncio.Event()
    async with asyncio.timeout(timeout_s):
        while not is_so():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(tick.wait(), LOOK_S)


async def play(
    watch: Watch, running: asyncio.Task[None], relay: Relay, seconds: float, cuts: int
) -> None:
    """Look on for `seconds`, cutting every connection `cuts` times at even distances."""
    begin_ms = watch.clock.monotonic_ms()
    due = [begin_ms + (at + 1) * seconds * 1000 / (cuts + 1) for at in range(cuts)]
    while (now_ms := watch.clock.monotonic_ms()) < begin_ms + seconds * 1000:
        if due and now_ms >= due[0]:
            due.pop(0)
            assert relay.cut() >= 2, "nothing was connected"
            watch.cut()
        watch.look()
        watch.tasks.add(len(asyncio.all_tasks()))
        done, _ = await asyncio.wait({running}, timeout=LOOK_S)
        if done:
            running.result()
            raise AssertionError("the collector ended by itself")
    assert not due


async def test_the_collector_soaks(tmp_path: Path) -> None:
    """No gap in ticks, no stale fact, no leak, no lost task; cuts and an outage are survived."""
    clock, port = SystemClock(), free_port()
    bus = EmbeddedBus(tmp_path / "hedgelock.db", clock=clock)
    bus.ensure_topics(("collector",))
    publisher = Counted(bus.publisher("soak"))
    async with Relay(port) as relay:
        exchange = BybitExchange(
            "main", Credentials("hedgelock-sim", "hedgelock-sim"),
            addresses=simulator_addresses(port=relay.port), capabilities=CAPABILITIES["sim"],
            clock=clock, seed=1,
        )
        collector = Collector(
            exchange, publisher, clock, instruments=(INSTRUMENT, "spot:BTCUSDT"),
            coins=("BTC", "USDT"), ledger=exchange,
        )
        exchange.on_bad = collector.quarantine
        watch = Watch(collector, clock)
        running = asyncio.create_task(collector.run())
        try:
            async with simulator("calm", port, tmp_path):
                await until("a first tick", lambda: INSTRUMENT in collector.stats.prices.tick_seen_ms)
                await until("first facts", lambda: set(FACTS) <= set(collector.stats.read_seen_ms))
                tasks = len(asyncio.all_tasks())
                await play(watch, running, relay, SOAK_S / 2, CUTS // 2)
                watch.cut()
            async with simulator("whipsaw", port, tmp_path):
                await play(watch, running, relay, SOAK_S / 2, CUTS - CUTS // 2)
            await report(watch, collector, publisher, exchange, tasks)
        finally:
            collector.stop()
            await asyncio.wait({running}, timeout=20)
            await exchange.close()
        running.result()
    published = sum(publisher.counts.values())
    kept = sum(end for topic in publisher.counts for _, end in bus.ends(topic).values())
    bus.close()
    assert kept == published, f"{published} published, {kept} in the log"


async def report(
    watch: Watch, collector: Collector, publisher: Counted, exchange: BybitExchange, tasks: int
) -> None:
    """The figures, and what may only be judged at the end."""
    slope, growth = watch.slope()
    stats = collector.stats
    connects = [socket.stats.connects for socket in exchange.sockets]
    print(  # noqa: T201 - the figures of the run
        f"\n{SOAK_S:g} s: published {publisher.counts}, reads {stats.reads}, failures "
        f"{stats.failures}, connects {connects}, resets {stats.resets}; longest gap "
        f"{watch.gap_max_ms:.0f} ms healthy, {watch.down_max_ms:.0f} ms after a cut; oldest facts "
        f"{watch.age_max_ms} ms; memory {slope:+.2f} MB/min, {growth:.1f} MB over the second half; "
        f"tasks {min(watch.tasks)}..{max(watch.tasks)}"
    )
    assert all(count >= CUTS + 1 for count in connects), "a cut socket did not come back"
    assert stats.resets >= CUTS, "a cut of the private stream went unnoticed"
    assert stats.unreadable == {}, "the simulator sent what could not be read"
    assert slope <= MEMORY_SLOPE_MAX or growth <= MEMORY_FLAT_MB, f"memory grows {slope:.1f} MB/min"
    # Loops: account, clock, streams, reference, ledger; a read and a reconnect come and go.
    assert len(asyncio.all_tasks()) <= tasks + 8, "tasks pile up"
    assert stats.prices.tick_seen_ms.keys() >= {INSTRUMENT, "spot:BTCUSDT"}
