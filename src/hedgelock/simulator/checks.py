"""Answers the exchange-side checks of a scenario file from the exchange's own records.

Nothing of the system under test is asked, so any bot can be judged by them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple

from hedgelock.simulator.check_kinds import CHECKS, Check, Side
from hedgelock.simulator.gateway import Gateway
from hedgelock.simulator.money import ZERO
from hedgelock.simulator.record import ORDER_CREATE, Served
from hedgelock.simulator.state import Account, Order


class Evidence(NamedTuple):
    """The exchange's records of one account, and the check's window in exchange time."""

    gateway: Gateway
    account: Account
    check: Check
    from_ms: int
    until_ms: int

    @property
    def orders(self) -> list[Order]:
        """Orders accepted in the window."""
        return [o for o in self.account.orders if self.holds(o.created_ms)]

    def holds(self, at_ms: int) -> bool:
        """Whether an instant lies in the window."""
        return self.from_ms <= at_ms < self.until_ms

    def served(self) -> Iterator[Served]:
        """What the account's requests were answered, in the window."""
        for row in self.gateway.record.served:
            if row.account == self.account.name and self.holds(row.at_ms):
                yield row


def failures(gateway: Gateway, checks: Sequence[Check]) -> list[str]:
    """Every exchange-side check that does not hold, with what was found instead."""
    found = []
    for check in checks:
        kind = CHECKS[check.kind]
        if kind.side is Side.EXCHANGE:
            why = _ANSWERS[check.kind](_evidence(gateway, check))
            if why:
                found.append(f"{check.kind}: {why} ({kind.doc})")
    return found


def _evidence(gateway: Gateway, check: Check) -> Evidence:
    x = gateway.venue.exchange
    account = x.accounts[check.account] if check.account else next(iter(x.accounts.values()))
    started_ms = x.market.started_ms or 0

    def instant(script_s: float) -> int:
        return started_ms + int(script_s * 1000 / x.market.speed)

    if check.kind == "position_reaches":
        return Evidence(
            gateway, account, check, instant(check.at_s), instant(check.at_s + check.within_s)
        )
    return Evidence(gateway, account, check, instant(check.from_s), instant(check.until_s))


def _unliquidated(e: Evidence) -> str:
    account = e.account
    words = []
    if account.loan_liquidated_ms:
        words.append("the loan was liquidated")
    if account.margin_liquidated_ms:
        words.append("the margin was liquidated")
    return " and ".join(words)


def _ltv_max(e: Evidence) -> str:
    most = e.check.value or ZERO
    return f"LTV {e.account.ltv_max:.6f}" if e.account.ltv_max > most else ""


def _no_repeated_order(e: Evidence) -> str:
    bodies: dict[str, set[str]] = {}
    for row in e.served():
        if row.link:
            bodies.setdefault(row.link, set()).add(row.body)
    two = sorted(link for link, sent in bodies.items() if len(sent) > 1)
    shared = sorted(k for k, n in Counter(o.link for o in e.orders if o.link).items() if n > 1)
    words = [f"{link} was sent with different bodies" for link in two]
    return "; ".join([*words, *(f"{link} names two orders" for link in shared)])


def _opens(order: Order) -> bool:
    return not order.reduce_only and not order.close_on_trigger


def _no_opening_orders(e: Evidence) -> str:
    return _listed([o for o in e.orders if _opens(o)])


def _nothing_resting(e: Evidence) -> str:
    return _listed([o for o in e.account.open_orders.values() if _opens(o)])


def _listed(orders: Iterable[Order]) -> str:
    return "; ".join(
        f"{o.side} {o.contract.key} {o.link or o.order_id} at {o.created_ms}" for o in orders
    )


def _orders_between(e: Evidence) -> str:
    return _outside(Decimal(len(e.orders)), e.check, "orders")


def _repayments_between(e: Evidence) -> str:
    made = [r for r in e.account.repayments if e.holds(int(r["repayTime"]))]
    return _outside(Decimal(len(made)), e.check, "repayments")


def _refusals_at_most(e: Evidence) -> str:
    refused = [row for row in e.served() if row.code and row.path == ORDER_CREATE]
    return _above(len(refused), e.check, f"orders refused, the last with {refused[-1:]}")


def _sockets_at_most(e: Evidence) -> str:
    opened = sum(1 for at_ms, _ in e.gateway.record.sockets if e.holds(at_ms))
    return _above(opened, e.check, "sockets opened")


def _requests_at_most(e: Evidence) -> str:
    """Most requests of one address in any `within_s`, as the exchange counts them."""
    span_ms = int(e.check.within_s * 1000)
    most, windows = 0, dict[str, deque[int]]()
    for row in e.gateway.record.served:
        if row.via != "rest" or not e.holds(row.at_ms):
            continue
        window = windows.setdefault(row.address, deque())
        window.append(row.at_ms)
        while window[0] <= row.at_ms - span_ms:
            window.popleft()
        most = max(most, len(window))
    return _above(most, e.check, f"requests within {e.check.within_s} s")


def _sizes(e: Evidence) -> Iterator[tuple[int, Decimal]]:
    """Position in `check.symbol` after each execution, from 0 at the start, oldest first."""
    category, _, symbol = e.check.symbol.partition(".")
    rows = [
        r
        for r in e.account.executions
        if r["category"] == category and r["symbol"] == symbol and r["execType"] != "Funding"
    ]
    size = ZERO
    yield 0, size
    for row in sorted(rows, key=lambda r: (int(r["execTime"]), r["seq"])):
        size += Decimal(row["execQty"]) * (1 if row["side"] == "Buy" else -1)
        yield int(row["execTime"]), size


def _held(e: Evidence) -> list[Decimal]:
    """Every position held at some instant of the window."""
    before, inside = ZERO, []
    for at_ms, size in _sizes(e):
        if at_ms < e.from_ms:
            before = size
        elif at_ms < e.until_ms:
            inside.append(size)
    return [before, *inside]


def _position_between(e: Evidence) -> str:
    bad = [size for size in _held(e) if _outside(size, e.check, "")]
    return f"held {', '.join(str(size) for size in bad)}" if bad else ""


def _position_reaches(e: Evidence) -> str:
    held = _held(e)
    reached = any(not _outside(size, e.check, "") for size in held)
    return "" if reached else f"held {', '.join(str(size) for size in held)}"


def _outside(found: Decimal, check: Check, what: str) -> str:
    low = check.least is not None and found < check.least
    high = check.most is not None and found > check.most
    return f"{found} {what}" if low or high else ""


def _above(found: int, check: Check, what: str) -> str:
    return f"{found} {what}" if found > (check.value or ZERO) else ""


_ANSWERS: dict[str, Callable[[Evidence], str]] = {
    "unliquidated": _unliquidated,
    "ltv_max": _ltv_max,
    "no_repeated_order": _no_repeated_order,
    "no_opening_orders": _no_opening_orders,
    "nothing_resting": _nothing_resting,
    "orders_between": _orders_between,
    "repayments_between": _repayments_between,
    "refusals_at_most": _refusals_at_most,
    "sockets_at_most": _sockets_at_most,
    "requests_at_most": _requests_at_most,
    "position_between": _position_between,
    "position_reaches": _position_reaches,
}
