"""Rate limits: rolling windows per account and endpoint, and per address."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

SECOND_MS = 1000
IP_REQUESTS, IP_WINDOW_MS = 600, 5000


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` requests in any `window_ms`."""

    count: int
    window_ms: int = SECOND_MS


@dataclass(frozen=True, slots=True)
class Allowance:
    """What the three X-Bapi-Limit headers tell."""

    limit: int
    left: int
    reset_ms: int
    refused: bool = False


@dataclass(slots=True)
class Window:
    """Rolling window of request times."""

    limit: Limit
    times: deque[int] = field(default_factory=deque)

    def admit(self, now_ms: int) -> Allowance:
        """Count a request; a refused one is not counted and resets strictly in the future."""
        while self.times and self.times[0] <= now_ms - self.limit.window_ms:
            self.times.popleft()
        if len(self.times) >= self.limit.count:
            # clients sleep until this instant: keep it ahead of their clock's small offset
            reset = max(self.times[0] + self.limit.window_ms, now_ms + 50) + 1
            return Allowance(self.limit.count, 0, reset, refused=True)
        self.times.append(now_ms)
        return Allowance(self.limit.count, self.limit.count - len(self.times), now_ms)


class RateLimits:
    """Windows per (account, endpoint), created on first use; `factor` raises all limits."""

    def __init__(self, *, factor: int = 1) -> None:
        self.factor = factor
        self._windows: dict[tuple[str, str], Window] = {}

    def admit(
        self, account: str, endpoint: str, limit: Limit, now_ms: int, *, factor: int = 1
    ) -> Allowance:
        """Count a request of an account at an endpoint; `factor` raises this account's limit."""
        window = self._windows.get((account, endpoint))
        if window is None:
            raised = Limit(limit.count * self.factor * factor, limit.window_ms)
            window = self._windows[account, endpoint] = Window(raised)
        return window.admit(now_ms)
