"""When to leave the paying side, when to change over to the receiving one, and when to come back.

Closing on each change of sign burns money (90 days of BTC: −371 bps against +46 for holding). So:

    exit      APR paid ≥ exit_apr, and what is expected to be paid exceeds a round trip
    flip      the same, and the stressed account after it is inside policy, net delta ≤ C + b
    re-entry  APR paid < reentry_apr, and the cooldown is over

"Expected time of paying > round trip ÷ rate" (DESIGN §5: .0015 × 8760 ÷ a hours) and "expected cost
> round trip" are one condition: the time is the expected cost ÷ the rate now. A protective hedge
is not left on this signal: it is replaced where something else is cheaper and safe (`solver`).
"""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import NamedTuple

import msgspec

from hedgelock.domain.funding_forecast import HOURS_PER_YEAR, HoldingCost
from hedgelock.domain.money import ZERO
from hedgelock.domain.policy import FundingPolicy

_BPS = 10_000
_DAY_MS = 86_400_000


class FundingSide(enum.Enum):
    """Which side of a perpetual is meant."""

    LONG = "long"
    SHORT = "short"

    @property
    def sign(self) -> int:
        """+1 where a positive rate is paid."""
        return 1 if self is FundingSide.LONG else -1


class ExitReason(enum.Enum):
    """Why a side is to be left, kept, or not entered again."""

    RECEIVES = "receives"
    BELOW_EXIT = "below_exit"
    TOO_SHORT = "too_short"
    """It pays a lot, but for so short a time that the round trip costs more."""
    EXIT = "exit"
    COOLDOWN = "cooldown"
    """It would be left, but was entered or left too recently."""
    CAP_REACHED = "cap_reached"
    """It would be left, but was left often enough today."""
    STAYS_OUT = "stays_out"
    """It was left and still pays more than the level of re-entry."""
    REENTER = "reenter"


class FlipReason(enum.Enum):
    """Why the receiving side is, or is not, taken."""

    FLIP = "flip"
    NO_EXIT = "no_exit"
    NET_DELTA = "net_delta"
    """It would leave more coins than C + b."""
    LOAN_UNSAFE = "loan_unsafe"
    MARGIN_UNSAFE = "margin_unsafe"


class ExitLatch(msgspec.Struct, frozen=True, array_like=True):
    """What is remembered of one side: whether it is left, since when, and the exits of this day."""

    is_out: bool = False
    since_ms: int = 0
    day: int = 0
    """UTC day number that `exits` counts."""
    exits: int = 0


class ExitSignal(NamedTuple):
    """The latch after looking, and why it is so."""

    latch: ExitLatch
    reason: ExitReason

    @property
    def is_out(self) -> bool:
        """The side is to hold nothing discretionary."""
        return self.latch.is_out


class FlipView(NamedTuple):
    """The account as it would be on the receiving side. Coins; LTV and margin ratio as fractions."""

    net_delta: Decimal
    delta_max: Decimal
    """C + b."""
    ltv_stressed: Decimal | None
    """Net LTV in the worst cell; None = infinite."""
    margin_stressed: Decimal | None
    """accountMMRate in the worst cell; None = no equity left."""


def paying_hours(apr_paid: Decimal, cost_bps: Decimal) -> Decimal:
    """For how long `apr_paid` (> 0) would have to be paid to cost `cost_bps`: bps × 8760 ÷ a ÷ 10⁴.

    >>> paying_hours(Decimal(3), Decimal(15))
    Decimal('4.38')
    """
    return cost_bps * HOURS_PER_YEAR / (apr_paid * _BPS)


def exit_signal(
    latch: ExitLatch, side: FundingSide, *, apr: Decimal, cost: HoldingCost,
    policy: FundingPolicy, now_ms: int,
) -> ExitSignal:
    """Whether discretionary size on `side` is to be left now. `apr` signed, `cost` a long's."""
    paid = apr * side.sign
    if latch.is_out:
        if paid < policy.reentry_apr and now_ms - latch.since_ms >= policy.exit_cooldown_ms:
            inside = msgspec.structs.replace(latch, is_out=False, since_ms=now_ms)
            return ExitSignal(inside, ExitReason.REENTER)
        return ExitSignal(latch, ExitReason.STAYS_OUT)
    if paid <= 0:
        return ExitSignal(latch, ExitReason.RECEIVES)
    if paid < policy.exit_apr:
        return ExitSignal(latch, ExitReason.BELOW_EXIT)
    if cost.expected * side.sign <= policy.round_trip_cost * _BPS:
        return ExitSignal(latch, ExitReason.TOO_SHORT)
    day = now_ms // _DAY_MS
    exits = latch.exits if latch.day == day else 0
    if exits >= policy.exits_per_day_max:
        return ExitSignal(latch, ExitReason.CAP_REACHED)
    if latch.since_ms and now_ms - latch.since_ms < policy.exit_cooldown_ms:
        return ExitSignal(latch, ExitReason.COOLDOWN)
    return ExitSignal(ExitLatch(True, now_ms, day, exits + 1), ExitReason.EXIT)


def flip(
    signal: ExitSignal, after: FlipView, *, ltv_max: Decimal, margin_ratio_max: Decimal
) -> FlipReason:
    """Whether the receiving side may be taken, beyond leaving the paying one.

    With linear perps alone a short never becomes a long: the net delta would exceed C + b.
    """
    if not signal.is_out:
        return FlipReason.NO_EXIT
    if after.net_delta > after.delta_max:
        return FlipReason.NET_DELTA
    if after.ltv_stressed is None or after.ltv_stressed > ltv_max:
        return FlipReason.LOAN_UNSAFE
    if after.margin_stressed is None or not ZERO <= after.margin_stressed <= margin_ratio_max:
        return FlipReason.MARGIN_UNSAFE
    return FlipReason.FLIP
