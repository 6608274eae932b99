"""The settings of the circuit breakers and of the operator's dead-man's switch."""

from __future__ import annotations

from decimal import Decimal

from hedgelock.config import fields as f
from hedgelock.config.fields import Group, var
from hedgelock.domain.policy import SafetyPolicy

_SAFETY = SafetyPolicy()


class SafetySettings(Group):
    """When no new risk is taken (`domain/policy.py`, SafetyPolicy). None of it closes a hedge."""

    daily_loss_max: f.Fraction = var(
        _SAFETY.daily_loss_max, "Loss of the whole account since 00:00 UTC.",
        unit="fraction of equity", to="daily_loss_max",
    )
    drawdown_max: f.Fraction = var(
        _SAFETY.drawdown_max, "Fall of the whole account from its highest equity.",
        unit="fraction of equity", to="drawdown_max",
    )
    funding_cost_max: f.Fraction = var(
        _SAFETY.funding_cost_max, "Funding paid since 00:00 UTC.", unit="fraction of equity",
        to="funding_cost_max",
    )
    volatility_max: f.Fraction = var(
        _SAFETY.volatility_max, "Standard deviation of the hedge's mark price per day.",
        unit="fraction", to="volatility_max",
    )
    losing_hedges_max: f.Count = var(
        _SAFETY.losing_hedges_max, "Closings in a row that lost money.", unit="closings",
        to="losing_hedges_max",
    )
    reject_share_max: f.Fraction = var(
        _SAFETY.reject_share_max, "Orders that the exchange refused, of the last 20.",
        unit="fraction", to="reject_share_max",
    )
    stale_after_s: f.Seconds = var(
        Decimal(_SAFETY.stale_after_ms) / 1000, "The account cannot be seen for this long.",
        unit="seconds", to="stale_after_ms",
    )
    heartbeat_max_s: f.Seconds = var(
        Decimal(_SAFETY.heartbeat_max_ms) / 1000,
        "The operator's dead-man's switch: no word for this long; 0 = none is needed.",
        unit="seconds", to="heartbeat_max_ms", example="86400",
    )
