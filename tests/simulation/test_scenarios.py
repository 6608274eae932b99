"""Every scenario file played against the whole of HedgeLock, and four accidents written out."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from hedgelock.rehearsal.auditor import Rule, audit
from hedgelock.rehearsal.checks import alarms
from hedgelock.rehearsal.plan import Plan
from hedgelock.rehearsal.rehearse import in_world, settle, until
from hedgelock.rehearsal.stage import play
from hedgelock.rehearsal.world import World
from hedgelock.simulator import loans
from hedgelock.simulator.deeds import Deed
from hedgelock.simulator.fault_kinds import Fault, Match
from hedgelock.simulator.paths import Path as Corners
from hedgelock.simulator.scenarios import Scenario, script
from hedgelock.simulator.script import read_script

# What is played here is traced where it has tests of its own; tracing would double the time.
pytestmark = pytest.mark.no_cover
FILES = sorted((Path(__file__).parent / "scenarios").glob("*.toml"))
PRICE = 60_000
BTC = "linear.BTCUSDT"


def test_there_are_scenarios() -> None:
    """A folder that is empty would prove nothing."""
    assert len(FILES) >= 25


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    """Every named check of the file holds."""
    played = play(read_script(path))
    assert not played.failures, "\n".join(played.failures)


# ---------------------------------------------------------------- four accidents


def accident(
    btc: Corners, *, ltv: str, faults: tuple[Fault, ...] = (), deeds: tuple[Deed, ...] = (),
    tick_ms: int = 500,
) -> Plan:
    """One account at a start LTV (one BTC pledged) in a market of its own."""
    debt = str(int(PRICE * Decimal(ltv)))
    base = script("accident", "", btc=btc, funding=((0, 0.0001),), settlements_s=(10_000,),
                  debt=debt)
    scenario: Scenario = replace(base, accounts=base.accounts[:1], deeds=deeds)
    return Plan(1, "accident", scenario, faults, tick_ms=tick_ms)


def held(world: World) -> Decimal:
    """The hedge at the exchange, coins short."""
    position = world.account().positions.get(BTC)
    return Decimal(0) if position is None else -position.size


@pytest.mark.parametrize("ltv", ["0.60", "0.66", "0.72"])
@pytest.mark.parametrize("dead_s", [24.5, 26.0, 27.5, 28.5])
def test_killed_in_a_gap_and_never_back(ltv: str, dead_s: float) -> None:
    """SIGKILL of everything during a −20 % gap: nothing opening rests, the account lives."""
    plan = accident(((0, PRICE), (24, PRICE), (29, PRICE * 0.8), (600, PRICE * 0.8)), ltv=ltv)

    async def run(world: World) -> None:
        world.start()
        world.boot()
        await until(world, dead_s)
        world.kill()
        await world.buried()
        await until(world, 600)
        assert audit(world, (Rule.ALIVE, Rule.RESTING)) == []

    in_world(plan, run)


LOSSES = {
    "half deleveraged": Deed(30, "adl", account="hedgelock-sim", symbol=BTC, amount=Decimal("0.5")),
    "all deleveraged": Deed(30, "adl", account="hedgelock-sim", symbol=BTC, amount=Decimal(1)),
    "closed by hand": Deed(30, "human_close", account="hedgelock-sim", symbol=BTC),
    "bought by hand": Deed(30, "human_order", account="hedgelock-sim", symbol=BTC, side="Buy",
                           amount=Decimal("0.1")),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_hedge_that_others_take_away_is_decided_anew(name: str) -> None:
    """ADL or a person: told as not ours, and the order that mends it comes within three account events."""
    plan = accident(((0, PRICE), (10, PRICE * 0.88), (100, PRICE * 0.88)), ltv="0.68",
                    deeds=(LOSSES[name],))

    async def run(world: World) -> None:
        world.start()
        world.boot()
        await until(world, 29.9)
        before, orders = held(world), len(world.account().orders)
        assert before >= Decimal("0.2"), "there is a hedge to lose"
        await until(world, 45)
        rows = [r for r in world.account().executions
                if not r["orderLinkId"] and r["execType"] != "Funding"]
        lost = sum(Decimal(row["execQty"]) for row in rows)
        share = {"half deleveraged": before / 2, "bought by hand": Decimal("0.1")}.get(name, before)
        assert abs(lost - share) <= Decimal("0.001")
        lost_ms = int(rows[0]["execTime"])
        mended_ms = min(
            record.ts_ms for record in world.lives[-1].bus.read("hedge_trades")
            if record.ts_ms >= lost_ms
        )
        facts = [r.ts_ms for r in world.lives[-1].bus.read("account_raw")]
        assert sum(lost_ms <= ms < mended_ms for ms in facts) <= 3
        assert len(world.account().orders) > orders
        assert held(world) >= before - Decimal("0.06")
        assert audit(world, (Rule.NOTICED, Rule.ORDERS, Rule.EXECUTIONS)) == []
        world.account().executions.append({**rows[0], "execId": "nobody-told"})
        (finding,) = audit(world, (Rule.NOTICED,))
        assert "others moved the position" in finding.text

    in_world(plan, run)


def test_an_hour_of_silence_is_survived() -> None:
    """Not a byte for an hour, from LTV .74, through a fall and a rise: alive, and right afterwards."""
    hour = (Fault("cut", from_s=60, until_s=3660), Fault("socket_dies", from_s=60, until_s=61),
            Fault("socket_refused", from_s=60, until_s=3660))
    plan = accident(
        ((0, PRICE), (60, PRICE), (1800, PRICE * 0.9), (3660, PRICE * 1.05), (4000, PRICE * 1.05)),
        ltv="0.74", faults=hour, tick_ms=1_000,
    )

    async def run(world: World) -> None:
        world.start()
        world.boot()
        await until(world, 60)
        start = loans.ltv(world.venue.exchange, world.account())
        assert start >= Decimal("0.65")
        orders = len(world.account().orders)
        await until(world, 3660)
        assert len(world.account().orders) == orders, "nothing can arrive in the silence"
        await settle(world, 180)
        assert audit(world) == []

    in_world(plan, run)


def test_a_revoked_key_alarms_and_opens_nothing() -> None:
    """A key revoked mid-run: somebody is told within ten seconds, and no order is accepted."""
    gone = (Fault("key_revoked", Match(), from_s=20),)
    plan = accident(((0, PRICE), (19, PRICE * 0.95), (40, PRICE * 0.85), (90, PRICE * 0.85)),
                    ltv="0.66", faults=gone)

    async def run(world: World) -> None:
        world.start()
        world.boot()
        await until(world, 20)
        orders = len(world.account().orders)
        await until(world, 90)
        assert len(world.account().orders) == orders
        first = min(s for s, words in alarms(world) if s >= 20 and "key" in words.lower())
        assert first <= 30

    in_world(plan, run)
