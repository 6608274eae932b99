"""One supervised WebSocket: connect, greet, subscribe, ping, notice silence, connect again.

Frames are handed to `on_frame` synchronously, in order, as they arrive. Delays come from an injected
random source and `asyncio` timers, so a virtual-time loop drives it without waiting.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from hedgelock.errors import VenueError, VenueForbidden
from hedgelock.exchanges.transport import Socket, Transport, TransportFailed
from hedgelock.ports import Clock


@dataclass(frozen=True, slots=True)
class SocketPolicy:
    """Every bound of a socket, in seconds."""

    connect_timeout_s: float = 10.0
    reply_timeout_s: float = 10.0
    ping_s: float = 18.0
    """Bybit wants one every 20 s."""
    silence_max_s: float = 40.0
    """No frame at all, pongs included: the connection is dead whatever TCP says."""
    topic_silence_max_s: float = 10.0
    """No frame on a topic that should tick: stale while connected."""
    delay_first_s: float = 0.2
    delay_max_s: float = 10.0
    """Bounded by Bybit's 500 connections in 5 minutes."""
    steady_s: float = 30.0
    """A connection that lasted this long starts the back-off anew."""
    auth_failures_max: int = 3
    settle_s: float = 0.05
    """An acknowledged subscription may start this much later: what is read before could miss it."""


@dataclass(slots=True)
class SocketStats:
    """What happened on a socket so far."""

    connects: int = 0
    disconnects: int = 0
    stale: int = 0
    frames: int = 0
    bad_frames: int = 0
    connected: bool = False
    last_error: str = ""
    topic_seen_ms: dict[str, float] = field(default_factory=dict)


class Channel(Protocol):
    """What differs per venue and channel."""

    url: str

    async def greet(self, socket: Socket) -> None:
        """Authenticate and subscribe, waiting for the answers. Raises VenueError."""

    def opened(self) -> None:
        """Everything is subscribed; from here on nothing is missed."""

    def on_frame(self, raw: str | bytes) -> None:
        """Take one frame; never raises."""

    def closed(self) -> None:
        """The connection is over, whether or not it was ever opened."""

    def ping(self) -> str:
        """The frame that asks for a sign of life."""

    def ticking(self) -> tuple[str, ...]:
        """Topics that must bring a frame every `topic_silence_max_s`."""


Sleep = Callable[[float], Awaitable[None]]


def back_off_s(failures: int, policy: SocketPolicy, rng: random.Random) -> float:
    """Delay before attempt `failures` + 1: doubling, full jitter on the upper half, bounded."""
    ceiling = min(policy.delay_max_s, policy.delay_first_s * 2.0 ** min(failures, 16))
    return ceiling * (0.5 + 0.5 * rng.random())


class SupervisedSocket:
    """Keeps one socket alive until `run` is cancelled or a person has to act."""

    def __init__(
        self, channel: Channel, transport: Transport, *, clock: Clock, policy: SocketPolicy,
        rng: random.Random, sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._channel = channel
        self._transport = transport
        self._clock = clock
        self._policy = policy
        self._rng = rng
        self._sleep = sleep
        self._seen_ms = 0.0
        self._socket: Socket | None = None
        self._closing: asyncio.Task[None] | None = None
        self.stats = SocketStats()

    def saw(self, topic: str) -> None:
        """A frame of `topic` came; silence is measured from here."""
        self.stats.topic_seen_ms[topic] = self._clock.monotonic_ms()

    def kick(self) -> None:
        """Drop the connection and make a new one."""
        if self._socket is not None:
            self._closing = asyncio.ensure_future(self._socket.close())

    async def run(self) -> None:
        """For ever; raises VenueForbidden when a person has to act."""
        failures = refusals = 0
        while True:
            started_ms = self._clock.monotonic_ms()
            try:
                await self._once()
            except VenueForbidden as error:
                self.stats.last_error = str(error)
                refusals += 1
                if refusals >= self._policy.auth_failures_max:
                    raise
            except (TransportFailed, VenueError, TimeoutError) as error:
                self.stats.last_error = str(error) or type(error).__name__
            if self.stats.connected:
                self.stats.connected = False
                self.stats.disconnects += 1
                refusals = 0
            if self._clock.monotonic_ms() - started_ms >= self._policy.steady_s * 1000:
                failures = 0
            await self._sleep(back_off_s(failures, self._policy, self._rng))
            failures += 1

    async def _once(self) -> None:
        policy = self._policy
        socket = await self._transport.open_socket(
            self._channel.url, timeout_s=policy.connect_timeout_s
        )
        self._socket = socket
        keeper: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(policy.reply_timeout_s):
                await self._channel.greet(socket)
            now_ms = self._seen_ms = self._clock.monotonic_ms()
            self.stats.topic_seen_ms = dict.fromkeys(self._channel.ticking(), now_ms)
            self.stats.connects += 1
            self.stats.connected = True
            keeper = asyncio.create_task(self._keep(socket))
            stats, on_frame = self.stats, self._channel.on_frame
            monotonic_ms = self._clock.monotonic_ms
            while True:
                raw = await socket.receive()
                self._seen_ms = monotonic_ms()
                stats.frames += 1
                on_frame(raw)
        finally:
            if keeper is not None:
                keeper.cancel()
            self._socket = None
            self._channel.closed()
            await socket.close()

    async def _keep(self, socket: Socket) -> None:
        """Ping, and close a socket that fell silent: its reader then connects again."""
        policy = self._policy
        await self._sleep(policy.settle_s)
        self._channel.opened()
        check_s = min(policy.ping_s, policy.topic_silence_max_s / 4)
        ping_due_ms = self._clock.monotonic_ms() + policy.ping_s * 1000
        while True:
            await self._sleep(check_s)
            now_ms = self._clock.monotonic_ms()
            silent = [
                topic for topic, seen_ms in self.stats.topic_seen_ms.items()
                if now_ms - seen_ms > policy.topic_silence_max_s * 1000
            ]
            if silent or now_ms - self._seen_ms > policy.silence_max_s * 1000:
                self.stats.stale += 1
                self.stats.last_error = f"silent while connected: {silent or 'everything'}"
                await socket.close()
                return
            if now_ms >= ping_due_ms:
                ping_due_ms = now_ms + policy.ping_s * 1000
                try:
                    await socket.send(self._channel.ping())
                except TransportFailed:
                    return  # the reader sees it too
