"""The decision alone, JSON to JSON, on input that produced an order in a real run.

State, tables and messages are taken from the journal of a log that a bench run wrote, so nothing is
made up: the step of the risk-engine that a tick triggered and the hedger's step that ordered upon it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from bench.processes import BenchError
from hedgelock import app
from hedgelock.bus import codec
from hedgelock.config import load
from hedgelock.domain import hedging
from hedgelock.domain.hedge_memory import HedgeMemory
from hedgelock.domain.order import PlaceOrder
from hedgelock.domain.step import Now, Step
from hedgelock.ports import Bus
from hedgelock.services import hedger, risk_engine
from hedgelock.services.journal import JournalInput, JournalStep, refolded
from hedgelock.services.service import Service
from hedgelock.services.tables import TableReader, TableRow

ROUNDS = 3_000
WARM_UP = 300

Tables = dict[str, dict[str, TableRow]]


@dataclass
class Moment:
    """One journalled step, ready to be folded again."""

    entry: JournalStep
    item: JournalInput
    state: Any
    tables: Tables
    now: Now


class Recording:
    """The steps of a log and the rows they used."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._rows = {record.key: record.value for record in bus.read("step_rows")}
        values = (record.value for record in bus.read("steps"))
        services = app.folded(load({}, env_file=None))
        self.steps = [step for step in refolded(values, self._rows, services) if step.before]

    def ordered_step(self) -> tuple[bytes, bytes, bytes]:
        """(journal entry, state, order) of the hedger's first step that ordered something."""
        for record in self._bus.read("hedge_trades"):
            decision = codec.decode(record.value).id.rpartition(".")[0]
            for entry, _, after, _ in self.steps:
                if f"{entry.service}:{entry.key}:{entry.seq}" == decision:
                    return msgspec.json.encode(entry), after, record.value
        raise BenchError("the recording holds no order")

    def moments(self, service: Service[Any], topic: str) -> list[Moment]:
        """Every step of `service` that one message of `topic` alone led to."""
        found = []
        for entry, before, _, _ in self.steps:
            if entry.service != service.name or [i.topic for i in entry.inputs] != [topic]:
                continue
            now = Now(entry.now_ms, f"{service.name}:{entry.key}:{entry.seq}", entry.log_id)
            found.append(Moment(entry, entry.inputs[0], service.decode_state(before or b""),
                                self._tables(entry), now))
        return found

    def _tables(self, entry: JournalStep) -> Tables:
        tables: Tables = {}
        for row in entry.rows:
            if not row.absent:
                value = bytes(row.value) if row.is_inline else self._rows[row.hash]
                tables.setdefault(row.topic, {})[row.key] = TableRow.of(value)
        return tables


def find(recording: Recording) -> tuple[Moment, Moment]:
    """A tick's risk step, and the hedger's step that made of it an order. BenchError if none."""
    decided = {
        moment.item.id: moment for moment in recording.moments(hedger.SERVICE, "risk_state")
    }
    for assessed in recording.moments(risk_engine.SERVICE, "market_data"):
        ordered = decided.get(f"{assessed.now.decision}.0")
        if ordered is not None and assessed.item.id and any(
            isinstance(output.message, PlaceOrder) for output in _hedge(ordered).outputs
        ):
            return assessed, ordered
    raise BenchError("the recording holds no tick that led to an order by itself")


def _hedge(moment: Moment) -> Step[HedgeMemory]:
    message = codec.decode_body(bytes(moment.item.body))
    return hedging.step(moment.state, TableReader(moment.tables), message, moment.now)


def _tick_bytes(assessed: Moment) -> bytes:
    """The tick as the collector wrote it: its row is kept whole in the journal."""
    for rows in assessed.tables["market_data"].values():
        if rows.envelope.id == assessed.item.id:
            return rows.value
    raise BenchError("the tick is not among the rows of its step")


def chain(assessed: Moment, ordered: Moment) -> Callable[[], bytes]:
    """Tick bytes → decode → risk → encode → decode → hedger → the order's bytes."""
    raw = _tick_bytes(assessed)
    key = codec.decode(raw).body.instrument
    risk_tables: Mapping[str, dict[str, TableRow]] = assessed.tables

    def run() -> bytes:
        row = TableRow.of(raw)
        risk_tables["market_data"][key] = row
        reader = TableReader(risk_tables)
        judged = risk_engine.SERVICE.step(assessed.state, reader, row.envelope.body, assessed.now)
        said = codec.encode(
            judged.outputs[0].message, id=f"{assessed.now.decision}.0",
            trace=codec.child_trace(row.envelope.trace, assessed.now.decision),
            causes=(row.envelope.id,), ts_ms=assessed.now.now_ms,
        )
        heard = codec.decode(said, "risk_state")
        decided = hedging.step(
            ordered.state, TableReader(ordered.tables), heard.body, ordered.now
        )
        value = b""
        for number, output in enumerate(decided.outputs):
            ident = f"{ordered.now.decision}.{number}"
            value = codec.encode(
                output.message, id=ident, trace=codec.child_trace(heard.trace, ident),
                causes=(heard.id,), ts_ms=ordered.now.now_ms,
            )
            if isinstance(output.message, PlaceOrder):
                return value
        raise BenchError("the chain ended without an order")

    return run


def measure(recording: Recording) -> list[float]:
    """Microseconds of each round."""
    run = chain(*find(recording))
    kind = codec.decode(run(), "hedge_trades").body
    assert isinstance(kind, PlaceOrder), "the last message of the chain is the order"
    took = []
    for _ in itertools.repeat(None, ROUNDS + WARM_UP):
        began = time.perf_counter_ns()
        run()
        took.append((time.perf_counter_ns() - began) / 1e3)
    return took[WARM_UP:]



