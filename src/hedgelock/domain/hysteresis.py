"""Rungs of a ladder that are taken at once and left slowly: risk states and funding regimes.

Rung r (1, 2, ...) has a line to enter and a lower line to leave. Each rung is a latch of its own:

    value ≥ enter[r]                                     the rung is taken at once
    value < leave[r] without a break for `dwell_ms`      the rung is given up
    anything else                                        it stays as it is

The level is the highest rung held. Rungs are given up from the top, so a fall through several rungs
lands where the *slowest* of the rungs above has been quiet long enough, never on a momentary dip.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import msgspec


class Rungs(NamedTuple):
    """Where rungs 1, 2, ... are entered and left; `leave[i]` < `enter[i]`, same unit as the value."""

    enter: tuple[Decimal, ...]
    leave: tuple[Decimal, ...]

    def reached(self, value: Decimal) -> int:
        """The highest rung whose entry line `value` meets; 0 = none."""
        for rung in range(len(self.enter), 0, -1):
            if value >= self.enter[rung - 1]:
                return rung
        return 0


class Latch(msgspec.Struct, frozen=True):
    """The level held, and since when the value is below each held rung's leaving line.

    `below_ms[i]` belongs to rung i + 1; None = not below. 0 = on the ground.
    """

    level: int = 0
    below_ms: tuple[int | None, ...] = ()

    def expires_ms(self, dwell_ms: int) -> int | None:
        """When the top rung will be given up if nothing changes; None = it will not."""
        since = self.below_ms[-1] if self.below_ms else None
        return None if since is None else since + dwell_ms


def advance(
    latch: Latch, value: Decimal, *, rungs: Rungs, dwell_ms: int, now_ms: int
) -> Latch:
    """The latch after `value` was seen at `now_ms`; the same object when nothing changed."""
    reached = rungs.reached(value)
    level = max(min(latch.level, len(rungs.enter)), reached)
    below: list[int | None] = []
    for rung in range(level):
        # What is entered now is not left now, even if somebody sets the lines the wrong way round.
        if rung < reached or value >= rungs.leave[rung]:
            below.append(None)
            continue
        since = latch.below_ms[rung] if rung < len(latch.below_ms) else None
        below.append(now_ms if since is None else since)
    while below:
        since = below[-1]
        if since is None or now_ms - since < dwell_ms:
            break
        below.pop()
    after = Latch(len(below), tuple(below))
    return latch if after == latch else after


def advance_blindly(latch: Latch, value: Decimal | None, rungs: Rungs) -> Latch:
    """As `advance` on a value that cannot be trusted: it may raise the level, never lower it.

    Time below a leaving line does not count while nobody can see: every timer starts anew.
    """
    level = min(latch.level, len(rungs.enter))
    if value is not None:
        level = max(level, rungs.reached(value))
    after = Latch(level, (None,) * level)
    return latch if after == latch else after
