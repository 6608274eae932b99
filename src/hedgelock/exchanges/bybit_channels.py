"""The two kinds of Bybit sockets: greeting, subscribing, and frames to messages."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

import msgspec

from hedgelock.domain.account import PositionChanged
from hedgelock.errors import BadMessage, VenueError, VenueForbidden
from hedgelock.exchanges.bybit_market import TickerMerge
from hedgelock.exchanges.bybit_parse import (
    CATEGORIES,
    Seen,
    WalletPushed,
    parse_execution,
    parse_order,
    parse_position,
)
from hedgelock.exchanges.ccxt_venue import CcxtVenue
from hedgelock.exchanges.fields import Row, decode_json
from hedgelock.exchanges.transport import Socket
from hedgelock.ports import Clock

OnBad = Callable[[str, str, bytes], None]
"""(topic, reason, raw frame or row) of everything that could not be read."""

PRIVATE_TOPICS = ("order", "execution", "position", "wallet")
DCP_TOPIC = "dcp.future"
"""Pushes nothing: as long as a socket listens to it, disconnected-cancel-all does not fire."""
QUEUE_MAX = 10_000
GREETING_FRAMES_MAX = 1_000
TOPICS_PER_REQUEST = 10
"""Spot takes no more; the others do not mind."""
PING = '{"op":"ping"}'


class Latest:
    """The newest message per key, in order of first arrival: a slow reader skips, never lags."""

    def __init__(self) -> None:
        self._items: OrderedDict[object, object] = OrderedDict()
        self._wake: asyncio.Future[None] | None = None
        self.error: BaseException | None = None

    def put(self, key: object, item: object) -> None:
        """Replace what waits under `key`."""
        self._items[key] = item
        self.wake()

    def wake(self) -> None:
        """Let a waiting reader look."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def get(self) -> object:
        """The next message, or the error that ended the source."""
        while not self._items:
            if self.error is not None:
                raise self.error
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return self._items.popitem(last=False)[1]


class Facts:
    """Every message in order; too many waiting = all are dropped and a reset is asked for."""

    def __init__(self) -> None:
        self._items: deque[object] = deque()
        self._wake: asyncio.Future[None] | None = None
        self.overflowed: Callable[[], None] | None = None
        self.error: BaseException | None = None

    def put(self, item: object) -> None:
        """Append; on overflow start over, which the reset makes known."""
        if len(self._items) >= QUEUE_MAX:
            self._items.clear()
            if self.overflowed is not None:
                self.overflowed()
            return
        self._items.append(item)
        self.wake()

    def wake(self) -> None:
        """Let a waiting reader look."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def get(self) -> object:
        """The next message, or the error that ended the source."""
        while not self._items:
            if self.error is not None:
                raise self.error
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        return self._items.popleft()


async def request(socket: Socket, message: dict[str, Any], on_frame: Callable[[Any], None]) -> Row:
    """Send an operation and wait for its answer; data that comes meanwhile is handed on."""
    await socket.send(msgspec.json.encode(message).decode())
    for _ in range(GREETING_FRAMES_MAX):
        raw = await socket.receive()
        try:
            row = Row(decode_json(raw))
        except BadMessage as error:
            raise VenueError(f"unreadable greeting: {error}", code="greeting") from error
        if row.text_or("op") == message["op"]:
            return row
        on_frame(raw)
    raise VenueError(f"no answer to {message['op']}", code="greeting")


async def subscribe(socket: Socket, topics: list[str], on_frame: Callable[[Any], None]) -> None:
    """Subscribe and wait for each ack. Raises VenueError with the venue's words."""
    for start in range(0, len(topics), TOPICS_PER_REQUEST):
        chosen = topics[start : start + TOPICS_PER_REQUEST]
        answer = await request(
            socket, {"req_id": f"subscribe-{start}", "op": "subscribe", "args": chosen}, on_frame
        )
        if not _succeeded(answer):
            raise VenueError(answer.text_or("ret_msg"), code="subscribe")


def _succeeded(answer: Row) -> bool:
    try:
        return answer.flag("success")
    except BadMessage:
        return False


def is_control(row: Row) -> bool:
    """Pongs and acks: signs of life without data."""
    return "op" in row and "topic" not in row


class MarketChannel:
    """Public tickers of one category."""

    def __init__(
        self, url: str, instruments: list[str], *, out: Latest, clock: Clock, on_bad: OnBad,
        saw: Callable[[str], None],
    ) -> None:
        self.url = url
        self._merges = {
            f"tickers.{name.partition(':')[2]}": TickerMerge(name) for name in instruments
        }
        self._out = out
        self._clock = clock
        self._on_bad = on_bad
        self.saw = saw

    def ticking(self) -> tuple[str, ...]:
        """Every ticker should move."""
        return tuple(self._merges)

    async def greet(self, socket: Socket) -> None:
        """Subscribe; nothing is merged across the gap."""
        for merge in self._merges.values():
            merge.forget()
        await subscribe(socket, list(self._merges), self.on_frame)

    def opened(self) -> None:
        """Nothing to tell: a snapshot follows."""

    def closed(self) -> None:
        """Nothing to give back."""

    def ping(self) -> str:
        """Bybit's own ping."""
        return PING

    def on_frame(self, raw: str | bytes) -> None:
        """A ticker frame to MarketTick and, when due, FundingRate."""
        seen_ms = self._clock.now_ms()
        topic = "?"
        try:
            frame = Row(decode_json(raw))
            if is_control(frame):
                return
            topic = frame.text("topic")
            merge = self._merges.get(topic)
            if merge is None:
                raise frame.bad("topic", "not subscribed")
            tick, rate = merge.take(frame, ts_seen_ms=seen_ms)
        except BadMessage as error:
            self._on_bad(topic, str(error), _bytes(raw))
            return
        self.saw(topic)
        self._out.put(merge, tick)
        if rate is not None:
            self._out.put(topic, rate)


class PrivateChannel:
    """Orders, executions, positions and wallet hints of one account."""

    def __init__(
        self, url: str, *, account: str, venue: CcxtVenue, out: Facts, clock: Clock, on_bad: OnBad,
        reset: Callable[[], object], watched: bool = False,
    ) -> None:
        """`watched`: the venue cancels our orders when this socket is gone for too long."""
        self.url = url
        self._topics = [*PRIVATE_TOPICS, DCP_TOPIC] if watched else list(PRIVATE_TOPICS)
        self._account = account
        self._venue = venue
        self._out = out
        self._clock = clock
        self._on_bad = on_bad
        self._reset = reset

    def ticking(self) -> tuple[str, ...]:
        """Nothing has to happen on an account; pongs are the sign of life."""
        return ()

    async def greet(self, socket: Socket) -> None:
        """Log in, then subscribe. A refused login measures the clock before it is tried again."""
        answer = await request(
            socket, {"req_id": "auth", "op": "auth", "args": self._venue.login()}, self.on_frame
        )
        if not _succeeded(answer):
            await self._venue.resync()
            raise VenueForbidden(
                f"the private stream refuses the key ({answer.text_or('ret_msg')}): check"
                " BYBIT__API_KEY and BYBIT__API_SECRET", code="ws-auth",
            )
        await subscribe(socket, self._topics, self.on_frame)

    def opened(self) -> None:
        """From here on nothing is missed; what came before must be read by REST."""
        self._out.put(self._reset())

    def closed(self) -> None:
        """Nothing to give back: the next `opened` tells of the gap."""

    def ping(self) -> str:
        """Bybit's own ping."""
        return PING

    def on_frame(self, raw: str | bytes) -> None:
        """One frame to its messages; a bad row does not hide the others of its frame."""
        seen_ms = self._clock.now_ms()
        topic = "?"
        try:
            frame = Row(decode_json(raw))
            if is_control(frame):
                return
            topic = frame.text("topic").partition(".")[0]
            if topic == "dcp":
                return
            seen = Seen(self._account, frame.ts_ms("creationTime"), seen_ms)
            rows = frame.rows("data")
        except BadMessage as error:
            self._on_bad(topic, str(error), _bytes(raw))
            return
        if topic == "wallet":
            self._out.put(WalletPushed(*seen))
            return
        for row in rows:
            try:
                event = self._event(topic, row, seen)
            except BadMessage as error:
                self._on_bad(topic, str(error), _bytes(raw))
                if topic in ("order", "execution") and _may_be_ours(row):
                    # Something about an order of ours was missed: as after a gap, it must be read.
                    self._out.put(self._reset())
                continue
            if event is not None:
                self._out.put(event)

    def _event(self, topic: str, row: Row, seen: Seen) -> object | None:
        category = row.one_of("category", CATEGORIES)
        if topic == "order":
            return parse_order(row, category=category, seen=seen)
        if topic == "execution":
            return parse_execution(row, category=category, seen=seen)
        if topic == "position":
            position = parse_position(row, category=category)
            if position is None:
                return None
            return PositionChanged(
                account=self._account, position=position, ts_event_ms=seen.ts_event_ms,
                ts_seen_ms=seen.ts_seen_ms,
            )
        raise row.bad("topic", f"unknown topic {topic}")


def _may_be_ours(row: Row) -> bool:
    """False only for a row that says that it has no client order id."""
    try:
        return row.text("orderLinkId") != ""
    except BadMessage:
        return True


def _bytes(raw: str | bytes) -> bytes:
    return raw.encode() if isinstance(raw, str) else raw


