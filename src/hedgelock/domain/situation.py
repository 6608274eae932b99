"""Everything one hedging decision looks at, in one value, and the reasons it may give.

`Situation` is plain numbers: no memory, no tables. `sizing.decide` and the strategies are
functions of it, so that the backtest and what-if screens call the very same code.
"""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import NamedTuple

from hedgelock.domain.headroom import Headroom
from hedgelock.domain.inflight import Exposure, Purpose
from hedgelock.domain.instrument import Instrument
from hedgelock.domain.money import ONE, ZERO, clip
from hedgelock.domain.order import Side
from hedgelock.domain.policy import ExecutionPolicy, HedgePolicy, TacticsPolicy
from hedgelock.domain.risk import Confidence, RiskState
from hedgelock.domain.safety import SafetyMode
from hedgelock.domain.short_leg import ShortLeg
from hedgelock.domain.treasury import TreasuryKind


class HedgeReason(enum.Enum):
    """Why the hedger acted, or why it did not."""

    # It acted.
    HEDGE_RAISED = "hedge_raised"
    HEDGE_LOWERED = "hedge_lowered"
    MARGIN_LOWERED = "margin_lowered"
    """The pocket could not carry the short through a rally (h > h_cap)."""
    NET_SHORT_LOWERED = "net_short_lowered"
    """The short exceeded C + b."""
    HARVEST_REPAY = "harvest_repay"
    URGENT_REPAY = "urgent_repay"
    HARVEST_REALISE = "harvest_realise"
    HARVEST_REOPEN = "harvest_reopen"
    COLLATERAL_REPAY = "collateral_repay"
    REFILL = "refill"
    FUND_RETURN = "fund_return"
    QUOTE_COVERED = "quote_covered"
    SAFETY_CANCEL = "safety_cancel"
    OPERATOR_FLATTEN = "operator_flatten"
    # Nothing to do.
    WITHIN_BAND = "within_band"
    KILLED = "killed"
    # Something to do, but not now.
    ORDER_IN_FLIGHT = "order_in_flight"
    BACKING_OFF = "backing_off"
    """The last intent came to nothing."""
    SETTLING = "settling"
    TREASURY_IN_FLIGHT = "treasury_in_flight"
    CAPPED_BY_MARGIN = "capped_by_margin"
    BELOW_MINIMUM = "below_minimum"
    HALTED = "halted"
    PINNED = "pinned"
    """The operator wants the hedge left as it is."""
    INPUT_STALE = "input_stale"
    FUNDING_UNKNOWN = "funding_unknown"
    SETTLEMENT_NEAR = "settlement_near"
    """Discretionary size waits until a settlement that it would pay is over."""
    LOWERING_FIRST = "lowering_first"
    """The repayment waits until the short is small enough for the pocket that remains."""
    COVER_IMPOSSIBLE = "cover_impossible"
    """The pocket owes USDT and has no coins, market or fresh price to cover it with."""
    NOTHING_TO_REPAY_WITH = "nothing_to_repay_with"
    # No decision is possible.
    INPUT_ABSENT = "input_absent"
    NO_ASSESSMENT = "no_assessment"
    NO_POLICY = "no_policy"
    POLICY_INVALID = "policy_invalid"
    NO_INSTRUMENT = "no_instrument"
    NO_TERMS = "no_terms"
    ACCOUNT_UNREAD = "account_unread"
    UNRECONCILED = "unreconciled"
    """A message was lost to quarantine and the account has not been read anew since."""
    RESERVE_UNSET = "reserve_unset"
    FOREIGN_DEBT = "foreign_debt"
    """The loan owes another coin than the policy's quote: not valued here."""
    UNSUPPORTED_INSTRUMENT = "unsupported_instrument"


class Balances(NamedTuple):
    """The two pockets as they stand: last settled values, known effects, re-marked.

    USDT unless said otherwise. `equity` is U (after every transfer ordered), `fund` F, `debt` D.
    """

    equity: Decimal
    cash: Decimal
    """The wallet's USDT without unrealised profit; may be < 0."""
    withdrawable: Decimal
    """What the venue lets out, as last read; valid while settled."""
    fund: Decimal
    debt: Decimal
    coin_qty: Decimal
    """b: the pocket's coins, ≥ 0."""
    collateral_qty: Decimal
    """C: coins locked with the loan, ≥ 0."""


class ShortFunding(NamedTuple):
    """What funding means for the short now; fresh, or there is none."""

    apr: Decimal
    """Signed, + = the short receives."""
    income_bps: Decimal | None
    """What 72 h are expected to bring, bps of notional; None = not forecast."""


TACTICS = TacticsPolicy()


class Situation(NamedTuple):
    """One account at one moment. Prices quote per base; h in coins, + = short."""

    policy: HedgePolicy
    execution: ExecutionPolicy
    instrument: Instrument
    spot: Instrument | None
    mode: SafetyMode
    confidence: Confidence
    risk_state: RiskState
    mark_price: Decimal
    index_price: Decimal
    counted_value: Decimal
    """V: the loan's collateral as the venue counts it, USDT."""
    loan_ratio: Decimal
    """κ_c: counted part of one locked coin, 0..1."""
    reserve: Decimal
    multiplier: Decimal | None
    """m of the short side; None = funding not known now."""
    balances: Balances
    exposure: Exposure
    entry_price: Decimal | None
    """Average entry of the short held; None = none held."""
    headroom: Headroom
    is_settled: bool
    has_treasury: bool
    has_spot_order: bool
    has_hedge_order: bool
    reopen_qty: Decimal
    realising: Decimal
    """What is left of a realisation that was decided on settled money, USDT."""
    has_realised: bool
    """Gains were realised for this claim: what they brought is paid before more is realised."""
    may_order: bool
    """False shortly after an order that came to nothing."""
    may_move: bool
    """The same for treasury actions."""
    is_hedge_pinned: bool = False
    """The operator wants the hedge left as it is."""
    is_repay_forbidden: bool = False
    """The operator wants nothing repaid."""
    sale_guard: HedgeReason | None = None
    """Why no discretionary sale is opened now, as its executor would say; None = it may be."""

    tactics: TacticsPolicy = TACTICS
    volatility_day: Decimal | None = None
    """σ of a day's log return; None = not known."""
    funding: ShortFunding | None = None
    leg: ShortLeg = ShortLeg()
    """What is remembered of the discretionary short."""
    interest_hourly: Decimal | None = None
    """What the loan costs per hour, fraction; None = not known."""

    @property
    def is_urgent(self) -> bool:
        """LTV has reached `urgent_at`: the loan is paid whatever the operator pinned."""
        return self.balances.debt >= self.policy.urgent_at * self.counted_value

    @property
    def fall(self) -> Decimal:
        """s: `stress_fall`, or with the volatility s·σ ÷ σ_ref within bounds, where policy says so.

        Not known volatility changes nothing: s is `stress_fall`.
        """
        base, ref, sigma = self.policy.stress_fall, self.tactics.fall_volatility_ref, self.volatility_day
        if not ref or sigma is None:
            return base
        return clip(base * sigma / ref, self.tactics.fall_min, self.tactics.fall_max)

    @property
    def net_need(self) -> Decimal:
        """N = D − F + R − U: what realising, moving or repaying a gain does not change. USDT."""
        held = self.balances
        return held.debt - held.fund + self.reserve - held.equity

    @property
    def short_max(self) -> Decimal:
        """C + b: beyond it the account would be net short. Coins."""
        return self.balances.collateral_qty + self.balances.coin_qty

    def discretionary_held(self, protective: Decimal) -> Decimal:
        """The short that is certain beyond the protective part, coins ≥ 0."""
        return max(ZERO, self.exposure.low - protective)

    @property
    def money_min(self) -> Decimal:
        """Loan actions below this wait, USDT."""
        return self.policy.action_fraction_min * self.counted_value

    @property
    def cover_min(self) -> Decimal:
        """The pocket may owe so much, and has so much after a cover, USDT.

        Each cover sells twice that: prices and fees around zero must not sell coins crumb by crumb.
        """
        least = self.spot.notional_min if self.spot is not None else None
        return max(self.policy.cover_fraction * self.counted_value, least or ZERO)

    @property
    def is_fresh(self) -> bool:
        """Every input is as young as policy asks."""
        return self.confidence is Confidence.FRESH


class OrderAction(NamedTuple):
    """An order decided; `step` gives it its identity."""

    side: Side
    qty: Decimal
    reduce_only: bool
    protective: bool
    purpose: Purpose
    reason: HedgeReason
    realise_rest: Decimal = ZERO
    """A slice: what further slices have to realise, USDT."""


class MoneyAction(NamedTuple):
    """A treasury action decided; amounts in the quote coin."""

    kind_of: TreasuryKind
    amount: Decimal
    transfer_amount: Decimal
    reason: HedgeReason


class CancelAction(NamedTuple):
    """Cancel every open intent."""

    reason: HedgeReason


Action = OrderAction | MoneyAction | CancelAction


def stressed_ltv(situation: Situation, short: Decimal) -> Decimal | None:
    """ltv_net(−s) with `short` coins: (N − h·P·(s − c·(1−s))) ÷ (V·(1−s)); None = infinite."""
    fall = situation.fall
    left = ONE - fall
    value = situation.counted_value * left
    if value <= ZERO:
        return None
    gain = short * situation.mark_price * (fall - situation.policy.cost_rate * left)
    return (situation.net_need - gain) / value
