"""Private routes of the assets: coins, balances of the pockets, transfers between them."""

from __future__ import annotations

from decimal import Decimal

from hedgelock.simulator.limits import Limit
from hedgelock.simulator.margin import withdrawable
from hedgelock.simulator.money import ZERO, text
from hedgelock.simulator.params import Params, amount, limit, need, optional, page
from hedgelock.simulator.routes import Route
from hedgelock.simulator.rows import locked_coins, push_wallet
from hedgelock.simulator.state import Account, Exchange, Refused, Row

COINS_NAMED_MAX = 10
ETHER, TRON = ("ETH", "ERC20"), ("TRX", "TRC20")
CHAINS = {"ETH": (ETHER,), "USDC": (ETHER,), "USDT": (ETHER, TRON)}
"""Chains and their types of the coins that have no chain of their own name."""
EIGHT = Decimal("0.00000001")


def chains_of(coin: str) -> tuple[tuple[str, str], ...]:
    """Chains of a coin, each with what kind of tokens it has."""
    return CHAINS.get(coin, ((coin, coin),))


def coin_info(x: Exchange, a: Account, params: Params) -> Row:
    """GET asset/coin/query-info."""
    named = optional(params, "coin")
    return {
        "rows": [
            {
                "name": coin, "coin": coin, "remainAmount": "1000000",
                "chains": [
                    {
                        "chain": chain, "chainType": kind, "confirmation": "1",
                        "withdrawFee": "0.0001", "depositMin": "0", "withdrawMin": "0.001",
                        "minAccuracy": "8", "chainDeposit": "0", "chainWithdraw": "0",
                        "withdrawPercentageFee": "0", "contractAddress": "",
                        "safeConfirmNumber": "1",
                    }
                    for chain, kind in chains_of(coin)
                ],
            }
            for coin in x.coins
            if named in {"", coin}
        ]
    }  # fmt: skip


def transferable(x: Exchange, a: Account, coin: str) -> Decimal:
    """Coins that may leave the unified pocket now, at the eight decimals of a transfer."""
    free = withdrawable(x.report(a), coin) - locked_coins(a).get(coin, ZERO)
    return max(ZERO, free).quantize(EIGHT, rounding="ROUND_DOWN")


def _pocket(a: Account, name: str) -> str:
    if name not in {"UNIFIED", "FUND"}:
        raise Refused(131203, f"Request parameter error: account {name} is not supported")
    return a.unified if name == "UNIFIED" else a.fund


def _movable(x: Exchange, a: Account, pocket: str, coin: str) -> str:
    if pocket == "UNIFIED":
        return text(transferable(x, a, coin))
    return text(x.ledger.balance(a.fund, coin))


def coins_balance(x: Exchange, a: Account, params: Params) -> Row:
    """GET asset/transfer/query-account-coins-balance."""
    pocket = need(params, "accountType")
    holder, named = _pocket(a, pocket), optional(params, "coin")
    coins = named.split(",") if named else list(x.ledger.coins(holder))
    if pocket == "UNIFIED" and not (named and len(coins) <= COINS_NAMED_MAX):
        raise Refused(10001, "params error: UNIFIED needs one to ten coins")
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
    """GET asset/transfer/query-account-coin-balance; the safe amounts only where asked for."""
    pocket, coin = need(params, "accountType"), need(params, "coin")
    movable = _movable(x, a, pocket, coin)
    safe = movable if optional(params, "withTransferSafeAmount") == "1" else ""
    ltv_safe = movable if optional(params, "withLtvTransferSafeAmount") == "1" else ""
    return {
        "accountType": pocket, "bizType": 1, "accountId": str(a.uid), "memberId": str(a.uid),
        "balance": {
            "coin": coin, "walletBalance": text(x.ledger.balance(_pocket(a, pocket), coin)),
            "transferBalance": movable, "bonus": "", "transferSafeAmount": safe,
            "ltvTransferSafeAmount": ltv_safe,
        },
    }  # fmt: skip


def transfer(x: Exchange, a: Account, params: Params) -> Row:
    """POST asset/transfer/inter-transfer; the transferId works once, for ever.

    The coins leave at once. While `transfer_processing_ms` passes the status is PENDING and they
    are in neither pocket.
    """
    transfer_id, coin = need(params, "transferId"), need(params, "coin")
    qty = amount(params, "amount")
    source, target = need(params, "fromAccountType"), need(params, "toAccountType")
    holder, goal = _pocket(a, source), _pocket(a, target)
    if source == target:
        raise Refused(131211, "fromAccountType can't be the same as toAccountType")
    if coin not in x.coins:
        raise Refused(131203, "Request parameter error: coin is not supported")
    if qty % EIGHT:
        raise Refused(131210, "Amount accuracy error")
    if transfer_id in a.transfers:
        raise Refused(131214, "TransferId exist")
    if x.ledger.balance(holder, coin) < qty:
        raise Refused(131212, "Insufficient balance")
    if source == "UNIFIED" and transferable(x, a, coin) < qty:
        raise Refused(131228, "your balance is not enough. Please check transfer safe amount")
    row = a.transfers[transfer_id] = {
        "transferId": transfer_id, "coin": coin, "amount": text(qty), "fromAccountType": source,
        "toAccountType": target, "timestamp": str(x.now_ms), "status": "PENDING",
    }  # fmt: skip
    x.ledger.move(coin, qty, source=holder, target=a.transit)
    if source == "UNIFIED":
        x.book(a, "TRANSFER_OUT", coin, cash_flow=-qty)
        push_wallet(x, a, coin)

    def arrive() -> None:
        x.ledger.move(coin, qty, source=a.transit, target=goal)
        row["status"] = "SUCCESS"
        if target == "UNIFIED":
            x.book(a, "TRANSFER_IN", coin, cash_flow=qty)
            push_wallet(x, a, coin)

    x.later(x.transfer_processing_ms, arrive)
    return {"transferId": transfer_id, "status": row["status"]}


def transfers(x: Exchange, a: Account, params: Params) -> Row:
    """GET asset/transfer/query-inter-transfer-list, newest first."""
    wanted = {name: optional(params, name) for name in ("transferId", "coin", "status")}

    def keep(row: Row) -> bool:
        return all(row[name] == value for name, value in wanted.items() if value)

    size = limit(params, default=20, most=50)
    rows, cursor = page(list(a.transfers.values()), params, size=size, keep=keep)
    return {"list": rows, "nextPageCursor": cursor}


MOVE = "/v5/asset/transfer"
PRIVATE: dict[tuple[str, str], Route] = {
    ("GET", "/v5/asset/coin/query-info"): Route(coin_info, Limit(5), ""),
    ("POST", f"{MOVE}/inter-transfer"): Route(transfer, Limit(60, 60_000), "success"),
    ("GET", f"{MOVE}/query-inter-transfer-list"): Route(transfers, Limit(60, 60_000), "success"),
    ("GET", f"{MOVE}/query-account-coins-balance"): Route(coins_balance, Limit(5), "success"),
    ("GET", f"{MOVE}/query-account-coin-balance"): Route(coin_balance, Limit(450), "success"),
}
