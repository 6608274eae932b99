"""What a service shows of itself: each metric is set where its fact is known."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from test_runner import SERVICE, Bench

from hedgelock.bus.codec import Envelope
from hedgelock.domain import order_schedule
from hedgelock.domain.effect import Outcome
from hedgelock.domain.market import MarketTick
from hedgelock.domain.order import Side
from hedgelock.services.observe import Telemetry
from hedgelock.services.runner import Runner
from hedgelock.telemetry.metrics import METRICS

ROOT = Path(__file__).resolve().parent.parent.parent
BTC = "linear:BTCUSDT"


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bus and a runner."""
    bench = Bench()
    yield bench
    bench.bus.close()


def shown(telemetry: Telemetry, runner: Runner[object] | None = None) -> str:
    """The page that Prometheus reads, after the service looked at itself."""
    telemetry._readiness(runner)
    return telemetry.metrics.exposition().decode()


def tick(bench: Bench, price: int, number: int) -> None:
    """A price, seen now."""
    bench.send("market_data", BTC, MarketTick(
        instrument=BTC, mark_price=Decimal(price), index_price=Decimal(price),
        ts_event_ms=bench.clock.ms, ts_seen_ms=bench.clock.ms), number)
    bench.drain()


def test_every_metric_is_set_somewhere() -> None:
    """A metric that nobody sets would show 0 and be believed."""
    source = "\n".join(
        path.read_text("utf-8") for path in (ROOT / "src").rglob("*.py") if path.name != "metrics.py"
    )
    silent = [name for name in METRICS if f"metrics.{name}." not in source and f'"{name}"' not in source]
    assert silent == []


def test_prices_and_spared_steps_are_shown(bench: Bench) -> None:
    """The mark price of the table, and how many ticks the hold region spared; each counted once."""
    telemetry = Telemetry(SERVICE.name, bench.clock)
    bench.read(1)
    bench.drain()
    for number, price in enumerate((100, 101, 102, 120)):  # held between 90 and 110
        tick(bench, price, 10 + number)
    for _ in range(2):
        page = shown(telemetry, bench.runner)
    assert f'hedgelock_mark_price{{instrument="{BTC}"}} 120.0' in page
    assert "hedgelock_steps_held_total 3.0" in page
    assert bench.runner.states()["main"].ticks == 1


def test_requests_told_to_wait_are_counted_by_kind(bench: Bench) -> None:
    """Only what the exchange refused for its rate counts as rate-limited."""
    telemetry = Telemetry("trade-executor", bench.clock)
    for outcome in Outcome:
        telemetry.effect("SendOrder", outcome.value, 0.01)
    assert 'rate_limited_total{endpoint="SendOrder"} 1.0' in shown(telemetry)


def test_a_frozen_account_shows_until_its_state_is_restored(bench: Bench) -> None:
    """Code 2 while a step raised; restored from the log it steps again, and the code goes."""
    telemetry = Telemetry(SERVICE.name, bench.clock)
    hooks = telemetry.observed()
    hooks.frozen("main", "AssertionError: planted bug")
    assert 'account_frozen{account="main"} 2.0' in shown(telemetry)
    hooks.restored(0, 1)
    assert 'account_frozen{account="main"} 0.0' in shown(telemetry)


def test_an_order_that_nobody_explains_is_counted_and_told(bench: Bench) -> None:
    """One critical line with both ids, one count; the same word again is the same alarm."""
    telemetry = Telemetry("trade-executor", bench.clock)
    end = order_schedule.unexplained(
        "main", "hlstrange", "v-9", instrument=BTC, side=Side.SELL, fill=None, now_ms=1)
    envelope = Envelope(id="trade-executor:main:1.0", trace="", causes=(), ts_ms=1, v=1, body=end)
    with capture_logs() as lines:
        for _ in range(2):
            telemetry.observed().output("trade_confirmations", envelope)
    page = telemetry.metrics.exposition().decode()
    assert 'hedgelock_unexplained_orders_total{account="main"} 1.0' in page
    (line,) = [line for line in lines if line["log_level"] == "critical"]
    assert (line["event"], line["client_order_id"], line["venue_order_id"]) == (
        "unexplained_order", "hlstrange", "v-9")
