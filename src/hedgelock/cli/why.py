"""Explaining and proving: `why` walks the chain behind a decision, `replay` folds the journal again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from hedgelock.cli.console import (
    PROBLEM,
    USAGE,
    err,
    examples,
    fail,
    load_settings,
    open_log,
    out,
    print_json,
)

if TYPE_CHECKING:
    from hedgelock.ports import Bus

Json = Annotated[bool, typer.Option("--json", help="For machines: one JSON document per line.")]

_IDS_SHOWN = 3
_DIFFERENCES_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(
        epilog=examples(
            "hedgelock why hedger:main:42  –  a decision, as `hedgelock run` shows it",
            "hedgelock why hlq3v…  –  an order, by the id that the exchange was given",
            "hedgelock why 1f0c…  –  an order, by the exchange's own id",
        ),
    )(why)
    app.command(
        epilog=examples(
            "hedgelock replay  –  every service",
            "hedgelock replay --service hedger --json",
        ),
    )(replay)


def why(
    ident: Annotated[
        str, typer.Argument(metavar="ID", help="Of a decision, an order, a treasury action or any message.")
    ],
    as_json: Json = False,
) -> None:
    """Explain a decision or order: tick, funding, risk, decision, order, fills, with times and reasons.

    Reads the log only, whether HedgeLock runs or not.
    """
    from hedgelock.cli import story

    bus = open_log(load_settings())
    try:
        links = story.chain(bus, ident)
        if not links:
            _unknown(bus, ident)
    finally:
        bus.close()
    if as_json:
        for link in links:
            print_json({"topic": link.topic, "id": link.envelope.id, "ts_ms": link.envelope.ts_ms,
                        "causes": link.envelope.causes, "body": link.envelope.body})
        return
    out().print(story.tell(ident, links))


def _unknown(bus: Bus, ident: str) -> None:
    """Nothing carries this id: say what ids look like, with real ones."""
    from hedgelock.cli.records import read
    from hedgelock.cli.show import newest

    known = []
    for topic in ("hedge_decisions", "hedge_trades", "treasury_actions"):
        for record in newest(bus, topic, None, _IDS_SHOWN):
            envelope, _ = read(record)
            if envelope is not None:
                known.append((record.ts_ms, envelope.id))
    latest = [name for _, name in sorted(known)[-_IDS_SHOWN:]]
    shapes = ("a decision is hedger:ACCOUNT:NUMBER, its first order hedger:ACCOUNT:NUMBER.0, an order's "
              "id at the exchange hl and 26 letters and digits")
    found = f"; the newest here: {', '.join(latest)}" if latest else "; this log holds no decision yet"
    fail(f"nothing in the log carries {ident!r}", why=shapes + found,
         todo=f"hedgelock why {latest[-1]}" if latest else "hedgelock peek hedge_decisions")


# ---------------------------------------------------------------- replay


def replay(
    service: Annotated[
        str | None, typer.Option(help="Only this service.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Fold the journal of steps again and compare states and outputs; code 1 when one differs.

    Proves that what was decided follows from what was seen, by the rules of this version.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from hedgelock import app
    from hedgelock.services import journal

    settings = load_settings()
    services = app.folded(settings)
    if service is not None and service not in services:
        fail(f"{service!r} keeps no journal", why=f"these do: {', '.join(services)}",
             todo=f"hedgelock replay --service {next(iter(services))}", code=USAGE)
    bus = open_log(settings)
    try:
        total = sum(end - start for start, end in bus.ends("steps").values())
        rows = {record.key: record.value for record in bus.read("step_rows")}
        wanted = {service} if service else set(services)
        with Progress(
            TextColumn("replaying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=err(), transient=True,
        ) as progress:
            task = progress.add_task("steps", total=total)
            result = journal.replay(
                _entries(bus, wanted), rows, services,
                progress=lambda done: progress.update(task, completed=done),
            )
    finally:
        bus.close()
    _report(result, as_json=as_json)


class _Named(msgspec.Struct):
    service: str


def _entries(bus: Bus, wanted: set[str]) -> Iterator[bytes]:
    for record in bus.read("steps"):
        if msgspec.json.decode(record.value, type=_Named).service in wanted:
            yield record.value


def _report(result: object, *, as_json: bool) -> None:
    from hedgelock.services.journal import Replayed

    assert isinstance(result, Replayed)
    if as_json:
        print_json(result)
    else:
        console = out()
        for difference in result.differences[:_DIFFERENCES_SHOWN]:
            console.print(f"[bold red]differs:[/] {difference.service} of {difference.key}, step "
                          f"{difference.seq}: {difference.what}", soft_wrap=True)
        hidden = len(result.differences) - _DIFFERENCES_SHOWN
        if hidden > 0:
            console.print(f"… and {hidden} more; --json lists all")
        skipped = (f", {result.skipped:,} skipped (their starting state is no longer kept)"
                   if result.skipped else "")
        word = "same" if not result.differences else f"{len(result.differences):,} differ"
        console.print(f"{result.steps:,} steps folded again{skipped}: [bold]{word}[/]")
        if result.differences:
            console.print("  do:  was the journal written by another version? see `version` in "
                          "`hedgelock peek steps -n 1`; if not, this is a bug: keep the log")
    if result.differences:
        raise typer.Exit(PROBLEM)
