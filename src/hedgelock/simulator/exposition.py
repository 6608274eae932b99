"""What Prometheus may scrape from the simulator: the exchange's view, not HedgeLock's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from hedgelock.simulator import loans
from hedgelock.simulator.control import equity_usd
from hedgelock.simulator.money import text
from hedgelock.simulator.state import Account, Exchange
from hedgelock.simulator.venue import Venue

PREFIX = "hedgelock_simulator_"
CONTENT_TYPE = "text/plain; version=0.0.4"


@dataclass(frozen=True, slots=True)
class AccountFigure:
    """One figure per account."""

    name: str
    kind: str
    help: str
    read: Callable[[Exchange, Account], Decimal | int]


ACCOUNT_FIGURES = (
    AccountFigure("orders_total", "counter", "Orders accepted.", lambda _, a: a.orders.total),
    AccountFigure("fills_total", "counter", "Executions.", lambda _, a: a.fills),
    AccountFigure("fees_usd_total", "counter", "Trading fees paid, USD.", lambda _, a: a.fees_usd),
    AccountFigure(
        "repayments_total", "counter", "Loan repayments.", lambda _, a: len(a.repayments)
    ),
    AccountFigure("ltv", "gauge", "Loan to value, fraction.", loans.ltv),
    AccountFigure("equity_usd", "gauge", "Both pockets less debts, USD.", equity_usd),
    AccountFigure(
        "liquidated",
        "gauge",
        "1 once the loan or the margin was liquidated.",
        lambda _, a: int(bool(a.loan_liquidated_ms or a.margin_liquidated_ms)),
    ),
)


def exposition(venue: Venue) -> str:
    """All figures in Prometheus' text format."""
    x = venue.exchange
    lines = [
        f"# HELP {PREFIX}ticks_total Market ticks played.",
        f"# TYPE {PREFIX}ticks_total counter",
        f"{PREFIX}ticks_total {venue.streams.ticks}",
        f"# HELP {PREFIX}index_price Index price, USD per coin.",
        f"# TYPE {PREFIX}index_price gauge",
        *(
            f'{PREFIX}index_price{{coin="{coin}"}} {text(price)}'
            for coin, price in x.market.index.items()
        ),
    ]
    for figure in ACCOUNT_FIGURES:
        name = PREFIX + figure.name
        lines += [f"# HELP {name} {figure.help}", f"# TYPE {name} {figure.kind}"]
        for account in x.accounts.values():
            value = text(Decimal(figure.read(x, account)))
            lines.append(f'{name}{{account="{account.name}"}} {value}')
    return "\n".join(lines) + "\n"
