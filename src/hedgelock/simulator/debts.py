"""What an account owes to the crypto loan: flexible debts and fixed-term loans."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from hedgelock.simulator.money import ZERO


@dataclass(slots=True)
class Debt:
    """A flexible loan in one coin."""

    principal: Decimal = ZERO
    interest: Decimal = ZERO

    @property
    def total(self) -> Decimal:
        """What must be repaid."""
        return self.principal + self.interest

    def pay(self, amount: Decimal) -> None:
        """Take a repayment, interest first."""
        charge = min(self.interest, amount)
        self.interest -= charge
        self.principal -= amount - charge


@dataclass(slots=True)
class FixedLoan:
    """A fixed-term loan; the whole term's interest was paid out of the loan when it began."""

    loan_id: str
    order_id: str
    coin: str
    borrowed: Decimal  # principal at the start
    principal: Decimal  # what is left of it
    interest_paid: Decimal
    annual_rate: Decimal
    term_days: int
    borrowed_ms: int
    due_ms: int
    repay_type: str  # "1": repaid from FUND when due, "2": turned into a flexible debt
    penalty: Decimal = ZERO  # grows while the loan is overdue
    renewed: bool = False

    @property
    def total(self) -> Decimal:
        """What must be repaid."""
        return self.principal + self.penalty

    def pay(self, amount: Decimal) -> None:
        """Take a repayment, penalty first."""
        fine = min(self.penalty, amount)
        self.penalty -= fine
        self.interest_paid += fine
        self.principal -= amount - fine
