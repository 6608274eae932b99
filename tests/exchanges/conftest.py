"""A scripted Bybit on an ephemeral port, and the real simulator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from exchanges.bybit_stub import FAST, KEYS, Make, Stub
from hedgelock.clock import SystemClock
from hedgelock.exchanges.bybit import (
    CAPABILITIES,
    BybitExchange,
    BybitSettings,
    simulator_addresses,
)
from hedgelock.simulator.server import RunningServer, serve


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    """A scripted venue."""
    made = Stub()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.port = runner.addresses[0][1]
    yield made
    for ws in made.sockets:
        await ws.close()
    await runner.cleanup()


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Adapters that are closed at the end."""
    made: list[BybitExchange] = []

    def build(port: int, **kwargs: Any) -> BybitExchange:
        kwargs.setdefault("settings", BybitSettings(socket=FAST))
        kwargs.setdefault("capabilities", CAPABILITIES["sim"])
        credentials = kwargs.pop("credentials", KEYS)
        exchange = BybitExchange(
            "main", credentials, addresses=simulator_addresses(port=port), clock=SystemClock(),
            seed=1, **kwargs,
        )
        made.append(exchange)
        return exchange

    yield build
    for exchange in made:
        await exchange.close()


@pytest.fixture
async def simulator() -> AsyncIterator[RunningServer]:
    """The built-in simulator in the demo scenario, waiting: prices stand still."""
    server = await serve("demo", port=0, wait=True)
    yield server
    await server.stop()
