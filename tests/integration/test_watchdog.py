"""An engine killed for good: what it left is taken back by a watchdog process of its own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from trial import OURS, Trial, sigkill, trial

from hedgelock import app
from hedgelock.clock import SystemClock
from hedgelock.config import load
from hedgelock.domain.effect import OrderAnswer, Outcome, SendOrder
from hedgelock.domain.order import OrderType, Side, TimeInForce, client_order_id

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def order_id(number: int) -> str:
    """An id as the engine makes them."""
    return client_order_id(
        log_id="00", account="main", decision=f"hedger:main:{number}.0", slice_no=0, attempt=0)


def send(run: Trial, *orders: dict[str, Any]) -> None:
    """Orders with the engine's own key, as requests of its that were under way would arrive."""
    settings = load(run.env, env_file=None)

    async def go() -> None:
        exchange = app.make_exchange(settings, "main", SystemClock())
        try:
            for fields in orders:
                effect = SendOrder(
                    account="main", intent_id="test", instrument="linear:BTCUSDT", qty=Decimal("0.05"),
                    expires_ts_ms=SystemClock().now_ms() + 60_000, protective=False, **fields,
                )
                answer = await exchange.perform(effect)
                assert isinstance(answer, OrderAnswer)
                assert answer.outcome is Outcome.ACCEPTED, answer
        finally:
            await exchange.close()

    asyncio.run(go())


def resting(run: Trial) -> set[str]:
    """Client order ids that rest at the exchange."""
    rows = run.at_exchange(f"/sim/orders?account={OURS}")["orders"]
    return {row["orderLinkId"] for row in rows if row["orderStatus"] in ("New", "Untriggered")}


def watchdog(run: Trial) -> list[dict[str, Any]]:
    """Run the watchdog as the supervisor does; what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "hedgelock.cli.watchdog"], env=run.env, cwd=run.folder, text=True,
        capture_output=True, timeout=90, check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (done.stdout + done.stderr).splitlines()]


def test_what_a_killed_engine_left_is_taken_back(tmp_path: Path) -> None:
    """Nothing while it lives; after SIGKILL its opening order goes, its reduce-only one stays."""
    opening, reducing, sold = order_id(1), order_id(2), order_id(3)
    far = {"order_type": OrderType.LIMIT, "time_in_force": TimeInForce.GTC, "price": Decimal(50_000)}
    with trial(tmp_path, LOG_LEVEL="INFO") as run:
        run.start_simulator()
        run.start_engine()
        (alive,) = [line for line in watchdog(run) if line["event"] == "engine_lives"]
        engine = run.processes["engine"]
        assert str(engine.pid) in alive["reason"]
        sigkill(engine.pid)
        engine.wait()
        send(
            run,
            {"client_order_id": sold, "side": Side.SELL, "order_type": OrderType.MARKET,
             "time_in_force": TimeInForce.IOC, "price": None, "reduce_only": False},
            {"client_order_id": opening, "side": Side.BUY, "reduce_only": False, **far},
            {"client_order_id": reducing, "side": Side.BUY, "reduce_only": True, **far},
        )
        before = resting(run)
        assert {opening, reducing} <= before
        (told,) = [line for line in watchdog(run) if line["event"] == "opening_orders_cancelled"]
        assert told["orders"] == [opening]
        assert resting(run) == before - {opening}
        (told,) = [line for line in watchdog(run) if line["event"] == "opening_orders_cancelled"]
        assert told["orders"] == []
