"""Records on the screen: one message in words with its fields, or as JSON; unreadable ones as such."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
from rich.markup import escape

from hedgelock.bus import codec
from hedgelock.cli import words
from hedgelock.cli.console import out, print_json
from hedgelock.errors import BadMessage
from hedgelock.topics import JOURNAL, JOURNAL_ROWS

if TYPE_CHECKING:
    from hedgelock.ports import Record

_RAW_CHARS_MAX = 400
_DIGITS_SHOWN = 8


class Printer:
    """Prints records of one topic."""

    def __init__(self, topic: str, *, as_json: bool) -> None:
        self._topic = topic
        self._as_json = as_json
        self._console = out()

    def show(self, record: Record) -> None:
        """Print one record."""
        envelope, problem = read(record)
        if self._as_json:
            print_json(as_json(record, envelope, problem))
            return
        head = f"[dim]{words.moment(record.ts_ms)}[/]  {escape(record.key)}  "
        where = f"[dim]{record.partition}:{record.offset}[/]"
        if problem:
            self._print(f"{head}[bold red]unreadable[/] {where}")
            self._print(f"    why: {escape(problem)}")
            self._print(f"    bytes: {escape(_raw(record.value))}")
        elif envelope is None:
            self._print(f"{head}[bold]{self._topic}[/] {where}")
            self._print(f"    {escape(_raw(record.value))}")
        else:
            self._print(f"{head}[bold]{escape(words.headline(envelope.body))}[/]")
            self._print(f"    [dim]id {escape(envelope.id)}[/] {where}")
            self._print(f"    {escape(_body_line(envelope.body))}")

    def _print(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)


def read(record: Record) -> tuple[codec.Envelope | None, str]:
    """The envelope, or why there is none; journal entries have none and nothing is wrong."""
    if record.topic in (JOURNAL.name, JOURNAL_ROWS.name):
        return None, ""
    try:
        return codec.decode(record.value, record.topic), ""
    except BadMessage as error:
        return None, str(error)


def as_json(record: Record, envelope: codec.Envelope | None, problem: str) -> dict[str, Any]:
    """A record for machines; `error` only when it is unreadable."""
    said: dict[str, Any] = {
        "topic": record.topic, "partition": record.partition, "offset": record.offset,
        "key": record.key, "ts_ms": record.ts_ms,
    }
    if problem:
        return said | {"error": problem, "value": _raw(record.value)}
    if envelope is None:
        return said | {"value": msgspec.Raw(record.value)}
    return said | {
        "id": envelope.id, "trace": envelope.trace, "causes": envelope.causes,
        "made_ts_ms": envelope.ts_ms, "body": envelope.body,
    }


def _raw(value: bytes) -> str:
    text = value.decode(errors="replace")
    return text if len(text) <= _RAW_CHARS_MAX else f"{text[:_RAW_CHARS_MAX]}… ({len(text)} signs)"


def _body_line(body: msgspec.Struct) -> str:
    return "  ".join(
        f"{name}={_short(getattr(body, name))}" for name in body.__struct_fields__
    )


def _short(value: object) -> str:
    if isinstance(value, Decimal):
        # The last digits of a quotient tell nobody anything; --json has them all.
        return words.plain(round(value, _DIGITS_SHOWN))
    if isinstance(value, (tuple, list, dict, msgspec.Struct)):
        return msgspec.json.encode(value).decode()
    return words.plain(value)
