"""Going from hold to hold changes nothing: same events, same money, digit by digit."""

from __future__ import annotations

import pytest
from tapes import drawn, setting, tape

from hedgelock.backtest.engine import run
from hedgelock.backtest.plans import BASELINES

SETTINGS = [
    setting(ltv="0.65"),
    setting(ltv="0.72", delay=1, pocket_usdt="0.05", pocket_coins="0", every=3, latency=0.4),
]


@pytest.mark.parametrize("plan", BASELINES)
@pytest.mark.parametrize("seed", [3, 8])
def test_hold_is_step_by_step(plan: str, seed: int) -> None:
    """With funding, interest, delays, latency, a slower rhythm and liquidations."""
    for chosen in SETTINGS:
        market = drawn(seed, 300, basis=0.002)
        walked = run(market, BASELINES[plan], chosen, hold=False)
        held = run(market, BASELINES[plan], chosen, hold=True)
        assert held.events == walked.events
        assert held.equity == walked.equity
        assert held.account.costs == walked.account.costs
        assert held.ltv_max == pytest.approx(walked.ltv_max, abs=1e-9)


def test_a_quiet_market_is_passed_in_one_go() -> None:
    """Ten thousand bars in which nothing can happen cost a decision or two."""
    market = tape([40_000 + (i % 7) for i in range(10_000)], step_ms=60_000)
    held = run(market, BASELINES["ltv_target"], setting(ltv="0.60"))
    assert held.instants <= 3
