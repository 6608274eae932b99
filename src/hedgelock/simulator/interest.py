"""Open interest of the past: noted each five minutes where it has changed, made up before the start."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Callable, Mapping
from decimal import Decimal

from hedgelock.simulator.instruments import Contract

CROWD = 41  # others hold this many times the largest order, on each side
NOTED_MS = 300_000
NOTES_KEPT = 200 * 288  # two hundred days: as far back as one answer reaches
PAST_REACH = 0.03  # how far a made-up value may lie from the crowd's


class InterestNotes:
    """What the open interest of each perpetual was, both sides together."""

    def __init__(self, contracts: Mapping[str, Contract], *, seed: str, now_ms: int) -> None:
        self._seed = seed
        self._opened_ms = self._next_ms = now_ms
        self._contracts = {key: c for key, c in contracts.items() if not c.is_spot}
        self._notes: dict[str, list[tuple[int, Decimal]]] = {key: [] for key in self._contracts}

    def note(self, now_ms: int, interest: Callable[[Contract], Decimal]) -> None:
        """Note what has changed, once in five minutes."""
        if now_ms < self._next_ms:
            return
        self._next_ms = (now_ms // NOTED_MS + 1) * NOTED_MS
        for key, notes in self._notes.items():
            now = interest(self._contracts[key])
            if not notes or notes[-1][1] != now:
                notes.append((now_ms, now))
                del notes[:-NOTES_KEPT]

    def at(self, c: Contract, at_ms: int) -> Decimal:
        """Open interest at an instant that is over; before the start within `PAST_REACH`."""
        notes = self._notes[c.key]
        found = bisect_right(notes, at_ms, key=lambda note: note[0])
        if found:
            return notes[found - 1][1]
        crowd = 2 * CROWD * c.qty_max
        if at_ms >= self._opened_ms:
            return crowd
        dice = random.Random(f"{self._seed}:{c.key}:{at_ms // NOTED_MS}")
        share = Decimal(f"{1 + dice.uniform(-PAST_REACH, PAST_REACH):.6f}")
        return (crowd * share).quantize(c.lot)
