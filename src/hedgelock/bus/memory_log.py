"""What a bus in memory keeps: records, states, offsets, groups."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from hedgelock.bus.embedded_hub import Group
from hedgelock.bus.embedded_store import MAP
from hedgelock.ports import Record

_ABSENT: Final = object()


class Reader(Protocol):
    """Who waits for more of a slot."""

    def notice(self, slot: MemorySlot) -> None:
        """There is something new."""

    def withdrawn(self, slot: MemorySlot) -> None:
        """What was told and never written is gone again."""


class MemorySlot:
    """One partition of one topic and the sessions that read it."""

    __slots__ = ("partition", "readers", "records", "topic", "written")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.records: list[Record] = []
        self.written = 0
        """So many records outlive a kill; the rest was told before its transaction."""
        self.readers: dict[Reader, None] = {}


class MemoryLog:
    """What outlives a process: records, states, offsets; and who is in which group.

    `identity` names the log: the same identity gives the same log id.
    """

    def __init__(self, identity: str) -> None:
        self.log_id = hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()
        self.slots = {
            (name, partition): MemorySlot(name, partition)
            for name, topic in MAP.items() for partition in range(topic.partitions)
        }
        self.states: dict[tuple[str, int], dict[str, bytes]] = {}
        self.positions: dict[str, dict[tuple[str, int], int]] = {}
        self._told: dict[MemorySlot, None] = {}
        self._undo: list[tuple[dict[Any, Any], Any, Any]] = []
        self.groups: dict[str, Group] = {}
        self.listeners: dict[object, Callable[[], None]] = {}
        self.changed = threading.Condition(threading.RLock())
        """Held by whoever reads or writes; contracts call from many threads, simulations from one."""

    def append(self, messages: Iterable[tuple[str, int, str, bytes]], now_ms: int) -> None:
        """Append (topic, partition, key, value) and tell whoever reads; with the lock held."""
        for topic, partition, key, value in messages:
            slot = self.slots[topic, partition]
            slot.records.append(Record(topic, partition, len(slot.records), key, value, now_ms))
            self._told[slot] = None
            for reader in slot.readers:
                reader.notice(slot)
        self.changed.notify_all()
        self.tell()

    def put(self, table: dict[Any, Any], key: Any, value: Any) -> None:
        """Change a state or an offset, until `withdraw` or for good with `write`."""
        self._undo.append((table, key, table.get(key, _ABSENT)))
        table[key] = value

    def write(self) -> None:
        """The end of a transaction: everything told so far stays."""
        for slot in self._told:
            slot.written = len(slot.records)
        self._told.clear()
        self._undo.clear()

    def withdraw(self) -> None:
        """A transaction that failed, or a kill: everything not written is gone."""
        for slot in self._told:
            del slot.records[slot.written:]
            for reader in slot.readers:
                reader.withdrawn(slot)
        self._told.clear()
        for table, key, before in reversed(self._undo):
            if before is _ABSENT:
                del table[key]
            else:
                table[key] = before
        self._undo.clear()

    def tell(self) -> None:
        """Call every listener."""
        for listener in list(self.listeners.values()):
            listener()

    def digest(self) -> str:
        """Hash of every record in every topic: equal for equal runs."""
        hashed = hashlib.blake2b(digest_size=16)
        for slot in self.slots.values():
            for record in slot.records:
                hashed.update(repr(record).encode())
        return hashed.hexdigest()
