"""Money is conserved over everything that an account can do beside trading, slowly or at once."""

import random
from dataclasses import replace
from decimal import Decimal as D

import pytest

from hedgelock.simulator.scenarios import SCENARIOS

COINS = ("USDT", "BTC", "ETH", "USDC", "DOGE")


def wander(desk, dice, number):
    """One action, sensible or not; returns its answer."""
    coin, other = dice.choice(COINS), dice.choice(COINS)
    amount = f"{dice.randint(1, 4000) / dice.choice((1, 7, 3000)):.{dice.choice((2, 8))}f}"
    pockets = ["UNIFIED", "FUND"]
    dice.shuffle(pockets)
    pledge = [{"currency": "BTC", "amount": "0.01"}] if dice.random() < 0.3 else []
    loans = [loan.loan_id for loan in desk.account.fixed_loans] or ["0"]
    actions = [
        ("asset/transfer/inter-transfer", {
            "transferId": f"t{number}", "coin": coin, "amount": amount,
            "fromAccountType": pockets[0], "toAccountType": pockets[1]}),
        ("account/borrow", {"coin": coin, "amount": amount}),
        ("account/repay", {"coin": coin} if dice.random() < 0.7 else {}),
        ("account/no-convert-repay", {"coin": coin, "amount": amount}),
        ("account/quick-repayment", {}),
        ("account/set-collateral-switch", {
            "coin": other, "collateralSwitch": dice.choice(("ON", "OFF"))}),
        ("spot-margin-trade/set-auto-repay-mode", {"autoRepayMode": dice.choice("01")}),
        ("crypto-loan-flexible/borrow", {
            "loanCurrency": "USDT", "loanAmount": amount, "collateralList": pledge}),
        ("crypto-loan-flexible/repay", {"loanCurrency": "USDT", "amount": amount}),
        ("crypto-loan-flexible/repay-collateral", {
            "loanCurrency": "USDT", "amount": amount, "collateralCoin": "BTC,ETH"}),
        ("crypto-loan-common/adjust-ltv", {
            "currency": coin, "amount": "0.01", "direction": dice.choice("01")}),
        ("crypto-loan-fixed/borrow", {
            "orderCurrency": "USDT", "orderAmount": amount, "annualRate": "0.06", "term": "7",
            "repayType": dice.choice("12")}),
        ("crypto-loan-fixed/fully-repay", {"loanId": dice.choice(loans)}),
        ("crypto-loan-fixed/repay-collateral", {
            "loanId": dice.choice(loans), "loanCurrency": "USDT", "amount": amount,
            "collateralCoin": "BTC"}),
        ("order/create", {
            "category": "linear", "symbol": "BTCUSDT", "side": dice.choice(("Buy", "Sell")),
            "orderType": "Market", "qty": "0.05"}),
        ("order/create", {
            "category": "spot", "symbol": "BTCUSDT", "side": dice.choice(("Buy", "Sell")),
            "orderType": "Market", "qty": "0.0123", "marketUnit": "baseCoin"}),
    ]  # fmt: skip
    path, params = dice.choice(actions)
    return desk.call("POST", path, **params)


@pytest.mark.no_cover
@pytest.mark.parametrize("processing_ms", [0, 2_500])
def test_money_is_conserved_over_an_accounts_life(open_desk, processing_ms):
    """After every single action the sum over all holders is 0 per coin; debts are claims."""
    whipsaw = SCENARIOS["whipsaw"]
    rich = [
        replace(a, fund={"USDT": whipsaw.accounts[0].unified["USDT"]}) for a in whipsaw.accounts
    ]
    desk = open_desk(replace(whipsaw, accounts=tuple(rich)), seed=4, tick_ms=500)
    x = desk.venue.exchange
    x.loan_processing_ms = x.transfer_processing_ms = processing_ms
    dice = random.Random(17)
    done = 0
    for number in range(2_000):
        desk.who = dice.choice(("hedgelock-sim", "unprotected-sim"))
        done += wander(desk, dice, number).code == 0
        desk.wait(dice.randint(1, 900))
        assert all(total == 0 for total in x.ledger.totals().values()), number
    assert done > 400
    desk.wait(10_000)
    assert all(total == 0 for total in x.ledger.totals().values())
    for account in x.accounts.values():
        assert all(debt > 0 for debt in account.owed.values())
        assert x.ledger.coins(account.transit) == {}, "nothing stays on its way"


def test_the_log_adds_up_to_the_wallet_whatever_is_borrowed(open_desk):
    """Opening balance + Σ change = wallet, per coin, with BORROW, REPAY and conversions in it."""
    desk = open_desk("whipsaw", seed=6, tick_ms=500)
    dice = random.Random(5)
    opening = {
        (a.name, c): v
        for a in desk.venue.exchange.accounts.values()
        for c, v in desk.venue.exchange.ledger.coins(a.unified).items()
    }
    for number in range(1_000):
        desk.who = dice.choice(("hedgelock-sim", "unprotected-sim"))
        wander(desk, dice, number)
        desk.wait(dice.randint(1, 900))
    for account in desk.venue.exchange.accounts.values():
        kinds = {r["type"] for r in account.log}
        assert {"BORROW", "REPAY"} <= kinds
        for coin in COINS:
            changes = sum(
                (D(r["change"]) for r in account.log if r["currency"] == coin),
                opening.get((account.name, coin), D(0)),
            )
            assert changes == desk.venue.exchange.ledger.balance(account.unified, coin), coin
