"""Fixed-term crypto loans: borrow orders, contracts, their end, penalty, renewal.

Interest of the whole term = principal × annual rate × days ÷ 365, taken out of what is paid out.
When due, a loan is repaid from FUND (type 1) or becomes a flexible debt (type 2). What FUND cannot
repay is overdue: after a day of grace it costs three times its hourly rate.
"""

from __future__ import annotations

from decimal import Decimal

from hedgelock.simulator.debts import Debt, FixedLoan
from hedgelock.simulator.loan_actions import (
    check_lendable,
    check_pledge,
    check_worth,
    ltv_with,
    move_pledge,
    need_fund,
    pay_out,
    refuse_conflict,
)
from hedgelock.simulator.loans import FIXED_RATES, book_repayment, sell_collateral
from hedgelock.simulator.money import LENDER, ZERO, grain, text
from hedgelock.simulator.state import Account, Exchange, Refused, Row

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
GRACE_MS = DAY_MS
PENALTY_FACTOR = 3
YEAR_DAYS = 365
BY_USER, AUTO, OVERDUE, BY_CURRENCY, TO_FLEXIBLE = 1, 3, 4, 7, 8  # types of repayment


def order(
    x: Exchange, account: Account, coin: str, *, amount: Decimal, terms: Row,
    pledge: dict[str, Decimal],
) -> str:  # fmt: skip
    """Ask for a loan; `terms` = annual_rate, days, repay_type. Returns the order id.

    A rate at or above the market's finds a lender at once; a lower one keeps waiting.
    """
    refuse_conflict(account)
    check_lendable(x, account, coin, amount)
    if terms["days"] not in FIXED_RATES:
        raise Refused(148015, "Loan term exceeds the allowed range.")
    check_pledge(x, account, pledge)
    if ltv_with(x, account, pledge, amount * x.price(coin)) > x.scenario.loan.ltv_initial:
        raise Refused(148009, "LTV exceeds the risk threshold.")
    number = 13_000 + x.serial()
    row: Row = {
        "orderId": number, "orderCurrency": coin, "orderQty": text(amount), "filledQty": "0",
        "annualRate": text(terms["annual_rate"]), "orderTime": str(x.now_ms), "state": 1,
        "term": terms["days"], "repayType": terms["repay_type"],
    }  # fmt: skip
    account.fixed_orders.append(row)
    if terms["annual_rate"] >= FIXED_RATES[terms["days"]]:
        move_pledge(x, account, pledge)
        _begin(x, account, row, amount)
    return str(number)


def cancel_order(account: Account, order_id: str) -> None:
    """Cancel an order that still waits for a lender."""
    for row in account.fixed_orders:
        if str(row["orderId"]) == order_id:
            if row["state"] != 1:
                break
            row["state"] = 4
            return
    else:
        raise Refused(148023, "Loan order not found.")
    raise Refused(148024, "Loan cancellation failed: the order may have been completed.")


def _begin(x: Exchange, account: Account, row: Row, amount: Decimal) -> None:
    rate, days, coin = Decimal(row["annualRate"]), row["term"], row["orderCurrency"]
    interest = grain(amount * rate * days / YEAR_DAYS)
    pay_out(x, account, coin, amount)
    x.ledger.move(coin, interest, source=account.fund, target=LENDER)
    row |= {"state": 3, "filledQty": text(amount)}
    loan = FixedLoan(
        loan_id=str(500 + x.serial()), order_id=str(row["orderId"]), coin=coin, borrowed=amount,
        principal=amount, interest_paid=interest, annual_rate=rate, term_days=days,
        borrowed_ms=x.now_ms, due_ms=x.now_ms + days * DAY_MS, repay_type=row["repayType"],
    )  # fmt: skip
    account.fixed_loans.append(loan)
    x.later(days * DAY_MS, lambda: _fall_due(x, account, loan))


def _fall_due(x: Exchange, account: Account, loan: FixedLoan) -> None:
    if not loan.total:
        return
    if loan.repay_type == "2":
        amount = loan.total
        account.debts.setdefault(loan.coin, Debt()).principal += amount
        book_repayment(x, account, loan.coin, loan, amount=amount, kind=TO_FLEXIBLE)
        return
    _collect(x, account, loan, kind=AUTO)
    if loan.total:
        x.later(HOUR_MS, lambda: _chase(x, account, loan))


def _chase(x: Exchange, account: Account, loan: FixedLoan) -> None:
    """Each hour that a loan is overdue: fine it once the grace is over, take what FUND has."""
    if not loan.total:
        return
    if x.now_ms > loan.due_ms + GRACE_MS:
        hourly = loan.annual_rate / YEAR_DAYS / 24
        loan.penalty += grain(loan.principal * hourly * PENALTY_FACTOR)
    _collect(x, account, loan, kind=OVERDUE)
    if loan.total:
        x.later(HOUR_MS, lambda: _chase(x, account, loan))


def _collect(x: Exchange, account: Account, loan: FixedLoan, *, kind: int) -> None:
    amount = min(loan.total, max(ZERO, x.ledger.balance(account.fund, loan.coin)))
    if amount:
        x.ledger.move(loan.coin, amount, source=account.fund, target=LENDER)
        book_repayment(x, account, loan.coin, loan, amount=amount, kind=kind)


def status(x: Exchange, loan: FixedLoan) -> int:
    """1 open, 2 repaid, 3 overdue."""
    if not loan.total:
        return 2
    return 3 if x.now_ms > loan.due_ms else 1


def chosen(account: Account, *, loan_id: str, coin: str) -> list[FixedLoan]:
    """Open loans by id, or all of a coin: the one due first goes first."""
    found = [
        loan
        for loan in account.fixed_loans
        if loan.total and (loan.loan_id == loan_id if loan_id else loan.coin == coin)
    ]
    if not found:
        raise Refused(148032, "No outstanding debt. Repayment is not allowed.")
    return sorted(found, key=lambda loan: (loan.due_ms, -loan.annual_rate))


def repay(x: Exchange, account: Account, loans: list[FixedLoan]) -> str:
    """Repay loans in full from FUND; returns the id of the (last) repayment."""
    refuse_conflict(account)
    coin, amount = loans[0].coin, sum((loan.total for loan in loans), ZERO)
    need_fund(x, account, coin, amount, code=148029)
    repay_id = ""
    for loan in loans:
        due = loan.total
        x.ledger.move(coin, due, source=account.fund, target=LENDER)
        repay_id = book_repayment(x, account, coin, loan, amount=due, kind=BY_USER)
    return repay_id


def repay_with_collateral(
    x: Exchange, account: Account, loans: list[FixedLoan], *, amount: Decimal, collateral: list[str]
) -> None:
    """Repay by selling collateral at index, loans in the given order."""
    refuse_conflict(account)
    coin = loans[0].coin
    if amount > sum((loan.total for loan in loans), ZERO):
        raise Refused(148038, "Repayment amount cannot exceed the debt amount of the position.")
    check_worth(x, account, coin, amount=amount, collateral=collateral)
    for loan in loans:
        part = min(amount, loan.total)
        if part > 0:
            paid = sell_collateral(x, account, coin, amount=part, order=collateral)
            book_repayment(x, account, coin, loan, amount=paid, kind=BY_CURRENCY)
            amount -= paid


def renew(
    x: Exchange, account: Account, loan_id: str, *, pledge: dict[str, Decimal]
) -> tuple[str, FixedLoan]:
    """Borrow again what a repaid loan lent, on its terms; (order id, the new loan)."""
    for loan in account.fixed_loans:
        if loan.loan_id == loan_id:
            break
    else:
        raise Refused(148023, "Loan order not found.")
    if loan.total or loan.renewed:
        raise Refused(148033, "This loan order cannot be renewed.")
    terms: Row = {
        "annual_rate": loan.annual_rate, "days": loan.term_days, "repay_type": loan.repay_type,
    }  # fmt: skip
    order_id = order(x, account, loan.coin, amount=loan.borrowed, terms=terms, pledge=pledge)
    loan.renewed = True
    return order_id, account.fixed_loans[-1]
