"""One account's pockets, exactly, and what the venue does to them.

Margin and LTV are computed by the simulated exchange's own formulas (`simulator.margin`); money in
USDT, `short` in coins ≥ 0. Every cost is tallied where it arises, so that

    equity = coins and cash at the start, re-marked + gains of the short − Σ costs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from hedgelock.backtest.terms import Terms
from hedgelock.domain.money import ONE, ZERO
from hedgelock.simulator import margin

LEVERAGE = Decimal(10)


@dataclass(slots=True)
class Costs:
    """What was paid, USDT; + = paid, − = received."""

    fees: Decimal = ZERO
    slippage: Decimal = ZERO
    funding: Decimal = ZERO
    penalty: Decimal = ZERO
    """Fees of liquidation and of repaying with collateral."""
    interest: Decimal = ZERO
    """Of the loan and of what the trading pocket borrowed."""

    @property
    def explicit(self) -> Decimal:
        """All but the loan's interest."""
        return self.fees + self.slippage + self.funding + self.penalty


@dataclass(slots=True)
class Account:
    """The two pockets, the loan and the short."""

    terms: Terms
    cash: Decimal
    coins: Decimal
    debt: Decimal
    collateral: Decimal
    fund: Decimal = ZERO
    free_coins: Decimal = ZERO
    """What a liquidated loan gave back; beside the pockets, held to the end."""
    short: Decimal = ZERO
    entry_value: Decimal = ZERO
    costs: Costs = field(default_factory=Costs)
    loan_liquidated: bool = False
    margin_liquidated: bool = False

    # ------------------------------------------------------------ what it is worth

    def upl(self, mark: Decimal) -> Decimal:
        """Unrealised profit of the short."""
        return self.entry_value - self.short * mark

    def equity(self, mark: Decimal, index: Decimal) -> Decimal:
        """Everything owned less everything owed, USDT."""
        coins = self.coins + self.collateral + self.free_coins
        return self.cash + self.upl(mark) + self.fund + coins * index - self.debt

    def ltv(self, index: Decimal) -> Decimal:
        """As the venue computes it; 999 without collateral."""
        value = self.collateral * self.terms.loan_ratio * index
        return margin.loan_to_value(self.debt, value)

    def report(self, mark: Decimal, index: Decimal) -> margin.MarginReport:
        """The trading pocket's margin."""
        exposures = []
        if self.short:
            exposures.append(margin.Exposure(
                self.terms.perp, -self.short, self.entry_value, mark, LEVERAGE
            ))
        return margin.assess(
            {"USDT": self.cash, self.terms.base: self.coins}, exposures,
            prices={"USDT": ONE, self.terms.base: index}, terms=self.terms.margin,
        )

    def withdrawable(self, mark: Decimal, index: Decimal) -> Decimal:
        """USDT that the venue lets out of the trading pocket."""
        return margin.withdrawable(self.report(mark, index), "USDT")

    # ------------------------------------------------------------ trades

    def sell(self, qty: Decimal, price: Decimal) -> None:
        """Open `qty` more of the short at market."""
        paid = price * (ONE - self.terms.slippage)
        self.short += qty
        self.entry_value += qty * paid
        self._pay_fee(qty * paid * self.terms.perp.taker_rate, slipped=qty * (price - paid))

    def buy(self, qty: Decimal, price: Decimal) -> None:
        """Close `qty` of the short at market; what it gained becomes cash."""
        paid = price * (ONE + self.terms.slippage)
        share = self.entry_value if qty == self.short else self.entry_value * qty / self.short
        self.short -= qty
        self.entry_value -= share
        self.cash += share - qty * paid
        self._pay_fee(qty * paid * self.terms.perp.taker_rate, slipped=qty * (paid - price))

    def sell_coins(self, qty: Decimal, price: Decimal) -> None:
        """Sell the pocket's coins at market for USDT."""
        paid = price * (ONE - self.terms.slippage)
        self.coins -= qty
        self.cash += qty * paid
        self._pay_fee(qty * paid * self.terms.spot.taker_rate, slipped=qty * (price - paid))

    def _pay_fee(self, fee: Decimal, *, slipped: Decimal) -> None:
        self.cash -= fee
        self.costs.fees += fee
        self.costs.slippage += slipped

    # ------------------------------------------------------------ the loan

    def repay(self, amount: Decimal) -> None:
        """Repay from FUND what it holds of `amount`, at most the debt."""
        paid = min(amount, self.debt, self.fund)
        self.fund -= paid
        self.debt -= paid

    def borrow(self, amount: Decimal, index: Decimal) -> Decimal:
        """Borrow straight into the trading pocket; refused (0) beyond the initial LTV."""
        most = self.collateral * self.terms.loan_ratio * index * self.terms.ltv_initial
        if self.debt + amount > most:
            return ZERO
        self.debt += amount
        self.cash += amount
        return amount

    def sell_collateral(self, amount: Decimal, index: Decimal) -> None:
        """Repay up to `amount` of debt by selling locked coins at index; the fee is in coins too."""
        fee_rate = self.terms.liquidation_fee
        wanted = min(amount, self.debt)
        sold = min(wanted / index, self.collateral)
        fee = min(sold * fee_rate, self.collateral - sold)
        self.collateral -= sold + fee
        self.debt -= min(wanted, sold * index)
        self.costs.penalty += fee * index

    # ------------------------------------------------------------ time

    def accrue(self, mark: Decimal) -> None:
        """An hour's interest on the loan, compounding, and on what the pocket borrowed."""
        interest = self.debt * self.terms.loan_hourly
        self.debt += interest
        borrowed = max(ZERO, -(self.cash + self.upl(mark)))
        on_margin = borrowed * self.terms.margin.borrow_hourly_rate
        self.cash -= on_margin
        self.costs.interest += interest + on_margin

    def settle_funding(self, rate: Decimal, mark: Decimal) -> None:
        """Funding on the short: a positive rate is received."""
        received = self.short * mark * rate
        self.cash += received
        self.costs.funding -= received

    # ------------------------------------------------------------ the cliffs

    def liquidate_loan(self, index: Decimal) -> None:
        """Sell collateral for the whole debt, the fee in coins; the rest comes back.

        What the collateral does not cover the venue's insurance pays.
        """
        self.loan_liquidated = True
        self.sell_collateral(self.debt, index)
        self.debt = ZERO
        self.free_coins += self.collateral
        self.collateral = ZERO

    def liquidate_margin(self, mark: Decimal, index: Decimal) -> None:
        """Convert coins until nothing is owed, then close the short; a loss beyond is written off.

        The venue closes by quarters and stops as soon as margin suffices; closing all is the worse
        case, and the account counts as liquidated either way.
        """
        self.margin_liquidated = True
        rate = self.terms.perp.taker_rate
        self.cash += self.upl(mark) - self.short * mark * rate
        self.costs.penalty += self.short * mark * rate
        self.short = self.entry_value = ZERO
        if self.cash < 0:
            fee = self.terms.conversion_fee
            sold = min(self.coins, -self.cash / (index * (ONE - fee)))
            self.coins -= sold
            self.cash += sold * index * (ONE - fee)
            self.costs.penalty += sold * index * fee
        self.cash = max(ZERO, self.cash)
