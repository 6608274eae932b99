"""The latest message per key of each table topic, and a reader that remembers what was read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from hedgelock.bus import codec
from hedgelock.domain.funding import FundingContext
from hedgelock.domain.instrument import CollateralTerms, Instrument
from hedgelock.domain.market import MarketTick
from hedgelock.domain.policy import HOUSE, Policy
from hedgelock.domain.safety import SafetyState, stricter


class TableRow(msgspec.Struct, frozen=True):
    """A row: its envelope, the bytes it came in and their hash."""

    envelope: codec.Envelope
    value: bytes
    hash: str

    @classmethod
    def of(cls, value: bytes, topic: str | None = None) -> TableRow:
        """Decode a row of `topic`; raises BadMessage, also for a kind that does not belong there.

        Services of one process get the very same bytes, one after the other: decoded once.
        """
        row = _LAST.get(topic or "")
        if row is None or row.value is not value:
            row = cls(codec.decode(value, topic), value, digest(value))
            if topic:
                _LAST[topic] = row
        return row


_LAST: dict[str, TableRow] = {}
"""The row of each topic that was decoded last."""


def digest(value: bytes) -> str:
    """Content hash, 128 bits as hex."""
    return hashlib.blake2b(value, digest_size=16).hexdigest()


class TableReader:
    """`domain.step.Tables` over plain dictionaries; `used` records each read, found or not."""

    __slots__ = ("_tables", "used")

    def __init__(self, tables: Mapping[str, Mapping[str, TableRow]]) -> None:
        self._tables = tables
        self.used: dict[tuple[str, str], TableRow | None] = {}

    def _body(self, topic: str, key: str) -> Any:
        table = self._tables.get(topic)
        row = table.get(key) if table else None
        self.used[topic, key] = row
        return None if row is None else row.envelope.body

    def market(self, instrument: str) -> MarketTick | None:
        """Latest prices of an instrument."""
        body: MarketTick | None = self._body("market_data", instrument)
        return body

    def instrument(self, instrument: str) -> Instrument | None:
        """Contract terms of an instrument."""
        body: Instrument | None = self._body("instruments", instrument)
        return body

    def terms(self, coin: str) -> CollateralTerms | None:
        """Collateral ratios of a coin."""
        body: CollateralTerms | None = self._body("instruments", f"coin:{coin}")
        return body

    def funding(self, instrument: str) -> FundingContext | None:
        """Latest funding context of an instrument."""
        body: FundingContext | None = self._body("funding_context", instrument)
        return body

    def policy(self, account: str) -> Policy | None:
        """An account's limits; `*` is the house's."""
        body: Policy | None = self._body("policies", account)
        return body

    def safety(self, account: str) -> SafetyState | None:
        """What binds an account: safety's latest word on it, or on the house."""
        own: SafetyState | None = self._body("safety_state", account)
        return stricter(own, self._body("safety_state", HOUSE))
