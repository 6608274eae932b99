"""Orders that must not rest while nobody watches: ours that open, cancelled one by one.

Reduce-only orders stay: they can only lower what is at risk, and the protective stop is one of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from hedgelock.errors import BadMessage, VenueBusy, VenueError
from hedgelock.exchanges.bybit_reads import pages
from hedgelock.exchanges.ccxt_venue import CcxtVenue
from hedgelock.exchanges.fields import Row

OUR_PREFIX: Final = "hl"
"""Every client order id of ours begins so (`domain.order.client_order_id`)."""
ATTEMPTS_MAX: Final = 20
BUSY_S: Final = 0.25
GONE: Final = frozenset({"110001", "110008", "110010", "170213"})
"""The order ended by itself in between."""


async def cancel_opening(
    venue: CcxtVenue, *, settle_coins: Sequence[str]
) -> tuple[list[str], list[str]]:
    """(cancelled, failed) client order ids of open orders of ours that are not reduce-only.

    Raises VenueError or BadMessage when the open orders cannot be read; a row that cannot be read
    counts as failed, and does not hide the others.
    """
    queries: list[dict[str, Any]] = [
        {"category": "linear", "settleCoin": coin, "limit": 50} for coin in settle_coins
    ]
    queries += [{"category": "inverse", "limit": 50}, {"category": "spot", "limit": 50}]
    cancelled: list[str] = []
    failed: list[str] = []
    for query in queries:
        rows = [
            row async for answer in pages(venue, "/v5/order/realtime", query)
            for row in answer.result.rows("list")
        ]
        for row in rows:
            name = row.text_or("orderLinkId") or row.path
            try:
                if await _cancel(venue, row, query["category"]):
                    cancelled.append(name)
            except (VenueError, BadMessage) as error:
                failed.append(f"{name}: {error}")
    return cancelled, failed


async def _cancel(venue: CcxtVenue, row: Row, category: str) -> bool:
    if not row.text("orderLinkId").startswith(OUR_PREFIX) or row.flag("reduceOnly"):
        return False
    body = {"category": category, "symbol": row.name("symbol"), "orderId": row.name("orderId")}
    for attempt in range(ATTEMPTS_MAX):
        try:
            await venue.call("POST", "/v5/order/cancel", body)
        except VenueBusy:
            # Nothing happened, and a second cancel does no harm: wait for room.
            if attempt == ATTEMPTS_MAX - 1:
                raise
            await asyncio.sleep(BUSY_S)
        except VenueError as error:
            if error.code not in GONE:
                raise
            break
        else:
            break
    return True
