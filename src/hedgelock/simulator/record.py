"""What the exchange has been asked, kept for audits: bounded, newest last."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

KEPT = 50_000
SCALAR = (str, int, float, bool)
ORDER_CREATE = "/v5/order/create"


class Served(NamedTuple):
    """One request that the exchange has seen, for audits; `link` and `body` of order entries."""

    at_ms: int
    via: str
    address: str
    account: str
    method: str
    path: str
    code: int
    """retCode of the true outcome; −1 = turned away by HTTP status."""
    link: str = ""
    body: str = ""


class Record:
    """Requests served or turned away, and sockets asked for."""

    def __init__(self) -> None:
        self.served: deque[Served] = deque(maxlen=KEPT)
        self.sockets: deque[tuple[int, str]] = deque(maxlen=KEPT)
        """Instant and path."""

    def note(self, served: Served, params: Mapping[str, Any] | None = None) -> None:
        """Remember a request; of order entries also what was to be ordered."""
        if params and served.path == ORDER_CREATE:
            plain = sorted((k, v) for k, v in params.items() if isinstance(v, SCALAR))
            body = msgspec.json.encode(plain).decode()
            served = served._replace(link=str(params.get("orderLinkId", "")), body=body)
        self.served.append(served)
