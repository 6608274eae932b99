"""Summed PSS of `hedgelock run`: supervisor, simulator and engine while the demo plays."""

from __future__ import annotations

import time
from pathlib import Path

from bench.figures import Figure
from bench.processes import BenchError, ask, site

WATCHED_S = 25.0
EVERY_S = 1.0


def pss_mb(pid: int) -> float:
    """Proportional set size of one process, MB (10⁶ bytes); 0 when it is gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return pss_of(text)


def pss_of(rollup: str) -> float:
    """The Pss line of a smaps_rollup, kB → MB."""
    for line in rollup.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def tree(pid: int) -> dict[int, str]:
    """A process and all below it: pid → what it is."""
    found = {pid: _name(pid)}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found |= tree(int(child))
    return found


def _name(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return next((word for word in words if word.startswith("hedgelock.")), words[0])


def measure() -> Figure:
    """The highest sum seen while the demo plays."""
    with site({"SIM__SPEED": "4"}) as made:
        run = made.start("run", "-m", "hedgelock.cli", "run", "--yes")
        made.wait(lambda: _plays(made.sim_port), "the demo", [run])
        most, parts = 0.0, ""
        until = time.monotonic() + WATCHED_S
        while time.monotonic() < until:
            seen = {name: pss_mb(pid) for pid, name in tree(run.pid).items()}
            if sum(seen.values()) > most:
                most = sum(seen.values())
                parts = ", ".join(f"{name} {mb:.0f}" for name, mb in seen.items())
            time.sleep(EVERY_S)
        if run.poll() is not None or len(seen) < 3:
            raise BenchError(f"`hedgelock run` lost a process:\n{made.logs()}")
    return Figure("run_pss_mb", most, "MB", 500.0, note=parts)


def _plays(port: int) -> bool:
    try:
        return not ask(port, "/sim/state")["waiting"]
    except OSError:
        return False
