"""Starting parts by hand: one service, or the exchange simulator alone."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated

import typer

from hedgelock.cli.console import USAGE, examples, fail, load_settings, note

_CONTAINER_MARKS = ("/etc/hedgelock-image", "/.dockerenv", "/run/.containerenv")
"""Files by which our image, Docker and Podman say that this is a container.

Not every runtime leaves a mark of its own: a read-only podman container hides it under a tmpfs.
"""


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(
        epilog=examples(
            "KAFKA__BOOTSTRAP_SERVERS=127.0.0.1:9092 hedgelock service risk-engine",
            "hedgelock service hedger  –  needs Kafka: the embedded log has one writer",
        ),
    )(service)
    app.command(
        epilog=examples(
            "hedgelock simulate  –  the demo script on http://127.0.0.1:8010",
            "hedgelock simulate --scenario crash --speed 4",
            "hedgelock simulate --wait  –  the script starts at POST /sim/start",
            "hedgelock simulate --script outage.toml  –  a scenario file with faults",
        ),
    )(simulate)


def service(
    name: Annotated[str, typer.Argument(help="Which one; `hedgelock service list` names them.")],
) -> None:
    """Run one service in this process until Ctrl-C or SIGTERM (on Kafka, any number of them)."""
    from hedgelock import app

    if name not in app.SERVICES:
        if name == "list":
            typer.echo("\n".join(app.SERVICES))
            return
        near = difflib.get_close_matches(name, app.SERVICES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        fail(f"there is no service {name!r}", why=f"{hint}they are: {', '.join(app.SERVICES)}",
             todo=f"hedgelock service {near[0] if near else app.SERVICES[0]}", code=USAGE)
    settings = load_settings()
    if not settings.kafka.bootstrap_servers:
        fail(f"service {name} alone needs Kafka",
             why="the embedded log has one writer: the engine that holds all services",
             todo="`hedgelock run` starts everything on the embedded log, or set "
             "KAFKA__BOOTSTRAP_SERVERS=127.0.0.1:9092",
             code=USAGE)
    raise typer.Exit(app.run_service(settings, name))


def simulate(
    scenario: Annotated[
        str | None, typer.Option(help="The script: calm, crash, demo, mania or whipsaw.")
    ] = None,
    script: Annotated[
        str | None, typer.Option(help="A scenario file: market, accounts, deeds, faults.")
    ] = None,
    speed: Annotated[
        str | None, typer.Option(help="How fast the script plays (wall time stays wall time).")
    ] = None,
    seed: Annotated[str | None, typer.Option(help="Seed of the noise.")] = None,
    port: Annotated[str | None, typer.Option(help="Port of REST and WebSocket.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Hold the script until POST /sim/start.")
    ] = False,
) -> None:
    """Run the exchange simulator alone: Bybit v5's shapes over REST and WebSocket.

    Key and secret of the account: hedgelock-sim / hedgelock-sim; of its unwatched twin:
    unprotected-sim / unprotected-sim.
    """
    from hedgelock.simulator import server

    settings = load_settings(
        {"SIM__SCENARIO": script or scenario, "SIM__SPEED": speed, "SIM__SEED": seed, "SIM__PORT": port}
    )
    check_scenario(settings.sim.scenario)
    sim = settings.sim
    note(f"simulator: {sim.scenario} on http://{sim.host}:{sim.port}, Ctrl-C stops it")
    remote = not server.is_loopback(sim.host)
    if remote and not any(Path(mark).exists() for mark in _CONTAINER_MARKS):
        fail(f"the simulator does not listen on {sim.host}",
             why="it holds well-known keys; outside a container it stays on this machine",
             todo="unset SIM__HOST or set SIM__HOST=127.0.0.1", code=USAGE)
    try:
        server.run(sim.scenario, port=sim.port, speed=float(sim.speed), wait=wait, seed=sim.seed,
                   host=sim.host, allow_remote=remote)
    except OSError as error:
        fail(f"the simulator cannot listen on {sim.host}:{sim.port}", why=str(error),
             todo="stop what uses the port, or choose another: --port 8110")


def check_scenario(name: str) -> None:
    """Leave with code 2 when there is no such script, or when its file cannot be played."""
    from hedgelock.simulator.scenarios import SCENARIOS
    from hedgelock.simulator.script import BadScript, is_file, read_script

    if is_file(name):
        try:
            read_script(Path(name))
        except BadScript as error:
            fail("the scenario file cannot be played", why=str(error),
                 todo="correct it; docs/simulator.md describes the tables", code=USAGE)
        return
    if name not in SCENARIOS:
        known = "; ".join(f"{s.name}: {s.summary}" for s in SCENARIOS.values())
        fail(f"there is no scenario {name!r}", why=known, todo="--scenario demo", code=USAGE)
