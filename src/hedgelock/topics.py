"""The whole map of the bus on one screen: who writes what, keyed how, kept how long.

A *facts* topic is consumed in order, record by record, by each consumer group. A *table* topic is
read whole by every instance, which keeps the latest message per key; the broker compacts it.
`partition_of` is the only place that maps a key to a partition.
"""

from __future__ import annotations

import enum
import zlib
from dataclasses import dataclass

PARTITIONS = 4
"""Partitions of every topic keyed by account. Fixed: changing it moves accounts between states."""

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS
AUDIT_MS = 400 * _DAY_MS
JOURNAL_MS = 14 * _DAY_MS


class Kind(enum.Enum):
    """How a topic is read."""

    FACTS = "facts"
    TABLE = "table"


@dataclass(frozen=True, slots=True)
class Topic:
    """One row of the map.

    `retention_ms` None = kept for ever (tables: the latest per key, older ones compacted).
    `age_max_ms` is how old the newest record may be before readiness suffers; None = any age.
    """

    name: str
    key: str
    kind: Kind
    partitions: int
    retention_ms: int | None
    age_max_ms: int | None
    producer: str
    consumers: tuple[str, ...]

    @property
    def is_fleeting(self) -> bool:
        """A table that nobody needs from before a crash: its rows are replaced within moments."""
        return self.kind is Kind.TABLE and self.retention_ms is not None


def _facts(name: str, producer: str, consumers: str, *, age_max_ms: int | None = None) -> Topic:
    return Topic(
        name, "account", Kind.FACTS, PARTITIONS, AUDIT_MS, age_max_ms, producer,
        tuple(consumers.split()),
    )


def _table(
    name: str, key: str, producer: str, consumers: str, *,
    retention_ms: int | None = None, age_max_ms: int | None = None,
) -> Topic:
    return Topic(
        name, key, Kind.TABLE, 1, retention_ms, age_max_ms, producer, tuple(consumers.split())
    )


TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (
        _table("market_data", "instrument", "collector", "risk-engine trade-executor forecaster",
               retention_ms=_HOUR_MS, age_max_ms=5_000),
        _table("instruments", "instrument or coin", "collector",
               "risk-engine hedger trade-executor"),
        Topic("funding_rates", "instrument", Kind.FACTS, 1, AUDIT_MS, 60_000, "collector",
              ("funding-engine", "forecaster")),
        _facts("account_raw", "collector", "risk-engine hedger safety trade-executor", age_max_ms=30_000),
        _facts("account_ledger", "collector", "safety treasury"),
        _table("funding_context", "instrument", "funding-engine",
               "risk-engine hedger trade-executor"),
        _facts("risk_state", "risk-engine", "hedger safety alerts"),
        _facts("risk_detail", "risk-engine", "alerts"),
        _facts("hedge_trades", "hedger", "trade-executor"),
        _facts("hedge_decisions", "hedger", "alerts"),
        _facts("treasury_actions", "hedger", "trade-executor"),
        _facts("trade_confirmations", "trade-executor", "hedger safety treasury collector"),
        _facts("operator_commands", "operator", "safety"),
        _table("safety_state", "account", "safety", "hedger trade-executor"),
        _table("policies", "account", "safety", "funding-engine risk-engine hedger trade-executor safety"),
        _table("accounts", "account", "app", "collector"),
        _table("symbols", "instrument", "app", "collector"),
        Topic("quarantine", "account or topic", Kind.FACTS, 1, AUDIT_MS, None, "any service",
              ("alerts",)),
    )
}

JOURNAL = Topic("steps", "service and account", Kind.FACTS, PARTITIONS, JOURNAL_MS, None,
                "every folding service", ("replay",))
JOURNAL_ROWS = Topic("step_rows", "content hash", Kind.TABLE, 1, None, None,
                     "every folding service", ("replay",))


def changelog(service: str) -> str:
    """The compacted topic that holds the state of `service`, one record per account."""
    return f"state-{service}"


def partition_of(key: str, partitions: int = PARTITIONS) -> int:
    """Partition of a key: crc32 mod n, the same on every bus and for every service."""
    return zlib.crc32(key.encode()) % partitions
