"""Killed before or after any port call, a service ends as if nothing had happened.

Its state, outputs and journal equal those of a run without crashes: nothing lost, nothing twice,
on every bus.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bus_fold import ACCOUNTS, feed, live, outcome
from bus_logs import EmbeddedLog, InMemoryLog, KafkaLog, Log

INPUTS = 4
CALLS = {"open", "poll", "restore", "commit", "rewind", "close"}


def expected() -> dict[str, tuple[list[str], list[str], bytes]]:
    """What the fold must come to, computed without any bus."""
    found = {}
    for i, account in enumerate(ACCOUNTS):
        total, outputs, journal = 0, [], []
        for n in range(INPUTS):
            number = 7 * n + i
            total = total * 31 % 1_000_003 + number
            outputs.append(f"{n + 1} {total}")
            journal.append(f"{number} -> {n + 1} {total}")
        found[account] = (outputs, journal, outputs[-1].encode())
    return found


def crash_everywhere(make_log, boundaries, at_once=1) -> set[str]:  # type: ignore[no-untyped-def]
    """One run per boundary, each on a log of its own; which calls were died at."""
    log: Log = make_log()
    feed(log, INPUTS)
    calls = live(log, INPUTS, None)
    assert outcome(log) == expected()
    log.close()
    assert set(calls) == CALLS

    def crash_at(boundary: int) -> str:
        log = make_log()
        feed(log, INPUTS)
        survived = live(log, INPUTS, boundary)
        assert len(survived) <= len(calls), "the crash did not happen"
        assert outcome(log) == expected(), (boundary, calls[boundary // 2])
        log.close()
        return calls[boundary // 2]

    # Each run mostly waits for its broker, and none knows of another.
    with ThreadPoolExecutor(at_once) as pool:
        return set(pool.map(crash_at, boundaries(calls)))


def test_embedded_survives_a_crash_at_every_call(tmp_path: Path) -> None:
    folders = iter(range(1_000))

    def make_log() -> Log:
        folder = tmp_path / str(next(folders))
        folder.mkdir()
        return EmbeddedLog(folder)

    died_at = crash_everywhere(make_log, lambda calls: range(2 * len(calls)))
    assert died_at == CALLS


def test_memory_survives_a_crash_at_every_call() -> None:
    died_at = crash_everywhere(InMemoryLog, lambda calls: range(2 * len(calls)))
    assert died_at == CALLS


@pytest.mark.no_cover
@pytest.mark.kafka
@pytest.mark.slow
def test_kafka_survives_a_crash_at_every_kind_of_call(kafka_bootstrap: str) -> None:
    def boundaries(calls: list[str]) -> list[int]:
        """Before and after the first and the last call of each kind."""
        ends = {name: (calls.index(name), len(calls) - 1 - calls[::-1].index(name))
                for name in CALLS}
        return sorted({2 * n + side for pair in ends.values() for n in pair for side in (0, 1)})

    assert crash_everywhere(lambda: KafkaLog(kafka_bootstrap), boundaries, at_once=6) == CALLS
