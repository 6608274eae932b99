"""Single pieces of the path, without a bar: what a step costs on the log, and a frame to a struct."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

from bench.chain import Recording
from bench.figures import Figure, spread
from hedgelock.bus.embedded import EmbeddedBus
from hedgelock.clock import SystemClock
from hedgelock.exchanges.bybit_channels import MarketChannel
from hedgelock.ports import Outgoing, StepRecord
from hedgelock.topics import partition_of

ROUNDS = 400
FRAMES = 3_000
_SNAPSHOT = {
    "symbol": "BTCUSDT", "tickDirection": "PlusTick", "lastPrice": "60000.10",
    "markPrice": "60000.00", "indexPrice": "60001.12", "bid1Price": "59999.90",
    "bid1Size": "12.1", "ask1Price": "60000.10", "ask1Size": "9.3", "fundingRate": "0.0001",
    "nextFundingTime": "1760342400000", "fundingIntervalHour": "8", "fundingCap": "0.005",
}


def hops(recording: Recording, folder: Path) -> list[Figure]:
    """Commit of one real hedger step until the next session has it; plain and with an fsync."""
    journal, state, output = recording.ordered_step()
    bus = EmbeddedBus(folder / "hop.db", clock=SystemClock())
    key = "main"
    figures = []
    try:
        writer = bus.open(service="hedger", instance="w", inputs=("risk_state",), tables=())
        reader = bus.open(
            service="trade-executor", instance="r", inputs=("hedge_trades",), tables=()
        )
        writer.poll(0)
        reader.poll(0)
        for name, durable in (("hop_commit", False), ("hop_commit_fsync", True)):
            took = []
            for _ in range(ROUNDS):
                step = StepRecord(
                    partition_of(key), key, state, (Outgoing("hedge_trades", key, output),), journal,
                    (), durable,
                )
                began = time.perf_counter_ns()
                writer.commit([step], {})
                assert reader.poll(0).records, "the next session has the message at once"
                took.append((time.perf_counter_ns() - began) / 1e6)
            figures += spread(name, took, "ms", note=f"journal {len(journal):,} B")
    finally:
        bus.close()
    return figures


class _Out:
    """Takes what a channel has read."""

    def __init__(self) -> None:
        self.count = 0

    def put(self, _key: str, _value: object) -> None:
        """Count it."""
        self.count += 1


def frames() -> list[Figure]:
    """A ticker delta as the socket delivers it → MarketTick."""
    out = _Out()
    channel = MarketChannel(
        "ws://bench", ["linear:BTCUSDT"], out=out, clock=SystemClock(),  # type: ignore[arg-type]
        on_bad=_refuse, saw=lambda _topic: None,
    )
    channel.on_frame(_frame("snapshot", 0, _SNAPSHOT))
    took = []
    for number in range(1, FRAMES + 1):
        prices = {"symbol": "BTCUSDT", "markPrice": f"{60_000 + number / 10:.2f}",
                  "indexPrice": f"{60_001 + number / 10:.2f}", "bid1Price": "59999.90",
                  "bid1Size": "12.1"}
        frame = _frame("delta", number, prices)
        before, began = out.count, time.perf_counter_ns()
        channel.on_frame(frame)
        took.append((time.perf_counter_ns() - began) / 1e3)
        assert out.count > before, "every frame is news"
    return spread("frame_to_struct", took, "us")


def _frame(kind: str, number: int, data: Mapping[str, str]) -> str:
    return json.dumps({
        "topic": "tickers.BTCUSDT", "type": kind, "ts": 1_760_325_052_730 + number, "cs": number + 1,
        "data": data,
    })


def _refuse(topic: str, reason: str, _raw: bytes) -> None:
    raise AssertionError(f"{topic}: {reason}")
