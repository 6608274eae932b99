"""Run measurements by name (all by default), print them, write results.json; 1 when a bar is missed."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console

from bench import (
    backtest,
    chain,
    figures,
    floors,
    latency,
    many,
    market,
    memory,
    orders,
    parts,
    simulator,
    startup,
)
from bench.chain import Recording
from bench.figures import Figure, percentile, spread
from bench.processes import BenchError, Site, end, site
from hedgelock.bus.embedded import EmbeddedBus
from hedgelock.clock import SystemClock
from hedgelock.domain.money import trap_floats

FLOOR_FACTOR = 5
EMBEDDED_P99_MS = 25.0
KAFKA_P50_MS, KAFKA_P99_MS = 50.0, 150.0
KAFKA_FACTOR = 3
CHAIN_US = 150.0
RECORDING_S = 8.0
"""Long enough for a dozen orders, where the latency run does not provide the log."""


class Bench:
    """One run: what was measured so far, and the log that later measurements start from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "recording.db"

    def embedded(self) -> list[Figure]:
        """Exchange event → order received, engine in one process."""
        floor, synced = floors.socket_ms(), floors.sync_ms(self.folder)
        with latency.embedded() as (made, found):
            self._keep(made)
        floor += floors.socket_ms()
        limit = FLOOR_FACTOR * percentile(floor, 0.5)
        return [
            *spread("socket_floor", floor, "ms", note="half before, half after the run"),
            *spread("disk_sync", synced, "ms", note="32 KiB appended and synced; in every order"),
            *spread("embedded", found.ms, "ms", bars=(limit, EMBEDDED_P99_MS), note=found.note),
            *_enough("embedded", found),
        ]

    def kafka(self) -> list[Figure]:
        """The same on Kafka, exactly-once, every service its own process."""
        with latency.kafka_broker() as bootstrap:
            floor = floors.kafka_ms(bootstrap, self.folder)
            found = latency.kafka(bootstrap)
        return [
            *spread("kafka_floor", floor, "ms", note=f"{floors.HOPS} bare exactly-once hops"),
            *spread(
                "kafka", found.ms, "ms", bars=(KAFKA_P50_MS, KAFKA_P99_MS),
                or_bars=[KAFKA_FACTOR * percentile(floor, share) for share in (0.50, 0.99)],
                note=found.note,
            ),
            *_enough("kafka", found),
        ]

    def chain(self) -> list[Figure]:
        """Tick JSON to order JSON, decided twice, no bus."""
        with self._recorded() as recording:
            took = chain.measure(recording)
        return spread("chain", took, "us", bars=(CHAIN_US, None))

    def parts(self) -> list[Figure]:
        """Pieces of the path; no bar."""
        with self._recorded() as recording:
            return [*parts.hops(recording, self.folder), *parts.frames()]

    def ready(self) -> list[Figure]:
        """exec → ready with a million messages, and after a kill -9."""
        self._record()
        with site(market.SETTINGS) as made:
            made.market(1.0)
            startup.copy_log(self.log, made.database)
            killed = startup.after_kill(made)
            return [startup.million(made), killed]

    def memory(self) -> list[Figure]:
        """PSS of `hedgelock run` while the demo plays."""
        return [memory.measure()]

    def orders(self) -> list[Figure]:
        """The simulator: 1,000 orders a second over the trade socket, ten stream subscribers."""
        return orders.measure()

    def simulator(self) -> list[Figure]:
        """A virtual day of the simulator."""
        return simulator.virtual_day()

    def many(self) -> list[Figure]:
        """A million accounts: screened on a tick, and all marked anew."""
        return many.measure()

    def backtest(self) -> list[Figure]:
        """300,000 minute bars with loan, funding and decisions, beside NautilusTrader."""
        return backtest.measure(self.folder)

    # ------------------------------------------------------------ the log to start from

    def _keep(self, made: Site) -> None:
        """Stop a run and keep its log."""
        made.stop()
        startup.copy_log(made.database, self.log)

    def _record(self) -> None:
        if self.log.exists():
            return
        with site(market.SETTINGS) as made:
            children = [made.market(RECORDING_S), made.engine()]
            made.wait_ready(children)
            made.start_script()
            time.sleep(RECORDING_S)
            end(children[1])
            self._keep(made)

    @contextlib.contextmanager
    def _recorded(self) -> Iterator[Recording]:
        self._record()
        bus = EmbeddedBus(self.log, clock=SystemClock(), read_only=True)
        try:
            yield Recording(bus)
        finally:
            bus.close()


NAMES = ("embedded", "kafka", "chain", "parts", "ready", "memory", "orders", "simulator", "many",
         "backtest")


def _enough(name: str, found: latency.Latencies) -> list[Figure]:
    """A percentile of too few orders proves nothing: the shortfall has a bar, too."""
    missing = max(0, latency.ORDERS_MIN - len(found.ms))
    return [Figure(f"{name}_orders_missing", missing, "orders", 0.0,
                   note=f"{len(found.ms)} of at least {latency.ORDERS_MIN} orders traced to a tick")]


def main(names: Sequence[str]) -> int:
    """0 when every bar is met, 1 when one is missed, 2 for an unknown name or a part that broke."""
    console = Console()
    unknown = set(names) - set(NAMES)
    if unknown:
        console.print(f"there is no {', '.join(sorted(unknown))}; names: {', '.join(NAMES)}")
        return 2
    trap_floats()
    began = time.monotonic()
    found: list[Figure] = []
    broken = False
    with site() as scratch:
        bench = Bench(scratch.folder)
        for name in [n for n in NAMES if n in names or not names]:
            measure: Callable[[], list[Figure]] = getattr(bench, name)
            console.print(f"[dim]{name}: {measure.__doc__}[/]")
            try:
                found += measure()
            except BenchError as error:
                console.print(f"[bold red]{name} broke:[/] {error}", markup=True)
                broken = True
    console.print(figures.table(found))
    figures.write(found)
    missed = figures.missed(found)
    console.print(f"{time.monotonic() - began:.0f} s; {figures.RESULTS}")
    if missed:
        console.print(f"[bold red]missed:[/] {', '.join(missed)}")
    return 2 if broken else int(bool(missed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
