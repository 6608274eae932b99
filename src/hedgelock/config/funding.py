"""Bands of funding, sizes by APR, exits: `FUNDING__NAME` sets a field of the domain's FundingPolicy."""

from __future__ import annotations

from decimal import Decimal

from hedgelock.config import fields as f
from hedgelock.config.fields import Group, var
from hedgelock.domain.policy import FundingPolicy

_FUNDING = FundingPolicy()


class FundingSettings(Group):
    """Bands of |APR| and the size multiplier (`domain/policy.py`, FundingPolicy)."""

    apr_normal: f.Positive = var(
        _FUNDING.apr_normal, "NORMAL from this |APR|.", unit="fraction per year", to="apr_normal"
    )
    apr_heated: f.Positive = var(
        _FUNDING.apr_heated, "HEATED from this |APR|.", unit="fraction per year", to="apr_heated"
    )
    apr_mania: f.Positive = var(
        _FUNDING.apr_mania, "MANIA from this |APR|.", unit="fraction per year", to="apr_mania"
    )
    apr_extreme: f.Positive = var(
        _FUNDING.apr_extreme, "EXTREME from this |APR|.", unit="fraction per year", to="apr_extreme"
    )
    leave_factor: f.Fraction = var(
        _FUNDING.leave_factor, "A band is left below this fraction of its lower edge.",
        unit="fraction", to="leave_factor",
    )
    dwell_s: f.Seconds = var(
        Decimal(_FUNDING.dwell_ms) / 1000, "And only after this long below it.", unit="seconds",
        to="dwell_ms",
    )
    multiplier_points: f.PointList = var(
        _FUNDING.multiplier_points,
        "APR that a side pays and the multiplier of its discretionary size, linear in between.",
        unit="apr:multiplier", to="multiplier_points",
    )
    exit_apr: f.Positive = var(
        _FUNDING.exit_apr, "Discretionary size is left at this APR paid.",
        unit="fraction per year", to="exit_apr",
    )
    reentry_apr: f.Positive = var(
        _FUNDING.reentry_apr, "And is taken up again below this APR paid.",
        unit="fraction per year", to="reentry_apr",
    )
    round_trip_cost: f.Fraction = var(
        _FUNDING.round_trip_cost, "Fees and slippage of leaving and coming back.",
        unit="fraction of notional", to="round_trip_cost",
    )
    exit_cooldown_s: f.Seconds = var(
        Decimal(_FUNDING.exit_cooldown_ms) / 1000, "Between an exit and a re-entry at least this.",
        unit="seconds", to="exit_cooldown_ms",
    )
    exits_per_day_max: f.Count = var(
        _FUNDING.exits_per_day_max, "Exits per side and UTC day.", unit="per day",
        to="exits_per_day_max",
    )
