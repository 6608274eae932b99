"""What a folded service is, what it is fed, and what it shows of itself. The runner does the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from hedgelock.bus import codec
from hedgelock.domain.message import Message
from hedgelock.domain.step import Now, Step
from hedgelock.services.tables import TableReader
from hedgelock.topics import PARTITIONS, partition_of

S = TypeVar("S")
_json = msgspec.json.Encoder()


class StepFunction(Protocol[S]):
    """The pure decision that a service folds."""

    def __call__(self, state: S, tables: TableReader, message: Message, now: Now, /) -> Step[S]:
        """The next state, outputs and effects; no clock, no I/O."""


@dataclass(frozen=True)
class Service(Generic[S]):
    """What a service is: what it reads, what it folds. Everything else is the runner's.

    `per_account` False: keys are instruments, and the topic's single partition is partition 0.
    """

    name: str
    inputs: tuple[str, ...]
    tables: tuple[str, ...]
    step: StepFunction[S]
    initial: Callable[[str], S]
    state_type: type[S]
    per_account: bool = True

    def encode_state(self, state: S) -> bytes:
        """State as it stands in the changelog."""
        return _json.encode(state)

    def decode_state(self, value: bytes) -> S:
        """The inverse of `encode_state`; raises msgspec.DecodeError."""
        return msgspec.json.decode(value, type=self.state_type)

    def partition(self, key: str) -> int:
        """Which partition of the changelog holds `key`."""
        return partition_of(key, PARTITIONS) if self.per_account else 0


class Stored(msgspec.Struct, frozen=True):
    """What the changelog keeps per account: the state and the number of its last step."""

    seq: int
    state: msgspec.Raw


class Input(msgspec.Struct, frozen=True):
    """One message for one account, with where it came from."""

    body: Message
    id: str
    trace: str
    topic: str = ""
    partition: int = -1
    offset: int = -1


class Emitted(msgspec.Struct, frozen=True):
    """An effect to run, with the trace it belongs to."""

    effect: Any
    trace: str


@dataclass
class Observed:
    """What a runner did, for metrics, logs and readiness; the shell reads it, nobody decides by it."""

    commit: Callable[[str, float, int], None] = lambda _service, _ms, _steps: None
    output: Callable[[str, codec.Envelope], None] = lambda _topic, _envelope: None
    record: Callable[[str, int], None] = lambda _topic, _count: None
    quarantined: Callable[[str, str], None] = lambda _topic, _reason: None
    restored: Callable[[int, int], None] = lambda _partition, _keys: None
    frozen: Callable[[str, str], None] = lambda _key, _reason: None
    forgotten: Callable[[list[str]], None] = lambda _keys: None
    step_seconds: Callable[[float], None] = lambda _seconds: None
