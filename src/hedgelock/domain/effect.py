"""What the executor asks of the venue, and what came back: the contract with `exchanges/`.

An effect runs only after the commit that holds it; its result comes back as a recorded event. Effects
are re-derivable from the state, so a crash at any point loses none and repeats none blindly.
"""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import ClassVar

from hedgelock.domain.message import Message
from hedgelock.domain.order import Fill, OrderStatus, OrderType, Side, TimeInForce
from hedgelock.domain.treasury import Pocket, TreasuryKind

# ---------------------------------------------------------------- effects: what to do at the venue


class SendOrder(Message, frozen=True, kw_only=True):
    """Send one order. `price` None = market, unbounded; the executor always sets a bound."""

    positive: ClassVar = ("qty", "price", "trigger_price")

    account: str
    intent_id: str
    client_order_id: str
    instrument: str
    side: Side
    order_type: OrderType
    qty: Decimal
    price: Decimal | None
    time_in_force: TimeInForce
    reduce_only: bool
    expires_ts_ms: int
    protective: bool = False
    """Allowed while safety says HALTED; checked again at the moment of sending."""
    trigger_price: Decimal | None = None
    """Conditional: a purchase waits for the mark to rise here, a sale for it to fall here."""


class QueryOrder(Message, frozen=True, kw_only=True):
    """Ask for one order by its client id: open orders, then history, then executions."""

    account: str
    client_order_id: str
    instrument: str
    since_ts_ms: int


class CancelOrder(Message, frozen=True, kw_only=True):
    """Cancel one order by its client id."""

    account: str
    client_order_id: str
    instrument: str


class ListOrders(Message, frozen=True, kw_only=True):
    """Ask for every open order of the account, of all categories, ours or not."""

    account: str


class SendTransfer(Message, frozen=True, kw_only=True):
    """Move coins between pockets. `transfer_id` (a UUID of the intent) is the idempotency key."""

    positive: ClassVar = ("amount",)

    account: str
    intent_id: str
    transfer_id: str
    coin: str
    amount: Decimal
    source: Pocket
    target: Pocket
    expires_ts_ms: int | None = None
    """Not sent at or after this; None = no limit."""
    protective: bool = False
    """Part of a repayment or a top-up; allowed while safety says HALTED."""


class QueryTransfer(Message, frozen=True, kw_only=True):
    """Ask for one transfer by its id."""

    account: str
    intent_id: str
    transfer_id: str


class SendLoanAction(Message, frozen=True, kw_only=True):
    """Repay, borrow or repay with collateral. Has no key at the venue: one in flight per coin."""

    positive: ClassVar = ("amount",)

    account: str
    intent_id: str
    kind_of: TreasuryKind
    coin: str
    amount: Decimal
    collateral_coin: str
    expires_ts_ms: int | None = None
    """Not sent at or after this; None = no limit."""


class QueryLoanAction(Message, frozen=True, kw_only=True):
    """Ask the loan's history since `since_ts_ms` for one action of this kind and amount."""

    positive: ClassVar = ("amount",)

    account: str
    intent_id: str
    kind_of: TreasuryKind
    coin: str
    amount: Decimal
    since_ts_ms: int
    known_references: tuple[str, ...] = ()
    """Rows of other actions of ours: not the one that is looked for."""


Effect = (
    SendOrder | QueryOrder | CancelOrder | ListOrders | SendTransfer | QueryTransfer
    | SendLoanAction | QueryLoanAction
)

# ---------------------------------------------------------------- events: what came back


class Outcome(enum.Enum):
    """What is known after an effect or a push."""

    ACCEPTED = "accepted"
    """The venue has it (an ack, or a row that is not terminal)."""
    DONE = "done"
    """It happened in full (transfers and loan actions)."""
    REFUSED = "refused"
    """It did not happen and will not."""
    DUPLICATE = "duplicate"
    """The venue knows this id already: an earlier attempt most likely arrived."""
    DOUBTFUL = "doubtful"
    """It may have happened."""
    ABSENT = "absent"
    """A query that worked found nothing."""
    BUSY = "busy"
    """Nothing happened; try again at `retry_at_ms`."""
    QUERY_FAILED = "query_failed"
    """A query did not work: nothing learned."""


class OrderAnswer(Message, frozen=True, kw_only=True):
    """Answer to SendOrder, CancelOrder or a QueryOrder that brought no row.

    REFUSED to a cancel (`is_cancel`) says nothing about the order itself.
    """

    account: str
    client_order_id: str
    outcome: Outcome
    venue_order_id: str = ""
    is_cancel: bool = False
    is_query: bool = False
    """Answers a question, not a send; set by the effect runner."""
    code: str = ""
    text: str = ""
    retry_at_ms: int = 0
    ts_seen_ms: int


class OrderReport(Message, frozen=True, kw_only=True):
    """One order row, from a query or a push. `filled_qty` is the venue's cumExecQty."""

    positive: ClassVar = ("qty", "price")
    non_negative: ClassVar = ("filled_qty",)

    account: str
    client_order_id: str
    venue_order_id: str
    instrument: str
    side: Side
    order_type: OrderType
    qty: Decimal
    filled_qty: Decimal
    reduce_only: bool
    status: OrderStatus
    text: str
    created_ts_ms: int
    ts_event_ms: int
    ts_seen_ms: int
    price: Decimal | None = None
    """The limit as the venue holds it: it clips what lies outside its price limits. None = none."""


class ExecutionReport(Message, frozen=True, kw_only=True):
    """One fill of one order, from a push or a query. `client_order_id` "" = not an order of ours.

    `exec_type` is the venue's (Trade, AdlTrade, BustTrade, Funding ...).
    """

    account: str
    client_order_id: str
    venue_order_id: str
    exec_type: str
    fill: Fill
    ts_seen_ms: int


class TransferAnswer(Message, frozen=True, kw_only=True):
    """Answer to SendTransfer or QueryTransfer."""

    account: str
    intent_id: str
    transfer_id: str
    outcome: Outcome
    is_query: bool = False
    """Answers a question, not a send; set by the effect runner."""
    code: str = ""
    text: str = ""
    retry_at_ms: int = 0
    ts_seen_ms: int


class LoanAnswer(Message, frozen=True, kw_only=True):
    """Answer to SendLoanAction or QueryLoanAction. ACCEPTED = processing. `debt_after` in coins.

    `reference` is the venue's repayId or orderId where it gave one.
    """

    account: str
    intent_id: str
    outcome: Outcome
    is_query: bool = False
    """Answers a question, not a send; set by the effect runner."""
    reference: str = ""
    debt_after: Decimal | None = None
    code: str = ""
    text: str = ""
    retry_at_ms: int = 0
    ts_seen_ms: int


class StreamReset(Message, frozen=True, kw_only=True):
    """The private stream (re)connected: what was missed must be asked for."""

    account: str
    ts_seen_ms: int


class OrderFacts(Message, frozen=True, kw_only=True):
    """A query's whole answer: the row and every fill of it."""

    account: str
    report: OrderReport
    executions: tuple[ExecutionReport, ...]
    ts_seen_ms: int


class OpenOrders(Message, frozen=True, kw_only=True):
    """Answer to ListOrders: DONE with every open order, or QUERY_FAILED (BUSY) with none."""

    account: str
    outcome: Outcome
    reports: tuple[OrderReport, ...] = ()
    text: str = ""
    retry_at_ms: int = 0
    ts_seen_ms: int


VenueEvent = (
    OpenOrders | OrderAnswer | OrderReport | OrderFacts | ExecutionReport | TransferAnswer
    | LoanAnswer | StreamReset
)
