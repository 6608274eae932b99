"""Maintenance as the exchange announces it: since when, until when, and whether it is over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SERVICES, PRODUCTS = [1, 2, 3, 4, 5], [1, 2]
PLANNED, MAINNET = 1, 1


@dataclass(slots=True)
class Incident:
    """One maintenance; `end_ms` is expected while it lasts, 0 = unknown."""

    incident_id: str
    begin_ms: int
    end_ms: int
    over: bool = False

    def finish(self, now_ms: int) -> None:
        """It is over."""
        self.end_ms, self.over = now_ms, True

    def row(self) -> dict[str, Any]:
        """The row of /v5/system/status."""
        return {
            "id": self.incident_id, "title": "Trading and loans are closed",
            "state": "completed" if self.over else "ongoing", "begin": str(self.begin_ms),
            "end": str(self.end_ms), "href": "", "serviceTypes": SERVICES, "product": PRODUCTS,
            "uidSuffix": [], "maintainType": PLANNED, "env": MAINNET,
        }  # fmt: skip
