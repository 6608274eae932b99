"""Orders as HedgeLock speaks of them: intents, fills, confirmations, identity.

An *intent* is what the hedger wants done, once. An *order* is one attempt at the venue for one slice
of it; its `client_order_id` is a pure function of the intent, journaled before it is sent.
"""

from __future__ import annotations

import base64
import enum
import hashlib
from decimal import Decimal
from typing import ClassVar

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

    positive: ClassVar = ("qty", "mark_price", "price", "slippage_max")

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


class CancelOrders(Message, frozen=True, kw_only=True):
    """Cancel every open intent of the account, or only those of `instrument`."""

    account: str
    intent_id: str
    instrument: str | None
    reason: str
    decided_ts_ms: int


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
