"""Liquidation prices against the fact sheet's vectors, arithmetic by hand, and a brute-force scan."""

from __future__ import annotations

from decimal import Decimal as D

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import (
    ACCOUNT,
    INVERSE,
    LINEAR,
    all_rows,
    amounts,
    coin,
    inverse,
    linear,
    loan,
    pockets,
    position,
    positions,
    prices,
    rows,
    terms,
    view,
    wallet,
)

from hedgelock.domain import loan as loans
from hedgelock.domain.instrument import MarginTier
from hedgelock.domain.liquidation import (
    NEVER,
    NOW,
    interest_growth,
    loan_roots,
    nearest_roots,
    pocket_roots,
)
from hedgelock.domain.margin import margin_sums
from hedgelock.domain.scene import look

LIMIT = D("0.95")
NO_FEE = {"taker_fee": D(0)}
STEEP = tuple(
    MarginTier(notional_max=D(top), initial_rate=D("0.2"), maintenance_rate=D(rate),
               deduction=D(deduction))
    for top, rate, deduction in (
        ("20000", "0.005", 0), ("40000", "0.02", 300), ("90000", "0.1", 3_500),
    )
)
"""Tiers that ordinary prices cross; deductions as the venue computes them (§8.4)."""
STEEP_COINS = tuple(
    MarginTier(notional_max=D(top), initial_rate=D("0.2"), maintenance_rate=D(rate),
               deduction=D(deduction))
    for top, rate, deduction in (("0.3", "0.005", 0), ("0.8", "0.03", "0.0075"), ("2", "0.1", "0.0635"))
)


def scene_of(*facts, tables=None):
    """The scene of the demo account with these facts."""
    tables = tables or rows()
    return look(view(*facts), tables.policy(ACCOUNT), tables, 1_700_000_000_000)


def pocket(*facts, tables=None):
    """Roots of the trading pocket."""
    return pocket_roots(scene_of(*facts, tables=tables).book)


def near(found, expected, digits="0.005"):
    """True when k × 60,000 is a price to the cent."""
    return abs(found * 60_000 - D(expected)) <= D(digits)


# ---------------------------------------------------------------- vectors and by hand


@pytest.mark.parametrize(("qty", "price"), [("1", "54271.36"), ("-1", "65671.64")])
def test_linear_vectors(qty, price):
    """§8.5, USDT 60,000 at 10×: 6,000 USDT is all there is, so cross dies where isolated does."""
    table = rows().having(linear(**NO_FEE))
    found = pocket(wallet(coin("USDT", "6000")), positions(position(qty)), tables=table)
    dead, alive = (found.below, found.above) if D(qty) > 0 else (found.above, found.below)
    assert near(dead, price)
    assert alive is None


@pytest.mark.parametrize(("qty", "price"), [("60000", "54818.18"), ("-60000", "66333.33")])
def test_inverse_vectors(qty, price):
    """§8.5, inverse 60,000 USD at 10×: .1 BTC counted whole is all there is."""
    table = all_rows(D(60_000)).having(inverse(**NO_FEE), terms(margin="1"))
    held = positions(position(qty, instrument=INVERSE))
    found = pocket(wallet(coin("BTC", "0.1")), held, tables=table)
    assert near(found.below if D(qty) > 0 else found.above, price)


def test_a_short_on_coins_dies_with_its_loan():
    """Short .4, 1,000 USDT, .1 BTC: above 62,500 the loss is borrowed at 4 % until the coins go."""
    found = pocket(wallet(coin("USDT", "1000"), coin("BTC", "0.1")), positions(position("-0.4")))
    # 1,000 − .4·(P − 60,000) + .095·P = .4·P·.00555 + .04·(.4·(P − 60,000) − 1,000)
    price = (D(25_000) + D("0.04") * 25_000) / (
        D("0.4") * D("1.04") - D("0.095") + D("0.4") * D("0.00555"))
    assert abs(found.above * 60_000 - price) < D("1e-20")
    assert found.below is None


def test_a_full_inverse_short_cannot_be_liquidated_by_a_rally():
    """1× inverse short of all coins, counted whole: no price above does it; DESIGN §5."""
    table = all_rows(D(60_000)).having(terms(margin="1"), inverse(**NO_FEE, tiers=(
        MarginTier(notional_max=D(150), initial_rate=D("0.01"), maintenance_rate=D("0.005"),
                   deduction=D(0)),)))
    bare = wallet(coin("BTC", "0.1"))
    assert pocket(bare, positions(position("-5000", instrument=INVERSE)), tables=table) == NEVER


def test_owed_usdt_dies_on_a_fall():
    """5,000 USDT owed against .1 BTC at .95: dead where .095·P − 5,000 = 4 % of 5,000."""
    found = pocket(wallet(coin("USDT", "-5000"), coin("BTC", "0.1")))
    assert abs(found.below * 60_000 - D(5_200) / D("0.095")) < D("1e-20")
    assert found.above is None


def test_owed_coins_die_on_a_rally():
    """.05 BTC owed against 6,000 USDT: dead where 6,000 − .05·P = 4 % of .05·P."""
    found = pocket(wallet(coin("USDT", "6000"), coin("BTC", "-0.05")))
    assert abs(found.above * 60_000 - D(6_000) / D("0.052")) < D("1e-20")


def test_an_empty_pocket_never_dies_and_a_dead_one_is_dead_now():
    """Nothing held: no root; equity below what must be kept: both roots at today's price."""
    assert pocket(wallet(coin("USDT", "0"))) == NEVER
    assert pocket(wallet(coin("USDT", "100")), positions(position("-1"))) == NOW


def test_the_loan_by_hand():
    """36,600 over 1 BTC: LTV .95 at 38,526.32; an hour's interest moves it up."""
    book = scene_of().loan
    flat = loan_roots(book, LIMIT, beta={"BTC": D(1)}, growth={})
    assert near(flat.below, "38526.32")
    assert flat.above is None
    growth = {"USDT": interest_growth(D("0.0000018"), 24)}
    grown = loan_roots(book, LIMIT, beta={"BTC": D(1)}, growth=growth)
    assert grown.below == flat.below * D("1.0000018") ** 24 > flat.below
    assert flat.below * 60_000 == pytest.approx(loans.liquidation_price(
        D(36_600), D(1), ltv_liquidation=LIMIT))


def test_other_coins_fall_further_and_stop_at_nought():
    """3 ETH at 3,000 × .9 with β 2: worthless below k = ½, and the loan is the BTC's alone."""
    book = scene_of(loan("20000", others=[("ETH", "3")]), tables=all_rows(D(60_000))).loan
    found = loan_roots(book, LIMIT, beta={"BTC": D(1), "ETH": D(2)}, growth={})
    assert near(found.below, D(20_000) / LIMIT)
    richer = scene_of(loan("60000", others=[("ETH", "3")]), tables=all_rows(D(60_000))).loan
    found = loan_roots(richer, LIMIT, beta={"BTC": D(1), "ETH": D(2)}, growth={})
    # 60,000·k + 8,100·(1 + 2·(k − 1)) = 60,000 ÷ .95
    assert abs(found.below - (D(60_000) / LIMIT + 8_100) / 76_200) < D("1e-20")


def test_a_loan_of_coins_dies_on_a_rally():
    """Owing ETH against BTC: β 2 brings the debt up faster than the pledge."""
    owed = loan("0", others=[])
    owed = msgspec.structs.replace(owed, debts=(msgspec.structs.replace(
        owed.debts[0], coin="ETH", qty=D(15)),))
    book = scene_of(owed, tables=all_rows(D(60_000))).loan
    found = loan_roots(book, LIMIT, beta={"BTC": D(1), "ETH": D(2)}, growth={})
    # 45,000·(1 + 2·(k − 1)) = .95·60,000·k
    assert abs(found.above - D(45_000) / 33_000) < D("1e-20")
    assert found.below is None


def test_no_debt_never_dies_and_too_much_is_dead_now():
    """No debt has no liquidation; LTV at the limit is liquidated at today's price."""
    assert loan_roots(scene_of(loan("0")).loan, LIMIT, beta={}, growth={}) == NEVER
    assert loan_roots(scene_of(loan("57000")).loan, LIMIT, beta={}, growth={}) == NOW


# ---------------------------------------------------------------- against brute force

GRID = [D(n) / 64 for n in range(1, 64)] + [1 + D(n) / 16 for n in range(1, 129)]
TINY = D("1e-9")


def holds_against_a_scan(excess, found):
    """Alive at every grid point strictly between the roots, dead just beyond each."""
    low, high = found.below or D(0), found.above or D("Infinity")
    for k in GRID:
        if low * (1 + TINY) < k < high * (1 - TINY):
            assert excess(k) > 0, k
    scale = 1 + abs(excess(D(1))) + abs(excess(D(2)))
    if found.below is not None:
        assert excess(found.below * (1 - TINY)) <= scale * D("1e-7")
    if found.above is not None:
        assert excess(found.above * (1 + TINY)) <= scale * D("1e-7")


@settings(max_examples=150)
@given(pockets(), prices(), amounts("1000", "6000", 2), st.booleans())
def test_the_pocket_against_a_scan(read, price, eth, steep):
    """Any account, tiers that prices cross or not: no root between the roots, death beyond them."""
    tables = all_rows(price, eth)
    if steep:
        tables = tables.having(linear(tiers=STEEP), inverse(tiers=STEEP_COINS))
    book = scene_of(*read, tables=tables).book
    found = pocket_roots(book)

    def excess(k):
        needed, balance = margin_sums(book, k)
        return balance - needed

    if found == NOW:
        assert excess(D(1)) <= 0
    elif found == NEVER and not book.positions:
        assert all(line.wallet_qty >= 0 for line in book.coins)
    else:
        holds_against_a_scan(excess, found)


@settings(max_examples=60)
@given(pockets(), prices(), amounts("1000", "6000", 2), amounts("0.5", "3", 2))
def test_the_loan_against_a_scan(read, price, eth, beta):
    """LTV stays below the limit between the roots and reaches it at each."""
    book = scene_of(*read, tables=all_rows(price, eth)).loan
    assume(book.debt_value)
    found = loan_roots(book, LIMIT, beta={"BTC": D(1), "ETH": beta}, growth={})
    betas = {"BTC": D(1), "ETH": beta, "USDT": D(0)}

    def excess(k):
        return sum(
            (LIMIT * line.counted_qty - line.debt_qty) * line.price
            * max(D(0), 1 + betas[line.coin] * (k - 1)) for line in book.lines
        )

    if found == NOW:
        assert excess(D(1)) <= 0
    else:
        holds_against_a_scan(excess, found)


@given(
    st.lists(st.tuples(amounts("-5", "5", 2), amounts("-5", "5", 2), amounts("-5", "5", 2)),
             min_size=4, max_size=4),
    st.lists(amounts("0.1", "4", 2), min_size=3, max_size=3, unique=True),
)
def test_pieces_that_bend_and_jump(pieces, kinks):
    """Any three kinks with a parabola of its own in each piece: still no death between the roots."""
    edges = sorted(kinks)

    def excess(k):
        c0, c1, c2 = pieces[sum(k > edge for edge in edges)]
        return c0 + c1 * k + c2 * k * k

    assume(excess(D(1)) > 0)
    found = nearest_roots(excess, kinks)
    low, high = found.below or D(0), found.above or D("Infinity")
    for k in GRID:
        if low * (1 + TINY) < k < high * (1 - TINY):
            assert excess(k) > -TINY, k
    for root, away in ((found.below, 1 - TINY), (found.above, 1 + TINY)):
        if root is not None:
            assert min(excess(root * away), excess(root), excess(root * away * away)) <= D("1e-6")


def test_kinks_too_near_each_other_are_no_trouble():
    """Two kinks a rounding apart leave no room for a piece, and none is made."""
    found = nearest_roots(lambda k: 3 - k, [D(2), D(2) + D("1e-33"), D(2)])
    assert found.above == 3 and found.below is None


def test_absurd_numbers_answer():
    """A position of 1E+30 coins at 1E+30: an answer, not an error."""
    table = rows().having(linear(LINEAR))
    found = pocket(wallet(coin("USDT", "1E+30")), positions(position("-1E+30", "1E+30")),
                   tables=table)
    assert found.above is not None
