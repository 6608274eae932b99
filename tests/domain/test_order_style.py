"""How an order is worked: urgency from the risk state, style from urgency and book, prices and sizes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.execution_world import T0, D, instrument, place, tick
from hedgelock.domain import precheck
from hedgelock.domain.instrument import Settlement
from hedgelock.domain.order import OrderStyle, Side, TimeInForce, Urgency
from hedgelock.domain.order_style import (
    StyleReason,
    choose,
    depth_piece,
    inside_price_limit,
    resting_price,
    urgency_of,
)
from hedgelock.domain.policy import ExecutionPolicy
from hedgelock.domain.refusal import SLICES_MAX, Context
from hedgelock.domain.risk import RiskState

POLICY = ExecutionPolicy()
S = OrderStyle
W = StyleReason


def context(**changes: Any) -> Context:
    """A fresh book around 60,000."""
    fields: dict[str, Any] = {
        "now_ms": T0, "policy": POLICY, "safety": None, "instrument": instrument(), "frozen": "",
        "orders_last_minute": 0, "open_intents": 0, "open_intents_max": 32, "tick": tick(),
    }
    return Context(**{**fields, **changes})


@pytest.mark.parametrize(
    ("state", "protective", "expected"),
    [
        ("normal", False, "patient"), ("caution", False, "brisk"), ("danger", False, "at_once"),
        ("critical", False, "at_once"), ("normal", True, "at_once"), ("caution", True, "at_once"),
        ("danger", True, "at_once"), ("critical", True, "at_once"),
    ],
)
def test_urgency_comes_from_the_risk_state(state: str, protective: bool, expected: str) -> None:
    """Protection never waits; the rest waits the longer the calmer the account is."""
    assert urgency_of(RiskState(state), protective=protective) is Urgency(expected)


LONG = {"expires_ts_ms": T0 + 15_000, "urgency": Urgency.PATIENT}
BRISK = {"urgency": Urgency.BRISK}
CHOICES: list[tuple[str, dict[str, Any], dict[str, Any], tuple[OrderStyle, StyleReason, int]]] = [
    ("an old message", {}, {}, (S.MARKET, W.AT_ONCE, 0)),
    ("at once", {"urgency": Urgency.AT_ONCE}, {}, (S.MARKET, W.AT_ONCE, 0)),
    ("at once, however large", {"urgency": Urgency.AT_ONCE, "qty": D(8)}, {},
     (S.MARKET, W.AT_ONCE, 0)),
    ("a price of the hedger's", {"price": D(60_000), **LONG}, {}, (S.AS_DECIDED, W.PRICE_NAMED, 0)),
    ("brisk", BRISK, {}, (S.IOC_LIMIT, W.BRISK, 0)),
    ("brisk, 240,000", {"qty": D(4), **BRISK}, {}, (S.IOC_LIMIT, W.BRISK, 0)),
    ("brisk, 300,000", {"qty": D(5), **BRISK}, {}, (S.SLICED, W.BRISK_AND_LARGE, 0)),
    ("patient", LONG, {}, (S.POST_ONLY, W.PATIENT, T0 + 10_000)),
    ("patient, short-lived", {"urgency": Urgency.PATIENT}, {}, (S.POST_ONLY, W.PATIENT, T0 + 3_000)),
    ("patient, no time", {**LONG, "expires_ts_ms": T0 + 2_000}, {},
     (S.IOC_LIMIT, W.PATIENT_WITHOUT_TIME, 0)),
    ("patient, no book", LONG, {"tick": None}, (S.IOC_LIMIT, W.PATIENT_WITHOUT_BOOK, 0)),
    ("patient, no ask", LONG, {"tick": tick(ask_price=None)},
     (S.IOC_LIMIT, W.PATIENT_WITHOUT_BOOK, 0)),
    ("patient, no book, large", {**LONG, "qty": D(5)}, {"tick": None},
     (S.SLICED, W.BRISK_AND_LARGE, 0)),
    ("no policy", LONG, {"policy": None}, (S.IOC_LIMIT, W.PATIENT_WITHOUT_BOOK, 0)),
    ("no terms", BRISK, {"instrument": None}, (S.IOC_LIMIT, W.BRISK, 0)),
]


@pytest.mark.parametrize(("name", "intent", "around", "expected"), CHOICES)
def test_style(name: str, intent: dict[str, Any], around: dict[str, Any], expected: Any) -> None:
    """Each urgency has its style, and its way out where the book does not allow it."""
    assert tuple(choose(place(**intent), context(**around))) == expected, name


@pytest.mark.parametrize(
    ("side", "bid", "ask", "bound", "expected"),
    [
        ("sell", "59999.9", "60000.1", "59700", "60000.1"),
        ("buy", "59999.9", "60000.1", "60300", "59999.9"),
        ("sell", "59000", "59000.1", "59700", "59700.0"),
        ("buy", "61000", "61000.1", "60300", "60300.0"),
        ("sell", "59999.9", "60000.12", "59700", "60000.2"),
        ("buy", "59999.98", "60000.1", "60300", "59999.9"),
    ],
)
def test_a_patient_order_rests_at_the_best_price_inside_its_bound(
    side: str, bid: str, ask: str, bound: str, expected: str
) -> None:
    """The best price of its own side, rounded away from the spread, never beyond the bound."""
    found = resting_price(place(side=Side(side)), tick(bid, ask), instrument(), D(bound))
    assert found == D(expected)
    assert resting_price(place(side=Side(side)), None, instrument(), D(bound)) is None


@pytest.mark.parametrize(
    ("side", "price", "ratio", "expected"),
    [
        ("sell", "59700", "0.01", "59700"), ("sell", "58800", "0.01", "59400"),
        ("buy", "60300", "0.01", "60300"), ("buy", "61200", "0.01", "60600"),
        ("sell", "58800", None, "58800"), ("buy", "61200", "0.0100009", "60600.0"),
    ],
)
def test_a_price_stays_inside_the_venues_limits(
    side: str, price: str, ratio: str | None, expected: str
) -> None:
    """A bound wider than mark·(1 ± X) is brought inside it; a narrower one stays."""
    terms = instrument(price_limit_ratio=D(ratio) if ratio else None)
    assert inside_price_limit(D(price), Side(side), tick(), terms) == D(expected)
    assert inside_price_limit(D(price), Side(side), None, terms) == D(price)


@pytest.mark.parametrize(
    ("shown", "qty", "expected"),
    [
        (None, "10", "4.166"), ("100", "10", "4.166"), ("2", "10", "2"), ("0.1", "10", "1.25"),
        ("0", "10", "1.25"), ("1.2505", "10.001", "1.251"),
    ],
)
def test_a_slice_is_what_the_book_shows(shown: str | None, qty: str, expected: str) -> None:
    """At most 250,000 USDT and what stands at the price, at least an eighth; whole lots."""
    book = tick(bid_qty=D(shown) if shown else None, ask_qty=D(9))
    assert depth_piece(place(qty=D(qty)), POLICY, book, instrument()) == D(expected)


def test_a_purchase_looks_at_the_asks() -> None:
    """The side that it takes from."""
    book = tick(bid_qty=D(9), ask_qty=D(2))
    assert depth_piece(place(qty=D(10), side=Side.BUY), POLICY, book, instrument()) == 2
    assert depth_piece(place(qty=D(10)), POLICY, None, instrument()) == D("4.166")


def test_inverse_slices_count_dollars() -> None:
    """An inverse quantity is its notional already."""
    inverse = instrument(settlement=Settlement.INVERSE, lot_size=D(1), qty_min=D(1))
    assert depth_piece(place(qty=D(900_000)), POLICY, None, inverse) == 250_000


@given(st.integers(1, 100_000), st.none() | st.integers(0, 30_000), st.integers(1, 3_000))
def test_slices_by_depth_are_few_whole_and_complete(
    lots: int, shown_lots: int | None, market_max: int
) -> None:
    """Never more than the venue takes in one order; Σ = the order; at most eight unless it says so."""
    lot = D("0.001")
    terms = instrument(qty_market_max=lot * market_max)
    intent = place(qty=lot * lots)
    shown = None if shown_lots is None else lot * shown_lots
    most = depth_piece(intent, POLICY, tick(bid_qty=shown), terms)
    pieces = precheck.slices(intent, terms, most=most)
    if pieces is None:
        assert precheck.slices(intent, terms) is None or market_max * SLICES_MAX < lots
        return
    assert sum(pieces) == intent.qty
    assert len(pieces) <= SLICES_MAX
    assert all(0 < piece <= lot * market_max and piece % lot == 0 for piece in pieces)


def test_a_resting_order_has_its_own_size_limit() -> None:
    """Post-only orders obey their maximum beside the others."""
    terms = instrument(qty_max=D(100), qty_market_max=None, qty_post_only_max=D(40))
    resting = place(qty=D(100), price=D(60_000), time_in_force=TimeInForce.GTC)
    assert precheck.slices(resting, terms) == (100,)
    assert len(precheck.slices(resting, terms, post_only=True) or ()) == 3
