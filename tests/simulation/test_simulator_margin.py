"""Margin, profit and liquidation vectors of the fact sheet (§8.3–8.5), and what margin forbids."""

from dataclasses import replace
from decimal import Decimal as D

import pytest

from hedgelock.simulator.instruments import BTCUSDT_TIERS, CONTRACTS
from hedgelock.simulator.margin import (
    Exposure,
    assess,
    isolated_liquidation_price,
    loan_to_value,
    require,
    tiered,
)
from hedgelock.simulator.scenarios import MARGIN_TERMS, RatioTier

LINEAR, INVERSE = CONTRACTS["linear.BTCUSDT"], CONTRACTS["inverse.BTCUSD"]
PRICES = {"BTC": D(60000), "USDT": D(1)}


def test_deductions_are_those_of_the_published_table():
    assert [t.deduction for t in BTCUSDT_TIERS] == [
        0, 1200, 3020, 4300, 5820, 8460, 15460, 20500, 46000, 66000, 80000, 160000, 300000, 452000,
    ]  # fmt: skip
    assert BTCUSDT_TIERS[1].im_rate == D("0.0111")


@pytest.mark.parametrize(
    ("contract", "size", "expected"),
    [
        (LINEAR, D(1), "54271.36"),
        (LINEAR, D(-1), "65671.64"),
        (INVERSE, D(60000), "54818.18"),
        (INVERSE, D(-60000), "66333.33"),
    ],
)
def test_isolated_liquidation_prices(contract, size, expected):
    price = isolated_liquidation_price(contract, size=size, entry=D(60000), leverage=D(10))
    assert price.quantize(D("0.01")) == D(expected)


def exposure(contract, size, entry, mark, leverage="10", **orders):
    value = contract.value(abs(D(size)), D(entry))
    return Exposure(contract, D(size), value, D(mark), D(leverage), **orders)


@pytest.mark.parametrize(
    ("contract", "size", "entry", "mark", "upl"),
    [
        (LINEAR, "0.5", 60000, 61000, "500"),
        (LINEAR, "-0.5", 60000, 61000, "-500"),
        (INVERSE, "-30000", 60000, 50000, "0.1"),  # §8.3
        (INVERSE, "30000", 60000, 50000, "-0.1"),
        (LINEAR, "0", 60000, 50000, "0"),
    ],
)
def test_unrealised_profit(contract, size, entry, mark, upl):
    assert exposure(contract, size, entry, mark).upl == D(upl)


def test_margin_of_a_position_is_at_mark_with_tier_and_closing_fee():
    need = require(exposure(LINEAR, "-0.5", 60000, 60000))
    assert need.position_im == D(3000) + D("16.5")
    assert need.position_mm == D(150) + D("16.5")
    large = require(exposure(LINEAR, "40", 60000, 60000))
    assert large.position_mm == D(2400000) * D("0.0056") - 1200 + D(2400000) * D("0.00055")


def test_opposite_orders_cost_only_the_larger_side():
    need = require(exposure(LINEAR, "1", 60000, 60000, buying=D("0.5"), selling=D("2.2")))
    assert need.order_im == D(30000) * (D("0.1") + D("0.00055"))
    closing = require(exposure(LINEAR, "1", 60000, 60000, selling=D(1)))
    assert closing.order_im == 0


def test_negative_dollars_are_borrowed_against_coin():
    wallets = {"USDT": D(-1000), "BTC": D("0.1")}
    report = assess(wallets, [], prices=PRICES, terms=MARGIN_TERMS)
    assert report.equity == D(5000)
    assert report.balance == D(5700) - 1000
    assert report.coins["USDT"].borrowed == 1000
    assert report.maintenance == D(40)
    assert report.initial == D(200)


def test_unrealised_losses_are_borrowed_too():
    report = assess(
        {"USDT": D(1000), "BTC": D(1)},
        [exposure(LINEAR, "-1", 60000, 65000)],
        prices={"BTC": D(65000), "USDT": D(1)},
        terms=MARGIN_TERMS,
    )
    assert report.coins["USDT"].borrowed == 4000


def test_collateral_ratio_is_tiered():
    tiers = (RatioTier(D(0), D(10), D("0.95")), RatioTier(D(10), None, D("0.9")))
    assert tiered(D(15), tiers) == D("9.5") + D("4.5")
    assert tiered(D(15), ()) == 0


def test_ltv_without_collateral_is_never_fine():
    assert loan_to_value(D(1), D(0)) > 100
    assert loan_to_value(D(0), D(0)) == 0
    assert loan_to_value(D(36600), D(60000)) == D("0.61")


def test_an_order_beyond_margin_is_refused(desk):
    assert desk.refused("Sell", "3") == 110007
    assert desk.position()["size"] == "0"
    desk.order("Sell", "1.5")
    assert desk.refused("Sell", "1") == 110007
    assert desk.order("Buy", "1.5")["orderStatus"] == "Filled", "closing needs no margin"


def test_withdrawable_is_wallet_only(open_desk, quiet_scenario):
    """Unrealised profit cannot leave; unrealised loss and used margin hold the wallet back."""
    falls = ((0, 60000), (1, 60000), (2, 55000), (3, 55000), (4, 68000), (9, 68000))
    desk = open_desk(replace(quiet_scenario(), prices={"BTC": falls, "ETH": ((0, 3000),)}))

    def free(coin="USDT"):
        return D(desk.get("account/withdrawal", coinName=coin)["availableWithdrawalMap"][coin])

    assert free() == 6000
    assert free("BTC") == D("0.1")
    desk.order("Sell", "1")
    wallet = desk.balance("USDT")
    desk.until(3_000)
    assert D(desk.wallet()["totalPerpUPL"]) > 4900
    assert free() == wallet, "profit of 5,000 does not add"
    desk.until(5_000)
    assert D(desk.wallet()["totalPerpUPL"]) < -7900
    assert free() == 0
    assert desk.call(
        "POST", "asset/transfer/inter-transfer", transferId="x", coin="USDT", amount="1",
        fromAccountType="UNIFIED", toAccountType="FUND",
    ).code == 131228  # fmt: skip


def test_a_short_in_a_rally_is_taken_over(open_desk, quiet_scenario):
    rally = ((0, 60000), (1, 60000), (30, 90000))
    desk = open_desk(replace(quiet_scenario(), prices={"BTC": rally, "ETH": ((0, 3000),)}))
    desk.order("Sell", "1.1")
    resting = desk.order("Buy", "0.01", price="59500")
    desk.log.clear()
    desk.until(30_000)
    busts = desk.get("execution/list", category="linear", execType="BustTrade")["list"]
    assert busts
    assert {b["createType"] for b in busts} == {"CreateByLiq"}
    assert desk.row(resting["orderId"])["cancelType"] == "CancelAllBeforeLiq"
    assert desk.account.margin_liquidated_ms > 0
    assert "Liq" in {p["positionStatus"] for p in desk.pushed("position")}
    assert desk.venue.exchange.report(desk.account).mm_rate < 1
    assert desk.account.loan_liquidated_ms == 0
    assert all(v == 0 for v in desk.venue.exchange.ledger.totals().values())


def test_hourly_interest_on_what_is_borrowed(open_desk, quiet_scenario):
    jump = ((0, 60000), (1, 60000), (2, 67000))
    scenario = replace(quiet_scenario(), prices={"BTC": jump, "ETH": ((0, 3000),)})
    desk = open_desk(scenario, tick_ms=10_000)
    desk.order("Sell", "1")
    debt = D(desk.get("crypto-loan-flexible/ongoing-coin")["list"][0]["totalDebt"])
    while not (log := desk.get("account/transaction-log", type="INTEREST")["list"]):
        borrowed = desk.venue.exchange.report(desk.account).coins["USDT"].borrowed
        desk.wait(60_000)
        assert desk.now_ms < 1_700_000_000_000 + 4_000_000
    assert int(log[0]["transactionTime"]) // 1000 % 3600 == 300, "at mm:05"
    assert abs(D(log[0]["fee"]) - borrowed * D("0.0000034")) < D("0.000001")
    assert desk.get("crypto-loan-flexible/ongoing-coin")["list"][0]["totalDebt"] != str(debt)


def test_insurance_pays_what_a_gap_leaves_owing(open_desk, quiet_scenario):
    """A gap past bankruptcy is closed at the bankruptcy price; the pool bears what lies beyond."""
    gap = ((0, 60000), (1, 60000), (1.1, 120000))
    desk = open_desk(replace(quiet_scenario(), prices={"BTC": gap, "ETH": ((0, 3000),)}))
    desk.order("Sell", "1")
    ledger = desk.venue.exchange.ledger
    before = ledger.balance("insurance", "USDT")
    desk.until(2_000)
    assert desk.position()["size"] == "0"
    (bust,) = desk.get("execution/list", category="linear", execType="BustTrade")["list"]
    assert bust["createType"] == "CreateByTakeOver_PassThrough"
    # worth 6,000 − fees + .1 BTC sold at 120,000 less .1 %, and the fee to close at that price
    assert abs(D(bust["execPrice"]) - D(77_910)) < 20
    left = ledger.coins(desk.account.unified)
    assert abs(left.get("USDT", D(0))) + left.get("BTC", D(0)) * 120_000 < D("0.1")
    lost = before - ledger.balance("insurance", "USDT")
    assert abs(lost - (D(120_000) - D(bust["execPrice"]))) < 40, "mark is within 40 of index"
    assert all(v == 0 for v in ledger.totals().values())
    kinds = [r["type"] for r in desk.get("account/transaction-log", limit=50)["list"]]
    assert {"LIQUIDATION", "CURRENCY_SELL"} <= set(kinds)
