"""The crypto loan: borrow, repay, adjust, interest; and transfers between the pockets."""

from decimal import Decimal as D

import pytest


def loan(desk):
    return desk.get("crypto-loan-common/position")


def fund(desk, coin, amount, number=[0]):  # noqa: B006
    number[0] += 1
    desk.post(
        "asset/transfer/inter-transfer", transferId=f"fund-{number[0]}", coin=coin, amount=amount,
        fromAccountType="UNIFIED", toAccountType="FUND",
    )  # fmt: skip


def test_position_shows_debt_collateral_and_ltv(desk):
    position = loan(desk)
    assert position["borrowList"][0]["loanCurrency"] == "USDT"
    assert position["collateralList"] == [{"currency": "BTC", "amount": "1", "amountUSD": "60000"}]
    assert position["ltv"] == "0.55"
    assert (position["totalDebt"], position["colRes"]) == ("33000", "0")


def test_repay_from_fund_interest_first(desk):
    repay = {"loanCurrency": "USDT", "amount": "2000"}
    assert desk.call("POST", "crypto-loan-flexible/repay", **repay).code == 148029
    fund(desk, "USDT", "2500")
    repay_id = desk.post("crypto-loan-flexible/repay", **repay)["repayId"]
    assert loan(desk)["totalDebt"] == "31000"
    assert desk.balance("USDT", "FUND") == 500
    rows = desk.get("crypto-loan-flexible/repayment-history", repayId=repay_id)["list"]
    assert [(r["repayAmount"], r["repayStatus"], r["repayType"]) for r in rows] == [("2000", 1, 1)]
    assert isinstance(rows[0]["repayTime"], int)
    assert desk.call(
        "POST", "crypto-loan-flexible/repay", loanCurrency="USDT", amount="40000"
    ).code == 148038  # fmt: skip
    assert desk.call(
        "POST", "crypto-loan-flexible/repay", loanCurrency="USDC", amount="1"
    ).code == 148032  # fmt: skip


def test_borrow_up_to_the_initial_ltv_into_fund(desk):
    borrow = "crypto-loan-flexible/borrow"
    assert desk.call("POST", borrow, loanCurrency="USDT", loanAmount="15001").code == 148009
    order_id = desk.post(borrow, loanCurrency="USDT", loanAmount="15000")["orderId"]
    assert loan(desk)["ltv"] == "0.8"
    assert desk.balance("USDT", "FUND") == 15000
    rows = desk.get("crypto-loan-flexible/borrow-history")["list"]
    assert [(r["orderId"], r["initialLoanAmount"], r["status"]) for r in rows] == [
        (order_id, "15000", 1)
    ]
    fund(desk, "BTC", "0.05")
    pledge = [{"currency": "BTC", "amount": "0.05"}]
    desk.post(borrow, loanCurrency="USDT", loanAmount="2000", collateralList=pledge)
    assert loan(desk)["collateralList"][0]["amount"] == "1.05"
    assert desk.call("POST", borrow, loanCurrency="BTC", loanAmount="1").code == 148001
    assert desk.call("POST", borrow, loanCurrency="USDT", loanAmount="0.5").code == 148002


def test_collateral_is_added_and_taken_back(desk):
    adjust = "crypto-loan-common/adjust-ltv"
    add = {"currency": "BTC", "amount": "0.04", "direction": "0"}
    assert desk.call("POST", adjust, **add).code == 148012
    fund(desk, "BTC", "0.04")
    adjust_id = desk.post(adjust, **add)["adjustId"]
    assert isinstance(adjust_id, int)
    (row,) = desk.get("crypto-loan-common/adjustment-history", adjustId=adjust_id)["list"]
    assert (row["direction"], row["status"], row["preLTV"]) == (0, 1, "0.55")
    assert D(row["afterLTV"]) == D("0.528846")
    most = desk.get("crypto-loan-common/max-collateral-amount", currency="BTC")
    assert D(most["maxCollateralAmount"]) == (D("1.04") - D(33000) / D("0.85") / 60000).quantize(
        D("1E-8"), rounding="ROUND_DOWN"
    )
    take = {"currency": "BTC", "direction": "1"}
    assert desk.call("POST", adjust, amount="0.5", **take).code == 148009
    desk.post(adjust, amount="0.3", **take)
    assert desk.balance("BTC", "FUND") == D("0.3")


def test_repaying_with_collateral_costs_the_fee(desk):
    desk.post(
        "crypto-loan-flexible/repay-collateral", loanCurrency="USDT", amount="6000",
        collateralCoin="BTC",
    )  # fmt: skip
    position = loan(desk)
    assert position["totalDebt"] == "27000"
    assert position["collateralList"][0]["amount"] == "0.898"
    assert all(v == 0 for v in desk.venue.exchange.ledger.totals().values())


def test_interest_compounds_hourly_at_the_hour(open_desk):
    desk = open_desk(tick_ms=10_000)
    hour = 3_600_000
    desk.wait(hour - desk.now_ms % hour - 1)
    assert loan(desk)["totalDebt"] == "33000"
    desk.wait(1)
    (coin,) = desk.get("crypto-loan-flexible/ongoing-coin")["list"]
    assert D(coin["totalDebt"]) == 33000 + D(coin["unpaidInterest"])
    assert D(coin["unpaidInterest"]) == (33000 * D(coin["hourlyInterestRate"])).quantize(D("1E-10"))
    fund(desk, "USDT", "100")
    desk.post("crypto-loan-flexible/repay", loanCurrency="USDT", amount="100")
    (coin,) = desk.get("crypto-loan-flexible/ongoing-coin")["list"]
    assert coin["unpaidInterest"] == "0"


def test_a_transfer_id_works_once(desk):
    move = {
        "transferId": "one", "coin": "USDT", "amount": "10.5", "fromAccountType": "UNIFIED",
        "toAccountType": "FUND",
    }  # fmt: skip
    path = "asset/transfer/inter-transfer"
    assert desk.post(path, **move) == {"transferId": "one", "status": "SUCCESS"}
    assert desk.call("POST", path, **move).code == 131214
    assert desk.balance("USDT") == D("5989.5")
    assert desk.balance("USDT", "FUND") == D("10.5")
    rows = desk.get("asset/transfer/query-inter-transfer-list", transferId="one")["list"]
    assert [(r["amount"], r["status"]) for r in rows] == [("10.5", "SUCCESS")]
    back = {**move, "transferId": "two", "fromAccountType": "FUND", "toAccountType": "UNIFIED"}
    assert desk.call("POST", path, **{**back, "amount": "11"}).code == 131212
    desk.post(path, **back)
    log = desk.get("account/transaction-log", currency="USDT")["list"]
    assert [(r["type"], r["change"]) for r in log] == [
        ("TRANSFER_IN", "10.5"),
        ("TRANSFER_OUT", "-10.5"),
    ]
    assert [w["coin"][0]["coin"] for w in desk.pushed("wallet")] == ["USDT", "USDT"]


@pytest.mark.parametrize(
    "changes",
    [{"fromAccountType": "SPOT"}, {"coin": "DOGE"}, {"amount": "0"}, {"toAccountType": "UNIFIED"}],
)
def test_bad_transfers_are_refused(desk, changes):
    move = {
        "transferId": "bad", "coin": "USDT", "amount": "1", "fromAccountType": "UNIFIED",
        "toAccountType": "FUND",
    }  # fmt: skip
    assert desk.call("POST", "asset/transfer/inter-transfer", **{**move, **changes}).code != 0


def test_balances_of_both_pockets(desk):
    fund(desk, "USDT", "1000")
    rows = desk.get("asset/transfer/query-account-coins-balance", accountType="FUND")["balance"]
    assert [(r["coin"], r["walletBalance"]) for r in rows] == [("USDT", "1000")]
    path = "asset/transfer/query-account-coins-balance"
    assert desk.call("GET", path, accountType="UNIFIED").code == 10001
    rows = desk.get(path, accountType="UNIFIED", coin="USDT,BTC")["balance"]
    assert [r["walletBalance"] for r in rows] == ["5000", "0.1"]
    path = "asset/transfer/query-account-coin-balance"
    one = desk.get(path, accountType="UNIFIED", coin="USDT")["balance"]
    assert (one["walletBalance"], one["transferSafeAmount"]) == ("5000", "")
    one = desk.get(path, accountType="UNIFIED", coin="USDT", withTransferSafeAmount="1")["balance"]
    assert one["transferSafeAmount"] == "5000"


def test_coins_locked_by_spot_orders_cannot_leave(desk):
    desk.order("Sell", "0.06", category="spot", price="61000")
    free = desk.get("account/withdrawal", coinName="BTC,USDT,ETH")["availableWithdrawalMap"]
    assert free == {"BTC": "0.04", "USDT": "6000", "ETH": "0"}


@pytest.mark.parametrize("pledge", [1, "x", [1], [{"currency": "BTC"}], [{"amount": "1"}]])
def test_malformed_pledges_are_refused(desk, pledge):
    loan = {"loanCurrency": "USDT", "loanAmount": "10", "collateralList": pledge}
    assert desk.call("POST", "crypto-loan-flexible/borrow", **loan).code == 10001
