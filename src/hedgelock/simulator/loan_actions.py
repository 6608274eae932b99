"""What a borrower does with the crypto loan: borrow, repay, adjust collateral; each takes time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import ROUND_DOWN, Decimal

from hedgelock.simulator.debts import Debt
from hedgelock.simulator.loans import (
    LENDABLE,
    LOAN_MAX,
    RATIO_DIGITS,
    collateral_reducible,
    collateral_usd,
    debt_usd,
    debts,
    ltv,
    repayment_row,
    sell_collateral,
)
from hedgelock.simulator.margin import loan_to_value
from hedgelock.simulator.money import LENDER, ZERO, text
from hedgelock.simulator.state import Account, Exchange, Refused, Row

STEP = Decimal("0.00000001")


def process(
    x: Exchange, account: Account, row: Row, status: str, finish: Callable[[], bool]
) -> None:
    """Let a loan action end after the processing time: 2 while it lasts, then 1 done or 3 failed.

    One action at a time per account; the exchange answers the others with a conflict.
    """
    row[status] = 2
    account.loan_busy = True

    def end() -> None:
        account.loan_busy = False
        row[status] = 1 if finish() else 3

    x.later(x.loan_processing_ms, end)


def refuse_conflict(account: Account) -> None:
    """Refuse while another loan action of the account is being processed."""
    if account.loan_busy:
        raise Refused(148021, "Operation conflict detected. Please try again later.")


def check_lendable(x: Exchange, account: Account, coin: str, amount: Decimal) -> None:
    """Refuse amounts that the platform does not lend."""
    if coin not in LENDABLE:
        raise Refused(148001, "This currency is not supported.")
    if amount < x.scenario.loan.amount_min:
        raise Refused(148002, "The entered amount is below the minimum borrowable amount.")
    if amount % STEP:
        raise Refused(148003, "Exceeds the allowed decimal precision for this currency.")
    if amount > quota_left(account, coin):
        raise Refused(148010, "Insufficient available quota.")
    if amount > x.loan_pool.get(coin, amount):
        raise Refused(148011, "Insufficient balance in the funding pool.")


def quota_left(account: Account, coin: str) -> Decimal:
    """Coins that the account may still owe."""
    return max(ZERO, LOAN_MAX - sum(debts(account).get(coin, (ZERO, ZERO))))


def check_pledge(x: Exchange, account: Account, pledge: Mapping[str, Decimal]) -> None:
    """Refuse collateral that is not taken, or not in FUND."""
    for coin, qty in pledge.items():
        if coin not in x.scenario.loan.collateral_ratio:
            raise Refused(148004, "This currency cannot be used as collateral.")
        if qty % STEP:
            raise Refused(148005, "Exceeds the allowed decimal precision for this currency.")
        if x.conditions.col_res == "2":
            raise Refused(148006, "The amount of collateral exceeds the limit of the platform.")
        need_fund(x, account, coin, qty, code=148012)


def ltv_with(
    x: Exchange, account: Account, pledge: Mapping[str, Decimal], more_usd: Decimal
) -> Decimal:
    """LTV with more collateral and more debt."""
    held = dict(x.ledger.coins(account.pledged))
    for coin, qty in pledge.items():
        held[coin] = held.get(coin, ZERO) + qty
    return loan_to_value(debt_usd(x, account) + more_usd, collateral_usd(x, held))


def max_loan(
    x: Exchange, account: Account, coin: str, pledge: Mapping[str, Decimal]
) -> tuple[Decimal, Decimal]:
    """(coins that may be borrowed with `pledge` added, quota left)."""
    if coin not in LENDABLE:
        raise Refused(148001, "This currency is not supported.")
    check_pledge(x, account, pledge)
    held = dict(x.ledger.coins(account.pledged))
    for pledged_coin, qty in pledge.items():
        held[pledged_coin] = held.get(pledged_coin, ZERO) + qty
    room = collateral_usd(x, held) * x.scenario.loan.ltv_initial - debt_usd(x, account)
    quota = quota_left(account, coin)
    most = min(max(ZERO, room) / x.price(coin), quota, x.loan_pool.get(coin, quota))
    return most.quantize(STEP, rounding=ROUND_DOWN), quota


def borrow(
    x: Exchange, account: Account, coin: str, *, amount: Decimal, pledge: Mapping[str, Decimal]
) -> str:
    """Lend `amount` into FUND, pledging `pledge` from FUND first; returns the order id.

    Fails, and gives the pledge back, where LTV has risen past the initial level meanwhile.
    """
    refuse_conflict(account)
    check_lendable(x, account, coin, amount)
    check_pledge(x, account, pledge)
    most = x.scenario.loan.ltv_initial
    if ltv_with(x, account, pledge, amount * x.price(coin)) > most:
        raise Refused(148009, "LTV exceeds the risk threshold.")
    move_pledge(x, account, pledge)
    order_id = str(1_900_000_000_000 + x.serial())
    row: Row = {
        "orderId": order_id, "loanCurrency": coin, "initialLoanAmount": text(amount),
        "borrowTime": x.now_ms,
    }  # fmt: skip
    account.borrows.append(row)

    def finish() -> bool:
        if ltv_with(x, account, {}, amount * x.price(coin)) > most:
            move_pledge(x, account, pledge, back=True)
            return False
        pay_out(x, account, coin, amount)
        account.debts.setdefault(coin, Debt()).principal += amount
        return True

    process(x, account, row, "status", finish)
    return order_id


def move_pledge(
    x: Exchange, account: Account, pledge: Mapping[str, Decimal], *, back: bool = False
) -> None:
    """Move collateral out of FUND into the pledge, or back."""
    source, target = account.fund, account.pledged
    if back:
        source, target = target, source
    for coin, qty in pledge.items():
        x.ledger.move(coin, qty, source=source, target=target)


def pay_out(x: Exchange, account: Account, coin: str, amount: Decimal) -> None:
    """Lend coins into FUND."""
    x.ledger.move(coin, amount, source=LENDER, target=account.fund)
    if coin in x.loan_pool:
        x.loan_pool[coin] -= amount


def repay(x: Exchange, account: Account, coin: str, *, amount: Decimal) -> str:
    """Repay from FUND, interest first; returns the repay id.

    The coins leave FUND at once; those that are not needed in the end come back.
    """
    refuse_conflict(account)
    debt = owed(account, coin, amount)
    need_fund(x, account, coin, amount, code=148029)
    amount = x.ledger.move(coin, amount, source=account.fund, target=account.transit)
    row = repayment_row(x, account, coin, amount=amount, kind=1)

    def finish() -> bool:
        paid = min(amount, debt.total)
        x.ledger.move(coin, paid, source=account.transit, target=LENDER)
        x.ledger.move(coin, amount - paid, source=account.transit, target=account.fund)
        row["repayAmount"] = text(paid)
        debt.pay(paid)
        return paid > 0

    process(x, account, row, "repayStatus", finish)
    return str(row["repayId"])


def repay_with_collateral(
    x: Exchange, account: Account, coin: str, *, amount: Decimal, collateral: list[str]
) -> None:
    """Repay by selling collateral at index; the fee is taken in collateral too."""
    refuse_conflict(account)
    debt = owed(account, coin, amount)
    check_worth(x, account, coin, amount=amount, collateral=collateral)
    row = repayment_row(x, account, coin, amount=amount, kind=7)

    def finish() -> bool:
        wanted = min(amount, debt.total)
        paid = sell_collateral(x, account, coin, amount=wanted, order=collateral)
        row["repayAmount"] = text(paid)
        debt.pay(paid)
        return paid > 0

    process(x, account, row, "repayStatus", finish)


def check_worth(
    x: Exchange, account: Account, coin: str, *, amount: Decimal, collateral: list[str]
) -> None:
    """Refuse to sell collateral that does not cover `amount` of `coin` and the fee."""
    held = x.ledger.coins(account.pledged)
    worth = sum((held.get(c, ZERO) * x.price(c) for c in dict.fromkeys(collateral)), ZERO)
    if worth < amount * x.price(coin) * (1 + x.scenario.loan.liquidation_fee):
        raise Refused(148012, "Insufficient collateral amount.")


def adjust(x: Exchange, account: Account, coin: str, *, amount: Decimal, add: bool) -> int:
    """Pledge more collateral from FUND, or take some back; returns the adjust id."""
    refuse_conflict(account)
    if coin not in x.scenario.loan.collateral_ratio:
        raise Refused(148004, "This currency cannot be used as collateral.")
    if add:
        check_pledge(x, account, {coin: amount})
        x.ledger.move(coin, amount, source=account.fund, target=account.transit)
    elif amount > x.ledger.balance(account.pledged, coin):
        raise Refused(148037, "Insufficient assets or adjustment amount exceeds the maximum.")
    elif amount > collateral_reducible(x, account, coin):
        raise Refused(148009, "LTV exceeds the risk threshold.")
    adjust_id = 570_000 + x.serial()
    row: Row = {
        "adjustId": adjust_id, "adjustTime": x.now_ms, "collateralCurrency": coin,
        "amount": text(amount), "direction": 0 if add else 1,
        "preLTV": text(ltv(x, account).quantize(RATIO_DIGITS)), "afterLTV": "",
    }  # fmt: skip
    account.adjustments.append(row)

    def finish() -> bool:
        done = add or amount <= collateral_reducible(x, account, coin)
        if done:
            source = account.transit if add else account.pledged
            target = account.pledged if add else account.fund
            x.ledger.move(coin, amount, source=source, target=target)
        row["afterLTV"] = text(ltv(x, account).quantize(RATIO_DIGITS))
        return done

    process(x, account, row, "status", finish)
    return adjust_id


def owed(account: Account, coin: str, amount: Decimal) -> Debt:
    """The flexible debt that `amount` repays; refused where there is none, or less."""
    debt = account.debts.get(coin)
    if debt is None or not debt.total:
        raise Refused(148032, "There is no outstanding debt.")
    if amount > debt.total:
        raise Refused(148038, "The repayment amount exceeds the debt.")
    return debt


def need_fund(x: Exchange, account: Account, coin: str, amount: Decimal, *, code: int) -> None:
    """Refuse with `code` where FUND holds less than `amount`."""
    if x.ledger.balance(account.fund, coin) < amount:
        raise Refused(code, "Insufficient balance in the funding account.")
