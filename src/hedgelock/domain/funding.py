"""Funding has a sign, an interval and a payer.

`funding_rate` is a fraction per interval, + = longs pay shorts. `funding_apr` is simple, per year,
signed alike. The interval is 1, 2, 4 or 8 h, per instrument, and changes without notice.
"""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import ClassVar

from hedgelock.domain.message import Message


class FundingRegime(enum.Enum):
    """Band of |APR|, with hysteresis and dwell."""

    NEUTRAL = "neutral"
    NORMAL = "normal"
    HEATED = "heated"
    MANIA = "mania"
    EXTREME = "extreme"


class FundingRate(Message, frozen=True, kw_only=True):
    """The venue's *predicted* rate for the settlement at `funding_next_ts_ms`."""

    positive: ClassVar = ("funding_interval_h",)

    instrument: str
    funding_rate: Decimal
    funding_interval_h: Decimal
    funding_next_ts_ms: int
    funding_cap: Decimal | None = None
    ts_event_ms: int
    ts_seen_ms: int


class FundingContext(Message, frozen=True, kw_only=True):
    """What funding means for sizes now. Multipliers 0..1 scale *discretionary* size per side.

    `apr` signed, + = longs pay. `since_ts_ms` is when the regime was entered.
    """

    non_negative: ClassVar = ("multiplier_long", "multiplier_short")

    instrument: str
    apr: Decimal
    regime: FundingRegime
    since_ts_ms: int
    multiplier_long: Decimal
    multiplier_short: Decimal
    funding_rate: Decimal
    funding_interval_h: Decimal
    funding_next_ts_ms: int
    reason: str
    ts_event_ms: int
    ts_seen_ms: int
