"""What is left of an account after one thing went wrong: the stress cells, and which is the worst.

Every cell gives LTV, net LTV, accountMMRate and the pocket's equity after its shock, the account
itself standing still. With u the USDT's price in USD (now 1), x the move of all coins, m of a mark:

    price of a coin     P′ = P·(1 + x)                  USD; alts move β·x
    mark of a contract  M′ = M·(1 + x)·(1 + basis)      USD; in USDT it is M′ ÷ u
    linear profit       q·(M′ − E·u)                    a short gains when the USDT rises
    inverse profit      (Q÷E − Q÷M′)·P′
    debt                D·u·growth                      in USDT; a coin's debt moves with the coin
    net LTV             (D′ − F·u + R·u − (cash + all profit) + c·|notional|) ÷ V′
    accountMMRate       needed ÷ margin balance, as in `margin`

Net LTV of a fall is the `ltv_net` of DESIGN §5, with inverse profit counted as well. Sources: fact
sheet §7.1, §8.3, §8.4; issue 5. Values are USD, fractions without suffix.

The arithmetic is one formula for Decimal, float and numpy arrays: what differs between them is
`Ops`. So the solver may ask about an account after an action, and the backtest about many.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from hedgelock.domain.kernels import Arithmetic, inverse_upl, linear_upl, maintenance, owed

N = TypeVar("N", bound=Arithmetic)
X = TypeVar("X", Decimal, float)
"""A single number."""


class StressCell(enum.Enum):
    """One thing that goes wrong, everything else standing still."""

    DOWN_10 = "down_10"
    DOWN_25 = "down_25"
    DOWN_40 = "down_40"
    UP_10 = "up_10"
    UP_25 = "up_25"
    UP_40 = "up_40"
    FUNDING_CAP = "funding_cap"
    """Every position pays funding at its cap for a day."""
    BASIS_UP = "basis_up"
    """Marks 2 % up, indices stay."""
    BASIS_DOWN = "basis_down"
    QUOTE_DOWN = "quote_down"
    """USDT at .95 USD."""
    QUOTE_UP = "quote_up"
    """USDT at 1.05 USD."""
    RATIO_CUT = "ratio_cut"
    """The venue counts 5 points less of every coin, in both pockets."""
    NEXT_TIER = "next_tier"
    """Coins count at the next tier's ratio, positions need the next tier's rate."""
    RATE_SPIKE = "rate_spike"
    """30 % a year on everything owed, for 30 days, compounded hourly."""
    ALTS_DOWN_15 = "alts_down_15"
    """All fall, the hedged coin by 25 %, others 1.5 times as far (correlation 1)."""
    ALTS_DOWN_20 = "alts_down_20"
    """Others twice as far."""
    ALTS_UP_15 = "alts_up_15"
    ALTS_UP_20 = "alts_up_20"


class Shock(NamedTuple, Generic[N]):
    """What happens in a cell; see the module's formulas. All fractions, all now neutral."""

    move: N
    """x of the hedged coin, > −1."""
    alt_move: N
    """β·x of every other coin, ≥ −1."""
    basis: N
    quote: N
    """u: the quote coin in USD, > 0."""
    ratio_cut: N
    funding: N
    """1: every position pays its `funding_day_rate`."""
    growth: N
    """What is owed is this much more, ≥ 1."""
    next_tier: bool = False


FUNDING_CAP = Decimal("0.005")
"""Funding rate per settlement that a venue allows at most, where it does not say (fact sheet §8.1)."""

_GROWTH = "1.024963612579876461"
"""(1 + .30 ÷ 8760)^720: 30 days at 30 % a year, hourly."""

_ROWS: tuple[tuple[StressCell, dict[str, str]], ...] = (
    (StressCell.DOWN_10, {"move": "-0.10", "alt_move": "-0.10"}),
    (StressCell.DOWN_25, {"move": "-0.25", "alt_move": "-0.25"}),
    (StressCell.DOWN_40, {"move": "-0.40", "alt_move": "-0.40"}),
    (StressCell.UP_10, {"move": "0.10", "alt_move": "0.10"}),
    (StressCell.UP_25, {"move": "0.25", "alt_move": "0.25"}),
    (StressCell.UP_40, {"move": "0.40", "alt_move": "0.40"}),
    (StressCell.FUNDING_CAP, {"funding": "1"}),
    (StressCell.BASIS_UP, {"basis": "0.02"}),
    (StressCell.BASIS_DOWN, {"basis": "-0.02"}),
    (StressCell.QUOTE_DOWN, {"quote": "0.95"}),
    (StressCell.QUOTE_UP, {"quote": "1.05"}),
    (StressCell.RATIO_CUT, {"ratio_cut": "0.05"}),
    (StressCell.NEXT_TIER, {"next_tier": "yes"}),
    (StressCell.RATE_SPIKE, {"growth": _GROWTH}),
    (StressCell.ALTS_DOWN_15, {"move": "-0.25", "alt_move": "-0.375"}),
    (StressCell.ALTS_DOWN_20, {"move": "-0.25", "alt_move": "-0.50"}),
    (StressCell.ALTS_UP_15, {"move": "0.25", "alt_move": "0.375"}),
    (StressCell.ALTS_UP_20, {"move": "0.25", "alt_move": "0.50"}),
)
ALT_CELLS = frozenset({
    StressCell.ALTS_DOWN_15, StressCell.ALTS_DOWN_20, StressCell.ALTS_UP_15, StressCell.ALTS_UP_20,
})
"""Told only of an account that holds or owes another coin."""

Cells = tuple[tuple[StressCell, Shock[N]], ...]


def _shock(number: Callable[[str], N], row: dict[str, str]) -> Shock[N]:
    def of(name: str, neutral: str = "0") -> N:
        return number(row.get(name, neutral))

    return Shock(
        of("move"), of("alt_move"), of("basis"), of("quote", "1"), of("ratio_cut"), of("funding"),
        of("growth", "1"), "next_tier" in row,
    )


def shocks_in(number: Callable[[str], N]) -> Cells[N]:
    """The cells' shocks in another kind of number: `shocks_in(Decimal)`, or of float."""
    return tuple([(cell, _shock(number, row)) for cell, row in _ROWS])


SHOCKS = shocks_in(Decimal)
NOTHING = _shock(Decimal, {})
"""Nothing happens: the figures as they are."""


# ---------------------------------------------------------------- an account in plain numbers


class TierTerms(Protocol):
    """A margin tier; `instrument.MarginTier` is one. Same numbers as the figures."""

    @property
    def notional_max(self) -> Any:
        """The tier holds values up to this."""

    @property
    def maintenance_rate(self) -> Any:
        """Fraction of the value."""

    @property
    def deduction(self) -> Any:
        """Taken off what the rate gives."""


class CoinFigures(NamedTuple, Generic[N]):
    """One coin of the loan and of the trading pocket, in coins; `price` USD now (quote coin: 1).

    `…_counted_qty` ≥ 0 is what the venue counts, `…_next_qty` what it would count at the next
    tier's ratios. `wallet_qty` < 0 is owed, and then counts nothing.
    """

    price: N
    is_quote: bool
    is_alt: bool
    """Neither the hedged coin nor the quote."""
    debt_qty: N
    loan_qty: N
    loan_counted_qty: N
    loan_next_qty: N
    wallet_qty: N
    wallet_counted_qty: N
    wallet_next_qty: N


class PerpFigures(NamedTuple, Generic[N]):
    """One position. `qty`: base units (inverse: USD), + = long; prices quote per base."""

    is_inverse: bool
    is_alt: bool
    qty: N
    entry_price: N
    mark_price: N
    settle: int
    """Which of `AccountFigures.coins` profit is paid in."""
    taker_fee: N
    funding_day_rate: N
    """What a day at the cap costs, fraction of notional."""
    tiers: Sequence[TierTerms]


class AccountFigures(NamedTuple, Generic[N]):
    """All that the cells need to know of an account: plain numbers, no names. USDT, fractions.

    `fund` is F, `reserve` R, `cost_rate` c (fee + slippage to close), as in DESIGN §5.
    """

    coins: tuple[CoinFigures[N], ...]
    perps: tuple[PerpFigures[N], ...]
    fund: N
    reserve: N
    cost_rate: N
    borrow_margin_rate: N


class Ops(NamedTuple, Generic[N]):
    """What numbers and arrays do differently."""

    maximum: Callable[[N, N], N]
    tier: Callable[[N, Sequence[TierTerms], bool], tuple[N, N]]
    """(maintenance rate, deduction) of a position's value in its settle coin; True = the next
    tier's rate with this tier's deduction."""


def tier_terms(value: Any, tiers: Sequence[TierTerms], is_next: bool) -> tuple[Any, Any]:
    """`Ops.tier` of one number; beyond the last tier the last one stays. `tiers` is not empty."""
    last = len(tiers) - 1
    at = next((i for i, tier in enumerate(tiers) if value <= tier.notional_max), last)
    return tiers[min(at + is_next, last)].maintenance_rate, tiers[at].deduction


SCALARS: Ops[Any] = Ops(max, tier_terms)
"""For Decimal, and for float."""


# ---------------------------------------------------------------- after a shock


class Sums(NamedTuple, Generic[N]):
    """What an account adds up to. USD."""

    debt: N
    counted: N
    """V: the loan's collateral as counted, ≥ 0."""
    net_need: N
    """D − F + R − U + cost to close, U with all unrealised profit."""
    needed: N
    """Maintenance margin of positions and of what is borrowed, ≥ 0."""
    balance: N
    """The pocket's margin balance; ≤ 0 = no equity left."""


def sums(figures: AccountFigures[N], shock: Shock[N], ops: Ops[N] = SCALARS) -> Sums[N]:
    """The account's sums after a shock; elementwise over arrays."""
    maximum = ops.maximum
    zero = figures.fund * 0
    debt = counted = needed = balance = quote_equity = profit = cost = zero
    prices: list[N] = []
    equity: list[N] = []
    for coin in figures.coins:
        if coin.is_quote:
            price = coin.price * shock.quote
        else:
            price = coin.price * (1 + (shock.alt_move if coin.is_alt else shock.move))
        loan, held = coin.loan_counted_qty, coin.wallet_counted_qty
        if shock.next_tier:
            loan, held = coin.loan_next_qty, coin.wallet_next_qty
        if not coin.is_quote:
            loan = maximum(loan - coin.loan_qty * shock.ratio_cut, zero)
            held = maximum(held - maximum(coin.wallet_qty, zero) * shock.ratio_cut, zero)
        wallet = coin.wallet_qty - owed(coin.wallet_qty, maximum=maximum) * (shock.growth - 1)
        debt = debt + coin.debt_qty * shock.growth * price
        counted = counted + loan * price
        balance = balance + (held - owed(wallet, maximum=maximum)) * price
        if coin.is_quote:
            quote_equity = wallet * price
        prices.append(price)
        equity.append(wallet)
    for perp in figures.perps:
        position, settle = _position(perp, shock, ops), prices[perp.settle]
        equity[perp.settle] = equity[perp.settle] + position.profit
        profit = profit + position.profit * settle
        needed = needed + position.needed * settle
        cost = cost + position.value * settle * figures.cost_rate
    for coins, price in zip(equity, prices, strict=True):
        needed = needed + owed(coins, maximum=maximum) * price * figures.borrow_margin_rate
    fund = (figures.fund - figures.reserve) * shock.quote
    return Sums(debt, counted, debt - fund - quote_equity - profit + cost, needed, balance + profit)


class _Position(NamedTuple, Generic[N]):
    """One position after a shock, in its settle coin."""

    profit: N
    needed: N
    value: N


def _position(perp: PerpFigures[N], shock: Shock[N], ops: Ops[N]) -> _Position[N]:
    mark = perp.mark_price * (1 + (shock.alt_move if perp.is_alt else shock.move))
    mark = mark * (1 + shock.basis)
    size = ops.maximum(perp.qty, -perp.qty)
    if perp.is_inverse:
        value = size / mark
        profit = inverse_upl(perp.qty, perp.entry_price, mark)
    else:
        mark = mark / shock.quote
        value = size * mark
        profit = linear_upl(perp.qty, perp.entry_price, mark)
    profit = profit - value * perp.funding_day_rate * shock.funding
    rate, deduction = ops.tier(value, perp.tiers, shock.next_tier)
    needed = maintenance(value, rate, deduction=deduction, fee_rate=perp.taker_fee)
    return _Position(profit, ops.maximum(needed, needed * 0), value)


# ---------------------------------------------------------------- the cells


class CellResult(NamedTuple, Generic[X]):
    """An account after one shock. None = infinite: nothing is left to divide by."""

    cell: StressCell | None
    """None = no shock."""
    ltv: X | None
    """Debt ÷ counted collateral, no hedge gain used; 0 without debt."""
    ltv_net: X | None
    """The same with what the hedge gained used; 0 without debt; may be < 0."""
    margin_ratio: X | None
    """accountMMRate, ≥ 0; the pocket is liquidated at 1."""
    equity: X
    """The pocket's margin balance, USD."""


def load(found: CellResult[X], ltv_liquidation: X) -> X | None:
    """How much of the nearer cliff is used up, 1 = liquidated: of net LTV and margin. None = all.

    Net LTV, because a hedge's gain is harvested; `ltv` is what it would be if it were not.
    """
    if found.ltv_net is None or found.margin_ratio is None:
        return None
    return max(found.ltv_net / ltv_liquidation, found.margin_ratio)


def result(figures: AccountFigures[X], shock: Shock[X], cell: StressCell | None) -> CellResult[X]:
    """The account after one shock, as ratios; of single numbers only."""
    found = sums(figures, shock)
    zero = found.debt * 0
    ltv: X | None = zero
    net: X | None = zero
    if found.debt:
        ltv = found.debt / found.counted if found.counted > zero else None
        net = found.net_need / found.counted if found.counted > zero else None
    if found.balance > zero:
        margin: X | None = found.needed / found.balance
    else:
        margin = None if found.needed or found.balance else zero
    return CellResult(cell, ltv, net, margin, found.balance)


def cells(figures: AccountFigures[X], shocks: Cells[X]) -> tuple[CellResult[X], ...]:
    """The account after every shock that concerns it, in the order of `StressCell`.

    The shocks must be of the same numbers as the figures (`shocks_in`).
    """
    has_alts = any(c.is_alt for c in figures.coins) or any(p.is_alt for p in figures.perps)
    return tuple([
        result(figures, shock, cell)
        for cell, shock in shocks if has_alts or cell not in ALT_CELLS
    ])


def worst(results: Sequence[CellResult[X]], ltv_liquidation: X) -> CellResult[X]:
    """The cell that uses up most of its nearer cliff (`load`); the first of equals.

    Where several have nothing left, the one with the least equity. `results` is not empty.
    """
    used = [load(found, ltv_liquidation) for found in results]
    if None in used:
        ruined = [found for found, share in zip(results, used, strict=True) if share is None]
        return min(ruined, key=lambda found: found.equity)
    known = [share for share in used if share is not None]
    return results[known.index(max(known))]
