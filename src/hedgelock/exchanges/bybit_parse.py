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
from hedgelock.domain.effect import ExecutionReport, OrderReport
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
LAST_DIGIT = Decimal("0.00000001")
"""Bybit rounds each figure of a coin by itself."""
EXEC_TYPES = frozenset(
    {
        "Trade", "AdlTrade", "Funding", "BustTrade", "Delivery", "Settle", "BlockTrade",
        "MovePosition", "FutureSpread", "CorporateAction",
    }
)
"""What moved a position or its cash; another one could mean anything, and is refused."""
COLLATERAL_STATES = frozenset({"0", "1", "2"})
COLLATERAL_STATE_UNKNOWN = -1
SPOT_QUOTES = ("USDT", "USDC", "USDE", "USD1", "EUR", "BRL", "PLN", "TRY", "DAI", "BTC", "ETH", "SOL")
"""Coins in which Bybit's spot markets quote, the longest match of a symbol's end wins."""
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


def spot_fee_coin(symbol: str, side: Side, fee: Decimal) -> str:
    """The coin of a spot fee where the row does not name it: what the trade brought in.

    A rebate (fee < 0) comes in the other coin. "" when the symbol does not tell its quote.

    >>> spot_fee_coin("BTCUSDT", Side.BUY, Decimal("0.001")), spot_fee_coin("ETHBTC", Side.SELL, ZERO)
    ('BTC', 'BTC')
    """
    quote = next((coin for coin in SPOT_QUOTES if symbol.endswith(coin) and symbol != coin), "")
    base = symbol.removesuffix(quote) if quote else ""
    return base if (side is Side.BUY) is (fee >= 0) else quote


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
    upl = row.decimal("unrealisedPnl")
    return CoinBalance(
        coin=row.name("coin"),
        wallet_qty=_net_of_borrowing(row, upl),
        borrowed_qty=row.decimal("borrowAmount"),
        accrued_interest=row.decimal("accruedInterest"),
        upl=upl,
        locked_qty=row.decimal("locked"),
        is_collateral=row.flag("marginCollateral") and row.flag("collateralSwitch"),
    )


def _net_of_borrowing(row: Row, upl: Decimal) -> Decimal:
    """walletBalance − spotBorrow. Before spotBorrow existed walletBalance was net already.

    Then `equity` must bear it out: a field that vanished would overstate what is there.
    """
    wallet = row.decimal("walletBalance")
    if "spotBorrow" in row:
        return wallet - row.decimal("spotBorrow")
    if abs(wallet + upl - row.decimal("equity")) > LAST_DIGIT:
        raise row.bad("spotBorrow", "missing, and equity is not walletBalance + unrealisedPnl")
    return wallet


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
    fixed = row.decimal("fixedTotalDebt")
    rate = row.given("flexibleHourlyInterestRate")
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
    """`colRes`: 0, 1 or 2; −1 = it did not say, or what nobody knows: neither is the same as 0."""
    state = result.text_or("colRes")
    return int(state) if state in COLLATERAL_STATES else COLLATERAL_STATE_UNKNOWN


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
    liquidation = row.given("liqPrice")
    return Position(
        instrument=f"{category}:{row.name('symbol')}",
        position_qty=row.one_of("side", SIDES).sign * size if size else ZERO,
        entry_price=row.decimal(entry_name) if size else ZERO,
        upl=row.decimal("unrealisedPnl") if size else ZERO,
        liquidation_price=liquidation if size and liquidation else None,
        leverage=row.given("leverage"),
        status=row.one_of("positionStatus", POSITION_STATUSES) if size else "Normal",
        adl_rank=rank,
        seq=row.integer("seq"),
    )


# ---------------------------------------------------------------- orders and fills


@strict
def parse_order(row: Row, *, category: str, seen: Seen) -> OrderReport:
    """One order row. Filled is `cumExecQty`: `leavesQty` becomes 0 on a cancel.

    `qty` is as the venue states it: quote coins for a spot market order by value, which we never send.
    """
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
        price=row.given("price") or None,
    )


@strict
def parse_execution(
    row: Row, *, category: str, seen: Seen, pnl: Decimal | None = None
) -> ExecutionReport:
    """One execution row. `execFee` + = paid, also for funding.

    Realised profit: `execPnl`, or `pnl` where the row has none (REST), or 0 for a fill that closed
    nothing; anything else is an error, not a zero.
    """
    symbol, side, fee = row.name("symbol"), row.one_of("side", SIDES), row.decimal("execFee")
    exec_type = row.one_of("execType", {name: name for name in EXEC_TYPES})
    realised = row.maybe("execPnl")
    if realised is None:
        realised = pnl
    if realised is None:
        if category != "spot" and row.decimal("closedSize"):
            raise row.bad("execPnl", "missing for a fill that closed something")
        realised = ZERO
    fee_coin = row.text_or("feeCurrency") or settle_coin(category, symbol)
    if category == "spot" and not fee_coin:
        fee_coin = spot_fee_coin(symbol, side, fee)
    if not fee_coin:
        raise row.bad("feeCurrency", "empty, and the symbol does not tell")
    return ExecutionReport(
        account=seen.account,
        client_order_id=row.text("orderLinkId"),
        venue_order_id=row.name("orderId"),
        exec_type=exec_type,
        fill=Fill(
            exec_id=row.name("execId"),
            instrument=f"{category}:{symbol}",
            side=side,
            qty=row.decimal("execQty"),
            price=row.decimal("execPrice"),
            fee=fee,
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
    """One line of the transaction log. Numbers are `""` on lines that carry none of the kind.

    A `""` that hides something shows in `ledger_gap`; a field that vanished is an error.
    """
    symbol, category = row.text("symbol"), row.text("category")
    return LedgerLine(
        account=seen.account,
        line_id=row.name("id"),
        line_type=row.name("type"),
        coin=row.name("currency"),
        instrument=f"{category}:{symbol}" if symbol else "",
        side=row.text("side"),
        qty=row.given("qty") or ZERO,
        price=row.given("tradePrice"),
        cash_flow=row.decimal("cashFlow"),
        funding=row.given("funding") or ZERO,
        fee=row.given("fee") or ZERO,
        change=row.decimal("change"),
        balance=row.decimal("cashBalance"),
        client_order_id=row.text("orderLinkId"),
        trade_id=row.text("tradeId"),
        ts_event_ms=row.ts_ms("transactionTime"),
        ts_seen_ms=seen.ts_seen_ms,
    )


def ledger_gap(line: LedgerLine) -> Decimal:
    """change − (cash_flow + funding − fee); anything but 0 is a line we do not understand."""
    return line.change - (line.cash_flow + line.funding - line.fee)
