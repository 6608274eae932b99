"""Risk under anything: honest holds, no effect of repeats, nothing safe without inputs, no error."""

from __future__ import annotations

import itertools
from decimal import Decimal as D

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import (
    ACCOUNT,
    INVERSE,
    LINEAR,
    T0,
    Rows,
    all_rows,
    amounts,
    facts,
    funding_context,
    now,
    pockets,
    policy,
    prices,
    rows,
    structs,
    terms,
    tick,
)

from hedgelock.domain.account import (
    FundRead,
    LoanRead,
    PositionChanged,
    PositionsRead,
    WalletRead,
)
from hedgelock.domain.funding import FundingContext
from hedgelock.domain.instrument import CollateralTerms, Instrument
from hedgelock.domain.market import MarketTick
from hedgelock.domain.message import Tick
from hedgelock.domain.policy import Policy, RiskPolicy
from hedgelock.domain.risk import Confidence, RiskMemory, RiskState, initial, step

COARSE = policy(risk=RiskPolicy(publish_ltv_step=D("0.02"), publish_price_step=D("0.05")))
"""Wide boxes, so that LTV lines rather than price steps bound them."""


def taken(read, tables, at=0):
    """The last step after folding these facts."""
    memory, result = initial(ACCOUNT), None
    for fact in read:
        result = step(memory, tables, fact, now(at))
        memory = result.state
    return result


@given(pockets(), prices(), amounts("1000", "6000", 2), st.booleans(), st.data())
def test_inside_the_hold_nothing_is_said_and_nothing_changes(read, price, eth, coarse, data):
    """Any prices inside the boxes, any time before until_ms: no output, same memory."""
    tables = all_rows(price, eth).having(COARSE if coarse else policy())
    result = taken(read, tables)
    memory, hold = result.state, result.hold
    at_ms = data.draw(st.integers(0, hold.until_ms - T0 - 1))
    moved = []
    for name, box in hold.boxes.items():
        assume(box.mark_low <= box.mark_high and box.index_low <= box.index_high)
        share = st.integers(0, 1000).map(lambda n: D(n) / 1000)
        mark = box.mark_low + (box.mark_high - box.mark_low) * data.draw(share)
        index = box.index_low + (box.index_high - box.index_low) * data.draw(share)
        mark, index = min(mark, box.mark_high), min(index, box.index_high)
        assert hold.contains(name, mark, index)
        moved.append(tick(index, mark=mark, instrument=name, at_ms=at_ms))
    again = step(memory, tables.having(*moved), Tick(now_ms=0), now(at_ms))
    assert again.outputs == ()
    assert again.state == memory


@given(pockets(), prices(), prices())
def test_outside_the_price_step_something_is_said(read, before, after):
    """A price that moved a thousandth since the last word is published."""
    assume(abs(after - before) >= before * D("0.001"))
    memory = taken(read, all_rows(before)).state
    assert step(memory, all_rows(after), tick(after), now(1)).outputs


@given(pockets(), pockets(at_ms=50), prices(), st.permutations(range(8)))
def test_repeating_any_message_changes_nothing(early, late, price, order):
    """Each message folded twice: the second time same state, no word."""
    tables = all_rows(price)
    memory = initial(ACCOUNT)
    for at in order:
        message = (*early, *late)[at]
        memory = step(memory, tables, message, now(60)).state
        again = step(memory, tables, message, now(60))
        assert again.state == memory and again.outputs == ()
        assert msgspec.json.decode(msgspec.json.encode(memory), type=RiskMemory) == memory


INPUTS = ("wallet", "positions", "fund", "loan", "market", "instrument", "terms", "funding",
          "policy")


def test_without_any_subset_of_inputs_nothing_looks_safe():
    """All 511 ways to lose inputs: never FRESH, never NORMAL, and never an exception."""
    for size in range(1, len(INPUTS) + 1):
        for lost in itertools.combinations(INPUTS, size):
            tables = rows("120000")
            for name, table in (("market", tables.markets), ("instrument", tables.instruments),
                                ("terms", tables.collateral), ("funding", tables.fundings),
                                ("policy", tables.policies)):
                if name in lost:
                    table.clear()
            read = [
                fact for name, fact in zip(INPUTS, facts(), strict=False) if name not in lost
            ]
            result = taken(read, tables) or step(initial(ACCOUNT), tables, Tick(now_ms=0), now())
            last = result.state.published
            assert last.confidence is not Confidence.FRESH, lost
            assert last.state is not RiskState.NORMAL, lost


def test_losing_inputs_later_keeps_the_state():
    """Once known DANGER, no loss of table rows calms it, and none panics to CRITICAL."""
    known = taken(facts(), rows("45000")).state
    assert known.state is RiskState.DANGER
    for lost in itertools.product((False, True), repeat=5):
        tables = rows("45000")
        for gone, table in zip(
            lost, (tables.markets, tables.instruments, tables.collateral, tables.fundings,
                   tables.policies), strict=True,
        ):
            if gone:
                table.clear()
        result = step(known, tables, Tick(now_ms=0), now())
        assert result.state.state is RiskState.DANGER
        assert any(lost) == (result.state.published.confidence is not Confidence.FRESH)


@given(pockets(), prices(), prices())
def test_ltv_is_monotone_in_the_price(read, left, right):
    """With debts in USDT a higher price never gives a higher LTV, nor a worse state at first sight."""
    low, high = sorted((left, right))
    at_low, at_high = (taken(read, all_rows(p, D(3000))).outputs for p in (low, high))
    assume(at_low and at_high)
    poor, rich = at_low[0].message, at_high[0].message
    if poor.ltv is not None:
        assert poor.ltv >= rich.ltv
    states = list(RiskState)
    assert states.index(poor.state) >= states.index(rich.state)


NAMED = st.sampled_from([LINEAR, INVERSE, "linear:ETHUSDT"])
FACTS = st.one_of(
    *(structs(kind, account=ACCOUNT)
      for kind in (WalletRead, PositionsRead, PositionChanged, FundRead, LoanRead))
)
ROWS = st.one_of(
    structs(MarketTick, instrument=NAMED), structs(Instrument, instrument=NAMED),
    structs(CollateralTerms, coin=st.sampled_from(["BTC", "ETH", "USDT"])),
    structs(FundingContext, instrument=LINEAR), structs(Policy, account=ACCOUNT),
)


@pytest.mark.no_cover
@settings(max_examples=60)
@given(st.lists(FACTS, max_size=8), st.lists(ROWS, max_size=8), st.integers(-200_000, 200_000))
def test_anything_that_decodes_folds(read, odd_rows, at):
    """Absurd numbers, repeated coins, unknown names, clocks that jump: an answer that encodes."""
    memory, tables = initial(ACCOUNT), rows() if at % 2 else Rows()
    tables = tables.having(*odd_rows)
    for message in (*read, Tick(now_ms=0)):
        result = step(memory, tables, message, now(at))
        memory = result.state
        assert msgspec.json.decode(msgspec.json.encode(memory), type=RiskMemory) == memory
        for output in result.outputs:
            assert msgspec.json.decode(
                msgspec.json.encode(output.message), type=type(output.message)
            ) == output.message
            if output.message.confidence is Confidence.FRESH:
                assert output.message.ltv is not None or output.message.state is RiskState.CRITICAL
        assert result.hold.until_ms is not None


@given(pockets(), st.lists(st.tuples(prices(), st.integers(0, 400_000)), max_size=8))
def test_state_never_lags_behind_a_fresh_ltv(read, path):
    """Whatever the path: at a fresh LTV the state is at least the one that LTV enters."""
    memory, at = initial(ACCOUNT), 0
    for price, passed in path:
        at += passed
        tables = all_rows(price, at_ms=at).having(
            funding_context(at_ms=at), policy(), terms()
        )
        for fact in read:
            renewed = msgspec.structs.replace(
                fact, ts_requested_ms=T0 + at, ts_event_ms=T0 + at, ts_seen_ms=T0 + at
            )
            result = step(memory, tables, renewed, now(at))
            memory = result.state
        last = memory.published
        assert last.confidence is Confidence.FRESH
        if last.ltv is not None:
            entered = sum(last.ltv >= line for line in (D("0.65"), D("0.80"), D("0.90")))
            assert list(RiskState).index(last.state) >= entered
