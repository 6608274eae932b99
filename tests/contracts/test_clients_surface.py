"""Which endpoints of pybit 5.17 and ccxt 4.5 are answered here, and that the others are meant not to be."""

import inspect
import re

import ccxt.pro
import pybit.unified_trading as unified
import pytest
from ccxt.abstract.bybit import ImplicitAPI
from test_clients_ccxt import INVERSE, LINEAR, SPOT, exchange

from hedgelock.simulator.deeds import Deed
from hedgelock.simulator.venue import PRIVATE, PUBLIC

pytestmark = pytest.mark.clients

MODULES = ("market", "trade", "account", "asset", "position", "crypto_loan", "spot_margin_trade",
           "user", "misc")
OUTSIDE = {
    "/v5/account/": {
        "upgrade-to-uta", "contract-transaction-log",  # the account before unification
        "mmp-modify", "mmp-reset", "mmp-state",  # options
        "set-hedging-mode",  # portfolio margin
        "smp-group", "set-delta-mode", "demo-apply-money",
    },
    "/v5/asset/": {
        "coin-greeks", "exchange/order-record", "settlement-record",  # options, converting, USDC
        "transfer/query-asset-info",  # the account before unification
        "asset-overview", "fundinghistory", "withdraw/withdrawable-amount",
        "withdraw/query-address", "withdraw/vasp/list", "withdraw/create", "withdraw/cancel",
        "deposit/query-allowed-list", "deposit/deposit-to-account",
        "deposit/query-sub-member-record", "deposit/query-internal-record",
        "deposit/query-sub-member-address", "transfer/query-sub-member-list",
        "transfer/save-transfer-sub-member", "transfer/universal-transfer",
        "transfer/query-universal-transfer-list",
        "exchange/query-coin-list", "exchange/quote-apply", "exchange/convert-execute",
        "exchange/convert-result-query", "exchange/query-convert-history",
        "covert/small-balance-list", "covert/get-quote", "covert/small-balance-execute",
        "covert/small-balance-history",
    },
    "/v5/crypto-loan/": {  # per order, deprecated since November 2025
        "collateral-data", "loanable-data", "borrowable-collateralisable-number", "borrow", "repay",
        "ongoing-orders", "repayment-history", "borrow-history", "max-collateral-amount",
        "adjust-ltv", "adjustment-history",
    },
    "/v5/crypto-loan-fixed/": {  # lending
        "supply-order-quote", "supply", "supply-order-cancel", "supply-contract-info",
        "supply-order-info",
    },
    "/v5/market/": {"rpi_orderbook", "new-delivery-price"},
    "/v5/position/": {"move-positions", "move-history", "get-closed-positions"},
    "/v5/spot-cross-margin-trade/": {  # the account before unification
        "pledge-token", "borrow-token", "loan-info", "account", "loan", "repay", "orders",
        "repay-history", "switch",
    },
    "/v5/user/": {  # sub-accounts, keys, affiliates
        "create-sub-member", "create-sub-api", "query-sub-members", "submembers",
        "frozen-sub-member", "update-api", "update-sub-api", "delete-api", "delete-sub-api",
        "del-submember", "sub-apikeys", "aff-customer-info", "escrow_sub_members", "agreement",
        "invitation/referrals",
    },
    "/v5/affiliate/": {"aff-user-list", "affiliate-sub-list"},
    "/v5/announcements/": {"index"},
    "/v5/fiat/": {"query-coin-list", "quote-apply", "trade-execute", "trade-query",
                  "query-trade-history", "balance-query", "reference-price"},
}  # fmt: skip
"""Endpoints of these clients that answer 10017: not in sections 2 to 7 of the fact sheet."""


def outside() -> set[str]:
    return {root + name for root, names in OUTSIDE.items() for name in names}


class Listed(unified.HTTP):
    """pybit that notes what it would ask for."""

    def _submit_request(self, method=None, path=None, query=None, auth=False):
        self.asked.add((method, path.removeprefix(self.endpoint)))


def test_every_endpoint_of_pybit_is_answered_or_left_out_on_purpose():
    client = Listed(demo=True)
    client.asked = set()
    client.crypto_loan_legacy_message = ""  # absent in 5.17: as released, these methods all raise
    for kind in type(client).__mro__:
        if kind.__module__.removeprefix("pybit._v5_") in MODULES:
            for name in vars(kind):
                if not name.startswith("_"):
                    getattr(client, name)(**NEEDED.get(name, {}))
    client.client.close()
    unanswered = {p for m, p in client.asked if p not in PUBLIC and (m, p) not in PRIVATE}
    # pybit asks with GET for what the documentation says is a POST
    assert unanswered == outside(), unanswered ^ outside()
    assert len(client.asked - {(m, p) for m, p in client.asked if p in outside()}) > 90


NEEDED = {
    name: {"category": "linear", "request": []}
    for name in ("place_batch_order", "amend_batch_order", "cancel_batch_order")
}
"""Arguments without which pybit asks for nothing."""


def test_every_endpoint_of_ccxts_methods_is_answered_or_left_out_on_purpose():
    """What the methods of its class call; its implicit methods are the whole documentation."""
    source = inspect.getsource(ccxt.bybit)
    names = set(re.findall(r"self\.((?:private|public)(?:Get|Post)V5\w+)\(", source))
    entries = [vars(ImplicitAPI)[name] for name in names]
    asked = {(e.method, f"/{e.path}") for e in entries}
    unanswered = {p for m, p in asked if p not in PUBLIC and (m, p) not in PRIVATE}
    assert unanswered <= outside(), unanswered - outside()
    assert len(asked) - len(unanswered) >= 50


async def test_ccxt_reads_what_is_around_trading():
    """Status, addresses, records, history of ratios and volatility, weeks and months."""
    async with exchange() as (x, server):
        await x.load_markets()
        assert (await x.fetch_status())["status"] == "ok"
        venue = server.venue
        venue.agenda.add(Deed(at_s=0, kind="maintenance"))
        venue.advance(venue.exchange.now_ms + 1)
        assert (await x.fetch_status())["status"] == "maintenance"
        assert await x.fetch_deposits("USDT") == await x.fetch_withdrawals("USDT") == []
        address = await x.fetch_deposit_address("USDT")
        assert address["address"].startswith("simulated-")
        assert "BTC" in await x.fetch_deposit_withdraw_fees(["BTC"])
        assert await x.fetch_my_settlement_history(None, params={"category": "linear"}) == []
        assert await x.fetch_settlement_history(None, params={"category": "linear"}) == []
        ratios = await x.fetch_long_short_ratio_history(LINEAR, "1h", limit=5)
        assert len(ratios) == 5
        (volatility, *_) = await x.fetch_volatility_history("BTC")
        assert 0.1 < volatility["volatility"] < 1
        for frame, weekday in (("1w", 0), ("1M", None)):
            for symbol in (LINEAR, SPOT, INVERSE):
                opens = [k[0] for k in await x.fetch_ohlcv(symbol, frame, limit=4)]
                days = [x.iso8601(at) for at in opens]
                assert all(day.endswith("T00:00:00.000Z") for day in days)
                assert all(
                    day[8:10] == "01" if weekday is None else (at // 86_400_000 + 3) % 7 == weekday
                    for day, at in zip(days, opens, strict=True)
                )
        assert len(await x.fetch_mark_ohlcv(INVERSE, "1m", limit=3)) == 3
        assert len(await x.fetch_index_ohlcv(LINEAR, "1m", limit=3)) == 3
        assert (await x.fetch_bids_asks([LINEAR]))[LINEAR]["bid"]
        assert (await x.fetch_leverage(LINEAR))["longLeverage"] == 10
        assert (await x.fetch_margin_mode(LINEAR))["marginMode"] == "cross"
        tiers = await x.fetch_leverage_tiers()  # page by page, all linear ones
        assert tiers[LINEAR][1]["maintenanceMarginRate"] == 0.0056
        with pytest.raises(ccxt.BadRequest, match="10017"):
            await x.fetch_borrow_interest("USDT")  # its endpoint is dead at the exchange, too


async def test_ccxt_reads_what_trading_left():
    """Order trades, ended orders, closed positions, ranks, liquidations."""
    async with exchange() as (x, _):
        await x.load_markets()
        sold = await x.create_order(LINEAR, "market", "sell", 0.1)
        resting = await x.create_order(LINEAR, "limit", "sell", 0.01, 60_900)
        await x.cancel_order(resting["id"], LINEAR)
        await x.create_order(LINEAR, "market", "buy", 0.04, None, {"reduceOnly": True})
        trades = await x.fetch_order_trades(sold["id"], LINEAR)
        assert sum(t["amount"] for t in trades) == pytest.approx(0.1)
        assert [o["id"] for o in await x.fetch_canceled_orders(LINEAR)] == [resting["id"]]
        ended = await x.fetch_canceled_and_closed_orders(LINEAR)
        assert len(ended) == 3
        (closed,) = await x.fetch_positions_history([LINEAR])
        assert closed["contracts"] == 0.04
        assert (await x.fetch_position_adl_rank(LINEAR))["rank"] >= 1
        assert await x.fetch_my_liquidations(LINEAR) == []
        first = await x.create_order(LINEAR, "limit", "sell", 0.01, 60_900)
        assert await x.cancel_orders_for_symbols([{"id": first["id"], "symbol": LINEAR}])
        with pytest.raises(ccxt.PermissionDenied, match="10005"):
            await x.cancel_all_orders_after(10_000)  # protection is enabled for institutions only
