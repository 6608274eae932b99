"""Exchange event → order received, through real processes and sockets.

The simulator notes when a tick's first frame leaves and when an order's request arrives, on one
monotonic clock. Which tick an order came from is read from the bus, not guessed:

    orderLinkId → OrderConfirmation.intent_id → PlaceOrder → its first cause, a RiskAssessment
                → its first cause, the input that triggered it → the tick with that exchange time

Orders that another input triggered (a fill, a balance, the first assessment) are left out.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bench import market
from bench.processes import SERVICES, BenchError, Site, ask, broker, site
from hedgelock import app
from hedgelock.bus import codec
from hedgelock.config import load
from hedgelock.ports import Bus

ORDERS_MIN = 100
SECONDS = 56.0
"""Long enough for 100 orders: 130 jumps, some of which find the last order still in flight."""
SETTLE_S = 0.7
_TRIGGER = "market_data"


@dataclass
class Latencies:
    """Milliseconds from tick to order; `late` = decided on a later tick than the jump's first.

    `unanswered` = jumps that no tick of theirs made an order of: their time is in no percentile.
    """

    ms: list[float] = field(default_factory=list)
    others: int = 0
    late: int = 0
    unanswered: int = 0

    @property
    def note(self) -> str:
        """What was left out or late."""
        return (f"{self.others} orders by other triggers, {self.late} on a later tick of their jump, "
                f"{self.unanswered} jumps unanswered")


class Trigger(msgspec.Struct, frozen=True):
    """What made a risk-engine step: the topic it came from and, for a tick, the exchange's time."""

    topic: str
    ts_event_ms: int


class _Body(msgspec.Struct):
    ts_event_ms: int = 0


class _Input(msgspec.Struct):
    topic: str
    id: str
    body: _Body


class _Entry(msgspec.Struct):
    service: str
    inputs: tuple[_Input, ...]


def join(
    orders: Iterable[Mapping[str, object]], ticks: Iterable[Mapping[str, int]], *,
    intents: Mapping[str, str], causes: Mapping[str, str], triggers: Mapping[str, Trigger],
    started_ms: int,
) -> Latencies:
    """Latency of every order that a tick triggered.

    `intents`: client order id → intent; `causes`: intent or message id → its first cause;
    `triggers`: message id → what it was. `started_ms`: when the script began.
    """
    sent_ns = {tick["ts"]: tick["ns"] for tick in ticks}
    first_of: dict[int, int] = {}
    for ts_ms in sorted(sent_ns):
        if ts_ms >= started_ms:
            first_of.setdefault(market.segment((ts_ms - started_ms) / 1e3), ts_ms)
    found = Latencies()
    answered: set[int] = set()
    for order in orders:
        intent = intents.get(str(order["orderLinkId"]), "")
        trigger = triggers.get(causes.get(causes.get(intent, ""), ""))
        if trigger is None or trigger.topic != _TRIGGER or trigger.ts_event_ms not in sent_ns:
            found.others += 1
            continue
        received_ns = int(str(order["received_ns"]))
        found.ms.append((received_ns - sent_ns[trigger.ts_event_ms]) / 1e6)
        jump = market.segment((trigger.ts_event_ms - started_ms) / 1e3)
        answered.add(jump)
        found.late += trigger.ts_event_ms != first_of.get(jump, 0)
    # The last jump may still be on its way; before the first one there is none.
    found.unanswered = len(set(range(1, max(first_of, default=0))) - answered)
    return found


def read(bus: Bus, sim_port: int) -> Latencies:
    """Join what the simulator saw with what the bus says."""
    intents: dict[str, str] = {}
    causes: dict[str, str] = {}
    for record in bus.read("trade_confirmations"):
        body = codec.decode(record.value).body
        intents[getattr(body, "client_order_id", "")] = body.intent_id
    for topic in ("hedge_trades", "risk_state"):
        for record in bus.read(topic):
            envelope = codec.decode(record.value)
            causes[getattr(envelope.body, "intent_id", envelope.id)] = envelope.causes[0]
    triggers: dict[str, Trigger] = {}
    decoder = msgspec.json.Decoder(_Entry)
    for record in bus.read("steps"):
        entry = decoder.decode(record.value)
        if entry.service == "risk-engine":
            for item in entry.inputs:
                triggers[item.id] = Trigger(item.topic, item.body.ts_event_ms)
    return join(
        ask(sim_port, f"/sim/orders?account={market.ACCOUNT}")["orders"],
        ask(sim_port, "/sim/ticks")["ticks"], intents=intents, causes=causes, triggers=triggers,
        started_ms=ask(sim_port, "/sim/state")["started_ms"],
    )


def _play(made: Site, seconds: float) -> None:
    """Run the script until it is over or enough orders have arrived."""
    made.start_script()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(SETTLE_S)


def _measure(made: Site, seconds: float) -> Latencies:
    _play(made, seconds)
    time.sleep(SETTLE_S)
    bus = app.open_bus(load(made.settings, env_file=None), read_only=True)
    try:
        found = read(bus, made.sim_port)
    finally:
        bus.close()
    if not found.ms:
        raise BenchError(f"no order could be traced to a tick ({found.note}):\n{made.logs()}")
    return found


@contextlib.contextmanager
def embedded(seconds: float = SECONDS) -> Iterator[tuple[Site, Latencies]]:
    """The engine on its own log; the site stays up for the block."""
    with site(market.SETTINGS) as made:
        sim = made.market(seconds)
        engine = made.engine()
        made.wait_ready([sim, engine])
        yield made, _measure(made, seconds)


def kafka(bootstrap: str, seconds: float = SECONDS) -> Latencies:
    """Every service its own process, exactly-once."""
    settings = {**market.SETTINGS, "KAFKA__BOOTSTRAP_SERVERS": bootstrap, "KAFKA__PREFIX": "bench"}
    with site(settings) as made:
        children = [made.market(seconds)]
        children += [
            made.start(name, "-m", "hedgelock.cli", "service", name) for name in reversed(SERVICES)
        ]
        made.wait_ready(children)
        return _measure(made, seconds)


@contextlib.contextmanager
def kafka_broker() -> Iterator[str]:
    """A broker in a folder of its own."""
    with site() as made, broker(Path(made.folder) / "kafka") as bootstrap:
        yield bootstrap
