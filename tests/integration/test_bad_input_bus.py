"""Junk on the bus itself: quarantined with its reason; what may be money stops opening until a person looks."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from trial import Trial, trial

from hedgelock.app import folded
from hedgelock.bus import codec
from hedgelock.bus.embedded import EmbeddedBus
from hedgelock.bus.kafka import KafkaBus
from hedgelock.clock import SystemClock
from hedgelock.config import load
from hedgelock.domain.market import MarketTick
from hedgelock.domain.message import Message
from hedgelock.domain.order import OrderConfirmation, OrderStatus
from hedgelock.domain.policy import Policy
from hedgelock.domain.registry import Quarantined
from hedgelock.errors import BadMessage
from hedgelock.ports import Bus, Outgoing
from hedgelock.services.journal import replay

pytestmark = [pytest.mark.slow, pytest.mark.no_cover, pytest.mark.timeout(150)]

PRICE = Decimal(60_000)


def encoded(body: Message) -> bytes:
    """A message as a well-behaved writer would put it."""
    return codec.encode(body, id="junk:1", trace=codec.new_trace("junk"), causes=(), ts_ms=1)


TICK = encoded(MarketTick(instrument="linear:BTCUSDT", mark_price=PRICE, index_price=PRICE,
                          ts_event_ms=1, ts_seen_ms=1))
POLICY = encoded(Policy(account="main", version=9))

JUNK: list[tuple[str, str, bytes]] = [
    ("account_raw", "main", b"{not json"),
    ("account_raw", "main", b""),
    ("account_raw", "main", b"\xff\xfe"),
    ("account_raw", "main", TICK),
    ("risk_state", "main", b'{"id": 7, "trace": [], "causes": 1, "ts_ms": "x", "v": 1, "body": {}}'),
    ("hedge_trades", "main", TICK.replace(b'"MarketTick"', b'"SellEverything"')),
    ("treasury_actions", "main", b"null"),
    ("trade_confirmations", "main", b"[]"),
    ("operator_commands", "main", b'{"body": {"kind": "OperatorCommand"}}'),
    ("funding_rates", "linear:BTCUSDT", b"12"),
    ("market_data", "linear:BTCUSDT", TICK.replace(b'"60000"', b'"NaN"', 1)),
    ("market_data", "linear:BTCUSDT", TICK.replace(b'"60000"', b'"-60000"', 1)),
    ("market_data", "linear:BTCUSDT", TICK.replace(b'"60000"', b'"Infinity"', 1)),
    ("market_data", "spot:BTCUSDT", POLICY),
    # A key of its own: of the others a good tick that follows at once may be the only one looked at.
    ("market_data", "linear:JUNKUSDT", TICK.replace(b'"60000"', b'"NaN"', 1)),
    ("policies", "main", POLICY.replace(b'"main"', b"5")),
    ("safety_state", "main", b"junk"),
]
"""(topic, key, bytes)."""


def spoil(bus: Bus) -> None:
    """Put the junk into the log."""
    publisher = bus.publisher("spoiler")
    publisher.publish([Outgoing(*each) for each in JUNK])
    publisher.flush(10)
    publisher.close()


def reasons(run: Trial) -> dict[tuple[str, str], set[str]]:
    """(topic, service) -> why its records were put aside."""
    found: dict[tuple[str, str], set[str]] = {}
    for body in run.bodies("quarantine"):
        assert isinstance(body, Quarantined)
        found.setdefault((body.topic, body.service), set()).add(body.reason)
    return found


READERS = {
    ("account_raw", "hedger"), ("account_raw", "risk-engine"), ("risk_state", "hedger"),
    ("hedge_trades", "trade-executor"), ("treasury_actions", "trade-executor"),
    ("trade_confirmations", "hedger"), ("operator_commands", "safety"),
    ("funding_rates", "funding-engine"), ("market_data", "risk-engine"),
}


def check_quarantine(run: Trial) -> None:
    """Every reader of a topic says what it could not read, and why; nothing was taken for a number."""
    run.await_that("every reader's quarantine", lambda: reasons(run).keys() >= READERS, 30)
    found = reasons(run)
    assert len(found["account_raw", "hedger"]) >= 3
    assert any("MarketTick does not belong" in r for r in found["account_raw", "risk-engine"])
    assert any("SellEverything" in r for r in found["hedge_trades", "trade-executor"])
    for service in ("risk-engine", "hedger", "trade-executor", "safety"):
        assert run.metric(service, "quarantined_total") > 0
        assert run.metric(service, "ready") == 1
    ticks = []
    bus = run.bus()
    for record in bus.read("market_data"):
        try:
            ticks.append(codec.decode(record.value, "market_data").body)
        except BadMessage:
            continue
    bus.close()
    assert all(tick.mark_price > 30_000 for tick in ticks)


def check_frozen_then_resumed(run: Trial) -> None:
    """A lost order may be money: nothing is opened before a person halts, looks and resumes."""
    run.start_script()
    run.await_that("a refusal", lambda: refused(run) > 0, 20)
    assert run.look().ours["orders"] == 0
    assert run.metric("trade-executor", "account_frozen", account="main") == 1
    halted = run.command("operator", "halt")
    assert halted.returncode == 0, halted.stderr
    resumed = run.command("operator", "resume")
    assert resumed.returncode == 0, resumed.stderr
    run.await_that("a hedge", lambda: run.look().ours["orders"] > 0, 20)
    run.await_that("the freeze to be over", lambda: not run.metric(
        "trade-executor", "account_frozen", account="main"), 5)


def refused(run: Trial) -> int:
    """How many orders the executor refused."""
    bus = run.bus()
    count = 0
    for record in bus.read("trade_confirmations"):
        try:
            body = codec.decode(record.value).body
        except BadMessage:
            continue
        if isinstance(body, OrderConfirmation) and body.status is OrderStatus.REJECTED:
            assert "frozen" in body.text, body.text
            count += 1
    bus.close()
    return count


def test_junk_in_the_log_is_put_aside_and_opens_nothing(tmp_path: Path) -> None:
    """An engine that finds junk on every topic starts, says so, opens nothing, and goes on when resumed."""
    with trial(tmp_path, SIM__SPEED="6") as run:
        path = Path(run.env["DATA_DIR"]) / "hedgelock.db"
        path.parent.mkdir()
        bus = EmbeddedBus(path, clock=SystemClock())
        spoil(bus)
        bus.close()
        run.start_simulator()
        run.start_engine()
        check_quarantine(run)
        check_frozen_then_resumed(run)
        assert run.stop() == {"simulator": 0, "engine": 0}
        bus = run.bus()
        rows = {record.key: record.value for record in bus.read("step_rows")}
        result = replay((r.value for r in bus.read("steps")), rows, folded(load(run.env, env_file=None)))
        bus.close()
        assert result.differences == []


@pytest.mark.kafka
def test_junk_on_a_live_broker_is_put_aside_and_opens_nothing(
    tmp_path: Path, kafka_bootstrap: str
) -> None:
    """Any producer can write to Kafka: the services live, say why, open nothing, and go on when resumed."""
    with trial(tmp_path, SIM__SPEED="4", KAFKA__BOOTSTRAP_SERVERS=kafka_bootstrap,
               KAFKA__PREFIX=f"{tmp_path.name}-") as run:
        run.start_simulator()
        run.start_engine()
        bus = KafkaBus(kafka_bootstrap, clock=SystemClock(), prefix=f"{tmp_path.name}-")
        spoil(bus)
        run.await_that("the quarantine", lambda: len(reasons(run)) >= len({t for t, _, _ in JUNK}), 20)
        check_quarantine(run)
        check_frozen_then_resumed(run)
        bus.close()
        assert run.stop() == {"simulator": 0, "engine": 0}
