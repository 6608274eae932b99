"""What every command shares: the two consoles, exit codes, failing clearly, loading settings.

Results go to stdout, everything else to stderr, so that pipes carry results only.
"""

from __future__ import annotations

import functools
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from hedgelock.config import Settings
    from hedgelock.ports import Bus

OK, PROBLEM, USAGE = 0, 1, 2
"""Exit codes: done; ran and found a problem; asked or configured wrongly."""


def out() -> Console:
    """Where results go; made anew, so that a redirected stdout is respected."""
    return Console(highlight=False)


def err() -> Console:
    """Where everything else goes."""
    return Console(stderr=True, highlight=False)


@functools.cache
def me() -> str:
    """How this program is called from here: `hedgelock`, or `.venv/bin/hedgelock` after `make run`."""
    beside = Path(sys.executable).parent / "hedgelock"
    if shutil.which("hedgelock") is None and beside.is_file() and Path.cwd() in beside.parents:
        return str(beside.relative_to(Path.cwd()))
    return "hedgelock"


def typeable(text: str) -> str:
    """Our commands in a text as they can be typed here."""
    return _OURS.sub(me() + r"\1", text)


_OURS = re.compile(r"(?<![\w/.-])hedgelock( [a-z])")


def fail(what: str, *, why: str = "", todo: str = "", code: int = PROBLEM) -> NoReturn:
    """Say what went wrong, why, and what to do; leave with `code`."""
    complain(what, why=why, todo=todo)
    raise typer.Exit(code)


def complain(what: str, *, why: str = "", todo: str = "") -> None:
    """What, why and what to do, on stderr; long lines are left to the terminal to fold."""
    console = err()
    console.print(f"[bold red]error:[/] {escape(what)}", soft_wrap=True)
    if why:
        console.print(f"  why: {escape(why)}", soft_wrap=True)
    if todo:
        console.print(f"  do:  [bold]{escape(typeable(todo))}[/]", soft_wrap=True)


def note(text: str) -> None:
    """A line beside the results."""
    err().print(f"[dim]{escape(typeable(text))}[/]", soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on one line, on stdout."""
    import msgspec

    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def load_settings(overrides: Mapping[str, object] | None = None) -> Settings:
    """The settings, with this command's options on top; a ConfigError leaves with code 2."""
    from hedgelock.config import load

    given = {name: str(value) for name, value in (overrides or {}).items() if value is not None}
    return load(overrides=given)


def open_log(settings: Settings) -> Bus:
    """The bus, for reading only; a BusError leaves with code 1 and says what to start."""
    from hedgelock import app

    return app.open_bus(settings, read_only=True)


def examples(*lines: str) -> str:
    """Examples for the end of a command's help: pairs of command and what it does."""
    return "\n\n".join(["[bold]Examples[/]", *lines])
