"""The alarm about an address that the exchange has shut out: every account behind it stands still."""

from __future__ import annotations

from typing import Final

import structlog

from hedgelock.errors import VenueBusy
from hedgelock.ports import Clock

_log = structlog.get_logger("collector")

BANNED: Final = "http-403"
"""Code of a refusal that concerns the address, not the request."""
NEW_AFTER_MS: Final = 60_000
"""A ban that was not heard of for this long is a new one."""


class BanWatch:
    """Tells once per ban."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._quiet_until_ms = 0.0

    def heard(self, account: str, error: Exception) -> None:
        """A request failed; a ban is told the first time."""
        if not isinstance(error, VenueBusy) or error.code != BANNED:
            return
        now_ms = self._clock.monotonic_ms()
        if now_ms >= self._quiet_until_ms:
            _log.error("address_banned", account=account, reason=str(error))
        self._quiet_until_ms = now_ms + NEW_AFTER_MS
