"""JSON log lines on stderr (readable ones on a terminal), with context and without secrets.

    log = get_logger()
    with bound(service="hedger", account="main", trace=envelope.trace):
        log.info("decided", reason=reason, target=target)

The event is a short constant; everything that varies is a field. Other libraries' `logging` records
take the same way.
"""

from __future__ import annotations

import json as jsonlib
import logging
import re
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from decimal import Decimal
from enum import Enum
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, WrappedLogger

HIDDEN = "(hidden)"
_SECRET_NAME = re.compile(
    r"(secret|passw|token|signature|authorization|cookie|api_?key|operator_?key|x-bapi-sign)", re.IGNORECASE
)
_SECRET_CHARS_MIN = 6
"""Shorter configured secrets are not searched for in text: they would blank out ordinary words."""


def configure(
    level: str = "INFO",
    *,
    json: bool | None = None,
    secrets: Iterable[str] = (),
    stream: TextIO | None = None,
) -> None:
    """Set up logging of the whole process; the last call wins.

    `json` None = JSON unless `stream` (default stderr) is a terminal. `secrets` never appear in a
    line, wherever they come from: a field, an exception's text, another library's message.
    """
    out = sys.stderr if stream is None else stream
    as_json = not out.isatty() if json is None else json
    renderer: Any = (
        structlog.processors.JSONRenderer(default=_plain)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=out.isatty())
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        redact,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *([structlog.processors.format_exc_info] if as_json else []),
            renderer,
            _hider(secrets),
        ],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in list(root.handlers):
        if isinstance(old.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for chatty in ("asyncio", "uvicorn", "aiohttp", "urllib3"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(root.level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def get_logger(name: str = "hedgelock") -> structlog.typing.FilteringBoundLogger:
    """The logger; take it where it is used, not at import."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(name)
    return logger


def bound(**fields: object) -> AbstractContextManager[Any]:
    """Fields of every line logged inside, in this task or thread: trace, account, service."""
    return structlog.contextvars.bound_contextvars(**fields)


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Hide the value of every field whose name says that it is secret, at any depth."""
    return {name: _redacted(name, value) for name, value in event.items()}


def _redacted(name: str, value: object) -> object:
    if _SECRET_NAME.search(name):
        return HIDDEN
    if isinstance(value, dict):
        return {key: _redacted(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted("", inner) for inner in value]
    return value


def _hider(secrets: Iterable[str]) -> Any:
    """A last processor that removes known secrets from the finished line."""
    texts = {secret for secret in secrets if len(secret) >= _SECRET_CHARS_MIN}
    texts |= {jsonlib.dumps(secret)[1:-1] for secret in texts}
    pattern = re.compile("|".join(re.escape(t) for t in sorted(texts, key=len, reverse=True)))

    def hide(_logger: WrappedLogger, _method: str, line: str) -> str:
        return pattern.sub(HIDDEN, line) if texts else line

    return hide


def _plain(value: object) -> object:
    """How values that JSON does not know appear: numbers as decimal text, enums by value."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, Enum):
        return value.value
    return str(value)
