"""What stands behind an assessment, in words: the worst cell, where it ends, and how likely that is."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from hedgelock.cli import words
from hedgelock.domain.risk_detail import LiquidationPrices, RiskDetail, RiskLevel
from hedgelock.domain.stress import StressCell

DAY_H = 24
CELLS: dict[StressCell, str] = {
    StressCell.DOWN_10: "prices −10 %", StressCell.DOWN_25: "prices −25 %",
    StressCell.DOWN_40: "prices −40 %", StressCell.UP_10: "prices +10 %",
    StressCell.UP_25: "prices +25 %", StressCell.UP_40: "prices +40 %",
    StressCell.FUNDING_CAP: "a day of funding at its cap",
    StressCell.BASIS_UP: "marks +2 % over the index", StressCell.BASIS_DOWN: "marks −2 %",
    StressCell.QUOTE_DOWN: "USDT at .95", StressCell.QUOTE_UP: "USDT at 1.05",
    StressCell.RATIO_CUT: "collateral counts 5 points less",
    StressCell.NEXT_TIER: "the next margin and ratio tier",
    StressCell.RATE_SPIKE: "a month of interest at 30 % a year",
    StressCell.ALTS_DOWN_15: "prices −25 %, other coins 1.5 × as far",
    StressCell.ALTS_DOWN_20: "prices −25 %, other coins twice as far",
    StressCell.ALTS_UP_15: "prices +25 %, other coins 1.5 × as far",
    StressCell.ALTS_UP_20: "prices +25 %, other coins twice as far",
}


def worst(detail: RiskDetail) -> str:
    """The worst cell and what it leaves; says so where nothing could be computed."""
    if detail.worst is None:
        return "stress unknown: something was never read"
    left = "nothing is left"
    if detail.worst_load is not None:
        left = f"{words.percent(detail.worst_load, 0)} of the way to liquidation"
    return f"worst stress: {CELLS[detail.worst]} – {left}"


def ends(detail: RiskDetail) -> str:
    """Both liquidation prices, each with its distance."""
    if detail.worst is None:
        return "liquidation prices unknown"
    parts = [f"{name} {_prices(found)}" for name, found in (
        ("loan", detail.loan), ("pocket", detail.pocket))]
    return f"liquidated: {', '.join(parts)}"


def _prices(found: LiquidationPrices) -> str:
    sides = []
    for word, price, distance in (
        ("below", found.below, found.distance_below), ("above", found.above, found.distance_above),
    ):
        if price is not None and distance is not None:
            sign = "−" if word == "below" else "+"
            sides.append(f"{word} {words.money(price)} ({sign}{words.percent(distance, 0)})")
    return " or ".join(sides) or "at no price"


def day(detail: RiskDetail) -> str:
    """The probability of being liquidated within a day, frozen and under policy."""
    found = detail.probability(RiskLevel.LIQUIDATION, DAY_H)
    if found is None:
        return "24 h unknown"
    return (f"liquidated within 24 h: {likely(found.frozen)} if nothing more is done, "
            f"{likely(found.under_policy)} with the hedge's gains repaid")


def brief(detail: RiskDetail) -> str:
    """One line for the live view."""
    found = detail.probability(RiskLevel.LIQUIDATION, DAY_H)
    if found is None or detail.worst is None:
        return "score 100: something was never read" if detail.score >= 100 else "risk unknown"
    return (f"score {detail.score:.0f} · {ends(detail)} · worst {CELLS[detail.worst]} · "
            f"24 h {likely(found.frozen)}")


def likely(probability: Decimal) -> str:
    """A probability in words that claim no more than is known."""
    if probability < Decimal("0.0001"):
        return "under 0.01 %"
    return words.percent(probability, 2 if probability < Decimal("0.1") else 0)


def lines(detail: RiskDetail) -> Iterator[str]:
    """All of it, line by line."""
    parts = detail.parts
    yield (f"risk score {detail.score:.0f} of 100, driven by {parts.driver}: LTV {parts.ltv:.0f}, "
           f"margin {parts.margin:.0f}, stress {parts.stress:.0f}, probability "
           f"{parts.probability:.0f}, blindness {parts.blindness:.0f}")
    yield worst(detail)
    yield ends(detail) + _sigmas(detail)
    yield day(detail)


def _sigmas(detail: RiskDetail) -> str:
    """Distances in standard deviations of a day, of what is nearest."""
    found = [
        sigmas for end in (detail.loan, detail.pocket)
        for sigmas in (end.sigmas_below, end.sigmas_above) if sigmas is not None
    ]
    if not found or detail.volatility is None:
        return ""
    return (f"; the nearest is {min(found):.1f} daily σ away at {words.percent(detail.volatility, 0)} "
            "volatility a year")
