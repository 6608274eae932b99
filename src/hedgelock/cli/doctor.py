"""`doctor`: what is well, what is not and what to do; `healthcheck`: one bit for Docker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hedgelock.cli.console import OK, PROBLEM, USAGE, examples, fail, load_settings, out, print_json

if TYPE_CHECKING:
    from hedgelock.cli.findings import Finding

_STYLES = {"ok": "green", "warn": "yellow", "FAIL": "bold red", "–": "dim"}


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(
        epilog=examples(
            "hedgelock doctor",
            "hedgelock doctor --offline  –  do not ask the exchange",
            "hedgelock doctor --json | jq 'select(.level==\"FAIL\")'",
        ),
    )(doctor)
    app.command(
        epilog=examples(
            "hedgelock healthcheck hedger  –  in a service's container",
            "hedgelock healthcheck  –  every service that listens here",
        ),
    )(healthcheck)


def doctor(
    offline: Annotated[
        bool, typer.Option("--offline", help="Leave the exchange out.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="For machines: one JSON document per line.")
    ] = False,
) -> None:
    """Examine machine, configuration, log, ports, exchange and thresholds.

    Works whether HedgeLock runs or not. Code 1 when something must be mended (FAIL);
    a warning (warn) is worth reading and stops nothing.
    """
    from hedgelock.cli import findings, findings_venue
    from hedgelock.domain.money import trap_floats
    from hedgelock.errors import ConfigError

    trap_floats()
    show = _Show(as_json=as_json)
    show.all(findings.machine())
    try:
        settings = load_settings()
    except ConfigError as error:
        show.one(findings.Finding("configuration", findings.FAIL, str(error),
                                  "mend the lines above; `hedgelock config --help`"))
        raise typer.Exit(USAGE) from None
    show.all(findings.configuration(settings))
    show.all(findings.folder(settings))
    show.all(findings.ports(settings))
    show.all(findings.log(settings))
    show.all(findings.thresholds(settings))
    if not offline:
        show.all(findings_venue.examine(settings))
    show.end()
    raise typer.Exit(PROBLEM if show.failed else OK)


class _Show:
    """Prints findings as they come: the exchange may take seconds to answer."""

    def __init__(self, *, as_json: bool) -> None:
        self.failed = 0
        self._as_json = as_json
        self._warned = 0
        self._console = out()

    def all(self, found: list[Finding]) -> None:
        for one in found:
            self.one(one)

    def one(self, one: Finding) -> None:
        from rich.markup import escape

        self.failed += one.level == "FAIL"
        self._warned += one.level == "warn"
        if self._as_json:
            print_json(one._asdict())
            return
        style = _STYLES[one.level]
        self._console.print(f"[{style}]{one.level:>4}[/]  [bold]{one.name:<14}[/] {escape(one.text)}",
                            soft_wrap=True)
        if one.todo:
            self._console.print(f"                      → {escape(one.todo)}", soft_wrap=True)

    def end(self) -> None:
        if self._as_json:
            return
        words = f"{self.failed} to mend, {self._warned} to read"
        self._console.print(f"\n[bold]{'all well' if not self.failed else 'not well'}[/]: {words}")


def healthcheck(
    service: Annotated[
        str | None, typer.Argument(help="Which one; without: every one that listens here.")
    ] = None,
) -> None:
    """Ask /healthz of the services on this machine; code 0 when they live. For Docker."""
    from hedgelock.cli.listeners import local
    from hedgelock.telemetry.http import probe

    settings = load_settings()
    ports = {
        name.removesuffix("_port").replace("_", "-"): port
        for name, port in settings.http
        if name.endswith("_port") and not name.endswith("_metrics_port")
    }
    if service == "simulator":
        host, wanted = settings.sim.host, {"simulator": settings.sim.port}
    elif service is None:
        host, wanted = settings.http.host, ports
    elif service in ports:
        host, wanted = settings.http.host, {service: ports[service]}
    else:
        fail(f"there is no service {service!r}", why=f"they are: {', '.join(ports)}, simulator",
             todo="hedgelock healthcheck hedger", code=USAGE)
    lives = {name: probe(local(host), port)[0] for name, port in wanted.items()}
    for name, alive in lives.items():
        typer.echo(f"{name} {'lives' if alive else 'does not answer'}")
    healthy = any(lives.values()) if service is None else all(lives.values())
    raise typer.Exit(OK if healthy else PROBLEM)
