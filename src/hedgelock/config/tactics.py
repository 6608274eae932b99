"""What the strategies beside B* go by: `TACTICS__NAME` sets a field of the domain's TacticsPolicy."""

from __future__ import annotations

from decimal import Decimal

from hedgelock.config import fields as f
from hedgelock.config.fields import Group, var
from hedgelock.domain.policy import TacticsPolicy

_TACTICS = TacticsPolicy()


class TacticsSettings(Group):
    """Volatility scaling, carry, vol_harvest and the account solver (`domain/policy.py`)."""

    fall_volatility_ref: f.FractionOrZero = var(
        _TACTICS.fall_volatility_ref,
        "Daily volatility at which the stressed fall is HEDGER__STRESS_FALL; 0 = it never moves.",
        unit="fraction", to="fall_volatility_ref",
    )
    fall_min: f.Fraction = var(
        _TACTICS.fall_min, "The least fall, where it follows the volatility.", unit="fraction",
        to="fall_min",
    )
    fall_max: f.Fraction = var(
        _TACTICS.fall_max, "The largest fall, where it follows the volatility.", unit="fraction",
        to="fall_max",
    )
    carry_enter_apr: f.Positive = var(
        _TACTICS.carry_enter_apr, "carry: funding is collected from this APR received.",
        unit="fraction per year", to="carry_enter_apr",
    )
    carry_leave_apr: f.NonNegative = var(
        _TACTICS.carry_leave_apr, "carry: and no longer below this one.",
        unit="fraction per year", to="carry_leave_apr",
    )
    carry_ratio: f.Fraction = var(
        _TACTICS.carry_ratio, "carry: at most this part of collateral and pocket coins is short.",
        unit="fraction", to="carry_ratio",
    )
    carry_margin_max: f.Fraction = var(
        _TACTICS.carry_margin_max, "carry: accountMMRate that it may take after the stressed rally.",
        unit="fraction", to="carry_margin_max",
    )
    harvest_volatility_low: f.Fraction = var(
        _TACTICS.harvest_volatility_low, "vol_harvest: the low hedge ratio below this volatility.",
        unit="fraction per day", to="harvest_volatility_low",
    )
    harvest_volatility_high: f.Fraction = var(
        _TACTICS.harvest_volatility_high, "vol_harvest: the high hedge ratio from this volatility.",
        unit="fraction per day", to="harvest_volatility_high",
    )
    harvest_ratio_low: f.FractionOrZero = var(
        _TACTICS.harvest_ratio_low, "vol_harvest: hedge ratio in calm markets.", unit="fraction",
        to="harvest_ratio_low",
    )
    harvest_ratio_medium: f.FractionOrZero = var(
        _TACTICS.harvest_ratio_medium, "vol_harvest: hedge ratio between the two volatilities.",
        unit="fraction", to="harvest_ratio_medium",
    )
    harvest_ratio_high: f.FractionOrZero = var(
        _TACTICS.harvest_ratio_high, "vol_harvest: hedge ratio in wild markets.", unit="fraction",
        to="harvest_ratio_high",
    )
    harvest_target: f.Positive = var(
        _TACTICS.harvest_target, "vol_harvest: profit target in daily volatilities.",
        unit="volatilities", to="harvest_target",
    )
    harvest_stop: f.Positive = var(
        _TACTICS.harvest_stop, "vol_harvest: trailing stop in daily volatilities.",
        unit="volatilities", to="harvest_stop",
    )
    harvest_rest_s: f.Seconds = var(
        Decimal(_TACTICS.harvest_rest_ms) / 1000, "vol_harvest: rest after target or stop.",
        unit="seconds", to="harvest_rest_ms",
    )
    reserve_curve: f.PointList = var(
        _TACTICS.reserve_curve,
        "LTV and the share of the reserve that is deployed from there on; unset = none ever is.",
        unit="ltv:share", to="reserve_curve", example="0.65:0.25,0.75:0.5,0.85:1",
    )
    solver_horizon_h: f.Count = var(
        _TACTICS.solver_horizon_h, "min_cost: protections are priced over this time.", unit="hours",
        to="solver_horizon_h",
    )
    solver_aim: f.Fraction = var(
        _TACTICS.solver_aim, "min_cost: what a limit demands is brought this far inside it.",
        unit="fraction", to="solver_aim",
    )
    solver_sale_premium: f.FractionOrZero = var(
        _TACTICS.solver_sale_premium,
        "min_cost: what a sale of coins is charged beside its fees, since nothing takes it back.",
        unit="fraction of the sale", to="solver_sale_premium",
    )
    solver_saving_min: f.FractionOrZero = var(
        _TACTICS.solver_saving_min,
        "min_cost: a protection is changed for a cheaper one only for a saving of this.",
        unit="fraction of counted collateral", to="solver_saving_min",
    )
