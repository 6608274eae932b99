"""What HedgeLock is told to look after, and what it could not read."""

from __future__ import annotations

from hedgelock.domain.message import Message


class AccountSpec(Message, frozen=True, kw_only=True):
    """An account to keep alive. Its keys stay in the configuration, never on the bus."""

    account: str
    venue: str
    version: int


class SymbolSpec(Message, frozen=True, kw_only=True):
    """An instrument to watch."""

    instrument: str
    version: int


class Quarantined(Message, frozen=True, kw_only=True):
    """A record that could not be read or folded, kept whole.

    `moves_money`: the account opens nothing until it is reconciled.
    """

    topic: str
    partition: int
    offset: int
    key: str
    service: str
    reason: str
    moves_money: bool
    value: str
    ts_seen_ms: int
