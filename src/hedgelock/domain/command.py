"""What a person can order, signed: HMAC-SHA256 with OPERATOR__KEY over every field of the command."""

from __future__ import annotations

import enum
import hashlib
import hmac

import msgspec

from hedgelock.domain.message import Message

COMMAND_TTL_MS = 30_000
"""A command older than this is refused."""
CLOCK_AHEAD_MAX_MS = 5_000
"""A command from further in the future than this is refused."""
PIN_MAX_MS = 7 * 86_400_000
"""A pin can be set this far ahead, no further: nobody remembers one for longer."""


class OperatorAction(enum.Enum):
    """What a person can order."""

    HALT = "halt"
    REDUCE = "reduce"
    """No new discretionary exposure; everything else goes on."""
    RESUME = "resume"
    """The policy is in charge again; what the breakers held against the account is forgotten."""
    KILL = "kill"
    PIN_HEDGE = "pin_hedge"
    """Leave the hedge as it is until `until_ts_ms`; the hard cliffs still act."""
    FORBID_REPAY = "forbid_repay"
    """Repay nothing until `until_ts_ms`; at `urgent_at` it is paid all the same."""
    ALIVE = "alive"
    """The heartbeat of the operator's dead-man's switch; changes nothing else."""


class OperatorCommand(Message, frozen=True, kw_only=True):
    """A signed order of the operator for one account, or for all (`*`).

    Expires 30 s after `issued_ts_ms`; consumed once by `command_id`. `flatten` (kill only): also
    close the hedge reduce-only, confirmed by the operator who saw the LTV after it. `until_ts_ms`
    (pins only): UTC epoch; None or past = the pin is lifted.
    """

    account: str
    command_id: str
    action: OperatorAction
    flatten: bool
    issued_ts_ms: int
    signature: str
    until_ts_ms: int | None = None


def signed_text(command: OperatorCommand) -> bytes:
    """What the signature covers: every field but itself, unambiguous (a JSON list)."""
    return msgspec.json.encode([
        "hedgelock-operator-2", command.account, command.command_id, command.action.value,
        command.flatten, command.issued_ts_ms, command.until_ts_ms,
    ])


def sign(command: OperatorCommand, key: bytes) -> str:
    """Hex HMAC-SHA256 of the command; its own `signature` field does not matter."""
    return hmac.new(key, signed_text(command), hashlib.sha256).hexdigest()


def verify(command: OperatorCommand, key: bytes) -> bool:
    """Whether the operator's key signed it. An empty key signs nothing."""
    given = command.signature.encode(errors="surrogatepass")
    return bool(key) and hmac.compare_digest(sign(command, key).encode(), given)
