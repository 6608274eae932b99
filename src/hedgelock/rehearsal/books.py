"""What the log says about intents and what became of them, and the audit against the exchange.

The rows of the exchange come as its control API gives them (`/sim/orders`), so that the same audit
serves real processes and rehearsals. A finding is a sentence; none means that the books agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from hedgelock.bus import codec
from hedgelock.domain.order import OrderConfirmation, PlaceOrder
from hedgelock.domain.treasury import TreasuryAction, TreasuryConfirmation, TreasuryKind
from hedgelock.ports import Bus

Row = Mapping[str, Any]
ZERO = Decimal(0)


@dataclass
class Books:
    """Everything the bus says about intents and what became of them."""

    orders: dict[str, PlaceOrder] = field(default_factory=dict)
    actions: dict[str, TreasuryAction] = field(default_factory=dict)
    order_ends: dict[str, list[OrderConfirmation]] = field(default_factory=dict)
    action_ends: dict[str, TreasuryConfirmation] = field(default_factory=dict)
    decided_twice: list[str] = field(default_factory=list)

    def owners(self) -> dict[str, str]:
        """Client order id → the intent that it was sent for."""
        return {
            end.client_order_id: intent
            for intent, ends in self.order_ends.items() for end in ends if end.client_order_id
        }


def read_books(bus: Bus) -> Books:
    """Intents and their confirmations, in the order of the log."""
    books = Books()
    for record in bus.read("hedge_trades"):
        body = codec.decode(record.value).body
        if isinstance(body, PlaceOrder):
            if body.intent_id in books.orders:
                books.decided_twice.append(body.intent_id)
            books.orders[body.intent_id] = body
    for record in bus.read("treasury_actions"):
        body = codec.decode(record.value).body
        if body.intent_id in books.actions:
            books.decided_twice.append(body.intent_id)
        books.actions[body.intent_id] = body
    for record in bus.read("trade_confirmations"):
        body = codec.decode(record.value).body
        if isinstance(body, OrderConfirmation):
            books.order_ends.setdefault(body.intent_id, []).append(body)
        elif isinstance(body, TreasuryConfirmation):
            books.action_ends[body.intent_id] = body
    return books


def ours(rows: Iterable[Row]) -> list[Row]:
    """Orders that somebody sent: the exchange's own (liquidation, ADL) carry no client id."""
    return [row for row in rows if row["orderLinkId"]]


def audit_orders(books: Books, rows: Iterable[Row]) -> list[str]:
    """No duplicate, no stranger, no lost fill, nothing overfilled, every intent ended."""
    found = [f"{intent} was decided twice" for intent in books.decided_twice]
    owner = books.owners()
    at_venue = ours(rows)
    links = Counter(row["orderLinkId"] for row in at_venue)
    found += [f"{link} was sent {count} times" for link, count in links.items() if count > 1]
    found += [f"{link} is at the exchange and no decision explains it"
              for link in links if link not in owner]
    filled: dict[str, Decimal] = {}
    for row in at_venue:
        intent = owner.get(row["orderLinkId"], "")
        filled[intent] = filled.get(intent, ZERO) + Decimal(row["cumExecQty"])
    for intent, ends in books.order_ends.items():
        found += _audit_intent(books, ends[-1], filled.get(intent, ZERO))
    found += [f"{intent} was never confirmed" for intent in books.orders
              if intent not in books.order_ends]
    return found


def _audit_intent(books: Books, last: OrderConfirmation, filled: Decimal) -> list[str]:
    intent = last.intent_id
    order = books.orders.get(intent)
    if order is None:
        return [f"{intent} was confirmed and never decided"]
    found = []
    if not (last.is_terminal or last.is_stop):
        found.append(f"{intent} never ended: {last.status.value}")
    if filled > order.qty:
        found.append(f"{intent} wanted {order.qty} and was filled {filled}")
    if last.filled_qty != filled:
        found.append(f"{intent} says {last.filled_qty} filled, the exchange {filled}")
    if sum((fill.qty for fill in last.fills), ZERO) != last.filled_qty:
        found.append(f"{intent}: its fills do not add up to {last.filled_qty}")
    return found


def audit_executions(books: Books, rows: Iterable[Row]) -> list[str]:
    """Every execution of ours at the exchange stands in one confirmation, and none that is not."""
    at_venue = Counter(row["execId"] for row in rows if row["orderLinkId"])
    booked = Counter(
        fill.exec_id for ends in books.order_ends.values() for fill in ends[-1].fills
    )
    found = [f"execution {i} is not in our books" for i in at_venue if i not in booked]
    found += [f"execution {i} is in our books and not at the exchange"
              for i in booked if i not in at_venue]
    return found + [f"execution {i} was booked {n} times" for i, n in booked.items() if n > 1]


_LOAN = {
    TreasuryKind.REPAY: "repayments", TreasuryKind.REPAY_WITH_COLLATERAL: "repayments",
    TreasuryKind.BORROW: "borrows",
}


def audit_treasury(
    books: Books, repaid: Iterable[Decimal], borrowed: Iterable[Decimal], moved: Iterable[Decimal]
) -> list[str]:
    """Loan actions and transfers at the exchange are those confirmed, amount by amount, once each.

    Repayments that the exchange took by itself (liquidation) are not to be among them.
    """
    at_venue = {"repayments": list(repaid), "borrows": list(borrowed), "transfers": list(moved)}
    said: dict[str, list[Decimal]] = {kind: [] for kind in at_venue}
    found = [f"{intent} was never confirmed" for intent in books.actions
             if intent not in books.action_ends]
    for end in books.action_ends.values():
        if not end.is_terminal:
            found.append(f"{end.intent_id} never ended: {end.stage.value}")
        if end.loan_amount and end.kind_of in _LOAN:
            said[_LOAN[end.kind_of]].append(end.loan_amount)
        if end.moved_amount:
            said["transfers"].append(end.moved_amount)
    for kind, amounts in at_venue.items():
        if sorted(amounts) != sorted(said[kind]):
            found.append(f"{kind}: the exchange has {sorted(map(str, amounts))}, "
                         f"the log {sorted(map(str, said[kind]))}")
    return found
