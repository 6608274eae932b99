"""`domain.hysteresis` on arrays: the risk state of many accounts."""

from __future__ import annotations

import numpy as np

from hedgelock.backtest.figures import Figures, Flags
from hedgelock.history.tape import Floats, Integers

NEVER = np.int64(-1)


class Latches:
    """The level held by each account, and since when its value is below each rung's leaving line."""

    def __init__(self, count: int, f: Figures) -> None:
        self._enter, self._leave, self._dwell_ms = f.enter, f.leave, f.dwell_ms
        self.level: Integers = np.zeros(count, np.int64)
        self._below = np.full((len(f.enter), count), NEVER)

    def see(self, value: Floats, now_ms: int, seeing: Flags) -> Integers:
        """Take in the value of a moment where `seeing`; the levels after it."""
        reached = np.zeros(len(value), np.int64)
        for rung, line in enumerate(self._enter, start=1):
            reached = np.where(value >= line, rung, reached)
        level = np.maximum(self.level, reached)
        below = self._below.copy()
        for rung, line in enumerate(self._leave):
            held = rung < level
            stays = ~held | (rung < reached) | (value >= line)
            since = np.where(below[rung] == NEVER, now_ms, below[rung])
            below[rung] = np.where(stays, NEVER, since)
        for rung in range(len(self._leave) - 1, -1, -1):
            is_top = level == rung + 1
            over = is_top & (below[rung] != NEVER) & (now_ms - below[rung] >= self._dwell_ms)
            level = np.where(over, rung, level)
            below[rung] = np.where(level <= rung, NEVER, below[rung])
        self.level = np.where(seeing, level, self.level)
        self._below = np.where(seeing, below, self._below)
        return self.level
