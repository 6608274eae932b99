"""What can be done with an account, as directions: what one unit of each action moves and costs.

The solver and the what-if see an account as seven numbers (`Holdings`). Every action is linear in
its size, fees included, so that a demand on the account becomes the size of an action by division:

    kind                   unit   moves (per unit)                        costs now            undo
    SHORT_LINEAR           coin   h + 1, U − k·M                          k·M                  k·M
    REDUCE_LINEAR          coin   h − 1, U − k·M                          k·M                  k·M
    SHORT_INVERSE          USD    Q + 1, b − k ÷ P                        k                    k
    REDUCE_INVERSE         USD    Q − 1, b − k ÷ P                        k                    k
    REPAY_FUND             USDT   D − 1, F − 1                            0                    r
    REPAY_POCKET           USDT   D − 1, U − 1                            0                    r
    REALISE_AND_REPAY      USDT   D − 1, U − (1 + k_r)                    k_r                  r
    REPAY_WITH_COLLATERAL  USDT   D − 1, C − (1 + k_c) ÷ P                k_c                  k_s + k_f
    TOP_UP                 coin   C + 1, b − 1                            0                    0
    WITHDRAW_COLLATERAL    coin   C − 1, b + 1                            0                    0
    BORROW                 USDT   D + 1, U + 1                            0                    0
    TRANSFER_IN            USDT   F − 1, U + 1                            0                    0
    TRANSFER_OUT           USDT   F + 1, U − 1                            0                    0
    SELL_SPOT              coin   b − 1, U + P·(1 − k_s)                  k_s·P                (k_s + k_f)·P

Beside it comes what it carries over the horizon: funding of what is short, interest of what is owed.
A price of protection is now + undo + carry: protection is given back one day. What is repaid from
cash is borrowed again when the pocket is refilled, so that the interest r it saves is no gain. U is the pocket's USDT
equity with linear profit, b its coins with inverse profit. One arithmetic for Decimal and float: no
constant here is anything but an integer. Sources: DESIGN §5; fact sheet §7.1, §8.3.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar

from hedgelock.domain.kernels import Arithmetic


class Number(Arithmetic, Protocol):
    """A Decimal or a float: arithmetic with an order."""

    def __rmul__(self, other: Any, /) -> Self: ...
    def __rtruediv__(self, other: Any, /) -> Self: ...
    def __lt__(self, other: Any, /) -> bool: ...
    def __le__(self, other: Any, /) -> bool: ...
    def __gt__(self, other: Any, /) -> bool: ...
    def __ge__(self, other: Any, /) -> bool: ...


N = TypeVar("N", bound=Number)


class ActionKind(enum.Enum):
    """Everything that the solver may do, in the order in which equals are preferred."""

    WAIT = "wait"
    TRANSFER_IN = "transfer_in"
    TRANSFER_OUT = "transfer_out"
    REPAY_FUND = "repay_fund"
    REPAY_POCKET = "repay_pocket"
    TOP_UP = "top_up"
    SHORT_LINEAR = "short_linear"
    REDUCE_LINEAR = "reduce_linear"
    SHORT_INVERSE = "short_inverse"
    REDUCE_INVERSE = "reduce_inverse"
    WITHDRAW_COLLATERAL = "withdraw_collateral"
    REALISE_AND_REPAY = "realise_and_repay"
    BORROW = "borrow"
    SELL_SPOT = "sell_spot"
    REPAY_WITH_COLLATERAL = "repay_with_collateral"


_K = ActionKind
UNDO: dict[ActionKind, ActionKind] = {
    _K.WAIT: _K.WAIT,
    _K.TRANSFER_IN: _K.TRANSFER_OUT, _K.TRANSFER_OUT: _K.TRANSFER_IN,
    _K.REPAY_FUND: _K.BORROW, _K.REPAY_POCKET: _K.BORROW, _K.REALISE_AND_REPAY: _K.BORROW,
    _K.TOP_UP: _K.WITHDRAW_COLLATERAL, _K.WITHDRAW_COLLATERAL: _K.TOP_UP,
    _K.SHORT_LINEAR: _K.REDUCE_LINEAR, _K.REDUCE_LINEAR: _K.SHORT_LINEAR,
    _K.SHORT_INVERSE: _K.REDUCE_INVERSE, _K.REDUCE_INVERSE: _K.SHORT_INVERSE,
    _K.BORROW: _K.REPAY_POCKET,
}
"""What takes an action back. A sale is taken back by a purchase, which is no action of ours."""

EXECUTABLE = frozenset({
    _K.SHORT_LINEAR, _K.REDUCE_LINEAR, _K.REPAY_FUND, _K.REPAY_POCKET, _K.REALISE_AND_REPAY,
    _K.REPAY_WITH_COLLATERAL, _K.BORROW, _K.TRANSFER_IN,
})
"""What the executor can do today; the rest is priced and shown."""


class Holdings(NamedTuple, Generic[N]):
    """An account as the solver sees it. USDT, coins, USD; shorts ≥ 0."""

    debt: N
    """D: the loan, USDT."""
    fund: N
    """F: USDT in FUND."""
    equity: N
    """U: USDT of the trading pocket with linear profit; may be < 0."""
    coins: N
    """b: its coins with inverse profit."""
    collateral: N
    """C: coins locked with the loan."""
    short: N
    """h: coins short, linear."""
    inverse: N
    """Q: USD short, inverse."""


class Tier(NamedTuple, Generic[N]):
    """A margin tier, as `instrument.MarginTier`."""

    notional_max: N
    maintenance_rate: N
    deduction: N


class Perp(NamedTuple, Generic[N]):
    """Terms of one kind of contract. Steps and minimums in coins (linear) or USD (inverse)."""

    cost: N
    """k: fee and slippage of one trade, fraction of notional."""
    taker_fee: N
    funding: N
    """What a short is expected to *pay* over the horizon, fraction of notional; < 0 = receives."""
    funding_day_rate: N
    """What a day at the cap costs it, fraction of notional."""
    lot: N
    qty_min: N
    tiers: Sequence[Tier[N]]


class Terms(NamedTuple, Generic[N]):
    """Prices, fees and rates of the moment. Prices quote per base; fractions."""

    index_price: N
    mark_price: N
    loan_ratio: N
    loan_ratio_next: N
    """What one more coin counts, in the loan: the next tier's ratio."""
    margin_ratio: N
    margin_ratio_next: N
    linear: Perp[N]
    inverse: Perp[N]
    spot_cost: N
    """k_s: fee and slippage of selling coins."""
    collateral_cost: N
    """k_c: what repaying with collateral costs."""
    sale_premium: N
    """k_f: what policy charges for a sale, which nothing of ours takes back."""
    realise_cost: N
    """k_r: fees of closing and reopening per USDT of gain realised."""
    released: N
    """USDT that the venue lets out of the pocket now."""
    interest: N
    """What the debt costs over the horizon, fraction of it."""
    borrow_margin_rate: N
    cent: N
    """Smallest amount of USDT."""
    coin_step: N
    """Smallest amount of coins for the loan."""


class Limits(NamedTuple, Generic[N]):
    """The account's policy, as the solver needs it. Fractions; amounts USDT or coins."""

    ltv_max: N
    """L: net LTV allowed in a stressed cell."""
    margin_max: N
    """accountMMRate allowed in a stressed cell."""
    harvest_at: N
    harvest_to: N
    urgent_at: N
    urgent_to: N
    refill_below: N
    reserve: N
    """R."""
    amount_min: N
    """Treasury actions below this wait, USDT."""
    borrow_max: N
    size_max: N
    """Largest linear short, coins."""
    band: N
    """Excess protection below this many coins is left alone."""
    aim: N
    """What is demanded is brought this fraction inside its limit."""
    saving_min: N
    """A protection is changed for a cheaper one for this much or more, USDT."""
    cells_fall: N
    """Cells whose coins fall, or rise, by more than these are shown, not demanded."""
    cells_rise: N


class Lever(NamedTuple, Generic[N]):
    """One action at this moment: direction, bounds and prices per unit (USDT)."""

    kind: ActionKind
    moves: tuple[tuple[int, N], ...]
    """(which of `Holdings`, how much per unit)."""
    most: N
    step: N
    least: N
    now: N
    undo: N
    carry: N

    @property
    def price(self) -> N:
        """USDT per unit over the horizon, with taking it back."""
        return self.now + self.undo + self.carry


class Sized(NamedTuple, Generic[N]):
    """An action with its size (in the kind's unit) and its costs, USDT over the horizon."""

    kind: ActionKind
    size: N
    now: N
    undo: N
    carry: N

    @property
    def cost(self) -> N:
        """All of it."""
        return self.now + self.undo + self.carry


_D, _F, _U, _B, _C, _H, _Q = range(7)


def levers(
    held: Holdings[N], terms: Terms[N], limits: Limits[N], available: frozenset[ActionKind]
) -> list[Lever[N]]:
    """Every available action that could be done at all now, in the order of preference."""
    order = list(ActionKind)
    usable = [
        lever for lever in _all(held, terms, limits)
        if lever.kind in available and lever.most > 0 and lever.most >= lever.least
    ]
    return sorted(usable, key=lambda lever: order.index(lever.kind))


def lever_of(
    kind: ActionKind, held: Holdings[N], terms: Terms[N], limits: Limits[N]
) -> Lever[N] | None:
    """The direction and price of an action whether or not it could be done; None = waiting."""
    return next((lever for lever in _all(held, terms, limits) if lever.kind is kind), None)


def _all(held: Holdings[N], terms: Terms[N], limits: Limits[N]) -> list[Lever[N]]:
    return [*_money(held, terms, limits), *_coins(held, terms, limits), *_perps(held, terms, limits)]


def _money(held: Holdings[N], terms: Terms[N], limits: Limits[N]) -> list[Lever[N]]:
    zero, least = held.debt * 0, limits.amount_min
    one, interest, cent = zero + 1, terms.interest, terms.cent
    free = max(zero, min(held.equity, terms.released))
    gains = max(zero, held.equity - free)
    value = terms.loan_ratio * terms.index_price * held.collateral
    # A loan is added to, never begun: with the first USDT owed come demands of its own.
    room = min(limits.borrow_max, limits.refill_below * value - held.debt) if held.debt > 0 else zero

    def lever(kind: ActionKind, moves: tuple[tuple[int, N], ...], most: N, carry: N) -> Lever[N]:
        return Lever(kind, moves, most, cent, least, zero, max(zero, -carry), carry)

    repay, realise = (_D, -one), one + terms.realise_cost
    fund = max(zero, held.fund)
    return [
        lever(_K.TRANSFER_IN, ((_F, -one), (_U, one)), fund, zero)._replace(least=cent),
        lever(_K.TRANSFER_OUT, ((_F, one), (_U, -one)), free, zero),
        lever(_K.REPAY_FUND, (repay, (_F, -one)), min(fund, held.debt), -interest),
        lever(_K.REPAY_POCKET, (repay, (_U, -one)), min(free, held.debt), -interest),
        lever(
            _K.REALISE_AND_REPAY, (repay, (_U, -realise)), min(gains / realise, held.debt),
            -interest,
        )._replace(now=terms.realise_cost),
        lever(_K.BORROW, ((_D, one), (_U, one)), room, interest),
    ]


def _coins(held: Holdings[N], terms: Terms[N], limits: Limits[N]) -> list[Lever[N]]:
    zero, index = held.debt * 0, terms.index_price
    one, sale = zero + 1, terms.spot_cost * index
    least = limits.amount_min / index
    taken = (one + terms.collateral_cost) / index
    pocket = max(zero, held.coins)
    return [
        Lever(_K.TOP_UP, ((_C, one), (_B, -one)), pocket, terms.coin_step, least, zero, zero, zero),
        Lever(
            _K.WITHDRAW_COLLATERAL, ((_C, -one), (_B, one)), held.collateral, terms.coin_step,
            least, zero, zero, zero,
        ),
        Lever(
            _K.SELL_SPOT, ((_B, -one), (_U, index - sale)), pocket, terms.linear.lot,
            terms.linear.qty_min, sale, sale + terms.sale_premium * index, zero,
        ),
        Lever(
            _K.REPAY_WITH_COLLATERAL, ((_D, -one), (_C, -taken)),
            min(held.debt, held.collateral / taken), terms.cent, limits.amount_min,
            terms.collateral_cost, terms.spot_cost + terms.sale_premium, -terms.interest,
        ),
    ]


def _perps(held: Holdings[N], terms: Terms[N], limits: Limits[N]) -> list[Lever[N]]:
    zero = held.debt * 0
    one, linear, inverse, mark = zero + 1, terms.linear, terms.inverse, terms.mark_price
    fee, coins = linear.cost * mark, inverse.cost / terms.index_price
    funding = linear.funding * mark
    owned = max(zero, held.coins) + held.collateral
    return [
        Lever(
            _K.SHORT_LINEAR, ((_H, one), (_U, -fee)), min(owned, limits.size_max) - held.short,
            linear.lot, linear.qty_min, fee, fee, funding,
        ),
        Lever(
            _K.REDUCE_LINEAR, ((_H, -one), (_U, -fee)), held.short, linear.lot, linear.qty_min,
            fee, fee, -funding,
        ),
        Lever(
            _K.SHORT_INVERSE, ((_Q, one), (_B, -coins)), owned * mark - held.inverse,
            inverse.lot, inverse.qty_min, inverse.cost, inverse.cost, inverse.funding,
        ),
        Lever(
            _K.REDUCE_INVERSE, ((_Q, -one), (_B, -coins)), held.inverse, inverse.lot,
            inverse.qty_min, inverse.cost, inverse.cost, -inverse.funding,
        ),
    ]


def moved(held: Holdings[N], lever: Lever[N], size: N) -> Holdings[N]:
    """The holdings after `size` units of an action."""
    after = list(held)
    for which, per_unit in lever.moves:
        after[which] = after[which] + per_unit * size
    return Holdings(*after)


def sized(lever: Lever[N], size: N) -> Sized[N]:
    """An action of this size with its costs."""
    return Sized(lever.kind, size, lever.now * size, lever.undo * size, lever.carry * size)


def converted(value: Any, number: Callable[[Decimal], Any]) -> Any:
    """Holdings, terms, limits or shocks with every Decimal made another kind of number."""
    if isinstance(value, Decimal):
        return number(value)
    if isinstance(value, tuple):
        parts = [converted(part, number) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value
