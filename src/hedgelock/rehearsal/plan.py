"""What a rehearsal plays: market, weather and deaths, all drawn from one seed."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal

from hedgelock.rehearsal.wire import Weather
from hedgelock.simulator.scenarios import Path, Scenario, script

PRICE = 60_000.0
LENGTH_S = 60.0
"""Script seconds; after them the price stays where it is and everything works."""
TICK_MS = 500


class Death(enum.Enum):
    """At what moment the engine is killed."""

    ANY = "at any instant"
    BEFORE_COMMIT = "before a commit that holds an effect"
    AFTER_COMMIT = "after a commit that holds an effect, before the effect"
    ON_ARRIVAL = "when a request that changes something reaches the exchange"


@dataclass(frozen=True, slots=True)
class Kill:
    """From script second `at_s` on, at the next such moment; the engine is back `down_s` later."""

    at_s: float
    death: Death
    down_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """One rehearsal."""

    seed: int
    family: str
    scenario: Scenario
    weather: Weather
    kills: tuple[Kill, ...] = ()
    tick_ms: int = TICK_MS
    heal_s: float = LENGTH_S
    settle_max_s: float = 180.0


Corners = tuple[Path, Path]
"""BTC prices and funding rates."""


def _slide(dice: random.Random) -> Corners:
    low = PRICE * (1 - dice.uniform(0.10, 0.32))
    at = dice.uniform(25, 50)
    return (((0, PRICE), (4, PRICE), (at, low), (LENGTH_S, low * dice.uniform(0.97, 1.10))),
            ((0, 0.0001), (at, -dice.uniform(0, 0.001))))


def _gap(dice: random.Random) -> Corners:
    at, low = dice.uniform(8, 30), PRICE * (1 - dice.uniform(0.08, 0.20))
    return (((0, PRICE), (at, PRICE), (at + dice.uniform(0.5, 4), low),
             (LENGTH_S, low * dice.uniform(0.93, 1.08))), ((0, 0.0001), (at, -0.0005)))


def _whipsaw(dice: random.Random) -> Corners:
    step = LENGTH_S / 8
    prices = [(0.0, PRICE)]
    for number in range(1, 9):
        swing = dice.uniform(0.03, 0.12) * (-1 if number % 2 else 1)
        prices.append((number * step, PRICE * (1 + swing)))
    rates = tuple((at, 0.0005 * (-1) ** n) for n, (at, _) in enumerate(prices))
    return tuple(prices), rates


def _mania(dice: random.Random) -> Corners:
    rate = dice.uniform(0.001, 0.004) * dice.choice((1, -1))
    return (((0, PRICE), (LENGTH_S / 2, PRICE * dice.uniform(0.9, 1.2)),
             (LENGTH_S, PRICE * dice.uniform(0.85, 1.2))), ((0, 0.0001), (20, rate), (50, rate)))


def _rally(dice: random.Random) -> Corners:
    """Down, so that there is a hedge; then up, against it."""
    low = PRICE * (1 - dice.uniform(0.05, 0.18))
    return (((0, PRICE), (15, low), (LENGTH_S, low * (1 + dice.uniform(0.10, 0.35)))),
            ((0, 0.0001),))


def _calm(dice: random.Random) -> Corners:
    return (((0, PRICE), (LENGTH_S, PRICE * dice.uniform(0.99, 1.01))), ((0, 0.0001),))


FAMILIES: dict[str, Callable[[random.Random], Corners]] = {
    "slide": _slide, "gap": _gap, "whipsaw": _whipsaw, "mania": _mania, "rally": _rally,
    "calm": _calm,
}


def drawn(seed: int) -> Plan:
    """The plan of a seed: market, start LTV, pockets, weather, deaths."""
    dice = random.Random(f"plan {seed}")
    family = dice.choice(tuple(FAMILIES))
    prices, rates = FAMILIES[family](dice)
    debt = Decimal(int(PRICE * dice.uniform(0.50, 0.70)))
    base = script(
        f"{family}-{seed}", f"rehearsal of seed {seed}", btc=prices, funding=rates,
        settlements_s=(dice.uniform(10, 25), dice.uniform(30, 55)), debt=str(debt),
    )
    pockets = {"USDT": Decimal(dice.choice((3_000, 6_000, 9_000))),
               "BTC": dice.choice((Decimal("0.1"), Decimal("0.05")))}
    account = replace(base.accounts[0], unified=pockets)
    scenario = replace(base, accounts=(account,))
    return Plan(seed, family, scenario, _weather(dice), _kills(dice))


def _weather(dice: random.Random) -> Weather:
    """From fair to foul; each kind of trouble by itself or with others."""
    foul = dice.choice((0.0, 0.5, 1.0, 2.0))

    def some(most: float) -> float:
        return most * foul * dice.random() if dice.random() < 0.7 else 0.0

    return Weather(
        lost_request=some(0.05), lost_answer=some(0.08), slow=some(0.05), busy=some(0.06),
        broken=some(0.06), cut_per_s=some(0.05), mute_per_s=some(0.03),
    )


def _kills(dice: random.Random) -> tuple[Kill, ...]:
    count = dice.choice((0, 0, 1, 1, 2, 3))
    return tuple(
        Kill(at_s, dice.choice(tuple(Death)), dice.choice((0.2, 1.0, 3.0, 8.0)))
        for at_s in sorted(dice.uniform(2, LENGTH_S - 8) for _ in range(count))
    )
