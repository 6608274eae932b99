"""exec → ready: the engine on a long log, and again after a kill -9.

The long log starts as that of a real run and is filled with copies of that run's own messages, in the
mix in which services write, through ordinary commits; every group's offsets then stand at the end, as
after an orderly stop. Prices are kept an hour, so at most an hour of them is in a log of any age.
"""

from __future__ import annotations

import itertools
import math
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench.figures import Figure
from bench.processes import BenchError, Site, end
from hedgelock import app
from hedgelock.bus.embedded import EmbeddedBus
from hedgelock.clock import SystemClock
from hedgelock.config import load
from hedgelock.ports import Outgoing, Record, StepRecord
from hedgelock.topics import JOURNAL, PARTITIONS, TOPICS, Kind, partition_of

MESSAGES = 1_000_000
PRICES_PER_HOUR = 72_000
"""Two instruments, ten ticks a second."""
RUNS = 3
STEPS = 150_000
"""About as many as retention's 1 GiB per topic keeps."""
COPIED = (
    "account_raw", "risk_state", "hedge_decisions", "hedge_trades", "trade_confirmations",
    "funding_rates", "funding_context",
)
SAMPLE = 400
"""Copied messages per topic at most, in the order of the topics."""
_COMMIT = 2_000
_CHECKPOINT_EVERY = 25


def count(path: Path) -> int:
    """Messages in a log."""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return int(db.execute("SELECT count(*) FROM log").fetchone()[0])
    finally:
        db.close()


def fill(path: Path, *, messages: int = MESSAGES) -> None:
    """Bring the log at `path` to so many messages; nobody else may have it open."""
    bus = EmbeddedBus(path, clock=SystemClock(), upkeep=False)
    try:
        services = app.folded(load({}, env_file=None)).values()
        sessions = {
            service.name: bus.open(service=service.name, instance="main", inputs=service.inputs,
                                   tables=service.tables)
            for service in services
        }
        for session in sessions.values():
            session.poll(0)
        writer = sessions["risk-engine"]
        missing = messages - count(path)
        for number, steps in enumerate(_commits(bus, missing)):
            writer.commit(steps, {})
            if number % _CHECKPOINT_EVERY == 0:
                bus.checkpoint()
        for service in services:
            sessions[service.name].commit((), {
                (topic, partition): end_at for topic in service.inputs
                for partition, (_, end_at) in bus.ends(topic).items()
                if partition in sessions[service.name].owned
            })
            sessions[service.name].close()
        bus.checkpoint()
    finally:
        bus.close()


def _commits(bus: EmbeddedBus, missing: int) -> Iterator[list[StepRecord]]:
    """Steps that hold `missing` messages: facts, the journal, at the end the last hour's prices."""
    def sample(*topics: str) -> list[Record]:
        found = [r for topic in topics for r in itertools.islice(bus.read(topic), SAMPLE)]
        if not found:
            raise BenchError(f"the recording holds nothing of {', '.join(topics)}")
        return found

    steps = min(STEPS, missing // 4)
    prices = min(PRICES_PER_HOUR, missing // 4)
    endless = itertools.chain(
        itertools.islice(itertools.cycle(sample(*COPIED)), missing - steps - prices),
        itertools.islice(itertools.cycle(sample(JOURNAL.name)), steps),
        itertools.islice(itertools.cycle(sample("market_data")), prices),
    )
    for _ in range(math.ceil(missing / _COMMIT)):
        yield [_as_step(record) for record in itertools.islice(endless, _COMMIT)]


def _as_step(record: Record) -> StepRecord:
    """A step that appends one message like `record` and changes no state."""
    if record.topic == JOURNAL.name:
        key = record.key.partition("/")[2]
        return StepRecord(partition_of(key), key, None, (), record.value)
    key = record.key if TOPICS[record.topic].key == "account" else "main"
    assert TOPICS[record.topic].kind is Kind.TABLE or TOPICS[record.topic].partitions in (1, PARTITIONS)
    return StepRecord(
        partition_of(key), key, None, (Outgoing(record.topic, record.key, record.value),), None,
    )


def million(made: Site) -> Figure:
    """The median of three orderly starts on a log of a million messages; its simulator must be up."""
    fill(made.database)
    took = []
    for _ in range(RUNS):
        began = time.perf_counter()
        engine = made.engine()
        made.wait_ready([engine])
        took.append(time.perf_counter() - began)
        end(engine)
    size_gb = made.database.stat().st_size / 1e9
    times = ", ".join(f"{x:.2f}" for x in took)
    return Figure("ready_1m_s", median(took), "s", 3.0,
                  note=f"runs {times}; {count(made.database):,} messages, {size_gb:.2f} GB")


def after_kill(made: Site) -> Figure:
    """kill -9 of a working engine, then exec → ready, on its own small log."""
    took = []
    for _ in range(RUNS):
        engine = made.engine()
        made.wait_ready([engine])
        engine.send_signal(signal.SIGKILL)
        engine.wait()
        began = time.perf_counter()
        engine = made.engine()
        made.wait_ready([engine])
        took.append(time.perf_counter() - began)
        end(engine)
    times = ", ".join(f"{x:.2f}" for x in took)
    return Figure("restart_after_kill_s", median(took), "s", note=f"runs {times}")


def copy_log(source: Path, target: Path) -> None:
    """Copy a closed log."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
