"""An account as plain numbers, for the stress cells: from what the risk-engine sees of it."""

from __future__ import annotations

from decimal import Decimal

from hedgelock.domain.account import AccountView
from hedgelock.domain.instrument import CollateralTier, counted_qty
from hedgelock.domain.margin import CoinLine, PositionLine
from hedgelock.domain.money import ONE, ZERO
from hedgelock.domain.scene import Scene
from hedgelock.domain.stress import FUNDING_CAP, AccountFigures, CoinFigures, PerpFigures

HOURS_PER_DAY = 24


def figures_of(scene: Scene, view: AccountView) -> AccountFigures[Decimal] | None:
    """The account of a scene; None while something of it is not seen whole.

    The reserve R is the policy's; unset it is 0, as in `ltv_net_fall`.
    """
    loan, book, hedge = scene.loan, scene.book, scene.policy.hedge
    if not loan.is_whole or not book.is_whole or view.fund is None:
        return None
    owed = {line.coin: line for line in loan.lines}
    held: dict[str, list[CoinLine]] = {}
    for line in book.coins:
        held.setdefault(line.coin, []).append(line)
    names = list(dict.fromkeys([
        hedge.quote, hedge.coin, *owed, *held, *[line.settle for line in book.positions]
    ]))
    coins = []
    for name in names:
        price = scene.sources.price(name)
        if price is None:
            return None
        debt, pledge = owed.get(name), held.get(name, [])
        terms = scene.sources.terms(name)
        loan_tiers = _next_ratios(terms.loan_tiers) if terms is not None else ()
        margin_tiers = _next_ratios(terms.margin_tiers) if terms is not None else ()
        coins.append(CoinFigures(
            price, name == hedge.quote, name not in (hedge.quote, hedge.coin),
            debt.debt_qty if debt is not None else ZERO,
            debt.collateral_qty if debt is not None else ZERO,
            debt.counted_qty if debt is not None else ZERO,
            counted_qty(debt.collateral_qty, loan_tiers) if debt is not None else ZERO,
            sum([line.wallet_qty for line in pledge], ZERO),
            sum([line.counted_qty for line in pledge], ZERO),
            sum([_next_counted(line, margin_tiers) for line in pledge], ZERO),
        ))
    perps = tuple([_perp(line, names, scene) for line in book.positions])
    return AccountFigures(
        tuple(coins), perps, view.fund_qty(hedge.quote), hedge.reserve or ZERO, hedge.cost_rate,
        hedge.borrow_margin_rate,
    )


def _next_ratios(tiers: tuple[CollateralTier, ...]) -> tuple[CollateralTier, ...]:
    """Each tier with the ratio of the one above it; the last keeps its own."""
    ratios = [tier.ratio for tier in tiers]
    return tuple([
        CollateralTier(qty_min=tier.qty_min, qty_max=tier.qty_max, ratio=ratio)
        for tier, ratio in zip(tiers, [*ratios[1:], *ratios[-1:]], strict=True)
    ])


def _next_counted(line: CoinLine, tiers: tuple[CollateralTier, ...]) -> Decimal:
    """What margin counts of a coin at the next tier's ratios; a coin that counts nothing stays 0."""
    if not line.counted_qty or not tiers:
        return line.counted_qty
    return counted_qty(line.wallet_qty, tiers)


def _perp(line: PositionLine, names: list[str], scene: Scene) -> PerpFigures[Decimal]:
    interval_h = Decimal(8)
    if scene.funding is not None and scene.funding.instrument == line.instrument:
        interval_h = max(ONE, scene.funding.funding_interval_h)
    return PerpFigures(
        line.is_inverse, line.base != scene.policy.hedge.coin, line.position_qty,
        line.entry_price, line.mark_price, names.index(line.settle), line.taker_fee,
        FUNDING_CAP * HOURS_PER_DAY / interval_h, line.tiers,
    )
