"""The whole system while the public sockets say nothing and REST works."""

from __future__ import annotations

import itertools
from dataclasses import replace
from decimal import Decimal

import pytest

from hedgelock.bus import codec
from hedgelock.domain.risk import Confidence
from hedgelock.rehearsal.auditor import audit
from hedgelock.rehearsal.plan import Plan
from hedgelock.rehearsal.rehearse import in_world, settle, until
from hedgelock.rehearsal.world import EPOCH_MS, World
from hedgelock.simulator import loans
from hedgelock.simulator.fault_kinds import Fault, Match
from hedgelock.simulator.scenarios import script

pytestmark = pytest.mark.no_cover
PRICE = 60_000
BLIND_FROM_S, BLIND_UNTIL_S = 10.0, 70.0
SILENT = {
    "open and silent": Fault("socket_silent", Match(path="/v5/public/*", topic="tickers.*"),
                             from_s=BLIND_FROM_S, until_s=BLIND_UNTIL_S),
    "deaf": Fault("socket_silent", Match(path="/v5/public/*"), from_s=BLIND_FROM_S,
                  until_s=BLIND_UNTIL_S, deaf=True),
    "nothing is pushed": Fault("push_lost", Match(topic="tickers*"), from_s=BLIND_FROM_S,
                               until_s=BLIND_UNTIL_S),
}


def falling(fault: Fault, ltv: str) -> Plan:
    """A fall of 25 % within the minute that nobody sees over the sockets."""
    base = script(
        "blind", "", btc=((0, PRICE), (10, PRICE), (65, PRICE * 0.75), (100, PRICE * 0.75)),
        funding=((0, 0.0001),), settlements_s=(10_000,), debt=str(int(PRICE * Decimal(ltv))),
    )
    return Plan(1, "blind", replace(base, accounts=base.accounts[:1]), (fault,))


@pytest.mark.parametrize("name", SILENT)
def test_a_fall_behind_silent_sockets_is_survived(name: str) -> None:
    """60 s of silence in a −25 % fall from LTV .72: re-marked every 4 s at least, alive, books right."""
    plan = falling(SILENT[name], "0.72")

    async def run(world: World) -> None:
        world.start()
        world.boot()
        await until(world, BLIND_UNTIL_S)
        said = [
            ((record.ts_ms - EPOCH_MS) / 1e3, codec.decode(record.value).body)
            for record in world.lives[-1].bus.read("risk_state")
        ]
        fresh = [at_s for at_s, a in said if a.confidence is Confidence.FRESH and at_s >= 8]
        assert max(b - a for a, b in itertools.pairwise(fresh)) <= 4.0
        assert all(a.confidence is Confidence.FRESH for at_s, a in said if at_s > BLIND_FROM_S)
        last = said[-1][1]
        truth = loans.ltv(world.venue.exchange, world.account())
        assert last.ltv is not None
        assert abs(last.ltv - truth) < Decimal("0.02")
        words = [str(what) for _, level, what in world.trace if level == "warning"]
        assert any("price_sockets_silent" in text for text in words)
        await settle(world, 300)
        assert audit(world) == []
        words = [str(what) for _, level, what in world.trace if level == "warning"]
        assert any("price_sockets_back" in text for text in words)

    in_world(plan, run)
