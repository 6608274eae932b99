"""What a rehearsal plays: market, weather, other hands and deaths, all drawn from one seed."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal

import msgspec

from hedgelock.simulator.deeds import Deed
from hedgelock.simulator.drawn import drawn as drawn_faults
from hedgelock.simulator.fault_kinds import Fault, Match
from hedgelock.simulator.paths import Path
from hedgelock.simulator.scenarios import Scenario, script

PRICE = 60_000.0
LENGTH_S = 60.0
"""Script seconds; after them the price stays where it is and everything works."""
TICK_MS = 500
BAN_EVERY = 25
"""A banned address is left alone for ten minutes: only one seed in so many may be banned."""


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
    faults: tuple[Fault, ...] = ()
    kills: tuple[Kill, ...] = ()
    tick_ms: int = TICK_MS
    heal_s: float = LENGTH_S
    settle_max_s: float = 900.0


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
    debt = Decimal(int(PRICE * dice.uniform(0.55, 0.74)))
    base = script(
        f"{family}-{seed}", f"rehearsal of seed {seed}", btc=prices, funding=rates,
        settlements_s=(dice.uniform(10, 25), dice.uniform(30, 55)), debt=str(debt),
    )
    pockets = {"USDT": Decimal(dice.choice((3_000, 6_000, 9_000))),
               "BTC": dice.choice((Decimal("0.1"), Decimal("0.05")))}
    account = replace(base.accounts[0], unified=pockets)
    deeds = _deeds(random.Random(f"deeds {seed}"), account.key)
    scenario = replace(base, accounts=(account,), deeds=deeds)
    return Plan(seed, family, scenario, _plan_of_faults(seed, dice), _kills(dice))


DEED_EVERY = 3
"""In one seed of so many somebody else touches the account."""
_BTC = "linear.BTCUSDT"


def _coins(low: float, high: float) -> Callable[[random.Random], dict[str, object]]:
    return lambda dice: {"amount": Decimal(f"{dice.uniform(low, high):.3f}")}


def _money(*amounts: int) -> Callable[[random.Random], dict[str, object]]:
    return lambda dice: {"coin": "USDT", "amount": Decimal(dice.choice(amounts))}


_DEEDS: dict[str, tuple[str, Callable[[random.Random], dict[str, object]]]] = {
    "half of the hedge is deleveraged": ("adl", lambda _dice: {
        "symbol": _BTC, "amount": Decimal("0.5")}),
    "part of the position is deleveraged": ("adl", lambda dice: {
        "symbol": _BTC, "amount": dice.choice((Decimal("0.1"), Decimal("0.9"), Decimal(1)))}),
    "somebody buys, closing part of the short": ("human_order", lambda dice: {
        "symbol": _BTC, "side": "Buy", **_coins(0.01, 0.25)(dice)}),
    "somebody sells more": ("human_order", lambda dice: {
        "symbol": _BTC, "side": "Sell", **_coins(0.01, 0.15)(dice)}),
    "somebody sells coins of the pocket": ("human_order", lambda dice: {
        "symbol": "spot.BTCUSDT", "side": "Sell", **_coins(0.001, 0.03)(dice)}),
    "somebody closes the hedge": ("human_close", lambda _dice: {"symbol": _BTC}),
    "somebody cancels what rests": ("human_cancel", lambda _dice: {"symbol": _BTC}),
    "somebody takes money out of the pocket": ("human_transfer", _money(50, 300, 1_000)),
    "somebody brings it back": ("human_transfer", _money(-50, -300)),
    "somebody takes money out and repays": ("human_repay", _money(50, 300)),
}
"""What an account comes through that others touch, and what of each deed is drawn."""


def _deeds(dice: random.Random, account: str) -> tuple[Deed, ...]:
    """None, or one to four deeds of others; the last long enough before the script's end."""
    if dice.randrange(DEED_EVERY):
        return ()
    found = []
    for name in dice.choices(tuple(_DEEDS), k=dice.choice((1, 2, 4))):
        kind, draw = _DEEDS[name]
        fields: dict[str, object] = {"account": account, **draw(dice)}
        at_s = round(dice.uniform(8, LENGTH_S - 5), 1)
        if kind == "human_repay":  # FUND is what pays, and is empty
            found.append(Deed(at_s - 2, "human_transfer", **fields))  # type: ignore[arg-type]
        found.append(Deed(at_s, kind, **fields))  # type: ignore[arg-type]
    return tuple(sorted(found, key=lambda deed: deed.at_s))


_REQUESTS = ("/v5/*", "/v5/order/*", "/v5/asset/transfer/*", "/v5/crypto-loan*", "/v5/account/*",
             "/v5/position/list", "/v5/market/*", "/v5/order/create", "/v5/order/realtime")
_TOPICS = ("order", "execution", "position", "wallet", "*", "tickers*")


def _requests(dice: random.Random) -> dict[str, object]:
    return {"match": Match(path=dice.choice(_REQUESTS)), "share": dice.choice((0.05, 0.2, 0.5, 1.0))}


def _pushes(dice: random.Random) -> dict[str, object]:
    return {"match": Match(topic=dice.choice(_TOPICS)), "share": dice.choice((0.1, 0.5, 1.0))}


def _delay(most_ms: int) -> Callable[[random.Random], dict[str, object]]:
    return lambda dice: {"ms": int(dice.uniform(50, most_ms))}


Drawn = Callable[[random.Random], dict[str, object]]
_FAULTS: dict[str, tuple[Drawn, ...]] = {
    "slow_request": (_requests, _delay(8_000)),
    "cut": (_requests,),
    "http_error": (_requests, lambda dice: {"status": dice.choice((500, 502, 503, 429))}),
    "refuse": (_requests, lambda dice: {"code": dice.choice((10000, 10016, 10019, 110007))}),
    "rate_limited": (_requests,),
    "outage": (lambda dice: {"part": dice.choice(
        ("orders", "loans", "loan_writes", "transfers", "reads", "private_reads", "all")
    )},),
    "refill_refused": (),
    "slow_answer": (_requests, _delay(8_000)),
    "answer_lost": (_requests,),
    "answer_never": (_requests, _delay(60_000)),
    "unknown_outcome": (_requests,),
    "orders_hidden": (_delay(3_000),),
    "push_lost": (_pushes,),
    "push_late": (_pushes, _delay(5_000)),
    "push_twice": (_pushes, _delay(2_000)),
    "push_swapped": (_pushes,),
    "filled_twice": (),
    "socket_dies": (lambda dice: {"every_s": dice.choice((0.0, 1.0, 5.0))},),
    "socket_silent": (lambda dice: {"deaf": dice.random() < 0.5},),
    "socket_refused": (),
    "clock_skew": (lambda dice: {"ms": dice.choice((-4_000, -900, 700, 2_500))},),
}
"""Kinds that a system must come through, and what of each is drawn."""
_LENGTHS_S = (1.0, 3.0, 8.0, 20.0, 60.0)


def _plan_of_faults(seed: int, dice: random.Random) -> tuple[Fault, ...]:
    """Long trouble of few kinds, short trouble of many kinds, or both."""
    kind = dice.choice(("long", "short", "both"))
    long = _faults(dice) if kind != "short" else ()
    if kind == "long":
        return long
    rows = drawn_faults(seed, heal_s=LENGTH_S).listing()
    short = [msgspec.convert(row["fault"], Fault) for row in rows]
    if seed % BAN_EVERY:
        short = [fault for fault in short if fault.kind != "ip_ban"]
    return (*long, *short)


def _faults(dice: random.Random) -> tuple[Fault, ...]:
    """From none to eight kinds of trouble, by themselves or at once; all over by the heal phase."""
    found = []
    for kind in dice.sample(tuple(_FAULTS), dice.choice((0, 1, 2, 3, 5, 8))):
        fields: dict[str, object] = {}
        for draw in _FAULTS[kind]:
            fields |= draw(dice)
        from_s = dice.uniform(0, LENGTH_S - 5)
        until_s = min(LENGTH_S, from_s + dice.choice(_LENGTHS_S))
        found.append(Fault(kind=kind, from_s=from_s, until_s=until_s, **fields))  # type: ignore[arg-type]
    return tuple(found)


def _kills(dice: random.Random) -> tuple[Kill, ...]:
    count = dice.choice((0, 0, 1, 1, 2, 3))
    return tuple(
        Kill(at_s, dice.choice(tuple(Death)), dice.choice((0.2, 1.0, 3.0, 8.0)))
        for at_s in sorted(dice.uniform(2, LENGTH_S - 8) for _ in range(count))
    )
