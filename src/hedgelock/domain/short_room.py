"""How short the account is, with everything that may still fill, against what it may be: C + b.

Counted by the executor from its own orders and its own reading of the account (`holdings`).
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from hedgelock.domain.execution_memory import OrderIntent
from hedgelock.domain.holdings import Holdings
from hedgelock.domain.instrument import Instrument, Settlement
from hedgelock.domain.money import ZERO
from hedgelock.domain.order import Side
from hedgelock.domain.step import Tables


class ShortRoom(NamedTuple):
    """The short of one coin with everything that may still fill, and what may be short. Coins."""

    in_reach: Decimal
    limit: Decimal


def short_room(
    holdings: Holdings, orders: Iterable[OrderIntent], *, instrument: Instrument, mark: Decimal,
    tables: Tables,
) -> ShortRoom | None:
    """How short the account is in `instrument.base`, every open sale filled; None = not known.

    Positions plus our fills that they do not show yet plus open sales (an open purchase does not
    count: it may fail), over all contracts on the same coin. Inverse sizes are USD: divided by
    `mark`. A position whose terms are unknown is of another coin than any that we trade.
    """
    if not holdings.is_complete or mark <= 0:
        return None
    sizes: dict[str, Decimal] = {}
    seqs: dict[str, int] = {}
    for held in holdings.positions:
        sizes[held.instrument] = -held.qty
        seqs[held.instrument] = held.seq
    for order in orders:
        name = order.intent.instrument
        sizes[name] = sizes.get(name, ZERO) - unseen(order, seqs.get(name), holdings)
        if order.intent.side is Side.SELL and not order.is_terminal:
            sizes[name] += max(ZERO, order.intent.qty - order.booked_qty)
    short = ZERO
    for name, size in sizes.items():
        terms = instrument if name == instrument.instrument else tables.instrument(name)
        if terms is None or terms.base != instrument.base or terms.settlement is Settlement.SPOT:
            continue
        short += size / mark if terms.settlement is Settlement.INVERSE else size
    return ShortRoom(short, holdings.coins_of(instrument.base))


def unseen(order: OrderIntent, seq: int | None, holdings: Holdings) -> Decimal:
    """Signed fills of an order (+ bought) that the position read does not show yet."""
    if seq is None:
        # Not listed = flat, if it was read after the order ended; else nothing of it was seen.
        if order.is_terminal and holdings.positions_asked_ms > order.ended_ts_ms:
            return ZERO
        seq = -1
    fills = (fill for attempt in order.attempts for fill in attempt.fills if fill.seq > seq)
    return order.intent.side.sign * sum((fill.qty for fill in fills), ZERO)
