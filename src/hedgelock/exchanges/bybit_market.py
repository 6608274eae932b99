"""Bybit v5 market payloads: prices, funding, contract terms, collateral ratios. Pure and strict."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any

from hedgelock.domain.funding import FundingRate
from hedgelock.domain.instrument import (
    CollateralTerms,
    CollateralTier,
    Instrument,
    MarginTier,
    Settlement,
)
from hedgelock.domain.market import MarketTick
from hedgelock.errors import BadMessage
from hedgelock.exchanges.fields import Row, strict

ZERO = Decimal(0)
ONE = Decimal(1)
_RATE_SLACK = Decimal("0.02")
"""Initial rate against 1 ÷ maxLeverage: Bybit rounds one of them."""
_FUNDING_CONFIRM_MS = 1_000
"""An unchanged funding rate is confirmed this often: a delta without it means "unchanged"."""

_PRICES = {
    "markPrice": "mark_price", "indexPrice": "index_price", "lastPrice": "last_price",
    "bid1Price": "bid_price", "ask1Price": "ask_price",
    "bid1Size": "bid_qty", "ask1Size": "ask_qty",
}
_SPOT_PRICES = {**_PRICES, "usdIndexPrice": "index_price"}
_FRAME_KINDS = {"snapshot": True, "delta": False}
_FUNDING = ("fundingRate", "nextFundingTime", "fundingIntervalHour", "fundingCap")


def is_perpetual(instrument: str) -> bool:
    """Whether it has no end, by its name: dated futures carry their date.

    >>> is_perpetual("linear:BTCUSDT"), is_perpetual("linear:BTC-26DEC25"), is_perpetual("inverse:BTCUSDZ25")
    (True, False, False)
    """
    category, _, symbol = instrument.partition(":")
    return (category == "linear" and "-" not in symbol) or (
        category == "inverse" and symbol.endswith("USD")
    )


class TickerMerge:
    """Snapshots and deltas of one instrument's ticker; a missing field means unchanged.

    Spot has no mark: there mark and index are the venue's USD index, by which it values the coin.
    """

    def __init__(self, instrument: str) -> None:
        self.instrument = instrument
        self._is_spot = instrument.startswith("spot:")
        self._names = _SPOT_PRICES if self._is_spot else _PRICES
        self._is_perpetual = is_perpetual(instrument)
        self._prices: dict[str, Decimal | None] = {}
        self._funding: dict[str, Any] = {}
        self._has_snapshot = False
        self._funding_yielded_ms = 0

    def forget(self) -> None:
        """Wait for a snapshot: what was known before a gap is not merged with what comes after."""
        self._has_snapshot = False

    def take(
        self, frame: Row, *, ts_seen_ms: int
    ) -> tuple[MarketTick, FundingRate | None]:
        """Merge one frame. BadMessage leaves the state as it was before."""
        is_snapshot = frame.one_of("type", _FRAME_KINDS)
        if not is_snapshot and not self._has_snapshot:
            raise frame.bad("type", "a delta before any snapshot")
        return self.take_row(
            frame.row("data"), is_whole=is_snapshot, ts_event_ms=frame.ts_ms("ts"),
            ts_seen_ms=ts_seen_ms,
        )

    def take_row(
        self, data: Row, *, is_whole: bool, ts_event_ms: int, ts_seen_ms: int
    ) -> tuple[MarketTick, FundingRate | None]:
        """Merge a row, `is_whole` = in place of what is known. BadMessage leaves the state."""
        prices = {} if is_whole else dict(self._prices)
        funding = {} if is_whole else dict(self._funding)
        funding_changed = self._merge(data, prices, funding)
        tick = self._tick(prices, ts_event_ms, ts_seen_ms)
        rate = None
        due = ts_event_ms - self._funding_yielded_ms >= _FUNDING_CONFIRM_MS
        if not self._is_spot and (funding_changed or due):
            rate = self._rate(funding, ts_event_ms, ts_seen_ms)
        self._prices, self._funding, self._has_snapshot = prices, funding, True
        if rate is not None:
            self._funding_yielded_ms = ts_event_ms
        return tick, rate

    def _merge(
        self, data: Row, prices: dict[str, Decimal | None], funding: dict[str, Any]
    ) -> bool:
        if data.text("symbol") != self.instrument.partition(":")[2]:
            raise data.bad("symbol", f"not {self.instrument}")
        for name, field in self._names.items():
            if name in data:
                prices[field] = data.maybe(name)
        if self._is_spot:
            prices["mark_price"] = prices.get("index_price")
        changed = False
        for name in _FUNDING:
            if name not in data:
                continue
            if name == "nextFundingTime":
                value: Any = data.ts_ms(name) if data.text(name) else None
            else:
                value = data.maybe(name)
            changed = changed or funding.get(name) != value
            funding[name] = value
        return changed

    def _tick(
        self, prices: dict[str, Decimal | None], ts_event_ms: int, ts_seen_ms: int
    ) -> MarketTick:
        mark, index = prices.get("mark_price"), prices.get("index_price")
        if mark is None or index is None:
            raise BadMessage(f"$.data: no mark or index price of {self.instrument}")
        try:
            return MarketTick(
                instrument=self.instrument, mark_price=mark, index_price=index,
                last_price=prices.get("last_price"), bid_price=prices.get("bid_price"),
                ask_price=prices.get("ask_price"), bid_qty=prices.get("bid_qty"),
                ask_qty=prices.get("ask_qty"), ts_event_ms=ts_event_ms, ts_seen_ms=ts_seen_ms,
            )
        except ValueError as error:
            raise BadMessage(f"$.data: {error}") from error

    def _rate(
        self, funding: dict[str, Any], ts_event_ms: int, ts_seen_ms: int
    ) -> FundingRate | None:
        rate, next_ms = funding.get("fundingRate"), funding.get("nextFundingTime")
        interval_h = funding.get("fundingIntervalHour")
        if rate is None:
            if self._is_perpetual:
                raise BadMessage(f"$.data.fundingRate: missing for the perpetual {self.instrument}")
            return None  # dated futures have no funding
        if not next_ms or interval_h is None:
            raise BadMessage(f"$.data: a funding rate of {self.instrument} without its schedule")
        try:
            return FundingRate(
                instrument=self.instrument, funding_rate=rate, funding_interval_h=interval_h,
                funding_next_ts_ms=next_ms, funding_cap=funding.get("fundingCap"),
                ts_event_ms=ts_event_ms, ts_seen_ms=ts_seen_ms,
            )
        except ValueError as error:
            raise BadMessage(f"$.data: {error}") from error


def parse_ticker(
    row: Row, *, instrument: str, ts_event_ms: int, ts_seen_ms: int
) -> tuple[MarketTick, FundingRate | None]:
    """A row of market/tickers; it has the fields of a pushed snapshot."""
    return TickerMerge(instrument).take_row(
        row, is_whole=True, ts_event_ms=ts_event_ms, ts_seen_ms=ts_seen_ms
    )


# ---------------------------------------------------------------- contract terms


@strict
def parse_tiers(rows: list[Row]) -> tuple[MarginTier, ...]:
    """risk-limit rows of one symbol, ascending. Fractions, whatever style the venue sent.

    Recorded values are fractions, some documents show percent: 1 ÷ maxLeverage decides. Deductions
    the venue leaves out are computed: d_n = limit_{n−1} · (mm_n − mm_{n−1}) + d_{n−1}, d_1 = 0.
    """
    if not rows:
        raise BadMessage("$.list: no margin tiers")
    tiers: list[MarginTier] = []
    for row in sorted(rows, key=lambda row: row.decimal("riskLimitValue")):
        initial, maintenance = _rates(row)
        limit = row.decimal("riskLimitValue")
        if tiers:
            below = tiers[-1]
            if limit <= below.notional_max or maintenance < below.maintenance_rate:
                raise row.bad("riskLimitValue", "tiers do not rise")
            step = below.notional_max * (maintenance - below.maintenance_rate)
            computed = below.deduction + step
        else:
            computed = ZERO
        stated = row.maybe("mmDeduction")
        tiers.append(
            MarginTier(
                notional_max=limit, initial_rate=initial, maintenance_rate=maintenance,
                deduction=computed if stated is None else stated,
            )
        )
    return tuple(tiers)


def _rates(row: Row) -> tuple[Decimal, Decimal]:
    initial, maintenance = row.decimal("initialMargin"), row.decimal("maintenanceMargin")
    leverage = row.decimal("maxLeverage")
    if leverage <= 0:
        raise row.bad("maxLeverage", "not above 0")
    for scale in (ONE, Decimal(100)):
        im, mm = initial / scale, maintenance / scale
        if 0 < mm < im <= 1 and abs(im * leverage - 1) <= _RATE_SLACK:
            return im, mm
    if initial == 1 and 0 < maintenance < 1 and leverage == 1:
        return initial, maintenance
    raise row.bad("initialMargin", f"{initial} and {maintenance} do not fit {leverage} x")


@strict
def parse_instrument(
    row: Row, *, category: str, tiers: tuple[MarginTier, ...],
    fees: tuple[Decimal, Decimal], ts_seen_ms: int,
) -> Instrument:
    """instruments-info: steps and limits. `fees` = (taker, maker), as fractions of value."""
    lot, price = row.row("lotSizeFilter"), row.row("priceFilter")
    is_spot = category == "spot"
    post_only = "postOnlyMaxLimitOrderSize" if is_spot else "postOnlyMaxOrderQty"
    return Instrument(
        instrument=f"{category}:{row.name('symbol')}",
        settlement=Settlement(category),
        base=row.name("baseCoin"),
        quote=row.name("quoteCoin"),
        settle=row.name("quoteCoin") if is_spot else row.name("settleCoin"),
        tick_size=price.decimal("tickSize"),
        lot_size=lot.decimal("basePrecision" if is_spot else "qtyStep"),
        qty_min=lot.decimal("minOrderQty"),
        qty_max=_either(lot, "maxLimitOrderQty", "maxOrderQty") if is_spot
        else lot.decimal("maxOrderQty"),
        qty_market_max=_either(lot, "maxMarketOrderQty", "maxOrderQty") if is_spot
        else lot.decimal("maxMktOrderQty"),
        qty_post_only_max=lot.maybe(post_only),
        price_limit_ratio=_price_limit(row),
        notional_min=lot.decimal("minOrderAmt") if is_spot else lot.given("minNotionalValue"),
        taker_fee=fees[0],
        maker_fee=fees[1],
        tiers=tiers,
        ts_seen_ms=ts_seen_ms,
    )


def _price_limit(row: Row) -> Decimal | None:
    """`priceLimitRatioX` as a fraction; None = the venue states none."""
    if "riskParameters" not in row:
        return None
    ratio = row.row("riskParameters").maybe("priceLimitRatioX")
    return ratio or None


def _either(row: Row, name: str, older: str) -> Decimal:
    """A limit under its name, or under the one it had before."""
    return row.decimal(name if name in row else older)


def parse_fees(row: Row) -> tuple[Decimal, Decimal]:
    """(taker, maker) of one symbol; a maker rebate is negative."""
    return row.decimal("takerFeeRate"), row.decimal("makerFeeRate")


# ---------------------------------------------------------------- collateral


def _tiers_of(rows: list[Row], low: str, high: str) -> tuple[CollateralTier, ...]:
    tiers = sorted(
        (
            CollateralTier(
                qty_min=row.decimal(low), qty_max=row.given(high),
                ratio=row.decimal("collateralRatio"),
            )
            for row in rows
        ),
        key=lambda tier: tier.qty_min,
    )
    for row, tier in zip(rows, tiers, strict=True):
        if tier.ratio > 1:
            raise row.bad("collateralRatio", f"{tier.ratio} is no fraction")
    for below, above in itertools.pairwise(tiers):
        if below.qty_max is None or below.qty_max != above.qty_min:
            raise BadMessage(f"{rows[0].path}: tiers leave a gap or overlap")
    return tuple(tiers)


@strict
def parse_loan_tiers(result: Row, coin: str) -> tuple[CollateralTier, ...]:
    """collateral-data: the tiers of the group that names `coin`; () = it does not count."""
    for group in result.rows("collateralRatioConfigList"):
        if coin in group.text("currencies").replace(" ", "").split(","):
            return _tiers_of(group.rows("collateralRatioList"), "minValue", "maxValue")
    return ()


@strict
def parse_margin_tiers(result: Row, coin: str) -> tuple[CollateralTier, ...]:
    """spot-margin-trade/collateral: the trading account's tiers of `coin`; () = no collateral."""
    for entry in result.rows("list"):
        if entry.text("currency") == coin:
            return _tiers_of(entry.rows("collateralRatioList"), "minQty", "maxQty")
    return ()


def terms(
    coin: str, *, loan: tuple[CollateralTier, ...], margin: tuple[CollateralTier, ...],
    ts_seen_ms: int,
) -> CollateralTerms:
    """The two ladders of one coin."""
    return CollateralTerms(
        coin=coin, loan_tiers=loan, margin_tiers=margin, ts_seen_ms=ts_seen_ms
    )


