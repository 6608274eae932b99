"""What an account would be after an action, automatic or manual, and how to take it back.

    LTV                D ÷ V
    ltv_net(−s)        (D − F + R − U − gain of the shorts + cost to close) ÷ (V·(1 − s))
    accountMMRate(±)   `margin` after the rise and after the fall
    liquidation        the loan's index price (D ÷ (L·κ·C)); the pocket's, below and above today's

None = infinite, or no such price. What an action costs is what it costs now, over the horizon, and
to undo. The book behind margin and liquidation holds positions as entered at today's mark, because
U and b hold their profit already.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from hedgelock.domain.actions import (
    UNDO,
    ActionKind,
    Holdings,
    Perp,
    Sized,
    Terms,
    lever_of,
    moved,
    sized,
)
from hedgelock.domain.demands import net_ltv
from hedgelock.domain.instrument import MarginTier
from hedgelock.domain.liquidation import pocket_roots
from hedgelock.domain.loan import liquidation_price
from hedgelock.domain.margin import Book, CoinLine, PositionLine, margin_ratio
from hedgelock.domain.money import ONE, ZERO
from hedgelock.domain.solver_problem import Case

_QUOTE, _COIN = "USDT", "COIN"


class Outlook(NamedTuple):
    """An account in the figures that a person decides by. Fractions; prices quote per base."""

    ltv: Decimal | None
    ltv_net_fall: Decimal | None
    margin_ratio_rise: Decimal | None
    margin_ratio_fall: Decimal | None
    loan_liquidation_price: Decimal | None
    """0 = no price does it; None = every price does."""
    pocket_liquidation_below: Decimal | None
    pocket_liquidation_above: Decimal | None
    """None = no price on that side does it."""


class WhatIf(NamedTuple):
    """Before and after; `undo` = what takes it back, in order, where something of ours does."""

    before: Outlook
    after: Outlook
    now: Decimal
    carry: Decimal
    cost_of_undo: Decimal
    undo: tuple[tuple[ActionKind, Decimal], ...]
    is_reversible: bool
    """False = something was sold: a person would have to buy it back."""


def what_if(
    case: Case[Decimal], actions: Sequence[Sized[Decimal]], *, ltv_liquidation: Decimal
) -> WhatIf:
    """The account before and after actions as the solver sized them (or `size_up`, by hand)."""
    held = case.held
    for action in actions:
        lever = lever_of(action.kind, held, case.terms, case.limits)
        held = held if lever is None else moved(held, lever, action.size)
    undo = tuple(
        (UNDO[action.kind], action.size) for action in reversed(actions) if action.kind in UNDO
    )
    return WhatIf(
        outlook(case, ltv_liquidation),
        outlook(case._replace(held=held), ltv_liquidation),
        sum((action.now for action in actions), ZERO),
        sum((action.carry for action in actions), ZERO),
        sum((action.undo for action in actions), ZERO),
        undo, all(action.kind in UNDO for action in actions),
    )


def size_up(case: Case[Decimal], kind: ActionKind, size: Decimal) -> Sized[Decimal]:
    """An action of a size that somebody else chose, with its costs; waiting costs nothing."""
    lever = lever_of(kind, case.held, case.terms, case.limits)
    return Sized(kind, size, ZERO, ZERO, ZERO) if lever is None else sized(lever, size)


def outlook(case: Case[Decimal], ltv_liquidation: Decimal) -> Outlook:
    """The figures of an account as it stands."""
    held, terms, limits = case.held, case.terms, case.limits
    book = _book(held, terms)
    roots = pocket_roots(book)
    value = terms.loan_ratio * terms.index_price * held.collateral
    ltv = ZERO if not held.debt else held.debt / value if value > 0 else None
    counted = terms.loan_ratio * held.collateral
    return Outlook(
        ltv, net_ltv(held, terms, limits, fall=limits.cells_fall),
        margin_ratio(book, limits.cells_rise), margin_ratio(book, -limits.cells_fall),
        liquidation_price(held.debt, counted, ltv_liquidation=ltv_liquidation),
        None if roots.below is None else roots.below * terms.mark_price,
        None if roots.above is None else roots.above * terms.mark_price,
    )


def _book(held: Holdings[Decimal], terms: Terms[Decimal]) -> Book:
    counted = max(ZERO, held.coins) * terms.margin_ratio
    return Book(
        (
            CoinLine(_QUOTE, held.equity, max(ZERO, held.equity), ONE),
            CoinLine(_COIN, held.coins, counted, terms.index_price),
        ),
        (
            *_position(terms.linear, -held.short, terms, is_inverse=False),
            *_position(terms.inverse, -held.inverse, terms, is_inverse=True),
        ),
        _QUOTE, terms.borrow_margin_rate, is_whole=True,
    )


def _position(
    perp: Perp[Decimal], qty: Decimal, terms: Terms[Decimal], *, is_inverse: bool
) -> tuple[PositionLine, ...]:
    if not qty or not perp.tiers:
        return ()
    settle, price = (_COIN, terms.index_price) if is_inverse else (_QUOTE, ONE)
    tiers = tuple(
        MarginTier(
            notional_max=tier.notional_max, initial_rate=tier.maintenance_rate,
            maintenance_rate=tier.maintenance_rate, deduction=tier.deduction,
        )
        for tier in perp.tiers
    )
    return (
        PositionLine(
            "inverse" if is_inverse else "linear", _COIN, settle, is_inverse, qty,
            terms.mark_price, terms.mark_price, price, perp.taker_fee, tiers,
        ),
    )
