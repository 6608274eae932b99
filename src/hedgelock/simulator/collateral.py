"""Which coins of the unified pocket count as collateral, and switching them."""

from __future__ import annotations

from hedgelock.simulator.borrowing import STABLE
from hedgelock.simulator.state import Account, Exchange, Refused


def is_collateral(x: Exchange, account: Account, coin: str) -> bool:
    """Whether the wallet of a coin counts now."""
    return coin in x.scenario.margin.collateral_ratio and coin not in account.idle


def switch(x: Exchange, account: Account, wanted: dict[str, bool]) -> None:
    """Switch coins on or off together; refused, nothing changes."""
    ratios = x.scenario.margin.collateral_ratio
    for coin in wanted:
        if coin in STABLE or coin not in ratios:
            raise Refused(182111, f"{coin} does not support switching status")
    before = set(account.idle)
    account.idle = before.union(c for c, on in wanted.items() if not on)
    account.idle -= {c for c, on in wanted.items() if on}
    if account.idle - before and _margin_needs(x, account, account.idle - before):
        account.idle = before
        raise Refused(182108, "Switching failed, margin verification failed")


def _margin_needs(x: Exchange, account: Account, coins: set[str]) -> bool:
    """Whether the account, with these coins off, is short of margin or trades inverse on them."""
    settled = {
        key.partition(".")[0] == "inverse" and x.contracts[key].settle
        for key in (
            *(k for k, p in account.positions.items() if p.size),
            *(o.contract.key for o in account.open_orders.values()),
        )
    }
    return bool(settled & coins) or x.report(account).available < 0
