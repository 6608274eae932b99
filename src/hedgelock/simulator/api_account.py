"""Private routes of account and user."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from hedgelock.simulator import api_market, borrowing, collateral
from hedgelock.simulator.api_asset import transferable
from hedgelock.simulator.limits import Limit
from hedgelock.simulator.money import ZERO, text
from hedgelock.simulator.params import (
    DAY_MS,
    WEEK_MS,
    Params,
    limit,
    need,
    optional,
    page,
    window,
)
from hedgelock.simulator.routes import READ, WRITE, Envelope, Route
from hedgelock.simulator.rows import wallet_row
from hedgelock.simulator.state import Account, Exchange, Refused, Row

COINS_NAMED_MAX = 20
LOG_FILTERS = ("category", "currency", "type", "transSubType")
NEVER_MS = 4_070_908_800_000  # 2099-01-01: what a key without expiry shows
DATE = "%Y-%m-%dT%H:%M:%SZ"
EIGHT = Decimal("0.00000001")


def wallet_balance(x: Exchange, a: Account, params: Params) -> Row:
    """GET account/wallet-balance."""
    if need(params, "accountType") != "UNIFIED":
        raise Refused(10001, "accountType only support UNIFIED.")
    named = optional(params, "coin")
    row = wallet_row(x, a)
    if named:
        row["coin"] = [c for c in row["coin"] if c["coin"] in named.split(",")]
    return {"list": [row]}


def account_info(x: Exchange, a: Account, params: Params) -> Row:
    """GET account/info: unified account 2.0 in cross margin."""
    return {
        "marginMode": "REGULAR_MARGIN", "updatedTime": "1697078946000", "unifiedMarginStatus": 6,
        "dcpStatus": "OFF", "timeWindow": 0, "smpGroup": 0, "isMasterTrader": False,
        "spotHedgingStatus": "OFF",
    }  # fmt: skip


def set_margin_mode(x: Exchange, a: Account, params: Params) -> Row:
    """POST account/set-margin-mode: cross margin is the only mode here."""
    mode = need(params, "setMarginMode")
    if mode == "REGULAR_MARGIN":
        return {"reasons": []}
    if mode not in {"ISOLATED_MARGIN", "PORTFOLIO_MARGIN"}:
        raise Refused(10001, "params error: setMarginMode invalid")
    reason = {"reasonCode": "3400000", "reasonMsg": f"{mode} is not available for this account"}
    raise Refused(3400045, "Set margin mode failed", result={"reasons": [reason]})


def collateral_info(x: Exchange, a: Account, params: Params) -> Row:
    """GET account/collateral-info: what each coin may borrow, and whether it is collateral."""
    wanted, terms = optional(params, "currency"), x.scenario.margin
    rows = []
    for coin in x.coins:
        if wanted not in {"", coin}:
            continue
        owed = borrowing.borrowed(x, a, coin)
        tiers = terms.collateral_ratio.get(coin)
        used = (owed / terms.borrow_max).quantize(EIGHT) if terms.borrow_max else ZERO
        rows.append(
            {
                "currency": coin, "hourlyBorrowRate": text(terms.borrow_hourly_rate),
                "maxBorrowingAmount": text(terms.borrow_max), "freeBorrowingLimit": "0",
                "freeBorrowAmount": "0", "borrowAmount": text(owed), "otherBorrowAmount": "0",
                "availableToBorrow": text(borrowing.quota_left(x, a, coin)), "borrowable": True,
                "borrowUsageRate": text(used), "marginCollateral": tiers is not None,
                "collateralSwitch": collateral.is_collateral(x, a, coin),
                "collateralRatio": text(tiers[0].ratio) if tiers else "0",
                "freeBorrowingAmount": "",
            }
        )  # fmt: skip
    return {"list": rows}


def _switches(request: object) -> dict[str, bool]:
    if not isinstance(request, list) or not all(isinstance(item, dict) for item in request):
        raise Refused(10001, "params error: request invalid")
    wanted: dict[str, bool] = {}
    for item in request:
        coin, position = need(item, "coin"), need(item, "collateralSwitch")
        if position not in {"ON", "OFF"}:
            raise Refused(10001, "params error: collateralSwitch invalid")
        if coin in wanted:
            raise Refused(182112, "Duplicate currency, please re-adjust")
        wanted[coin] = position == "ON"
    if not wanted:
        raise Refused(10001, "params error: request is required")
    return wanted


def set_collateral(x: Exchange, a: Account, params: Params) -> Row:
    """POST account/set-collateral-switch."""
    collateral.switch(x, a, _switches([dict(params)]))
    return {}


def set_collaterals(x: Exchange, a: Account, params: Params) -> Row:
    """POST account/set-collateral-switch-batch: all of them, or none."""
    wanted = _switches(params.get("request"))
    collateral.switch(x, a, wanted)
    rows = [{"coin": c, "collateralSwitch": "ON" if on else "OFF"} for c, on in wanted.items()]
    return {"list": rows}


def fee_rate(x: Exchange, a: Account, params: Params) -> Row:
    """GET account/fee-rate; options and spot name their category."""
    group, symbol = optional(params, "category", "linear"), optional(params, "symbol")
    if group not in api_market.CATEGORIES:
        raise Refused(10001, "params error: Category is invalid")
    rows = [
        {
            "symbol": c.symbol, "baseCoin": "", "takerFeeRate": text(c.taker_rate),
            "makerFeeRate": text(c.maker_rate),
        }
        for c in x.contracts.values()
        if c.category == group and symbol in {"", c.symbol}
    ]  # fmt: skip
    return {"list": rows} | ({"category": group} if group in {"spot", "option"} else {})


def transaction_log(x: Exchange, a: Account, params: Params) -> Row:
    """GET account/transaction-log, newest first."""
    start, end = window(params, x.now_ms, span_ms=DAY_MS, most_ms=WEEK_MS)
    if optional(params, "accountType", "UNIFIED") != "UNIFIED":
        raise Refused(10001, "accountType only support UNIFIED.")
    filters = {name: optional(params, name) for name in LOG_FILTERS}
    base = optional(params, "baseCoin")
    symbols = {c.symbol for c in x.contracts.values() if c.base == base}

    def keep(row: Row) -> bool:
        if base and row["symbol"] not in symbols:
            return False
        return start <= int(row["transactionTime"]) <= end and all(
            row[name] == value for name, value in filters.items() if value
        )

    size = limit(params, default=20, most=50)
    rows, cursor = page(a.log, params, size=size, keep=keep)
    return {"nextPageCursor": cursor, "list": rows}


def withdrawal(x: Exchange, a: Account, params: Params) -> Row:
    """GET account/withdrawal: what may be moved out of the unified pocket, in coins."""
    coins = need(params, "coinName").split(",")
    if len(coins) > COINS_NAMED_MAX:
        raise Refused(10001, "params error: at most 20 coins")
    free = {coin: text(transferable(x, a, coin)) for coin in coins}
    return {"availableWithdrawal": free[coins[0]], "availableWithdrawalMap": free}


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


def member_type(x: Exchange, a: Account, params: Params) -> Row:
    """GET user/get-member-type: the pockets of the account."""
    return {"accounts": [{"uid": str(a.uid), "accountType": ["UNIFIED", "FUND"]}]}


def account_instruments(x: Exchange, a: Account, params: Params) -> Row:
    """GET account/instruments-info: the public rows; this account has no limits of its own."""
    return api_market.instruments(x, params)


ACCOUNT = "/v5/account"
PRIVATE: dict[tuple[str, str], Route] = {
    ("GET", f"{ACCOUNT}/wallet-balance"): Route(wallet_balance, READ),
    ("GET", f"{ACCOUNT}/info"): Route(account_info, READ, envelope=Envelope.BARE),
    ("POST", f"{ACCOUNT}/set-margin-mode"): Route(
        set_margin_mode, Limit(5), "Request accepted", envelope=Envelope.BARE
    ),
    ("GET", f"{ACCOUNT}/collateral-info"): Route(collateral_info, READ),
    ("POST", f"{ACCOUNT}/set-collateral-switch"): Route(set_collateral, Limit(5), "SUCCESS"),
    ("POST", f"{ACCOUNT}/set-collateral-switch-batch"): Route(set_collaterals, Limit(5), "SUCCESS"),
    ("GET", f"{ACCOUNT}/fee-rate"): Route(fee_rate, Limit(5)),
    ("GET", f"{ACCOUNT}/transaction-log"): Route(transaction_log, Limit(25)),
    ("GET", f"{ACCOUNT}/withdrawal"): Route(withdrawal, READ, "request.success"),
    ("GET", f"{ACCOUNT}/instruments-info"): Route(account_instruments, WRITE),
    ("GET", "/v5/user/get-member-type"): Route(member_type, WRITE, ""),
    ("GET", "/v5/user/query-api"): Route(api_key, WRITE, ""),
}
