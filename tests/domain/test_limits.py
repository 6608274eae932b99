"""The limits that the executor holds: which of them stops which action, and what uses them up."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from domain.execution_world import (
    PERP,
    T0,
    D,
    Desk,
    Market,
    fill,
    funding,
    instrument,
    place,
    policy,
    treasury,
)
from hedgelock.domain.budget import Budget, cost_of, with_borrowing, with_fill, with_repayment
from hedgelock.domain.effect import SendOrder
from hedgelock.domain.execution_memory import ExecutionMemory
from hedgelock.domain.holdings import Held, Holdings
from hedgelock.domain.instrument import Settlement
from hedgelock.domain.limits import LIMIT_CHECKS, refusal_of_amount
from hedgelock.domain.order import Fill, OrderStatus, Side, TimeInForce
from hedgelock.domain.policy import ExecutionPolicy
from hedgelock.domain.refusal import Context, Refusal
from hedgelock.domain.short_room import ShortRoom
from hedgelock.domain.treasury import TreasuryKind

R = Refusal
K = TreasuryKind
HOUR_MS = 3_600_000
SPENT = with_fill(
    Budget(),
    Fill(exec_id="x", instrument=PERP, side=Side.SELL, qty=D(10), price=D(59_000), fee=D(100),
         fee_coin="USDT", pnl=D(0), is_maker=False, seq=1, ts_ms=T0),
    instrument=instrument(), mark_price=D(60_000), now_ms=T0,
)
"""590,000 of turnover, 10,100 of cost."""


def context(**changes: Any) -> Context:
    """One BTC of room, funding known, nothing spent."""
    fields: dict[str, Any] = {
        "now_ms": T0, "policy": ExecutionPolicy(), "safety": None, "instrument": instrument(),
        "frozen": "", "orders_last_minute": 0, "open_intents": 0, "open_intents_max": 32,
        "funding": funding(), "room": ShortRoom(D(0), D(1)),
    }
    return Context(**{**fields, **changes})


def refusal(intent: Any, around: Context) -> Refusal | None:
    """The first of the limits' refusals."""
    return next((r for check in LIMIT_CHECKS if (r := check(intent, around))), None)


BUY = {"side": Side.BUY}
FREE = {"protective": False}
REDUCE = {"reduce_only": True}
SPOT = instrument(settlement=Settlement.SPOT)
NEAR = funding(funding_next_ts_ms=T0 + 60_000)
NEGATIVE = funding("-0.0001", funding_next_ts_ms=T0 + 60_000)
FULL_DAY = {"budget": SPENT, "policy": ExecutionPolicy(notional_per_day_max=D(649_999))}
CASES: list[tuple[str, dict[str, Any], dict[str, Any], Refusal | None]] = [
    # name, intent (a protective sale of 1 BTC), context, refusal
    ("exactly C + b", {}, {}, None),
    ("one lot is forgiven", {"qty": D("1.001")}, {}, None),
    ("beyond C + b", {"qty": D("1.002")}, {}, R.SHORT_TOO_LARGE),
    ("what is in reach counts", {}, {"room": ShortRoom(D("0.002"), D(1))}, R.SHORT_TOO_LARGE),
    ("a long makes room", {"qty": D(2)}, {"room": ShortRoom(D(-1), D(1))}, None),
    ("half of C + b by policy", {}, {"policy": ExecutionPolicy(short_ratio_max=D("0.5"))},
     R.SHORT_TOO_LARGE),
    ("an unknown account, protecting", {}, {"room": None}, None),
    ("an unknown account", FREE, {"room": None}, R.HOLDINGS_UNKNOWN),
    ("a purchase needs no room", {"qty": D(5), **BUY}, {}, None),
    ("reducing needs no room", {"qty": D(5), **REDUCE}, {}, None),
    ("spot needs no room", {"qty": D(5)}, {"instrument": SPOT}, None),
    ("inverse: 60,000 USD are a coin", {"qty": D(60_000)},
     {"instrument": instrument(settlement=Settlement.INVERSE)}, None),
    ("inverse: 60,001 USD are more", {"qty": D(60_001)},
     {"instrument": instrument(settlement=Settlement.INVERSE)}, R.SHORT_TOO_LARGE),
    ("a settlement that it receives", FREE, {"funding": NEAR}, None),
    ("a settlement that it pays", FREE, {"funding": NEGATIVE}, R.SETTLEMENT_NEAR),
    ("a second earlier", FREE, {"funding": NEGATIVE, "now_ms": T0 - 1}, None),
    ("a purchase pays the other sign", {**FREE, **BUY}, {"funding": NEAR}, R.SETTLEMENT_NEAR),
    ("a purchase receives", {**FREE, **BUY}, {"funding": NEGATIVE}, None),
    ("nobody pays", FREE, {"funding": funding("0", funding_next_ts_ms=T0 + 1)}, None),
    ("protection does not wait", {}, {"funding": NEGATIVE}, None),
    ("nor does reducing", {**FREE, **REDUCE}, {"funding": NEGATIVE}, None),
    ("spot has no funding", FREE, {"funding": None, "instrument": SPOT}, None),
    ("funding unknown", FREE, {"funding": None}, R.FUNDING_UNKNOWN),
    ("funding unknown, protecting", {}, {"funding": None}, None),
    ("a schedule that has passed", FREE, {"now_ms": T0 + HOUR_MS}, R.FUNDING_UNKNOWN),
    ("the day is full", {}, FULL_DAY, R.NOTIONAL_PER_DAY),
    ("the day is just full", {}, {**FULL_DAY, "policy": ExecutionPolicy(
        notional_per_day_max=D(650_000))}, None),
    ("open orders count", {}, {"open_notional": D(50_000_000)}, R.NOTIONAL_PER_DAY),
    ("the day is full, reducing", REDUCE, FULL_DAY, None),
    ("a spot sale covers what is owed", {}, {**FULL_DAY, "instrument": SPOT}, None),
    ("tomorrow", {}, {**FULL_DAY, "now_ms": T0 + 26 * HOUR_MS}, None),
    ("the cost of the day is spent", FREE, {"budget": SPENT}, R.SPEND_PER_DAY),
    ("a liquidation costs more than any fee", {}, {"budget": SPENT}, None),
    ("reducing costs what it costs", {**FREE, **REDUCE}, {"budget": SPENT}, None),
    ("the day after", FREE, {"budget": SPENT, "now_ms": T0 + 26 * HOUR_MS,
     "funding": funding(funding_next_ts_ms=T0 + 30 * HOUR_MS)}, None),
    ("no policy: others refuse it", FREE, {"policy": None}, None),
    ("no terms: others refuse it", FREE, {"instrument": None}, None),
]


@pytest.mark.parametrize(("name", "intent", "around", "expected"), CASES)
def test_each_limit_stops_what_it_is_for(
    name: str, intent: dict[str, Any], around: dict[str, Any], expected: Refusal | None
) -> None:
    """The table of `limits`, cell by cell, with its edges."""
    assert refusal(place(**intent), context(**around)) is expected, name


def many(count: int) -> Budget:
    """So many repayments within the hour."""
    budget = Budget()
    for _ in range(count):
        budget = with_repayment(budget, now_ms=T0)
    return budget


ACTIONS: list[tuple[str, TreasuryKind, dict[str, Any], Refusal | None]] = [
    ("the last of the hour", K.REPAY, {"budget": many(119)}, None),
    ("one more", K.REPAY, {"budget": many(120)}, R.REPAYMENTS_PER_HOUR),
    ("with collateral, too", K.REPAY_WITH_COLLATERAL, {"budget": many(120)}, R.REPAYMENTS_PER_HOUR),
    ("an hour later", K.REPAY, {"budget": many(120), "now_ms": T0 + HOUR_MS + 300_000}, None),
    ("repayments do not stop a top-up", K.TRANSFER_TO_UNIFIED, {"budget": many(120)}, None),
    ("nor is an amount repaid limited", K.REPAY, {"budget": with_borrowing(
        Budget(), D(10**9), now_ms=T0)}, None),
    ("borrowing to the limit", K.BORROW, {"budget": with_borrowing(
        Budget(), D(248_000), now_ms=T0)}, None),
    ("borrowing past it", K.BORROW, {"budget": with_borrowing(
        Budget(), D(248_001), now_ms=T0)}, R.BORROWING_PER_DAY),
    ("borrowing under way counts", K.BORROW, {"open_borrowing": D(248_001)}, R.BORROWING_PER_DAY),
    ("a day later", K.BORROW, {"budget": with_borrowing(Budget(), D(249_000), now_ms=T0),
                               "now_ms": T0 + 26 * HOUR_MS}, None),
    ("no policy, borrowing", K.BORROW, {"policy": None}, R.POLICY_ABSENT),
    ("no policy, repaying", K.REPAY, {"policy": None}, None),
]


@pytest.mark.parametrize(("name", "kind", "around", "expected"), ACTIONS)
def test_money_has_its_limits(
    name: str, kind: TreasuryKind, around: dict[str, Any], expected: Refusal | None
) -> None:
    """Repayments have a pace, borrowing an amount, transfers neither."""
    assert refusal_of_amount(treasury(kind), context(**around)) is expected, name


COSTS: list[tuple[str, dict[str, Any], dict[str, Any] | None, str]] = [
    ("a sale below the mark", {"price": D(59_940)}, {}, "61"),
    ("a sale above it buys nothing back", {"price": D(60_100)}, {}, "1"),
    ("a purchase above the mark", {"side": Side.BUY, "price": D(60_060)}, {}, "61"),
    ("a rebate buys nothing back", {"fee": D(-5)}, {}, "0"),
    ("a fee in coins", {"fee": D("0.001"), "fee_coin": "BTC"}, {}, "60"),
    ("a fee in another coin: the taker rate", {"fee": D(7), "fee_coin": "BNB"}, {}, "33"),
    ("inverse: 60,000 USD sold 0.1 % low", {"qty": D(60_000), "price": D(59_940), "fee": D(0)},
     {"settlement": Settlement.INVERSE}, "60"),
    ("terms unknown: the fee as it stands", {}, None, "1"),
]


@pytest.mark.parametrize(("name", "changes", "terms", "expected"), COSTS)
def test_what_a_fill_costs(
    name: str, changes: dict[str, Any], terms: dict[str, Any] | None, expected: str
) -> None:
    """Fee plus slippage against the mark of the decision, in quote, never negative."""
    sent = Desk().feed(place())[0]
    assert isinstance(sent, SendOrder)
    done = fill(sent, "a", "1").fill
    found = cost_of(
        replace(done, **changes), instrument(**terms) if terms is not None else None, D(60_000)
    )
    assert found == Decimal(expected), name


# ---------------------------------------------------------------- through the executor


def holding(*, short: str = "0", collateral: str = "1", coins: str = "0.1") -> Holdings:
    """An account with these, read just now."""
    return Holdings(
        positions=(Held(PERP, -D(short), 0, T0),), positions_asked_ms=T0,
        collateral=(("BTC", D(collateral)),), collateral_asked_ms=T0,
        coins=(("BTC", D(coins)),), coins_asked_ms=T0,
    )


def test_the_short_counts_what_is_open_and_what_is_not_seen_yet() -> None:
    """0.4 held, 0.3 filled after that read, 0.3 resting: 0.1 more fits into 1.1, 0.11 does not."""
    market = Market(memory=ExecutionMemory(holdings=holding(short="0.4")))
    market.run(place(1, qty=D("0.3")))
    market.venue.thin(2, "0")
    market.run(place(2, qty=D("0.3"), price=D("61000.0"), time_in_force=TimeInForce.GTC))
    market.run(place(3, qty=D("0.111")))
    assert market.order(3).text == "short_too_large"
    market.run(place(4, qty=D("0.1")))
    assert market.order(4).status is OrderStatus.FILLED


def test_the_days_turnover_and_cost_come_from_fills_alone() -> None:
    """An order that found nothing uses up nothing; a fill its notional, fee and slippage, once."""
    market = Market()
    market.venue.thin(1, "0", "0", "0")
    market.run(place(1))
    market.wait(3_000)
    assert market.memory.budget == Budget()
    market.run(place(2, decided_ts_ms=market.now_ms, expires_ts_ms=market.now_ms + 5_000))
    spent = market.memory.budget
    assert spent.turnover_day(market.now_ms) == D(59_700)
    assert spent.spend_day(market.now_ms) == D(302)
    market.run(*[market.venue.execution(o, f) for o in market.venue.orders.values()
                 for f in o.fills])
    assert market.memory.budget == spent


def test_open_orders_count_until_they_are_filled() -> None:
    """Two halves of a day's notional: the third order is refused while the first two are open."""
    desk = Desk()
    desk.tables.policies = policy(notional_per_day_max=D(120_000))
    desk.feed(place(1), place(2), place(3))
    assert desk.order(3).text == "notional_per_day"
    desk.feed(place(4, reduce_only=True, side=Side.BUY))
    assert desk.order(4).status is OrderStatus.PENDING


def test_a_borrowing_counts_when_it_is_paid_out() -> None:
    """One refused by the venue leaves the day as it was; one paid out uses it, a restart does not."""
    market = Market()
    market.tables.policies = policy(borrow_per_day_max=D(3_000))
    market.venue.faults.append("refused")
    market.run(treasury(K.BORROW, 1))
    assert market.memory.budget.borrowed == ()
    market.run(treasury(K.BORROW, 2))
    assert market.memory.budget.borrowed_day(market.now_ms) == D(2_000)
    market.run(treasury(K.BORROW, 3))
    assert market.action(3).text == "borrowing_per_day"
    assert market.venue.debt == D(38_600)


def test_borrowings_under_way_count_too() -> None:
    """Two at once cannot pass where one after the other could not."""
    desk = Desk()
    desk.tables.policies = policy(borrow_per_day_max=D(3_000))
    desk.feed(treasury(K.BORROW, 1), treasury(K.BORROW, 2))
    assert desk.action(2).text == "borrowing_per_day"


def test_repayments_have_a_pace() -> None:
    """The third repayment within the hour is refused, and says why."""
    market = Market()
    market.tables.policies = policy(repayments_per_hour_max=2)
    for number in (1, 2, 3):
        market.run(treasury(K.REPAY, number, amount=D(100), transfer_amount=D(0)))
    assert market.action(3).text == "repayments_per_hour"
    assert len(market.venue.loans) == 2


def test_a_limit_is_not_reset_by_a_restart() -> None:
    """The sums are part of the state that is restored."""
    market = Market()
    market.run(place(1))
    again = Desk(memory=market.memory, tables=market.tables, now_ms=market.now_ms)
    again.tables.policies = policy(notional_per_day_max=D(100_000))
    again.feed(place(2))
    assert again.order(2).text == "notional_per_day"
