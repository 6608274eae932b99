"""Risk: states with hysteresis and dwell, confidence, figures, and when an assessment is published."""

from __future__ import annotations

from decimal import Decimal as D
from itertools import product

import msgspec
import pytest
from strategies import (
    ACCOUNT,
    INVERSE,
    LINEAR,
    T0,
    Rows,
    all_rows,
    coin,
    facts,
    fund,
    funding_context,
    linear,
    loan,
    now,
    policy,
    position,
    positions,
    rows,
    terms,
    tick,
    wallet,
)

from hedgelock.domain.funding import FundingRegime
from hedgelock.domain.instrument import CollateralTerms
from hedgelock.domain.message import Restored, Tick
from hedgelock.domain.policy import HedgePolicy, RiskPolicy
from hedgelock.domain.risk import (
    Confidence,
    RiskMemory,
    RiskReason,
    RiskState,
    initial,
    rungs_of,
    step,
)
from hedgelock.domain.step import Step

DWELL = 300_000
STATES = list(RiskState)


def debt_at(ltv):
    """The debt that gives this LTV on 1 BTC at 60,000."""
    return D(ltv) * 60_000


PATIENT = RiskPolicy(market_age_max_ms=10**7, account_age_max_ms=10**7, funding_age_max_ms=10**7)
"""Nothing goes stale: for what is about the dwell alone."""


def patient(at=0):
    """The demo account's rows at `at`, under the patient policy."""
    return rows(at_ms=at).having(policy(risk=PATIENT))


def fold(memory, tables, *messages, at=0) -> Step[RiskMemory]:
    """Fold messages at T0 + `at`; the last step."""
    result = Step(memory)
    for message in messages:
        result = step(result.state, tables, message, now(at))
    return result


def seen_at(ltv, at, memory=None, *, tables=None):
    """The account read whole and fresh at `at`, with this LTV."""
    memory = memory or initial(ACCOUNT)
    read = (wallet(at_ms=at), positions(at_ms=at), fund(at_ms=at), loan(debt_at(ltv), at_ms=at))
    return fold(memory, tables or rows(at_ms=at), *read, at=at)


def said(result):
    """The published assessment; None when nothing was."""
    assert len(result.outputs) <= 1
    if not result.outputs:
        return None
    output = result.outputs[0]
    assert (output.topic, output.key) == ("risk_state", output.message.account)
    return output.message


def judged(result):
    """State, confidence and reason as last published."""
    last = result.state.published
    return last.state, last.confidence, last.reason


# ---------------------------------------------------------------- the state table

ENTRY = ("0.30", "0.65", "0.80", "0.90")
BANDS = {
    # LTV: (state entered, highest state not left)
    "0.30": (0, 0), "0.6299": (0, 0), "0.63": (0, 1), "0.6499": (0, 1), "0.65": (1, 1),
    "0.7799": (1, 1), "0.78": (1, 2), "0.80": (2, 2), "0.8799": (2, 2), "0.88": (2, 3),
    "0.90": (3, 3), "1.50": (3, 3),
}


@pytest.mark.parametrize(("held", "ltv"), list(product(range(4), BANDS)))
def test_every_state_in_every_band(held, ltv):
    """Up at once; down to what is not left, only after 300 s below; the reason says which."""
    entered, kept = BANDS[ltv]
    start = seen_at(ENTRY[held], 0, tables=patient())
    assert judged(start)[0] is STATES[held]
    first = seen_at(ltv, 1_000, start.state, tables=patient())
    state = max(held, entered)
    if state == entered:
        reason = ("within_limits", "ltv_above_caution", "ltv_above_danger", "ltv_above_critical")[
            entered]
    else:
        reason = "held_by_hysteresis" if kept == held else "held_by_dwell"
    assert judged(first) == (STATES[state], Confidence.FRESH, RiskReason(reason))
    early = seen_at(ltv, 1_000 + DWELL - 1, first.state, tables=patient())
    assert judged(early)[0] is STATES[state]
    late = seen_at(ltv, 1_000 + DWELL, early.state, tables=patient())
    assert judged(late)[0] is STATES[max(entered, min(held, kept))]


def test_the_dwell_fires_by_the_clock_alone():
    """`until_ms` asks for the Tick at which a state is given up, and `since` starts anew there."""
    result = seen_at("0.70", 0, tables=patient())
    result = seen_at("0.60", 1_000, result.state, tables=patient())
    due = 1_000 + DWELL
    result = seen_at("0.60", due - 3_000, result.state, tables=patient())
    assert result.hold.until_ms == T0 + due
    assert said(fold(result.state, patient(), Tick(now_ms=0), at=due - 1)) is None
    after = said(fold(result.state, patient(), Tick(now_ms=0), at=due))
    assert (after.state, after.since_ts_ms) == (RiskState.NORMAL, T0 + due)


def test_the_lines_come_from_the_policy():
    """Thresholds and the distance to leave are the policy's."""
    rungs = rungs_of(RiskPolicy())
    assert rungs.enter == (D("0.65"), D("0.80"), D("0.90"))
    assert rungs.leave == (D("0.63"), D("0.78"), D("0.88"))


# ---------------------------------------------------------------- what is missing or old


def test_an_account_never_seen_whole_is_critical_and_absent():
    """Until all was read once, nothing may look safe."""
    memory = initial(ACCOUNT)
    for fact in facts():
        result = fold(memory, rows(), fact)
        if result.state.view.is_complete:
            break
        assert judged(result) == (
            RiskState.CRITICAL, Confidence.ABSENT, RiskReason.INPUT_ABSENT
        )
        memory = result.state
    assert judged(result) == (RiskState.NORMAL, Confidence.FRESH, RiskReason.WITHIN_LIMITS)


def test_absent_inputs_keep_the_known_state():
    """A lost price neither calms nor alarms; a raised debt that can be valued still raises."""
    known = seen_at("0.70", 0)
    gone = rows()
    gone.instruments.clear()
    result = fold(known.state, gone, Tick(now_ms=0))
    assert judged(result) == (RiskState.CAUTION, Confidence.ABSENT, RiskReason.INPUT_ABSENT)
    result = seen_at("0.95", 10, known.state, tables=gone)
    assert judged(result)[:2] == (RiskState.CRITICAL, Confidence.ABSENT)
    result = seen_at("0.10", 20, known.state, tables=gone)
    assert judged(result)[:2] == (RiskState.CAUTION, Confidence.ABSENT)


@pytest.mark.parametrize(
    ("row", "name"),
    [("markets", "market:linear:BTCUSDT"), ("instruments", "instrument:linear:BTCUSDT"),
     ("collateral", "terms:BTC"), ("policies", "policy")],
)
def test_a_missing_table_row_is_named(row, name):
    """The assessment says which input was never seen."""
    tables = rows()
    getattr(tables, row).clear()
    assessment = said(fold(initial(ACCOUNT), tables, facts()[0]))
    assert assessment.confidence is Confidence.ABSENT
    assert [i.age_ms for i in assessment.inputs if i.name == name] == [None]


def test_lost_tiers_of_the_hedges_contract_are_missing_data():
    """Without margin tiers the next hedge cannot be judged: absent, not free of margin."""
    result = seen_at("0.30", 0, tables=rows().having(linear(tiers=())))
    assert judged(result)[1] is Confidence.ABSENT


def test_funding_never_seen_is_stale_not_blind():
    """LTV does not need funding: protective actions stay possible, and nothing looks safe."""
    tables = rows()
    tables.fundings.clear()
    result = seen_at("0.30", 0, tables=tables)
    assert judged(result) == (RiskState.CAUTION, Confidence.STALE, RiskReason.INPUT_STALE)
    assert judged(seen_at("0.85", 0, tables=tables))[0] is RiskState.DANGER
    assert said(seen_at("0.30", 0, tables=tables)).ltv == D("0.3")


@pytest.mark.parametrize(
    ("at", "stale"),
    [(5_000, False), (5_001, True), (-5_000, False), (-5_001, True)],
)
def test_old_prices_are_stale_and_so_are_prices_from_the_future(at, stale):
    """Older than 5 s, or that far ahead of our clock, a price is not believed."""
    memory = seen_at("0.70", 0).state
    result = fold(memory, rows(at_ms=0), Tick(now_ms=0), at=at)
    assert judged(result)[1] is (Confidence.STALE if stale else Confidence.FRESH)


@pytest.mark.parametrize("late", ["wallet", "positions", "fund", "loan"])
def test_each_account_fact_ages_by_itself(late):
    """One fact older than 30 s is enough to distrust the whole."""
    kinds = {"wallet": wallet, "positions": positions, "fund": fund, "loan": loan}
    read = [make(at_ms=0 if name == late else 30_001) for name, make in kinds.items()]
    result = fold(initial(ACCOUNT), rows(at_ms=30_001), *read, at=30_001)
    assert judged(result)[1] is Confidence.STALE
    ages = {i.name: i.age_ms for i in said(result).inputs}
    assert ages[late] == 30_001 and ages["market:linear:BTCUSDT"] == 0


def test_stale_inputs_hold_the_state_and_blind_time_is_no_dwell():
    """After a blind spell the time below the line counts from when sight returned."""
    result = seen_at("0.60", 10, seen_at("0.70", 0).state)
    assert judged(result) == (RiskState.CAUTION, Confidence.FRESH, RiskReason.HELD_BY_DWELL)
    result = fold(result.state, rows(at_ms=0), Tick(now_ms=0), at=2 * DWELL)
    assert judged(result) == (RiskState.CAUTION, Confidence.STALE, RiskReason.INPUT_STALE)
    for at in range(2 * DWELL + 1, 3 * DWELL + 1, 5_000):
        result = seen_at("0.60", at, result.state)
        assert judged(result) == (RiskState.CAUTION, Confidence.FRESH, RiskReason.HELD_BY_DWELL)
    assert judged(seen_at("0.60", 3 * DWELL + 1, result.state))[0] is RiskState.NORMAL


def test_debt_without_collateral_is_critical_at_once():
    """Infinite LTV, never 0 and never NORMAL, whether or not prices are known."""
    for tables in (rows(), Rows(), Rows().having(policy())):
        read = (wallet(), positions(), fund(), loan(btc="0"))
        assessment = said(fold(initial(ACCOUNT), tables, *read))
        assert (assessment.state, assessment.reason) == (
            RiskState.CRITICAL, RiskReason.NO_COLLATERAL
        )
        assert assessment.ltv is None and assessment.ltv_net_fall is None
    known = seen_at("0.30", 0).state
    result = fold(known, Rows().having(policy()), loan(btc="0", at_ms=10), at=10)
    assert judged(result) == (RiskState.CRITICAL, Confidence.ABSENT, RiskReason.NO_COLLATERAL)


def test_no_debt_is_ltv_zero():
    """An account without a loan is NORMAL, with nothing to fall."""
    assessment = said(seen_at("0", 0))
    assert (assessment.ltv, assessment.ltv_net_fall) == (0, 0)
    assert assessment.state is RiskState.NORMAL


# ---------------------------------------------------------------- the figures


def test_the_figures_of_the_demo_account_by_hand():
    """.4 short at 60,000 against 36,600 on 1 BTC: each figure from its formula."""
    read = (wallet(), positions(position("-0.4")), fund("500"), loan(ltv="0.6123"))
    got = said(fold(initial(ACCOUNT), rows(), *read))
    assert (got.debt_value, got.counted_value, got.collateral_value) == (36_600, 60_000, 60_000)
    assert (got.ltv, got.ltv_exchange) == (D("0.61"), D("0.6123"))
    need = D(36_600) - 500 - 6_000
    gain = D(24_000) * (D("0.25") - D("0.001") * D("0.75"))
    assert got.ltv_net_fall == (need - gain) / (D(60_000) * D("0.75"))
    m = D("0.00555")
    assert got.margin_ratio == 24_000 * m / D(11_700)
    assert got.margin_ratio_rise == 30_000 * m / (D(6_000) - 6_000 + D("0.095") * 75_000)
    assert got.margin_ratio_fall == 18_000 * m / (D(6_000) + 6_000 + D("0.095") * 45_000)
    assert got.net_delta == 1 + D("0.1") - D("0.4")
    assert got.equity_value == 60_000 - 36_600 + 6_000 + 6_000 + 500
    assert (got.mark_price, got.index_price, got.funding_apr) == (60_000, 60_000, D("0.1095"))
    assert (got.policy_version, got.assessed_ts_ms, got.market_ts_event_ms) == (1, T0, T0)


def test_the_reserve_is_kept_back():
    """N = D − F + R − U: a reserve raises the net LTV after the fall, unset it is 0."""
    kept = HedgePolicy(reserve=D(4_500))
    with_reserve = said(seen_at("0.61", 0, tables=rows().having(policy(hedge=kept))))
    without = said(seen_at("0.61", 0))
    assert with_reserve.ltv_net_fall - without.ltv_net_fall == D(4_500) / D(45_000)


def test_an_inverse_short_hedges_by_its_entry_beside_wallet_balances():
    """30,000 USD short from 60,000 takes .5 BTC of delta; its profit is not counted again."""
    read = (wallet(), positions(position("-30000", instrument=INVERSE)), fund(), loan())
    got = said(fold(initial(ACCOUNT), all_rows(D(50_000)), *read))
    assert got.net_delta == 1 + D("0.1") - D("0.5")


def test_a_debt_in_the_coin_itself_is_short_of_it():
    """Owing BTC takes it out of the net delta."""
    read = loan()
    owed = msgspec.structs.replace(read.debts[0], coin="BTC", qty=D("0.2"))
    read = msgspec.structs.replace(read, debts=(owed,))
    got = said(fold(initial(ACCOUNT), rows(), wallet(coin("USDT", "1")), positions(), fund(), read))
    assert got.net_delta == 1 - D("0.2")
    assert got.ltv == D("0.2")


@pytest.mark.parametrize("fall", ["1", "2"])
def test_a_fall_of_everything_has_no_net_ltv(fall):
    """Nothing can be divided by the value that is left after a fall of 100 %."""
    tables = rows().having(policy(hedge=HedgePolicy(stress_fall=D(fall))))
    got = said(seen_at("0.61", 0, tables=tables))
    assert got.ltv_net_fall is None and got.margin_ratio_fall is None


def test_figures_that_cannot_be_known_are_none():
    """Without prices neither LTV nor margin is claimed; the venue's own LTV is still shown."""
    tables = rows()
    tables.markets.clear()
    got = said(fold(initial(ACCOUNT), tables, *facts()[:3], loan(ltv="0.61")))
    assert {got.ltv, got.ltv_net_fall, got.margin_ratio, got.margin_ratio_rise,
            got.margin_ratio_fall, got.mark_price, got.market_ts_event_ms} == {None}
    assert got.ltv_exchange == D("0.61") and got.net_delta == D("1.1")


# ---------------------------------------------------------------- publishing and hold


def test_a_message_that_changes_nothing_is_not_published():
    """Repeats, ticks, restores and polls with the same content say nothing new."""
    memory = seen_at("0.61", 0).state
    repeats = (*facts(), Tick(now_ms=0), Restored(now_ms=0), tick(), funding_context(), policy(),
               linear(), terms())
    for message in repeats:
        result = fold(memory, rows(), message)
        assert result.outputs == () and result.state == memory
    polled = fold(memory, rows(), wallet(at_ms=9), loan(debt_at("0.61"), at_ms=9), at=9)
    assert polled.outputs == ()


@pytest.mark.parametrize(
    "fact",
    [wallet(coin("USDT", "6001"), coin("BTC", "0.1"), at_ms=9),
     positions(position("-0.001"), at_ms=9), fund("1", 9), loan("36601", at_ms=9)],
    ids=["wallet", "positions", "fund", "loan"],
)
def test_a_fact_that_changes_a_quantity_is_published(fact):
    """Whatever enters a figure is worth saying at once."""
    assert said(fold(seen_at("0.61", 0).state, rows(), fact, at=9)) is not None


@pytest.mark.parametrize(
    ("price", "mark", "published"),
    [("60059", "60059", False), ("60060", "60060", True), ("59940", "59940", True),
     ("60000", "60060", True), ("60000", "59941", False), ("60060", "60000", True)],
)
def test_a_price_is_news_after_a_thousandth(price, mark, published):
    """Mark or index .1 % away from the last published."""
    memory = seen_at("0.30", 0).state
    tables = rows().having(tick(price, mark=mark))
    result = fold(memory, tables, tick(price, mark=mark))
    assert (said(result) is not None) == published


def test_ltv_is_news_after_a_thousandth():
    """At LTV .95 the price needs only .105 % for .001; with a coarse price step LTV decides."""
    coarse = policy(risk=RiskPolicy(publish_price_step=D("0.5")))
    tables = rows().having(coarse)
    memory = seen_at("0.70", 0, tables=tables).state
    quiet = fold(memory, tables.having(tick("59915")), tick())
    assert said(quiet) is None
    loud = fold(memory, tables.having(tick("59914")), tick())
    assert said(loud).ltv - D("0.70") >= D("0.001")


def test_regime_and_policy_changes_are_news():
    """The funding regime and a new policy version are published with the next look."""
    memory = seen_at("0.61", 0).state
    heated = rows().having(funding_context("0.6", regime=FundingRegime.HEATED))
    assert said(fold(memory, heated, Tick(now_ms=0))).funding_apr == D("0.6")
    newer = rows().having(policy(version=2))
    assert said(fold(memory, newer, policy(version=2))).policy_version == 2


def test_a_coin_that_joins_is_news():
    """New prices in the picture are published even when nothing else changes."""
    memory = seen_at("0.61", 0).state
    tables = all_rows(D(60_000))
    result = fold(memory, tables, wallet(coin("USDT", "6000"), coin("BTC", "0.1"),
                                         coin("ETH", "1"), at_ms=9), at=9)
    assert said(result) is not None
    assert set(result.hold.boxes) == {LINEAR, "linear:ETHUSDT"}


def test_silence_is_never_longer_than_ten_seconds():
    """A heartbeat, so that consumers can tell calm from death."""
    memory = seen_at("0.61", 0).state
    assert said(fold(memory, rows(at_ms=9_999), Tick(now_ms=0), at=9_999)) is None
    result = fold(memory, rows(at_ms=10_000), Tick(now_ms=0), at=10_000)
    assert said(result) is not None


@pytest.mark.parametrize(
    ("low", "high", "ltv"),
    [("59940", "60060", "0.61"), ("59940", "60060", "0.30"), ("59953.8", "60046.2", "0.6495")],
)
def test_the_box_ends_at_the_nearest_line(low, high, ltv):
    """The price step, or where LTV reaches a state's line; a hair inside, never outside."""
    box = seen_at(ltv, 0).hold.boxes[LINEAR]
    if ltv == "0.6495":
        # .65 is reached where P = D ÷ .65; leaving lines and the price step are further off.
        edge = debt_at(ltv) / D("0.65")
        assert edge <= box.index_low <= edge + D("0.01")
        assert D(60_060) - D("0.01") <= box.index_high <= 60_060
    else:
        assert D(low) <= box.index_low <= D(low) + D("0.01")
        assert D(high) - D("0.01") <= box.index_high <= D(high)
    assert D(59_940) <= box.mark_low <= D("59940.01")


def test_the_box_ends_where_a_held_state_starts_to_be_left():
    """CAUTION at LTV .64: the tick that reaches .63 starts the dwell and must not be skipped."""
    coarse = policy(risk=RiskPolicy(publish_price_step=D("0.5"), publish_ltv_step=D("0.5")))
    held = seen_at("0.70", 0, tables=rows().having(coarse)).state
    box = seen_at("0.64", 9, held, tables=rows().having(coarse)).hold.boxes[LINEAR]
    left, entered = debt_at("0.64") / D("0.63"), debt_at("0.64") / D("0.65")
    assert left - D("0.01") <= box.index_high <= left
    assert entered <= box.index_low <= entered + D("0.01")


def test_a_stale_or_missing_price_has_an_empty_box():
    """The tick that ends the blindness must step, at whatever price it comes."""
    memory = seen_at("0.61", 0).state
    stale = fold(memory, rows(at_ms=0), Tick(now_ms=0), at=6_000)
    assert not stale.hold.contains(LINEAR, D(60_000), D(60_000))
    unpriced = rows()
    unpriced.markets.clear()
    missing = fold(memory, unpriced, Tick(now_ms=0))
    assert not missing.hold.contains(LINEAR, D(60_000), D(60_000))


def test_senseless_publishing_steps_hold_nothing():
    """A step of 0 means: publish on every look."""
    for risk_policy in (RiskPolicy(publish_ltv_step=D(0)), RiskPolicy(publish_price_step=D(0))):
        tables = rows().having(policy(risk=risk_policy))
        result = seen_at("0.61", 0, tables=tables)
        assert not result.hold.contains(LINEAR, D(60_000), D(60_000))
        assert said(fold(result.state, tables, tick())) is not None


def test_the_deadline_is_the_earliest_of_all():
    """Prices go stale after 5 s, before the heartbeat; a price from the future turns fresh first."""
    assert seen_at("0.61", 0).hold.until_ms == T0 + 5_001
    future = fold(seen_at("0.61", 0).state, rows(at_ms=6_000), Tick(now_ms=0))
    assert future.hold.until_ms == T0 + 1_000


# ---------------------------------------------------------------- identity


def test_a_memory_takes_the_first_accounts_name_and_keeps_it():
    """Facts of another account are not taken in; before the first fact there is nothing to say."""
    nameless = RiskMemory()
    for message in (Tick(now_ms=0), tick(), policy()):
        assert fold(nameless, rows(), message) == Step(nameless)
    named = fold(nameless, rows(), wallet(account="other")).state
    assert named.account == "other"
    stranger = fold(named, rows(), wallet(at_ms=9))
    assert stranger.state.view is named.view


def test_an_empty_loan_terms_list_is_a_missing_ratio():
    """Ratios lost on the way must not turn collateral into nothing (freqtrade#13499)."""
    lost = CollateralTerms(coin="BTC", loan_tiers=(), margin_tiers=(), ts_seen_ms=T0)
    result = seen_at("0.30", 0, tables=rows().having(lost))
    assert judged(result) == (RiskState.CRITICAL, Confidence.ABSENT, RiskReason.INPUT_ABSENT)
