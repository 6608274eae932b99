"""The reserve R of an account that was given none: a fraction of its first fresh collateral value."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from hedgelock.domain.money import ONE, ZERO, clip, floor_to, saturate
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


def kept(
    reserve: Decimal, ltv: Decimal, curve: tuple[tuple[Decimal, Decimal], ...]
) -> Decimal:
    """What of R is kept back at this LTV: R · (1 − the share that the curve has deployed), ≥ 0.

    The curve's points are steps: a share counts from its LTV on, the largest of those reached. What
    is deployed may pay and is not refilled. No points: all of R.
    """
    share = max((part for level, part in curve if ltv >= level), default=ZERO)
    return reserve * (ONE - clip(share, ZERO, ONE))
