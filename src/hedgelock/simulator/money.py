"""Money of the simulated exchange: exact decimals, moved by double entry.

Every change of a balance is a `Ledger.move` from one holder to another, so per coin the sum over
all holders is zero for ever: deposits come from the holder `OUTSIDE`. Debts are claims, not
cash, and live with the loan; a negative unified balance *is* the auto-borrowing.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Decimal

ZERO = Decimal(0)
ONE = Decimal(1)
GRAIN = Decimal("0.0000000001")
"""Smallest amount of any coin that the ledger holds; amounts are rounded to it once, on entry."""

DECIMALS_MAX = 18
"""Decimals of any number that the exchange sends."""

OUTSIDE = "outside"  # where deposits come from
HOUSE = "house"  # counterparty of every fill, and clearing of realised profit and loss
FEES = "fees"
INSURANCE = "insurance"
LENDER = "lender"


def text(value: Decimal) -> str:
    """Plain decimal text without exponent, without trailing zeros, cut after 18 decimals.

    A quotient (the entry value of a position closed in parts) has no end; the exchange sends none.
    """
    plain = format(value, "f")
    point = plain.find(".")
    if point >= 0:
        plain = plain[:point + 1 + DECIMALS_MAX].rstrip("0").rstrip(".")
    return "0" if plain in {"-0", ""} else plain


def grain(value: Decimal) -> Decimal:
    """Round an amount to the ledger's grain."""
    return value.quantize(GRAIN, rounding=ROUND_HALF_EVEN)


def unified(account: str) -> str:
    """Holder name of an account's unified trading pocket."""
    return f"{account}/UNIFIED"


def fund(account: str) -> str:
    """Holder name of an account's funding pocket."""
    return f"{account}/FUND"


def pledged(account: str) -> str:
    """Holder name of an account's loan collateral."""
    return f"{account}/LOAN"


class Ledger:
    """Balances per holder and coin; only `move` changes them."""

    def __init__(self) -> None:
        self._balances: dict[str, dict[str, Decimal]] = {}
        self.moves: dict[str, int] = {}  # how often each holder's balances have changed

    def balance(self, holder: str, coin: str) -> Decimal:
        """Signed balance in coins; a unified pocket below zero has borrowed."""
        return self._balances.get(holder, {}).get(coin, ZERO)

    def coins(self, holder: str) -> dict[str, Decimal]:
        """Non-zero balances of a holder, by coin."""
        return {c: v for c, v in sorted(self._balances.get(holder, {}).items()) if v}

    def move(self, coin: str, amount: Decimal, *, source: str, target: str) -> Decimal:
        """Move `amount` (rounded to the grain; negative moves back) and return what was moved."""
        amount = grain(amount)
        if amount:
            for holder, change in ((source, -amount), (target, amount)):
                pocket = self._balances.setdefault(holder, {})
                pocket[coin] = pocket.get(coin, ZERO) + change
                self.moves[holder] = self.moves.get(holder, 0) + 1
        return amount

    def totals(self) -> dict[str, Decimal]:
        """Sum over all holders per coin: always zero."""
        sums: dict[str, Decimal] = {}
        for _, coin, value in self.entries():
            sums[coin] = sums.get(coin, ZERO) + value
        return sums

    def entries(self) -> Iterator[tuple[str, str, Decimal]]:
        """Every (holder, coin, balance)."""
        for holder, pocket in sorted(self._balances.items()):
            for coin, value in sorted(pocket.items()):
                yield holder, coin, value
