"""What the executor remembers of an account: intents under way, and the ids of those that are over.

Everything here is the committed state (JSON in the changelog): small, bounded, and enough to find
out after a crash what happened to anything that may have been sent.
"""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import Final

import msgspec

from hedgelock.domain.budget import Budget
from hedgelock.domain.holdings import Holdings
from hedgelock.domain.money import ZERO
from hedgelock.domain.order import Fill, OrderStatus, OrderStyle, PlaceOrder
from hedgelock.domain.safety import SafetyMode, SafetyState
from hedgelock.domain.treasury import TreasuryAction

OPEN_MAX: Final = 32
"""Intents of one kind under way at once; the next one is refused."""
ENDED_MAX: Final = 8
"""Terminal intents of one kind kept whole, so that late fills can be booked ..."""
ENDED_KEPT_MAX_MS: Final = 600_000
"""... for this long. All this is written with every step: what is kept costs every order time."""
RETIRED_MAX: Final = 64
"""Ids of dropped intents (and cancels) remembered one by one; older ones by their time."""
SENDS_KEPT_MAX: Final = 512
"""Times of recent sends remembered for the rate limit."""
FOREIGN_MAX: Final = 32
"""Executions that are not ours remembered, so that each one is told once."""
UNEXPLAINED_MAX: Final = 16
"""Orders of unknown origin remembered, so that each one alarms once."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One order at the venue: one try at one slice. `filled_qty` is the venue's cumExecQty.

    Timers (ms, None = nothing due): `send_at_ms`, `ask_at_ms`, `cancel_at_ms`. `asked_ts_ms` > 0:
    a question is open since then. `sends` counts how often it left, `asks` questions without news.
    `absent_from_ms`: "absent" is final only when asked at or after
    this, because a request may still be on its way before. `lost_since_ms` > 0: the venue is known
    to have it, but queries found nothing since then.
    """

    slice_no: int
    attempt_no: int
    client_order_id: str
    qty: Decimal
    price: Decimal
    status: OrderStatus = OrderStatus.PENDING
    filled_qty: Decimal = ZERO
    fills: tuple[Fill, ...] = ()
    venue_order_id: str = ""
    text: str = ""
    send_at_ms: int | None = None
    sent_ts_ms: int = 0
    sends: int = 0
    ask_at_ms: int | None = None
    asked_ts_ms: int = 0
    asks: int = 0
    cancel_at_ms: int | None = None
    absent_from_ms: int = 0
    lost_since_ms: int = 0
    was_seen: bool = False
    was_doubted: bool = False
    was_refused: bool = False
    is_foreign: bool = False
    is_maker: bool = False
    """Sent post-only, to rest at the best price; `reprice_at_ms`: look then whether it still is."""
    reprice_at_ms: int | None = None
    is_stale: bool = False
    """It rested long enough, or not at the best price any more: it is being taken away."""

    @property
    def booked_qty(self) -> Decimal:
        """Σ of the executions we hold."""
        return sum((fill.qty for fill in self.fills), ZERO)

    @property
    def is_settled(self) -> bool:
        """Over, and every execution that the venue counted is in our hands."""
        return self.status.is_terminal and self.booked_qty >= self.filled_qty


class OrderIntent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A PlaceOrder and what was tried for it. `refusal` says why it went no further.

    `ended_ts_ms` > 0: terminal since then. `revision` counts its confirmations.
    """

    intent: PlaceOrder
    style: OrderStyle = OrderStyle.MARKET
    style_reason: str = ""
    """A `StyleReason`; "" where nothing was tried."""
    rest_until_ms: int = 0
    """Until then its orders may rest as makers; 0 = they never do."""
    pieces: tuple[Decimal, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    is_cancelling: bool = False
    refusal: str = ""
    alarm: str = ""
    ended_ts_ms: int = 0
    revision: int = 0

    @property
    def is_terminal(self) -> bool:
        """Nothing more will be done."""
        return self.ended_ts_ms > 0

    @property
    def booked_qty(self) -> Decimal:
        """Σ of all executions of the intent."""
        return sum((attempt.booked_qty for attempt in self.attempts), ZERO)


class Ended(msgspec.Struct, frozen=True, array_like=True):
    """An intent that is over and seen, encoded: `ended_orders` says when, and brings it back."""

    intent_id: str
    client_order_ids: tuple[str, ...]
    decided_ts_ms: int
    ended_ts_ms: int
    order: msgspec.Raw


class LegState(enum.Enum):
    """How far one half (transfer or loan) of a treasury action is."""

    WAITING = "waiting"
    """Not sent: the other half comes first, or another loan action of the coin is under way."""
    SENT = "sent"
    """Recorded as sent before it leaves; no answer yet."""
    UNKNOWN = "unknown"
    """It may have happened: asked about, never repeated blindly."""
    PROCESSING = "processing"
    """The venue has it and is not done."""
    DONE = "done"
    FAILED = "failed"
    """It did not happen and will not."""

    @property
    def is_open(self) -> bool:
        """It may still happen or be happening."""
        return self in (LegState.SENT, LegState.UNKNOWN, LegState.PROCESSING)


class Leg(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One half of a treasury action; timers and marks as in `Attempt`.

    `first_sent_ts_ms` is where the history is searched from.
    """

    state: LegState = LegState.WAITING
    first_sent_ts_ms: int = 0
    sent_ts_ms: int = 0
    sends: int = 0
    send_at_ms: int | None = None
    ask_at_ms: int | None = None
    asked_ts_ms: int = 0
    asks: int = 0
    absent_from_ms: int = 0
    lost_since_ms: int = 0
    was_seen: bool = False
    was_doubted: bool = False
    was_refused: bool = False
    reference: str = ""
    text: str = ""


class TreasuryIntent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A TreasuryAction and how far its halves are; a half that the action lacks is None."""

    action: TreasuryAction
    transfer_id: str = ""
    """Drawn up once at the start: a later log id must not change it."""
    transfer: Leg | None = None
    loan: Leg | None = None
    refusal: str = ""
    ended_ts_ms: int = 0
    revision: int = 0

    @property
    def is_terminal(self) -> bool:
        """Nothing more will be done."""
        return self.ended_ts_ms > 0


class ExecutionMemory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The folded state of trade-executor, one per account.

    `orders` are under way, or over and still to be looked at; `ended` wait for late news only.
    `retired` are ids of intents that are over and dropped, `retired_orders` the client ids of their
    orders, `retired_until_ms` the latest decision time among ids that even `retired` lost: nothing
    decided at or before it is ever started. `frozen` says why the account opens nothing ("" = it
    may); only an operator's resume after `frozen_ts_ms` lifts it.
    """

    version: int = 1
    orders: dict[str, OrderIntent] = {}
    ended: tuple[Ended, ...] = ()
    actions: dict[str, TreasuryIntent] = {}
    retired: tuple[tuple[str, int], ...] = ()
    retired_orders: tuple[str, ...] = ()
    retired_until_ms: int = -1
    sends_ts_ms: tuple[int, ...] = ()
    frozen: str = ""
    frozen_ts_ms: int = 0
    frozen_version: int = 0
    unexplained: tuple[str, ...] = ()
    restored_ts_ms: int = 0
    stream_reset_ts_ms: int = 0
    is_reconciling: bool = False
    """Restarted, and the venue's open orders were not compared with our books since."""
    list_at_ms: int | None = None
    """When to ask for the venue's open orders (again)."""
    foreign: tuple[str, ...] = ()
    """Exec ids told as not ours, so that each is told once."""
    holdings: Holdings = Holdings()
    budget: Budget = Budget()

    def is_over(self, intent_id: str) -> bool:
        """The id was dealt with and put away: delivered again, it means nothing."""
        return intent_id in dict(self.retired) or any(
            intent_id == entry.intent_id for entry in self.ended
        )


def retired(
    memory: ExecutionMemory, ids: list[tuple[str, int]], client_order_ids: list[str]
) -> ExecutionMemory:
    """`memory` with ids added to those that are over; what no longer fits is kept as a time."""
    known = (*memory.retired, *ids)
    lost, kept = known[:-RETIRED_MAX], known[-RETIRED_MAX:]
    return msgspec.structs.replace(
        memory,
        retired=kept,
        retired_until_ms=max((at for _, at in lost), default=memory.retired_until_ms),
        retired_orders=(*memory.retired_orders, *client_order_ids)[-RETIRED_MAX:],
    )


def pruned(memory: ExecutionMemory, now_ms: int) -> ExecutionMemory:
    """Without the oldest terminal intents; their ids stay known. The same memory when none is due.

    An intent goes when it ended ENDED_KEPT_MAX_MS ago, or when ENDED_MAX later ones have ended.
    """
    whole, filed = memory.orders, {entry.intent_id: entry for entry in memory.ended}
    orders = _to_drop(
        [(o.ended_ts_ms, key) for key, o in whole.items() if o.ended_ts_ms]
        + [(entry.ended_ts_ms, key) for key, entry in filed.items()],
        now_ms,
    )
    actions = _to_drop(
        [(i.ended_ts_ms, key) for key, i in memory.actions.items() if i.ended_ts_ms], now_ms
    )
    if not orders and not actions:
        return memory
    # A decision time from the future (a clock that was wrong) must not shut out what comes after.
    ids: list[tuple[str, int]] = []
    client_ids: list[str] = []
    for key in orders:
        if (entry := filed.get(key)) is not None:
            decided_ms, client_order_ids = entry.decided_ts_ms, entry.client_order_ids
        else:
            decided_ms = whole[key].intent.decided_ts_ms
            client_order_ids = tuple(a.client_order_id for a in whole[key].attempts)
        ids.append((key, min(decided_ms, now_ms)))
        client_ids += client_order_ids
    ids += [(key, min(memory.actions[key].action.decided_ts_ms, now_ms)) for key in actions]
    return msgspec.structs.replace(
        retired(memory, ids, client_ids),
        orders={key: o for key, o in whole.items() if key not in orders},
        ended=tuple(entry for key, entry in filed.items() if key not in orders),
        actions={key: i for key, i in memory.actions.items() if key not in actions},
    )


def _to_drop(ended: list[tuple[int, str]], now_ms: int) -> list[str]:
    """Keys of the intents to drop, oldest end first. Entries: (ended, key)."""
    surplus = len(ended) - ENDED_MAX
    return [
        key for position, (ended_ms, key) in enumerate(sorted(ended))
        if position < surplus or now_ms - ended_ms >= ENDED_KEPT_MAX_MS
    ]


def frozen(memory: ExecutionMemory, reason: str, *, now_ms: int, version: int) -> ExecutionMemory:
    """`memory` of an account that opens nothing; the first reason stays. `version`: safety's now."""
    if memory.frozen:
        return memory
    return msgspec.structs.replace(
        memory, frozen=reason, frozen_ts_ms=now_ms, frozen_version=version
    )


def thawed(memory: ExecutionMemory, state: SafetyState) -> ExecutionMemory:
    """`memory` after a word of safety: only a person who resumed *after* the freeze lifts it."""
    is_resumed = (
        state.mode in (SafetyMode.ACTIVE, SafetyMode.REDUCING)
        and state.resumed_version is not None and state.resumed_version > memory.frozen_version
        and state.resumed_ts_ms is not None and state.resumed_ts_ms >= memory.frozen_ts_ms
    )
    if not memory.frozen or not is_resumed:
        return memory
    return msgspec.structs.replace(memory, frozen="", frozen_ts_ms=0, frozen_version=0)
