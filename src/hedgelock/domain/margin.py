"""The trading pocket's margin at any price: the second and the third cliff.

    MarginBalance = Σ coins counted × price  −  Σ coins owed × price  +  Σ unrealised profit, re-marked
    Maintenance   = Σ positions (value × rate − deduction + value × taker fee)
                    + borrow_margin_rate × what is borrowed
    margin_ratio  = Maintenance ÷ MarginBalance         liquidation at ≥ 1 (Bybit's accountMMRate)

All prices move by the same fraction `move` (+.25 = 25 % up), marks and indices alike; the quote coin
stays 1. A coin is borrowed as soon as its wallet plus its unrealised profit is negative: a short
that loses more USDT than the pocket holds borrows the rest against the pocket's coins. Source: fact
sheet §7.3, §8.4; DESIGN §5 (h_cap is this formula solved for a linear short).
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from hedgelock.domain import kernels
from hedgelock.domain.account import AccountView, CoinBalance, Position
from hedgelock.domain.instrument import MarginTier, Settlement, counted_qty
from hedgelock.domain.money import ONE, ZERO, saturate
from hedgelock.domain.sources import Sources


class CoinLine(NamedTuple):
    """One coin of the pocket. `price` in quote; `counted_qty` ≥ 0 is what margin counts of it."""

    coin: str
    wallet_qty: Decimal
    counted_qty: Decimal
    price: Decimal


class PositionLine(NamedTuple):
    """One open position with what values it. `settle_price` is the settle coin's, in quote."""

    instrument: str
    base: str
    settle: str
    is_inverse: bool
    position_qty: Decimal
    entry_price: Decimal
    mark_price: Decimal
    settle_price: Decimal
    taker_fee: Decimal
    tiers: tuple[MarginTier, ...]

    def upl_at(self, mark_price: Decimal) -> Decimal:
        """Unrealised profit at a price, in settle coin."""
        formula = kernels.inverse_upl if self.is_inverse else kernels.linear_upl
        return formula(self.position_qty, self.entry_price, mark_price)

    def maintenance_at(self, mark_price: Decimal) -> Decimal:
        """Maintenance margin with the fee to close at a price (> 0), in settle coin, ≥ 0."""
        size = abs(self.position_qty)
        value = size / mark_price if self.is_inverse else size * mark_price
        tier = tier_of(value, self.tiers)
        return max(ZERO, kernels.maintenance(
            value, tier.maintenance_rate, deduction=tier.deduction, fee_rate=self.taker_fee
        ))

    @property
    def delta(self) -> Decimal:
        """Coins of price exposure beside wallet balances, + = long."""
        if self.is_inverse:
            return kernels.inverse_delta(self.position_qty, self.entry_price)
        return self.position_qty


class Book(NamedTuple):
    """The trading pocket, priced. When `is_whole` is false something negative may be left out."""

    coins: tuple[CoinLine, ...]
    positions: tuple[PositionLine, ...]
    quote: str
    borrow_margin_rate: Decimal
    is_whole: bool

    def equity_of(self, coin: str) -> Decimal:
        """Wallet plus unrealised profit at mark of a coin, in coins; profit is counted once."""
        equity = ZERO
        for line in self.coins:
            if line.coin == coin:
                equity += line.wallet_qty
        for position in self.positions:
            if position.settle == coin:
                equity += position.upl_at(position.mark_price)
        return equity

    def delta_of(self, coin: str) -> Decimal:
        """Σ deltas of the positions on a base coin, in coins, + = long."""
        return sum((line.delta for line in self.positions if line.base == coin), ZERO)


def tier_of(value: Decimal, tiers: tuple[MarginTier, ...]) -> MarginTier:
    """The tier of a position's value: the first of `tiers` (ascending, not empty) that holds it.

    Beyond the last the last one stays: what the venue would do there is not known.
    """
    for tier in tiers:
        if value <= tier.notional_max:
            return tier
    return tiers[-1]


# ---------------------------------------------------------------- from facts to a book


def read_book(view: AccountView, sources: Sources) -> Book:
    """The pocket as facts and tables show it; what is needed and not there is noted in `sources`.

    A *positive* amount of a foreign coin without price or ratio, or not switched on as collateral,
    counts as nothing: that errs on the safe side, and a gift of an unknown coin must not blind the
    account. What is owed, positions, and the hedge's own coin cannot be left out.
    """
    wallet, read = view.wallet, view.positions
    whole = wallet is not None and read is not None
    coins: list[CoinLine] = []
    for balance in wallet.coins if wallet is not None else ():
        if not balance.wallet_qty or _is_foreign_gift(balance, sources):
            continue
        coin = _coin_line(balance, sources)
        if coin is None:
            whole = False
        else:
            coins.append(coin)
    positions: list[PositionLine] = []
    for position in read.positions if read is not None else ():
        if not position.position_qty:
            continue
        line = _position_line(position, sources)
        if line is None:
            whole = False
        else:
            positions.append(line)
    hedge = sources.hedge
    return Book(tuple(coins), tuple(positions), hedge.quote, hedge.borrow_margin_rate, whole)


def _is_foreign_gift(balance: CoinBalance, sources: Sources) -> bool:
    if balance.wallet_qty < 0 or balance.coin in (sources.hedge.coin, sources.hedge.quote):
        return False
    return not balance.is_collateral or not sources.is_priced(balance.coin)


def _coin_line(balance: CoinBalance, sources: Sources) -> CoinLine | None:
    coin, qty, hedge = balance.coin, balance.wallet_qty, sources.hedge
    price = sources.price(coin)
    if price is None:
        return None
    terms = sources.terms(coin)
    tiers = terms.margin_tiers if terms is not None else ()
    if qty < 0 or (not balance.is_collateral and coin != hedge.quote):
        counted = ZERO
    elif tiers:
        counted = counted_qty(qty, tiers)
    elif coin == hedge.quote:
        counted = qty
    elif coin == hedge.coin:
        # Its ratio is always published: none means that we lost it, not that it counts for nothing.
        sources.missing[f"terms:{coin}"] = None
        return None
    else:
        counted = ZERO
    return CoinLine(coin, qty, counted, price)


def _position_line(position: Position, sources: Sources) -> PositionLine | None:
    name = position.instrument
    found = sources.instrument(name)
    tick = sources.market(name)
    if found is None or tick is None:
        return None
    settle_price = sources.price(found.settle)
    if settle_price is None:
        return None
    if not found.tiers or found.settlement is Settlement.SPOT or not position.entry_price:
        sources.missing[f"{'position' if found.tiers else 'instrument'}:{name}"] = None
        return None
    return PositionLine(
        name, found.base, found.settle, found.settlement is Settlement.INVERSE,
        position.position_qty, position.entry_price, tick.mark_price, settle_price,
        found.taker_fee, found.tiers,
    )


# ---------------------------------------------------------------- the cliffs


class MarginSums(NamedTuple):
    """What the pocket must keep and what it has, in quote."""

    needed: Decimal
    """Maintenance margin of positions and of what is borrowed, ≥ 0."""
    balance: Decimal


def margin_sums(book: Book, scale: Decimal) -> MarginSums:
    """Maintenance and margin balance with every price × `scale` (> 0).

    Meaningless when the book is not whole.
    """
    equity: dict[str, Decimal] = {}
    prices: dict[str, Decimal] = {}
    balance = needed = ZERO
    for coin, wallet_qty, counted, price in book.coins:
        moved = price if coin == book.quote else price * scale
        prices[coin] = moved
        equity[coin] = equity.get(coin, ZERO) + wallet_qty
        balance += (counted if wallet_qty > 0 else wallet_qty) * moved
    for line in book.positions:
        settle = line.settle
        mark = line.mark_price * scale
        price = line.settle_price if settle == book.quote else line.settle_price * scale
        prices[settle] = price
        upl = line.upl_at(mark)
        equity[settle] = equity.get(settle, ZERO) + upl
        balance += upl * price
        needed += line.maintenance_at(mark) * price
    for coin, coins in equity.items():
        if coins < 0:
            needed -= coins * prices[coin] * book.borrow_margin_rate
    return MarginSums(needed, balance)


def margin_ratio(book: Book, move: Decimal = ZERO) -> Decimal | None:
    """accountMMRate after every price moved by `move` (> −1); ≥ 0.

    None = infinite: something must be kept and no equity is left, or no price is left at all. An
    empty pocket is 0. Meaningless when the book is not whole.
    """
    scale = ONE + move
    if scale <= 0:
        return None
    needed, balance = margin_sums(book, scale)
    if balance <= 0:
        return ZERO if not needed and not balance else None
    return saturate(needed / balance)


def isolated_liquidation_price(
    line: PositionLine, *, leverage: Decimal, margin_added: Decimal = ZERO
) -> Decimal | None:
    """Mark price at which an *isolated* position dies, with the tier of its entry value.

    Fact sheet §8.5; the fee to close cancels for linear contracts. None = no price does. A sanity
    band only: cross margin has no truth per position.
    """
    size, entry = abs(line.position_qty), line.entry_price
    value = size / entry if line.is_inverse else size * entry
    tier = tier_of(value, line.tiers)
    rate, deduction = tier.maintenance_rate, tier.deduction
    side = ONE if line.position_qty > 0 else -ONE
    if line.is_inverse:
        added = margin_added / (ONE + side * line.taker_fee)
        below = value + side * (value / leverage + added + deduction)
        price = size * (ONE + side * rate) / below if below > 0 else ZERO
    else:
        room = value - side * (value / leverage + margin_added + deduction)
        price = room / (size * (ONE - side * rate))
    return price if price > 0 else None
