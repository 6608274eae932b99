"""Price boxes: exact where LTV decides, a hair inside the true region, shared fairly among coins."""

from __future__ import annotations

from decimal import Decimal as D

from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import LINEAR, amounts, prices

from hedgelock.domain.loan import LoanBook, LoanLine
from hedgelock.domain.region import Anchor, LtvLimits, price_boxes

ETH = "linear:ETHUSDT"
WIDE = D("0.9")
"""A price step so wide that only LTV bounds the box."""


def book(*lines):
    """A whole loan book of (instrument, debt, counted, price) lines; "" is the quote coin."""
    made = tuple(LoanLine(name, name, D(d), D(c), D(c), D(p)) for name, d, c, p in lines)
    return LoanBook(
        made, sum(line.debt_qty * line.price for line in made),
        sum(line.counted_qty * line.price for line in made), D(0),
        is_whole=True, is_uncovered=False,
    )


def boxes(loan, limits=None, step=WIDE):
    """Boxes around the prices in the book."""
    anchors = {
        line.instrument: Anchor(line.price, line.price, line.price)
        for line in loan.lines if line.instrument
    }
    return price_boxes(anchors, step, loan=loan, limits=limits)


def test_without_limits_only_the_price_step_counts():
    """When LTV depends on no price, mark and index may move by the step, less a hair."""
    box = boxes(book((LINEAR, 0, 1, 60_000)), step=D("0.001"))[LINEAR]
    assert D(59_940) < box.index_low < D("59940.001") and D("60059.999") < box.index_high < 60_060
    assert (box.mark_low, box.mark_high) == (box.index_low, box.index_high)


def test_one_coin_is_bounded_exactly_where_ltv_meets_its_lines():
    """36,000 on 1 BTC: LTV .5 at 72,000 and .75 at 48,000, by cross-multiplication."""
    loan = book(("", 36_000, 0, 1), (LINEAR, 0, 1, 60_000))
    box = boxes(loan, LtvLimits(D("0.5"), D("0.75")))[LINEAR]
    assert 48_000 < box.index_low < D("48000.1")
    assert D("71999.9") < box.index_high < 72_000


def test_a_line_just_under_the_price_leaves_no_room_on_that_side():
    """At LTV exactly on a line, any rise of the price would cross it."""
    loan = book(("", 36_000, 0, 1), (LINEAR, 0, 1, 60_000))
    assert boxes(loan, LtvLimits(D("0.6"), D("0.75")))[LINEAR].index_high == 60_000


def test_a_debt_in_the_coin_turns_the_sides():
    """Owing BTC against USDT: LTV rises with the price."""
    loan = book(("", 0, 120_000, 1), (LINEAR, 1, 0, 60_000))
    box = boxes(loan, LtvLimits(D("0.25"), D("0.75")))[LINEAR]
    assert 30_000 < box.index_low < D("30000.1") and D("89999.9") < box.index_high < 90_000


def test_a_coin_that_counts_for_nothing_is_not_bounded_by_ltv():
    """Its price moves neither debt nor counted value."""
    loan = book(("", 36_000, 0, 1), (LINEAR, 0, 1, 60_000), (ETH, 0, 0, 3_000))
    box = boxes(loan, LtvLimits(D("0.5"), D("0.75")))[ETH]
    assert box.index_low < 310 and box.index_high > 5_690


@given(
    debt=amounts("0", "50000", 2), btc=amounts("0", "2"), eth=amounts("0", "20"),
    eth_debt=amounts("0", "5"), price=prices(), eth_price=amounts("1000", "6000", 2),
    at=st.lists(st.integers(0, 1000), min_size=2, max_size=2),
    below=amounts("0", "0.2"), above=amounts("0.0001", "0.2"),
)
def test_every_corner_and_inner_point_stays_inside_the_lines(
    *, debt, btc, eth, eth_debt, price, eth_price, at, below, above
):
    """Whatever moves with what: inside all boxes LTV stays in [low, high)."""
    loan = book(("", debt, 0, 1), (LINEAR, 0, btc, price), (ETH, eth_debt, eth, eth_price))
    assume(loan.counted_value > 0)
    ltv = loan.debt_value / loan.counted_value
    limits = LtvLimits(ltv - below, ltv + above)
    found = boxes(loan, limits)
    moved = {
        name: box.index_low + (box.index_high - box.index_low) * D(share) / 1000
        for (name, box), share in zip(found.items(), at, strict=True)
    }
    debt_after = debt + eth_debt * moved[ETH]
    value_after = btc * moved[LINEAR] + eth * moved[ETH]
    tiny = D("1E-20") * (1 + debt_after)
    assert debt_after < limits.high * value_after + tiny
    assert debt_after >= limits.low * value_after - tiny
