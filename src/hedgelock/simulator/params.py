"""Reading request parameters: text or JSON values in, checked values out, else 10001."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

from hedgelock.simulator.history import History
from hedgelock.simulator.state import Refused

DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
MOST = Decimal("1E+15")  # no amount, price or quantity may reach this
T = TypeVar("T")
Params = Mapping[str, Any]
CURSOR = re.compile(r"(\d{1,15})(?:%3A|:)\d+(?:%2C|,)\d+(?:%3A|:)\d+")
PLAIN_NUMBER = re.compile(r"^[+-]?\d{1,18}(\.\d{1,18})?([eE][+-]?\d{1,2})?$")


def need(params: Params, name: str) -> str:
    """A required text parameter."""
    value = optional(params, name)
    if not value:
        raise Refused(10001, f"params error: {name} is required")
    return value


def optional(params: Params, name: str, default: str = "") -> str:
    """A text parameter; numbers are taken as their text."""
    value = params.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Refused(10001, f"params error: {name} invalid")
    return str(value)


def flag(params: Params, name: str) -> bool:
    """A boolean, as JSON or as text."""
    value = params.get(name, False)
    return value if isinstance(value, bool) else str(value).lower() == "true"


def amount(params: Params, name: str, *, zero: bool = False) -> Decimal:
    """A required positive number (or zero where allowed)."""
    raw = need(params, name)
    if not PLAIN_NUMBER.match(raw):
        raise Refused(10001, f"params error: {name} invalid")
    try:
        value = Decimal(raw)
    except InvalidOperation as error:
        raise Refused(10001, f"params error: {name} invalid") from error
    if not 0 <= value < MOST or (value == 0 and not zero):
        raise Refused(10001, f"params error: {name} invalid")
    return value


def whole(params: Params, name: str, default: int) -> int:
    """An integer, `default` when absent."""
    raw = optional(params, name)
    if not raw:
        return default
    if not re.fullmatch(r"\d{1,16}", raw):
        raise Refused(10001, f"params error: {name} invalid")
    return int(raw)


def window(params: Params, now_ms: int, *, span_ms: int, most_ms: int) -> tuple[int, int]:
    """The queried [start, end]: the last `span_ms`, or `span_ms` after a start without an end."""
    start, end = whole(params, "startTime", 0), whole(params, "endTime", 0)
    if start and not end:
        end = start + span_ms
    elif not start:
        end = end or now_ms
        start = end - span_ms
    if not 0 <= end - start <= most_ms:
        raise Refused(10001, "params error: the time range is invalid")
    return start, end


def limit(params: Params, *, default: int, most: int) -> int:
    """The page size, within 1..most."""
    return max(1, min(most, whole(params, "limit", default)))


def page(
    rows: Sequence[T], params: Params, *, size: int, keep: Callable[[T], bool]
) -> tuple[list[T], str]:
    """Newest first page of append-only rows and the cursor of the next page ("" at the end)."""
    cursor = optional(params, "cursor")
    found = CURSOR.fullmatch(cursor)
    if cursor and not found:
        raise Refused(10001, "params error: cursor invalid")
    gone = rows.gone if isinstance(rows, History) else 0
    start = max(0, min(len(rows), int(found[1]) - gone)) if found else len(rows)
    picked: list[T] = []
    for number in range(start - 1, -1, -1):
        if not keep(rows[number]):
            continue
        if len(picked) == size:
            at = gone + number
            return picked, f"{at + 1}%3A1%2C{at}%3A1"
        picked.append(rows[number])
    return picked, ""


def forward(rows: Sequence[T], params: Params, *, size: int) -> tuple[list[T], str]:
    """A page of `rows` in their own order and the cursor of the next page ("" at the end)."""
    cursor = optional(params, "cursor")
    found = CURSOR.fullmatch(cursor)
    if cursor and not found:
        raise Refused(10001, "params error: cursor invalid")
    start = int(found[1]) if found else 0
    end = start + size
    return list(rows[start:end]), f"{end}%3A0%2C{start}%3A0" if end < len(rows) else ""
