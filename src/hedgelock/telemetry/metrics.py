"""Every Prometheus metric of HedgeLock in one table, and one registry per service.

Names carry the prefix `hedgelock_`; fractions are 0..1, money is USDT, coins are the hedged coin.
`docs/` and `deploy/prometheus.yml` are tested against this table.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Literal, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import generate_latest

PREFIX = "hedgelock_"
SERIES_MAX = 10_000
"""Label combinations per metric; further ones are counted together under `other`."""

_LATENCY_S = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
)


class MetricRow(NamedTuple):
    """One metric. Counters end in `_total`; `unit` is for people, "" = a plain count or code."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    labels: tuple[str, ...]
    help: str


def _row(
    kind: Literal["counter", "gauge", "histogram"], name: str, unit: str, labels: str, text: str
) -> MetricRow:
    return MetricRow(name, kind, unit, tuple(labels.split()), text)


METRICS: dict[str, MetricRow] = {
    row.name: row
    for row in (
        # the runner
        _row("counter", "steps_total", "steps", "", "Steps folded and committed."),
        _row("counter", "steps_held_total", "steps", "", "Ticks inside a hold region, not stepped."),
        _row("counter", "records_total", "records", "topic", "Records consumed."),
        _row("counter", "outputs_total", "records", "topic", "Records written."),
        _row("counter", "quarantined_total", "records", "topic reason",
             "Records put aside, by kind of reason."),
        _row("counter", "bad_input_total", "inputs", "source",
             "Inputs from outside that could not be read."),
        _row("histogram", "step_seconds", "seconds", "", "Time to fold one step."),
        _row("histogram", "commit_seconds", "seconds", "", "Time to commit a batch."),
        _row("gauge", "input_age_seconds", "seconds", "topic", "Age of the newest record read."),
        _row("gauge", "partitions_owned", "partitions", "", "Partitions that are ours."),
        _row("counter", "restores_total", "restores", "", "States restored from the log."),
        _row("counter", "fenced_total", "times", "", "Times another instance took over."),
        _row("counter", "bus_errors_total", "errors", "", "Commits or polls that failed."),
        _row("gauge", "account_frozen", "code", "account",
             "1 = opens nothing until reconciled, 2 = a step raised: nothing is done for it at all."),
        # the exchange
        _row("counter", "effects_total", "effects", "kind outcome", "Effects run on the exchange."),
        _row("histogram", "effect_seconds", "seconds", "kind", "Time until an effect was known."),
        _row("counter", "orders_total", "orders", "status", "Orders that reached a status."),
        _row("counter", "unexplained_orders_total", "orders", "account",
             "Orders of ours, by their id or content, that no decision explains: nothing is opened."),
        _row("counter", "fills_total", "fills", "", "Executions seen."),
        _row("counter", "treasury_actions_total", "actions", "kind outcome",
             "Repayments, borrowings and transfers ended."),
        _row("gauge", "intents_open", "intents", "account", "Intents that are not terminal."),
        _row("gauge", "intents_unknown", "intents", "account",
             "Intents whose fate is not known at the exchange."),
        _row("counter", "stream_reconnects_total", "times", "stream", "Streams that were renewed."),
        _row("counter", "read_failures_total", "reads", "part",
             "Reads and streams of the exchange that failed; they are tried again."),
        _row("counter", "price_polls_total", "reads", "",
             "Prices read by REST because their socket was silent."),
        _row("gauge", "prices_polled", "0 or 1", "",
             "1 = price sockets are silent and prices are read by REST."),
        _row("gauge", "clock_offset_seconds", "seconds", "", "Exchange clock minus ours, median."),
        _row("gauge", "clock_is_off", "0 or 1", "", "1 = the offset is beyond its bound: set the clock."),
        _row("counter", "rate_limited_total", "requests", "endpoint", "Requests that the exchange told to wait."),
        # the account
        _row("gauge", "ltv", "fraction", "account", "Loan-to-value, re-marked; +Inf = no collateral."),
        _row("gauge", "ltv_exchange", "fraction", "account", "Loan-to-value as the exchange says."),
        _row("gauge", "ltv_net_fall", "fraction", "account", "Net LTV after the policy's fall."),
        _row("gauge", "margin_ratio", "fraction", "account", "Maintenance margin ratio; 1 liquidates."),
        _row("gauge", "margin_ratio_rise", "fraction", "account",
             "The same after the policy's rally; +Inf = no equity left."),
        _row("gauge", "risk_state", "code", "account",
             "0 normal, 1 caution, 2 danger, 3 critical."),
        _row("gauge", "risk_confidence", "code", "account", "0 fresh, 1 stale, 2 absent."),
        _row("gauge", "net_delta", "coins", "account", "Collateral, spot and perpetuals together."),
        _row("gauge", "debt", "USDT", "account", "Loan and interest."),
        _row("gauge", "counted_value", "USDT", "account", "V: collateral after its ratio."),
        _row("gauge", "reserve", "USDT", "account", "R: cash the trading pocket keeps."),
        _row("gauge", "hedge_target", "coins", "account", "Short wanted."),
        _row("gauge", "hedge_held", "coins", "account", "Short held."),
        _row("gauge", "safety_mode", "code", "account", "0 active, 1 reducing, 2 halted, 3 killed."),
        _row("counter", "decisions_total", "decisions", "reason", "Decisions by reason."),
        # the market
        _row("gauge", "mark_price", "USDT", "instrument", "Mark price."),
        _row("gauge", "funding_apr", "fraction per year", "instrument", "+ = longs pay."),
        _row("gauge", "funding_regime", "code", "instrument",
             "0 neutral, 1 normal, 2 heated, 3 mania, 4 extreme."),
        # the process
        _row("counter", "http_requests_total", "requests", "path status", "Requests answered."),
        _row("gauge", "ready", "0 or 1", "", "1 = /ready says yes."),
        _row("gauge", "build_info", "1", "version", "Version that runs."),
    )
}

Number = Decimal | float | int
Child = Counter | Gauge | Histogram


class Metric:
    """One metric of one service. A wrong label, kind or name is a bug: an assertion."""

    def __init__(self, row: MetricRow, registry: CollectorRegistry) -> None:
        """Register the metric; without labels it starts at 0."""
        self.row = row
        name, labels = PREFIX + row.name, row.labels
        self._family: Child
        if row.kind == "counter":
            self._family = Counter(name, row.help, labels, registry=registry)
        elif row.kind == "gauge":
            self._family = Gauge(name, row.help, labels, registry=registry)
        else:
            self._family = Histogram(name, row.help, labels, registry=registry, buckets=_LATENCY_S)
        self._children: dict[tuple[str, ...], Child] = {}

    def inc(self, amount: Number = 1, /, **labels: object) -> None:
        """Count up; counters only."""
        child = self._child(labels)
        assert isinstance(child, Counter), f"{self.row.name} is no counter"
        child.inc(float(amount))

    def set(self, value: Number | None, /, **labels: object) -> None:
        """The present value; gauges only. None = not known, shown as NaN."""
        child = self._child(labels)
        assert isinstance(child, Gauge), f"{self.row.name} is no gauge"
        child.set(float("nan") if value is None else float(value))

    def observe(self, value: Number, /, **labels: object) -> None:
        """One measurement; histograms only."""
        child = self._child(labels)
        assert isinstance(child, Histogram), f"{self.row.name} is no histogram"
        child.observe(float(value))

    def _child(self, labels: dict[str, object]) -> Child:
        assert labels.keys() == set(self.row.labels), (
            f"{self.row.name} takes labels {self.row.labels}, got {tuple(labels)}"
        )
        if not labels:
            return self._family
        values = tuple(str(labels[name]) for name in self.row.labels)
        child = self._children.get(values)
        if child is None:
            if len(self._children) >= SERIES_MAX:
                values = ("other",) * len(values)
            child = self._children.setdefault(values, self._family.labels(*values))
        return child


class Metrics:
    """All metrics of one service: `metrics.steps_total.inc()`, `metrics.ltv.set(x, account=a)`."""

    def __init__(self, service: str, *, only: Iterable[str] | None = None) -> None:
        """Metrics of `service` in a registry of its own; `only` these, where fewer are wanted."""
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.service = service
        self.registry = CollectorRegistry()
        names = METRICS if only is None else tuple(only)
        self._metrics = {name: Metric(METRICS[name], self.registry) for name in names}

    def __getattr__(self, name: str) -> Metric:
        """The metric of that name."""
        metrics: dict[str, Metric] = self.__dict__.get("_metrics", {})
        assert name in metrics, f"there is no metric {name!r}; add it to METRICS"
        return metrics[name]

    def __getitem__(self, name: str) -> Metric:
        """The metric of that name, for names that are computed."""
        return self.__getattr__(name)

    def exposition(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self.registry)
