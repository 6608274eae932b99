"""HTTP requests as the exchange sees them, its replies, and how parameters are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qsl

import msgspec

from hedgelock.simulator.state import Event, Refused, Row

JSON = "application/json"


class Request(NamedTuple):
    """An HTTP request; header names in upper case, or a mapping that ignores case."""

    method: str
    target: str
    """Path and query, raw as received."""
    headers: Mapping[str, str]
    body: bytes
    address: str


@dataclass(slots=True)
class Batch:
    """Private events of one request, held until its acknowledgement has been written."""

    events: list[Event]
    ready: bool = False


@dataclass(slots=True)
class Reply:
    """An HTTP answer. After `delay_s` the carrier sends it, or ends the connection if `lost`."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    lost: bool = False
    batch: Batch | None = None
    """To be released once the answer has left."""



def socket_path(target: str) -> str:
    """`/v5/private` and the like when a request asks for a socket, else ""; a prefix is ignored."""
    path, _ = route(target)
    if path.startswith("/v5/public/") or path in {"/v5/private", "/v5/trade"}:
        return path
    return ""


def route(target: str) -> tuple[str, str]:
    """Path from `/v5/` on (clients may need a prefix before it) and raw query."""
    path, _, query = target.partition("?")
    _, found, tail = path.partition("/v5/")
    return (f"/v5/{tail}" if found else path), query


def request_params(request: Request, query: str) -> Row:
    """Parameters of a request: its JSON body or its query."""
    if request.method == "POST":
        return parse_body(request.body)
    return dict(parse_qsl(query, keep_blank_values=True))


def parse_body(body: bytes) -> Row:
    """A JSON object, or 10001."""
    if not body:
        return {}
    try:
        parsed = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(10001, "params error: body is not JSON") from error
    if not isinstance(parsed, dict):
        raise Refused(10001, "params error: body is not an object")
    return parsed
