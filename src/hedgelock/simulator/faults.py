"""What may go wrong, when, and for whom: a plan of faults, without I/O.

A `Fault` says kind, time window (script seconds), match and odds; `KINDS` is the whole list of
kinds. `Faults` holds the plan and answers three questions of the carrier: what happens to this
request, to this push, to this socket. Same plan, same seed, same questions → same answers.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from hedgelock.simulator.fault_kinds import (
    ALWAYS_S,
    KINDS,
    OUTAGES,
    Fault,
    Match,
    Stage,
    problem,
)


class Seen(NamedTuple):
    """What a request looks like to a fault."""

    method: str
    path: str
    via: str
    account: str
    symbol: str
    address: str
    params: Mapping[str, Any] = MappingProxyType({})


@dataclass(slots=True)
class Verdict:
    """What happens to one request. Times in ms of the exchange's clock."""

    hold_ms: int = 0
    """It reaches the exchange so much later."""
    delay_ms: int = 0
    """Its answer leaves so much later."""
    cut: bool = False
    """The connection ends before the exchange has seen it."""
    status: int = 0
    """Answered with this HTTP status, not served."""
    code: int = 0
    """Answered with this retCode, not served."""
    after_code: int = 0
    """Served, and answered with this retCode all the same."""
    message: str = ""
    lost: bool = False
    """Served; the connection ends without an answer, after `delay_ms`."""
    hidden_ms: int = 0
    """Orders younger than this are missing from the answer."""
    edits: list[Fault] = field(default_factory=list)
    items: dict[int, tuple[int, str]] = field(default_factory=dict)
    """Orders of a batch that fail: place → code and message."""


class Pushed(NamedTuple):
    """What a push looks like to a fault; `symbols` are those of its rows."""

    topic: str
    account: str
    symbols: frozenset[str]
    filled: bool


@dataclass(slots=True)
class Fate:
    """What happens to one push: the delays after which it is sent (none = lost)."""

    delays_ms: list[int] = field(default_factory=lambda: [0])
    swapped: bool = False
    """Held back until the next push of the same audience has gone."""
    edits: list[Fault] = field(default_factory=list)


@dataclass(slots=True)
class _Live:
    """A fault and what it has done so far."""

    number: int
    fault: Fault
    dice: random.Random
    stage: Stage
    met: int = 0
    hits: int = 0
    next_s: float = 0.0

    def open(self, script_s: float) -> bool:
        """Whether the window is open and hits are left."""
        fault = self.fault
        within = fault.from_s <= script_s < fault.until_s
        return within and not (fault.times and self.hits >= fault.times)

    def strikes(self, script_s: float) -> bool:
        """Count a match in the open window and say whether it is hit."""
        if not self.open(script_s):
            return False
        fault = self.fault
        self.met += 1
        if fault.nth and self.met != fault.nth:
            return False
        if fault.share < 1 and self.dice.random() >= fault.share:
            return False
        self.hits += 1
        return True


class Faults:
    """The plan, its dice and its memory."""

    def __init__(self, plan: Sequence[Fault] = (), *, seed: int = 1) -> None:
        self.seed = seed
        self._live: list[_Live] = []
        self._numbers = 0
        self._banned_ms: dict[str, int] = {}
        for fault in plan:
            self.add(fault)

    @property
    def quiet(self) -> bool:
        """Nothing is planned: the carrier need not ask."""
        return not self._live

    def add(self, fault: Fault) -> int:
        """Plan a fault; its number. ValueError when it makes no sense."""
        wrong = problem(fault)
        if wrong:
            raise ValueError(wrong)
        self._numbers += 1
        dice = random.Random(f"{self.seed}:{self._numbers}")
        live = _Live(self._numbers, fault, dice, KINDS[fault.kind].stage, next_s=fault.from_s)
        self._live.append(live)
        return self._numbers

    def remove(self, number: int) -> bool:
        """Drop one fault; whether it was there."""
        before = len(self._live)
        self._live = [live for live in self._live if live.number != number]
        return len(self._live) < before

    def clear(self) -> None:
        """Heal everything, bans included."""
        self._live.clear()
        self._banned_ms.clear()

    def listing(self) -> list[dict[str, object]]:
        """Every planned fault with what it has done."""
        return [
            {
                "id": live.number, "met": live.met, "hits": live.hits,
                "fault": msgspec.to_builtins(live.fault),
            }
            for live in self._live
        ]  # fmt: skip

    # ------------------------------------------------------------ requests

    def request(self, seen: Seen, *, script_s: float, now_ms: int) -> Verdict:
        """What happens to a request that arrives now."""
        verdict = Verdict()
        banned_ms = self._banned_ms.get(seen.address, 0)
        if seen.via == "rest" and now_ms < banned_ms:
            verdict.status, verdict.message = 403, "access too frequent"
            return verdict
        for live in self._live:
            if live.stage is not Stage.REQUEST or not _meets(live.fault, seen):
                continue
            if live.strikes(script_s):
                self._strike(live.fault, verdict, seen.address, now_ms)
        return verdict

    def _strike(self, fault: Fault, verdict: Verdict, address: str, now_ms: int) -> None:
        kind = KINDS[fault.kind]
        ms = kind.ms if fault.ms is None else fault.ms
        code, message = fault.code or kind.code, fault.message or kind.message
        match fault.kind:
            case "slow_request":
                verdict.hold_ms += ms
            case "slow_answer":
                verdict.delay_ms += ms
            case "cut":
                verdict.cut = True
            case "ip_ban":
                self._banned_ms[address] = now_ms + ms
                verdict.status, verdict.message = 403, message
            case "http_error":
                verdict.status, verdict.message = fault.status or 503, message
            case "answer_lost":
                verdict.lost = True
            case "answer_never":
                verdict.lost, verdict.delay_ms = True, verdict.delay_ms + ms
            case "unknown_outcome":
                verdict.after_code, verdict.message = code, message
            case "batch_partial":
                places = fault.items or (0,)
                verdict.items |= dict.fromkeys(places, (code, message))
            case "orders_hidden":
                verdict.hidden_ms = max(verdict.hidden_ms, ms)
            case "edit_answer":
                verdict.edits.append(fault)
            case _:  # refusals that differ by code and by what they match
                verdict.code, verdict.message = code, message

    # ------------------------------------------------------------ pushes

    def push(self, pushed: Pushed, *, script_s: float) -> Fate:
        """What happens to a push."""
        fate = Fate()
        for live in self._live:
            fault = live.fault
            if live.stage is not Stage.PUSH or not _meets_push(fault, pushed):
                continue
            if fault.kind == "filled_twice" and not pushed.filled:
                continue
            if live.strikes(script_s):
                ms = KINDS[fault.kind].ms if fault.ms is None else fault.ms
                match fault.kind:
                    case "push_lost":
                        fate.delays_ms.clear()
                    case "push_late":
                        fate.delays_ms = [at + ms for at in fate.delays_ms]
                    case "push_twice" | "filled_twice":
                        fate.delays_ms += [at + ms for at in fate.delays_ms]
                    case "push_swapped":
                        fate.swapped = True
                    case _:
                        fate.edits.append(fault)
        return fate

    # ------------------------------------------------------------ sockets and the world

    def _acting(self, kind: str, script_s: float) -> list[Fault]:
        return [
            live.fault
            for live in self._live
            if live.fault.kind == kind and live.open(script_s)
        ]

    def refuses_socket(self, path: str, *, script_s: float) -> bool:
        """Whether a new socket is turned away."""
        return any(
            live.strikes(script_s)
            for live in self._live
            if live.fault.kind == "socket_refused" and like(live.fault.match.path, path)
        )

    def silent(self, path: str, account: str, topic: str, *, script_s: float) -> bool:
        """Whether a frame to this socket is swallowed; `topic` "" = no push (ack, pong)."""
        return any(
            like(fault.match.path, path)
            and _is(fault.match.account, account)
            and (not fault.match.topic or (bool(topic) and like(fault.match.topic, topic)))
            for fault in self._acting("socket_silent", script_s)
        )

    def deaf(self, path: str, account: str, *, script_s: float) -> bool:
        """Whether a frame from this socket is lost."""
        return any(
            fault.deaf and like(fault.match.path, path) and _is(fault.match.account, account)
            for fault in self._acting("socket_silent", script_s)
        )

    def cuts(self, script_s: float) -> list[Match]:
        """Sockets that die now, without a close frame; each instant is told once."""
        found = []
        for live in self._live:
            fault = live.fault
            if fault.kind != "socket_dies" or script_s < live.next_s or not live.open(script_s):
                continue
            live.hits += 1
            live.next_s = script_s + fault.every_s if fault.every_s else ALWAYS_S
            found.append(fault.match)
        return found

    def skew_ms(self, script_s: float) -> int:
        """How far the exchange's clock is ahead of the true time."""
        return sum(fault.ms or 0 for fault in self._acting("clock_skew", script_s))

    def key_refusal(self, account: str, *, script_s: float) -> tuple[int, str] | None:
        """Code and words with which a key is turned away."""
        for kind in ("key_revoked", "key_expired", "ip_changed"):
            for fault in self._acting(kind, script_s):
                if _is(fault.match.account, account):
                    return KINDS[kind].code, KINDS[kind].message
        return None

    def lost_permissions(self, account: str, *, script_s: float) -> frozenset[str]:
        """Permissions that the key no longer has."""
        return frozenset(
            fault.permission
            for fault in self._acting("permission_removed", script_s)
            if _is(fault.match.account, account)
        )


def _is(wanted: str, given: str) -> bool:
    return wanted in {"", given}


def like(wanted: str, given: str) -> bool:
    """Whether a pattern ("" = anything) fits."""
    return not wanted or wanted == given or fnmatchcase(given, wanted)


def _meets(fault: Fault, seen: Seen) -> bool:
    match = fault.match
    if not (
        _is(match.method, seen.method) and _is(match.via, seen.via)
        and _is(match.account, seen.account) and _is(match.symbol, seen.symbol)
        and like(match.path, seen.path)
    ):  # fmt: skip
        return False
    kind = KINDS[fault.kind]
    routes = OUTAGES[fault.part] if fault.part else kind.routes
    if any(str(seen.params.get(name)) != value for name, value in kind.only):
        return False
    return not routes or any(
        _is(method, seen.method) and like(path, seen.path) for method, path in routes
    )


def _meets_push(fault: Fault, pushed: Pushed) -> bool:
    match = fault.match
    return (
        like(match.topic, pushed.topic)
        and _is(match.account, pushed.account)
        and (not match.symbol or match.symbol in pushed.symbols)
    )
