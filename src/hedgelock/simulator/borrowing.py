"""Borrowing in the unified pocket: by hand or automatic, its hourly interest, and repaying it.

A coin's debt has two parts: what was borrowed by hand (`Account.owed`; the cash is in the wallet)
and, automatically, whatever wallet and unrealised loss have fallen below zero. Repaying uses the
coin's own free balance first and then, where asked to, other coins sold at index.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_DOWN, Decimal

from hedgelock.simulator.money import FEES, GRAIN, HOUSE, INSURANCE, LENDER, ONE, ZERO, grain, text
from hedgelock.simulator.rows import locked_coins, push_wallet
from hedgelock.simulator.state import Account, Exchange, Refused

HOUR_MS = 3_600_000
BLACKOUT_MS = (4 * 60_000, 5 * 60_000 + 30_000)  # of each hour: nothing can be repaid
CONVERSION_FEE = Decimal("0.001")
CONVERSION_USD_MAX = Decimal(300_000)  # per repayment
COIN_STEP = Decimal("0.00000001")
STABLE = ("USDT", "USDC")


def refuse_blackout(x: Exchange) -> None:
    """Refuse while the hour's interest is being computed (mm 04:00 to 05:30)."""
    start, end = BLACKOUT_MS
    if start <= x.now_ms % HOUR_MS < end:
        raise Refused(34022035, "You cannot repay while interest is being calculated.")


def need_borrowable(x: Exchange, coin: str) -> None:
    """Refuse a coin that is not lent."""
    if coin not in x.coins:
        raise Refused(34022010, "The borrowed asset does not exist.")


def liquidation_order(x: Exchange) -> list[str]:
    """Coins in the order in which they are sold to repay: dollars first."""
    return [*STABLE, *(coin for coin in x.coins if coin not in STABLE)]


def borrowed(x: Exchange, account: Account, coin: str) -> Decimal:
    """The whole debt of a coin, by hand and automatic."""
    state = x.report(account).coins.get(coin)
    return state.borrowed if state else ZERO


def quota_left(x: Exchange, account: Account, coin: str) -> Decimal:
    """Coins that the account may still borrow under its own limit."""
    return max(ZERO, x.scenario.margin.borrow_max - borrowed(x, account, coin))


def borrowable(x: Exchange, account: Account, coin: str) -> Decimal:
    """Most that can be borrowed by hand now.

    available margin ÷ (price × (borrow IM rate + 1 − collateral ratio)), within the quota: the
    coins borrowed count as collateral at their lowest tier's ratio and as debt in full.
    """
    terms = x.scenario.margin
    tiers = terms.collateral_ratio.get(coin, ())
    ratio = min((t.ratio for t in tiers), default=ZERO) if coin not in account.idle else ZERO
    cost = x.price(coin) * (terms.borrow_im_rate + ONE - ratio)
    most = min(max(ZERO, x.report(account).available) / cost, quota_left(x, account, coin))
    return most.quantize(COIN_STEP, rounding=ROUND_DOWN)


def borrow(x: Exchange, account: Account, coin: str, amount: Decimal) -> None:
    """Borrow by hand: cash into the wallet, debt beside it."""
    need_borrowable(x, coin)
    if not account.spot_margin:
        raise Refused(34022036, "Please enable Margin Trading to continue.")
    if amount % COIN_STEP:
        raise Refused(34022033, "Borrowing precision must be an integer multiple.")
    if amount > quota_left(x, account, coin):
        raise Refused(34022030, "Borrowing demand is high, the fund pool is currently low.")
    x.ledger.move(coin, amount, source=LENDER, target=account.unified)
    account.owed[coin] = account.owed.get(coin, ZERO) + amount
    if x.report(account).available < 0:
        x.ledger.move(coin, amount, source=account.unified, target=LENDER)
        _forgive(account, coin, amount)
        raise Refused(34022031, "Risk rate limit exceeded. Please reduce your borrow amount.")
    x.book(account, "BORROW", coin, cash_flow=amount)
    push_wallet(x, account, coin)


def free_balance(x: Exchange, account: Account, coin: str) -> Decimal:
    """Coins of the wallet that no resting spot order holds."""
    held = locked_coins(account).get(coin, ZERO)
    return max(ZERO, x.ledger.balance(account.unified, coin) - held)


def repayable(x: Exchange, account: Account, coin: str) -> Decimal:
    """What the coin's own free balance can repay now."""
    return min(account.owed.get(coin, ZERO), free_balance(x, account, coin))


def repay_from_balance(x: Exchange, account: Account, coin: str, amount: Decimal | None) -> Decimal:
    """Repay without conversion; None = as much as the balance allows. Returns what was repaid."""
    refuse_blackout(x)
    need_borrowable(x, coin)
    debt = borrowed(x, account, coin)
    if not debt:
        raise Refused(34022041, "Your account has no borrowed coins. No repayments are needed.")
    if amount is not None and amount > debt:
        raise Refused(34022027, "Invalid request parameters.")
    most = repayable(x, account, coin)
    paid = most if amount is None else amount
    if not paid or paid > most:
        raise Refused(34022044, "Repayment unsuccessful.")
    settle(x, account, coin, paid)
    return paid


def repay(
    x: Exchange, account: Account, coin: str | None, amount: Decimal | None
) -> dict[str, Decimal]:
    """Repay one coin or all, converting other coins for what is missing; returns coins sold."""
    refuse_blackout(x)
    debts = {c: s.borrowed for c, s in x.report(account).coins.items() if s.borrowed}
    if coin is not None:
        need_borrowable(x, coin)
        debts = {c: d for c, d in debts.items() if c == coin}
    if not debts:
        raise Refused(34022041, "Your account has no borrowed coins. No repayments are needed.")
    if amount is not None and coin is not None:
        if amount > debts[coin]:
            raise Refused(34022027, "Invalid request parameters.")
        debts = {coin: amount}
    own = {c: min(due, repayable(x, account, c)) for c, due in debts.items()}
    missing = {c: due - own[c] for c, due in debts.items() if due > own[c]}
    _check_conversion(x, account, missing)
    for owed, paid in own.items():
        settle(x, account, owed, paid)
    return convert(x, account, missing)


def _sellable(x: Exchange, account: Account, missing: dict[str, Decimal]) -> dict[str, Decimal]:
    """Free coins that may be sold to repay `missing`, in the order of sale."""
    found = {}
    for coin in liquidation_order(x):
        free = free_balance(x, account, coin) - account.owed.get(coin, ZERO)
        if free > 0 and coin not in missing:
            found[coin] = free
    return found


def _check_conversion(x: Exchange, account: Account, missing: dict[str, Decimal]) -> None:
    wanted = sum((due * x.price(c) for c, due in missing.items()), ZERO)
    if wanted > CONVERSION_USD_MAX:
        raise Refused(34022044, "Repayment unsuccessful: at most 300,000 USD can be converted.")
    held = _sellable(x, account, missing)
    worth = sum((free * x.price(c) for c, free in held.items()), ZERO) * (ONE - CONVERSION_FEE)
    if worth < wanted:
        raise Refused(34022049, "Insufficient collateral balance.")


def convert(x: Exchange, account: Account, missing: dict[str, Decimal]) -> dict[str, Decimal]:
    """Sell other coins at index until each of `missing` is bought and repaid; returns coins sold.

    Coins sold = bought × price ÷ (1 − fee) ÷ price sold, rounded up to the ledger's grain.
    """
    sold: dict[str, Decimal] = {}
    for coin, due in missing.items():
        left = due
        for source, free in _sellable(x, account, missing).items():
            if left <= 0:
                break
            rate = x.price(source) / x.price(coin) * (ONE - CONVERSION_FEE)
            part = min(free, (left / rate).quantize(GRAIN, rounding=ROUND_CEILING))
            bought = min(left, grain(part * rate))
            _exchange(x, account, source, part, coin=coin, bought=bought)
            sold[source] = sold.get(source, ZERO) + part
            left -= bought
        settle(x, account, coin, min(due - left, account.owed.get(coin, ZERO)))
        push_wallet(x, account, coin, *sold)
    return sold


def _exchange(
    x: Exchange, account: Account, source: str, part: Decimal, *, coin: str, bought: Decimal
) -> None:
    fee = grain(part * CONVERSION_FEE)
    x.ledger.move(source, part - fee, source=account.unified, target=HOUSE)
    x.ledger.move(source, fee, source=account.unified, target=FEES)
    x.ledger.move(coin, bought, source=HOUSE, target=account.unified)
    account.fees_usd += fee * x.price(source)
    x.book(account, "SPOT_REPAYMENT_SELL", source, cash_flow=fee - part, fee=fee,
           feeRate=text(CONVERSION_FEE))  # fmt: skip
    x.book(account, "SPOT_REPAYMENT_BUY", coin, cash_flow=bought)


def settle(x: Exchange, account: Account, coin: str, amount: Decimal) -> None:
    """Pay `amount` of a debt by hand out of the wallet."""
    if amount <= 0:
        return
    paid = x.ledger.move(coin, amount, source=account.unified, target=LENDER)
    _forgive(account, coin, paid)
    x.book(account, "REPAY", coin, cash_flow=-paid)
    push_wallet(x, account, coin)


def _forgive(account: Account, coin: str, amount: Decimal) -> None:
    left = account.owed.get(coin, ZERO) - amount
    account.owed.pop(coin, None)
    if left > 0:
        account.owed[coin] = left


def settle_all(x: Exchange, account: Account) -> None:
    """Repay what the wallets can of all debts by hand: a step of margin liquidation."""
    for coin, debt in list(account.owed.items()):
        cash = max(ZERO, x.ledger.balance(account.unified, coin))
        settle(x, account, coin, min(debt, cash))


def write_off(x: Exchange, account: Account) -> None:
    """Let the insurance repay the debts by hand that nothing is left to repay with."""
    for coin, debt in list(account.owed.items()):
        x.ledger.move(coin, debt, source=INSURANCE, target=LENDER)
        _forgive(account, coin, debt)


def charge_interest(x: Exchange) -> None:
    """Charge an hour's interest on what the unified pockets have borrowed (at mm:05)."""
    rate = x.scenario.margin.borrow_hourly_rate
    for account in x.accounts.values():
        for coin, state in x.report(account).coins.items():
            interest = grain(state.borrowed * rate)
            if not interest:
                continue
            x.ledger.move(coin, interest, source=account.unified, target=LENDER)
            account.uta_interest[coin] = account.uta_interest.get(coin, ZERO) + interest
            x.book(account, "INTEREST", coin, fee=interest, feeRate=text(rate))
            loss = min(state.borrowed - state.owed, max(ZERO, -state.upl))
            account.borrow_hours.append(
                {
                    "currency": coin, "createdTime": x.now_ms, "borrowCost": text(interest),
                    "hourlyBorrowRate": text(rate),
                    "InterestBearingBorrowSize": text(state.borrowed), "costExemption": "0",
                    "borrowAmount": text(state.borrowed), "unrealisedLoss": text(loss),
                    "freeBorrowedAmount": "0",
                }
            )  # fmt: skip
            push_wallet(x, account, coin)
