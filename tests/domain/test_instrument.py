"""Contract terms and tiered collateral ratios."""

from __future__ import annotations

from decimal import Decimal as D

import pytest
from hypothesis import given
from strategies import TIERS as MARGIN_TIERS
from strategies import amounts, linear

from hedgelock.domain.instrument import (
    CollateralTier,
    category_of,
    counted_qty,
    symbol_of,
)

TIERS = (
    CollateralTier(qty_min=D(0), qty_max=D(10), ratio=D("0.95")),
    CollateralTier(qty_min=D(10), qty_max=D(20), ratio=D("0.9")),
    CollateralTier(qty_min=D(20), qty_max=None, ratio=D(0)),
)


@pytest.mark.parametrize(
    ("qty", "counted"),
    [("0", "0"), ("1", "0.95"), ("10", "9.5"), ("15", "14"), ("20", "18.5"), ("99", "18.5")],
)
def test_each_part_of_an_amount_counts_at_the_ratio_of_its_tier(qty, counted):
    """Ratios are marginal: the first coins keep their ratio however many follow."""
    assert counted_qty(D(qty), TIERS) == D(counted)


@given(amounts("0", "100"))
def test_the_order_of_tiers_does_not_matter(qty):
    """The venue promises no order, so none is assumed."""
    assert counted_qty(qty, TIERS[::-1]) == counted_qty(qty, TIERS)


def test_no_tiers_count_nothing():
    """Without ratios nothing is counted; who needs them must notice that they are missing."""
    assert counted_qty(D(1), ()) == 0


def test_the_documented_75000_count_for_74375():
    """The venue's own example of tiered counting (field-lessons §4)."""
    tiers = (
        CollateralTier(qty_min=D(0), qty_max=D(62_500), ratio=D(1)),
        CollateralTier(qty_min=D(62_500), qty_max=None, ratio=D("0.95")),
    )
    assert counted_qty(D(75_000), tiers) == D(74_375)


def test_an_instrument_name_tells_category_and_symbol():
    """`linear:BTCUSDT` is the market `linear` and the venue's symbol `BTCUSDT`."""
    assert (category_of("linear:BTCUSDT"), symbol_of("linear:BTCUSDT")) == ("linear", "BTCUSDT")


def test_terms_out_of_range_are_refused():
    """A lot size of zero would divide by zero later; it is refused at the door."""
    with pytest.raises(ValueError, match="must be > 0"):
        linear(lot_size=D(0))


def test_margin_tiers_out_of_order_are_refused():
    """The tier of a value is the first that holds it: disorder would understate the margin."""
    with pytest.raises(ValueError, match="do not ascend"):
        linear(tiers=MARGIN_TIERS[::-1])
    assert linear().tiers == MARGIN_TIERS
    assert linear(tiers=()).tiers == ()
