"""The detail behind an assessment: where levels lie, how likely they are, and that it never fails."""

from __future__ import annotations

from decimal import Decimal as D

import msgspec
import pytest
from hypothesis import assume, given, settings
from strategies import (
    ACCOUNT,
    INVERSE,
    T0,
    all_rows,
    amounts,
    coin,
    fund,
    loan,
    pockets,
    policy,
    position,
    positions,
    prices,
    rows,
    view,
    wallet,
)

from hedgelock.domain.account_figures import figures_of
from hedgelock.domain.policy import HedgePolicy
from hedgelock.domain.risk import Confidence, RiskState
from hedgelock.domain.risk_detail import HORIZONS_H, RiskDetail, RiskLevel
from hedgelock.domain.scene import look
from hedgelock.domain.stress import StressCell
from hedgelock.domain.volatility import Volatility
from hedgelock.forecast.risk_detail import Account, detail, lines_of

CALM = Volatility(T0 - 600_000, D(60_000), D(60_000), D("0.25"), D("0.25"))
WILD = Volatility(T0 - 600_000, D(60_000), D(60_000), D("2.25"), D("2.25"))
FREE = policy(hedge=HedgePolicy(cost_rate=D(0)))
"""Closing costs nothing: for the formula of the issue."""


def account(*facts, tables=None, volatility=CALM, confidence=Confidence.FRESH):
    """The demo account with these facts at T0."""
    tables, seen = tables or rows(), view(*facts)
    scene = look(seen, tables.policy(ACCOUNT), tables, T0)
    return Account(ACCOUNT, seen, scene, RiskState.NORMAL, confidence, volatility)


def told(*facts, **more):
    """Its detail."""
    return detail(account(*facts, **more), T0)


def levels(*facts, tables=None):
    """Where its levels lie."""
    made = account(*facts, tables=tables)
    return lines_of(made, figures_of(made.scene, made.view))


# ---------------------------------------------------------------- where the levels lie


@settings(max_examples=60)
@given(prices(), amounts("0.01", "0.9", 3), amounts("5000", "60000", 2), amounts("0", "9000", 2))
def test_the_barrier_under_policy_is_the_issues_formula(price, short, debt, cash):
    """Linear short, mark = index, no cost: P_b = (D − U − h·P0) ÷ (L·C − h); none if that is ≤ 0."""
    tables = all_rows(price).having(FREE)
    held = positions(position(-short, price))
    lines = levels(wallet(coin("USDT", cash), coin("BTC", "0")), held, loan(debt), tables=tables)
    for level, ltv in ((RiskLevel.DANGER, "0.80"), (RiskLevel.LIQUIDATION, "0.95")):
        found, slope = lines.under_policy[level], D(ltv) - short
        needed = debt - cash - short * price
        assume(slope)
        reached = needed / slope
        if slope * price <= needed:
            assert found == (1, 1)
        elif slope < 0:
            # More hedged than L·C: no fall reaches it, a rally does.
            assert found.below is None and abs(found.above * price - reached) < D("1e-15")
        elif needed <= 0:
            assert found == (None, None)
        else:
            assert abs(found.below * price - reached) < D("1e-15") and found.above is None


def test_frozen_lines_ignore_the_hedge():
    """The loan's own LTV: 36,600 over 1 BTC reaches .80 at 45,750 with a hedge or without."""
    for held in (positions(), positions(position("-0.4"))):
        found = levels(held).frozen[RiskLevel.DANGER].below * 60_000
        assert abs(found - D(36_600) / D("0.8")) < D("1e-20")


def test_nothing_is_harvested_below_the_harvest_line():
    """CAUTION at .65 lies below the harvest line .75: under policy it is where it is frozen."""
    lines = levels(positions(position("-0.4")))
    assert lines.under_policy[RiskLevel.CAUTION] == lines.frozen[RiskLevel.CAUTION]
    assert lines.under_policy[RiskLevel.DANGER] != lines.frozen[RiskLevel.DANGER]


def test_money_in_fund_moves_the_line_under_policy():
    """What lies in FUND can be repaid with; frozen it lies there."""
    poor, rich = levels(), levels(fund("5000"))
    level = RiskLevel.LIQUIDATION
    moved = (poor.under_policy[level].below - rich.under_policy[level].below) * 60_000
    assert abs(moved - D(5_000) / D("0.95")) < D("1e-20")
    assert poor.frozen == rich.frozen


def test_an_inverse_short_counts_under_policy():
    """Its gain in coins moves the line as a linear short's does."""
    tables = all_rows(D(60_000)).having(FREE)
    level = RiskLevel.LIQUIDATION
    inverse = levels(positions(position("-24000", instrument=INVERSE)), tables=tables)
    linear = levels(positions(position("-0.4")), tables=tables)
    assert abs(inverse.under_policy[level].below - linear.under_policy[level].below) < D("1e-20")


# ---------------------------------------------------------------- what is told


def test_the_demo_account_by_hand():
    """The numbers of the demo account, hedged .4: prices, distances, worst cell, score."""
    found = told(positions(position("-0.4")))
    assert found.worst is StressCell.DOWN_40
    assert found.loan.below == pytest.approx(D("38526.38"), abs=D("0.01"))
    assert found.loan.distance_below == pytest.approx(D("0.3579"), abs=D("0.0001"))
    assert found.loan.above is None and found.pocket.below is None
    # 30,000 − .305·P = .4·P·.00555 + .04·(.4·P − 30,000)
    assert found.pocket.above == pytest.approx(D(31_200) / D("0.32322"), abs=D("1e-5"))
    # ln(.6421) = .443; a day of 50 % a year is .02617.
    assert found.loan.sigmas_below == pytest.approx(D("16.9"), abs=D("0.1"))
    assert found.volatility == pytest.approx(D("0.5"), abs=D("0.01"))
    assert found.parts.ltv == pytest.approx(D(61) / D("0.95"), abs=D("1e-6"))
    assert found.score == max(found.parts.ltv, found.parts.stress)
    assert len(found.cells) == 14
    assert len(found.probabilities) == len(RiskLevel) * len(HORIZONS_H)


def test_probabilities_grow_with_time_volatility_and_nearness():
    """Longer, wilder and nearer is likelier; under policy no likelier than frozen with this hedge."""
    calm, wild = told(positions(position("-0.4"))), told(
        positions(position("-0.4")), volatility=WILD)
    order = [RiskLevel.LIQUIDATION, RiskLevel.CRITICAL, RiskLevel.MARGIN_CALL, RiskLevel.DANGER,
             RiskLevel.CAUTION]
    for hours in HORIZONS_H:
        ps = [calm.probability(level, hours).frozen for level in order]
        assert ps == sorted(ps)
        for level in RiskLevel:
            here, there = calm.probability(level, hours), wild.probability(level, hours)
            assert here.frozen <= there.frozen
            if level is not RiskLevel.LIQUIDATION:
                assert there.under_policy <= there.frozen
    danger = [wild.probability(RiskLevel.DANGER, h).frozen for h in HORIZONS_H]
    # ln(60,000 ÷ 45,750) is 1.30 standard deviations of that week: Gaussian .19.
    assert danger == sorted(danger) and D("0.15") < danger[-1] < D("0.22")
    assert told().probability(RiskLevel.DANGER, 7) is None


def test_a_level_reached_already_is_certain():
    """LTV .85 now: CAUTION, DANGER and the margin call are 1 at every horizon, CRITICAL is not."""
    found = told(loan("51000"))
    for level in (RiskLevel.CAUTION, RiskLevel.DANGER, RiskLevel.MARGIN_CALL):
        assert found.probability(level, 1).frozen == 1
    assert found.probability(RiskLevel.CRITICAL, 1).frozen < 1


def test_liquidation_counts_the_pocket():
    """A pocket about to die by a rally makes liquidation likely though the loan is safe."""
    thin = wallet(coin("USDT", "700"), coin("BTC", "0"))
    found = told(thin, positions(position("-0.4")), loan("10000"))
    assert found.probability(RiskLevel.CRITICAL, 24).frozen < D("0.001")
    liquidation = found.probability(RiskLevel.LIQUIDATION, 24)
    assert liquidation.frozen > D("0.2") and liquidation.under_policy > D("0.2")
    assert found.score > 80


def test_interest_brings_the_line_nearer():
    """At 100,000 % a year on the debt, a calm account's margin call within a week is near certain."""
    usury = loan("48000")
    usury = msgspec.structs.replace(usury, debts=(
        msgspec.structs.replace(usury.debts[0], hourly_rate=D("0.001")),))
    cheap = told(loan("48000")).probability(RiskLevel.MARGIN_CALL, 168).frozen
    assert told(usury).probability(RiskLevel.MARGIN_CALL, 168).frozen > cheap + D("0.3")


def test_without_debt_or_position_nothing_is_likely():
    """No debt, no position: every probability 0, no liquidation price, score 0."""
    found = told(loan("0"))
    assert {(p.frozen, p.under_policy) for p in found.probabilities} == {(0, 0)}
    assert (found.loan.below, found.loan.above) == (None, None)
    assert found.score == 0


def test_an_account_beyond_its_cliffs_scores_100():
    """Liquidated already: distances 0, probability 1, score 100."""
    found = told(loan("57000"))
    assert found.loan.distance_below == found.loan.distance_above == 0
    assert found.probability(RiskLevel.LIQUIDATION, 1).frozen == 1
    assert found.score == 100


@pytest.mark.parametrize(
    ("confidence", "part"), [(Confidence.FRESH, 0), (Confidence.STALE, 65), (Confidence.ABSENT, 90)]
)
def test_blindness_is_a_part(confidence, part):
    """Old inputs make the score at least 65, absent ones 90."""
    found = told(loan("0"), confidence=confidence)
    assert found.parts.blindness == part == found.score


def test_what_was_never_read_is_not_made_up():
    """Without prices, or before volatility is known: no figures, and a score that says look here."""
    lost = rows()
    lost.markets.clear()
    for found in (told(tables=lost, confidence=Confidence.ABSENT), told(volatility=None)):
        assert found.cells == () and found.probabilities == () and found.worst is None
        assert found.score == 100


@settings(max_examples=40)
@given(pockets(), prices(), amounts("1000", "6000", 2))
def test_any_likely_account_has_a_detail_that_travels(read, price, eth):
    """Whatever is held: a detail, probabilities in order, and the same after the wire."""
    found = told(*read, tables=all_rows(price, eth))
    assert msgspec.json.decode(msgspec.json.encode(found), type=RiskDetail) == found
    assert 0 <= found.score <= 100
    for level in RiskLevel:
        ps = [found.probability(level, hours) for hours in HORIZONS_H]
        assert all(0 <= p.frozen <= 1 and 0 <= p.under_policy <= 1 for p in ps)
