"""Health, readiness and metrics over real sockets: several services, one server."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from hedgelock.errors import ConfigError
from hedgelock.telemetry.http import HttpServers, Listener, probe, service_app
from hedgelock.telemetry.metrics import Metrics

HOST = "127.0.0.1"


async def get(port: int, path: str) -> tuple[bool, str]:
    return await asyncio.to_thread(probe, HOST, port, path)


async def test_several_services_on_several_sockets() -> None:
    """The port chooses the service; its metrics are on both of its ports."""
    ready = {"hedger": (True, []), "safety": (False, ["account_raw is 31 s old"])}
    apps = {name: service_app(Metrics(name), lambda name=name: ready[name]) for name in ready}
    servers = HttpServers(
        [
            Listener(apps["hedger"], HOST, 0, "HTTP__HEDGER_PORT"),
            Listener(apps["hedger"], HOST, 0, "HTTP__HEDGER_METRICS_PORT"),
            Listener(apps["safety"], HOST, 0, "HTTP__SAFETY_PORT"),
        ]
    )
    await servers.start()
    try:
        hedger, metrics, safety = servers.ports
        ok, body = await get(hedger, "/healthz")
        assert (ok, json.loads(body)) == (True, {"service": "hedger", "status": "ok"})
        assert (await get(hedger, "/ready"))[0] is True
        ok, body = await get(safety, "/ready")
        assert ok is False
        assert json.loads(body)["reasons"] == ["account_raw is 31 s old"]
        ok, body = await get(metrics, "/metrics")
        assert ok is True
        assert "hedgelock_" in body
        for absent in ("/docs", "/openapi.json", "/redoc", "/"):
            assert (await get(hedger, absent))[0] is False
    finally:
        await servers.stop()
    assert probe(HOST, hedger)[0] is False
    await servers.stop()


async def test_metrics_say_whether_it_is_ready() -> None:
    """A scrape tells readiness without asking /ready, and requests are counted by path."""
    metrics = Metrics("collector")
    servers = HttpServers(
        [Listener(service_app(metrics, lambda: (False, ["starting"])), HOST, 0)]
    )
    await servers.start()
    try:
        await get(servers.ports[0], "/ready")
        await get(servers.ports[0], "/metrics")
    finally:
        await servers.stop()
    text = metrics.exposition().decode()
    assert "hedgelock_ready 0.0" in text
    assert 'hedgelock_http_requests_total{path="/ready",status="503"} 1.0' in text


async def test_every_busy_port_is_named() -> None:
    """A taken port stops the start with the port, its variable and what to do; nothing stays open."""
    app = service_app(Metrics("safety"), lambda: (True, []))
    with socket.socket() as one, socket.socket() as two:
        for taken in (one, two):
            taken.bind((HOST, 0))
            taken.listen()
        busy = one.getsockname()[1]
        servers = HttpServers(
            [
                Listener(app, HOST, 0, "HTTP__A_PORT"),
                Listener(app, HOST, busy, "HTTP__SAFETY_PORT"),
                Listener(app, HOST, two.getsockname()[1], "HTTP__SAFETY_METRICS_PORT"),
            ]
        )
        with pytest.raises(ConfigError) as caught:
            await servers.start()
    text = str(caught.value)
    assert f"HTTP__SAFETY_PORT={busy}: port {busy} on {HOST} is taken by another program" in text
    assert "HTTP__SAFETY_METRICS_PORT=" in text
    assert servers.ports == ()


async def test_an_address_that_is_not_ours_is_explained() -> None:
    """A host that cannot be bound is named with a host that can."""
    app = service_app(Metrics("safety"), lambda: (True, []))
    servers = HttpServers([Listener(app, "192.0.2.1", 0, "HTTP__SAFETY_PORT")])
    with pytest.raises(ConfigError, match=r"set HTTP__HOST=127\.0\.0\.1"):
        await servers.start()


def test_a_forbidden_port_is_explained() -> None:
    """Ports below 1024 need a privileged user."""
    import errno

    from hedgelock.telemetry.http import _explain

    app = service_app(Metrics("safety"), lambda: (True, []))
    error = PermissionError(errno.EACCES, "denied")
    assert "above 1023" in _explain(Listener(app, HOST, 80, "HTTP__SAFETY_PORT"), error)
