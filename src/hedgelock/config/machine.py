"""Settings of this machine: who may command it, its simulator, its ports."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from hedgelock.config import fields as f
from hedgelock.config.fields import Group, var


class OperatorSettings(Group):
    """The person in command."""

    key: f.LongSecret | None = var(
        None,
        "Signs halt, resume and kill; required in demo, testnet and live, at least 16 characters.",
    )


class SimSettings(Group):
    """The built-in exchange simulator."""

    scenario: f.Scenario = var("demo", "calm, crash, mania, whipsaw, demo, or a scenario file (.toml).")
    speed: f.Speed = var(Decimal(1), "How fast the script plays; wall time stays wall time.",
                         unit="factor", example="4")
    seed: f.Seed = var(1, "Seed of the noise.")
    host: f.Host = var("127.0.0.1", "Address to bind; loopback outside a container.")
    server: f.Host = var("127.0.0.1", "Where the other processes find the simulator.")
    feed_url: f.WsUrl = var(
        "wss://stream.bybit.com/v5/public",
        "MODE=paper: the public stream whose prices move the simulator, up to /v5/public.",
    )
    port: f.FixedPort = var(8010, "Port of REST, WebSocket and metrics.")


class Ports(NamedTuple):
    """Where a service listens."""

    http: int
    metrics: int


class HttpSettings(Group):
    """Health and metrics of every service. Port 0 = any free one."""

    host: f.Host = var("127.0.0.1", "Address to bind; 0.0.0.0 in a container.")
    collector_port: f.Port = var(8001, "collector: /healthz and /ready.")
    collector_metrics_port: f.Port = var(9091, "collector: /metrics.")
    risk_engine_port: f.Port = var(8002, "risk-engine: /healthz and /ready.")
    risk_engine_metrics_port: f.Port = var(9096, "risk-engine: /metrics.")
    hedger_port: f.Port = var(8003, "hedger: /healthz and /ready.")
    hedger_metrics_port: f.Port = var(9093, "hedger: /metrics.")
    trade_executor_port: f.Port = var(8004, "trade-executor: /healthz and /ready.")
    trade_executor_metrics_port: f.Port = var(9094, "trade-executor: /metrics.")
    funding_engine_port: f.Port = var(8005, "funding-engine: /healthz and /ready.")
    funding_engine_metrics_port: f.Port = var(9095, "funding-engine: /metrics.")
    safety_port: f.Port = var(8006, "safety: /healthz and /ready.")
    safety_metrics_port: f.Port = var(9098, "safety: /metrics.")

    def ports(self, service: str) -> Ports:
        """Both ports of a service; KeyError for one that has none."""
        name = service.replace("-", "_")
        values = dict(self)
        return Ports(values[f"{name}_port"], values[f"{name}_metrics_port"])

    def variables(self, service: str) -> tuple[str, str]:
        """The names of the two settings behind `ports`, for messages."""
        name = service.upper().replace("-", "_")
        return f"HTTP__{name}_PORT", f"HTTP__{name}_METRICS_PORT"
