"""Order intents that are over and need no looking at any more, kept encoded until news comes late.

The executor's state is written whole with every step, and every order waits for that. What is over,
settled and seen in the position is therefore encoded once and then only copied; an execution or a
row that comes after all brings it back whole.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec.structs import replace

from hedgelock.domain.execution_memory import Ended, ExecutionMemory, OrderIntent
from hedgelock.domain.holdings import Holdings
from hedgelock.domain.short_room import unseen

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(OrderIntent).decode


def filed(memory: ExecutionMemory) -> ExecutionMemory:
    """`memory` with every intent filed that nothing waits for; the same when there is none."""
    at_rest = [
        order for order in memory.orders.values()
        if order.is_terminal and _is_at_rest(order, memory.holdings)
    ]
    if not at_rest:
        return memory
    filed_ids = {order.intent.intent_id for order in at_rest}
    return replace(
        memory,
        orders={key: order for key, order in memory.orders.items() if key not in filed_ids},
        ended=(*memory.ended, *map(_ended, at_rest)),
    )


def recalled(memory: ExecutionMemory, client_order_id: str) -> OrderIntent | None:
    """The filed intent that an order of ours belonged to; None = none of them."""
    for entry in memory.ended:
        if client_order_id in entry.client_order_ids:
            return _decode(entry.order)
    return None


def _is_at_rest(order: OrderIntent, holdings: Holdings) -> bool:
    """No execution missing, and nothing of it that the position does not show yet."""
    name = order.intent.instrument
    seq = next((held.seq for held in holdings.positions if held.instrument == name), None)
    return all(a.is_settled for a in order.attempts) and not unseen(order, seq, holdings)


def _ended(order: OrderIntent) -> Ended:
    return Ended(
        order.intent.intent_id, tuple(a.client_order_id for a in order.attempts),
        order.intent.decided_ts_ms, order.ended_ts_ms, msgspec.Raw(_encode(order)),
    )
