"""Nothing discretionary is asked for before a settlement that it would pay, and only once after it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hedge_situations import LADDER, held, situation, situations
from hedge_world import D, World, instrument, policy
from hypothesis import given
from strategies import funding_context
from test_hedging import ladder_world

from hedgelock.domain.hedging import HedgeDecision
from hedgelock.domain.limits import near_settlement
from hedgelock.domain.message import Tick
from hedgelock.domain.order import PlaceOrder, Side
from hedgelock.domain.policy import ExecutionPolicy, Strategy
from hedgelock.domain.situation import HedgeReason, OrderAction, Situation
from hedgelock.domain.sizing import decide
from hedgelock.domain.strategies import STRATEGIES, Target

GUARD_MS = ExecutionPolicy().settlement_guard_ms


def before_settlement(in_ms: int, *, rate: str = "-0.0005") -> World:
    """A ladder in CAUTION that wants .1 BTC short; longs are paid: the short would pay."""
    made = ladder_world("55000")
    made.now_ms += 1
    made.tables.funding_row = funding(made, in_ms, rate)
    return made


def funding(made: World, in_ms: int, rate: str = "-0.0005") -> Any:
    """The context of the settlement that is `in_ms` away."""
    return msgspec.structs.replace(
        funding_context(), funding_rate=D(rate), ts_seen_ms=made.now_ms,
        funding_next_ts_ms=made.now_ms + in_ms, multiplier_short=D(1),
    )


def said(made: World, message: Any) -> tuple[list[PlaceOrder], list[str], int | None]:
    """The orders and the reasons of one step, and until when it holds."""
    done = made.step(message)
    bodies = [output.message for output in done.outputs]
    return (
        [b for b in bodies if isinstance(b, PlaceOrder) and b.trigger_price is None],
        [b.reason for b in bodies if isinstance(b, HedgeDecision)], done.hold.until_ms,
    )


def test_a_guarded_size_waits_for_the_settlement_and_the_next_schedule() -> None:
    """Asked 40 s before: one reason, no order, held until the settlement; ordered with the next row."""
    made = before_settlement(40_000)
    settles_ms = made.now_ms + 40_000
    orders, reasons, until_ms = said(made, made.assessment())
    assert (orders, reasons) == ([], ["settlement_near"])
    assert until_ms is not None and until_ms <= settles_ms
    for _ in range(7):  # what came back every 5 s before
        made.now_ms += 5_000
        for fact in (*made.facts(), made.assessment()):
            assert said(made, fact)[:2] == ([], [])
    made.now_ms = settles_ms
    assert said(made, Tick(now_ms=made.now_ms))[:2] == ([], ["funding_unknown"])
    made.tables.funding_row = funding(made, 28_800_000)
    orders, reasons, _ = said(made, made.tables.funding_row)
    assert [(o.side, o.qty, o.protective) for o in orders] == [(Side.SELL, D("0.1"), False)]
    assert reasons == ["hedge_raised"]


@pytest.mark.parametrize(("in_ms", "rate"), [(GUARD_MS + 1, "-0.0005"), (1, "0.0005"), (1, "0")])
def test_what_would_not_pay_is_not_guarded(in_ms: int, rate: str) -> None:
    """Longer than a minute before, or where the short is paid or nobody pays, it is ordered."""
    made = before_settlement(in_ms, rate=rate)
    assert len(said(made, made.assessment())[0]) == 1


def test_time_alone_ends_the_hold_where_the_guard_begins_and_ends() -> None:
    """The hedger asks to be stepped when the guard starts, at the settlement and when funding is old."""
    made = before_settlement(GUARD_MS + 10_000, rate="0")
    made.tables.policy_row = policy(strategy=Strategy.LADDER, caution_size=D(0))
    start_ms = made.now_ms
    assert made.step(made.assessment()).hold.until_ms == start_ms + 10_000
    made.now_ms = start_ms + 10_000
    assert (made.step(made.assessment()).hold.until_ms or 0) <= start_ms + GUARD_MS + 10_000


@pytest.mark.parametrize(
    ("protective", "sold"),
    [("0.5", "0.3"), ("0.2", None), ("0.24", None), ("0.25", "0.05"), ("0.1", None), ("0.8", "0.4")],
)
def test_protection_does_not_wait_with_the_rest(
    protective: str, sold: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a target that is partly protective that part is sold, outside the band; the rest waits."""
    target = Target(D(protective), D("0.6") - min(D("0.6"), D(protective)))
    monkeypatch.setitem(STRATEGIES, Strategy.LADDER, lambda _: target)  # type: ignore[arg-type]
    guarded = situation(
        hedge=LADDER, equity="60000", debt="20000", exposure=held("0.2"),
        sale_guard=HedgeReason.SETTLEMENT_NEAR,
        instrument=instrument(qty_market_max=D("0.4")),
    )
    decision = decide(guarded)
    orders = [a for a in decision.actions if isinstance(a, OrderAction)]
    if sold is None:
        assert (orders, decision.reason) == ([], HedgeReason.SETTLEMENT_NEAR)
        (freed,) = decide(guarded._replace(sale_guard=None)).actions
        assert isinstance(freed, OrderAction) and (freed.qty, freed.protective) == (D("0.4"), False)
    else:
        assert [(a.side, a.qty, a.protective) for a in orders] == [(Side.SELL, D(sold), True)]


@given(situations())
def test_guarded_sales_are_protective(s: Situation) -> None:
    """Whatever the account: with a guard no discretionary sale of the contract is decided."""
    guarded = s._replace(sale_guard=HedgeReason.SETTLEMENT_NEAR)
    sales = [a for a in decide(guarded).actions if isinstance(a, OrderAction)
             and a.side is Side.SELL and a.purpose.name == "HEDGE"]
    protective = STRATEGIES[s.policy.strategy](s).protective
    assert all(a.protective and a.qty + s.exposure.high <= protective for a in sales)


@pytest.mark.parametrize("in_ms", [-1, 0, 1, GUARD_MS, GUARD_MS + 1])
@pytest.mark.parametrize("rate", ["-0.0005", "0.0005"])
def test_hedger_and_executor_judge_alike(in_ms: int, rate: str) -> None:
    """The hedger's guard is the executor's refusal, word for word."""
    made = before_settlement(in_ms, rate=rate)
    refusal = near_settlement(
        Side.SELL, made.tables.funding_row, ExecutionPolicy(), now_ms=made.now_ms)
    orders, reasons, _ = said(made, made.assessment())
    assert ([] if refusal is None else [refusal.value]) == ([] if orders else reasons)
