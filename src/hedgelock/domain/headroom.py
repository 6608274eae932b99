"""How large a short the trading pocket can carry through a rally, and how much money that takes.

The account policy at +u (DESIGN §5), h in coins short, P the mark, U the pocket's USDT equity:

    ρ·(U + K − h·P·u)  ≥  h·P·(1+u)·m − d  +  r·max(0, h·P·u − U)

K is the pocket's BTC at its margin ratio after the rally (USDT), m the maintenance rate of the tier
plus the closing fee, d the tier's deduction, r the maintenance rate of auto-borrowed USDT, ρ the
accountMMRate allowed. With ρ = 1 and one tier this is DESIGN's h_cap(U). The right side is convex
in h, so both functions below are exact inverses of each other inside a tier.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from hedgelock.domain.instrument import Instrument, MarginTier
from hedgelock.domain.money import ONE, ZERO

_NEVER = Decimal("Infinity")


class Headroom(NamedTuple):
    """What the pocket's margin depends on beside U and h. Prices quote per base, money USDT."""

    mark: Decimal
    rise: Decimal
    """u: the rally to outlive, fraction."""
    cushion: Decimal
    """K: the pocket's coins × ratio × index × (1 + u), ≥ 0."""
    ratio_max: Decimal
    """ρ: accountMMRate allowed after the rally, > 0."""
    borrow_rate: Decimal
    """r: maintenance rate of auto-borrowed USDT."""
    instrument: Instrument

    def hedge_cap(self, equity: Decimal) -> Decimal:
        """h_cap(U): the largest short (coins, ≥ 0) that policy allows with U = `equity`.

        Beyond the last tier nothing may be held; no tiers at all allow nothing (callers treat
        missing tiers as missing data before they come here).
        """
        value_rate = self.mark * (ONE + self.rise)
        cap = lowest = ZERO
        for tier in self.instrument.tiers:
            plain, borrowing = self._loads(tier)
            room = self.ratio_max * (equity + self.cushion) + tier.deduction
            fits = min(room / plain, (room + self.borrow_rate * equity) / borrowing)
            cap = min(fits, tier.notional_max / value_rate)
            if cap < lowest:
                # Not even the smallest size of this tier fits; the tier below ended at `lowest`.
                return lowest
            if fits == cap:
                return cap
            lowest = cap
        return cap

    def equity_needed(self, short: Decimal) -> Decimal:
        """The least U (may be < 0: coins carry it) with `short` ≤ h_cap(U). USDT."""
        if short <= 0:
            return -self.cushion
        tier = self._tier_of(short)
        if tier is None:
            # No tier carries it: no money may leave.
            return _NEVER
        plain, borrowing = self._loads(tier)
        own = (short * plain - tier.deduction) / self.ratio_max - self.cushion
        owing = (short * borrowing - tier.deduction - self.ratio_max * self.cushion) / (
            self.ratio_max + self.borrow_rate
        )
        return max(own, owing)

    def _loads(self, tier: MarginTier) -> tuple[Decimal, Decimal]:
        """USDT of room that one coin of short takes: without and with auto-borrowing."""
        margin = (ONE + self.rise) * (tier.maintenance_rate + self.instrument.taker_fee)
        plain = self.mark * (self.ratio_max * self.rise + margin)
        return plain, plain + self.mark * self.borrow_rate * self.rise

    def _tier_of(self, short: Decimal) -> MarginTier | None:
        value = short * self.mark * (ONE + self.rise)
        return next((t for t in self.instrument.tiers if value <= t.notional_max), None)
