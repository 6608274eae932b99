"""One runner for every folded service: read, fold, commit, then act.

The runner's only write is `Session.commit`. It is synchronous and holds no thread: `run_once` is
called by a thread (live) or by a virtual-time loop (simulations), so that one code path serves both.
Order inside one `run_once`: revocations, restores, table rows, records, venue events, ticks; per
account everything of the batch becomes one journal step. Effects are handed over only after the
commit that holds them. Any bus error: drop memory, rewind, restore.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec
import structlog

from hedgelock import __version__
from hedgelock.bus import codec
from hedgelock.domain.market import MarketTick
from hedgelock.domain.message import Message, Restored, Tick
from hedgelock.domain.registry import Quarantined
from hedgelock.domain.step import Hold, Now
from hedgelock.errors import BadMessage, BusError, Fenced, SchemaTooNew
from hedgelock.ports import Batch, Clock, Outgoing, Record, Session, StepRecord
from hedgelock.services import journal
from hedgelock.services.journal import CHECKPOINT_EVERY, JournalInput, JournalStep
from hedgelock.services.service import Emitted, Input, Observed, Service, Stored
from hedgelock.services.tables import TableReader, TableRow, digest
from hedgelock.topics import TOPICS

S = TypeVar("S")
_log = structlog.get_logger("runner")
_json = msgspec.json.Encoder()

MONEY_TOPICS = frozenset(
    {"account_raw", "hedge_trades", "treasury_actions", "trade_confirmations", "policies"}
)
"""A record lost here may be money: the account opens nothing until it is reconciled."""

RECORDS_MAX = 200


@dataclass(slots=True)
class _Kept(Generic[S]):
    state: S
    value: bytes
    seq: int
    hold: Hold
    frozen: str = ""
    hash: str = ""
    """`digest` of `value`; "" where there is none yet."""
    journaled: int = 0
    """Journal entries since the last that holds the whole state; 0 = the next one does."""


@dataclass
class _Work:
    inputs: dict[str, list[Input]] = field(default_factory=lambda: collections.defaultdict(list))
    quarantined: list[tuple[Record, str]] = field(default_factory=list)
    offsets: dict[tuple[str, int], int] = field(default_factory=dict)


class Runner(Generic[S]):
    """Folds one service over one session."""

    def __init__(
        self,
        service: Service[S],
        session: Session,
        *,
        clock: Clock,
        act: Callable[[Sequence[Emitted]], None] = lambda _effects: None,
        observed: Observed | None = None,
        tick_ms: int = 250,
    ) -> None:
        self.service = service
        self.session = session
        self.observed = observed or Observed()
        self.tables: dict[str, dict[str, TableRow]] = {name: {} for name in service.tables}
        self.is_ready = False
        self.partitions: set[int] = set()
        self.newest_ms: dict[str, int] = {}
        self._clock = clock
        self._act = act
        self._tick_ms = tick_ms
        self._ticked_ms = 0
        self._kept: dict[str, _Kept[S]] = {}
        self._inbox: collections.deque[tuple[str, Input]] = collections.deque()
        self._inbox_count = 0
        self._told: collections.deque[tuple[str, codec.Envelope]] = collections.deque()
        self._read: collections.Counter[str] = collections.Counter()
        self._rounds: collections.deque[tuple[float, float, int]] = collections.deque(maxlen=4_096)
        self.held_count = 0
        """Ticks that the accounts' hold regions spared a step."""
        self._events: list[tuple[str, Input]] = []
        self._emitted: list[Emitted] = []

    # ------------------------------------------------------------ what others may call

    def deliver(self, key: str, body: Message, *, trace: str = "") -> None:
        """Hand in a venue event or a result of an effect. Safe from any thread."""
        self._inbox_count += 1
        seen = self._clock.now_ms()
        ident = f"{self.service.name}:{key}:event:{seen}.{self._inbox_count}"
        self._inbox.append((key, Input(body, ident, trace or codec.new_trace(ident))))
        self.session.wake()

    def states(self) -> dict[str, S]:
        """State per account now. Safe from any thread."""
        return {key: kept.state for key, kept in list(self._kept.items())}

    def report(self) -> None:
        """Tell metrics and log what was said since the last report: off the path of a decision."""
        while self._told:
            self.observed.output(*self._told.popleft())
        for topic, count in self._read.items():
            self.observed.record(topic, count)
        self._read.clear()
        while self._rounds:
            fold_ms, commit_ms, steps = self._rounds.popleft()
            self.observed.step_seconds(fold_ms / 1e3)
            self.observed.commit(self.service.name, commit_ms, steps)

    def run_once(self, timeout_s: float) -> bool:
        """One round, committed and acted upon; True when there was something to do.

        Any bus error drops memory and rewinds; it is raised again unless it was a partition that
        moved. Raises Fenced when another process has our place, SchemaTooNew when a newer HedgeLock
        wrote what we must read: both are final.
        """
        busy = self.turn(timeout_s)
        self.done()
        return busy

    def turn(self, timeout_s: float) -> bool:
        """`run_once` but for its effects: they wait for `done`, which says that all is written.

        Where the commit is part of a larger transaction, `undo` says that this has failed.
        """
        try:
            batch = self.session.poll(0 if self._inbox else timeout_s, RECORDS_MAX)
            work = self._gather(batch)
            if not (work.inputs or work.offsets or work.quarantined):
                return bool(batch.assigned or batch.revoked or batch.rows)
            self._fold_and_commit(work)
        except BusError as error:
            self.undo(error)
            if not isinstance(error, Fenced):
                raise
        return True

    @property
    def has_effects(self) -> bool:
        """Effects wait for `done`."""
        return bool(self._emitted)

    def done(self) -> None:
        """What the last turn committed is in the log: act."""
        self._events.clear()
        if self._emitted:
            emitted, self._emitted = self._emitted, []
            self._act(emitted)

    def undo(self, error: BusError) -> None:
        """What the last turn committed is not in the log: forget and restore. May raise Fenced."""
        _log.warning("bus_error", service=self.service.name, error=str(error))
        self._inbox.extendleft(reversed(self._events))
        self._events.clear()
        self._emitted.clear()
        self._told.clear()
        self._drop_memory()
        self.session.rewind()  # fenced here too: another process has our place

    # ------------------------------------------------------------ gathering

    def _gather(self, batch: Batch) -> _Work:
        work = _Work()
        now_ms = self._clock.now_ms()
        for partition in batch.revoked:
            self._forget(partition)
        for partition in batch.assigned:
            self._restore(partition, work, now_ms)
        if batch.assigned or batch.revoked:
            self.is_ready = True
        self._take_rows(batch.rows, work)
        for record in batch.records:
            self._take_record(record, work)
        self._take_events(work)
        if now_ms - self._ticked_ms >= self._tick_ms:
            self._ticked_ms = now_ms
            for key, kept in self._kept.items():
                until = kept.hold.until_ms
                if until is not None and until <= now_ms and not kept.frozen:
                    work.inputs[key].append(self._made(key, Tick(now_ms=now_ms)))
        return work

    def _made(self, key: str, body: Message) -> Input:
        ident = f"{self.service.name}:{key}:made:{self._clock.now_ms()}"
        return Input(body, ident, codec.new_trace(ident))

    def _restore(self, partition: int, work: _Work, now_ms: int) -> None:
        self._forget(partition)
        self.partitions.add(partition)
        values = self.session.restore(partition)
        for key, value in values.items():
            stored = msgspec.json.decode(value, type=Stored)
            state = bytes(stored.state)
            known = self.service.decode_state(state)
            self._kept[key] = _Kept(known, state, stored.seq, Hold(), hash=digest(state))
            work.inputs[key].append(self._made(key, Restored(now_ms=now_ms)))
        self.observed.restored(partition, len(values))

    def _forget(self, partition: int) -> None:
        self.partitions.discard(partition)
        keys = [k for k in self._kept if self.service.partition(k) == partition]
        for key in keys:
            del self._kept[key]
        if keys:
            self.observed.forgotten(keys)

    def _drop_memory(self) -> None:
        self.observed.forgotten(list(self._kept))
        self._kept.clear()
        self.partitions.clear()

    def _take_rows(self, rows: Iterable[Record], work: _Work) -> None:
        changed: dict[tuple[str, str], tuple[Record, TableRow]] = {}
        for record in rows:
            try:
                row = TableRow.of(record.value, record.topic)
            except SchemaTooNew:
                raise
            except BadMessage as error:
                work.quarantined.append((record, str(error)))
                continue
            self.tables[record.topic][record.key] = row
            changed[record.topic, record.key] = (record, row)
            self.newest_ms[record.topic] = record.ts_ms
        for (topic, row_key), (record, row) in changed.items():
            self._read[topic] += 1
            for key in self._concerned(topic, row_key, row.envelope.body):
                work.inputs[key].append(
                    Input(row.envelope.body, row.envelope.id, row.envelope.trace, topic,
                          record.partition, record.offset)
                )

    def _concerned(self, topic: str, row_key: str, body: Any) -> list[str]:
        """Accounts that a changed row may concern: everybody not excused by their hold."""
        if isinstance(body, MarketTick):
            mark, index = body.mark_price, body.index_price
            awake = [key for key, kept in self._kept.items() if not kept.frozen]
            moved = [k for k in awake if not self._kept[k].hold.contains(row_key, mark, index)]
            self.held_count += len(awake) - len(moved)
            return moved
        if TOPICS[topic].key == "account" and row_key != "*":
            mine = self.service.partition(row_key) in self.partitions
            return [row_key] if mine or row_key in self._kept else []
        return [key for key, kept in self._kept.items() if not kept.frozen]

    def _take_record(self, record: Record, work: _Work) -> None:
        work.offsets[record.topic, record.partition] = record.offset + 1
        self.newest_ms[record.topic] = record.ts_ms
        self._read[record.topic] += 1
        try:
            envelope = codec.decode(record.value, record.topic)
        except SchemaTooNew:
            raise
        except BadMessage as error:
            work.quarantined.append((record, str(error)))
            return
        work.inputs[record.key].append(
            Input(envelope.body, envelope.id, envelope.trace, record.topic, record.partition,
                  record.offset)
        )

    def _take_events(self, work: _Work) -> None:
        for _ in range(min(len(self._inbox), RECORDS_MAX)):
            key, event = self._inbox.popleft()
            if self.service.partition(key) not in self.partitions:
                continue  # moved to another instance: it asks the venue itself
            self._events.append((key, event))
            work.inputs[key].append(event)

    # ------------------------------------------------------------ folding

    def _fold_and_commit(self, work: _Work) -> None:
        steps: list[StepRecord] = []
        kept: dict[str, _Kept[S]] = {}
        emitted: list[Emitted] = []
        outputs: list[tuple[str, codec.Envelope]] = []
        started = self._clock.monotonic_ms()
        for record, reason in work.quarantined:
            steps.append(self._quarantine(record, reason, work))
        for key, inputs in work.inputs.items():
            folded = self._fold(key, inputs, emitted, outputs)
            if folded is not None:
                kept[key], step = folded
                if step is not None:
                    steps.append(step)
        folded_ms = self._clock.monotonic_ms()
        if steps or work.offsets:
            self.session.commit(steps, work.offsets)
        self._kept.update(kept)
        self._emitted = emitted
        self._told += outputs
        took_ms = self._clock.monotonic_ms() - folded_ms
        self._rounds.append((folded_ms - started, took_ms, len(steps)))

    def _quarantine(self, record: Record, reason: str, work: _Work) -> StepRecord:
        moves_money = record.topic in MONEY_TOPICS
        body = Quarantined(
            topic=record.topic, partition=record.partition, offset=record.offset, key=record.key,
            service=self.service.name, reason=reason, moves_money=moves_money,
            value=record.value.decode(errors="replace"), ts_seen_ms=self._clock.now_ms(),
        )
        _log.error("quarantined", topic=record.topic, offset=record.offset, key=record.key,
                   reason=reason)
        self.observed.quarantined(record.topic, reason)
        ident = f"{self.service.name}:quarantine:{record.topic}:{record.partition}:{record.offset}"
        trace = codec.new_trace(ident)
        if moves_money and record.key != "*":
            work.inputs[record.key].append(Input(body, ident, trace))
        value = codec.encode(body, id=ident, trace=trace, causes=(), ts_ms=body.ts_seen_ms)
        return StepRecord(
            self.service.partition(record.key), record.key, None,
            (Outgoing("quarantine", record.key, value),), None,
        )

    def _fold(
        self, key: str, inputs: list[Input], emitted: list[Emitted],
        outputs: list[tuple[str, codec.Envelope]],
    ) -> tuple[_Kept[S], StepRecord | None] | None:
        before = self._kept.get(key)
        if before is None:
            before = _Kept(self.service.initial(key), b"", 0, Hold())
        if before.frozen:
            return None
        now_ms = self._clock.now_ms()
        reader = TableReader(self.tables)
        after = _Kept(before.state, before.value, before.seq, before.hold, hash=before.hash,
                      journaled=before.journaled)
        bodies: list[tuple[str, str, bytes]] = []
        out: list[Outgoing] = []
        effects: list[Emitted] = []
        folded = 0
        for item in inputs:
            decision = f"{self.service.name}:{key}:{after.seq + 1}"
            now = Now(now_ms, decision, self.session.log_id)
            try:
                step = self.service.step(after.state, reader, item.body, now)
            except Exception as error:  # noqa: BLE001 - the one place: a bug stops its account
                after.frozen = f"{type(error).__name__}: {error}"
                out.append(self._freeze(key, after.frozen, item))
                break
            folded += 1
            after.seq += 1
            after.state, after.hold = step.state, step.hold
            effects += [Emitted(effect, item.trace) for effect in step.effects]
            for number, output in enumerate(step.outputs):
                raw = _json.encode(output.message)
                bodies.append((output.topic, output.key, raw))
                envelope = self._envelope(item, f"{decision}.{number}", output.message, now_ms,
                                          reader)
                value = codec.encode_envelope(envelope, raw)
                out.append(Outgoing(output.topic, output.key, value))
                outputs.append((output.topic, envelope))
        after.value = self.service.encode_state(after.state)
        if after.value == before.value and not out and not effects:
            # Nothing changed: no record, and the sequence stays where the journal left it.
            after.seq = before.seq
            return after, None
        after.hash = digest(after.value)
        emitted += effects
        by_value, by_hash = journal.rows_used(reader)
        entry = _json.encode(JournalStep(
            service=self.service.name, key=key, seq=after.seq, now_ms=now_ms,
            log_id=self.session.log_id, before=before.hash,
            inputs=tuple(map(_journal_input, inputs[:folded])), rows=by_value,
            after=after.hash, outputs=journal.outputs_digest(bodies),
            state=msgspec.Raw(after.value if after.journaled == 0 else b"null"),
            version=__version__,
        ))
        after.journaled = (after.journaled + 1) % CHECKPOINT_EVERY
        stored = _json.encode(Stored(after.seq, msgspec.Raw(after.value)))
        return after, StepRecord(
            self.service.partition(key), key, stored, tuple(out), entry, by_hash, bool(effects)
        )

    def _envelope(
        self, item: Input, ident: str, body: Message, now_ms: int, reader: TableReader
    ) -> codec.Envelope:
        causes = [item.id]
        causes += [
            row.envelope.id for (topic, _), row in reader.used.items()
            if row is not None and topic != "instruments" and row.envelope.id != item.id
        ]
        return codec.Envelope(
            id=ident, trace=codec.child_trace(item.trace, ident), causes=tuple(causes),
            ts_ms=now_ms, v=codec.schema_of(type(body)), body=body,
        )

    def _freeze(self, key: str, reason: str, item: Input) -> Outgoing:
        """A step raised: being pure it would raise again, so the account stops at this message."""
        _log.exception("account_frozen", service=self.service.name, account=key, message_id=item.id,
                       kind=type(item.body).__name__)
        self.observed.frozen(key, reason)
        body = Quarantined(
            topic=item.topic, partition=item.partition, offset=item.offset, key=key,
            service=self.service.name, reason=reason, moves_money=True,
            value=_json.encode(item.body).decode(), ts_seen_ms=self._clock.now_ms(),
        )
        ident = f"{self.service.name}:{key}:frozen:{item.id}"
        value = codec.encode(body, id=ident, trace=item.trace, causes=(item.id,),
                             ts_ms=body.ts_seen_ms)
        return Outgoing("quarantine", key, value)


def _journal_input(item: Input) -> JournalInput:
    body = msgspec.Raw(_json.encode(item.body))
    return JournalInput(
        topic=item.topic, partition=item.partition, offset=item.offset, id=item.id, body=body
    )
