"""Routes of disconnection protection, and the cancelling that it orders."""

from __future__ import annotations

from hedgelock.simulator.dcp import PRODUCTS, WINDOW_MAX_S, WINDOW_MIN_S
from hedgelock.simulator.endings import cancel
from hedgelock.simulator.limits import Limit
from hedgelock.simulator.params import Params, optional, whole
from hedgelock.simulator.routes import READ, Envelope, Route
from hedgelock.simulator.state import Account, Exchange, Refused, Row


def cancel_disconnected(x: Exchange) -> None:
    """Cancel the orders whose accounts' windows have ended by now (cancelType CancelByDCP)."""
    for name, product in x.dcp.due(x.now_ms):
        account = x.accounts[name]
        for order in account.open_orders.values():
            if order.contract.category in PRODUCTS[product]:
                cancel(x, account, order, cancel_type="CancelByDCP")


def configure(x: Exchange, a: Account, params: Params) -> Row:
    """POST order/disconnected-cancel-all; only for accounts that the exchange has enabled."""
    product = optional(params, "product", "OPTIONS") or "OPTIONS"
    window_s = whole(params, "timeWindow", 0)
    if product not in PRODUCTS or not WINDOW_MIN_S <= window_s <= WINDOW_MAX_S:
        raise Refused(10001, "params error: product or timeWindow invalid")
    if not a.terms.dcp:
        raise Refused(10005, "Permission denied, disconnect protection is not enabled")
    x.dcp.configure(a.name, product, window_s=window_s, now_ms=x.now_ms)
    return {}


def query(x: Exchange, a: Account, params: Params) -> Row:
    """GET account/query-dcp-info: the configured products; none when not enabled."""
    if not a.terms.dcp:
        return {"dcpInfos": []}
    infos = [
        {
            "product": product, "dcpStatus": "ON",
            "timeWindow": str(x.dcp.window_s(a.name, product, x.now_ms)),
        }
        for product in x.dcp.configured(a.name)
    ]  # fmt: skip
    return {"dcpInfos": infos}


PRIVATE: dict[tuple[str, str], Route] = {
    ("POST", "/v5/order/disconnected-cancel-all"): Route(
        configure, Limit(5), "success", envelope=Envelope.BARE
    ),
    ("GET", "/v5/account/query-dcp-info"): Route(query, READ, "success"),
}
