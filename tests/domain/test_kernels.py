"""One formula for Decimal and for arrays."""

from __future__ import annotations

from decimal import Decimal as D

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import amounts, prices

from hedgelock.domain import kernels

ARGS = {
    "debt": amounts("0", "90000", 2),
    "counted": amounts("1", "200000", 2),
    "fund": amounts("0", "9000", 2),
    "reserve": amounts("0", "9000", 2),
    "equity": amounts("-9000", "90000", 2),
    "hedge": amounts("-90000", "90000", 2),
    "fall": amounts("0", "0.9", 3),
    "cost": amounts("0", "0.01", 4),
    "qty": amounts("-50000", "50000", 2),
    "entry": prices(),
    "mark": prices(),
    "rate": amounts("0", "0.5", 4),
}


def everything(x, maximum):
    """All kernels on one set of numbers, as a list."""
    net = kernels.net_debt(x["debt"], fund=x["fund"], reserve=x["reserve"], pocket_equity=x["equity"])
    pocket = kernels.Pocket(x["equity"], x["counted"], x["hedge"])
    return [
        kernels.ltv(x["debt"], x["counted"]),
        kernels.ltv_net(
            net, x["counted"], hedge_value=x["hedge"], fall=x["fall"], cost_rate=x["cost"]
        ),
        kernels.linear_upl(x["qty"], x["entry"], x["mark"]),
        kernels.inverse_upl(x["qty"], x["entry"], x["mark"]),
        kernels.inverse_delta(x["qty"], x["entry"]),
        kernels.maintenance(x["debt"], x["rate"], deduction=x["fund"], fee_rate=x["cost"]),
        kernels.owed(x["equity"], maximum=maximum),
        kernels.margin_ratio_after(
            pocket, x["fall"] * 0, maintenance_rate=x["rate"], borrow_rate=x["cost"],
            maximum=maximum,
        ),
    ]


@given(st.lists(st.fixed_dictionaries(ARGS), min_size=1, max_size=5))
def test_arrays_and_decimals_agree(cases):
    """The same formula on arrays gives the exact result within 1e-12 of the largest term."""
    cases = [c for c in cases if c["equity"] + c["counted"] > 1]
    if not cases:
        return
    arrays = {name: np.array([str(c[name]) for c in cases], dtype=float) for name in ARGS}
    fast = everything(arrays, np.maximum)
    for at, case in enumerate(cases):
        for exact, approximate in zip(everything(case, max), fast, strict=True):
            scale = max(1, abs(exact), *(abs(c) for c in case.values()))
            assert abs(exact - D(repr(float(approximate[at])))) <= D("1e-12") * scale


def test_an_inverse_short_gains_coins_when_the_price_falls():
    """Fact sheet §8.3: short 30,000 USD from 60,000 to 50,000 is +0.1 BTC."""
    assert round(kernels.inverse_upl(D(-30_000), D(60_000), D(50_000)), 20) == D("0.1")


def test_a_linear_short_gains_quote_when_the_price_falls():
    """(exit − entry) × qty, signed: short 0.5 from 60,000 to 50,000 is +5,000 USDT."""
    assert kernels.linear_upl(D("-0.5"), D(60_000), D(50_000)) == 5_000


def test_net_debt_does_not_change_when_a_gain_is_moved_and_repaid():
    """N = D − F + R − U is the same before, in between and after a harvest."""
    before = kernels.net_debt(D(100), fund=D(0), reserve=D(5), pocket_equity=D(30))
    moved = kernels.net_debt(D(100), fund=D(10), reserve=D(5), pocket_equity=D(20))
    repaid = kernels.net_debt(D(90), fund=D(0), reserve=D(5), pocket_equity=D(20))
    assert before == moved == repaid == 75


def test_the_margin_kernel_by_hand():
    """U 1,000, 2,000 of coins, short 10,000, +25 %: (12,500 × .00555 + .04 × 1,500) ÷ 1,000."""
    ratio = kernels.margin_ratio_after(
        kernels.Pocket(D(1_000), D(2_000), D(-10_000)), D("0.25"),
        maintenance_rate=D("0.00555"), borrow_rate=D("0.04"), maximum=max,
    )
    assert ratio == (D(12_500) * D("0.00555") + D(60)) / D(1_000)


@pytest.mark.parametrize(("equity", "owed"), [("-5", "5"), ("0", "0"), ("5", "0")])
def test_only_negative_equity_is_owed(equity, owed):
    """A coin is borrowed exactly as far as its equity is below zero."""
    assert kernels.owed(D(equity), maximum=max) == D(owed)
