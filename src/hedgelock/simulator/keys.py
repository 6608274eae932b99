"""What an API key may do: permissions, addresses, expiry and raised limits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

TRADING: Mapping[str, tuple[str, ...]] = {
    "ContractTrade": ("Order", "Position"),
    "Spot": ("SpotTrade",),
    "Wallet": ("AccountTransfer", "SubMemberTransfer"),
    "Options": (),
    "Derivatives": ("DerivativesTrade",),
    "Exchange": (),
    "Earn": (),
    "CopyTrading": (),
    "BlockTrade": (),
    "NFT": (),
    "Affiliate": (),
}
"""A key that trades, borrows and transfers between the pockets, but cannot withdraw."""

ANYWHERE = ("*",)


@dataclass(frozen=True, slots=True)
class KeyTerms:
    """The terms of one API key; the default trades from any address and never expires."""

    permissions: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: TRADING)
    ips: tuple[str, ...] = ANYWHERE
    expires_ms: int | None = None
    limits_factor: int = 1  # multiplies every rate limit of the account
    read_only: bool = False
    dcp: bool = False  # whether disconnect-cancel-all may be armed
