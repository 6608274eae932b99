"""A whole run of the demo: real processes and sockets, killed at will, audited at the exchange."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench.ports import free_ports

from hedgelock.app import SERVICES, folded, open_bus
from hedgelock.bus import codec
from hedgelock.config import load
from hedgelock.domain.hedging import HedgeDecision
from hedgelock.domain.order import PlaceOrder
from hedgelock.domain.risk import RiskAssessment
from hedgelock.domain.treasury import (
    TreasuryKind,
    TreasuryStage,
)
from hedgelock.errors import BadMessage
from hedgelock.ports import Bus
from hedgelock.rehearsal.books import Books, audit_orders, read_books
from hedgelock.services.explain import explain
from hedgelock.services.journal import replay

OURS, TWIN = "hedgelock-sim", "unprotected-sim"
POLL_S = 0.05
HEDGELOCK = str(Path(sys.executable).parent / "hedgelock")


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Settings of a run of its own: free ports, a folder of its own, nothing inherited."""
    names = [
        f"HTTP__{name.replace('-', '_').upper()}_{kind}"
        for name in SERVICES for kind in ("PORT", "METRICS_PORT")
    ]
    ports = free_ports(len(names) + 1)
    names_kept = ("PATH", "HOME", "LANG", "PYTHONPATH")
    kept = {k: v for k, v in os.environ.items() if k in names_kept or "COV" in k}
    return {
        **kept, "DATA_DIR": str(folder / "data"), "SIM__PORT": str(ports.pop()),
        **{name: str(port) for name, port in zip(names, ports, strict=True)}, **more,
    }


def get(url: str) -> Any:
    """A JSON answer."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


@dataclass
class Answer:
    """What a page said, whatever its status."""

    status: int
    text: str

    @property
    def body(self) -> Any:
        """As JSON."""
        return json.loads(self.text)


def ask(url: str, data: bytes | None = None, **headers: str) -> Answer:
    """GET, or POST with `data`; a refusal is an answer too."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=10) as page:
            return Answer(page.status, page.read().decode())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read().decode())


_SAMPLE = re.compile(r"^([a-z_]+(?:\{[^}]*\})?) (\S+)$", re.MULTILINE)


@dataclass
class Moment:
    """What /sim/state said at one poll."""

    script_s: float
    ours: dict[str, Any]
    twin: dict[str, Any]


@dataclass
class Trial:
    """One run: its processes, and everything seen of it."""

    env: dict[str, str]
    folder: Path
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    moments: list[Moment] = field(default_factory=list)
    kills: list[str] = field(default_factory=list)

    engine_argv = (sys.executable, "-m", "hedgelock.app")

    @property
    def sim(self) -> str:
        """The simulator's address."""
        return f"http://127.0.0.1:{self.env['SIM__PORT']}"

    def at_exchange(self, path: str) -> Any:
        """A page of the simulator's control."""
        return get(f"{self.sim}{path}")

    def start(self, name: str, *argv: str) -> None:
        """Start a process; its output goes to a file beside the data."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                argv, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.folder,
            )

    def log(self, name: str) -> str:
        """The end of a process's output, for a failure's message."""
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""

    def log_of(self, name: str) -> str:
        """All of a process's output."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def await_that(self, what: str, is_so: Any, timeout_s: float) -> None:
        """Poll until `is_so()`; fails with the logs."""
        deadline = time.monotonic() + timeout_s
        pause = threading.Event()
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError, KeyError):
                if is_so():
                    return
            pause.wait(POLL_S)
        logs = "\n".join(f"== {name}\n{self.log(name)}" for name in self.processes)
        raise AssertionError(f"{what} did not happen within {timeout_s} s\n{logs}")

    def look(self) -> Moment:
        """Ask the exchange how both accounts stand, and remember it."""
        state = self.at_exchange("/sim/state")
        moment = Moment(state["script_s"], state["accounts"][OURS], state["accounts"][TWIN])
        self.moments.append(moment)
        return moment

    def watch(self, until_s: float, kills: Sequence[tuple[float, str]], kill: Any) -> None:
        """Poll until script second `until_s`, killing as scheduled: (script second, name)."""
        pending = sorted(kills)
        deadline = time.monotonic() + 600
        pause = threading.Event()
        while (moment := self.look()).script_s < until_s:
            while pending and pending[0][0] <= moment.script_s:
                _, name = pending.pop(0)
                kill(name)
                self.kills.append(name)
            assert time.monotonic() < deadline, "the script does not advance"
            pause.wait(POLL_S)
        assert not pending, f"never killed: {pending}"

    def ready(self, name: str) -> bool:
        """Whether a service says it can work."""
        port = self.env[f"HTTP__{name.replace('-', '_').upper()}_PORT"]
        return bool(get(f"http://127.0.0.1:{port}/ready")["ready"])

    def url(self, name: str, path: str, *, metrics: bool = False) -> str:
        """A page of a service."""
        kind = "METRICS_PORT" if metrics else "PORT"
        port = self.env[f"HTTP__{name.replace('-', '_').upper()}_{kind}"]
        return f"http://127.0.0.1:{port}{path}"

    def why_not_ready(self, name: str) -> list[str]:
        """What a service's /ready says is missing; [] = it is ready."""
        return list(ask(self.url(name, "/ready")).body["reasons"])

    def metric(self, name: str, metric: str, **labels: str) -> float:
        """The sum of a service's series of that name with those labels; 0 where there is none."""
        page = ask(self.url(name, "/metrics", metrics=True)).text
        total = 0.0
        for series, value in _SAMPLE.findall(page):
            known, _, rest = series.partition("{")
            if known == f"hedgelock_{metric}" and all(f'{k}="{v}"' in rest for k, v in labels.items()):
                total += float(value)
        return total

    def start_simulator(self) -> None:
        """The exchange by itself, its script held."""
        self.start("simulator", sys.executable, "-m", "hedgelock.simulator")
        self.await_that("the simulator", lambda: get(f"{self.sim}/healthz"), 30)

    def start_engine(self) -> None:
        """The engine by itself, as the supervisor starts it; returns when everything is ready."""
        self.start("engine", *self.engine_argv)
        engine = self.processes["engine"]

        def is_up() -> bool:
            return engine.poll() is not None or all(self.ready(name) for name in SERVICES)

        self.await_that("readiness", is_up, 45)
        assert engine.poll() is None, f"the engine died: {self.log('engine')}"

    def start_script(self) -> None:
        """Let the scenario begin."""
        urllib.request.urlopen(urllib.request.Request(f"{self.sim}/sim/start", method="POST"),
                               timeout=10).close()

    def command(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a `hedgelock` command with this run's settings."""
        return subprocess.run([HEDGELOCK, *argv], env=self.env, cwd=self.folder, text=True,
                              capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False)

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The JSON log lines of a process; a line that is none fails."""
        text = (self.folder / f"{name}.log").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def bodies(self, topic: str) -> list[Any]:
        """Every readable message of a topic, oldest first."""
        bus = self.bus()
        try:
            return [codec.decode(record.value).body for record in bus.read(topic)]
        finally:
            bus.close()

    def bus(self) -> Bus:
        """The run's log, for reading."""
        return open_bus(load(self.env, env_file=None), read_only=True)

    def stop(self) -> dict[str, int]:
        """SIGTERM to all, in reverse order of start; the exit statuses."""
        for process in reversed(self.processes.values()):
            process.terminate()
        return {name: process.wait(20) for name, process in self.processes.items()}


@contextlib.contextmanager
def trial(folder: Path, **env: str) -> Iterator[Trial]:
    """A run whose processes are gone afterwards, whatever happened."""
    running = Trial(environment(folder, **env), folder)
    try:
        yield running
    finally:
        for process in running.processes.values():
            if process.poll() is None:
                process.terminate()
        for process in running.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def child_pid(parent: int, marker: str) -> int:
    """The pid of a child of `parent` whose command line holds `marker`; 0 = none."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    for child in children:
        command = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        if marker in command:
            return int(child)
    return 0


def sigkill(pid: int) -> None:
    """kill -9."""
    assert pid, "nothing to kill"
    os.kill(pid, signal.SIGKILL)


# ---------------------------------------------------------------- the auditor


def audit(run: Trial, bus: Bus) -> Books:
    """No duplicate order, no lost fill, no double repayment: the bus against the exchange."""
    books = read_books(bus)
    at_venue = run.at_exchange(f"/sim/orders?account={OURS}")["orders"]
    forced = [row["createType"] for row in at_venue if not row["orderLinkId"]]
    assert not forced, f"the exchange itself closed positions: {forced}"
    found = audit_orders(books, at_venue)
    assert not found, "\n".join(found)
    _audit_treasury(run, books)
    return books


def audited(run: Trial, *, within_s: float = 10) -> Books:
    """`audit` of a run that goes on: what is under way gets time to end; what is wrong stays wrong."""
    deadline, pause = time.monotonic() + within_s, threading.Event()
    while True:
        bus = run.bus()
        try:
            return audit(run, bus)
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        finally:
            bus.close()
        pause.wait(0.2)


def _audit_treasury(run: Trial, books: Books) -> None:
    ours = run.at_exchange("/sim/state")["accounts"][OURS]
    done = [end for end in books.action_ends.values() if end.stage is TreasuryStage.DONE]
    repaid = [end for end in done if end.kind_of is TreasuryKind.REPAY]
    borrowed = [end for end in done if end.kind_of is TreasuryKind.BORROW]
    assert ours["repayments"] == len(repaid), "a repayment was doubled or lost"
    assert ours["borrows"] == len(borrowed) , "a borrowing was doubled or lost"


_CHAIN = ("market_data", "account_raw", "risk_state", "safety_state", "policies", "funding_context",
          "hedge_trades", "trade_confirmations")


def assert_explained(books: Books, bus: Bus) -> None:
    """Every fill traces back to one decision, its assessment and the tick or fact behind it."""
    found = {}
    for topic in _CHAIN:
        for record in bus.read(topic):
            with contextlib.suppress(BadMessage):
                envelope = codec.decode(record.value)
                found[envelope.id] = envelope
    placed = {e.body.intent_id: e for e in found.values() if isinstance(e.body, PlaceOrder)}
    filled = [intent for intent, ends in books.order_ends.items() if ends[-1].fills]
    for intent in filled:
        causes = [found[c] for c in placed[intent].causes if c in found]
        seen = [c for c in causes if isinstance(c.body, RiskAssessment)]
        others = [c for c in causes if not isinstance(c.body, RiskAssessment)]
        assert seen or others, f"{intent}: nothing that led to it is on the bus"
    for intent in {filled[0], filled[len(filled) // 2], filled[-1]}:
        chain = explain(bus, books.order_ends[intent][-1].client_order_id)
        kinds = Counter(type(link.envelope.body).__name__ for link in chain)
        assert kinds["PlaceOrder"] == 1, f"{intent}: {kinds}"
        assert kinds["RiskAssessment"] >= 1, f"{intent}: {kinds}"
        assert kinds["OrderConfirmation"] >= 1, f"{intent}: {kinds}"
        assert kinds["MarketTick"] >= 1, f"{intent}: {kinds}"


def assert_replays(run: Trial, bus: Bus) -> int:
    """The journal folds again to the same bytes; the number of steps."""
    rows = {record.key: record.value for record in bus.read("step_rows")}
    services = folded(load(run.env, env_file=None))
    result = replay((record.value for record in bus.read("steps")), rows, services)
    assert result.differences == []
    assert result.skipped == 0
    return result.steps


def assert_story(run: Trial) -> None:
    """The demo's promise: the twin dies, ours hedges, harvests, repays and comes back."""
    twin_ltvs = [float(m.twin["ltv"]) for m in run.moments]
    for threshold in (0.65, 0.80, 0.90):
        assert max(twin_ltvs) > threshold
    assert run.moments[-1].twin["liquidated"]
    first = next(m for m in run.moments if m.ours["orders"])
    last = run.moments[-1].ours
    assert float(first.ours["ltv"]) < 0.70, "hedged too late"
    assert last["repayments"] >= 3
    assert not last["liquidated"]
    assert float(last["ltv_max"]) <= 0.80
    assert float(last["ltv"]) <= 0.66
    assert float(last["unified_equity_usd"]) > 0
    assert float(last["equity_usd"]) >= 1.7 * float(run.moments[-1].twin["equity_usd"])


def assert_on_target(run: Trial, *, within_s: float = 10) -> None:
    """The position comes to what the last decision wants, within the band, and soon.

    Decision and position are read one after the other while the market moves: what is under way gets
    time to end, as in `audited`.
    """
    policy = load({}, env_file=None).policy("main").hedge
    deadline, pause = time.monotonic() + within_s, threading.Event()
    while True:
        ours = run.at_exchange("/sim/state")["accounts"][OURS]
        sizes = [Decimal(p["size"]) for k, p in ours["positions"].items() if k.startswith("linear")]
        last = [body for body in run.bodies("hedge_decisions") if isinstance(body, HedgeDecision)][-1]
        wanted = min(last.target, last.h_cap)
        if abs(-sum(sizes) - wanted) <= policy.no_trade_band:
            return
        assert time.monotonic() < deadline, f"{sizes} against {wanted}"
        pause.wait(0.2)
