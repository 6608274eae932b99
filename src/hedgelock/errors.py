"""Every error HedgeLock raises on purpose, by who has to act.

    HedgeLockError
    ├── ConfigError          the operator: a setting is missing, wrong or unsafe
    ├── BusError             the machine: the log or the broker failed; drop memory and restore
    │   ├── Fenced           another instance owns this partition now: stop, do not retry
    │   └── StorageFull      no room: stop opening, go on protecting
    ├── BadMessage           the sender: bytes that do not decode or hold an impossible value
    │   └── SchemaTooNew     a newer HedgeLock wrote this: stop, upgrade
    └── VenueError           the exchange
        ├── VenueRefused     it said no; nothing happened
        ├── OutcomeUnknown   it may have happened: query before anything else
        ├── VenueBusy        try again after `retry_at_ms`; nothing happened
        └── VenueForbidden   key, permission or address: a person has to act

An expected refusal inside `domain/` is a value, never one of these. A bug is an assertion.
"""

from __future__ import annotations


class HedgeLockError(Exception):
    """Base of every error that HedgeLock raises on purpose."""


class ConfigError(HedgeLockError):
    """A setting is missing, wrong or unsafe; the message names it and shows a good value."""


class BusError(HedgeLockError):
    """The log failed; nothing of the step was kept. Restore and go on."""


class Fenced(BusError):
    """Another instance took over this partition; this one must stop writing."""


class StorageFull(BusError):
    """The disk is full or the log's folder cannot be written."""


class BadMessage(HedgeLockError):
    """Bytes that do not decode, or hold an impossible value; they go to quarantine."""


class SchemaTooNew(BadMessage):
    """Written by a newer HedgeLock than this one."""


class VenueError(HedgeLockError):
    """The exchange did not do what was asked.

    `code` is the venue's own (Bybit retCode or HTTP status as text), `text` its message.
    """

    def __init__(self, text: str, *, code: str = "") -> None:
        super().__init__(f"{code}: {text}" if code else text)
        self.code = code
        self.text = text


class VenueRefused(VenueError):
    """The venue refused; nothing happened there."""


class OutcomeUnknown(VenueError):
    """Timeout, lost connection or server error after sending: it may have happened."""


class VenueBusy(VenueError):
    """Rate limit or maintenance; nothing happened. `retry_at_ms` is exchange time."""

    def __init__(self, text: str, *, code: str = "", retry_at_ms: int = 0) -> None:
        super().__init__(text, code=code)
        self.retry_at_ms = retry_at_ms


class VenueForbidden(VenueError):
    """Key, permission, address binding or region: a person has to act."""
