"""What a route is: its handler, its rate limit, and what its envelope says on success."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from hedgelock.simulator.limits import Limit
from hedgelock.simulator.params import Params
from hedgelock.simulator.state import Account, Exchange, Row


@dataclass(frozen=True, slots=True)
class Batched:
    """The answer to a batch: `result` and what goes into retExtInfo."""

    result: Row
    ext: Row


PublicHandler = Callable[[Exchange, Params], Row]
PrivateHandler = Callable[[Exchange, Account, Params], Row | Batched]
Weight = Callable[[Params], int]

READ, WRITE = Limit(50), Limit(10)
LOAN_READ, LOAN_WRITE = Limit(5), Limit(1)


class Envelope(Enum):
    """How an answer is wrapped; the exchange is not consistent (fact sheet §1.4)."""

    FULL = "retCode, retMsg, result, retExtInfo object, time"
    BARE = "retCode, retMsg and result only"
    EXT_TEXT = "retExtInfo is the text {}"
    FLAT = "the result's `list` is the result, its other fields stand at the top"


@dataclass(frozen=True, slots=True)
class Route:
    """A private route; routes with the same `pool` share one limit ("" = the path)."""

    handler: PrivateHandler
    limit: Limit
    message: str = "OK"
    pool: str = ""
    envelope: Envelope = Envelope.FULL
    weight: Weight | None = None  # how often a request counts; None = once


@dataclass(frozen=True, slots=True)
class PublicRoute:
    """A public route whose envelope or message is not the usual one."""

    message: str = "OK"
    envelope: Envelope = Envelope.FULL
