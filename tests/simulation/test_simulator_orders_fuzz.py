"""Order requests with any field missing, odd or of a wrong type: an answer, never a crash."""

import random

import pytest

from hedgelock.simulator.keys import KeyTerms
from hedgelock.simulator.orders import OPEN_STATUSES

SYMBOLS = (("linear", "BTCUSDT"), ("inverse", "BTCUSD"), ("spot", "BTCUSDT"), ("linear", "NOPE"))
ODD = (
    None, "", "0", "-1", "nan", "NaN", "1e-05", "1E+999", "inf", "0x10", "١", " 1", "9" * 40, 0, -1,
    1.5, True, [], ["1"], {}, {"a": 1}, "\u0000", "Buy", "true",
)  # fmt: skip
PLAIN = {
    "side": ("Buy", "Sell"), "orderType": ("Market", "Limit"), "qty": ("0", "0.01", "0.3", "100"),
    "price": ("59990", "60010", "61000"), "timeInForce": ("GTC", "IOC", "FOK", "PostOnly"),
    "reduceOnly": (True, False), "closeOnTrigger": (True, False), "positionIdx": (0,),
    "triggerPrice": ("", "59500", "60500"), "triggerDirection": (1, 2),
    "triggerBy": ("LastPrice", "MarkPrice", "IndexPrice"), "takeProfit": ("", "0", "58000", "62000"),
    "stopLoss": ("", "0", "58000", "62000"), "tpslMode": ("Full", "Partial"),
    "smpType": ("None", "CancelMaker", "CancelTaker", "CancelBoth"),
    "slippageToleranceType": ("TickSize", "Percent"), "slippageTolerance": ("1", "5"),
    "marketUnit": ("baseCoin", "quoteCoin"), "orderFilter": ("Order", "StopOrder", "tpslOrder"),
    "mode": (0, 3), "coin": ("USDT",), "tpSize": ("0.01",), "slSize": ("0.01",),
    "tpOrderType": ("Market", "Limit"), "slOrderType": ("Market", "Limit"),
    "tpLimitPrice": ("61000",), "slLimitPrice": ("59000",), "trailingStop": ("0", "100"),
    "activePrice": ("60500",), "settleCoin": ("USDT",), "openOnly": (0, 1), "limit": (1, 50),
    "cursor": ("", "5%3A1%2C5%3A1"), "timeWindow": (10, 300), "product": ("DERIVATIVES", "SPOT"),
    "modifyEnable": (True, False), "buyLeverage": ("5",), "sellLeverage": ("5",),
}  # fmt: skip
SINGLE = {
    "order/create": ("side", "orderType", "qty"), "order/amend": (), "order/cancel": (),
    "order/pre-check": ("side", "orderType", "qty"), "position/trading-stop": ("positionIdx",),
}  # fmt: skip
OTHER = {
    "POST": (
        "order/cancel-all", "position/switch-mode", "position/set-leverage",
        "account/set-limit-px-action", "order/disconnected-cancel-all",
    ),
    "GET": (
        "order/realtime", "order/history", "execution/list", "position/list",
        "position/closed-pnl", "position/symbol-info", "account/query-dcp-info",
        "market/price-limit",
    ),
}  # fmt: skip


def order_fields(desk, dice, needed=()):
    """Some fields with sensible values, now and then one with an odd one."""
    names = {*needed, *dice.sample(sorted(PLAIN), dice.randint(0, 6))}
    fields = {name: dice.choice(PLAIN[name]) for name in names}
    category, symbol = dice.choice(SYMBOLS)
    fields |= {"category": category, "symbol": symbol}
    known = [o.order_id for o in desk.account.orders[-9:]]
    if dice.random() < 0.8 and known:
        fields["orderId"] = dice.choice(known)
    if dice.random() < 0.5:
        fields["orderLinkId"] = f"z{dice.randint(0, 60)}"
    if dice.random() < 0.35:
        fields[dice.choice(sorted(fields))] = dice.choice(ODD)
    return fields


def request(desk, dice):
    kind = dice.random()
    if kind < 0.6:
        path = dice.choice(sorted(SINGLE))
        return "POST", path, order_fields(desk, dice, SINGLE[path])
    if kind < 0.8:
        path = dice.choice(("order/create-batch", "order/amend-batch", "order/cancel-batch"))
        items = [order_fields(desk, dice, SINGLE["order/create"]) for _ in range(dice.randint(0, 4))]
        if dice.random() < 0.2:
            items = dice.choice(ODD)
        return "POST", path, {"category": dice.choice(SYMBOLS)[0], "request": items}
    method = dice.choice(("GET", "POST"))
    return method, dice.choice(OTHER[method]), order_fields(desk, dice)


@pytest.mark.no_cover
@pytest.mark.parametrize("seed", range(4))
def test_any_order_request_is_answered(open_desk, seed):
    """Every answer is a code; what is open and what rests stays consistent; money is conserved."""
    desk = open_desk("whipsaw", seed=seed)
    desk.account.terms = KeyTerms(dcp=True)
    dice = random.Random(seed)
    codes = []
    for _ in range(700):
        desk.who = dice.choice(("hedgelock-sim", "unprotected-sim"))
        method, path, params = request(desk, dice)
        codes.append(desk.call(method, path, **params).code)
        if dice.random() < 0.3:
            desk.wait(dice.randint(1, 400))
    assert codes.count(0) > 100
    assert len(set(codes)) > 9, sorted(set(codes))
    x = desk.venue.exchange
    assert all(total == 0 for total in x.ledger.totals().values())
    for account in x.accounts.values():
        for order in account.orders:
            assert (order.status in OPEN_STATUSES) is (order.order_id in account.open_orders)
            assert 0 <= order.filled_lots <= order.lots, order
            rests = order.status in {"New", "PartiallyFilled"}
            assert (order.order_id in x.resting) is rests
