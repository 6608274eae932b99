"""The wire below the venue adapters: one HTTP request, one WebSocket, nothing more.

Everything that touches a socket passes through a `Transport`, so that a simulation can put the
whole venue into the same process and the same virtual time. Adapters never import aiohttp.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import aiohttp
import certifi
from yarl import URL

FRAME_BYTES_MAX = 4 * 1024 * 1024
BODY_BYTES_MAX = 16 * 1024 * 1024
KEEP_ALIVE_S = 55.0
CONNECTIONS_MAX = 32
CLOSE_WAIT_S = 1.0
"""How long a dead peer may keep a closing socket."""


class HttpAnswer(NamedTuple):
    """Status, headers (names in lower case) and the raw body of one response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class TransportFailed(Exception):
    """No whole answer came back; for anything but a read it may have happened all the same."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
        """`timeout` or `connection`."""


class Socket(Protocol):
    """One open WebSocket."""

    async def send(self, text: str) -> None:
        """Send one text frame; TransportFailed when the socket is gone."""

    async def receive(self) -> str | bytes:
        """The next frame; TransportFailed when the socket has closed."""

    async def close(self) -> None:
        """Close; a waiting `receive` then raises TransportFailed."""


class Transport(Protocol):
    """How requests and sockets leave this process."""

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None,
        timeout_s: float,
    ) -> HttpAnswer:
        """One request, sent once: never repeated below this line. Raises TransportFailed."""

    async def open_socket(self, url: str, *, timeout_s: float) -> Socket:
        """Open a WebSocket. Raises TransportFailed."""

    async def close(self) -> None:
        """Release every connection."""


class _AiohttpSocket:
    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self._ws = ws

    async def send(self, text: str) -> None:
        try:
            await self._ws.send_str(text)
        except (aiohttp.ClientError, ConnectionError, RuntimeError) as error:
            raise TransportFailed("connection", str(error)) from error

    async def receive(self) -> str | bytes:
        try:
            frame = await self._ws.receive()
        except (aiohttp.ClientError, ConnectionError, RuntimeError) as error:
            raise TransportFailed("connection", str(error)) from error
        if frame.type is aiohttp.WSMsgType.TEXT or frame.type is aiohttp.WSMsgType.BINARY:
            data: str | bytes = frame.data
            return data
        raise TransportFailed("connection", f"closed ({frame.type.name} {self._ws.close_code})")

    async def close(self) -> None:
        await self._ws.close()


class AiohttpTransport:
    """The real wire. URLs travel exactly as signed; redirects and repeats are refused."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    def _open(self, url: str) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            # ccxt brings certifi; a slim image has no certificates of its own.
            secure = url.startswith(("https", "wss"))
            context = ssl.create_default_context(cafile=certifi.where()) if secure else True
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=CONNECTIONS_MAX, keepalive_timeout=KEEP_ALIVE_S, ssl=context
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None,
        timeout_s: float,
    ) -> HttpAnswer:
        """One request through the connection pool."""
        try:
            async with self._open(url).request(
                method, URL(url, encoded=True), headers=headers, data=body,
                allow_redirects=False, timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as response:
                content = await response.content.read(BODY_BYTES_MAX + 1)
                while chunk := await response.content.read(BODY_BYTES_MAX + 1):
                    content += chunk
                    if len(content) > BODY_BYTES_MAX:
                        raise TransportFailed("connection", "the answer is too long")
                names = {name.lower(): value for name, value in response.headers.items()}
                return HttpAnswer(response.status, names, content)
        except TimeoutError as error:
            raise TransportFailed("timeout", f"{method} after {timeout_s} s") from error
        except (aiohttp.ClientError, ConnectionError, OSError) as error:
            raise TransportFailed("connection", f"{type(error).__name__}: {error}") from error

    async def open_socket(self, url: str, *, timeout_s: float) -> Socket:
        """Open a WebSocket without compression (latency) and without aiohttp's own heartbeat."""
        try:
            async with asyncio.timeout(timeout_s):
                ws = await self._open(url).ws_connect(
                    URL(url, encoded=True), compress=0, max_msg_size=FRAME_BYTES_MAX,
                    autoping=True, timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_WAIT_S),
                )
        except TimeoutError as error:
            raise TransportFailed("timeout", f"socket after {timeout_s} s") from error
        except (aiohttp.ClientError, ConnectionError, OSError) as error:
            raise TransportFailed("connection", f"{type(error).__name__}: {error}") from error
        return _AiohttpSocket(ws)

    async def close(self) -> None:
        """Close the pool."""
        if self._session is not None:
            await self._session.close()
            self._session = None
