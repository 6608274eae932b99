"""A command line to call in this process, and a real embedded log for it to read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.ports import free_port

from cli.cli_story import (
    BTC,
    NOW,
    SERVICES,
    Cli,
    Log,
    Outcome,
    confirm,
    decision,
    funding,
    place,
    positions,
    risk,
    tick,
)
from hedgelock.cli import main


@pytest.fixture
def ports(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Every port of the configuration moved to a free one."""
    chosen = {"SIM__PORT": free_port()}
    for name in SERVICES:
        chosen[f"HTTP__{name}_PORT"] = free_port()
        chosen[f"HTTP__{name}_METRICS_PORT"] = free_port()
    for name, port in chosen.items():
        monkeypatch.setenv(name, str(port))
    return chosen


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    ports: dict[str, int],
) -> Cli:
    """Call `hedgelock` with arguments, in an empty folder, on free ports, 140 columns wide."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "140")

    def call(*argv: str) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main(argv)
        said = capsys.readouterr()
        code = left.value.code
        return Outcome(code if isinstance(code, int) else 0, said.out, said.err)

    return call


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    """The log that `cli` reads, open for writing here as the engine would."""
    (tmp_path / "data").mkdir()
    log = Log(tmp_path / "data" / "hedgelock.db")
    yield log
    log.bus.close()


@pytest.fixture
def story(log: Log) -> Log:
    """The log with a tick that led to a filled hedge."""
    log.put("market_data", BTC, tick(), "collector:tick:1", ts_ms=NOW)
    log.put("funding_context", BTC, funding(), "funding-engine:x:1.0", ts_ms=NOW - 50)
    log.put("account_raw", "main", positions(), "collector:pos:1", ts_ms=NOW - 90)
    log.put("risk_state", "main", risk(), "risk-engine:main:3.0", ts_ms=NOW + 1,
            causes=("collector:tick:1", "funding-engine:x:1.0"))
    log.put("hedge_trades", "main", place(), "hedger:main:7.0", ts_ms=NOW + 2,
            causes=("risk-engine:main:3.0",))
    log.put("hedge_decisions", "main", decision(), "hedger:main:7.1", ts_ms=NOW + 2,
            causes=("risk-engine:main:3.0",))
    log.put("trade_confirmations", "main", confirm(), "trade-executor:main:4.0", ts_ms=NOW + 14,
            causes=("hedger:main:7.0",))
    return log
