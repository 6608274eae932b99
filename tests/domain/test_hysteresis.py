"""The ladder of latches, over every (level, band) pair."""

from __future__ import annotations

from decimal import Decimal as D
from itertools import product

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import amounts

from hedgelock.domain.hysteresis import Latch, Rungs, advance, advance_blindly

RUNGS = Rungs(enter=(D("0.65"), D("0.80"), D("0.90")), leave=(D("0.63"), D("0.78"), D("0.88")))
DWELL = 300
BANDS = {
    # band: (a value in it, the rung it enters, the highest rung it does not leave)
    "ground": ("0.10", 0, 0), "at leave 1": ("0.63", 0, 1), "at enter 1": ("0.65", 1, 1),
    "below leave 2": ("0.77", 1, 1), "at leave 2": ("0.78", 1, 2), "at enter 2": ("0.80", 2, 2),
    "at leave 3": ("0.88", 2, 3), "at enter 3": ("0.90", 3, 3), "beyond": ("9", 3, 3),
}


def held(level):
    """A latch at `level` with nothing below."""
    return Latch(level, (None,) * level)


def see(latch, value, now_ms):
    """`advance` with this file's ladder."""
    return advance(latch, D(value), rungs=RUNGS, dwell_ms=DWELL, now_ms=now_ms)


@pytest.mark.parametrize(("level", "band"), list(product(range(4), BANDS)))
def test_every_level_in_every_band(level, band):
    """At once: up to the band's rung, never down. After the dwell: down to what is not left."""
    value, enters, keeps = BANDS[band]
    at_once = see(held(level), value, 1_000)
    assert at_once.level == max(level, enters)
    almost = see(at_once, value, 1_000 + DWELL - 1)
    assert almost.level == at_once.level
    after = see(almost, value, 1_000 + DWELL)
    assert after.level == max(enters, min(level, keeps))
    assert see(after, value, 1_000 + 9 * DWELL) == after


def test_a_break_restarts_the_dwell():
    """One look above the leaving line and the time below it counts from zero again."""
    latch = see(held(1), "0.62", 0)
    latch = see(latch, "0.63", 299)
    latch = see(latch, "0.62", 300)
    assert see(latch, "0.62", 599).level == 1
    assert see(latch, "0.62", 600).level == 0


def test_a_fall_lands_on_the_rung_that_was_quiet_long_enough():
    """A dip at the last moment does not carry the account through rungs it was hardly below."""
    latch = see(held(3), "0.87", 0)
    latch = see(latch, "0.10", 299)
    latch = see(latch, "0.10", 300)
    assert latch.level == 2
    assert latch.expires_ms(DWELL) == 599
    assert see(latch, "0.10", 599).level == 0


def test_nothing_to_expire_while_the_top_rung_is_held():
    """Only a value below the top rung's leaving line sets a deadline."""
    assert held(2).expires_ms(DWELL) is None
    assert Latch().expires_ms(DWELL) is None


def test_an_unchanged_latch_is_the_same_object():
    """Callers tell by identity that nothing happened."""
    latch = see(held(1), "0.62", 0)
    assert see(latch, "0.61", 100) is latch
    assert advance_blindly(held(2), D("0.1"), RUNGS).level == 2
    blind = held(2)
    assert advance_blindly(blind, D("0.1"), RUNGS) is blind


@pytest.mark.parametrize("level", range(4))
def test_blind_steps_never_go_down_and_forget_the_time_below(level):
    """What cannot be trusted may raise the level; the dwell starts anew when sight returns."""
    for value in (None, D("0.1"), D("0.85"), D("Infinity")):
        before = see(held(level), "0.1", 0)
        after = advance_blindly(before, value, RUNGS)
        assert after.level == max(level, 0 if value is None else RUNGS.reached(value))
        assert set(after.below_ms) <= {None}


def test_a_zero_dwell_leaves_at_once():
    """A dwell of 0 ms means hysteresis alone."""
    latch = advance(held(3), D("0.1"), rungs=RUNGS, dwell_ms=0, now_ms=0)
    assert latch == Latch()


@given(
    st.lists(st.tuples(amounts("0", "1.2"), st.integers(0, 200)), max_size=30),
    st.integers(0, 4), st.lists(amounts("0", "1"), min_size=6, max_size=6),
)
def test_any_ladder_survives_any_history(history, level, lines):
    """Even with senseless thresholds: never below what the value reaches, never out of range."""
    rungs = Rungs(tuple(lines[:3]), tuple(lines[3:]))
    latch, now_ms = held(level), 0
    for value, passed in history:
        now_ms += passed
        latch = advance(latch, value, rungs=rungs, dwell_ms=DWELL, now_ms=now_ms)
        assert 0 <= latch.level <= 3
        assert len(latch.below_ms) == latch.level
        assert advance(latch, value, rungs=rungs, dwell_ms=DWELL, now_ms=now_ms) == latch
        assert msgspec.json.decode(msgspec.json.encode(latch), type=Latch) == latch
        assert latch.level >= rungs.reached(value)
