"""`min_cost` as a strategy: the solver's short, its sales, and what keeps the account covered."""

from __future__ import annotations

import msgspec
import pytest
from hedge_situations import held, situation, situations
from hedge_world import D, policy
from hypothesis import given

from hedgelock.domain.actions import ActionKind
from hedgelock.domain.inflight import Purpose
from hedgelock.domain.order import Side
from hedgelock.domain.policy import Strategy
from hedgelock.domain.risk import Confidence
from hedgelock.domain.safety import SafetyMode
from hedgelock.domain.situation import (
    CancelAction,
    HedgeReason,
    MoneyAction,
    OrderAction,
    ShortFunding,
    stressed_ltv,
)
from hedgelock.domain.sizing import decide
from hedgelock.domain.solver_case import case_of, preview, sale_wanted, short_wanted
from hedgelock.domain.strategies import ltv_target, min_cost
from hedgelock.domain.treasury import TreasuryKind

MIN_COST = policy(strategy=Strategy.MIN_COST).hedge
DEAR = ShortFunding(D("-5"), D(-400))
"""A short pays 500 % a year, 4 % over the horizon."""


def test_the_short_brings_net_ltv_to_the_aim() -> None:
    """Where B* goes to L, the solver goes a little inside it, and waits until L is broken."""
    s = situation("50000", hedge=MIN_COST)
    short = min_cost(s).protective
    after = stressed_ltv(s, short)
    assert after is not None
    assert D("0.832") < after <= D("0.833")
    assert short > ltv_target(s).protective
    between = s._replace(exposure=held(str(ltv_target(s).protective + D("0.02"))))
    assert short_wanted(between) == between.exposure.low


def test_what_is_not_known_of_funding_costs_nothing() -> None:
    """Without a forecast the rate now counts; without a rate, fees alone."""
    costs = [
        case_of(situation("50000", hedge=MIN_COST, funding=funding)).terms.linear.funding
        for funding in (None, ShortFunding(D("0.365"), None), ShortFunding(D("0.365"), D(40)))
    ]
    assert costs[0] == 0
    assert round(costs[1], 20) == D("-0.003")
    assert costs[2] == D("-0.004")


def test_a_dear_short_is_kept_until_collateral_is_sold() -> None:
    """The sale comes first; the short stays whole until it is done, and is then given back."""
    s = situation("50000", short="0.5", entry="50000", hedge=MIN_COST, funding=DEAR)
    assert sale_wanted(s) > 0
    assert short_wanted(s) == D("0.5")
    (action,) = decide(s).actions
    assert isinstance(action, MoneyAction)
    assert (action.kind_of, action.reason) == (
        TreasuryKind.REPAY_WITH_COLLATERAL, HedgeReason.COLLATERAL_REPAY
    )
    taken = action.amount * (1 + case_of(s).terms.collateral_cost) / 50_000
    sold = situation(
        "50000", short="0.5", entry="50000", hedge=MIN_COST, funding=DEAR,
        debt=D(36_600) - action.amount, collateral=1 - taken,
    )
    (lower,) = decide(sold).actions
    assert isinstance(lower, OrderAction)
    assert (lower.side, lower.reduce_only) == (Side.BUY, True)


@pytest.mark.parametrize("changes", [
    {"confidence": Confidence.STALE}, {"is_settled": False}, {"may_move": False},
    {"has_treasury": True}, {"mode": SafetyMode.HALTED},
])
def test_no_sale_on_what_is_not_certain(changes) -> None:
    """Stale inputs, unsettled money, another action under way, or HALTED: nothing is sold."""
    s = situation("50000", short="0.5", entry="50000", hedge=MIN_COST, funding=DEAR, **changes)
    assert not any(isinstance(action, MoneyAction) for action in decide(s).actions)


def test_stale_inputs_give_nothing_back() -> None:
    """A short that is not needed is kept while nobody can see."""
    s = situation("60000", short="0.4", entry="60000", hedge=MIN_COST)
    assert short_wanted(s) < D("0.1")
    assert short_wanted(s._replace(confidence=Confidence.STALE)) == D("0.4")


def test_gains_cost_fees_to_realise_and_losses_bring_nothing() -> None:
    """2 × fee ÷ gain per USDT; without a gain what is in the pocket is what there is."""
    gained = case_of(situation("50000", short="0.2", entry="60000", withdrawable="100"))
    assert gained.terms.realise_cost == D(2 * 50_000) * D("0.00055") / D(10_000)
    assert gained.terms.released == 100
    assert case_of(situation(short="0.2", entry="50000")).terms.realise_cost == 0
    assert case_of(situation(coins="0", spot=None)).terms.margin_ratio == 0


def test_the_hedgers_own_actions_are_shown_before_and_after() -> None:
    """A decision of B* shows LTV, net LTV and margin before and after, and its cost now."""
    s = situation("50000")
    actions = decide(s).actions
    shown = preview(s, actions, ltv_liquidation=D("0.95"))
    assert shown.before.ltv == shown.after.ltv
    assert shown.after.ltv_net_fall is not None and shown.before.ltv_net_fall is not None
    assert shown.after.ltv_net_fall < shown.before.ltv_net_fall
    (order,) = actions
    assert isinstance(order, OrderAction)
    assert shown.now == order.qty * 50
    assert shown.undo == ((ActionKind.REDUCE_LINEAR, order.qty),)


@pytest.mark.parametrize(("action", "kinds"), [
    (MoneyAction(TreasuryKind.REPAY, D(900), D(600), HedgeReason.HARVEST_REPAY),
     [(ActionKind.BORROW, D(600)), (ActionKind.BORROW, D(300))]),
    (MoneyAction(TreasuryKind.TRANSFER_TO_UNIFIED, D(900), D(900), HedgeReason.FUND_RETURN),
     [(ActionKind.TRANSFER_OUT, D(900))]),
    (OrderAction(Side.BUY, D("0.1"), reduce_only=True, protective=True, purpose=Purpose.HEDGE,
                 reason=HedgeReason.HEDGE_LOWERED), [(ActionKind.SHORT_LINEAR, D("0.1"))]),
    (CancelAction(HedgeReason.SAFETY_CANCEL), []),
])
def test_every_action_of_the_hedger_has_its_kind(action, kinds) -> None:
    """Repayments in their two parts, transfers, orders; a cancellation moves nothing."""
    shown = preview(situation("50000", short="0.3", fund="1000"), [action], ltv_liquidation=D("0.95"))
    assert list(shown.undo) == kinds


def test_a_cover_is_a_sale_that_nothing_takes_back() -> None:
    """Pocket coins sold for owed USDT are shown as sold."""
    cover = OrderAction(Side.SELL, D("0.05"), reduce_only=False, protective=True,
                        purpose=Purpose.COVER, reason=HedgeReason.QUOTE_COVERED)
    shown = preview(situation("50000", equity="-900"), [cover], ltv_liquidation=D("0.95"))
    assert not shown.is_reversible


@given(situations())
def test_the_solver_stands_in_for_any_strategy(s) -> None:
    """Whatever the account, a decision is made, in lots, inside h_cap and C + b."""
    s = s._replace(policy=msgspec.structs.replace(s.policy, strategy=Strategy.MIN_COST))
    assert min_cost(s).discretionary == 0
    for action in decide(s).actions:
        if isinstance(action, OrderAction) and action.purpose is Purpose.HEDGE:
            assert action.qty % s.instrument.lot_size == 0
            if action.side is Side.SELL:
                assert s.exposure.high + action.qty <= s.short_max
                assert s.exposure.high + action.qty <= s.headroom.hedge_cap(s.balances.equity)
