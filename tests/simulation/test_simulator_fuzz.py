"""Nonsense in any parameter of any route is refused or served, and never breaks the exchange."""

import random

import pytest

from hedgelock.simulator.venue import PRIVATE, PUBLIC

NAMES = (
    "category", "symbol", "side", "orderType", "qty", "price", "timeInForce", "orderLinkId",
    "orderId", "reduceOnly", "closeOnTrigger", "positionIdx", "triggerPrice", "marketUnit",
    "isLeverage", "limit", "cursor", "startTime", "endTime", "start", "end", "interval", "openOnly",
    "settleCoin", "baseCoin", "accountType", "coin", "coinName", "currency", "transferId",
    "amount", "fromAccountType", "toAccountType", "loanCurrency", "loanAmount", "direction",
    "collateralCoin", "collateralList", "buyLeverage", "sellLeverage", "execType", "type",
    "adjustId", "repayId", "status",
)  # fmt: skip
VALUES = (
    "linear", "inverse", "spot", "option", "BTCUSDT", "BTCUSD", "ETHUSDT", "Buy", "Sell", "Market",
    "Limit", "GTC", "IOC", "FOK", "PostOnly", "0", "1", "0.01", "-1", "1e-05", "1e99", "1E+15",
    "999999999999999", "60000", "59990.1", "nan", "Infinity", "", " ", "é", "x" * 40, "true", "D",
    "60", "UNIFIED", "FUND", "USDT", "BTC", "quoteCoin", "baseCoin", "9" * 16, "9" * 30, "0.1%3A1",
    None, True, False, 0, 1, -5, 0.5, 1e300, [], {}, [{}], [{"currency": "BTC", "amount": "1"}],
    {"currency": "BTC", "amount": "nope"}, [1], {"a": 1},
)  # fmt: skip
GOOD = {
    "category": "linear", "symbol": "BTCUSDT", "side": "Sell", "orderType": "Market", "qty": "0.01",
    "accountType": "UNIFIED", "coin": "USDT", "coinName": "USDT", "currency": "BTC",
    "transferId": "t", "amount": "1", "fromAccountType": "UNIFIED", "toAccountType": "FUND",
    "loanCurrency": "USDT", "loanAmount": "10", "direction": "0", "collateralCoin": "BTC",
    "buyLeverage": "5", "sellLeverage": "5", "interval": "5",
}  # fmt: skip
ROUTES = [*(("GET", path) for path in PUBLIC), *PRIVATE]


@pytest.mark.parametrize("seed", range(3))
def test_nonsense_never_breaks_the_exchange(open_desk, seed):
    dice = random.Random(seed)
    desk = open_desk("whipsaw", seed=seed)
    served = 0
    for number in range(2_000):
        method, path = dice.choice(ROUTES)
        params = {**GOOD, "transferId": f"t{number}"} if dice.random() < 0.8 else {}
        for name in dice.sample(NAMES, dice.randint(0, 4)):
            params[name] = dice.choice(VALUES)
        desk.who = dice.choice(("hedgelock-sim", "unprotected-sim"))
        reply = desk.call(method, path.removeprefix("/v5/"), **params)
        served += reply.code == 0
        assert reply.code == 0 or reply.message
        if number % 20 == 0:
            desk.wait(100)
    assert served > 300
    x = desk.venue.exchange
    assert all(total == 0 for total in x.ledger.totals().values())
    assert all(b >= 0 for h, _, b in x.ledger.entries() if h.endswith(("/FUND", "/LOAN")))
