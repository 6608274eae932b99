"""Why an intent is not executed, and what the checks before sending may look at.

`precheck` holds the checks of terms and of safety, `limits` those of the account's own limits; both
are lists of `Check`: `(intent, context) -> Refusal | None`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

from hedgelock.domain.budget import Budget
from hedgelock.domain.funding import FundingContext
from hedgelock.domain.instrument import Instrument, Settlement
from hedgelock.domain.market import MarketTick
from hedgelock.domain.money import ZERO
from hedgelock.domain.order import PlaceOrder
from hedgelock.domain.policy import ExecutionPolicy
from hedgelock.domain.safety import SafetyState
from hedgelock.domain.short_room import ShortRoom

CLOCK_TOLERANCE_MS = 5_000
"""How far two clocks may differ before their times are not believed."""

SLICES_MAX = 8
"""An order that the venue's size limits would cut into more pieces is refused."""

RATE_WINDOW_MS = 60_000
"""The window of `ExecutionPolicy.orders_per_minute_max`."""


class Refusal(enum.Enum):
    """Why an intent is not executed (any further)."""

    EXPIRED = "expired"
    FROM_THE_FUTURE = "from_the_future"
    """Decided later than now: a clock is wrong, and no deadline means anything."""
    TOO_OLD = "too_old"
    """Decided before what is already forgotten: it may have been executed long ago."""
    POLICY_ABSENT = "policy_absent"
    SAFETY_ABSENT = "safety_absent"
    REDUCING = "reducing"
    HALTED = "halted"
    KILLED = "killed"
    ACCOUNT_FROZEN = "account_frozen"
    RECONCILING = "reconciling"
    """Just restarted: the venue's open orders were not yet compared with our books."""
    INSTRUMENT_UNKNOWN = "instrument_unknown"
    QTY_OFF_LOT = "qty_off_lot"
    QTY_TOO_SMALL = "qty_too_small"
    QTY_TOO_LARGE = "qty_too_large"
    PRICE_OFF_TICK = "price_off_tick"
    STOP_IMPOSSIBLE = "stop_impossible"
    """A stop that is off the tick, or that could open something."""
    PRICE_IMPOSSIBLE = "price_impossible"
    NOTIONAL_TOO_SMALL = "notional_too_small"
    NOTIONAL_TOO_LARGE = "notional_too_large"
    TOO_MANY_ORDERS = "too_many_orders"
    TOO_MANY_OPEN = "too_many_open"
    CANCELLED = "cancelled"
    COLLATERAL_COIN_ABSENT = "collateral_coin_absent"
    AMOUNT_AMBIGUOUS = "amount_ambiguous"
    PRICE_OUTSIDE_BOUND = "price_outside_bound"
    """The venue holds the order at a worse price than was sent."""
    SHORT_TOO_LARGE = "short_too_large"
    """With it the short would exceed C + b: the account would be net short."""
    HOLDINGS_UNKNOWN = "holdings_unknown"
    """Collateral, coins or positions were never read: nothing discretionary is opened."""
    FUNDING_UNKNOWN = "funding_unknown"
    SETTLEMENT_NEAR = "settlement_near"
    """It would pay a funding settlement a moment later."""
    NOTIONAL_PER_DAY = "notional_per_day"
    SPEND_PER_DAY = "spend_per_day"
    REPAYMENTS_PER_HOUR = "repayments_per_hour"
    BORROWING_PER_DAY = "borrowing_per_day"


class Context(NamedTuple):
    """What the checks may look at. `frozen` "" = not frozen; `open_intents` are not terminal."""

    now_ms: int
    policy: ExecutionPolicy | None
    safety: SafetyState | None
    instrument: Instrument | None
    frozen: str
    orders_last_minute: int
    open_intents: int
    open_intents_max: int
    tick: MarketTick | None = None
    """Prices of the instrument, None = unknown or too old to go by."""
    funding: FundingContext | None = None
    """Of the instrument, None = unknown or too old."""
    room: ShortRoom | None = None
    """None = not known, or not asked: it is looked up when an intent arrives."""
    budget: Budget = Budget()
    is_reconciling: bool = False
    open_notional: Decimal = ZERO
    """Of open intents, what may still fill, quote units."""
    open_borrowing: Decimal = ZERO
    """Of open treasury actions, what may still be borrowed, in the quote coin."""


Check = Callable[[PlaceOrder, Context], Refusal | None]


def notional(qty: Decimal, price: Decimal, instrument: Instrument) -> Decimal:
    """Order value in quote units; an inverse contract's quantity already is (1 USD each)."""
    return qty if instrument.settlement is Settlement.INVERSE else qty * price
