"""ccxt 4.5 (async and pro), unmodified, doing a whole trading day: order kinds, errors, its end."""

import asyncio
import uuid

import ccxt.pro
import pytest
from test_clients_ccxt import INVERSE, LINEAR, SPOT, exchange, soon
from trading_day import LIMITS_FACTOR, scenario

pytestmark = pytest.mark.clients


async def trade_every_kind(x):
    """Market, limit, IOC, FOK, post-only, edited, cancelled, reducing, spot and inverse."""
    assert {LINEAR, SPOT, INVERSE} <= set(await x.load_markets())
    given = {"acknowledged": True}
    bought = await x.create_order(LINEAR, "market", "buy", 0.05)
    filled = await x.fetch_order(bought["id"], LINEAR, given)
    assert (filled["status"], filled["filled"]) == ("closed", 0.05)
    rests = await x.create_order(LINEAR, "limit", "buy", 0.01, 59500)
    edited = await x.edit_order(rests["id"], LINEAR, "limit", "buy", 0.02, 59400)
    assert edited["id"] == rests["id"]
    order = await x.fetch_order(rests["id"], LINEAR, given)
    assert (order["status"], order["price"], order["amount"]) == ("open", 59400, 0.02)
    await x.cancel_order(rests["id"], LINEAR)
    assert (await x.fetch_order(rests["id"], LINEAR, given))["status"] == "canceled"
    for tif in ("IOC", "FOK"):
        missed = await x.create_order(LINEAR, "limit", "buy", 0.01, 59500, {"timeInForce": tif})
        assert (await x.fetch_order(missed["id"], LINEAR, given))["status"] == "canceled"
    post = await x.create_order(LINEAR, "limit", "buy", 0.01, 59500, {"postOnly": True})
    assert (await x.fetch_order(post["id"], LINEAR, given))["timeInForce"] == "PO"
    await x.create_order(INVERSE, "market", "sell", 600)
    await x.create_order(INVERSE, "market", "buy", 600, None, {"reduceOnly": True})
    await x.create_order(SPOT, "market", "sell", 0.01)
    await x.create_order(SPOT, "limit", "buy", 0.001, 59500)
    assert len(await x.fetch_open_orders(SPOT)) == 1
    await x.cancel_all_orders(SPOT)
    await x.create_order(LINEAR, "market", "sell", 0.05, None, {"reduceOnly": True})
    (closed,) = await x.fetch_positions_history([LINEAR])
    assert closed["info"]["closedSize"] == "0.05"
    assert await x.fetch_my_trades(LINEAR)
    assert (await x.fetch_closed_orders(LINEAR))[-1]["status"] == "closed"
    assert (await x.fetch_canceled_orders(LINEAR))[-1]["status"] == "canceled"
    await x.cancel_all_orders(LINEAR)
    assert await x.fetch_open_orders(LINEAR) == []


async def trade_batches(x):
    """Batches of three with one failure each, which ccxt hands out at its index."""
    links = [uuid.uuid4().hex for _ in range(2)]
    orders = [
        {"symbol": LINEAR, "type": "limit", "side": "buy", "amount": 0.01, "price": 59500,
         "params": {"clientOrderId": link}}
        for link in (*links, links[0])
    ]  # fmt: skip
    made = await x.create_orders(orders)
    assert [bool(o["id"]) for o in made] == [True, True, False]
    assert made[2]["info"]["code"] == 110072
    edits = [
        {"symbol": LINEAR, "id": order_id, "type": "limit", "side": "buy", "amount": 0.01,
         "price": 59300}
        for order_id in (made[0]["id"], made[1]["id"], "nobody")
    ]  # fmt: skip
    edited = await x.edit_orders(edits)
    assert edited[2]["info"]["code"] == 110001
    gone = await x.cancel_orders([made[0]["id"], made[1]["id"]], LINEAR)
    assert [o["id"] for o in gone] == [made[0]["id"], made[1]["id"]]


async def trade_stops(x):
    """Trigger orders, attached stops and the position's own."""
    rising = {"triggerPrice": 61000, "triggerDirection": "ascending", "triggerBy": "MarkPrice"}
    stop = await x.create_order(LINEAR, "market", "buy", 0.01, None, rising)
    (listed,) = await x.fetch_open_orders(LINEAR, params={"trigger": True})
    assert (listed["id"], listed["triggerPrice"], listed["status"]) == (stop["id"], 61000, "open")
    await x.edit_order(stop["id"], LINEAR, "market", "buy", None, None, {"triggerPrice": 61500})
    await x.cancel_order(stop["id"], LINEAR, {"trigger": True})
    levels = {"stopLoss": {"triggerPrice": 63000}, "takeProfit": {"triggerPrice": 55000}}
    await x.create_order(LINEAR, "market", "sell", 0.01, None, levels)
    (position,) = await x.fetch_positions([LINEAR])
    assert (position["stopLossPrice"], position["takeProfitPrice"]) == (63000, 55000)
    loss = await x.create_order(LINEAR, "market", "buy", 0.01, None, {"stopLossPrice": 62000})
    await x.cancel_order(loss["id"], LINEAR)
    await x.create_order(LINEAR, "market", "buy", 0, None, {
        "stopLossPrice": 62500, "takeProfitPrice": 54000, "tradingStopEndpoint": True,
    })  # fmt: skip
    (position,) = await x.fetch_positions([LINEAR])
    assert (position["stopLossPrice"], position["takeProfitPrice"]) == (62500, 54000)
    await x.create_order(LINEAR, "market", "sell", 0.01, None, {"trailingAmount": "500"})
    assert (await x.fetch_position(LINEAR))["info"]["trailingStop"] == "500"
    await x.create_order(LINEAR, "market", "buy", 0.01, None, {"reduceOnly": True})
    assert await x.fetch_open_orders(LINEAR) == [], "the closed position took its stops along"


async def meet_every_error(x):
    """The errors that a trader meets most, as ccxt names them."""
    link = {"clientOrderId": uuid.uuid4().hex}
    await x.create_order(LINEAR, "limit", "buy", 0.01, 59500, link)
    falling = {"triggerPrice": 61000, "triggerDirection": "descending"}
    asked = [
        (x.create_order(LINEAR, "limit", "buy", 0.01, 59500, link), ccxt.InvalidOrder, "110072"),
        (x.set_leverage(10, LINEAR), ccxt.BadRequest, "110043"),
        (x.create_order(LINEAR, "market", "sell", 40), ccxt.InsufficientFunds, "110007"),
        (x.cancel_order("nobody", LINEAR), ccxt.OrderNotFound, "110001"),
        (x.edit_order("nobody", LINEAR, "limit", "buy", 1), ccxt.OrderNotFound, "110001"),
        (x.create_order(LINEAR, "limit", "buy", 0.001, 4000), ccxt.InvalidOrder, "110094"),
        (x.create_order(LINEAR, "market", "sell", 0.01, None, {"reduceOnly": True}),
         ccxt.InvalidOrder, "110017"),
        (x.create_order(LINEAR, "market", "sell", 0.01, None, {"positionIdx": 1}),
         ccxt.BadRequest, "10001"),
        (x.create_order(LINEAR, "market", "sell", 0.01, None, falling),
         ccxt.ExchangeError, "110093"),
        (x.create_order(SPOT, "market", "sell", 5), ccxt.InsufficientFunds, "170131"),
        (x.cancel_order("nobody", SPOT), ccxt.OrderNotFound, "170213"),
        (x.set_position_mode(False, LINEAR), ccxt.ExchangeError, "110025"),
        (x.cancel_all_orders_after(40_000), ccxt.PermissionDenied, "10005"),
    ]  # fmt: skip
    for awaitable, kind, code in asked:
        with pytest.raises(kind, match=code):
            await awaitable
    with pytest.raises(ccxt.InvalidOrder, match="minimum amount"):
        await x.create_order(LINEAR, "limit", "buy", 0.0001, 59500)
    await x.cancel_all_orders(LINEAR)
    order = {"symbol": LINEAR, "type": "limit", "side": "buy", "amount": 0.001, "price": 30000}
    for _ in range(25):
        await x.create_orders([order] * 20)
    with pytest.raises(ccxt.ExchangeError, match="110020"):
        await x.create_order(LINEAR, "limit", "buy", 0.001, 30000)
    await x.cancel_all_orders(LINEAR)


async def enter_by_socket(x):
    """Create, edit and cancel over the trade socket."""
    link = uuid.uuid4().hex
    given = {"clientOrderId": link}
    order = await soon(x.create_order_ws(LINEAR, "limit", "buy", 0.01, 59500, given))
    edited = await soon(x.edit_order_ws(order["id"], LINEAR, "limit", "buy", 0.02, 59400))
    assert edited["id"] == order["id"]
    with pytest.raises(ccxt.BadRequest, match="10001"):
        await soon(x.edit_order_ws(order["id"], LINEAR, "limit", "buy", 0.02, 59400))
    await soon(x.cancel_order_ws(order["id"], LINEAR))
    with pytest.raises(ccxt.OrderNotFound):
        await soon(x.cancel_order_ws(order["id"], LINEAR))


class Stream:
    """Keeps everything that a watch method says."""

    def __init__(self, method):
        self.rows = []
        self._method = method
        self._task = asyncio.ensure_future(self._read())

    async def _read(self):
        while True:
            self.rows += [dict(row) for row in await self._method()]

    async def until(self, reached):
        """Wait until it is so; ccxt may know rows that its next push only will hand out."""
        while not reached():
            done, _ = await asyncio.wait([self._task], timeout=0.05)
            assert not done, self._task.exception()

    async def close(self):
        self._task.cancel()
        await asyncio.wait([self._task])


def taken_over(x):
    """BTC that the exchange has taken over so far, as the stream of executions told."""
    fills = {r["id"]: r["amount"] for r in x.myTrades if r["info"]["execType"] == "BustTrade"}
    return sum(fills.values())


async def be_funded_and_liquidated(x, server, trades):
    """A short receives funding, then a rally of 25 % takes it; stream and REST tell both."""
    await x.create_order(LINEAR, "market", "sell", 1)
    server.venue.start(server.carrier.clock())
    await soon(trades.until(lambda: abs(taken_over(x) - 1) < 1e-9))
    (funding,) = await x.fetch_funding_history(LINEAR)
    assert funding["amount"] < 0, "in ccxt a funding payment received is negative"
    assert not (await x.fetch_position(LINEAR))["contracts"]
    liquidations = await x.fetch_my_liquidations(LINEAR)
    assert sum(entry["contracts"] for entry in liquidations) == pytest.approx(1)


async def test_a_whole_trading_day():
    """ccxt trades every order kind, meets every common error, is funded and is liquidated."""
    async with exchange(scenario(), wait=True, limits_factor=LIMITS_FACTOR) as (x, server):
        await x.load_markets()
        orders, trades = Stream(x.watch_orders), Stream(x.watch_my_trades)
        await trade_every_kind(x)
        await trade_batches(x)
        await trade_stops(x)
        await meet_every_error(x)
        await enter_by_socket(x)
        await be_funded_and_liquidated(x, server, trades)
        told = {"open", "canceled"}
        await soon(orders.until(lambda: {r["status"] for r in orders.rows} >= told))
        await orders.close()
        await trades.close()
        assert all(v == 0 for v in server.venue.exchange.ledger.totals().values())
