"""Batches: each order by itself, answers and codes index-aligned with the request.

Every order counts against the rate limit; those beyond what is left of it fail with 10006 while
those before succeed (fact sheet §1.6).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hedgelock.simulator import api_market
from hedgelock.simulator.params import Params, optional
from hedgelock.simulator.routes import Batched
from hedgelock.simulator.state import Account, Exchange, Refused, Row

One = Callable[[Exchange, Account, Params], Row]
BATCH_MAX = {"linear": 20, "inverse": 20, "option": 20, "spot": 10}


def items(params: Params) -> list[Mapping[str, Any]]:
    """The orders of a batch request."""
    group, asked = api_market.category(params), params.get("request")
    if not isinstance(asked, list) or not asked or not all(isinstance(r, dict) for r in asked):
        raise Refused(10001, "params error: request is required")
    if len(asked) > BATCH_MAX[group]:
        raise Refused(10001, f"The number of orders exceeds the maximum of {BATCH_MAX[group]}.")
    return [{**r, "category": group} for r in asked]


def serve(
    one: One, x: Exchange, a: Account, params: Params, *, admitted: int, stamped: bool
) -> Batched:
    """Do `one` for each of the first `admitted` orders; creations are `stamped` with their time."""
    rows, codes = [], []
    for number, item in enumerate(items(params)):
        row: Row = {
            "category": item["category"], "symbol": _said(item, "symbol"), "orderId": "",
            "orderLinkId": _said(item, "orderLinkId"),
        }  # fmt: skip
        if stamped:
            row["createAt"] = ""
        code, message = 0, "OK"
        try:
            if number >= admitted:
                raise Refused(10006, "Too many visits. Exceeded the API Rate Limit.")
            row |= one(x, a, item)
            if stamped:
                row["createAt"] = str(x.now_ms)
        except Refused as refusal:
            code, message = refusal.code, refusal.message
        rows.append(row)
        codes.append({"code": code, "msg": message})
    return Batched({"list": rows}, {"list": codes})


def _said(item: Params, name: str) -> str:
    """A field as it was sent, "" when it is no text."""
    try:
        return optional(item, name)
    except Refused:
        return ""
