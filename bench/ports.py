"""Free loopback ports, for tests and the bench; needs nothing but the standard library.

Below the kernel's own range: a port found free there may be taken by any outgoing connection before
its server comes up. Each port is given once per process, in an order of the process' own.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections.abc import Iterator

_FIRST, _LAST = 15_000, 32_000


def _candidates() -> Iterator[int]:
    return iter(random.Random(os.getpid()).sample(range(_FIRST, _LAST, 2), (_LAST - _FIRST) // 2))


_ports = _candidates()


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with contextlib.suppress(OSError), socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
        return True
    return False


def free_port() -> int:
    """A port that nobody has; its neighbour above is free too (a broker's controller takes it)."""
    while True:
        port = next(_ports)
        if is_free(port) and is_free(port + 1):
            return port


def free_ports(count: int) -> list[int]:
    """So many of them."""
    return [free_port() for _ in range(count)]


if __name__ == "__main__":
    print(free_port())
