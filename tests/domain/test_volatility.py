"""Volatility: Parkinson's variance by the bar, two means that forget, gaps, wrong prices, replay."""

from __future__ import annotations

import math
from decimal import Decimal as D

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import prices

from hedgelock.domain.volatility import (
    BAR_MS,
    PRIOR,
    SPREAD_MAX,
    Variances,
    Volatility,
    daily_sigma,
    observe,
    variances,
)

HOUR = BAR_MS


def bars(*ranges, state=None, at=0):
    """Hours with these (high, low), each price seen inside its hour."""
    for high, low in ranges:
        for minute, price in ((10, high), (20, low), (30, low)):
            state = observe(state, D(price), at + minute * 60_000)
        at += HOUR
    return state


def near(found, expected):
    """Within nine digits."""
    return float(found) == pytest.approx(expected, rel=1e-9)


def test_a_bar_by_hand():
    """61,000 to 60,000 within an hour: ln(61/60)² ÷ (4·ln 2) × 8,760, weighed 1 − 2^(−1/36)."""
    state = observe(observe(observe(None, D(60_000), 0), D(61_000), 60_000), D(60_500), HOUR)
    seen = math.log(61 / 60) ** 2 / (4 * math.log(2)) * 8_760
    assert near(state.fast, 0.64 + (1 - 2 ** (-1 / 36)) * (seen - 0.64))
    assert near(state.slow, 0.64 + (1 - 2 ** (-1 / 720)) * (seen - 0.64))
    assert (state.since_ms, state.high, state.low) == (HOUR, D(60_500), D(60_500))


def test_a_crash_counts_before_its_bar_is_over():
    """−10 % in a minute doubles the fast variance at once, and as much later in the same hour."""
    calm = bars(*[("60100", "60000")] * 24)
    start = 24 * HOUR + 600_000
    crash = observe(calm, D(54_000), start)
    at_once, later = variances(crash, start + 1), variances(crash, start + 1_000_000)
    assert at_once.fast > 2 * variances(calm, start).fast
    assert abs(later.fast - at_once.fast) < at_once.fast / 50


def test_inside_the_range_nothing_is_new():
    """A price between high and low within the bar gives the same object: nothing to write."""
    state = observe(observe(None, D(60_000), 0), D(61_000), 1)
    assert observe(state, D(60_500), 2) is state
    assert observe(state, D(61_001), 3).high == 61_001
    assert observe(state, D(59_999), 3).low == 59_999


def test_the_move_between_two_bars_is_kept():
    """The price that ends a bar belongs to it: a jump on the hour is not lost."""
    state = observe(observe(None, D(60_000), 0), D(50_000), HOUR)
    assert state.fast > PRIOR
    assert (state.high, state.low) == (D(50_000), D(50_000))


def test_calm_hours_calm_the_fast_mean_first():
    """A day of hours of .1 %: the fast mean falls towards theirs, the slow one hardly."""
    state = bars(*[("60060", "60000")] * 72)
    assert state.fast < D("0.2") < D("0.58") < state.slow < PRIOR


def test_unwatched_time_never_calms():
    """Ten days without a look count as two hours; a jump found after them counts in full."""
    storm = bars(*[("66000", "60000")] * 5)
    before = variances(storm, 4 * HOUR + 1_900_000)
    gap = observe(storm, D(60_000), 240 * HOUR)
    assert gap.fast >= before.fast * D("0.96") and gap.slow >= before.slow * D("0.99")
    jump = observe(bars(*[("60060", "60000")] * 72), D(30_000), 100 * HOUR)
    assert jump.fast > D(1)


def test_a_clock_that_goes_back_begins_anew():
    """Time before the bar's beginning: the means stay, the bar starts now."""
    state = observe(bars(("66000", "60000")), D(66_000), 5)
    back = observe(state, D(60_000), 1)
    assert (back.fast, back.slow, back.since_ms) == (state.fast, state.slow, 1)
    assert variances(state, state.since_ms - 1) == Variances(state.fast, state.slow)


def test_a_wrong_price_is_forgotten_within_days():
    """A price of 1E+30 counts as a bar of e-fold; after ten calm days the fast mean is below 1."""
    assert SPREAD_MAX == 1
    state = observe(observe(None, D(60_000), 0), D("1E+30"), 1)
    state = observe(state, D(60_000), HOUR)
    assert state.fast < 65
    for hour in range(1, 241):
        state = observe(state, D(60_000), hour * HOUR + 1_800_000)
        state = observe(state, D(60_060), hour * HOUR + HOUR)
    assert state.fast < 1


def test_the_horizon_pulls_to_the_slow_mean():
    """An hour is expected as fast as now, a year as slow; in between e^(−h/336) by hand."""
    found = Variances(D(2), D(1))
    assert near(found.over(D(24)), 1 + (1 - math.exp(-24 / 336)) / (24 / 336))
    assert found.over(D(1)) > D("1.99") and found.over(D(8_760)) < D("1.05")
    assert near(daily_sigma(D("0.64")), 0.8 / math.sqrt(365))


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 8_000_000), prices()), min_size=1, max_size=30))
def test_any_path_folds_alike_and_stays_sane(path):
    """Any times and prices: finite positive means, and the same bytes when folded from JSON."""
    state, at = None, 0
    for passed, price in path:
        at += passed
        state = observe(state, price, at)
        assert msgspec.json.decode(msgspec.json.encode(state), type=Volatility) == state
        found = variances(state, at)
        assert 0 < found.fast < 10_000 and 0 < found.slow < 10_000
