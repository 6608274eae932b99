"""Funding has a sign, an interval and a payer.

`funding_rate` is a fraction per interval, + = longs pay shorts. `funding_apr` is simple, per year,
signed alike. The interval is 1, 2, 4 or 8 h, per instrument, and changes without notice.

The regime is the band of |APR|, whoever pays. Up at once; a band is left, downwards only, when
|APR| was below .85 × its lower edge for the whole dwell (which starts when |APR| falls below that
line, so never before the band was entered); see `hysteresis`. With the house policy:

    regime      entered at      left when 1 h below
    NEUTRAL     -               -
    NORMAL      |APR| ≥  .10    .085
    HEATED      |APR| ≥  .50    .425
    MANIA       |APR| ≥ 1.00    .85
    EXTREME     |APR| ≥ 3.00    2.55

The market's resting rate, 0.01 % per 8 h, is 10.95 %: just above an edge, and 22 % above its leaving
line; noise there changes nothing.

`funding_forecast` says what holding will cost, `funding_signal` when a side is left and taken up
again; both are published with the context, and a side that was left has the multiplier 0 while it pays.
"""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import ClassVar, NamedTuple

import msgspec

from hedgelock.domain.funding_forecast import (
    HOURS_PER_YEAR,
    History,
    HoldingCost,
    Prediction,
    Settled,
    holding_costs,
    mean_apr,
    record,
)
from hedgelock.domain.funding_signal import ExitLatch, ExitSignal, FundingSide, exit_signal
from hedgelock.domain.hysteresis import Latch, Rungs, advance
from hedgelock.domain.message import Message, Value
from hedgelock.domain.money import ONE, ZERO, clip, saturate
from hedgelock.domain.policy import HOUSE, FundingPolicy
from hedgelock.domain.step import Hold, Now, Output, Step, Tables

DAY_H, WEEK_H = 24, 168
HOUR_MS = 3_600_000
CONVERGED_SHARE = 8
"""A prediction from the last eighth of an interval is what was settled, when nothing better came."""
PUBLISH_APR_STEP = Decimal("0.005")
"""Publish again once the APR, or a multiplier, moved this much."""
HEARTBEAT_MS = 60_000
"""And at least this often, so that silence can be told from calm."""
RETRY_MS = 1_000
"""Look for the house policy this often while there is none."""
NO_COST = HoldingCost(0, ZERO, ZERO, ZERO)


class FundingRegime(enum.Enum):
    """Band of |APR|, with hysteresis and dwell."""

    NEUTRAL = "neutral"
    NORMAL = "normal"
    HEATED = "heated"
    MANIA = "mania"
    EXTREME = "extreme"


class FundingRate(Message, frozen=True, kw_only=True):
    """The venue's *predicted* rate for the settlement at `funding_next_ts_ms`."""

    positive: ClassVar = ("funding_interval_h",)

    instrument: str
    funding_rate: Decimal
    funding_interval_h: Decimal
    funding_next_ts_ms: int
    funding_cap: Decimal | None = None
    ts_event_ms: int
    ts_seen_ms: int


class FundingCost(Value, frozen=True, kw_only=True):
    """What a *long* is expected to pay over `horizon_h`, bps of notional, with a band; short: × −1."""

    horizon_h: int
    expected_bps: Decimal
    low_bps: Decimal
    high_bps: Decimal


class FundingContext(Message, frozen=True, kw_only=True):
    """What funding means for sizes now. Multipliers 0..1 scale *discretionary* size per side.

    `apr` signed, + = longs pay. `since_ts_ms` is when the regime was entered. Means are weighted by
    time over what was settled. `exit_…` is the `ExitReason` of a side; None = not looked at.
    """

    non_negative: ClassVar = ("multiplier_long", "multiplier_short")

    instrument: str
    apr: Decimal
    regime: FundingRegime
    since_ts_ms: int
    multiplier_long: Decimal
    multiplier_short: Decimal
    funding_rate: Decimal
    funding_interval_h: Decimal
    funding_next_ts_ms: int
    reason: str
    ts_event_ms: int
    ts_seen_ms: int
    mean_apr_day: Decimal | None = None
    mean_apr_week: Decimal | None = None
    costs: tuple[FundingCost, ...] | None = None
    exit_long: str | None = None
    exit_short: str | None = None


class FundingReason(enum.Enum):
    """Why a context was published, the weightiest first."""

    FIRST_RATE = "first_rate"
    REGIME_RAISED = "regime_raised"
    REGIME_LOWERED = "regime_lowered"
    INTERVAL_CHANGED = "interval_changed"
    SETTLEMENT_CHANGED = "settlement_changed"
    PAYER_CHANGED = "payer_changed"
    MULTIPLIER_CHANGED = "multiplier_changed"
    APR_MOVED = "apr_moved"
    STILL_SO = "still_so"
    SEEN_AGAIN = "seen_again"
    """The same rate, but seen anew after a silence: what was published looks older than it is."""


class FundingMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What the funding-engine remembers of one instrument. `instrument` "" = not yet known."""

    instrument: str = ""
    rate: FundingRate | None = None
    latch: Latch | None = None
    since_ms: int = 0
    """Our clock when the present regime was entered."""
    published: FundingContext | None = None
    published_ms: int = 0
    history: History = ()
    out_long: ExitLatch = ExitLatch()
    out_short: ExitLatch = ExitLatch()


_REGIMES = tuple(FundingRegime)


def initial(instrument: str) -> FundingMemory:
    """The memory of an instrument nothing is known of."""
    return FundingMemory(instrument=instrument)


def annualise(rate: Decimal, interval_h: Decimal) -> Decimal:
    """Simple APR: rate × 8760 ÷ interval_h, fraction per year, signed like the rate. interval_h > 0.

    >>> annualise(Decimal("0.0001"), Decimal(8))
    Decimal('0.1095')
    """
    return rate * HOURS_PER_YEAR / interval_h


def multiplier(apr_paid: Decimal, policy: FundingPolicy) -> Decimal:
    """Scale 0..1 of discretionary size on the side that pays `apr_paid` (≤ 0 = it receives: 1).

    Linear between the policy's points, flat beyond the last; a policy without points allows nothing.
    """
    if apr_paid <= 0:
        return ONE
    left, at_left = ZERO, ONE if policy.multiplier_points else ZERO
    for right, at_right in policy.multiplier_points:
        if apr_paid <= right:
            # left < apr_paid ≤ right, in whatever order the points come: no division by zero.
            at_left += (at_right - at_left) * (apr_paid - left) / (right - left)
            break
        left, at_left = right, at_right
    return saturate(clip(at_left, ZERO, ONE))


def rungs_of(policy: FundingPolicy) -> Rungs:
    """The regimes' lines of |APR|: rung 1 = NORMAL ... 4 = EXTREME."""
    enter = (policy.apr_normal, policy.apr_heated, policy.apr_mania, policy.apr_extreme)
    return Rungs(enter, tuple(edge * policy.leave_factor for edge in enter))


def step(memory: FundingMemory, tables: Tables, message: object, now: Now) -> Step[FundingMemory]:
    """Take in a FundingRate (or the time) and publish the FundingContext when it says something new.

    A rate that is not newer by the venue's clock changes nothing; without a house policy nothing is
    published.
    """
    memory = _take_in(memory, message)
    rate = memory.rate
    if rate is None:
        return Step(memory)
    policy = tables.policy(HOUSE)
    if policy is None:
        return Step(memory, hold=Hold(until_ms=now.now_ms + RETRY_MS))
    bands = policy.funding
    apr = saturate(annualise(rate.funding_rate, rate.funding_interval_h))
    latch = advance(
        memory.latch or Latch(), abs(apr),
        rungs=rungs_of(bands), dwell_ms=bands.dwell_ms, now_ms=now.now_ms,
    )
    if memory.latch is None or latch.level != memory.latch.level:
        memory = msgspec.structs.replace(memory, latch=latch, since_ms=now.now_ms)
    elif latch is not memory.latch:
        memory = msgspec.structs.replace(memory, latch=latch)
    signals = _signals(memory, apr, bands, now.now_ms)
    latches = (signals.long.latch, signals.short.latch)
    if latches != (memory.out_long, memory.out_short):
        memory = msgspec.structs.replace(memory, out_long=latches[0], out_short=latches[1])
    context = FundingContext(
        instrument=rate.instrument, apr=apr, regime=_REGIMES[latch.level],
        since_ts_ms=memory.since_ms,
        multiplier_long=_scale(signals.long, apr, bands),
        multiplier_short=_scale(signals.short, -apr, bands),
        funding_rate=rate.funding_rate, funding_interval_h=rate.funding_interval_h,
        funding_next_ts_ms=rate.funding_next_ts_ms, reason="",
        ts_event_ms=rate.ts_event_ms, ts_seen_ms=rate.ts_seen_ms,
        exit_long=signals.long.reason.value, exit_short=signals.short.reason.value,
    )
    reason = _why_publish(memory, context, now.now_ms)
    outputs: tuple[Output, ...] = ()
    if reason is not None:
        context = _with_outlook(memory, context, reason, now.now_ms)
        memory = msgspec.structs.replace(memory, published=context, published_ms=now.now_ms)
        outputs = (Output("funding_context", rate.instrument, context),)
    expires = latch.expires_ms(bands.dwell_ms)
    heartbeat = memory.published_ms + HEARTBEAT_MS
    until = heartbeat if expires is None else min(heartbeat, expires)
    return Step(memory, outputs, hold=Hold(until_ms=until))


class _Signals(NamedTuple):
    long: ExitSignal
    short: ExitSignal


def _signals(
    memory: FundingMemory, apr: Decimal, bands: FundingPolicy, now_ms: int
) -> _Signals:
    """Both sides. The forecast is made only where the rate alone does not decide."""
    is_extreme = abs(apr) >= bands.exit_apr
    cost = _outlook(memory, now_ms)[-1] if is_extreme else NO_COST
    return _Signals(*(
        exit_signal(latch, side, apr=apr, cost=cost, policy=bands, now_ms=now_ms)
        for side, latch in (
            (FundingSide.LONG, memory.out_long), (FundingSide.SHORT, memory.out_short)
        )
    ))


def _scale(signal: ExitSignal, apr_paid: Decimal, bands: FundingPolicy) -> Decimal:
    """A side that was left gets 0 while it pays; the one that receives always gets 1."""
    return ZERO if signal.is_out and apr_paid > 0 else multiplier(apr_paid, bands)


def _outlook(memory: FundingMemory, now_ms: int) -> tuple[HoldingCost, ...]:
    rate = memory.rate
    assert rate is not None
    ahead = Prediction(
        rate.funding_rate, rate.funding_interval_h, rate.funding_next_ts_ms, rate.funding_cap
    )
    return holding_costs(memory.history, ahead, now_ms=now_ms)


def _with_outlook(
    memory: FundingMemory, context: FundingContext, reason: FundingReason, now_ms: int
) -> FundingContext:
    """What costs time to compute is computed only for what is published."""
    history = memory.history
    return msgspec.structs.replace(
        context, reason=reason.value,
        mean_apr_day=mean_apr(history, now_ms=now_ms, window_h=DAY_H),
        mean_apr_week=mean_apr(history, now_ms=now_ms, window_h=WEEK_H),
        costs=tuple(
            FundingCost(
                horizon_h=cost.horizon_h, expected_bps=cost.expected, low_bps=cost.low,
                high_bps=cost.high,
            )
            for cost in _outlook(memory, now_ms)
        ),
    )


def _take_in(memory: FundingMemory, message: object) -> FundingMemory:
    if not isinstance(message, FundingRate):
        return memory
    if message.instrument != memory.instrument and memory.instrument:
        return memory
    if memory.rate is not None and message.ts_event_ms <= memory.rate.ts_event_ms:
        return memory
    history = _settle(memory, message)
    return msgspec.structs.replace(
        memory, instrument=message.instrument, rate=message, history=history
    )


def _settle(memory: FundingMemory, message: FundingRate) -> History:
    """The history, with the settlement that has passed between the last rate and this one.

    What was predicted just before it is what was settled. Seen too long before, or not at all (we
    were away), it is left out: no figure is better than a wrong one. A schedule that was merely
    moved has settled nothing.
    """
    last = memory.rate
    if last is None or not last.funding_next_ts_ms <= message.ts_event_ms:
        return memory.history
    ahead_ms = last.funding_next_ts_ms - last.ts_event_ms
    if not 0 <= ahead_ms * CONVERGED_SHARE <= last.funding_interval_h * HOUR_MS:
        return memory.history
    settled = Settled(last.funding_next_ts_ms, last.funding_rate, last.funding_interval_h)
    return record(memory.history, settled)


def _why_publish(
    memory: FundingMemory, context: FundingContext, now_ms: int
) -> FundingReason | None:
    """The weightiest reason to publish `context`; None = nothing new to say."""
    last = memory.published
    if last is None:
        return FundingReason.FIRST_RATE
    if context.regime is not last.regime:
        higher = _REGIMES.index(context.regime) > _REGIMES.index(last.regime)
        return FundingReason.REGIME_RAISED if higher else FundingReason.REGIME_LOWERED
    if context.funding_interval_h != last.funding_interval_h:
        return FundingReason.INTERVAL_CHANGED
    if context.funding_next_ts_ms != last.funding_next_ts_ms:
        return FundingReason.SETTLEMENT_CHANGED
    if (context.apr > 0, context.apr < 0) != (last.apr > 0, last.apr < 0):
        return FundingReason.PAYER_CHANGED
    moved = max(
        abs(context.multiplier_long - last.multiplier_long),
        abs(context.multiplier_short - last.multiplier_short),
    )
    # The multiplier is continuous: taken literally, any change of the APR would change it.
    if moved >= PUBLISH_APR_STEP:
        return FundingReason.MULTIPLIER_CHANGED
    if abs(context.apr - last.apr) >= PUBLISH_APR_STEP:
        return FundingReason.APR_MOVED
    if now_ms - memory.published_ms >= HEARTBEAT_MS:
        return FundingReason.STILL_SO
    if context.ts_seen_ms - last.ts_seen_ms >= HEARTBEAT_MS:
        return FundingReason.SEEN_AGAIN
    return None
