"""The executor's stop and resting orders on the built-in simulator, over real sockets."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from exchanges.bybit_stub import Make
from exchanges.test_bybit_effects import SEND
from hedgelock.clock import SystemClock
from hedgelock.domain.effect import (
    CancelOrder,
    ListOrders,
    OpenOrders,
    OrderAnswer,
    OrderFacts,
    Outcome,
    QueryOrder,
    SendOrder,
)
from hedgelock.domain.execution_memory import Attempt, OrderIntent
from hedgelock.domain.order import OrderStatus, OrderType, PlaceOrder, Side, TimeInForce
from hedgelock.domain.order_execution import is_price_worse, mismatch
from hedgelock.simulator.server import RunningServer

D = Decimal
HOUR_MS = 3_600_000
SELL = msgspec.structs.replace(SEND, price=D(50_000), reduce_only=False)


def intent_of(sent: SendOrder) -> PlaceOrder:
    """The intent behind an order, decided now."""
    now_ms = SystemClock().now_ms()
    return PlaceOrder(
        account="main", intent_id=sent.intent_id, instrument=sent.instrument, side=sent.side,
        qty=sent.qty, reduce_only=sent.reduce_only, protective=True, reason="r",
        mark_price=D(60_000), slippage_max=D("0.1"), decided_ts_ms=now_ms,
        expires_ts_ms=now_ms + HOUR_MS, trigger_price=sent.trigger_price,
    )


def adopted(sent: SendOrder, facts: OrderFacts, price: Decimal) -> str:
    """In what the executor would find the venue's order different from its own; "" = in nothing."""
    intent = intent_of(sent)
    attempt = Attempt(
        slice_no=0, attempt_no=0, client_order_id=sent.client_order_id, qty=sent.qty, price=price
    )
    assert not is_price_worse(attempt, facts.report)
    return mismatch(OrderIntent(intent=intent), attempt, facts.report)


async def test_a_stop_rests_is_listed_adopted_and_cancelled(
    simulator: RunningServer, make: Make
) -> None:
    """The whole life of a stop that never fires, as the executor sees it through the adapter."""
    exchange = make(simulator.port)
    await exchange.perform(SELL)
    stop = msgspec.structs.replace(
        SEND, client_order_id="hlstop", side=Side.BUY, order_type=OrderType.MARKET, price=None,
        reduce_only=True, trigger_price=D(70_000), protective=True,
    )
    sent = await exchange.perform(stop)
    assert isinstance(sent, OrderAnswer)
    assert sent.outcome is Outcome.ACCEPTED, sent.text
    listed = await exchange.perform(ListOrders(account="main"))
    assert isinstance(listed, OpenOrders)
    assert [(r.client_order_id, r.status) for r in listed.reports] == [("hlstop", OrderStatus.NEW)]
    query = QueryOrder(
        account="main", client_order_id="hlstop", instrument=stop.instrument, since_ts_ms=0
    )
    facts = await exchange.perform(query)
    assert isinstance(facts, OrderFacts)
    assert adopted(stop, facts, D(70_000)) == ""
    await exchange.perform(
        CancelOrder(account="main", client_order_id="hlstop", instrument=stop.instrument)
    )
    facts = await exchange.perform(query)
    assert isinstance(facts, OrderFacts)
    assert facts.report.status is OrderStatus.CANCELLED


async def test_a_post_only_order_that_would_take_is_cancelled_by_the_venue(
    simulator: RunningServer, make: Make
) -> None:
    """Accepted, then cancelled unfilled; one that rests stays and is listed at its price."""
    exchange = make(simulator.port)
    crossing = msgspec.structs.replace(
        SELL, client_order_id="hltake", time_in_force=TimeInForce.POST_ONLY
    )
    resting = msgspec.structs.replace(
        SELL, client_order_id="hlrest", time_in_force=TimeInForce.POST_ONLY, price=D(60_500)
    )
    for order in (crossing, resting):
        answer = await exchange.perform(order)
        assert isinstance(answer, OrderAnswer)
        assert answer.outcome is Outcome.ACCEPTED
    listed = await exchange.perform(ListOrders(account="main"))
    assert isinstance(listed, OpenOrders)
    assert [(r.client_order_id, r.price) for r in listed.reports] == [("hlrest", D(60_500))]
    facts = await exchange.perform(QueryOrder(
        account="main", client_order_id="hltake", instrument=SELL.instrument, since_ts_ms=0
    ))
    assert isinstance(facts, OrderFacts)
    assert (facts.report.status, facts.report.filled_qty) == (OrderStatus.CANCELLED, 0)


async def test_a_sale_below_the_venues_limit_is_clipped_in_our_favour(
    simulator: RunningServer, make: Make
) -> None:
    """A sale at 50,000 under a mark of 60,000 is held at the limit, or as sent: never worse."""
    exchange = make(simulator.port)
    await exchange.perform(SELL)
    facts = await exchange.perform(QueryOrder(
        account="main", client_order_id=SELL.client_order_id, instrument=SELL.instrument,
        since_ts_ms=0,
    ))
    assert isinstance(facts, OrderFacts)
    assert facts.report.price is not None
    assert facts.report.price >= D(50_000)
    assert adopted(SELL, facts, D(50_000)) == ""
