"""The composition root: the only place that knows which bus, which venue and which services run.

One `Host` runs any set of services in one process: all of them in the embedded engine, one of them
in `hedgelock service NAME` on Kafka.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
import uvloop

from hedgelock.bus import codec
from hedgelock.bus.embedded import EmbeddedBus
from hedgelock.bus.memory import MemoryBus
from hedgelock.clock import SystemClock
from hedgelock.config import Settings, load
from hedgelock.domain.message import Message
from hedgelock.domain.money import trap_floats
from hedgelock.domain.policy import HOUSE, Policy
from hedgelock.domain.registry import AccountSpec, SymbolSpec
from hedgelock.errors import BadMessage, BusError, ConfigError, HedgeLockError, SchemaTooNew
from hedgelock.exchanges.transport import Transport
from hedgelock.ports import Bus, Clock, Exchange, Outgoing
from hedgelock.services import (
    funding_engine,
    hedger,
    risk_engine,
    safety,
    trade_executor,
)
from hedgelock.services.host import Host, OnLimits
from hedgelock.services.service import Service, Stored
from hedgelock.supervisor import REFUSED_EXIT
from hedgelock.telemetry import log

if TYPE_CHECKING:
    from hedgelock.exchanges.address import Guards
    from hedgelock.exchanges.key_lock import KeyLock

_log = structlog.get_logger("app")

SERVICES = ("funding-engine", "safety", "risk-engine", "hedger", "trade-executor", "collector")
"""Every service, folded ones first, in the order a decision passes through them."""



def folded(settings: Settings) -> dict[str, Service[Any]]:
    """The services that fold, by name."""
    key = settings.operator_key.get_secret_value().encode()
    services: tuple[Service[Any], ...] = (
        funding_engine.SERVICE, safety.service(key), risk_engine.SERVICE, hedger.SERVICE,
        trade_executor.SERVICE,
    )
    return {service.name: service for service in services}

WAL_GROWN_BYTES = 8 << 20
"""More than the WAL of a busy account reaches between two checkpoints."""


def unreadable_states(
    settings: Settings, states: Sequence[tuple[str, str, bytes]]
) -> list[tuple[str, str, str]]:
    """(service, key, why) of stored states that this version cannot fold on from."""
    services = folded(settings)
    found = []
    for name, key, stored in states:
        if name not in services:
            found.append((name, key, "no such service any more"))
            continue
        try:
            services[name].decode_state(bytes(msgspec.json.decode(stored, type=Stored).state))
        except (msgspec.DecodeError, ValueError) as error:
            found.append((name, key, str(error)))
    return found


def open_bus(settings: Settings, *, read_only: bool = False) -> Bus:
    """The bus that the configuration names. Raises BusError with what to do."""
    if settings.kafka.bootstrap_servers:
        from hedgelock.bus.kafka import KafkaBus

        return KafkaBus(
            settings.kafka.bootstrap_servers, clock=SystemClock(), prefix=settings.kafka.prefix,
            replication=settings.kafka.replication_factor,
        )
    path = settings.data_dir / "hedgelock.db"
    if not read_only:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"DATA_DIR={settings.data_dir}: the folder cannot be made ({error.strerror or error});"
                " choose one that this user may write, for example DATA_DIR=data"
            ) from error
    return EmbeddedBus(
        path, clock=SystemClock(), read_only=read_only, wal_grown_bytes=WAL_GROWN_BYTES
    )


def seed(bus: Bus, settings: Settings, clock: Clock) -> int:
    """Bring `accounts`, `symbols` and `policies` to what is configured; returns how many changed.

    A reserve that safety wrote once stays, unless the configuration names another.
    """
    accounts = settings.account_names()
    hedge = settings.policy(HOUSE).hedge
    wanted: list[tuple[str, str, Message]] = [
        *(("accounts", a, AccountSpec(account=a, venue="bybit", version=1)) for a in accounts),
        *(
            ("symbols", i, SymbolSpec(instrument=i, version=1))
            for i in (hedge.instrument, hedge.spot_instrument)
        ),
        *(("policies", a, settings.policy(a)) for a in (HOUSE, *accounts)),
    ]
    publisher = bus.publisher("app")
    changed = 0
    known = {topic: _latest(bus, topic) for topic in ("accounts", "symbols", "policies")}
    for topic, key, body in wanted:
        rows, damaged = known[topic]
        old = rows.get(key)
        new = _next_policy(old, body) if isinstance(body, Policy) else body
        if new == old and key not in damaged:
            continue
        changed += 1
        ident = f"app:{topic}:{key}:{clock.now_ms()}.{changed}"
        value = codec.encode(new, id=ident, trace=codec.new_trace(ident), causes=(),
                             ts_ms=clock.now_ms())
        publisher.publish([Outgoing(topic, key, value)])
    publisher.flush(10.0)
    publisher.close()
    return changed


def _next_policy(old: Message | None, wanted: Policy) -> Policy:
    if not isinstance(old, Policy):
        return wanted
    if wanted.hedge.reserve is None:
        hedge = msgspec.structs.replace(wanted.hedge, reserve=old.hedge.reserve)
        wanted = msgspec.structs.replace(wanted, hedge=hedge)
    same = msgspec.structs.replace(wanted, version=old.version)
    return old if same == old else msgspec.structs.replace(wanted, version=old.version + 1)


def _latest(bus: Bus, topic: str) -> tuple[dict[str, Message], set[str]]:
    """The latest readable row per key, and the keys whose very latest row is not readable.

    A table shows its latest row only: an unreadable one hides the good one before it.
    """
    rows: dict[str, Message] = {}
    damaged: set[str] = set()
    for record in bus.read(topic):
        try:
            rows[record.key] = codec.decode(record.value, topic).body
            damaged.discard(record.key)
        except SchemaTooNew:
            raise
        except BadMessage as error:
            _log.warning("seed_row_ignored", topic=topic, key=record.key, reason=str(error))
            damaged.add(record.key)
    return rows, damaged


def make_guards(settings: Settings, clock: Clock) -> Guards:
    """What this process asks before a request leaves, shared by all its accounts.

    Where a real exchange is concerned, shared by every HedgeLock of this machine too.
    """
    from hedgelock.exchanges.address import Guards, SharedBook

    is_real = settings.trading_mode.needs_keys or settings.shared_dir is not None
    return Guards(clock, SharedBook(settings.machine_dir()) if is_real else None)


def key_lock(settings: Settings, account: str) -> KeyLock:
    """The lock of an account's key on this machine, not taken yet."""
    from hedgelock.exchanges.key_lock import KeyLock

    endpoint = settings.endpoint(account)
    return KeyLock(settings.machine_dir(), endpoint.rest_url, endpoint.api_key.get_secret_value())


def key_owner(settings: Settings) -> str:
    """Whom a key's lock names: the log that its engine works for."""
    if settings.kafka.bootstrap_servers:
        return f"kafka {settings.kafka.bootstrap_servers} {settings.kafka.prefix}".rstrip()
    return f"data folder {settings.data_dir.absolute()}"


def lock_keys(settings: Settings, clock: Clock) -> list[KeyLock]:
    """Take every account's key for this engine. Raises StartRefused that says who has it."""
    locks = [key_lock(settings, account) for account in settings.account_names()]
    try:
        for lock in locks:
            lock.acquire(
                key_owner(settings), now_ms=clock.now_ms(),
                is_shared=bool(settings.kafka.bootstrap_servers),
            )
    except ConfigError as error:
        raise StartRefused(str(error)) from error
    except OSError as error:
        raise StartRefused(
            f"{settings.machine_dir()} cannot be written ({error.strerror or error}): the locks of API"
            " keys and the budget of requests live there; choose another, for example"
            " SHARED_DIR=/var/lib/hedgelock"
        ) from error
    return locks


def make_exchange(
    settings: Settings, account: str, clock: Clock, on_limits: OnLimits | None = None,
    guards: Guards | None = None, *, transport: Transport | None = None, seed: int | None = None,
) -> Exchange:
    """The venue as one account sees it; `guards` None = nobody else asks it from here.

    A simulation brings its own wire and seed.
    """
    from hedgelock.exchanges.bybit import CAPABILITIES, MODE_SETTINGS, Addresses, BybitExchange
    from hedgelock.exchanges.bybit_reads import BybitSettings
    from hedgelock.exchanges.ccxt_venue import Credentials

    endpoint, mode = settings.endpoint(account), settings.trading_mode.value
    hedge = settings.policy(account).hedge
    own = MODE_SETTINGS.get(mode, BybitSettings())._replace(
        hedge_instruments=(hedge.instrument,), coins=(hedge.quote, hedge.coin),
        dcp_window_s=dcp_window_s(settings.policy(account)),
    )
    return BybitExchange(
        account,
        Credentials(endpoint.api_key.get_secret_value(), endpoint.api_secret.get_secret_value()),
        addresses=Addresses(
            endpoint.rest_url, endpoint.ws_public_url, endpoint.ws_private_url,
            endpoint.ws_trade_url,
        ),
        capabilities=CAPABILITIES[mode], clock=clock, settings=own, on_limits=on_limits,
        guard=guards.of(endpoint.rest_url, endpoint.api_key.get_secret_value()) if guards else None,
        transport=transport, seed=seed,
    )


def dcp_window_s(policy: Policy) -> int:
    """The window of disconnected-cancel-all; 0 = leave it alone.

    It cancels every derivatives order, and nothing says that stops are spared: where the reduce-only
    stop of the short is kept at the exchange, that guard is worth more than a cancelled chase.
    """
    from hedgelock.exchanges.bybit_key import DCP_WINDOW_S

    return 0 if policy.hedge.stop_margin_ratio else DCP_WINDOW_S


class StartRefused(HedgeLockError):
    """The log cannot be opened or written; nothing was begun."""


def prepare() -> None:
    """What every process does first: floats trapped, assertions on, threads switch quickly."""
    if not __debug__:
        raise HedgeLockError("python -O switches assertions off, and they guard money: run without")
    trap_floats()
    # Threads (Kafka's polls, upkeep) share the interpreter with the loop: 5 ms would be a hop.
    sys.setswitchinterval(0.0005)
    # A full collection walks 100,000 objects of libraries: 40 to 150 ms in the middle of a decision.
    gc.set_threshold(50_000, 20, 100)


def run_engine(settings: Settings) -> int:
    """All services in this process, until a signal; the exit status."""
    return _run(settings, SERVICES)


def run_service(settings: Settings, name: str) -> int:
    """One service in this process, until a signal; the exit status."""
    return _run(settings, (name,))


def _run(settings: Settings, names: Sequence[str]) -> int:
    prepare()
    log.configure(settings.log_level, secrets=settings.secrets())
    clock = SystemClock()
    locks: list[KeyLock] = []
    try:
        bus = open_bus(settings)
    except BusError as error:
        raise StartRefused(str(error)) from error
    try:
        if "trade-executor" in names:
            locks = lock_keys(settings, clock)
        try:
            bus.ensure_topics(names)
            seed(bus, settings, clock)
        except BusError as error:
            raise StartRefused(str(error)) from error
        status: int = uvloop.run(_host(settings, bus, names, clock))
        return status
    finally:
        bus.close()
        for lock in locks:
            lock.release()


def make_host(
    settings: Settings, bus: Bus, *, names: Sequence[str] = SERVICES, clock: Clock,
    transport: Transport | None = None, seed: int | None = None, is_process: bool = True,
) -> Host:
    """The services `names` on `bus`, wired to the venue; on the running loop."""
    guards = make_guards(settings, clock)
    return Host(
        settings, bus, names=names, services=folded(settings), clock=clock,
        make_exchange=lambda account, on_limits: make_exchange(
            settings, account, clock, on_limits, guards, transport=transport, seed=seed
        ),
        local=bus if isinstance(bus, (EmbeddedBus, MemoryBus)) else None,
        is_process=is_process,
    )


async def _host(settings: Settings, bus: Bus, names: Sequence[str], clock: Clock) -> int:
    host = make_host(settings, bus, names=names, clock=clock)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, host.stop)
    return await host.run()


def supervise(
    settings: Settings, *, on_start: Callable[[], None] = lambda: None, log_path: Path | None = None
) -> int:
    """Simulator and engine as children until a signal; the exit status."""
    from hedgelock.supervisor import Supervisor

    return Supervisor(settings, log_path=log_path).run(on_start)


def engine() -> int:
    """`python -m hedgelock.app`: the engine as a child of the supervisor."""
    try:
        settings = load()
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    try:
        return run_engine(settings)
    except ConfigError as error:
        _log.critical("configuration", error=str(error))
        return 2
    except StartRefused as error:
        _log.critical("cannot_start", error=str(error))
        return REFUSED_EXIT
    except HedgeLockError as error:
        _log.critical("stopped", error=str(error))
        return 1


if __name__ == "__main__":
    sys.exit(engine())
