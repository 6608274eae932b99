"""First passage: the closed form against Monte Carlo with the discrete shift, and its edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hedgelock.forecast.barrier import (
    HOURS_PER_YEAR,
    SPREAD,
    SPREAD_FADES,
    WATCHED,
    Walk,
    first_passage,
    touches,
    watched_factor,
)

PATHS, STEPS = 40_000, 48


def simulated(factor, variance, hours, growth, *, spread=0.0, seed=7):
    """Share of paths seen beyond the shifted line at one of STEPS looks."""
    draw = np.random.default_rng(seed)
    years = hours / HOURS_PER_YEAR
    scale = np.exp(spread * draw.standard_normal(PATHS) - spread**2 / 2)
    each = (variance * scale)[:, None] * years / STEPS
    steps = draw.standard_normal((PATHS, STEPS)) * np.sqrt(each)
    path = np.cumsum(steps - each / 2 - growth * years / STEPS, axis=1)
    shift = WATCHED * np.sqrt(each[:, 0])
    if factor < 1:
        return float((path.min(axis=1) <= math.log(factor) + shift).mean())
    return float((path.max(axis=1) >= math.log(factor) - shift).mean())


@pytest.mark.parametrize("factor", [0.97, 0.9, 1.03, 1.1])
@pytest.mark.parametrize("growth", [0.0, 3.0])
def test_the_closed_form_is_what_paths_do(factor, growth):
    """Within 3.5 standard errors and a half per cent of 40,000 paths, either side, debt growing."""
    variance, hours = 0.64, 24.0
    years = hours / HOURS_PER_YEAR
    side = 1 if factor > 1 else -1
    exact = first_passage(
        abs(math.log(factor)), variance * years, side * (-variance / 2 - growth) * years)
    seen = simulated(factor, variance, hours, growth)
    assert abs(seen - exact) <= 3.5 * math.sqrt(exact * (1 - exact) / PATHS) + 0.005 * exact


@pytest.mark.parametrize("factor", [0.95, 0.85, 1.15])
def test_the_mixture_is_paths_of_unknown_variance(factor):
    """Seven nodes stand for a log-normal variance: within 4 % (or 3.5 standard errors) of paths."""
    walk = Walk(0.64, 24.0)
    seen = simulated(factor, 0.64, 24.0, 0.0, spread=SPREAD * 24.0**-SPREAD_FADES)
    said = touches(walk, factor)
    assert abs(seen - said) <= 3.5 * math.sqrt(said * (1 - said) / PATHS) + 0.04 * said


def test_without_the_shift_looks_miss_touches():
    """The correction is needed: unshifted, looks every half hour see visibly fewer touches."""
    years = 24.0 / HOURS_PER_YEAR
    exact = first_passage(-math.log(0.97), 0.64 * years, 0.32 * years)
    drawn = watched_factor(0.97, 0.64, years / STEPS)
    assert drawn > 0.97
    assert watched_factor(1.03, 0.64, years / STEPS) < 1.03
    further = first_passage(
        -math.log(0.97) + WATCHED * math.sqrt(0.64 * years / STEPS), 0.64 * years, 0.32 * years)
    assert further < 0.9 * exact


def test_the_reflection_principle_by_hand():
    """No drift: 2·Φ(−d ÷ s); one standard deviation away .3173."""
    assert first_passage(1.0, 1.0, 0.0) == pytest.approx(math.erfc(1 / math.sqrt(2)))


def test_edges():
    """On the line 1; no line or none above nought 0; nothing moves: only a drift gets there."""
    walk = Walk(0.64, 24.0)
    assert touches(walk, 1.0) == 1.0
    assert touches(walk, None) == touches(walk, 0.0) == 0.0
    assert first_passage(0.0, 1.0, -9.0) == 1.0
    assert first_passage(0.1, 0.0, 0.1) == 1.0
    assert first_passage(0.1, 0.0, 0.05) == 0.0
    assert touches(Walk(0.0, 24.0), 0.9) == 0.0


def test_tails_are_fatter_than_gaussian_far_out_only():
    """At three standard deviations the mixture says several times the Gaussian, at half a one less."""
    deviation = math.sqrt(0.64 * 24 / HOURS_PER_YEAR)
    for distance, fatter in ((3.0, True), (0.5, False)):
        plain = first_passage(
            distance * deviation, deviation**2, deviation**2 / 2)
        mixed = touches(Walk(0.64, 24.0), math.exp(-distance * deviation))
        assert (mixed > 3 * plain) if fatter else (mixed < plain)


NUMBERS = st.floats(1e-6, 1e6)


@given(NUMBERS, st.sampled_from([1.0, 24.0, 168.0]), st.floats(0, 1e30), st.floats(1e-300, 1e300))
def test_a_probability_whatever_comes(variance, hours, growth, factor):
    """Any variance, debt growth and line: a number in [0, 1], no error."""
    assert 0.0 <= touches(Walk(variance, hours, growth), factor) <= 1.0


@given(st.floats(0.05, 4), st.floats(0.3, 0.99), st.floats(0.3, 0.99))
def test_nearer_lines_and_longer_times_are_likelier(variance, one, other):
    """Monotone in the distance and in the horizon."""
    near, far = max(one, other), min(one, other)
    day, week = Walk(variance, 24.0), Walk(variance, 168.0)
    assert touches(day, near) >= touches(day, far) - 1e-12
    assert touches(week, far) >= touches(day, far) * 0.9 - 1e-12
