"""risk-engine: how near the cliffs are, on every tick that matters."""

from __future__ import annotations

from hedgelock.domain.risk_detail import OutlookMemory
from hedgelock.forecast import outlook
from hedgelock.services.service import Service

SERVICE: Service[OutlookMemory] = Service(
    name="risk-engine",
    inputs=("account_raw",),
    tables=("market_data", "instruments", "funding_context", "policies"),
    step=outlook.step,
    initial=outlook.initial,
    state_type=OutlookMemory,
)
