"""Circuit breakers on the whole account, collateral included: when no new risk is to be taken.

A breaker forbids new *discretionary* exposure (`SafetyMode.REDUCING`); it never removes a protective
hedge. Equity is what `RiskAssessment.equity_value` says: both pockets, FUND and the loan, in USDT.

    breaker         trips when                                          resets
    DAILY_LOSS      1 − equity ÷ equity at 00:00 UTC ≥ daily_loss_max   at the next 00:00 UTC
    DRAWDOWN        1 − equity ÷ running peak ≥ drawdown_max            when it is half of that, or by a person
    FUNDING_COST    funding paid since 00:00 UTC ÷ equity at 00:00      at the next 00:00 UTC
                    ≥ funding_cost_max
    VOLATILITY      σ per day of the hedge's mark ≥ volatility_max      below .85 of that
    LOSING_HEDGES   losing_hedges_max closings in a row lost money      by a closing that gains, or by a person
    STALE_INPUT     not FRESH for stale_after_ms                        when FRESH
    REJECTS         the venue refused reject_share_max of the last      when it is less, or by a person
                    orders, of reject_least at the least

Equity is looked at every `sample_ms` and judged per *window* of `window_ms`: a loss is measured with the highest equity of a
window, a peak with the lowest. Money on its way between the pockets is in neither for a moment, and
one wrong reading makes no peak (a peak that never was cost another system's user a position).
"""

from __future__ import annotations

import enum
from decimal import Decimal

import msgspec

from hedgelock.domain.account import LedgerLine
from hedgelock.domain.message import Message
from hedgelock.domain.money import ONE, ZERO
from hedgelock.domain.order import OrderConfirmation, OrderStatus
from hedgelock.domain.policy import SafetyPolicy
from hedgelock.domain.risk import Confidence, RiskAssessment

_DAY_MS = 86_400_000
_LEAVE = Decimal("0.85")
_HALF = Decimal("0.5")
OUTCOMES_KEPT = 20
"""Ended orders that the share of refusals is taken of."""
_replace = msgspec.structs.replace


class Breaker(enum.Enum):
    """Which limit was reached."""

    DAILY_LOSS = "daily_loss"
    DRAWDOWN = "drawdown"
    FUNDING_COST = "funding_cost"
    VOLATILITY = "volatility"
    LOSING_HEDGES = "losing_hedges"
    STALE_INPUT = "stale_input"
    REJECTS = "rejects"


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Lowest and highest equity (USDT) from `start_ms` to `seen_ms`, and the mark at its start."""

    start_ms: int
    seen_ms: int
    low: Decimal
    high: Decimal
    mark: Decimal | None


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """What the breakers remember of one account. Money in USDT; `day` counts from the epoch, UTC."""

    window: Window | None = None
    closed: Window | None = None
    """The last window that ended."""
    day: int = 0
    day_equity: Decimal | None = None
    peak: Decimal | None = None
    funding_paid: Decimal = ZERO
    """Since 00:00 UTC; + = paid."""
    variance: Decimal = ZERO
    """Of the mark, per day, exponentially weighted over `volatility_tau_ms`."""
    losing: int = 0
    """Closings in a row that lost money."""
    outcomes: tuple[tuple[str, bool], ...] = ()
    """Ended orders, oldest first: (intent, the venue refused it)."""
    blind_since_ms: int | None = None
    tripped: tuple[Breaker, ...] = ()


def observe(watch: Watch, message: Message, limits: SafetyPolicy, now_ms: int) -> Watch:
    """`watch` with a message taken in and every breaker looked at again."""
    watch = _new_day(watch, now_ms)
    match message:
        case RiskAssessment():
            watch = _assessed(watch, message, limits)
        case OrderConfirmation() if message.is_terminal and not message.is_unknown:
            watch = _ended(watch, message)
        case LedgerLine() if message.ts_event_ms // _DAY_MS == watch.day:
            watch = _replace(watch, funding_paid=watch.funding_paid - message.funding)
        case _:
            pass
    tripped = tuple(b for b in Breaker if _is_tripped(b, watch, limits, now_ms))
    return watch if tripped == watch.tripped else _replace(watch, tripped=tripped)


def acknowledged(watch: Watch) -> Watch:
    """`watch` after a person said to go on: losses count from here."""
    equity = watch.closed.low if watch.closed is not None else None
    return _replace(
        watch, day_equity=equity, peak=equity, funding_paid=ZERO, losing=0,
        outcomes=tuple((intent, False) for intent, _ in watch.outcomes), tripped=(),
    )


def next_look_ms(watch: Watch, limits: SafetyPolicy) -> int | None:
    """When a breaker can trip without any message; None = only by one."""
    if watch.blind_since_ms is None or Breaker.STALE_INPUT in watch.tripped:
        return None
    return watch.blind_since_ms + limits.stale_after_ms


# ---------------------------------------------------------------- taking in


def _new_day(watch: Watch, now_ms: int) -> Watch:
    day = now_ms // _DAY_MS
    if day == watch.day:
        return watch
    equity = watch.closed.low if watch.closed is not None and watch.day else None
    return _replace(watch, day=day, day_equity=equity, funding_paid=ZERO)


def _assessed(watch: Watch, risk: RiskAssessment, limits: SafetyPolicy) -> Watch:
    if risk.confidence is not Confidence.FRESH:
        since = watch.blind_since_ms
        return _replace(watch, blind_since_ms=risk.assessed_ts_ms if since is None else since)
    if watch.blind_since_ms is not None:
        watch = _replace(watch, blind_since_ms=None)
    equity = risk.equity_value
    if equity is None:
        return watch
    window, at_ms = watch.window, risk.assessed_ts_ms
    if window is not None and at_ms - window.seen_ms < limits.sample_ms:
        return watch
    if window is None or at_ms - window.start_ms >= limits.window_ms:
        watch = _closed(watch, window, limits) if window is not None else watch
        mark = risk.mark_price
        window = Window(start_ms=at_ms, seen_ms=at_ms, low=equity, high=equity, mark=mark)
    else:
        low, high = min(window.low, equity), max(window.high, equity)
        window = _replace(window, seen_ms=at_ms, low=low, high=high)
    return _replace(watch, window=window)


def _closed(watch: Watch, window: Window, limits: SafetyPolicy) -> Watch:
    last = watch.closed
    peak = window.low if watch.peak is None else max(watch.peak, window.low)
    day_equity = window.low if watch.day_equity is None else watch.day_equity
    variance = watch.variance
    if last is not None and last.mark and window.mark:
        span_ms = max(1, window.start_ms - last.start_ms)
        move = window.mark / last.mark - ONE
        weight = min(ONE, Decimal(span_ms) / limits.volatility_tau_ms)
        variance += weight * (move * move * _DAY_MS / span_ms - variance)
    return _replace(watch, closed=window, peak=peak, day_equity=day_equity, variance=variance)


def _ended(watch: Watch, end: OrderConfirmation) -> Watch:
    """Each intent counts once, with what was known when it ended.

    Refused by the venue: an order was sent (it has an id), which our own checks do not bring about.
    """
    if any(intent == end.intent_id for intent, _ in watch.outcomes):
        return watch
    is_refused = end.status is OrderStatus.REJECTED and not end.fills and bool(end.client_order_id)
    outcomes = (*watch.outcomes, (end.intent_id, is_refused))[-OUTCOMES_KEPT:]
    watch = _replace(watch, outcomes=outcomes)
    if not end.reduce_only or not end.fills:
        return watch
    gained = sum((fill.pnl - fill.fee for fill in end.fills), ZERO)
    return _replace(watch, losing=watch.losing + 1 if gained < 0 else 0)


# ---------------------------------------------------------------- judging


def _is_tripped(breaker: Breaker, watch: Watch, limits: SafetyPolicy, now_ms: int) -> bool:
    was = breaker in watch.tripped
    match breaker:
        case Breaker.DAILY_LOSS:
            loss = _loss(watch, watch.day_equity)
            return loss >= limits.daily_loss_max
        case Breaker.DRAWDOWN:
            most = limits.drawdown_max
            return _loss(watch, watch.peak) >= (most * _HALF if was else most)
        case Breaker.FUNDING_COST:
            base = watch.day_equity
            return base is not None and base > 0 and watch.funding_paid / base >= limits.funding_cost_max
        case Breaker.VOLATILITY:
            most = limits.volatility_max * (_LEAVE if was else ONE)
            return watch.variance >= most * most
        case Breaker.LOSING_HEDGES:
            return watch.losing >= limits.losing_hedges_max
        case Breaker.STALE_INPUT:
            since = watch.blind_since_ms
            return since is not None and now_ms - since >= limits.stale_after_ms
    seen = len(watch.outcomes)
    refused = sum(1 for _, is_refused in watch.outcomes if is_refused)
    return seen >= limits.reject_least and refused >= limits.reject_share_max * seen


def _loss(watch: Watch, base: Decimal | None) -> Decimal:
    """1 − equity ÷ base, equity the highest of the last whole window; 0 where nothing is known."""
    if watch.closed is None or base is None or base <= 0:
        return ZERO
    return ONE - watch.closed.high / base
