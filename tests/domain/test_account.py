"""Folding facts into a view: the newest of each kind, whatever the order of delivery."""

from __future__ import annotations

import itertools
from decimal import Decimal as D

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    INVERSE,
    LINEAR,
    coin,
    facts,
    fund,
    loan,
    pockets,
    position,
    positions,
    pushed,
    wallet,
)

from hedgelock.domain.account import AccountView, fold


def folded(*rows, onto=None):
    """The view after these facts, in this order."""
    view = onto or AccountView()
    for row in rows:
        view = fold(view, row)
    return view


def test_an_empty_view_knows_nothing_and_says_so():
    """Before the first read every amount is 0 and the view is not complete."""
    view = AccountView()
    assert not view.is_complete and view.oldest_seen_ms() is None
    assert view.position_of(LINEAR) is None and view.position_qty(LINEAR) == 0
    assert view.debt_of("USDT") == view.collateral_of("BTC") == view.fund_qty("USDT") == 0
    assert view.wallet_of("BTC") is None and view.withdrawable_qty("USDT") == 0


def test_a_full_view_answers_by_coin_and_instrument():
    """Each pocket is asked by coin; what is not listed is 0."""
    view = folded(
        wallet(coin("USDT", "-5"), coin("BTC", "0.2"), at_ms=40), positions(position("-0.3")),
        fund("7"), loan("100", "2"),
    )
    assert view.is_complete and view.oldest_seen_ms() == view.loan.ts_seen_ms
    assert view.position_qty(LINEAR) == D("-0.3") and view.position_qty(INVERSE) == 0
    assert (view.debt_of("USDT"), view.debt_of("BTC")) == (100, 0)
    assert (view.collateral_of("BTC"), view.collateral_of("ETH")) == (2, 0)
    assert (view.fund_qty("USDT"), view.fund_qty("BTC")) == (7, 0)
    assert view.wallet_of("USDT").wallet_qty == -5
    assert view.withdrawable_qty("BTC") == D("0.2") and view.withdrawable_qty("USDT") == 0


@pytest.mark.parametrize("at", range(4))
def test_one_missing_kind_makes_the_view_incomplete(at):
    """All four kinds must have been read."""
    rows = [row for index, row in enumerate(facts()) if index != at]
    assert not folded(*rows).is_complete and folded(*rows).oldest_seen_ms() is None


@pytest.mark.parametrize("make", [wallet, positions, fund, loan], ids=lambda make: make.__name__)
def test_the_read_that_was_asked_for_later_wins(make):
    """An older or repeated read changes nothing, whenever it arrives."""
    old, new = make(at_ms=0), make(at_ms=1)
    view = folded(new)
    assert fold(view, old) is view and fold(view, new) is view
    assert folded(old, new) == view


# ---------------------------------------------------------------- positions: reads against pushes


def test_a_push_before_the_first_read_waits_for_it():
    """One push is no complete read: the rest must not pass for flat. Nor is it forgotten."""
    view = folded(pushed(position("-0.3", seq=5), at_ms=10))
    assert view.positions is None and not view.is_complete
    assert fold(view, positions(at_ms=30)).position_qty(LINEAR) == D("-0.3")


def test_a_read_on_its_way_does_not_undo_a_push():
    """Asked for before the fill was pushed, answered flat after it: the position stays."""
    view = folded(positions(at_ms=0), pushed(position("-0.3", seq=5), at_ms=100))
    view = fold(view, positions(at_ms=120))
    assert view.position_qty(LINEAR) == D("-0.3")
    assert fold(view, positions(at_ms=500)).position_qty(LINEAR) == 0


def test_where_a_read_lists_the_instrument_the_higher_seq_is_later():
    """Equal or higher seq in the read wins; a push of higher seq wins."""
    push = pushed(position("-0.3", seq=5), at_ms=100)
    for seq, qty in ((4, "-0.3"), (5, "-0.1"), (6, "-0.1")):
        read = positions(position("-0.1", seq=seq), at_ms=120)
        assert folded(positions(), push, read).position_qty(LINEAR) == D(qty)
        assert folded(push, read).position_qty(LINEAR) == D(qty)


def test_an_older_push_never_replaces_a_newer_position():
    """Repeated, overtaken and long-covered pushes change nothing."""
    view = folded(positions(position("-0.3", seq=5), at_ms=0))
    late = pushed(position("-0.9", seq=4), at_ms=10)
    assert fold(view, late) is view
    assert fold(view, pushed(position("-0.9", seq=5), at_ms=10)) is view
    view = fold(view, pushed(position("0", seq=7), at_ms=20))
    assert view.position_qty(LINEAR) == 0
    assert fold(view, pushed(position("-0.9", seq=6), at_ms=21)) is view


def test_a_late_push_does_not_resurrect_a_closed_position():
    """Seen before the read that found the account flat was even asked for: it is in that read."""
    view = folded(positions(position("-0.3", seq=5)), positions(at_ms=1_000))
    assert fold(view, pushed(position("-0.3", seq=6), at_ms=900)) is view
    view = folded(
        positions(), pushed(position("-0.3", seq=5), at_ms=100), positions(at_ms=1_000)
    )
    assert fold(view, pushed(position("-0.2", seq=4), at_ms=1_100)) is view


def test_pushes_of_one_instrument_leave_the_others_alone():
    """Positions are kept per instrument, in the order of their names."""
    view = folded(
        positions(position("-0.3", seq=5), position("-100", instrument=INVERSE, seq=2)),
        pushed(position("-0.4", seq=6), at_ms=10),
        pushed(position("-200", instrument=INVERSE, seq=3), at_ms=11),
    )
    assert [p.instrument for p in view.positions.positions] == [INVERSE, LINEAR]
    assert (view.position_qty(LINEAR), view.position_qty(INVERSE)) == (D("-0.4"), -200)
    assert len(view.pushed) == 2


@given(st.data())
def test_any_order_of_pushes_ends_with_the_highest_seq(data):
    """However pushes are shuffled and repeated, the position of highest seq stands."""
    pushes = [pushed(position(f"-0.{n}", seq=n), at_ms=100 + n) for n in range(1, 6)]
    order = data.draw(st.permutations(pushes + pushes[:2]))
    assert folded(positions(), *order).position_qty(LINEAR) == D("-0.5")


@given(pockets(), pockets(at_ms=1_000))
def test_the_order_between_kinds_does_not_matter(early, late):
    """Facts of different kinds commute; twice is as good as once; the view survives the wire."""
    views = {
        msgspec.json.encode(folded(*early, *order, *order))
        for order in itertools.islice(itertools.permutations(late), 0, 24, 5)
    }
    assert len(views) == 1
    encoded = views.pop()
    assert msgspec.json.encode(msgspec.json.decode(encoded, type=AccountView)) == encoded
