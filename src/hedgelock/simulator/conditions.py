"""What deeds have changed about the venue's rules; everything is ordinary by default."""

from __future__ import annotations

from dataclasses import dataclass, field

from hedgelock.simulator.incidents import Incident


@dataclass(slots=True)
class Conditions:
    """Read by the routes concerned, written by `deeds`."""

    maintenance: bool = False  # trading and loans answer 10016, reads go on
    incidents: list[Incident] = field(default_factory=list)  # maintenance, oldest first
    tiers_missing: bool = False  # market/risk-limit answers without rows
    wallet_blank: bool = False  # account-level wallet fields are ""
    col_res: str = "0"  # of the crypto loan: 0 normal, 1 near the limit, 2 no more collateral
    reduce_only: set[str] = field(default_factory=set)  # contract keys: only closing orders
    delisted: set[str] = field(default_factory=set)  # contract keys: no orders at all
