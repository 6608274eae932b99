"""When nothing is broken: give back what is not needed, change what is dear, fill up what is short."""

from __future__ import annotations

from hedgelock.domain.actions import ActionKind, Lever, N
from hedgelock.domain.solver_problem import Best, Chosen, Problem, after, least, room, span

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
        bounds = span(now, now.needs, which, lever.most)
        if bounds is None:
            continue
        size = now.case.rounding.down(bounds.high, lever.step)
        band = max(now.case.limits.band * now.case.terms.mark_price, now.case.held.debt * 0)
        if size >= lever.least and size * _worth(now, which) >= band:
            return [(lever, size)]
    return None


def replace(now: Problem[N]) -> Chosen[N] | None:
    """Change a short that pays for another protection, where that saves enough over the horizon."""
    best: Best[N] = Best([])
    for which in _reductions(now):
        lever = now.levers[which]
        if lever.price >= 0:
            continue
        for other, second in enumerate(now.levers):
            if second.kind not in _SUBSTITUTES or _is_same_contract(lever, second):
                continue
            for size in _replaceable(now, which, other):
                _complete_replacement(now, which, size, other, best)
    saves = best.cost is not None and best.cost <= -now.case.limits.saving_min
    return best.chosen if saves and best.cost is not None and best.cost < 0 else None


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
    bounds = span(now, after(now, other, most), which, lever.most)
    if bounds is not None:
        sizes.append(rounding.down(max(bounds.high, lever.most * 0), lever.step))
    return sizes


def _complete_replacement(
    now: Problem[N], which: int, size: N, other: int, best: Best[N]
) -> None:
    lever, second = now.levers[which], now.levers[other]
    if size < lever.least or size <= 0:
        return
    bounds = span(now, after(now, which, size), other, second.most)
    rest = None if bounds is None else least(now, second, bounds)
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
        bounds = span(now, now.needs, which, min(lever.most, wanted))
        if bounds is None:
            continue
        size = rounding.down(bounds.high, lever.step) if bounds.high > 0 else bounds.high
        if size >= max(lever.least, limits.amount_min) and size > 0:
            return [(lever, size)]
    return None
