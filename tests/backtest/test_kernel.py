"""`kernel` is `domain.sizing.decide` on arrays: thousands of situations, each decided both ways."""

from __future__ import annotations

from decimal import Decimal
from decimal import Decimal as D

import msgspec
import numpy as np
import pytest

from hedgelock.backtest import kernel
from hedgelock.backtest.figures import Held, figures, withdrawable
from hedgelock.backtest.kernel import Sight
from hedgelock.backtest.plans import BASELINES, Plan
from hedgelock.backtest.scene import exact
from hedgelock.backtest.terms import Terms
from hedgelock.domain.headroom import Headroom
from hedgelock.domain.inflight import Exposure, Purpose
from hedgelock.domain.order import Side
from hedgelock.domain.risk import Confidence, RiskState
from hedgelock.domain.safety import SafetyMode
from hedgelock.domain.situation import Balances, HedgeReason, MoneyAction, OrderAction, Situation
from hedgelock.domain.sizing import Decision, decide
from hedgelock.domain.treasury import TreasuryKind

TERMS = Terms()
COUNT = 1_500
KINDS = {
    TreasuryKind.REPAY: kernel.REPAY, TreasuryKind.BORROW: kernel.BORROW,
    TreasuryKind.REPAY_WITH_COLLATERAL: kernel.WITH_COLLATERAL,
    TreasuryKind.TRANSFER_TO_UNIFIED: kernel.TO_UNIFIED,
}


def sights(seed: int) -> Sight:
    """Accounts well and unwell, near their lines and far from them."""
    dice = np.random.default_rng(seed)

    def some(low: float, high: float, digits: int = 3) -> np.ndarray:
        return np.round(dice.uniform(low, high, COUNT), digits)

    def often(values: np.ndarray, share: float) -> np.ndarray:
        return np.where(dice.random(COUNT) < share, values, 0.0)

    mark = some(15_000, 70_000, 1)
    short = often(some(0, 1.2), 0.8)
    collateral = some(0.2, 1.2)
    debt = np.round(often(some(0.3, 1.0, 4) * collateral * mark, 0.95), 2)
    sight = Sight(
        mark=mark, index=np.round(mark * some(0.99, 1.01, 4), 2), multiplier=some(0, 1, 2),
        cash=some(-4_000, 16_000, 2), coins=often(some(0, 0.3), 0.8), short=short,
        entry_value=np.round(short * mark * some(0.85, 1.5), 4), fund=often(some(0, 6_000, 2), 0.3),
        debt=debt, collateral=collateral, reserve=some(0, 9_000, 2),
        level=dice.integers(0, 4, COUNT), withdrawable=np.zeros(COUNT),
        reopen_qty=often(np.full(COUNT, 0.05), 0.2), realising=often(some(0, 900, 2), 0.3),
        has_realised=dice.random(COUNT) < 0.3, is_settled=dice.random(COUNT) < 0.7,
        has_treasury=dice.random(COUNT) < 0.15,
    )
    held = Held(sight.cash, sight.coins, short, sight.entry_value)
    sight.withdrawable = np.round(
        withdrawable(figures(BASELINES["ltv_target"], TERMS), held, mark, sight.index), 6
    )
    return sight


def situation(s: Sight, i: int, plan: Plan) -> Situation:
    """Element `i` as the live decision sees it."""
    short, entry = exact(s.short[i]), exact(s.entry_value[i])
    mark, index, coins = exact(s.mark[i]), exact(s.index[i]), exact(s.coins[i])
    hedge = plan.hedge
    cash = exact(s.cash[i])
    return Situation(
        policy=hedge, execution=plan.execution, instrument=TERMS.instrument,
        spot=TERMS.spot_instrument, mode=SafetyMode.ACTIVE, confidence=Confidence.FRESH,
        risk_state=tuple(RiskState)[int(s.level[i])], mark_price=mark, index_price=index,
        counted_value=exact(s.collateral[i]) * index, loan_ratio=D(1), reserve=exact(s.reserve[i]),
        multiplier=exact(s.multiplier[i]),
        balances=Balances(
            equity=cash + entry - short * mark, cash=cash, withdrawable=exact(s.withdrawable[i]),
            fund=exact(s.fund[i]), debt=exact(s.debt[i]), coin_qty=coins,
            collateral_qty=exact(s.collateral[i]),
        ),
        exposure=Exposure(short, short, short, short),
        entry_price=entry / short if short else None,
        headroom=Headroom(
            mark, hedge.stress_rise, coins * TERMS.coin_ratio * index * (1 + hedge.stress_rise),
            plan.risk.margin_ratio_max, hedge.borrow_margin_rate, TERMS.instrument,
        ),
        is_settled=bool(s.is_settled[i]), has_treasury=bool(s.has_treasury[i]),
        has_spot_order=False, has_hedge_order=False, reopen_qty=exact(s.reopen_qty[i]),
        realising=exact(s.realising[i]), has_realised=bool(s.has_realised[i]), may_order=True,
        may_move=True,
    )


def told(decision: Decision) -> list[float]:
    """cover, hedge (+ sells), slice?, rest, kind, amount, moved, repay wanted."""
    cover = hedge = rest = Decimal(0)
    is_slice, kind, amount, moved = False, kernel.NOTHING, Decimal(0), Decimal(0)
    for action in decision.actions:
        if isinstance(action, OrderAction) and action.purpose is Purpose.COVER:
            cover = action.qty
        elif isinstance(action, OrderAction):
            hedge = action.qty if action.side is Side.SELL else -action.qty
            is_slice, rest = action.purpose is Purpose.REALISE, action.realise_rest
        elif isinstance(action, MoneyAction):
            kind, amount = KINDS[action.kind_of], action.amount
            moved = action.transfer_amount if kind == kernel.REPAY else Decimal(0)
    values = (cover, hedge, is_slice, rest, kind, amount, moved, decision.numbers.repay_wanted)
    return [float(v) for v in values]


def small_steps(plan: Plan) -> Plan:
    """The plan with a small discretionary step, so that m matters."""
    hedge = msgspec.structs.replace(plan.hedge, caution_size=D("0.3"))
    return Plan(plan.name, hedge=hedge)


@pytest.mark.parametrize("plan", ["ltv_target", "ladder", "reserve_only", "delta_neutral"])
def test_every_action_is_the_live_decision_s(plan: str) -> None:
    """Same orders, same money, same slices; `may_act` is false for none that acts."""
    chosen = small_steps(BASELINES[plan])
    f, strategy = figures(chosen, TERMS), chosen.hedge.strategy
    reasons: set[HedgeReason] = set()
    for seed in (1, 2):
        s = sights(seed)
        orders = kernel.decide(f, s, strategy)
        ours = np.stack([
            orders.cover, orders.hedge, orders.is_slice,
            np.where(orders.is_slice, orders.slice_rest, 0.0), orders.kind,
            np.where(orders.kind != kernel.NOTHING, orders.amount, 0.0), orders.moved,
            orders.repay_wanted,
        ], axis=1).astype(float)
        calm = s.reopen_qty <= 0
        may = kernel.may_act(f, s, strategy) | (s.realising > 0) | ~calm
        acts = orders.any()
        assert not (acts & ~may).any()
        for i in range(COUNT):
            decision = decide(situation(s, i, chosen))
            assert ours[i] == pytest.approx(told(decision), abs=2e-6), (plan, seed, i, decision)
            assert acts[i] == bool(decision.actions)
            reasons |= {action.reason for action in decision.actions}
    if plan == "ltv_target":
        assert reasons == {
            HedgeReason.HEDGE_RAISED, HedgeReason.HEDGE_LOWERED, HedgeReason.MARGIN_LOWERED,
            HedgeReason.NET_SHORT_LOWERED, HedgeReason.HARVEST_REPAY, HedgeReason.URGENT_REPAY,
            HedgeReason.HARVEST_REALISE, HedgeReason.HARVEST_REOPEN, HedgeReason.COLLATERAL_REPAY,
            HedgeReason.REFILL, HedgeReason.FUND_RETURN, HedgeReason.QUOTE_COVERED,
        }
