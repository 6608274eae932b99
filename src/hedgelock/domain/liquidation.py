"""Where the account dies: the prices, on both sides of today's, at which loan or pocket is liquidated.

Everything moves along one line, k = the hedged coin's price ÷ its price now:

    loan      Σ debts_i·P_i(k)·growth_i = L·Σ counted_i·P_i(k),   P_i(k) = P_i·max(0, 1 + β_i·(k − 1))
    pocket    accountMMRate(k) = 1: needed(k) = margin balance(k), all prices × k (`margin`)

Cross margin has no truth per position: tiers, haircuts, what is borrowed and both kinds of contract
enter one equation. Between two kinks (a tier's bound, a coin's equity crossing nought, a price that
reaches nought) both sides are polynomials in k of degree ≤ 2, so the nearest root on either side is
found exactly, piece by piece. The exchange's own figure is an estimate and a sanity band at most.
Source: fact sheet §7.1, §8.4, §8.5 ("Estimator").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple

from hedgelock.domain.loan import LoanBook
from hedgelock.domain.margin import Book, PositionLine, margin_sums
from hedgelock.domain.money import ONE, ZERO

ALT_BETA = Decimal("1.5")
"""How far other coins move with the hedged one, where nobody says otherwise (issue 5: 1.5 to 2)."""

_NEVER = Decimal("Infinity")
_ROOM = Decimal("1E-18")
"""A root this near to a piece, relative to its own size, belongs to it: roots are rounded."""


class Roots(NamedTuple):
    """The nearest k of liquidation below and above 1. None = no price on that side does it.

    Both are 1 when it is liquidated already.
    """

    below: Decimal | None
    above: Decimal | None


NEVER = Roots(None, None)
NOW = Roots(ONE, ONE)


# ---------------------------------------------------------------- the two cliffs


def loan_roots(
    loan: LoanBook, ltv_liquidation: Decimal, *,
    beta: Mapping[str, Decimal], growth: Mapping[str, Decimal],
) -> Roots:
    """Where LTV = `ltv_liquidation` (> 0). Meaningless when the loan is not whole.

    `beta` per coin, ALT_BETA where none is given, the quote coin stands still; `growth` ≥ 1 per coin
    is what interest makes of its debt, 1 where none is given.
    """
    if not loan.debt_value:
        return NEVER
    lines = []
    for line in loan.lines:
        owed = line.debt_qty * growth.get(line.coin, ONE)
        excess = (ltv_liquidation * line.counted_qty - owed) * line.price
        lines.append((excess, beta.get(line.coin, ALT_BETA) if line.instrument else ZERO))

    def excess_at(k: Decimal) -> Decimal:
        return sum([value * max(ZERO, ONE + by * (k - ONE)) for value, by in lines], ZERO)

    return nearest_roots(excess_at, [ONE - ONE / by for _, by in lines if by > ONE])


def interest_growth(hourly_rate: Decimal, hours: int) -> Decimal:
    """What `hours` of hourly compounding make of 1: (1 + rate)^hours. Bybit books begun hours whole."""
    return (ONE + hourly_rate) ** hours


def pocket_roots(book: Book) -> Roots:
    """Where accountMMRate = 1 with all prices × k. Meaningless when the book is not whole."""
    if not book.positions and all(line.wallet_qty >= 0 for line in book.coins):
        return NEVER

    def excess_at(k: Decimal) -> Decimal:
        needed, balance = margin_sums(book, k)
        return balance - needed

    return nearest_roots(excess_at, _kinks(book))


def _kinks(book: Book) -> list[Decimal]:
    """Every k where needed or balance changes its formula."""
    found = []
    for line in book.positions:
        found += _tier_kinks(line)
    for coin in {line.settle for line in book.positions}:
        # Equity of a coin, in coins: level + slope·k − curve ÷ k.
        level = sum([line.wallet_qty for line in book.coins if line.coin == coin], ZERO)
        slope = curve = ZERO
        for line in book.positions:
            if line.settle != coin:
                continue
            if line.is_inverse:
                level += line.position_qty / line.entry_price
                curve += line.position_qty / line.mark_price
            else:
                level -= line.position_qty * line.entry_price
                slope += line.position_qty * line.mark_price
        found += _polynomial_roots(-curve, level, slope)
    return found


def _tier_kinks(line: PositionLine) -> list[Decimal]:
    """Where a position's value crosses a tier's bound, or its maintenance its floor of nought."""
    size = abs(line.position_qty)
    values = [tier.notional_max for tier in line.tiers]
    values += [tier.deduction / (tier.maintenance_rate + line.taker_fee) for tier in line.tiers]
    if line.is_inverse:
        return [size / (line.mark_price * value) for value in values if value]
    return [value / (size * line.mark_price) for value in values]


# ---------------------------------------------------------------- nearest roots


def nearest_roots(excess: Callable[[Decimal], Decimal], kinks: Iterable[Decimal]) -> Roots:
    """The nearest k > 0 below and above 1 at which `excess` is no longer > 0.

    Between neighbouring `kinks` it must be a polynomial of degree ≤ 2; at a kink it may jump.
    """
    if excess(ONE) <= 0:
        return NOW
    bounds = sorted({k for k in kinks if k > 0} | {ONE})
    at = bounds.index(ONE)
    below = above = None
    for high, low in pairwise([*reversed(bounds[: at + 1]), ZERO]):
        below = _last_alive(excess, low, high, downwards=True)
        if below is not None:
            break
    for low, high in pairwise([*bounds[at:], _NEVER]):
        above = _last_alive(excess, low, high, downwards=False)
        if above is not None:
            break
    return Roots(below, above)


def _last_alive(
    excess: Callable[[Decimal], Decimal], low: Decimal, high: Decimal, *, downwards: bool
) -> Decimal | None:
    """The first k of a piece, coming from one end, where `excess` ≤ 0; None = nowhere in it."""
    end = low * 2 + ONE if high == _NEVER else high
    if end - low <= end * _ROOM:
        # Too narrow to hold three points; whatever jumps here shows at the next piece's start.
        return None
    points = [low + (end - low) * i / 4 for i in (1, 2, 3)]
    c0, c1, c2 = _through(points, [excess(k) for k in points])
    start = high if downwards else low
    if c0 + start * (c1 + start * c2) < 0:
        return start
    slack = start * _ROOM
    roots = [k for k in _polynomial_roots(c0, c1, c2) if k > 0 and low - slack <= k <= high + slack]
    if not roots:
        return None
    return max(roots) if downwards else min(roots)


def _through(at: list[Decimal], values: list[Decimal]) -> tuple[Decimal, Decimal, Decimal]:
    """Coefficients c0 + c1·k + c2·k² of the parabola through three points (Newton's form)."""
    (a, b, c), (u, v, w) = at, values
    first, second = (v - u) / (b - a), (w - v) / (c - b)
    bend = (second - first) / (c - a)
    if abs(bend) * c * c <= _ROOM * (abs(u) + abs(v) + abs(w)):
        # A straight line but for rounding; its far root would be noise.
        slope = (w - u) / (c - a)
        return u - slope * a, slope, ZERO
    slope = first - bend * (a + b)
    return u - a * (slope + bend * a), slope, bend


def _polynomial_roots(c0: Decimal, c1: Decimal, c2: Decimal) -> list[Decimal]:
    """Real roots of c0 + c1·k + c2·k², without cancellation; none of a constant."""
    if not c2:
        return [-c0 / c1] if c1 else []
    inside = c1 * c1 - 4 * c2 * c0
    if inside < 0:
        return []
    half = -(c1 + inside.sqrt().copy_sign(c1)) / 2
    return [half / c2, c0 / half] if half else [ZERO]
