"""Routes of fixed-term crypto loans; lending out (supply) is not simulated."""

from __future__ import annotations

from hedgelock.simulator import fixed_loans
from hedgelock.simulator.api_loan import history, pledge_of
from hedgelock.simulator.debts import FixedLoan
from hedgelock.simulator.loans import FIXED_RATES, LENDABLE, LOAN_MAX
from hedgelock.simulator.money import text
from hedgelock.simulator.params import Params, amount, limit, need, optional, whole
from hedgelock.simulator.routes import LOAN_READ, LOAN_WRITE, PublicHandler, PublicRoute, Route
from hedgelock.simulator.state import Account, Exchange, Refused, Row


def borrow(x: Exchange, a: Account, params: Params) -> Row:
    """POST crypto-loan-fixed/borrow."""
    coin, qty = need(params, "orderCurrency"), amount(params, "orderAmount")
    repay_type = optional(params, "repayType", "1")
    if repay_type not in {"1", "2"}:
        raise Refused(10001, "params error: repayType invalid")
    terms = {
        "annual_rate": amount(params, "annualRate"), "days": whole(params, "term", 0),
        "repay_type": repay_type,
    }  # fmt: skip
    pledge = pledge_of(params)
    return {"orderId": fixed_loans.order(x, a, coin, amount=qty, terms=terms, pledge=pledge)}


def cancel(x: Exchange, a: Account, params: Params) -> Row:
    """POST crypto-loan-fixed/borrow-order-cancel."""
    fixed_loans.cancel_order(a, need(params, "orderId"))
    return {}


def _chosen(a: Account, params: Params) -> list[FixedLoan]:
    loan_id, coin = optional(params, "loanId"), optional(params, "loanCurrency")
    if not loan_id and not coin:
        raise Refused(10001, "params error: loanId or loanCurrency is required")
    return fixed_loans.chosen(a, loan_id=loan_id, coin=coin)


def repay(x: Exchange, a: Account, params: Params) -> Row:
    """POST crypto-loan-fixed/fully-repay."""
    return {"repayId": fixed_loans.repay(x, a, _chosen(a, params))}


def repay_collateral(x: Exchange, a: Account, params: Params) -> Row:
    """POST crypto-loan-fixed/repay-collateral."""
    coins = need(params, "collateralCoin").split(",")
    fixed_loans.repay_with_collateral(
        x, a, _chosen(a, params), amount=amount(params, "amount"), collateral=coins
    )
    return {}


def renew(x: Exchange, a: Account, params: Params) -> Row:
    """POST crypto-loan-fixed/renew."""
    before = need(params, "loanId")
    order_id, loan = fixed_loans.renew(x, a, before, pledge=pledge_of(params))
    a.fixed_renewals.append(
        {
            "amount": text(loan.borrowed), "autoRepay": int(loan.repay_type),
            "borrowCurrency": loan.coin, "contractNo": before, "dueTime": str(loan.due_ms),
            "loanId": before, "orderId": int(order_id), "renewLoanNo": loan.loan_id,
            "time": str(x.now_ms),
        }
    )  # fmt: skip
    return {"orderId": order_id}


def contracts(x: Exchange, a: Account, params: Params) -> Row:
    """GET crypto-loan-fixed/borrow-contract-info, newest first."""
    rows = [
        {
            "loanId": loan.loan_id, "orderId": loan.order_id, "borrowCurrency": loan.coin,
            "borrowTime": str(loan.borrowed_ms), "annualRate": text(loan.annual_rate),
            "autoRepay": "true" if loan.repay_type == "1" else "false",
            "interestPaid": text(loan.interest_paid), "repaymentTime": str(loan.due_ms),
            "residualPrincipal": text(loan.principal),
            "residualPenaltyInterest": text(loan.penalty),
            "status": fixed_loans.status(x, loan), "term": str(loan.term_days),
            "repayType": loan.repay_type,
        }
        for loan in a.fixed_loans
    ]  # fmt: skip
    return history(
        rows,
        params,
        orderId="orderId",
        loanId="loanId",
        borrowCurrency="orderCurrency",
        term="term",
    )


def orders(x: Exchange, a: Account, params: Params) -> Row:
    """GET crypto-loan-fixed/borrow-order-info, newest first."""
    return history(
        a.fixed_orders, params,
        orderId="orderId", orderCurrency="orderCurrency", state="state", term="term",
    )  # fmt: skip


def repayments(x: Exchange, a: Account, params: Params) -> Row:
    """GET crypto-loan-fixed/repayment-history, newest first."""
    return history(a.fixed_repayments, params, repayId="repayId", loanCurrency="loanCurrency")


def renewals(x: Exchange, a: Account, params: Params) -> Row:
    """GET crypto-loan-fixed/renew-info, newest first."""
    return history(a.fixed_renewals, params, orderId="orderId", borrowCurrency="orderCurrency")


def quotes(x: Exchange, params: Params) -> Row:
    """GET crypto-loan-fixed/borrow-order-quote: what lenders offer."""
    coin, by = need(params, "orderCurrency"), need(params, "orderBy")
    if by not in {"apy", "term", "quantity"}:
        raise Refused(10001, "params error: orderBy invalid")
    wanted = whole(params, "term", 0)
    rows = [
        {
            "orderCurrency": coin, "term": days, "annualRate": text(rate),
            "qty": text(x.loan_pool.get(coin, LOAN_MAX)),
        }
        for days, rate in FIXED_RATES.items()
        if coin in LENDABLE and wanted in {0, days}
    ]  # fmt: skip
    if optional(params, "sort", "0") == "1":  # rates, like terms, ascend by themselves
        rows.reverse()
    return {"list": rows[: limit(params, default=10, most=100)]}


FIXED = "/v5/crypto-loan-fixed"
PUBLIC: dict[str, PublicHandler] = {f"{FIXED}/borrow-order-quote": quotes}
ODD: dict[str, PublicRoute] = {f"{FIXED}/borrow-order-quote": PublicRoute("ok")}
PRIVATE: dict[tuple[str, str], Route] = {
    ("POST", f"{FIXED}/borrow"): Route(borrow, LOAN_WRITE, "ok"),
    ("POST", f"{FIXED}/borrow-order-cancel"): Route(cancel, LOAN_WRITE, "ok"),
    ("POST", f"{FIXED}/fully-repay"): Route(repay, LOAN_WRITE, "ok"),
    ("POST", f"{FIXED}/repay-collateral"): Route(repay_collateral, LOAN_WRITE, "ok"),
    ("POST", f"{FIXED}/renew"): Route(renew, LOAN_WRITE, "ok"),
    ("GET", f"{FIXED}/borrow-contract-info"): Route(contracts, LOAN_READ, "ok"),
    ("GET", f"{FIXED}/borrow-order-info"): Route(orders, LOAN_READ, "ok"),
    ("GET", f"{FIXED}/repayment-history"): Route(repayments, LOAN_READ, "ok"),
    ("GET", f"{FIXED}/renew-info"): Route(renewals, LOAN_READ, "ok"),
}
