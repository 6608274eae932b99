"""Accounts, keys and deeds as they are written in scenario files and sent to the control API."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import msgspec

from hedgelock.simulator.deeds import Deed
from hedgelock.simulator.keys import KeyTerms
from hedgelock.simulator.money import ZERO
from hedgelock.simulator.scenarios import AccountSetup

Amounts = dict[str, str]
ORDINARY = KeyTerms()


class TermsTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an API key may do; what is not given stays as it is."""

    key: str
    permissions: dict[str, tuple[str, ...]] | None = None
    ips: tuple[str, ...] | None = None
    expires_ms: int | None = None
    limits_factor: int | None = None
    read_only: bool | None = None
    dcp: bool | None = None

    def terms(self, before: KeyTerms = ORDINARY) -> KeyTerms:
        """The key's terms after this change."""
        given: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("permissions", "ips", "expires_ms", "limits_factor", "read_only", "dcp")
            if getattr(self, name) is not None
        }
        return replace(before, **given)


class AccountTable(TermsTable, frozen=True, forbid_unknown_fields=True):
    """`[[account]]`: pockets and debt in coins; the secret is the key unless given."""

    secret: str = ""
    unified: Amounts = {}
    fund: Amounts = {}
    collateral: Amounts = {}
    debt: Amounts = {}
    def setup(self) -> AccountSetup:
        """As the exchange takes it. Raises ValueError for an amount that is none."""
        pockets = {
            name: {coin: _amount(name, coin, text) for coin, text in getattr(self, name).items()}
            for name in ("unified", "fund", "collateral", "debt")
        }
        return AccountSetup(self.key, self.secret or self.key, terms=self.terms(), **pockets)


class DeedTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[deed]]`: see `deeds.KINDS`."""

    at_s: float
    kind: str
    account: str = ""
    symbol: str = ""
    coin: str = ""
    side: str = ""
    amount: str = "0"
    until_s: float | None = None

    def deed(self) -> Deed:
        """As the exchange takes it. Raises ValueError when it makes no sense."""
        fields = msgspec.structs.asdict(self) | {"amount": _amount("deed", "amount", self.amount)}
        return Deed(**fields)


def _amount(table: str, name: str, text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except ArithmeticError as error:
        raise ValueError(f"{table} {name} {text!r} is no number") from error
    if not amount.is_finite() or (table != "deed" and amount < ZERO):
        raise ValueError(f"{table} {name} {text!r} is no amount")
    return amount
