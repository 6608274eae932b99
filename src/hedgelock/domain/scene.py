"""Everything one assessment of risk sees, and the figures that need the whole picture."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from hedgelock.domain import kernels
from hedgelock.domain.account import AccountView
from hedgelock.domain.funding import FundingContext
from hedgelock.domain.loan import LoanBook, ltv_of, read_loan
from hedgelock.domain.margin import Book, read_book
from hedgelock.domain.market import MarketTick
from hedgelock.domain.money import ONE, ZERO, saturate
from hedgelock.domain.policy import Policy
from hedgelock.domain.sources import Sources
from hedgelock.domain.step import Tables

_UNKNOWN_POLICY = Policy(account="", version=0)
"""Stands in where no policy was ever seen: such a scene is not complete, its figures for display."""


class Scene(NamedTuple):
    """An account and its market at one moment."""

    policy: Policy
    sources: Sources
    book: Book
    loan: LoanBook
    tick: MarketTick | None
    """Prices of the hedge's instrument."""
    funding: FundingContext | None
    seen: tuple[tuple[str, int | None, int], ...]
    """Inputs that age: (name, our clock when seen, age allowed). A market's name is its instrument."""
    stale: tuple[str, ...]
    """Names of those that are too old."""
    is_complete: bool
    """Every fact, price, contract, ratio and the policy were read at least once."""
    ltv: Decimal | None
    """Debt ÷ counted collateral; None = infinite (see `loan.is_uncovered`) or not computable."""


def look(view: AccountView, known: Policy | None, tables: Tables, now_ms: int) -> Scene:
    """The scene at `now_ms`; what is needed and not there is in `sources.missing`."""
    policy = known or _UNKNOWN_POLICY
    hedge, limits = policy.hedge, policy.risk
    sources = Sources(tables, hedge)
    if known is None:
        sources.missing["policy"] = None
    tick = sources.market(hedge.instrument)
    contract = sources.instrument(hedge.instrument)
    if contract is not None and not contract.tiers:
        sources.missing[f"instrument:{hedge.instrument}"] = None
    if sources.terms(hedge.coin) is None:
        sources.missing[f"terms:{hedge.coin}"] = None
    loan = read_loan(view, sources)
    book = read_book(view, sources)
    funding = tables.funding(hedge.instrument)
    facts_age, market_age = limits.account_age_max_ms, limits.market_age_max_ms
    seen: list[tuple[str, int | None, int]] = [
        (name, market.ts_seen_ms if market is not None else None, market_age)
        for name, market in sources.markets.items()
    ]
    for name, fact in (
        ("wallet", view.wallet), ("positions", view.positions), ("fund", view.fund),
        ("loan", view.loan),
    ):
        seen.append((name, fact.ts_seen_ms if fact is not None else None, facts_age))
    funding_ms = funding.ts_seen_ms if funding is not None else None
    seen.append(("funding", funding_ms, limits.funding_age_max_ms))
    stale = [
        name for name, ts_ms, age_max_ms in seen
        if ts_ms is not None and abs(now_ms - ts_ms) > age_max_ms
    ]
    is_complete = (
        not sources.missing and view.is_complete and loan.is_whole and book.is_whole
    )
    return Scene(
        policy, sources, book, loan, tick, funding, tuple(seen), tuple(stale), is_complete,
        ltv_of(loan),
    )


def next_turn(ts_ms: int | None, now_ms: int, age_max_ms: int) -> int | None:
    """When an input seen at `ts_ms` turns stale next, or fresh (its time lies in the future).

    A time further ahead than the age allowed cannot be believed and counts as stale.
    """
    if ts_ms is None or now_ms > ts_ms + age_max_ms:
        return None
    if now_ms < ts_ms - age_max_ms:
        return ts_ms - age_max_ms
    return ts_ms + age_max_ms + 1


def net_delta(view: AccountView, book: Book, coin: str) -> Decimal:
    """Coins of price exposure, + = long: pledged + trading wallet + FUND + Σ perps − owed.

    Wallet balances, not equity: the profit of a coin-settled position is in its own delta.
    """
    wallet = view.wallet_of(coin)
    held = view.collateral_of(coin) + view.fund_qty(coin) - view.debt_of(coin)
    return held + (wallet.wallet_qty if wallet is not None else ZERO) + book.delta_of(coin)


def equity_value(scene: Scene, view: AccountView) -> Decimal | None:
    """What the whole account is worth, USDT: pledged − owed + pocket + FUND, at the index, no haircut.

    Unrealised profit counts once, at mark. Of FUND the hedge's coin and the quote count, of the pocket
    what has a price. None = something that could be negative is not seen.
    """
    loan, book, hedge = scene.loan, scene.book, scene.policy.hedge
    if not (loan.is_whole and book.is_whole) or view.fund is None or scene.tick is None:
        return None
    pocket = sum((line.wallet_qty * line.price for line in book.coins), ZERO)
    upl = sum((p.upl_at(p.mark_price) * p.settle_price for p in book.positions), ZERO)
    fund = view.fund_qty(hedge.quote) + view.fund_qty(hedge.coin) * scene.tick.index_price
    return saturate(loan.collateral_value - loan.debt_value + pocket + upl + fund)


def ltv_net_fall(scene: Scene, view: AccountView) -> Decimal | None:
    """Net LTV after the policy's fall with the hedge's gain counted; None = not computable.

    (N − h·P·(s − c·(1 − s))) ÷ (V·(1 − s)), N = D − F + R − U, P the index, h the net short of the
    hedge's coin. No debt is 0. F holds what FUND held when it was read: money on its way between
    the pockets is in neither for a moment, which shows more risk, never less.
    """
    hedge, loan, book = scene.policy.hedge, scene.loan, scene.book
    if loan.is_whole and not loan.debt_value:
        return ZERO
    whole = loan.is_whole and book.is_whole and view.fund is not None
    if not whole or scene.tick is None or not loan.counted_value or hedge.stress_fall >= ONE:
        return None
    net = kernels.net_debt(
        loan.debt_value, fund=view.fund_qty(hedge.quote), reserve=hedge.reserve or ZERO,
        pocket_equity=book.equity_of(hedge.quote),
    )
    return saturate(kernels.ltv_net(
        net, loan.counted_value,
        hedge_value=-book.delta_of(hedge.coin) * scene.tick.index_price,
        fall=hedge.stress_fall, cost_rate=hedge.cost_rate,
    ))
