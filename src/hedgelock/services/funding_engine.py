"""funding-engine: what funding means for each instrument now."""

from __future__ import annotations

from hedgelock.domain import funding
from hedgelock.services.service import Service

SERVICE: Service[funding.FundingMemory] = Service(
    name="funding-engine",
    inputs=("funding_rates",),
    tables=("policies",),
    step=funding.step,
    initial=funding.initial,
    state_type=funding.FundingMemory,
    per_account=False,
)
