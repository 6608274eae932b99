"""When nothing is broken: give back what is not needed, change what is dear, fill up what is short."""

from __future__ import annotations

from hedgelock.domain.actions import ActionKind, Lever, N
from hedgelock.domain.demands import DemandKind
from hedgelock.domain.solver_problem import Best, Chosen, Problem, after, least, room, span, staged

_REDUCTIONS = (ActionKind.REDUCE_LINEAR, ActionKind.REDUCE_INVERSE)
_SUBSTITUTES = frozenset({
    ActionKind.TOP_UP, ActionKind.SHORT_LINEAR, ActionKind.SHORT_INVERSE, ActionKind.SELL_SPOT,
    ActionKind.REPAY_WITH_COLLATERAL,
})


def _reductions(now: Problem[N]) -> list[int]:
    """The levers that give a short back, the dearer one to hold first."""
    found = [which for which, lever in enumerate(now.levers) if lever.kind in _REDUCTIONS]
    return sorted(found, key=lambda which: now.levers[which].carry / _worth(now, which))


def _worth(now: Problem[N], which: int) -> N:
    """USDT of notional per unit of a reduction."""
    mark = now.case.terms.mark_price
    return mark if now.levers[which].kind is ActionKind.REDUCE_LINEAR else mark * 0 + 1


def release(now: Problem[N]) -> Chosen[N] | None:
    """Give back the short that no demand needs, where it is a band or more; None = there is none."""
    for which in _reductions(now):
        lever = now.levers[which]
        size = now.case.rounding.down(room(now, which), lever.step)
        band = now.case.limits.band * now.case.terms.mark_price
        if size >= lever.least and size * _worth(now, which) >= band:
            return [(lever, size)]
    return None


def replace(now: Problem[N]) -> Chosen[N] | None:
    """Change a short that pays for another protection, where that saves enough over the horizon.

    The new one protects to the aim, however much of the slack the old one had used up: so that half
    way, with the sale done and the short still there, the answer is the same.
    """
    best: Best[N] = Best([])
    now = now._replace(allowed=[
        min(allowed, allowed * 0) if row.kind is DemandKind.LOAN else allowed
        for row, allowed in zip(now.rows, now.allowed, strict=True)
    ])
    for which in _reductions(now):
        lever = now.levers[which]
        if lever.price >= 0:
            continue
        for other, second in enumerate(now.levers):
            if second.kind not in _SUBSTITUTES or _is_same_contract(lever, second):
                continue
            for size in _replaceable(now, which, other):
                _complete_replacement(now, which, size, other, best)
    is_worth_it = best.cost is not None and best.cost <= -now.case.limits.saving_min < 0
    return best.chosen if is_worth_it else None


def _is_same_contract(lever: Lever[N], second: Lever[N]) -> bool:
    opposite = (
        ActionKind.SHORT_LINEAR if lever.kind is ActionKind.REDUCE_LINEAR
        else ActionKind.SHORT_INVERSE
    )
    return second.kind is opposite


def _replaceable(now: Problem[N], which: int, other: int) -> list[N]:
    """All of a short, and as much of it as the other action can stand in for at most."""
    lever, second, rounding = now.levers[which], now.levers[other], now.case.rounding
    sizes = [rounding.down(lever.most, lever.step)]
    most = rounding.down(max(room(now, other), second.most * 0), second.step)
    freed = room(staged(now, other, most), which)
    return [*sizes, rounding.down(max(freed, lever.most * 0), lever.step)]


def _complete_replacement(
    now: Problem[N], which: int, size: N, other: int, best: Best[N]
) -> None:
    lever, second = now.levers[which], now.levers[other]
    if size < lever.least or size <= 0:
        return
    bounds = span(now, after(now, which, size), other, second.most)
    if bounds is None or bounds.low <= second.step:
        return  # nothing needs to stand in for it: that is `release`'s
    rest = least(now, second, bounds)
    if rest is not None:
        # The substitute first: the account is never without either.
        best.offer([(second, rest), (lever, size)])


def refill(now: Problem[N]) -> Chosen[N] | None:
    """Fill the pocket up to R: from FUND at any LTV, by borrowing below the refill LTV."""
    held, limits, rounding = now.case.held, now.case.limits, now.case.rounding
    missing = limits.reserve - held.equity
    for which, lever in enumerate(now.levers):
        if lever.kind not in (ActionKind.TRANSFER_IN, ActionKind.BORROW):
            continue
        wanted = missing
        if lever.kind is ActionKind.BORROW:
            wanted = missing - held.fund
        size = rounding.down(max(min(room(now, which), wanted), wanted * 0), lever.step)
        if size >= max(lever.least, limits.amount_min) and size > 0:
            return [(lever, size)]
    return None
