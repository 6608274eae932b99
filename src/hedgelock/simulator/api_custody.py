"""Private routes around the pockets: what came from outside, went there, or was delivered.

Coins reach an account when it is opened and never leave the exchange, so the records are empty.
"""

from __future__ import annotations

from hedgelock.simulator.api_asset import chains_of
from hedgelock.simulator.api_market import CATEGORIES
from hedgelock.simulator.limits import Limit
from hedgelock.simulator.params import DAY_MS, Params, need, optional, window
from hedgelock.simulator.routes import Route
from hedgelock.simulator.state import Account, Exchange, Refused, Row

POCKETS = ("UNIFIED", "FUND")


def records(x: Exchange, a: Account, params: Params) -> Row:
    """GET asset/deposit/query-record and asset/withdraw/query-record: thirty days at most."""
    window(params, x.now_ms, span_ms=30 * DAY_MS, most_ms=30 * DAY_MS)
    return {"rows": [], "nextPageCursor": ""}


def deposit_address(x: Exchange, a: Account, params: Params) -> Row:
    """GET asset/deposit/query-address: a name that is an address on no chain."""
    coin = need(params, "coin")
    wanted = optional(params, "chainType")
    chains = [(chain, kind) for chain, kind in chains_of(coin) if wanted in {"", chain}]
    if coin not in x.coins or not chains:
        raise Refused(10001, "params error: coin or chainType invalid")
    return {
        "coin": coin,
        "chains": [
            {
                "chainType": kind, "addressDeposit": f"simulated-{chain}-{coin}-{a.uid}",
                "tagDeposit": "", "chain": chain, "batchReleaseLimit": "-1",
                "contractAddress": "",
            }
            for chain, kind in chains
        ],
    }  # fmt: skip


def deliveries(x: Exchange, a: Account, params: Params) -> Row:
    """GET asset/delivery-record: nothing listed here is ever delivered."""
    group = need(params, "category")
    if group not in CATEGORIES - {"spot"}:
        raise Refused(10001, "params error: Category is invalid")
    return {"category": group, "list": [], "nextPageCursor": ""}


def movable_coins(x: Exchange, a: Account, params: Params) -> Row:
    """GET asset/transfer/query-transfer-coin-list: every coin moves between the two pockets."""
    pockets = {need(params, "fromAccountType"), need(params, "toAccountType")}
    if pockets != set(POCKETS):
        raise Refused(131203, "Request parameter error: account types")
    return {"list": x.coins}


PRIVATE: dict[tuple[str, str], Route] = {
    ("GET", "/v5/asset/deposit/query-record"): Route(records, Limit(5), "success"),
    ("GET", "/v5/asset/withdraw/query-record"): Route(records, Limit(5), "success"),
    ("GET", "/v5/asset/deposit/query-address"): Route(deposit_address, Limit(5), "success"),
    ("GET", "/v5/asset/delivery-record"): Route(deliveries, Limit(5)),
    ("GET", "/v5/asset/transfer/query-transfer-coin-list"): Route(
        movable_coins, Limit(60, 60_000), "success"
    ),
}
