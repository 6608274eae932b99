"""The price boxes inside which an assessment need not be made again.

LTV < x means x·V − D > 0, and V and D are linear in every index price. So the distance to a line of
LTV can be shared out among the prices exactly, without a division by V: price i may use up 1/n of
the slack. All boxes together then lie inside the region, whatever moves with what.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from hedgelock.domain.loan import LoanBook
from hedgelock.domain.step import PriceBox

_INSIDE = Decimal("0.999999")
"""Boxes are made this much of their true size: never a hair too large by rounding."""

EMPTY_BOX = PriceBox(Decimal(1), Decimal(0), Decimal(1), Decimal(0))
"""Contains no price: the next tick steps."""


class Anchor(NamedTuple):
    """Prices of an instrument when something was last published, and its index price now."""

    mark_price: Decimal
    index_price: Decimal
    index_price_now: Decimal


class LtvLimits(NamedTuple):
    """LTV must stay in [low, high) (fractions)."""

    low: Decimal
    high: Decimal


def price_boxes(
    anchors: Mapping[str, Anchor], price_step: Decimal, *,
    loan: LoanBook, limits: LtvLimits | None,
) -> dict[str, PriceBox]:
    """One box per instrument: prices less than `price_step` from their anchor, LTV inside `limits`.

    `limits` None = LTV does not depend on any price now.
    """
    room = price_step * _INSIDE
    down, up = 1 - room, 1 + room
    bounds = {
        name: [anchor.index_price * down, anchor.index_price * up]
        for name, anchor in anchors.items()
    }
    if limits is not None:
        _narrow(bounds, anchors, loan, limits)
    return {
        name: PriceBox(anchor.mark_price * down, anchor.mark_price * up, *bounds[name])
        for name, anchor in anchors.items()
    }


def _narrow(
    bounds: dict[str, list[Decimal]], anchors: Mapping[str, Anchor], loan: LoanBook,
    limits: LtvLimits,
) -> None:
    moving = [line for line in loan.lines if line.instrument in bounds]
    share = _INSIDE / max(1, len(moving))
    slack_high = (limits.high * loan.counted_value - loan.debt_value) * share
    slack_low = (loan.debt_value - limits.low * loan.counted_value) * share
    for line in moving:
        bound, price = bounds[line.instrument], anchors[line.instrument].index_price_now
        for slack, slope in (
            (slack_high, limits.high * line.counted_qty - line.debt_qty),
            (slack_low, line.debt_qty - limits.low * line.counted_qty),
        ):
            if slope > 0:
                bound[0] = max(bound[0], price - slack / slope)
            elif slope < 0:
                bound[1] = min(bound[1], price - slack / slope)
