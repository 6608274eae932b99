"""Funding of one contract: what its rate is becoming, when it settles, and how often.

    P_i  = [max(0, impact bid − index) − max(0, index − impact ask)] ÷ index      each minute i
    AvgP = Σ i·P_i ÷ Σ i                                    later minutes of the interval weigh more
    F    = AvgP + clamp(I − AvgP, ∓ .05 %), then clamped to the cap; I = .03 % a day × interval

+ = longs pay. Source: fact sheet §8.1; what it leaves open is an option of `FundingTerms`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from hedgelock.simulator.money import ZERO

HOUR_MS = 3_600_000
DAY_H = 24
RATE_STEP = Decimal("0.00000001")
HISTORY_KEPT = 1000
INTERVALS_H = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True)
class FundingTerms:
    """Rules of funding; rates are fractions of position value per interval."""

    cap: Decimal = Decimal("0.005")
    cap_hourly: Decimal | None = None  # the cap while settling hourly; None = unchanged
    interest_daily: Decimal = Decimal("0.0003")
    damping: Decimal = Decimal("0.0005")
    impact_notional: Decimal = Decimal(20_000)  # USD traded to find the impact prices
    auto_hourly: bool = True  # hourly once a rate settles at its cap, and back
    auto_excluded: frozenset[str] = frozenset({"BTC", "ETH"})  # bases that never switch
    calm_settlements: int = 8  # hourly settlements below half the cap before it switches back


def predicted(average: Decimal, *, interval_h: int, cap: Decimal, terms: FundingTerms) -> Decimal:
    """The rate that a premium average leads to, within [−cap, cap], in steps of 1e-8."""
    interest = terms.interest_daily * interval_h / DAY_H
    pull = max(-terms.damping, min(terms.damping, interest - average))
    return max(-cap, min(cap, (average + pull).quantize(RATE_STEP)))


@dataclass(slots=True)
class FundingClock:
    """Rate, schedule and history of one contract.

    `instants` are script seconds of settlements that a script prescribes; without them (and once
    the interval was switched) it settles on the UTC grid of its interval. `speed` is that of the
    script: a grid of 8 h then comes every 8 h of script time.
    """

    terms: FundingTerms
    interval_h: int
    base: str
    speed: float = 1.0
    instants: Sequence[float] = ()
    rates: Sequence[Decimal] = ()  # what settles at each instant, where history says so
    home_h: int = 0  # the interval it returns to
    next_ms: int = 0
    history: deque[tuple[int, Decimal]] = field(default_factory=lambda: deque(maxlen=HISTORY_KEPT))
    forced: Decimal | None = None  # a rate that a deed prescribes
    rate: Decimal = ZERO  # what would settle now
    samples: int = 0
    _done: int = 0
    _weighted: Decimal = ZERO
    _calm: int = 0

    def __post_init__(self) -> None:
        self.home_h = self.interval_h
        self._predict()

    @property
    def cap(self) -> Decimal:
        """Largest magnitude of the rate now."""
        hourly = self.interval_h == 1 and self.home_h != 1
        return self.terms.cap_hourly or self.terms.cap if hourly else self.terms.cap

    @property
    def interval_ms(self) -> int:
        """Exchange time between two settlements."""
        return max(1, round(self.interval_h * HOUR_MS / self.speed))

    @property
    def average(self) -> Decimal:
        """Premium average of the interval so far, later samples weighing more."""
        if not self.samples:
            return ZERO
        return self._weighted * 2 / (self.samples * (self.samples + 1))

    @property
    def last_rate(self) -> Decimal:
        """The rate that settled last; before any, the one that would."""
        return self.history[-1][1] if self.history else self.rate

    def sample(self, premium: Decimal) -> None:
        """Take the premium of one minute."""
        self.samples += 1
        self._weighted += self.samples * premium
        self._predict()

    def force(self, rate: Decimal | None) -> None:
        """Prescribe the rate, or (None) leave it to the formula again."""
        self.forced = rate
        self._predict()

    def follow(self, rate: Decimal, interval_h: int, next_ms: int) -> None:
        """Be as a real market says: rate, interval and instant; one already settled is not again."""
        if self.interval_h != interval_h or self.instants:
            self.interval_h = self.home_h = interval_h
            self.instants = self.rates = ()
        if self.forced != rate:
            self.force(rate)
        if not self.history or next_ms > self.history[-1][0]:
            self.next_ms = next_ms

    def upcoming(self, now_ms: int, started_ms: int | None) -> int:
        """The settlement after `now_ms`; while the script waits, as if it began now."""
        if self._done < len(self.instants):
            ahead_ms = math.ceil(self.instants[self._done] * 1000 / self.speed)
            return (now_ms if started_ms is None else started_ms) + ahead_ms
        if self.instants:  # a script's own rhythm goes on from its last instant
            return now_ms + self.interval_h * HOUR_MS
        return (now_ms // self.interval_ms + 1) * self.interval_ms

    def share_left(self, now_ms: int, due_ms: int) -> Decimal:
        """Part of the interval that is still to come."""
        whole_ms = self.interval_h * HOUR_MS if self.instants else self.interval_ms
        return Decimal(due_ms - now_ms) / whole_ms

    def settle(self, at_ms: int, rate: Decimal, *, started_ms: int) -> None:
        """Book a settlement, perhaps switch the interval, and schedule the next."""
        self.history.append((at_ms, rate))
        self._done += 1
        self._follow(rate)
        self.samples, self._weighted = 0, ZERO
        self._predict()
        self.next_ms = self.upcoming(at_ms, started_ms)

    def switch(self, interval_h: int, now_ms: int) -> None:
        """Settle every `interval_h` hours of the UTC grid from now on."""
        if interval_h not in INTERVALS_H:
            raise ValueError(f"a funding interval is one of {INTERVALS_H} h, not {interval_h}")
        self.interval_h = self.home_h = interval_h
        self.instants = self.rates = ()
        self._predict()
        self.next_ms = self.upcoming(now_ms, None)

    def _predict(self) -> None:
        """A deed's rate, else history's, else by the formula."""
        if self.forced is not None:
            self.rate = self.forced
        elif self._done < len(self.rates):
            self.rate = self.rates[self._done]
        else:
            self.rate = predicted(
                self.average, interval_h=self.interval_h, cap=self.cap, terms=self.terms
            )

    def _follow(self, rate: Decimal) -> None:
        """As history says; else hourly once a rate settles at its cap, and back when calm."""
        if self.rates:
            if self._done < len(self.instants):
                apart_h = (self.instants[self._done] - self.instants[self._done - 1]) / 3600
                self.interval_h = self.home_h = min(INTERVALS_H, key=lambda h: abs(h - apart_h))
            return
        if not self.terms.auto_hourly or self.base in self.terms.auto_excluded:
            return
        if self.interval_h == self.home_h:
            if self.home_h > 1 and abs(rate) >= self.cap:
                self.interval_h, self._calm = 1, 0
                self.instants = self.rates = ()
            return
        self._calm = self._calm + 1 if abs(rate) < self.cap / 2 else 0
        if self._calm >= self.terms.calm_settlements:
            self.interval_h = self.home_h
