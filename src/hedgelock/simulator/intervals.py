"""When candles open: minutes to days on the UTC grid, weeks on Monday, months on the first."""

from __future__ import annotations

from datetime import UTC, datetime

MINUTE_MS = 60_000
DAY_MS = 1440 * MINUTE_MS
WEEK_MS = 7 * DAY_MS
MONDAY_MS = 4 * DAY_MS  # 1970-01-05, the first Monday of the epoch
INTERVALS_MS = {
    **{str(m): m * MINUTE_MS for m in (1, 3, 5, 15, 30, 60, 120, 240, 360, 720)},
    "D": DAY_MS,
    "W": WEEK_MS,
    "M": 30 * DAY_MS,
}
"""Length of each interval; of a month only about."""


def opening(interval: str, at_ms: int) -> int:
    """When the candle opens that holds `at_ms`."""
    if interval == "M":
        day = datetime.fromtimestamp(at_ms / 1000, UTC)
        return _month(day.year * 12 + day.month - 1)
    step, shift = INTERVALS_MS[interval], MONDAY_MS if interval == "W" else 0
    return (at_ms - shift) // step * step + shift


def shifted(interval: str, opening_ms: int, count: int) -> int:
    """When the candle opens that is `count` after (below zero: before) the one of `opening_ms`."""
    if interval == "M":
        day = datetime.fromtimestamp(opening_ms / 1000, UTC)
        return _month(day.year * 12 + day.month - 1 + count)
    return opening_ms + count * INTERVALS_MS[interval]


def openings(interval: str, start_ms: int, end_ms: int) -> list[int]:
    """When the candles open that open within [start_ms, end_ms], oldest first."""
    at_ms = opening(interval, start_ms)
    if at_ms < start_ms:
        at_ms = shifted(interval, at_ms, 1)
    found = []
    while at_ms <= end_ms:
        found.append(at_ms)
        at_ms = shifted(interval, at_ms, 1)
    return found


def _month(number: int) -> int:
    """The first of a month, counted from January of the year 0; none before the epoch."""
    number = max(number, 1970 * 12)
    return round(datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC).timestamp()) * 1000
