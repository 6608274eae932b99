"""The reserve R of an account that was given none: a fraction of its first fresh collateral value."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from hedgelock.domain.money import ONE, floor_to, saturate
from hedgelock.domain.policy import Policy
from hedgelock.domain.risk import Confidence, RiskAssessment


def with_reserve(
    policy: Policy, risk: RiskAssessment, *, known: Decimal | None, version: int
) -> Policy | None:
    """`policy` with R = reserve_fraction × V in whole USDT, or with the R `known` already.

    None = nothing to write: it has one, nothing fresh was seen, or the policy written last (of
    `version`) is still on its way into the table. R is never recomputed.
    """
    if policy.hedge.reserve is not None or policy.version < version:
        return None
    reserve = known
    if reserve is None:
        if risk.confidence is not Confidence.FRESH or risk.counted_value <= 0:
            return None
        reserve = floor_to(saturate(policy.hedge.reserve_fraction * risk.counted_value), ONE)
    return msgspec.structs.replace(
        policy, version=policy.version + 1,
        hedge=msgspec.structs.replace(policy.hedge, reserve=reserve),
    )
