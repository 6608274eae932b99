"""Open interest of a contract: a crowd that never changes, and the simulated accounts."""

from __future__ import annotations

from decimal import Decimal

from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.interest import CROWD
from hedgelock.simulator.money import ZERO
from hedgelock.simulator.state import Exchange


def open_interest(x: Exchange, c: Contract) -> Decimal:
    """Both sides together, in base coin (linear) or USD (inverse).

    Every account's counterparty is the crowd, so a position counts twice.
    """
    held = sum(
        (abs(a.positions[c.key].size) for a in x.accounts.values() if c.key in a.positions), ZERO
    )
    return 2 * (CROWD * c.qty_max + held)
