"""The alarm about a clock that is too far from the exchange's.

Requests are stamped with the corrected time, so nothing fails at first; but ages, deadlines and the
report's days are measured by our clock, and Bybit refuses what is stamped 1 s ahead of its own.
"""

from __future__ import annotations

from typing import Final

import structlog

_log = structlog.get_logger("clock")

OFFSET_MAX_MS: Final = 500
ALARM_EVERY_MS: Final = 60_000
"""A clock that is off is measured again this soon."""


def is_off(offset_ms: int) -> bool:
    """Whether exchange minus ours, in ms, is beyond the bound."""
    return abs(offset_ms) > OFFSET_MAX_MS


def next_ms(offset_ms: int, usual_ms: int) -> int:
    """When to measure again; a clock that is off is told of each time, with what to do."""
    if not is_off(offset_ms):
        return usual_ms
    _log.critical(
        "clock_offset", offset_ms=offset_ms, offset_max_ms=OFFSET_MAX_MS,
        todo="set this machine's clock: timedatectl set-ntp true",
    )
    return min(usual_ms, ALARM_EVERY_MS)
