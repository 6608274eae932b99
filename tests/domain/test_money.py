"""Exact money: parsing, rounding to steps, and the range that messages carry."""

from __future__ import annotations

import decimal
from decimal import Decimal as D
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hedgelock.domain.market import MarketTick
from hedgelock.domain.money import (
    ceil_to,
    clip,
    digits,
    floor_to,
    parse_decimal,
    saturate,
    trap_floats,
)

NUMBERS = st.decimals(min_value=-10**9, max_value=10**9, allow_nan=False)
STEPS = st.sampled_from([D("0.001"), D("0.3"), D(1), D("0.07"), D(25)])


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "NaN", "Infinity", "-Infinity", "1_000", "0x10", "1,5", "1e999", "--1", ".", "+",
     "٣", "1\n", "1" * 25],
)
def test_a_text_that_is_no_plain_number_is_refused(text):
    """Nothing but plain ASCII digits becomes money, least of all an empty string."""
    with pytest.raises(ValueError, match="not a plain number"):
        parse_decimal(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.10", "0.1"), ("-5", "-5"), ("+1.", "1"), (".5", "0.5"), ("1e-8", "0.00000001"),
     ("0.000000000000000000", "0")],
)
def test_the_venues_number_texts_are_read_exactly(text, value):
    """Trailing zeros, signs and exponents as venues send them keep their value."""
    assert parse_decimal(text) == D(value)


@pytest.mark.parametrize("rounding", [decimal.ROUND_HALF_EVEN, decimal.ROUND_DOWN])
def test_digits_do_not_depend_on_when_they_were_made(rounding):
    """Made under any default, a context rounds half up: 1.25 to two digits is 1.3."""
    before = decimal.DefaultContext.rounding
    decimal.DefaultContext.rounding = rounding
    try:
        made = digits(2)
    finally:
        decimal.DefaultContext.rounding = before
    assert made.plus(D("1.25")) == D("1.3")


def test_a_number_that_is_not_text_is_refused():
    """A float on its way into money is stopped at the door."""
    with pytest.raises(ValueError, match="not a plain number"):
        parse_decimal(0.1)  # type: ignore[arg-type]


def test_the_trap_stops_floats_from_becoming_money():
    """With the trap set, a float neither becomes a Decimal nor compares with one."""
    trap_floats()
    with pytest.raises(decimal.FloatOperation):
        D(0.1)  # noqa: RUF032
    with pytest.raises(decimal.FloatOperation):
        _ = D(1) < 0.5


@given(NUMBERS, STEPS)
def test_floor_never_exceeds_and_ceil_never_falls_short(value, step):
    """Floor goes towards zero, ceil away from it, by less than one step, to whole steps."""
    low, high = floor_to(value, step), ceil_to(value, step)
    assert abs(low) <= abs(value) <= abs(high)
    # Exactly: a difference of decimals would be rounded to the step itself.
    exact = Fraction(abs(value))
    assert exact - Fraction(abs(low)) < Fraction(step)
    assert Fraction(abs(high)) - exact < Fraction(step)
    assert low % step == 0 and high % step == 0


def test_rounding_survives_numbers_longer_than_the_context():
    """A quotient that rounds up to the next integer must not carry the floor over the value."""
    long = D("0.8999999999999999999999999999999999")
    assert floor_to(long, D("0.3")) == D("0.6")
    assert ceil_to(D("1.00000000000000000000000000000000000001"), D(1)) == 2


@given(NUMBERS, NUMBERS, NUMBERS)
def test_clip_stays_inside_and_low_wins(value, low, high):
    """The result is the value limited to [low, high]; crossed limits give low."""
    clipped = clip(value, low, high)
    assert clipped == (low if low > high else sorted((low, value, high))[1])


@given(st.decimals(allow_nan=False, allow_infinity=False))
@example(D("-9E+99"))
@example(D("9E-99"))
@example(D("0E+99"))
def test_what_is_saturated_fits_a_message(value):
    """Any finite figure becomes one that a message carries; usual ones are left alone."""
    fitted = saturate(value)
    assert MarketTick(
        instrument="x", mark_price=abs(fitted) or D(1), index_price=D(1), ts_event_ms=0, ts_seen_ms=0
    )
    if not value or -30 <= value.adjusted() < 30:
        assert fitted is value
    elif value.adjusted() > 0:
        assert fitted == D("1E+30").copy_sign(value)
    else:
        assert fitted == 0
