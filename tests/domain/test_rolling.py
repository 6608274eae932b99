"""Rolling sums: never less than the window's true sum, at most one bucket more, always small."""

from __future__ import annotations

from decimal import Decimal

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from hedgelock.domain.rolling import DAY, HOUR, Rolling, Span, added, total

SPAN = Span(window_ms=100, bucket_ms=10)
STEPS = st.lists(st.tuples(st.integers(0, 40), st.integers(-150, 20), st.integers(0, 9)),
                 max_size=60)


def test_the_windows_are_whole_buckets() -> None:
    """A window that is no multiple of its buckets would be counted short."""
    for span in (HOUR, DAY):
        assert span.window_ms % span.bucket_ms == 0
        assert span.buckets_max == 13


@given(STEPS)
def test_a_sum_lies_between_the_window_and_one_bucket_more(
    steps: list[tuple[int, int, int]]
) -> None:
    """true(window) ≤ total ≤ true(window + bucket), late and early entries alike; few buckets."""
    now, entries, booked = 1_000, Rolling(()), []
    for wait, offset, amount in steps:
        now += wait
        at = min(now + offset, now)
        entries = added(entries, Decimal(amount), at_ms=now + offset, now_ms=now, span=SPAN)
        booked.append((at, amount))
        found = total(entries, now_ms=now, span=SPAN)
        least = sum(a for t, a in booked if t > now - SPAN.window_ms)
        most = sum(a for t, a in booked if t > now - SPAN.window_ms - SPAN.bucket_ms)
        assert least <= found <= most
        assert len(entries) <= SPAN.buckets_max
        assert list(entries) == sorted(entries)


@given(STEPS)
def test_a_sum_survives_its_encoding(steps: list[tuple[int, int, int]]) -> None:
    """What a restart reads back holds the same sums."""
    now, entries = 1_000, Rolling(())
    for wait, offset, amount in steps:
        now += wait
        entries = added(entries, Decimal(amount), at_ms=now + offset, now_ms=now, span=SPAN)
    assert msgspec.json.decode(msgspec.json.encode(entries), type=Rolling) == entries


def test_a_clock_that_runs_backwards_frees_nothing() -> None:
    """Entries of a moment that lies ahead still count, in no more buckets than before."""
    entries = Rolling(())
    for at in range(1_000, 2_100, 10):
        entries = added(entries, Decimal(1), at_ms=at, now_ms=at, span=SPAN)
    for at in range(1_000, 1_900, 10):
        entries = added(entries, Decimal(1), at_ms=at, now_ms=at, span=SPAN)
        assert len(entries) <= SPAN.buckets_max
        assert total(entries, now_ms=at, span=SPAN) >= 11


def test_what_is_over_is_forgotten() -> None:
    """An entry older than the window and its bucket counts nowhere and is not kept."""
    entries = added((), Decimal(5), at_ms=1_000, now_ms=1_000, span=SPAN)
    assert total(entries, now_ms=1_099, span=SPAN) == 5
    assert total(entries, now_ms=1_110, span=SPAN) == 0
    assert added(entries, Decimal(1), at_ms=1_000, now_ms=5_000, span=SPAN) == ()
