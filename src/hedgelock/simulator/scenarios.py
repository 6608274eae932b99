"""Named market scripts. A scenario says what happens; `seed` and `speed` say how it is played.

Script times are seconds from the start, before the speed factor. Prices are USD per coin,
funding rates fractions per 8 h interval (+ = longs pay), ratios and LTVs fractions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from hedgelock.simulator.funding_clock import FundingTerms
from hedgelock.simulator.keys import KeyTerms
from hedgelock.simulator.matching import BookShape
from hedgelock.simulator.paths import Course, Path

if TYPE_CHECKING:
    from hedgelock.simulator.deeds import Deed


@dataclass(frozen=True, slots=True)
class RatioTier:
    """Collateral ratio of the coins between `qty_min` and `qty_max` (None = unbounded)."""

    qty_min: Decimal
    qty_max: Decimal | None
    ratio: Decimal


@dataclass(frozen=True, slots=True)
class AccountSetup:
    """An account and its pockets at the start; amounts in coins."""

    key: str
    secret: str
    unified: Mapping[str, Decimal] = field(default_factory=dict)
    fund: Mapping[str, Decimal] = field(default_factory=dict)
    collateral: Mapping[str, Decimal] = field(default_factory=dict)
    debt: Mapping[str, Decimal] = field(default_factory=dict)
    terms: KeyTerms = field(default_factory=KeyTerms)


@dataclass(frozen=True, slots=True)
class LoanTerms:
    """Terms of the crypto loan (product A) and of the unified account's auto-borrowing."""

    collateral_ratio: Mapping[str, tuple[RatioTier, ...]]
    ltv_initial: Decimal = Decimal("0.80")
    ltv_margin_call: Decimal = Decimal("0.85")
    ltv_delayed: Decimal = Decimal("0.93")
    delayed_s: float | None = None  # seconds at ltv_delayed that liquidate; None = never
    ltv_liquidation: Decimal = Decimal("0.95")
    liquidation_target: Decimal | None = None  # LTV that a partial sale restores; None = sell all
    liquidation_fee: Decimal = Decimal("0.02")  # fraction of the debt repaid, taken in collateral
    hourly_rate: Decimal = Decimal("0.0000018847396")
    amount_min: Decimal = Decimal(1)  # least amount to borrow, in USDT


@dataclass(frozen=True, slots=True)
class MarginTerms:
    """Terms of cross margin that are not per contract."""

    collateral_ratio: Mapping[str, tuple[RatioTier, ...]]
    borrow_mm_rate: Decimal = Decimal("0.04")
    borrow_im_rate: Decimal = Decimal("0.2")
    borrow_hourly_rate: Decimal = Decimal("0.0000034")
    borrow_max: Decimal = Decimal(8000000)
    leverage_default: Decimal = Decimal(10)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A market, its rules and its accounts.

    Keys of `funding`, `premium`, `intervals_h` and `settlements` are base coins or contracts
    ("linear.BTCUSDT"); the contract's own entry goes first. A contract with an entry in `funding`
    has a scripted rate, the others predict theirs by the formula.
    """

    name: str
    summary: str
    duration_s: float
    prices: Mapping[str, Path | Course]  # index price per base coin
    funding: Mapping[str, Path | Course]  # rates per interval
    settlements_s: tuple[float, ...]  # instants of all contracts; () = the UTC grid
    accounts: tuple[AccountSetup, ...]
    loan: LoanTerms
    margin: MarginTerms
    book: BookShape = field(default_factory=BookShape)
    noise_bps: float = 3.0
    funding_interval_h: int = 8
    premium: Mapping[str, Path | Course] = field(default_factory=dict)  # of mid over index
    intervals_h: Mapping[str, int] = field(default_factory=dict)
    settlements: Mapping[str, tuple[tuple[float, Decimal], ...]] = field(default_factory=dict)
    funding_terms: FundingTerms = field(default_factory=FundingTerms)
    books: Mapping[str, BookShape] = field(default_factory=dict)  # of single contracts
    basis_ms: int = 300_000  # the moving basis in the mark price averages over this
    insurance: Mapping[str, Decimal] = field(default_factory=lambda: dict(INSURANCE_POOLS))
    origin_ms: int = 0  # the UTC instant of script second 0, where recorded data has one
    deeds: tuple[Deed, ...] = ()


INSURANCE_POOLS: dict[str, Decimal] = {
    "USDT": Decimal(10_000_000), "BTC": Decimal(100), "ETH": Decimal(2_000),
    "linear.SOLUSDT": Decimal(500_000), "linear.XRPUSDT": Decimal(500_000),
}  # fmt: skip
"""Opening balances in settle coin: of pools that all contracts of a coin share, or isolated ones."""


def flat_ratio(ratio: str) -> tuple[RatioTier, ...]:
    """One collateral ratio for any amount."""
    return (RatioTier(Decimal(0), None, Decimal(ratio)),)


LOAN_TERMS = LoanTerms({"BTC": flat_ratio("1"), "ETH": flat_ratio("0.95"), "USDT": flat_ratio("1")})
MARGIN_TERMS = MarginTerms(
    {"BTC": flat_ratio("0.95"), "ETH": flat_ratio("0.9"), "USDT": flat_ratio("1")}
)


def twins(debt: str) -> tuple[AccountSetup, ...]:
    """The watched account and the unwatched one, with the same pockets."""
    return tuple(
        AccountSetup(
            key=name,
            secret=name,
            unified={"USDT": Decimal(6000), "BTC": Decimal("0.1")},
            collateral={"BTC": Decimal(1)},
            debt={"USDT": Decimal(debt)},
        )
        for name in ("hedgelock-sim", "unprotected-sim")
    )


def script(
    name: str,
    summary: str,
    *,
    btc: Path,
    funding: Path,
    settlements_s: tuple[float, ...],
    debt: str = "33000",
) -> Scenario:
    """A BTC script with a quiet ETH beside it, the twins as accounts and the usual terms."""
    return Scenario(
        name=name,
        summary=summary,
        duration_s=btc[-1][0],
        prices={"BTC": btc, "ETH": tuple((at, price / 20) for at, price in btc)},
        funding={"BTC": funding, "ETH": ((0, 0.0001),)},
        settlements_s=settlements_s,
        accounts=twins(debt),
        loan=LOAN_TERMS,
        margin=MARGIN_TERMS,
        basis_ms=30_000,  # a script plays in minutes what takes hours
    )


SCENARIOS: dict[str, Scenario] = {
    s.name: s
    for s in (
        script(
            "demo",
            "a slide that liquidates the unwatched twin, funding mania on the way, a recovery",
            btc=((0, 60000), (65, 37000), (70, 37000), (120, 52000)),
            funding=((0, 0.0002), (12, 0.0002), (25, -0.0015), (70, -0.0015), (80, 0.00005)),
            settlements_s=(45, 95),
            debt="36600",
        ),
        script(
            "calm",
            "ten minutes within one percent, resting funding",
            btc=((0, 60000), (150, 60400), (300, 59700), (450, 60300), (600, 60000)),
            funding=((0, 0.0001),),
            settlements_s=(120, 360),
        ),
        script(
            "crash",
            "a gap of 20 % within four seconds, then a grind lower",
            btc=((0, 60000), (20, 60000), (24, 48000), (60, 46500), (120, 41000), (180, 42000)),
            funding=((0, 0.0001), (20, 0.0001), (30, -0.0008), (180, -0.0004)),
            settlements_s=(60, 150),
        ),
        script(
            "mania",
            "a rally that drains a short, longs pay up to 410 % a year",
            btc=((0, 60000), (60, 69000), (120, 78000), (150, 76000), (180, 80000)),
            funding=((0, 0.0003), (60, 0.0015), (120, 0.00375), (180, 0.00375)),
            settlements_s=(40, 90, 140),
        ),
        script(
            "whipsaw",
            "five swings of ten percent and back, funding flips sign with each",
            btc=(
                (0, 60000), (20, 54000), (40, 60500), (60, 53500), (80, 60000), (100, 54500),
                (120, 61000), (140, 53000), (160, 60000), (180, 55000), (200, 60000),
            ),
            funding=(
                (0, 0.0005), (20, -0.0005), (40, 0.0005), (60, -0.0005), (80, 0.0005),
                (100, -0.0005), (120, 0.0005), (140, -0.0005), (160, 0.0005), (200, -0.0005),
            ),
            settlements_s=(30, 70, 110, 150, 190),
        ),
    )
}  # fmt: skip
