"""When a limit is broken: the cheapest single action or pair that mends it, or what helps most."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from hedgelock.domain.actions import ActionKind, N
from hedgelock.domain.demands import DemandKind
from hedgelock.domain.solver_problem import (
    Best,
    Chosen,
    Problem,
    Span,
    after,
    least,
    room,
    span,
    staged,
)

_LAST = frozenset({ActionKind.SELL_SPOT, ActionKind.REPAY_WITH_COLLATERAL})
"""Sales: before one of these is done, sets of more than two actions are looked at."""


def protect(now: Problem[N]) -> Chosen[N] | None:
    """The cheapest set after which every demand is met, of those looked at; None = there is none.

    Single actions and pairs always. Where they would sell coins, or do not suffice, also sets that
    begin with as much of one action as it takes to mend what it mends, or as much as there is room
    for, and are completed by a pair.
    """
    best = _pairs(now, [])
    if best.chosen is not None and not any(lever.kind in _LAST for lever, _ in best.chosen):
        return best.chosen
    for which, lever in enumerate(now.levers):
        if lever.kind in _LAST or not _mends(now, which):
            continue
        for size in _stages(now, which):
            found = _pairs(staged(now, which, size), [(lever, size)])
            if found.cost is not None and (best.cost is None or found.cost < best.cost):
                best = found
    return best.chosen


def _stages(now: Problem[N], which: int) -> list[N]:
    """How much of an action to begin with: all there is room for, and what mends the worst of gross.

    A repayment comes first (the loan's own demand), whether or not the pocket's margin then needs
    something else.
    """
    lever, rounding = now.levers[which], now.case.rounding
    sizes = [rounding.down(room(now, which), lever.step)]
    for row, need, allowed, effect in zip(
        now.rows, now.needs, now.allowed, now.effects[which], strict=True
    ):
        if row.kind is DemandKind.GROSS and effect < 0 and need > allowed:
            sizes.append(rounding.up((allowed - need) / effect, lever.step))
    return [size for size in sizes if lever.least <= size <= lever.most and size > 0]


def _pairs(now: Problem[N], before: Chosen[N]) -> Best[N]:
    best: Best[N] = Best(before)
    spans: list[Span[N] | None] = []
    for which, lever in enumerate(now.levers):
        bounds = span(now, now.needs, which, lever.most)
        spans.append(bounds)
        size = None if bounds is None else least(now, lever, bounds)
        if size is not None:
            best.offer([(lever, size)])
    for which, bounds in enumerate(spans):
        if _mends(now, which):
            size = now.case.rounding.down(room(now, which), now.levers[which].step)
            _complete(now, which, size, best=best, others=range(len(now.levers)))
        for other, size in _corners(now, which, bounds):
            _complete(now, which, size, best=best, others=(other,))
    return best


def _corners(now: Problem[N], which: int, bounds: Span[N] | None) -> Iterator[tuple[int, N]]:
    """(another action, how much of this one) where the other makes the room that this one needs.

    This one mends the demand that asks most of it; both that row and the one in its way are tight.
    """
    if bounds is None or bounds.low_row is None or bounds.high_row is None:
        return
    p, q, mine = bounds.low_row, bounds.high_row, now.effects[which]
    gap_p, gap_q = now.allowed[p] - now.needs[p], now.allowed[q] - now.needs[q]
    for other, theirs in enumerate(now.effects):
        if theirs[q] < 0:
            determinant = mine[p] * theirs[q] - mine[q] * theirs[p]
            if determinant:
                corner = (gap_p * theirs[q] - gap_q * theirs[p]) / determinant
                yield other, now.case.rounding.up(max(corner, corner * 0), now.levers[which].step)


def _mends(now: Problem[N], which: int) -> bool:
    """It lowers a need that is above what is allowed: the rest has no place in a protection."""
    return any(
        effect < 0 and need > allowed
        for need, allowed, effect in zip(now.needs, now.allowed, now.effects[which], strict=True)
    )


def _complete(
    now: Problem[N], which: int, size: N, *, best: Best[N], others: Iterable[int]
) -> None:
    """Offer `size` of one action with the least of another that mends what is then still missed."""
    lever = now.levers[which]
    if not lever.least <= size <= lever.most or size <= 0:
        return
    needs = after(now, which, size)
    missed = [need - allowed for need, allowed in zip(needs, now.allowed, strict=True)]
    worst = missed.index(max(missed))
    for other in others:
        second = now.levers[other]
        if other == which or now.effects[other][worst] >= 0:
            continue
        bounds = span(now, needs, other, second.most)
        rest = None if bounds is None or not bounds.low else least(now, second, bounds)
        if rest is not None:
            best.offer([(lever, size), (second, rest)])


# ---------------------------------------------------------------- least unsafe


def least_unsafe(now: Problem[N]) -> Chosen[N] | None:
    """The one action that lowers the largest need furthest; None = none lowers it noticeably.

    Needs are counted from the limits, not from the aims. Along one action the largest need is the
    highest of straight lines: its lowest point is found by intersecting the steepest that fall and
    rise there (exact, no search).
    """
    start = [need - row.slack for need, row in zip(now.needs, now.rows, strict=True)]
    worst = max(start)
    chosen: Chosen[N] | None = None
    for which, lever in enumerate(now.levers):
        size = now.case.rounding.up(_lowest(start, now.effects[which], lever.most), lever.step)
        for amount in (size, size - lever.step):
            if not lever.least <= amount <= lever.most:
                continue
            after = max(
                need + effect * amount
                for need, effect in zip(start, now.effects[which], strict=True)
            )
            if after < worst - now.tolerance * _NOTICEABLE:
                worst, chosen = after, [(lever, amount)]
    return chosen


_NOTICEABLE = 100_000
"""Tolerances (so V ÷ 10⁴) that a move must lower the worst need by."""


def _lowest(needs: Sequence[N], effects: Sequence[N], most: N) -> N:
    """Where in [0, most] the largest of need + effect·x is lowest."""
    low, high = most * 0, most
    falling = _highest(needs, effects, low)
    rising = _highest(needs, effects, high)
    if effects[falling] >= 0:
        return low
    if effects[rising] <= 0:
        return high
    at = (needs[falling] - needs[rising]) / (effects[rising] - effects[falling])
    top = _highest(needs, effects, at)
    # The slopes draw together with every line taken: it ends, whatever rounding does.
    while effects[falling] < effects[top] < effects[rising]:
        if effects[top] < 0:
            falling = top
        else:
            rising = top
        at = (needs[falling] - needs[rising]) / (effects[rising] - effects[falling])
        top = _highest(needs, effects, at)
    return at


def _highest(needs: Sequence[N], effects: Sequence[N], size: N) -> int:
    values = [need + effect * size for need, effect in zip(needs, effects, strict=True)]
    return values.index(max(values))
