"""One account through one tape, with the very decisions that run live. Exact: Decimal throughout.

A bar, in order: what was delayed lands at its close; before that its high and its low are held against
both cliffs (margin and loan), with the pockets as they stand. At the close: interest on the hour,
funding at its instant, then, each `every` bars, the decision. A decision instant is short beside a
bar: actions follow each other, as they do live within seconds, until the policy has nothing to do; in
between balances are unsettled, as they are live. At the end the short is closed.

With `hold` the engine first asks `hold.next_bar` where anything could happen at all and goes there;
what lies between is only interest and funding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from hedgelock.backtest import scene
from hedgelock.backtest.account import Account
from hedgelock.backtest.calendar import Calendar
from hedgelock.backtest.hold import Quiet, next_bar
from hedgelock.backtest.plans import Plan, with_reserve
from hedgelock.backtest.terms import Setting, Terms
from hedgelock.domain.inflight import Purpose
from hedgelock.domain.money import ONE, ZERO
from hedgelock.domain.order import Side
from hedgelock.domain.policy import HedgePolicy
from hedgelock.domain.risk import rungs_of
from hedgelock.domain.situation import Action, MoneyAction, OrderAction, Situation
from hedgelock.domain.sizing import Decision
from hedgelock.domain.treasury import TreasuryKind
from hedgelock.history.tape import Tape

ROUNDS_MAX = 256
"""Actions of one instant; more would mean a policy that undoes what it does."""


class Event(NamedTuple):
    """Something that happened, for reports and comparisons. `qty` coins or USDT, by kind."""

    bar: int
    kind: str
    reason: str
    qty: Decimal
    price: Decimal


class Row(NamedTuple):
    """The account after a decision instant (floats: for figures only)."""

    bar: int
    price: float
    ltv: float
    short: float
    equity: float
    pocket: float
    debt: float
    collateral: float
    reason: str


class Delayed(NamedTuple):
    """A loan action on its way."""

    bar: int
    action: MoneyAction


@dataclass(slots=True)
class Outcome:
    """What became of the account."""

    account: Account
    start_price: Decimal
    end_price: Decimal
    equity: Decimal
    ltv_max: float
    events: list[Event] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    instants: int = 0
    """Decision instants that were computed; the others lay inside a hold."""

    @property
    def equity_share(self) -> Decimal:
        """Final equity in units of the collateral's value at the start."""
        return self.equity / self.start_price


class Engine:
    """A run in progress."""

    def __init__(
        self, tape: Tape, plan: Plan, setting: Setting, *, terms: Terms, hold: bool = True,
        trace: bool = False,
    ) -> None:
        self.tape, self.plan, self.setting, self.terms = tape, plan, setting, terms
        self.calendar = Calendar(tape, terms)
        self.trace = trace
        start = scene.exact(tape.index.open[0])
        value = setting.collateral * terms.loan_ratio * start
        usdt = setting.pocket_usdt * setting.collateral * start
        self.account = Account(
            terms, cash=usdt, coins=setting.pocket_coins * setting.collateral,
            debt=setting.ltv * value, collateral=setting.collateral,
        )
        self.policy: HedgePolicy = with_reserve(plan, plan.hedge.reserve_fraction * value)
        self.memory = scene.Memory(rungs=rungs_of(plan.risk), dwell_ms=plan.risk.dwell_ms)
        self.delayed: list[Delayed] = []
        self.outcome = Outcome(self.account, start, start, ZERO, float(setting.ltv))
        self._quiet = Quiet(self) if hold and plan.has_kernel else None

    @property
    def is_over(self) -> bool:
        """Liquidated: nothing is decided any more."""
        return self.account.loan_liquidated or self.account.margin_liquidated

    # ------------------------------------------------------------ time

    def run(self) -> Outcome:
        """Play the whole tape, close the short, and say what became of it."""
        self.decide(-1)
        bar = 0
        while bar < len(self.tape):
            due = bar if self._quiet is None else next_bar(self._quiet, bar)
            self._pass(bar, due)
            if due < len(self.tape):
                self._live(due)
            bar = due + 1
        return self._finish()

    def _pass(self, first: int, last: int) -> None:
        """Interest and funding of bars [first, last), in which nothing else happens."""
        for bar in self.calendar.between(first, last):
            self._accrue(bar)

    def _live(self, bar: int) -> None:
        self._extremes(bar)
        self._land(bar)
        self._accrue(bar)
        if not self.is_over and (bar + 1) % self.setting.every == 0:
            self.decide(bar)

    def _accrue(self, bar: int) -> None:
        mark = scene.exact(self.tape.mark.close[bar])
        for _ in range(int(self.calendar.hours[bar])):
            self.account.accrue(mark)
        for rate in self.calendar.rates.get(bar, ()):
            self.account.settle_funding(rate, mark)

    def _extremes(self, bar: int) -> None:
        """Both cliffs at both ends of the bar."""
        tape, account = self.tape, self.account
        low = scene.exact(tape.index.low[bar])
        high = scene.exact(tape.index.high[bar])
        if account.debt:
            self.outcome.ltv_max = max(self.outcome.ltv_max, float(account.ltv(low)))
        if not account.loan_liquidated and account.ltv(low) >= self.terms.ltv_liquidation:
            ratio = account.collateral * self.terms.loan_ratio * self.terms.ltv_liquidation
            price = max(low, min(high, account.debt / ratio)) if ratio else low
            account.liquidate_loan(price)
            self._flatten(price)
            self._note(bar, "loan_liquidated", "ltv", account.debt, price)
        for mark, index in ((tape.mark.high[bar], high), (tape.mark.low[bar], low)):
            at = scene.exact(mark)
            if account.short and account.report(at, index).mm_rate >= ONE:
                self._note(bar, "margin_liquidated", "margin_ratio", account.short, at)
                account.liquidate_margin(at, index)

    def _flatten(self, price: Decimal) -> None:
        if self.account.short:
            self.account.buy(self.account.short, price)

    def _finish(self) -> Outcome:
        last = len(self.tape) - 1
        mark, index = (scene.exact(s.close[last]) for s in (self.tape.mark, self.tape.index))
        self._flatten(mark)
        self.outcome.end_price = index
        self.outcome.equity = self.account.equity(mark, index)
        return self.outcome

    # ------------------------------------------------------------ decisions

    def decide(self, bar: int) -> None:
        """Everything the policy does at the close of `bar` (−1: at the open of the first)."""
        mark, index, fill = self._prices(bar)
        memory, account = self.memory, self.account
        memory.see(account.ltv(index), self.tape.close_ms(bar))
        memory.settle(account.withdrawable(mark, index))
        self.outcome.instants += 1
        reason = ""
        for _ in range(ROUNDS_MAX):
            now = self._situation(mark, index, bar)
            decision = self.plan.decider(now)
            memory.after(now, decision)
            reason = reason or decision.reason.value
            if decision.actions:
                memory.is_settled = False
                for action in decision.actions:
                    self._act(bar, action, fill=fill, index=index)
            elif memory.is_settled:
                break
            else:
                memory.settle(account.withdrawable(mark, index))
        else:
            raise AssertionError(f"{self.plan.name} finds no rest at bar {bar}")
        if self.trace:
            self._trace(bar, mark, index, reason)

    def _prices(self, bar: int) -> tuple[Decimal, Decimal, Decimal]:
        """Mark and index as decided on, and the price that orders fill around."""
        tape, after = self.tape, min(bar + 1, len(self.tape) - 1)
        if bar < 0:
            mark, index = tape.mark.open[0], tape.index.open[0]
        else:
            mark, index = tape.mark.close[bar], tape.index.close[bar]
        fill = mark + self.setting.latency * (tape.mark.close[after] - mark)
        return scene.exact(mark), scene.exact(index), scene.exact(fill)

    def _situation(self, mark: Decimal, index: Decimal, bar: int) -> Situation:
        return scene.situation(
            scene.Now(mark, index, self.calendar.multiplier(self.plan.funding, bar)),
            self.account, self.memory, policy=self.policy, plan=self.plan,
            has_treasury=bool(self.delayed),
        )

    def _act(self, bar: int, action: Action, *, fill: Decimal, index: Decimal) -> None:
        match action:
            case OrderAction():
                self._trade(bar, action, fill)
            case MoneyAction():
                self._move(bar, action, index)
            case _:
                raise AssertionError("nothing rests in a backtest, so nothing is cancelled")

    def _trade(self, bar: int, order: OrderAction, price: Decimal) -> None:
        account = self.account
        if order.purpose is Purpose.COVER:
            account.sell_coins(order.qty, price)
        elif order.side is Side.SELL:
            account.sell(order.qty, price)
        else:
            account.buy(order.qty, price)
            if order.purpose is Purpose.REALISE:
                self.memory.reopen_qty += order.qty
        signed = order.qty if order.side is Side.SELL else -order.qty
        self._note(bar, order.purpose.value, order.reason.value, signed, price)

    def _move(self, bar: int, action: MoneyAction, index: Decimal) -> None:
        """Transfers are at once; what the loan sees lands `delay` bars later."""
        account, kind = self.account, action.kind_of
        if kind in (TreasuryKind.REPAY, TreasuryKind.TRANSFER_TO_FUND):
            account.cash -= action.transfer_amount
            account.fund += action.transfer_amount
        elif kind is TreasuryKind.TRANSFER_TO_UNIFIED:
            account.fund -= action.transfer_amount
            account.cash += action.transfer_amount
        self._note(bar, kind.value, action.reason.value, action.amount, index)
        if kind in (TreasuryKind.TRANSFER_TO_FUND, TreasuryKind.TRANSFER_TO_UNIFIED):
            return
        if self.setting.delay:
            self.delayed.append(Delayed(bar + self.setting.delay, action))
        else:
            self._settle_loan(action, index)

    def _land(self, bar: int) -> None:
        """Delayed loan actions whose time has come; a liquidated loan has no use for them."""
        index = scene.exact(self.tape.index.close[bar])
        ready = [d for d in self.delayed if d.bar <= bar]
        self.delayed = [d for d in self.delayed if d.bar > bar]
        for delayed in ready:
            if not self.account.loan_liquidated:
                self._settle_loan(delayed.action, index)

    def _settle_loan(self, action: MoneyAction, index: Decimal) -> None:
        match action.kind_of:
            case TreasuryKind.REPAY:
                self.account.repay(action.amount)
            case TreasuryKind.BORROW:
                self.account.borrow(action.amount, index)
            case TreasuryKind.REPAY_WITH_COLLATERAL:
                self.account.sell_collateral(action.amount, index)
            case _:
                raise AssertionError(action.kind_of)

    # ------------------------------------------------------------ what is told

    def _note(self, bar: int, kind: str, reason: str, qty: Decimal, price: Decimal) -> None:
        self.outcome.events.append(Event(bar, kind, reason, qty, price))

    def _trace(self, bar: int, mark: Decimal, index: Decimal, reason: str) -> None:
        account = self.account
        self.outcome.rows.append(Row(
            bar, float(index), float(account.ltv(index)), float(account.short),
            float(account.equity(mark, index)), float(account.cash + account.upl(mark)),
            float(account.debt), float(account.collateral), reason,
        ))


def run(
    tape: Tape, plan: Plan, setting: Setting, *, terms: Terms | None = None, hold: bool = True,
    trace: bool = False,
) -> Outcome:
    """One account through one tape."""
    return Engine(tape, plan, setting, terms=terms or Terms(), hold=hold, trace=trace).run()


__all__ = ["Decision", "Engine", "Event", "Outcome", "Row", "run"]
