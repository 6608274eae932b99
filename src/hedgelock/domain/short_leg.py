"""The discretionary short of `vol_harvest`: what it was opened at, its best price, when it rests.

    opened ──gained k·σ──► resting (profit target)  ──harvest_rest_ms──► free again
       └────price ≥ best·(1 + stop·σ)──► resting (trailing stop) ──┘

Gains and distances are fractions of price; σ is that of a day. Without a known σ nothing is taken
and nothing is stopped: the hedge stays. The protective part is no concern of this.
"""

from __future__ import annotations

import enum
from decimal import Decimal

import msgspec

from hedgelock.domain.money import ONE, ZERO
from hedgelock.domain.policy import TacticsPolicy


class LegState(enum.Enum):
    """Where the discretionary short stands."""

    FREE = "free"
    OPEN = "open"
    PROFIT_TARGET = "profit_target"
    """It gained what was wanted, and rests."""
    TRAILING_STOP = "trailing_stop"
    """The price came back from its lowest, and it rests."""


class ShortLeg(msgspec.Struct, frozen=True, array_like=True):
    """Quote per base; `since_ms` is when `state` was entered."""

    state: LegState = LegState.FREE
    since_ms: int = 0
    opened_price: Decimal = ZERO
    best_price: Decimal = ZERO

    @property
    def is_resting(self) -> bool:
        """Nothing discretionary is to be held."""
        return self.state in (LegState.PROFIT_TARGET, LegState.TRAILING_STOP)


def advance(
    leg: ShortLeg, *, held: Decimal, mark_price: Decimal, volatility: Decimal | None,
    tactics: TacticsPolicy, now_ms: int,
) -> ShortLeg:
    """The leg after a look at the price. `held`: coins short beyond the protective part."""
    if leg.is_resting:
        is_over = now_ms - leg.since_ms >= tactics.harvest_rest_ms
        return ShortLeg(LegState.FREE, now_ms) if is_over else leg
    if held <= 0:
        return leg if leg.state is LegState.FREE else ShortLeg(LegState.FREE, now_ms)
    if leg.state is LegState.FREE:
        return ShortLeg(LegState.OPEN, now_ms, mark_price, mark_price)
    if volatility is not None:
        if leg.opened_price - mark_price >= tactics.harvest_target * volatility * leg.opened_price:
            return ShortLeg(LegState.PROFIT_TARGET, now_ms)
        if mark_price >= leg.best_price * (ONE + tactics.harvest_stop * volatility):
            return ShortLeg(LegState.TRAILING_STOP, now_ms)
    if mark_price < leg.best_price:
        return msgspec.structs.replace(leg, best_price=mark_price)
    return leg
