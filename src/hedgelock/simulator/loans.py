"""The new crypto loan: shared collateral pledged out of FUND, flexible debts, LTV, liquidation."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from hedgelock.simulator.debts import Debt, FixedLoan
from hedgelock.simulator.margin import loan_to_value, tiered
from hedgelock.simulator.money import HOUSE, INSURANCE, LENDER, ZERO, grain, text
from hedgelock.simulator.state import Account, Exchange, Row

LENDABLE = ("USDT", "USDC")
LOAN_MAX = Decimal(8_000_000)  # coins that one account may owe
FIXED_RATES = {
    7: Decimal("0.035"), 14: Decimal("0.038"), 30: Decimal("0.04"), 90: Decimal("0.048"),
    180: Decimal("0.055"),
}  # fmt: skip
"""Terms of a fixed loan in days, and the least annual rate that finds a lender."""
RATIO_DIGITS = Decimal("0.000001")


def collateral_usd(x: Exchange, amounts: Mapping[str, Decimal]) -> Decimal:
    """Value of collateral in USD after the loan's tiered ratios."""
    ratios = x.scenario.loan.collateral_ratio
    return sum((tiered(a, ratios.get(c, ())) * x.price(c) for c, a in amounts.items()), ZERO)


def debts(account: Account) -> dict[str, tuple[Decimal, Decimal]]:
    """(flexible, fixed) debt per coin; coins without debt are left out."""
    found = {coin: (debt.total, ZERO) for coin, debt in account.debts.items() if debt.total}
    for loan in account.fixed_loans:
        if loan.total:
            flexible, fixed = found.get(loan.coin, (ZERO, ZERO))
            found[loan.coin] = (flexible, fixed + loan.total)
    return found


def obligations(account: Account) -> list[tuple[str, Debt | FixedLoan]]:
    """Every open debt and its coin, flexible ones first."""
    found: list[tuple[str, Debt | FixedLoan]] = [*account.debts.items()]
    found += [(loan.coin, loan) for loan in account.fixed_loans]
    return [(coin, debt) for coin, debt in found if debt.total]


def debt_usd(x: Exchange, account: Account) -> Decimal:
    """Flexible and fixed debt of all coins with their interest, in USD."""
    return sum((sum(both) * x.price(coin) for coin, both in debts(account).items()), ZERO)


def ltv(x: Exchange, account: Account) -> Decimal:
    """The loan's LTV, marked at index."""
    return loan_to_value(debt_usd(x, account), collateral_usd(x, x.ledger.coins(account.pledged)))


def position_row(x: Exchange, account: Account) -> Row:
    """Result of crypto-loan-common/position."""
    held = x.ledger.coins(account.pledged)
    return {
        "borrowList": [
            {
                "loanCurrency": coin, "flexibleTotalDebt": text(flexible),
                "flexibleTotalDebtUSD": text(flexible * x.price(coin)),
                "flexibleHourlyInterestRate": text(x.scenario.loan.hourly_rate),
                "fixedTotalDebt": text(fixed), "fixedTotalDebtUSD": text(fixed * x.price(coin)),
            }
            for coin, (flexible, fixed) in debts(account).items()
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
        "ltv": text(ltv(x, account).quantize(RATIO_DIGITS)), "colRes": x.conditions.col_res,
    }  # fmt: skip


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
    x: Exchange, account: Account, coin: str, debt: Debt | FixedLoan, *, amount: Decimal, kind: int
) -> str:
    """Take a repayment off a debt and into the history; returns its id."""
    debt.pay(amount)
    if isinstance(debt, FixedLoan):
        row = fixed_row(x, account, debt, amount=amount, kind=kind)
    else:
        row = repayment_row(x, account, coin, amount=amount, kind=kind)
    row["repayStatus"] = 1
    return str(row["repayId"])


def repayment_row(x: Exchange, account: Account, coin: str, *, amount: Decimal, kind: int) -> Row:
    """Append a repayment of a flexible debt to its history, as being processed."""
    row: Row = {
        "repayId": str(1_800_000_000_000 + x.serial()), "loanCurrency": coin,
        "repayAmount": text(amount), "repayTime": x.now_ms, "repayStatus": 2, "repayType": kind,
    }  # fmt: skip
    account.repayments.append(row)
    return row


def fixed_row(x: Exchange, account: Account, loan: FixedLoan, *, amount: Decimal, kind: int) -> Row:
    """Append a repayment of a fixed loan to its history, as being processed."""
    detail = {"loanCurrency": loan.coin, "loanId": loan.loan_id, "repayAmount": text(amount)}
    row: Row = {
        "repayId": str(1_700_000_000_000 + x.serial()), "loanCurrency": loan.coin,
        "repayAmount": text(amount), "repayTime": x.now_ms, "repayStatus": 2, "repayType": kind,
        "details": [detail],
    }  # fmt: skip
    account.fixed_repayments.append(row)
    return row


def charge_interest(x: Exchange) -> None:
    """Add an hour's interest, compounding, to every crypto loan."""
    rate = x.scenario.loan.hourly_rate
    for account in x.accounts.values():
        for debt in account.debts.values():
            debt.interest += grain(debt.total * rate)
