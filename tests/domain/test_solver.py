"""The account solver: safe, cheapest, no more than needed, and quiet when asked again."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from solver_world import (
    CELLS,
    INVERSE,
    LIMITS,
    LINEAR,
    D,
    amounts,
    case,
    cases,
    holdings,
    in_floats,
    terms,
)

from hedgelock.domain.actions import (
    EXECUTABLE,
    UNDO,
    ActionKind,
    levers,
    moved,
    sized,
)
from hedgelock.domain.demands import DemandKind, net_ltv, rows
from hedgelock.domain.solver import Move, PlanReason, solve
from hedgelock.domain.solver_problem import Case, Problem, added, problem, span
from hedgelock.domain.solver_protect import _lowest, least_unsafe, protect
from hedgelock.domain.solver_relief import replace
from hedgelock.domain.solver_table import Verdict, alternatives
from hedgelock.domain.stress import SHOCKS, AccountFigures, CoinFigures, PerpFigures, sums
from hedgelock.domain.what_if import outlook, size_up, what_if

K = ActionKind
GRID = 24


def over(now: Problem[Decimal]) -> Decimal:
    """The largest need beyond its limit, USDT."""
    return max(need - row.slack for need, row in zip(now.needs, now.rows, strict=True))


def grid(now: Problem[Decimal]):
    """Every single action in sizes from the least to the most, as can be traded."""
    for lever in now.levers:
        for i in range(GRID + 1):
            size = lever.least + (lever.most - lever.least) * i / GRID
            size = now.case.rounding.down(size, lever.step)
            if lever.least <= size <= lever.most and size > 0:
                yield lever, size


def mends(now: Problem[Decimal], chosen) -> bool:
    """Every demand ends where it may."""
    held = now.case.held
    for lever, size in chosen:
        held = moved(held, lever, size)
    return all(
        row.need(held) <= allowed + now.tolerance
        for row, allowed in zip(now.rows, now.allowed, strict=True)
    )


# ---------------------------------------------------------------- what any decision keeps


SOME = settings(max_examples=60)
"""The soak at the end of this file asks for many more."""


@SOME
@given(cases())
def test_asked_again_it_waits(asked: Case[Decimal]) -> None:
    """The moves end, and nothing is left to do after them."""
    plan = solve(asked)
    assert plan.is_settled
    again = solve(asked._replace(held=plan.after))
    assert again.rounds == ()
    assert again.reason is not PlanReason.ACTED


@SOME
@given(cases())
def test_it_is_safe_afterwards_or_says_that_it_is_not(asked: Case[Decimal]) -> None:
    """No limit is broken after a decision, unless it says UNSAFE; the account never got worse."""
    before, plan = problem(asked), solve(asked)
    after = problem(asked._replace(held=plan.after))
    assert after.is_broken is (plan.reason is PlanReason.UNSAFE)
    if before.is_broken:
        assert over(after) <= over(before)
    else:
        assert not after.is_broken
        assert Move.PROTECT not in [made.move for made in plan.rounds]


@SOME
@given(cases())
def test_nothing_that_can_be_traded_is_below_nought(asked: Case[Decimal]) -> None:
    """Sizes lie between the least and the most of their action; holdings stay real."""
    held = asked.held
    plan = solve(asked)
    for action in plan.actions:
        (lever,) = levers(held, asked.terms, asked.limits, frozenset({action.kind}))
        assert action.kind in asked.available
        assert lever.least <= action.size
        assert action.size % lever.step == 0
        held = moved(held, lever, action.size)
    tolerance = D("0.01")
    assert min(held.debt, held.fund, held.coins, held.collateral) >= -tolerance
    assert min(held.short, held.inverse) >= 0


@SOME
@given(cases())
def test_no_single_action_is_cheaper(asked: Case[Decimal]) -> None:
    """Of all single actions that mend what is broken, none costs less than what is chosen.

    Of each action the smallest size that does: more than is needed is no protection, even where
    funding would pay for it.
    """
    now = problem(asked)
    chosen = protect(now) if now.is_broken else None
    cost = None if chosen is None else added([lever.price * size for lever, size in chosen])
    if chosen is not None:
        assert mends(now, chosen)
    done = set()
    for lever, size in grid(now) if now.is_broken else ():
        if lever.kind not in done and mends(now, [(lever, size)]):
            done.add(lever.kind)
            assert cost is not None
            # One step of the grid more than the smallest size may bring that much more.
            finer = max(D(0), -lever.price) * ((lever.most - lever.least) / GRID + lever.step)
            assert cost <= lever.price * size + finer + now.tolerance


@SOME
@given(cases())
def test_no_single_action_helps_more_where_nothing_suffices(asked: Case[Decimal]) -> None:
    """The least unsafe: no single action lowers the worst need further, but for one step's worth."""
    now = problem(asked)
    if not now.is_broken or protect(now) is not None:
        return
    chosen = least_unsafe(now) or []
    held = asked.held
    for lever, size in chosen:
        held = moved(held, lever, size)
    best = max(row.need(held) - row.slack for row in now.rows)
    for lever, size in grid(now):
        other = moved(asked.held, lever, size)
        reached = max(row.need(other) - row.slack for row in now.rows)
        assert best <= reached + now.tolerance * 100_001


@SOME
@given(cases())
def test_no_more_is_done_than_is_needed(asked: Case[Decimal]) -> None:
    """One step less of the last action of a protection, and a demand is missed (or it is the least)."""
    now = problem(asked)
    chosen = protect(now) if now.is_broken else None
    if chosen is None:
        return
    *others, (lever, size) = chosen
    if size - lever.step >= lever.least:
        held = asked.held
        for other, amount in [*others, (lever, size - lever.step)]:
            held = moved(held, other, amount)
        assert not all(
            row.need(held) <= allowed
            for row, allowed in zip(now.rows, now.allowed, strict=True)
        )


@SOME
@given(cases())
def test_floats_decide_as_decimals_do(asked: Case[Decimal]) -> None:
    """The same formulas in floats: the same first move; where two cost the same, one as cheap."""
    exact, quick = solve(asked), solve(in_floats(asked))
    if exact.reason is not quick.reason:
        return  # on the edge of a limit the last digit decides
    for ours, theirs in zip(exact.rounds[:1], quick.rounds[:1], strict=True):
        assert ours.move is theirs.move
        if ours.move is not Move.LEAST_UNSAFE:
            value = float(asked.terms.index_price * (asked.held.collateral + 1))
            assert abs(float(ours.cost) - theirs.cost) <= value * 1e-3


# ---------------------------------------------------------------- demands


@given(
    amounts("20000", "90000", 1), amounts("0", "60000", 2), amounts("-3000", "20000", 2),
    amounts("0", "0.3"), amounts("0.2", "1.2"), amounts("0", "1.2"), amounts("0", "30000", 0),
)
def test_the_rows_are_the_stress_cells(price, debt, equity, coins, collateral, short, inverse) -> None:
    """Each cell's rows say exactly what `stress` says: net need ≤ L·V′ and needed ≤ ρ·balance."""
    held = holdings(debt=debt, fund="500", equity=equity, coins=coins, collateral=collateral,
                    short=short, inverse=inverse)
    offer = terms(price)
    limits = LIMITS._replace(aim=D(0), cells_fall=D(1), cells_rise=D(1))
    usdt = CoinFigures(D(1), True, False, held.debt, D(0), D(0), D(0), held.equity,
                       max(D(0), held.equity), max(D(0), held.equity))
    btc = CoinFigures(
        price, False, False, D(0), held.collateral, held.collateral,
        held.collateral * offer.loan_ratio_next, held.coins,
        held.coins * offer.margin_ratio, held.coins * offer.margin_ratio_next,
    )
    perps = (
        PerpFigures(False, False, -held.short, price, price, 0, LINEAR.taker_fee,
                    LINEAR.funding_day_rate, LINEAR.tiers),
        PerpFigures(True, False, -held.inverse, price, price, 1, INVERSE.taker_fee,
                    INVERSE.funding_day_rate, INVERSE.tiers),
    )
    found = rows(held, offer, limits, CELLS)
    for cell, shock in SHOCKS:
        if cell.value == "rate_spike" and equity < 0:
            continue  # what grows of USDT already owed is left to the next decision
        reserve = limits.reserve if shock.move < 0 else D(0)
        figures = AccountFigures((usdt, btc), perps, held.fund, reserve, LINEAR.cost,
                                 offer.borrow_margin_rate)
        truth = sums(figures, shock)
        scale = (price + debt + 1) * D("1e-24")
        loan = [r for r in found if r.cell is cell and r.kind is DemandKind.LOAN]
        if debt:
            expected = (truth.net_need - limits.ltv_max * truth.counted) / shock.quote
            assert abs(loan[0].need(held) - expected) < scale
        margin = max(r.need(held) for r in found if r.cell is cell and r.kind is DemandKind.MARGIN)
        expected = (truth.needed - limits.margin_max * truth.balance) / shock.quote
        assert abs(margin - expected) < scale


def test_tiers_are_rows_of_their_own() -> None:
    """A large short is held to the tier that it lies in, deductions included."""
    held = holdings(collateral="60", debt="1000", short="40", equity="900000")
    found = rows(held, terms("60000"), LIMITS, CELLS)
    at = [r for r in found if r.kind is DemandKind.MARGIN and r.cell and r.cell.value == "up_10"]
    value = D(40) * 66_000
    needed = value * (D("0.0056") + D("0.00055")) - 1_200
    balance = D(900_000) - 40 * 6_000 + D("0.1") * D("0.95") * 66_000
    assert max(r.need(held) for r in at) == needed - D("0.98") * balance


def test_cells_beyond_policy_are_not_demanded() -> None:
    """Falls and rallies larger than policy's are for the eye."""
    found = {r.cell.value for r in rows(holdings(), terms(), LIMITS, CELLS) if r.cell}
    assert "down_25" in found
    assert not {"down_40", "up_40"} & found


# ---------------------------------------------------------------- decisions


def kinds(plan) -> list[tuple[str, str]]:
    """(move, action) in order."""
    return [(made.move.value, a.kind.value) for made in plan.rounds for a in made.actions]


def test_a_healthy_account_is_left_alone() -> None:
    """At 61 % LTV with a full pocket there is nothing to do."""
    plan = solve(case("60000"))
    assert plan.reason is PlanReason.WITHIN_POLICY
    assert plan.actions == ()


def test_with_what_the_executor_can_do_it_hedges_as_b_star_does() -> None:
    """At 50,000 the short alone: net LTV after −25 % ends at the aim, .833."""
    plan = solve(case("50000", available=EXECUTABLE))
    assert kinds(plan) == [("protect", "short_linear")]
    net = net_ltv(plan.after, terms("50000"), LIMITS, fall=D("0.25"))
    assert net is not None
    assert D("0.85") * D("0.98") - D("0.002") < net <= D("0.85") * D("0.98")


def test_the_loan_is_paid_from_the_pocket_before_coins_are_sold() -> None:
    """At 47,000 it repays to .70 and hedges the rest; nothing is sold."""
    plan = solve(case("47000", available=EXECUTABLE))
    assert kinds(plan) == [("protect", "repay_pocket"), ("protect", "short_linear")]
    assert plan.actions[0].size == D("3700")


def test_money_in_fund_is_paid_first() -> None:
    """What lies in FUND costs the pocket nothing."""
    plan = solve(case("47000", available=EXECUTABLE, fund="5000", equity="12000"))
    assert K.REPAY_FUND in [action.kind for action in plan.actions]
    assert K.REPAY_POCKET not in [action.kind for action in plan.actions]


def test_a_short_that_pays_a_fortune_is_replaced() -> None:
    """At 240 % APR paid by shorts, selling some collateral is cheaper, with the premium on sales."""
    dear = terms("50000", linear={"funding": D("0.04")})
    plan = solve(case(offer=dear, short="0.5", available=EXECUTABLE))
    made = plan.rounds[0]
    assert made.move is Move.REPLACE
    assert [a.kind for a in made.actions] == [K.REPAY_WITH_COLLATERAL, K.REDUCE_LINEAR]
    assert made.cost <= -LIMITS.saving_min


def test_a_short_that_pays_little_is_kept() -> None:
    """Changing over costs a round trip: a little funding is no reason."""
    plan = solve(case(offer=terms("50000", linear={"funding": D("0.002")}), short="0.45",
                      available=EXECUTABLE))
    assert plan.actions == ()


def test_the_cheaper_contract_stands_in_for_a_dear_one() -> None:
    """Where linear pays and inverse receives, the one is changed for the other."""
    dear = terms("50000", linear={"funding": D("0.03")}, inverse={"funding": D("-0.001")})
    plan = solve(case(
        offer=dear, short="0.45", coins="0.5",
        available=frozenset({K.REDUCE_LINEAR, K.SHORT_INVERSE, K.REDUCE_INVERSE, K.SHORT_LINEAR}),
    ))
    assert [a.kind for a in plan.rounds[0].actions] == [K.SHORT_INVERSE, K.REDUCE_LINEAR]


def test_a_substitute_without_room_stands_in_for_nothing() -> None:
    """What owes coins as soon as the price rises cannot take over a short at the edge of margin."""
    dear = terms("50000", linear={"funding": D("0.03")}, inverse={"funding": D("-0.001")})
    asked = case(offer=dear, short="0.45", coins="0", equity="5850", debt="36000",
                 available=frozenset({K.REDUCE_LINEAR, K.SHORT_INVERSE}))
    now = problem(asked)
    assert not now.is_broken
    assert replace(now) is None


def test_what_is_not_needed_is_given_back() -> None:
    """A short beyond the aim by a band or more is released, one inside the band is not."""
    assert kinds(solve(case("60000", short="0.4"))) == [("release", "reduce_linear")]
    assert solve(case("60000", short="0.04")).actions == ()
    assert kinds(solve(case("60000", inverse="9000"))) == [("release", "reduce_inverse")]


def test_the_pocket_is_refilled_from_fund_and_then_by_borrowing() -> None:
    """Below .65 the pocket is filled to R: FUND first."""
    assert kinds(solve(case("80000", equity="2000", fund="5000"))) == [("refill", "transfer_in")]
    plan = solve(case("80000", equity="2000"))
    assert kinds(plan) == [("refill", "borrow")]
    assert plan.after.equity == 6000


def test_what_rounding_leaves_is_no_need() -> None:
    """A demand missed by less than the tolerance stands in no action's way; by more, it does."""
    now = problem(case("60000"))
    which = [lever.kind for lever in now.levers].index(K.TRANSFER_OUT)
    row = next(at for at, effect in enumerate(now.effects[which]) if not effect)
    for missed, is_free in ((now.tolerance / 2, True), (now.tolerance * 2, False)):
        needs = [*now.needs]
        needs[row] = now.allowed[row] + missed
        assert (span(now, needs, which, D(1)) is not None) is is_free


def test_a_loan_is_never_begun() -> None:
    """An account that owes nothing is given no loan, whatever its pocket lacks."""
    plan = solve(case("60000", debt="0", equity="100", short="0.3"))
    assert K.BORROW not in [action.kind for action in plan.actions]


def test_owed_usdt_is_covered() -> None:
    """A pocket below nought is filled: owed USDT dies on the next fall."""
    plan = solve(case("60000", equity="-500", available=frozenset({K.SELL_SPOT})))
    assert [a.kind for a in plan.rounds[0].actions] == [K.SELL_SPOT]
    assert plan.after.equity >= LIMITS.amount_min


def test_net_short_is_reduced() -> None:
    """More short than owned is brought back, whatever funding it receives."""
    plan = solve(case("40000", short="1.3", equity="40000", debt="10"))
    assert plan.actions[0].kind is K.REDUCE_LINEAR


def test_where_nothing_helps_it_says_so() -> None:
    """A ruined account without actions is UNSAFE and is not acted on."""
    plan = solve(case("30000", available=frozenset()))
    assert plan.reason is PlanReason.UNSAFE
    assert plan.actions == ()
    assert plan.worst.kind in (DemandKind.LOAN, DemandKind.GROSS)


def test_half_of_the_way_is_better_than_none() -> None:
    """Too little of the only action: as much as lowers the worst need."""
    plan = solve(case("35000", available=frozenset({K.SHORT_LINEAR})))
    assert plan.reason is PlanReason.UNSAFE
    assert [made.move for made in plan.rounds] == [Move.LEAST_UNSAFE] * len(plan.rounds)
    assert plan.rounds


def test_a_decision_is_never_endless() -> None:
    """Cut off after some moves it says so, and the next decision goes on from there."""
    plan = solve(case("60000", short="0.4"), rounds_max=1)
    assert not plan.is_settled
    assert solve(case("60000", short="0.4")._replace(held=plan.after)).is_settled


@example([(D(2), D(-1)), (D("1.5"), D(0)), (D(0), D(1))], D(9))
@given(st.lists(st.tuples(amounts("-9", "9"), amounts("-9", "9")), min_size=1, max_size=8),
       amounts("0", "9"))
def test_the_lowest_point_of_the_highest_line(lines, most) -> None:
    """No point of a fine grid lies lower than the one found."""
    needs, effects = [need for need, _ in lines], [effect for _, effect in lines]

    def top(size: Decimal) -> Decimal:
        return max(need + effect * size for need, effect in lines)

    found = _lowest(needs, effects, most)
    assert 0 <= found <= most
    assert all(top(found) <= top(most * i / 50) + D("1e-20") for i in range(51))


# ---------------------------------------------------------------- beside the others


def test_each_protection_is_priced_beside_the_others() -> None:
    """The table names size, cost and why not, for everything that protects."""
    asked = case("50000", available=EXECUTABLE | {K.SELL_SPOT})
    table = {row.kind: row for row in alternatives(asked, solve(asked))}
    assert table[K.SHORT_LINEAR].verdict is Verdict.CHOSEN
    assert table[K.REPAY_WITH_COLLATERAL].verdict is Verdict.DEARER
    dear, cheap = table[K.REPAY_WITH_COLLATERAL].cost, table[K.SHORT_LINEAR].cost
    assert dear is not None and cheap is not None and dear > cheap
    assert table[K.SHORT_INVERSE].verdict is Verdict.UNAVAILABLE
    assert table[K.REPAY_POCKET].verdict is Verdict.NO_HELP
    assert table[K.SELL_SPOT].verdict is Verdict.NOT_ENOUGH
    assert table[K.TRANSFER_IN].verdict is Verdict.NOT_ENOUGH


def test_the_table_of_a_pair_and_of_a_quiet_account() -> None:
    """A pair is shown as parts; what would break another demand names it; else nothing is needed."""
    asked = case("47000", available=EXECUTABLE)
    table = {row.kind: row for row in alternatives(asked, solve(asked))}
    assert table[K.SHORT_LINEAR].verdict is Verdict.PART
    calm = case("60000")
    verdicts = {row.verdict for row in alternatives(calm, solve(calm))}
    assert verdicts == {Verdict.NOT_NEEDED, Verdict.NOT_ENOUGH}
    tight = case("50000", equity="700", coins="0.02", available=EXECUTABLE)
    other = solve(tight._replace(available=frozenset({K.REPAY_WITH_COLLATERAL})))
    blocked = {row.kind: row for row in alternatives(tight, other)}[K.SHORT_LINEAR]
    assert blocked.verdict is Verdict.BREAKS
    assert blocked.row is not None and blocked.row.kind is DemandKind.MARGIN


def test_what_if_shows_before_after_cost_and_undo() -> None:
    """LTV, net LTV, accountMMRate, both liquidation prices; and how to take it back."""
    asked = case("50000", available=EXECUTABLE)
    plan = solve(asked)
    shown = what_if(asked, plan.actions, ltv_liquidation=D("0.95"))
    assert shown.before.ltv == shown.after.ltv == D(36_600) / D(50_000)
    assert shown.before.ltv_net_fall == D(36_600) / D(37_500)
    assert shown.after.ltv_net_fall is not None and shown.after.ltv_net_fall < D("0.8331")
    assert shown.before.margin_ratio_rise == 0
    assert shown.after.margin_ratio_rise is not None and shown.after.margin_ratio_rise > 0
    assert shown.before.loan_liquidation_price == D(36_600) / D("0.95")
    assert shown.before.pocket_liquidation_above is None
    assert shown.after.pocket_liquidation_above is not None
    assert shown.after.pocket_liquidation_above > 62_500
    assert shown.undo == ((K.REDUCE_LINEAR, plan.actions[0].size),)
    assert shown.is_reversible
    assert shown.now == shown.cost_of_undo == plan.actions[0].size * 50


def test_a_sale_says_that_nothing_takes_it_back() -> None:
    """Sold coins would have to be bought back by a person."""
    asked = case("50000")
    sale = size_up(asked, K.REPAY_WITH_COLLATERAL, D(10_000))
    shown = what_if(asked, [sale], ltv_liquidation=D("0.95"))
    assert not shown.is_reversible
    assert shown.undo == ()
    assert shown.after.ltv is not None and shown.after.ltv < D("0.68")
    waited = what_if(asked, [size_up(asked, K.WAIT, D(0))], ltv_liquidation=D("0.95"))
    assert waited.after == waited.before
    assert waited.now == waited.carry == 0


def test_the_outlook_of_odd_accounts() -> None:
    """No debt is LTV 0; debt without collateral is infinite; inverse shorts die below or above."""
    free = outlook(case(debt="0"), D("0.95"))
    assert (free.ltv, free.ltv_net_fall, free.loan_liquidation_price) == (0, 0, 0)
    bare = outlook(case(collateral="0"), D("0.95"))
    assert (bare.ltv, bare.ltv_net_fall, bare.loan_liquidation_price) == (None, None, None)
    short = outlook(case(inverse="40000", equity="0", coins="0.1"), D("0.95"))
    assert short.pocket_liquidation_above is not None


@given(cases(), st.sampled_from(sorted(UNDO, key=lambda kind: kind.value)), amounts("0", "1", 4))
@settings(suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
def test_undo_takes_an_action_back_but_for_its_costs(asked, kind, share) -> None:
    """After an action and what undoes it, the account is the old one less at most both costs."""
    found = levers(asked.held, asked.terms, asked.limits, frozenset({kind}))
    for lever in found:
        size = lever.least + (lever.most - lever.least) * share
        held = moved(asked.held, lever, size)
        back = levers(held, asked.terms, asked.limits, frozenset({UNDO[kind]}))
        for reverse in back:
            if reverse.most < size:
                continue
            after = moved(held, reverse, size)
            paid = sized(lever, size).now + sized(reverse, size).now
            for name, old, new in zip(after._fields, asked.held, after, strict=True):
                price = asked.terms.index_price if name == "coins" else 1
                if name in ("equity", "fund"):
                    continue
                assert abs(new - old) * price <= paid + D("0.01")
            money = after.equity + after.fund - asked.held.equity - asked.held.fund
            assert -paid - D("0.01") <= money <= D("0.01")


def price_of_short(offer) -> Decimal:
    """What the short alone would cost at 50,000."""
    asked = case(offer=offer)
    (cost,) = [r.cost for r in alternatives(asked, solve(asked)) if r.kind is K.SHORT_LINEAR]
    assert cost is not None
    return cost


@pytest.mark.parametrize("funding", [D("0.001"), D("0.005"), D("0.02")])
def test_dearer_funding_makes_the_short_dearer(funding: Decimal) -> None:
    """The price of the short rises with what it pays."""
    dear = terms("50000", linear={"funding": funding})
    assert price_of_short(dear) > price_of_short(terms("50000"))


@pytest.mark.soak
@settings(max_examples=2_000)
@given(cases())
def test_thousands_of_accounts_settle_safely(asked: Case[Decimal]) -> None:
    """Every decision ends, says whether it is safe, and is not taken back when asked again."""
    plan = solve(asked)
    again = solve(asked._replace(held=plan.after))
    assert plan.is_settled
    assert again.rounds == ()
    assert problem(asked._replace(held=plan.after)).is_broken is (
        plan.reason is PlanReason.UNSAFE
    )
