"""risk-engine: how near the cliffs are, on every tick that matters."""

from __future__ import annotations

from hedgelock.domain import risk
from hedgelock.services.service import Service

SERVICE: Service[risk.RiskMemory] = Service(
    name="risk-engine",
    inputs=("account_raw",),
    tables=("market_data", "instruments", "funding_context", "policies"),
    step=risk.step,
    initial=risk.initial,
    state_type=risk.RiskMemory,
)
