"""The crypto loan takes time, has limits, and comes in fixed terms too."""

from dataclasses import replace
from decimal import Decimal as D

import pytest

HOUR, DAY = 3_600_000, 86_400_000
FLEX, COMMON, FIXED = "crypto-loan-flexible", "crypto-loan-common", "crypto-loan-fixed"


def fund(desk, coin, amount):
    desk.post("asset/transfer/inter-transfer", transferId=f"{coin}-{amount}-{desk.now_ms}",
              coin=coin, amount=amount, fromAccountType="UNIFIED", toAccountType="FUND")  # fmt: skip


def conserved(desk):
    return all(total == 0 for total in desk.venue.exchange.ledger.totals().values())


def debt(desk):
    return D(desk.get(f"{COMMON}/position")["totalDebt"])


@pytest.fixture
def slow(desk):
    """A desk whose loan actions take two seconds."""
    fund(desk, "USDT", "3000")
    fund(desk, "BTC", "0.05")
    desk.venue.exchange.loan_processing_ms = 2_000
    return desk


def test_a_repayment_is_processed_before_it_counts(slow):
    """The coins leave FUND at once; debt and status change at the end; meanwhile 148021."""
    repay_id = slow.post(f"{FLEX}/repay", loanCurrency="USDT", amount="1000")["repayId"]
    assert slow.balance("USDT", "FUND") == 2000
    assert debt(slow) == 33000
    for path, params in (
        (f"{FLEX}/repay", {"loanCurrency": "USDT", "amount": "1"}),
        (f"{FLEX}/borrow", {"loanCurrency": "USDT", "loanAmount": "1"}),
        (f"{COMMON}/adjust-ltv", {"currency": "BTC", "amount": "0.01", "direction": "0"}),
        (f"{FLEX}/repay-collateral", {"loanCurrency": "USDT", "amount": "1",
                                      "collateralCoin": "BTC"}),
    ):  # fmt: skip
        assert slow.call("POST", path, **params).code == 148021
    row = slow.get(f"{FLEX}/repayment-history", repayId=repay_id)["list"][0]
    assert (row["repayStatus"], row["repayAmount"]) == (2, "1000")
    slow.wait(1_999)
    assert debt(slow) == 33000
    slow.wait(1)
    row = slow.get(f"{FLEX}/repayment-history", repayId=repay_id)["list"][0]
    assert (row["repayStatus"], row["repayType"]) == (1, 1)
    assert debt(slow) == 32000
    assert conserved(slow)


def test_a_borrowing_pays_out_when_it_is_done(slow):
    pledge = [{"currency": "BTC", "amount": "0.05"}]
    slow.post(f"{FLEX}/borrow", loanCurrency="USDT", loanAmount="500", collateralList=pledge)
    assert (slow.balance("USDT", "FUND"), slow.balance("BTC", "FUND")) == (3000, 0)
    assert slow.get(f"{FLEX}/borrow-history")["list"][0]["status"] == 2
    slow.wait(2_000)
    assert slow.balance("USDT", "FUND") == 3500
    assert debt(slow) == 33500
    assert slow.get(f"{FLEX}/borrow-history")["list"][0]["status"] == 1
    assert conserved(slow)


def test_a_borrowing_fails_where_the_price_fell_meanwhile(open_desk, quiet_scenario):
    """Status 3, no debt, and the pledge is back in FUND."""
    fall = ((0, 60000), (1, 60000), (2, 42000))
    desk = open_desk(replace(quiet_scenario(), prices={"BTC": fall, "ETH": ((0, 3000),)}))
    fund(desk, "BTC", "0.05")
    desk.venue.exchange.loan_processing_ms = 3_000
    pledge = [{"currency": "BTC", "amount": "0.05"}]
    desk.post(f"{FLEX}/borrow", loanCurrency="USDT", loanAmount="14000", collateralList=pledge)
    desk.wait(3_000)
    assert desk.get(f"{FLEX}/borrow-history")["list"][0]["status"] == 3
    assert debt(desk) == 33000
    assert (desk.balance("BTC", "FUND"), desk.balance("BTC", "LOAN")) == (D("0.05"), 1)
    assert conserved(desk)


def test_adjusting_shows_both_ltvs_when_it_is_done(slow):
    adjust_id = slow.post(f"{COMMON}/adjust-ltv", currency="BTC", amount="0.05", direction="0")[
        "adjustId"
    ]

    def row():
        return slow.get(f"{COMMON}/adjustment-history", adjustId=adjust_id)["list"][0]

    assert (row()["status"], row()["preLTV"], row()["afterLTV"]) == (2, "0.55", "")
    assert slow.balance("BTC", "FUND") == 0
    slow.wait(2_000)
    assert (row()["status"], D(row()["afterLTV"])) == (
        1,
        (D("0.55") / D("1.05")).quantize(D("1E-6")),
    )
    assert slow.balance("BTC", "LOAN") == D("1.05")


def test_taking_back_fails_where_the_price_fell_meanwhile(open_desk, quiet_scenario):
    fall = ((0, 60000), (1, 60000), (2, 42000))
    desk = open_desk(replace(quiet_scenario(), prices={"BTC": fall, "ETH": ((0, 3000),)}))
    desk.venue.exchange.loan_processing_ms = 3_000
    desk.post(f"{COMMON}/adjust-ltv", currency="BTC", amount="0.3", direction="1")
    desk.wait(3_000)
    row = desk.get(f"{COMMON}/adjustment-history")["list"][0]
    assert (row["status"], row["preLTV"], row["afterLTV"]) == (3, "0.55", "0.785714")
    assert desk.balance("BTC", "LOAN") == 1


def test_a_repayment_that_a_liquidation_overtook_comes_back(open_desk, quiet_scenario):
    gap = ((0, 60000), (1, 60000), (2, 30000))
    desk = open_desk(replace(quiet_scenario(), prices={"BTC": gap, "ETH": ((0, 3000),)}))
    fund(desk, "USDT", "3000")
    desk.venue.exchange.loan_processing_ms = 3_000
    desk.post(f"{FLEX}/repay", loanCurrency="USDT", amount="3000")
    desk.wait(3_000)
    assert desk.account.loan_liquidated_ms > 0
    rows = desk.get(f"{FLEX}/repayment-history")["list"]
    assert {r["repayType"]: r["repayStatus"] for r in rows} == {1: 3, 2: 1}
    assert desk.balance("USDT", "FUND") == 3000
    assert conserved(desk)


def test_repaying_with_collateral_is_in_the_history(slow):
    slow.post(f"{FLEX}/repay-collateral", loanCurrency="USDT", amount="6000", collateralCoin="BTC")
    assert slow.get(f"{FLEX}/repayment-history")["list"][0]["repayStatus"] == 2
    slow.wait(2_000)
    row = slow.get(f"{FLEX}/repayment-history")["list"][0]
    assert (row["repayStatus"], row["repayType"], row["repayAmount"]) == (1, 7, "6000")
    assert slow.balance("BTC", "LOAN") == 1 - D(6000) / 60000 * D("1.02")


def test_a_full_platform_takes_no_collateral(desk):
    """colRes 2: topping up and borrowing with a pledge are 148006; the rest goes on."""
    fund(desk, "BTC", "0.05")
    fund(desk, "USDT", "100")
    desk.venue.exchange.conditions.col_res = "2"
    assert desk.get(f"{COMMON}/position")["colRes"] == "2"
    add = {"currency": "BTC", "amount": "0.05"}
    assert desk.call("POST", f"{COMMON}/adjust-ltv", direction="0", **add).code == 148006
    pledged = {"loanCurrency": "USDT", "loanAmount": "10", "collateralList": [add]}
    assert desk.call("POST", f"{FLEX}/borrow", **pledged).code == 148006
    desk.post(f"{COMMON}/adjust-ltv", direction="1", **add)
    desk.post(f"{FLEX}/repay", loanCurrency="USDT", amount="100")
    desk.post(f"{FLEX}/borrow", loanCurrency="USDT", loanAmount="10")


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("borrow", {"loanCurrency": "BTC", "loanAmount": "1"}, 148001),
        ("borrow", {"loanCurrency": "USDT", "loanAmount": "0.5"}, 148002),
        ("borrow", {"loanCurrency": "USDT", "loanAmount": "1.000000001"}, 148003),
        ("borrow", {"loanCurrency": "USDT", "loanAmount": "1",
                    "collateralList": {"currency": "DOGE", "amount": "1"}}, 148004),
        ("borrow", {"loanCurrency": "USDT", "loanAmount": "1",
                    "collateralList": [{"ccy": "BTC", "amount": "0.000000001"}]}, 148005),
        ("borrow", {"loanCurrency": "USDT", "loanAmount": "1",
                    "collateralList": [{"ccy": "BTC", "amount": "1"}] * 2}, 148039),
        ("borrow", {"loanCurrency": "USDT", "loanAmount": "1",
                    "collateralList": [{"ccy": "BTC", "amount": "1"}]}, 148012),
        ("borrow", {"loanCurrency": "USDT", "loanAmount": "7990000"}, 148010),
        ("borrow", {"loanCurrency": "USDC", "loanAmount": "101"}, 148011),
        ("borrow", {"loanCurrency": "USDT", "loanAmount": "15001"}, 148009),
        ("repay", {"loanCurrency": "USDC", "amount": "1"}, 148032),
        ("repay", {"loanCurrency": "USDT", "amount": "33001"}, 148038),
        ("repay", {"loanCurrency": "USDT", "amount": "10"}, 148029),
        ("repay-collateral", {"loanCurrency": "USDT", "amount": "10",
                              "collateralCoin": "ETH"}, 148012),
    ],
)  # fmt: skip
def test_loan_actions_are_refused_with_their_code(desk, path, params, code):
    desk.venue.exchange.loan_pool["USDC"] = D(100)
    assert desk.call("POST", f"{FLEX}/{path}", **params).code == code
    assert debt(desk) == 33000
    assert desk.account.loan_busy is False


def test_the_pool_shrinks_with_every_loan(desk):
    desk.venue.exchange.loan_pool["USDT"] = D(100)
    desk.post(f"{FLEX}/borrow", loanCurrency="USDT", loanAmount="60")
    again = desk.call("POST", f"{FLEX}/borrow", loanCurrency="USDT", loanAmount="60")
    assert again.code == 148011


def test_max_loan_is_what_is_accepted(desk):
    """60,000 × .80 − 33,000 = 15,000; a pledge of .05 BTC adds 2,400."""
    path = f"{COMMON}/max-loan"
    assert desk.post(path, currency="USDT")["maxLoan"] == "15000"
    pledge = [{"ccy": "BTC", "amount": "0.05"}]
    assert desk.call("POST", path, currency="USDT", collateralList=pledge).code == 148012
    fund(desk, "BTC", "0.05")
    answer = desk.post(path, currency="USDT", collateralList=pledge)
    assert answer == {
        "currency": "USDT", "maxLoan": "17400", "notionalUsd": "17400",
        "remainingQuota": "7967000",
    }  # fmt: skip
    desk.post(f"{FLEX}/borrow", loanCurrency="USDT", loanAmount="17400", collateralList=pledge)
    assert desk.get(f"{COMMON}/position")["ltv"] == "0.8"
    assert desk.post(path, currency="USDT")["maxLoan"] == "0"
    assert desk.call("POST", path, currency="DOGE").code == 148001


def fixed(desk, **changes):
    params = {"orderCurrency": "USDT", "orderAmount": "3650", "annualRate": "0.1", "term": "30"}
    return desk.call("POST", f"{FIXED}/borrow", **(params | changes))


def contract(desk):
    return desk.get(f"{FIXED}/borrow-contract-info")["list"][0]


@pytest.fixture
def lent(open_desk):
    """A desk with a fixed loan of 3,650 USDT for 30 days at 10 % a year: 30 USDT of interest."""
    desk = open_desk(tick_ms=21_600_000)
    reply = fixed(desk)
    assert reply.code == 0, reply
    return desk


def test_a_fixed_loan_pays_its_interest_up_front(lent):
    """3,650 × .1 × 30 ÷ 365 = 30 stays with the lender; the principal is owed."""
    assert lent.balance("USDT", "FUND") == 3620
    row = contract(lent)
    assert (row["residualPrincipal"], row["interestPaid"], row["status"]) == ("3650", "30", 1)
    assert int(row["repaymentTime"]) - int(row["borrowTime"]) == 30 * DAY
    position = lent.get(f"{COMMON}/position")
    assert position["borrowList"][0]["fixedTotalDebt"] == "3650"
    assert position["borrowList"][0]["flexibleTotalDebt"] == "33000"
    assert position["totalDebt"] == "36650"
    order = lent.get(f"{FIXED}/borrow-order-info", state="3")["list"][0]
    assert (order["filledQty"], order["term"], type(order["orderId"])) == ("3650", 30, int)
    assert conserved(lent)


def test_a_cheap_offer_waits_and_can_be_cancelled(desk):
    order_id = fixed(desk, annualRate="0.01").result["orderId"]
    assert desk.get(f"{FIXED}/borrow-order-info", orderId=order_id)["list"][0]["state"] == 1
    assert debt(desk) == 33000
    desk.post(f"{FIXED}/borrow-order-cancel", orderId=order_id)
    cancel = f"{FIXED}/borrow-order-cancel"
    assert desk.call("POST", cancel, orderId=order_id).code == 148024
    assert desk.call("POST", cancel, orderId="1").code == 148023


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"term": "8"}, 148015), ({"orderCurrency": "BTC"}, 148001),
        ({"orderAmount": "20000"}, 148009), ({"repayType": "3"}, 10001),
        ({"annualRate": "0"}, 10001),
    ],
)  # fmt: skip
def test_fixed_loans_are_refused_with_their_code(desk, changes, code):
    assert fixed(desk, **changes).code == code
    assert desk.account.fixed_loans == []


def test_a_fixed_loan_is_repaid_in_full(lent):
    repay = f"{FIXED}/fully-repay"
    assert lent.call("POST", repay, loanCurrency="USDT").code == 148029
    fund(lent, "USDT", "30")
    repay_id = lent.post(repay, loanId=contract(lent)["loanId"])["repayId"]
    (row,) = lent.get(f"{FIXED}/repayment-history", repayId=repay_id)["list"]
    assert (row["repayAmount"], row["repayType"], row["repayStatus"]) == ("3650", 1, 1)
    assert row["details"][0]["loanId"] == contract(lent)["loanId"]
    assert contract(lent)["status"] == 2
    assert lent.call("POST", repay, loanCurrency="USDT").code == 148032
    assert lent.call("POST", repay).code == 10001
    assert debt(lent) == 33000
    lent.wait(31 * DAY)
    assert contract(lent)["status"] == 2
    assert conserved(lent)


def test_a_fixed_loan_is_repaid_with_collateral(lent):
    lent.post(f"{FIXED}/repay-collateral", loanCurrency="USDT", amount="650", collateralCoin="BTC")
    assert contract(lent)["residualPrincipal"] == "3000"
    too_much = {"loanCurrency": "USDT", "amount": "3001", "collateralCoin": "BTC"}
    assert lent.call("POST", f"{FIXED}/repay-collateral", **too_much).code == 148038
    assert lent.get(f"{FIXED}/repayment-history")["list"][0]["repayType"] == 7
    assert conserved(lent)


def test_when_due_it_is_repaid_from_fund(lent):
    """Type 1 takes the principal out of FUND at the instant of the term's end."""
    fund(lent, "USDT", "30")
    due = int(contract(lent)["repaymentTime"])
    lent.wait(due - 1 - lent.now_ms)
    assert contract(lent)["status"] == 1
    lent.wait(1)
    assert contract(lent)["status"] == 2
    assert lent.balance("USDT", "FUND") == 0
    assert lent.get(f"{FIXED}/repayment-history")["list"][0]["repayType"] == 3


def test_overdue_costs_three_times_the_rate_after_a_day_of_grace(lent):
    """30 USDT are missing in FUND: they stay owed, and each hour after the grace costs 3 × r."""
    due = int(contract(lent)["repaymentTime"])
    lent.wait(due - lent.now_ms + DAY)
    row = contract(lent)
    assert (row["status"], row["residualPrincipal"], row["residualPenaltyInterest"]) == (
        3, "30", "0",
    )  # fmt: skip
    lent.wait(2 * HOUR)
    hourly = (30 * D("0.1") / 365 / 24 * 3).quantize(D("1E-10"))
    assert abs(D(contract(lent)["residualPenaltyInterest"]) - 2 * hourly) < D("1E-9")
    fund(lent, "USDT", "40")
    lent.wait(HOUR)
    assert contract(lent)["status"] == 2
    kinds = [r["repayType"] for r in lent.get(f"{FIXED}/repayment-history")["list"]]
    assert kinds == [4, 3]
    assert conserved(lent)


def test_when_due_it_may_become_a_flexible_debt(open_desk):
    desk = open_desk(tick_ms=21_600_000)
    assert fixed(desk, repayType="2", term="7").code == 0
    desk.wait(7 * DAY)
    assert contract(desk)["status"] == 2
    assert desk.get(f"{FIXED}/repayment-history")["list"][0]["repayType"] == 8
    row = desk.get(f"{COMMON}/position")["borrowList"][0]
    assert row["fixedTotalDebt"] == "0"
    assert D(row["flexibleTotalDebt"]) > 36650
    assert conserved(desk)


def test_a_repaid_loan_can_be_renewed_once(lent):
    renew, loan_id = f"{FIXED}/renew", contract(lent)["loanId"]
    assert lent.call("POST", renew, loanId=loan_id).code == 148033
    fund(lent, "USDT", "30")
    lent.post(f"{FIXED}/fully-repay", loanId=loan_id)
    order_id = lent.post(renew, loanId=loan_id)["orderId"]
    row = contract(lent)
    assert (row["orderId"], row["residualPrincipal"], row["term"]) == (order_id, "3650", "30")
    info = lent.get(f"{FIXED}/renew-info")["list"][0]
    assert (info["loanId"], info["renewLoanNo"], info["amount"]) == (loan_id, row["loanId"], "3650")
    assert lent.call("POST", renew, loanId=loan_id).code == 148033
    assert lent.call("POST", renew, loanId="1").code == 148023


def test_liquidation_takes_fixed_loans_too(open_desk, quiet_scenario):
    fall = ((0, 60000), (1, 60000), (3, 37000))
    desk = open_desk(replace(quiet_scenario(), prices={"BTC": fall, "ETH": ((0, 3000),)}))
    fixed(desk)
    desk.until(4_000)
    assert desk.account.loan_liquidated_ms > 0
    assert debt(desk) == 0
    assert contract(desk)["status"] == 2
    assert desk.get(f"{FIXED}/repayment-history")["list"][0]["repayType"] == 2
    assert conserved(desk)


def test_offers_are_listed_by_term(desk):
    quotes = f"{FIXED}/borrow-order-quote"
    rows = desk.get(quotes, orderCurrency="USDT", orderBy="apy")["list"]
    assert [r["term"] for r in rows] == [7, 14, 30, 90, 180]
    assert [r["annualRate"] for r in rows] == sorted(r["annualRate"] for r in rows)
    down = desk.get(quotes, orderCurrency="USDT", orderBy="apy", sort=1, limit=1)["list"]
    assert [r["term"] for r in down] == [180]
    one = desk.get(quotes, orderCurrency="USDT", orderBy="term", term="30")["list"]
    assert [r["term"] for r in one] == [30]
    assert desk.get(quotes, orderCurrency="DOGE", orderBy="apy")["list"] == []
    assert desk.call("GET", quotes, orderCurrency="USDT", orderBy="x").code == 10001


def test_lending_out_is_not_simulated(desk):
    assert desk.call("POST", f"{FIXED}/supply", orderCurrency="USDT").code == 10017
    assert desk.call("POST", "crypto-loan/borrow", loanCurrency="USDT").code == 10017
