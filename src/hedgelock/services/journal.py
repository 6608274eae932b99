"""The journal of steps: what `replay` folds again.

A journal entry holds everything a step saw: its inputs by value, the table rows it read, the moment,
the states it started from and ended in (by hash) and the hash of every output. The first entry after
a restore, and every `CHECKPOINT_EVERY`-th after it, also holds the state it ended in: where the
journal has lost its beginning, a replay starts there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from hedgelock.bus import codec
from hedgelock.domain.step import Now
from hedgelock.services.tables import TableReader, TableRow, digest

if TYPE_CHECKING:
    from hedgelock.services.service import Service

INLINE = frozenset({"market_data", "funding_context", "safety_state"})
"""Tables whose rows are small and change often: kept inside the entry, not by hash."""


CHECKPOINT_EVERY = 64
"""Steps of one account between two whole states in the journal."""


class JournalInput(msgspec.Struct, frozen=True, kw_only=True):
    """One input. `topic` "" = made by the runner or the venue: `body` is the message itself."""

    topic: str
    partition: int
    offset: int
    id: str
    body: msgspec.Raw


class JournalRow(msgspec.Struct, frozen=True, kw_only=True):
    """One table row that was read: by value (`value`) or by content hash (`hash`)."""

    topic: str
    key: str
    hash: str = ""
    value: msgspec.Raw = msgspec.Raw(b"null")
    absent: bool = False

    @property
    def is_inline(self) -> bool:
        """The row stands here by value."""
        return bytes(self.value) != b"null"


class JournalStep(msgspec.Struct, frozen=True, kw_only=True):
    """One account's inputs of one batch and what they led to."""

    service: str
    key: str
    seq: int
    now_ms: int
    log_id: str
    before: str
    after: str
    inputs: tuple[JournalInput, ...]
    rows: tuple[JournalRow, ...]
    state: msgspec.Raw = msgspec.Raw(b"null")
    """The state after the step, at checkpoints only."""
    outputs: str
    """Hash of all outputs (topic, key, body) in order."""
    version: str
    """HedgeLock's version: a replay across versions may differ on purpose."""


_decoder = msgspec.json.Decoder(JournalStep)


def outputs_digest(bodies: list[tuple[str, str, bytes]]) -> str:
    """Hash of outputs (topic, key, encoded message) in order; ids and traces derive from the rest."""
    hashed = hashlib.blake2b(digest_size=16)
    for topic, key, body in bodies:
        hashed.update(f"{topic}\x1f{key}\x1f".encode())
        hashed.update(body)
    return hashed.hexdigest()


def rows_used(
    reader: TableReader,
) -> tuple[tuple[JournalRow, ...], tuple[tuple[str, bytes], ...]]:
    """The rows that a step read, as the entry names them, and (hash, value) of those by hash."""
    rows: list[JournalRow] = []
    by_hash: list[tuple[str, bytes]] = []
    for (topic, key), row in reader.used.items():
        if row is None:
            rows.append(JournalRow(topic=topic, key=key, absent=True))
        elif topic in INLINE:
            rows.append(JournalRow(topic=topic, key=key, value=msgspec.Raw(row.value)))
        else:
            rows.append(JournalRow(topic=topic, key=key, hash=row.hash))
            by_hash.append((row.hash, row.value))
    return tuple(rows), tuple(by_hash)


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A step that came out otherwise than recorded."""

    service: str
    key: str
    seq: int
    what: str


class Replayed(msgspec.Struct, kw_only=True):
    """The outcome of a replay."""

    steps: int = 0
    skipped: int = 0
    """Steps whose starting state the journal no longer holds."""
    differences: list[Difference] = []


class Refolded(NamedTuple):
    """A journal entry, folded again. `before` None = the journal no longer holds where it began."""

    entry: JournalStep
    before: bytes | None
    after: bytes
    problem: str


def refolded(
    values: Iterator[bytes], rows: Mapping[str, bytes], services: Mapping[str, Service[Any]]
) -> Iterator[Refolded]:
    """Fold every journal entry again from its own inputs; "" = it came out as recorded."""
    states: dict[tuple[str, str], bytes] = {}
    for value in values:
        entry = _decoder.decode(value)
        at = (entry.service, entry.key)
        before = states.get(at, b"") if entry.before else b""
        is_known = not entry.before or digest(before) == entry.before
        after, problem = b"", ""
        if is_known:
            after, problem = _refold(services[entry.service], entry, before, rows)
        recorded = bytes(entry.state)
        states[at] = after if recorded == b"null" else recorded
        yield Refolded(entry, before if is_known else None, states[at], problem)


def replay(
    values: Iterator[bytes],
    rows: Mapping[str, bytes],
    services: Mapping[str, Service[Any]],
    progress: Callable[[int], None] = lambda _: None,
) -> Replayed:
    """Fold every journal entry again and compare states and outputs with what was recorded."""
    result = Replayed()
    for entry, before, _, problem in refolded(values, rows, services):
        if before is None:
            result.skipped += 1
        else:
            result.steps += 1
        if problem:
            result.differences.append(
                Difference(service=entry.service, key=entry.key, seq=entry.seq, what=problem)
            )
        progress(result.steps + result.skipped)
    return result


def _refold(
    service: Service[Any], entry: JournalStep, before: bytes, rows: Mapping[str, bytes]
) -> tuple[bytes, str]:
    state = service.decode_state(before) if before else service.initial(entry.key)
    reader = TableReader(_tables_of(entry, rows))
    bodies: list[tuple[str, str, bytes]] = []
    seq = entry.seq - len(entry.inputs)
    for item in entry.inputs:
        seq += 1
        now = Now(entry.now_ms, f"{service.name}:{entry.key}:{seq}", entry.log_id)
        step = service.step(state, reader, codec.decode_body(bytes(item.body)), now)
        state = step.state
        bodies += [(o.topic, o.key, msgspec.json.encode(o.message)) for o in step.outputs]
    after = service.encode_state(state)
    if digest(after) != entry.after:
        return after, "state differs"
    if outputs_digest(bodies) != entry.outputs:
        return after, "outputs differ"
    return after, ""


def _tables_of(
    entry: JournalStep, rows: Mapping[str, bytes]
) -> dict[str, dict[str, TableRow]]:
    tables: dict[str, dict[str, TableRow]] = {}
    for row in entry.rows:
        if row.absent:
            continue
        value = bytes(row.value) if row.is_inline else rows[row.hash]
        tables.setdefault(row.topic, {})[row.key] = TableRow.of(value)
    return tables
