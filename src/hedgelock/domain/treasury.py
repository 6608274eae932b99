"""Moving money between the pockets and the loan: what the hedger asks for and what came of it."""

from __future__ import annotations

import enum
from decimal import Decimal
from typing import ClassVar

from hedgelock.domain.message import Message


class Pocket(enum.Enum):
    """Where coins are. The loan's collateral is not a pocket: it is locked."""

    UNIFIED = "unified"
    FUND = "fund"


class TreasuryKind(enum.Enum):
    """What a treasury action does."""

    REPAY = "repay"
    """Move `transfer_amount` UNIFIED → FUND when > 0, then repay `amount` from FUND."""
    BORROW = "borrow"
    """Borrow `amount` into FUND, then move `transfer_amount` FUND → UNIFIED."""
    REPAY_WITH_COLLATERAL = "repay_with_collateral"
    """Sell locked `collateral_coin` to repay `amount`; the last resort."""
    TRANSFER_TO_FUND = "transfer_to_fund"
    TRANSFER_TO_UNIFIED = "transfer_to_unified"


class TreasuryAction(Message, frozen=True, kw_only=True):
    """Do this once, before `expires_ts_ms`. Amounts in `coin`.

    `debt_before` is the loan debt the decision saw: the executor needs it to tell from the history
    whether an action without an idempotency key has happened.
    """

    positive: ClassVar = ("amount",)
    non_negative: ClassVar = ("transfer_amount", "debt_before")

    account: str
    intent_id: str
    kind_of: TreasuryKind
    coin: str
    amount: Decimal
    transfer_amount: Decimal
    collateral_coin: str
    debt_before: Decimal
    reason: str
    decided_ts_ms: int
    expires_ts_ms: int


class TreasuryStage(enum.Enum):
    """How far an action came."""

    STARTED = "started"
    TRANSFERRED = "transferred"
    """The transfer part is confirmed; the loan part is still to do (or failed, see terminal)."""
    LOAN_DONE = "loan_done"
    """The loan part is confirmed; a transfer may still follow (borrow)."""
    DONE = "done"
    FAILED = "failed"


class TreasuryConfirmation(Message, frozen=True, kw_only=True):
    """What became of a treasury action so far; the latest one replaces all before.

    `moved_amount` has arrived in the other pocket; `loan_amount` was repaid or borrowed.
    `is_unknown`: part of it may have happened.
    """

    non_negative: ClassVar = ("moved_amount", "loan_amount")

    account: str
    intent_id: str
    kind_of: TreasuryKind
    coin: str
    amount: Decimal
    stage: TreasuryStage
    moved_amount: Decimal
    loan_amount: Decimal
    is_terminal: bool
    is_unknown: bool
    text: str
    revision: int
    ts_confirmed_ms: int
