"""How an answer or a push is spoilt: fields dropped, blank, of another type; orders missing."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from hedgelock.simulator.fault_kinds import Fault
from hedgelock.simulator.faults import Verdict
from hedgelock.simulator.params import Params
from hedgelock.simulator.state import Row
from hedgelock.simulator.venue import Response


def spoilt(body: Any, edits: Iterable[Fault]) -> Any:
    """A copy of `body` (an answer's result, a push's rows) with every edit applied."""
    changed = copy.deepcopy(body)
    for fault in edits:
        for holder, name in list(_places(changed, fault.field)):
            _edit(holder, name, fault)
    return changed


def _places(body: Any, path: str) -> Iterator[tuple[Any, Any]]:
    """Where a field lies: (container, key). A bare name is found at any depth."""
    if "." not in path:
        yield from _anywhere(body, path)
        return
    holders = [body]
    *way, last = path.split(".")
    for step in way:
        holders = [inner for holder in holders for _, inner in _under(holder, step)]
    for holder in holders:
        for key, _ in _under(holder, last):
            yield holder, key


def _under(holder: Any, step: str) -> list[tuple[Any, Any]]:
    if isinstance(holder, dict):
        return list(holder.items()) if step == "*" else [(k, holder[k]) for k in holder if k == step]
    if isinstance(holder, list):
        if step == "*":
            return list(enumerate(holder))
        if step.isdigit() and int(step) < len(holder):
            return [(int(step), holder[int(step)])]
    return []


def _anywhere(body: Any, name: str) -> Iterator[tuple[Any, Any]]:
    items = body.items() if isinstance(body, dict) else enumerate(body) if _many(body) else ()
    for key, inner in items:
        if key == name:
            yield body, key
        else:
            yield from _anywhere(inner, name)


def _many(body: Any) -> bool:
    return isinstance(body, list)


def _edit(holder: Any, key: Any, fault: Fault) -> None:
    before = holder[key]
    if fault.op == "drop":
        if isinstance(holder, list):
            holder[key] = {}
        else:
            del holder[key]
        return
    changed: dict[str, Any] = {
        "blank": "", "null": None, "nan": "NaN", "number": 1, "list": [before],
        "set": fault.value, "empty": [] if _many(before) else {},
    }  # fmt: skip
    holder[key] = changed[fault.op]


def without_young(result: Row, *, now_ms: int, hidden_ms: int) -> Row:
    """An answer of order/realtime without the orders that are younger than `hidden_ms`."""
    rows = [r for r in result.get("list", []) if now_ms - int(r["createdTime"]) >= hidden_ms]
    return {**result, "list": rows}


Failures = Mapping[int, tuple[int, str]]


def without_items(params: Params, failures: Failures) -> dict[str, Any]:
    """A batch request without the orders that are to fail."""
    orders = params.get("request")
    if not isinstance(orders, list):
        return dict(params)
    kept = [order for place, order in enumerate(orders) if place not in failures]
    return {**params, "request": kept}


def with_failures(params: Params, result: Row, ext: Row, failures: Failures) -> tuple[Row, Row]:
    """The answer to a batch with its failed orders put back in their places (fact sheet §5.2)."""
    orders = params.get("request")
    if not isinstance(orders, list):
        return result, ext
    answers, codes = iter(result.get("list", [])), iter(ext.get("list", []))
    rows, marks = [], []
    for place, order in enumerate(orders):
        if place in failures and isinstance(order, dict):
            code, message = failures[place]
            rows.append(
                {
                    "category": params.get("category", ""), "symbol": order.get("symbol", ""),
                    "orderId": "", "orderLinkId": order.get("orderLinkId", ""), "createAt": "",
                }
            )  # fmt: skip
            marks.append({"code": code, "msg": message})
            continue
        rows.append(next(answers, {}))
        marks.append(next(codes, {}))
    return {**result, "list": rows}, {**ext, "list": marks}


def skewed(reply: Response, path: str, ahead_ms: int) -> Response:
    """The answer of an exchange whose clock runs ahead: envelope, limits and market/time."""
    time_ms, result = reply.time_ms + ahead_ms, reply.result
    if path == "/v5/market/time":
        result = {"timeSecond": str(time_ms // 1000), "timeNano": str(time_ms * 1_000_000)}
    allowance = replace(reply.allowance, reset_ms=reply.allowance.reset_ms + ahead_ms)
    return replace(reply, time_ms=time_ms, result=result, allowance=allowance)


def tampered(reply: Response, params: Row, verdict: Verdict) -> Response:
    """The answer as the fault lets it out; the exchange has served the request."""
    if reply.code:
        return reply
    if verdict.items:
        result, ext = with_failures(params, reply.result, reply.ext, verdict.items)
        reply = replace(reply, result=result, ext=ext)
    if verdict.hidden_ms:
        hidden = without_young(reply.result, now_ms=reply.time_ms, hidden_ms=verdict.hidden_ms)
        reply = replace(reply, result=hidden)
    if verdict.edits:
        reply = replace(reply, result=spoilt(reply.result, verdict.edits))
    if verdict.after_code:
        reply = replace(reply, code=verdict.after_code, message=verdict.message, result={})
    return reply
