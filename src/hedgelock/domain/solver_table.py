"""Every protection priced beside the others, and why each was or was not chosen."""

from __future__ import annotations

import enum
from typing import Generic, NamedTuple

from hedgelock.domain.actions import ActionKind, N
from hedgelock.domain.demands import Row
from hedgelock.domain.solver import Plan
from hedgelock.domain.solver_problem import Case, Problem, problem, span

_PROTECTIONS = tuple(kind for kind in ActionKind if kind not in (
    ActionKind.WAIT, ActionKind.TRANSFER_OUT,
))


class Verdict(enum.Enum):
    """Why an action is, or is not, what is done."""

    CHOSEN = "chosen"
    PART = "part"
    """Chosen together with another."""
    NOT_NEEDED = "not_needed"
    DEARER = "dearer"
    """It would do, for more."""
    NOT_ENOUGH = "not_enough"
    """There is less of it than it would take."""
    BREAKS = "breaks"
    """It would break another demand first."""
    NO_HELP = "no_help"
    """It does not lower what is broken."""
    UNAVAILABLE = "unavailable"
    """The venue or the executor does not offer it now."""


class Alternative(NamedTuple, Generic[N]):
    """One protection. `size` is what it alone would take, `cost` its price over the horizon, USDT.

    Both are None where no size of it would do, or none is needed; `row` is the demand in its way.
    """

    kind: ActionKind
    verdict: Verdict
    size: N | None
    cost: N | None
    row: Row[N] | None


def alternatives(case: Case[N], plan: Plan[N]) -> tuple[Alternative[N], ...]:
    """The table of a decision, as the account was before it, in the order of `ActionKind`."""
    now = problem(case._replace(available=frozenset(ActionKind)))
    chosen = [action.kind for made in plan.rounds for action in made.actions]
    return tuple(_row(now, case.available, chosen, kind) for kind in _PROTECTIONS)


def _row(
    now: Problem[N], available: frozenset[ActionKind], chosen: list[ActionKind], kind: ActionKind
) -> Alternative[N]:
    which = next((at for at, lever in enumerate(now.levers) if lever.kind is kind), None)
    size: N | None = None
    blocking: Row[N] | None = None
    if which is None:
        verdict = Verdict.NOT_ENOUGH
    elif not now.is_broken:
        verdict = Verdict.NOT_NEEDED
    else:
        verdict, size, blocking = _alone(now, which)
    if kind in chosen:
        verdict = Verdict.CHOSEN if len(chosen) == 1 else Verdict.PART
    elif kind not in available:
        verdict = Verdict.UNAVAILABLE
    cost = None if size is None or which is None else now.levers[which].price * size
    return Alternative(kind, verdict, size, cost, blocking)


def _alone(now: Problem[N], which: int) -> tuple[Verdict, N | None, Row[N] | None]:
    """What it would take of one action alone, and what is in the way."""
    lever = now.levers[which]
    bounds = span(now, now.needs, which, lever.most)
    if bounds is None:
        return Verdict.NO_HELP, None, None
    size = now.case.rounding.up(max(bounds.low, lever.least), lever.step)
    if size <= bounds.high:
        return Verdict.DEARER, size, None
    if bounds.high_row is None:
        return Verdict.NOT_ENOUGH, size, None
    return Verdict.BREAKS, size, now.rows[bounds.high_row]


