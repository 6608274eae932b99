"""The checks before anything leaves: each refusal, its order, and the sizes and prices sent."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.execution_world import (
    T0,
    D,
    instrument,
    place,
    safety,
    treasury,
)
from hedgelock.domain import precheck
from hedgelock.domain.effect import CancelOrder, QueryOrder, SendLoanAction, SendOrder, SendTransfer
from hedgelock.domain.instrument import Settlement
from hedgelock.domain.order import OrderType, Side, TimeInForce
from hedgelock.domain.policy import ExecutionPolicy
from hedgelock.domain.precheck import CHECKS, Context, Refusal, refusal_of, refusal_of_action
from hedgelock.domain.safety import SafetyMode, SafetyState
from hedgelock.domain.treasury import Pocket, TreasuryKind


def context(**changes: Any) -> Context:
    """Everything present and permissive."""
    fields: dict[str, Any] = {
        "now_ms": T0, "policy": ExecutionPolicy(), "safety": safety(), "instrument": instrument(),
        "frozen": "", "orders_last_minute": 0, "open_intents": 0, "open_intents_max": 32,
    }
    return Context(**{**fields, **changes})


REDUCING = safety(SafetyMode.REDUCING)
HALTED = safety(SafetyMode.HALTED)
KILLED = safety(SafetyMode.KILLED)
MOST = ExecutionPolicy().orders_per_minute_max
FLATTEN = safety(SafetyMode.KILLED, flatten=True)

CASES: list[tuple[str, dict[str, Any], dict[str, Any], Refusal | None]] = [
    ("all well", {}, {}, None),
    ("last moment", {}, {"now_ms": T0 + 4_999}, None),
    ("deadline", {}, {"now_ms": T0 + 5_000}, Refusal.EXPIRED),
    ("decided a little ahead", {"decided_ts_ms": T0 + 5_000}, {}, None),
    ("decided in the future", {"decided_ts_ms": T0 + 5_001}, {}, Refusal.FROM_THE_FUTURE),
    ("no word of safety, protective", {}, {"safety": None}, None),
    ("no word of safety", {"protective": False}, {"safety": None}, Refusal.SAFETY_ABSENT),
    ("reducing, protective", {}, {"safety": REDUCING}, None),
    ("reducing", {"protective": False}, {"safety": REDUCING}, Refusal.REDUCING),
    ("reducing, reduce-only", {"protective": False, "reduce_only": True}, {"safety": REDUCING}, None),
    ("halted, protective", {}, {"safety": HALTED}, None),
    ("halted", {"protective": False}, {"safety": HALTED}, Refusal.HALTED),
    ("halted, reducing", {"protective": False, "reduce_only": True}, {"safety": HALTED},
     Refusal.HALTED),
    ("killed, protective", {}, {"safety": KILLED}, Refusal.KILLED),
    ("killed, reducing, not confirmed", {"reduce_only": True}, {"safety": KILLED},
     Refusal.KILLED),
    ("killed, flatten, opening", {}, {"safety": FLATTEN}, Refusal.KILLED),
    ("killed, flatten, reducing", {"reduce_only": True}, {"safety": FLATTEN}, None),
    ("frozen", {}, {"frozen": "odd order"}, Refusal.ACCOUNT_FROZEN),
    ("frozen, reducing", {"reduce_only": True}, {"frozen": "odd order"}, None),
    ("no policy", {}, {"policy": None}, Refusal.POLICY_ABSENT),
    ("no terms", {}, {"instrument": None}, Refusal.INSTRUMENT_UNKNOWN),
    ("too many open", {}, {"open_intents": 32}, Refusal.TOO_MANY_OPEN),
    ("minute full", {}, {"orders_last_minute": MOST}, Refusal.TOO_MANY_ORDERS),
    ("minute nearly full", {}, {"orders_last_minute": MOST - 1}, None),
    ("minute full, reducing", {"reduce_only": True}, {"orders_last_minute": MOST}, None),
    ("off the lot", {"qty": D("1.0005")}, {}, Refusal.QTY_OFF_LOT),
    ("absurd quantity", {"qty": D("1e30")}, {}, Refusal.QTY_TOO_LARGE),
    ("too small", {"qty": D("0.001")}, {"instrument": instrument(qty_min=D("0.002"))},
     Refusal.QTY_TOO_SMALL),
    ("more than eight slices", {"qty": D("16.001")}, {}, Refusal.QTY_TOO_LARGE),
    ("eight slices", {"qty": D(16)}, {}, None),
    ("venue maximum below a lot", {}, {"instrument": instrument(qty_market_max=D("0.0001"))},
     Refusal.QTY_TOO_LARGE),
    ("off the tick", {"price": D("60000.05")}, {}, Refusal.PRICE_OFF_TICK),
    ("on the tick", {"price": D("60000.1")}, {}, None),
    ("bound below zero", {"slippage_max": D(2)},
     {"policy": ExecutionPolicy(slippage_max=D(2))}, Refusal.PRICE_IMPOSSIBLE),
    ("too much money", {"mark_price": D(6_000_000)}, {}, Refusal.NOTIONAL_TOO_LARGE),
    ("too little money", {"qty": D("0.001"), "mark_price": D(4_000)}, {},
     Refusal.NOTIONAL_TOO_SMALL),
    ("too little money, reducing",
     {"qty": D("0.001"), "mark_price": D(4_000), "reduce_only": True}, {}, None),
    ("no minimum stated", {"qty": D("0.001"), "mark_price": D(4_000)},
     {"instrument": instrument(notional_min=None)}, None),
]


@pytest.mark.parametrize(("name", "intent", "around", "expected"), CASES)
def test_each_check_refuses_what_it_is_for(
    name: str, intent: dict[str, Any], around: dict[str, Any], expected: Refusal | None
) -> None:
    """One deviation from an acceptable intent brings exactly its own refusal."""
    assert refusal_of(place(**intent), context(**around)) is expected, name


def test_the_first_refusal_wins() -> None:
    """Of several reasons the earliest in the list is given: time, then safety, then the rest."""
    bad = place(qty=D("0.0005"), protective=False)
    assert refusal_of(bad, context(now_ms=T0 + 9_000, safety=HALTED)) is Refusal.EXPIRED
    assert refusal_of(bad, context(safety=HALTED, frozen="x")) is Refusal.HALTED
    assert refusal_of(bad, context(frozen="x", policy=None)) is Refusal.ACCOUNT_FROZEN


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_alone_survives_missing_context(check: precheck.Check) -> None:
    """With nothing known each check refuses or passes; none of them raises."""
    empty = Context(T0, None, None, None, "", 0, 0, 1)
    assert check(place(), empty) in (None, *Refusal)


SIDES = [
    # side, mark, slippage, tick, bound
    ("buy", "60000", "0.005", "0.1", "60300.0"),
    ("sell", "60000", "0.005", "0.1", "59700.0"),
    ("buy", "60000.07", "0.005", "0.5", "60300.0"),
    ("sell", "60000.07", "0.005", "0.5", "59700.5"),
    ("buy", "0.0123", "0.005", "0.0001", "0.0123"),
    ("sell", "0.0123", "0.005", "0.0001", "0.0123"),
]


@pytest.mark.parametrize(("side", "mark", "slippage", "tick", "bound"), SIDES)
def test_a_market_intent_is_bounded_inside(
    side: str, mark: str, slippage: str, tick: str, bound: str
) -> None:
    """mark·(1 ± slippage), rounded towards the mark: never worse than the bound."""
    intent = place(side=Side(side), mark_price=D(mark), slippage_max=D(slippage))
    terms = instrument(tick_size=D(tick))
    assert precheck.limit_price(intent, terms, ExecutionPolicy()) == D(bound)


def test_the_stricter_slippage_counts() -> None:
    """An intent cannot allow itself more than the policy does."""
    wide = place(slippage_max=D("0.1"))
    assert precheck.limit_price(wide, instrument(), ExecutionPolicy()) == D("59700.0")
    tight = place(slippage_max=D("0.001"))
    assert precheck.limit_price(tight, instrument(), ExecutionPolicy()) == D("59940.0")


def test_a_limit_price_is_sent_as_decided() -> None:
    """Only market intents get a bound; a price of the hedger's stays."""
    assert precheck.limit_price(
        place(price=D("61000.5")), instrument(), ExecutionPolicy()
    ) == D("61000.5")


LIMITS = [
    # market?, qty_max, qty_market_max, largest piece
    (True, "100", "2", "2"),
    (True, "1", "2", "1"),
    (True, None, "2", "2"),
    (True, "100", None, "100"),
    (False, "100", "2", "100"),
    (True, "100", "2.0007", "2"),
    (False, None, "2", None),
]


@pytest.mark.parametrize(("is_market", "most", "most_market", "expected"), LIMITS)
def test_the_venues_size_limits(
    is_market: bool, most: str | None, most_market: str | None, expected: str | None
) -> None:
    """A market intent obeys both limits, a limit intent its own; whole lots; none stated, none."""
    terms = instrument(
        qty_max=D(most) if most else None, qty_market_max=D(most_market) if most_market else None
    )
    intent = place(price=None if is_market else D(60_000))
    assert precheck.piece_max(intent, terms) == (D(expected) if expected else None)


@given(st.integers(1, 16_000), st.integers(1, 3_000))
def test_slices_add_up_and_respect_the_limit(lots: int, limit_lots: int) -> None:
    """Pieces are whole lots > 0 within the limit, as few as possible, and sum to the intent."""
    lot = D("0.001")
    terms = instrument(qty_market_max=lot * limit_lots)
    pieces = precheck.slices(place(qty=lot * lots), terms)
    fewest = -(-lots // limit_lots)
    if fewest > precheck.SLICES_MAX:
        assert pieces is None
        return
    assert pieces is not None
    assert len(pieces) == fewest
    assert sum(pieces) == lot * lots
    assert all(0 < piece <= lot * limit_lots and piece % lot == 0 for piece in pieces)


def test_notional_of_an_inverse_contract_is_its_quantity() -> None:
    """An inverse contract is one dollar; a linear one is worth its price."""
    inverse = instrument(settlement=Settlement.INVERSE)
    assert precheck.notional(D(30_000), D(60_000), inverse) == D(30_000)
    assert precheck.notional(D("0.5"), D(60_000), instrument()) == D(30_000)


NUMBERS = st.decimals("1e-30", "9e29", allow_nan=False, allow_infinity=False)


@given(qty=NUMBERS, mark=NUMBERS, slip=NUMBERS, price=st.none() | NUMBERS, lot=NUMBERS,
       tick=NUMBERS, most=st.none() | NUMBERS)
def test_no_decodable_number_raises(
    qty: Decimal, mark: Decimal, slip: Decimal, price: Decimal | None, lot: Decimal,
    tick: Decimal, most: Decimal | None,
) -> None:
    """Every number that passes the wire's checks is judged, never stumbled over."""
    intent = place(qty=qty, mark_price=mark, slippage_max=slip, price=price)
    terms = instrument(lot_size=lot, tick_size=tick, qty_max=most, qty_market_max=most)
    assert refusal_of(intent, context(instrument=terms)) in (None, *Refusal)


# ---------------------------------------------------------------- treasury actions

K = TreasuryKind
ACTIONS: list[tuple[str, TreasuryKind, dict[str, Any], dict[str, Any], Refusal | None]] = [
    ("well", K.BORROW, {}, {}, None),
    ("late", K.REPAY, {}, {"now_ms": T0 + 5_000}, Refusal.EXPIRED),
    ("from the future", K.REPAY, {"decided_ts_ms": T0 + 5_001}, {}, Refusal.FROM_THE_FUTURE),
    ("halted repay", K.REPAY, {}, {"safety": HALTED}, None),
    ("halted sale", K.REPAY_WITH_COLLATERAL, {}, {"safety": HALTED}, None),
    ("halted top-up", K.TRANSFER_TO_UNIFIED, {"transfer_amount": D(0)}, {"safety": HALTED}, None),
    ("halted drain", K.TRANSFER_TO_FUND, {"transfer_amount": D(0)}, {"safety": HALTED},
     Refusal.HALTED),
    ("reducing borrow", K.BORROW, {}, {"safety": REDUCING}, None),
    ("halted borrow", K.BORROW, {}, {"safety": HALTED}, Refusal.HALTED),
    ("unknown safety, repay", K.REPAY, {}, {"safety": None}, None),
    ("unknown safety, borrow", K.BORROW, {}, {"safety": None}, Refusal.SAFETY_ABSENT),
    ("killed repay", K.REPAY, {}, {"safety": FLATTEN}, Refusal.KILLED),
    ("frozen repay", K.REPAY, {}, {"frozen": "x"}, None),
    ("frozen borrow", K.BORROW, {}, {"frozen": "x"}, Refusal.ACCOUNT_FROZEN),
    ("too many", K.REPAY, {}, {"open_intents": 32}, Refusal.TOO_MANY_OPEN),
    ("what to sell?", K.REPAY_WITH_COLLATERAL, {"collateral_coin": ""}, {},
     Refusal.COLLATERAL_COIN_ABSENT),
    ("which amount?", K.TRANSFER_TO_FUND, {"transfer_amount": D(7)}, {},
     Refusal.AMOUNT_AMBIGUOUS),
    ("the same twice", K.TRANSFER_TO_FUND, {"transfer_amount": D("2000.0")}, {}, None),
]


@pytest.mark.parametrize(("name", "kind", "action", "around", "expected"), ACTIONS)
def test_treasury_actions_are_checked(
    name: str, kind: TreasuryKind, action: dict[str, Any], around: dict[str, Any],
    expected: Refusal | None,
) -> None:
    """Repaying and topping up stay possible when halted or frozen; borrowing and draining do not."""
    assert refusal_of_action(treasury(kind, **action), context(**around)) is expected, name


def order(**changes: Any) -> SendOrder:
    """An order about to leave."""
    fields: dict[str, Any] = {
        "account": "main", "intent_id": "i", "client_order_id": "hl1", "instrument": "x",
        "side": Side.SELL, "order_type": OrderType.LIMIT, "qty": D(1), "price": D(1),
        "time_in_force": TimeInForce.IOC, "reduce_only": False, "expires_ts_ms": T0,
    }
    return SendOrder(**{**fields, **changes})


def transfer(target: Pocket, **changes: Any) -> SendTransfer:
    """A transfer about to leave."""
    source = Pocket.FUND if target is Pocket.UNIFIED else Pocket.UNIFIED
    return SendTransfer(
        account="main", intent_id="i", transfer_id="t", coin="USDT", amount=D(1), source=source,
        target=target, **changes,
    )


def loan(kind: TreasuryKind) -> SendLoanAction:
    """A loan action about to leave."""
    return SendLoanAction(
        account="main", intent_id="i", kind_of=kind, coin="USDT", amount=D(1), collateral_coin="",
    )


QUERY = QueryOrder(account="main", client_order_id="hl1", instrument="x", since_ts_ms=0)
CANCEL = CancelOrder(account="main", client_order_id="hl1", instrument="x")
LEAVING: list[tuple[Any, str]] = [
    # effect                              refused when: none, active, reducing, halted, killed, flatten
    (order(), "safety_absent - reducing halted killed killed"),
    (order(protective=True), "- - - - killed killed"),
    (order(reduce_only=True), "safety_absent - - halted killed -"),
    (loan(K.REPAY), "- - - - killed killed"),
    (loan(K.BORROW), "safety_absent - - halted killed killed"),
    (transfer(Pocket.UNIFIED), "- - - - killed killed"),
    (transfer(Pocket.FUND), "safety_absent - - halted killed killed"),
    (transfer(Pocket.FUND, protective=True), "- - - - killed killed"),
    (QUERY, "- - - - - -"),
    (CANCEL, "- - - - - -"),
]
WORDS: tuple[SafetyState | None, ...] = (None, safety(), REDUCING, HALTED, KILLED, FLATTEN)


@pytest.mark.parametrize(("effect", "expected"), LEAVING)
def test_safety_has_the_last_word(effect: Any, expected: str) -> None:
    """At the moment of sending safety's latest word decides; questions and cancels always go."""
    found = [precheck.forbidden(effect, word) or "-" for word in WORDS]
    assert found == expected.split()
