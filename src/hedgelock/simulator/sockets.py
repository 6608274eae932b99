"""Carries a session over a real WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from aiohttp import WSMsgType, web

from hedgelock.simulator.gateway import Gateway

CLOSE_TIMEOUT_S = 1.0  # how long a peer may take to answer our close frame
FRAMES_MAX = 20_000  # frames waiting for a slow reader before it is cut
FRAME_BYTES_MAX = 1 << 20


class Socket:
    """One WebSocket; its session decides what is sent."""

    def __init__(
        self, gateway: Gateway, request: web.BaseRequest, clock: Callable[[], int],
        closing: set[asyncio.Task[bool]],
    ) -> None:  # fmt: skip
        self._gateway = gateway
        self._request = request
        self._clock = clock
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(FRAMES_MAX)
        self._closing = closing
        self._ws = web.WebSocketResponse(
            compress=False, max_msg_size=FRAME_BYTES_MAX, timeout=CLOSE_TIMEOUT_S
        )

    def put(self, frame: bytes) -> None:
        """Queue a frame; a reader too slow for the bound is cut."""
        try:
            self._queue.put_nowait(frame)
        except asyncio.QueueFull:
            self.cut()

    def cut(self) -> None:
        """End the connection without a close frame."""
        if self._request.transport is not None:
            self._request.transport.abort()

    def bye(self) -> None:
        """Close in order."""
        task = asyncio.ensure_future(self._ws.close(code=1001))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def serve(self, path: str) -> web.WebSocketResponse:
        """Run the session until its end."""
        await self._ws.prepare(self._request)
        clock = self._clock
        session = self._gateway.session(
            path, self, address=self._request.remote or "", now_ms=clock()
        )
        writer = asyncio.ensure_future(self._write())
        try:
            async for message in self._ws:
                if message.type is WSMsgType.TEXT:
                    session.receive(message.data, clock())
        finally:
            session.end()
            writer.cancel()
            with suppress(asyncio.CancelledError):
                await writer
        return self._ws

    async def _write(self) -> None:
        while True:
            frame = await self._queue.get()
            try:
                await self._ws.send_frame(frame, WSMsgType.TEXT)
            except (ConnectionError, RuntimeError):
                return  # the reader notices the end of the connection
