"""Which conditional orders a price wakes: heaps by trigger price, so that a tick looks at tops only."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from decimal import Decimal

from hedgelock.simulator.market import Quote
from hedgelock.simulator.matching import SELL
from hedgelock.simulator.orders import Order, Trigger

Heap = list[tuple[Decimal, int, Order]]


class Stops:
    """Waiting conditional orders; cancelled and amended ones are skipped when they surface."""

    def __init__(self) -> None:
        self._heaps: dict[tuple[str, str, bool], Heap] = {}
        self._trailing: dict[str, Order] = {}

    def follow(self, order: Order) -> None:
        """Let a trailing stop's trigger follow the last price from now on."""
        self._trailing[order.order_id] = order

    def trail(self, quotes: Mapping[str, Quote]) -> None:
        """Move the triggers of active trailing stops towards better prices, never back."""
        for order_id, order in list(self._trailing.items()):
            if order.status != "Untriggered":
                del self._trailing[order_id]
                continue
            quote, falls = quotes[order.contract.key], order.side == SELL
            if order.active_price:
                if (quote.last < order.active_price) is falls and quote.last != order.active_price:
                    continue
                order.active_price = Decimal(0)
            price = quote.last - order.trail if falls else quote.last + order.trail
            if order.trigger is None or (price > order.trigger.price) is falls:
                order.trigger = Trigger(price, rising=not falls)
                self.add(order)

    def add(self, order: Order) -> None:
        """Wait for the order's trigger (again, after the trigger was amended)."""
        trigger = order.trigger
        assert trigger is not None
        rank = trigger.price if trigger.rising else -trigger.price
        place = (order.contract.key, trigger.by, trigger.rising)
        heapq.heappush(self._heaps.setdefault(place, []), (rank, order.number, order))

    def pop_due(self, quotes: Mapping[str, Quote]) -> Order | None:
        """Take out one order whose trigger price has been reached; None when there is none."""
        for place, heap in list(self._heaps.items()):
            key, by, rising = place
            price = trigger_price(quotes[key], by)
            while heap:
                rank, _, order = heap[0]
                trigger = order.trigger
                if (
                    order.status != "Untriggered"
                    or trigger is None
                    or rank != (trigger.price if rising else -trigger.price)
                ):
                    heapq.heappop(heap)
                    continue
                if rank > (price if rising else -price):
                    break
                heapq.heappop(heap)
                return order
            if not heap:
                del self._heaps[place]
        return None


def trigger_price(quote: Quote, by: str) -> Decimal:
    """The price that a trigger of kind `by` watches."""
    if by == "MarkPrice":
        return quote.mark
    return quote.index if by == "IndexPrice" else quote.last
