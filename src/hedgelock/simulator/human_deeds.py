"""What the account's owner does by hand, in the exchange's own app: deeds of a script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hedgelock.simulator.deeds import Agenda, Deed


def _human(agenda: Agenda, deed: Deed, path: str, params: Mapping[str, object]) -> None:
    """A request in the app; what the exchange refuses is kept, because the script meant it."""
    reason = agenda.place(agenda.account(deed), path, params)
    if reason:
        agenda.refused.append((deed, reason))


def order(agenda: Agenda, deed: Deed) -> None:
    """A market order of `amount`."""
    c = agenda.contract(deed)
    params = {
        "category": c.category, "symbol": c.symbol, "side": deed.side, "orderType": "Market",
        "qty": str(deed.amount),
    }  # fmt: skip
    _human(agenda, deed, "/v5/order/create", params)


def close(agenda: Agenda, deed: Deed) -> None:
    """The whole position in a contract, closed."""
    account, c = agenda.account(deed), agenda.contract(deed)
    long = agenda.x.position(account, c).size > 0
    params = {
        "category": c.category, "symbol": c.symbol, "side": "Sell" if long else "Buy",
        "orderType": "Market", "qty": "0", "reduceOnly": True, "closeOnTrigger": True,
    }  # fmt: skip
    _human(agenda, deed, "/v5/order/create", params)


def cancel(agenda: Agenda, deed: Deed) -> None:
    """Every resting order of a contract, cancelled."""
    c = agenda.contract(deed)
    params = {"category": c.category, "symbol": c.symbol}
    _human(agenda, deed, "/v5/order/cancel-all", params)


def transfer(agenda: Agenda, deed: Deed) -> None:
    """`amount` from the unified pocket to FUND; negative: back."""
    account, pockets = agenda.account(deed), ("UNIFIED", "FUND")
    source, target = pockets if deed.amount > 0 else pockets[::-1]
    transfer_id = agenda.x.new_id("transfer")
    params = {
        "transferId": transfer_id, "coin": deed.coin, "amount": str(abs(deed.amount)),
        "fromAccountType": source, "toAccountType": target,
    }  # fmt: skip
    _human(agenda, deed, "/v5/asset/transfer/inter-transfer", params)
    if transfer_id in account.transfers:
        agenda.by_hand.add(transfer_id)


def repay(agenda: Agenda, deed: Deed) -> None:
    """`amount` of the loan, from FUND."""
    account = agenda.account(deed)
    before = {row["repayId"] for row in account.repayments}
    params = {"loanCurrency": deed.coin, "loanAmount": str(deed.amount)}
    _human(agenda, deed, "/v5/crypto-loan-flexible/repay", params)
    agenda.by_hand |= {row["repayId"] for row in account.repayments} - before
