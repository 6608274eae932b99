"""A strict check of a compose file: known keys only, and everything on this machine only.

Docker is not on every test machine. `docker compose config` (or compose-go) checks the same file
against the whole specification; this checks it against the part we use, and against our rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

TOP = {"name", "services", "volumes"}
SERVICE = {
    "image", "build", "command", "environment", "env_file", "ports", "volumes", "depends_on",
    "healthcheck", "restart", "init", "read_only", "cap_drop", "security_opt", "tmpfs",
    "stop_grace_period",
}
HEALTHCHECK = {"test", "interval", "timeout", "retries", "start_period"}
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}
_PORT = re.compile(r"127\.0\.0\.1:(\d+):(\d+)\Z")
_DURATION = re.compile(r"\d+(ms|s|m|h)\Z")
_IMAGE = re.compile(r"[a-z0-9./-]+:[A-Za-z0-9._-]+\Z")


def problems(file: Mapping[str, Any]) -> Iterator[str]:
    """Everything wrong with a parsed compose file."""
    yield from (f"unknown key {key}" for key in file if key not in TOP and not key.startswith("x-"))
    services: Mapping[str, Any] = file.get("services", {})
    published: dict[str, str] = {}
    for name, service in services.items():
        yield from (f"{name}: unknown key {key}" for key in service if key not in SERVICE)
        yield from (f"{name}: {text}" for text in _service(service, services, file))
        for port in service.get("ports", []):
            found = _PORT.match(port)
            if not found:
                yield f"{name}: {port} must be published on 127.0.0.1 only"
            elif found[1] in published:
                yield f"{name}: port {found[1]} is published by {published[found[1]]} too"
            else:
                published[found[1]] = name


def _service(
    service: Mapping[str, Any], services: Mapping[str, Any], file: Mapping[str, Any]
) -> Iterator[str]:
    if not _IMAGE.match(service.get("image", "")):
        yield "needs an image with a tag"
    elif service["image"].endswith(":latest") and "build" not in service:
        yield "an image of somebody else's needs a fixed tag"
    for other, how in service.get("depends_on", {}).items():
        if other not in services:
            yield f"depends on {other}, which does not exist"
        elif how.get("condition") not in CONDITIONS:
            yield f"depends on {other} under an unknown condition"
        elif how["condition"] == "service_healthy" and "healthcheck" not in services[other]:
            yield f"waits for {other} to be healthy, which has no healthcheck"
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        if not source.startswith("./") and source not in file.get("volumes", {}):
            yield f"volume {source} is not declared"
    for key, value in service.get("environment", {}).items():
        if not isinstance(value, str):
            yield f"{key} must be text, in quotes"
    yield from _healthcheck(service.get("healthcheck", {}))


def _healthcheck(check: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"healthcheck: unknown key {key}" for key in check if key not in HEALTHCHECK)
    for part in check.get("test", []):
        # podman splits arguments at blanks.
        if " " in part:
            yield f"healthcheck argument {part!r} holds a blank"
    for key in ("interval", "timeout", "start_period"):
        if key in check and not _DURATION.match(str(check[key])):
            yield f"healthcheck: {key} is no duration"
