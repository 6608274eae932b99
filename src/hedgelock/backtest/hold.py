"""Where nothing can happen: numpy looks along the tape for the first bar at which anything could.

With the pockets as they stand, interest and funding of the coming bars are known, and with them LTV,
margin and everything that the decision weighs, at every close and at both ends of every bar. The
engine goes straight to the first bar at which a cliff could be met or `kernel.may_act` cannot exclude
an action, and decides there exactly. A bar too many costs a decision; one too few would be wrong, so
every comparison leans by a billionth towards looking.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from hedgelock.backtest import kernel
from hedgelock.backtest.feed import aprs
from hedgelock.backtest.figures import TINY, Figures, Flags, Held, figures, is_margin_dead
from hedgelock.backtest.kernel import Sight
from hedgelock.backtest.plans import sell_collateral, wait
from hedgelock.domain.policy import Strategy
from hedgelock.history.tape import Floats

if TYPE_CHECKING:
    from hedgelock.backtest.engine import Engine

CHUNK_MIN, CHUNK_MAX = 128, 16_384
SOME_CENTS = 1e-6


class Ahead(NamedTuple):
    """The coming bars of a chunk, nothing being decided.

    `debt`, `cash` before each bar's close; `debt_after`, `cash_after` with its interest and funding.
    """

    cut: slice
    debt: Floats
    cash: Floats
    debt_after: Floats
    cash_after: Floats


class Quiet:
    """What the search needs of a run, as arrays."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.f: Figures = figures(engine.plan, engine.terms)
        self.chunk = CHUNK_MIN
        tape, calendar = engine.tape, engine.calendar
        self.growth = calendar.growth
        self.paid = calendar.rate_sum * tape.mark.close
        points = engine.plan.funding.multiplier_points
        _, apr = aprs(tape)
        self.multiplier = np.interp(
            np.maximum(-apr, 0), [float(x) for x, _ in points], [float(y) for _, y in points]
        )
        after = np.arange(1, len(tape) + 1)
        self.decides: Flags = np.asarray(after % engine.setting.every == 0)
        self.reserve = float(engine.policy.reserve or 0)


def next_bar(quiet: Quiet, bar: int) -> int:
    """The first bar ≥ `bar` that has to be lived through; the tape's length where there is none."""
    engine = quiet.engine
    end = len(engine.tape)
    if engine.account.loan_liquidated:
        return end
    due = min((d.bar for d in engine.delayed), default=end)
    debt, cash = float(engine.account.debt), float(engine.account.cash)
    while bar < end:
        last = min(bar + quiet.chunk, end)
        ahead = _ahead(quiet, slice(bar, last), debt, cash)
        found = np.nonzero(_busy(quiet, ahead))[0]
        first = bar + int(found[0]) if len(found) else last
        first = min(first, due)
        _remember(quiet, ahead, first - bar)
        if first < last or first == due:
            quiet.chunk = max(CHUNK_MIN, min(quiet.chunk, 2 * (first - bar)))
            return first
        bar, quiet.chunk = last, min(CHUNK_MAX, quiet.chunk * 2)
        debt, cash = float(ahead.debt_after[-1]), float(ahead.cash_after[-1])
    return end


def _ahead(quiet: Quiet, cut: slice, debt: float, cash: float) -> Ahead:
    """From `debt` and `cash` before the first bar of `cut`."""
    debt_after = np.asarray(debt * np.cumprod(quiet.growth[cut]), dtype=np.float64)
    cash_after: Floats = cash + float(quiet.engine.account.short) * np.cumsum(quiet.paid[cut])
    return Ahead(
        cut, np.concatenate([[debt], debt_after[:-1]]), np.concatenate([[cash], cash_after[:-1]]),
        debt_after, cash_after,
    )


def _remember(quiet: Quiet, ahead: Ahead, count: int) -> None:
    """The highest LTV of the bars that are passed over."""
    engine = quiet.engine
    pledged = float(engine.account.collateral) * quiet.f.loan_ratio
    if count and pledged:
        ltv = ahead.debt[:count] / (pledged * engine.tape.index.low[ahead.cut][:count])
        engine.outcome.ltv_max = max(engine.outcome.ltv_max, float(ltv.max()))


def _busy(quiet: Quiet, ahead: Ahead) -> Flags:
    """Bars that cannot be passed over."""
    engine, f, cut = quiet.engine, quiet.f, ahead.cut
    account, tape = engine.account, engine.tape
    pledged = float(account.collateral) * f.loan_ratio
    cliff = f.ltv_liquidation * pledged * (1 - TINY)
    busy: Flags = np.asarray(ahead.debt >= cliff * tape.index.low[cut])
    if not account.debt:
        busy[:] = False
    short = np.full(len(busy), float(account.short))
    if account.short:
        held = Held(
            ahead.cash - SOME_CENTS, np.full_like(short, float(account.coins)), short,
            np.full_like(short, float(account.entry_value)),
        )
        busy |= is_margin_dead(f, held, tape.mark.high[cut], tape.index.high[cut])
        busy |= is_margin_dead(f, held, tape.mark.low[cut], tape.index.low[cut])
        # What the pocket borrows bears interest that `ahead` does not know.
        upl = float(account.entry_value) - short * tape.mark.close[cut]
        busy |= ahead.cash_after + upl < SOME_CENTS
    if not engine.is_over and engine.plan.decider is not wait:
        busy |= quiet.decides[cut] & _may_decide(quiet, ahead)
    return busy


def _may_decide(quiet: Quiet, ahead: Ahead) -> Flags:
    engine, f, cut = quiet.engine, quiet.f, ahead.cut
    account, tape = engine.account, engine.tape
    value = float(account.collateral) * f.loan_ratio * tape.index.close[cut]
    if engine.plan.decider is sell_collateral:
        return np.asarray(ahead.debt_after >= f.urgent_at * value * (1 - TINY))
    strategy = engine.policy.strategy
    fixed = np.zeros(len(value))
    level = engine.memory.latch.level
    sight = Sight(
        tape.mark.close[cut], tape.index.close[cut], quiet.multiplier[cut], ahead.cash_after,
        fixed + float(account.coins), fixed + float(account.short),
        fixed + float(account.entry_value), fixed + float(account.fund), ahead.debt_after,
        fixed + float(account.collateral), fixed + quiet.reserve,
        np.full(len(value), level, np.int64), fixed, fixed, fixed, fixed > 0, fixed == 0, fixed > 0,
    )
    busy = kernel.may_act(f, sight, strategy)
    if strategy is Strategy.LADDER:
        busy |= _turns(quiet, ahead.debt_after, value)
    return busy


def _turns(quiet: Quiet, debt: Floats, value: Floats) -> Flags:
    """Where the risk state may change, or a dwell is under way."""
    latch, f = quiet.engine.memory.latch, quiet.f
    if any(since is not None for since in latch.below_ms):
        return np.ones(len(debt), bool)
    busy = np.zeros(len(debt), bool)
    if latch.level < len(f.enter):
        busy |= debt >= f.enter[latch.level] * value * (1 - TINY)
    if latch.level:
        busy |= debt < f.leave[latch.level - 1] * value * (1 + TINY)
    return busy
