"""The watch skips assessments, and never one that would have mattered."""

import random
from dataclasses import replace
from decimal import Decimal as D

import msgspec
import pytest
from test_simulator_money import trade_at_random

from hedgelock.simulator import liquidation
from hedgelock.simulator.generators import generated
from hedgelock.simulator.watch import Watch


class Anxious(Watch):
    """Looks at everybody at every tick."""

    def tick(self) -> None:
        self.reset()
        super().tick()


def story(desk, seed):
    for who, side in (("hedgelock-sim", "Sell"), ("unprotected-sim", "Buy")):
        desk.who = who
        desk.order(side, "1.7")
    replies = trade_at_random(desk, seed=seed, steps=60)
    desk.wait(90_000)
    accounts = desk.venue.exchange.accounts.values()
    facts = [(a.ltv_max, a.loan_liquidated_ms, a.margin_liquidated_ms) for a in accounts]
    return msgspec.json.encode([desk.log, replies]), facts


@pytest.mark.no_cover
@pytest.mark.parametrize("scenario", ["demo", "mania", "crash"])
def test_boxes_change_nothing_that_happens(open_desk, scenario):
    """With every account assessed at every tick the events are the same, byte for byte."""
    results = []
    for kind in (Watch, Anxious):
        desk = open_desk(scenario, seed=2)
        desk.venue.watch = kind(desk.venue.exchange)
        results.append(story(desk, seed=4))
    assert results[0] == results[1]
    assert any(margin_ms for _, _, margin_ms in results[0][1]), "somebody was liquidated"


@pytest.mark.no_cover
@pytest.mark.parametrize("seed", range(4))
def test_maintenance_is_covered_everywhere_inside_a_box(open_desk, seed):
    """Random pockets and positions, random prices inside the box: the margin rate stays below 1."""
    dice = random.Random(seed)
    desk = open_desk("quiet")
    x, account = desk.venue.exchange, desk.account
    checked = 0
    for _ in range(120):
        desk.call("POST", "order/create", category="linear", symbol="BTCUSDT",
                  side=dice.choice(("Buy", "Sell")), orderType="Market",
                  qty=f"{dice.uniform(0.01, 1.9):.3f}")  # fmt: skip
        desk.call("POST", "order/create", category="inverse", symbol="BTCUSD",
                  side=dice.choice(("Buy", "Sell")), orderType="Market",
                  qty=str(dice.randint(100, 40_000)))  # fmt: skip
        desk.venue.watch.reset()
        desk.venue.watch.tick()
        box = desk.venue.watch.margins.get(account.name)
        if box is None:
            continue
        for _ in range(20):
            for quote, low, high in box.marks:
                quote.mark = low + (high - low) * D(str(dice.choice((0, 1, dice.random()))))
            for coin, low, high in box.coins:
                x.market.index[coin] = low + (high - low) * D(str(dice.choice((0, 1, dice.random()))))
            assert x.report(account).mm_rate < 1
            checked += bool(box.marks)
        desk.wait(100)
    assert checked > 500


def test_a_calm_market_is_hardly_assessed(open_desk, monkeypatch):
    """In 300 s of the calm market, 3,000 ticks, an account with a position is assessed rarely."""
    desk = open_desk("calm")
    desk.order("Sell", "0.3")
    count = 0
    real = liquidation.liquidate_margin

    def counted(x, account):
        nonlocal count
        count += account is desk.account
        return real(x, account)

    monkeypatch.setattr(liquidation, "liquidate_margin", counted)
    desk.wait(300_000)
    assert 5 <= count <= 20, "once a minute, and when funding was paid"


def test_a_switched_rule_is_noticed_within_a_minute(open_desk):
    """Even what nobody announces: boxes grow old."""
    desk = open_desk("calm")
    desk.order("Sell", "0.3")
    desk.wait(1_000)
    x = desk.venue.exchange
    margin = replace(x.scenario.margin, collateral_ratio={}, borrow_mm_rate=D(99))
    x.scenario = replace(x.scenario, margin=margin)
    x.ledger._balances[desk.account.unified]["USDT"] = D(1)
    desk.wait(60_000)
    assert desk.account.margin_liquidated_ms > 0


@pytest.mark.no_cover
def test_a_generated_day_is_assessed_like_a_scripted_one(open_desk):
    results = []
    for kind in (Watch, Anxious):
        desk = open_desk(generated("storm", seed=5, bases=("BTC",)), tick_ms=120_000)
        desk.venue.watch = kind(desk.venue.exchange)
        desk.order("Sell", "1.2")
        desk.wait(24 * 3_600_000)
        results.append((msgspec.json.encode(desk.log), desk.account.ltv_max))
    assert results[0] == results[1]
