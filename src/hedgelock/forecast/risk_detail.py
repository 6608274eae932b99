"""From an account at one moment to its RiskDetail: cells, liquidation prices, probabilities, score.

"Frozen" is the loan's own LTV: a hedge's gain that nobody harvests prevents no loan liquidation.
"Under policy" the gain is used: a level above the harvest line is reached only where

    D − F − U(k) + cost to close = L·V(k)        k = price ÷ price now, U with all unrealised profit

which for a linear short h is P_b = (D − F − U − h·P) ÷ (L·C − h) with P = mark = index and no cost,
and nowhere below when the numerator is ≤ 0 or h ≥ L·C. Liquidation adds the trading pocket, frozen
in both cases: that the policy cuts the hedge in a rally is not counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from hedgelock.domain.account import AccountView
from hedgelock.domain.account_figures import figures_of
from hedgelock.domain.liquidation import (
    ALT_BETA,
    Roots,
    interest_growth,
    loan_roots,
    nearest_roots,
    pocket_roots,
)
from hedgelock.domain.money import ONE, ZERO
from hedgelock.domain.risk import Confidence, RiskState
from hedgelock.domain.risk_detail import (
    HORIZONS_H,
    LiquidationPrices,
    ReachProbability,
    RiskDetail,
    RiskLevel,
    StressFigures,
    legible,
)
from hedgelock.domain.risk_score import (
    ABSENT,
    HUNDRED,
    STALE,
    STRESS_MAX,
    ScoreParts,
    cliff_part,
    probability_part,
)
from hedgelock.domain.scene import Scene
from hedgelock.domain.stress import (
    NOTHING,
    SHOCKS,
    AccountFigures,
    CellResult,
    StressCell,
    cells,
    load,
    result,
    sums,
    worst,
)
from hedgelock.domain.volatility import Variances, Volatility, daily_sigma, variances
from hedgelock.forecast.barrier import HOURS_PER_YEAR, Walk, touches

DAY_H: Final = 24
_BLINDNESS = {Confidence.FRESH: ZERO, Confidence.STALE: STALE, Confidence.ABSENT: ABSENT}
_POLICY_CELLS = (StressCell.DOWN_25, StressCell.UP_25)


class Account(NamedTuple):
    """What a detail is made of."""

    name: str
    view: AccountView
    scene: Scene
    state: RiskState
    confidence: Confidence
    volatility: Volatility | None


class Lines(NamedTuple):
    """Where levels lie, as factors of today's price: of the loan's LTV and of the pocket."""

    frozen: Mapping[RiskLevel, Roots]
    under_policy: Mapping[RiskLevel, Roots]
    pocket: Roots


def detail(account: Account, now_ms: int) -> RiskDetail:
    """The detail of an account; without figures while something of it was never read."""
    scene = account.scene
    tick, figures = scene.tick, figures_of(scene, account.view)
    blindness = _BLINDNESS[account.confidence]
    if figures is None or tick is None or account.volatility is None:
        unknown = ScoreParts(
            ltv=HUNDRED, margin=HUNDRED, stress=STRESS_MAX, probability=HUNDRED,
            blindness=blindness,
        )
        return _said(account, unknown, now_ms)
    limit = scene.policy.risk.ltv_liquidation
    lines = lines_of(account, figures)
    expected = variances(account.volatility, now_ms)
    variance = expected.over(Decimal(DAY_H))
    growth = _growth_per_year(account)
    found = cells(figures, SHOCKS)
    bad = worst(found, limit)
    share = load(bad, limit)
    reached = _reached(lines, expected, growth)
    parts = _parts(result(figures, NOTHING, None), found, reached, limit)
    parts = msgspec.structs.replace(parts, blindness=blindness)
    sigma = daily_sigma(variance)
    return msgspec.structs.replace(
        _said(account, parts, now_ms),
        cells=tuple([_figures(cell) for cell in found]),
        worst=bad.cell, worst_load=None if share is None else legible(share),
        loan=_prices(_loan(account, limit, hours=1), tick.index_price, sigma),
        pocket=_prices(lines.pocket, tick.mark_price, sigma),
        volatility=legible(variance.sqrt()), probabilities=reached,
    )


def _said(account: Account, parts: ScoreParts, now_ms: int) -> RiskDetail:
    tick = account.scene.tick
    return RiskDetail(
        account=account.name, policy_version=account.scene.policy.version, state=account.state,
        confidence=account.confidence, score=parts.score, parts=parts,
        index_price=tick.index_price if tick is not None else None,
        mark_price=tick.mark_price if tick is not None else None, assessed_ts_ms=now_ms,
    )


# ---------------------------------------------------------------- where the levels lie


def lines_of(account: Account, figures: AccountFigures[Decimal]) -> Lines:
    """Where every level lies, frozen and under policy, and where the pocket dies."""
    risk, hedge = account.scene.policy.risk, account.scene.policy.hedge
    lines = {
        RiskLevel.CAUTION: risk.ltv_caution, RiskLevel.DANGER: risk.ltv_danger,
        RiskLevel.CRITICAL: risk.ltv_critical, RiskLevel.MARGIN_CALL: risk.ltv_margin_call,
        RiskLevel.LIQUIDATION: risk.ltv_liquidation,
    }
    frozen = {level: _loan(account, ltv, hours=0) for level, ltv in lines.items()}
    harvested = {
        level: frozen[level] if ltv <= hedge.harvest_at else _harvested(figures, ltv)
        for level, ltv in lines.items()
    }
    return Lines(frozen, harvested, pocket_roots(account.scene.book))


def _loan(account: Account, ltv: Decimal, *, hours: int) -> Roots:
    """Where the loan's own LTV reaches `ltv`, `hours` of interest later."""
    loan = account.view.loan
    assert loan is not None, "figures need a loan"
    growth = {debt.coin: interest_growth(debt.hourly_rate, hours) for debt in loan.debts}
    beta = {account.scene.policy.hedge.coin: ONE}
    return loan_roots(account.scene.loan, ltv, beta=beta, growth=growth)


def _harvested(figures: AccountFigures[Decimal], ltv: Decimal) -> Roots:
    """Where LTV reaches `ltv` with everything in FUND and all that the hedge gained used."""
    free = figures._replace(reserve=ZERO)

    def excess_at(k: Decimal) -> Decimal:
        move = k - ONE
        alt_move = max(-ONE, ALT_BETA * move)
        found = sums(free, NOTHING._replace(move=move, alt_move=alt_move))
        return ltv * found.counted - found.net_need

    if not sums(free, NOTHING).debt:
        return Roots(None, None)
    return nearest_roots(excess_at, [ONE - ONE / ALT_BETA])


def _growth_per_year(account: Account) -> float:
    """r: interest on what is owed, a year, as a fraction of it."""
    loan = account.scene.loan
    assert account.view.loan is not None, "figures need a loan"
    prices = {line.coin: line.price for line in loan.lines}
    interest = sum([
        debt.qty * prices[debt.coin] * debt.hourly_rate for debt in account.view.loan.debts
        if debt.qty
    ], ZERO)
    return float(interest / loan.debt_value) * HOURS_PER_YEAR if loan.debt_value else 0.0


# ---------------------------------------------------------------- how likely


def _reached(lines: Lines, expected: Variances, growth: float) -> tuple[ReachProbability, ...]:
    found = []
    for hours in HORIZONS_H:
        walk = Walk(float(expected.over(Decimal(hours))), hours, growth)
        for level in RiskLevel:
            pocket = lines.pocket if level is RiskLevel.LIQUIDATION else Roots(None, None)
            found.append(ReachProbability(
                level=level, horizon_h=hours,
                frozen=_probability(walk, lines.frozen[level], pocket),
                under_policy=_probability(walk, lines.under_policy[level], pocket),
            ))
    return tuple(found)


def _probability(walk: Walk, loan: Roots, pocket: Roots) -> Decimal:
    """Of reaching either line on either side. The sum of both sides is never less than the truth."""
    still = walk._replace(growth=0.0)
    below = max(touches(walk, _number(loan.below)), touches(still, _number(pocket.below)))
    above = max(touches(walk, _number(loan.above)), touches(still, _number(pocket.above)))
    return Decimal(f"{min(1.0, below + above):.6f}")


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


# ---------------------------------------------------------------- as it is published


def _parts(
    now: CellResult[Decimal], found: Sequence[CellResult[Decimal]],
    reached: Sequence[ReachProbability], limit: Decimal,
) -> ScoreParts:
    used = [load(cell, limit) for cell in found if cell.cell in _POLICY_CELLS]
    stress = None if None in used else max([share for share in used if share is not None])
    day = next(
        p for p in reached if p.level is RiskLevel.LIQUIDATION and p.horizon_h == DAY_H
    )
    return ScoreParts(
        ltv=legible(cliff_part(None if now.ltv is None else now.ltv / limit)),
        margin=legible(cliff_part(now.margin_ratio)),
        stress=legible(cliff_part(stress, STRESS_MAX)),
        probability=legible(probability_part(day.frozen)), blindness=ZERO,
    )


def _figures(found: CellResult[Decimal]) -> StressFigures:
    assert found.cell is not None, "only shocks are told"
    return StressFigures(
        cell=found.cell,
        ltv=None if found.ltv is None else legible(found.ltv),
        ltv_net=None if found.ltv_net is None else legible(found.ltv_net),
        margin_ratio=None if found.margin_ratio is None else legible(found.margin_ratio),
        equity=legible(found.equity),
    )


def _prices(roots: Roots, price: Decimal, sigma: Decimal) -> LiquidationPrices:
    low, high = roots
    return LiquidationPrices(
        below=None if low is None else legible(low * price),
        above=None if high is None else legible(high * price),
        distance_below=None if low is None else legible(ONE - low),
        distance_above=None if high is None else legible(high - ONE),
        sigmas_below=_in_sigmas(low, sigma), sigmas_above=_in_sigmas(high, sigma),
    )


def _in_sigmas(factor: Decimal | None, sigma: Decimal) -> Decimal | None:
    """abs(ln factor) ÷ σ of a day; None = no price, or a price that does not move."""
    if factor is None or not sigma:
        return None
    return legible(abs(factor.ln()) / sigma)
