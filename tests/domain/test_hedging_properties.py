"""What holds for every hedging decision, whatever the account, the messages and their order."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hedge_situations import situations
from hedge_world import ACCOUNT, PERP, SPOT, D, TableRows, World, policy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import structs

from hedgelock.domain import account
from hedgelock.domain.funding import FundingContext
from hedgelock.domain.hedging import HedgeDecision, HedgeMemory, step
from hedgelock.domain.inflight import Purpose
from hedgelock.domain.instrument import CollateralTerms, Instrument, Settlement
from hedgelock.domain.message import Message, Restored, Tick
from hedgelock.domain.order import OrderConfirmation, PlaceOrder, Side
from hedgelock.domain.policy import Policy, Strategy
from hedgelock.domain.risk import RiskAssessment
from hedgelock.domain.safety import SafetyMode, SafetyState
from hedgelock.domain.situation import (
    HedgeReason,
    MoneyAction,
    OrderAction,
    Situation,
    stressed_ltv,
)
from hedgelock.domain.sizing import decide
from hedgelock.domain.step import Now
from hedgelock.domain.treasury import TreasuryAction, TreasuryConfirmation

replace = msgspec.structs.replace


def orders_of(s: Situation) -> list[OrderAction]:
    """The orders decided."""
    return [a for a in decide(s).actions if isinstance(a, OrderAction)]


@given(situations())
def test_a_raise_lowers_stressed_ltv_inside_margin_and_never_goes_net_short(s: Situation) -> None:
    """After a raise: ltv_net(−s) is lower, h ≤ h_cap after all money ordered, h ≤ C + b."""
    leaving = sum(
        (a.transfer_amount for a in decide(s).actions
         if isinstance(a, MoneyAction) and a.kind_of.value == "repay"), D(0),
    )
    for order in orders_of(s):
        if order.side is Side.BUY or order.purpose is Purpose.COVER:
            continue
        after = s.exposure.high + order.qty
        assert after <= s.short_max
        assert after <= s.headroom.hedge_cap(s.balances.equity - leaving)
        assert after <= s.policy.position_size_max
        was, will = stressed_ltv(s, s.exposure.high), stressed_ltv(s, after)
        assert was is not None
        assert will is not None
        assert will < was


@given(situations())
def test_a_reduction_is_reduce_only_and_never_closes_more_than_is_held(s: Situation) -> None:
    """Buys only shrink the short that is surely there."""
    for order in orders_of(s):
        if order.side is Side.BUY:
            assert order.reduce_only
            assert order.qty <= s.exposure.low
        else:
            assert not order.reduce_only


@given(situations())
def test_orders_fit_the_venues_steps(s: Situation) -> None:
    """Whole lots, at least the least quantity, one hedge order at a time."""
    made = orders_of(s)
    for order in made:
        assert order.qty % s.instrument.lot_size == 0
        assert order.qty >= s.instrument.qty_min
    assert sum(order.purpose is not Purpose.COVER for order in made) <= 1


@given(situations())
def test_missing_inputs_never_open_risk_and_never_exit(s: Situation) -> None:
    """Stale, reducing, halted or without funding: no discretionary raise; stale or halted: no lowering."""
    is_held_back = not s.is_fresh or s.mode is not SafetyMode.ACTIVE
    for order in orders_of(s):
        if is_held_back or s.multiplier is None:
            assert order.protective or order.side is Side.BUY
        if not s.is_fresh or s.mode is SafetyMode.HALTED:
            assert order.reason is not HedgeReason.HEDGE_LOWERED
        if not s.is_fresh:
            assert order.side is Side.SELL
            assert order.purpose is Purpose.HEDGE


@given(situations())
def test_every_decision_has_a_reason_that_fits(s: Situation) -> None:
    """Acting reasons come with actions, waiting reasons without."""
    done = decide(s)
    if done.actions:
        assert done.reason is done.actions[0].reason
    else:
        assert done.reason not in (HedgeReason.HEDGE_RAISED, HedgeReason.HEDGE_LOWERED)


# ------------------------------------------------------------ in closed loop


MOVES = st.lists(
    st.decimals(min_value=D("0.94"), max_value=D("1.06"), places=3), min_size=1, max_size=25
)


def walk(moves: list[Decimal], strategy: Strategy, *, copies: int = 1) -> World:
    """A random walk; each message is delivered `copies` times."""
    world = World(price=D(58_000))
    world.tables.policy_row = policy(strategy=strategy)
    world.deliver(*world.facts())
    for move in moves:
        world.now_ms += 250
        price = (world.price * move).quantize(D("0.1"))
        world.price = max(D(15_000), price)
        queue: list[Message] = [world.assessment()]
        while queue:
            message = queue.pop(0)
            for copy in range(copies):
                for output in world.step(message).outputs:
                    assert copy == 0 or isinstance(output.message, HedgeDecision)
                    queue.extend(world.obey(output))
        assert -world.position <= world.collateral + world.coins + D("0.001")
        assert world.position <= 0
        assert world.fund >= 0
        assert world.coins >= 0
    return world


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(MOVES, st.sampled_from(list(Strategy)))
def test_repeating_every_message_changes_nothing(
    moves: list[Decimal], strategy: Strategy
) -> None:
    """Each message twice: the same orders, the same money, the same end."""
    once, twice = walk(moves, strategy), walk(moves, strategy, copies=2)
    assert [(o.side, o.qty, o.reason) for o, _ in once.orders] == [
        (o.side, o.qty, o.reason) for o, _ in twice.orders
    ]
    assert [(a.kind_of, a.amount) for a in once.money] == [
        (a.kind_of, a.amount) for a in twice.money
    ]
    assert (once.position, once.cash, once.debt) == (twice.position, twice.cash, twice.debt)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(MOVES, st.lists(st.booleans(), min_size=1, max_size=40))
def test_lost_inputs_never_lead_to_more_than_was_known(
    moves: list[Decimal], lost: list[bool]
) -> None:
    """Facts and confirmations that never arrive: still never net short, never a double order."""
    world = World(price=D(58_000))
    world.deliver(*world.facts())
    number = 0
    for move in moves:
        world.now_ms += 250
        world.price = max(D(15_000), (world.price * move).quantize(D("0.1")))
        queue: list[Message] = [world.assessment()]
        while queue:
            message = queue.pop(0)
            number += 1
            if lost[number % len(lost)] and not isinstance(message, RiskAssessment):
                continue
            for output in world.step(message).outputs:
                if isinstance(output.message, TreasuryAction):
                    # It happens or not; nobody hears of it.
                    continue
                queue.extend(world.obey(output))
        assert -world.position <= world.collateral + world.coins
    ids = [order.intent_id for order, _ in world.orders]
    assert len(ids) == len(set(ids))


@given(st.sets(st.sampled_from(["policy", "terms", "perp", "spot", "reserve", "tiers"]),
               min_size=1))
def test_any_missing_rows_mean_no_order_and_no_money(missing: set[str]) -> None:
    """Without policy, terms, contract, tiers or reserve a held hedge stays exactly as it is."""
    world = World(price=D(46_000), position=-D("0.2"), entry=D(50_000), seq=1)
    for fact in world.facts():
        world.step(fact)
    rows = world.tables
    if "reserve" in missing:
        rows.policy_row = policy(reserve=None)
    if "policy" in missing:
        rows.policy_row = None
    if "terms" in missing:
        rows.terms_row = None
    if "tiers" in missing:
        rows.instruments[PERP] = replace(rows.instruments[PERP], tiers=())
    for name, key in (("perp", PERP), ("spot", SPOT)):
        if name in missing:
            rows.instruments.pop(key)
    sent = [o.message for o in world.step(world.assessment()).outputs]
    if missing - {"spot"}:
        assert all(isinstance(m, HedgeDecision) for m in sent)


# ------------------------------------------------------------ totality


KINDS: tuple[Any, ...] = (
    RiskAssessment, account.WalletRead, account.PositionsRead, account.PositionChanged,
    account.FundRead, account.LoanRead, OrderConfirmation, TreasuryConfirmation, Policy,
    SafetyState, FundingContext, Instrument, CollateralTerms, Tick, Restored,
)


@pytest.mark.no_cover
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.one_of([structs(kind) for kind in KINDS]), min_size=1, max_size=8),
    structs(Policy), structs(Instrument, settlement=st.just(Settlement.LINEAR)),
    structs(CollateralTerms), st.none() | structs(SafetyState), st.none() | structs(FundingContext),
)
def test_the_step_is_total_and_its_memory_survives_the_wire(
    messages: list[Message], row: Policy, perp: Instrument, terms_row: CollateralTerms,
    safety_row: SafetyState | None, funding_row: FundingContext | None,
) -> None:
    """No decodable messages in any order raise, and the memory encodes and decodes to itself."""
    rows = TableRows(
        policy_row=row, safety_row=safety_row, funding_row=funding_row, terms_row=terms_row,
        instruments={row.hedge.instrument: perp, row.hedge.spot_instrument: perp},
    )
    memory = HedgeMemory(account=ACCOUNT)
    for number, message in enumerate(messages):
        memory = step(memory, rows, message, Now(1_700_000_000_000, f"h:{number}", "")).state
    assert msgspec.json.decode(msgspec.json.encode(memory), type=HedgeMemory) == memory


EXTREMES = st.sampled_from([D("1E+30"), D("1E-30"), D(1), D(60_000), D(0)])


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_absurd_figures_of_a_complete_account_raise_nothing(data: st.DataObject) -> None:
    """A sane policy and a whole account with absurd prices and amounts still decide something."""
    draw = data.draw
    world = World(
        cash=draw(EXTREMES), coins=draw(EXTREMES), fund=draw(EXTREMES), debt=draw(EXTREMES),
        collateral=draw(EXTREMES), position=-draw(EXTREMES), entry=draw(EXTREMES), seq=1,
    )
    rows = world.tables
    if draw(st.booleans()):
        rows.policy_row = policy(strategy=Strategy.LADDER, reserve=draw(EXTREMES))
    for fact in world.facts():
        world.step(fact)
    value = draw(EXTREMES)
    risk = world.assessment(
        mark_price=draw(EXTREMES), index_price=draw(EXTREMES), counted_value=value,
        collateral_value=value, ltv=D(1),
    )
    for output in world.step(risk).outputs:
        msgspec.json.encode(output.message)


_ = (PlaceOrder,)
