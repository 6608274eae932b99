"""The exchange simulator: a virtual day of one symbol, second by second."""

from __future__ import annotations

import time

from bench.figures import Figure
from hedgelock.simulator.generators import generated
from hedgelock.simulator.venue import Venue

DAY_S = 86_400
DAY_BAR_S = 8.0
TICK_MS = 1_000
BEGAN_MS = 1_700_000_000_000


def virtual_day() -> list[Figure]:
    """Processor seconds for 86,400 ticks of BTC; two accounts hold positions, nobody listens."""
    venue = Venue(generated("usual", seed=1, bases=("BTC",)), now_ms=BEGAN_MS, tick_ms=TICK_MS)
    for setup, side in zip(venue.exchange.scenario.accounts, ("Sell", "Buy"), strict=True):
        order = {"category": "linear", "symbol": "BTCUSDT", "side": side, "qty": "0.3",
                 "orderType": "Market"}
        reply = venue.request("POST", "/v5/order/create", order, account=setup.key, now_ms=BEGAN_MS)
        assert reply.code == 0, reply
    began = time.process_time()
    venue.advance(BEGAN_MS + DAY_S * 1000)
    took = time.process_time() - began
    assert venue.streams.ticks == DAY_S
    return [Figure("simulator_day_s", took, "s", DAY_BAR_S, note=f"{took / DAY_S * 1e6:.0f} us a tick")]
