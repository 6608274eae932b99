"""What policy demands of an account, as linear rows: need = Σ coefficient·holding + constant ≤ 0.

    loan      per cell   D′ − F + R − U′ + cost to close  ≤  L·V′            (net LTV, DESIGN §5;
                         R is what must be left after a fall, and has no part in other cells)
    margin    per cell   maintenance + .04·owed           ≤  ρ·balance       (accountMMRate)
    gross                D ≤ .70·V, demanded once D > .75·V (urgent: .75, from .80)
    pocket               U ≥ the least amount, demanded once U < 0: USDT is not left owed
    short                h + Q ÷ M ≤ C + b: never net short
    nought               D, F, b, C ≥ 0

Maintenance is the largest of its tiers' lines (deductions make it convex), what is owed the larger
of a line and 0: each becomes rows of its own, so that every row is linear and all of them together
are the exact condition. A row is written for the *aim*, a little inside the limit; `slack` is how
far the need may rise above 0 before the limit itself is broken. Needs are USDT. The shocks are those
of `stress`; prices are in USDT, so that a USDT at .95 is a price of 1 ÷ .95.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Generic, NamedTuple

from hedgelock.domain.actions import Holdings, Lever, Limits, N, Perp, Terms, Tier
from hedgelock.domain.stress import Shock, StressCell


class DemandKind(enum.Enum):
    """What a row is about."""

    LOAN = "loan"
    MARGIN = "margin"
    GROSS = "gross"
    POCKET = "pocket"
    NET_SHORT = "net_short"
    NOUGHT = "nought"


class Row(NamedTuple, Generic[N]):
    """One demand; see the module. `cell` None = now, without a shock."""

    kind: DemandKind
    cell: StressCell | None
    coefficients: tuple[N, N, N, N, N, N, N]
    constant: N
    slack: N

    def need(self, held: Holdings[N]) -> N:
        """USDT by which the aim is missed; ≤ 0 = it is met."""
        d, f, u, b, c, h, q = self.coefficients
        return (
            d * held.debt + f * held.fund + u * held.equity + b * held.coins
            + c * held.collateral + h * held.short + q * held.inverse + self.constant
        )

    def effect(self, lever: Lever[N]) -> N:
        """Change of the need per unit of an action."""
        total = self.constant * 0
        for which, per_unit in lever.moves:
            total = total + self.coefficients[which] * per_unit
        return total


Cells = Sequence[tuple[StressCell | None, Shock[N]]]


def net_ltv(held: Holdings[N], terms: Terms[N], limits: Limits[N], *, fall: N) -> N | None:
    """ltv_net(−fall) with every short's gain used; 0 without debt, None = infinite."""
    zero = held.debt * 0
    if held.debt <= 0:
        return zero
    shock = Shock(-fall, -fall, zero, zero + 1, zero, zero, zero + 1)
    after = _after(terms, shock)
    counted = after.loan_ratio * after.price * held.collateral
    if counted <= 0:
        return None
    gains = held.short * (after.linear_gain - after.linear_close) + held.inverse * (
        after.inverse_coins * after.price - after.inverse_close
    )
    return (held.debt - held.fund + limits.reserve - held.equity - gains) / counted


def rows(
    held: Holdings[N], terms: Terms[N], limits: Limits[N], cells: Cells[N]
) -> list[Row[N]]:
    """Every demand on the account, cells first, in their order."""
    found: list[Row[N]] = []
    for cell, shock in cells:
        if not -limits.cells_fall <= shock.move <= limits.cells_rise:
            continue
        after = _after(terms, shock)
        if held.debt > 0 and held.collateral > 0:
            found.append(_loan(held, limits, after, cell, is_fall=shock.move < 0))
        if cell is not None or held.short or held.inverse or held.equity < 0:
            found += _margin(held, terms, limits, shock=shock, after=after, cell=cell)
    found += _now(held, terms, limits)
    return found


class _After(NamedTuple, Generic[N]):
    """Prices and ratios after a shock, USDT, and what one short gains by it (cost to close apart)."""

    price: N
    mark: N
    loan_ratio: N
    margin_ratio: N
    growth: N
    linear_gain: N
    """USDT per coin short."""
    inverse_coins: N
    """Coins per USD short."""
    linear_close: N
    inverse_close: N
    """What closing costs, USDT per coin and per USD."""
    inverse_value: N
    """Coins of notional per USD."""


def _after(terms: Terms[N], shock: Shock[N]) -> _After[N]:
    move = 1 + shock.move
    price = terms.index_price * move / shock.quote
    dollars = terms.mark_price * move * (1 + shock.basis)
    mark = dollars / shock.quote
    cut = shock.ratio_cut
    loan = terms.loan_ratio_next if shock.next_tier else terms.loan_ratio
    margin = terms.margin_ratio_next if shock.next_tier else terms.margin_ratio
    linear_funding = terms.linear.funding_day_rate * shock.funding
    inverse_funding = terms.inverse.funding_day_rate * shock.funding
    return _After(
        price, mark, max(cut * 0, loan - cut), max(cut * 0, margin - cut), shock.growth,
        terms.mark_price - mark * (1 + linear_funding),
        1 / dollars - 1 / terms.mark_price - inverse_funding / dollars,
        terms.linear.cost * mark, terms.inverse.cost * price / dollars, 1 / dollars,
    )


def _loan(
    held: Holdings[N], limits: Limits[N], after: _After[N], cell: StressCell | None, *,
    is_fall: bool,
) -> Row[N]:
    zero, counted = held.debt * 0, after.loan_ratio * after.price
    aim = limits.ltv_max * (1 - limits.aim)
    return Row(
        DemandKind.LOAN, cell,
        (
            zero + after.growth, zero - 1, zero - 1, zero, -aim * counted,
            after.linear_close - after.linear_gain,
            after.inverse_close - after.inverse_coins * after.price,
        ),
        zero + limits.reserve if is_fall else zero, limits.ltv_max * limits.aim * counted * held.collateral,
    )


def _reached(perp: Perp[N], value_max: N, *, is_next: bool) -> list[Tier[N]]:
    """The tiers that a position of up to `value_max` may lie in, each as a line of maintenance."""
    found: list[Tier[N]] = []
    for at, tier in enumerate(perp.tiers):
        above = perp.tiers[min(at + is_next, len(perp.tiers) - 1)]
        found.append(tier._replace(maintenance_rate=above.maintenance_rate))
        if tier.notional_max >= value_max:
            break
    return found


def _margin(
    held: Holdings[N], terms: Terms[N], limits: Limits[N], *, shock: Shock[N], after: _After[N],
    cell: StressCell | None,
) -> list[Row[N]]:
    zero = held.debt * 0
    aim, owed = limits.margin_max * (1 - limits.aim), terms.borrow_margin_rate
    owned = max(zero, held.coins) + held.collateral
    linear, inverse = terms.linear, terms.inverse
    lines = _reached(linear, max(owned, held.short) * after.mark, is_next=shock.next_tier)
    usd = max(owned * terms.mark_price, held.inverse)
    others = _reached(inverse, usd * after.inverse_value, is_next=shock.next_tier)
    others = others or [Tier(zero, zero, zero)]
    coin_gain = after.inverse_coins * after.price
    counted = after.margin_ratio * after.price
    balance = held.equity + held.short * after.linear_gain + counted * held.coins + (
        held.inverse * coin_gain
    )
    slack = max(zero, (limits.margin_max - aim) * balance)
    # Coins come to be owed only beside an inverse short; where none can be that row says nothing.
    owes_coins = (0, 1) if held.coins < 0 or inverse.tiers else (0,)
    found = []
    for line in lines:
        per_coin = after.mark * (line.maintenance_rate + linear.taker_fee)
        for other in others:
            per_usd = (
                after.inverse_value * after.price * (other.maintenance_rate + inverse.taker_fee)
            )
            constant = zero - line.deduction - other.deduction * after.price
            for is_owed in (0, 1):
                for is_coin_owed in owes_coins:
                    money, coin = aim + owed * is_owed, owed * is_coin_owed
                    found.append(Row(
                        DemandKind.MARGIN, cell,
                        (
                            zero, zero, -money, -aim * counted - coin * after.price, zero,
                            per_coin - money * after.linear_gain,
                            per_usd - (aim + coin) * coin_gain,
                        ),
                        constant, slack,
                    ))
    return found


def _now(held: Holdings[N], terms: Terms[N], limits: Limits[N]) -> list[Row[N]]:
    zero = held.debt * 0
    one = zero + 1
    counted = terms.loan_ratio * terms.index_price
    value = counted * held.collateral
    is_urgent = held.debt >= limits.urgent_at * value
    to = limits.urgent_to if is_urgent else limits.harvest_to
    mark = terms.mark_price

    def row(kind: DemandKind, constant: N, slack: N, *parts: N) -> Row[N]:
        d, f, u, b, c, h, q = parts
        return Row(kind, None, (d, f, u, b, c, h, q), constant, slack)

    nought = DemandKind.NOUGHT
    return [
        row(DemandKind.GROSS, zero, (limits.harvest_at - to) * value,
            one, zero, zero, zero, -to * counted, zero, zero),
        row(DemandKind.POCKET, limits.amount_min, limits.amount_min,
            zero, zero, -one, zero, zero, zero, zero),
        row(DemandKind.NET_SHORT, zero, terms.linear.lot * mark,
            zero, zero, zero, -mark, -mark, mark, one),
        row(nought, zero, zero, -one, zero, zero, zero, zero, zero, zero),
        row(nought, zero, zero, zero, -one, zero, zero, zero, zero, zero),
        row(nought, zero, zero, zero, zero, zero, -mark, zero, zero, zero),
        row(nought, zero, zero, zero, zero, zero, zero, -mark, zero, zero),
    ]
