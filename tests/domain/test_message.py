"""Numbers are checked on every way in: construction and decoding alike."""

from __future__ import annotations

from decimal import Decimal as D

import msgspec
import pytest
from hypothesis import given, settings
from strategies import structs, tick

from hedgelock.bus.codec import KINDS
from hedgelock.domain.account import FundBalance
from hedgelock.domain.market import MarketTick, basis
from hedgelock.domain.policy import FundingPolicy


@pytest.mark.parametrize("bad", ["NaN", "sNaN", "Infinity", "-Infinity", "1E+31", "1E-31"])
def test_numbers_that_are_not_usable_are_refused(bad):
    """msgspec takes NaN and 1E+999 for decimals; a message does not, built or decoded."""
    with pytest.raises(ValueError, match="not a usable number"):
        tick(D(bad))
    raw = msgspec.json.encode(tick()).replace(b'"60000"', f'"{bad}"'.encode())
    with pytest.raises(msgspec.ValidationError, match="not a usable number"):
        msgspec.json.decode(raw, type=MarketTick)


@pytest.mark.parametrize("bad", ["0", "-1"])
def test_prices_are_positive(bad):
    """A price of zero or less is no price."""
    with pytest.raises(ValueError, match="must be > 0"):
        tick(bad)


def test_balances_that_cannot_be_negative_are_not():
    """What FUND holds is at least nothing."""
    with pytest.raises(ValueError, match="must be ≥ 0"):
        FundBalance(coin="BTC", qty=D(-1), transferable_qty=D(0))


def test_an_absent_number_is_left_alone():
    """None means absent and is neither checked nor replaced."""
    assert tick().last_price is None


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "1E+31"])
def test_the_points_of_a_curve_are_checked_too(bad):
    """A NaN in the multiplier's points would raise in the middle of a decision."""
    with pytest.raises(ValueError, match=r"multiplier_points is not a usable number"):
        FundingPolicy(multiplier_points=((D(0), D(1)), (D(bad), D(0))))


def test_basis_is_mark_minus_index():
    """A perpetual above the index has a positive basis."""
    assert basis(tick("100", mark="101")) == 1


@pytest.mark.no_cover
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_message_survives_the_wire(kind):
    """encode → decode gives the same message, for every kind that is ever encoded."""

    @settings(max_examples=30)
    @given(structs(kind))
    def survives(message):
        assert msgspec.json.decode(msgspec.json.encode(message), type=kind) == message

    survives()
