"""Private routes of the crypto loan."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from hedgelock.simulator import loan_actions, loans
from hedgelock.simulator.money import text
from hedgelock.simulator.params import Params, amount, limit, need, optional, page
from hedgelock.simulator.routes import LOAN_READ, LOAN_WRITE, Route
from hedgelock.simulator.state import Account, Exchange, Refused, Row


def position(x: Exchange, a: Account, params: Params) -> Row:
    """GET crypto-loan-common/position."""
    return loans.position_row(x, a)


def reducible(x: Exchange, a: Account, params: Params) -> Row:
    """GET crypto-loan-common/max-collateral-amount."""
    coin = need(params, "currency")
    return {"maxCollateralAmount": text(loans.collateral_reducible(x, a, coin))}


def adjust_ltv(x: Exchange, a: Account, params: Params) -> Row:
    """POST crypto-loan-common/adjust-ltv."""
    direction = need(params, "direction")
    if direction not in {"0", "1"}:
        raise Refused(10001, "params error: direction invalid")
    coin, qty = need(params, "currency"), amount(params, "amount")
    return {"adjustId": loan_actions.adjust(x, a, coin, amount=qty, add=direction == "0")}


def pledge_of(params: Params) -> dict[str, Decimal]:
    """The `collateralList`: a list or, as some samples send it, one object."""
    given = params.get("collateralList") or []
    items = [given] if isinstance(given, dict) else given
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise Refused(10001, "params error: collateralList invalid")
    if len(items) > PLEDGES_MAX:
        raise Refused(10001, "params error: at most 100 collaterals")
    pledge: dict[str, Decimal] = {}
    for item in items:
        coin = optional(item, "currency") or need(item, "ccy")
        if coin in pledge:
            raise Refused(148039, "Duplicate collateral assets detected.")
        pledge[coin] = amount(item, "amount")
    return pledge


def max_loan(x: Exchange, a: Account, params: Params) -> Row:
    """POST crypto-loan-common/max-loan: what could be borrowed with more collateral from FUND."""
    coin = need(params, "currency")
    most, quota = loan_actions.max_loan(x, a, coin, pledge_of(params))
    return {
        "currency": coin, "maxLoan": text(most), "notionalUsd": text(most * x.price(coin)),
        "remainingQuota": text(quota),
    }  # fmt: skip


def borrow(x: Exchange, a: Account, params: Params) -> Row:
    """POST crypto-loan-flexible/borrow."""
    coin, qty = need(params, "loanCurrency"), amount(params, "loanAmount")
    return {"orderId": loan_actions.borrow(x, a, coin, amount=qty, pledge=pledge_of(params))}


def repay(x: Exchange, a: Account, params: Params) -> Row:
    """POST crypto-loan-flexible/repay."""
    coin = need(params, "loanCurrency")
    # the table of the documentation says `amount`, its client says `loanAmount`
    qty = amount(params, "amount" if optional(params, "amount") else "loanAmount")
    return {"repayId": loan_actions.repay(x, a, coin, amount=qty)}


def repay_collateral(x: Exchange, a: Account, params: Params) -> Row:
    """POST crypto-loan-flexible/repay-collateral."""
    coins = need(params, "collateralCoin").split(",")
    loan_actions.repay_with_collateral(
        x, a, need(params, "loanCurrency"), amount=amount(params, "amount"), collateral=coins
    )
    return {}


def ongoing(x: Exchange, a: Account, params: Params) -> Row:
    """GET crypto-loan-flexible/ongoing-coin."""
    wanted = optional(params, "loanCurrency")
    return {
        "list": [
            {
                "loanCurrency": coin,
                "hourlyInterestRate": text(x.scenario.loan.hourly_rate),
                "totalDebt": text(debt.total),
                "unpaidAmount": text(debt.principal),
                "unpaidInterest": text(debt.interest),
            }
            for coin, debt in a.debts.items()
            if debt.total and wanted in {"", coin}
        ]
    }


def history(rows: Sequence[Row], params: Params, **names: str) -> Row:
    """A page of `rows` whose fields equal the parameters; `names` maps field → parameter."""
    wanted = {field: optional(params, name) for field, name in names.items()}

    def keep(row: Row) -> bool:
        return all(str(row[field]) == value for field, value in wanted.items() if value)

    size = limit(params, default=10, most=100)
    picked, cursor = page(rows, params, size=size, keep=keep)
    return {"list": picked, "nextPageCursor": cursor}


def borrow_history(x: Exchange, a: Account, params: Params) -> Row:
    """GET crypto-loan-flexible/borrow-history."""
    return history(a.borrows, params, orderId="orderId", loanCurrency="loanCurrency")


def repayment_history(x: Exchange, a: Account, params: Params) -> Row:
    """GET crypto-loan-flexible/repayment-history."""
    return history(a.repayments, params, repayId="repayId", loanCurrency="loanCurrency")


def adjustment_history(x: Exchange, a: Account, params: Params) -> Row:
    """GET crypto-loan-common/adjustment-history."""
    return history(
        a.adjustments, params, adjustId="adjustId", collateralCurrency="collateralCurrency"
    )


PLEDGES_MAX = 100
LOAN, FLEX = "/v5/crypto-loan-common", "/v5/crypto-loan-flexible"
PRIVATE: dict[tuple[str, str], Route] = {
    ("GET", f"{LOAN}/position"): Route(position, LOAN_READ, "ok"),
    ("GET", f"{LOAN}/max-collateral-amount"): Route(reducible, LOAN_READ, "ok"),
    ("POST", f"{LOAN}/max-loan"): Route(max_loan, LOAN_READ, "ok"),
    ("POST", f"{LOAN}/adjust-ltv"): Route(adjust_ltv, LOAN_WRITE, "ok"),
    ("GET", f"{LOAN}/adjustment-history"): Route(adjustment_history, LOAN_READ, "ok"),
    ("POST", f"{FLEX}/borrow"): Route(borrow, LOAN_WRITE, "ok"),
    ("POST", f"{FLEX}/repay"): Route(repay, LOAN_WRITE, "ok"),
    ("POST", f"{FLEX}/repay-collateral"): Route(repay_collateral, LOAN_WRITE, "ok"),
    ("GET", f"{FLEX}/ongoing-coin"): Route(ongoing, LOAN_READ, "ok"),
    ("GET", f"{FLEX}/borrow-history"): Route(borrow_history, LOAN_READ, "ok"),
    ("GET", f"{FLEX}/repayment-history"): Route(repayment_history, LOAN_READ, "ok"),
}
