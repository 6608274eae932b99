"""Looking without touching: the configuration, the map of topics, the messages on one of them."""

from __future__ import annotations

import collections
import contextlib
import difflib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hedgelock.cli.console import (
    USAGE,
    examples,
    fail,
    load_settings,
    note,
    open_log,
    out,
    print_json,
)

if TYPE_CHECKING:
    from hedgelock.ports import Bus, Record
    from hedgelock.topics import Topic

_WIDE = 110
"""From this width on there is room for the key."""

_SAMPLE = 50
"""Newest records per partition whose length stands for all of a topic's."""

Json = Annotated[bool, typer.Option("--json", help="For machines: one JSON document per line.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(
        epilog=examples(
            "hedgelock config",
            "hedgelock config ltv  –  only settings whose name or meaning has this word",
            "hedgelock config --changed  –  only what is not at its default",
        ),
    )(config)
    app.command(
        epilog=examples("hedgelock topics", "hedgelock topics --json | jq .lag"),
    )(topics)
    app.command(
        epilog=examples(
            "hedgelock peek risk_state -n 3",
            "hedgelock peek hedge_decisions --key main --follow",
            "hedgelock peek quarantine --json | jq .body.reason",
        ),
    )(peek)


# ---------------------------------------------------------------- config


def config(
    word: Annotated[str, typer.Argument(help="Only settings that mention this word.")] = "",
    changed: Annotated[
        bool, typer.Option("--changed", help="Only settings that are not at their default.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the settings in force: value, unit, where it comes from. Secrets are never shown."""
    from rich.markup import escape
    from rich.table import Table

    from hedgelock.config import describe

    rows = [
        row for row in describe(load_settings())
        if word.lower() in f"{row.name} {row.help}".lower()
        and (not changed or row.origin != "default")
    ]
    if as_json:
        for row in rows:
            print_json(row._asdict())
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("setting", no_wrap=True)
    table.add_column("value", overflow="fold", max_width=28)
    table.add_column("unit")
    table.add_column("from")
    table.add_column("meaning", overflow="fold")
    for row in rows:
        from_default = row.origin == "default"
        value = escape(row.value or "–")
        table.add_row(row.name, value if from_default else f"[bold]{value}[/]", row.unit,
                      f"[dim]{row.origin}[/]" if from_default else row.origin, escape(row.help))
    out().print(table)
    if not rows:
        note("no setting matches; `hedgelock config` lists all of them")


# ---------------------------------------------------------------- topics


def topics(as_json: Json = False) -> None:
    """Show every topic: who writes and reads it, how much it holds, how far its readers are behind."""
    from rich.table import Table

    from hedgelock.cli import words
    from hedgelock.clock import SystemClock

    settings = load_settings()
    bus = open_log(settings)
    try:
        rows = [_topic_row(bus, topic) for topic in _map().values()]
    finally:
        bus.close()
    if as_json:
        for row in rows:
            print_json(row)
        return
    now_ms = SystemClock().now_ms()
    console = out()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("topic", no_wrap=True)
    for name in ("records", "≈ size", "newest", "kept"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("from → to (records behind)", overflow="fold")
    if console.width >= _WIDE:
        table.add_column("key", no_wrap=True)
    for row in rows:
        kept, newest_ms = row["retention_ms"], row["newest_ts_ms"]
        readers = ", ".join(_reader(name, row["lag"].get(name)) for name in row["consumers"])
        cells = [
            row["topic"], f"{row['records']:,}",
            words.size_of(row["bytes"]) if row["records"] else "–",
            words.duration(now_ms - newest_ms) if newest_ms else "–",
            words.duration(kept) if kept else "latest", f"{row['producer']} → {readers or '–'}",
        ]
        table.add_row(*cells, *([row["key"]] if console.width >= _WIDE else []))
    console.print(table)
    note("newest: how long ago; kept: for how long, or the latest per key")


def _reader(name: str, lag: int | None) -> str:
    return f"{name} ({lag:,})" if lag else name


def _map() -> dict[str, Topic]:
    from hedgelock.topics import JOURNAL, JOURNAL_ROWS, TOPICS

    return {**TOPICS, JOURNAL.name: JOURNAL, JOURNAL_ROWS.name: JOURNAL_ROWS}


def _topic_row(bus: Bus, topic: Topic) -> dict[str, Any]:
    ends = bus.ends(topic.name)
    records = sum(end - start for start, end in ends.values())
    sample = list(bus.read(topic.name, start=-_SAMPLE)) if records else []
    mean = sum(len(r.value) + len(r.key) for r in sample) / len(sample) if sample else 0
    return {
        "topic": topic.name, "key": topic.key, "kind": topic.kind.value,
        "partitions": topic.partitions, "retention_ms": topic.retention_ms, "records": records,
        "bytes": round(records * mean), "producer": topic.producer,
        "consumers": topic.consumers,
        "newest_ts_ms": max((r.ts_ms for r in sample), default=None),
        "ends": {str(partition): end for partition, (_, end) in ends.items()},
        "lag": lags(bus, topic.name, ends),
    }


def lags(bus: Bus, topic: str, ends: dict[int, tuple[int, int]]) -> dict[str, int]:
    """Consumer group -> records not yet taken in, where the bus can tell."""
    taken: dict[str, dict[int, int]] = collections.defaultdict(dict)
    for service, name, partition, following in _positions(bus):
        if name == topic:
            taken[service][partition] = following
    return {
        service: sum(max(0, end - max(start, own.get(p, 0))) for p, (start, end) in ends.items())
        for service, own in taken.items()
    }


def _positions(bus: Bus) -> list[tuple[str, str, int, int]]:
    """(group, topic, partition, next offset) of every group; [] where the bus cannot tell."""
    from hedgelock.bus.embedded import EmbeddedBus
    from hedgelock.bus.embedded_store import connect

    if not isinstance(bus, EmbeddedBus):
        positions = getattr(bus, "positions", None)
        return [] if positions is None else list(positions())
    with contextlib.closing(connect(bus.path, read_only=True)) as db:
        return db.execute(
            "SELECT p.service, s.topic, s.partition, p.next FROM positions p "
            "JOIN slots s ON s.slot = p.slot"
        ).fetchall()


# ---------------------------------------------------------------- peek


def peek(
    topic: Annotated[str, typer.Argument(help="Which one; `hedgelock topics` names them.")],
    key: Annotated[
        str | None, typer.Option(help="Only this account or instrument.", show_default=False)
    ] = None,
    count: Annotated[int, typer.Option("-n", "--count", min=0, help="How many of the newest.")] = 10,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on with what arrives; Ctrl-C ends it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the newest messages of a topic, oldest first. Unreadable ones are shown as such."""
    from hedgelock.cli.records import Printer

    check_topic(topic)
    bus = open_log(load_settings())
    printer = Printer(topic, as_json=as_json)
    try:
        ends = bus.ends(topic)
        shown = newest(bus, topic, key, count)
        for record in shown:
            printer.show(record)
        if follow:
            for record in _follow(bus, topic, key, ends):
                printer.show(record)
        elif not shown:
            note(f"nothing on {topic}" + (f" under the key {key}" if key else ""))
    except KeyboardInterrupt:
        note("stopped")
    finally:
        bus.close()


def check_topic(name: str) -> None:
    """Leave with code 2 when the map has no such topic."""
    known = _map()
    if name in known:
        return
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    fail(f"there is no topic {name!r}", why=f"{hint}they are: {', '.join(known)}",
         todo=f"hedgelock peek {near[0] if near else 'risk_state'}", code=USAGE)


def newest(bus: Bus, topic: str, key: str | None, count: int) -> list[Record]:
    """The newest `count` records, of one key or all, oldest first."""
    if count == 0:
        return []
    # Records of one key may lie far back among others: then the whole topic is looked through.
    records: Iterable[Record] = bus.read(topic, start=None if key else -count)
    return list(collections.deque((r for r in records if key in (None, r.key)), maxlen=count))


def _follow(
    bus: Bus, topic: str, key: str | None, ends: dict[int, tuple[int, int]]
) -> Iterator[Record]:
    """What arrives after `ends`."""
    oldest = min((end for _, end in ends.values()), default=0)
    for record in bus.read(topic, start=oldest, follow=True):
        if record.offset >= ends[record.partition][1] and key in (None, record.key):
            yield record
