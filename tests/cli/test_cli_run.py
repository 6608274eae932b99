"""`hedgelock run` as a person starts it: real processes, a real terminal, a real pipe."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

RUN = [sys.executable, "-m", "hedgelock.cli", "run", "--exit-at-end", "--speed", "30"]
WAIT_S = 90.0


def on_terminal(argv: list[str], env: dict[str, str], *, width: int, height: int) -> tuple[str, int]:
    """Run a command on a terminal of this size; everything it wrote and its exit code."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    process = subprocess.Popen(argv, env=env, stdin=theirs, stdout=theirs, stderr=theirs,
                               start_new_session=True)
    os.close(theirs)
    written, deadline = b"", time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        readable, _, _ = select.select([ours], [], [], 0.2)
        if readable:
            try:
                data = os.read(ours, 65_536)
            except OSError:  # EIO: the last process has closed the terminal
                break
            if not data:
                break
            written += data
        elif process.poll() is not None:
            break
    if process.poll() is None:
        process.terminate()
    code = process.wait(20)
    os.close(ours)
    return written.decode(errors="replace"), code


@pytest.mark.slow
def test_run_on_a_terminal(tmp_path: Path, ports: dict[str, int]) -> None:
    """The screen moves several times a second, no log line spoils it, and a summary stays."""
    env = {**os.environ, "DATA_DIR": str(tmp_path / "data"), "TERM": "xterm-256color"}
    env.pop("COLUMNS", None)
    started = time.monotonic()
    written, code = on_terminal(RUN, env, width=100, height=30)
    took_s = time.monotonic() - started
    frames = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", part) for part in written.split("\x1b[H")]
    assert code in (0, 1), written[-2000:]
    assert len(frames) > 2 * took_s
    assert any("with HedgeLock  6" in frame for frame in frames), frames[-1]
    assert '"level"' not in written, "a log line on the screen"
    assert "What became of the two accounts" in frames[-1]
    assert (tmp_path / "data" / "hedgelock.log").stat().st_size > 0


@pytest.mark.slow
def test_run_into_a_pipe(tmp_path: Path, ports: dict[str, int]) -> None:
    """Off a terminal every line of stdout is JSON: decisions, orders, changes, and the summary last."""
    env = {**os.environ, "DATA_DIR": str(tmp_path / "data")}
    done = subprocess.run(RUN, env=env, capture_output=True, text=True, check=False, timeout=WAIT_S)
    assert done.returncode in (0, 1), done.stderr[-2000:]
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"risk", "decision", "order", "confirmation", "funding"} <= {x["event"] for x in said}
    assert said[-1]["event"] == "summary" and said[-1]["twin"]["liquidated"]
