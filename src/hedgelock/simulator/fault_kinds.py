"""A fault as it is written down, and the kinds there are: one line each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import msgspec

Routes = tuple[tuple[str, str], ...]
"""(method, path pattern); "" = any method."""

ALWAYS_S = 1e12
IP_BAN_MS = 600_000
"""Fact sheet §1.5: after "access too frequent" wait at least ten minutes."""
RESTARTING = "Service is restarting, please retry later."


class Stage(Enum):
    """Where a fault acts."""

    REQUEST = "request"
    PUSH = "push"
    SOCKET = "socket"
    WORLD = "world"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault. `takes` and `needs` are fields of `Fault`; the rest are their defaults."""

    stage: Stage
    doc: str
    takes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    ms: int = 0
    code: int = 0
    message: str = ""
    routes: Routes = ()
    """Only these routes can be hit; () = what the match says."""
    only: tuple[tuple[str, str], ...] = ()
    """Only requests with these parameters."""


REQUEST, PUSH, SOCKET, WORLD = Stage.REQUEST, Stage.PUSH, Stage.SOCKET, Stage.WORLD
CODED = ("code", "message")
EDITED = ("field", "op", "value")
ORDERS: Routes = (("POST", "/v5/order/*"),)
LOANS: Routes = (("", "/v5/crypto-loan*"),)
BORROWS: Routes = (
    ("POST", "/v5/crypto-loan-*/borrow"), ("POST", "/v5/account/borrow"),
)  # fmt: skip
TRANSFERS: Routes = (("POST", "/v5/asset/transfer/*"),)
READS: Routes = (("GET", "/v5/*"),)
OUTAGES: dict[str, Routes] = {
    "orders": (*ORDERS, ("POST", "/v5/position/*")),
    "loans": LOANS,
    "loan_writes": (("POST", "/v5/crypto-loan*"),),
    "transfers": TRANSFERS,
    "borrowing": (*BORROWS, ("POST", "/v5/account/*repay*")),
    "reads": READS,
    "private_reads": tuple(
        ("GET", f"/v5/{part}/*") for part in ("account", "position", "order", "execution", "asset")
    ),
    "market": (("GET", "/v5/market/*"),),
    "writes": (("POST", "/v5/*"),),
    "all": (("", "/v5/*"),),
}

KINDS: dict[str, Kind] = {
    # requests, before they are served
    "slow_request": Kind(REQUEST, "reaches the exchange `ms` later", ("ms",), ms=1_000),
    "cut": Kind(REQUEST, "the connection ends before the exchange has seen the request"),
    "ip_ban": Kind(REQUEST, "HTTP 403, and for `ms` all that this address asks over REST", ("ms",),
                   ms=IP_BAN_MS, message="access too frequent"),
    "http_error": Kind(REQUEST, "HTTP `status` (503) instead of an answer; not served",
                       ("status", "message"), message="Service Unavailable"),
    "refuse": Kind(REQUEST, "answered with retCode `code`; not served", CODED, ("code",),
                   message="refused by a fault"),
    "rate_limited": Kind(REQUEST, "10006, the reset header in the future; not served", ("message",),
                         code=10006, message="Too many visits. Exceeded the API Rate Limit."),
    "outage": Kind(REQUEST, "a `part` of the exchange answers `code` (10016); not served",
                   ("part", *CODED), ("part",), code=10016, message=RESTARTING),
    "top_up_refused": Kind(REQUEST, "adding loan collateral is refused (148012)", CODED,
                           code=148012, message="The platform's collateral limit is reached",
                           routes=(("POST", "/v5/crypto-loan-common/adjust-ltv"),),
                           only=(("direction", "0"),)),
    "refill_refused": Kind(REQUEST, "borrowing is refused (148011, the pool is short)", CODED,
                           code=148011, message="Insufficient borrowable amount in the pool",
                           routes=BORROWS),
    # requests that are served
    "slow_answer": Kind(REQUEST, "served at once, answered `ms` later", ("ms",), ms=1_000),
    "answer_lost": Kind(REQUEST, "served; the connection ends without an answer"),
    "answer_never": Kind(REQUEST, "served; no answer until `ms` later, when the connection ends",
                         ("ms",), ms=60_000),
    "unknown_outcome": Kind(REQUEST, "served, and answered with retCode `code` (10016)", CODED,
                            code=10016, message="Server error."),
    "batch_partial": Kind(REQUEST, "`items` of a batch (0) fail with `code`, the others go through",
                          ("items", *CODED), code=110007, message="ab not enough for new order",
                          routes=(("POST", "/v5/order/*-batch"),)),
    "orders_hidden": Kind(REQUEST, "orders younger than `ms` are missing from order/realtime",
                          ("ms",), ms=300, routes=(("GET", "/v5/order/realtime"),)),
    "edit_answer": Kind(REQUEST, "`field` of the result is dropped, blank, null, nan, … (`op`)",
                        EDITED, ("field", "op")),
    # pushes
    "push_lost": Kind(PUSH, "never sent"),
    "push_late": Kind(PUSH, "sent `ms` later", ("ms",), ms=2_000),
    "push_twice": Kind(PUSH, "sent again `ms` later", ("ms",)),
    "push_swapped": Kind(PUSH, "sent after the next push of its audience"),
    "filled_twice": Kind(PUSH, "a Filled order message comes again `ms` later", ("ms",), ms=50),
    "edit_push": Kind(PUSH, "`field` of the rows is dropped, blank, null, nan, … (`op`)",
                      EDITED, ("field", "op")),
    # sockets
    "socket_dies": Kind(SOCKET, "sockets end without a close frame, again `every_s`", ("every_s",)),
    "socket_silent": Kind(SOCKET, "sockets stay open and send nothing (`deaf`: hear nothing)",
                          ("deaf",)),
    "socket_refused": Kind(SOCKET, "new sockets are turned away"),
    # the world
    "clock_skew": Kind(WORLD, "the exchange's clock is `ms` ahead (negative: behind)", ("ms",)),
    "key_revoked": Kind(WORLD, "the key is gone", code=10003, message="API key is invalid."),
    "key_expired": Kind(WORLD, "the key has expired", code=33004,
                        message="Your api key has expired."),
    "ip_changed": Kind(WORLD, "the key is bound to another address", code=10010,
                       message="Unmatched IP, please check your API key's bound IP addresses."),
    "permission_removed": Kind(WORLD, "the key has lost a `permission`", ("permission",),
                               ("permission",), code=10005, message="Permission denied."),
}  # fmt: skip

class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which requests, pushes or sockets; "" = any. `path` and `topic` take `*` and `?`."""

    method: str = ""
    path: str = ""
    """Route (`/v5/order/create`, also of the trade socket's operations) or socket path."""
    via: str = ""
    """`rest` or `socket`."""
    topic: str = ""
    account: str = ""
    symbol: str = ""


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing that goes wrong; the fields below `nth` belong to kinds that name them."""

    kind: str
    match: Match = Match()
    from_s: float = 0.0
    """Script second of the first effect."""
    until_s: float = ALWAYS_S
    """Script second from which it no longer acts."""
    share: float = 1.0
    """Probability, 0..1, that a match is hit."""
    nth: int = 0
    """Only the n-th match in the window is hit; 0 = every one."""
    times: int = 0
    """At most so many hits; 0 = no bound."""
    ms: int | None = None
    """Delay or duration; None = the kind's default. Negative for clock_skew only."""
    code: int = 0
    """retCode; 0 = the kind's default."""
    message: str = ""
    status: int = 0
    """HTTP status."""
    field: str = ""
    """Of an answer or a push: a name at any depth, or a dotted path with `*`."""
    op: str = ""
    """What is done to the field."""
    value: str = ""
    items: tuple[int, ...] = ()
    """Places in a batch, from 0."""
    part: str = ""
    """Part of the exchange."""
    permission: str = ""
    every_s: float = 0.0
    """Again after so many script seconds."""
    deaf: bool = False
    """What arrives is lost too."""


def problem(fault: Fault) -> str:
    """Why a fault makes no sense; "" when it does."""
    kind = KINDS.get(fault.kind)
    if kind is None:
        return f"kind {fault.kind!r} is unknown: choose one of {', '.join(sorted(KINDS))}"
    return _bad_number(fault) or _bad_field(fault, kind)


def _bad_number(fault: Fault) -> str:
    if not 0 < fault.share <= 1:
        return f"share {fault.share} is not in (0, 1]"
    if not fault.from_s <= fault.until_s:
        return f"from_s {fault.from_s} is after until_s {fault.until_s}"
    if min(fault.nth, fault.times, fault.every_s) < 0:
        return "nth, times and every_s are not negative"
    if (fault.ms or 0) < 0 and fault.kind != "clock_skew":
        return f"ms {fault.ms} is negative"
    return ""


def _bad_field(fault: Fault, kind: Kind) -> str:
    if fault.match.via not in {"", "rest", "socket"}:
        return f"match.via {fault.match.via!r} is neither rest nor socket"
    for name, default in SPECIFIC.items():
        if getattr(fault, name) != default and name not in kind.takes:
            return f"{fault.kind} takes no {name}: it takes {', '.join(kind.takes) or 'nothing'}"
    for name in kind.needs:
        if getattr(fault, name) == SPECIFIC[name]:
            return f"{fault.kind} needs {name}"
    if fault.op and fault.op not in OPERATIONS:
        return f"op {fault.op!r} is unknown: choose one of {', '.join(sorted(OPERATIONS))}"
    if fault.part and fault.part not in OUTAGES:
        return f"part {fault.part!r} is unknown: choose one of {', '.join(sorted(OUTAGES))}"
    return ""


SPECIFIC = {
    "ms": None, "code": 0, "message": "", "status": 0, "field": "", "op": "", "value": "",
    "items": (), "part": "", "permission": "", "every_s": 0.0, "deaf": False,
}  # fmt: skip
OPERATIONS = frozenset({"drop", "blank", "null", "nan", "number", "list", "set", "empty"})
