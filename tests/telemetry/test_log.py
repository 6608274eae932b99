"""Logging: JSON lines with context, and no secret in any of them."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum

import pytest
import structlog

from hedgelock.telemetry.log import bound, configure, get_logger


class Colour(Enum):
    RED = "red"


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_line_carries_context_and_values(out: io.StringIO) -> None:
    """Trace, account and service are on every line inside the block; numbers keep their digits."""
    configure("INFO", stream=out)
    with bound(service="hedger", account="main", trace="00-ab-cd-01"):
        get_logger().info("decided", qty=Decimal("0.10"), reason=Colour.RED, other=object)
    get_logger().info("after")
    first, second = lines(out)
    assert first["event"] == "decided"
    assert (first["service"], first["account"], first["trace"]) == ("hedger", "main", "00-ab-cd-01")
    assert (first["qty"], first["reason"], first["level"]) == ("0.10", "red", "info")
    assert str(first["ts"]).endswith("Z")
    assert "account" not in second


def test_the_level_counts(out: io.StringIO) -> None:
    """Lines below the level are not written, ours or another library's."""
    configure("WARNING", stream=out)
    get_logger().info("quiet")
    logging.getLogger("library").info("quiet")
    get_logger().warning("loud")
    assert [line["event"] for line in lines(out)] == ["loud"]


def test_other_libraries_take_the_same_way(out: io.StringIO) -> None:
    """A record of the standard library's logging becomes a JSON line with its logger's name."""
    configure("INFO", stream=out, secrets=["top-secret"])
    logging.getLogger("ccxt").error("answer %s", "top-secret")
    assert lines(out)[0] | {"ts": ""} == {
        "event": "answer (hidden)", "logger": "ccxt", "level": "error", "ts": "",
    }


def test_secret_names_are_hidden_at_any_depth(out: io.StringIO) -> None:
    """Fields that are named like secrets are hidden, in mappings and lists too."""
    configure("INFO", stream=out)
    get_logger().info(
        "request", api_key="k1", headers=[{"X-BAPI-SIGN": "k2", "Host": "h"}],
        config={"API_SECRET": "k3", "deep": {"password": "k4"}}, account_key_count=1,
    )
    text = out.getvalue()
    assert not any(secret in text for secret in ("k1", "k2", "k3", "k4"))
    assert '"Host": "h"' in text
    assert '"account_key_count": 1' in text


def test_known_secrets_are_hidden_in_any_text(out: io.StringIO) -> None:
    """A configured secret never appears, not even in a traceback; short ones would hide words."""
    configure("INFO", stream=out, secrets=['pa"ss-word', "ab"])
    try:
        raise ValueError('url?key=pa"ss-word ab')
    except ValueError:
        get_logger().exception("failed")
    text = out.getvalue()
    assert "ss-word" not in text
    assert "key=(hidden) ab" in text
    assert "Traceback" in lines(out)[0]["exception"]


def test_readable_on_request(out: io.StringIO) -> None:
    """On a terminal a line is for eyes; secrets are hidden there as well."""
    configure("INFO", json=False, stream=out, secrets=["top-secret"])
    get_logger().info("started", where="top-secret")
    assert "started" in out.getvalue()
    assert "top-secret" not in out.getvalue()
    with pytest.raises(ValueError, match="Expecting"):
        lines(out)


def test_configuring_twice_does_not_double_lines(out: io.StringIO) -> None:
    """The last call wins."""
    configure("INFO", stream=io.StringIO())
    configure("INFO", stream=out)
    get_logger().info("once")
    assert len(lines(out)) == 1
