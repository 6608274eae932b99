"""What the venue charges and where its cliffs are, and the setting of one run.

Numbers default to the simulated exchange's own (`simulator.scenarios`, `simulator.instruments`); the
loan's rate is a year's simple rate, compounded hourly as the exchange does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from decimal import Decimal as D
from functools import cached_property

from hedgelock.domain.instrument import Instrument, MarginTier, Settlement
from hedgelock.simulator.instruments import CONTRACTS, Contract
from hedgelock.simulator.scenarios import LOAN_TERMS, MARGIN_TERMS, MarginTerms

HOURS_PER_YEAR = 8760


@dataclass(frozen=True)
class Terms:
    """Fees, rates and cliffs. Fractions; LTVs as the venue computes them."""

    base: str = "BTC"
    slippage: Decimal = D("0.00045")
    """Worse than the mark by this fraction; with the taker fee it is the policy's c = .001."""
    loan_apr: Decimal = D("0.05")
    loan_ratio: Decimal = D(1)
    ltv_initial: Decimal = LOAN_TERMS.ltv_initial
    ltv_margin_call: Decimal = LOAN_TERMS.ltv_margin_call
    ltv_liquidation: Decimal = LOAN_TERMS.ltv_liquidation
    liquidation_fee: Decimal = LOAN_TERMS.liquidation_fee
    """Of the debt repaid out of collateral, by liquidation or on purpose."""
    conversion_fee: Decimal = D("0.001")
    margin: MarginTerms = field(default=MARGIN_TERMS)

    @cached_property
    def perp(self) -> Contract:
        """The linear contract that hedges."""
        return CONTRACTS[f"linear.{self.base}USDT"]

    @cached_property
    def spot(self) -> Contract:
        """The spot pair that covers negative USDT."""
        return CONTRACTS[f"spot.{self.base}USDT"]

    @property
    def loan_hourly(self) -> Decimal:
        """Interest of an hour, fraction of the debt."""
        return self.loan_apr / HOURS_PER_YEAR

    @cached_property
    def coin_ratio(self) -> Decimal:
        """κ: what margin counts of one of the pocket's coins (lowest tier)."""
        return self.margin.collateral_ratio[self.base][0].ratio

    @cached_property
    def instrument(self) -> Instrument:
        """The perpetual as the domain sees it."""
        return _instrument(self.perp)

    @cached_property
    def spot_instrument(self) -> Instrument:
        """The spot pair as the domain sees it."""
        return _instrument(self.spot)


def _instrument(c: Contract) -> Instrument:
    settlement = Settlement.SPOT if c.is_spot else Settlement.LINEAR
    return Instrument(
        instrument=f"{c.category}:{c.symbol}", settlement=settlement, base=c.base, quote=c.quote,
        settle=c.settle, tick_size=c.tick, lot_size=c.lot, qty_min=c.qty_min, qty_max=c.qty_max,
        qty_market_max=c.qty_max_market, notional_min=c.notional_min, taker_fee=c.taker_rate,
        maker_fee=c.maker_rate, ts_seen_ms=0,
        tiers=tuple(
            MarginTier(notional_max=t.limit, initial_rate=t.im_rate, maintenance_rate=t.mm_rate,
                       deduction=t.deduction)
            for t in c.tiers
        ),
    )


@dataclass(frozen=True, slots=True)
class Setting:
    """One account and how it is run. Pockets are fractions of the collateral's value at the start."""

    ltv: Decimal = D("0.65")
    pocket_usdt: Decimal = D("0.10")
    pocket_coins: Decimal = D("0.10")
    collateral: Decimal = D(1)
    """C, coins."""
    every: int = 1
    """Decide at each n-th bar's close."""
    delay: int = 0
    """A loan action decided at a close lands this many bars later."""
    latency: float = 0.0
    """An order decided at a close fills this part of the way (0..1) to the next close."""
