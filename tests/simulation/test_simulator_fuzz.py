"""Nonsense in any parameter of any route is refused or served, and never breaks the exchange."""

import json
import random

import pytest
from counter import ME, Counter

from hedgelock.simulator.drawn import drawn
from hedgelock.simulator.fault_kinds import Fault
from hedgelock.simulator.request import Request
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


@pytest.mark.no_cover
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


PATHS = [path for _, path in ROUTES] + ["/v5/", "/v5", "/", "", "/sim/faults", "/sim/state", "/x/v5/y"]
BODIES = (b"", b"{", b"[]", b"null", b'{"a":1}', b"\xff\xfe", b'"x"', b"{" * 2000, b'{"kind":1}')
OPS = (
    "auth", "subscribe", "unsubscribe", "ping", "order.create", "order.cancel", "order.create-batch",
    "order.amend-batch", "dance", "", 5,
)  # fmt: skip


def junk(dice):
    """A value that no exchange expects."""
    return dice.choice((*VALUES, [["x"]], [None, 1, {}], [ME, "²", "x"], [ME, "9" * 20, "é"], ["order"]))


@pytest.mark.no_cover
@pytest.mark.parametrize("seed", range(2))
def test_nonsense_on_the_wire_is_answered_or_dropped(seed):
    """Raw requests and frames under drawn faults: an answer or silence, never an exception."""
    dice = random.Random(seed)
    counter = Counter(scenario="whipsaw", limits_factor=1000)
    counter.gateway.faults = drawn(seed, heal_s=200)
    counter.gateway.faults.add(Fault("batch_partial", share=0.5, items=(0, 2)))
    kinds = ("/v5/private", "/v5/trade", "/v5/public/linear", "/v5/public/none")
    lines = [counter.line(kind) for kind in kinds]
    lines[0].auth()
    lines[1].auth()
    answered = 0
    for number in range(3_000):
        headers = {}
        if dice.random() < 0.7:
            headers = {
                "X-BAPI-API-KEY": dice.choice((ME, ME, "nobody", "é")),
                "X-BAPI-SIGN": dice.choice(("x" * 64, "é", "")),
                "X-BAPI-TIMESTAMP": dice.choice((str(counter.now_ms), "-1", "NaN", "9" * 5000, "²")),
                "X-BAPI-RECV-WINDOW": dice.choice(("5000", "²", "9" * 5000, "")),
            }  # fmt: skip
        target = dice.choice(PATHS) + dice.choice(("", "?", "?a=%zz&b", "?symbol=%00&limit=é"))
        method = dice.choice(("GET", "POST", "DELETE", "PUT"))
        request = Request(method, target, headers, dice.choice(BODIES), dice.choice("ab"))
        verdict = counter.gateway.arrive(request, counter.now_ms)
        reply = counter.gateway.http(request, counter.now_ms, verdict=verdict)
        assert reply.lost or reply.status in {200, 400, 403, 404, 429, 500, 502, 503, 504}
        answered += reply.status == 200
        if reply.batch is not None:
            counter.gateway.release(reply.batch)
        line = dice.choice(lines)
        if line.ended:
            lines[lines.index(line)] = counter.line(line.session.path)
            continue
        frame = {"op": dice.choice(OPS), "args": junk(dice), "header": junk(dice), "reqId": junk(dice)}
        raw = json.dumps(frame) if dice.random() < 0.8 else dice.choice(BODIES)
        line.session.receive(raw, counter.now_ms)
        if number % 10 == 0:
            counter.wait(100)
    assert answered > 500
    totals = counter.venue.exchange.ledger.totals()
    assert all(total == 0 for total in totals.values())
