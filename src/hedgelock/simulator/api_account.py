"""Private routes of account, asset and user."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from hedgelock.simulator.limits import Limit
from hedgelock.simulator.margin import withdrawable
from hedgelock.simulator.money import ZERO, text
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
from hedgelock.simulator.routes import READ, WRITE, Route
from hedgelock.simulator.rows import locked_coins, push_wallet, wallet_row
from hedgelock.simulator.state import Account, Exchange, Refused, Row

COINS = ("BTC", "ETH", "USDC", "USDT")
POCKETS = ("UNIFIED", "FUND")
NEVER_MS = 4_070_908_800_000  # 2099-01-01: what a key without expiry shows
DATE = "%Y-%m-%dT%H:%M:%SZ"
EIGHT = Decimal("0.00000001")


def wallet_balance(x: Exchange, a: Account, params: Params) -> Row:
    """GET account/wallet-balance."""
    if need(params, "accountType") != "UNIFIED":
        raise Refused(10001, "accountType only support UNIFIED.")
    named = optional(params, "coin")
    row = wallet_row(x.report(a), locked=locked_coins(a))
    if named:
        row["coin"] = [c for c in row["coin"] if c["coin"] in named.split(",")]
    for coin in row["coin"]:
        coin["accruedInterest"] = text(a.uta_interest.get(coin["coin"], ZERO))
    return {"list": [row]}


def account_info(x: Exchange, a: Account, params: Params) -> Row:
    """GET account/info: unified account 2.0 in cross margin."""
    return {
        "marginMode": "REGULAR_MARGIN", "updatedTime": "1697078946000", "unifiedMarginStatus": 6,
        "dcpStatus": "OFF", "timeWindow": 0, "smpGroup": 0, "isMasterTrader": False,
        "spotHedgingStatus": "OFF",
    }  # fmt: skip


def collateral_info(x: Exchange, a: Account, params: Params) -> Row:
    """GET account/collateral-info."""
    wanted, terms = optional(params, "currency"), x.scenario.margin
    states = x.report(a).coins
    rows = []
    for coin in COINS:
        if wanted not in {"", coin}:
            continue
        borrowed = states[coin].borrowed if coin in states else ZERO
        tiers = terms.collateral_ratio.get(coin)
        rows.append(
            {
                "currency": coin, "hourlyBorrowRate": text(terms.borrow_hourly_rate),
                "maxBorrowingAmount": text(terms.borrow_max), "freeBorrowingLimit": "0",
                "freeBorrowAmount": "0", "borrowAmount": text(borrowed), "otherBorrowAmount": "0",
                "availableToBorrow": text(max(ZERO, terms.borrow_max - borrowed)),
                "borrowable": True, "borrowUsageRate": "0", "marginCollateral": tiers is not None,
                "collateralSwitch": tiers is not None,
                "collateralRatio": text(tiers[0].ratio) if tiers else "0",
                "freeBorrowingAmount": "",
            }
        )  # fmt: skip
    return {"list": rows}


def fee_rate(x: Exchange, a: Account, params: Params) -> Row:
    """GET account/fee-rate."""
    group, symbol = optional(params, "category", "linear"), optional(params, "symbol")
    return {
        "list": [
            {
                "symbol": c.symbol, "takerFeeRate": text(c.taker_rate),
                "makerFeeRate": text(c.maker_rate),
            }
            for c in x.contracts.values()
            if c.category == group and symbol in {"", c.symbol}
        ]
    }  # fmt: skip


def transaction_log(x: Exchange, a: Account, params: Params) -> Row:
    """GET account/transaction-log, newest first."""
    start, end = window(params, x.now_ms, span_ms=DAY_MS, most_ms=WEEK_MS)
    filters = {
        "category": optional(params, "category"),
        "currency": optional(params, "currency"),
        "type": optional(params, "type"),
    }

    def keep(row: Row) -> bool:
        return start <= int(row["transactionTime"]) <= end and all(
            row[name] == value for name, value in filters.items() if value
        )

    size = limit(params, default=20, most=50)
    rows, cursor = page(a.log, params, size=size, keep=keep)
    return {"nextPageCursor": cursor, "list": rows}


def _free(x: Exchange, a: Account, coin: str) -> Decimal:
    """Coins that may leave the unified pocket now, at the eight decimals of a transfer."""
    free = withdrawable(x.report(a), coin) - locked_coins(a).get(coin, ZERO)
    return max(ZERO, free).quantize(EIGHT, rounding="ROUND_DOWN")


def withdrawal(x: Exchange, a: Account, params: Params) -> Row:
    """GET account/withdrawal: what may be moved out of the unified pocket, in coins."""
    free = {coin: text(_free(x, a, coin)) for coin in need(params, "coinName").split(",")[:20]}
    return {"availableWithdrawal": next(iter(free.values())), "availableWithdrawalMap": free}


def api_key(x: Exchange, a: Account, params: Params) -> Row:
    """GET user/query-api: the terms of the key that asks."""
    terms = a.terms
    expires_ms = NEVER_MS if terms.expires_ms is None else terms.expires_ms
    return {
        "id": str(a.uid), "note": "simulator", "apiKey": a.key, "readOnly": int(terms.read_only),
        "secret": "", "permissions": {k: list(v) for k, v in terms.permissions.items()},
        "ips": list(terms.ips), "type": 1,
        "deadlineDay": max(0, expires_ms - x.now_ms) // DAY_MS,
        "expiredAt": datetime.fromtimestamp(expires_ms / 1000, UTC).strftime(DATE), "createdAt": "2024-01-01T00:00:00Z", "unified": 0,
        "uta": 1, "userID": a.uid, "inviterID": 0, "vipLevel": "No VIP", "mktMakerLevel": "0",
        "affiliateID": 0, "rsaPublicKey": "", "isMaster": True, "parentUid": "0",
        "kycLevel": "LEVEL_1", "kycRegion": "",
    }  # fmt: skip


def coin_info(x: Exchange, a: Account, params: Params) -> Row:
    """GET asset/coin/query-info."""
    named = optional(params, "coin")
    return {
        "rows": [
            {
                "name": coin, "coin": coin, "remainAmount": "1000000",
                "chains": [
                    {
                        "chain": coin, "chainType": coin, "confirmation": "1",
                        "withdrawFee": "0.0001", "depositMin": "0", "withdrawMin": "0.001",
                        "minAccuracy": "8", "chainDeposit": "0", "chainWithdraw": "0",
                        "withdrawPercentageFee": "0", "contractAddress": "",
                        "safeConfirmNumber": "1",
                    }
                ],
            }
            for coin in COINS
            if named in {"", coin}
        ]
    }  # fmt: skip


def _pocket(a: Account, name: str) -> str:
    if name not in POCKETS:
        raise Refused(131001, f"accountType {name} is not supported")
    return a.unified if name == "UNIFIED" else a.fund


def _movable(x: Exchange, a: Account, pocket: str, coin: str) -> str:
    if pocket == "UNIFIED":
        return text(_free(x, a, coin))
    return text(x.ledger.balance(a.fund, coin))


def coins_balance(x: Exchange, a: Account, params: Params) -> Row:
    """GET asset/transfer/query-account-coins-balance."""
    pocket = need(params, "accountType")
    holder, named = _pocket(a, pocket), optional(params, "coin")
    if pocket == "UNIFIED" and not named:
        raise Refused(10001, "params error: coin is required for UNIFIED")
    coins = named.split(",") if named else list(x.ledger.coins(holder))
    return {
        "memberId": str(a.uid),
        "accountType": pocket,
        "balance": [
            {
                "coin": coin,
                "walletBalance": text(x.ledger.balance(holder, coin)),
                "transferBalance": _movable(x, a, pocket, coin),
                "bonus": "",
            }
            for coin in coins
        ],
    }


def coin_balance(x: Exchange, a: Account, params: Params) -> Row:
    """GET asset/transfer/query-account-coin-balance."""
    pocket, coin = need(params, "accountType"), need(params, "coin")
    movable = _movable(x, a, pocket, coin)
    return {
        "accountType": pocket, "bizType": 1, "accountId": str(a.uid), "memberId": str(a.uid),
        "balance": {
            "coin": coin, "walletBalance": text(x.ledger.balance(_pocket(a, pocket), coin)),
            "transferBalance": movable, "bonus": "", "transferSafeAmount": movable,
            "ltvTransferSafeAmount": "",
        },
    }  # fmt: skip


def transfer(x: Exchange, a: Account, params: Params) -> Row:
    """POST asset/transfer/inter-transfer; the transferId works once, for ever."""
    transfer_id, coin = need(params, "transferId"), need(params, "coin")
    qty = amount(params, "amount")
    source, target = need(params, "fromAccountType"), need(params, "toAccountType")
    holder, goal = _pocket(a, source), _pocket(a, target)
    if source == target or coin not in COINS:
        raise Refused(131001, "params error: accounts or coin invalid")
    if transfer_id in a.transfers:
        raise Refused(131214, "TransferId exists")
    if x.ledger.balance(holder, coin) < qty:
        raise Refused(131212, "Insufficient balance")
    if source == "UNIFIED" and _free(x, a, coin) < qty:
        raise Refused(131228, "Your balance is not enough: exceeds the safe amount")
    qty = x.ledger.move(coin, qty, source=holder, target=goal)
    a.transfers[transfer_id] = {
        "transferId": transfer_id, "coin": coin, "amount": text(qty), "fromAccountType": source,
        "toAccountType": target, "timestamp": str(x.now_ms), "status": "SUCCESS",
    }  # fmt: skip
    into = target == "UNIFIED"
    x.book(a, "TRANSFER_IN" if into else "TRANSFER_OUT", coin, cash_flow=qty if into else -qty)
    push_wallet(x, a, coin)
    return {"transferId": transfer_id, "status": "SUCCESS"}


def transfers(x: Exchange, a: Account, params: Params) -> Row:
    """GET asset/transfer/query-inter-transfer-list."""
    wanted, coin = optional(params, "transferId"), optional(params, "coin")
    status = optional(params, "status")

    def keep(row: Row) -> bool:
        return (
            wanted in {"", row["transferId"]}
            and coin in {"", row["coin"]}
            and status in {"", row["status"]}
        )

    size = limit(params, default=20, most=50)
    rows, cursor = page(list(a.transfers.values()), params, size=size, keep=keep)
    return {"list": rows, "nextPageCursor": cursor}


MOVE = "/v5/asset/transfer"
PRIVATE: dict[tuple[str, str], Route] = {
    ("GET", "/v5/account/wallet-balance"): Route(wallet_balance, READ),
    ("GET", "/v5/account/info"): Route(account_info, READ),
    ("GET", "/v5/account/collateral-info"): Route(collateral_info, READ),
    ("GET", "/v5/account/fee-rate"): Route(fee_rate, Limit(5)),
    ("GET", "/v5/account/transaction-log"): Route(transaction_log, Limit(25)),
    ("GET", "/v5/account/withdrawal"): Route(withdrawal, READ, "request.success"),
    ("GET", "/v5/user/query-api"): Route(api_key, WRITE, ""),
    ("GET", "/v5/asset/coin/query-info"): Route(coin_info, Limit(5), ""),
    ("POST", f"{MOVE}/inter-transfer"): Route(transfer, Limit(60, 60_000), "success"),
    ("GET", f"{MOVE}/query-inter-transfer-list"): Route(transfers, Limit(60, 60_000), "success"),
    ("GET", f"{MOVE}/query-account-coins-balance"): Route(coins_balance, Limit(5), "success"),
    ("GET", f"{MOVE}/query-account-coin-balance"): Route(coin_balance, Limit(450), "success"),
}
