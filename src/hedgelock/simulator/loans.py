"""The new crypto loan (flexible): shared collateral pledged out of FUND, LTV, liquidation."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from hedgelock.simulator.margin import loan_to_value, tiered
from hedgelock.simulator.money import HOUSE, INSURANCE, LENDER, ZERO, grain, text
from hedgelock.simulator.state import Account, Debt, Exchange, Refused, Row

RATIO_DIGITS = Decimal("0.000001")


def collateral_usd(x: Exchange, amounts: Mapping[str, Decimal]) -> Decimal:
    """Value of collateral in USD after the loan's tiered ratios."""
    ratios = x.scenario.loan.collateral_ratio
    return sum((tiered(a, ratios.get(c, ())) * x.price(c) for c, a in amounts.items()), ZERO)


def debt_usd(x: Exchange, account: Account) -> Decimal:
    """Principal and interest of all coins in USD."""
    return sum((d.total * x.price(c) for c, d in account.debts.items()), ZERO)


def ltv(x: Exchange, account: Account) -> Decimal:
    """The loan's LTV, marked at index."""
    return loan_to_value(debt_usd(x, account), collateral_usd(x, x.ledger.coins(account.pledged)))


def position_row(x: Exchange, account: Account) -> Row:
    """Result of crypto-loan-common/position."""
    held = x.ledger.coins(account.pledged)
    return {
        "borrowList": [
            {
                "loanCurrency": coin, "flexibleTotalDebt": text(debt.total),
                "flexibleTotalDebtUSD": text(debt.total * x.price(coin)),
                "flexibleHourlyInterestRate": text(x.scenario.loan.hourly_rate),
                "fixedTotalDebt": "0", "fixedTotalDebtUSD": "0",
            }
            for coin, debt in account.debts.items()
            if debt.total
        ],
        "collateralList": [
            {
                "currency": coin, "amount": text(amount),
                "amountUSD": text(grain(collateral_usd(x, {coin: amount}))),
            }
            for coin, amount in held.items()
        ],
        "supplyList": [], "totalDebt": text(debt_usd(x, account)),
        "totalCollateral": text(grain(collateral_usd(x, held))), "totalSupply": "0",
        "ltv": text(ltv(x, account).quantize(RATIO_DIGITS)), "colRes": "0",
    }  # fmt: skip


def borrow(
    x: Exchange, account: Account, coin: str, *, amount: Decimal, pledge: Mapping[str, Decimal]
) -> str:
    """Lend `amount` into FUND, pledging `pledge` from FUND first; returns the order id."""
    terms = x.scenario.loan
    if coin != "USDT":
        raise Refused(148001, "This currency is not supported.")
    if amount < terms.amount_min:
        raise Refused(148006, "The loan amount is below the minimum.")
    for pledged_coin, qty in pledge.items():
        _need_fund(x, account, pledged_coin, qty, code=148012)
    after = dict(x.ledger.coins(account.pledged))
    for pledged_coin, qty in pledge.items():
        after[pledged_coin] = after.get(pledged_coin, ZERO) + qty
    debt_after = debt_usd(x, account) + amount * x.price(coin)
    if loan_to_value(debt_after, collateral_usd(x, after)) > terms.ltv_initial:
        raise Refused(148009, "The LTV after borrowing would exceed the initial LTV.")
    for pledged_coin, qty in pledge.items():
        x.ledger.move(pledged_coin, qty, source=account.fund, target=account.pledged)
    amount = x.ledger.move(coin, amount, source=LENDER, target=account.fund)
    account.debts.setdefault(coin, Debt()).principal += amount
    order_id = str(1_900_000_000_000 + x.serial())
    account.borrows.append(
        {
            "orderId": order_id, "loanCurrency": coin, "initialLoanAmount": text(amount),
            "borrowTime": x.now_ms, "status": 1,
        }
    )  # fmt: skip
    return order_id


def repay(x: Exchange, account: Account, coin: str, *, amount: Decimal) -> str:
    """Repay from FUND, interest first; returns the repay id."""
    debt = _owed(account, coin, amount)
    _need_fund(x, account, coin, amount, code=148029)
    amount = x.ledger.move(coin, amount, source=account.fund, target=LENDER)
    return book_repayment(x, account, coin, debt, amount=amount, kind=1)


def repay_with_collateral(
    x: Exchange, account: Account, coin: str, *, amount: Decimal, collateral: list[str]
) -> str:
    """Repay by selling collateral at index; the fee is taken in collateral too."""
    debt = _owed(account, coin, amount)
    fee_rate = x.scenario.loan.liquidation_fee
    held = x.ledger.coins(account.pledged)
    worth = sum((held.get(c, ZERO) * x.price(c) for c in collateral), ZERO)
    if worth < amount * x.price(coin) * (1 + fee_rate):
        raise Refused(148012, "The collateral is not enough.")
    paid = sell_collateral(x, account, coin, amount=amount, order=collateral)
    return book_repayment(x, account, coin, debt, amount=paid, kind=7)


def adjust(x: Exchange, account: Account, coin: str, *, amount: Decimal, add: bool) -> int:
    """Pledge more collateral from FUND, or take some back; returns the adjust id."""
    if coin not in x.scenario.loan.collateral_ratio:
        raise Refused(148002, "This currency cannot be collateral.")
    before = ltv(x, account)
    if add:
        _need_fund(x, account, coin, amount, code=148012)
        x.ledger.move(coin, amount, source=account.fund, target=account.pledged)
    else:
        if amount > collateral_reducible(x, account, coin):
            raise Refused(148009, "The LTV after the adjustment would be too high.")
        x.ledger.move(coin, amount, source=account.pledged, target=account.fund)
    adjust_id = 570_000 + x.serial()
    account.adjustments.append(
        {
            "adjustId": adjust_id, "adjustTime": x.now_ms, "collateralCurrency": coin,
            "amount": text(amount), "direction": 0 if add else 1,
            "preLTV": text(before.quantize(RATIO_DIGITS)),
            "afterLTV": text(ltv(x, account).quantize(RATIO_DIGITS)), "status": 1,
        }
    )  # fmt: skip
    return adjust_id


def collateral_reducible(x: Exchange, account: Account, coin: str) -> Decimal:
    """Coins that may be taken back before LTV exceeds the margin-call level."""
    held = x.ledger.coins(account.pledged)
    owed = debt_usd(x, account)
    amount = held.get(coin, ZERO)
    spare = collateral_usd(x, held) - owed / x.scenario.loan.ltv_margin_call
    worth = collateral_usd(x, {coin: amount})
    if not owed or spare >= worth:
        return amount
    if spare <= 0:
        return ZERO
    return (amount * spare / worth).quantize(Decimal("0.00000001"), rounding="ROUND_DOWN")


def sell_collateral(
    x: Exchange, account: Account, coin: str, *, amount: Decimal, order: list[str]
) -> Decimal:
    """Turn collateral into `amount` of `coin` for the lender; returns what was raised."""
    fee_rate = x.scenario.loan.liquidation_fee
    missing = amount
    for pledged_coin in order:
        held = x.ledger.balance(account.pledged, pledged_coin)
        if missing <= 0 or held <= 0:
            continue
        price = x.price(pledged_coin) / x.price(coin)
        sold = min(grain(missing / price), held)
        raised = missing if sold < held else min(missing, grain(sold * price))
        x.ledger.move(pledged_coin, sold, source=account.pledged, target=HOUSE)
        x.ledger.move(coin, raised, source=HOUSE, target=LENDER)
        fee = min(grain(sold * fee_rate), held - sold)
        x.ledger.move(pledged_coin, fee, source=account.pledged, target=INSURANCE)
        missing -= raised
    return amount - missing


def book_repayment(
    x: Exchange, account: Account, coin: str, debt: Debt, *, amount: Decimal, kind: int
) -> str:
    """Take a repayment off the debt, interest first, and into the history; returns its id."""
    interest = min(debt.interest, amount)
    debt.interest -= interest
    debt.principal -= amount - interest
    repay_id = str(1_800_000_000_000 + x.serial())
    account.repayments.append(
        {
            "repayId": repay_id, "loanCurrency": coin, "repayAmount": text(amount),
            "repayTime": x.now_ms, "repayStatus": 1, "repayType": kind,
        }
    )  # fmt: skip
    return repay_id


def _owed(account: Account, coin: str, amount: Decimal) -> Debt:
    debt = account.debts.get(coin)
    if debt is None or not debt.total:
        raise Refused(148032, "There is no outstanding debt.")
    if amount > debt.total:
        raise Refused(148038, "The repayment amount exceeds the debt.")
    return debt


def _need_fund(x: Exchange, account: Account, coin: str, amount: Decimal, *, code: int) -> None:
    if x.ledger.balance(account.fund, coin) < amount:
        raise Refused(code, "Insufficient balance in the funding account.")


def charge_interest(x: Exchange) -> None:
    """Add an hour's interest, compounding, to every crypto loan."""
    rate = x.scenario.loan.hourly_rate
    for account in x.accounts.values():
        for debt in account.debts.values():
            debt.interest += grain(debt.total * rate)
