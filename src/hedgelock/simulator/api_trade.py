"""Private routes that change orders: create, amend, cancel, their batches, and the pre-check."""

from __future__ import annotations

from hedgelock.simulator import api_dcp, api_market, api_orders, api_position, batch, price_limit
from hedgelock.simulator.amend import amend
from hedgelock.simulator.api_orders import FILTERS, find
from hedgelock.simulator.endings import cancel
from hedgelock.simulator.margin import MarginReport
from hedgelock.simulator.matching import BUY
from hedgelock.simulator.params import Params, optional
from hedgelock.simulator.routes import WRITE, Batched, PublicHandler, Route
from hedgelock.simulator.state import OPEN_STATUSES, Account, Exchange, Order, Refused, Row
from hedgelock.simulator.ticket import read_order
from hedgelock.simulator.trading import check_means, submit

E4 = 10_000


def create(x: Exchange, a: Account, params: Params) -> Row:
    """POST order/create."""
    order = read_order(x, a, params)
    submit(x, a, order)
    return _ids(order)


def _ids(order: Order) -> Row:
    return {"orderId": order.order_id, "orderLinkId": order.link}


def _open_order(x: Exchange, a: Account, params: Params, *, verb: str) -> Order:
    """The open order that a request names."""
    c = api_market.contract(x, params)
    if not optional(params, "orderId") and not optional(params, "orderLinkId"):
        raise Refused(10001, "params error: orderId or orderLinkId is required")
    order = find(x, a, params)
    if order is None or order.contract is not c or order.status not in OPEN_STATUSES:
        if c.is_spot:
            raise Refused(170213, "Order does not exist.")
        raise Refused(110001, f"order not exists or too late to {verb}")
    return order


def amend_one(x: Exchange, a: Account, params: Params) -> Row:
    """POST order/amend."""
    order = _open_order(x, a, params, verb="replace")
    amend(x, a, order, params)
    return _ids(order)


def cancel_one(x: Exchange, a: Account, params: Params) -> Row:
    """POST order/cancel."""
    order = _open_order(x, a, params, verb="cancel")
    cancel(x, a, order)
    return _ids(order)


def cancel_all(x: Exchange, a: Account, params: Params) -> Row:
    """POST order/cancel-all; symbol goes before baseCoin before settleCoin."""
    group = api_market.category(params)
    symbol, base = optional(params, "symbol"), optional(params, "baseCoin")
    settle, kind = optional(params, "settleCoin"), optional(params, "orderFilter")
    stop_type = optional(params, "stopOrderType")
    if group != "spot" and not (symbol or base or settle):
        raise Refused(10001, "params error: symbol, baseCoin or settleCoin is required")
    if kind not in FILTERS:
        raise Refused(10001, "params error: orderFilter invalid")
    gone = []
    for order in a.open_orders.values():
        c = order.contract
        if c.category != group or (symbol and c.symbol != symbol):
            continue
        if not symbol and ((base and c.base != base) or (settle and c.settle != settle)):
            continue
        if not FILTERS[kind](order) or (stop_type and order.stop_type != stop_type):
            continue
        if order.status in OPEN_STATUSES:  # a reduce-only one may have gone with another
            cancel(x, a, order)
            gone.append(_ids(order))
    return {"list": gone, "success": "1"}


def create_batch(x: Exchange, a: Account, params: Params) -> Batched:
    """POST order/create-batch."""
    return batch.serve(create, x, a, params, admitted=x.admitted, stamped=True)


def amend_batch(x: Exchange, a: Account, params: Params) -> Batched:
    """POST order/amend-batch."""
    return batch.serve(amend_one, x, a, params, admitted=x.admitted, stamped=False)


def cancel_batch(x: Exchange, a: Account, params: Params) -> Batched:
    """POST order/cancel-batch."""
    return batch.serve(cancel_one, x, a, params, admitted=x.admitted, stamped=False)


def pre_check(x: Exchange, a: Account, params: Params) -> Row:
    """POST order/pre-check: margin rates × 10,000 before and after an order that is not placed."""
    order = read_order(x, a, params)
    if order.contract.category != "linear" or order.trigger is not None:
        raise Refused(10001, "params error: pre-check supports linear orders without a trigger")
    before, after = x.report(a), _report_once_filled(x, a, order)
    rates = {
        "preImrE4": int(before.im_rate * E4), "preMmrE4": int(before.mm_rate * E4),
        "postImrE4": int(after.im_rate * E4), "postMmrE4": int(after.mm_rate * E4),
    }  # fmt: skip
    try:
        check_means(x, a, order)
    except Refused as refusal:
        ext = {"post_imr_e4": rates["postImrE4"], "post_mmr_e4": rates["postMmrE4"]}
        raise Refused(refusal.code, refusal.message, ext=ext) from refusal
    return {**_ids(order), **rates}


def _report_once_filled(x: Exchange, a: Account, order: Order) -> MarginReport:
    """Margin as if the order had been filled at mark."""
    c = order.contract
    position, mark = x.position(a, c), x.market.quotes[c.key].mark
    size, entry = position.size, position.entry_value
    change = c.qty(order.lots) if order.side == BUY else -c.qty(order.lots)
    after = size + change
    if size * change >= 0:
        position.entry_value = entry + c.value(abs(change), mark)
    elif size * after >= 0:
        position.entry_value = entry * after / size
    else:
        position.entry_value = c.value(abs(after), mark)
    position.size = after
    report = x.report(a)
    position.size, position.entry_value = size, entry
    return report


def _weight(params: Params) -> int:
    return len(batch.items(params))


PUBLIC: dict[str, PublicHandler] = {"/v5/market/price-limit": price_limit.price_limit}
PRIVATE: dict[tuple[str, str], Route] = {
    ("POST", "/v5/order/create"): Route(create, WRITE),
    ("POST", "/v5/order/amend"): Route(amend_one, WRITE),
    ("POST", "/v5/order/cancel"): Route(cancel_one, WRITE),
    ("POST", "/v5/order/cancel-all"): Route(cancel_all, WRITE),
    ("POST", "/v5/order/create-batch"): Route(create_batch, WRITE, weight=_weight),
    ("POST", "/v5/order/amend-batch"): Route(amend_batch, WRITE, weight=_weight),
    ("POST", "/v5/order/cancel-batch"): Route(cancel_batch, WRITE, weight=_weight),
    ("POST", "/v5/order/pre-check"): Route(pre_check, WRITE),
    ("POST", "/v5/account/set-limit-px-action"): Route(price_limit.set_action, WRITE, "success"),
    ("GET", "/v5/account/user-setting-config"): Route(price_limit.behaviour, WRITE),
    **api_orders.PRIVATE, **api_position.PRIVATE, **api_dcp.PRIVATE,
}  # fmt: skip
