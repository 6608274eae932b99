"""Events of a script that change the world: who is deleveraged, what gaps, which rule is bent.

    Deed(at_s=20, kind="price_gap", coin="BTC", amount=Decimal("-0.2"))

A deed acts at its exact script second; one with `until_s` is undone then. Same script, same world.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from decimal import Decimal

from hedgelock.simulator.money import ZERO


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
        "deleverages `amount` (share 0..1) of the account's winning position in `symbol`",
        ("account", "symbol", "amount"),
    ),
    "price_gap": Kind(
        "moves the price of `coin` by the fraction `amount` at once, for good or until `until_s`",
        ("coin", "amount"), ends=True,
    ),
    "premium_gap": Kind(
        "moves the perpetual's book off its index by the fraction `amount`",
        ("symbol", "amount"), ends=True,
    ),
    "funding_interval": Kind(
        "funding of `symbol` settles every `amount` hours from now on, then as before",
        ("symbol", "amount"), ends=True,
    ),
    "funding_rate": Kind(
        "the funding rate of `symbol` is `amount` (a fraction per interval) instead of predicted",
        ("symbol", "amount"), ends=True,
    ),
    "ratio_cut": Kind(
        "cuts every collateral ratio of `coin`, loan and unified, by `amount` (.05 = 5 points)",
        ("coin", "amount"), ends=True,
    ),
    "colres": Kind("sets the loan's colRes to `amount`: 0, 1 or 2 (top-up refused)", ends=True),
    "tiers_missing": Kind("market/risk-limit answers without rows", ends=True),
    "maintenance": Kind("trading and loans answer 10016, reads go on", ends=True),
    "reduce_only": Kind("`symbol` takes closing orders only", ("symbol",), ends=True),
    "delist": Kind("`symbol` takes no orders and loses the resting ones", ("symbol",), ends=True),
    "insurance_drain": Kind("empties the insurance pool of `coin`", ("coin",)),
    "human_order": Kind(
        "a market order of `amount` by the account itself, as if in the app: no orderLinkId",
        ("account", "symbol", "side", "amount"),
    ),
    "human_close": Kind("the account closes its position in `symbol` in the app",
                        ("account", "symbol")),
    "human_cancel": Kind("the account cancels all its orders in `symbol` in the app",
                         ("account", "symbol")),
    "bystander": Kind(
        "somebody else holds `amount` of `symbol` on `side`, under water, and is liquidated",
        ("symbol", "side", "amount"),
    ),
}


@dataclass(slots=True)
class Agenda:
    """Deeds still to be done or undone, by script second; those of one second in given order."""

    waiting: list[tuple[float, int, bool, Deed]] = field(default_factory=list)
    _count: int = 0

    def add(self, deed: Deed) -> None:
        """Put a deed, and its end, on the agenda."""
        self._put(deed.at_s, deed, begins=True)
        if deed.until_s is not None:
            self._put(deed.until_s, deed, begins=False)

    def _put(self, at_s: float, deed: Deed, *, begins: bool) -> None:
        self._count += 1
        insort(self.waiting, (at_s, self._count, begins, deed), key=lambda e: (e[0], e[1]))
