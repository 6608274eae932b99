"""The trading pocket's margin, checked against the fact sheet's vectors and the hedger's h_cap."""

from __future__ import annotations

import itertools
from decimal import Decimal as D

import pytest
from hypothesis import assume, example, given
from strategies import (
    INVERSE,
    LINEAR,
    TIERS,
    all_rows,
    amounts,
    coin,
    inverse,
    linear,
    pockets,
    policy,
    position,
    positions,
    prices,
    rows,
    terms,
    tick,
    view,
    wallet,
)

from hedgelock.domain import kernels
from hedgelock.domain.account import AccountView, fold
from hedgelock.domain.instrument import CollateralTerms, MarginTier, Settlement
from hedgelock.domain.margin import (
    PositionLine,
    isolated_liquidation_price,
    margin_ratio,
    read_book,
    tier_of,
)
from hedgelock.domain.sources import Sources

HEDGE = policy().hedge
M = D("0.00555")
"""First tier's maintenance rate plus the taker fee."""


def read(*facts, tables=None):
    """The book of the demo account with these facts, and the names of what was missing."""
    sources = Sources(tables or rows(), HEDGE)
    return read_book(view(*facts), sources), list(sources.missing)


def book_of(*facts, tables=None):
    """The book alone."""
    return read(*facts, tables=tables)[0]


def short(qty, entry="60000"):
    """A linear short."""
    return positions(position(-D(qty), entry))


# ---------------------------------------------------------------- the account's ratio


def test_a_linear_short_by_hand():
    """.4 short at 60,000: 24,000 × .00555 over 6,000 + .095 × 60,000."""
    assert margin_ratio(book_of(short("0.4"))) == D(24_000) * M / D(11_700)


def test_after_a_rally_the_loss_is_borrowed_and_the_loan_needs_margin():
    """U 1,000, short .4, +25 %: loss 6,000, 5,000 borrowed at 4 %, coins up by a quarter."""
    book = book_of(short("0.4"), wallet(coin("USDT", "1000"), coin("BTC", "0.1")))
    needed = D(30_000) * M + D("0.04") * 5_000
    assert margin_ratio(book, D("0.25")) == needed / (D(1_000) - 6_000 + D("0.095") * 75_000)


def test_negative_usdt_counts_in_full_and_needs_margin():
    """A debt of 1,000 USDT in the pocket: 4 % of it over what the coins leave."""
    book = book_of(wallet(coin("USDT", "-1000"), coin("BTC", "0.1")))
    assert margin_ratio(book) == D(40) / (D(5_700) - 1_000)


def test_profit_that_covers_a_negative_wallet_is_not_borrowed():
    """Borrowed is what wallet plus unrealised profit lacks: −1,000 with +4,000 lacks nothing."""
    book = book_of(short("0.4", "70000"), wallet(coin("USDT", "-1000"), coin("BTC", "0.1")))
    assert margin_ratio(book) == D(24_000) * M / (D(5_700) - 1_000 + 4_000)


def test_an_inverse_short_is_margined_and_paid_in_coins():
    """30,000 USD short from 60,000, now 50,000: .6 BTC of value, +.1 BTC of profit."""
    tables = all_rows(D(50_000))
    book = book_of(
        positions(position("-30000", instrument=INVERSE)), wallet(coin("BTC", "1")), tables=tables
    )
    needed = D("0.6") * M * 50_000
    balance = D("0.95") * 50_000 + D(30_000) * (1 / D(50_000) - 1 / D(60_000)) * 50_000
    assert abs(margin_ratio(book) - needed / balance) < D("1E-30")


def test_a_one_to_one_inverse_short_outlives_any_rally():
    """Its loss in coins never exceeds its own collateral: equity in USD stands still (DESIGN §5)."""
    tables = all_rows(D(60_000)).having(terms(margin="1"))
    book = book_of(
        positions(position("-54000", instrument=INVERSE)), wallet(coin("BTC", "1")), tables=tables
    )
    for move in ("0.25", "1", "4"):
        assert margin_ratio(book, D(move)) < D("0.2")


def test_an_empty_pocket_needs_nothing():
    """No coins and no positions is 0; a hole with nothing to fill it is infinite."""
    assert margin_ratio(book_of(wallet(coin("USDT", "0")))) == 0
    assert margin_ratio(book_of(wallet(coin("USDT", "-5")))) is None
    assert margin_ratio(book_of(short("1"), wallet(coin("USDT", "0")))) is None


def test_no_price_is_left_after_a_fall_of_everything():
    """A fall of 100 % or more has no ratio."""
    assert margin_ratio(book_of(), D(-1)) is None
    assert margin_ratio(book_of(), D("-1.5")) is None


def test_switched_off_collateral_and_unknown_gifts_count_nothing():
    """Erring on the safe side: they add no balance, and they do not blind the account."""
    plain = margin_ratio(book_of(short("0.4"), wallet(coin("USDT", "6000"))))
    for gift in (
        coin("BTC", "0.1", is_collateral=False), coin("DOGE", "1000"),
        coin("ETH", "5", is_collateral=False),
    ):
        book, missing = read(short("0.4"), wallet(coin("USDT", "6000"), gift))
        assert margin_ratio(book) == plain and book.is_whole and missing == []


def test_a_priced_coin_without_ratio_counts_nothing():
    """A foreign coin whose ratio is unknown is worth 0 to margin."""
    tables = rows().having(tick("3000", instrument="linear:ETHUSDT"))
    book = book_of(wallet(coin("USDT", "10"), coin("ETH", "1")), tables=tables)
    assert book.is_whole and [line.counted_qty for line in book.coins] == [10, 0]


def test_usdt_counts_by_its_ratio_where_the_venue_has_one():
    """The quote coin is worth 1 and counts in full unless terms say otherwise."""
    tables = rows().having(terms("USDT", margin="0.99"))
    assert book_of(tables=tables).coins[0].counted_qty == D("0.99") * 6_000
    assert book_of().coins[0].counted_qty == 6_000


@pytest.mark.parametrize(
    ("facts", "tables", "name"),
    [
        ((wallet(coin("ETH", "-1")),), rows(), "market:linear:ETHUSDT"),
        ((short("1"),), None, "instrument:linear:BTCUSDT"),
        ((positions(position("1", instrument="linear:ETHUSDT")),),
         rows().having(linear("linear:ETHUSDT")), "market:linear:ETHUSDT"),
        ((short("1"),), rows().having(linear(tiers=())), "instrument:linear:BTCUSDT"),
        ((short("1", "0"),), rows(), "position:linear:BTCUSDT"),
        ((positions(position("1", instrument="spot:BTCUSDT")),),
         rows().having(tick(instrument="spot:BTCUSDT"),
                       linear("spot:BTCUSDT", settlement=Settlement.SPOT)),
         "position:spot:BTCUSDT"),
        ((positions(position("1", instrument="linear:BTCUSDC")),),
         rows().having(tick(instrument="linear:BTCUSDC"),
                       linear("linear:BTCUSDC", settle="USDC")), "market:linear:USDCUSDT"),
        ((), rows().having(CollateralTerms(coin="BTC", loan_tiers=(), margin_tiers=(),
                                           ts_seen_ms=0)), "terms:BTC"),
    ],
)
def test_what_cannot_be_left_out_makes_the_book_incomplete(facts, tables, name):
    """Debts, positions and the hedge's own coin must be known whole; what is missing is named."""
    if tables is None:
        tables = rows()
        tables.instruments.clear()
    book, missing = read(*facts, tables=tables)
    assert not book.is_whole and name in missing


def test_unread_facts_make_no_book():
    """Neither an unread wallet nor unread positions pass for empty."""
    assert not read_book(AccountView(), Sources(rows(), HEDGE)).is_whole
    half = fold(AccountView(), wallet())
    assert not read_book(half, Sources(rows(), HEDGE)).is_whole


def test_delta_and_equity_count_profit_once():
    """Inverse delta beside wallet balances is Q ÷ entry; equity is wallet plus profit at mark."""
    tables = all_rows(D(50_000))
    book = book_of(
        positions(position("-0.4"), position("-30000", instrument=INVERSE)), tables=tables
    )
    assert book.delta_of("BTC") == D("-0.4") - D(30_000) / D(60_000)
    assert book.delta_of("ETH") == 0
    assert book.equity_of("USDT") == 6_000 + D("0.4") * 10_000
    assert abs(book.equity_of("BTC") - D("0.2")) < D("1E-30")


# ---------------------------------------------------------------- the hedger's cap


@given(
    amounts("-2000", "20000", 2), amounts("0", "1"), amounts("0.001", "3", 3), prices(),
    amounts("0", "0.6", 2), prices(),
)
@example(D(0), D(0), D(1), D(50_000), D("0.25"), D(50_000))
def test_a_short_within_h_cap_keeps_the_stressed_ratio_within_one(usdt, btc, h, price, u, entry):
    """U + κ·b·P·(1+u) ≥ h·P·(u + (1+u)·m) + .04·max(0, h·P·u − U) ⟺ margin_ratio(+u) ≤ 1."""
    book = book_of(
        short(h, entry), wallet(coin("USDT", usdt), coin("BTC", btc)), tables=rows(price)
    )
    equity = usdt - h * (price - entry)
    room = equity + D("0.95") * btc * price * (1 + u)
    load = h * price * (u + (1 + u) * M) + D("0.04") * max(D(0), h * price * u - equity)
    assume(h * price * (1 + u) <= TIERS[0].notional_max)
    assume(abs(room - load) > D("1E-20"))
    ratio = margin_ratio(book, u)
    assert (ratio is not None and ratio <= 1) == (room >= load)
    pocket = kernels.Pocket(equity, D("0.95") * btc * price, -h * price)
    if ratio is not None:
        kernel = kernels.margin_ratio_after(
            pocket, u, maintenance_rate=M, borrow_rate=D("0.04"), maximum=max
        )
        assert abs(ratio - kernel) <= D("1E-24") * max(1, ratio)


@given(pockets(), prices(), amounts("-0.9", "2"))
def test_any_likely_pocket_has_a_ratio_or_none(facts, price, move):
    """Linear and inverse, owed coins, any move: a ratio ≥ 0 or None, never an exception."""
    sources = Sources(all_rows(price), HEDGE)
    view_ = AccountView()
    for fact in facts:
        view_ = fold(view_, fact)
    ratio = margin_ratio(read_book(view_, sources), move)
    assert ratio is None or ratio >= 0


# ---------------------------------------------------------------- tiers


@pytest.mark.parametrize(
    ("value", "at"), [("0", 0), ("2000000", 0), ("2000000.1", 1), ("3200000", 2), ("9999999", 2)]
)
def test_the_tier_is_the_smallest_that_holds_the_value(value, at):
    """A limit belongs to its own tier; beyond the last the last one stays."""
    assert tier_of(D(value), TIERS) == TIERS[at]


HELP_CENTER = """2000000 .005 0 | 2600000 .0056 1200 | 3200000 .0063 3020 | 3800000 .0067 4300
| 4400000 .0071 5820 | 5000000 .0077 8460 | 5600000 .0091 15460 | 8500000 .01 20500
| 10000000 .013 46000 | 14000000 .015 66000 | 20000000 .016 80000 | 28000000 .02 160000
| 38000000 .025 300000 | 50000000 .029 452000"""


def test_maintenance_is_continuous_over_the_tiers():
    """deduction_n = limit_{n−1} × (rate_n − rate_{n−1}) + deduction_{n−1}: no jump at an edge."""
    table = [tuple(map(D, row.split())) for row in HELP_CENTER.replace("\n", " ").split("|")]
    tiers = tuple(
        MarginTier(notional_max=limit, initial_rate=D("0.01"), maintenance_rate=rate, deduction=cut)
        for limit, rate, cut in table
    )
    for lower, upper in itertools.pairwise(tiers):
        edge = lower.notional_max
        below, above = (
            kernels.maintenance(edge, t.maintenance_rate, deduction=t.deduction, fee_rate=D(0))
            for t in (lower, upper)
        )
        assert below == above
        assert tier_of(edge, tiers) is lower and tier_of(edge + 1, tiers) is upper


def test_a_deduction_never_turns_maintenance_negative():
    """A tier whose deduction exceeds its margin (lost or broken data) needs at least nothing."""
    broken = (MarginTier(notional_max=D(100), initial_rate=D(1), maintenance_rate=D("0.01"),
                         deduction=D(5)),)
    line = book_of(short("0.001"), tables=rows().having(linear(tiers=broken))).positions[0]
    assert line.maintenance_at(D(60_000)) == 0


# ---------------------------------------------------------------- isolated vectors


def isolated(qty, *, is_inverse=False):
    """A position from 60,000 with the vectors' margin rate of .005."""
    found = inverse() if is_inverse else linear()
    return PositionLine(
        found.instrument, "BTC", found.settle, is_inverse, D(qty), D(60_000), D(60_000), D(1),
        found.taker_fee, found.tiers,
    )


@pytest.mark.parametrize(
    ("line", "price"),
    [
        (isolated("1"), "54271.36"), (isolated("-1"), "65671.64"),
        (isolated("60000", is_inverse=True), "54818.18"),
        (isolated("-60000", is_inverse=True), "66333.33"),
    ],
)
def test_isolated_liquidation_prices_meet_the_fact_sheet(line, price):
    """§8.5: E 60,000, 10×, maintenance .005, no deduction."""
    assert round(isolated_liquidation_price(line, leverage=D(10)), 2) == D(price)


def test_a_position_that_no_price_liquidates_has_none():
    """A 1× long linear and a 1× short inverse cannot be liquidated."""
    assert isolated_liquidation_price(isolated("1"), leverage=D(1)) is None
    line = isolated("-60000", is_inverse=True)
    assert isolated_liquidation_price(line, leverage=D(1)) is None


def test_added_margin_moves_the_price_away():
    """Margin on top takes the cliff further off, long and short."""
    for qty, sign in (("1", -1), ("-1", 1)):
        near = isolated_liquidation_price(isolated(qty), leverage=D(10))
        far = isolated_liquidation_price(isolated(qty), leverage=D(10), margin_added=D(1_000))
        assert (far - near) * sign > 0


def test_the_instrument_names_are_what_the_tables_use():
    """The examples above speak of the linear and the inverse BTC perpetual."""
    assert (linear().instrument, inverse().instrument) == (LINEAR, INVERSE)
