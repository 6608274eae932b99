"""hedger: the only one that computes targets, harvest and refill."""

from __future__ import annotations

from hedgelock.domain import hedge_memory, hedging
from hedgelock.services.service import Service

SERVICE: Service[hedge_memory.HedgeMemory] = Service(
    name="hedger",
    inputs=("risk_state", "account_raw", "trade_confirmations"),
    tables=("instruments", "funding_context", "safety_state", "policies"),
    step=hedging.step,
    initial=lambda _account: hedge_memory.HedgeMemory(),
    state_type=hedge_memory.HedgeMemory,
)
