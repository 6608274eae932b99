"""What time brings by itself on a tape: interest on the hour, funding at its instant."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from hedgelock.backtest.terms import Terms
from hedgelock.domain import funding
from hedgelock.domain.policy import FundingPolicy
from hedgelock.history.tape import HOUR_MS, Floats, Integers, Tape


class Calendar:
    """Hours and settlements by the bar at whose close they fall, and the rate known at each."""

    def __init__(self, tape: Tape, terms: Terms) -> None:
        closes = tape.first_ms + np.arange(1, len(tape) + 1, dtype=np.int64) * tape.step_ms
        self.hours: Integers = closes // HOUR_MS - (closes - tape.step_ms) // HOUR_MS
        bars, rates, hours = tape.funding_bars()
        self.rates: dict[int, list[Decimal]] = {}
        for bar, rate in zip(bars.tolist(), rates.tolist(), strict=True):
            self.rates.setdefault(bar, []).append(Decimal(str(rate)))
        self.rate_sum: Floats = np.zeros(len(tape))
        np.add.at(self.rate_sum, bars, rates)
        self.growth: Floats = (1 + float(terms.loan_hourly)) ** self.hours.astype(np.float64)
        before, interval = tape.rate_before()
        self._changes = [-1, *bars.tolist()]
        self._aprs = [_apr(before, interval)]
        self._aprs += [_apr(r, h) for r, h in zip(rates.tolist(), hours.tolist(), strict=True)]
        self._events = sorted({*np.nonzero(self.hours)[0].tolist(), *bars.tolist()})

    def between(self, first: int, last: int) -> Sequence[int]:
        """Bars of [first, last) at whose close something falls."""
        return self._events[bisect_left(self._events, first):bisect_left(self._events, last)]

    def apr(self, bar: int) -> Decimal:
        """The rate that settled last at the close of `bar`, per year; + = longs pay."""
        return self._aprs[self._known(bar)]

    def multiplier(self, policy: FundingPolicy, bar: int) -> Decimal:
        """m of the short side: it pays where the rate is negative."""
        return funding.multiplier(-self.apr(bar), policy)

    def next_change(self, bar: int) -> int:
        """The first bar after `bar` at which another rate becomes known; past the end for none."""
        after = self._known(bar) + 1
        return self._changes[after] if after < len(self._changes) else len(self.hours)

    def _known(self, bar: int) -> int:
        return max(0, bisect_left(self._changes, bar + 1) - 1)


def _apr(rate: float, interval_h: float) -> Decimal:
    return funding.annualise(Decimal(str(rate)), Decimal(str(interval_h)))
