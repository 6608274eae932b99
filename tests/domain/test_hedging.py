"""The hedger's step: what triggers it, what it refuses, what safety does to it, what it says."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hedge_situations import held, situation
from hedge_world import (
    ACCOUNT,
    FEE,
    PERP,
    SPOT,
    D,
    TableRows,
    World,
    confirmation,
    fill_of,
    instrument,
    policy,
    terms,
)
from strategies import funding_context

from hedgelock.domain.account import LoanDebt
from hedgelock.domain.hedging import HedgeDecision, HedgeMemory, PositionDiffers, step
from hedgelock.domain.instrument import Settlement
from hedgelock.domain.message import Message, Restored, Tick
from hedgelock.domain.order import CancelOrders, OrderStatus, PlaceOrder, Side
from hedgelock.domain.policy import HedgePolicy, Policy, Strategy
from hedgelock.domain.registry import Quarantined
from hedgelock.domain.risk import Confidence, RiskState
from hedgelock.domain.safety import SafetyMode, SafetyReason, SafetyState
from hedgelock.domain.short_leg import LegState, ShortLeg
from hedgelock.domain.situation import HedgeReason, OrderAction
from hedgelock.domain.sizing import decide
from hedgelock.domain.step import Now, Step
from hedgelock.domain.treasury import (
    TreasuryAction,
    TreasuryConfirmation,
    TreasuryKind,
    TreasuryStage,
)

replace = msgspec.structs.replace


def world(price: str = "60000", **changes: Any) -> World:
    """A world whose facts the hedger has read, at a price it has not assessed."""
    made = World(price=D(price), **changes)
    for fact in made.facts():
        made.step(fact)
    return made


def safety(mode: SafetyMode, *, flatten: bool = False) -> SafetyState:
    """Safety's word."""
    return SafetyState(
        account=ACCOUNT, version=1, mode=mode, reason=SafetyReason.OPERATOR_HALT, flatten=flatten,
        command_id="c", text="", since_ts_ms=0,
    )


def acts(done: Step[HedgeMemory]) -> list[Any]:
    """What the step asked of the world, without the journal and without the stop's upkeep."""
    said = [o.message for o in done.outputs]
    return [m for m in said if not isinstance(m, HedgeDecision | PositionDiffers) and not is_stop(m)]


def is_stop(message: Any) -> bool:
    """It places, moves or removes the protective stop."""
    return bool(getattr(message, "trigger_price", None) or getattr(message, "intents", None))


def only_order(done: Step[HedgeMemory]) -> PlaceOrder:
    """The one order of a step that asked for nothing else."""
    (order,) = acts(done)
    assert isinstance(order, PlaceOrder)
    return order


def journal(done: Step[HedgeMemory]) -> HedgeDecision | None:
    """The journaled decision of a step, if it was news."""
    found = [o.message for o in done.outputs if isinstance(o.message, HedgeDecision)]
    return found[0] if found else None


def short(made: World, qty: str, entry: str) -> World:
    """The world with a short already held and read."""
    made.position, made.entry, made.seq = -D(qty), D(entry), 1
    for fact in made.facts():
        made.step(fact)
    return made


# ------------------------------------------------------------ the order


def test_a_hedge_is_opened_where_b_star_says_with_identity_bounds_and_reason() -> None:
    """At LTV .67 the order is h* = (N − L·V·(1−s)) / (P·(s − c·(1−s))), down to lots."""
    made = world("54600")
    done = made.step(made.assessment())
    order = only_order(done)
    exact = (D(36_600) - D("0.85") * D("0.75") * 54_600) / (D(54_600) * D("0.24925"))
    assert order.qty == (exact / D("0.001")).to_integral_value("ROUND_DOWN") * D("0.001")
    assert (order.side, order.instrument, order.reduce_only) == (Side.SELL, PERP, False)
    assert order.protective
    assert order.reason == "hedge_raised"
    assert order.intent_id == f"hedger:{ACCOUNT}:{made.decisions}.0"
    assert order.mark_price == D(54_600)
    assert order.slippage_max == D("0.005")
    assert order.expires_ts_ms - order.decided_ts_ms == 5_000
    assert [o.topic for o in done.outputs] == ["hedge_trades", "hedge_decisions"]


def test_nothing_is_done_inside_the_band() -> None:
    """A target .049 BTC away from the short held is left alone, and the reason says so."""
    made = world("56400")
    done = made.step(made.assessment())
    assert not acts(done)
    said = journal(done)
    assert said is not None
    assert said.reason == "within_band"
    assert D(0) < (said.target or D(0)) < D("0.05")


def test_the_same_assessment_twice_hedges_once() -> None:
    """A repeated assessment changes neither the state nor the world."""
    made = world("54600")
    assessment = made.assessment()
    first = made.step(assessment)
    again = made.step(assessment)
    assert again.state == first.state
    assert not again.outputs


def test_an_overtaken_assessment_decides_nothing() -> None:
    """An older assessment that arrives late is ignored."""
    made = world("54600")
    made.step(made.assessment(assessed_ts_ms=made.now_ms))
    assert not made.step(made.assessment(assessed_ts_ms=made.now_ms - 5, mark_price=D(1))).outputs


def test_an_order_without_confirmation_stays_in_flight_for_ever() -> None:
    """Hours of assessments and ticks later the order still counts; nothing is sent again."""
    made = world("54600")
    assert acts(made.step(made.assessment()))
    for _ in range(20):
        made.now_ms += 600_000
        for message in (*made.facts(), made.assessment()):
            assert not acts(made.step(message))
        assert not acts(made.step(Tick(now_ms=made.now_ms)))


def test_an_unknown_order_is_not_ordered_again() -> None:
    """UNKNOWN counts as filled when asking "may I add?"."""
    made = world("54600")
    order = only_order(made.step(made.assessment()))
    unsure = confirmation(order, at_ms=made.now_ms, is_terminal=False, is_unknown=True,
                          status=OrderStatus.UNKNOWN)
    assert not acts(made.step(unsure))
    made.now_ms += 1_000
    assert not acts(made.step(made.assessment()))


def test_an_open_sell_is_no_reason_to_buy() -> None:
    """UNKNOWN counts as unfilled when asking "am I safe?": nothing is closed that may not exist."""
    made = world("54600")
    made.step(made.assessment())
    made.now_ms, made.price = made.now_ms + 250, D(62_000)
    done = made.step(made.assessment())
    assert not acts(done)
    said = journal(done)
    assert said is not None
    assert said.reason == "order_in_flight"


def test_a_refused_order_is_not_tried_again_at_once() -> None:
    """After a rejection nothing of the kind is sent for one intent lifetime, then again."""
    made = world("54600")
    order = only_order(made.step(made.assessment()))
    made.now_ms += 10
    refused = confirmation(order, at_ms=made.now_ms, status=OrderStatus.REJECTED)
    done = made.step(refused)
    said = journal(done)
    assert said is not None
    assert said.reason == "backing_off"
    assert done.hold.until_ms == made.now_ms + 5_000
    made.now_ms += 4_000
    assert not acts(made.step(made.assessment()))
    made.now_ms += 1_001
    assert only_order(made.step(Tick(now_ms=made.now_ms))).intent_id != order.intent_id


def test_an_unfilled_order_is_tried_again_at_the_next_assessment() -> None:
    """A market order that found no price inside its bound waits for a newer price, not for time."""
    made = world("54600")
    order = only_order(made.step(made.assessment()))
    made.now_ms += 10
    assert not acts(made.step(confirmation(order, at_ms=made.now_ms, status=OrderStatus.CANCELLED)))
    made.now_ms += 10
    assert acts(made.step(made.assessment()))


def test_a_short_above_target_is_closed_reduce_only() -> None:
    """Recovery: the short is bought back reduce-only to the target, rounded down to lots."""
    made = short(world("60000"), "0.3", "55000")
    order = only_order(made.step(made.assessment()))
    assert (order.side, order.reduce_only, order.reason) == (Side.BUY, True, "hedge_lowered")
    assert not order.protective
    assert order.qty <= D("0.3")


def test_the_band_never_blocks_what_margin_demands() -> None:
    """A short a little above h_cap is reduced at once, half a band further than demanded."""
    made = short(world("50000", cash=D(1_500), coins=D(0)), "0.13", "50000")
    said = journal(made.step(made.assessment()))
    assert said is not None
    assert said.reason == "margin_lowered"
    assert said.h_cap is not None
    assert D(0) < D("0.13") - said.h_cap < D("0.05")
    (action,) = said.actions
    assert action.startswith("buy")


def test_a_short_beyond_what_is_owned_is_reduced_whatever_the_band() -> None:
    """Net short is never tolerated: h ≤ C + b."""
    made = short(world("38000", debt=D(38_000), cash=D(30_000)), "1.104", "38000")
    made.tables.policy_row = policy(reserve=D(40_000))
    done = made.step(made.assessment())
    order = next(m for m in acts(done) if isinstance(m, PlaceOrder))
    assert (order.side, order.qty, order.reason) == (Side.BUY, D("0.004"), "net_short_lowered")


def test_margin_caps_a_raise_and_says_so() -> None:
    """Where the pocket cannot carry more, the wish is journaled and not ordered."""
    made = world("47000", cash=D(100), coins=D(0))
    said = journal(made.step(made.assessment()))
    assert said is not None
    assert (said.reason, said.actions) == ("capped_by_margin", ())


def test_limits_of_the_venue_are_obeyed() -> None:
    """No order beyond the largest market order, below the least quantity or the least value."""
    made = world("54600")
    made.tables.instruments[PERP] = instrument(qty_market_max=D("0.02"))
    assert only_order(made.step(made.assessment())).qty == D("0.02")
    made = world("54600")
    made.tables.instruments[PERP] = instrument(notional_min=D(50_000))
    said = journal(made.step(made.assessment()))
    assert said is not None
    assert said.reason == "below_minimum"
    made = short(world("60000"), "0.3", "55000")
    made.tables.instruments[PERP] = instrument(qty_min=D(5))
    said = journal(made.step(made.assessment()))
    assert said is not None
    assert said.reason == "below_minimum"


def test_the_largest_position_of_the_policy_holds() -> None:
    """No strategy gets more than position_size_max."""
    made = world("47000")
    made.tables.policy_row = policy(position_size_max=D("0.06"))
    orders = [m for m in acts(made.step(made.assessment())) if isinstance(m, PlaceOrder)]
    assert [o.qty for o in orders] == [D("0.06")]


def test_owed_usdt_is_covered_from_the_pockets_own_coins() -> None:
    """U < 0: the pocket's BTC is sold on spot for what is owed and its costs, once."""
    made = world("60000", cash=D(-300), debt=D(30_000))
    done = made.step(made.assessment())
    cover = next(m for m in acts(done) if isinstance(m, PlaceOrder))
    assert (cover.instrument, cover.side, cover.reason) == (SPOT, Side.SELL, "quote_covered")
    assert D(300) <= cover.qty * 60_000 * (1 - FEE) <= D(400)
    made.now_ms += 250
    assert not [m for m in acts(made.step(made.assessment())) if isinstance(m, PlaceOrder)]


def test_a_pocket_that_cannot_cover_says_so() -> None:
    """Without coins the debt of the pocket stays, with its reason."""
    made = world("60000", cash=D(-300), coins=D(0), debt=D(30_000))
    made.tables.policy_row = policy(reserve=D(0))
    said = journal(made.step(made.assessment()))
    assert said is not None
    assert said.reason == "cover_impossible"


def test_a_slice_is_never_closed_beside_another_order() -> None:
    """A raise that is due goes first; the gain is realised afterwards."""
    s = situation("42000", debt="31500", short="0.3", entry="50000", equity="4500", cash="500")
    (action,) = decide(s).actions
    assert isinstance(action, OrderAction)
    assert action.side is Side.SELL
    (action,) = decide(s._replace(exposure=held("0.6"))).actions
    assert isinstance(action, OrderAction)
    assert action.reason.value == "harvest_realise"


def test_a_cap_exceeded_by_less_than_the_least_order_is_left_alone() -> None:
    """Nothing that the venue takes could be closed: the next decision goes on."""
    s = situation("50000", short="0.3", entry="50000", equity="0", coins="0",
                  instrument=instrument(qty_min=D("0.5")))
    assert not decide(s).actions


def test_money_waits_while_the_pocket_itself_owes() -> None:
    """Cover first: no loan action in the same decision."""
    s = situation("60000", equity="-100", coins="0.1", debt="30000")
    done = decide(s)
    assert [a.reason.value for a in done.actions] == ["quote_covered"]


def test_without_loan_and_collateral_a_short_is_brought_home() -> None:
    """Nothing owed, nothing pledged: no protection is needed and nothing beyond b may be short."""
    made = short(world("60000", debt=D(0), collateral=D(0)), "0.3", "55000")
    order = next(m for m in acts(made.step(made.assessment())) if isinstance(m, PlaceOrder))
    assert (order.side, order.qty, order.reduce_only) == (Side.BUY, D("0.3"), True)


def test_repeated_confirmations_bring_nothing() -> None:
    """The same order, money and account news again: no output, no change."""
    made = world("48000")
    for output in made.step(made.assessment()).outputs:
        for message in made.obey(output):
            made.step(message)
            again = made.step(message)
            assert not again.outputs
            assert again.state == made.memory


# ------------------------------------------------------------ confidence and missing inputs


@pytest.mark.parametrize(("change", "reason"), [
    ({"policy_row": None}, "no_policy"),
    ({"policy_row": policy(stress_fall=D(0))}, "policy_invalid"),
    ({"policy_row": policy(reserve=None)}, "reserve_unset"),
    ({"terms_row": None}, "no_terms"),
    ({"instruments": {}}, "no_instrument"),
    ({"instruments": {PERP: instrument(tiers=())}}, "no_instrument"),
    ({"instruments": {PERP: instrument(settlement=Settlement.INVERSE)}}, "unsupported_instrument"),
])
def test_a_missing_row_means_no_action_and_its_reason(change: dict[str, Any], reason: str) -> None:
    """Nothing is hedged, closed or moved on a default; the journal names what is missing."""
    made = short(world("46000"), "0.2", "50000")
    for name, row in change.items():
        setattr(made.tables, name, row)
    done = made.step(made.assessment())
    assert not acts(done)
    said = journal(done)
    assert said is not None
    assert (said.reason, said.target) == (reason, None)


@pytest.mark.parametrize("changes", [
    {"confidence": Confidence.ABSENT}, {"mark_price": None}, {"index_price": None},
    {"mark_price": D(0)}, {"index_price": D(-1)}, {"counted_value": D(0)},
])
def test_an_absent_assessment_means_no_action(changes: dict[str, Any]) -> None:
    """No price, no value or no confidence: no decision, above all no exit."""
    made = short(world("46000"), "0.2", "50000")
    done = made.step(made.assessment(**changes))
    assert not acts(done)
    said = journal(done)
    assert said is not None
    assert said.reason == "input_absent"


def test_an_account_never_read_whole_is_not_touched() -> None:
    """Three facts of four are no account."""
    made = World(price=D(46_000))
    for fact in made.facts()[:3]:
        made.step(fact)
    said = journal(made.step(made.assessment()))
    assert said is not None
    assert said.reason == "account_unread"


def test_a_fact_before_the_policy_is_not_lost() -> None:
    """Facts read while the policy was unknown count as soon as it is known."""
    made = World(price=D(54_600))
    row, made.tables.policy_row = made.tables.policy_row, None
    for fact in made.facts():
        made.step(fact)
    made.step(made.assessment())
    made.tables.policy_row = row
    assert row is not None
    assert only_order(made.step(row)).side is Side.SELL


def test_a_debt_in_another_coin_is_not_guessed() -> None:
    """A loan that also owes USDC is left alone, with its reason; an empty line does not matter."""
    for qty, reason in (("5", "foreign_debt"), ("0", "within_band")):
        made = World(price=D(60_000))
        *facts, loan = made.facts()
        other = LoanDebt(coin="USDC", qty=D(qty), hourly_rate=D(0))
        for fact in (*facts, replace(loan, debts=(*loan.debts, other))):  # type: ignore[attr-defined]
            made.step(fact)
        said = journal(made.step(made.assessment()))
        assert said is not None
        assert said.reason == reason


def test_stale_inputs_allow_only_a_protective_raise() -> None:
    """STALE: the short may grow inside margin; it is not lowered and no loan is raised."""
    made = world("54600", confidence=Confidence.STALE)
    assert only_order(made.step(made.assessment())).protective
    made = short(world("60000", confidence=Confidence.STALE, cash=D(1_000)), "0.3", "55000")
    said = journal(made.step(made.assessment()))
    assert said is not None
    assert (said.reason, said.actions) == ("input_stale", ())


def test_stale_inputs_allow_only_an_urgent_repayment_from_cash() -> None:
    """STALE at LTV .76: nothing is repaid; at .81 what lies ready is."""
    made = world("48000", confidence=Confidence.STALE)
    assert not [m for m in acts(made.step(made.assessment())) if isinstance(m, TreasuryAction)]
    made = world("45000", confidence=Confidence.STALE)
    (action,) = [m for m in acts(made.step(made.assessment())) if isinstance(m, TreasuryAction)]
    assert (action.kind_of, action.reason) == (TreasuryKind.REPAY, "urgent_repay")


def test_an_old_assessment_counts_as_stale() -> None:
    """A risk-engine that fell silent makes its last word stale after account_age_max_ms."""
    made = short(world("60000"), "0.3", "55000")
    made.step(made.assessment(mark_price=None))
    late = made.assessment()
    made.now_ms += 30_001
    for fact in made.facts():
        assert not acts(made.step(fact))
    said = journal(made.step(late))
    assert said is not None
    assert (said.reason, said.actions) == ("input_stale", ())


def test_old_facts_make_a_fresh_assessment_stale() -> None:
    """What the hedger itself last read counts too: facts older than account_age_max_ms are stale."""
    made = short(world("60000"), "0.3", "55000")
    made.now_ms += 30_001
    said = journal(made.step(made.assessment()))
    assert said is not None
    assert (said.reason, said.actions) == ("input_stale", ())


def test_hold_ends_when_the_assessment_grows_too_old() -> None:
    """The hedger asks to be stepped when its assessment becomes stale; after that, never."""
    made = world("60000")
    at = made.read_at_ms
    made.now_ms += 10
    assert made.step(made.assessment()).hold.until_ms == at + 30_001
    made.now_ms = at + 30_011
    assert made.step(Tick(now_ms=made.now_ms)).hold.until_ms is None


def test_nothing_is_known_before_the_first_message_of_an_account() -> None:
    """A row or a tick for nobody changes nothing; an account without assessment says so."""
    rows = TableRows()
    at = Now(1, "hedger::1", "00")
    done = step(HedgeMemory(), rows, Restored(now_ms=1), at)
    assert done == Step(HedgeMemory())
    done = step(HedgeMemory(), rows, policy(), at)
    said = journal(done)
    assert said is not None
    assert said.reason == "no_assessment"


# ------------------------------------------------------------ funding and the ladder


def ladder_world(price: str, **changes: Any) -> World:
    """A world whose policy is the seed's ladder, funding known."""
    made = world(price, **changes)
    made.tables.policy_row = policy(strategy=Strategy.LADDER, caution_size=D("0.1"))
    made.tables.funding_row = replace(funding_context(), ts_seen_ms=made.now_ms)
    return made


def test_the_ladders_caution_size_is_discretionary_and_scaled_by_funding() -> None:
    """CAUTION: m × caution size, and the order is not protective."""
    made = ladder_world("55000")
    assert made.tables.funding_row is not None
    made.tables.funding_row = replace(made.tables.funding_row, multiplier_short=D("0.6"))
    order = only_order(made.step(made.assessment()))
    assert (order.qty, order.protective) == (D("0.06"), False)


def test_the_multiplier_never_touches_the_protective_part() -> None:
    """DANGER shorts half of the collateral whatever funding costs."""
    made = ladder_world("45500", cash=D(9_000))
    assert made.tables.funding_row is not None
    made.tables.funding_row = replace(made.tables.funding_row, multiplier_short=D(0))
    done = made.step(made.assessment(state=RiskState.DANGER))
    order = next(m for m in acts(done) if isinstance(m, PlaceOrder))
    assert (order.qty, order.protective) == (D("0.5"), True)


@pytest.mark.parametrize("cause", ["no funding", "old funding", "halted", "stale"])
def test_discretionary_size_is_frozen_while_something_is_missing(cause: str) -> None:
    """Without funding, safety's leave or fresh inputs it neither grows nor shrinks."""
    for qty in ("0", "0.05"):
        made = ladder_world("55000")
        if qty != "0":
            short(made, qty, "55000")
        assessment = made.assessment()
        assert made.tables.funding_row is not None
        if cause == "no funding":
            made.tables.funding_row = None
        elif cause == "old funding":
            made.tables.funding_row = replace(
                made.tables.funding_row, ts_seen_ms=made.now_ms - 300_001
            )
        elif cause == "halted":
            made.tables.safety_row = safety(SafetyMode.HALTED)
        else:
            assessment = replace(assessment, confidence=Confidence.STALE)
        done = made.step(assessment)
        assert not [m for m in acts(done) if not isinstance(m, CancelOrders)]


# ------------------------------------------------------------ safety


def test_halting_cancels_once_and_allows_protection_only() -> None:
    """HALTED: one cancel per transition; protective raises go on; nothing is lowered."""
    made = world("54600")
    made.tables.safety_row = safety(SafetyMode.HALTED)
    cancel, order = acts(made.step(made.assessment()))
    assert isinstance(cancel, CancelOrders)
    assert (cancel.instrument, cancel.reason) == (None, "safety_cancel")
    assert isinstance(order, PlaceOrder)
    assert order.protective
    assert not acts(made.step(made.tables.safety_row))
    made = short(world("60000", cash=D(1_000)), "0.3", "55000")
    made.step(made.assessment(mark_price=None))
    made.tables.safety_row = safety(SafetyMode.HALTED)
    made.step(made.tables.safety_row)
    made.now_ms += 250
    done = made.step(made.assessment())
    assert not acts(done)
    said = journal(done)
    assert said is not None
    assert said.reason == "halted"


def test_halted_repays_but_does_not_borrow() -> None:
    """Repaying protects, borrowing does not."""
    made = world("48000")
    made.tables.safety_row = safety(SafetyMode.HALTED)
    kinds = [m.kind_of for m in acts(made.step(made.assessment())) if isinstance(m, TreasuryAction)]
    assert kinds == [TreasuryKind.REPAY]
    for mode, expected in ((SafetyMode.ACTIVE, 1), (SafetyMode.HALTED, 0)):
        made = world("60000", cash=D(3_000), debt=D(30_000))
        made.tables.safety_row = safety(mode)
        done = made.step(made.assessment())
        assert sum(isinstance(m, TreasuryAction) for m in acts(done)) == expected


def test_reducing_lets_protection_go_on_and_discretionary_size_only_shrink() -> None:
    """REDUCING: no cancel, hedge and refill as ever; the ladder's own size is lowered, never raised."""
    made = world("54600")
    made.tables.safety_row = safety(SafetyMode.REDUCING)
    assert only_order(made.step(made.assessment())).protective
    made = world("60000", cash=D(3_000), debt=D(30_000))
    made.tables.safety_row = safety(SafetyMode.REDUCING)
    (action,) = acts(made.step(made.assessment()))
    assert action.kind_of is TreasuryKind.BORROW
    made = ladder_world("55000")
    made.tables.safety_row = safety(SafetyMode.REDUCING)
    assert not acts(made.step(made.assessment()))
    made = short(ladder_world("55000"), "0.1", "55000")
    assert made.tables.funding_row is not None
    made.tables.funding_row = replace(made.tables.funding_row, multiplier_short=D(0))
    made.tables.safety_row = safety(SafetyMode.REDUCING)
    order = only_order(made.step(made.assessment()))
    assert (order.side, order.qty, order.reduce_only) == (Side.BUY, D("0.1"), True)


def test_a_pinned_hedge_is_left_alone_but_for_the_hard_cliffs() -> None:
    """Neither raised nor lowered until its time; margin and an urgent LTV are obeyed, and time ends it."""
    def pinned(made: World) -> World:
        word = safety(SafetyMode.ACTIVE)
        until = made.now_ms + 60_000
        made.tables.safety_row = replace(word, hedge_pinned_until_ms=until)
        return made

    made = pinned(world("54600"))
    assert not acts(made.step(made.assessment()))
    assert made.memory.reason is not None
    assert made.memory.reason.value == "pinned"
    made.now_ms += 60_000
    done = [m for fact in made.facts() for m in acts(made.step(fact))]
    assert [m.side for m in done] == [Side.SELL]
    made = pinned(short(world("60000", cash=D(500), coins=D(0)), "0.9", "60000"))
    lowered = next(m for m in acts(made.step(made.assessment())) if isinstance(m, PlaceOrder))
    assert (lowered.side, lowered.reason) == (Side.BUY, "margin_lowered")
    made = pinned(world("45500", cash=D(9_000)))
    assert any(isinstance(m, PlaceOrder) for m in acts(made.step(made.assessment())))


def test_a_kill_cancels_and_then_does_nothing_at_all() -> None:
    """KILLED without flatten: no order, no money, not even a protective one."""
    made = short(world("46000"), "0.2", "50000")
    made.tables.safety_row = safety(SafetyMode.KILLED)
    (cancel,) = acts(made.step(made.tables.safety_row))
    assert isinstance(cancel, CancelOrders)
    made.now_ms += 250
    done = made.step(made.assessment())
    assert not acts(done)
    assert made.memory.reason is not None
    assert made.memory.reason.value == "killed"
    made.tables.safety_row = safety(SafetyMode.ACTIVE)
    assert acts(made.step(made.tables.safety_row))


@pytest.mark.parametrize(("held", "side"), [("0.25", Side.BUY), ("-0.25", Side.SELL)])
def test_a_kill_with_flatten_closes_the_hedge_in_lots_until_flat(held: str, side: Side) -> None:
    """Reduce-only, at most one market order at a time of the venue's size, long or short."""
    made = short(world("46000"), held, "50000")
    made.tables.instruments[PERP] = instrument(qty_max=D("0.2"), qty_market_max=D("0.15"))
    made.step(made.assessment(confidence=Confidence.ABSENT))
    made.tables.safety_row = safety(SafetyMode.KILLED, flatten=True)
    cancel, order = acts(made.step(made.tables.safety_row))
    assert isinstance(cancel, CancelOrders)
    assert (order.side, order.qty, order.reduce_only) == (side, D("0.15"), True)
    assert order.reason == "operator_flatten"
    made.deliver(*made.obey(made.step(made.tables.safety_row).outputs[0]))
    made.now_ms += 6_000
    made.deliver(made.fill(order), *made.facts())
    assert made.position == 0


@pytest.mark.parametrize("missing", ["policy", "price", "position", "instrument"])
def test_a_flatten_that_cannot_be_bounded_is_not_sent(missing: str) -> None:
    """Without policy, price, instrument or position there is nothing to close with sense."""
    made = world("46000") if missing == "position" else short(world("46000"), "0.25", "50000")
    if missing != "price":
        made.step(made.assessment(confidence=Confidence.ABSENT))
    if missing == "policy":
        made.tables.policy_row = None
    if missing == "instrument":
        made.tables.instruments = {}
    made.tables.safety_row = safety(SafetyMode.KILLED, flatten=True)
    assert [type(m) for m in acts(made.step(made.tables.safety_row))] == [CancelOrders]


def test_a_refused_flatten_backs_off() -> None:
    """A close that the venue refuses is tried again only after its pause."""
    made = short(world("46000"), "0.25", "50000")
    made.step(made.assessment(confidence=Confidence.ABSENT))
    made.tables.safety_row = safety(SafetyMode.KILLED, flatten=True)
    _, order = acts(made.step(made.tables.safety_row))
    done = made.step(confirmation(order, at_ms=made.now_ms, status=OrderStatus.REJECTED))
    assert not acts(done)
    made.now_ms += 5_001
    assert acts(made.step(Tick(now_ms=made.now_ms)))


# ------------------------------------------------------------ settling, treasury, journal


def test_money_waits_until_fills_have_settled_but_hedges_do_not() -> None:
    """After a fill no loan action is decided until all four facts were asked for later."""
    made = world("54600")
    order = only_order(made.step(made.assessment()))
    made.step(made.fill(order))
    made.now_ms, made.price = made.now_ms + 1, D(48_000)
    done = made.step(made.assessment())
    assert [type(m) for m in acts(done)] == [PlaceOrder]
    second = only_order(done)
    done = made.step(made.fill(second))
    said = journal(done)
    assert said is not None
    assert said.reason == "settling"
    facts = made.facts()
    for fact in facts[:-1]:
        assert not acts(made.step(fact))
    (action,) = acts(made.step(facts[-1]))
    assert isinstance(action, TreasuryAction)


def test_balances_meanwhile_are_the_settled_ones_plus_what_is_known() -> None:
    """Between fill and reads U = settled + Σ signed qty × (mark − price) − fees, re-marked."""
    made = world("54600")
    order = only_order(made.step(made.assessment()))
    made.step(made.fill(order))
    made.now_ms, made.price = made.now_ms + 1, D(53_000)
    made.step(made.assessment())
    said = journal(made.step(made.tables.policy_row))  # type: ignore[arg-type]
    assert said is not None
    assert said.equity == made.equity


def test_one_treasury_action_at_a_time() -> None:
    """Until it is terminal no other is decided, whatever time passes."""
    made = world("48000")
    action = next(m for m in acts(made.step(made.assessment())) if isinstance(m, TreasuryAction))
    made.now_ms, made.price = made.now_ms + 60_000, D(44_000)
    for fact in made.facts():
        assert not acts(made.step(fact))
    done = made.step(made.assessment())
    assert not [m for m in acts(done) if isinstance(m, TreasuryAction)]
    half = TreasuryConfirmation(
        account=ACCOUNT, intent_id=action.intent_id, kind_of=action.kind_of, coin="USDT",
        amount=action.amount, stage=TreasuryStage.TRANSFERRED,
        moved_amount=action.transfer_amount, loan_amount=D(0), is_terminal=False,
        is_unknown=False, text="", revision=1, ts_confirmed_ms=made.now_ms,
    )
    made.step(half)
    made.now_ms += 1
    done = made.step(made.assessment())
    assert not [m for m in acts(done) if isinstance(m, TreasuryAction)]


def test_a_failed_repayment_leaves_its_money_in_fund_and_is_finished_from_there() -> None:
    """Transferred, then refused: the next repayment takes F and moves only what is missing."""
    made = world("48000")
    action = next(m for m in acts(made.step(made.assessment())) if isinstance(m, TreasuryAction))
    made.cash -= action.transfer_amount
    made.fund += action.transfer_amount
    failed = TreasuryConfirmation(
        account=ACCOUNT, intent_id=action.intent_id, kind_of=action.kind_of, coin="USDT",
        amount=action.amount, stage=TreasuryStage.FAILED, moved_amount=action.transfer_amount,
        loan_amount=D(0), is_terminal=True, is_unknown=False, text="busy", revision=1,
        ts_confirmed_ms=made.now_ms,
    )
    made.step(failed)
    for order in list(made.memory.orders):
        made.step(confirmation(
            PlaceOrder(account=ACCOUNT, intent_id=order.intent_id, instrument=PERP,
                       side=order.side, qty=order.qty, reduce_only=False, protective=True,
                       reason="", mark_price=D(1), slippage_max=D(1), decided_ts_ms=0,
                       expires_ts_ms=0),
            at_ms=made.now_ms, status=OrderStatus.CANCELLED))
    for fact in made.facts():
        assert not [m for m in acts(made.step(fact)) if isinstance(m, TreasuryAction)]
    made.now_ms += 5_001
    for fact in made.facts():
        made.step(fact)
    again = made.memory.treasury
    assert again is not None
    assert (again.kind_of, again.transfer_amount) == (TreasuryKind.REPAY, D(0))


def test_the_journal_speaks_when_something_is_done_or_the_reason_changes() -> None:
    """The same quiet reason twice is published once."""
    made = world("60000")
    assert journal(made.step(made.assessment())) is not None
    made.now_ms += 250
    assert journal(made.step(made.assessment())) is None


def test_the_memory_survives_the_wire() -> None:
    """Encode → decode of HedgeMemory in the middle of everything gives the same memory."""
    made = world("48000")
    made.step(made.assessment())
    wire = msgspec.json.encode(made.memory)
    assert msgspec.json.decode(wire, type=HedgeMemory) == made.memory
    assert json.loads(wire)["orders"]


def test_a_position_that_someone_else_changed_unsettles_the_account() -> None:
    """ADL or a person: no money is moved until everything was read after it was seen."""
    made = short(world("60000"), "0.2", "55000")
    made.position, made.price = -D("0.1"), D(48_000)
    made.seq += 1
    wallet, positions, fund, loan = made.facts()
    for fact in (wallet, positions, fund, loan):
        made.step(fact)
    done = made.step(made.assessment())
    assert not [m for m in acts(done) if isinstance(m, TreasuryAction)]
    sent = [m for fact in made.facts() for m in acts(made.step(fact))]
    assert all(not isinstance(m, TreasuryAction) for m in sent)
    orders = {w.intent_id for w in made.memory.orders}
    assert orders, "the lost part is hedged again at once"


def test_a_policy_of_zero_band_or_crossed_levels_is_refused() -> None:
    """A policy under which the formulas lose their meaning decides nothing."""
    for changes in (
        {"no_trade_band": D(0)}, {"harvest_to": D("0.9")}, {"cost_rate": D("0.5")},
        {"stress_rise": D(-1)}, {"ltv_max": D(0)}, {"urgent_to": D("0.5")},
    ):
        made = world("46000")
        made.tables.policy_row = policy(**changes)
        said = journal(made.step(made.assessment()))
        assert said is not None
        assert said.reason == "policy_invalid"


def test_funding_in_other_linear_positions_counts_in_u() -> None:
    """Unrealised profit of another linear contract is part of the pocket's USDT equity."""
    made = World(price=D(60_000))
    wallet, positions, fund, loan = made.facts()
    from strategies import position

    other = replace(position("1", instrument="linear:ETHUSDT"), upl=D(-500))
    for fact in (wallet, replace(positions, positions=(other,)), fund, loan):  # type: ignore[type-var]
        made.step(fact)
    said = journal(made.step(made.assessment()))
    assert said is not None
    assert said.equity == D(5_500)


_ = (Decimal, HedgePolicy, Policy, Message, fill_of, terms)


# ------------------------------------------------------------ lost messages


def test_a_lost_message_opens_nothing_until_everything_was_read_anew() -> None:
    """After quarantine the hedger waits for all four reads asked for later, then acts."""
    made = world("54600")
    made.step(
        Quarantined(
            topic="account_raw", partition=0, offset=1, key=ACCOUNT, service="hedger",
            reason="junk", moves_money=True, value="{", ts_seen_ms=made.now_ms,
        )
    )
    refused = made.step(made.assessment())
    assert acts(refused) == []
    assert made.memory.reason is HedgeReason.UNRECONCILED
    made.now_ms += 1_000
    for fact in made.facts():
        done = made.step(fact)
    assert [type(a) for a in acts(done)] == [PlaceOrder]


def test_a_restored_log_opens_nothing_until_everything_was_read_anew() -> None:
    """A copy knows nothing of the time since: its readings look fresh, and the hedge may be there."""
    made = world("54600")
    made.log_id = "another"
    refused = made.step(made.assessment())
    assert acts(refused) == []
    assert made.memory.reason is HedgeReason.UNRECONCILED
    made.now_ms += 1_000
    for fact in made.facts():
        done = made.step(fact)
    assert [type(a) for a in acts(done)] == [PlaceOrder]


# ---------------------------------------------------------------- the other strategies, folded


def following(strategy: Strategy) -> World:
    """A world whose hedger goes by another strategy."""
    made = World(price=D(60_000))
    made.tables.policy_row = policy(strategy=strategy)
    made.tables.funding_row = funding_context()
    made.deliver(*made.facts())
    return made


def test_vol_harvest_folds_its_volatility_and_its_leg() -> None:
    """It opens its share, takes its profit after k·σ, and rests; other strategies remember nothing."""
    world = following(Strategy.VOL_HARVEST)
    world.tick(D(60_000))
    world.tick(D(60_010))
    assert world.memory.volatility is not None
    assert -world.position == D("0.66")
    assert world.memory.leg.state is LegState.OPEN
    world.tick(D(55_000))
    assert world.memory.leg.state is LegState.PROFIT_TARGET
    plain = following(Strategy.LTV_TARGET)
    plain.tick(D(60_000))
    assert plain.memory.volatility is None
    assert plain.memory.leg == ShortLeg()


def test_min_cost_carries_the_account_down_and_back() -> None:
    """A slow fall to 45,000 and back: never near the margin call, and the short is given back."""
    world = following(Strategy.MIN_COST)
    for price in [*range(60_000, 45_000, -250), *range(45_000, 66_000, 250)]:
        world.tick(D(price))
    assert world.ltv_max < D("0.82")
    assert world.collateral == 1
    assert -world.position < D("0.1")
    repeated = len(world.orders)
    for _ in range(5):
        world.tick(D(65_750))
    assert len(world.orders) == repeated
