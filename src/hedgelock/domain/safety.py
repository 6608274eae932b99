"""The operator's stop. Safety alone reads commands and alone writes policies.

A command counts once, within 30 s, with the operator's signature; anything else leaves the mode as
it is and says why. Nothing resumes by itself. Safety also writes the reserve R into a policy that
has none, once, at the account's first fresh assessment.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

import msgspec

from hedgelock.domain.message import Message
from hedgelock.domain.money import ONE, floor_to, saturate
from hedgelock.domain.order import OrderConfirmation, is_alarm
from hedgelock.domain.risk import Confidence, RiskAssessment
from hedgelock.domain.step import Now, Output, Step, Tables

COMMAND_TTL_MS = 30_000
"""A command older than this is refused."""
CLOCK_AHEAD_MAX_MS = 5_000
"""A command from further in the future than this is refused."""
COMMANDS_REMEMBERED = 64
"""Ids of consumed commands kept; more than can be issued within COMMAND_TTL_MS by hand."""


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


class SafetyMemory(msgspec.Struct, frozen=True, kw_only=True):
    """State of safety for one account. `reserve`: the R that was written, never recomputed."""

    state: SafetyState | None = None
    consumed: tuple[str, ...] = ()
    reserve: Decimal | None = None
    policy_version: int = 0
    """Of the policy written last; the table may still show an older one."""


class Verdict(NamedTuple):
    """What a command leads to. `refusal` "" = accepted."""

    mode: SafetyMode
    reason: SafetyReason
    refusal: str = ""


MOVES: dict[tuple[SafetyMode, OperatorAction], Verdict] = {
    (SafetyMode.ACTIVE, OperatorAction.HALT): Verdict(
        SafetyMode.HALTED, SafetyReason.OPERATOR_HALT
    ),
    # Not idle: a person's word thaws an account that its executor froze.
    (SafetyMode.ACTIVE, OperatorAction.RESUME): Verdict(
        SafetyMode.ACTIVE, SafetyReason.OPERATOR_RESUME
    ),
    (SafetyMode.ACTIVE, OperatorAction.KILL): Verdict(
        SafetyMode.KILLED, SafetyReason.OPERATOR_KILL
    ),
    (SafetyMode.HALTED, OperatorAction.HALT): Verdict(
        SafetyMode.HALTED, SafetyReason.OPERATOR_HALT, "already halted"
    ),
    (SafetyMode.HALTED, OperatorAction.RESUME): Verdict(
        SafetyMode.ACTIVE, SafetyReason.OPERATOR_RESUME
    ),
    (SafetyMode.HALTED, OperatorAction.KILL): Verdict(
        SafetyMode.KILLED, SafetyReason.OPERATOR_KILL
    ),
    (SafetyMode.KILLED, OperatorAction.HALT): Verdict(
        SafetyMode.KILLED, SafetyReason.OPERATOR_KILL, "killed forbids more than halted; resume first"
    ),
    (SafetyMode.KILLED, OperatorAction.RESUME): Verdict(
        SafetyMode.ACTIVE, SafetyReason.OPERATOR_RESUME
    ),
    # A second kill may add the flattening, or take it back.
    (SafetyMode.KILLED, OperatorAction.KILL): Verdict(
        SafetyMode.KILLED, SafetyReason.OPERATOR_KILL
    ),
}
"""Every (mode, action), decided here and nowhere else."""


def signed_text(command: OperatorCommand) -> bytes:
    """What the signature covers: every field but itself, unambiguous (a JSON list)."""
    return msgspec.json.encode([
        "hedgelock-operator-1", command.account, command.command_id, command.action.value,
        command.flatten, command.issued_ts_ms,
    ])


def sign(command: OperatorCommand, key: bytes) -> str:
    """Hex HMAC-SHA256 of the command; its own `signature` field does not matter."""
    return hmac.new(key, signed_text(command), hashlib.sha256).hexdigest()


def verify(command: OperatorCommand, key: bytes) -> bool:
    """Whether the operator's key signed it. An empty key signs nothing."""
    given = command.signature.encode(errors="surrogatepass")
    return bool(key) and hmac.compare_digest(sign(command, key).encode(), given)


StepFunction = Callable[[SafetyMemory, Tables, Message, Now], Step[SafetyMemory]]


def make_step(key: bytes) -> StepFunction:
    """The fold of the safety service with the operator's key; b"" accepts no command."""

    def step(
        memory: SafetyMemory, tables: Tables, message: Message, now: Now
    ) -> Step[SafetyMemory]:
        """Obey commands and write the reserve; everything else changes nothing."""
        match message:
            case OperatorCommand():
                return _command(memory, message, now=now, is_signed=verify(message, key))
            case RiskAssessment():
                return _started(_reserve(memory, tables, message), message, now)
            case OrderConfirmation() if is_alarm(message):
                return _alarmed(memory, message, now)
            case _:
                return Step(memory)

    return step


def _alarmed(
    memory: SafetyMemory, confirmation: OrderConfirmation, now: Now
) -> Step[SafetyMemory]:
    """An order that nobody can explain halts its account until a person resumes it."""
    known = memory.state
    if known is not None and known.mode is not SafetyMode.ACTIVE:
        return Step(memory)
    state = SafetyState(
        account=confirmation.account, version=known.version + 1 if known is not None else 1,
        mode=SafetyMode.HALTED, reason=SafetyReason.UNEXPLAINED_ORDER, flatten=False, command_id="",
        text=confirmation.text, since_ts_ms=now.now_ms,
    )
    return Step(
        msgspec.structs.replace(memory, state=state),
        (Output("safety_state", confirmation.account, state),),
    )


def _started(
    step: Step[SafetyMemory], risk: RiskAssessment, now: Now
) -> Step[SafetyMemory]:
    """The first word on an account: ACTIVE. Until it is said nothing may be opened or moved."""
    if step.state.state is not None:
        return step
    state = SafetyState(
        account=risk.account, version=1, mode=SafetyMode.ACTIVE, reason=SafetyReason.STARTED,
        flatten=False, command_id="", text="", since_ts_ms=now.now_ms,
    )
    return Step(
        msgspec.structs.replace(step.state, state=state),
        (*step.outputs, Output("safety_state", risk.account, state)),
    )


def _command(
    memory: SafetyMemory, command: OperatorCommand, *, now: Now, is_signed: bool
) -> Step[SafetyMemory]:
    if is_signed and command.command_id in memory.consumed:
        return Step(memory)
    mode = memory.state.mode if memory.state is not None else SafetyMode.ACTIVE
    age_ms = now.now_ms - command.issued_ts_ms
    verdict = MOVES[mode, command.action]
    refusal = verdict.refusal
    if not is_signed:
        refusal = "signature is not the operator's"
    elif age_ms > COMMAND_TTL_MS:
        refusal = f"expired: issued {age_ms} ms ago"
    elif age_ms < -CLOCK_AHEAD_MAX_MS:
        refusal = f"issued {-age_ms} ms in the future: check the clocks"
    if is_signed:
        # Only the operator can use up an id.
        consumed = (*memory.consumed, command.command_id)[-COMMANDS_REMEMBERED:]
        memory = msgspec.structs.replace(memory, consumed=consumed)
    state = _refused(memory.state, command, refusal) if refusal else SafetyState(
        account=command.account,
        version=memory.state.version + 1 if memory.state is not None else 1,
        mode=verdict.mode,
        reason=verdict.reason,
        flatten=command.flatten and verdict.mode is SafetyMode.KILLED,
        command_id=command.command_id,
        text="",
        since_ts_ms=now.now_ms,
    )
    if state == memory.state:
        return Step(memory)
    return Step(
        msgspec.structs.replace(memory, state=state),
        (Output("safety_state", command.account, state),),
    )


def _refused(known: SafetyState | None, command: OperatorCommand, why: str) -> SafetyState:
    """The same word as before with the refusal as its text; unchanged when it says so already."""
    text = f"{command.action.value} {command.command_id} refused: {why}"
    if known is None:
        return SafetyState(
            account=command.account, version=1, mode=SafetyMode.ACTIVE,
            reason=SafetyReason.STARTED, flatten=False, command_id="", text=text, since_ts_ms=0,
        )
    if known.text == text:
        return known
    return msgspec.structs.replace(known, version=known.version + 1, text=text)


def _reserve(
    memory: SafetyMemory, tables: Tables, risk: RiskAssessment
) -> Step[SafetyMemory]:
    """R = reserve_fraction × V in whole USDT, written once into a policy that has none."""
    policy = tables.policy(risk.account)
    if policy is None or policy.hedge.reserve is not None:
        return Step(memory)
    if policy.version < memory.policy_version:
        return Step(memory)  # ours is on its way into the table
    reserve = memory.reserve
    if reserve is None:
        if risk.confidence is not Confidence.FRESH or risk.counted_value <= 0:
            return Step(memory)
        reserve = floor_to(saturate(policy.hedge.reserve_fraction * risk.counted_value), ONE)
    written = msgspec.structs.replace(
        policy,
        version=policy.version + 1,
        hedge=msgspec.structs.replace(policy.hedge, reserve=reserve),
    )
    return Step(
        msgspec.structs.replace(memory, reserve=reserve, policy_version=written.version),
        (Output("policies", risk.account, written),),
    )
