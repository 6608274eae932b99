"""What one step of the executor may look at, and its clockwork: back-off, settling, tolerances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from hedgelock.domain.budget import Budget
from hedgelock.domain.policy import ExecutionPolicy, RiskPolicy
from hedgelock.domain.refusal import CLOCK_TOLERANCE_MS, Context

if TYPE_CHECKING:
    from hedgelock.domain.funding import FundingContext
    from hedgelock.domain.market import MarketTick
    from hedgelock.domain.order import PlaceOrder
    from hedgelock.domain.safety import SafetyState
    from hedgelock.domain.step import Tables

ATTEMPTS_MAX: Final = 3
"""Orders tried for one slice; the rest of the intent ends with the last."""
ATTEMPT_PAUSE_MS: Final = 500
"""Between attempts: the book inside the bound was just emptied."""
ASK_BACKOFF_MAX_MS: Final = 30_000
"""Questions about one thing come at least this often, however long it stays open."""
QUESTION_LOST_MS: Final = 40_000
"""A question unanswered for this long is asked again; the shell answers every one within 30 s."""
RESTORED_SETTLE_MS: Final = 1_000
"""What a dead process had just sent shows up in the venue's history within this."""
BUSY_PAUSE_MS: Final = 250
"""Before trying again when the venue did not say when."""

SLICE_PAUSE_MS: Final = 250
"""Between the slices of one order: the book fills again."""
RESTING_ATTEMPTS_MAX: Final = 8
"""Orders that one slice may rest with, one after the other."""

_DEFAULT = ExecutionPolicy()
_DEFAULT_RISK = RiskPolicy()


class Scene(NamedTuple):
    """One moment of one account. Timing comes from the policy (its defaults while it is absent)."""

    now_ms: int
    log_id: str
    account: str
    tables: Tables
    policy: ExecutionPolicy | None
    safety: SafetyState | None
    frozen: str
    orders_last_minute: int = 0
    ages: RiskPolicy = _DEFAULT_RISK
    budget: Budget = Budget()
    is_reconciling: bool = False

    @property
    def timing(self) -> ExecutionPolicy:
        """Deadlines; asking back must work without a policy, too."""
        return self.policy or _DEFAULT

    @property
    def settle_ms(self) -> int:
        """After this, a request that left is at the venue or never will be.

        Adapters keep Bybit's recv_window at or below it.
        """
        return self.timing.query_after_ms

    def context(self, intent: PlaceOrder | None = None, *, with_book: bool = False) -> Context:
        """What the checks look at; the book and funding only where the intent is asked about them.

        Who adds to it for a new intent: open intents, the short in reach (`execution_book`).
        """
        name = intent.instrument if intent is not None else None
        is_free = intent is None or intent.protective or intent.reduce_only
        return Context(
            now_ms=self.now_ms,
            policy=self.policy,
            safety=self.safety,
            instrument=self.tables.instrument(name) if name else None,
            frozen=self.frozen,
            orders_last_minute=self.orders_last_minute,
            open_intents=0,
            open_intents_max=1,
            tick=self.tick(name) if name and with_book else None,
            funding=None if is_free or name is None else self.funding(name),
            budget=self.budget,
            is_reconciling=self.is_reconciling,
        )

    def tick(self, instrument: str) -> MarketTick | None:
        """Prices of an instrument, None when absent or older than prices may be."""
        tick = self.tables.market(instrument)
        if tick is None or self.now_ms - tick.ts_seen_ms > self.ages.market_age_max_ms:
            return None
        return tick

    def funding(self, instrument: str) -> FundingContext | None:
        """Its funding, None when absent or older than funding may be."""
        funding = self.tables.funding(instrument)
        if funding is None or self.now_ms - funding.ts_seen_ms > self.ages.funding_age_max_ms:
            return None
        return funding

    def look_again_ms(self, *, is_stop: bool) -> int:
        """When to look again at an order that was found open; a stop stays open for weeks."""
        return self.now_ms + (ASK_BACKOFF_MAX_MS if is_stop else self.timing.query_after_ms)

    def ask_again_ms(self, asks: int) -> int:
        """When to ask next after `asks` questions without news: doubling, bounded."""
        return self.now_ms + min(
            self.timing.query_after_ms << min(max(asks - 1, 0), 5), ASK_BACKOFF_MAX_MS
        )

    def again_ms(self, sends: int) -> int:
        """When to send what was found absent: the second time at once, then ever later."""
        pause = BUSY_PAUSE_MS << min(sends - 2, 4) if sends > 1 else 0
        return self.now_ms + pause

    def retry_ms(self, retry_at_ms: int, expires_ts_ms: int) -> int:
        """When to send again after "busy".

        As the venue says, but not later than the deadline (where it is then given up) and never
        at once.
        """
        wanted = retry_at_ms if retry_at_ms > self.now_ms else self.now_ms + BUSY_PAUSE_MS
        return max(min(wanted, expires_ts_ms), self.now_ms + 1)


def is_plausible_time(created_ts_ms: int, decided_ts_ms: int, expires_ts_ms: int) -> bool:
    """The venue's creation time lies inside the life of the intent, clocks forgiven."""
    return (
        decided_ts_ms - CLOCK_TOLERANCE_MS <= created_ts_ms <= expires_ts_ms + CLOCK_TOLERANCE_MS
    )


