"""The risk score: the highest part, on scales where 100 is the cliff."""

from __future__ import annotations

from decimal import Decimal as D

import pytest

from hedgelock.domain.risk_score import (
    STRESS_MAX,
    ScoreParts,
    cliff_part,
    probability_part,
)


def parts(**given):
    """Parts, nought where not given."""
    names = ("ltv", "margin", "stress", "probability", "blindness")
    return ScoreParts(**{name: D(given.get(name, 0)) for name in names})


@pytest.mark.parametrize("name", ["ltv", "margin", "stress", "probability", "blindness"])
def test_the_highest_part_is_the_score(name):
    """Whatever part is highest makes the score and is named; the others do not dilute it."""
    others = dict.fromkeys(("ltv", "margin", "stress", "probability", "blindness"), 10)
    made = parts(**(others | {name: 60}))
    assert (made.score, made.driver) == (60, name)


@pytest.mark.parametrize(
    ("used", "most", "part"),
    [("0", "100", "0"), ("0.5", "100", "50"), ("1", "100", "100"), ("7", "100", "100"),
     (None, "100", "100"), ("-3", "100", "0"), ("1", "90", "90"), (None, "90", "90")],
)
def test_a_cliff_fills_its_part(used, most, part):
    """In proportion, bounded; nothing left to divide by is full."""
    assert cliff_part(None if used is None else D(used), D(most)) == D(part)
    assert STRESS_MAX == 90


@pytest.mark.parametrize(
    ("probability", "part"),
    [("0", 0), ("0.00001", 0), ("0.0001", 20), ("0.001", 40), ("0.01", 60), ("0.1", 80), ("1", 100)],
)
def test_probability_counts_by_decades(probability, part):
    """Twenty points per decade above a hundred-thousandth."""
    assert probability_part(D(probability)) == part
