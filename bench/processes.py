"""Real processes: free ports, a clean environment, readiness, an orderly end."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.ports import free_port, free_ports

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
SERVICES = ("collector", "risk-engine", "hedger", "trade-executor", "funding-engine", "safety")
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
POLL_S = 0.005
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "JAVA_HOME", "HEDGELOCK_CACHE")


class BenchError(Exception):
    """A part did not start or did not do what is measured; the text says which and where its log is."""


class Site:
    """One installation under a temporary folder: its settings, its children, their logs."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        ports = free_ports(2 * len(SERVICES) + 1)
        self.sim_port = ports.pop()
        self.ready_ports: dict[str, int] = {}
        self.settings = {
            "DATA_DIR": str(folder / "data"), "LOG_LEVEL": "WARNING",
            "SIM__PORT": str(self.sim_port), **(settings or {}),
        }
        for name in SERVICES:
            variable = f"HTTP__{name.replace('-', '_').upper()}"
            self.ready_ports[name] = ports.pop()
            self.settings[f"{variable}_PORT"] = str(self.ready_ports[name])
            self.settings[f"{variable}_METRICS_PORT"] = str(ports.pop())
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def database(self) -> Path:
        """The embedded log."""
        return Path(self.settings["DATA_DIR"]) / "hedgelock.db"

    def start(self, name: str, *argv: str) -> subprocess.Popen[bytes]:
        """Start `python argv` with this site's settings; its output goes to `name`.log."""
        kept = {key: os.environ[key] for key in _KEPT if key in os.environ}
        with (self.folder / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                (sys.executable, *argv), cwd=self.folder, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, env={**kept, **self.settings, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            )
        self._children.append(child)
        return child

    def market(self, seconds: float) -> subprocess.Popen[bytes]:
        """The simulator with the bench's own script, held until `start_script`."""
        child = self.start("market", "-m", "bench.market", str(self.sim_port), str(seconds))
        self.wait(lambda: is_ok(self.sim_port, "/healthz"), "the simulator", [child])
        return child

    def engine(self) -> subprocess.Popen[bytes]:
        """All services in one process; returns at once."""
        return self.start("engine", "-m", "hedgelock.app")

    def wait_ready(self, children: Sequence[subprocess.Popen[bytes]]) -> None:
        """Until every service answers 200 on /ready."""
        left = dict(self.ready_ports)

        def is_ready() -> bool:
            for name, port in list(left.items()):
                if is_ok(port, "/ready"):
                    del left[name]
            return not left

        self.wait(is_ready, f"{', '.join(left)}", children)

    def wait(
        self, is_there: Callable[[], bool], what: str, children: Sequence[subprocess.Popen[bytes]] = (),
        timeout_s: float = READY_TIMEOUT_S,
    ) -> None:
        """Poll until `is_there`; BenchError when a child died or the time is over."""
        deadline = time.monotonic() + timeout_s
        while not is_there():
            dead = [child for child in children if child.poll() is not None]
            if dead or time.monotonic() > deadline:
                raise BenchError(f"{what} did not come up; see the end of:\n{self.logs()}")
            time.sleep(POLL_S)

    def logs(self) -> str:
        """The last lines of every child's output."""
        return "\n".join(
            f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-8:])
            for path in sorted(self.folder.glob("*.log"))
        )

    def start_script(self) -> None:
        """Let the simulator's script run."""
        ask(self.sim_port, "/sim/start", method="POST")

    def stop(self) -> None:
        """End every child, newest first, within `STOP_TIMEOUT_S` each."""
        for child in reversed(self._children):
            end(child)
        self._children.clear()


@contextlib.contextmanager
def site(settings: Mapping[str, str] | None = None) -> Iterator[Site]:
    """A site in a folder that is removed afterwards, its children ended whatever happens."""
    with tempfile.TemporaryDirectory(prefix="hedgelock-bench-") as folder:
        made = Site(Path(folder), settings)
        try:
            yield made
        finally:
            made.stop()


def end(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL when that does not help."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
    child.wait()


@contextlib.contextmanager
def broker(folder: Path) -> Iterator[str]:
    """A real Kafka broker; host:port. Ends with the block."""
    port = free_port()
    done = subprocess.run(
        [str(ROOT / "scripts" / "kafka-broker.sh"), str(folder), str(port)],
        capture_output=True, text=True, timeout=300, check=False,
    )
    if done.returncode:
        raise BenchError(f"the Kafka broker did not start:\n{done.stderr}")
    handle = os.pidfd_open(int(done.stdout.split()[-1]))
    try:
        yield f"{HOST}:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)


def ask(port: int, path: str, *, method: str = "GET", timeout_s: float = 10.0) -> Any:
    """The JSON that a local server answers; OSError or HTTPException when it does not."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    try:
        connection.request(method, path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def is_ok(port: int, path: str) -> bool:
    """True when a local server answers 200."""
    connection = http.client.HTTPConnection(HOST, port, timeout=1.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
