"""Thousands of accounts at once: every setting on every path of a feed, in floats.

The same bar as `engine`, step by step; the same rules as `domain.sizing`, through `kernel`. At each bar
`kernel.may_act` finds the few accounts at which anything could be decided, and only these decide, action
by action, until all of them rest. `tests/backtest/test_lanes.py` holds it against the exact engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hedgelock.backtest import kernel
from hedgelock.backtest.feed import Bar, Feed
from hedgelock.backtest.figures import Figures, Flags, Held, figures, is_margin_dead, withdrawable
from hedgelock.backtest.kernel import Orders, Sight
from hedgelock.backtest.lane_moves import (
    Pockets,
    act,
    liquidate_loan,
    liquidate_margin,
    settle_loan,
)
from hedgelock.backtest.latches import Latches
from hedgelock.backtest.plans import Plan, sell_collateral, wait
from hedgelock.backtest.terms import Setting, Terms
from hedgelock.domain.policy import Strategy
from hedgelock.history.tape import Floats, Integers

ROUNDS_MAX = 256


@dataclass(slots=True)
class Results:
    """What became of each lane, arrays [setting, path]; money in units of the start's collateral."""

    equity: Floats
    hold: Floats
    """Equity of the same account without any action and without liquidation."""
    fees: Floats
    slippage: Floats
    funding: Floats
    penalty: Floats
    interest: Floats
    interest_hold: Floats
    ltv_max: Floats
    loan_liquidated: Flags
    margin_liquidated: Flags
    start: Floats
    """Equity at the start."""
    inside: Floats
    """What liquidations lost by being done inside their bar and not at its close; + = lost."""
    trades: Integers
    end: Floats
    """Last index price ÷ first, [path]."""

    @property
    def explicit(self) -> Floats:
        """Fees, slippage, funding paid and penalties."""
        return self.fees + self.slippage + self.funding + self.penalty


class Lanes:
    """A run in progress over lanes = settings × paths, flattened."""

    def __init__(
        self, feed: Feed, plan: Plan, settings: Sequence[Setting], *, terms: Terms,
        blocked: Flags | None = None,
    ) -> None:
        assert plan.has_kernel, f"{plan.name} has no kernel: use the exact engine"
        assert len({s.every for s in settings}) == 1, "one rhythm per run"
        self.feed, self.plan, self.settings = feed, plan, settings
        self.f: Figures = figures(plan, terms)
        self.hourly = float(terms.loan_hourly)
        self.every = settings[0].every
        self.blocked = blocked
        """Bars at whose close nothing is decided (an outage), or None."""
        start = feed.opening.index_close
        paths = len(start)
        self.path: Integers = np.tile(np.arange(paths), len(settings))
        self.p = Pockets.open(settings, start, plan.hedge)
        count = len(self.path)
        self.delay: Integers = np.repeat([s.delay for s in settings], paths)
        self.memory = _Memory.blank(count)
        self.latches = Latches(count, self.f) if _needs_latch(plan) else None
        self.ltv_max = np.repeat([float(s.ltv) for s in settings], paths)
        self.inside: Floats = np.zeros(count)
        self.level: Integers = np.zeros(count, np.int64)

    @property
    def alive(self) -> Flags:
        """Not liquidated."""
        return ~(self.p.loan_dead | self.p.margin_dead)

    # ------------------------------------------------------------ time

    def run(self) -> Results:
        """All bars of the feed; then every short is closed."""
        feed = self.feed
        first = feed.opening
        opening = self.p.debt.copy()
        self._decide(first, -1)
        hold_debt = opening.copy()
        last = first
        for t, bar in enumerate(feed):
            self._extremes(bar)
            self._land(bar, t)
            self._accrue(bar)
            if bar.hours:
                hold_debt = hold_debt * (1 + self.hourly) ** bar.hours
            if (t + 1) % self.every == 0 and not (self.blocked is not None and self.blocked[t]):
                self._decide(bar, t)
            last = bar
        return self._finish(last, opening, hold_debt)

    def _accrue(self, bar: Bar) -> None:
        p, f, path = self.p, self.f, self.path
        mark = bar.mark_close
        for _ in range(bar.hours):
            charge = p.debt * self.hourly
            p.debt += charge
            owed = np.maximum(p.short * mark[path] - p.entry_value - p.cash, 0)
            on_margin = owed * f.margin_borrow_hourly
            p.cash -= on_margin
            p.interest += charge + on_margin
        if bar.rate.any():
            received = p.short * (mark * bar.rate)[path]
            p.cash += received
            p.funding -= received

    def _extremes(self, bar: Bar) -> None:
        p, f, path = self.p, self.f, self.path
        low = bar.index_low[path]
        pledged = p.collateral * f.loan_ratio
        worth = pledged * low
        owing = p.debt > 0
        # 999 stands for infinite, as the venue says it.
        ltv = np.divide(p.debt, worth, out=np.where(owing, 999.0, 0.0), where=owing & (worth > 0))
        np.maximum(self.ltv_max, ltv, out=self.ltv_max)
        dead = np.nonzero(~p.loan_dead & (ltv >= f.ltv_liquidation))[0]
        if dead.size:
            base = np.where(pledged[dead] > 0, pledged[dead] * f.ltv_liquidation, 1.0)
            at = np.minimum(p.debt[dead] / base, bar.index_high[path[dead]])
            price = np.maximum(low[dead], at)
            sold, short = p.collateral[dead] + p.free_coins[dead], p.short[dead].copy()
            liquidate_loan(f, p, dead, price)
            sold -= p.collateral[dead] + p.free_coins[dead]
            self._inside(dead, sold, price, bar.index_close)
            self._inside(dead, -short, price, bar.mark_close)
        hedged = p.short > 0
        self._margin(np.nonzero(hedged)[0], bar, bar.mark_high, bar.index_high)
        # A fall helps a pocket that is well net short: what lived at the high lives at the low.
        longer = p.short < p.coins * f.coin_ratio * 2
        self._margin(np.nonzero(hedged & longer)[0], bar, bar.mark_low, bar.index_low)

    def _margin(self, lanes: Integers, bar: Bar, mark: Floats, index: Floats) -> None:
        """Liquidate those of `lanes` whose margin is gone at these prices of the paths."""
        if not lanes.size:
            return
        p, at = self.p, self.path[lanes]
        held = Held(p.cash[lanes], p.coins[lanes], p.short[lanes], p.entry_value[lanes])
        dead = is_margin_dead(self.f, held, mark[at], index[at])
        if dead.any():
            lanes, at = lanes[dead], at[dead]
            coins, short = p.coins[lanes], p.short[lanes].copy()
            liquidate_margin(self.f, p, lanes, mark[at], index[at])
            self._inside(lanes, coins - p.coins[lanes], index[at], bar.index_close)
            self._inside(lanes, -short, mark[at], bar.mark_close)

    def _inside(self, lanes: Integers, sold: Floats, price: Floats, close: Floats) -> None:
        """Coins sold (− = bought) at `price` inside a bar that ends at `close` [path]."""
        self.inside[lanes] += sold * (close[self.path[lanes]] - price)

    def _land(self, bar: Bar, t: int) -> None:
        due = np.nonzero(self.p.due_bar == t)[0]
        if due.size:
            self.p.due_bar[due] = -1
            due = due[~self.p.loan_dead[due]]
            settle_loan(self.f, self.p, due, self.p.due_kind[due], self.p.due_amount[due],
                        bar.index_close[self.path[due]])

    # ------------------------------------------------------------ decisions

    def _decide(self, bar: Bar, t: int) -> None:
        """Everything that the policy does at the close of bar `t`."""
        plan, p = self.plan, self.p
        if plan.decider is wait:
            return
        mark, index = bar.mark_close[self.path], bar.index_close[self.path]
        if plan.decider is sell_collateral:
            self._sell_collateral(index, t)
            return
        if self.latches is not None:
            value = p.collateral * self.f.loan_ratio * index
            ltv = np.divide(p.debt, value, out=np.where(p.debt > 0, 999.0, 0.0), where=value > 0)
            self.level = self.latches.see(ltv, (t + 1) * self.feed.step_ms, self.alive)
        m = self._multiplier(bar.apr)[self.path]
        everyone = np.arange(len(self.path))
        strategy = plan.hedge.strategy
        quick = self._sight(everyone, mark, index, m)
        lanes = np.nonzero(self.alive & kernel.may_act(self.f, quick, strategy))[0]
        if not lanes.size:
            return
        self.memory.settle(lanes, withdrawable(
            self.f, Held(p.cash[lanes], p.coins[lanes], p.short[lanes], p.entry_value[lanes]),
            mark[lanes], index[lanes],
        ))
        for _ in range(ROUNDS_MAX):
            lanes = self._round(lanes, mark, index, m, t)
            if not lanes.size:
                return
        raise AssertionError(f"{plan.name} finds no rest at bar {t}")

    def _round(self, lanes: Integers, mark: Floats, index: Floats, m: Floats, t: int) -> Integers:
        """One decision of each lane; returns those that are not at rest."""
        p, f, memory = self.p, self.f, self.memory
        sight = self._sight(lanes, mark[lanes], index[lanes], m[lanes])
        orders = kernel.decide(f, sight, self.plan.hedge.strategy)
        memory.after(lanes, orders, sight.is_settled)
        acting = orders.any()
        act(f, p, lanes, orders, mark[lanes])
        self._send(lanes, orders, index[lanes], t)
        memory.reopen_qty[lanes] += np.where(orders.is_slice, -orders.hedge, 0.0)
        memory.is_settled[lanes[acting]] = False
        rest = ~acting & sight.is_settled
        settling = lanes[~acting & ~sight.is_settled]
        if settling.size:
            held = Held(p.cash[settling], p.coins[settling], p.short[settling],
                        p.entry_value[settling])
            memory.settle(settling, withdrawable(f, held, mark[settling], index[settling]))
        return lanes[~rest]

    def _send(self, lanes: Integers, orders: Orders, index: Floats, t: int) -> None:
        """Transfers at once; what the loan sees at once or when its delay is over."""
        p = self.p
        home = np.where(orders.kind == kernel.TO_UNIFIED, orders.amount, 0.0) - orders.moved
        p.cash[lanes] += home
        p.fund[lanes] -= home
        to_loan = (orders.kind != kernel.NOTHING) & (orders.kind != kernel.TO_UNIFIED)
        late = to_loan & (self.delay[lanes] > 0)
        at = lanes[late]
        p.due_bar[at] = t + self.delay[at]
        p.due_kind[at], p.due_amount[at] = orders.kind[late], orders.amount[late]
        now = to_loan & ~late
        settle_loan(self.f, p, lanes[now], orders.kind[now], orders.amount[now], index[now])

    def _sell_collateral(self, index: Floats, t: int) -> None:
        """`plans.sell_collateral` on arrays."""
        p, f = self.p, self.f
        value = p.collateral * f.loan_ratio * index
        hit = self.alive & (p.debt > 0) & (p.debt >= f.urgent_at * value) & (p.due_bar < 0)
        lanes = np.nonzero(hit)[0]
        if not lanes.size:
            return
        slope = 1 - f.urgent_to * f.loan_ratio * (1 + f.cost_rate)
        worth = p.collateral[lanes] * index[lanes] / (1 + f.cost_rate)
        amount = (p.debt[lanes] - f.urgent_to * value[lanes]) / slope
        amount = kernel.floor_to(np.minimum(np.minimum(amount, p.debt[lanes]), worth), kernel.CENT)
        good = amount >= np.maximum(f.action_min * value[lanes], kernel.CENT)
        lanes, amount = lanes[good], amount[good]
        kind = np.full(len(lanes), kernel.WITH_COLLATERAL)
        late = self.delay[lanes] > 0
        at = lanes[late]
        p.due_bar[at], p.due_kind[at] = t + self.delay[at], kind[late]
        p.due_amount[at] = amount[late]
        settle_loan(f, p, lanes[~late], kind[~late], amount[~late], index[lanes[~late]])

    def _multiplier(self, apr: Floats) -> Floats:
        """m of the short side; it pays where funding is negative. `domain.funding.multiplier`."""
        points = self.plan.funding.multiplier_points
        paid = np.maximum(-apr, 0)
        return np.interp(paid, [float(x) for x, _ in points], [float(y) for _, y in points])

    def _sight(self, lanes: Integers, mark: Floats, index: Floats, m: Floats) -> Sight:
        p, memory = self.p, self.memory
        if len(lanes) == len(self.path):
            lanes = slice(None)  # type: ignore[assignment]  # a view instead of copies
        return Sight(
            mark, index, m, p.cash[lanes], p.coins[lanes], p.short[lanes], p.entry_value[lanes],
            p.fund[lanes], p.debt[lanes], p.collateral[lanes], p.reserve[lanes],
            self.level[lanes], memory.withdrawable[lanes], memory.reopen_qty[lanes],
            memory.realising[lanes], memory.has_realised[lanes], memory.is_settled[lanes],
            p.due_bar[lanes] >= 0,
        )

    # ------------------------------------------------------------ the end

    def _finish(self, bar: Bar, opening: Floats, hold_debt: Floats) -> Results:
        p, f, path = self.p, self.f, self.path
        mark, index = bar.mark_close[path], bar.index_close[path]
        p.buy(f, np.arange(len(path)), p.short.copy(), mark)
        coins = p.coins + p.collateral + p.free_coins
        equity = p.cash + p.fund + coins * index - p.debt
        hold = p.start_cash + p.start_coins * index - hold_debt
        unit = p.unit
        first = self.feed.opening.index_close
        shape = (len(self.settings), len(first))

        def cut(values: Floats) -> Floats:
            return (values / unit).reshape(shape)

        start = p.start_cash + p.start_coins * first[path] - opening
        return Results(
            cut(equity), cut(hold), cut(p.fees), cut(p.slippage), cut(p.funding), cut(p.penalty),
            cut(p.interest), cut(hold_debt - opening), self.ltv_max.reshape(shape),
            p.loan_dead.reshape(shape), p.margin_dead.reshape(shape), cut(start),
            cut(self.inside), p.trades.reshape(shape), bar.index_close / first,
        )


def _needs_latch(plan: Plan) -> bool:
    return plan.hedge.strategy is Strategy.LADDER


@dataclass(slots=True)
class _Memory:
    """`scene.Memory` on arrays."""

    reopen_qty: Floats
    realising: Floats
    has_realised: Flags
    is_settled: Flags
    withdrawable: Floats

    @classmethod
    def blank(cls, count: int) -> _Memory:
        none = np.zeros(count)
        return cls(none, none.copy(), np.zeros(count, bool), np.ones(count, bool), none.copy())

    def settle(self, lanes: Integers, free: Floats) -> None:
        self.is_settled[lanes] = True
        self.withdrawable[lanes] = free

    def after(self, lanes: Integers, orders: Orders, settled: Flags) -> None:
        """As `scene.Memory.after`."""
        self.reopen_qty[lanes] = 0.0
        kept = np.where(settled, 0.0, self.realising[lanes])
        self.realising[lanes] = np.where(orders.is_slice, orders.slice_rest, kept)
        ended = (orders.kind != kernel.NOTHING) | (orders.repay_wanted <= 0)
        self.has_realised[lanes] = orders.is_slice | (self.has_realised[lanes] & ~ended)

