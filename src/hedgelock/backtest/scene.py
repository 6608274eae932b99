"""From the pockets of a backtest to the `Situation` that the live decision looks at."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from hedgelock.backtest.account import Account
from hedgelock.backtest.plans import Plan
from hedgelock.domain.headroom import Headroom
from hedgelock.domain.hysteresis import Latch, Rungs, advance
from hedgelock.domain.inflight import Exposure, Purpose
from hedgelock.domain.money import ONE, ZERO
from hedgelock.domain.policy import HedgePolicy
from hedgelock.domain.risk import Confidence, RiskState
from hedgelock.domain.safety import SafetyMode
from hedgelock.domain.situation import Balances, MoneyAction, OrderAction, Situation
from hedgelock.domain.sizing import Decision

_STATES = tuple(RiskState)
_GROUND = Latch()


def exact(value: float) -> Decimal:
    """A price of a tape as the decimal that it prints as."""
    return Decimal(repr(float(value)))


@dataclass(slots=True)
class Memory:
    """What the hedger and the risk-engine remember between decisions."""

    rungs: Rungs
    dwell_ms: int
    latch: Latch = _GROUND
    reopen_qty: Decimal = ZERO
    realising: Decimal = ZERO
    has_realised: bool = False
    is_settled: bool = True
    withdrawable: Decimal = ZERO

    def see(self, ltv: Decimal, now_ms: int) -> None:
        """Take in the LTV of a moment."""
        self.latch = advance(
            self.latch, ltv, rungs=self.rungs, dwell_ms=self.dwell_ms, now_ms=now_ms
        )

    def settle(self, withdrawable: Decimal) -> None:
        """Balances have been read anew."""
        self.is_settled, self.withdrawable = True, withdrawable

    def after(self, now: Situation, decision: Decision) -> None:
        """What `domain.hedging.step` remembers of a decision."""
        self.reopen_qty = ZERO
        for action in decision.actions:
            if isinstance(action, OrderAction) and action.purpose is Purpose.REALISE:
                self.realising, self.has_realised = action.realise_rest, True
                return
        if now.is_settled:
            self.realising = ZERO
        has_paid = any(isinstance(action, MoneyAction) for action in decision.actions)
        if has_paid or decision.numbers.repay_wanted <= ZERO:
            self.has_realised = False

    @property
    def state(self) -> RiskState:
        """The label of the level held."""
        return _STATES[self.latch.level]


class Now(NamedTuple):
    """Prices of a moment and m of the short side."""

    mark: Decimal
    spot: Decimal
    """Index."""
    multiplier: Decimal


def situation(
    now: Now, account: Account, memory: Memory, *, policy: HedgePolicy, plan: Plan,
    has_treasury: bool,
) -> Situation:
    """The numbers of one decision. Nothing of ours is ever in flight: fills are at once."""
    terms, short = account.terms, account.short
    ratio = terms.loan_ratio if account.collateral > 0 else ZERO
    cushion = account.coins * terms.coin_ratio * now.spot * (ONE + policy.stress_rise)
    return Situation(
        policy=policy, execution=plan.execution, instrument=terms.instrument,
        spot=terms.spot_instrument, mode=SafetyMode.ACTIVE, confidence=Confidence.FRESH,
        risk_state=memory.state, mark_price=now.mark, index_price=now.spot,
        counted_value=account.collateral * terms.loan_ratio * now.spot, loan_ratio=ratio,
        reserve=policy.reserve or ZERO, multiplier=now.multiplier,
        balances=Balances(
            equity=account.cash + account.upl(now.mark), cash=account.cash,
            withdrawable=memory.withdrawable, fund=account.fund, debt=account.debt,
            coin_qty=account.coins, collateral_qty=account.collateral,
        ),
        exposure=Exposure(short, short, short, short),
        entry_price=account.entry_value / short if short else None,
        headroom=Headroom(
            now.mark, policy.stress_rise, cushion, plan.risk.margin_ratio_max,
            policy.borrow_margin_rate, terms.instrument,
        ),
        is_settled=memory.is_settled, has_treasury=has_treasury, has_spot_order=False,
        has_hedge_order=False, reopen_qty=memory.reopen_qty, realising=memory.realising,
        has_realised=memory.has_realised, may_order=True, may_move=True,
    )
