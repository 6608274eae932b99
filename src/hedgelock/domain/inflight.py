"""What was asked for and is not yet seen in positions and balances.

An order's unfilled part leaves when the intent is terminal; each filled part leaves when a position
of that instrument with `seq` at or past the fill's is seen. Money settles later than fills: until
wallet, positions, FUND and loan have all been read by requests sent after the last confirmation,
balances are the last settled ones plus `Effects`.
"""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import NamedTuple

import msgspec

from hedgelock.domain.account import AccountView
from hedgelock.domain.instrument import category_of
from hedgelock.domain.money import ZERO
from hedgelock.domain.order import Fill, OrderConfirmation, Side
from hedgelock.domain.treasury import TreasuryConfirmation, TreasuryKind

FINISHED_MAX = 32
"""Finished intents remembered, to recognise a late fill or a repeated confirmation."""


class Purpose(enum.Enum):
    """What an order of ours is for."""

    HEDGE = "hedge"
    REALISE = "realise"
    """Closes a slice to realise its gain; what it closes is reopened."""
    COVER = "cover"
    FLATTEN = "flatten"


class OrderWatch(msgspec.Struct, frozen=True, kw_only=True):
    """An order intent that is open, or filled but not yet seen. `revision` −1 = never confirmed."""

    intent_id: str
    instrument: str
    side: Side
    qty: Decimal
    purpose: Purpose
    revision: int = -1
    filled_qty: Decimal = ZERO
    fills: tuple[Fill, ...] = ()
    is_terminal: bool = False
    ts_confirmed_ms: int = 0

    def open_qty(self) -> Decimal:
        """What may still fill, coins ≥ 0."""
        return ZERO if self.is_terminal else max(ZERO, self.qty - self.filled_qty)

    def unseen_qty(self, view: AccountView) -> Decimal:
        """Filled, but not yet part of the position that we see; coins ≥ 0."""
        position = view.position_of(self.instrument)
        reread = view.positions is not None and (
            view.positions.ts_requested_ms > self.ts_confirmed_ms
        )
        if position is None and reread:
            # The venue lists no position: flat, with everything we knew of in it.
            return ZERO
        known = sum((fill.qty for fill in self.fills), ZERO)
        unlisted = max(ZERO, self.filled_qty - known)
        if self.is_terminal and reread:
            unlisted = ZERO
        seq = position.seq if position else -1
        return unlisted + sum((fill.qty for fill in self.fills if fill.seq > seq), ZERO)


class TreasuryWatch(msgspec.Struct, frozen=True, kw_only=True):
    """The treasury action under way; amounts confirmed so far in `coin`."""

    intent_id: str
    kind_of: TreasuryKind
    transfer_amount: Decimal
    revision: int = -1
    moved_amount: Decimal = ZERO
    loan_amount: Decimal = ZERO

    def outgoing(self) -> Decimal:
        """Ordered to leave the trading pocket and not yet known to have left, ≥ 0."""
        if self.kind_of in (TreasuryKind.REPAY, TreasuryKind.TRANSFER_TO_FUND):
            return max(ZERO, self.transfer_amount - self.moved_amount)
        return ZERO


class Finished(msgspec.Struct, frozen=True):
    """An intent that is over: which revision was last, and which fills were booked."""

    intent_id: str
    revision: int
    exec_ids: tuple[str, ...] = ()


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """After an intent that came to nothing: a refusal must not turn into a loop.

    Until `until_ms`; a soft one (unfilled or expired, not refused) also ends with an assessment
    made after `since_ms`.
    """

    since_ms: int = 0
    until_ms: int = 0
    is_soft: bool = False

    def holds(self, now_ms: int, assessed_ms: int) -> bool:
        """Nothing of its kind is to be decided now."""
        return now_ms < self.until_ms and not (self.is_soft and assessed_ms > self.since_ms)


NO_PAUSE = Pause()


class Effects(msgspec.Struct, frozen=True, kw_only=True):
    """What is known to have happened since the last settled balances, as differences.

    `hedge_qty` signed (+ bought), `hedge_cost` Σ signed qty × price: together they re-mark at any
    price, U changes by hedge_qty × mark − hedge_cost − fees whatever part was realised.
    """

    hedge_qty: Decimal = ZERO
    hedge_cost: Decimal = ZERO
    pnl: Decimal = ZERO
    fees: Decimal = ZERO
    moved: Decimal = ZERO
    """USDT that came into the trading pocket by transfers and spot sales (− = left)."""
    fund: Decimal = ZERO
    debt: Decimal = ZERO
    coin_qty: Decimal = ZERO
    sold_collateral: Decimal = ZERO
    """USDT of debt repaid by selling locked collateral."""


NO_EFFECTS = Effects()


def after_fill(effects: Effects, fill: Fill, *, quote: str, coin: str) -> Effects:
    """`effects` with one more fill of an order of ours."""
    fee_quote = fill.fee if fill.fee_coin == quote else ZERO
    fee_coin = fill.fee if fill.fee_coin == coin else ZERO
    signed = fill.qty * fill.side.sign
    if category_of(fill.instrument) == "spot":
        return msgspec.structs.replace(
            effects,
            moved=effects.moved - signed * fill.price - fee_quote,
            coin_qty=effects.coin_qty + signed - fee_coin,
        )
    return msgspec.structs.replace(
        effects,
        hedge_qty=effects.hedge_qty + signed,
        hedge_cost=effects.hedge_cost + signed * fill.price,
        pnl=effects.pnl + fill.pnl,
        fees=effects.fees + fee_quote,
    )


def after_treasury(
    effects: Effects, kind_of: TreasuryKind, *, moved: Decimal, repaid: Decimal
) -> Effects:
    """`effects` with `moved` more between the pockets and `repaid` more repaid (or borrowed)."""
    if kind_of is TreasuryKind.REPAY_WITH_COLLATERAL:
        return msgspec.structs.replace(
            effects, debt=effects.debt - repaid, sold_collateral=effects.sold_collateral + repaid
        )
    to_fund = kind_of in (TreasuryKind.REPAY, TreasuryKind.TRANSFER_TO_FUND)
    out = moved if to_fund else -moved
    lent = repaid if kind_of is TreasuryKind.BORROW else -repaid
    return msgspec.structs.replace(
        effects,
        moved=effects.moved - out,
        fund=effects.fund + out + lent,
        debt=effects.debt + lent,
    )


class Exposure(NamedTuple):
    """The short in coins (long < 0), by how open orders are counted.

    An open order is in doubt until it is terminal, so each question gets the answer that cannot
    hurt: a sell never counts on an open buy, nor a buy on an open sell.
    """

    held: Decimal
    """Seen in the position."""
    booked: Decimal
    """Held plus fills not yet seen."""
    high: Decimal
    """For "may I add?": every open sell filled, no open buy."""
    low: Decimal
    """For "may I reduce?" and "am I safe?": every open buy filled, no open sell."""


def exposure(view: AccountView, orders: tuple[OrderWatch, ...], *, instrument: str) -> Exposure:
    """The short in `instrument`, with what is in flight."""
    held = -view.position_qty(instrument)
    booked, sells, buys = held, ZERO, ZERO
    for order in orders:
        if order.instrument != instrument:
            continue
        unseen, open_qty = order.unseen_qty(view), order.open_qty()
        if order.side is Side.SELL:
            booked, sells = booked + unseen, sells + open_qty
        else:
            booked, buys = booked - unseen, buys + open_qty
    return Exposure(held, booked, booked + sells, booked - buys)


class OrderNews(NamedTuple):
    """What an order confirmation brought: the watch after it and the fills that are new."""

    watch: OrderWatch
    fills: tuple[Fill, ...]


def take_order(
    orders: tuple[OrderWatch, ...],
    finished: tuple[Finished, ...],
    message: OrderConfirmation,
) -> OrderNews | None:
    """None when it says nothing new (repeated or overtaken).

    A confirmation of an intent that we do not remember is believed: what is open at the venue under
    our name counts as in flight.
    """
    watch = next((w for w in orders if w.intent_id == message.intent_id), None)
    booked: tuple[str, ...] = ()
    if watch is not None:
        if message.revision <= watch.revision:
            return None
        booked = tuple(fill.exec_id for fill in watch.fills)
    else:
        done = next((f for f in finished if f.intent_id == message.intent_id), None)
        if done is not None:
            if message.revision <= done.revision:
                return None
            booked = done.exec_ids
        watch = OrderWatch(
            intent_id=message.intent_id, instrument=message.instrument, side=message.side,
            qty=message.qty, purpose=Purpose.HEDGE,
        )
    fresh = tuple(fill for fill in message.fills if fill.exec_id not in booked)
    return OrderNews(
        msgspec.structs.replace(
            watch,
            revision=message.revision,
            filled_qty=max(watch.filled_qty, message.filled_qty),
            fills=message.fills,
            is_terminal=message.is_terminal,
            ts_confirmed_ms=max(watch.ts_confirmed_ms, message.ts_confirmed_ms),
        ),
        fresh,
    )


def take_treasury(
    watch: TreasuryWatch | None,
    finished: tuple[Finished, ...],
    message: TreasuryConfirmation,
) -> TreasuryWatch | None:
    """The watch after `message`; None when it says nothing new."""
    if watch is None or watch.intent_id != message.intent_id:
        if any(f.intent_id == message.intent_id for f in finished):
            return None
        watch = TreasuryWatch(
            intent_id=message.intent_id, kind_of=message.kind_of, transfer_amount=ZERO
        )
    if message.revision <= watch.revision:
        return None
    return msgspec.structs.replace(
        watch,
        revision=message.revision,
        moved_amount=message.moved_amount,
        loan_amount=message.loan_amount,
    )
