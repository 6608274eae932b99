"""Many accounts at once say what one account at a time says; a tick wakes exactly those it should."""

from __future__ import annotations

from decimal import Decimal as D

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import (
    ACCOUNT,
    INVERSE,
    LINEAR,
    T0,
    all_rows,
    amounts,
    coin,
    facts,
    fund,
    funding_context,
    inverse,
    linear,
    loan,
    now,
    pockets,
    policy,
    position,
    positions,
    prices,
    rows,
    tick,
    wallet,
)

from hedgelock.domain import risk
from hedgelock.domain.hysteresis import Latch
from hedgelock.domain.instrument import MarginTier
from hedgelock.domain.margin import margin_sums
from hedgelock.domain.message import Tick
from hedgelock.domain.policy import HedgePolicy, RiskPolicy
from hedgelock.domain.scene import look
from hedgelock.domain.step import Hold, PriceBox
from hedgelock.services.fleet import Fleet, Market
from hedgelock.services.risk_many import CONFIDENCES, REASONS, STATES, Screen, assess_many

CLOSE = 1e-12
TIGHT = (
    MarginTier(notional_max=D(20_000), initial_rate=D("0.1"), maintenance_rate=D("0.005"),
               deduction=D(0)),
    MarginTier(notional_max=D(60_000), initial_rate=D("0.2"), maintenance_rate=D("0.02"),
               deduction=D(300)),
    MarginTier(notional_max=D(90_000), initial_rate=D("0.3"), maintenance_rate=D("0.1"),
               deduction=D(5_100)),
)
LOOSE = RiskPolicy(account_age_max_ms=10**6, market_age_max_ms=10**6, funding_age_max_ms=10**6)


def memory_of(read, name=ACCOUNT, latch=None):
    """The memory of an account that read these facts, with this latch."""
    memory = risk.initial(name)
    for fact in read:
        memory = risk._take_in(memory, msgspec.structs.replace(fact, account=name))
    return msgspec.structs.replace(memory, latch=latch)


def many(memories, tables, at=0, *, inverse=INVERSE):
    """(who is in the fleet, their assessment) at T0 + `at`."""
    fleet, kept = Fleet.of(memories, tables, inverse=inverse, now_ms=T0 + at)
    return kept, assess_many(fleet, Market.of(fleet, tables, T0 + at), T0 + at)


def close(found, expected, scale=0.0):
    """Within 1e-12 of the figure, or of what it is a difference of; None is inf."""
    if expected is None:
        return found == np.inf
    return abs(found - float(expected)) <= CLOSE * max(1.0, abs(float(expected)), scale)


def same(assessed, at, memory, tables, when):
    """Account `at` of the arrays against `risk.step` of its memory."""
    result = risk.step(memory, tables, Tick(now_ms=0), now(when))
    after = result.state
    (said,) = [o.message for o in result.outputs]
    if not assessed.doubtful[at]:
        assert STATES[assessed.state[at]] is said.state
        assert REASONS[assessed.reason[at]] is said.reason
        latch = after.latch
        assert bool(assessed.has_latch[at]) is (latch is not None)
        if latch is not None:
            below = [int(since[at]) for since in assessed.below][: latch.level]
            assert assessed.level[at] == latch.level
            assert [None if since < 0 else since for since in below] == list(latch.below_ms)
    assert CONFIDENCES[assessed.confidence[at]] is said.confidence
    assert close(assessed.ltv[at], said.ltv)
    assert close(assessed.counted_value[at], said.counted_value)
    assert close(assessed.collateral_value[at], said.collateral_value)
    assert close(assessed.net_delta[at], said.net_delta)
    money = float(said.debt_value) + 1e6
    share = money / max(1.0, float(said.counted_value))
    assert close(assessed.ltv_net_fall[at], said.ltv_net_fall, share)
    scene = look(memory.view, tables.policy(memory.account), tables, T0 + when)
    for name, move in (("margin_ratio", "0"), ("margin_ratio_rise", "0.25"),
                       ("margin_ratio_fall", "-0.25")):
        found, expected = getattr(assessed, name)[at], getattr(said, name)
        balance = float(margin_sums(scene.book, 1 + D(move)).balance)
        if abs(balance) > 1e-6:
            # Sums of 100,000 USDT leave less than a thousand: rounding counts for more of it.
            assert close(found, expected, float(expected or 0) * max(1.0, 1_000 / abs(balance))), name


LATCHES = st.one_of(
    st.none(),
    st.lists(st.one_of(st.none(), st.integers(T0 - 400_000, T0 + 100)), max_size=3).map(
        lambda below: Latch(len(below), tuple(below))),
)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(pockets(), LATCHES), min_size=1, max_size=6), prices(), prices(),
    amounts("0", "30000", 0), st.sampled_from([0, 20_000, 400_000]), st.booleans(), st.booleans(),
)
def test_as_one_account_at_a_time(accounts, price, mark, reserve, when, tight, funded):
    """State, reason, confidence, latch and every figure equal `risk.step`'s, raw within 1e-12."""
    tables = all_rows(price).having(
        tick(price, mark=mark), *([linear(tiers=TIGHT), inverse(tiers=TIGHT)] if tight else []))
    if not funded:
        tables.fundings.clear()
    for number, (_, _) in enumerate(accounts):
        tables = tables.having(policy(
            str(number), number, hedge=HedgePolicy(reserve=reserve * number)))
    memories = [memory_of(read, str(n), latch) for n, (read, latch) in enumerate(accounts)]
    assume(any("ETH" not in str(read) for read, _ in accounts))
    kept, assessed = many(memories, tables, when)
    assert [n for n, (read, _) in enumerate(accounts) if "ETH" not in str(read)] == kept
    for at, number in enumerate(kept):
        same(assessed, at, memories[number], tables, when)


@pytest.mark.parametrize("at", [0, 299_999, 300_000])
def test_every_state_in_every_band(at):
    """Each level held, each band of LTV, dwell not begun, running and over: as one at a time."""
    bands = ("0.30", "0.6299", "0.6301", "0.6501", "0.7799", "0.7801", "0.8001", "0.8799", "0.8801",
             "0.9001")
    latches = [Latch(n, timers) for n in range(4) for timers in ((None,) * n, (T0,) * n)]
    memories = [
        memory_of((*facts()[:3], loan(D(ltv) * 60_000)), latch=latch)
        for ltv in bands for latch in latches
    ]
    tables = rows().having(policy(risk=LOOSE))
    kept, assessed = many(memories, tables, at, inverse="")
    assert len(kept) == 80 and not assessed.doubtful.any()
    for number, memory in enumerate(memories):
        same(assessed, number, memory, tables, at)


@pytest.mark.parametrize("ltv", ["0.63", "0.65", "0.78", "0.80", "0.88", "0.90"])
def test_on_a_line_floats_do_not_decide(ltv):
    """LTV exactly on a line, or a rounding beside it, is doubtful: the caller steps it exactly."""
    on = [memory_of((*facts()[:3], loan(D(ltv) * 60_000 + off))) for off in (
        D(0), D("1E-9"), D("-1E-9"), D("0.01"), D("-0.01"))]
    _, assessed = many(on, rows().having(policy(risk=LOOSE)), inverse="")
    assert list(assessed.doubtful) == [True, True, True, False, False]


def test_whole_chunks_and_a_rest():
    """More accounts than are marked at a time: every one as if it were alone."""
    tables = rows()
    debts = [D(n) * 20 for n in range(1, 21)]
    few = [memory_of((*facts()[:3], loan(debt * 100))) for debt in debts]
    fleet, _ = Fleet.of(few, tables, now_ms=T0)
    repeats = 1_000
    wide = fleet._replace(**{
        name: np.tile(value, repeats) for name, value in fleet._asdict().items()
        if isinstance(value, np.ndarray)
    }, below=tuple(np.tile(since, repeats) for since in fleet.below))
    assert wide.size == 20_000
    market = Market.of(fleet, tables, T0)
    alone, together = assess_many(fleet, market, T0), assess_many(wide, market, T0)
    assert np.array_equal(together.ltv, np.tile(alone.ltv, repeats))
    assert np.array_equal(together.state, np.tile(alone.state, repeats))
    assert np.array_equal(together.below[0], np.tile(alone.below[0], repeats))


def test_who_is_different_is_left_out():
    """Other coins, other contracts, another policy, something unread: by index, to be stepped."""
    plain = facts()
    others = [
        plain, (*plain[:3], loan(others=[("ETH", "3")])),
        (wallet(coin("USDT", "1"), coin("ETH", "1")), *plain[1:]),
        (plain[0], positions(position("-5", "3000", instrument="linear:ETHUSDT")), *plain[2:]),
        plain[:3], plain,
    ]
    tables = all_rows(D(60_000)).having(
        linear("linear:ETHUSDT"), policy("5", risk=RiskPolicy(ltv_danger=D("0.7"))),
        *[policy(str(n)) for n in range(5)])
    memories = [memory_of(read, str(n)) for n, read in enumerate(others)]
    memories.append(memory_of(plain, "nobody knows its policy"))
    fleet, kept = Fleet.of(memories, tables, inverse=INVERSE, now_ms=T0)
    assert kept == [0] and fleet.size == 1
    with pytest.raises(ValueError, match="none of these accounts"):
        Fleet.of(memories[1:2], tables, now_ms=T0)
    with pytest.raises(ValueError, match="none of these accounts"):
        Fleet.of(memories[-1:], tables, now_ms=T0)


def test_without_a_price_there_is_no_market():
    """A missing price or contract is an error: such accounts are stepped one by one."""
    tables = all_rows(D(60_000))
    fleet, _ = Fleet.of([memory_of(facts())], tables, inverse=INVERSE, now_ms=T0)
    del tables.markets[INVERSE]
    with pytest.raises(ValueError, match="no price or no tiers of inverse:BTCUSD"):
        Market.of(fleet, tables, T0)


def test_an_old_inverse_price_blinds_its_holders_alone():
    """The inverse contract's price is stale: who holds one is STALE, who does not is FRESH."""
    tables = all_rows(D(60_000), at_ms=100_000).having(tick("60000", instrument=INVERSE))
    fresh = (wallet(at_ms=100_000), fund(at_ms=100_000), loan(at_ms=100_000))
    none, some = positions(at_ms=100_000), positions(
        position("-100", instrument=INVERSE), at_ms=100_000)
    memories = [memory_of((*fresh, held)) for held in (none, some)]
    _, assessed = many(memories, tables, 100_000)
    assert [CONFIDENCES[c].value for c in assessed.confidence] == ["fresh", "stale"]
    for at, memory in enumerate(memories):
        same(assessed, at, memory, tables, 100_000)


# ---------------------------------------------------------------- screening


@settings(max_examples=40)
@given(st.lists(pockets(), min_size=1, max_size=5), prices(), prices(), prices(),
       st.integers(-5_000, 20_000))
def test_a_tick_wakes_whom_the_runner_would_wake(reads, price, index, mark, at):
    """Exactly who is outside the box or past the time; never fewer, a hair more by rounding."""
    tables = all_rows(price)
    holds = []
    for read in reads:
        memory = risk.initial(ACCOUNT)
        for fact in read:
            result = risk.step(memory, tables, fact, now())
            memory = result.state
        holds.append(result.hold)
    moved = tick(index, mark=mark)
    woken = Screen(LINEAR, holds).leavers(moved, T0 + at)
    assert list(woken) == [
        n for n, hold in enumerate(holds)
        if not hold.contains(LINEAR, mark, index) or hold.until_ms <= T0 + at
    ]


def test_edges_of_a_hold():
    """On a bound the float wakes, though the exact box would not: bounds are rounded inwards."""
    box = PriceBox(D(50_000), D(70_000), D("50000.1"), D("70000.1"))
    screen = Screen(LINEAR, [Hold({LINEAR: box}, T0), Hold({}, None), Hold({INVERSE: box}, T0 + 9)])
    inside = tick("60000")
    assert list(screen.leavers(inside, T0 - 1)) == []
    assert list(screen.leavers(inside, T0)) == [0]
    assert list(screen.leavers(inside, T0 + 9)) == [0, 2]
    for at_bound in (tick("60000", mark="50000"), tick("60000", mark="70000"),
                     tick("50000.1", mark="60000"), tick("70000.1", mark="60000")):
        assert list(screen.leavers(at_bound, T0 - 1)) == [0]
    screen.renew(0, Hold({}, None))
    assert list(screen.leavers(tick("1"), T0 + 8)) == []


def test_funding_from_long_ago_is_stale():
    """Old funding makes everybody STALE, as one at a time."""
    tables = rows(at_ms=400_000).having(funding_context(at_ms=0))
    read = tuple(msgspec.structs.replace(f, ts_seen_ms=T0 + 400_000) for f in facts())
    memory = memory_of(read)
    _, assessed = many([memory], tables, 400_000, inverse="")
    assert CONFIDENCES[assessed.confidence[0]].value == "stale"
    same(assessed, 0, memory, tables, 400_000)
