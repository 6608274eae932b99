"""Health, readiness and metrics over HTTP: one uvicorn server for any number of services.

Each service is one small FastAPI app that answers on two ports (its own and its metrics port). All
sockets belong to one server in one event loop; the port a request came in on chooses the app.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http.client
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import ASGIApp, Receive, Scope, Send

from hedgelock.errors import ConfigError
from hedgelock.telemetry.metrics import Metrics

Readiness = Callable[[], tuple[bool, Sequence[str]]]
"""Whether the service can do its work now, and if not, why."""

_CONNECTIONS_MAX = 200
_SHUTDOWN_S = 2
_PROBE_S = 2.0


class Listener(NamedTuple):
    """An app on a port; `variable` is the setting to name when the port is taken."""

    app: ASGIApp
    host: str
    port: int
    variable: str = ""


def service_app(metrics: Metrics, ready: Readiness) -> FastAPI:
    """`/healthz`, `/ready` and `/metrics` of one service; nothing else, no documentation pages."""
    app = FastAPI(title=metrics.service, openapi_url=None, docs_url=None, redoc_url=None)

    @app.get("/healthz")
    async def healthz() -> Response:
        metrics.http_requests_total.inc(path="/healthz", status=200)
        return JSONResponse({"service": metrics.service, "status": "ok"})

    @app.get("/ready")
    async def readiness() -> Response:
        ok, reasons = ready()
        status = 200 if ok else 503
        metrics.ready.set(int(ok))
        metrics.http_requests_total.inc(path="/ready", status=status)
        body = {"service": metrics.service, "ready": ok, "reasons": list(reasons)}
        return JSONResponse(body, status_code=status)

    @app.get("/metrics")
    async def exposition() -> Response:
        metrics.ready.set(int(ready()[0]))
        metrics.http_requests_total.inc(path="/metrics", status=200)
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    return app


class HttpServers:
    """Several apps on several sockets, served by one uvicorn server in the running loop."""

    def __init__(self, listeners: Sequence[Listener | tuple[ASGIApp, str, int]]) -> None:
        """Nothing is bound before `start`."""
        self._listeners = tuple(Listener(*listener) for listener in listeners)
        self._apps: dict[int, ASGIApp] = {}
        self._server: _Server | None = None
        self._task: asyncio.Task[None] | None = None
        self.ports: tuple[int, ...] = ()
        """The ports in use, in the listeners' order; they differ from 0 where 0 was asked for."""

    async def start(self) -> None:
        """Bind every socket, then serve. Raises ConfigError naming every port that is taken."""
        sockets = self._bind()
        config = uvicorn.Config(
            self._dispatch,
            interface="asgi3",
            proxy_headers=False,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            limit_concurrency=_CONNECTIONS_MAX,
            timeout_graceful_shutdown=_SHUTDOWN_S,
        )
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets), name="http")
        await self._server.running.wait()

    async def stop(self) -> None:
        """Finish open requests, close every socket."""
        if self._server is None or self._task is None:
            return
        self._server.should_exit = True
        await self._task
        self._server = self._task = None

    def _bind(self) -> list[socket.socket]:
        sockets: list[socket.socket] = []
        problems: list[str] = []
        for listener in self._listeners:
            try:
                bound = _bind(listener.host, listener.port)
            except OSError as error:
                problems.append(_explain(listener, error))
                continue
            sockets.append(bound)
            self._apps[int(bound.getsockname()[1])] = listener.app
        if problems:
            for bound in sockets:
                bound.close()
            raise ConfigError("\n".join(problems))
        self.ports = tuple(int(bound.getsockname()[1]) for bound in sockets)
        return sockets

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._apps[scope["server"][1]](scope, receive, send)


class _Server(uvicorn.Server):
    """Leaves signals to the caller and says when it accepts connections."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.running = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signal: the process has one place that does."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.running.set()


def _bind(host: str, port: int) -> socket.socket:
    family, kind, proto, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, proto)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.set_inheritable(False)
    except OSError:
        bound.close()
        raise
    return bound


def _explain(listener: Listener, error: OSError) -> str:
    variable = listener.variable or "the port's HTTP__ setting"
    what = f"{variable}={listener.port}" if listener.variable else f"port {listener.port}"
    if error.errno == errno.EADDRINUSE:
        return (
            f"{what}: port {listener.port} on {listener.host} is taken by another program; stop it"
            f" (see: ss -ltnp), or set {variable} to a free port"
        )
    if error.errno == errno.EACCES:
        return f"{what}: this user may not open port {listener.port}; set one above 1023"
    return f"{what}: cannot bind {listener.host}: {error.strerror or error}; set HTTP__HOST=127.0.0.1"


def probe(
    host: str, port: int, path: str = "/healthz", *, bytes_max: int = 2_000
) -> tuple[bool, str]:
    """Ask a service on this machine, blocking at most two seconds: (it answered 200, its text)."""
    connection = http.client.HTTPConnection(host, port, timeout=_PROBE_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status == http.client.OK, answer.read(bytes_max).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return False, f"{host}:{port} does not answer: {error}"
    finally:
        connection.close()
