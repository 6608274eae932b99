"""hedger: the only one that computes targets, harvest and refill."""

from __future__ import annotations

from hedgelock.domain import hedging
from hedgelock.services.runner import Service

SERVICE: Service[hedging.HedgeMemory] = Service(
    name="hedger",
    inputs=("risk_state", "account_raw", "trade_confirmations"),
    tables=("instruments", "funding_context", "safety_state", "policies"),
    step=hedging.step,
    initial=lambda _account: hedging.HedgeMemory(),
    state_type=hedging.HedgeMemory,
)
