"""The one order that stands at the exchange while HedgeLock is not there: a stop for the short.

It guards the *margin* cliff on a rally, not the loan: nothing at the exchange repays a loan by itself.
A reduce-only purchase of the whole short waits at the mark price where accountMMRate would reach
`stop_margin_ratio` ρ. In the terms of `headroom`, with the rise u as the unknown and K₀ the pocket's
coins counted at today's index:

    ρ·(U + K₀·(1+u) − h·P·u)  =  h·P·(1+u)·m − d  +  r·max(0, h·P·u − U)

linear in u on either side of U = h·P·u, tier by tier. While HedgeLock lives it lowers the short long
before (`h_cap` at u = stress_rise), so the stop is far away and moves only when the short or the
pocket changed: by half a band in size, or `stop_move` in price. A new stop is placed before the old
one is taken away; two of them cannot close more than there is, because both only reduce.
"""

from __future__ import annotations

import decimal
import enum
from decimal import Decimal
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from hedgelock.domain.headroom import Headroom
from hedgelock.domain.inflight import NO_PAUSE, Pause
from hedgelock.domain.money import ONE, ZERO, floor_to
from hedgelock.domain.order import OrderConfirmation
from hedgelock.domain.situation import Situation

STOP_PAUSE_MS = 60_000
"""After a stop that was refused or taken away: its place is not fought over."""
MOVE_GAP_MS = 10_000
"""A stop that stands is moved at most this often: hedges come first in the venue's order rate."""
GAP_MIN = Decimal("0.01")
"""A stop nearer to the mark than this would fight the hedger, which lowers the short by itself."""
RISE_MAX = Decimal(5)
"""A cliff beyond a sixfold price is none."""
_HALF = Decimal("0.5")


class StopReason(enum.Enum):
    """Why the stop is as it is, or changes."""

    KEPT = "kept"
    PLACED = "placed"
    """There was none: the first one, or it was found missing."""
    RESIZED = "resized"
    MOVED = "moved"
    REMOVED = "removed"
    NOT_NEEDED = "not_needed"
    """No short, no cliff, or the policy wants none."""
    BUSY = "busy"
    """An order or a change of the stop is under way."""
    NOT_FRESH = "not_fresh"
    PAUSED = "paused"
    """Refused, taken away, or moved only a moment ago."""


class StopWatch(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A stop that was asked for. `is_live`: the venue has it."""

    intent_id: str
    qty: Decimal
    trigger_price: Decimal
    revision: int = -1
    is_live: bool = False
    is_leaving: bool = False
    """Its removal was ordered."""


class StopMemory(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The stops asked for and not over, oldest first: one, or two while one replaces the other."""

    stops: tuple[StopWatch, ...] = ()
    placed_ts_ms: int = 0
    pause: Pause = NO_PAUSE


NO_STOPS = StopMemory()


class StopDecision(NamedTuple):
    """What to do about the stop. `place` coins at `trigger_price`; `remove`: intents to cancel."""

    reason: StopReason
    place: Decimal = ZERO
    trigger_price: Decimal = ZERO
    replaces: str = ""
    remove: tuple[str, ...] = ()


def rise_to(headroom: Headroom, *, equity: Decimal, short: Decimal, ratio: Decimal) -> Decimal | None:
    """u: the rise at which accountMMRate reaches `ratio` (> 0); < 0 = it is past it already.

    None = no rise does, or no tier holds the short there. `short` > 0 coins.
    """
    value = short * headroom.mark
    coins = headroom.cushion / (ONE + headroom.rise)
    for tier in headroom.instrument.tiers:
        rate = tier.maintenance_rate + headroom.instrument.taker_fee
        room = ratio * (equity + coins) + tier.deduction - value * rate
        load = value * (rate + ratio) - ratio * coins
        rise = room / load if load > 0 else None
        if rise is None or value * rise > equity:
            room += headroom.borrow_rate * equity
            load += headroom.borrow_rate * value
            rise = room / load if load > 0 else None
        if rise is not None and value * (ONE + rise) <= tier.notional_max:
            return rise
    return None


def wanted(s: Situation, short: Decimal) -> Decimal | None:
    """The trigger price for a short, a whole number of ticks; None = none is wanted."""
    ratio = s.policy.stop_margin_ratio
    if ratio <= 0 or short < s.instrument.qty_min:
        return None
    rise = rise_to(s.headroom, equity=s.balances.equity, short=short, ratio=ratio)
    if rise is None or rise > RISE_MAX:
        return None
    price = s.mark_price * (ONE + max(rise, GAP_MIN))
    tick = s.instrument.tick_size
    return (price / tick).to_integral_value(decimal.ROUND_FLOOR) * tick


def decide(memory: StopMemory, s: Situation, *, now_ms: int, is_ordering: bool) -> StopDecision:
    """What to do about the stop now. `is_ordering`: this decision changes the short anyway."""
    short = floor_to(max(ZERO, s.exposure.held), s.instrument.lot_size)
    if is_ordering or s.has_hedge_order or any(not w.is_live for w in memory.stops):
        return StopDecision(StopReason.BUSY)
    if len(memory.stops) > 1 or any(w.is_leaving for w in memory.stops):
        return StopDecision(StopReason.BUSY)
    if not s.is_fresh:
        return StopDecision(StopReason.NOT_FRESH)
    price = wanted(s, short)
    known = memory.stops[0] if memory.stops else None
    if price is None:
        if known is None:
            return StopDecision(StopReason.NOT_NEEDED)
        return StopDecision(StopReason.REMOVED, remove=(known.intent_id,))
    reason = _change(known, s, short=short, price=price)
    if reason is StopReason.KEPT:
        return StopDecision(reason)
    is_early = known is not None and now_ms < memory.placed_ts_ms + MOVE_GAP_MS
    if is_early or now_ms < memory.pause.until_ms:
        return StopDecision(StopReason.PAUSED)
    return StopDecision(reason, short, price, known.intent_id if known is not None else "")


def _change(
    known: StopWatch | None, s: Situation, *, short: Decimal, price: Decimal
) -> StopReason:
    if known is None:
        return StopReason.PLACED
    if abs(known.qty - short) > s.policy.no_trade_band * _HALF:
        return StopReason.RESIZED
    if abs(known.trigger_price - price) > s.policy.stop_move * price:
        return StopReason.MOVED
    return StopReason.KEPT


def after(
    memory: StopMemory, decision: StopDecision, *, intent_id: str, now_ms: int
) -> StopMemory:
    """The memory once `decision` was given out; a stop placed has the identity `intent_id`."""
    stops = tuple(
        replace(w, is_leaving=True) if w.intent_id in decision.remove else w for w in memory.stops
    )
    if decision.place > 0:
        new = StopWatch(
            intent_id=intent_id, qty=decision.place, trigger_price=decision.trigger_price
        )
        return replace(memory, stops=(*stops, new), placed_ts_ms=now_ms)
    return memory if stops == memory.stops else replace(memory, stops=stops)


def told(memory: StopMemory, confirmation: OrderConfirmation) -> StopMemory:
    """The memory after the executor's word on a stop; repeated and older words change nothing."""
    known = next((w for w in memory.stops if w.intent_id == confirmation.intent_id), None)
    if known is None or confirmation.revision <= known.revision:
        return memory
    if not confirmation.is_terminal:
        is_live = known.is_live or bool(confirmation.venue_order_id)
        now = replace(known, revision=confirmation.revision, is_live=is_live)
        return replace(memory, stops=tuple(now if w is known else w for w in memory.stops))
    others = tuple(w for w in memory.stops if w is not known)
    # One that was replaced or removed went as intended; any other end leaves its place alone a while.
    is_expected = known.is_leaving or known is not memory.stops[-1] or confirmation.filled_qty > 0
    since_ms = confirmation.ts_confirmed_ms
    pause = memory.pause if is_expected else Pause(
        since_ms=since_ms, until_ms=since_ms + STOP_PAUSE_MS
    )
    return replace(memory, stops=others, pause=pause)
