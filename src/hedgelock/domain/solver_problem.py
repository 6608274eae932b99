"""The solver's question with its arithmetic: demands, levers, and the sizes that meet them.

Every demand is linear in every action, so that the sizes of one action that meet all demands are an
interval, found by dividing room by effect.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple

from hedgelock.domain.actions import ActionKind, Holdings, Lever, Limits, N, Terms, levers
from hedgelock.domain.demands import Cells, Row, rows

_TOLERANCE = 1_000_000_000
"""A need of V ÷ this is none: what rounding leaves."""


class Rounding(NamedTuple, Generic[N]):
    """How sizes become multiples of a step (> 0), sizes ≥ 0: `money.floor_to` and `ceil_to`."""

    down: Callable[[N, N], N]
    up: Callable[[N, N], N]


class Case(NamedTuple, Generic[N]):
    """The question: an account, its terms, its policy, what may go wrong and what may be done."""

    held: Holdings[N]
    terms: Terms[N]
    limits: Limits[N]
    cells: Cells[N]
    available: frozenset[ActionKind]
    rounding: Rounding[N]


class Problem(NamedTuple, Generic[N]):
    """A case at one moment: demands and levers with everything that is asked of them, once."""

    case: Case[N]
    rows: list[Row[N]]
    needs: list[N]
    allowed: list[N]
    """Where each need may end: at the aim where the limit is broken, else no worse than it is."""
    levers: list[Lever[N]]
    effects: list[list[N]]
    """Per lever, per row."""
    tolerance: N
    is_broken: bool


def problem(case: Case[N]) -> Problem[N]:
    """The demands on an account and what could be done about them."""
    held = case.held
    demands = rows(held, case.terms, case.limits, case.cells)
    value = case.terms.index_price * (held.collateral + max(held.coins, held.coins * 0)) + held.debt
    tolerance = (value + 1) / _TOLERANCE
    needs = [row.need(held) for row in demands]
    broken = [
        need > row.slack + tolerance for need, row in zip(needs, demands, strict=True)
    ]
    zero = held.debt * 0
    allowed = [
        zero if is_broken else max(zero, need)
        for need, is_broken in zip(needs, broken, strict=True)
    ]
    usable = levers(held, case.terms, case.limits, case.available)
    effects = [[row.effect(lever) for row in demands] for lever in usable]
    return Problem(case, demands, needs, allowed, usable, effects, tolerance, any(broken))


Chosen = list[tuple[Lever[N], N]]
"""Actions with their sizes, in the order in which they are to be done."""


def added(amounts: Sequence[N]) -> N:
    """The sum of at least one number; there is no nought of the right kind to begin with."""
    total = amounts[0]
    for amount in amounts[1:]:
        total = total + amount
    return total


class Span(NamedTuple, Generic[N]):
    """Sizes of an action that meet every demand, and which demands (rows) bound them."""

    low: N
    high: N
    low_row: int | None
    high_row: int | None


def span(now: Problem[N], needs: Sequence[N], which: int, most: N) -> Span[N] | None:
    """All sizes in [0, most] after which every need is allowed; None = some demand it cannot mend.

    low > high = it mends them, but not without breaking another, or there is too little of it.
    """
    low, high = most * 0, most
    low_row = high_row = None
    for at, (need, allowed, effect) in enumerate(
        zip(needs, now.allowed, now.effects[which], strict=True)
    ):
        gap = allowed - need
        if effect > 0:
            if gap < effect * high:
                high, high_row = gap / effect, at
        elif gap < 0:
            if effect < 0:
                if gap < effect * low:
                    low, low_row = gap / effect, at
            elif gap < -now.tolerance:
                return None
    return Span(low, high, low_row, high_row)


def room(now: Problem[N], which: int) -> N:
    """The most of one action that breaks no demand, whether or not it mends any; may be < 0."""
    most = now.levers[which].most
    for need, allowed, effect in zip(now.needs, now.allowed, now.effects[which], strict=True):
        if effect > 0 and allowed - need < effect * most:
            most = (allowed - need) / effect
    return most


def least(now: Problem[N], lever: Lever[N], bounds: Span[N]) -> N | None:
    """The smallest size that can be traded and lies in the span; None = there is none."""
    size = now.case.rounding.up(max(bounds.low, lever.least), lever.step)
    return size if size <= bounds.high else None


def staged(now: Problem[N], which: int, size: N) -> Problem[N]:
    """The problem that is left after `size` units of one action; prices and terms as they were."""
    lever = now.levers[which]
    left = [*now.levers]
    left[which] = lever._replace(most=lever.most - size)
    return now._replace(needs=after(now, which, size), levers=left)


def after(now: Problem[N], which: int, size: N) -> list[N]:
    """Every need after `size` units of one action."""
    return [
        need + effect * size
        for need, effect in zip(now.needs, now.effects[which], strict=True)
    ]


class Best(Generic[N]):
    """The cheapest candidate so far; of equals the first, so fewer actions and preferred ones."""

    def __init__(self, before: Chosen[N]) -> None:
        self._before = before
        self.cost: N | None = None
        self.chosen: Chosen[N] | None = None

    def offer(self, chosen: Chosen[N]) -> None:
        """Take it if it is cheaper."""
        chosen = [*self._before, *chosen]
        cost = added([lever.price * amount for lever, amount in chosen])
        if self.cost is None or cost < self.cost:
            self.cost, self.chosen = cost, chosen
