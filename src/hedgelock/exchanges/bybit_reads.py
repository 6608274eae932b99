"""What Bybit says about terms and about one account; every figure from the venue's own fields.

Reads raise VenueError, or BadMessage for a payload that cannot be read. Lists are followed to their
end: a position on a page that was not asked for would be taken for flat.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

from hedgelock.domain.account import (
    FundRead,
    LedgerLine,
    LoanRead,
    Position,
    PositionsRead,
    WalletRead,
)
from hedgelock.domain.funding import FundingRate
from hedgelock.domain.instrument import (
    CollateralTerms,
    CollateralTier,
    Instrument,
    MarginTier,
    category_of,
    symbol_of,
)
from hedgelock.domain.market import MarketTick
from hedgelock.errors import BadMessage, VenueRefused
from hedgelock.exchanges import bybit_market, bybit_parse
from hedgelock.exchanges.bybit_channels import OnBad
from hedgelock.exchanges.bybit_parse import Seen
from hedgelock.exchanges.ccxt_venue import Answer, CcxtVenue
from hedgelock.exchanges.fields import Row
from hedgelock.exchanges.stream import SocketPolicy
from hedgelock.ports import Capabilities, Clock

T = TypeVar("T")

PAGES_MAX = 50
WITHDRAWAL_COINS_MAX = 20
FEE_RATE_GAP_S = 0.25
"""fee-rate allows 5 requests a second."""
LEDGER_WINDOW_MS = 7 * 86_400_000 - 60_000


class BybitSettings(NamedTuple):
    """What the account needs from its venue; the same in every mode unless it cannot be had."""

    hedge_instruments: tuple[str, ...] = ("linear:BTCUSDT",)
    """Their position rows are read even when flat, for their `seq`."""
    coins: tuple[str, ...] = ("USDT", "BTC")
    """Coins whose withdrawable amount is always asked for."""
    settle_coins: tuple[str, ...] = ("USDT", "USDC")
    """Linear positions are listed per settle coin; one left out would be taken for flat."""
    fees: Mapping[str, tuple[Decimal, Decimal]] | None = None
    """Category -> (taker, maker) where the venue has no fee endpoint (demo); None = ask."""
    check_key: bool = True
    """Read the key's permissions; off only where the venue has no such endpoint (demo)."""
    refuse_withdrawal_keys: bool = True
    offset_max_ms: int | None = None
    """`connect` refuses when the clocks are further apart; None = only told of."""
    dcp_window_s: int = 0
    """Arm disconnected-cancel-all with this window where the account allows it; 0 = leave it alone."""
    socket: SocketPolicy = SocketPolicy()


async def pages(
    venue: CcxtVenue, path: str, query: Mapping[str, Any]
) -> AsyncIterator[Answer]:
    """Every page of a list. Bybit may send a cursor with the last page too: then one more is empty.

    BadMessage when it does not end.
    """
    cursor = ""
    for _ in range(PAGES_MAX):
        answer = await venue.get(path, {**query, "cursor": cursor} if cursor else query)
        yield answer
        following = answer.result.text_or("nextPageCursor")
        if not following or following == cursor or not answer.result.rows("list"):
            return
        cursor = following
    raise BadMessage(f"{path}: more than {PAGES_MAX} pages")


async def together(reads: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Requests at the same time; the first error is raised as it is and the others are dropped."""
    tasks = [asyncio.ensure_future(read) for read in reads]
    try:
        return [await task for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class BybitReads:
    """The account's and the venue's state, by REST."""

    def __init__(
        self, venue: CcxtVenue, *, account: str, clock: Clock, capabilities: Capabilities,
        settings: BybitSettings, on_bad: OnBad,
    ) -> None:
        self._venue = venue
        self.account = account
        self._clock = clock
        self.capabilities = capabilities
        self._settings = settings
        self._bad = on_bad
        self._wallet_coins: tuple[str, ...] = ()

    # ------------------------------------------------------------ reference data

    async def instruments(self, names: Sequence[str]) -> list[Instrument]:
        """Contract terms, margin tiers and this account's fees, one instrument after the other."""
        found: list[Instrument] = []
        for name in names:
            if found and self._settings.fees is None:
                await asyncio.sleep(FEE_RATE_GAP_S)
            found.append(await self._instrument(name))
        return found

    async def _instrument(self, name: str) -> Instrument:
        category, symbol = category_of(name), symbol_of(name)
        query = {"category": category, "symbol": symbol}
        info = await self._venue.get("/v5/market/instruments-info", query, signed=False)
        row = _one(info.result.rows("list"), "symbol", symbol)
        if row is None:
            raise VenueRefused(f"Bybit lists no {name}", code="symbol")
        tiers: tuple[MarginTier, ...] = ()
        if category in ("linear", "inverse"):
            limits = await self._venue.get("/v5/market/risk-limit", query, signed=False)
            rows = [r for r in limits.result.rows("list") if r.text("symbol") == symbol]
            tiers = bybit_market.parse_tiers(rows)
        return bybit_market.parse_instrument(
            row, category=category, tiers=tiers, fees=await self._fees(category, symbol),
            ts_seen_ms=info.ts_seen_ms,
        )

    async def _fees(self, category: str, symbol: str) -> tuple[Decimal, Decimal]:
        if self._settings.fees is not None:
            return self._settings.fees[category]
        answer = await self._venue.get(
            "/v5/account/fee-rate", {"category": category, "symbol": symbol}
        )
        row = _one(answer.result.rows("list"), "symbol", symbol)
        if row is None:
            raise BadMessage(f"fee-rate: nothing for {symbol}")
        return bybit_market.parse_fees(row)

    async def prices(
        self, name: str, ts_seen_ms: int
    ) -> tuple[MarketTick, FundingRate | None]:
        """market/tickers of one instrument; the venue's time is that of its answer."""
        category, symbol = category_of(name), symbol_of(name)
        answer = await self._venue.get(
            "/v5/market/tickers", {"category": category, "symbol": symbol}, signed=False
        )
        row = _one(answer.result.rows("list"), "symbol", symbol)
        if row is None:
            raise VenueRefused(f"Bybit quotes no {name}", code="symbol")
        return bybit_market.parse_ticker(
            row, instrument=name, ts_event_ms=answer.ts_event_ms, ts_seen_ms=ts_seen_ms
        )

    async def collateral_terms(self, coins: Sequence[str]) -> list[CollateralTerms]:
        """Tiered ratios per coin; () where a coin does not count or the mode has no loans."""
        return [await self._terms(coin) for coin in coins]

    async def _terms(self, coin: str) -> CollateralTerms:
        query = {"currency": coin}
        loan: tuple[CollateralTier, ...] = ()
        if self.capabilities.loans:
            answer = await self._venue.get(
                "/v5/crypto-loan-common/collateral-data", query, signed=False
            )
            loan = bybit_market.parse_loan_tiers(answer.result, coin)
        answer = await self._venue.get("/v5/spot-margin-trade/collateral", query, signed=False)
        margin = bybit_market.parse_margin_tiers(answer.result, coin)
        return CollateralTerms(
            coin=coin, loan_tiers=loan, margin_tiers=margin, ts_seen_ms=answer.ts_seen_ms
        )

    # ------------------------------------------------------------ the account

    async def wallet(self) -> WalletRead:
        """wallet-balance and account/withdrawal, asked for at the same time.

        Withdrawable amounts are asked for the configured coins and those seen last time: a coin
        that is new shows 0 there until the next read.
        """
        ts_requested_ms = self._clock.now_ms()
        names = tuple(dict.fromkeys((*self._settings.coins, *self._wallet_coins)))
        asked = ",".join(names[:WITHDRAWAL_COINS_MAX])
        wallet, allowed = await together(
            (
                self._venue.get("/v5/account/wallet-balance", {"accountType": "UNIFIED"}),
                self._venue.get("/v5/account/withdrawal", {"coinName": asked}),
            )
        )
        rows = wallet.result.rows("list")
        if len(rows) != 1:
            raise BadMessage(f"$.result.list: expected one account, got {len(rows)}")
        coins = tuple(bybit_parse.parse_coin(row) for row in rows[0].rows("coin"))
        self._wallet_coins = tuple(sorted(coin.coin for coin in coins))
        return WalletRead(
            account=self.account,
            coins=coins,
            withdrawable=bybit_parse.parse_withdrawable(allowed.result),
            margin_balance=rows[0].given("totalMarginBalance"),
            maintenance_margin=rows[0].given("totalMaintenanceMargin"),
            margin_ratio=rows[0].given("accountMMRate"),
            ts_requested_ms=ts_requested_ms,
            ts_event_ms=wallet.ts_event_ms,
            ts_seen_ms=max(wallet.ts_seen_ms, allowed.ts_seen_ms),
        )

    async def positions(self) -> PositionsRead:
        """Linear by settle coin, inverse whole, and the hedge instruments' rows even when flat."""
        ts_requested_ms = self._clock.now_ms()
        queries: list[dict[str, Any]] = [
            {"category": "linear", "settleCoin": coin, "limit": 200}
            for coin in self._settings.settle_coins
        ]
        queries.append({"category": "inverse", "limit": 200})
        queries += [
            {"category": category_of(name), "symbol": symbol_of(name)}
            for name in self._settings.hedge_instruments
        ]
        pages = await together([self._position_rows(query) for query in queries])
        newest: dict[str, Position] = {}
        event_ms = seen_ms = 0
        for positions, page_event_ms, page_seen_ms in pages:
            # The oldest page dates the whole; two reads of one position keep the later one.
            event_ms = min(event_ms, page_event_ms) if event_ms else page_event_ms
            seen_ms = max(seen_ms, page_seen_ms)
            for position in positions:
                known = newest.get(position.instrument)
                if known is None or position.seq > known.seq:
                    newest[position.instrument] = position
        return PositionsRead(
            account=self.account, positions=tuple(newest[name] for name in sorted(newest)),
            ts_requested_ms=ts_requested_ms, ts_event_ms=event_ms, ts_seen_ms=seen_ms,
        )

    async def _position_rows(self, query: dict[str, Any]) -> tuple[list[Position], int, int]:
        category, positions, event_ms, seen_ms = query["category"], [], 0, 0
        async for answer in pages(self._venue, "/v5/position/list", query):
            rows = answer.result.rows("list")
            if "symbol" in query and not rows:
                # A symbol that is asked for has a row even when flat: none is no news of flatness.
                raise answer.result.bad("list", f"no row of {query['symbol']}")
            for row in rows:
                position = bybit_parse.parse_position(row, category=category)
                if position is not None:
                    positions.append(position)
            event_ms = min(event_ms, answer.ts_event_ms) if event_ms else answer.ts_event_ms
            seen_ms = answer.ts_seen_ms
            if "symbol" in query:
                break
        return positions, event_ms, seen_ms

    async def fund(self) -> FundRead:
        """The funding wallet."""
        answer = await self._venue.get(
            "/v5/asset/transfer/query-account-coins-balance", {"accountType": "FUND"}
        )
        rows = answer.result.rows("balance")
        return FundRead(
            account=self.account,
            balances=tuple(bybit_parse.parse_fund_balance(row) for row in rows),
            ts_requested_ms=answer.ts_requested_ms, ts_event_ms=answer.ts_event_ms,
            ts_seen_ms=answer.ts_seen_ms,
        )

    async def loan(self) -> LoanRead:
        """The crypto loan; VenueRefused where the mode has none."""
        answer = await self._venue.get("/v5/crypto-loan-common/position")
        return LoanRead(
            account=self.account,
            debts=tuple(bybit_parse.parse_debt(r) for r in answer.result.rows("borrowList")),
            collateral=tuple(
                bybit_parse.parse_loan_collateral(r) for r in answer.result.rows("collateralList")
            ),
            ltv=answer.result.given("ltv"),
            collateral_state=bybit_parse.parse_collateral_state(answer.result),
            ts_requested_ms=answer.ts_requested_ms, ts_event_ms=answer.ts_event_ms,
            ts_seen_ms=answer.ts_seen_ms,
        )

    async def ledger(self, since_ts_ms: int) -> list[LedgerLine]:
        """Transaction-log lines from `since_ts_ms` (venue time, at most 7 days back), oldest first.

        A line that cannot be read is counted and left out; one whose sum does not close is counted
        and kept: the venue's `change` is what happened.
        """
        end_ms = self._clock.now_ms() + self._venue.offset_ms + 1_000
        query: dict[str, Any] = {
            "accountType": "UNIFIED", "limit": 50, "endTime": end_ms,
            "startTime": max(since_ts_ms, end_ms - LEDGER_WINDOW_MS),
        }
        lines: list[LedgerLine] = []
        async for answer in pages(self._venue, "/v5/account/transaction-log", query):
            seen = Seen(self.account, answer.ts_event_ms, answer.ts_seen_ms)
            for row in answer.result.rows("list"):
                try:
                    line = bybit_parse.parse_ledger_line(row, seen=seen)
                except BadMessage as error:
                    self._bad("account_ledger", str(error), b"")
                    continue
                gap = bybit_parse.ledger_gap(line)
                if gap:
                    self._bad("account_ledger", f"{line.line_id}: off by {gap}", b"")
                lines.append(line)
        return sorted(lines, key=lambda line: (line.ts_event_ms, line.line_id))


def _one(rows: list[Row], name: str, value: str) -> Row | None:
    return next((row for row in rows if row.text(name) == value), None)
