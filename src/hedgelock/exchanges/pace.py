"""How fast requests may leave: rolling windows per endpoint, as Bybit counts them. Pure.

Bybit counts per account and endpoint in rolling windows, and per network address over all of them;
`address.py` keeps the latter.
"""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple


class Rate(NamedTuple):
    """So many requests in any `window_ms`."""

    requests: int
    window_ms: int = 1_000


DEFAULT: Final = Rate(50)
RATES: Final[tuple[tuple[str, str, Rate], ...]] = (
    ("GET", "crypto-loan-", Rate(5)),
    ("POST", "crypto-loan-", Rate(1)),
    ("GET", "asset/transfer/query-account-coins-balance", Rate(5)),
    ("POST", "asset/transfer/", Rate(60, 60_000)),
    ("GET", "account/transaction-log", Rate(25)),
    ("GET", "account/fee-rate", Rate(5)),
    ("POST", "account/", Rate(1)),
    ("POST", "order/", Rate(10)),
    ("POST", "position/", Rate(10)),
)
"""Bybit's defaults of VIP 0 by method and start of the path; its headers correct them per account."""


class Window:
    """At most `rate` requests in any window; the venue's headers resize and close it. Time in ms."""

    def __init__(self, rate: Rate) -> None:
        self.requests, self._window_ms = rate
        self._left_ms: deque[float] = deque()
        self._closed_until_ms = 0.0

    def take(self, now_ms: float) -> float:
        """ms to wait before the next may leave; 0 = it is counted as leaving."""
        if now_ms < self._closed_until_ms:
            return self._closed_until_ms - now_ms
        while self._left_ms and self._left_ms[0] + self._window_ms <= now_ms:
            self._left_ms.popleft()
        if len(self._left_ms) >= self.requests:
            return self._left_ms[len(self._left_ms) - self.requests] + self._window_ms - now_ms
        self._left_ms.append(now_ms)
        return 0.0

    def correct(self, limit: int, remaining: int, reset_in_ms: float, now_ms: float) -> None:
        """The venue's word: its limit, what is left of it, when it starts anew."""
        if limit > 0:
            self.requests = limit
        # Somebody else uses the same key: count their requests as ours.
        unseen = self.requests - max(remaining, 0) - len(self._left_ms)
        self._left_ms.extend([now_ms] * unseen)
        if remaining <= 0 and reset_in_ms > 0:
            self._closed_until_ms = max(self._closed_until_ms, now_ms + reset_in_ms)


class Paces:
    """The windows of one account, shared by all who use its key in this process."""

    def __init__(self) -> None:
        self._windows: dict[str, Window] = {}

    def take(self, method: str, endpoint: str, now_ms: float) -> float:
        """ms to wait before a request to `endpoint` (`order/create`); 0 = it may leave."""
        return self._window(method, endpoint).take(now_ms)

    def correct(self, endpoint: str, limits: tuple[int, int, float], now_ms: float) -> None:
        """`limits`: (limit, remaining, ms until the reset) from the headers of an answer."""
        limit, remaining, reset_in_ms = limits
        window = self._windows.get(endpoint)
        if window is not None:
            window.correct(limit, remaining, reset_in_ms, now_ms)

    def limit_of(self, method: str, endpoint: str) -> int:
        """How many requests are allowed in a window at present."""
        return self._window(method, endpoint).requests

    def _window(self, method: str, endpoint: str) -> Window:
        window = self._windows.get(endpoint)
        if window is None:
            window = self._windows[endpoint] = Window(_rate_of(method, endpoint))
        return window


def _rate_of(method: str, endpoint: str) -> Rate:
    for verb, start, rate in RATES:
        if verb == method and endpoint.startswith(start):
            return rate
    return DEFAULT
