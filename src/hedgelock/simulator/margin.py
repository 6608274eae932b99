"""Cross margin and loan-to-value as the simulated exchange computes them.

Written from the exchange's rules and apart from HedgeLock's own margin code on purpose: shared
code would make every proof circular. All sums are USD; USDT and USD count as 1.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType

from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.money import ONE, ZERO
from hedgelock.simulator.scenarios import MarginTerms, RatioTier

NOTHING: Mapping[str, Decimal] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Exposure:
    """A position and the open orders of its contract, all in contract quantities."""

    contract: Contract
    size: Decimal  # + long, − short
    entry_value: Decimal  # Σ qty × price (linear, quote) or Σ qty ÷ price (inverse, base); ≥ 0
    mark: Decimal
    leverage: Decimal
    buying: Decimal = ZERO  # open buy orders that may add exposure, ≥ 0
    selling: Decimal = ZERO

    @property
    def value(self) -> Decimal:
        """Position value at mark ≥ 0, in settle coin."""
        return self.contract.value(abs(self.size), self.mark)

    @property
    def upl(self) -> Decimal:
        """Unrealised profit (+) or loss (−) at mark, in settle coin."""
        if not self.size:
            return ZERO
        gain = self.value - self.entry_value
        return gain if (self.size > 0) is not self.contract.is_inverse else -gain


@dataclass(frozen=True, slots=True)
class Requirement:
    """Initial and maintenance margin of one contract, in settle coin."""

    order_im: Decimal
    position_im: Decimal
    position_mm: Decimal


@dataclass(frozen=True, slots=True)
class CoinState:
    """One coin of the unified pocket; coins except where noted."""

    wallet: Decimal
    upl: Decimal
    price: Decimal  # USD per coin
    ratio: Decimal  # effective collateral ratio of the wallet
    borrowed: Decimal
    order_im: Decimal
    position_im: Decimal
    position_mm: Decimal
    owed: Decimal = ZERO  # borrowed by hand: cash in the wallet and a debt
    collateral: bool = True  # whether the wallet counts as collateral

    @property
    def equity(self) -> Decimal:
        """Wallet plus unrealised profit, less what was borrowed by hand."""
        return self.wallet - self.owed + self.upl


@dataclass(frozen=True, slots=True)
class MarginReport:
    """State of a unified pocket in USD."""

    coins: Mapping[str, CoinState] = field(default_factory=dict)
    equity: Decimal = ZERO  # without haircut
    wallet: Decimal = ZERO  # with haircut
    upl: Decimal = ZERO
    initial: Decimal = ZERO
    maintenance: Decimal = ZERO

    @property
    def balance(self) -> Decimal:
        """Margin balance."""
        return self.wallet + self.upl

    @property
    def available(self) -> Decimal:
        """What may still be used as initial margin; may be negative."""
        return self.balance - self.initial

    @property
    def im_rate(self) -> Decimal:
        """Initial margin ÷ margin balance."""
        return _rate(self.initial, self.balance)

    @property
    def mm_rate(self) -> Decimal:
        """Maintenance margin ÷ margin balance; liquidation at ≥ 1."""
        return _rate(self.maintenance, self.balance)


def _rate(margin: Decimal, balance: Decimal) -> Decimal:
    if balance <= 0:
        return Decimal(999) if margin > 0 else ZERO
    return margin / balance


def tiered(amount: Decimal, tiers: Sequence[RatioTier]) -> Decimal:
    """Σ of amount × ratio over the tiers; `amount` ≥ 0 in coins."""
    total = ZERO
    for tier in tiers:
        top = amount if tier.qty_max is None else min(amount, tier.qty_max)
        if top > tier.qty_min:
            total += (top - tier.qty_min) * tier.ratio
    return total


def require(exposure: Exposure) -> Requirement:
    """Margin of a position and its orders: by the tier of their value at mark, plus closing fee."""
    c = exposure.contract
    held = abs(exposure.size)
    longest = max(ZERO, exposure.size + exposure.buying)
    shortest = max(ZERO, exposure.selling - exposure.size)
    added = max(longest, shortest, held) - held
    value, order_value = exposure.value, c.value(added, exposure.mark)
    if not value + order_value:
        return Requirement(ZERO, ZERO, ZERO)
    _, tier = c.tier(value + order_value)
    im_rate = max(ONE / exposure.leverage, tier.im_rate)
    fee = value * c.taker_rate
    mm = max(ZERO, value * tier.mm_rate - tier.deduction) + fee if value else ZERO
    return Requirement(
        order_im=order_value * (im_rate + c.taker_rate),
        position_im=value * im_rate + fee,
        position_mm=mm,
    )


def assess(
    wallets: Mapping[str, Decimal],
    exposures: Iterable[Exposure],
    *,
    prices: Mapping[str, Decimal],
    terms: MarginTerms,
    owed: Mapping[str, Decimal] = NOTHING,
    idle: Container[str] = (),
) -> MarginReport:
    """Margin state of a pocket. `prices` are USD per coin for every coin held or settled in.

    `owed` was borrowed by hand (its cash is in the wallet); `idle` coins are no collateral.
    Borrowed per coin = owed + max(0, −(wallet + upl)), the second part being automatic.
    """
    sums: dict[str, list[Decimal]] = {coin: [ZERO] * 4 for coin in (*wallets, *owed)}
    for exposure in exposures:
        need = require(exposure)
        row = sums.setdefault(exposure.contract.settle, [ZERO] * 4)
        row[0] += exposure.upl
        row[1] += need.order_im
        row[2] += need.position_im
        row[3] += need.position_mm
    coins: dict[str, CoinState] = {}
    equity = wallet_usd = upl_usd = initial = maintenance = ZERO
    for coin, (upl, order_im, position_im, position_mm) in sorted(sums.items()):
        price, wallet = prices[coin], wallets.get(coin, ZERO)
        debt = owed.get(coin, ZERO)
        borrowed = debt + max(ZERO, -(wallet + upl))
        collateral = wallet
        counts = coin in terms.collateral_ratio and coin not in idle
        if wallet > 0:
            collateral = tiered(wallet, terms.collateral_ratio[coin]) if counts else ZERO
        ratio = collateral / wallet if wallet else ONE
        coins[coin] = CoinState(
            wallet, upl, price, ratio, borrowed, order_im, position_im, position_mm,
            owed=debt, collateral=counts,
        )  # fmt: skip
        equity += (wallet - debt + upl) * price
        wallet_usd += (collateral - debt) * price
        upl_usd += upl * price
        initial += (order_im + position_im + borrowed * terms.borrow_im_rate) * price
        maintenance += (position_mm + borrowed * terms.borrow_mm_rate) * price
    return MarginReport(coins, equity, wallet_usd, upl_usd, initial, maintenance)


def withdrawable(report: MarginReport, coin: str) -> Decimal:
    """Coins that may leave the pocket: wallet only, less unrealised losses and used margin."""
    state = report.coins.get(coin)
    if state is None:
        return ZERO
    own = max(ZERO, state.wallet + min(ZERO, state.upl))
    if not state.ratio:  # no collateral: margin does not miss it
        return own
    return min(own, max(ZERO, report.available / (state.price * state.ratio)))


def loan_to_value(debt_usd: Decimal, collateral_usd: Decimal) -> Decimal:
    """LTV of the crypto loan; without collateral a debt counts as 999, never as 0."""
    if debt_usd <= 0:
        return ZERO
    return debt_usd / collateral_usd if collateral_usd > 0 else Decimal(999)


def isolated_liquidation_price(
    contract: Contract, *, size: Decimal, entry: Decimal, leverage: Decimal
) -> Decimal:
    """Price at which an isolated position (size + long, − short) is liquidated, lowest tier."""
    qty, (_, tier) = abs(size), contract.tier(ZERO)
    long = size > 0
    if contract.is_inverse:
        coins = qty / entry
        step = coins / leverage
        if long:
            return qty * (1 + tier.mm_rate) / (coins + step)
        return qty * (1 - tier.mm_rate) / (coins - step)
    if long:
        return entry * (1 - ONE / leverage) / (1 - tier.mm_rate)
    return entry * (1 + ONE / leverage) / (1 + tier.mm_rate)
