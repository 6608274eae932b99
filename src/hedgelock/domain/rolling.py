"""Sums over a rolling window, kept as a few buckets so that the state stays small.

A sum counts every bucket that the window touches: it is never less than the true sum of the window,
and never more than the true sum of the window and one bucket before it. Entries are booked at their
event time; one from the future counts as now (a wrong clock must not open a limit), one older than
the window counts nowhere.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final, NamedTuple

from hedgelock.domain.money import ZERO, saturate

Rolling = tuple[tuple[int, Decimal], ...]
"""(start of the bucket, sum inside it ≥ 0), oldest first; JSON-encodable as it is."""


class Span(NamedTuple):
    """A window and the buckets it is counted in, milliseconds; the window is a multiple."""

    window_ms: int
    bucket_ms: int

    @property
    def buckets_max(self) -> int:
        """Buckets that a window can touch."""
        return self.window_ms // self.bucket_ms + 1


HOUR: Final = Span(3_600_000, 300_000)
DAY: Final = Span(86_400_000, 7_200_000)


def added(entries: Rolling, amount: Decimal, *, at_ms: int, now_ms: int, span: Span) -> Rolling:
    """`entries` with `amount` (≥ 0) booked at `at_ms`, and without what the window has left.

    Where a clock ran backwards there may be more buckets than a window touches: the oldest two are
    then one, at the later time, which can only count for longer.
    """
    start = min(at_ms, now_ms)
    start -= start % span.bucket_ms
    sums = {at: held for at, held in entries if _counts(at, now_ms, span)}
    if _counts(start, now_ms, span):
        sums[start] = saturate(sums.get(start, ZERO) + amount)
    kept = sorted(sums.items())
    while len(kept) > span.buckets_max:
        (_, first), (at, second) = kept[:2]
        kept[:2] = [(at, saturate(first + second))]
    return tuple(kept)


def total(entries: Rolling, *, now_ms: int, span: Span) -> Decimal:
    """What the window that ends now holds, ≥ 0."""
    return sum((held for at, held in entries if _counts(at, now_ms, span)), ZERO)


def _counts(start_ms: int, now_ms: int, span: Span) -> bool:
    return start_ms + span.bucket_ms > now_ms - span.window_ms
