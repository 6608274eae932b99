"""A day at the exchange for clients of other people: quiet until started, then funding and a gap.

Run as a program it serves the day on the port that it is given, until it is stopped.
"""

import sys
from dataclasses import replace

from hedgelock.simulator.scenarios import SCENARIOS, Scenario
from hedgelock.simulator.server import run

LIMITS_FACTOR = 1000
FUNDING_S, GAP_S = 0.4, 0.8


def scenario() -> Scenario:
    """BTC at 60,000 until the start; funding .4 s later, then a rally of 25 % within .4 s."""
    rally = ((0, 60000), (GAP_S, 60000), (GAP_S + 0.4, 75000))
    return replace(
        SCENARIOS["calm"],
        name="day",
        duration_s=10,
        noise_bps=0.0,
        prices={"BTC": rally, "ETH": ((0, 3000),)},
        funding={"BTC": ((0, 0.0001),), "ETH": ((0, 0.0001),)},
        settlements_s=(FUNDING_S,),
    )


if __name__ == "__main__":
    run(scenario(), port=int(sys.argv[1]), wait=True, limits_factor=LIMITS_FACTOR)
