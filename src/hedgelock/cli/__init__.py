"""The command line: `hedgelock COMMAND`. One file per subject; this one only puts them together.

    console   consoles, exit codes, errors          words     messages in plain words
    live      run                                   board     what the live view knows
    caption   what is going on, and why             glance    what fits a small window
    screen    how the live view looks               show      config, topics, peek
    why       why, replay                           doctor    doctor, healthcheck
    operate   operator halt | resume | kill         start     service, simulate
    upkeep    backup, restore, upgrade
    rehearse  rehearse

Commands import what they need when they run: `hedgelock --help` must not wait for an exchange library.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from hedgelock import __version__
from hedgelock.cli import (
    console,
    doctor,
    live,
    operate,
    rehearse,
    show,
    start,
    upkeep,
    why,
)

app = typer.Typer(
    name="hedgelock",
    help="Keeps a crypto-collateralised account alive: watches loan-to-value, margin and funding, "
    "hedges, harvests and repays, and explains every decision.",
    epilog=console.examples(
        "hedgelock run  –  watch the built-in demo: a crash, a hedge, a recovery; no keys needed",
        "hedgelock why hedger:main:42  –  the whole story behind a decision or order",
        "hedgelock doctor  –  what is well, what is not, and what to do about it",
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (live, show, why, doctor, operate, upkeep, start, rehearse):
    module.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hedgelock {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True,
                     help="Show the version and leave."),
    ] = False,
) -> None:
    pass


def main(argv: Sequence[str] | None = None) -> None:
    """The entry point. Always raises SystemExit: 0 done, 1 found a problem, 2 asked wrongly."""
    if not __debug__:
        sys.stderr.write(
            "error: hedgelock does not run under `python -O`\n"
            "  why: -O switches assertions off, and they are part of what guards your money\n"
            "  do:  start without -O and unset PYTHONOPTIMIZE\n"
        )
        raise SystemExit(console.USAGE)
    from hedgelock.domain.money import trap_floats
    from hedgelock.errors import ConfigError, HedgeLockError

    # The engine's arithmetic, to the digit: `replay` compares what both computed.
    trap_floats()
    try:
        app(args=None if argv is None else list(argv), prog_name="hedgelock")
    except ConfigError as error:
        console.complain(str(error), todo="hedgelock config --help shows where settings come from")
        raise SystemExit(console.USAGE) from None
    except HedgeLockError as error:
        console.complain(str(error), todo="hedgelock doctor shows what is well and what is not")
        raise SystemExit(console.PROBLEM) from None
