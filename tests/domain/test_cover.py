"""Covering what the pocket owes from its own coins: never crumb by crumb, never again and again."""

from __future__ import annotations

import pytest
from hedge_situations import situation, situations
from hedge_world import SPOT, ZERO, D, instrument
from hypothesis import given
from hypothesis import strategies as st

from hedgelock.domain.inflight import Purpose
from hedgelock.domain.money import floor_to
from hedgelock.domain.order import Side
from hedgelock.domain.situation import OrderAction, Situation
from hedgelock.domain.sizing import decide

FINE = instrument(SPOT, lot_size=D("0.000001"), qty_min=D("0.000001"))


def covers(s: Situation) -> list[OrderAction]:
    """The spot sales decided."""
    return [a for a in decide(s).actions
            if isinstance(a, OrderAction) and a.purpose is Purpose.COVER]


@given(situations())
def test_a_cover_is_worth_its_while(s: Situation) -> None:
    """It sells twice the tolerance at least, or every whole lot of coins; below it nothing is sold."""
    spot = s.spot
    assert spot is not None
    for order in covers(s):
        assert (order.side, order.protective, order.reduce_only) == (Side.SELL, True, False)
        assert s.balances.equity < -s.cover_min
        everything = floor_to(s.balances.coin_qty, spot.lot_size)
        assert order.qty * s.mark_price >= 2 * s.cover_min or order.qty == everything
        assert order.qty <= everything
    if s.balances.equity >= -s.cover_min:
        assert covers(s) == []
        assert decide(s).reason.value != "cover_impossible"


@pytest.mark.parametrize(
    ("equity", "sold"),
    [("-1", "0"), ("-30", "0"), ("-30.01", "0.001007"), ("-500", "0.008887"), ("-9000", "0.1")],
)
def test_what_is_owed_is_covered_with_something_to_spare(equity: str, sold: str) -> None:
    """Of 60,000 of collateral 30 USDT are borne; a cover ends 30 above zero, costs and slippage paid."""
    s = situation(equity=equity, debt="20000", spot=FINE)
    assert s.cover_min == 30
    assert sum((a.qty for a in covers(s)), ZERO) == D(sold)


def test_without_a_loan_the_venues_least_value_is_the_tolerance() -> None:
    """Nothing pledged: V is 0, and still nothing below the least order is owed often enough to sell."""
    s = situation(equity="-4", debt="0", collateral="0", counted_value=ZERO, spot=FINE)
    assert s.cover_min == 5
    assert covers(s) == []
    (order,) = covers(s._replace(balances=s.balances._replace(equity=D("-5.01"))))
    assert order.qty * s.mark_price >= 10


def test_a_market_without_a_spot_pair_sells_nothing() -> None:
    """No spot terms: the tolerance is the policy's, and what is owed beyond it is said."""
    s = situation(equity="-100", debt="30000", spot=None, reserve=ZERO)
    assert s.cover_min == 30
    assert covers(s) == []
    assert decide(s).reason.value == "cover_impossible"


@given(st.lists(st.integers(-45, 45), min_size=20, max_size=200), st.sampled_from(["0.5", "0.002"]))
def test_each_cover_needs_a_loss_of_its_own(changes: list[int], coins: str) -> None:
    """However the pocket walks around zero: between two covers it lost what the first left to spare."""
    equity, held, sales, lost = ZERO, D(coins), 0, ZERO
    for change in changes:
        equity += change
        lost += max(ZERO, D(-change))
        s = situation(equity=equity, coins=held, debt="20000", reserve=ZERO, spot=FINE)
        for order in covers(s):
            sales += 1
            equity += order.qty * s.mark_price * (1 - FINE.taker_fee)
            held -= order.qty
            assert equity >= s.cover_min or held == 0
    assert sales <= (lost + 30) / 60 + (held == 0)
