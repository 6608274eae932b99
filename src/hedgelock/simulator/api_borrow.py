"""Private routes of borrowing in the unified account: account/borrow … and spot-margin-trade/*."""

from __future__ import annotations

from decimal import Decimal

from hedgelock.simulator import api_market, borrowing
from hedgelock.simulator.limits import Limit
from hedgelock.simulator.money import ONE, ZERO, text
from hedgelock.simulator.params import (
    DAY_MS,
    WEEK_MS,
    Params,
    amount,
    limit,
    need,
    optional,
    page,
    window,
)
from hedgelock.simulator.routes import READ, Envelope, Route
from hedgelock.simulator.state import Account, Exchange, Refused, Row

HALF_HOUR_MS = 1_800_000
LEVERAGE_RANGE = (Decimal(2), Decimal(10))
NO_VIP = "No VIP"


def borrow(x: Exchange, a: Account, params: Params) -> Row:
    """POST account/borrow."""
    coin, qty = need(params, "coin"), amount(params, "amount")
    borrowing.borrow(x, a, coin, qty)
    return {"coin": coin, "amount": text(qty)}


def _given(params: Params) -> tuple[str | None, Decimal | None]:
    coin = optional(params, "coin") or None
    qty = amount(params, "amount") if optional(params, "amount") else None
    if qty is not None and coin is None:
        raise Refused(10001, "params error: amount without coin")
    return coin, qty


def _type(params: Params) -> str:
    name = optional(params, "repaymentType", "FLEXIBLE")
    if name not in {"FLEXIBLE", "FIXED", "ALL"}:
        raise Refused(10001, "params error: repaymentType invalid")
    if name == "FIXED":  # the unified account's fixed-rate borrowing is not simulated
        raise Refused(34022041, "Your account has no borrowed coins. No repayments are needed.")
    return name


def repay(x: Exchange, a: Account, params: Params) -> Row:
    """POST account/repay: converts other coins for what is missing."""
    _type(params)
    borrowing.repay(x, a, *_given(params))
    return {"resultStatus": "SU"}


def repay_without_conversion(x: Exchange, a: Account, params: Params) -> Row:
    """POST account/no-convert-repay: from the coin's own free balance."""
    _type(params)
    coin, qty = need(params, "coin"), _given(params)[1]
    borrowing.repay_from_balance(x, a, coin, qty)
    return {"resultStatus": "SU"}


def quick_repayment(x: Exchange, a: Account, params: Params) -> Row:
    """POST account/quick-repayment: automatic borrowings only; answers the coins sold."""
    coin = optional(params, "coin") or None
    if a.owed.get(coin) if coin else a.owed:
        raise Refused(182120, "Please use the repay and no-convert-repay API.")
    sold = borrowing.repay(x, a, coin, None)
    return {"list": [{"coin": c, "repaymentQty": text(qty)} for c, qty in sold.items()]}


def borrow_history(x: Exchange, a: Account, params: Params) -> Row:
    """GET account/borrow-history: one row per coin and hour of interest, newest first."""
    start, end = window(params, x.now_ms, span_ms=30 * DAY_MS, most_ms=30 * DAY_MS)
    coin = optional(params, "currency")

    def keep(row: Row) -> bool:
        return coin in {"", row["currency"]} and start <= row["createdTime"] <= end

    size = limit(params, default=20, most=50)
    rows, cursor = page(a.borrow_hours, params, size=size, keep=keep)
    return {"nextPageCursor": cursor, "list": rows}


def pay_info(x: Exchange, a: Account, params: Params) -> Row:
    """GET account/pay-info: what could repay the debt of a coin, or all debts."""
    coin, states = optional(params, "coin"), x.report(a).coins
    debts = {c: s for c, s in states.items() if s.borrowed and coin in {"", c}}
    if coin and not debts:
        raise Refused(182102, "Failed repayment, there are no liabilities in the current currency")
    free = {c: borrowing.free_balance(x, a, c) for c in states}
    info: Row = {
        "borrowSize": text(sum((s.borrowed for s in debts.values()), ZERO)),
        "borrowValue": text(sum((s.borrowed * s.price for s in debts.values()), ZERO)),
        "assetFrozen": "0",
        "availableBalance": text(sum((free[c] for c in debts), ZERO)),
    }
    return {
        "collateralInfo": {
            "collateralList": [
                {
                    "coin": c, "availableSize": text(free[c]),
                    "availableValue": text(free[c] * s.price), "coinScale": 8,
                    "borrowSize": text(s.borrowed), "spotHedgeAmount": "0", "assetFrozen": "0",
                }
                for c, s in states.items()
            ]
        },
        "borrowInfo": info | ({"coin": coin} if coin else {}),
    }  # fmt: skip


def state(x: Exchange, a: Account, params: Params) -> Row:
    """GET spot-margin-trade/state."""
    report = x.report(a)
    held = sum((max(ZERO, s.equity) * s.price for s in report.coins.values()), ZERO)
    effective = held / report.equity if report.equity > 0 else ONE
    return {
        "spotLeverage": text(a.spot_leverage) if a.spot_margin else "",
        "spotMarginMode": "1" if a.spot_margin else "0",
        "effectiveLeverage": text(effective.quantize(Decimal("0.01"))),
    }


def switch_mode(x: Exchange, a: Account, params: Params) -> Row:
    """POST spot-margin-trade/switch-mode; cannot be switched off while something is borrowed."""
    mode = need(params, "spotMarginMode")
    if mode not in {"0", "1"}:
        raise Refused(10001, "params error: spotMarginMode invalid")
    if mode == "0" and any(s.borrowed for s in x.report(a).coins.values()):
        raise Refused(176039, "Borrowing, current operation is not allowed")
    a.spot_margin = mode == "1"
    return {"spotMarginMode": mode}


def set_leverage(x: Exchange, a: Account, params: Params) -> Row:
    """POST spot-margin-trade/set-leverage, for all coins."""
    wanted = amount(params, "leverage")
    low, high = LEVERAGE_RANGE
    if not a.spot_margin:
        raise Refused(
            176038, "The spot leverage is closed and the current operation is not allowed"
        )
    if not low <= wanted <= high:
        raise Refused(176034, "The leverage ratio is out of range")
    a.spot_leverage = wanted
    return {}


def borrow_quota(x: Exchange, a: Account, params: Params) -> Row:
    """GET order/spot-borrow-check: what a spot order could trade, with and without borrowing."""
    c = api_market.contract(x, {**params, "category": "spot"})
    side, price = need(params, "side"), x.market.quotes[c.key].last
    if side not in {"Buy", "Sell"}:
        raise Refused(10001, "params error: side invalid")
    coin = c.quote if side == "Buy" else c.base
    own = borrowing.free_balance(x, a, coin)
    most = own + (borrowing.borrowable(x, a, coin) if a.spot_margin else ZERO)
    shown = [most / price, most, own / price, own]
    if side == "Sell":
        shown = [most, most * price, own, own * price]
    qty, amount_most, own_qty, own_amount = (text(v.quantize(borrowing.COIN_STEP)) for v in shown)
    return {
        "symbol": c.symbol, "side": side, "maxTradeQty": qty, "maxTradeAmount": amount_most,
        "spotMaxTradeQty": own_qty, "spotMaxTradeAmount": own_amount, "borrowCoin": coin,
    }  # fmt: skip


def coin_state(x: Exchange, a: Account, params: Params) -> Row:
    """GET spot-margin-trade/coinstate."""
    wanted = optional(params, "currency")
    shown = text(a.spot_leverage) if a.spot_margin else ""
    return {"list": [{"currency": c, "spotLeverage": shown} for c in x.coins if wanted in {"", c}]}


def repayment_available(x: Exchange, a: Account, params: Params) -> Row:
    """GET spot-margin-trade/repayment-available-amount: without conversion."""
    coin = need(params, "currency")
    borrowing.need_borrowable(x, coin)
    return {"currency": coin, "lossLessRepaymentAmount": text(borrowing.repayable(x, a, coin))}


def max_borrowable(x: Exchange, a: Account, params: Params) -> Row:
    """GET spot-margin-trade/max-borrowable."""
    coin = need(params, "currency")
    borrowing.need_borrowable(x, coin)
    return {"currency": coin, "maxLoan": text(borrowing.borrowable(x, a, coin))}


def liability(x: Exchange, a: Account, params: Params) -> Row:
    """GET spot-margin-trade/liability: by hand (spot) and automatic (derivatives)."""
    coin = need(params, "currency")
    borrowing.need_borrowable(x, coin)
    total, by_hand = borrowing.borrowed(x, a, coin), a.owed.get(coin, ZERO)
    return {
        "currency": coin, "totalBorrowAmount": text(total), "fixedBorrowAmount": "0",
        "flexibleBorrowAmount": text(total), "spotTotalBorrow": text(by_hand),
        "derivativesBorrow": text(total - by_hand),
    }  # fmt: skip


def rate_history(x: Exchange, a: Account, params: Params) -> Row:
    """GET spot-margin-trade/interest-rate-history: one rate per hour, newest first."""
    coin = need(params, "currency")
    borrowing.need_borrowable(x, coin)
    start, end = window(params, x.now_ms, span_ms=WEEK_MS, most_ms=30 * DAY_MS)
    rate = text(x.scenario.margin.borrow_hourly_rate)
    first, last = -(-start // borrowing.HOUR_MS), min(end, x.now_ms) // borrowing.HOUR_MS
    return {
        "list": [
            {
                "timestamp": hour * borrowing.HOUR_MS, "currency": coin, "hourlyBorrowRate": rate,
                "vipLevel": NO_VIP,
            }
            for hour in range(last, first - 1, -1)
        ]
    }  # fmt: skip


def set_auto_repay(x: Exchange, a: Account, params: Params) -> Row:
    """POST spot-margin-trade/set-auto-repay-mode: without conversion, each half hour."""
    mode, named = need(params, "autoRepayMode"), optional(params, "currency")
    if mode not in {"0", "1"}:
        raise Refused(10001, "params error: autoRepayMode invalid")
    if named:
        borrowing.need_borrowable(x, named)
    coins = [named] if named else x.coins
    a.auto_repay |= dict.fromkeys(coins, mode)
    if mode == "1" and not a.auto_repay_due:
        _repay_at_half_hours(x, a)
    return {"data": [{"currency": c, "autoRepayMode": mode} for c in coins]}


def _repay_at_half_hours(x: Exchange, a: Account) -> None:
    def due() -> None:
        a.auto_repay_due = False
        chosen = [c for c, mode in a.auto_repay.items() if mode == "1"]
        for coin in chosen:
            borrowing.settle(x, a, coin, borrowing.repayable(x, a, coin))
        if chosen:
            _repay_at_half_hours(x, a)

    a.auto_repay_due = True
    x.later(HALF_HOUR_MS - x.now_ms % HALF_HOUR_MS, due)


def auto_repay(x: Exchange, a: Account, params: Params) -> Row:
    """GET spot-margin-trade/get-auto-repay-mode."""
    named = optional(params, "currency")
    coins = [c for c in x.coins if named in {"", c}]
    return {"data": [{"currency": c, "autoRepayMode": a.auto_repay.get(c, "0")} for c in coins]}


LOAN_ACTION = Limit(1)
MARGIN = "/v5/spot-margin-trade"
PRIVATE: dict[tuple[str, str], Route] = {
    ("POST", "/v5/account/borrow"): Route(borrow, LOAN_ACTION, "success"),
    ("POST", "/v5/account/repay"): Route(repay, LOAN_ACTION, "success"),
    ("POST", "/v5/account/no-convert-repay"): Route(
        repay_without_conversion, LOAN_ACTION, "success"
    ),
    ("POST", "/v5/account/quick-repayment"): Route(quick_repayment, LOAN_ACTION, "SUCCESS"),
    ("GET", "/v5/account/borrow-history"): Route(borrow_history, READ),
    ("GET", "/v5/account/pay-info"): Route(pay_info, READ, "Success"),
    ("GET", "/v5/order/spot-borrow-check"): Route(borrow_quota, READ),
    ("GET", f"{MARGIN}/state"): Route(state, READ),
    ("GET", f"{MARGIN}/coinstate"): Route(coin_state, READ, "Success"),
    ("GET", f"{MARGIN}/repayment-available-amount"): Route(repayment_available, READ, "Success"),
    ("GET", f"{MARGIN}/max-borrowable"): Route(max_borrowable, READ, "Success"),
    ("GET", f"{MARGIN}/liability"): Route(liability, READ, "Success"),
    ("GET", f"{MARGIN}/get-auto-repay-mode"): Route(auto_repay, READ, "Success"),
    ("GET", f"{MARGIN}/interest-rate-history"): Route(
        rate_history, READ, envelope=Envelope.EXT_TEXT
    ),
    ("POST", f"{MARGIN}/switch-mode"): Route(switch_mode, Limit(5)),
    ("POST", f"{MARGIN}/set-leverage"): Route(set_leverage, Limit(5)),
    ("POST", f"{MARGIN}/set-auto-repay-mode"): Route(set_auto_repay, Limit(5), "success"),
}
