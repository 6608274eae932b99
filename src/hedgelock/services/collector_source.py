"""What one account's collector shows of itself: readiness and counters."""

from __future__ import annotations

from decimal import Decimal

from hedgelock.ports import Clock, Exchange
from hedgelock.services import clock_watch
from hedgelock.services.collector import Collector
from hedgelock.telemetry.metrics import Metrics

READ_AGE_MAX_MS = 30_000
TICK_AGE_MAX_MS = 10_000
_READS = ("wallet", "positions", "fund", "loan")


class CollectorSource:
    """Readiness and counters of one account's collector."""

    def __init__(self, collector: Collector, exchange: Exchange, clock: Clock) -> None:
        self._collector = collector
        self._exchange = exchange
        self._clock = clock
        self._shown: dict[tuple[str, str], int] = {}
        self.forbidden = ""
        """What a person has to do before the exchange answers; "" = nothing is known."""

    def problems(self) -> list[str]:
        """Why it is not ready; [] = it is."""
        late = self._late()
        if not late:
            self.forbidden = ""
        return [*late, self.forbidden] if self.forbidden else late

    def _late(self) -> list[str]:
        stats = self._collector.stats
        if not stats.connected:
            return ["the exchange is not connected"]
        now_ms = self._clock.now_ms()
        seen = {**stats.read_seen_ms, **stats.prices.tick_seen_ms}
        late = [f"{kind}: never read" for kind in _READS if kind not in stats.read_seen_ms]
        for kind, seen_ms in seen.items():
            limit = READ_AGE_MAX_MS if kind in stats.read_seen_ms else TICK_AGE_MAX_MS
            if now_ms - seen_ms > limit:
                late.append(f"{kind}: {(now_ms - seen_ms) / 1e3:.1f} s old")
        return late

    def show(self, metrics: Metrics) -> None:
        """Bring the metrics up to the collector's own totals."""
        stats = self._collector.stats
        metrics.clock_offset_seconds.set(Decimal(stats.clock_offset_ms) / 1000)
        metrics.clock_is_off.set(int(clock_watch.is_off(stats.clock_offset_ms)))
        for topic, total in stats.published.items():
            metrics.outputs_total.inc(self._since("published", topic, total), topic=topic)
        for name, total in stats.failures.items():
            metrics.read_failures_total.inc(self._since("failures", name, total), part=name)
        put_aside = self._since("unreadable", "", stats.published.get("quarantine", 0))
        metrics.quarantined_total.inc(put_aside, topic="exchange", reason="unreadable")
        metrics.stream_reconnects_total.inc(
            self._since("resets", "", stats.resets), stream="private"
        )
        metrics.price_polls_total.inc(self._since("price_polls", "", stats.prices.polls))
        metrics.prices_polled.set(int(stats.prices.is_polling))
        bad = int(getattr(self._exchange, "bad_messages", 0))
        metrics.bad_input_total.inc(self._since("bad", "", bad), source="exchange")

    def _since(self, name: str, label: str, total: int) -> int:
        before = self._shown.get((name, label), 0)
        self._shown[name, label] = total
        return max(0, total - before)
