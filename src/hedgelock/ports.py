"""The three ports through which services touch the world: the bus, the exchange, the clock.

Adapters live in `bus/` and `exchanges/`; only `app.py` knows which one is in use. The bus carries
bytes: `bus/codec.py` turns messages into bytes and back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from hedgelock.domain.account import FundRead, LoanRead, PositionsRead, WalletRead
    from hedgelock.domain.effect import Effect, VenueEvent
    from hedgelock.domain.funding import FundingRate
    from hedgelock.domain.instrument import CollateralTerms, Instrument
    from hedgelock.domain.market import MarketTick


# ---------------------------------------------------------------- clock


class Clock(Protocol):
    """Where time comes from; a virtual clock replaces it in simulations."""

    def now_ms(self) -> int:
        """UTC epoch in milliseconds."""

    def monotonic_ms(self) -> float:
        """Milliseconds that never run backwards; for durations only."""


# ---------------------------------------------------------------- bus


class Outgoing(NamedTuple):
    """A message to publish. The bus derives the partition from the topic map and the key."""

    topic: str
    key: str
    value: bytes


class Record(NamedTuple):
    """A message as it stands in the log. `ts_ms` is when it was appended (UTC epoch)."""

    topic: str
    partition: int
    offset: int
    key: str
    value: bytes
    ts_ms: int


class StepRecord(NamedTuple):
    """What one account's inputs of one batch led to; the runner's only write.

    `state` None leaves the stored state as it is (a quarantined record, for instance). `journal` is
    the encoded step for `replay`; `rows` are content-addressed table rows that it refers to
    (hash, bytes), written once. `durable` asks for the strongest promise the bus can give (an
    fsync on SQLite): set when the step holds an effect on the world.
    """

    partition: int
    key: str
    state: bytes | None
    outputs: tuple[Outgoing, ...]
    journal: bytes | None
    rows: tuple[tuple[str, bytes], ...] = ()
    durable: bool = False


Offsets = Mapping[tuple[str, int], int]
"""(topic, partition) -> offset of the next record to read."""


class Batch(NamedTuple):
    """What one poll brought.

    Partitions in `revoked` are no longer ours: drop their state first. Partitions in `assigned` are
    new: call `restore` before folding their records. `rows` are table records (latest per key
    may already be conflated); `records` are facts, in order within each (topic, partition).
    """

    revoked: tuple[int, ...] = ()
    assigned: tuple[int, ...] = ()
    rows: tuple[Record, ...] = ()
    records: tuple[Record, ...] = ()


class Session(Protocol):
    """One instance of one service on the bus. Used by one thread, except `wake`."""

    @property
    def log_id(self) -> str:
        """Hex of 128 random bits drawn once when the log was created or restored."""

    def poll(self, timeout_s: float, records_max: int = 200) -> Batch:
        """Wait up to `timeout_s` (0 = do not wait) for records, rows or a rebalance.

        On the first poll every table is delivered whole before any fact. Raises BusError.
        """

    def restore(self, partition: int) -> dict[str, bytes]:
        """Committed state of every key of a partition that is ours; {} when there is none."""

    def commit(self, steps: Sequence[StepRecord], offsets: Offsets) -> None:
        """Atomically: outputs, states, journal, rows and input offsets; all or nothing.

        Raises Fenced when another instance took over, StorageFull, BusError. After an error the
        caller drops its memory, calls `rewind` and restores.
        """

    def rewind(self) -> None:
        """Go back to the committed offsets; the next poll assigns our partitions anew."""

    def wake(self) -> None:
        """Make a waiting `poll` return at once. Safe from any thread."""

    def close(self) -> None:
        """Leave the group. Uncommitted work is forgotten."""


class Publisher(Protocol):
    """Appends messages that are no step: what the collector saw, seeds, operator commands.

    Idempotent against retries of its own, at-least-once across a crash of the caller.
    """

    def publish(self, messages: Sequence[Outgoing]) -> None:
        """Append soon, in order per key; never blocks on the network. Safe from any thread."""

    def flush(self, timeout_s: float) -> None:
        """Wait until everything published is in the log; raises BusError when it is not."""

    def close(self) -> None:
        """Flush and release."""


class Bus(Protocol):
    """A log of topics. Two implementations: `bus.embedded` and `bus.kafka`."""

    def open(
        self, *, service: str, instance: str, inputs: Sequence[str], tables: Sequence[str]
    ) -> Session:
        """Join the consumer group of `service` as member `instance` (static membership)."""

    def publisher(self, name: str) -> Publisher:
        """A publisher; `name` appears in the broker's own logs and metrics."""

    def read(
        self, topic: str, *, partition: int | None = None, start: int | None = None,
        follow: bool = False,
    ) -> Iterator[Record]:
        """Read a topic outside any group, oldest first, read-committed.

        `start` None = from the oldest kept; negative = that many records before the end of
        each partition. Stops at the end unless `follow`.
        """

    def ensure_topics(self, services: Iterable[str]) -> None:
        """Create what is missing of the map and of these services' changelogs."""

    def ends(self, topic: str) -> dict[int, tuple[int, int]]:
        """Partition -> (oldest kept offset, next offset)."""

    def close(self) -> None:
        """Release files and connections; open sessions must be closed first."""


class LocalBus(Protocol):
    """What a bus can do besides where all its sessions live in this process, on one loop."""

    def on_news(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever something was appended; from any thread, so it must be quick."""

    def turn(self) -> AbstractContextManager[None]:
        """One transaction for all that is committed within, written at the end.

        Raises BusError then: nothing of it was written, and every session that committed within
        must rewind.
        """

    def settle(self) -> None:
        """Write what was put off because the next transaction would have taken it along."""


# ---------------------------------------------------------------- exchange


class Capabilities(NamedTuple):
    """What a venue in a given mode can do; a missing ability is refused with its reason."""

    loans: bool
    transfers: bool
    spot: bool
    trade_socket: bool
    private_stream: bool
    stops: bool = True
    """Conditional orders that wait at the venue."""
    rest_prices: bool = True
    """Prices asked for by REST are the market's own, and no older than the answer."""


class Exchange(Protocol):
    """One account's view of one venue. All methods raise `VenueError` and its children only.

    Reads return facts stamped with `ts_requested_ms` (our clock, before the request left) and
    `ts_seen_ms` (our clock, after the answer).
    """

    account: str
    capabilities: Capabilities
    warnings: Sequence[str]
    """What `connect` found that stops nothing and should be mended soon, each with what to do."""
    on_bad: Callable[[str, str, bytes], None]
    """Told of what the venue sent and nobody could read: (topic, reason, raw bytes)."""

    async def connect(self) -> None:
        """Check the clock and the key, load markets. Raises VenueForbidden with what to do."""

    async def close(self) -> None:
        """Close sockets and sessions."""

    async def clock_offset_ms(self) -> int:
        """Venue clock minus ours, by the midpoint of one request."""

    async def read_instruments(self, instruments: Sequence[str]) -> list[Instrument]:
        """Contract terms and margin tiers, with this account's fees."""

    async def read_collateral_terms(self, coins: Sequence[str]) -> list[CollateralTerms]:
        """Tiered collateral ratios of the loan and of the trading account."""

    async def read_prices(
        self, instrument: str, *, ts_seen_ms: int
    ) -> tuple[MarketTick, FundingRate | None]:
        """What the market stream would say of an instrument now, dated `ts_seen_ms`."""

    async def read_wallet(self) -> WalletRead:
        """The unified trading account's coins, margin ratios and what may leave it."""

    async def read_positions(self) -> PositionsRead:
        """Every derivative position, complete."""

    async def read_fund(self) -> FundRead:
        """The funding wallet (FUND)."""

    async def read_loan(self) -> LoanRead:
        """The crypto loan: debts, collateral, the venue's own LTV."""

    def market_stream(self, instruments: Sequence[str]) -> AsyncIterator[object]:
        """MarketTick and FundingRate for ever; reconnects with jittered back-off by itself."""

    def private_stream(self) -> AsyncIterator[object]:
        """PositionChanged, OrderReport, ExecutionReport and StreamReset, for ever.

        `StreamReset` comes after every (re)connect: whatever was missed must be read by REST.
        """

    async def perform(self, effect: Effect) -> VenueEvent:
        """Run one effect of the executor and return what is known afterwards.

        Never raises: refusal, doubt and rate limits are events too.
        """
