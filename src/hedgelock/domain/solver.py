"""The account solver: the cheapest set of actions that keeps loan and margin inside policy.

A decision is a few moves, each the closed-form answer to one question, until nothing is left to do:

    PROTECT       a limit is broken: the cheapest set of a few actions that brings every demand back
                  inside its aim and worsens none of the others; no more of it than is needed
    LEAST_UNSAFE  nothing does: what lowers the worst need furthest
    RELEASE       protection beyond the aim, by a band or more, is given back
    REPLACE       a short that pays is changed for what is cheaper over the horizon and as safe
    REFILL        below the refill LTV the pocket is filled up to its reserve, FUND first

Sizes come from `demands`: every demand is linear, so that an action's size is need ÷ effect, the two
sizes of a pair one 2 × 2 system, and every size is rounded to what can be traded and checked again
on all demands. Nothing is searched: a decision is exact, and the same on every machine. Each move
lowers the worst need, the excess or the cost, so that they end; asked again it answers "wait".

Where a protection is not chosen the alternatives say why, and what it would have cost.
"""

from __future__ import annotations

import enum
from typing import Generic, NamedTuple

from hedgelock.domain.actions import Holdings, N, Sized, moved, sized
from hedgelock.domain.demands import DemandKind, Row
from hedgelock.domain.solver_problem import Case, Chosen, Problem, added, problem
from hedgelock.domain.solver_protect import least_unsafe, protect
from hedgelock.domain.solver_relief import refill, release, replace

ROUNDS_MAX = 12
"""Moves of one decision; see `Plan.is_settled`."""


class Move(enum.Enum):
    """Why a move was made."""

    PROTECT = "protect"
    LEAST_UNSAFE = "least_unsafe"
    RELEASE = "release"
    REPLACE = "replace"
    REFILL = "refill"


class PlanReason(enum.Enum):
    """What the decision comes to."""

    WITHIN_POLICY = "within_policy"
    ACTED = "acted"
    UNSAFE = "unsafe"
    """Some demand stays broken: nothing that can be done mends it."""


class Round(NamedTuple, Generic[N]):
    """One move of a decision."""

    move: Move
    actions: tuple[Sized[N], ...]

    @property
    def cost(self) -> N:
        """USDT over the horizon."""
        return added([action.cost for action in self.actions])


class Plan(NamedTuple, Generic[N]):
    """The answer. `worst` is the demand that is missed most (or met least) after it."""

    reason: PlanReason
    rounds: tuple[Round[N], ...]
    after: Holdings[N]
    worst: Row[N]
    is_settled: bool
    """False = the moves were cut off: the rest is for the next decision."""

    @property
    def actions(self) -> tuple[Sized[N], ...]:
        """All actions in their order."""
        return tuple(action for made in self.rounds for action in made.actions)


def solve(case: Case[N], rounds_max: int = ROUNDS_MAX) -> Plan[N]:
    """What to do now; see the module. Deterministic."""
    held = case.held
    made: list[Round[N]] = []
    for _ in range(rounds_max):
        now = problem(case._replace(held=held))
        found = _next(now)
        if found is None:
            return _plan(now, made, is_settled=True)
        move, chosen = found
        made.append(Round(move, tuple(sized(lever, size) for lever, size in chosen)))
        for lever, size in chosen:
            held = moved(held, lever, size)
    return _plan(problem(case._replace(held=held)), made, is_settled=False)


def _plan(now: Problem[N], made: list[Round[N]], *, is_settled: bool) -> Plan[N]:
    over = [
        (need - row.slack, row) for need, row in zip(now.needs, now.rows, strict=True)
        if row.kind is not DemandKind.NOUGHT
    ]
    worst = max(over, key=lambda pair: pair[0])[1]
    reason = PlanReason.ACTED if made else PlanReason.WITHIN_POLICY
    if now.is_broken:
        reason = PlanReason.UNSAFE
    return Plan(reason, tuple(made), now.case.held, worst, is_settled)


def _next(now: Problem[N]) -> tuple[Move, Chosen[N]] | None:
    if now.is_broken:
        chosen = protect(now)
        if chosen is not None:
            return Move.PROTECT, chosen
        chosen = least_unsafe(now)
        return None if chosen is None else (Move.LEAST_UNSAFE, chosen)
    for move, find in ((Move.REPLACE, replace), (Move.RELEASE, release), (Move.REFILL, refill)):
        chosen = find(now)
        if chosen is not None and not _breaks(now, chosen):
            return move, chosen
    return None


def _breaks(now: Problem[N], chosen: Chosen[N]) -> bool:
    """A demand that there was not (a loan has its own) would be broken by it."""
    held = now.case.held
    for lever, size in chosen:
        held = moved(held, lever, size)
    return problem(now.case._replace(held=held)).is_broken
