"""Every threshold of HedgeLock, once, with its unit. `config.py` only maps env names to these.

A `Policy` is a message: seeded by `app.py`, changed by the safety service alone, versioned. Fractions
are 0..1 unless said otherwise; times in milliseconds; money in USDT.
"""

from __future__ import annotations

import enum
from decimal import Decimal
from decimal import Decimal as D
from typing import ClassVar

import msgspec

from hedgelock.domain.message import Message, Value

HOUSE = "*"
"""The account that stands for all of them, in policies and in safety's word."""


class Strategy(enum.Enum):
    """Which rule sizes the hedge."""

    LTV_TARGET = "ltv_target"
    LADDER = "ladder"
    CARRY = "carry"
    VOL_HARVEST = "vol_harvest"
    MIN_COST = "min_cost"


class RiskPolicy(Value, frozen=True, kw_only=True):
    """When an account is called what. LTV thresholds as fractions of counted collateral."""

    ltv_caution: Decimal = D("0.65")
    ltv_danger: Decimal = D("0.80")
    ltv_critical: Decimal = D("0.90")
    ltv_leave_below: Decimal = D("0.02")
    """A state is left only this much under its threshold."""
    dwell_ms: int = 300_000
    """And only after this long below it."""
    ltv_margin_call: Decimal = D("0.85")
    ltv_liquidation: Decimal = D("0.95")
    margin_ratio_max: Decimal = D(1)
    """accountMMRate allowed at the stressed price."""
    publish_ltv_step: Decimal = D("0.001")
    publish_price_step: Decimal = D("0.001")
    """Publish again once LTV moved this much or the price this fraction."""
    market_age_max_ms: int = 5_000
    account_age_max_ms: int = 30_000
    funding_age_max_ms: int = 300_000


class FundingPolicy(Value, frozen=True, kw_only=True):
    """Bands of |APR| and the size multiplier. APR as a fraction per year (0.10 = 10 %)."""

    apr_normal: Decimal = D("0.10")
    apr_heated: Decimal = D("0.50")
    apr_mania: Decimal = D("1.00")
    apr_extreme: Decimal = D("3.00")
    leave_factor: Decimal = D("0.85")
    """A band is left below this fraction of its lower edge."""
    dwell_ms: int = 3_600_000
    multiplier_points: tuple[tuple[Decimal, Decimal], ...] = (
        (D(0), D(1)), (D("0.1"), D("0.9")), (D("0.5"), D("0.6")), (D(1), D("0.3")), (D(3), D(0)),
    )
    """(APR that this side pays, multiplier of its discretionary size), linear in between."""
    exit_apr: Decimal = D("3.00")
    """Discretionary size is left at this APR paid, when that will cost more than a round trip."""
    reentry_apr: Decimal = D("1.00")
    """And is taken up again below this one."""
    round_trip_cost: Decimal = D("0.0015")
    """Leaving and coming back: fees and slippage, fraction of notional."""
    exit_cooldown_ms: int = 14_400_000
    """Between leaving, coming back and leaving again at least this long."""
    exits_per_day_max: int = 2
    """Per side and UTC day."""


class HedgePolicy(Value, frozen=True, kw_only=True):
    """The reference policy B* and the ladder (DESIGN §5)."""

    strategy: Strategy = Strategy.LTV_TARGET
    instrument: str = "linear:BTCUSDT"
    spot_instrument: str = "spot:BTCUSDT"
    coin: str = "BTC"
    quote: str = "USDT"
    stress_fall: Decimal = D("0.25")
    """s: the fall that the hedge must outlive."""
    stress_rise: Decimal = D("0.25")
    """u: the rally that the trading pocket must outlive."""
    ltv_max: Decimal = D("0.85")
    """L: net LTV allowed after the fall."""
    no_trade_band: Decimal = D("0.05")
    """b, in coins: smaller differences from the target are left alone."""
    cost_rate: Decimal = D("0.001")
    """c: fee plus slippage of realising a gain, fraction of notional."""
    borrow_margin_rate: Decimal = D("0.04")
    """Maintenance margin of auto-borrowed USDT."""
    reserve: Decimal | None = None
    """R, USDT. None until the account's first fresh assessment, then written once."""
    reserve_fraction: Decimal = D("0.10")
    """R / V where no reserve is configured."""
    harvest_at: Decimal = D("0.75")
    harvest_to: Decimal = D("0.70")
    urgent_at: Decimal = D("0.80")
    urgent_to: Decimal = D("0.75")
    refill_below: Decimal = D("0.65")
    action_fraction_min: Decimal = D("0.01")
    """Loan actions smaller than this fraction of V wait."""
    cover_fraction: Decimal = D("0.0005")
    """The pocket's coins are sold when it owes more than this fraction of V, until it has as much."""
    slices_max: int = 3
    """Slices (≤ the band each) of one realisation; what they brought is paid before the next."""
    caution_size: Decimal = D("0.02")
    """Ladder: short in CAUTION, coins."""
    stop_margin_ratio: Decimal = D("0.9")
    """A reduce-only stop for the short waits where accountMMRate would reach this; 0 = none."""
    stop_move: Decimal = D("0.01")
    """The stop is moved when it is this fraction of its price away from where it should be."""
    position_size_max: Decimal = D(10)
    """No hedge beyond this many coins, whatever a strategy says."""


class TacticsPolicy(Value, frozen=True, kw_only=True):
    """What the strategies beside B* go by. Volatility σ is that of a day, as a fraction."""

    fall_volatility_ref: Decimal = D(0)
    """σ at which s is `stress_fall`; s grows and shrinks with σ. 0 = s is `stress_fall` always."""
    fall_min: Decimal = D("0.15")
    fall_max: Decimal = D("0.45")
    """s stays between these where it follows the volatility."""
    carry_enter_apr: Decimal = D("0.15")
    """Funding is collected from this APR received, when that is expected to earn a round trip."""
    carry_leave_apr: Decimal = D("0.05")
    """And no longer below this one."""
    carry_ratio: Decimal = D("0.50")
    """At most this fraction of C + b is short to collect funding, the protective part included."""
    carry_margin_max: Decimal = D("0.50")
    """accountMMRate that carry may take after the rally of u: its risk budget."""
    harvest_volatility_low: Decimal = D("0.02")
    harvest_volatility_high: Decimal = D("0.04")
    harvest_ratio_low: Decimal = D("0.2")
    """Hedge ratio below the lower volatility; medium between the two, high from the upper one."""
    harvest_ratio_medium: Decimal = D("0.4")
    harvest_ratio_high: Decimal = D("0.6")
    harvest_target: Decimal = D("1.5")
    """k: the discretionary short is closed once it gained k·σ."""
    harvest_stop: Decimal = D("1.0")
    """And once the price is this many σ above its lowest since the short was opened."""
    harvest_rest_ms: int = 14_400_000
    """Then it rests this long."""
    reserve_curve: tuple[tuple[Decimal, Decimal], ...] = ()
    """(LTV, share of R that is no longer kept back from there on); none = all of R always.

    The seed's: (.65, .25), (.75, .50), (.85, 1)."""
    solver_horizon_h: int = 72
    """Protections are priced over this many hours."""
    solver_aim: Decimal = D("0.02")
    """What a limit demands is brought this fraction inside it, and left alone until it is broken."""
    solver_sale_premium: Decimal = D("0.02")
    """What policy charges for a sale of coins, which nothing takes back; fraction of the sale."""
    solver_saving_min: Decimal = D("0.0005")
    """Protection is changed for a cheaper one only for a saving of this fraction of V or more."""


class ExecutionPolicy(Value, frozen=True, kw_only=True):
    """How intents live and die."""

    intent_ttl_ms: int = 5_000
    query_after_ms: int = 2_000
    """An order unheard of for this long is asked about."""
    absent_after_ms: int = 60_000
    """A duplicate that nowhere shows up for this long is given up."""
    slippage_max: Decimal = D("0.005")
    """A market order is bounded this far from the mark it was decided at."""
    slippage_brisk: Decimal = D("0.001")
    """The first try of what is not protective stays this near the mark."""
    rest_ms: int = 10_000
    """A patient order may rest in the book this long, then takes what is there."""
    reprice_ms: int = 1_000
    """Look this often whether it still rests at the best price."""
    slice_notional: Decimal = D(250_000)
    """Brisk and patient orders above this are sent in slices. USDT."""
    settlement_guard_ms: int = 60_000
    """Nothing discretionary is opened this long before a settlement that it would pay."""
    short_ratio_max: Decimal = D(1)
    """The short may be this fraction of collateral plus pocket coins."""
    notional_max: Decimal = D(5_000_000)
    orders_per_minute_max: int = 120
    notional_per_day_max: Decimal = D(50_000_000)
    """Openings, filled and open. USDT."""
    spend_per_day_max: Decimal = D(2_500)
    """Fees and slippage; beyond it nothing discretionary is opened. USDT."""
    repayments_per_hour_max: int = 120
    borrow_per_day_max: Decimal = D(250_000)
    """USDT."""


class SafetyPolicy(Value, frozen=True, kw_only=True):
    """When no new risk is taken (`domain/breakers.py`). Losses and costs as fractions of equity."""

    daily_loss_max: Decimal = D("0.30")
    drawdown_max: Decimal = D("0.50")
    funding_cost_max: Decimal = D("0.01")
    """Funding paid per day (UTC)."""
    volatility_max: Decimal = D("0.12")
    """Standard deviation of the hedge's mark per day."""
    volatility_tau_ms: int = 6 * 3_600_000
    losing_hedges_max: int = 8
    """Closings in a row that lost money."""
    reject_share_max: Decimal = D("0.5")
    reject_least: int = 6
    """Ended orders before the share of refused ones means anything."""
    stale_after_ms: int = 60_000
    sample_ms: int = 5_000
    window_ms: int = 30_000
    """Equity is looked at this often; losses and peaks are taken of windows of this length."""
    adl_rank_warn: int = 4
    """Warn from this auto-deleveraging rank on (1 to 5)."""
    heartbeat_max_ms: int = 0
    """The operator must have said a word within this time; 0 = need not."""


class Policy(Message, frozen=True, kw_only=True):
    """All limits of one account; `version` counts up with every change."""

    schema: ClassVar = 1

    account: str
    version: int
    risk: RiskPolicy = msgspec.field(default_factory=RiskPolicy)
    funding: FundingPolicy = msgspec.field(default_factory=FundingPolicy)
    hedge: HedgePolicy = msgspec.field(default_factory=HedgePolicy)
    execution: ExecutionPolicy = msgspec.field(default_factory=ExecutionPolicy)
    safety: SafetyPolicy = msgspec.field(default_factory=SafetyPolicy)
    tactics: TacticsPolicy = msgspec.field(default_factory=TacticsPolicy)

    @property
    def follows_volatility(self) -> bool:
        """Some size depends on how much the price moves."""
        is_harvest = self.hedge.strategy is Strategy.VOL_HARVEST
        return is_harvest or self.tactics.fall_volatility_ref > 0
