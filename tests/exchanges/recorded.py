"""Recorded and documented Bybit payloads, each with the parser of ours that reads it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from exchanges.bybit_samples import SEEN
from hedgelock.exchanges import bybit_history, bybit_key, bybit_market, bybit_parse
from hedgelock.exchanges.fields import Row

FEES = (Decimal("0.00055"), Decimal("0.0002"))


class Case(NamedTuple):
    """One JSON object as Bybit sent it, and what it is."""

    name: str
    kind: str
    body: dict[str, Any]
    category: str = ""
    """Of a ticker: the whole instrument."""


def _tiers(row: Row, _category: str) -> Any:
    return bybit_market.parse_tiers(row.rows("list"))


def _instrument(row: Row, category: str) -> Any:
    return bybit_market.parse_instrument(row, category=category, tiers=(), fees=FEES, ts_seen_ms=1)


def _account(row: Row, _category: str) -> Any:
    return bybit_key.account_problems(row)


def _ticker(row: Row, category: str) -> Any:
    return bybit_market.TickerMerge(category).take(row, ts_seen_ms=1)


PARSERS: dict[str, Callable[[Row, str], Any]] = {
    "order": lambda r, c: bybit_parse.parse_order(r, category=c, seen=SEEN),
    "stop": lambda r, _: bybit_history.parse_stop(r),
    "execution": lambda r, c: bybit_parse.parse_execution(r, category=c, seen=SEEN),
    "position": lambda r, c: bybit_parse.parse_position(r, category=c),
    "closed": lambda r, c: bybit_history.parse_closed_profit(r, category=c),
    "coin": lambda r, _: bybit_parse.parse_coin(r),
    "line": lambda r, _: bybit_parse.parse_ledger_line(r, seen=SEEN),
    "fees": lambda r, _: bybit_market.parse_fees(r),
    "account": _account,
    "key": lambda r, _: bybit_key.parse_key(r),
    "borrowing": lambda r, _: bybit_history.parse_borrowing(r),
    "instrument": _instrument,
    "tiers": _tiers,
    "ticker": _ticker,
}
"""Everything of ours that reads a payload of which there is a recording."""

_LISTS = {
    "/v5/order/realtime": ("order", "stop"), "/v5/order/history": ("order", "stop"),
    "/v5/execution/list": ("execution",), "/v5/position/list": ("position",),
    "/v5/position/closed-pnl": ("closed",), "/v5/account/transaction-log": ("line",),
    "/v5/account/fee-rate": ("fees",), "/v5/account/borrow-history": ("borrowing",),
    "/v5/market/instruments-info": ("instrument",),
}
_METHODS = {
    "fetchBalance": "/v5/account/wallet-balance", "fetchClosedOrder": "/v5/order/history",
    "fetchClosedOrders": "/v5/order/history", "fetchOrder": "/v5/order/history",
    "fetchPosition": "/v5/position/list", "fetchMyTrades": "/v5/execution/list",
    "fetchFundingHistory": "/v5/execution/list", "fetchLedger": "/v5/account/transaction-log",
    "fetchPositionHistory": "/v5/position/closed-pnl",
}
_TOPICS = {"order": ("order", "stop"), "execution": ("execution",), "position": ("position",),
           "wallet": ()}


def _of_response(name: str, path: str, response: dict[str, Any]) -> Iterator[Case]:
    result = response.get("result", {})
    category = result.get("category", "") if isinstance(result, dict) else ""
    if path == "/v5/market/instruments-info" and category not in ("spot", "linear", "inverse"):
        return
    if path == "/v5/user/query-api":
        yield Case(name, "key", result)
    elif path == "/v5/account/info":
        yield Case(name, "account", result)
    elif path == "/v5/market/risk-limit":
        yield Case(name, "tiers", result)
    elif path == "/v5/account/wallet-balance":
        for account in result["list"]:
            for index, coin in enumerate(account["coin"]):
                yield Case(f"{name}.coin[{index}]", "coin", coin)
    for kind in _LISTS.get(path, ()):
        for index, row in enumerate(result["list"]):
            yield Case(f"{name}.{kind}[{index}]", kind, row, category)


def _of_frame(name: str, frame: dict[str, Any], category: str) -> Iterator[Case]:
    topic = frame["topic"]
    if topic.startswith("tickers."):
        yield Case(f"{name}.ticker", "ticker", frame, f"{category}:{topic.partition('.')[2]}")
    for index, row in enumerate(frame["data"] if isinstance(frame["data"], list) else ()):
        for kind in _TOPICS.get(topic, ()):
            yield Case(f"{name}.{kind}[{index}]", kind, row, row.get("category", category))
        for number, coin in enumerate(row.get("coin", ()) if topic == "wallet" else ()):
            yield Case(f"{name}.coin[{number}]", "coin", coin)


def documents(shared: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every valid JSON document of bybit_net by its name; two are text upstream."""
    root = shared / "data/payloads/bybit_net"
    for file in sorted((*root.glob("Endpoints/**/*.json"), *root.glob("Subscriptions/**/*.json"))):
        document = json.loads(file.read_text())
        if isinstance(document, dict):
            yield str(file.relative_to(root).with_suffix("")), document


def responses(shared: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(name, path, response) of every REST answer there is."""
    for name, document in documents(shared):
        found = document.get("response")
        for one in found if isinstance(found, list) else [found]:
            if isinstance(one, dict) and "retCode" in one:
                yield name, document["path"], one
    for method, cases in static(shared).items():
        for index, case in enumerate(cases):
            yield f"ccxt/{method}[{index}]", _METHODS.get(method, ""), case["httpResponse"]
    for category in ("linear", "spot"):
        file = shared / f"data/payloads/cryptofeed_slice/instruments_info_{category}.json"
        yield f"cryptofeed/{category}", "/v5/market/instruments-info", json.loads(file.read_text())


def static(shared: Path) -> dict[str, list[dict[str, Any]]]:
    """ccxt's recorded answers with what ccxt makes of them, its numbers as Decimal."""
    file = shared / "data/payloads/ccxt_static/bybit_response_subset.json"
    methods: dict[str, list[dict[str, Any]]] = json.loads(
        file.read_text(), parse_float=Decimal)["methods"]
    return methods


def captured(shared: Path) -> list[dict[str, Any]]:
    """The frames that Bybit really sent on 2026-08-09, in order."""
    file = shared / "data/payloads/cryptofeed_slice/bybit_v5_linear_DOGEUSDT.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [line["data"] for line in lines if line["t"] == "recv" and "topic" in line["data"]]


def cases(shared: Path) -> list[Case]:
    """Every recorded object that a parser of ours reads."""
    found = [
        case for name, path, response in responses(shared)
        for case in _of_response(name, path, response)
    ]
    for name, document in documents(shared):
        category = name.split("/")[2].lower() if name.count("/") > 2 else ""
        for step in document.get("steps", ()):
            frame = step.get("json")
            if isinstance(frame, dict) and "topic" in frame and category in ("spot", "linear", "private"):
                found += _of_frame(name, frame, category)
    snapshot = next(f for f in captured(shared) if f["topic"].startswith("tickers."))
    return [*found, Case("cryptofeed/snapshot", "ticker", snapshot, "linear:DOGEUSDT")]


def read(case: Case, body: Any = None) -> Any:
    """What our parser makes of a case, or of another body in its place."""
    return PARSERS[case.kind](Row(case.body if body is None else body), case.category)
