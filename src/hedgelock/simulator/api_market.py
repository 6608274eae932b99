"""Public market routes."""

from __future__ import annotations

from decimal import Decimal

from hedgelock.simulator.instruments import Contract, instrument_row
from hedgelock.simulator.intervals import INTERVALS_MS, opening, shifted
from hedgelock.simulator.matching import BUY, SELL
from hedgelock.simulator.money import text
from hedgelock.simulator.open_interest import open_interest
from hedgelock.simulator.params import Params, forward, limit, need, optional, whole
from hedgelock.simulator.routes import PublicHandler
from hedgelock.simulator.state import Exchange, Refused, Row

EIGHT = Decimal("0.00000001")
CATEGORIES = frozenset({"linear", "inverse", "spot", "option"})


def category(params: Params) -> str:
    """The required category."""
    name = need(params, "category")
    if name not in CATEGORIES:
        raise Refused(10001, "params error: Category is invalid")
    return name


def contract(x: Exchange, params: Params) -> Contract:
    """The contract that `category` and `symbol` name."""
    group, symbol = category(params), need(params, "symbol")
    found = x.contracts.get(f"{group}.{symbol}")
    if found is None:
        if group == "spot":
            raise Refused(170121, "Invalid symbol.")
        raise Refused(10001, "params error: symbol invalid")
    return found


def perpetual(x: Exchange, params: Params) -> Contract:
    """The perpetual that `category` (linear when absent) and `symbol` name."""
    found = contract(x, {"category": "linear", **params})
    if found.is_spot:
        raise Refused(10001, "params error: Category is invalid")
    return found


def listed(x: Exchange, params: Params) -> list[Contract]:
    """The contracts of a category, or the one that is named."""
    if optional(params, "symbol"):
        return [contract(x, params)]
    group, base = category(params), optional(params, "baseCoin")
    return [c for c in x.contracts.values() if c.category == group and (not base or c.base == base)]


def server_time(x: Exchange, params: Params) -> Row:
    """GET market/time."""
    return {"timeSecond": str(x.now_ms // 1000), "timeNano": str(x.now_ms * 1_000_000)}


def instruments(x: Exchange, params: Params) -> Row:
    """GET market/instruments-info."""
    rows = []
    if optional(params, "status") in {"", "Trading"}:
        for c in listed(x, params):
            clock = x.market.lines[c.key].clock
            rows.append(instrument_row(c, interval_h=clock.interval_h, funding_cap=clock.cap))
    cursor = ""
    if category(params) != "spot":  # which ignores limit and cursor
        rows, cursor = forward(rows, params, size=limit(params, default=500, most=1000))
    return {"category": category(params), "list": rows, "nextPageCursor": cursor}


def ticker_row(x: Exchange, c: Contract) -> Row:
    """A row of market/tickers."""
    quote, book = x.market.quotes[c.key], x.books[c.key]
    (bid, bid_lots), (ask, ask_lots) = book.levels(BUY, 1)[0], book.levels(SELL, 1)[0]
    change = (quote.last / quote.open_24h - 1).quantize(Decimal("0.000001"))
    row: Row = {
        "symbol": c.symbol, "lastPrice": text(quote.last), "indexPrice": text(quote.index),
        "markPrice": text(quote.mark), "prevPrice24h": text(quote.open_24h),
        "price24hPcnt": text(change), "highPrice24h": text(quote.high_24h),
        "lowPrice24h": text(quote.low_24h),
        "prevPrice1h": text(x.market.candles[c.key].ago(60) or quote.open_24h),
        "turnover24h": text(quote.turnover.quantize(Decimal("0.0001"))),
        "volume24h": text(quote.volume), "bid1Price": text(c.price(bid)),
        "bid1Size": text(c.qty(bid_lots)), "ask1Price": text(c.price(ask)),
        "ask1Size": text(c.qty(ask_lots)),
    }  # fmt: skip
    if c.is_spot:
        row["usdIndexPrice"] = row.pop("indexPrice")
        del row["markPrice"], row["prevPrice1h"]
        return row
    interest = open_interest(x, c)
    worth = c.value(interest, quote.mark)
    clock = x.market.lines[c.key].clock
    return row | {
        "openInterest": text(interest), "openInterestValue": text(worth.quantize(EIGHT)),
        "singleOpenInterest": text(interest / 2),
        "singleOpenInterestValue": text((worth / 2).quantize(EIGHT)),
        "fundingRate": text(x.market.rate(c.key, x.now_ms)),
        "nextFundingTime": str(x.market.next_settlement_ms(x.now_ms, c.key)),
        "fundingIntervalHour": str(clock.interval_h), "fundingCap": text(clock.cap),
        "predictedDeliveryPrice": "", "basisRate": "", "basis": "", "basisRateYear": "",
        "deliveryFeeRate": "", "deliveryTime": "0", "preOpenPrice": "", "preQty": "",
        "curPreListingPhase": "",
    }  # fmt: skip


def tickers(x: Exchange, params: Params) -> Row:
    """GET market/tickers."""
    return {"category": category(params), "list": [ticker_row(x, c) for c in listed(x, params)]}


def funding_history(x: Exchange, params: Params) -> Row:
    """GET market/funding/history: settled rates, newest first."""
    c = perpetual(x, {"category": category(params), **params})
    start, end = whole(params, "startTime", 0), whole(params, "endTime", 2**62)
    if start and end == 2**62:
        raise Refused(10001, "params error: endTime is required with startTime")
    rows = [
        {
            "symbol": c.symbol, "fundingRate": text(rate), "fundingRateTimestamp": str(at_ms),
        }
        for at_ms, rate in reversed(x.market.lines[c.key].clock.history)
        if start <= at_ms <= end
    ]  # fmt: skip
    return {"category": c.category, "list": rows[: limit(params, default=200, most=200)]}


def _span(x: Exchange, params: Params) -> tuple[str, int, int, int]:
    """Interval, first and last instant and number of the candles asked for.

    With a start and no end they count from the start, otherwise back from the end.
    """
    interval = need(params, "interval")
    if interval not in INTERVALS_MS:
        raise Refused(10001, "params error: interval invalid")
    count = limit(params, default=200, most=1000)
    start, end = min(whole(params, "start", 0), x.now_ms + 1), whole(params, "end", 0)
    if start and not end:
        first = opening(interval, start)
        end = shifted(interval, first, count + (first < start)) - 1
    end = min(end or x.now_ms, x.now_ms)
    oldest = shifted(interval, opening(interval, end), 1 - count)
    return interval, max(start, oldest), end, count


def _klines(x: Exchange, params: Params, series: str) -> Row:
    named = {"category": "linear", **params}
    c = contract(x, named) if series == "last" else perpetual(x, named)
    interval, start, end, count = _span(x, params)
    candles = x.market.candles[c.key].window(interval, start_ms=start, end_ms=end, series=series)
    rows = []
    for k in reversed(candles[-count:]):
        row = [str(k.start_ms), *(text(p) for p in (k.open, k.high, k.low, k.close))]
        if series == "last":
            row += [text(k.volume), text(k.turnover)]
        rows.append(row)
    return {"symbol": c.symbol, "category": c.category, "list": rows}


def kline(x: Exchange, params: Params) -> Row:
    """GET market/kline, newest first."""
    return _klines(x, params, "last")


def mark_kline(x: Exchange, params: Params) -> Row:
    """GET market/mark-price-kline."""
    return _klines(x, params, "mark")


def index_kline(x: Exchange, params: Params) -> Row:
    """GET market/index-price-kline."""
    return _klines(x, params, "index")


def premium_kline(x: Exchange, params: Params) -> Row:
    """GET market/premium-index-price-kline, linear only."""
    if perpetual(x, params).category != "linear":
        raise Refused(10001, "params error: Category is invalid")
    return _klines(x, params, "premium")


def book_side(x: Exchange, c: Contract, side: str, depth: int) -> list[list[str]]:
    """Levels of one side as [price, size] text, best first."""
    levels = x.books[c.key].levels(side, depth)
    return [[text(c.price(ticks)), text(c.qty(lots))] for ticks, lots in levels]


def orderbook(x: Exchange, params: Params) -> Row:
    """GET market/orderbook."""
    c = contract(x, params)
    depth = limit(params, default=1 if c.is_spot else 25, most=1000)
    return {
        "s": c.symbol, "b": book_side(x, c, BUY, depth), "a": book_side(x, c, SELL, depth),
        "ts": x.now_ms, "u": x.sequence, "seq": x.sequence, "cts": x.now_ms,
    }  # fmt: skip


def recent_trades(x: Exchange, params: Params) -> Row:
    """GET market/recent-trade."""
    c = contract(x, params)
    count = limit(params, default=60 if c.is_spot else 500, most=60 if c.is_spot else 1000)
    return {"category": c.category, "list": list(x.trades[c.key])[:count]}


PUBLIC: dict[str, PublicHandler] = {
    "/v5/market/time": server_time,
    "/v5/market/instruments-info": instruments,
    "/v5/market/tickers": tickers,
    "/v5/market/funding/history": funding_history,
    "/v5/market/kline": kline,
    "/v5/market/mark-price-kline": mark_kline,
    "/v5/market/index-price-kline": index_kline,
    "/v5/market/premium-index-price-kline": premium_kline,
    "/v5/market/orderbook": orderbook,
    "/v5/market/recent-trade": recent_trades,
}
