"""Complete lists, merged rows, and what a mode cannot read."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web

from exchanges.bybit_samples import COIN, POSITION, SNAPSHOT
from exchanges.bybit_stub import FAST, Make, Stub, envelope
from hedgelock.clock import SystemClock
from hedgelock.errors import VenueError, VenueRefused
from hedgelock.exchanges.bybit import CAPABILITIES, BybitSettings

LIST = "/v5/position/list"
WALLET = "/v5/account/wallet-balance"


def serve_positions(stub: Stub, pages: dict[tuple[str, str], tuple[list[dict[str, Any]], str]]) -> None:
    """Answer position/list by (settle coin, symbol or category; cursor); a symbol always has a row."""
    flat = {**POSITION, "size": "0", "side": "", "seq": -1}

    async def route(_request: web.Request, query: dict[str, Any]) -> web.StreamResponse:
        what = query.get("settleCoin") or query.get("symbol") or query["category"]
        others = [{**flat, "symbol": query["symbol"]}] if "symbol" in query else []
        rows, cursor = pages.get((what, query.get("cursor", "")), (others, ""))
        return envelope({"category": query["category"], "list": rows, "nextPageCursor": cursor})

    stub.routes[LIST] = route


async def test_positions_are_followed_to_the_last_page(stub: Stub, make: Make) -> None:
    """A position on page two would be taken for flat; a cursor on the last page ends by an empty one."""
    eth = {**POSITION, "symbol": "ETHUSDT"}
    serve_positions(stub, {("USDT", ""): ([POSITION], "a%3A1"), ("USDT", "a:1"): ([eth], "b%3A2")})
    read = await make(stub.port).read_positions()
    assert {p.instrument for p in read.positions} == {"linear:BTCUSDT", "linear:ETHUSDT"}


async def test_the_later_of_two_rows_of_one_position_wins(stub: Stub, make: Make) -> None:
    """Two requests may see one position at two moments: the higher seq is kept, flat or not."""
    later = {**POSITION, "seq": 9, "size": "0", "side": ""}
    serve_positions(stub, {("USDT", ""): ([POSITION], ""), ("BTCUSDT", ""): ([later], "")})
    (position,) = (await make(stub.port).read_positions()).positions
    assert (position.position_qty, position.seq) == (0, 9)


async def test_inverse_and_usdc_positions_are_not_forgotten(stub: Stub, make: Make) -> None:
    """Every settle coin and the inverse category are asked for: what is not listed counts as flat."""
    usdc, inverse = {**POSITION, "symbol": "BTCPERP"}, {**POSITION, "symbol": "BTCUSD"}
    serve_positions(stub, {("USDC", ""): ([usdc], ""), ("inverse", ""): ([inverse], "")})
    read = await make(stub.port).read_positions()
    assert {p.instrument for p in read.positions if p.position_qty} == {
        "linear:BTCPERP", "inverse:BTCUSD"
    }


async def test_a_symbol_without_a_row_is_not_flat(stub: Stub, make: Make) -> None:
    """The venue lists a symbol that is asked for even when flat: an empty list is unreadable."""
    serve_positions(stub, {("BTCUSDT", ""): ([], "")})
    with pytest.raises(VenueError, match="no row of BTCUSDT"):
        await make(stub.port).read_positions()


async def test_a_list_without_end_is_an_error(stub: Stub, make: Make) -> None:
    """More pages than the bound: nothing is published rather than a part."""
    count = iter(range(1000))

    async def route(_request: web.Request, query: dict[str, Any]) -> web.StreamResponse:
        return envelope({"list": [POSITION], "nextPageCursor": str(next(count))})

    stub.routes[LIST] = route
    with pytest.raises(VenueError) as caught:
        await make(stub.port).read_positions()
    assert caught.value.code == "bad-message"


async def test_an_isolated_accounts_empty_fields_are_none(stub: Stub, make: Make) -> None:
    """Account-level fields are "" in isolated margin: None, never 0; new coins are asked for next."""
    row = {"totalMarginBalance": "", "totalMaintenanceMargin": "", "accountMMRate": "",
           "coin": [{**COIN, "coin": "ETH"}]}
    stub.answer(WALLET, {"list": [row]})
    stub.answer("/v5/account/withdrawal", {"availableWithdrawalMap": {"USDT": "5"}})
    exchange = make(stub.port)
    read = await exchange.read_wallet()
    assert (read.margin_balance, read.maintenance_margin, read.margin_ratio) == (None, None, None)
    await exchange.read_wallet()
    asked = [path for _, path, _, _ in stub.requests if "withdrawal" in path]
    assert [path.partition("=")[2] for path in asked] == ["USDT,BTC", "USDT,BTC,ETH"]


@pytest.mark.parametrize("rows", [[], [{"coin": []}, {"coin": []}]])
async def test_not_exactly_one_account_is_an_error(
    stub: Stub, make: Make, rows: list[dict[str, Any]]
) -> None:
    """An empty wallet-balance is no empty wallet."""
    stub.answer(WALLET, {"list": rows})
    stub.answer("/v5/account/withdrawal", {"availableWithdrawalMap": {}})
    bad: list[Any] = []
    with pytest.raises(VenueError):
        await make(stub.port, on_bad=lambda *args: bad.append(args)).read_wallet()
    assert bad[0][0] == "wallet"


async def test_a_mode_without_loans_says_so(stub: Stub, make: Make) -> None:
    """Demo has no loan: read_loan is refused, and terms hold only the trading account's ladder."""
    exchange = make(stub.port, capabilities=CAPABILITIES["demo"])
    with pytest.raises(VenueRefused):
        await exchange.read_loan()
    ladder = [{"minQty": "0", "maxQty": "", "collateralRatio": "0.95"}]
    stub.answer(
        "/v5/spot-margin-trade/collateral",
        {"list": [{"currency": "BTC", "collateralRatioList": ladder}]},
    )
    (terms,) = await exchange.read_collateral_terms(["BTC"])
    assert terms.loan_tiers == ()
    assert terms.margin_tiers[0].ratio == Decimal("0.95")


async def test_configured_fees_replace_a_missing_endpoint(stub: Stub, make: Make) -> None:
    """Demo has no fee-rate: the configured (taker, maker) is used and nothing is asked."""
    fees = {"spot": (Decimal("0.001"), Decimal("0.0008"))}
    exchange = make(stub.port, settings=BybitSettings(fees=fees, socket=FAST))
    row = {"symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT",
           "lotSizeFilter": {"basePrecision": "0.000001", "minOrderQty": "0.000001",
                             "maxLimitOrderQty": "83", "maxMarketOrderQty": "41",
                             "minOrderAmt": "5"},
           "priceFilter": {"tickSize": "0.1"}}
    stub.answer("/v5/market/instruments-info", {"list": [row]})
    (spot,) = await exchange.read_instruments(["spot:BTCUSDT"])
    assert (spot.taker_fee, spot.maker_fee, spot.qty_max) == (*fees["spot"], 83)
    assert stub.count("/v5/account/fee-rate") == 0
    with pytest.raises(VenueRefused, match="lists no"):
        await exchange.read_instruments(["spot:NOPE"])


async def test_a_ledger_line_that_does_not_close_is_told_and_kept(stub: Stub, make: Make) -> None:
    """The venue's change is what happened; the gap is reported, an unreadable line left out."""
    line = {"id": "1", "type": "TRADE", "currency": "USDT", "cashFlow": "0", "change": "-1",
            "cashBalance": "5", "transactionTime": "1672128000000", "symbol": "", "category": "",
            "side": "None", "qty": "", "tradePrice": "", "funding": "", "fee": "", "tradeId": "",
            "orderLinkId": ""}
    rows = [line, {**line, "id": "2", "fee": "1"}, {**line, "id": "3", "change": ""}]
    stub.answer("/v5/account/transaction-log", {"list": rows, "nextPageCursor": ""})
    bad: list[tuple[str, str]] = []
    exchange = make(stub.port, on_bad=lambda topic, reason, _raw: bad.append((topic, reason)))
    lines = await exchange.read_ledger(0)
    assert [x.line_id for x in lines] == ["1", "2"]
    assert bad[0] == ("account_ledger", "1: off by -1")
    assert len(bad) == 2


TICKERS = "/v5/market/tickers"


async def test_prices_by_rest_are_those_of_the_stream(stub: Stub, make: Make) -> None:
    """One instrument's row: mark, index, book and funding, dated by the request, unsigned and counted."""
    stub.answer(TICKERS, {"category": "linear", "list": [{**SNAPSHOT, "symbol": "ETHUSDT"}, SNAPSHOT]})
    tick, rate = await make(stub.port).read_prices("linear:BTCUSDT", ts_seen_ms=5)
    assert (tick.mark_price, tick.index_price, tick.bid_price) == (
        Decimal("60000.5"), Decimal(60001), Decimal("59999.9"))
    assert rate is not None
    assert (rate.funding_rate, rate.funding_interval_h) == (Decimal("0.0001"), 8)
    assert (tick.ts_seen_ms, rate.ts_seen_ms) == (5, 5)
    assert abs(tick.ts_event_ms - SystemClock().now_ms()) < 5_000
    ((_, path, _, headers),) = [r for r in stub.requests if r[1].startswith(TICKERS)]
    assert path == f"{TICKERS}?category=linear&symbol=BTCUSDT"
    assert not [name for name in headers if name.upper().startswith("X-BAPI")]


async def test_a_spot_price_by_rest_has_its_index_for_a_mark(stub: Stub, make: Make) -> None:
    """Spot has no funding and no mark; a row of another symbol is no price."""
    spot = {"symbol": "BTCUSDT", "lastPrice": "7", "usdIndexPrice": "8", "bid1Price": "6"}
    stub.answer(TICKERS, {"category": "spot", "list": [spot]})
    tick, rate = await make(stub.port).read_prices("spot:BTCUSDT", ts_seen_ms=5)
    assert (tick.mark_price, tick.index_price, rate) == (8, 8, None)
    with pytest.raises(VenueRefused, match="quotes no"):
        await make(stub.port).read_prices("spot:ETHUSDT", ts_seen_ms=5)


@pytest.mark.parametrize("gone", ["markPrice", "indexPrice", "fundingRate", "nextFundingTime"])
async def test_half_a_price_is_none(stub: Stub, make: Make, gone: str) -> None:
    """A field that is missing or "" is told and never becomes 0."""
    for row in ({k: v for k, v in SNAPSHOT.items() if k != gone}, {**SNAPSHOT, gone: ""}):
        stub.answer(TICKERS, {"category": "linear", "list": [row]})
        with pytest.raises(VenueError) as caught:
            await make(stub.port).read_prices("linear:BTCUSDT", ts_seen_ms=5)
        assert caught.value.code == "bad-message"
