"""What `doctor` finds on this machine: Python, configuration, disk, ports, log, thresholds."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from hedgelock.bus import codec
from hedgelock.cli import words
from hedgelock.cli.listeners import Listener, Owner, local, survey
from hedgelock.cli.logfile import NAME, OLD
from hedgelock.domain.policy import HOUSE
from hedgelock.domain.safety import SafetyMode, SafetyState
from hedgelock.errors import BadMessage, BusError
from hedgelock.telemetry.http import probe
from hedgelock.topics import JOURNAL, JOURNAL_ROWS, TOPICS

if TYPE_CHECKING:
    from hedgelock.config import Settings
    from hedgelock.ports import Bus, Record

OK, WARN, FAIL, SKIP = "ok", "warn", "FAIL", "–"

_FREE_WARN: Final = 2_000_000_000
_FREE_FAIL: Final = 200_000_000
_DAY_MS: Final = 86_400_000
_SPAN_MIN_MS: Final = 30_000
_DAYS_LEFT_WARN: Final = 30
_SAMPLE: Final = 50
_DELAYED_LIQUIDATION: Final = "0.93"
"""Bybit may begin to liquidate a loan from here, with a delay (fact sheet, crypto loan)."""


class Finding(NamedTuple):
    """One line: `level` is OK, WARN, FAIL or SKIP; `todo` is what to type or do."""

    name: str
    level: str
    text: str
    todo: str = ""


def machine() -> list[Finding]:
    """Python itself. Under -O nothing would get here: `main` refuses."""
    version = platform.python_version()
    if platform.python_version_tuple() < ("3", "11"):
        return [Finding("python", FAIL, f"{version} is too old", "install Python 3.11 or newer")]
    return [Finding("python", OK, f"{version} on {platform.machine()}, assertions on")]


# ---------------------------------------------------------------- configuration and thresholds


def configuration(settings: Settings) -> list[Finding]:
    """Mode, accounts, the operator's key."""
    mode = settings.trading_mode
    names = ", ".join(settings.account_names())
    found = [Finding("configuration", OK, f"MODE={mode.value}, account {names}")]
    if settings.operator.key is not None:
        found.append(Finding("operator key", OK, "set; commands are signed with it"))
    else:
        found.append(Finding("operator key", OK, "the simulator's well-known one (no real money)"))
    if mode.value == "live":
        found.append(Finding("mode", WARN, "LIVE: orders move real money"))
    return found


def thresholds(settings: Settings) -> list[Finding]:
    """Our labels against the exchange's lines."""
    found = []
    for name in settings.account_names():
        policy = settings.policy(name)
        limits, hedge = policy.risk, policy.hedge
        call, gone = limits.ltv_margin_call, limits.ltv_liquidation
        if limits.ltv_critical >= call:
            found.append(Finding(
                "thresholds", WARN,
                f"CRITICAL at {words.percent(limits.ltv_critical, 0)} lies beyond the exchange's "
                f"margin call at {words.percent(call, 0)}: by then it has already called. It is a "
                f"label; HedgeLock itself harvests from {words.percent(hedge.harvest_at, 0)}",
                "if people are alerted by it: RISK__LTV_CRITICAL_THRESHOLD=0.84",
            ))
        if hedge.urgent_at >= call:
            found.append(Finding(
                "thresholds", WARN,
                f"urgent repayment at {words.percent(hedge.urgent_at, 0)} lies beyond the margin "
                f"call at {words.percent(call, 0)}", "HEDGER__URGENT_AT=0.80",
            ))
        if str(hedge.ltv_max) > _DELAYED_LIQUIDATION:
            found.append(Finding(
                "thresholds", WARN,
                f"the hedge aims to stay below {words.percent(hedge.ltv_max, 0)} after the fall, but "
                "the exchange may liquidate from 93 %", "HEDGER__LTV_MAX=0.85",
            ))
        if not found:
            found.append(Finding(
                "thresholds", OK, f"below the margin call at {words.percent(call, 0)} and the "
                f"liquidation at {words.percent(gone, 0)}",
            ))
    return found


# ---------------------------------------------------------------- disk


def folder(settings: Settings) -> list[Finding]:
    """The data folder: there, writable, with room; old logs named."""
    path = settings.data_dir
    there = _nearest(path)
    if not os.access(there, os.W_OK | os.X_OK):
        return [Finding("data folder", FAIL, f"{there.absolute()} cannot be written by this user",
                        "choose another: DATA_DIR=FOLDER, or mend its permissions")]
    free = shutil.disk_usage(there).free
    text = f"{path.absolute()}, {words.size_of(free)} free"
    if path.is_dir():
        try:
            with tempfile.TemporaryFile(dir=path) as trial:
                trial.write(b"hedgelock")
        except OSError as error:
            return [Finding("data folder", FAIL, f"{path.absolute()}: {error.strerror}",
                            "free space, or choose another: DATA_DIR=FOLDER")]
    else:
        text += " (made at the first start)"
    level = FAIL if free < _FREE_FAIL else WARN if free < _FREE_WARN else OK
    todo = "free space: a full disk stops opening positions" if level != OK else ""
    found = [Finding("data folder", level, text, todo)]
    old = sum(p.stat().st_size for p in (path / OLD).glob("*")) if (path / OLD).is_dir() else 0
    if old:
        found.append(Finding("old logs", OK, f"{words.size_of(old)} in {path / OLD}",
                             f"no longer needed? rm -r {path / OLD}"))
    return found


def _nearest(path: Path) -> Path:
    """The folder itself or the nearest parent that exists."""
    path = path.absolute()
    return next(p for p in (path, *path.parents) if p.exists())


# ---------------------------------------------------------------- ports and services


def ports(settings: Settings) -> list[Finding]:
    """Every port free, or ours and ready."""
    seen = survey(settings)
    found = [_bad_port(one) for one in seen if one.owner in (Owner.OTHER, Owner.FORBIDDEN)]
    ours = [one for one in seen if one.owner is Owner.OURS]
    free = sum(one.owner is Owner.FREE for one in seen)
    if ours:
        names = ", ".join(sorted({one.detail for one in ours}))
        found.append(Finding("ports", OK, f"HedgeLock runs: {names}; {free} other ports are free"))
        found += _readiness(ours)
    elif not found:
        found.append(Finding("ports", OK, f"all {free} are free; HedgeLock does not run here"))
    return found


def _bad_port(one: Listener) -> Finding:
    if one.owner is Owner.FORBIDDEN:
        return Finding("ports", FAIL, f"{one.variable}={one.port} on {one.host}: {one.detail}",
                       f"choose another: {one.variable}={one.port + 100}")
    return Finding("ports", FAIL, f"{one.variable}={one.port} is taken by another program",
                   f"see who: ss -ltnp 'sport = :{one.port}'; or {one.variable}={one.port + 100}")


def _readiness(ours: list[Listener]) -> Iterator[Finding]:
    ready = []
    for one in ours:
        if one.variable.endswith("_METRICS_PORT") or one.detail == "simulator":
            continue
        is_ready, text = probe(local(one.host), one.port, "/ready")
        if is_ready:
            ready.append(one.detail)
        else:
            yield Finding("services", WARN, f"{one.detail} lives but is not ready: {text}",
                          "does it last? look at its log; `hedgelock topics` shows what is old")
    if ready:
        yield Finding("services", OK, f"ready: {', '.join(ready)}")


# ---------------------------------------------------------------- the log


def log(settings: Settings) -> list[Finding]:
    """The bus: reachable, whole, how fast it grows, what lies in quarantine."""
    from hedgelock import app

    kafka = settings.kafka.bootstrap_servers
    name = "kafka" if kafka else "log"
    if not kafka and not (settings.data_dir / NAME).exists():
        return [Finding(name, SKIP, "no log yet: the first start makes it")]
    try:
        bus = app.open_bus(settings, read_only=True)
        try:
            return [*_contents(bus, name, settings), *_quarantine(bus), *_safety(bus)]
        finally:
            bus.close()
    except BusError as error:
        todo = "does the broker run? KAFKA__BOOTSTRAP_SERVERS names it" if kafka else ""
        return [Finding(name, FAIL, str(error), todo)]


def _contents(bus: Bus, name: str, settings: Settings) -> Iterator[Finding]:
    records, growth, newest = 0, 0.0, 0
    for topic in (*TOPICS, JOURNAL.name, JOURNAL_ROWS.name):
        ends = bus.ends(topic)
        kept = sum(end - start for start, end in ends.values())
        records += kept
        if kept:
            last = list(bus.read(topic, start=-_SAMPLE))
            newest = max(newest, last[-1].ts_ms)
            growth += _bytes_per_day(next(iter(bus.read(topic))), last, kept)
    where = settings.kafka.bootstrap_servers or str((settings.data_dir / NAME).absolute())
    size = ""
    if not settings.kafka.bootstrap_servers:
        path = settings.data_dir / NAME
        size = f", {words.size_of(sum(p.stat().st_size for p in path.parent.glob(NAME + '*')))}"
    yield Finding(name, OK, f"{where}: {records:,} records of {len(TOPICS) + 2} topics{size}, "
                  f"newest {words.moment(newest) if newest else 'none'}")
    if not growth:
        yield Finding("growth", SKIP, "too little in the log to say how fast it grows")
        return
    text = f"≈ {words.size_of(growth)} per day at the rate so far"
    if settings.kafka.bootstrap_servers:
        yield Finding("growth", OK, text)
        return
    days = shutil.disk_usage(settings.data_dir).free / growth
    simulated = " (a script plays faster than a market)" if settings.trading_mode.value == "sim" else ""
    few = days < _DAYS_LEFT_WARN and not simulated
    yield Finding("growth", WARN if few else OK,
                  f"{text}{simulated}; the disk has room for {days:,.0f} days; old records are "
                  "dropped by age", "make room on the disk, or move DATA_DIR" if few else "")


def _bytes_per_day(first: Record, last: list[Record], kept: int) -> float:
    """Growth of one topic from the span of its records; 0 when that is too short to tell."""
    span_ms = last[-1].ts_ms - first.ts_ms
    if span_ms < _SPAN_MIN_MS:
        return 0.0
    mean = sum(len(r.value) + len(r.key) for r in last) / len(last)
    return kept * mean * _DAY_MS / span_ms


def _quarantine(bus: Bus) -> Iterator[Finding]:
    count = sum(end - start for start, end in bus.ends("quarantine").values())
    if count:
        yield Finding("quarantine", WARN, f"{count:,} messages could not be read or folded",
                      "hedgelock peek quarantine shows them with their reasons")
    else:
        yield Finding("quarantine", OK, "every message was readable")


def _safety(bus: Bus) -> Iterator[Finding]:
    latest: dict[str, SafetyState] = {}
    for record in bus.read("safety_state"):
        try:
            body = codec.decode(record.value, "safety_state").body
        except BadMessage:
            continue  # in quarantine, counted above
        if isinstance(body, SafetyState):
            latest[record.key] = body
    for name, state in latest.items():
        shown = "every account" if name == HOUSE else f"account {name}"
        for warning in state.warnings:
            yield Finding("safety", WARN, f"{shown}: near auto-deleveraging: {warning.partition(':')[2]}")
        if state.mode is SafetyMode.REDUCING:
            why = ", ".join(words.reason(b) for b in state.breakers) or words.reason(state.reason)
            yield Finding("safety", WARN, f"{shown} takes no new discretionary exposure: {why}",
                          f"hedgelock operator resume --account {name}")
        elif state.mode is not SafetyMode.ACTIVE:
            yield Finding("safety", WARN, f"{shown} is {state.mode.name}: "
                          f"{words.reason(state.reason)}", f"hedgelock operator resume --account {name}")
