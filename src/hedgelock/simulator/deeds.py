"""Events of a script that change the world: who is deleveraged, what gaps, which rule is bent.

    Deed(at_s=20, kind="price_gap", coin="BTC", amount=Decimal("-0.2"))

A deed acts at its exact script second; one with `until_s` is undone then. Same script, same world.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from hedgelock.simulator import adl, human_deeds
from hedgelock.simulator.incidents import Incident
from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.matching import BUY
from hedgelock.simulator.money import ONE, ZERO
from hedgelock.simulator.scenarios import AccountSetup, RatioTier
from hedgelock.simulator.state import Account, Exchange
from hedgelock.simulator.trading import cancel

ADL_GAP = Decimal("0.005")  # of mark: how much worse the bankrupt side's price is for a winner
BYSTANDER_MARGIN = Decimal("0.02")  # of position value: what a bystander has deposited
BYSTANDER_LOSS = Decimal("0.03")  # of position value: how far under water it is
Undo = Callable[[], None]
Place = Callable[[Account, str, Mapping[str, object]], str]
Ratios = Mapping[str, tuple[RatioTier, ...]]


@dataclass(frozen=True, slots=True)
class Deed:
    """One event. What `amount` means, and which other fields are needed, depends on the kind."""

    at_s: float  # script second
    kind: str  # a key of KINDS
    account: str = ""
    symbol: str = ""  # "linear.BTCUSDT"; without a category the linear contract is meant
    coin: str = ""
    side: str = ""  # Buy or Sell
    amount: Decimal = ZERO
    until_s: float | None = None  # script second at which it is undone, where it can be

    def __post_init__(self) -> None:
        kind = KINDS.get(self.kind)
        if kind is None:
            raise ValueError(f"deed kind {self.kind!r} is unknown; known: {', '.join(KINDS)}")
        missing = [name for name in kind.needs if not getattr(self, name)]
        if missing:
            raise ValueError(f"deed {self.kind!r} at {self.at_s} s needs {', '.join(missing)}")
        if self.side not in {"", "Buy", "Sell"}:
            raise ValueError(f"deed {self.kind!r} at {self.at_s} s: side is Buy or Sell")
        if self.until_s is not None and not (kind.ends and self.until_s > self.at_s):
            raise ValueError(f"deed {self.kind!r} at {self.at_s} s cannot end at {self.until_s} s")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a kind of deed does, the fields it needs, and whether `until_s` may undo it."""

    says: str
    needs: tuple[str, ...] = ()
    ends: bool = False


KINDS: dict[str, Kind] = {
    "adl": Kind(
        "deleverages `amount` (share 0..1) of the account's position in `symbol`",
        ("account", "symbol", "amount"),
    ),
    "price_gap": Kind(
        "moves the price of `coin` by the fraction `amount` at once, for good or until `until_s`",
        ("coin", "amount"),
        ends=True,
    ),
    "premium_gap": Kind(
        "moves the perpetual's book off its index by the fraction `amount`",
        ("symbol", "amount"),
        ends=True,
    ),
    "funding_interval": Kind(
        "funding of `symbol` settles every `amount` hours from now on, then as before",
        ("symbol", "amount"),
        ends=True,
    ),
    "funding_rate": Kind(
        "the funding rate of `symbol` is `amount` (a fraction per interval) instead of predicted",
        ("symbol", "amount"),
        ends=True,
    ),
    "ratio_cut": Kind(
        "cuts every collateral ratio of `coin`, loan and unified, by `amount` (.05 = 5 points)",
        ("coin", "amount"),
        ends=True,
    ),
    "colres": Kind("sets the loan's colRes to `amount`: 0, 1 or 2 (top-up refused)", ends=True),
    "tiers_missing": Kind("market/risk-limit answers without rows", ends=True),
    "wallet_blank": Kind('every account-level wallet field is "", as in isolated margin', ends=True),
    "maintenance": Kind(
        "trading and loans answer 10016, reads go on; its end forgets what closed recently",
        ends=True,
    ),
    "reduce_only": Kind("`symbol` takes closing orders only", ("symbol",), ends=True),
    "delist": Kind("`symbol` takes no orders and loses the resting ones", ("symbol",), ends=True),
    "insurance_drain": Kind("empties the insurance pool `coin`, or the isolated one of a contract", ("coin",)),
    "human_order": Kind(
        "a market order of `amount` by the account itself, as if in the app: no orderLinkId",
        ("account", "symbol", "side", "amount"),
    ),
    "human_close": Kind(
        "the account closes its position in `symbol` in the app", ("account", "symbol")
    ),
    "human_cancel": Kind(
        "the account cancels all its orders in `symbol` in the app", ("account", "symbol")
    ),
    "human_transfer": Kind(
        "the account moves `amount` of `coin` from its unified pocket to FUND (negative: back) in the app",
        ("account", "coin", "amount"),
    ),
    "human_repay": Kind(
        "the account repays `amount` of its loan in `coin` from FUND in the app",
        ("account", "coin", "amount"),
    ),
    "bystander": Kind(
        "somebody else holds `amount` (whole lots) of `symbol`, under water, and is liquidated",
        ("symbol", "side", "amount"),
    ),
}


@dataclass(slots=True)
class Agenda:
    """Deeds still to be done or undone, by script second; those of one second in given order."""

    x: Exchange
    place: Place  # serves a POST of an account as the venue does; returns why it was refused, or ""
    waiting: list[tuple[float, int, Deed | Undo]] = field(default_factory=list)
    refused: list[tuple[Deed, str]] = field(default_factory=list)  # what a human could not do
    by_hand: set[str] = field(default_factory=set)  # ids of transfers and repayments made in the app
    _count: int = 0

    def add(self, deed: Deed) -> None:
        """Put a deed on the agenda; one about an unknown contract or coin is refused at once."""
        if deed.symbol:
            self.contract(deed)
        coins = COINS.get(deed.kind)
        known = coins(self.x) if coins is not None else (deed.coin,)
        if deed.coin not in known:
            raise ValueError(
                f"deed {deed.kind!r}: {deed.coin!r} is none of its coins: {', '.join(known)}"
            )
        self._put(deed.at_s, deed)

    def next_ms(self) -> int:
        """Exchange time of the next entry; never (2**62) without one or while the script waits."""
        return self.x.market.at_ms(self.waiting[0][0]) if self.waiting else 2**62

    def run(self) -> bool:
        """Do what is due now; whether there was anything."""
        done = False
        while self.waiting and self.x.market.at_ms(self.waiting[0][0]) <= self.x.now_ms:
            entry = self.waiting.pop(0)[2]
            done = True
            if not isinstance(entry, Deed):
                entry()
                continue
            undo = DOES[entry.kind](self, entry)
            if undo is not None and entry.until_s is not None:
                self._put(entry.until_s, undo)
        return done

    def _put(self, at_s: float, entry: Deed | Undo) -> None:
        self._count += 1
        insort(self.waiting, (at_s, self._count, entry), key=lambda e: (e[0], e[1]))

    def contract(self, deed: Deed) -> Contract:
        """The contract that a deed names."""
        name = deed.symbol if "." in deed.symbol else f"linear.{deed.symbol}"
        found = self.x.contracts.get(name)
        if found is None:
            raise ValueError(f"deed {deed.kind!r}: no contract {name!r} in this market")
        return found

    def account(self, deed: Deed) -> Account:
        """The account that a deed names."""
        found = self.x.accounts.get(deed.account)
        if found is None:
            raise ValueError(f"deed {deed.kind!r}: no account {deed.account!r}")
        return found


def _adl(agenda: Agenda, deed: Deed) -> None:
    """The bankrupt side's price lies `ADL_GAP` beyond mark: worse for the winner."""
    x, account, c = agenda.x, agenda.account(deed), agenda.contract(deed)
    position = x.position(account, c)
    lots = adl.share_lots(position, deed.amount)
    if lots:
        gap = -ADL_GAP if position.size > 0 else ADL_GAP
        ticks = round(x.market.quotes[c.key].mark * (ONE + gap) / c.tick)
        adl.close_winner(x, account, position, lots=lots, price=c.price(ticks))


def _price_gap(agenda: Agenda, deed: Deed) -> Undo:
    gaps, factor = agenda.x.market.gaps, float(ONE + deed.amount)
    gaps[deed.coin] = gaps.get(deed.coin, 1.0) * factor

    def undo() -> None:
        gaps[deed.coin] /= factor

    return undo


def _premium_gap(agenda: Agenda, deed: Deed) -> Undo:
    line = agenda.x.market.lines[agenda.contract(deed).key]
    before, line.gap = line.gap, line.gap + float(deed.amount)

    def undo() -> None:
        line.gap = before

    return undo


def _funding_interval(agenda: Agenda, deed: Deed) -> Undo:
    x, key = agenda.x, agenda.contract(deed).key
    before_h = x.market.lines[key].clock.interval_h
    x.market.switch_funding(key, int(deed.amount), x.now_ms)
    return lambda: x.market.switch_funding(key, before_h, x.now_ms)


def _funding_rate(agenda: Agenda, deed: Deed) -> Undo:
    clock = agenda.x.market.lines[agenda.contract(deed).key].clock
    clock.force(deed.amount)
    return lambda: clock.force(None)


def _ratio_cut(agenda: Agenda, deed: Deed) -> Undo:
    x = agenda.x
    loan, margin = x.scenario.loan.collateral_ratio, x.scenario.margin.collateral_ratio
    _set_ratios(x, _cut(loan, deed), _cut(margin, deed))
    return lambda: _set_ratios(
        x,
        {**x.scenario.loan.collateral_ratio, deed.coin: loan.get(deed.coin, ())},
        {**x.scenario.margin.collateral_ratio, deed.coin: margin.get(deed.coin, ())},
    )


def _cut(ratios: Ratios, deed: Deed) -> Ratios:
    tiers = tuple(
        replace(t, ratio=max(ZERO, t.ratio - deed.amount)) for t in ratios.get(deed.coin, ())
    )
    return {**ratios, deed.coin: tiers}


def _set_ratios(x: Exchange, loan: Ratios, margin: Ratios) -> None:
    x.scenario = replace(
        x.scenario,
        loan=replace(x.scenario.loan, collateral_ratio=loan),
        margin=replace(x.scenario.margin, collateral_ratio=margin),
    )


def _colres(agenda: Agenda, deed: Deed) -> Undo:
    conditions = agenda.x.conditions
    before, conditions.col_res = conditions.col_res, str(int(deed.amount))

    def undo() -> None:
        conditions.col_res = before

    return undo


def _flag(name: str) -> Callable[[Agenda, Deed], Undo]:
    """A deed that sets a condition until it is undone."""

    def do(agenda: Agenda, deed: Deed) -> Undo:
        conditions = agenda.x.conditions
        setattr(conditions, name, True)
        return lambda: setattr(conditions, name, False)

    return do


def _maintenance(agenda: Agenda, deed: Deed) -> Undo:
    x = agenda.x
    end_ms = 0 if deed.until_s is None else x.market.at_ms(deed.until_s)
    incident = Incident(x.new_id("incident"), x.now_ms, end_ms)
    x.conditions.incidents.append(incident)
    x.conditions.maintenance = True

    def undo() -> None:
        x.conditions.maintenance = False
        incident.finish(x.now_ms)
        for account in x.accounts.values():  # a restarted service has lost its cache
            account.closed_recently.clear()

    return undo


def _reduce_only(agenda: Agenda, deed: Deed) -> Undo:
    keys, key = agenda.x.conditions.reduce_only, agenda.contract(deed).key
    keys.add(key)
    return lambda: keys.discard(key)


def _delist(agenda: Agenda, deed: Deed) -> Undo:
    x, c = agenda.x, agenda.contract(deed)
    x.conditions.delisted.add(c.key)
    for account in x.accounts.values():
        for order in [o for o in account.open_orders.values() if o.contract is c]:
            cancel(x, account, order, cancel_type="CancelByAdmin")
    return lambda: x.conditions.delisted.discard(c.key)


def _insurance_drain(agenda: Agenda, deed: Deed) -> None:
    agenda.x.pools.drain(deed.coin)


def _bystander(agenda: Agenda, deed: Deed) -> None:
    """Open an account whose position is so far under water that the next tick takes it over."""
    x, c = agenda.x, agenda.contract(deed)
    mark, long = x.market.quotes[c.key].mark, deed.side == BUY
    held = c.qty(max(1, int(deed.amount / c.lot)))  # whole lots, as anybody holds
    value = c.value(held, mark)
    name = f"bystander-{len(x.accounts)}"
    setup = AccountSetup(name, x.new_id("secret"), unified={c.settle: value * BYSTANDER_MARGIN})
    account = x.add_account(setup)
    position = x.position(account, c)
    position.size = held if long else -held
    entry = mark * (ONE + BYSTANDER_LOSS if long else ONE - BYSTANDER_LOSS)
    position.entry_value = c.value(held, entry)
    position.created_ms = position.open_ms = position.updated_ms = x.now_ms


DOES: dict[str, Callable[[Agenda, Deed], Undo | None]] = {
    "adl": _adl,
    "price_gap": _price_gap,
    "premium_gap": _premium_gap,
    "funding_interval": _funding_interval,
    "funding_rate": _funding_rate,
    "ratio_cut": _ratio_cut,
    "colres": _colres,
    "tiers_missing": _flag("tiers_missing"),
    "wallet_blank": _flag("wallet_blank"),
    "maintenance": _maintenance,
    "reduce_only": _reduce_only,
    "delist": _delist,
    "insurance_drain": _insurance_drain,
    "human_order": human_deeds.order,
    "human_close": human_deeds.close,
    "human_cancel": human_deeds.cancel,
    "human_transfer": human_deeds.transfer,
    "human_repay": human_deeds.repay,
    "bystander": _bystander,
}

COINS: dict[str, Callable[[Exchange], Collection[str]]] = {
    "price_gap": lambda x: x.market.index,
    "ratio_cut": lambda x: {
        **x.scenario.loan.collateral_ratio, **x.scenario.margin.collateral_ratio,
    },
    "insurance_drain": lambda x: x.pools.names,
}  # fmt: skip
"""The coins that a kind of deed can be about."""
