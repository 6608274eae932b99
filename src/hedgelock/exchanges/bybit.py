"""Bybit v5: one account's unified trading account, funding wallet and crypto loan.

Modes differ by addresses, keys and capability flags only. Money is read from the venue's own
fields. `bybit_dialect` says what codes mean, `bybit_parse` and `bybit_market` what payloads mean,
`bybit_effects` runs the executor's effects, `bybit_channels` the sockets.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar

from hedgelock.domain.account import (
    FundRead,
    LedgerLine,
    LoanRead,
    PositionsRead,
    WalletRead,
)
from hedgelock.domain.effect import Effect, StreamReset, VenueEvent
from hedgelock.domain.funding import FundingRate
from hedgelock.domain.instrument import CollateralTerms, Instrument, category_of
from hedgelock.domain.market import MarketTick
from hedgelock.errors import BadMessage, VenueError, VenueForbidden, VenueRefused
from hedgelock.exchanges import bybit_key
from hedgelock.exchanges.address import Guard
from hedgelock.exchanges.bybit_channels import Facts, Latest, MarketChannel, OnBad, PrivateChannel
from hedgelock.exchanges.bybit_dialect import BybitDialect
from hedgelock.exchanges.bybit_effects import BybitEffects
from hedgelock.exchanges.bybit_reads import BybitReads, BybitSettings
from hedgelock.exchanges.bybit_trade import TradeChannel
from hedgelock.exchanges.bybit_watchdog import cancel_opening
from hedgelock.exchanges.ccxt_venue import CcxtVenue, Credentials, OnLimits
from hedgelock.exchanges.stream import Channel, SupervisedSocket
from hedgelock.exchanges.transport import AiohttpTransport, Transport
from hedgelock.ports import Capabilities, Clock

T = TypeVar("T")

class Addresses(NamedTuple):
    """Where a mode lives; without trailing slashes."""

    rest: str
    ws_public: str
    """Up to and without the category: …/v5/public."""
    ws_private: str
    ws_trade: str = ""
    """Empty = there is none."""


ADDRESSES = {
    "live": Addresses(
        "https://api.bybit.com", "wss://stream.bybit.com/v5/public",
        "wss://stream.bybit.com/v5/private", "wss://stream.bybit.com/v5/trade",
    ),
    "testnet": Addresses(
        "https://api-testnet.bybit.com", "wss://stream-testnet.bybit.com/v5/public",
        "wss://stream-testnet.bybit.com/v5/private", "wss://stream-testnet.bybit.com/v5/trade",
    ),
    # Demo accounts trade against the live market data.
    "demo": Addresses(
        "https://api-demo.bybit.com", "wss://stream.bybit.com/v5/public",
        "wss://stream-demo.bybit.com/v5/private",
    ),
}

CAPABILITIES = {
    "live": Capabilities(
        loans=True, transfers=True, spot=True, trade_socket=True, private_stream=True
    ),
    "testnet": Capabilities(
        loans=True, transfers=True, spot=True, trade_socket=True, private_stream=True
    ),
    "demo": Capabilities(
        loans=False, transfers=False, spot=True, trade_socket=False, private_stream=True
    ),
    "sim": Capabilities(
        loans=True, transfers=True, spot=True, trade_socket=True, private_stream=True
    ),
    # The simulator's answers are new, the real market's prices in them may be 15 s old.
    "paper": Capabilities(
        loans=True, transfers=True, spot=True, trade_socket=True, private_stream=True,
        rest_prices=False,
    ),
}


_TAKER, _MAKER, _SPOT = Decimal("0.00055"), Decimal("0.0002"), Decimal("0.001")

CLOCK_MAX_MS = 1_000
"""Bybit refuses a request stamped 1 s ahead; a machine that is so far off is not to trade real money."""

MODE_SETTINGS = {
    "live": BybitSettings(offset_max_ms=CLOCK_MAX_MS),
    # Demo trading has neither user/query-api nor fee-rate: VIP 0 fees are assumed there.
    "demo": BybitSettings(
        check_key=False,
        fees={"linear": (_TAKER, _MAKER), "inverse": (_TAKER, _MAKER), "spot": (_SPOT, _SPOT)},
    ),
}
"""Settings of modes that need other than the default."""


def simulator_addresses(host: str = "127.0.0.1", port: int = 8010) -> Addresses:
    """The built-in simulator, everything on one port."""
    return Addresses(
        f"http://{host}:{port}", f"ws://{host}:{port}/v5/public", f"ws://{host}:{port}/v5/private",
        f"ws://{host}:{port}/v5/trade",
    )


def _ignore_bad(_topic: str, _reason: str, _raw: bytes) -> None:
    """Default of `on_bad`; the adapter counts all the same."""


class BybitExchange:
    """`ports.Exchange` for Bybit."""

    def __init__(
        self, account: str, credentials: Credentials, *, addresses: Addresses,
        capabilities: Capabilities, clock: Clock, settings: BybitSettings | None = None,
        transport: Transport | None = None, on_limits: OnLimits | None = None,
        on_bad: OnBad = _ignore_bad, seed: int | None = None, guard: Guard | None = None,
    ) -> None:
        """Everything that differs between modes is given here.

        `on_bad` (topic, reason, raw) hears of every payload that could not be read; it may be set
        later, to `Collector.quarantine`. Use the object on one asyncio loop.
        """
        self.account = account
        self.capabilities = capabilities
        self.bad_messages = 0
        self.warnings: Sequence[str] = ()
        """What `connect` found that a person should mend soon."""
        self.dcp_window_s: int | None = None
        """The venue cancels our orders this long after our sockets are gone; None = it does not."""
        self.sockets: list[SupervisedSocket] = []
        self._addresses = addresses
        self._settings = settings if settings is not None else BybitSettings()
        self._clock = clock
        self._own_transport = transport is None
        self._transport = transport if transport is not None else AiohttpTransport()
        self.on_bad = on_bad
        self._rng = random.Random(seed)
        self._venue = CcxtVenue(
            "bybit", credentials, base_url=addresses.rest, dialect=BybitDialect(),
            transport=self._transport, clock=clock, on_limits=on_limits, guard=guard,
        )
        has_trade = capabilities.trade_socket and addresses.ws_trade
        self._trade = self._trade_channel() if has_trade else None
        self._trading: asyncio.Task[None] | None = None
        self._effects = BybitEffects(
            self._venue, account=account, clock=clock, capabilities=capabilities, trade=self._trade
        )
        self._reads = BybitReads(
            self._venue, account=account, clock=clock, capabilities=capabilities,
            settings=self._settings, on_bad=self._bad,
        )

    # ------------------------------------------------------------ connection

    async def connect(self) -> None:
        """Measure the clock, check the key and the account's mode. VenueForbidden says what to do."""
        offset_ms, most_ms = await self._venue.sync_clock(), self._settings.offset_max_ms
        if most_ms is not None and abs(offset_ms) > most_ms:
            raise VenueForbidden(
                f"the exchange's clock is {offset_ms} ms from ours, at most {most_ms} are allowed: set"
                " this machine's clock (timedatectl set-ntp true)", code="clock",
            )
        if self._settings.check_key:
            await self._read_as("key", self._check_key())
        await self._read_as("account", self._check_account())
        if self._settings.dcp_window_s:
            self.dcp_window_s = await bybit_key.arm_dcp(self._venue, self._settings.dcp_window_s)

    async def close(self) -> None:
        """Close what this object opened."""
        if self._trading is not None:
            self._trading.cancel()
            await asyncio.gather(self._trading, return_exceptions=True)
            self._trading = None
        if self._own_transport:
            await self._transport.close()

    async def clock_offset_ms(self) -> int:
        """Measure venue minus ours; requests are stamped accordingly from now on."""
        return await self._venue.sync_clock()

    @property
    def offset_ms(self) -> int:
        """Venue minus ours as last measured."""
        return self._venue.offset_ms

    @property
    def has_trade_socket(self) -> bool:
        """Whether orders leave over the trade socket now; by REST otherwise."""
        return self._trade is not None and self._trade.is_open

    async def _check_key(self) -> None:
        key = bybit_key.parse_key((await self._venue.get("/v5/user/query-api")).result)
        self.warnings = tuple(bybit_key.key_warnings(key))
        problems = bybit_key.key_problems(
            key, capabilities=self.capabilities,
            refuse_withdrawal=self._settings.refuse_withdrawal_keys,
        )
        if problems:
            raise VenueForbidden("; ".join(problems), code="key")

    async def _check_account(self) -> None:
        info = (await self._venue.get("/v5/account/info")).result
        if problems := bybit_key.account_problems(info):
            raise VenueForbidden("; ".join(problems), code="account")

    def _bad(self, topic: str, reason: str, raw: bytes) -> None:
        self.bad_messages += 1
        self.on_bad(topic, reason, raw)

    async def _read_as(self, name: str, read: Coroutine[Any, Any, T]) -> T:
        """Await a read; a payload that cannot be read is counted and raised as a VenueError."""
        try:
            return await read
        except BadMessage as error:
            self._bad(name, str(error), b"")
            raise VenueError(f"{name}: {error}", code="bad-message") from error

    # ------------------------------------------------------------ reads

    async def read_instruments(self, instruments: Sequence[str]) -> list[Instrument]:
        """Contract terms, margin tiers and this account's fees."""
        return await self._read_as("instruments", self._reads.instruments(instruments))

    async def read_collateral_terms(self, coins: Sequence[str]) -> list[CollateralTerms]:
        """Tiered ratios of the loan and of the trading account."""
        return await self._read_as("terms", self._reads.collateral_terms(coins))

    async def read_prices(
        self, instrument: str, *, ts_seen_ms: int
    ) -> tuple[MarketTick, FundingRate | None]:
        """Mark, index, book and funding of one instrument, for as long as its socket is silent."""
        return await self._read_as("prices", self._reads.prices(instrument, ts_seen_ms))

    async def read_wallet(self) -> WalletRead:
        """The unified trading account and what may leave it."""
        return await self._read_as("wallet", self._reads.wallet())

    async def read_positions(self) -> PositionsRead:
        """Every derivative position."""
        return await self._read_as("positions", self._reads.positions())

    async def read_fund(self) -> FundRead:
        """The funding wallet."""
        return await self._read_as("fund", self._reads.fund())

    async def read_loan(self) -> LoanRead:
        """The crypto loan; VenueRefused where the mode has none."""
        if not self.capabilities.loans:
            raise VenueRefused("this mode has no crypto loan", code="capability")
        return await self._read_as("loan", self._reads.loan())

    async def read_ledger(self, since_ts_ms: int) -> list[LedgerLine]:
        """Transaction-log lines since an instant of the venue's clock, oldest first."""
        return await self._read_as("ledger", self._reads.ledger(since_ts_ms))

    # ------------------------------------------------------------ effects

    async def perform(self, effect: Effect) -> VenueEvent:
        """Run one effect of the executor; never raises but for cancellation.

        The first one opens the trade socket, which stays open: a process that only reads needs none.
        """
        if self._trading is None and self._trade is not None:
            socket = self._socket(self._trade)
            self._trade.restart = socket.kick
            self._trading = asyncio.create_task(socket.run())
        return await self._effects.perform(effect)

    async def cancel_opening_orders(self) -> tuple[list[str], list[str]]:
        """Cancel what is ours, open and not reduce-only; (cancelled, failed) client order ids."""
        work = cancel_opening(self._venue, settle_coins=self._settings.settle_coins)
        return await self._read_as("orders", work)

    # ------------------------------------------------------------ streams

    async def market_stream(self, instruments: Sequence[str]) -> AsyncIterator[object]:
        """MarketTick and FundingRate for ever, the newest per instrument when the reader lags."""
        out = Latest()
        by_category: dict[str, list[str]] = {}
        for name in instruments:
            by_category.setdefault(category_of(name), []).append(name)
        sockets = []
        for category, names in by_category.items():
            channel = MarketChannel(
                f"{self._addresses.ws_public}/{category}", names, out=out, clock=self._clock,
                on_bad=self._bad, saw=lambda _topic: None,
            )
            socket = self._socket(channel)
            channel.saw = socket.saw
            sockets.append(socket)
        async with _Running(sockets, out, self.sockets):
            while True:
                yield await out.get()

    async def private_stream(self) -> AsyncIterator[object]:
        """PositionChanged, OrderReport, ExecutionReport, WalletPushed and StreamReset, for ever.

        Each call has a socket of its own. Raises VenueForbidden when the key is refused repeatedly.
        """
        if not self.capabilities.private_stream:
            raise VenueRefused("this mode has no private stream", code="capability")
        out = Facts()
        channel = PrivateChannel(
            self._addresses.ws_private, account=self.account, venue=self._venue, out=out,
            clock=self._clock, on_bad=self._bad, watched=self.dcp_window_s is not None,
            reset=lambda: StreamReset(account=self.account, ts_seen_ms=self._clock.now_ms()),
        )
        socket = self._socket(channel)
        out.overflowed = socket.kick
        async with _Running([socket], out, self.sockets):
            while True:
                yield await out.get()

    def _trade_channel(self) -> TradeChannel:
        return TradeChannel(
            self._addresses.ws_trade, venue=self._venue, clock=self._clock, on_bad=self._bad
        )

    def _socket(self, channel: Channel) -> SupervisedSocket:
        return SupervisedSocket(
            channel, self._transport, clock=self._clock, policy=self._settings.socket,
            rng=self._rng,
        )


class _Running:
    """Runs sockets while a stream is read; their end is the reader's error."""

    def __init__(
        self, sockets: list[SupervisedSocket], out: Latest | Facts, shown: list[SupervisedSocket]
    ) -> None:
        self._sockets = sockets
        self._out = out
        self._shown = shown
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> None:
        for socket in self._sockets:
            task = asyncio.create_task(socket.run())
            task.add_done_callback(self._ended)
            self._tasks.append(task)
            self._shown.append(socket)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._out.error = error
            self._out.wake()

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for socket in self._sockets:
            self._shown.remove(socket)
