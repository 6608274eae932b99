"""How near the cliffs are: LTV, margin, delta, today and after a stress, with reasons."""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import ClassVar

from hedgelock.domain.message import Message, Value


class RiskState(enum.Enum):
    """Labels by LTV; the policy acts earlier."""

    NORMAL = "normal"
    CAUTION = "caution"
    DANGER = "danger"
    CRITICAL = "critical"


class Confidence(enum.Enum):
    """Whether the inputs can be trusted now."""

    FRESH = "fresh"
    STALE = "stale"
    """Something is older than allowed: protective actions only."""
    ABSENT = "absent"
    """Something was never read: no assessment of safety is possible."""


class RiskReason(enum.Enum):
    """Why the assessment says what it says."""

    WITHIN_LIMITS = "within_limits"
    LTV_ABOVE_CAUTION = "ltv_above_caution"
    LTV_ABOVE_DANGER = "ltv_above_danger"
    LTV_ABOVE_CRITICAL = "ltv_above_critical"
    HELD_BY_HYSTERESIS = "held_by_hysteresis"
    HELD_BY_DWELL = "held_by_dwell"
    NO_COLLATERAL = "no_collateral"
    INPUT_ABSENT = "input_absent"
    INPUT_STALE = "input_stale"


class InputAge(Value, frozen=True, kw_only=True):
    """How old an input was when it was used; `age_ms` None = never seen."""

    name: str
    age_ms: int | None
    age_max_ms: int


class RiskAssessment(Message, frozen=True, kw_only=True):
    """One account, re-marked at one moment. Money in USDT, fractions without suffix.

    `ltv` None = infinite (debt without collateral) or not computable (see `confidence`).
    `ltv_exchange` is the venue's own, as last read. `ltv_net_fall` is the net LTV after the policy's
    fall, hedge gain counted; `margin_ratio_rise` is accountMMRate after its rally (None = no equity
    is left: infinite). `collateral_value` is naive, for display; `counted_value` is V.
    """

    account: str
    policy_version: int
    state: RiskState
    confidence: Confidence
    reason: RiskReason
    ltv: Decimal | None
    ltv_exchange: Decimal | None
    ltv_net_fall: Decimal | None
    margin_ratio: Decimal | None
    margin_ratio_rise: Decimal | None
    margin_ratio_fall: Decimal | None
    debt_value: Decimal
    counted_value: Decimal
    collateral_value: Decimal
    net_delta: Decimal
    mark_price: Decimal | None
    index_price: Decimal | None
    funding_apr: Decimal | None
    inputs: tuple[InputAge, ...]
    since_ts_ms: int
    assessed_ts_ms: int
    market_ts_event_ms: int | None

    non_negative: ClassVar = ("ltv", "counted_value", "debt_value")
