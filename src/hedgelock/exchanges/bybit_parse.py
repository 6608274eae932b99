"""Bybit v5 payloads to facts about one account: pure, strict, signs normalised.

Every parser takes a `Row` (a JSON object that knows its path) and raises BadMessage. Signs: position
quantities + = long; fees + = paid (as `execFee`); the transaction log's funding + = received.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from hedgelock.domain.account import (
    CoinBalance,
    FundBalance,
    LedgerLine,
    LoanCollateral,
    LoanDebt,
    Position,
    WithdrawableQty,
)
from hedgelock.domain.execution import ExecutionReport, OrderReport
from hedgelock.domain.order import Fill, OrderStatus, OrderType, Side
from hedgelock.exchanges.fields import Row, strict

ZERO = Decimal(0)

SIDES = {"Buy": Side.BUY, "Sell": Side.SELL}
ORDER_TYPES = {"Market": OrderType.MARKET, "Limit": OrderType.LIMIT}
ORDER_STATUSES = {
    "New": OrderStatus.NEW,
    "Untriggered": OrderStatus.NEW,
    "Triggered": OrderStatus.NEW,
    "PartiallyFilled": OrderStatus.PARTIALLY_FILLED,
    "Filled": OrderStatus.FILLED,
    "Cancelled": OrderStatus.CANCELLED,
    "PartiallyFilledCanceled": OrderStatus.CANCELLED,
    "Deactivated": OrderStatus.CANCELLED,
    "Rejected": OrderStatus.REJECTED,
}
POSITION_STATUSES = {"Normal": "Normal", "Liq": "Liq", "Adl": "Adl"}
CATEGORIES = {"linear": "linear", "inverse": "inverse", "spot": "spot", "option": "option"}
COLLATERAL_STATE_UNKNOWN = -1
_ADL_RANK_MAX = 5
_QUIET_TEXTS = frozenset({"", "EC_NoError", "UNKNOWN"})


class WalletPushed(NamedTuple):
    """The venue says that balances moved; what they are is read by REST."""

    account: str
    ts_event_ms: int
    ts_seen_ms: int


class Seen(NamedTuple):
    """Whose fact it is and when: ours before asking, the venue's, ours after."""

    account: str
    ts_event_ms: int
    ts_seen_ms: int


def settle_coin(category: str, symbol: str) -> str:
    """The coin in which a derivative pays, from its name; "" when the name does not tell.

    >>> settle_coin("linear", "BTCUSDT"), settle_coin("inverse", "BTCUSD")
    ('USDT', 'BTC')
    """
    if category == "inverse":
        return symbol.partition("USD")[0]
    if category == "linear":
        if "USDT" in symbol:
            return "USDT"
        if symbol.endswith("PERP") or "-" in symbol or "USDC" in symbol:
            return "USDC"
    return ""


# ---------------------------------------------------------------- pockets


@strict
def parse_coin(row: Row) -> CoinBalance:
    """One coin of wallet-balance. `wallet_qty` is net of manual borrowing: wallet − spotBorrow.

    So `wallet_qty + upl` is the venue's `equity` of the coin (without options).
    """
    return CoinBalance(
        coin=row.name("coin"),
        wallet_qty=row.decimal("walletBalance") - (row.maybe("spotBorrow") or ZERO),
        borrowed_qty=row.decimal("borrowAmount"),
        accrued_interest=row.decimal("accruedInterest"),
        upl=row.decimal("unrealisedPnl"),
        locked_qty=row.decimal("locked"),
        is_collateral=row.flag("marginCollateral") and row.flag("collateralSwitch"),
    )


@strict
def parse_withdrawable(result: Row) -> tuple[WithdrawableQty, ...]:
    """`availableWithdrawalMap`; a coin the venue left empty is left out (= it did not say).

    A negative figure means that nothing may leave.
    """
    amounts = result.row("availableWithdrawalMap")
    return tuple(
        WithdrawableQty(coin=coin, qty=max(ZERO, qty))
        for coin in amounts.names()
        if (qty := amounts.maybe(coin)) is not None
    )


@strict
def parse_fund_balance(row: Row) -> FundBalance:
    """One coin of the funding wallet."""
    return FundBalance(
        coin=row.name("coin"),
        qty=row.decimal("walletBalance"),
        transferable_qty=row.decimal("transferBalance"),
    )


@strict
def parse_debt(row: Row) -> LoanDebt:
    """One borrowed coin: flexible and fixed debt together, interest included.

    The hourly rate is the flexible part's; a loan with flexible debt must state it.
    """
    flexible = row.decimal("flexibleTotalDebt")
    fixed = row.maybe("fixedTotalDebt") or ZERO
    rate = row.maybe("flexibleHourlyInterestRate")
    if rate is None:
        if flexible:
            raise row.bad("flexibleHourlyInterestRate", "missing for a flexible debt")
        rate = ZERO
    return LoanDebt(coin=row.name("loanCurrency"), qty=flexible + fixed, hourly_rate=rate)


@strict
def parse_loan_collateral(row: Row) -> LoanCollateral:
    """One coin locked with the loan."""
    return LoanCollateral(coin=row.name("currency"), qty=row.decimal("amount"))


def parse_collateral_state(result: Row) -> int:
    """`colRes`: 0, 1 or 2; −1 = the venue did not say, which is not the same as 0."""
    if result.text_or("colRes") == "":
        return COLLATERAL_STATE_UNKNOWN
    return result.integer("colRes")


# ---------------------------------------------------------------- positions


@strict
def parse_position(row: Row, *, category: str) -> Position | None:
    """One position row, REST (`avgPrice`) or push (`entryPrice`). None = a flat hedge-mode row.

    Flat rows have `""` for side, prices and UPL: there they mean 0, elsewhere they are errors.
    """
    size = row.decimal("size")
    if size < 0:
        raise row.bad("size", "negative; the side carries the sign")
    if row.integer("positionIdx") != 0:
        if size:
            raise row.bad("positionIdx", "hedge mode; HedgeLock needs one-way mode")
        return None
    entry_name = "entryPrice" if "entryPrice" in row else "avgPrice"
    rank = row.integer("adlRankIndicator")
    if not 0 <= rank <= _ADL_RANK_MAX:
        raise row.bad("adlRankIndicator", f"not a rank: {rank}")
    liquidation = row.maybe("liqPrice")
    return Position(
        instrument=f"{category}:{row.name('symbol')}",
        position_qty=row.one_of("side", SIDES).sign * size if size else ZERO,
        entry_price=row.decimal(entry_name) if size else ZERO,
        upl=row.decimal("unrealisedPnl") if size else ZERO,
        liquidation_price=liquidation if size and liquidation else None,
        leverage=row.maybe("leverage"),
        status=row.one_of("positionStatus", POSITION_STATUSES) if size else "Normal",
        adl_rank=rank,
        seq=row.integer("seq"),
    )


# ---------------------------------------------------------------- orders and fills


@strict
def parse_order(row: Row, *, category: str, seen: Seen) -> OrderReport:
    """One order row. Filled is `cumExecQty`: `leavesQty` becomes 0 on a cancel."""
    filled, qty = row.decimal("cumExecQty"), row.decimal("qty")
    reasons = (row.text_or("rejectReason"), row.text_or("cancelType"))
    return OrderReport(
        account=seen.account,
        client_order_id=row.text("orderLinkId"),
        venue_order_id=row.name("orderId"),
        instrument=f"{category}:{row.name('symbol')}",
        side=row.one_of("side", SIDES),
        order_type=row.one_of("orderType", ORDER_TYPES),
        qty=qty,
        filled_qty=filled,
        reduce_only=row.flag("reduceOnly"),
        status=row.one_of("orderStatus", ORDER_STATUSES),
        text=" ".join(reason for reason in reasons if reason not in _QUIET_TEXTS),
        created_ts_ms=row.ts_ms("createdTime"),
        ts_event_ms=row.ts_ms("updatedTime"),
        ts_seen_ms=seen.ts_seen_ms,
        price=row.maybe("price") or None,
    )


@strict
def parse_execution(
    row: Row, *, category: str, seen: Seen, pnl: Decimal | None = None
) -> ExecutionReport:
    """One execution row. `execFee` + = paid, also for funding.

    Realised profit: `execPnl`, or `pnl` where the row has none (REST), or 0 for a fill that closed
    nothing; anything else is an error, not a zero.
    """
    symbol = row.name("symbol")
    realised = row.maybe("execPnl")
    if realised is None:
        realised = pnl
    if realised is None:
        if category != "spot" and row.decimal("closedSize"):
            raise row.bad("execPnl", "missing for a fill that closed something")
        realised = ZERO
    fee_coin = row.text_or("feeCurrency") or settle_coin(category, symbol)
    if not fee_coin:
        raise row.bad("feeCurrency", "empty, and the symbol does not tell")
    return ExecutionReport(
        account=seen.account,
        client_order_id=row.text("orderLinkId"),
        venue_order_id=row.name("orderId"),
        exec_type=row.name("execType"),
        fill=Fill(
            exec_id=row.name("execId"),
            instrument=f"{category}:{symbol}",
            side=row.one_of("side", SIDES),
            qty=row.decimal("execQty"),
            price=row.decimal("execPrice"),
            fee=row.decimal("execFee"),
            fee_coin=fee_coin,
            pnl=realised,
            is_maker=row.flag("isMaker"),
            seq=row.integer("seq"),
            ts_ms=row.ts_ms("execTime"),
        ),
        ts_seen_ms=seen.ts_seen_ms,
    )


# ---------------------------------------------------------------- ledger


@strict
def parse_ledger_line(row: Row, *, seen: Seen) -> LedgerLine:
    """One line of the transaction log. `funding` is `""` on lines that carry none."""
    symbol, category = row.text_or("symbol"), row.text_or("category")
    return LedgerLine(
        account=seen.account,
        line_id=row.name("id"),
        line_type=row.name("type"),
        coin=row.name("currency"),
        instrument=f"{category}:{symbol}" if symbol else "",
        side=row.text_or("side"),
        qty=row.maybe("qty") or ZERO,
        price=row.maybe("tradePrice"),
        cash_flow=row.decimal("cashFlow"),
        funding=row.maybe("funding") or ZERO,
        fee=row.maybe("fee") or ZERO,
        change=row.decimal("change"),
        balance=row.decimal("cashBalance"),
        client_order_id=row.text_or("orderLinkId"),
        trade_id=row.text_or("tradeId"),
        ts_event_ms=row.ts_ms("transactionTime"),
        ts_seen_ms=seen.ts_seen_ms,
    )


def ledger_gap(line: LedgerLine) -> Decimal:
    """change − (cash_flow + funding − fee); anything but 0 is a line we do not understand."""
    return line.change - (line.cash_flow + line.funding - line.fee)
