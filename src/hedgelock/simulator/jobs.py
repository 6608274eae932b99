"""Actions that the exchange finishes later, each at its own instant of exchange time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

Action = Callable[[], None]


@dataclass(slots=True)
class Jobs:
    """Waiting actions; those of one instant run in the order in which they were added."""

    waiting: list[tuple[int, int, Action]] = field(default_factory=list)
    _count: int = 0

    def add(self, now_ms: int, delay_ms: int, action: Action) -> None:
        """Run `action` in `delay_ms`; at once for 0."""
        if delay_ms <= 0:
            action()
            return
        self._count += 1
        heapq.heappush(self.waiting, (now_ms + delay_ms, self._count, action))

    def next_ms(self) -> int | None:
        """When the next action is due; None when nothing waits."""
        return self.waiting[0][0] if self.waiting else None

    def run(self, now_ms: int) -> None:
        """Run what is due by `now_ms`."""
        while self.waiting and self.waiting[0][0] <= now_ms:
            heapq.heappop(self.waiting)[2]()
