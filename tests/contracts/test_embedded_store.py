"""The file under the embedded bus by itself: what the WAL takes, and what a durable write waits for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hedgelock.bus.embedded_store import OFFSET_BITS, Store

SYNCHRONOUS = {"NORMAL": 1, "FULL": 2}
"""SQLite's numbers for it."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "log.db", bytes_max=None)
    yield made
    made.close()


def an_order(store: Store, number: int) -> None:
    """A turn as large as that of an order in a busy account."""
    journal, risk = store.slots["steps", 0].number, store.slots["risk_state", 0].number
    log = [((journal << OFFSET_BITS) + 3 * number + i, "a", b"j" * 2_400, 1) for i in range(3)]
    log += [((risk << OFFSET_BITS) + 5 * number + i, "a", b"o" * 900, 1) for i in range(5)]
    changing = b"%010d" % number  # SQLite leaves pages alone whose bytes stay the same
    states = [("risk-engine", 0, "a", changing * 220), ("hedger", 0, "a", changing * 700),
              ("trade-executor", 0, "a", changing * 1_500)]
    with store.lock:
        store.write(log, states=states, positions=[("hedger", risk, number)], durable=True)


def test_what_was_written_is_estimated_well(store: Store) -> None:
    """A checkpoint comes by this estimate: too low, and the WAL grows while orders wait for it."""
    for number in range(60):
        an_order(store, number)
    grown = store.path.with_name(store.path.name + "-wal").stat().st_size
    assert 0.7 * grown < store.pages_written * store.page_bytes < 1.5 * grown


def test_a_braced_store_needs_no_switch_for_an_order(store: Store) -> None:
    """What does not wait for the disk takes the switch upon itself, both ways."""

    def synchronous() -> int:
        return int(store.db.execute("PRAGMA synchronous").fetchone()[0])

    store.brace()
    assert (store.is_braced, synchronous()) == (True, SYNCHRONOUS["FULL"])
    with store.lock:
        store.write([], positions=[("hedger", 1, 1)])
    assert (store.is_braced, synchronous()) == (False, SYNCHRONOUS["NORMAL"])
    an_order(store, 0)
    assert (store.is_braced, synchronous()) == (True, SYNCHRONOUS["FULL"])
