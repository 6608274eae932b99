"""Disconnection protection: which accounts' orders must go because their streams stayed away.

Sans-I/O: instants of connection and disconnection go in, (account, product) pairs whose window
has passed come out. A window starts when the last private connection that had subscribed to the
product's `dcp.*` topic drops, and is reset by the next that subscribes (fact sheet §5.5).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

PRODUCTS: dict[str, tuple[str, ...]] = {
    "DERIVATIVES": ("linear", "inverse"),
    "SPOT": ("spot",),
    "OPTIONS": ("option",),
}
"""Product → categories whose orders it cancels."""

TOPICS = {"dcp.future": "DERIVATIVES", "dcp.spot": "SPOT", "dcp.option": "OPTIONS"}
WINDOW_S = 10
WINDOW_MIN_S, WINDOW_MAX_S = 3, 300
APPLY_MS = 10_000  # a new window takes this long to apply
NEVER_MS = 2**62
Watched = tuple[str, str]  # account, product


@dataclass(slots=True)
class DisconnectProtection:
    """State per account and product; only accounts that are `enabled` are protected."""

    enabled: Callable[[str], bool]
    _connections: dict[Watched, int] = field(default_factory=dict)
    _deadlines: dict[Watched, int] = field(default_factory=dict)
    _windows: dict[Watched, list[tuple[int, int]]] = field(default_factory=dict)

    def configure(self, account: str, product: str, *, window_s: int, now_ms: int) -> None:
        """Set the window of a product; it applies `APPLY_MS` later."""
        self._windows.setdefault((account, product), []).append((now_ms + APPLY_MS, window_s))

    def window_s(self, account: str, product: str, now_ms: int) -> int:
        """The window in force, in seconds."""
        applied = [s for at, s in self._windows.get((account, product), ()) if at <= now_ms]
        return applied[-1] if applied else WINDOW_S

    def configured(self, account: str) -> list[str]:
        """Products for which the account has set a window, in the exchange's order."""
        return [p for p in PRODUCTS if (account, p) in self._windows]

    def connected(self, account: str, product: str, now_ms: int) -> None:
        """A private connection subscribed to the product's topic: a running window is reset."""
        watched = (account, TOPICS.get(product, product))
        self._connections[watched] = self._connections.get(watched, 0) + 1
        self._deadlines.pop(watched, None)

    def disconnected(self, account: str, product: str, now_ms: int) -> None:
        """Such a connection dropped or unsubscribed; the last one starts the window."""
        watched = (account, TOPICS.get(product, product))
        left = self._connections.get(watched, 0) - 1
        if left < 0:
            return
        self._connections[watched] = left
        if not left and self.enabled(account):
            window_ms = self.window_s(*watched, now_ms) * 1000
            self._deadlines[watched] = now_ms + window_ms

    def next_ms(self) -> int:
        """When the next window ends; far in the future when none runs."""
        return min(self._deadlines.values(), default=NEVER_MS)

    def due(self, now_ms: int) -> list[Watched]:
        """Take the windows that have ended by `now_ms`, earliest first."""
        ended = sorted((at, w) for w, at in self._deadlines.items() if at <= now_ms)
        for _, watched in ended:
            del self._deadlines[watched]
        return [watched for _, watched in ended]
