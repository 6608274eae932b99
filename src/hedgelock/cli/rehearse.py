"""`hedgelock rehearse`: the whole system against the simulated exchange, in virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from hedgelock.cli import console

if TYPE_CHECKING:
    from hedgelock.rehearsal.rehearse import Report


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "rehearse",
        epilog=console.examples(
            "hedgelock rehearse --seed 42  –  play one run again, as a failing test says",
            "hedgelock rehearse --seed 42 --trace  –  with every fault, death and warning",
            "hedgelock rehearse --runs 100  –  a hundred runs, one after the other",
        ),
    )(rehearse)


def rehearse(
    seed: Annotated[int, typer.Option(help="The first seed: it says all that happens.")] = 0,
    runs: Annotated[int, typer.Option(min=1, help="So many seeds in a row.")] = 1,
    trace: Annotated[bool, typer.Option("--trace", help="Show what happened, with times.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line per run.")] = False,
) -> None:
    """Plays HedgeLock, whole, against the simulated exchange: faults, kills, then an audit.

    Market, faults and deaths are drawn from the seed; the same seed plays the same run, byte for
    byte. Leaves with 1 when an audit found something.
    """
    from hedgelock.rehearsal.rehearse import rehearse as play

    failed: list[int] = []
    for number in range(seed, seed + runs):
        report = play(number)
        if report.findings:
            failed.append(number)
        if as_json:
            console.print_json(_plain(report))
        else:
            _show(report, trace=trace)
    if runs > 1 and not as_json:
        console.note(f"{runs - len(failed)} of {runs} came to rest with right books")
    if failed:
        again = [f"hedgelock rehearse --seed {number} --trace" for number in failed[:3]]
        console.fail(f"{len(failed)} of {runs} rehearsals failed", todo="; ".join(again))


def _plain(report: Report) -> dict[str, Any]:
    return {
        "seed": report.plan.seed, "market": report.plan.family, "digest": report.digest,
        "virtual_s": round(report.virtual_s), "counts": report.counts,
        "findings": [{"rule": f.rule.name.lower(), "text": f.text} for f in report.findings],
    }


def _show(report: Report, *, trace: bool) -> None:
    out, plan = console.out(), report.plan
    if trace:
        for fault in plan.faults:
            where = fault.match.path or fault.match.topic
            out.print(f"[dim]{fault.from_s:8.1f} to {fault.until_s:5.1f} s  fault "
                      f"{escape(fault.kind)} {escape(where)}[/]")
        for ms, kind, what in report.trace:
            out.print(f"[dim]{ms / 1e3:10.3f} s[/]  {escape(kind)}  {escape(str(what))}",
                      soft_wrap=True)
    verdict = "[bold red]failed[/]" if report.findings else "[green]right[/]"
    counted = ", ".join(f"{count} {name}" for name, count in report.counts.items())
    out.print(f"seed {plan.seed}  {verdict}  {plan.family}  {report.virtual_s:.0f} s virtual  "
              f"{counted}  [dim]{report.digest[:12]}[/]")
    for finding in report.findings:
        out.print(f"  [red]{finding.rule.value}[/]: {escape(finding.text)}", soft_wrap=True)
