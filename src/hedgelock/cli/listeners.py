"""Who listens on the ports that HedgeLock wants: nobody, HedgeLock itself, or another program."""

from __future__ import annotations

import enum
import errno
import json
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from hedgelock.telemetry.http import probe

if TYPE_CHECKING:
    from hedgelock.config import Settings


_ALL_V4 = "0.0.0.0"  # noqa: S104 - compared with, never bound


class Owner(enum.Enum):
    """Who has a port."""

    FREE = "free"
    OURS = "ours"
    OTHER = "other"
    FORBIDDEN = "forbidden"


class Listener(NamedTuple):
    """One port that HedgeLock wants; `detail` is what the owner says of itself."""

    variable: str
    host: str
    port: int
    owner: Owner
    detail: str


def survey(settings: Settings) -> list[Listener]:
    """Every configured port (0 = any free one is left out)."""
    return [look(variable, host, port) for variable, host, port in _wanted(settings) if port]


def _wanted(settings: Settings) -> Iterator[tuple[str, str, int]]:
    if settings.trading_mode.value in ("sim", "paper"):
        yield "SIM__PORT", settings.sim.host, settings.sim.port
    for name, value in settings.http:
        if name.endswith("_port"):
            yield f"HTTP__{name.upper()}", settings.http.host, value


def look(variable: str, host: str, port: int) -> Listener:
    """Who has this port now."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            return Listener(variable, host, port, Owner.FORBIDDEN, error.strerror or str(error))
    else:
        return Listener(variable, host, port, Owner.FREE, "")
    answers, text = probe(local(host), port)
    said = _document(text) if answers else {}
    name = said.get("service") or ("simulator" if "scenario" in said else "")
    if said.get("status") == "ok" and name:
        return Listener(variable, host, port, Owner.OURS, str(name))
    return Listener(variable, host, port, Owner.OTHER, "")


def local(host: str) -> str:
    """The address to reach a listener of this machine that is bound to `host`."""
    return {_ALL_V4: "127.0.0.1", "::": "::1"}.get(host, host)


def _document(text: str) -> dict[str, object]:
    try:
        said = json.loads(text)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
