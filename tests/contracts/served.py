"""A simulator in a process of its own."""

import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.ports import free_port

START_S = 20


@contextmanager
def served(command: Callable[[int], list[str]]) -> Iterator[int]:
    """Run what `command` makes of a free port until the block is over; yields the port."""
    port = free_port()
    with subprocess.Popen(
        command(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            deadline = time.monotonic() + START_S
            while not _is_up(port):
                assert time.monotonic() < deadline, "the simulator did not start"
            yield port
        finally:
            process.terminate()
            assert process.wait(10) == 0


def _is_up(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1):
            return True
    except OSError:
        return False
