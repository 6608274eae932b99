"""Borrowing in the unified pocket: by hand and by itself, its margin, its interest, repaying it."""

import itertools
from dataclasses import replace
from decimal import Decimal as D

import pytest

from hedgelock.simulator.margin import assess
from hedgelock.simulator.scenarios import MARGIN_TERMS as MARGIN
from hedgelock.simulator.scenarios import RatioTier, flat_ratio

HOUR = 3_600_000
TIERS = {
    "BTC": (RatioTier(D(0), D("0.05"), D("0.95")), RatioTier(D("0.05"), None, D("0.9"))),
    "ETH": flat_ratio("0.9"),
    "USDT": flat_ratio("1"),
}


@pytest.fixture
def tiered(open_desk, quiet_scenario):
    """A desk whose wallet ratio has two tiers: .05 BTC at .95, the rest at .90."""
    scenario = quiet_scenario()
    margin = replace(scenario.margin, collateral_ratio=TIERS)
    return open_desk(replace(scenario, margin=margin), tick_ms=10_000)


def coin(desk, name):
    return next(c for c in desk.wallet()["coin"] if c["coin"] == name)


def conserved(desk):
    return all(total == 0 for total in desk.venue.exchange.ledger.totals().values())


def until_minute(desk, minute_s):
    """Go to the next instant that lies `minute_s` seconds past a full hour."""
    desk.wait((minute_s * 1000 - desk.now_ms) % HOUR)


def log(desk, *kinds):
    rows = desk.get("account/transaction-log", limit=50)["list"]
    return [(r["type"], r["currency"], r["change"]) for r in reversed(rows) if r["type"] in kinds]


def test_borrowed_cash_is_in_the_wallet_and_owed(desk):
    """Wallet balance includes the loan, equity does not; the debt costs margin."""
    before = desk.wallet()
    assert desk.post("account/borrow", coin="USDT", amount="1000") == {
        "coin": "USDT", "amount": "1000",
    }  # fmt: skip
    row, after = coin(desk, "USDT"), desk.wallet()
    assert (row["walletBalance"], row["spotBorrow"], row["borrowAmount"]) == (
        "7000",
        "1000",
        "1000",
    )
    assert row["equity"] == "6000"
    assert after["totalEquity"] == before["totalEquity"]
    assert after["totalWalletBalance"] == before["totalWalletBalance"]
    assert D(after["totalInitialMargin"]) == 200
    assert D(after["totalMaintenanceMargin"]) == 40
    assert log(desk, "BORROW") == [("BORROW", "USDT", "1000")]
    assert desk.get("spot-margin-trade/liability", currency="USDT") == {
        "currency": "USDT", "totalBorrowAmount": "1000", "fixedBorrowAmount": "0",
        "flexibleBorrowAmount": "1000", "spotTotalBorrow": "1000", "derivativesBorrow": "0",
    }  # fmt: skip
    assert conserved(desk)


def test_both_kinds_of_debt_add_up():
    """Owed 500 by hand with a cash balance of −300: 800 are borrowed, the equity is −800."""
    terms = replace(MARGIN, collateral_ratio=TIERS)
    report = assess(
        {"USDT": D(-300), "BTC": D("0.1")}, [], prices={"USDT": D(1), "BTC": D(60000)},
        terms=terms, owed={"USDT": D(500)},
    )  # fmt: skip
    assert report.coins["USDT"].borrowed == 800
    assert report.coins["USDT"].equity == -800
    assert report.balance == (D("0.05") * D("0.95") + D("0.05") * D("0.9")) * 60000 - 800
    assert report.initial == 160


def test_the_most_that_can_be_borrowed_is_accepted_and_no_more(tiered):
    """max-borrowable leaves available margin at 0; a dollar more is 34022031."""
    path = "spot-margin-trade/max-borrowable"
    # wallet 6000 + .05 × 60000 × .95 + .05 × 60000 × .90 = 11550; ÷ (IM .2 + 1 − ratio 1)
    most = D(tiered.get(path, currency="USDT")["maxLoan"])
    assert most == D(11550) / D("0.2")
    borrow = {"coin": "USDT", "amount": str(most + 1)}
    assert tiered.call("POST", "account/borrow", **borrow).code == 34022031
    assert tiered.balance("USDT") == 6000
    tiered.post("account/borrow", coin="USDT", amount=str(most))
    assert D(tiered.wallet()["totalAvailableBalance"]) == 0
    # borrowed BTC is worth .90 of itself as collateral: a higher price of borrowing
    other = D(tiered.get(path, currency="BTC")["maxLoan"])
    assert other == 0


def test_borrowed_coins_with_a_haircut_cost_more_margin(tiered):
    """.385 BTC = 11550 ÷ 60000 ÷ (.2 + 1 − .9), and that is what is accepted."""
    most = D(tiered.get("spot-margin-trade/max-borrowable", currency="BTC")["maxLoan"])
    assert most == (D(11550) / 60000 / D("0.3")).quantize(D("1E-8"), rounding="ROUND_DOWN")
    tiered.post("account/borrow", coin="BTC", amount=str(most))
    assert 0 <= D(tiered.wallet()["totalAvailableBalance"]) < D("0.01")


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"coin": "DOGE", "amount": "1"}, 34022010),
        ({"coin": "USDT", "amount": "0.000000001"}, 34022033),
        ({"coin": "USDT", "amount": "8000001"}, 34022030),
        ({"coin": "USDT", "amount": "0"}, 10001),
        ({"coin": "USDT"}, 10001),
    ],
)
def test_borrowing_is_refused_with_its_code(desk, params, code):
    assert desk.call("POST", "account/borrow", **params).code == code
    assert desk.balance("USDT") == 6000


def test_repaying_without_conversion_uses_the_coins_own_balance(desk):
    desk.post("account/borrow", coin="BTC", amount="0.05")
    path = "spot-margin-trade/repayment-available-amount"
    assert desk.get(path, currency="BTC")["lossLessRepaymentAmount"] == "0.05"
    desk.order("Sell", "0.12", category="spot", price="61000")
    assert desk.get(path, currency="BTC")["lossLessRepaymentAmount"] == "0.03", "the rest is locked"
    repay = "account/no-convert-repay"
    assert desk.call("POST", repay, coin="BTC", amount="0.04").code == 34022044
    assert desk.call("POST", repay, coin="BTC", amount="0.06").code == 34022027
    assert desk.post(repay, coin="BTC", amount="0.02") == {"resultStatus": "SU"}
    assert desk.post(repay, coin="BTC") == {"resultStatus": "SU"}
    assert desk.account.owed == {"BTC": D("0.02")}, "what the free balance allowed"
    desk.post("order/cancel-all", category="spot")
    desk.post(repay, coin="BTC")
    assert desk.call("POST", repay, coin="BTC").code == 34022041
    assert desk.call("POST", "account/repay", coin="BTC").code == 34022041
    assert log(desk, "REPAY")[0] == ("REPAY", "BTC", "-0.02")
    assert desk.balance("BTC") == D("0.1")
    assert conserved(desk)


def spend_dollars(desk, *, borrowed):
    """Borrow dollars, buy BTC and leave 400: too little to repay from the balance."""
    desk.post("account/borrow", coin="USDT", amount=borrowed)
    desk.order("Buy", "0.1", category="spot", marketUnit="baseCoin")
    free = D(desk.get("account/withdrawal", coinName="USDT")["availableWithdrawal"])
    desk.post("asset/transfer/inter-transfer", transferId="away", coin="USDT",
              amount=str(free - 400), fromAccountType="UNIFIED", toAccountType="FUND")  # fmt: skip


def test_repaying_with_conversion_sells_other_coins_at_a_fee(desk):
    """What dollars cannot repay is bought with BTC at index, .1 % of them being the fee."""
    spend_dollars(desk, borrowed="1000")
    own = desk.balance("USDT")
    assert own == 400
    held, fees = desk.balance("BTC"), desk.venue.exchange.ledger.balance("fees", "BTC")
    assert (
        desk.call("POST", "account/no-convert-repay", coin="USDT", amount="1000").code == 34022044
    )
    assert desk.post("account/repay", coin="USDT", amount="1000") == {"resultStatus": "SU"}
    assert desk.account.owed == {}
    assert desk.balance("USDT") == 0
    sold = held - desk.balance("BTC")
    assert abs(sold - (1000 - own) / 60000 / D("0.999")) < D("1E-9")
    paid = desk.venue.exchange.ledger.balance("fees", "BTC") - fees
    assert paid == (sold * D("0.001")).quantize(D("1E-10"))
    kinds = [row[0] for row in log(desk, "SPOT_REPAYMENT_SELL", "SPOT_REPAYMENT_BUY", "REPAY")]
    assert kinds == ["REPAY", "SPOT_REPAYMENT_SELL", "SPOT_REPAYMENT_BUY", "REPAY"]
    assert conserved(desk)


def test_repaying_everything_needs_no_coin(desk):
    desk.post("account/borrow", coin="USDT", amount="500")
    desk.post("account/borrow", coin="BTC", amount="0.01")
    assert desk.call("POST", "account/repay", amount="1").code == 10001
    desk.post("account/repay")
    assert desk.account.owed == {}
    assert (desk.balance("USDT"), desk.balance("BTC")) == (6000, D("0.1"))


def test_at_most_300000_dollars_are_converted(open_desk, quiet_scenario):
    scenario = quiet_scenario()
    rich = replace(scenario.accounts[0], unified={"BTC": D(50)})
    desk = open_desk(replace(scenario, accounts=(rich,)))
    desk.post("account/borrow", coin="USDT", amount="303000")
    desk.order("Buy", "5.03", category="spot", marketUnit="baseCoin")
    assert desk.balance("USDT") < 2900
    assert desk.call("POST", "account/repay", coin="USDT").code == 34022044
    desk.post("account/repay", coin="USDT", amount="200000")
    assert desk.account.owed == {"USDT": D(103000)}
    assert conserved(desk)


def rally(quiet_scenario):
    """BTC rises from 60,000 to 74,000 within a second: a short of .5 owes a thousand dollars."""
    jump = ((0, 60000), (1, 60000), (2, 74000))
    return replace(quiet_scenario(), prices={"BTC": jump, "ETH": ((0, 3000),)})


def test_quick_repayment_is_for_what_was_borrowed_by_itself(open_desk, quiet_scenario):
    """A losing short borrows dollars by itself; quick-repayment sells coins for them."""
    desk = open_desk(rally(quiet_scenario))
    desk.order("Sell", "0.5")
    desk.wait(3_000)
    owed = D(desk.get("spot-margin-trade/liability", currency="USDT")["derivativesBorrow"])
    assert D(900) < owed < D(1100)
    desk.post("account/borrow", coin="ETH", amount="0.001")
    assert desk.call("POST", "account/quick-repayment").code == 182120
    sold = desk.post("account/quick-repayment", coin="USDT")["list"]
    assert [row["coin"] for row in sold] == ["BTC"]
    assert D(sold[0]["repaymentQty"]) * 74000 > owed
    assert desk.get("spot-margin-trade/liability", currency="USDT")["totalBorrowAmount"] == "0"
    assert desk.call("POST", "account/quick-repayment", coin="ETH").code == 182120
    assert conserved(desk)


def test_nothing_is_repaid_while_interest_is_computed(open_desk):
    """mm 04:00 to 05:30 of every hour is blocked (34022035), the second before and after are not."""
    desk = open_desk(tick_ms=10_000)
    desk.post("account/borrow", coin="USDT", amount="1000")
    codes = {}
    for second in (239, 240, 300, 329, 330):
        until_minute(desk, second)
        codes[second] = [
            desk.call("POST", path, coin="USDT", **amount).code
            for path, amount in (
                ("account/no-convert-repay", {"amount": "1"}),
                ("account/repay", {"amount": "1"}),
                ("account/quick-repayment", {}),
            )
        ]
    blocked = [34022035, 34022035, 182120]
    assert codes == {239: [0, 0, 182120], 240: blocked, 300: blocked, 329: blocked,
                     330: [0, 0, 182120]}  # fmt: skip


def test_interest_is_charged_at_five_past_on_both_kinds_of_debt(open_desk):
    """Hourly rate × borrowed, out of the wallet, with a row of borrow-history and the log."""
    desk = open_desk(tick_ms=10_000)
    desk.post("account/borrow", coin="USDT", amount="1000")
    until_minute(desk, 299)
    assert desk.get("account/borrow-history")["list"] == []
    desk.wait(1_000)
    (row,) = desk.get("account/borrow-history", currency="USDT")["list"]
    assert (row["borrowAmount"], row["InterestBearingBorrowSize"]) == ("1000", "1000")
    assert D(row["borrowCost"]) == 1000 * D(row["hourlyBorrowRate"])
    assert isinstance(row["createdTime"], int)
    assert row["createdTime"] % HOUR == 300_000
    assert desk.balance("USDT") == 7000 - D(row["borrowCost"])
    assert coin(desk, "USDT")["accruedInterest"] == row["borrowCost"]
    assert desk.get("account/borrow-history", currency="BTC")["list"] == []
    desk.wait(3 * HOUR)
    page = desk.get("account/borrow-history", limit=2)
    assert len(page["list"]) == 2
    rest = desk.get("account/borrow-history", limit=2, cursor=page["nextPageCursor"])
    assert len(rest["list"]) == 2
    assert rest["nextPageCursor"] == ""
    assert conserved(desk)


def test_auto_repay_uses_the_balance_each_half_hour(open_desk):
    desk = open_desk(tick_ms=10_000)
    mode = "spot-margin-trade/set-auto-repay-mode"
    assert desk.post(mode, currency="USDT", autoRepayMode="1")["data"] == [
        {"currency": "USDT", "autoRepayMode": "1"}
    ]
    desk.post("account/borrow", coin="USDT", amount="1000")
    until_minute(desk, 1799)
    assert desk.account.owed
    desk.wait(1_000)
    assert desk.account.owed == {}
    desk.post(mode, autoRepayMode="0")
    rows = desk.get("spot-margin-trade/get-auto-repay-mode")["data"]
    assert {r["autoRepayMode"] for r in rows} == {"0"}
    desk.post("account/borrow", coin="USDT", amount="10")
    desk.wait(HOUR)
    assert desk.account.owed, "nothing repays any more"
    for on in "1010101":
        desk.post(mode, autoRepayMode=on)
    assert len(desk.venue.exchange.jobs.waiting) == 1, "however often it is switched"
    assert desk.call("POST", mode, autoRepayMode="2").code == 10001


def test_spot_margin_can_be_switched_off_without_debt(desk):
    switch = "spot-margin-trade/switch-mode"
    desk.post("account/borrow", coin="USDT", amount="10")
    assert desk.call("POST", switch, spotMarginMode="0").code == 176039
    desk.post("account/repay")
    assert desk.post(switch, spotMarginMode="0") == {"spotMarginMode": "0"}
    assert desk.call("POST", "account/borrow", coin="USDT", amount="10").code == 34022036
    assert desk.call("POST", "spot-margin-trade/set-leverage", leverage="4").code == 176038
    assert desk.get("spot-margin-trade/state")["spotLeverage"] == ""
    desk.post(switch, spotMarginMode="1")
    desk.post("spot-margin-trade/set-leverage", leverage="4")
    assert desk.get("spot-margin-trade/state")["spotLeverage"] == "4"
    assert desk.call("POST", "spot-margin-trade/set-leverage", leverage="11").code == 176034
    assert desk.get("spot-margin-trade/coinstate", currency="BTC")["list"] == [
        {"currency": "BTC", "spotLeverage": "4"}
    ]


def test_pay_info_says_what_could_repay(desk):
    desk.post("account/borrow", coin="USDT", amount="100")
    info = desk.get("account/pay-info", coin="USDT")
    assert info["borrowInfo"] == {
        "borrowSize": "100", "borrowValue": "100", "assetFrozen": "0", "availableBalance": "6100",
        "coin": "USDT",
    }  # fmt: skip
    rows = {r["coin"]: r for r in info["collateralInfo"]["collateralList"]}
    assert rows["BTC"]["availableValue"] == "6000"
    assert "coin" not in desk.get("account/pay-info")["borrowInfo"]
    assert desk.call("GET", "account/pay-info", coin="BTC").code == 182102


def test_a_spot_order_may_borrow_what_the_check_says(desk):
    """max = own free balance plus what could be borrowed, in base for quantities, else quote."""
    check = desk.get("order/spot-borrow-check", category="spot", symbol="BTCUSDT", side="Buy")
    own, most = D(check["spotMaxTradeAmount"]), D(check["maxTradeAmount"])
    loan = D(desk.get("spot-margin-trade/max-borrowable", currency="USDT")["maxLoan"])
    assert (own, most, check["borrowCoin"]) == (6000, 6000 + loan, "USDT")
    sell = desk.get("order/spot-borrow-check", category="spot", symbol="BTCUSDT", side="Sell")
    assert (sell["spotMaxTradeQty"], sell["borrowCoin"]) == ("0.1", "BTC")


def test_liquidation_repays_what_was_borrowed_by_hand(open_desk, quiet_scenario):
    """Margin that no longer covers: coins are sold, the debt is gone, nobody's money is lost."""
    fall = ((0, 60000), (1, 60000), (40, 5000))
    desk = open_desk(replace(quiet_scenario(), prices={"BTC": fall, "ETH": ((0, 3000),)}))
    desk.post("account/borrow", coin="USDT", amount="9000")
    desk.order("Buy", "0.24", category="spot", marketUnit="baseCoin")
    desk.until(40_000)
    assert desk.account.margin_liquidated_ms > 0
    assert desk.account.owed == {}
    assert desk.balance("USDT") >= 0
    assert desk.balance("BTC") >= 0
    kinds = {r["type"] for r in desk.get("account/transaction-log", limit=50)["list"]}
    assert {"BORROW", "CURRENCY_SELL", "CURRENCY_BUY", "REPAY"} <= kinds
    assert conserved(desk)


def test_insurance_writes_off_what_nothing_is_left_to_repay(open_desk, quiet_scenario):
    gap = ((0, 60000), (1, 60000), (1.1, 600))
    desk = open_desk(replace(quiet_scenario(), prices={"BTC": gap, "ETH": ((0, 3000),)}))
    before = desk.venue.exchange.ledger.balance("insurance", "USDT")
    desk.post("account/borrow", coin="USDT", amount="9000")
    desk.order("Buy", "0.24", category="spot", marketUnit="baseCoin")
    desk.until(3_000)
    assert desk.account.owed == {}
    assert desk.venue.exchange.ledger.balance("insurance", "USDT") < before
    assert desk.venue.exchange.ledger.coins(desk.account.unified) == {}
    assert conserved(desk)


def test_borrow_rates_of_the_past_are_hourly(desk):
    rows = desk.get("spot-margin-trade/interest-rate-history", currency="USDT")["list"]
    assert len(rows) == 168
    stamps = [r["timestamp"] for r in rows]
    assert stamps == sorted(stamps, reverse=True)
    assert {a - b for a, b in itertools.pairwise(stamps)} == {HOUR}
    some = desk.get(
        "spot-margin-trade/interest-rate-history", currency="USDT",
        startTime=stamps[5], endTime=stamps[3],
    )["list"]  # fmt: skip
    assert [r["timestamp"] for r in some] == stamps[3:6]
