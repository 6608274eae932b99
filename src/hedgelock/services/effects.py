"""Runs effects at the exchange: in order per identity, within its limits, checked as they leave.

Effects arrive only after the commit that holds them. Each one is answered by exactly one event,
whatever happens, except when the process ends: the next start asks the venue. Everything runs on one
asyncio loop; only durations come from the loop's clock, so a virtual-time loop serves as well.
"""

from __future__ import annotations

import asyncio
import collections
import enum
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec
import structlog

from hedgelock.domain.effect import (
    CancelOrder,
    Effect,
    ListOrders,
    LoanAnswer,
    OpenOrders,
    OrderAnswer,
    Outcome,
    QueryLoanAction,
    QueryOrder,
    QueryTransfer,
    SendLoanAction,
    SendOrder,
    SendTransfer,
    TransferAnswer,
    VenueEvent,
)
from hedgelock.domain.message import Message
from hedgelock.ports import Clock, Exchange

_log = structlog.get_logger("effects")

NOT_ABLE: Final = frozenset(
    ["10003", "10004", "10005", "10007", "10009", "10010", "10017", "10024", "10027", "33004"]
)
"""Refusals that last until a person acts: key, permission, address, region, a route that is gone.

The engine lives and can do nothing; somebody must be told (field lesson 20).
"""
LOCAL: Final = "LOCAL"
"""Code of a refusal that is ours: the effect never left."""
PERFORM_TIMEOUT_S: Final = 30.0
"""An effect without an answer for this long is in doubt (a question: failed)."""
CONCURRENT_MAX: Final = 32
"""Requests under way at once."""
CLOSE_GRACE_S: Final = 2.0
"""How long `close` waits for requests under way."""


_CLOCK_GRAIN_S: Final = 1e-6
"""Timers of a loop may fire this much early."""


class Endpoint(enum.Enum):
    """Classes of requests that the venue limits together."""

    ORDER = "order"
    LOAN_WRITE = "loan_write"
    LOAN_READ = "loan_read"
    TRANSFER = "transfer"
    ASSET_READ = "asset_read"
    READ = "read"


class Limit(NamedTuple):
    """So many requests per `window_s` seconds."""

    requests: int
    window_s: float


LIMITS: Final[dict[Endpoint, Limit]] = {
    Endpoint.ORDER: Limit(10, 1.0),
    Endpoint.LOAN_WRITE: Limit(1, 1.0),
    Endpoint.LOAN_READ: Limit(5, 1.0),
    Endpoint.TRANSFER: Limit(60, 60.0),
    Endpoint.ASSET_READ: Limit(5, 1.0),
    Endpoint.READ: Limit(50, 1.0),
}
"""Bybit's defaults (VIP 0); the venue's own headers correct them."""

_COSTS: Final[dict[type[Message], tuple[Endpoint, int]]] = {
    SendOrder: (Endpoint.ORDER, 1),
    CancelOrder: (Endpoint.ORDER, 1),
    QueryOrder: (Endpoint.READ, 3),
    ListOrders: (Endpoint.READ, 4),
    SendTransfer: (Endpoint.TRANSFER, 1),
    QueryTransfer: (Endpoint.ASSET_READ, 1),
    SendLoanAction: (Endpoint.LOAN_WRITE, 1),
    QueryLoanAction: (Endpoint.LOAN_READ, 1),
}

_PATHS: Final = (
    ("order/create", Endpoint.ORDER),
    ("order/cancel", Endpoint.ORDER),
    ("order/realtime", Endpoint.READ),
    ("order/history", Endpoint.READ),
    ("execution/list", Endpoint.READ),
    ("asset/transfer/inter-transfer", Endpoint.TRANSFER),
    ("asset/transfer/query-inter-transfer-list", Endpoint.ASSET_READ),
    ("crypto-loan-flexible/borrow-history", Endpoint.LOAN_READ),
    ("crypto-loan-flexible/repayment-history", Endpoint.LOAN_READ),
    ("crypto-loan-flexible/borrow", Endpoint.LOAN_WRITE),
    ("crypto-loan-flexible/repay", Endpoint.LOAN_WRITE),
    ("crypto-loan-flexible/repay-collateral", Endpoint.LOAN_WRITE),
)
_ENDPOINT_OF: Final = dict(_PATHS)


class Window:
    """At most so many requests in any window of the last `window_s` seconds, as Bybit counts them.

    Not a token bucket: one that starts full lets nearly twice the limit pass in its first window.
    Time is the loop's, in seconds; the venue's headers resize the window and close it.
    """

    def __init__(self, limit: Limit, now_s: float) -> None:
        self.requests, self._window_s = limit
        self._left_s: collections.deque[float] = collections.deque()
        self._closed_until_s = now_s

    def take(self, cost: int, now_s: float) -> float:
        """Seconds to wait before `cost` requests may leave; 0.0 = they are counted as leaving."""
        if now_s < self._closed_until_s:
            return self._closed_until_s - now_s
        while self._left_s and self._left_s[0] + self._window_s <= now_s + _CLOCK_GRAIN_S:
            self._left_s.popleft()
        # What costs more than a whole window must still go: into an empty one.
        needed = min(cost, self.requests)
        too_many = len(self._left_s) + needed - self.requests
        if too_many > 0:
            return self._left_s[too_many - 1] + self._window_s - now_s
        self._left_s.extend([now_s] * needed)
        return 0.0

    async def wait(self, cost: int, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for `cost` requests' room and take it."""
        wait_s = self.take(cost, loop.time())
        while wait_s > 0:  # others may have taken it meanwhile
            await asyncio.sleep(wait_s)
            wait_s = self.take(cost, loop.time())

    def correct(self, requests: int, remaining: int, reset_in_s: float, now_s: float) -> None:
        """The venue's word: its limit, what is left of it, and when it starts anew."""
        if requests > 0:
            self.requests = requests
        # Somebody else uses the same limit: count their requests as ours.
        unseen = self.requests - max(remaining, 0) - len(self._left_s)
        self._left_s.extend([now_s] * unseen)
        if remaining <= 0 and reset_in_s > 0:
            self._closed_until_s = max(self._closed_until_s, now_s + reset_in_s)


def identity_of(effect: Effect) -> str:
    """What must stay in order: the order's client id, or the treasury action's intent."""
    match effect:
        case SendOrder() | QueryOrder() | CancelOrder():
            return effect.client_order_id
        case ListOrders():
            return "open orders"
        case _:
            return effect.intent_id


def answer_to(
    effect: Effect, outcome: Outcome, *, code: str, text: str, now_ms: int
) -> OrderAnswer | OpenOrders | TransferAnswer | LoanAnswer:
    """An answer of our own, in the kind that the effect calls for."""
    match effect:
        case SendOrder() | QueryOrder() | CancelOrder():
            return OrderAnswer(
                account=effect.account, client_order_id=effect.client_order_id, outcome=outcome,
                is_cancel=isinstance(effect, CancelOrder), is_query=is_question(effect),
                code=code, text=text, ts_seen_ms=now_ms,
            )
        case ListOrders():
            return OpenOrders(
                account=effect.account, outcome=outcome, text=text, ts_seen_ms=now_ms
            )
        case SendTransfer() | QueryTransfer():
            return TransferAnswer(
                account=effect.account, intent_id=effect.intent_id,
                transfer_id=effect.transfer_id, outcome=outcome, is_query=is_question(effect),
                code=code, text=text, ts_seen_ms=now_ms,
            )
        case _:
            return LoanAnswer(
                account=effect.account, intent_id=effect.intent_id, outcome=outcome,
                is_query=is_question(effect), code=code, text=text, ts_seen_ms=now_ms,
            )


def is_question(effect: Effect) -> bool:
    """It only asks: nothing can happen by it."""
    return isinstance(effect, (QueryOrder, ListOrders, QueryTransfer, QueryLoanAction))


def doubt_of(effect: Effect) -> Outcome:
    """What is known of an effect that was cut short."""
    return Outcome.QUERY_FAILED if is_question(effect) else Outcome.DOUBTFUL


def stamped(effect: Effect, event: VenueEvent) -> VenueEvent:
    """`event` with the mark whether it answers a question: "refused" means another thing then."""
    if is_question(effect) and isinstance(event, (OrderAnswer, TransferAnswer, LoanAnswer)):
        return msgspec.structs.replace(event, is_query=True)
    return event


class EffectRunner:
    """The hands of one account at one exchange. Call everything on its loop.

    `deliver` takes each result (it may be called many times, never concurrently). `may_send` is
    asked at the very moment of sending: a text refuses. `performed(kind, outcome, seconds)` is for
    metrics. `on_bug` gets what an adapter raised although it must not; the effect is then in doubt.
    """

    def __init__(
        self,
        exchange: Exchange,
        deliver: Callable[[Message], None],
        clock: Clock,
        *,
        may_send: Callable[[Effect], str | None],
        performed: Callable[[str, str, float], None] = lambda _kind, _outcome, _seconds: None,
        on_bug: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._exchange = exchange
        self._deliver = deliver
        self._clock = clock
        self._may_send = may_send
        self._performed = performed
        self._on_bug = on_bug or self._report
        self._queues: dict[str, collections.deque[Effect]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(CONCURRENT_MAX)
        self._windows = {e: Window(limit, self._loop.time()) for e, limit in LIMITS.items()}
        self._closing = False

    @property
    def waiting(self) -> int:
        """Effects not answered yet, under way or in line."""
        return sum(len(queue) for queue in self._queues.values())

    def submit(self, effects: Sequence[Effect]) -> None:
        """Take committed effects; those of one identity run one after the other."""
        if self._closing:
            return
        for effect in effects:
            key = identity_of(effect)
            queue = self._queues.get(key)
            if queue is not None:
                queue.append(effect)
            else:
                self._queues[key] = collections.deque([effect])
                self._start(key)

    def on_limits(self, endpoint: str, limit: int, remaining: int, reset_ms: int) -> None:
        """The venue's rate headers after a request to `endpoint` (`order/create`).

        `reset_ms`: our clock. Endpoints that effects do not use are ignored.
        """
        kind = _ENDPOINT_OF.get(endpoint.strip("/").removeprefix("v5/"))
        if kind is not None:
            reset_in_s = (reset_ms - self._clock.now_ms()) / 1e3
            self._windows[kind].correct(limit, remaining, reset_in_s, self._loop.time())

    def drop_waiting(self) -> None:
        """Forget what has not been started: the account moved to another instance."""
        for key, queue in self._queues.items():
            while len(queue) > (1 if key in self._tasks else 0):
                queue.pop()

    async def close(self) -> None:
        """Start nothing more and wait briefly for requests under way; the next start asks."""
        self._closing = True
        self.drop_waiting()
        tasks = list(self._tasks.values())
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=CLOSE_GRACE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    # ------------------------------------------------------------ one identity at a time

    def _start(self, key: str) -> None:
        task = self._loop.create_task(self._run(key), name=f"effects-{key}")
        self._tasks[key] = task
        task.add_done_callback(lambda done: self._done(key, done))

    async def _run(self, key: str) -> None:
        queue = self._queues[key]
        while queue:
            effect = queue[0]
            event = await self._one(effect)
            if event is None:
                return
            queue.popleft()
            self._deliver(event)

    def _done(self, key: str, task: asyncio.Task[None]) -> None:
        """The line of `key` is empty, or its task ended with what an adapter must not raise."""
        self._tasks.pop(key, None)
        queue = self._queues[key]
        error = None if task.cancelled() else task.exception()
        if error is not None and queue:
            effect = queue.popleft()
            self._deliver(
                answer_to(effect, doubt_of(effect), code=LOCAL, text=type(error).__name__,
                          now_ms=self._clock.now_ms())
            )
        if queue and not self._closing:
            self._start(key)
        else:
            self._queues.pop(key, None)
        if error is not None:
            self._on_bug(error)

    async def _one(self, effect: Effect) -> Message | None:
        """The effect's answer; None = we are closing and it never left (the next start asks)."""
        endpoint, cost = _COSTS[type(effect)]
        await self._windows[endpoint].wait(cost, self._loop)
        async with self._room:
            if self._closing:
                return None
            refusal = self._refusal(effect)
            if refusal is not None:
                return answer_to(effect, Outcome.REFUSED, code=LOCAL, text=refusal,
                                 now_ms=self._clock.now_ms())
            return await self._perform(effect)

    def _refusal(self, effect: Effect) -> str | None:
        """The last look before it leaves: its time, and safety's word."""
        match effect:
            case SendOrder() | SendTransfer() | SendLoanAction():
                expires = effect.expires_ts_ms
                if expires is not None and self._clock.now_ms() >= expires:
                    return "expired"
                return self._may_send(effect)
            case _:
                return None

    async def _perform(self, effect: Effect) -> Message:
        started_ms = self._clock.monotonic_ms()
        event: Message
        try:
            async with asyncio.timeout(PERFORM_TIMEOUT_S):
                event = stamped(effect, await self._exchange.perform(effect))
        except TimeoutError:
            event = answer_to(effect, doubt_of(effect), code=LOCAL, text="no answer in time",
                              now_ms=self._clock.now_ms())
        outcome = getattr(event, "outcome", None)
        code = getattr(event, "code", "")
        if outcome is Outcome.REFUSED and code in NOT_ABLE:
            _log.critical("venue_refuses", effect=type(effect).__name__, code=code,
                          text=getattr(event, "text", ""))
        self._performed(
            type(effect).__name__, outcome.value if isinstance(outcome, Outcome) else "found",
            (self._clock.monotonic_ms() - started_ms) / 1e3,
        )
        return event

    @staticmethod
    def _report(error: BaseException) -> None:
        _log.error("adapter_bug", error=f"{type(error).__name__}: {error}", exc_info=error)
