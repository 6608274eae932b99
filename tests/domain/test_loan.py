"""The loan at live prices."""

from __future__ import annotations

from decimal import Decimal as D

import pytest
from hypothesis import given
from strategies import amounts, loan, policy, prices, rows, terms, tick, view

from hedgelock.domain.account import AccountView, LoanCollateral, LoanDebt
from hedgelock.domain.instrument import CollateralTerms
from hedgelock.domain.loan import liquidation_price, ltv_of, read_loan
from hedgelock.domain.sources import Sources


def read(fact, tables):
    """The loan book of one fact and the names of what was missing."""
    sources = Sources(tables, policy().hedge)
    return read_loan(view(fact), sources), list(sources.missing)


def test_ltv_is_debt_over_counted_collateral():
    """36,600 USDT on 1 BTC at 60,000 counted in full is .61."""
    book, missing = read(loan(), rows())
    assert (book.debt_value, book.counted_value, book.collateral_value) == (36_600, 60_000, 60_000)
    assert ltv_of(book) == D("0.61") and missing == []


def test_the_tiered_ratio_counts_and_the_naive_value_is_for_display():
    """At a ratio of .9 the same debt is a ninth more LTV."""
    book, _ = read(loan(), rows().having(terms(loan="0.9")))
    assert (book.counted_value, book.collateral_value) == (54_000, 60_000)
    assert ltv_of(book) == D(36_600) / D(54_000)


def test_several_coins_add_up():
    """Debts and pledges in several coins are each taken at their own price, USDT at 1."""
    fact = loan("10000", "1", others=[("ETH", "2"), ("USDT", "500")])
    owed = LoanDebt(coin="ETH", qty=D(1), hourly_rate=D(0))
    fact = type(fact)(**{f: getattr(fact, f) for f in fact.__struct_fields__}
                      | {"debts": (*fact.debts, owed)})
    tables = rows().having(
        tick("3000", instrument="linear:ETHUSDT"), terms("ETH", loan="0.8"), terms("USDT")
    )
    book, missing = read(fact, tables)
    assert book.debt_value == 10_000 + 3_000
    assert book.counted_value == 60_000 + 2 * 3_000 * D("0.8") + 500
    assert missing == []


def test_no_debt_is_no_risk():
    """LTV is 0 without debt, pledged coins or not."""
    assert ltv_of(read(loan("0"), rows())[0]) == 0
    assert ltv_of(read(loan("0", "0"), rows())[0]) == 0


@pytest.mark.parametrize(
    ("btc", "tables"),
    [("0", rows()), ("1", rows().having(terms(loan="0")))], ids=["nothing pledged", "ratio 0"],
)
def test_debt_without_counted_collateral_is_infinite(btc, tables):
    """Never 0: nothing pledged, or nothing of it counted, leaves the debt uncovered."""
    book, _ = read(loan(btc=btc), tables)
    assert book.is_uncovered and ltv_of(book) is None


def test_what_cannot_be_priced_is_no_ltv_and_is_named():
    """A missing price, missing terms or lost tiers: not computable, and said which."""
    tables = rows()
    tables.markets.clear()
    book, missing = read(loan(), tables)
    assert not book.is_whole and not book.is_uncovered and ltv_of(book) is None
    assert missing == ["market:linear:BTCUSDT"]
    lost = CollateralTerms(coin="BTC", loan_tiers=(), margin_tiers=(), ts_seen_ms=0)
    book, missing = read(loan(), rows().having(lost))
    assert not book.is_whole and not book.is_uncovered and missing == ["terms:BTC"]
    tables = rows()
    tables.collateral.clear()
    assert read(loan(), tables)[1] == ["terms:BTC"]


def test_an_unread_loan_is_neither_safe_nor_uncovered():
    """Before the first read nothing is known, so nothing is claimed."""
    book = read_loan(AccountView(), Sources(rows(), policy().hedge))
    assert not book.is_whole and not book.is_uncovered and ltv_of(book) is None


@given(prices(), prices(), amounts("1", "90000"), amounts("0.001", "3"))
def test_ltv_falls_when_the_price_rises(left, right, debt, btc):
    """More valuable collateral never means a higher LTV."""
    low, high = sorted((left, right))
    at_low, at_high = (ltv_of(read(loan(debt, btc), rows(p))[0]) for p in (low, high))
    assert at_low >= at_high > 0


def test_several_rows_of_one_coin_are_one_line():
    """Flexible and fixed loans of a coin add up."""
    fact = loan()
    fields = {f: getattr(fact, f) for f in fact.__struct_fields__}
    fields["debts"] *= 2
    fields["collateral"] = (*fact.collateral, LoanCollateral(coin="BTC", qty=D(1)))
    book, _ = read(type(fact)(**fields), rows())
    assert (book.debt_value, book.counted_value) == (73_200, 120_000)


@pytest.mark.parametrize(
    ("debt", "coins", "other", "price"),
    [("36100", "1", "0", "38000"), ("36100", "0.95", "0", "40000"), ("36100", "1", "38000", "0"),
     ("36100", "1", "90000", "0"), ("36100", "0", "0", None), ("0", "0", "0", "0"),
     ("36100", "1", "18000", "20000")],
)
def test_the_price_at_which_the_loan_is_liquidated(debt, coins, other, price):
    """P = (D ÷ .95 − the rest) ÷ counted coins; 0 = never by this coin; None = at any price."""
    found = liquidation_price(
        D(debt), D(coins), ltv_liquidation=D("0.95"), other_value=D(other)
    )
    assert found == (None if price is None else D(price))
