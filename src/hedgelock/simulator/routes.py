"""What a route is: its handler, its rate limit, and what its envelope says on success."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Route:
    """A private route; routes with the same `pool` share one limit ("" = the path)."""

    handler: PrivateHandler
    limit: Limit
    message: str = "OK"
    pool: str = ""
    weight: Weight | None = None  # how often a request counts; None = once
