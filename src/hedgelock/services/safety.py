"""safety: alone reads the operator's commands, alone writes policies and the safety state."""

from __future__ import annotations

from hedgelock.domain import safety
from hedgelock.services.service import Service


def service(operator_key: bytes) -> Service[safety.SafetyMemory]:
    """The service that trusts commands signed with `operator_key`."""
    return Service(
        name="safety",
        inputs=(
            "operator_commands", "account_raw", "account_ledger", "risk_state", "trade_confirmations",
        ),
        tables=("policies",),
        step=safety.make_step(operator_key),
        initial=lambda _account: safety.SafetyMemory(),
        state_type=safety.SafetyMemory,
    )
