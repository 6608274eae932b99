"""`domain.sizing.decide` on arrays of floats: the same rules, one element per account (or per bar).

`may_act` says where `decide` could do anything at all, a hair too often rather than once too seldom:
`hold` runs it along a tape, `lanes` across accounts. `decide` then says what, branch by branch as
`domain.sizing` and `domain.harvest`, whose docstrings explain the rules. Amounts are floored with a
billionth of a step of tolerance, so that a float just under a step counts as the step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hedgelock.backtest.figures import TINY, Figures, Flags, equity_needed, hedge_cap, room
from hedgelock.domain.harvest import REST_SHARE
from hedgelock.domain.policy import Strategy
from hedgelock.history.tape import Floats, Integers

CENT = 0.01
NOTHING, REPAY, BORROW, WITH_COLLATERAL, TO_UNIFIED = range(5)
"""Kinds of money action."""


@dataclass(slots=True)
class Sight:
    """What decisions look at; arrays of one shape, or broadcast to it. USDT, coins."""

    mark: Floats
    index: Floats
    multiplier: Floats
    cash: Floats
    coins: Floats
    short: Floats
    entry_value: Floats
    fund: Floats
    debt: Floats
    collateral: Floats
    reserve: Floats
    level: Integers
    """Risk state: 0 NORMAL … 3 CRITICAL."""
    withdrawable: Floats
    reopen_qty: Floats
    realising: Floats
    has_realised: Flags
    is_settled: Flags
    has_treasury: Flags

    def equity(self) -> Floats:
        """U."""
        return self.cash + self.entry_value - self.short * self.mark

    def value(self, f: Figures) -> Floats:
        """V."""
        return self.collateral * f.loan_ratio * self.index


@dataclass(slots=True)
class Orders:
    """What is to be done per account; 0 = nothing. `hedge` > 0 sells, < 0 buys back."""

    cover: Floats
    hedge: Floats
    is_slice: Flags
    slice_rest: Floats
    kind: Integers
    amount: Floats
    moved: Floats
    repay_wanted: Floats

    def any(self) -> Flags:
        """Where anything is to be done."""
        return np.asarray((self.cover > 0) | (self.hedge != 0) | (self.kind != NOTHING))


def floor_to(value: Floats, step: float) -> Floats:
    """Towards zero to a multiple of `step`, for values ≥ 0."""
    return np.floor(value / step + TINY) * step


def ceil_to(value: Floats, step: float) -> Floats:
    """Away from zero to a multiple of `step`, for values ≥ 0."""
    return np.ceil(value / step - TINY) * step


def wanted(f: Figures, s: Sight, strategy: Strategy) -> Floats:
    """The short that the strategy wants, m applied, before margin. `domain.strategies`."""
    most = s.collateral + s.coins
    if strategy is Strategy.LADDER:
        steps = np.choose(s.level, (
            np.zeros_like(most), np.minimum(f.caution_size, most) * s.multiplier,
            s.collateral * 0.5, s.collateral,
        ))
        return np.clip(steps, 0.0, np.minimum(most, f.size_max))
    left = 1 - f.fall
    net = s.debt - s.fund + s.reserve - s.equity()
    excess = net - f.ltv_max * s.value(f) * left
    per_coin = s.mark * (f.fall - f.cost_rate * left)
    return np.clip(excess / per_coin, 0.0, np.minimum(most, f.size_max))


def may_act(f: Figures, s: Sight, strategy: Strategy) -> Flags:
    """Where `decide` may do something; never false where it would."""
    equity, value = s.equity(), s.value(f)
    most = s.collateral + s.coins
    want = wanted(f, s, strategy)
    cap = hedge_cap(f, room(f, s.mark, s.index, s.coins), equity)
    band = f.band - TINY
    target = np.minimum(want, cap)
    missing = np.minimum(target, cap - f.band / 2) - s.short
    busy = (missing >= band) | (s.short - target >= band)
    busy |= (s.short > 0) & ((s.short > cap - TINY) | (s.short > most + TINY))
    busy |= equity < TINY
    busy |= (s.debt > 0) & (s.debt >= f.harvest_at * value * (1 - TINY))
    least = np.maximum(f.action_min * value, CENT) * (1 - TINY)
    lacking = s.reserve - equity
    busy |= np.minimum(s.fund, lacking) >= least
    space = f.refill_below * value - s.debt + s.fund
    busy |= (space > 0) & (np.minimum(space, lacking - s.fund) >= least)
    return np.asarray(busy)


# ---------------------------------------------------------------- what to do


def decide(f: Figures, s: Sight, strategy: Strategy) -> Orders:
    """`domain.sizing.decide`, element by element."""
    claim = _claim(f, s)
    space = room(f, s.mark, s.index, s.coins)
    leaving = np.minimum(claim.wanted, np.maximum(s.equity(), 0.0))
    cap = hedge_cap(f, space, s.equity() - leaving)
    size = np.minimum(wanted(f, s, strategy), cap)
    hedge, is_margin = _resize(f, s, size, cap)
    cover = _cover(f, s)
    is_lowering = is_margin & (hedge < 0) & (claim.wanted > 0)
    plan = _money(f, s, claim, is_lowering, equity_needed(f, space, s.short))
    acts_on_money = (plan.kind != NOTHING) | plan.is_slice
    dropped = ((hedge != 0) & plan.is_slice) | (acts_on_money & (cover > 0))
    plan.kind[dropped] = NOTHING
    plan.is_slice &= ~dropped
    return Orders(
        cover=cover, hedge=np.where(plan.is_slice, -plan.slice_qty, hedge),
        is_slice=plan.is_slice, slice_rest=plan.slice_rest, kind=plan.kind, amount=plan.amount,
        moved=np.where(plan.kind == REPAY, plan.moved, 0.0), repay_wanted=claim.wanted,
    )


@dataclass(slots=True)
class _Claim:
    need: Floats
    wanted: Floats
    is_urgent: Flags


def _claim(f: Figures, s: Sight) -> _Claim:
    value = s.value(f)
    claims = (s.debt > 0) & (s.debt >= f.harvest_at * value)
    urgent = claims & (s.debt >= f.urgent_at * value)
    target = np.where(urgent, f.urgent_to, f.harvest_to)
    need = np.where(claims, s.debt - target * value, 0.0)
    want = need - s.fund
    want = np.where(claims & (want >= f.action_min * value), want, 0.0)
    return _Claim(need, want, np.asarray(urgent))


def _resize(f: Figures, s: Sight, size: Floats, cap: Floats) -> tuple[Floats, Flags]:
    """(signed order, whether margin demands it): `sizing._resize`."""
    slack, most = f.band / 2, s.collateral + s.coins
    order_max = floor_to(np.minimum(f.notional_max / s.mark, f.qty_max), f.lot)
    over = (s.short > np.minimum(cap, most)) & (s.short > 0)
    is_margin = over & (s.short > cap)
    goal = np.where(is_margin, np.maximum(np.minimum(size, cap - slack), 0.0), size)
    fits = floor_to(np.minimum(s.short, order_max), f.lot)
    demanded = np.minimum(ceil_to(np.maximum(s.short - goal, 0), f.lot), fits)
    demanded = np.where(over & (demanded >= f.qty_min - TINY), demanded, 0.0)
    missing = np.minimum(size, cap - slack) - s.short
    # Sizes are often whole lots, so that a difference is the band to the digit.
    band = f.band - TINY
    reopens = (s.reopen_qty > 0) & (missing > TINY)
    more = np.where(
        reopens & (missing < band), np.minimum(s.reopen_qty, missing), missing
    )
    raises = reopens | (missing >= band)
    up = floor_to(np.maximum(np.minimum(more, order_max), 0.0), f.lot)
    up = np.where(raises & (up >= f.qty_min - TINY) & (up * s.mark >= f.notional_min), up, 0.0)
    lowers = (s.short - size >= band) & (s.short > size)
    down = np.minimum(floor_to(np.maximum(s.short - size, 0), f.lot), fits)
    down = np.where(lowers & (down >= f.qty_min - TINY), down, 0.0)
    order = np.where(demanded > 0, -demanded, np.where(raises, up, -down))
    return order, np.asarray(is_margin & (demanded > 0))


def _cover(f: Figures, s: Sight) -> Floats:
    least = np.maximum(f.cover_fraction * s.value(f), f.spot_notional_min)
    owed = np.where(-s.equity() > least, least - s.equity(), 0.0)
    net = s.mark * (1 - f.spot_taker) * (1 - f.slippage_max)
    order_max = np.minimum(f.notional_max / s.mark, f.spot_max)
    most = floor_to(np.maximum(np.minimum(s.coins, order_max), 0.0), f.spot_lot)
    needed = np.maximum(ceil_to(np.maximum(owed, 0.0) / net, f.spot_lot), f.spot_min)
    qty = np.minimum(needed, most)
    good = (owed > 0) & (qty >= f.spot_min - TINY * f.spot_lot)
    return np.where(good & (qty * s.mark >= f.spot_notional_min), qty, 0.0)


# ---------------------------------------------------------------- money


@dataclass(slots=True)
class _Plan:
    kind: Integers
    amount: Floats
    moved: Floats
    is_slice: Flags
    slice_qty: Floats
    slice_rest: Floats


def _money(
    f: Figures, s: Sight, claim: _Claim, is_lowering: Flags, needed: Floats
) -> _Plan:
    """`harvest.plan`: harvest where the loan claims, else replenish; a slice going on goes first."""
    plan = _harvest(f, s, claim, is_lowering, needed)
    idle = claim.need <= 0
    amount, kind = _replenish(f, s)
    plan.kind = np.where(idle, kind, plan.kind)
    plan.amount = np.where(idle, amount, plan.amount)
    plan.is_slice &= ~idle
    free = s.is_settled & ~s.has_treasury
    goes_on = (s.realising > 0) & ~s.is_settled & ~claim.is_urgent & ~idle
    qty, rest = _close(f, s, s.realising)
    is_worth_it = s.realising >= f.band * _gain(f, s) / REST_SHARE - TINY
    next_slice = goes_on & is_worth_it & ~is_lowering & ~s.has_treasury & (qty > 0)
    plan.kind = np.where(free & ~goes_on, plan.kind, NOTHING)
    plan.is_slice = (plan.is_slice & free & ~goes_on) | next_slice
    plan.slice_qty = np.where(next_slice, qty, plan.slice_qty)
    plan.slice_rest = np.where(next_slice, rest, plan.slice_rest)
    return plan


def _harvest(
    f: Figures, s: Sight, claim: _Claim, is_lowering: Flags, needed: Floats
) -> _Plan:
    least = np.maximum(f.action_min * s.value(f), CENT)
    from_fund = np.maximum(np.minimum(s.fund, claim.need), 0.0)
    equity = s.equity()
    limit = np.maximum(np.minimum(np.minimum(claim.wanted, equity), equity - needed), 0.0)
    kept = np.maximum(s.short * s.mark * f.cost_rate, 0.0)
    released = np.maximum(s.withdrawable - kept, 0.0)
    ready = np.minimum(limit, released)
    waits = is_lowering & ~claim.is_urgent
    qty, rest = _slice(f, s, limit, released, least - from_fund)
    qty = np.where(is_lowering, 0.0, qty)
    is_worth_it = (limit - ready >= least) & ~s.has_realised
    must_wait = (qty > 0) & ~claim.is_urgent & is_worth_it
    moved = floor_to(ready, CENT)
    amount = floor_to(np.minimum(moved + from_fund, s.debt), CENT)
    pays = ~waits & (amount >= least) & ~must_wait
    slices = ~waits & ~pays & (qty > 0)
    last = ~waits & ~pays & ~slices & claim.is_urgent & ~is_lowering
    sold = _with_collateral(f, s)
    last &= sold >= least
    kind = np.where(pays, REPAY, np.where(last, WITH_COLLATERAL, NOTHING))
    return _Plan(kind, np.where(pays, amount, sold), moved, slices, qty, rest)


def _gain(f: Figures, s: Sight) -> Floats:
    entry = np.where(s.short > 0, s.entry_value / np.where(s.short > 0, s.short, 1.0), 0.0)
    return np.where(s.short > 0, entry - s.mark - 2 * s.mark * f.taker, 0.0)


def _slice(
    f: Figures, s: Sight, limit: Floats, released: Floats, least: Floats
) -> tuple[Floats, Floats]:
    gain = _gain(f, s)
    at_hand = np.minimum(released, s.cash)
    missing = np.minimum(limit - at_hand, _at_once(f, s, gain))
    qty, rest = _close(f, s, missing)
    bound = (s.withdrawable + 1 < s.cash) | (np.minimum(limit, at_hand + s.short * gain) < least)
    return np.where(bound, 0.0, qty), rest


def _at_once(f: Figures, s: Sight, gain: Floats) -> Floats:
    """`harvest.at_once`: each reopening takes the average entry down to what is left."""
    left = np.where(s.short > 0, np.maximum(1 - f.band / np.where(s.short > 0, s.short, 1.0), 0.0), 0.0)
    slices = np.zeros_like(left)
    share = np.ones_like(left)
    for _ in range(f.slices_max):
        slices += share
        share = share * left
    return f.band * gain * slices


def _close(f: Figures, s: Sight, missing: Floats) -> tuple[Floats, Floats]:
    gain = _gain(f, s)
    good = (missing >= CENT) & (gain > 0) & (s.short > 0) & ~(s.reopen_qty > 0)
    per_coin = np.where(good, gain, 1.0)
    lots = ceil_to(np.where(good, missing, 0.0) / per_coin, f.lot)
    qty = floor_to(np.minimum(np.minimum(max(f.band, f.qty_min), lots), s.short), f.lot)
    qty = np.where(good & (qty >= f.qty_min - TINY), qty, 0.0)
    return qty, np.maximum(missing - qty * gain, 0.0)


def _with_collateral(f: Figures, s: Sight) -> Floats:
    kept = np.where(s.collateral > 0, 1 - f.urgent_to * f.loan_ratio, 1.0)
    excess = s.debt - s.fund - f.urgent_to * s.value(f)
    worth = s.collateral * s.index
    good = (kept > 0) & (excess > 0) & (worth > 0)
    amount = np.minimum(np.minimum(excess / kept, s.debt), worth)
    return np.where(good, floor_to(np.maximum(amount, 0.0), CENT), 0.0)


def _replenish(f: Figures, s: Sight) -> tuple[Floats, Integers]:
    value = s.value(f)
    least = np.maximum(f.action_min * value, CENT)
    missing = s.reserve - s.equity()
    back = floor_to(np.maximum(np.minimum(s.fund, missing), 0.0), CENT)
    returns = back >= least
    space = f.refill_below * value - s.debt + s.fund
    amount = floor_to(np.maximum(np.minimum(space, missing - s.fund), 0.0), CENT)
    refills = (s.debt < f.refill_below * value) & (missing > s.fund) & (amount >= least)
    kind = np.where(returns, TO_UNIFIED, np.where(refills, BORROW, NOTHING))
    return np.where(returns, back, amount), kind
