"""The crypto loan at live prices: what is owed, what the pledge counts for, where it is liquidated.

LTV = Σ debts in quote ÷ Σ counted collateral, counted = each coin's amount through the venue's loan
ratio tiers × its index price. The naive value (no ratio) is for display only. Source: fact sheet
§7.1; DESIGN §5.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from hedgelock.domain import kernels
from hedgelock.domain.account import AccountView
from hedgelock.domain.instrument import counted_qty
from hedgelock.domain.money import ZERO, saturate
from hedgelock.domain.sources import Sources


class LoanLine(NamedTuple):
    """What is owed and pledged in one coin. `instrument` prices it ("" = the quote coin, 1)."""

    coin: str
    instrument: str
    debt_qty: Decimal
    collateral_qty: Decimal
    counted_qty: Decimal
    price: Decimal


class LoanBook(NamedTuple):
    """The crypto loan, priced at the index. Values in quote; partial when `is_whole` is false."""

    lines: tuple[LoanLine, ...]
    debt_value: Decimal
    counted_value: Decimal
    collateral_value: Decimal
    is_whole: bool
    is_uncovered: bool
    """Something is owed and nothing that is pledged counts: LTV is infinite."""


def read_loan(view: AccountView, sources: Sources) -> LoanBook:
    """The loan as facts and tables show it; what is needed and not there is noted in `sources`."""
    loan = view.loan
    if loan is None:
        return LoanBook((), ZERO, ZERO, ZERO, is_whole=False, is_uncovered=False)
    owed: dict[str, Decimal] = {}
    pledged: dict[str, Decimal] = {}
    for debt in loan.debts:
        owed[debt.coin] = owed.get(debt.coin, ZERO) + debt.qty
    for pledge in loan.collateral:
        pledged[pledge.coin] = pledged.get(pledge.coin, ZERO) + pledge.qty
    lines = []
    whole, owes, pledges = True, False, False
    debt_value = counted_value = collateral_value = ZERO
    for coin in owed | pledged:
        debt_qty, pledged_qty = owed.get(coin, ZERO), pledged.get(coin, ZERO)
        if not debt_qty and not pledged_qty:
            continue
        owes, pledges = owes or debt_qty > 0, pledges or pledged_qty > 0
        line = _loan_line(coin, debt_qty, pledged_qty, sources)
        if line is None:
            whole = False
            continue
        lines.append(line)
        debt_value += debt_qty * line.price
        counted_value += line.counted_qty * line.price
        collateral_value += pledged_qty * line.price
    uncovered = owes and (not pledges or (whole and not counted_value))
    return LoanBook(tuple(lines), debt_value, counted_value, collateral_value, whole, uncovered)


def _loan_line(
    coin: str, debt_qty: Decimal, collateral_qty: Decimal, sources: Sources
) -> LoanLine | None:
    price = sources.price(coin)
    counted = ZERO
    if collateral_qty:
        terms = sources.terms(coin)
        if terms is None or not terms.loan_tiers:
            # The venue took it as collateral, so it has ratios: none means that we lost them.
            sources.missing[f"terms:{coin}"] = None
            return None
        counted = counted_qty(collateral_qty, terms.loan_tiers)
    if price is None:
        return None
    instrument = "" if coin == sources.hedge.quote else sources.pricing(coin)
    return LoanLine(coin, instrument, debt_qty, collateral_qty, counted, price)


def ltv_of(loan: LoanBook) -> Decimal | None:
    """LTV of a loan, ≥ 0; None = infinite (`is_uncovered`) or not computable. No debt is 0."""
    if not loan.is_whole or loan.is_uncovered:
        return None
    if not loan.debt_value:
        return ZERO
    return saturate(kernels.ltv(loan.debt_value, loan.counted_value))


def liquidation_price(
    debt_value: Decimal, counted_coins: Decimal, *,
    ltv_liquidation: Decimal, other_value: Decimal = ZERO,
) -> Decimal | None:
    """The coin's index price at which LTV = `ltv_liquidation`, all other prices standing still.

    P = (D ÷ L − other counted value) ÷ counted coins. 0 = no price of this coin does it; None =
    every price does: the coin counts for nothing and the rest does not carry the debt. L > 0.
    """
    uncovered = debt_value / ltv_liquidation - other_value
    if uncovered <= 0:
        return ZERO
    return saturate(uncovered / counted_coins) if counted_coins else None
