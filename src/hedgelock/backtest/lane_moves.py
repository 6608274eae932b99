"""The pockets of many accounts and what happens to them: `account` on arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hedgelock.backtest import kernel
from hedgelock.backtest.figures import TINY, Figures, Flags
from hedgelock.backtest.kernel import Orders
from hedgelock.backtest.terms import Setting
from hedgelock.domain.policy import HedgePolicy
from hedgelock.history.tape import Floats, Integers


@dataclass(slots=True)
class Pockets:
    """One element per account; as `account.Account` and `account.Costs`."""

    cash: Floats
    coins: Floats
    debt: Floats
    collateral: Floats
    reserve: Floats
    unit: Floats
    """Value of the collateral at the start."""
    start_cash: Floats
    start_coins: Floats
    fund: Floats
    free_coins: Floats
    short: Floats
    entry_value: Floats
    fees: Floats
    slippage: Floats
    funding: Floats
    penalty: Floats
    interest: Floats
    due_amount: Floats
    due_bar: Integers
    """Bar at whose close a loan action lands; −1 = none is on its way."""
    due_kind: Integers
    trades: Integers
    loan_dead: Flags
    margin_dead: Flags

    @classmethod
    def open(cls, settings: Sequence[Setting], start: Floats, hedge: HedgePolicy) -> Pockets:
        """Accounts = settings × paths; `start` is each path's first price."""
        paths = len(start)

        def spread(values: Sequence[object]) -> Floats:
            return np.repeat([float(v) for v in values], paths)  # type: ignore[arg-type]

        collateral = spread([s.collateral for s in settings])
        price = np.tile(start, len(settings))
        unit = collateral * price
        count = len(unit)
        reserve = (
            float(hedge.reserve_fraction) * unit if hedge.reserve is None
            else np.full(count, float(hedge.reserve))
        )
        cash = spread([s.pocket_usdt for s in settings]) * unit
        coins = spread([s.pocket_coins for s in settings]) * collateral
        debt = spread([s.ltv for s in settings]) * unit
        values: list[Any] = [cash, coins, debt, collateral.copy(), reserve, unit, cash.copy(),
                             coins + collateral]
        values += [np.zeros(count) for _ in range(10)]
        values += [np.full(count, -1), np.zeros(count, np.int64), np.zeros(count, np.int64)]
        values += [np.zeros(count, bool), np.zeros(count, bool)]
        return cls(*values)

    def sell(self, f: Figures, at: Integers, qty: Floats, price: Floats) -> None:
        """Open more of the short at market."""
        paid = price * (1 - f.slippage)
        self.short[at] += qty
        self.entry_value[at] += qty * paid
        self.pay(at, qty * paid * f.taker, qty * (price - paid))

    def buy(self, f: Figures, at: Integers, qty: Floats, price: Floats) -> None:
        """Close `qty` of the short at market."""
        paid = price * (1 + f.slippage)
        short = self.short[at]
        whole = np.abs(qty - short) < TINY
        share = self.entry_value[at] * np.where(whole, 1.0, qty / np.where(short > 0, short, 1.0))
        self.short[at] = np.where(whole, 0.0, short - qty)
        self.entry_value[at] -= share
        self.cash[at] += share - qty * paid
        self.pay(at, qty * paid * f.taker, qty * (paid - price))

    def pay(self, at: Integers, fee: Floats, slipped: Floats) -> None:
        """A fee out of the pocket; what slipped is in the price already, and only tallied."""
        self.cash[at] -= fee
        self.fees[at] += fee
        self.slippage[at] += slipped


def act(f: Figures, p: Pockets, lanes: Integers, orders: Orders, mark: Floats) -> None:
    """Cover, then the hedge order, of each lane."""
    covers = orders.cover > 0
    if covers.any():
        at, qty, price = lanes[covers], orders.cover[covers], mark[covers]
        paid = price * (1 - f.slippage)
        p.coins[at] = np.maximum(p.coins[at] - qty, 0.0)
        p.cash[at] += qty * paid
        p.pay(at, qty * paid * f.spot_taker, qty * (price - paid))
    sells, buys = orders.hedge > 0, orders.hedge < 0
    if sells.any():
        p.sell(f, lanes[sells], orders.hedge[sells], mark[sells])
    if buys.any():
        p.buy(f, lanes[buys], -orders.hedge[buys], mark[buys])
    p.trades[lanes] += covers.astype(np.int64) + sells + buys


def settle_loan(
    f: Figures, p: Pockets, at: Integers, kind: Integers, amount: Floats, index: Floats
) -> None:
    """Loan actions that arrive."""
    if not at.size:
        return
    pays = kind == kernel.REPAY
    lanes = at[pays]
    paid = np.minimum(np.minimum(amount[pays], p.debt[lanes]), p.fund[lanes])
    p.fund[lanes] -= paid
    p.debt[lanes] -= paid
    lends = kind == kernel.BORROW
    lanes = at[lends]
    most = p.collateral[lanes] * f.loan_ratio * index[lends] * f.ltv_initial
    lent = np.where(p.debt[lanes] + amount[lends] > most, 0.0, amount[lends])
    p.debt[lanes] += lent
    p.cash[lanes] += lent
    sells = kind == kernel.WITH_COLLATERAL
    sell_collateral(f, p, at[sells], amount[sells], index[sells])


def sell_collateral(f: Figures, p: Pockets, at: Integers, amount: Floats, index: Floats) -> None:
    """Repay by selling locked coins; the fee is in coins."""
    want = np.minimum(amount, p.debt[at])
    sold = np.minimum(want / index, p.collateral[at])
    fee = np.minimum(sold * f.liquidation_fee, p.collateral[at] - sold)
    p.collateral[at] -= sold + fee
    raised = sold * index
    p.debt[at] -= np.where(raised >= want * (1 - 1e-12), want, raised)
    p.penalty[at] += fee * index


def liquidate_loan(f: Figures, p: Pockets, at: Integers, index: Floats) -> None:
    """The whole debt out of collateral, the rest back; the short is closed beside it."""
    p.loan_dead[at] = True
    sell_collateral(f, p, at, p.debt[at], index)
    p.debt[at] = 0.0
    p.free_coins[at] += p.collateral[at]
    p.collateral[at] = 0.0
    p.buy(f, at, p.short[at].copy(), index)


def liquidate_margin(
    f: Figures, p: Pockets, at: Integers, mark: Floats, index: Floats
) -> None:
    """The short closed at mark, coins converted for what is owed, the rest written off."""
    p.margin_dead[at] = True
    value = p.short[at] * mark
    p.cash[at] += p.entry_value[at] - value - value * f.taker
    p.penalty[at] += value * f.taker
    p.short[at] = p.entry_value[at] = 0.0
    owed = np.maximum(-p.cash[at], 0.0)
    sold = np.minimum(p.coins[at], owed / (index * (1 - f.conversion_fee)))
    p.coins[at] -= sold
    p.cash[at] = np.maximum(p.cash[at] + sold * index * (1 - f.conversion_fee), 0.0)
    p.penalty[at] += sold * index * f.conversion_fee
