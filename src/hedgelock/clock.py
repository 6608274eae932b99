"""The system clock. Nothing else in HedgeLock asks the operating system for the time."""

from __future__ import annotations

import time


class SystemClock:
    """UTC wall clock in milliseconds and a monotonic one for durations."""

    def now_ms(self) -> int:
        """UTC epoch in milliseconds."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> float:
        """Milliseconds since an arbitrary start, never backwards."""
        return time.monotonic_ns() / 1e6
