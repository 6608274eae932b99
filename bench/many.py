"""A million accounts on one tick: who has to be stepped, and everybody marked anew."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal

import numpy as np

from bench.figures import Figure, spread
from hedgelock.domain.market import MarketTick
from hedgelock.domain.policy import Policy
from hedgelock.domain.step import Hold, PriceBox
from hedgelock.services.fleet import NEVER_MS, RUNGS, Curve, Fleet, Market
from hedgelock.services.risk_many import Screen, assess_many

ACCOUNTS = 1_000_000
ROUNDS = 15
SCREEN_MS, MARK_MS = 5.0, 60.0
NOW_MS = 1_760_000_000_000
PRICE = 60_000.0
INSTRUMENT = "linear:BTCUSDT"


def _fleet(draw: np.random.Generator) -> Fleet:
    """LTV .3 to .95, shorts of up to half the collateral, one account in ten owing USDT."""
    def some(low: float, high: float) -> np.ndarray:
        return draw.uniform(low, high, ACCOUNTS)

    collateral, cash = some(0.5, 3), some(-1_000, 9_000)
    coins = some(0, 0.3)
    zero, one = np.zeros(ACCOUNTS), np.ones(ACCOUNTS)
    ltv = some(0.3, 0.95)
    reached = np.searchsorted([0.65, 0.80, 0.90], ltv, side="right")
    level = np.maximum(reached, np.where(draw.random(ACCOUNTS) < 0.1, 2, 0)).astype(np.int8)
    below = tuple(np.where(draw.random(ACCOUNTS) < 0.1, NOW_MS - 1_000, NEVER_MS)
                  for _ in range(RUNGS))
    return Fleet(
        Policy(account="", version=0), "", collateral * ltv * PRICE, collateral,
        collateral, cash, cash, coins, coins * 0.95, some(0, 5_000), zero,
        some(0, 9_000), -collateral * some(0, 0.5), some(50_000, 70_000), zero, one,
        np.full(ACCOUNTS, NOW_MS - 900), np.full(ACCOUNTS, NOW_MS - 100),
        np.ones(ACCOUNTS, dtype=np.bool_), level, below,
    )


def _market() -> Market:
    """The first two of BTCUSDT's tiers at 60,000."""
    tiers = Curve(np.array([2e6, 2.6e6]), np.array([0.005, 0.0056]), np.array([0.0, 1_200.0]), 0.00055)
    return Market(PRICE, PRICE, tiers, 1.0, None, is_stale=False, is_inverse_stale=False)


def _screen(draw: np.random.Generator) -> Screen:
    """Boxes of ± .1 % around the price, each a little different; a thousand distinct ones."""
    kinds = []
    for shift in draw.uniform(-0.0009, 0.0009, 1_000):
        low, high = (Decimal(f"{PRICE * (1 + shift + side * 0.001):.2f}") for side in (-1, 1))
        kinds.append(Hold({INSTRUMENT: PriceBox(low, high, low, high)}, NOW_MS + 10_000))
    return Screen(INSTRUMENT, [kinds[at % 1_000] for at in range(ACCOUNTS)])


def _timed(run: Callable[[], object]) -> list[float]:
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter_ns()
        run()
        took.append((time.perf_counter_ns() - began) / 1e6)
    return took


def measure() -> list[Figure]:
    """Milliseconds to screen a tick that wakes nobody to a few, and to mark everybody anew."""
    draw = np.random.default_rng(5)
    screen = _screen(draw)
    price = Decimal("60010.00")
    tick = MarketTick(instrument=INSTRUMENT, mark_price=price, index_price=price,
                      ts_event_ms=NOW_MS, ts_seen_ms=NOW_MS)
    woken = screen.leavers(tick, NOW_MS).size
    screened = _timed(lambda: screen.leavers(tick, NOW_MS))
    fleet, market = _fleet(draw), _market()
    found = assess_many(fleet, market, NOW_MS)
    marked = _timed(lambda: assess_many(fleet, market, NOW_MS, found))
    return [
        *spread("many_screen", screened, "ms", bars=(SCREEN_MS, None),
                note=f"{ACCOUNTS:,} accounts, {woken:,} woken"),
        *spread("many_mark", marked, "ms", bars=(MARK_MS, None),
                note=f"{int(found.doubtful.sum())} doubtful"),
    ]
