"""The risk-engine's step: details on ticks only, when due, and never in the way of an assessment."""

from __future__ import annotations

from decimal import Decimal as D

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import (
    ACCOUNT,
    LINEAR,
    T0,
    Rows,
    all_rows,
    amounts,
    facts,
    fund,
    funding_context,
    loan,
    now,
    pockets,
    policy,
    prices,
    rows,
    structs,
    tick,
)

from hedgelock.domain import risk
from hedgelock.domain.account import (
    FundRead,
    LoanRead,
    PositionChanged,
    PositionsRead,
    WalletRead,
)
from hedgelock.domain.instrument import CollateralTerms, Instrument
from hedgelock.domain.market import MarketTick
from hedgelock.domain.message import Tick
from hedgelock.domain.policy import Policy, RiskPolicy
from hedgelock.domain.risk_detail import OutlookMemory, RiskDetail
from hedgelock.forecast.outlook import AT_LEAST_MS, AT_MOST_MS, initial, step
from hedgelock.services.risk_engine import SERVICE

TICK = Tick(now_ms=0)
PATIENT = policy(risk=RiskPolicy(
    market_age_max_ms=10**7, account_age_max_ms=10**7, funding_age_max_ms=10**7))


def fold(memory, tables, *messages, at=0):
    """The last step after these messages at T0 + `at`."""
    result = None
    for message in messages:
        result = step(memory, tables, message, now(at))
        memory = result.state
    return result


def details(result):
    """The details among a step's outputs."""
    return [o.message for o in result.outputs if isinstance(o.message, RiskDetail)]


def settled(tables=None, read=None):
    """The demo account, assessed, with its first detail published at T0."""
    return fold(initial(ACCOUNT), tables or rows().having(PATIENT), *(read or facts()), TICK)


def test_facts_and_prices_bring_no_detail_and_the_next_tick_does():
    """What may lead to an order carries the assessment alone; the detail comes by the clock."""
    tables = rows().having(PATIENT)
    result = fold(initial(ACCOUNT), tables, *facts(), tables.markets[LINEAR])
    assert details(result) == [] and result.hold.until_ms <= T0
    found = details(fold(result.state, tables, TICK))
    assert [d.account for d in found] == [ACCOUNT]
    assert found[0].cells and found[0].assessed_ts_ms == T0


def test_once_told_it_waits_a_minute():
    """Nothing new: quiet until the minute is over, and `until_ms` asks for that tick."""
    result = settled()
    assert result.hold.until_ms == T0 + risk.HEARTBEAT_MS
    tables, memory = rows().having(PATIENT), result.state
    for at in range(10_000, AT_LEAST_MS, 10_000):
        result = fold(memory, tables, TICK, at=at)
        assert details(result) == []
        memory = result.state
    assert result.hold.until_ms == T0 + AT_LEAST_MS
    assert len(details(fold(memory, tables, TICK, at=AT_LEAST_MS))) == 1


def test_news_is_told_a_second_after_the_last():
    """A changed quantity, a state, a price that moved .25 %: due at once, but once a second."""
    tables = rows().having(PATIENT)
    moved = tables.having(tick("60150"))
    fallen = tables.having(tick("44000"))
    cases = [(tables, fund("100", 500)), (moved, moved.markets[LINEAR]),
             (fallen, fallen.markets[LINEAR])]
    for after, message in cases:
        result = fold(settled().state, after, message, at=500)
        assert details(result) == [] and result.hold.until_ms == T0 + AT_MOST_MS
        assert details(fold(result.state, after, TICK, at=AT_MOST_MS - 1)) == []
        assert len(details(fold(result.state, after, TICK, at=AT_MOST_MS))) == 1


def test_small_moves_are_no_news():
    """A price that moved .2 % is published by the assessment and waits for the next detail."""
    moved = rows().having(PATIENT, tick("60120"))
    result = fold(settled().state, moved, moved.markets[LINEAR], at=500)
    assert [o.topic for o in result.outputs] == ["risk_state"]
    assert result.hold.until_ms > T0 + AT_MOST_MS


def test_lost_prices_are_told():
    """Prices that turn stale: a detail without trust, a score of at least 65, volatility untouched."""
    tables = rows()
    result = fold(settled(tables).state, tables, TICK, at=6_000)
    (found,) = details(result)
    assert found.confidence is risk.Confidence.STALE and found.score >= 65
    again = fold(result.state, tables, TICK, at=40_000)
    assert again.state.volatility == result.state.volatility


def test_an_account_without_policy_is_told_without_figures():
    """No policy was ever seen: a detail that claims nothing and scores 100."""
    tables = rows()
    tables.policies.clear()
    (found,) = details(settled(tables))
    assert found.cells == () and found.score == 100


def test_nothing_known_nothing_said():
    """A memory without a name waits for its first fact."""
    result = step(OutlookMemory(), Rows(), TICK, now())
    assert result.outputs == () and result.state == OutlookMemory()


@settings(max_examples=60)
@given(pockets(), prices(), prices())
def test_the_assessment_is_the_pure_engines(read, before, after):
    """With every message the same assessments, in the same order, as `risk.step` alone."""
    plain, memory = risk.initial(ACCOUNT), initial(ACCOUNT)
    for tables, messages in ((all_rows(before), read), (all_rows(after), (tick(after), TICK))):
        for message in messages:
            bare, full = risk.step(plain, tables, message, now()), step(memory, tables, message, now())
            said = [o for o in full.outputs if o.topic == "risk_state"]
            assert tuple(said) == bare.outputs
            assert full.hold.boxes == bare.hold.boxes
            assert full.hold.until_ms <= bare.hold.until_ms
            plain, memory = bare.state, full.state


@settings(max_examples=60)
@given(pockets(), prices(), amounts("1000", "6000", 2), st.data())
def test_inside_the_hold_nothing_is_said(read, price, eth, data):
    """Any price inside the boxes before until_ms, on a tick or a price: no output."""
    tables = all_rows(price, eth)
    result = fold(initial(ACCOUNT), tables, *read, TICK)
    hold = result.hold
    at = data.draw(st.integers(0, hold.until_ms - T0 - 1))
    moved = []
    for name, box in hold.boxes.items():
        if box.mark_low > box.mark_high or box.index_low > box.index_high:
            return
        share = data.draw(st.integers(0, 1000).map(lambda n: D(n) / 1000))
        index = min(box.index_high, box.index_low + (box.index_high - box.index_low) * share)
        mark = min(box.mark_high, box.mark_low + (box.mark_high - box.mark_low) * share)
        moved.append(tick(index, mark=mark, instrument=name, at_ms=at))
    assert step(result.state, tables.having(*moved), TICK, now(at)).outputs == ()


FACTS = st.one_of(
    *(structs(kind, account=ACCOUNT)
      for kind in (WalletRead, PositionsRead, PositionChanged, FundRead, LoanRead))
)
TABLE_ROWS = st.one_of(
    structs(MarketTick, instrument=st.sampled_from([LINEAR, "linear:ETHUSDT", "inverse:BTCUSD"])),
    structs(Instrument, instrument=st.sampled_from([LINEAR, "inverse:BTCUSD"])),
    structs(CollateralTerms, coin=st.sampled_from(["BTC", "ETH", "USDT"])),
    structs(Policy, account=ACCOUNT),
)


@settings(max_examples=25)
@given(st.lists(FACTS, max_size=6), st.lists(TABLE_ROWS, max_size=8), st.booleans())
def test_anything_that_decodes_has_a_detail(read, odd, whole):
    """Absurd numbers everywhere: a detail that travels, never an exception that freezes the account."""
    tables = (all_rows(D(60_000)) if whole else rows()).having(*odd)
    memory = initial(ACCOUNT)
    for message in (*(facts() if whole else ()), *read, TICK):
        result = step(memory, tables, message, now())
        memory = result.state
        assert SERVICE.decode_state(SERVICE.encode_state(memory)) == memory
    for found in details(result):
        assert msgspec.json.decode(msgspec.json.encode(found), type=RiskDetail) == found


def test_an_older_state_is_still_read():
    """A state written before there were details decodes, and the first tick makes one."""
    old = risk.step(risk.initial(ACCOUNT), rows(), loan(), now()).state
    memory = SERVICE.decode_state(msgspec.json.encode(old))
    assert (memory.volatility, memory.detailed) == (None, None)
    assert len(details(fold(memory, rows().having(funding_context()), TICK))) == 1
