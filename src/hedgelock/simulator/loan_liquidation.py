"""Margin call and liquidation of the crypto loan, by its LTV at index.

    ≥ ltv_margin_call   the account is warned, once until it is below again
    ≥ ltv_delayed       liquidated when it stays there for `delayed_s` (None: never)
    ≥ ltv_liquidation   liquidated at once

Collateral is sold at index in the order of its liquidation, the fee (a fraction of what is repaid)
is taken in collateral too, and what is left goes back to FUND. With `liquidation_target` only so
much is sold that the LTV is that again. Source: fact sheet §7.1; "delayed" is not documented in
detail, hence the option.
"""

from __future__ import annotations

from decimal import Decimal

from hedgelock.simulator import loans
from hedgelock.simulator.money import INSURANCE, LENDER, ONE, ZERO, grain
from hedgelock.simulator.state import Account, Exchange

BY_LIMIT, BY_DELAY = 2, 6  # repayType of the repayment history
WORST = Decimal(999)


def lowest_limit(x: Exchange) -> Decimal:
    """The LTV below which nothing happens to a loan."""
    terms = x.scenario.loan
    levels = [terms.ltv_margin_call, terms.ltv_liquidation]
    return min([*levels, terms.ltv_delayed] if terms.delayed_s is not None else levels)


def liquidate_loan(x: Exchange, account: Account) -> Decimal:
    """Warn or liquidate where the LTV demands it; returns the LTV found, before any of it."""
    level = min(loans.ltv(x, account), WORST)
    account.ltv_max = max(account.ltv_max, level)
    terms = x.scenario.loan
    if level < terms.ltv_margin_call:
        account.margin_called_ms = 0
    elif not account.margin_called_ms:
        account.margin_called_ms = x.now_ms
    if level < terms.ltv_delayed:
        account.delayed_since_ms = 0
    elif not account.delayed_since_ms:
        account.delayed_since_ms = x.now_ms
    if level >= terms.ltv_liquidation:
        _liquidate(x, account, kind=BY_LIMIT)
    elif terms.delayed_s is not None and account.delayed_since_ms:
        stayed_s = (x.now_ms - account.delayed_since_ms) / 1000
        if stayed_s >= terms.delayed_s:
            _liquidate(x, account, kind=BY_DELAY)
    return level


def _liquidate(x: Exchange, account: Account, *, kind: int) -> None:
    account.loan_liquidated_ms = x.now_ms
    share = _share(x, account)
    for coin, debt in loans.obligations(account):
        owed = debt.total if share == ONE else grain(debt.total * share)
        if not owed:
            continue
        everything = list(x.ledger.coins(account.pledged))
        paid = loans.sell_collateral(x, account, coin, amount=owed, order=everything)
        if paid < owed and share == ONE:  # the lender is made whole, the insurance pays the gap
            x.ledger.move(coin, owed - paid, source=INSURANCE, target=LENDER)
            paid = owed
        loans.book_repayment(x, account, coin, debt, amount=paid, kind=kind)
    if share < ONE:
        return
    for coin, rest in x.ledger.coins(account.pledged).items():
        x.ledger.move(coin, rest, source=account.pledged, target=account.fund)


def _share(x: Exchange, account: Account) -> Decimal:
    """Part of the debt to be repaid: all, or so much that the LTV is the target again.

    With r USD repaid out of collateral of the mean ratio κ, LTV = (D − r) ÷ (V − κ·(1 + fee)·r).
    """
    target = x.scenario.loan.liquidation_target
    if target is None:
        return ONE
    held = x.ledger.coins(account.pledged)
    owed, value = loans.debt_usd(x, account), loans.collateral_usd(x, held)
    worth = sum((amount * x.price(coin) for coin, amount in held.items()), ZERO)
    ratio = value / worth if worth else ZERO
    slope = ONE - target * ratio * (1 + x.scenario.loan.liquidation_fee)
    if slope <= 0 or not owed:
        return ONE
    return min(ONE, max(ZERO, (owed - target * value) / slope / owed))
