"""The supervisor beside its children: what it looks after while they run."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from trial import environment

from hedgelock.config import Settings, load
from hedgelock.supervisor import Supervisor


class _Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """An installation whose services all answer that they are ready."""
    env = environment(tmp_path, MODE="testnet", BYBIT__API_KEY="k" * 18, BYBIT__API_SECRET="s" * 36,
                      OPERATOR__KEY="o" * 40)
    servers = [
        http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), _Ready)
        for name, port in env.items()
        if name.startswith("HTTP__") and not name.endswith("METRICS_PORT")
    ]
    threads = [threading.Thread(target=s.serve_forever, kwargs={"poll_interval": 0.01}) for s in servers]
    for thread in threads:
        thread.start()
    yield load(env, env_file=None)
    for server in servers:
        server.shutdown()
        server.server_close()
    for thread in threads:
        thread.join()


def test_it_bounds_the_log_that_its_children_write(settings: Settings, tmp_path: Path) -> None:
    """A log past its size is put aside while everything runs."""
    path = tmp_path / "hedgelock.log"
    path.write_text("x" * 1_000)
    supervisor = Supervisor(settings, log_path=path)
    supervisor.children.clear()
    supervisor.log_bytes_max = 500
    watching = threading.Thread(target=supervisor.watch, daemon=True)
    watching.start()
    aside, pause = tmp_path / "hedgelock.log.1", threading.Event()
    for _ in range(200):
        if aside.exists() and not path.stat().st_size:
            break
        pause.wait(0.05)
    supervisor.stop()
    watching.join()
    assert aside.read_text() == "x" * 1_000
    assert path.read_text() == ""
