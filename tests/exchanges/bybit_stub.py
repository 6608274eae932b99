"""A scripted Bybit: every answer is written by a test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import WSMsgType, web

from hedgelock.clock import SystemClock
from hedgelock.exchanges.bybit import (
    BybitExchange,
)
from hedgelock.exchanges.ccxt_venue import Credentials
from hedgelock.exchanges.stream import SocketPolicy

KEYS = Credentials("hedgelock-sim", "hedgelock-sim")
FAST = SocketPolicy(delay_first_s=0.01, delay_max_s=0.05, topic_silence_max_s=0.2, ping_s=0.05)

Route = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


def envelope(
    result: Any = None, *, code: int = 0, text: str = "OK", headers: dict[str, str] | None = None
) -> web.Response:
    """An answer in Bybit's shape."""
    body = {"retCode": code, "retMsg": text, "result": result if result is not None else {},
            "retExtInfo": {}, "time": SystemClock().now_ms()}
    return web.json_response(body, headers=headers)


class Stub:
    """A server whose every answer a test writes; it keeps the requests."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: list[tuple[str, str, bytes, dict[str, str]]] = []
        self.routes: dict[str, Route] = {}
        self.sockets: list[web.WebSocketResponse] = []
        self.on_socket: Callable[[web.WebSocketResponse, dict[str, Any]], Awaitable[None]] | None = None
        self.opened = asyncio.Event()

    def answer(self, path: str, result: Any = None, **kwargs: Any) -> None:
        """Always the same answer."""

        async def route(_request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
            return envelope(result, **kwargs)

        self.routes[path] = route

    def drop(self, path: str) -> None:
        """Take the request, then cut the connection."""

        async def route(request: web.Request, _body: dict[str, Any]) -> web.StreamResponse:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()

        self.routes[path] = route

    def count(self, path: str) -> int:
        """How many requests came for a path."""
        return sum(1 for _, seen, _, _ in self.requests if seen.split("?")[0] == path)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request or one socket."""
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._socket(request)
        raw = await request.read()
        self.requests.append((request.method, request.raw_path, raw, dict(request.headers)))
        if request.path == "/v5/market/time" and request.path not in self.routes:
            now_ms = SystemClock().now_ms()
            return envelope({"timeSecond": str(now_ms // 1000), "timeNano": str(now_ms * 10**6)})
        route = self.routes.get(request.path)
        if route is None:
            return envelope(code=10017, text="Route not found.")
        return await route(request, json.loads(raw) if raw else dict(request.query))

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        self.sockets.append(ws)
        self.opened.set()
        async for frame in ws:
            if frame.type is WSMsgType.TEXT:
                message = json.loads(frame.data)
                if self.on_socket is not None:
                    await self.on_socket(ws, message)
                elif message["op"] == "ping":
                    await ws.send_json({"success": True, "ret_msg": "pong", "op": "ping"})
                else:
                    await ws.send_json({"success": True, "ret_msg": "", "op": message["op"]})
        return ws


Make = Callable[..., BybitExchange]
