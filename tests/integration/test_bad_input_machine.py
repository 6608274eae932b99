"""What the machine or the configuration may do: a clear error, the right exit status, nothing lost."""

from __future__ import annotations

import resource
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from trial import OURS, Trial, audited, trial

from hedgelock.app import SERVICES

pytestmark = [pytest.mark.no_cover, pytest.mark.timeout(120)]

ENGINE = (sys.executable, "-m", "hedgelock.app")
CONFIG_EXIT, REFUSED_EXIT = 2, 3
SECRET = "b7Xq-never-to-be-shown-41"


def ended(run: Trial, *, within_s: float = 30) -> tuple[int, str]:
    """Start an engine that must refuse; its exit status and everything it said."""
    run.start("refused", *ENGINE)
    status = run.processes["refused"].wait(within_s)
    return status, run.log("refused")


def test_a_busy_port_is_named_with_its_variable(tmp_path: Path) -> None:
    """Status 2 and the variable to set; every port that is taken is named at once."""
    with trial(tmp_path) as run, socket.socket() as one, socket.socket() as two:
        for each, name in ((one, "HTTP__HEDGER_PORT"), (two, "HTTP__SAFETY_METRICS_PORT")):
            each.bind(("127.0.0.1", int(run.env[name])))
            each.listen()
        status, said = ended(run)
        assert status == CONFIG_EXIT
        assert f"HTTP__HEDGER_PORT={run.env['HTTP__HEDGER_PORT']}" in said
        assert f"HTTP__SAFETY_METRICS_PORT={run.env['HTTP__SAFETY_METRICS_PORT']}" in said
        assert "is taken by another program" in said
        whole = run.command("run")
        assert whole.returncode in (1, CONFIG_EXIT)
        assert "HTTP__HEDGER_PORT=" in whole.stderr


@pytest.mark.parametrize("kind", ["below a file", "no such place"])
def test_a_data_folder_that_cannot_be_made_is_named(tmp_path: Path, kind: str) -> None:
    """Status 2, DATA_DIR, why, and an example."""
    (tmp_path / "file").write_text("mine")
    folder = tmp_path / "file" / "data" if kind == "below a file" else Path("/proc/hedgelock")
    with trial(tmp_path, DATA_DIR=str(folder)) as run:
        status, said = ended(run)
        assert status == CONFIG_EXIT
        assert f"DATA_DIR={folder}" in said and "for example DATA_DIR=data" in said
        assert "Traceback" not in said
    assert (tmp_path / "file").read_text() == "mine"


def test_a_data_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A folder that exists but takes no file: the folder, why, what to do."""
    with trial(tmp_path, DATA_DIR="/proc/self") as run:
        status, said = ended(run)
        assert status == REFUSED_EXIT
        assert "cannot write in /proc/self" in said and "mend its permissions" in said


@pytest.mark.parametrize("content", [b"SQLite format 3\0" + b"\xff" * 5000, b"not a database " * 999])
def test_a_corrupt_log_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    """What the file holds may still be worth something: it is named and not touched."""
    with trial(tmp_path) as run:
        path = Path(run.env["DATA_DIR"]) / "hedgelock.db"
        path.parent.mkdir()
        path.write_bytes(content)
        status, said = ended(run)
        assert status == REFUSED_EXIT
        assert f"the log {path} is not a readable SQLite file" in said
        assert "restore a copy" in said
        assert path.read_bytes() == content


def test_the_whole_of_it_gives_up_at_once_when_the_engine_cannot_begin(tmp_path: Path) -> None:
    """`hedgelock run --keep` on a corrupt log ends with status 1 and the reason, not with endless restarts."""
    with trial(tmp_path) as run:
        path = Path(run.env["DATA_DIR"]) / "hedgelock.db"
        path.parent.mkdir()
        path.write_bytes(b"not a database " * 999)
        run.start("run", str(Path(sys.executable).parent / "hedgelock"), "run", "--keep")
        assert run.processes["run"].wait(30) == 1
        said = run.log("run")
        assert "is not a readable SQLite file" in said
        assert said.count('"child_started"') == 2, said


@pytest.mark.slow
def test_a_second_engine_on_the_same_log_is_refused(tmp_path: Path) -> None:
    """The second names the first's pid and ends; the first goes on."""
    with trial(tmp_path) as run:
        run.start_simulator()
        run.start_engine()
        first = run.processes["engine"]
        # Ports of its own: the log alone must keep it out.
        run.env |= {name: "0" for name in run.env if name.startswith("HTTP__")}
        status, said = ended(run)
        assert status == REFUSED_EXIT
        assert f"another engine (pid {first.pid}) already writes" in said
        assert first.poll() is None


@pytest.mark.parametrize(
    ("lines", "mode", "found"),
    [
        ((f"BYBIT__API_SECRET={SECRET}",), 0o644, ("chmod 600", "BYBIT__API_SECRET")),
        (
            ("HEDGER__NO_TRADE_BANT=0.05", "RISK__LTV_DANGER_THRESHOLD=NaN",
             "RISK__LTV_CAUTION_THRESHOLD=-1", "HEDGER__RESERVE_USDT=Infinity", "SIM__SPEED=fast",
             f"OPERATOR__KEY={SECRET[:3]}", "KAFKA BOOTSTRAP"), 0o600,
            ("did you mean HEDGER__NO_TRADE_BAND", "RISK__LTV_DANGER_THRESHOLD='NaN'",
             "RISK__LTV_CAUTION_THRESHOLD='-1'", "HEDGER__RESERVE_USDT='Infinity'",
             "SIM__SPEED='fast'", "OPERATOR__KEY=(hidden)", "line 7 is not NAME=value"),
        ),
    ],
)
def test_a_bad_env_file_is_refused_with_name_problem_and_example(
    tmp_path: Path, lines: tuple[str, ...], mode: int, found: tuple[str, ...]
) -> None:
    """Status 2; every problem at once, each with its variable; a secret is never shown."""
    (tmp_path / ".env").write_text("\n".join(lines) + "\n")
    (tmp_path / ".env").chmod(mode)
    with trial(tmp_path) as run:
        run.env.pop("SIM__SPEED", None)
        status, said = ended(run)
        assert status == CONFIG_EXIT, said
        assert [text for text in found if text not in said] == [], said
        assert SECRET not in said and "Traceback" not in said


# ---------------------------------------------------------------- while it runs


@pytest.mark.slow
def test_wrong_keys_open_nothing_and_ready_says_what_to_do(tmp_path: Path) -> None:
    """The engine lives, asks again, names account and variable on /ready and in the log, opens nothing."""
    wrong = {
        "alice": ("wrong-key-for-this", "the key is unknown here: check BYBIT__API_KEY"),
        "bob": (OURS, "the signature is wrong: check BYBIT__API_SECRET"),
    }
    keys = {f"ACCOUNTS__{name}__API_KEY": key for name, (key, _) in wrong.items()}
    keys |= {f"ACCOUNTS__{name}__API_SECRET": SECRET for name in wrong}
    with trial(tmp_path, MODE="sim", SIM__SPEED="20", **keys) as run:
        run.start_simulator()
        run.start("engine", *ENGINE)

        def told(service: str) -> bool:
            reasons = run.why_not_ready(service)
            return all(any(name in reason and todo in reason for reason in reasons)
                       for name, (_, todo) in wrong.items())

        run.await_that("the reasons on /ready", lambda: told("collector") and told("trade-executor"), 30)
        run.await_that("the stream's refusal", lambda: "stream_refused" in run.log_of("engine"), 20)
        run.start_script()
        run.await_that("the fall", lambda: run.look().script_s > 30, 20)
        assert run.look().ours["orders"] == 0
        assert run.processes["engine"].poll() is None
        assert run.metric("collector", "read_failures_total", part="connect") >= len(wrong)
        assert run.stop()["engine"] == 0
        assert SECRET not in run.log_of("engine")


SKEWED = """
import sys, time
real = time.time_ns
time.time_ns = lambda: real() + {ms} * 1_000_000
time.time = lambda: time.time_ns() / 1e9
from hedgelock.simulator.__main__ import main
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("skew_ms", [2_000, -2_000])
def test_a_clock_two_seconds_off_is_corrected_and_shown(tmp_path: Path, skew_ms: int) -> None:
    """Bybit refuses stamps 1 s ahead or 5 s behind: ours are stamped by its clock, and orders fill."""
    with trial(tmp_path, SIM__SPEED="6") as run:
        run.start("simulator", sys.executable, "-c", SKEWED.format(ms=skew_ms))
        run.start_engine()
        offset_s = run.metric("collector", "clock_offset_seconds")
        assert abs(offset_s - skew_ms / 1000) < 0.2
        run.start_script()
        run.await_that("a filled hedge", lambda: run.look().ours["fills"] > 0, 20)
        run.await_that("its end on the bus", lambda: run.metric(
            "trade-executor", "orders_total", status="filled") > 0, 5)
        assert run.stop() == {"simulator": 0, "engine": 0}
        refusals = [line for line in run.lines("engine") if "10002" in str(line.get("error", ""))]
        assert not refusals


ROOM = 100_000
"""Bytes that a file may have while the disk is "full": less than the log has already."""


def fill_disk(run: Trial) -> None:
    """From now on no file of the engine grows; returns when the engine has noticed and says so."""
    pid = run.processes["engine"].pid
    before = run.metric("risk-engine", "bus_errors_total")
    hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (ROOM, hard))
    run.await_that("bus errors", lambda: run.metric("risk-engine", "bus_errors_total") > before, 15)
    run.await_that("the reason on /ready", lambda: any(
        "cannot be written" in reason and "free space" in reason
        for reason in run.why_not_ready("risk-engine")), 5)


def free_disk(run: Trial) -> None:
    """There is room again."""
    pid = run.processes["engine"].pid
    hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


def hedges(run: Trial) -> list[Any]:
    """Orders at the exchange but for the protective stop."""
    orders = run.at_exchange(f"/sim/orders?account={OURS}")["orders"]
    return [order for order in orders if not order["stopOrderType"]]


@pytest.mark.timed
@pytest.mark.slow
def test_a_full_disk_opens_nothing_says_so_recovers_and_loses_nothing(tmp_path: Path) -> None:
    """While the log cannot grow nothing is sent; with room it goes on; the books agree at the end."""
    with trial(tmp_path, SIM__SPEED="4") as run:
        run.start_simulator()
        run.start_engine()
        fill_disk(run)
        run.start_script()
        run.await_that("the need to hedge", lambda: float(run.look().ours["ltv"]) > 0.69, 20)
        assert run.look().ours["orders"] == 0, "sent what is not in the log"
        assert run.processes["engine"].poll() is None
        free_disk(run)
        run.await_that("a hedge", lambda: run.look().ours["fills"] > 0, 15)
        fill_disk(run)
        free_disk(run)
        run.await_that("more orders", lambda: len(hedges(run)) > 3, 30)
        assert not run.look().ours["liquidated"]
        run.await_that("readiness", lambda: all(run.ready(name) for name in SERVICES), 10)
        assert len(audited(run).orders) > 3
        assert run.stop() == {"simulator": 0, "engine": 0}
