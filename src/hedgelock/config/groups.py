"""The groups of settings: `GROUP__NAME` in the environment is `settings.group.name` here.

Thresholds are not repeated: their defaults come from the domain's policy classes, and `to` names
the policy field that a setting sets.
"""

from __future__ import annotations

from decimal import Decimal

from hedgelock.config import fields as f
from hedgelock.config.fields import Group, var
from hedgelock.domain.policy import (
    ExecutionPolicy,
    HedgePolicy,
    RiskPolicy,
    Strategy,
)

_RISK = RiskPolicy()
_HEDGE = HedgePolicy()
_EXECUTION = ExecutionPolicy()


class KafkaSettings(Group):
    """The bus. Without servers: one SQLite file in DATA_DIR."""

    bootstrap_servers: f.Servers | None = var(
        None, "Kafka brokers; setting this moves the bus from the embedded log to Kafka.",
        example="127.0.0.1:9092",
    )
    replication_factor: f.Count = var(
        1, "Copies of every topic when HedgeLock creates it; 3 in production.", unit="brokers",
        example="3",
    )
    instance: f.Name = var(
        "main",
        "Name of this process among its service's; each needs its own and keeps it on restart.",
    )
    prefix: f.Prefix = var(
        "", "Put before every topic, group and transaction name, so that systems can share a broker.",
        example="desk1",
    )


class BybitSettings(Group):
    """The key and addresses of the account `main`, unless ACCOUNTS names accounts."""

    api_key: f.Secret | None = var(None, "API key of the account `main`.")
    api_secret: f.Secret | None = var(None, "Secret of that key.")
    testnet: f.Truth | None = var(
        None, "true = MODE=testnet, where keys are set and MODE is not.", example="true"
    )
    rest_url: f.HttpUrl | None = var(
        None, "Another REST address than the mode's own.", example="http://127.0.0.1:8010"
    )
    ws_public_url: f.WsUrl | None = var(
        None, "Another public stream, up to /v5/public (the category is appended).",
        example="ws://127.0.0.1:8010/v5/public",
    )
    ws_private_url: f.WsUrl | None = var(
        None, "Another private stream.", example="ws://127.0.0.1:8010/v5/private"
    )
    ws_trade_url: f.WsUrl | None = var(
        None, "Another trade socket.", example="ws://127.0.0.1:8010/v5/trade"
    )


class AccountSettings(Group):
    """One named account: `ACCOUNTS__main__API_KEY`."""

    api_key: f.Secret | None = var(None, "API key of this account.")
    api_secret: f.Secret | None = var(None, "Secret of that key.")
    rest_url: f.HttpUrl | None = var(
        None, "REST address of this account, where it differs from BYBIT__REST_URL or the mode's.",
        example="http://127.0.0.1:8010",
    )
    ws_public_url: f.WsUrl | None = var(
        None, "Public stream of this account.", example="ws://127.0.0.1:8010/v5/public"
    )
    ws_private_url: f.WsUrl | None = var(
        None, "Private stream of this account.", example="ws://127.0.0.1:8010/v5/private"
    )
    ws_trade_url: f.WsUrl | None = var(
        None, "Trade socket of this account.", example="ws://127.0.0.1:8010/v5/trade"
    )


class RiskSettings(Group):
    """When an account is called what (`domain/policy.py`, RiskPolicy)."""

    ltv_caution_threshold: f.Fraction = var(
        _RISK.ltv_caution, "CAUTION at this loan-to-value.", unit="fraction", to="ltv_caution"
    )
    ltv_danger_threshold: f.Fraction = var(
        _RISK.ltv_danger, "DANGER at this loan-to-value.", unit="fraction", to="ltv_danger"
    )
    ltv_critical_threshold: f.Fraction = var(
        _RISK.ltv_critical, "CRITICAL at this loan-to-value.", unit="fraction", to="ltv_critical"
    )
    ltv_leave_below: f.FractionOrZero = var(
        _RISK.ltv_leave_below, "A state is left only this much under its threshold.",
        unit="fraction", to="ltv_leave_below",
    )
    dwell_s: f.Seconds = var(
        Decimal(_RISK.dwell_ms) / 1000, "And only after this long below it.", unit="seconds",
        to="dwell_ms",
    )
    ltv_margin_call: f.Fraction = var(
        _RISK.ltv_margin_call, "Where the exchange calls for more collateral.", unit="fraction",
        to="ltv_margin_call",
    )
    ltv_liquidation: f.Fraction = var(
        _RISK.ltv_liquidation, "Where the exchange liquidates the loan.", unit="fraction",
        to="ltv_liquidation",
    )
    margin_ratio_max: f.Positive = var(
        _RISK.margin_ratio_max, "Maintenance margin ratio allowed at the stressed price; 1 liquidates.",
        unit="fraction", to="margin_ratio_max",
    )
    publish_ltv_step: f.Fraction = var(
        _RISK.publish_ltv_step, "Publish again once LTV moved this much.", unit="fraction",
        to="publish_ltv_step",
    )
    publish_price_step: f.Fraction = var(
        _RISK.publish_price_step, "Publish again once the price moved this fraction.",
        unit="fraction", to="publish_price_step",
    )
    market_age_max_ms: f.Milliseconds = var(
        _RISK.market_age_max_ms, "Prices older than this are stale.", unit="milliseconds",
        to="market_age_max_ms",
    )
    account_age_max_ms: f.Milliseconds = var(
        _RISK.account_age_max_ms, "Balances, positions and loans older than this are stale.",
        unit="milliseconds", to="account_age_max_ms",
    )
    funding_age_max_ms: f.Milliseconds = var(
        _RISK.funding_age_max_ms, "Funding rates older than this are stale.", unit="milliseconds",
        to="funding_age_max_ms",
    )


class HedgerSettings(Group):
    """How large the hedge is and when gains are harvested (`domain/policy.py`, HedgePolicy)."""

    strategy: Strategy = var(
        _HEDGE.strategy, "Which rule sizes the hedge: ltv_target, ladder, carry, vol_harvest or min_cost.", to="strategy"
    )
    instrument: f.Instrument = var(
        _HEDGE.instrument, "The perpetual that hedges.", unit="category:symbol", to="instrument"
    )
    spot_instrument: f.Instrument = var(
        _HEDGE.spot_instrument, "The spot market that sells collateral coins.",
        unit="category:symbol", to="spot_instrument",
    )
    coin: f.Coin = var(_HEDGE.coin, "The collateral coin.", to="coin")
    quote: f.Coin = var(_HEDGE.quote, "The coin of the loan and of the hedge's gains.", to="quote")
    stress_fall: f.Fraction = var(
        _HEDGE.stress_fall, "s: the fall that the hedge must outlive.", unit="fraction",
        to="stress_fall",
    )
    stress_rise: f.Positive = var(
        _HEDGE.stress_rise, "u: the rally that the trading pocket must outlive.", unit="fraction",
        to="stress_rise",
    )
    ltv_max: f.Fraction = var(
        _HEDGE.ltv_max, "L: net LTV allowed after that fall.", unit="fraction", to="ltv_max"
    )
    no_trade_band_btc: f.NonNegative = var(
        _HEDGE.no_trade_band, "Smaller differences from the target are left alone.", unit="BTC",
        to="no_trade_band",
    )
    cost_rate: f.FractionOrZero = var(
        _HEDGE.cost_rate, "c: fee and slippage of realising a gain.", unit="fraction of notional",
        to="cost_rate",
    )
    borrow_margin_rate: f.FractionOrZero = var(
        _HEDGE.borrow_margin_rate, "Maintenance margin of auto-borrowed USDT.", unit="fraction",
        to="borrow_margin_rate",
    )
    reserve_usdt: f.NonNegative | None = var(
        _HEDGE.reserve,
        "R: cash that the trading pocket keeps; unset = RESERVE_FRACTION of the first fresh value.",
        unit="USDT", example="6000", to="reserve",
    )
    reserve_fraction: f.Fraction = var(
        _HEDGE.reserve_fraction, "R as a fraction of counted collateral, where none is set.",
        unit="fraction", to="reserve_fraction",
    )
    harvest_at: f.Fraction = var(
        _HEDGE.harvest_at, "Realise gains and repay from this LTV.", unit="fraction",
        to="harvest_at",
    )
    harvest_to: f.Fraction = var(
        _HEDGE.harvest_to, "Down to this LTV.", unit="fraction", to="harvest_to"
    )
    urgent_at: f.Fraction = var(
        _HEDGE.urgent_at, "The loan goes before the reserve from this LTV.", unit="fraction",
        to="urgent_at",
    )
    urgent_to: f.Fraction = var(
        _HEDGE.urgent_to, "Down to this LTV.", unit="fraction", to="urgent_to"
    )
    refill_below: f.Fraction = var(
        _HEDGE.refill_below, "Borrow the reserve back below this LTV.", unit="fraction",
        to="refill_below",
    )
    action_fraction_min: f.FractionOrZero = var(
        _HEDGE.action_fraction_min,
        "Repayments and borrowings smaller than this fraction of counted collateral wait.",
        unit="fraction", to="action_fraction_min",
    )
    cover_fraction: f.FractionOrZero = var(
        _HEDGE.cover_fraction,
        "The pocket's coins are sold for USDT when it owes more than this fraction of counted "
        "collateral, until it has as much.",
        unit="fraction", to="cover_fraction",
    )
    slices_max: f.Count = var(
        _HEDGE.slices_max,
        "Slices (no larger than the band) that one realisation closes and reopens before paying.",
        unit="slices", to="slices_max",
    )
    caution_hedge_size_btc: f.NonNegative = var(
        _HEDGE.caution_size, "Strategy ladder: the short in CAUTION.", unit="BTC",
        to="caution_size",
    )
    stop_margin_ratio: f.FractionOrZero = var(
        _HEDGE.stop_margin_ratio,
        "A reduce-only stop for the short waits at the exchange where the margin ratio would reach "
        "this; 0 = none.", unit="fraction", to="stop_margin_ratio",
    )
    stop_move: f.Fraction = var(
        _HEDGE.stop_move, "The stop is moved when it is this fraction of its price off.",
        unit="fraction", to="stop_move",
    )
    max_position_size_btc: f.Positive = var(
        _HEDGE.position_size_max, "No hedge beyond this, whatever a strategy says.", unit="BTC",
        example="10.0", to="position_size_max",
    )


class ExecutorSettings(Group):
    """How intents live and die (`domain/policy.py`, ExecutionPolicy)."""

    intent_ttl_ms: f.Milliseconds = var(
        _EXECUTION.intent_ttl_ms, "An order not sent this long after its decision is dropped.",
        unit="milliseconds", to="intent_ttl_ms",
    )
    query_after_ms: f.Milliseconds = var(
        _EXECUTION.query_after_ms, "An order unheard of for this long is asked about.",
        unit="milliseconds", to="query_after_ms",
    )
    absent_after_ms: f.Milliseconds = var(
        _EXECUTION.absent_after_ms, "A duplicate that nowhere shows up for this long is given up.",
        unit="milliseconds", to="absent_after_ms",
    )
    slippage_max: f.Fraction = var(
        _EXECUTION.slippage_max, "A market order is bounded this far from the mark it was decided at.",
        unit="fraction", to="slippage_max",
    )
    notional_max_usdt: f.Positive = var(
        _EXECUTION.notional_max, "No single order beyond this value.", unit="USDT",
        to="notional_max",
    )
    orders_per_minute_max: f.Count = var(
        _EXECUTION.orders_per_minute_max, "No more orders than this.", unit="orders per minute",
        to="orders_per_minute_max",
    )
    slippage_brisk: f.Fraction = var(
        _EXECUTION.slippage_brisk,
        "The first try of an order that does not protect stays this near the mark.",
        unit="fraction", to="slippage_brisk",
    )
    rest_ms: f.Milliseconds = var(
        _EXECUTION.rest_ms,
        "A patient order rests in the book this long at most, then takes what is there.",
        unit="milliseconds", to="rest_ms",
    )
    reprice_ms: f.Milliseconds = var(
        _EXECUTION.reprice_ms, "Look this often whether it still rests at the best price.",
        unit="milliseconds", to="reprice_ms",
    )
    slice_notional_usdt: f.Positive = var(
        _EXECUTION.slice_notional,
        "Orders above this that do not protect are sent in slices by the visible book.",
        unit="USDT", to="slice_notional",
    )
    settlement_guard_ms: f.Milliseconds = var(
        _EXECUTION.settlement_guard_ms,
        "Nothing discretionary is opened this long before a funding settlement that it would pay.",
        unit="milliseconds", to="settlement_guard_ms",
    )
    short_ratio_max: f.Positive = var(
        _EXECUTION.short_ratio_max,
        "The short may be this fraction of collateral plus pocket coins, whatever the hedger says.",
        unit="fraction", to="short_ratio_max",
    )
    notional_per_day_max_usdt: f.Positive = var(
        _EXECUTION.notional_per_day_max, "Openings of a day, filled and open.", unit="USDT",
        to="notional_per_day_max",
    )
    spend_per_day_max_usdt: f.Positive = var(
        _EXECUTION.spend_per_day_max,
        "Fees and slippage of a day; beyond it nothing discretionary is opened.", unit="USDT",
        to="spend_per_day_max",
    )
    repayments_per_hour_max: f.Count = var(
        _EXECUTION.repayments_per_hour_max, "No more repayments than this.",
        unit="repayments per hour", to="repayments_per_hour_max",
    )
    borrow_per_day_max_usdt: f.Positive = var(
        _EXECUTION.borrow_per_day_max, "No more is borrowed than this.", unit="USDT per day",
        to="borrow_per_day_max",
    )
