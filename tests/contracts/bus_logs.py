"""The logs under contract: one SQLite file, one topic prefix on a real broker, one in memory.

A `Log` hands out buses on the same log, so that a test can crash one and go on with another.
"""

from __future__ import annotations

import shutil
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import NoReturn, TypeVar

from confluent_kafka.admin import AdminClient

from hedgelock.bus.embedded import EmbeddedBus
from hedgelock.bus.kafka import KafkaBus
from hedgelock.bus.memory import MemoryBus, MemoryLog
from hedgelock.clock import SystemClock
from hedgelock.ports import Batch, Bus, Outgoing, Publisher, Record, Session, StepRecord
from hedgelock.topics import PARTITIONS, partition_of

PATIENCE_S = 30.0
"""How long a condition may take to come true; a healthy bus needs a hundredth of it."""

T = TypeVar("T")
_prefixes = count()
_NEVER = threading.Event()


class Log(ABC):
    """One log and every bus opened on it."""

    def __init__(self) -> None:
        self.buses: list[Bus] = []
        self._publisher: Publisher | None = None

    def bus(self) -> Bus:
        """The bus of this process; opened by the first call."""
        return self.buses[-1] if self.buses else self.start()

    def start(self) -> Bus:
        """Open another bus on the log."""
        self.buses.append(self._make())
        return self.buses[-1]

    @abstractmethod
    def _make(self) -> Bus: ...

    @abstractmethod
    def crash(self) -> None:
        """Leave the present bus as a killed process would; the next `bus()` is a new one."""

    def close(self) -> None:
        """Close every bus, zombies included."""
        if self._publisher is not None:
            self._publisher.close()
        for bus in self.buses:
            bus.close()

    def publish(self, *messages: Outgoing) -> None:
        """Append and wait until it is in the log."""
        if self._publisher is None:
            self._publisher = self.bus().publisher("test")
        self._publisher.publish(messages)
        self._publisher.flush(PATIENCE_S)


class EmbeddedLog(Log):
    """A SQLite file in the test's folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "log.db"
        self._zombies: list[Bus] = []

    def _make(self) -> Bus:
        return EmbeddedBus(self.path, clock=SystemClock())

    def crash(self) -> None:
        # What a kill leaves behind is the file and its write-ahead log as they are: a copy of
        # both, taken while the zombie lives, is the same to whoever opens it.
        copy = self.path.parent / f"after-crash-{len(self._zombies)}.db"
        for suffix in ("", "-wal"):
            if (source := Path(f"{self.path}{suffix}")).exists():
                shutil.copyfile(source, f"{copy}{suffix}")
        self.path = copy
        self._zombies += self.buses
        self.buses.clear()
        self._publisher = None

    def close(self) -> None:
        super().close()
        for bus in self._zombies:
            bus.close()


class KafkaLog(Log):
    """A topic prefix of its own on the shared broker."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__()
        self.bootstrap = bootstrap
        self.prefix = f"t{time.time_ns()}-{next(_prefixes)}-"
        self._zombies: list[Bus] = []

    def _make(self) -> Bus:
        return KafkaBus(self.bootstrap, clock=SystemClock(), prefix=self.prefix)

    def crash(self) -> None:
        self._zombies += self.buses
        self.buses.clear()
        self._publisher = None

    def close(self) -> None:
        super().close()
        for bus in self._zombies:
            bus.close()
        # A broker that keeps the topics of every test becomes a slow one.
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        mine = [t for t in admin.list_topics(timeout=15).topics if t.startswith(self.prefix)]
        for future in (admin.delete_topics(mine) if mine else {}).values():
            future.result(15)


class InMemoryLog(Log):
    """A log in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.log = MemoryLog(f"test {next(_prefixes)}")

    def _make(self) -> Bus:
        return MemoryBus(self.log, clock=SystemClock())

    def crash(self) -> None:
        for bus in self.buses:
            assert isinstance(bus, MemoryBus)
            bus.crash()
        self.buses.clear()
        self._publisher = None


def deadline() -> Iterator[None]:
    """Yields until patience runs out, then fails."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        yield
    fail()


def fail() -> NoReturn:
    """The condition did not come true."""
    raise AssertionError(f"still not so after {PATIENCE_S} s")


def until(condition: Callable[[], T | None], *pumps: Session) -> T:
    """Call until it gives something true, polling sessions meanwhile so that they live."""
    for _ in deadline():
        if found := condition():
            return found
        for session in pumps:
            session.poll(0.01)
        _NEVER.wait(0.0 if pumps else 0.005)
    fail()


def collect(session: Session, amount: int, records_max: int = 200) -> list[Record]:
    """Poll until so many facts came; more than that is a failure."""
    records: list[Record] = []
    for _ in deadline():
        records += session.poll(0.05, records_max).records
        if len(records) >= amount:
            break
    assert len(records) == amount, [(r.topic, r.offset) for r in records]
    return records


def settle(
    sessions: dict[str, Session], before: dict[str, set[int]] | None = None
) -> dict[str, set[int]]:
    """Poll all sessions until their partitions are disjoint and complete; who owns what.

    `before` is what an earlier call answered: only changes are told.
    """
    owned = {name: set((before or {}).get(name, ())) for name in sessions}
    for _ in deadline():
        for name, session in sessions.items():
            batch = session.poll(0.02)
            assert not batch.records, "settle() would lose these"
            owned[name] -= set(batch.revoked)
            owned[name] |= set(batch.assigned)
        flat = sorted(p for held in owned.values() for p in held)
        if flat == list(range(PARTITIONS)) and all(owned.values()):
            return owned
    fail()


def first_batch(session: Session) -> Batch:
    """Poll until something comes."""
    for _ in deadline():
        batch = session.poll(0.05)
        if any(batch):
            return batch
    fail()


def after(records: Iterable[Record]) -> dict[tuple[str, int], int]:
    """Offsets to commit once these records are folded."""
    offsets: dict[tuple[str, int], int] = {}
    for record in records:
        at = (record.topic, record.partition)
        offsets[at] = max(record.offset + 1, offsets.get(at, 0))
    return offsets


def fact(key: str, value: str | int, topic: str = "account_raw") -> Outgoing:
    """A message with a readable value."""
    return Outgoing(topic, key, str(value).encode())


def step(key: str, state: str | None = None, *outputs: Outgoing, journal: str | None = None,
         durable: bool = False, rows: tuple[tuple[str, bytes], ...] = ()) -> StepRecord:
    """One account's step."""
    return StepRecord(
        partition_of(key), key, None if state is None else state.encode(), outputs,
        None if journal is None else journal.encode(), rows, durable,
    )


def key_in(partition: int) -> str:
    """An account that lives in a partition."""
    return next(k for i in count() if partition_of(k := f"account-{i}") == partition)


def values(records: Iterable[Record]) -> list[str]:
    """What the messages say."""
    return [record.value.decode() for record in records]
