"""The operator's stop. Safety alone reads commands and alone writes policies."""

from __future__ import annotations

import enum

from hedgelock.domain.message import Message


class SafetyMode(enum.Enum):
    """What the account may do."""

    ACTIVE = "active"
    HALTED = "halted"
    """Nothing new but protective actions; resting orders are cancelled."""
    KILLED = "killed"
    """Cancel everything, then only what the operator confirmed; no protective actions either."""


class OperatorAction(enum.Enum):
    """What a person can order."""

    HALT = "halt"
    RESUME = "resume"
    KILL = "kill"


class SafetyReason(enum.Enum):
    """Why the mode is what it is."""

    STARTED = "started"
    OPERATOR_HALT = "operator_halt"
    OPERATOR_RESUME = "operator_resume"
    OPERATOR_KILL = "operator_kill"
    UNEXPLAINED_ORDER = "unexplained_order"
    QUARANTINED_MONEY_MESSAGE = "quarantined_money_message"


class OperatorCommand(Message, frozen=True, kw_only=True):
    """A signed order of the operator: HMAC-SHA256 with OPERATOR__KEY over `signed_text`.

    Expires 30 s after `issued_ts_ms`; consumed once by `command_id`. `flatten` (kill only): also
    close the hedge reduce-only, confirmed by the operator who saw the LTV after it.
    """

    account: str
    command_id: str
    action: OperatorAction
    flatten: bool
    issued_ts_ms: int
    signature: str


class SafetyState(Message, frozen=True, kw_only=True):
    """The latest word of safety for an account; `version` counts up."""

    account: str
    version: int
    mode: SafetyMode
    reason: SafetyReason
    flatten: bool
    command_id: str
    text: str
    since_ts_ms: int
