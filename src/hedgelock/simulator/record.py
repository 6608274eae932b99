"""What the exchange has been asked, kept for audits: bounded, newest last."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

KEPT = 50_000
NOTHING: Mapping[str, Any] = MappingProxyType({})
ORDER_CREATE = "/v5/order/create"


class Served(NamedTuple):
    """One request that the exchange has seen, for audits."""

    at_ms: int
    via: str
    address: str
    account: str
    method: str
    path: str
    code: int
    """retCode of the true outcome; −1 = turned away by HTTP status."""
    params: Mapping[str, Any] = NOTHING
    """Of order entries: what was to be ordered."""

    @property
    def link(self) -> str:
        """Client order id of an order entry, "" when it had none."""
        return str(self.params.get("orderLinkId", ""))

    @property
    def body(self) -> str:
        """The order in one text, whatever the order of its fields."""
        return msgspec.json.encode(dict(sorted(self.params.items()))).decode()


class Record:
    """Requests served or turned away, and sockets asked for."""

    def __init__(self) -> None:
        self.served: deque[Served] = deque(maxlen=KEPT)
        self.sockets: deque[tuple[int, str]] = deque(maxlen=KEPT)
        """Instant and path."""

    def note(self, served: Served, params: Mapping[str, Any] | None = None) -> None:
        """Remember a request; of order entries also what was to be ordered."""
        if params and served.path == ORDER_CREATE:
            served = served._replace(params=params)
        self.served.append(served)
