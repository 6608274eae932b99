"""A proxy between HedgeLock and the simulator that spoils what passes, on a loopback port."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any, Self

import aiohttp
from aiohttp import web
from yarl import URL

Spoil = Callable[[bytes], bytes]


class Tamper:
    """Runs in a thread of its own. Everything passes unchanged but for what is asked for."""

    def __init__(self, upstream: str) -> None:
        """`upstream`: the simulator's http://host:port."""
        self.upstream = upstream
        self.port = 0
        self.spoiled: list[str] = []
        """Paths of the answers that were changed, in order."""
        self._spoils: dict[str, list[Spoil]] = {}
        self._held: dict[str, threading.Event] = {}
        self._clients: list[tuple[str, web.WebSocketResponse]] = []
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10), "the proxy does not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)
        self._loop.close()

    def environment(self) -> dict[str, str]:
        """Settings that lead HedgeLock through here."""
        stream = f"ws://127.0.0.1:{self.port}/v5"
        return {
            "BYBIT__REST_URL": f"http://127.0.0.1:{self.port}",
            "BYBIT__WS_PUBLIC_URL": f"{stream}/public",
            "BYBIT__WS_PRIVATE_URL": f"{stream}/private",
            "BYBIT__WS_TRADE_URL": f"{stream}/trade",
        }

    def spoil(self, path: str, *spoils: Spoil) -> None:
        """Change the next answers of a REST path, one function per answer."""
        self._spoils.setdefault(path, []).extend(spoils)

    def hold(self, path: str) -> threading.Event:
        """Keep back the next answer of a path for ever: the exchange did it, nobody was told.

        For an order, whether it goes by REST or over the trade socket.

        The event is set when that has happened.
        """
        self._held[path] = threading.Event()
        return self._held[path]

    def pending(self) -> int:
        """Spoilt answers that nobody asked for yet."""
        return sum(len(waiting) for waiting in self._spoils.values())

    def inject(self, channel: str, frame: str | bytes) -> int:
        """Push a frame to every open socket whose path ends in `channel`; how many there are."""
        return asyncio.run_coroutine_threadsafe(self._inject(channel, frame), self._loop).result(5)

    async def _inject(self, channel: str, frame: str | bytes) -> int:
        sockets = [ws for path, ws in self._clients if path.endswith(channel) and not ws.closed]
        for ws in sockets:
            await (ws.send_bytes(frame) if isinstance(frame, bytes) else ws.send_str(frame))
        return len(sockets)

    async def _serve(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._pass)
        runner = web.AppRunner(app, shutdown_timeout=0.2)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = int(runner.addresses[0][1])
        async with aiohttp.ClientSession(auto_decompress=False) as self._session:
            self._ready.set()
            await self._ended.wait()
            for _, ws in list(self._clients):
                await ws.close()
            await runner.cleanup()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._pass_socket(request)
        headers = {k: v for k, v in request.headers.items() if k.lower() != "host"}
        try:
            async with self._session.request(
                request.method, URL(self.upstream + request.raw_path, encoded=True),
                headers=headers, data=await request.read() or None,
            ) as answer:
                body = await answer.read()
                status, kept = answer.status, dict(answer.headers)
        except aiohttp.ClientError:
            return web.Response(status=502)
        seen = self._held.pop(request.path, None)
        if seen is not None:
            seen.set()
            await self._ended.wait()
        waiting = self._spoils.get(request.path)
        if waiting:
            body = waiting.pop(0)(body)
            self.spoiled.append(request.path)
        for name in ("Content-Length", "Transfer-Encoding", "Date", "Server"):
            kept.pop(name, None)
        return web.Response(status=status, body=body, headers=kept)

    def _is_held(self, answer: str) -> bool:
        """Whether this is the answer to an order that is kept back."""
        if not self._held or '"op":"order.' not in answer:
            return False
        seen = self._held.pop(f"/v5/{json.loads(answer)['op'].replace('.', '/')}", None)
        if seen is not None:
            seen.set()
        return seen is not None

    async def _pass_socket(self, request: web.Request) -> web.StreamResponse:
        ours = web.WebSocketResponse()
        await ours.prepare(request)
        try:
            theirs = await self._session.ws_connect(self.upstream + request.raw_path)
        except aiohttp.ClientError:
            await ours.close()
            return ours
        self._clients.append((request.path, ours))
        ways = [
            asyncio.ensure_future(_copy(ours, theirs)),
            asyncio.ensure_future(_copy(theirs, ours, unless=self._is_held)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        self._clients.remove((request.path, ours))
        await theirs.close()
        await ours.close()
        return ours


async def _copy(source: Any, target: Any, unless: Callable[[str], bool] = lambda _: False) -> None:
    async for frame in source:
        if frame.type is aiohttp.WSMsgType.TEXT:
            if unless(frame.data):
                continue
            await target.send_str(frame.data)
        elif frame.type is aiohttp.WSMsgType.BINARY:
            await target.send_bytes(frame.data)
