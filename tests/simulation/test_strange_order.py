"""An order with our prefix that no book of ours knows: nothing is opened, and a person is told."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from hedgelock.bus import codec
from hedgelock.cli import standing
from hedgelock.domain.execution_memory import ExecutionMemory
from hedgelock.domain.order import OrderConfirmation, PlaceOrder, is_alarm
from hedgelock.domain.safety import SafetyMode, SafetyReason
from hedgelock.rehearsal.auditor import Rule, audit, state_of
from hedgelock.rehearsal.plan import Plan
from hedgelock.rehearsal.rehearse import in_world, until
from hedgelock.rehearsal.world import EPOCH_MS, World
from hedgelock.simulator.scenarios import script

pytestmark = pytest.mark.no_cover
PRICE = 60_000
STRANGE_S = 20.0
LINK = "hl" + "a" * 26
FILLED: dict[str, Any] = {"orderType": "Market", "side": "Sell", "qty": "0.01"}
RESTING: dict[str, Any] = {
    "orderType": "Limit", "side": "Buy", "qty": "0.01", "price": "30000", "timeInForce": "PostOnly",
}


@pytest.mark.parametrize("order", [FILLED, RESTING], ids=["filled", "resting"])
def test_an_unknown_order_of_our_prefix_stops_opening_and_alarms(order: dict[str, Any]) -> None:
    """Within 2 s: halted with its reason, told on bus, log and `operator status`; no order opens."""
    base = script(
        "strange", "", btc=((0, PRICE), (STRANGE_S, PRICE * 0.95), (40, PRICE * 0.85), (60, PRICE * 0.85)),
        funding=((0, 0.0001),), settlements_s=(10_000,), debt=str(int(PRICE * Decimal("0.66"))),
    )
    plan = Plan(1, "strange", replace(base, accounts=base.accounts[:1]))

    async def run(world: World) -> None:
        world.start()
        world.boot()
        await until(world, STRANGE_S)
        bus, account = world.lives[-1].bus, world.account()
        assert standing.read(bus, "main").is_active
        refusal = world.venue.agenda.place(
            account, "/v5/order/create",
            {"category": "linear", "symbol": "BTCUSDT", "orderLinkId": LINK, **order},
        )
        assert refusal == ""
        strange_ms = world.clock.now_ms()
        await until(world, 60)

        halted = [codec.decode(r.value).body for r in bus.read("safety_state")][-1]
        assert (halted.mode, halted.reason) == (SafetyMode.HALTED, SafetyReason.UNEXPLAINED_ORDER)
        assert halted.since_ts_ms - strange_ms <= 2_000
        ends = [codec.decode(r.value).body for r in bus.read("trade_confirmations")]
        alarms = [e for e in ends if isinstance(e, OrderConfirmation) and is_alarm(e)]
        assert [end.client_order_id for end in alarms] == [LINK], "told once"
        told = [what for _, level, what in world.trace if level == "critical"]
        assert any("unexplained_order" in str(what) and LINK in str(what) for what in told)
        said = "\n".join(standing.lines(standing.read(bus, "main")))
        assert "main is HALTED" in said and "not ours" in said and "operator resume" in said

        executor = state_of(world, "trade-executor", ExecutionMemory)
        assert executor is not None and LINK in executor.frozen
        wanted = [codec.decode(r.value).body for r in bus.read("hedge_trades")
                  if r.ts_ms > halted.since_ts_ms]
        opening = [p for p in wanted if isinstance(p, PlaceOrder) and not p.reduce_only]
        assert opening, "the fall asks for more hedge, and it is refused"
        refused = {e.text for e in ends if isinstance(e, OrderConfirmation)
                   and e.intent_id in {p.intent_id for p in opening}}
        assert refused == {"account_frozen"}
        late = [o for o in account.orders if o.created_ms > halted.since_ts_ms and not o.reduce_only]
        assert late == []
        assert world.clock.now_ms() - EPOCH_MS >= 60_000
        assert audit(world, (Rule.ALIVE, Rule.RUNNING)) == []

    in_world(plan, run)
