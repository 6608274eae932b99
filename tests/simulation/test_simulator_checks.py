"""The exchange-side checks of scenario files: each holds, and each has an example where it fails."""

from decimal import Decimal as D

import pytest
from counter import ME, Counter

from hedgelock.simulator.check_kinds import CHECKS, Check, Side
from hedgelock.simulator.checks import failures
from hedgelock.simulator.fault_kinds import Fault, Match

BTC = "linear.BTCUSDT"


def day():
    """Sell .02 at 1 s, buy .01 back at 3 s reduce-only, rest a bid at 5 s; two refusals."""
    counter = Counter(Fault("unknown_outcome", Match(path="/v5/order/create"), nth=1, code=10016))
    counter.wait(1000)
    counter.sell("a", qty="0.02")
    counter.sell("a", qty="0.02")  # refused: duplicate
    counter.wait(2000)
    counter.sell("b", qty="0.01", side="Buy", reduceOnly=True)
    counter.wait(2000)
    counter.sell("c", qty="0.01", side="Buy", orderType="Limit", price="50000")
    counter.sell("d", qty="900", orderType="Limit", price="70000")  # refused: margin
    counter.line("/v5/private")
    counter.wait(1000)
    return counter


@pytest.mark.parametrize(
    ("holds", "fails"),
    [
        (Check("ltv_max", value=D("0.6")), Check("ltv_max", value=D("0.5"))),
        (
            Check("no_opening_orders", from_s=2, until_s=4.5),
            Check("no_opening_orders", from_s=4.5),
        ),
        (
            Check("orders_between", least=D(3), most=D(3)),
            Check("orders_between", from_s=2, most=D(1)),
        ),
        (Check("refusals_at_most", value=D(2)), Check("refusals_at_most", value=D(1))),
        (
            Check("position_between", symbol=BTC, least=D("-0.02"), most=D(0)),
            Check("position_between", symbol=BTC, from_s=2, until_s=2.5, least=D("-0.01")),
        ),
        (
            Check("position_reaches", symbol=BTC, at_s=2, within_s=2, least=D("-0.01")),
            Check("position_reaches", symbol=BTC, at_s=1.5, within_s=1, least=D("-0.01")),
        ),
        (
            Check("repayments_between", most=D(0)),
            Check("repayments_between", least=D(1)),
        ),
        (
            Check("requests_at_most", value=D(2), within_s=1),
            Check("requests_at_most", value=D(2), within_s=2.5),
        ),
        (Check("sockets_at_most", value=D(1)), Check("sockets_at_most", value=D(0))),
        (Check("nothing_resting", account="unprotected-sim"), Check("nothing_resting")),
    ],
    ids=lambda check: check.kind,
)  # fmt: skip
def test_a_check_holds_and_fails(holds, fails):
    gateway = day().gateway
    assert failures(gateway, [holds]) == []
    (why,) = failures(gateway, [fails])
    assert why.startswith(fails.kind)


def test_an_id_with_two_bodies_is_a_repeated_order():
    counter = Counter()
    counter.sell("a", qty="0.01")
    assert failures(counter.gateway, [Check("no_repeated_order")]) == []
    counter.sell("a", qty="0.02")
    (why,) = failures(counter.gateway, [Check("no_repeated_order")])
    assert "a was sent with different bodies" in why


def test_liquidations_are_seen():
    counter = Counter(scenario="demo")
    assert failures(counter.gateway, [Check("unliquidated")]) == []
    counter.wait(70_000)
    (why,) = failures(counter.gateway, [Check("unliquidated", account="unprotected-sim")])
    assert "the loan was liquidated" in why


def test_every_exchange_check_is_answered():
    """Engine-side checks are left to where the engine runs."""
    counter = Counter()
    for name, kind in CHECKS.items():
        assert kind.doc
        given = Check(name, symbol=BTC, value=D(10**6), most=D(10**6), least=D(-(10**6)), within_s=1)
        found = failures(counter.gateway, [given])
        assert found == [] or kind.side is Side.EXCHANGE


def test_the_first_account_is_meant_unless_named():
    assert next(iter(Counter().venue.exchange.accounts)) == ME
