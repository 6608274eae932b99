"""One trace from the exchange's event to the fill, and twelve sockets that each speak for one service."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from trial import Trial, ask, trial

from hedgelock.app import SERVICES
from hedgelock.bus import codec
from hedgelock.domain.order import OrderConfirmation, PlaceOrder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

W3C = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-01")


def envelopes(run: Trial, *topics: str) -> Iterator[codec.Envelope]:
    """Every message of some topics."""
    bus = run.bus()
    try:
        for topic in topics:
            for record in bus.read(topic):
                yield codec.decode(record.value, topic)
    finally:
        bus.close()


def trace_id(traceparent: str) -> str:
    """The 32 hex digits of a W3C traceparent."""
    found = W3C.fullmatch(traceparent)
    assert found, traceparent
    return found[1]


def check_traces(run: Trial) -> None:
    """Tick, assessment, order and confirmation of a tick's order share one trace; so do their log lines."""
    ticks = {trace_id(e.trace): e for e in envelopes(run, "market_data")}
    assessments = {e.id: e for e in envelopes(run, "risk_state")}
    orders = {e.body.intent_id: e for e in envelopes(run, "hedge_trades")
              if isinstance(e.body, PlaceOrder) and e.body.trigger_price is None}  # stops follow fills
    ends = [e for e in envelopes(run, "trade_confirmations") if isinstance(e.body, OrderConfirmation)]
    lines: dict[str, set[str]] = {}
    for line in run.lines("engine"):
        if "trace" in line:
            lines.setdefault(trace_id(line["trace"]), set()).add(line["event"])
    of_ticks = filled = 0
    for intent, order in orders.items():
        trace = trace_id(order.trace)
        if trace not in ticks:
            continue  # a read of the account triggered it
        caused = [assessments[i] for i in order.causes if i in assessments]
        assert [trace_id(e.trace) for e in caused] == [trace]
        own = [e for e in ends if e.body.intent_id == intent]
        assert own, intent
        if len({e.body.client_order_id for e in own} - {""}) > 1:
            continue  # tried again later: it was the clock that woke the executor
        assert {trace_id(e.trace) for e in own} == {trace}, intent
        spans = {e.trace for e in (ticks[trace], *caused, order, *own)}
        assert len(spans) == 3 + len({e.trace for e in own}), "each step is a span of its own"
        filled += any(e.body.fills for e in own)
        assert lines[trace] >= {"order_decided", "order_done"}
        of_ticks += 1
    assert of_ticks >= 1, "no order came from a tick"
    assert filled >= 1, "none of them was filled"


def check_pages(run: Trial) -> None:
    """Each service answers on its two ports, for itself, from a registry of its own."""
    steps = {}
    for name in SERVICES:
        for on_metrics in (False, True):
            health = ask(run.url(name, "/healthz", metrics=on_metrics))
            assert (health.status, health.body["service"]) == (200, name)
            ready = ask(run.url(name, "/ready", metrics=on_metrics))
            assert (ready.status, ready.body["service"]) == (200, name)
            page = ask(run.url(name, "/metrics", metrics=on_metrics))
            assert page.status == 200 and "hedgelock_steps_total" in page.text
            assert ask(run.url(name, "/nothing", metrics=on_metrics)).status == 404
        steps[name] = run.metric(name, "steps_total")
    folding = [steps[name] for name in SERVICES if name != "collector"]
    assert all(count > 0 for count in folding) and steps["collector"] == 0
    assert len(set(folding)) > 2, f"one registry for all? {steps}"
    assert run.metric("risk-engine", "ltv", account="main") > 0.5
    assert run.metric("hedger", "ltv", account="main") == 0, "the hedger shows another's figure"
    assert run.metric("trade-executor", "orders_total", status="filled") >= 1
    assert run.metric("collector", "outputs_total", topic="market_data") > 10
    assert run.metric("hedger", "hedge_target", account="main") > 0
    assert run.metric("trade-executor", "intents_unknown", account="main") == 0


def test_one_trace_from_the_tick_to_the_fill_and_twelve_pages(tmp_path: Path) -> None:
    """Whoever looks at a fill finds the tick behind it by one id, in messages and in the log."""
    with trial(tmp_path, SIM__SPEED="6") as run:
        run.start_simulator()
        run.start_engine()
        run.start_script()
        run.await_that("three fills", lambda: run.look().ours["fills"] >= 3, 20)
        run.await_that("their ends", lambda: run.metric(
            "trade-executor", "orders_total", status="filled") >= 3, 10)
        check_pages(run)
        assert run.stop() == {"simulator": 0, "engine": 0}
        check_traces(run)
