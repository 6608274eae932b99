"""The arithmetic of LTV and margin with + − × ÷ alone: one formula for `Decimal` and numpy arrays.

Everything here is elementwise and has no branches; where a maximum is needed the caller passes it
(`max` for Decimal, `numpy.maximum` for arrays), so that nothing is imported and nothing is rounded
twice. Division by zero is the caller's to exclude. Source of the formulas: DESIGN §5, fact sheet §8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar


class Arithmetic(Protocol):
    """A Decimal, or an array of numbers."""

    def __add__(self, other: Any, /) -> Self: ...
    def __radd__(self, other: Any, /) -> Self: ...
    def __sub__(self, other: Any, /) -> Self: ...
    def __rsub__(self, other: Any, /) -> Self: ...
    def __mul__(self, other: Any, /) -> Self: ...
    def __truediv__(self, other: Any, /) -> Self: ...
    def __neg__(self) -> Self: ...


N = TypeVar("N", bound=Arithmetic)


def ltv(debt_value: N, counted_value: N) -> N:
    """Debt ÷ counted collateral, both USDT; `counted_value` ≠ 0."""
    return debt_value / counted_value


def net_debt(debt_value: N, *, fund: N, reserve: N, pocket_equity: N) -> N:
    """N = D − F + R − U, USDT: does not change when a gain is realised, moved or repaid."""
    return debt_value - fund + reserve - pocket_equity


def ltv_net(net: N, counted_value: N, *, hedge_value: N, fall: N, cost_rate: N) -> N:
    """LTV after all prices fell by `fall` (< 1) and the hedge's gain was used.

    (N − h·P·(s − c·(1 − s))) ÷ (V·(1 − s)). `hedge_value` = h·P, + = net short; `cost_rate` = c.
    """
    left = 1 - fall
    return (net - hedge_value * (fall - cost_rate * left)) / (counted_value * left)


def linear_upl(position_qty: N, entry_price: N, mark_price: N) -> N:
    """Unrealised profit of a linear position, in quote; qty in base, + = long."""
    return position_qty * (mark_price - entry_price)


def inverse_upl(position_qty: N, entry_price: N, mark_price: N) -> N:
    """Unrealised profit of an inverse position, in base coins; qty in USD, + = long.

    Vector: −30000 USD from 60000 to 50000 is +0.1 BTC.
    """
    return position_qty / entry_price - position_qty / mark_price


def inverse_delta(position_qty: N, entry_price: N) -> N:
    """Coins of price exposure of an inverse position beside *wallet* balances: Q ÷ E.

    Beside coin *equity* it would be Q ÷ P: the difference is the unrealised profit, which equity
    already holds; mixing the two counts it twice.
    """
    return position_qty / entry_price


def maintenance(value: N, rate: N, *, deduction: N, fee_rate: N) -> N:
    """Maintenance margin with the estimated fee to close: value × rate − deduction + value × fee."""
    return value * rate - deduction + value * fee_rate


def owed(equity: N, *, maximum: Callable[[N, N], N]) -> N:
    """What a coin's equity (wallet + unrealised profit) lacks: max(0, −equity); it is borrowed."""
    return maximum(-equity, equity * 0)


class Pocket(NamedTuple, Generic[N]):
    """A trading pocket with linear positions in one coin, in USDT at today's price.

    `equity` = U, USDT wallet + linear UPL; `counted_value` = κ·b·P, its coins after the margin
    ratio; `position_value` = signed notional, + = long.
    """

    equity: N
    counted_value: N
    position_value: N


def margin_ratio_after(
    pocket: Pocket[N],
    move: N,
    *,
    maintenance_rate: N,
    borrow_rate: N,
    maximum: Callable[[N, N], N],
) -> N:
    """accountMMRate after the price moved by `move`: needed ÷ balance (≤ 0 = no equity left).

    A short h at +u stays ≤ 1 exactly while U + κ·b·P·(1+u) ≥ h·P·(u + (1+u)·m) + .04·max(0, h·P·u − U),
    the hedger's h_cap. `maintenance_rate` = m, the tier's rate plus the closing taker fee.
    """
    equity = pocket.equity + pocket.position_value * move
    scale = 1 + move
    notional = maximum(pocket.position_value, -pocket.position_value) * scale
    needed = notional * maintenance_rate + owed(equity, maximum=maximum) * borrow_rate
    return needed / (equity + pocket.counted_value * scale)
