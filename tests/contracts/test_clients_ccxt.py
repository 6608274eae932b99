"""ccxt 4.5 (sync, async and pro), unmodified, against the simulator."""

import asyncio
import uuid
from contextlib import asynccontextmanager

import ccxt.pro
import pytest

from hedgelock.simulator.server import serve

pytestmark = pytest.mark.clients
LINEAR, SPOT, INVERSE = "BTC/USDT:USDT", "BTC/USDT", "BTC/USD:BTC"


def addresses(port):
    rest, stream = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}"
    private = f"{stream}/v5/private"
    return {
        **dict.fromkeys(("spot", "futures", "v2", "public", "private"), rest),
        "ws": {
            "public": {
                c: f"{stream}/v5/public/{c}" for c in ("spot", "linear", "inverse", "option")
            },
            "private": {
                "spot": {"unified": private, "nonUnified": private},
                "contract": private,
                "usdc": private,
                "trade": f"{stream}/v5/trade",
            },
        },
    }


@asynccontextmanager
async def exchange(scenario="calm", *, limits_factor=20, **options):
    server = await serve(scenario, port=0, limits_factor=limits_factor, **options)
    client = ccxt.pro.bybit(
        {
            "apiKey": "hedgelock-sim",
            "secret": "hedgelock-sim",
            "urls": {"api": addresses(server.port)},
            "enableRateLimit": False,
        }
    )
    try:
        yield client, server
    finally:
        await client.close()
        await server.stop()


async def soon(awaitable):
    return await asyncio.wait_for(awaitable, 8)


async def test_markets_and_public_data():
    async with exchange() as (x, _):
        markets = await x.load_markets()
        assert {LINEAR, SPOT, INVERSE} <= set(markets)
        assert markets[LINEAR]["precision"]["amount"] == 0.001
        ticker = await x.fetch_ticker(LINEAR)
        assert ticker["bid"] < ticker["ask"]
        assert set(await x.fetch_tickers([LINEAR])) == {LINEAR}
        funding = await x.fetch_funding_rate(LINEAR)
        assert (funding["fundingRate"], funding["interval"]) == (0.0001, "8h")
        assert (await x.fetch_funding_rate_history(LINEAR, limit=5))[-1]["fundingRate"] == 0.0001
        assert len(await x.fetch_ohlcv(LINEAR, "1h", limit=5)) == 5
        assert len((await x.fetch_order_book(LINEAR, 50))["asks"]) == 50
        assert await x.fetch_trades(LINEAR, limit=5)
        tiers = (await x.fetch_leverage_tiers([LINEAR]))[LINEAR]
        assert [t["maintenanceMarginRate"] for t in tiers[:2]] == [0.005, 0.0056]


async def test_account_orders_and_positions():
    async with exchange() as (x, _):
        await x.load_markets()
        balance = await x.fetch_balance()
        assert (balance["BTC"]["total"], balance["USDT"]["total"]) == (0.1, 6000)
        link = uuid.uuid4().hex
        given = {"clientOrderId": link, "postOnly": True}
        order = await x.create_order(LINEAR, "limit", "sell", 0.0123456, 61000.04, given)
        (resting,) = await x.fetch_open_orders(LINEAR)
        assert (resting["id"], resting["amount"], resting["price"]) == (order["id"], 0.012, 61000)
        with pytest.raises(ccxt.InvalidOrder, match="110072"):
            await x.create_order(LINEAR, "limit", "sell", 0.01, 61000, given)
        await x.cancel_order(order["id"], LINEAR)
        with pytest.raises(ccxt.OrderNotFound):
            await x.cancel_order(order["id"], LINEAR)
        await x.create_order(LINEAR, "limit", "sell", 0.01, 61000)
        await x.cancel_all_orders(LINEAR)
        await x.create_order(LINEAR, "market", "sell", 0.2)
        (position,) = await x.fetch_positions([LINEAR])
        assert (position["side"], position["contracts"]) == ("short", 0.2)
        assert await x.fetch_my_trades(LINEAR)
        assert (await x.fetch_closed_orders(LINEAR))[-1]["status"] == "closed"
        await x.set_leverage(5, LINEAR)
        with pytest.raises(ccxt.BadRequest, match="110043"):
            await x.set_leverage(5, LINEAR)
        await x.create_order(LINEAR, "market", "buy", 0.2, None, {"reduceOnly": True})
        with pytest.raises(ccxt.InsufficientFunds):
            await x.create_order(LINEAR, "market", "sell", 40)
        await x.create_order(SPOT, "market", "sell", 0.01)
        await x.create_order(INVERSE, "market", "sell", 600)
        (inverse,) = await x.fetch_positions([INVERSE])
        assert inverse["contracts"] == 600
        assert {"trade", "fee"} & {e["type"] for e in await x.fetch_ledger()}


async def test_transfers_and_the_loan():
    async with exchange() as (x, server):
        await x.load_markets()
        moved = await x.transfer("USDT", 500, "unified", "fund")
        assert moved["status"] == "ok"
        assert [t["amount"] for t in await x.fetch_transfers("USDT")] == [500]
        get_position = x.private_get_v5_crypto_loan_common_position
        before = (await get_position())["result"]
        paid = await x.private_post_v5_crypto_loan_flexible_repay(
            {"loanCurrency": "USDT", "amount": "400"}
        )
        assert paid["result"]["repayId"]
        await x.private_post_v5_crypto_loan_flexible_borrow(
            {"loanCurrency": "USDT", "loanAmount": "100"}
        )
        after = (await get_position())["result"]
        assert float(before["totalDebt"]) - float(after["totalDebt"]) == pytest.approx(300)
        assert (await x.private_get_v5_crypto_loan_flexible_ongoing_coin())["result"]["list"]
        await x.private_post_v5_crypto_loan_common_adjust_ltv(
            {"currency": "BTC", "amount": "0.01", "direction": "1"}
        )
        assert (await x.private_get_v5_account_withdrawal({"coinName": "USDT"}))["result"]
        ratios = await x.public_get_v5_crypto_loan_common_collateral_data()
        assert ratios["result"]["collateralRatioConfigList"]
        assert all(v == 0 for v in server.venue.exchange.ledger.totals().values())


async def test_wrong_keys_and_unknown_routes():
    async with exchange() as (x, _):
        x.secret = "wrong"
        with pytest.raises(ccxt.AuthenticationError, match="10004"):
            await x.private_get_v5_account_info()
        x.apiKey = "nobody"
        with pytest.raises(ccxt.AuthenticationError, match="10003"):
            await x.private_get_v5_account_info()
        with pytest.raises(ccxt.ExchangeError, match="10017"):
            await x.public_get_v5_announcements_index({"locale": "en-US"})


async def test_public_streams():
    async with exchange() as (x, _):
        await x.load_markets()
        first = await soon(x.watch_ticker(LINEAR))
        second = await soon(x.watch_ticker(LINEAR))
        assert first["info"]["markPrice"]
        assert second["timestamp"] >= first["timestamp"]
        book = await soon(x.watch_order_book(LINEAR))
        for _ in range(4):
            book = await soon(x.watch_order_book(LINEAR))
        assert book["bids"][0][0] < book["asks"][0][0]
        assert await soon(x.watch_trades(LINEAR))
        assert await soon(x.watch_ohlcv(LINEAR, "1m"))


async def test_private_streams_and_order_entry_by_socket():
    async with exchange() as (x, _):
        await x.load_markets()
        waiting = [
            asyncio.ensure_future(watch())
            for watch in (x.watch_orders, x.watch_my_trades, x.watch_balance)
        ]
        link = uuid.uuid4().hex
        given = {"clientOrderId": link}
        while not all(w.done() for w in waiting):  # until the subscriptions have taken effect
            await x.create_order(LINEAR, "market", "sell", 0.001)
            await asyncio.wait(waiting, timeout=0.2)
        order = await soon(x.create_order_ws(LINEAR, "market", "sell", 0.01, None, given))
        assert order["clientOrderId"] == link
        with pytest.raises(ccxt.InvalidOrder, match="110072"):
            await soon(x.create_order_ws(LINEAR, "market", "sell", 0.01, None, given))
        orders, trades, balance = await asyncio.gather(*waiting)
        assert orders[0]["status"] == "closed"
        assert trades[0]["symbol"] == LINEAR
        assert balance["USDT"]["total"] > 5000
        positions = asyncio.ensure_future(soon(x.watch_positions()))
        while not positions.done():
            await x.create_order(LINEAR, "market", "sell", 0.001)
            await asyncio.wait([positions], timeout=0.2)
        assert {p["side"] for p in await positions} == {"short"}
