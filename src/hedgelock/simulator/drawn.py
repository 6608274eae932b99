"""Fault plans drawn from a seed, for thousands of runs: everything has healed at a known instant."""

from __future__ import annotations

import random
from collections.abc import Callable

from hedgelock.simulator.fault_kinds import Fault, Match
from hedgelock.simulator.faults import Faults

FAULTS_MAX = 6
LINGER_S = 5.0
"""A plan's last late push, held request or ban ends so long before healing at the latest."""
ORDERS, READS = "/v5/order/*", "/v5/*"
PATHS = ("/v5/order/create", "/v5/order/*", "/v5/account/*", "/v5/crypto-loan*", "/v5/asset/*", "")
TOPICS = ("order", "execution", "position", "wallet", "")
SOCKETS = ("/v5/private", "/v5/public/*", "/v5/trade", "")
UNCLEAR = (10000, 10016, 10019)
REFUSALS = (10002, 10006, 10016, 10019, 110007, 110079)
PARTS = ("orders", "loans", "loan_writes", "transfers", "private_reads", "market", "writes", "all")

Draw = Callable[[random.Random, float, float], Fault]
"""Draws one fault for a window of script seconds."""


def drawn(
    seed: int, *, heal_s: float, from_s: float = 0.0, faults_max: int = FAULTS_MAX
) -> Faults:
    """One to `faults_max` faults between `from_s` and `heal_s`; after `heal_s` nothing acts.

    Delays are counted in the exchange's time: a script played faster than 1 needs a later `heal_s`.
    """
    dice = random.Random(f"faults:{seed}")
    last_s = max(from_s, heal_s - LINGER_S)
    plan = []
    for _ in range(dice.randint(1, faults_max)):
        begin_s = dice.uniform(from_s, last_s)
        end_s = min(last_s, begin_s + dice.expovariate(1 / 8.0))
        if end_s > begin_s:
            plan.append(dice.choice(MENU)(dice, round(begin_s, 3), round(end_s, 3)))
    return Faults(plan, seed=seed)


def _share(dice: random.Random) -> float:
    return dice.choice((0.1, 0.3, 0.6, 1.0))


def _ms(dice: random.Random) -> int:
    """Mostly short, sometimes beyond every patience; at most `LINGER_S`."""
    return min(int(LINGER_S * 1000) - 500, int(dice.choice((60, 400, 2500)) * (0.5 + dice.random())))


def _request(kind: str, *, timed: bool = False) -> Draw:
    def draw(dice: random.Random, begin_s: float, end_s: float) -> Fault:
        match = Match(path=dice.choice(PATHS), via=dice.choice(("", "", "rest", "socket")))
        ms = _ms(dice) if timed else None
        return Fault(kind, match, from_s=begin_s, until_s=end_s, share=_share(dice), ms=ms)

    return draw


def _coded(kind: str, codes: tuple[int, ...], path: str) -> Draw:
    def draw(dice: random.Random, begin_s: float, end_s: float) -> Fault:
        return Fault(
            kind, Match(path=path), from_s=begin_s, until_s=end_s, share=_share(dice),
            code=dice.choice(codes),
        )  # fmt: skip

    return draw


def _outage(dice: random.Random, begin_s: float, end_s: float) -> Fault:
    return Fault("outage", from_s=begin_s, until_s=end_s, part=dice.choice(PARTS))


def _http(dice: random.Random, begin_s: float, end_s: float) -> Fault:
    status = dice.choice((429, 500, 502, 503, 504))
    match = Match(path=dice.choice(PATHS))
    return Fault(
        "http_error", match, from_s=begin_s, until_s=end_s, share=_share(dice), status=status
    )


def _ban(dice: random.Random, begin_s: float, end_s: float) -> Fault:
    ms = int((end_s - begin_s) * 1000) + 1
    return Fault("ip_ban", from_s=begin_s, until_s=end_s, times=1, ms=min(ms, _ms(dice)))


def _hidden(dice: random.Random, begin_s: float, end_s: float) -> Fault:
    return Fault("orders_hidden", from_s=begin_s, until_s=end_s, ms=dice.randint(100, 900))


def _push(kind: str, *, timed: bool = False) -> Draw:
    def draw(dice: random.Random, begin_s: float, end_s: float) -> Fault:
        match = Match(topic=dice.choice(TOPICS))
        ms = _ms(dice) if timed else None
        return Fault(kind, match, from_s=begin_s, until_s=end_s, share=_share(dice), ms=ms)

    return draw


def _socket(kind: str) -> Draw:
    def draw(dice: random.Random, begin_s: float, end_s: float) -> Fault:
        every_s = dice.choice((0.0, 2.0)) if kind == "socket_dies" else 0.0
        deaf = kind == "socket_silent" and dice.random() < 0.5
        match = Match(path=dice.choice(SOCKETS))
        return Fault(
            kind, match, from_s=begin_s, until_s=end_s, every_s=every_s, deaf=deaf
        )

    return draw


def _skew(dice: random.Random, begin_s: float, end_s: float) -> Fault:
    return Fault("clock_skew", from_s=begin_s, until_s=end_s, ms=dice.choice((-1500, -400, 3000)))


def _blank(dice: random.Random, begin_s: float, end_s: float) -> Fault:
    path, field = dice.choice(
        (
            ("/v5/account/wallet-balance", "totalEquity"), ("/v5/account/wallet-balance", "coin"),
            ("/v5/position/list", "size"), ("/v5/crypto-loan-common/position", "totalDebt"),
            ("/v5/market/risk-limit", "maintenanceMargin"), ("/v5/order/realtime", "cumExecQty"),
        )
    )  # fmt: skip
    op = dice.choice(("drop", "blank", "null", "nan", "number"))
    return Fault(
        "edit_answer", Match(path=path), from_s=begin_s, until_s=end_s, field=field, op=op
    )


def _loan(dice: random.Random, begin_s: float, end_s: float) -> Fault:
    return Fault(
        dice.choice(("top_up_refused", "refill_refused")), from_s=begin_s, until_s=end_s
    )


MENU: tuple[Draw, ...] = (
    _request("slow_answer", timed=True), _request("slow_request", timed=True), _request("cut"),
    _request("answer_lost"), _request("answer_never", timed=True), _request("rate_limited"),
    _coded("refuse", REFUSALS, ORDERS), _coded("refuse", UNCLEAR, READS),
    _coded("unknown_outcome", UNCLEAR, ORDERS), _coded("unknown_outcome", UNCLEAR, READS),
    _outage, _http, _ban, _hidden, _blank, _loan, _skew,
    _push("push_lost"), _push("push_late", timed=True), _push("push_twice", timed=True),
    _push("push_swapped"), _push("filled_twice"),
    _socket("socket_dies"), _socket("socket_silent"), _socket("socket_refused"),
)  # fmt: skip
