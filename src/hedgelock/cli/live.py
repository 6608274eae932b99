"""`hedgelock run`: everything in one command, watched on one screen or as JSON lines."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hedgelock.cli.console import OK, PROBLEM, USAGE, err, examples, fail, load_settings, note, out

if TYPE_CHECKING:
    from rich.console import Console

    from hedgelock.cli.feed import Feed, Listen
    from hedgelock.config import Settings

FRAMES_PER_S = 5
_SETTLE_S = 2.0
"""After the script's end the last fills and repayments arrive."""

LOG_NAME = "hedgelock.log"
_TAIL_BYTES = 65_536
_TAIL_LINES = 5


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(
        epilog=examples(
            "hedgelock run  –  the demo: a crash and a recovery in two minutes, no keys needed",
            "hedgelock run --speed 4 --exit-at-end  –  four times as fast, ends by itself",
            "hedgelock run --scenario mania",
            "hedgelock run > events.jsonl  –  JSON lines instead of the screen",
            "MODE=testnet hedgelock run  –  Bybit's testnet, with keys in .env",
        ),
    )(run)


def run(  # noqa: PLR0917 - typer makes options of the parameters
    scenario: Annotated[
        str | None,
        typer.Option(help="Simulation: calm, crash, demo, mania or whipsaw.", show_default=False),
    ] = None,
    speed: Annotated[
        str | None, typer.Option(help="Simulation: how fast the script plays.", show_default=False)
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the log.", show_default=False)
    ] = None,
    account: Annotated[
        str | None, typer.Option(help="Which account to show.", show_default=False)
    ] = None,
    fresh: Annotated[
        bool | None,
        typer.Option("--fresh/--keep", show_default=False,
                     help="Start with an empty log (the old one is moved aside), or go on with it. "
                     "A simulation starts afresh by itself."),
    ] = None,
    exit_at_end: Annotated[
        bool, typer.Option("--exit-at-end", help="Simulation: stop when the script has ended.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Run HedgeLock: everything in one command, shown live; Ctrl-C stops it.

    Without keys it plays the demo against the built-in exchange simulator: a
    BTC-collateralised loan slides towards liquidation, HedgeLock hedges, harvests
    and repays, while an unwatched twin is liquidated.

    Off a terminal: one JSON line per decision, order and change of state.
    """
    from hedgelock.cli import logfile
    from hedgelock.cli.start import check_scenario

    settings = load_settings(
        {"SIM__SCENARIO": scenario, "SIM__SPEED": speed, "DATA_DIR": data_dir}
    )
    simulated = settings.trading_mode.value == "sim"
    if simulated:
        check_scenario(settings.sim.scenario)
    elif exit_at_end or scenario or speed:
        fail("--scenario, --speed and --exit-at-end are for simulations",
             why=f"this is MODE={settings.trading_mode.value}: a real market has no script",
             todo="leave them out, or MODE=sim hedgelock run", code=USAGE)
    names = settings.account_names()
    if account is not None and account not in names:
        fail(f"there is no account {account!r}", why=f"configured: {', '.join(names)}",
             todo=f"--account {names[0]}", code=USAGE)
    check_ports(settings)
    logfile.prepare(settings, fresh=fresh, yes=yes)
    raise typer.Exit(_Run(settings, account or names[0], exit_at_end=exit_at_end).run())


def check_ports(settings: Settings) -> None:
    """Leave with what to do when a port that is needed is taken."""
    from hedgelock.cli.listeners import Owner, survey

    taken = [one for one in survey(settings) if one.owner is not Owner.FREE]
    if not taken:
        return
    if any(one.owner is Owner.OURS for one in taken):
        ports = ", ".join(f"{one.port} ({one.detail})" for one in taken if one.owner is Owner.OURS)
        fail("HedgeLock already runs here", why=f"it listens on {ports}",
             todo="stop the other one (Ctrl-C in its terminal), or choose other ports: "
             "`hedgelock config port` lists them", code=USAGE)
    one = taken[0]
    why = ("another program has it" if one.owner is Owner.OTHER
           else f"it cannot be opened: {one.detail}")
    fail(f"port {one.port} on {one.host} is not free", why=why,
         todo=f"see who: ss -ltnp 'sport = :{one.port}'; or choose another: "
         f"{one.variable}={one.port + 100} hedgelock run", code=USAGE)


class _Run:
    """One run, from start to summary."""

    def __init__(self, settings: Settings, account: str, *, exit_at_end: bool) -> None:
        from hedgelock.cli.board import Board
        from hedgelock.clock import SystemClock

        self._settings = settings
        self._exit_at_end = exit_at_end
        self._clock = SystemClock()
        self._done = threading.Event()
        self._board = Board(
            account=account, mode=settings.trading_mode.value, since_ms=self._clock.now_ms(),
            policy=settings.policy(account),
        )

    def run(self) -> int:
        """Supervise in this thread, show in another; the exit status."""
        from hedgelock import app
        from hedgelock.telemetry import log, rotation

        console = out()
        on_screen = console.is_terminal and not console.is_dumb_terminal
        log_path = self._settings.data_dir / LOG_NAME if on_screen else None
        if log_path is not None:
            log_path.parent.mkdir(parents=True, exist_ok=True)
            rotation.put_aside(log_path)
        stream = log_path.open("a") if log_path else None
        log.configure(self._settings.log_level, json=True, secrets=self._settings.secrets(),
                      stream=stream)
        feed = self._feed(None if on_screen else self._json_listener())
        feed.start()
        watchers = [self._spawn(self._watch_end, feed)]
        if on_screen:
            watchers.append(self._spawn(self._show, feed, console))
        try:
            status = app.supervise(self._settings, log_path=log_path)
        finally:
            self._done.set()
            for watcher in watchers:
                watcher.join(5)
            feed.stop()
            if stream is not None:
                stream.close()
        self._finish(console, on_screen=on_screen, status=status, log_path=log_path)
        return self._verdict(status)

    def _feed(self, listen: Listen | None) -> Feed:
        from hedgelock import app
        from hedgelock.cli.feed import Feed

        def open_bus() -> object:
            return app.open_bus(self._settings, read_only=True)

        if listen is None:
            return Feed(self._board, self._settings, open_bus)  # type: ignore[arg-type]
        return Feed(self._board, self._settings, open_bus, listen=listen)  # type: ignore[arg-type]

    def _json_listener(self) -> Listen:
        from hedgelock.cli.events import Events

        return Events(self._board.since_ms).listen

    @staticmethod
    def _spawn(work: Callable[..., None], *args: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=args, daemon=True)
        thread.start()
        return thread

    # ---------------------------------------------------------------- while it runs

    def _watch_end(self, feed: Feed) -> None:
        """Notice the script's end; with --exit-at-end ask ourselves to stop, as a person would."""
        while not self._done.wait(0.2):
            with feed.lock:
                ended = self._board.sim is not None and self._board.sim.finished
            if ended:
                if self._exit_at_end:
                    self._done.wait(_SETTLE_S)
                    os.kill(os.getpid(), signal.SIGTERM)
                return

    def _show(self, feed: Feed, console: Console) -> None:
        from rich.live import Live
        from rich.text import Text

        from hedgelock.cli.screen import ASCII, UNICODE, Screen

        glyphs = ASCII if console.options.ascii_only else UNICODE
        with Live(Text(""), console=console, screen=True, auto_refresh=False) as live:
            while not self._done.wait(1 / FRAMES_PER_S):
                width, height = console.size
                with feed.lock:
                    frame = Screen(width, height, glyphs).render(self._board, self._clock.now_ms())
                live.update(frame, refresh=True)

    # ---------------------------------------------------------------- afterwards

    def _verdict(self, status: int) -> int:
        """0 after an orderly stop; 1 when something failed or our account was liquidated."""
        ours = self._board.ours
        if ours is not None and ours.liquidated_ms:
            return PROBLEM
        return OK if status == OK else status

    def _worth_telling(self) -> str:
        """A decision whose story is worth reading: the latest repayment, else the latest action."""
        acted = [d for d in self._board.decisions if d.acted]
        repaid = [d for d in acted if d.reason.endswith("_repay")]
        return next((d.ident for d in reversed(repaid or acted)), "")

    def _finish(
        self, console: Console, *, on_screen: bool, status: int, log_path: Path | None
    ) -> None:
        from hedgelock.cli import summary
        from hedgelock.cli.console import print_json

        if self._board.sim is not None and self._board.sim.started_ms:
            if on_screen:
                console.print(summary.table(self._board))
            else:
                print_json({"event": "summary", **summary.compare(self._board)})
        if status != OK:
            _tell_failure(status, log_path)
        if on_screen:
            told = self._worth_telling()
            if told:
                note(f"next: hedgelock why {told}   or: hedgelock replay")
            note(f"the log of this run: {log_path}")


def _tell_failure(status: int, log_path: Path | None) -> None:
    """The last complaints of the processes that failed."""
    lines = last_errors(log_path) if log_path is not None else []
    fail_text = f"HedgeLock stopped by itself (status {status})"
    console = err()
    console.print(f"[bold red]error:[/] {fail_text}", soft_wrap=True)
    for line in lines:
        console.print(f"  {line}", soft_wrap=True, markup=False)
    if sys.stderr.isatty():
        console.print("  do:  [bold]hedgelock doctor[/]")


def last_errors(path: Path) -> list[str]:
    """The last error lines of a log of JSON lines, in short."""
    import json

    if not path.exists():
        return []
    with path.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - _TAIL_BYTES))
        lines = stream.read().decode(errors="replace").splitlines()
    found = []
    for line in lines:
        try:
            said = json.loads(line)
        except ValueError:
            # Not a log line: a Python traceback or a library's own words. The last one tells most.
            if line.strip() and not line.startswith((" ", "Traceback", "{")):
                found.append(line.strip())
            continue
        if isinstance(said, dict) and said.get("level") in ("error", "critical"):
            rest = {k: v for k, v in said.items() if k not in ("event", "level", "ts", "exception")}
            words = ", ".join(f"{name} {value}" for name, value in rest.items())
            found.append(f"{said.get('event')}: {words}")
    return found[-_TAIL_LINES:]
