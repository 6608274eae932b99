"""Example values and hypothesis strategies for the domain's structs, and tables to fold against."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from decimal import Decimal as D
from typing import Any

import msgspec
from hypothesis import strategies as st

from hedgelock.domain.account import (
    AccountView,
    CoinBalance,
    FundBalance,
    FundRead,
    LoanCollateral,
    LoanDebt,
    LoanRead,
    Position,
    PositionChanged,
    PositionsRead,
    WalletRead,
    WithdrawableQty,
)
from hedgelock.domain.funding import FundingContext, FundingRate, FundingRegime
from hedgelock.domain.instrument import (
    CollateralTerms,
    CollateralTier,
    Instrument,
    MarginTier,
    Settlement,
)
from hedgelock.domain.market import MarketTick
from hedgelock.domain.message import Value
from hedgelock.domain.policy import Policy
from hedgelock.domain.safety import SafetyState
from hedgelock.domain.step import Now

ACCOUNT = "main"
LINEAR = "linear:BTCUSDT"
INVERSE = "inverse:BTCUSD"
T0 = 1_700_000_000_000
"""A moment in November 2023; where a test says "at t", it means milliseconds after it."""


def now(at_ms: int = 0) -> Now:
    """The moment T0 + `at_ms` as the runner would name it."""
    return Now(now_ms=T0 + at_ms, decision="test:main:1", log_id="00" * 16)


@dataclass
class Rows:
    """Tables in memory. A row that is not there is None, as on the bus."""

    markets: dict[str, MarketTick] = field(default_factory=dict)
    instruments: dict[str, Instrument] = field(default_factory=dict)
    collateral: dict[str, CollateralTerms] = field(default_factory=dict)
    fundings: dict[str, FundingContext] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)
    safeties: dict[str, SafetyState] = field(default_factory=dict)

    def market(self, instrument: str) -> MarketTick | None:
        """Latest prices."""
        return self.markets.get(instrument)

    def instrument(self, instrument: str) -> Instrument | None:
        """Contract terms."""
        return self.instruments.get(instrument)

    def terms(self, coin: str) -> CollateralTerms | None:
        """Collateral ratios."""
        return self.collateral.get(coin)

    def funding(self, instrument: str) -> FundingContext | None:
        """Latest funding context."""
        return self.fundings.get(instrument)

    def policy(self, account: str) -> Policy | None:
        """The account's limits."""
        return self.policies.get(account)

    def safety(self, account: str) -> SafetyState | None:
        """Safety's latest word."""
        return self.safeties.get(account)

    def having(self, *rows: Any) -> Rows:
        """A copy with these rows in place of the older ones."""
        after = replace(
            self, markets=dict(self.markets), instruments=dict(self.instruments),
            collateral=dict(self.collateral), fundings=dict(self.fundings),
            policies=dict(self.policies), safeties=dict(self.safeties),
        )
        for row in rows:
            match row:
                case MarketTick():
                    after.markets[row.instrument] = row
                case Instrument():
                    after.instruments[row.instrument] = row
                case CollateralTerms():
                    after.collateral[row.coin] = row
                case FundingContext():
                    after.fundings[row.instrument] = row
                case Policy():
                    after.policies[row.account] = row
                case SafetyState():
                    after.safeties[row.account] = row
                case _:
                    raise TypeError(row)
        return after


# ---------------------------------------------------------------- examples


def tick(
    price: str | Decimal = "60000", at_ms: int = 0, *, instrument: str = LINEAR,
    mark: str | Decimal | None = None,
) -> MarketTick:
    """Prices of one instrument, mark = index unless given."""
    return MarketTick(
        instrument=instrument, mark_price=D(mark if mark is not None else price),
        index_price=D(price), ts_event_ms=T0 + at_ms, ts_seen_ms=T0 + at_ms,
    )


TIERS = (
    MarginTier(notional_max=D(2_000_000), initial_rate=D("0.01"), maintenance_rate=D("0.005"),
               deduction=D(0)),
    MarginTier(notional_max=D(2_600_000), initial_rate=D("0.0111"), maintenance_rate=D("0.0056"),
               deduction=D(1_200)),
    MarginTier(notional_max=D(3_200_000), initial_rate=D("0.0125"), maintenance_rate=D("0.0063"),
               deduction=D(3_020)),
)
"""The first of BTCUSDT's margin tiers, help-center table (fact sheet §8.4)."""

INVERSE_TIERS = (
    MarginTier(notional_max=D(150), initial_rate=D("0.01"), maintenance_rate=D("0.005"),
               deduction=D(0)),
)


def linear(name: str = LINEAR, **changes: Any) -> Instrument:
    """BTCUSDT, or another linear contract named `linear:XYZUSDT`."""
    base = name.partition(":")[2].removesuffix("USDT")
    fields: dict[str, Any] = {
        "instrument": name, "settlement": Settlement.LINEAR, "base": base, "quote": "USDT",
        "settle": "USDT", "tick_size": D("0.1"), "lot_size": D("0.001"), "qty_min": D("0.001"),
        "notional_min": D(5), "taker_fee": D("0.00055"), "maker_fee": D("0.0002"), "tiers": TIERS,
        "ts_seen_ms": T0,
    }
    return Instrument(**(fields | changes))


def inverse(**changes: Any) -> Instrument:
    """BTCUSD, settled in BTC."""
    fields: dict[str, Any] = {
        "instrument": INVERSE, "settlement": Settlement.INVERSE, "base": "BTC", "quote": "USD",
        "settle": "BTC", "tick_size": D("0.1"), "lot_size": D(1), "qty_min": D(1),
        "taker_fee": D("0.00055"), "maker_fee": D("0.0002"), "tiers": INVERSE_TIERS,
        "ts_seen_ms": T0,
    }
    return Instrument(**(fields | changes))


def terms(coin: str = "BTC", *, loan: str = "1", margin: str = "0.95") -> CollateralTerms:
    """One open-ended ratio for the loan and one for the trading account."""
    return CollateralTerms(
        coin=coin,
        loan_tiers=(CollateralTier(qty_min=D(0), qty_max=None, ratio=D(loan)),),
        margin_tiers=(CollateralTier(qty_min=D(0), qty_max=None, ratio=D(margin)),),
        ts_seen_ms=T0,
    )


def funding_rate(
    rate: str | Decimal = "0.0001", at_ms: int = 0, *, interval_h: str | Decimal = "8",
    next_ms: int = 3_600_000, instrument: str = LINEAR,
) -> FundingRate:
    """A predicted rate, `at_ms` after T0."""
    return FundingRate(
        instrument=instrument, funding_rate=D(rate), funding_interval_h=D(interval_h),
        funding_next_ts_ms=T0 + next_ms, ts_event_ms=T0 + at_ms, ts_seen_ms=T0 + at_ms,
    )


def funding_context(
    apr: str = "0.1095", at_ms: int = 0, *, regime: FundingRegime = FundingRegime.NORMAL
) -> FundingContext:
    """A context of the hedge's instrument."""
    return FundingContext(
        instrument=LINEAR, apr=D(apr), regime=regime, since_ts_ms=T0, multiplier_long=D("0.9"),
        multiplier_short=D(1), funding_rate=D("0.0001"), funding_interval_h=D(8),
        funding_next_ts_ms=T0 + 3_600_000, reason="first_rate", ts_event_ms=T0 + at_ms,
        ts_seen_ms=T0 + at_ms,
    )


def policy(account: str = ACCOUNT, version: int = 1, **parts: Any) -> Policy:
    """The default limits; `risk=`, `hedge=`, `funding=` replace a part."""
    return Policy(account=account, version=version, **parts)


def coin(name: str, qty: str | Decimal, *, upl: str = "0", is_collateral: bool = True) -> CoinBalance:
    """One coin of the unified account."""
    qty = D(qty)
    return CoinBalance(
        coin=name, wallet_qty=qty, borrowed_qty=max(D(0), -qty), accrued_interest=D(0), upl=D(upl),
        locked_qty=D(0), is_collateral=is_collateral,
    )


def wallet(*coins: CoinBalance, at_ms: int = 0, account: str = ACCOUNT) -> WalletRead:
    """The unified account; 6,000 USDT and 0.1 BTC unless given."""
    coins = coins or (coin("USDT", "6000"), coin("BTC", "0.1"))
    return WalletRead(
        account=account, coins=coins,
        withdrawable=tuple(
            WithdrawableQty(coin=c.coin, qty=max(D(0), c.wallet_qty)) for c in coins
        ),
        margin_balance=None, maintenance_margin=None, margin_ratio=None,
        ts_requested_ms=T0 + at_ms - 50, ts_event_ms=T0 + at_ms, ts_seen_ms=T0 + at_ms,
    )


def position(
    qty: str | Decimal, entry: str | Decimal = "60000", *, instrument: str = LINEAR, seq: int = 1
) -> Position:
    """One position; + = long."""
    return Position(
        instrument=instrument, position_qty=D(qty), entry_price=D(entry), upl=D(0),
        liquidation_price=None, leverage=None, status="Normal", adl_rank=0, seq=seq,
    )


def positions(*rows: Position, at_ms: int = 0, account: str = ACCOUNT) -> PositionsRead:
    """A complete read; flat unless rows are given."""
    return PositionsRead(
        account=account, positions=rows, ts_requested_ms=T0 + at_ms - 50, ts_event_ms=T0 + at_ms,
        ts_seen_ms=T0 + at_ms,
    )


def pushed(row: Position, at_ms: int = 0, account: str = ACCOUNT) -> PositionChanged:
    """A push of one position, seen `at_ms` after T0."""
    return PositionChanged(
        account=account, position=row, ts_event_ms=T0 + at_ms, ts_seen_ms=T0 + at_ms
    )


def fund(usdt: str | Decimal = "0", at_ms: int = 0, *, account: str = ACCOUNT) -> FundRead:
    """FUND with some USDT."""
    return FundRead(
        account=account,
        balances=(FundBalance(coin="USDT", qty=D(usdt), transferable_qty=D(usdt)),),
        ts_requested_ms=T0 + at_ms - 50, ts_event_ms=T0 + at_ms, ts_seen_ms=T0 + at_ms,
    )


def loan(
    debt: str | Decimal = "36600", btc: str | Decimal = "1", at_ms: int = 0, *,
    account: str = ACCOUNT, ltv: str | None = None, others: Iterable[tuple[str, str]] = (),
) -> LoanRead:
    """A USDT debt against BTC, and `others` (coin, qty) pledged beside it."""
    return LoanRead(
        account=account,
        debts=(LoanDebt(coin="USDT", qty=D(debt), hourly_rate=D("0.0000018")),),
        collateral=(
            LoanCollateral(coin="BTC", qty=D(btc)),
            *(LoanCollateral(coin=name, qty=D(qty)) for name, qty in others),
        ),
        ltv=None if ltv is None else D(ltv), collateral_state=0,
        ts_requested_ms=T0 + at_ms - 50, ts_event_ms=T0 + at_ms, ts_seen_ms=T0 + at_ms,
    )


def facts(at_ms: int = 0) -> tuple[WalletRead, PositionsRead, FundRead, LoanRead]:
    """The demo account: 1 BTC pledged for 36,600 USDT, 6,000 USDT and 0.1 BTC to trade with."""
    return wallet(at_ms=at_ms), positions(at_ms=at_ms), fund(at_ms=at_ms), loan(at_ms=at_ms)


def view(*rows: Any) -> AccountView:
    """A view of these facts; the demo account's where none is given of a kind."""
    kinds = dict(zip(("wallet", "positions", "fund", "loan"), facts(), strict=True))
    for row in rows:
        name = {WalletRead: "wallet", PositionsRead: "positions", FundRead: "fund",
                LoanRead: "loan"}[type(row)]
        kinds[name] = row
    return AccountView(**kinds)


def rows(price: str | Decimal = "60000", at_ms: int = 0) -> Rows:
    """Every table row that the demo account needs, fresh at T0 + `at_ms`."""
    return Rows().having(
        tick(price, at_ms), linear(), terms(), funding_context(at_ms=at_ms), policy()
    )


# ---------------------------------------------------------------- hypothesis: any struct at all

def _number(digits: int, size: int) -> Decimal:
    """These digits, the first of them worth 10^size; 1E+30 at most."""
    number = D(digits)
    return max(D("-1E+30"), min(D("1E+30"), number.scaleb(size - number.adjusted())))


# `st.decimals` without places goes through fractions, a new strategy for each number: a tenth as fast.
_USABLE = st.builds(_number, st.integers(-(10**28), 10**28), st.integers(-30, 30))
_PLAIN = st.decimals(min_value=-1_000_000, max_value=1_000_000, places=8)
_NUMBERS = _PLAIN | _USABLE
_TIMES = st.integers(min_value=T0 - 100_000, max_value=T0 + 100_000)
_NAMES = st.sampled_from(["BTC", "USDT", "ETH", LINEAR, INVERSE, "linear:ETHUSDT", "main", ""])


def decimals(*, positive: bool = False, non_negative: bool = False) -> st.SearchStrategy[Decimal]:
    """Any number that may stand in a message: everyday ones and absurd ones."""
    if positive:
        return _NUMBERS.map(abs).filter(bool)
    return _NUMBERS.map(abs) if non_negative else _NUMBERS


def structs(kind: type[Any], **fixed: Any) -> st.SearchStrategy[Any]:
    """Any value of a msgspec struct that passes its own checks; `fixed` fields as given.

    A field given as a strategy is drawn from it.
    """
    hints = typing.get_type_hints(kind)
    if kind is Instrument and "tiers" not in fixed:
        fixed["tiers"] = st.lists(structs(MarginTier), max_size=3).map(
            lambda tiers: tuple(sorted(tiers, key=lambda tier: tier.notional_max))
        )
    parts: dict[str, st.SearchStrategy[Any]] = {}
    for entry in msgspec.structs.fields(kind):
        given = fixed.get(entry.name)
        if isinstance(given, st.SearchStrategy):
            parts[entry.name] = given
        elif entry.name in fixed:
            parts[entry.name] = st.just(given)
        else:
            parts[entry.name] = _of_type(hints[entry.name], entry.name, kind)
    return st.builds(kind, **parts)


def _of_type(hint: Any, name: str, owner: type[Any]) -> st.SearchStrategy[Any]:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return st.one_of([_of_type(arg, name, owner) for arg in args])
    if origin is tuple:
        if args[-1] is Ellipsis:
            return st.lists(_of_type(args[0], name, owner), max_size=3).map(tuple)
        return st.tuples(*(_of_type(arg, name, owner) for arg in args))
    if hint is Decimal:
        is_value = issubclass(owner, Value)
        return decimals(
            positive=is_value and name in owner.positive,
            non_negative=is_value and name in owner.non_negative,
        )
    if hint is int:
        return _TIMES if name.endswith("_ms") else st.integers(min_value=-1, max_value=100)
    if hint is type(None):
        return st.none()
    if hint is bool:
        return st.booleans()
    if hint is str:
        return _NAMES
    if issubclass(hint, enum.Enum):
        return st.sampled_from(list(hint))
    return structs(hint)


# ---------------------------------------------------------------- hypothesis: likely worlds


def prices(low: int = 20_000, high: int = 120_000) -> st.SearchStrategy[Decimal]:
    """A price of BTC to the cent."""
    return st.decimals(min_value=low, max_value=high, places=2)


def amounts(low: str, high: str, places: int = 4) -> st.SearchStrategy[Decimal]:
    """A number in [low, high]."""
    return st.decimals(min_value=D(low), max_value=D(high), places=places)


@st.composite
def pockets(draw: st.DrawFn, at_ms: int = 0) -> Sequence[Any]:
    """The four facts of a likely account: some debt, BTC and perhaps ETH pledged, perps held."""
    held = draw(st.lists(st.sampled_from([LINEAR, INVERSE]), unique=True, max_size=2))
    books = [
        position(
            draw(amounts("-2", "2", 3) if name == LINEAR else amounts("-50000", "50000", 0)),
            draw(prices()), instrument=name,
        )
        for name in held
    ]
    others = draw(st.sampled_from([(), (("ETH", "3"),)]))
    return (
        wallet(coin("USDT", draw(amounts("-2000", "20000", 2))),
               coin("BTC", draw(amounts("-0.01", "1"))), at_ms=at_ms),
        positions(*books, at_ms=at_ms),
        fund(draw(amounts("0", "5000", 2)), at_ms),
        loan(draw(amounts("0", "80000", 2)), draw(amounts("0", "2")), at_ms, others=others),
    )


def all_rows(price: Decimal, eth: Decimal = D(3000), at_ms: int = 0) -> Rows:
    """Table rows for every instrument that `pockets` may hold."""
    return rows(price, at_ms).having(
        tick(price, at_ms, instrument=INVERSE), inverse(),
        tick(eth, at_ms, instrument="linear:ETHUSDT"), terms("ETH", loan="0.9", margin="0.9"),
    )
