"""A pytest plugin: one real Kafka broker for the whole session, on a port of its own.

`HEDGELOCK_TEST_KAFKA=host:port` names a broker that runs already. Without Java or Maven the
fixture fails with the command that brings them; no Kafka test is ever skipped.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.ports import free_port

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "kafka-broker.sh"
START_TIMEOUT_S = 300.0
"""Fetching the jars the first time included."""


def start_broker(folder: Path, port: int) -> int:
    """Start a broker and return its pid once it answers. Fails with the script's remedy."""
    done = subprocess.run(
        [str(SCRIPT), str(folder), str(port)], capture_output=True, text=True,
        timeout=START_TIMEOUT_S, check=False,
    )
    if done.returncode:
        pytest.fail(f"the Kafka broker did not start:\n{done.stderr}", pytrace=False)
    return int(done.stdout.split()[-1])


def stop_broker(pid: int) -> None:
    """Kill a broker that `start_broker` started; its data are not needed any more."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(process, signal.SIGKILL)
    finally:
        os.close(process)


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a broker that every test shares; tests take topic prefixes of their own."""
    running = os.environ.get("HEDGELOCK_TEST_KAFKA")
    if running:
        yield running
        return
    folder, port = tmp_path_factory.mktemp("kafka"), free_port()
    pid = start_broker(folder, port)
    yield f"127.0.0.1:{port}"
    stop_broker(pid)
