"""The crypto loan's actions: their requests, and how they are recognised in its histories.

Loan actions carry no key of ours, so the history is all there is to tell whether one happened.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

from hedgelock.domain.effect import Outcome, QueryLoanAction, SendLoanAction
from hedgelock.domain.treasury import TreasuryKind
from hedgelock.exchanges.bybit_reads import pages
from hedgelock.exchanges.ccxt_venue import CcxtVenue
from hedgelock.exchanges.fields import Row

HISTORY_SLACK_MS = 1_000
"""The loan history is searched from this much before the action: its times may be whole seconds."""

EARLIEST_MS = 10**12
"""2001. An earlier time is one in seconds: read as ms, every action would be taken for absent."""

_LOAN_OUTCOMES = {1: Outcome.DONE, 2: Outcome.ACCEPTED, 3: Outcome.REFUSED}
_RANK = (Outcome.DONE, Outcome.ACCEPTED, Outcome.REFUSED)
_REPAID_BY_VENUE = frozenset({2, 5, 6})
"""repayType of liquidation, delisting and delayed liquidation: not what we asked for."""


class Table(NamedTuple):
    """One loan history: where it is and how its rows are named."""

    path: str
    key: str
    amount: str
    time: str
    status: str


REPAYMENTS = Table(
    "/v5/crypto-loan-flexible/repayment-history", key="repayId", amount="repayAmount",
    time="repayTime", status="repayStatus",
)
BORROWINGS = Table(
    "/v5/crypto-loan-flexible/borrow-history", key="orderId", amount="initialLoanAmount",
    time="borrowTime", status="status",
)


def plain(number: Decimal) -> str:
    """Digits without an exponent, as Bybit wants them.

    >>> plain(Decimal("1E+3")), plain(Decimal("0.0010"))
    ('1000', '0.0010')
    """
    return format(number, "f")


async def outcome_in_history(
    venue: CcxtVenue, table: Table, effect: SendLoanAction | QueryLoanAction, *, since_ms: int,
    reference: str = "",
) -> tuple[Outcome, str] | None:
    """What became of an action and its reference: by its reference, or by coin, amount and time.

    Among several that fit, done wins over processing over failed: a failed attempt beside a
    successful one must not be repeated. None = every page was read and holds nothing that fits.
    """
    floor_ms = since_ms + venue.offset_ms - HISTORY_SLACK_MS
    query: dict[str, Any] = {"loanCurrency": effect.coin, "limit": 100}
    if reference:
        query[table.key] = reference
    # Rows that are known to be other actions of ours: an equal amount must not be taken for this one.
    others = effect.known_references if isinstance(effect, QueryLoanAction) else ()
    found: list[tuple[Outcome, str]] = []
    times: list[int] = []
    async for answer in pages(venue, table.path, query):
        for row in answer.result.rows("list"):
            at_ms = row.ts_ms(table.time)
            if at_ms < EARLIEST_MS:
                raise row.bad(table.time, f"not in ms: {at_ms}")
            times.append(at_ms)
            fits = row.text(table.key) == reference if reference else (
                at_ms >= floor_ms and _fits(row, table, effect)
                and row.text(table.key) not in others
            )
            if fits:
                found.append((_outcome(row, table), row.text(table.key)))
        # Newest first is shown by the page, not assumed: only then is the rest older still.
        newest_first = times == sorted(times, reverse=True) and len(set(times)) > 1
        if newest_first and times[-1] < floor_ms:
            break
    return min(found, key=lambda each: _RANK.index(each[0]), default=None)


def _fits(row: Row, table: Table, effect: SendLoanAction | QueryLoanAction) -> bool:
    """Whether a row may be the action: same coin and amount, and not the venue's own doing."""
    if row.text("loanCurrency") != effect.coin:
        return False
    if "repayType" in row and row.integer("repayType") in _REPAID_BY_VENUE:
        return False
    return row.decimal(table.amount) == effect.amount


def _outcome(row: Row, table: Table) -> Outcome:
    status = row.integer(table.status)
    if status not in _LOAN_OUTCOMES:
        raise row.bad(table.status, f"unknown status {status}")
    return _LOAN_OUTCOMES[status]


def loan_request(effect: SendLoanAction) -> tuple[str, dict[str, Any], Table] | None:
    """Path, body and history of a loan action; None for what is none."""
    amount = plain(effect.amount)
    match effect.kind_of:
        case TreasuryKind.REPAY:
            return (
                "/v5/crypto-loan-flexible/repay",
                {"loanCurrency": effect.coin, "amount": amount}, REPAYMENTS,
            )
        case TreasuryKind.BORROW:
            return (
                "/v5/crypto-loan-flexible/borrow",
                {"loanCurrency": effect.coin, "loanAmount": amount}, BORROWINGS,
            )
        case TreasuryKind.REPAY_WITH_COLLATERAL:
            return (
                "/v5/crypto-loan-flexible/repay-collateral",
                {
                    "loanCurrency": effect.coin, "collateralCoin": effect.collateral_coin,
                    "amount": amount,
                },
                REPAYMENTS,
            )
        case _:
            return None
