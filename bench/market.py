"""A market in which most jumps make an order; `python -m bench.market PORT SECONDS` serves it.

The index jumps by 0.5 % every 0.43 s, around LTV .70 of an account with 10 BTC pledged. With the
default policy the hedge wanted moves by 4 coins per unit of LTV and coin pledged, 0.14 BTC a jump:
nearly three bands. A jump costs the account about 18 USDT, so its pocket is deep.
"""

from __future__ import annotations

import dataclasses
import sys
from decimal import Decimal

from hedgelock.simulator import server
from hedgelock.simulator.paths import Path
from hedgelock.simulator.scenarios import AccountSetup, Scenario, script

ACCOUNT = "hedgelock-sim"
JUMP_EVERY_S = 0.43
JUMP = 0.0025
"""Each side of the middle, as a fraction of it."""
COLLATERAL_BTC = 10
DEBT_USDT = 366_000
MIDDLE = DEBT_USDT / COLLATERAL_BTC / 0.70
RESERVE_USDT = 60_000
_EDGE_S = 0.001

SETTINGS = {
    "HEDGER__RESERVE_USDT": str(RESERVE_USDT), "EXECUTOR__ORDERS_PER_MINUTE_MAX": "6000",
}
"""What the engine needs for this market; everything else stays at its default."""


def zigzag(seconds: float) -> Path:
    """Corners of the index: down first, then up and down, each side held until the next jump."""
    corners = [(0.0, MIDDLE * (1 + JUMP))]
    side = 1
    for number in range(1, int(seconds / JUMP_EVERY_S) + 1):
        at_s = number * JUMP_EVERY_S
        corners.append((at_s - _EDGE_S, MIDDLE * (1 + side * JUMP)))
        side = -side
        corners.append((at_s, MIDDLE * (1 + side * JUMP)))
    return tuple(corners)


def segment(script_s: float) -> int:
    """Which jump was the last one at a second of the script; 0 = none yet."""
    return int(script_s / JUMP_EVERY_S)


def scenario(seconds: float) -> Scenario:
    """The script with its one account."""
    made = script(
        "bench", "jumps that make orders", btc=zigzag(seconds), funding=((0, 0.0001),),
        settlements_s=(),
    )
    account = AccountSetup(
        key=ACCOUNT, secret=ACCOUNT,
        unified={"USDT": Decimal(RESERVE_USDT), "BTC": Decimal(1)},
        collateral={"BTC": Decimal(COLLATERAL_BTC)}, debt={"USDT": Decimal(DEBT_USDT)},
    )
    return dataclasses.replace(made, accounts=(account,))


if __name__ == "__main__":
    # Limits ten times the exchange's: what is measured is our speed, not its patience.
    server.run(scenario(float(sys.argv[2])), port=int(sys.argv[1]), wait=True, limits_factor=10)  # type: ignore[arg-type]
