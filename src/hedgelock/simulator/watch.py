"""Whose margin or loan must be looked at this tick, and who surely needs no look.

An assessment costs much more than a comparison. After each, the watch works out how far prices
may move before anything could change, and until then compares prices only. The bounds err on the
side of looking too early; money, fills and time (at most `AGE_MS`) end them too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from hedgelock.simulator import liquidation, loan_liquidation, loans
from hedgelock.simulator.margin import MarginReport
from hedgelock.simulator.market import Quote
from hedgelock.simulator.money import ONE, ZERO
from hedgelock.simulator.state import Account, Exchange

AGE_MS = 60_000
MOVE_MAX = Decimal("0.1")  # no box is wider, so that first-order bounds hold
CAUTION = Decimal("0.6")  # of the room that the bounds below would allow
HOUR_MS = 3_600_000
Stamp = tuple[object, ...]


@dataclass(slots=True)
class Box:
    """Prices within which an account needs no assessment, while nothing else happens to it."""

    until_ms: int
    stamp: Stamp
    marks: list[tuple[Quote, Decimal, Decimal]] = field(default_factory=list)
    coins: list[tuple[str, Decimal, Decimal]] = field(default_factory=list)

    def holds(self, now_ms: int, stamp: Stamp, index: dict[str, Decimal]) -> bool:
        """Whether every price is still inside."""
        if now_ms >= self.until_ms or stamp != self.stamp:
            return False
        for quote, low, high in self.marks:
            if not low <= quote.mark <= high:
                return False
        return all(low <= index[coin] <= high for coin, low, high in self.coins)


@dataclass(slots=True)
class Watch:
    """Liquidates what must be liquidated, at each tick."""

    x: Exchange
    margins: dict[str, Box] = field(default_factory=dict)
    loans: dict[str, Box] = field(default_factory=dict)

    def reset(self) -> None:
        """Look at everybody at the next tick: a rule has changed."""
        self.margins.clear()
        self.loans.clear()

    def tick(self) -> None:
        """Assess the accounts whose box is left, and liquidate where it must be."""
        x = self.x
        now_ms, index, moves = x.now_ms, x.market.index, x.ledger.moves
        for name, account in list(x.accounts.items()):
            fills = account.fills
            if account.debts or account.fixed_loans:
                stamp: Stamp = (moves.get(account.pledged, 0), moves.get(account.fund, 0))
                box = self.loans.get(name)
                if box is None or not box.holds(now_ms, stamp, index):
                    self._loan(account)
            stamp = (moves.get(account.unified, 0), fills, *sorted(account.idle))
            box = self.margins.get(name)
            if box is None or not box.holds(now_ms, stamp, index):
                self._margin(account)

    def _until(self) -> int:
        now_ms = self.x.now_ms
        return min(now_ms + AGE_MS, (now_ms // HOUR_MS + 1) * HOUR_MS)

    def _loan(self, account: Account) -> None:
        """A loan is calm until collateral is worth less, or what is owed more, than now."""
        x = self.x
        level = loan_liquidation.liquidate_loan(x, account)
        self.loans.pop(account.name, None)
        if level >= loan_liquidation.lowest_limit(x):
            return
        moves = x.ledger.moves
        stamp = (moves.get(account.pledged, 0), moves.get(account.fund, 0))
        highest = Decimal(2) ** 62
        box = Box(self._until(), stamp)
        index = x.market.index
        owed = loans.debts(account)
        for coin in x.ledger.coins(account.pledged):
            if coin in index and coin not in owed:
                box.coins.append((coin, index[coin], highest))
        for coin in owed:
            if coin in index:  # owed and perhaps pledged too: no move is surely harmless
                box.coins.append((coin, index[coin], index[coin]))
        self.loans[account.name] = box

    def _margin(self, account: Account) -> None:
        x = self.x
        self.margins.pop(account.name, None)
        report = liquidation.liquidate_margin(x, account)
        if report is None:
            return
        moves = x.ledger.moves
        stamp = (moves.get(account.unified, 0), account.fills, *sorted(account.idle))
        box = Box(self._until(), stamp)
        move = min(MOVE_MAX, CAUTION * _room(x, account, report))
        low, high = ONE - move, ONE + move
        for key, position in account.positions.items():
            if position.size:
                quote = x.market.quotes[key]
                box.marks.append((quote, quote.mark * low, quote.mark * high))
        for coin in report.coins:
            price = x.market.index.get(coin)
            if price is not None:
                box.coins.append((coin, price * low, price * high))
        self.margins[account.name] = box


def _room(x: Exchange, account: Account, report: MarginReport) -> Decimal:
    """Relative move of every price at once (≤ 10 %) that surely leaves maintenance covered.

    Margin balance less maintenance changes by at most `steep` × the move: wallets and borrowings
    with their coin's price, profit with the position's value (in coin, for inverse contracts, and
    the coin moves too), maintenance with the value at the steepest tier, fee included, and the
    auto-borrowing with the losses.
    """
    terms = x.scenario.margin
    steep = ZERO
    for coin, state in report.coins.items():
        if coin in x.market.index:
            held = abs(state.wallet) + abs(state.upl) + 2 * state.borrowed + state.position_mm
            steep += held * state.price
    for key, position in account.positions.items():
        if position.size:
            c = position.contract
            quote = x.market.quotes[key]
            value = c.value(abs(position.size), quote.mark) * x.price(c.settle)
            slope = c.tiers[-1].mm_rate + c.taker_rate + terms.borrow_mm_rate
            steep += value * 2 * (1 + slope)
    if not steep:
        return ONE
    return max(ZERO, report.balance - report.maintenance) / steep
