"""The seam where failures will be injected: before a request is served, and on what is pushed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from hedgelock.simulator.state import Event


class Faults(Protocol):
    """What may go wrong; an implementation raises `Refused` or changes the events."""

    def before(self, account: str, method: str, path: str, params: Mapping[str, Any]) -> None:
        """Called before a request is served."""

    def pushed(self, events: list[Event]) -> list[Event]:
        """Called with the events about to be pushed; returns those that will be."""


class NoFaults:
    """Nothing goes wrong."""

    def before(self, account: str, method: str, path: str, params: Mapping[str, Any]) -> None:
        """Let every request through."""

    def pushed(self, events: list[Event]) -> list[Event]:
        """Push everything."""
        return events
