"""Orders as HedgeLock speaks of them: intents, fills, confirmations, identity.

An *intent* is what the hedger wants done, once. An *order* is one attempt at the venue for one slice
of it; its `client_order_id` is a pure function of the intent, journaled before it is sent.
"""

from __future__ import annotations

import base64
import enum
import hashlib
from decimal import Decimal
from typing import ClassVar, NamedTuple

from hedgelock.domain.message import Message, Value


class Side(enum.Enum):
    """Which way an order goes."""

    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        """+1 buys, −1 sells: signed quantity = sign × qty."""
        return 1 if self is Side.BUY else -1


class OrderType(enum.Enum):
    """How an order is priced."""

    MARKET = "market"
    LIMIT = "limit"


class TimeInForce(enum.Enum):
    """How long an order may wait."""

    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"
    POST_ONLY = "post_only"


class Urgency(enum.Enum):
    """How soon an order must be done; the hedger says it, the executor makes a style of it."""

    AT_ONCE = "at_once"
    BRISK = "brisk"
    PATIENT = "patient"


class OrderStyle(enum.Enum):
    """How an intent is executed (`order_style`)."""

    MARKET = "market"
    """Immediate, at most `slippage_max` from the mark."""
    IOC_LIMIT = "ioc_limit"
    """Immediate, first inside a tighter bound, then inside the whole."""
    POST_ONLY = "post_only"
    """Rest at the best price, follow it for a while, then take what is there inside the bound."""
    SLICED = "sliced"
    """Immediate pieces no larger than what the book shows, one after the other."""
    AS_DECIDED = "as_decided"
    """The hedger named price and time in force."""


class OrderStatus(enum.Enum):
    """Where an order stands at the venue, as far as we know."""

    PENDING = "pending"
    """Recorded, not known to have left."""
    UNKNOWN = "unknown"
    """It may be there: asked about, never sent again blindly."""
    NEW = "new"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    """Ours: never reached the venue before its deadline."""

    @property
    def is_terminal(self) -> bool:
        """No further fill is expected (a late fill after a cancel is booked all the same)."""
        return self in _TERMINAL


_TERMINAL = frozenset(
    {OrderStatus.FILLED, OrderStatus.CANCELLED, OrderStatus.REJECTED, OrderStatus.EXPIRED}
)


class OrderEvent(enum.Enum):
    """What can be learned about an order. SEEN_…: the venue's row says so; FILL_…: an execution."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    """The venue's answer to a send: it did not happen and will not."""
    POSTPONED = "postponed"
    """Busy: this send did nothing, another one may follow."""
    DUPLICATE = "duplicate"
    """The venue knows the id already: an earlier send most likely arrived."""
    DOUBTED = "doubted"
    """No answer, a doubtful one, or a restart: nobody knows where it stands."""
    RESENT = "resent"
    GIVEN_UP = "given_up"
    """The venue does not have it and it will not be sent again."""
    SEEN_NEW = "seen_new"
    SEEN_PARTIAL = "seen_partial"
    SEEN_FILLED = "seen_filled"
    SEEN_CANCELLED = "seen_cancelled"
    SEEN_REJECTED = "seen_rejected"
    FILL_PARTIAL = "fill_partial"
    """An execution after which something of the order is left."""
    FILL_COMPLETE = "fill_complete"
    """An execution after which nothing of it is left."""


class IllegalMove(NamedTuple):
    """A contradiction: `event` cannot befall an order in `status`; the order stays as it is."""

    status: OrderStatus
    event: OrderEvent


_COLUMNS = (
    OrderStatus.PENDING, OrderStatus.UNKNOWN, OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED,
    OrderStatus.FILLED, OrderStatus.CANCELLED, OrderStatus.REJECTED, OrderStatus.EXPIRED,
)

# The ugly truths are cells like any other: a second FILLED after a lost cancel race, a fill after a
# cancel (booked; the status stays), news that arrives late (the later status stays), and an order
# that we took for refused or lost and that the venue has after all (it lives again, and is
# cancelled by `order_execution`). P U N H F C R E are the columns; `.` is an illegal move.
_MOVES = """
                P U N H F C R E
acknowledged    N N N H F C N N
refused         R R . . . . R E
postponed       P U . . . . . .
duplicate       U U N H F C . .
doubted         U U U U F C R E
resent          P P . . . . . .
given_up        E E E E . . . E
seen_new        N N N H F C N N
seen_partial    H H H H F C H H
seen_filled     F F F F F F F F
seen_cancelled  C C C C F C C C
seen_rejected   R R R . . . R R
fill_partial    H H H H F C H H
fill_complete   F F F F F F F F
"""


def _parse(text: str) -> dict[tuple[OrderStatus, OrderEvent], OrderStatus]:
    head, *rows = text.strip().splitlines()
    of_letter = dict(zip(head.split(), _COLUMNS, strict=True))
    table: dict[tuple[OrderStatus, OrderEvent], OrderStatus] = {}
    for row in rows:
        event, *cells = row.split()
        for status, cell in zip(_COLUMNS, cells, strict=True):
            if cell != ".":
                table[status, OrderEvent(event)] = of_letter[cell]
    return table


_TABLE = _parse(_MOVES)


def next_status(status: OrderStatus, event: OrderEvent) -> OrderStatus | IllegalMove:
    """Where `event` takes an order that stands at `status`; total, IllegalMove where it cannot."""
    return _TABLE.get((status, event)) or IllegalMove(status, event)


class Fill(Value, frozen=True, kw_only=True):
    """One execution. `exec_id` is the venue's and unique; `fee` + = paid, in `fee_coin`.

    `pnl` is realised by this fill before fees (settle coin); `seq` orders it against positions.
    """

    positive: ClassVar = ("qty", "price")

    exec_id: str
    instrument: str
    side: Side
    qty: Decimal
    price: Decimal
    fee: Decimal
    fee_coin: str
    pnl: Decimal
    is_maker: bool
    seq: int
    ts_ms: int


class PlaceOrder(Message, frozen=True, kw_only=True):
    """Do this order once, before `expires_ts_ms`. `qty` in base units, > 0.

    `reason` is the hedger's; `mark_price` is what it saw. A protective intent may go out when
    discretionary ones may not. `price` None = market within `slippage_max` of `mark_price`.
    """

    positive: ClassVar = ("qty", "mark_price", "price", "slippage_max", "trigger_price")

    account: str
    intent_id: str
    instrument: str
    side: Side
    qty: Decimal
    price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.IOC
    reduce_only: bool
    protective: bool
    reason: str
    mark_price: Decimal
    slippage_max: Decimal
    decided_ts_ms: int
    expires_ts_ms: int
    urgency: Urgency | None = None
    """None = at once: what older messages meant."""
    trigger_price: Decimal | None = None
    """A stop: waits at the venue until the mark has come here, then goes as a market order."""
    replaces: str = ""
    """A stop: the intent that is cancelled once this one is at the venue."""


class CancelOrders(Message, frozen=True, kw_only=True):
    """Cancel every open intent of the account, or only those of `instrument` or in `intents`.

    `keep_stops`: protective stops stay where they are.
    """

    account: str
    intent_id: str
    instrument: str | None
    reason: str
    decided_ts_ms: int
    intents: tuple[str, ...] | None = None
    keep_stops: bool = False


class OrderConfirmation(Message, frozen=True, kw_only=True):
    """What became of an order intent so far; the latest one replaces all before.

    `fills` are all fills of the intent known so far. `is_terminal`: nothing more will be done.
    `is_unknown`: it may be at the venue; count it as filled when asking "may I add?" and as
    unfilled when asking "am I safe?".
    """

    non_negative: ClassVar = ("qty", "filled_qty")

    account: str
    intent_id: str
    client_order_id: str
    venue_order_id: str
    instrument: str
    side: Side
    qty: Decimal
    filled_qty: Decimal
    fills: tuple[Fill, ...]
    status: OrderStatus
    is_terminal: bool
    is_unknown: bool
    reduce_only: bool
    text: str
    revision: int
    """Counts up per intent: an older confirmation never replaces a newer one."""
    ts_confirmed_ms: int
    is_stop: bool = False
    """A protective stop: it rests for as long as it is wanted, and is not in flight."""
    style: OrderStyle | None = None
    """How it was worked and, as a `StyleReason`, why so; None and "" where it was not."""
    style_reason: str = ""


class ForeignCause(enum.Enum):
    """Who changed a position that we did not."""

    ADL = "adl"
    """The venue closed part of a winning position to cover somebody's bankruptcy."""
    LIQUIDATION = "liquidation"
    NOT_OURS = "not_ours"
    """A person, or another program, with the same account."""


class ForeignFill(Message, frozen=True, kw_only=True):
    """An execution in the account that belongs to no order of ours; told once per exec id."""

    account: str
    cause: ForeignCause
    exec_type: str
    venue_order_id: str
    fill: Fill
    ts_seen_ms: int


ALARM = "ALARM "
"""How the text of a confirmation begins that a person must see."""


def is_alarm(confirmation: OrderConfirmation) -> bool:
    """The account stopped opening because of this; safety halts it, alerts tell people."""
    return confirmation.text.startswith(ALARM)


def client_order_id(
    *, log_id: str, account: str, decision: str, slice_no: int, attempt: int
) -> str:
    """The order's identity: 128-bit hash of its origin, in Bybit's alphabet (28 of ≤ 36 signs).

    Pure: the same intent gives the same id after any crash; a new log gives other ids.

    >>> client_order_id(log_id="00", account="main", decision="hedger:main:7.0", slice_no=0,
    ...                 attempt=0)[:2]
    'hl'
    """
    origin = "\x1f".join((log_id, account, decision, str(slice_no), str(attempt)))
    digest = hashlib.blake2b(origin.encode(), digest_size=16).digest()
    return "hl" + base64.b32encode(digest).decode().rstrip("=").lower()
