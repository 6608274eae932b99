"""What an account may do: the operator's word, tightened by breakers. Safety alone writes policies.

    ACTIVE    everything
    REDUCING  no new discretionary exposure; protection, repaying and the reserve go on
    HALTED    nothing new but protective actions; resting orders are cancelled
    KILLED    cancel everything, then only what the operator confirmed; no protective actions either

The *word* is what a person, or an alarm, said last; it changes by command alone, and nothing resumes
by itself from HALTED. On top of an ACTIVE word lie the breakers (`breakers`) and the dead-man's
switch: they make it REDUCING for as long as they hold, and none removes a protective hedge. What the
house (`*`) says binds every account (`stricter`).

A command counts once, within 30 s, with the operator's signature; anything else leaves the mode as
it is and says why. Safety also writes the reserve R into a policy that has none, once, at the
account's first fresh assessment.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

import msgspec

from hedgelock.domain.account import PositionChanged, PositionsRead
from hedgelock.domain.breakers import Watch, acknowledged, next_look_ms, observe
from hedgelock.domain.command import (
    CLOCK_AHEAD_MAX_MS,
    COMMAND_TTL_MS,
    PIN_MAX_MS,
    OperatorAction,
    OperatorCommand,
    verify,
)
from hedgelock.domain.message import Message
from hedgelock.domain.order import OrderConfirmation, is_alarm
from hedgelock.domain.policy import Policy, SafetyPolicy
from hedgelock.domain.reserve import with_reserve
from hedgelock.domain.risk import RiskAssessment
from hedgelock.domain.step import Hold, Now, Output, Step, Tables

COMMANDS_REMEMBERED = 64
"""Ids of consumed commands kept; more than can be issued within COMMAND_TTL_MS by hand."""
_replace = msgspec.structs.replace


class SafetyMode(enum.Enum):
    """What the account may do, in order of strictness."""

    ACTIVE = "active"
    REDUCING = "reducing"
    HALTED = "halted"
    KILLED = "killed"


_MODES = tuple(SafetyMode)


class SafetyReason(enum.Enum):
    """Why the mode is what it is."""

    STARTED = "started"
    OPERATOR_HALT = "operator_halt"
    OPERATOR_REDUCE = "operator_reduce"
    OPERATOR_RESUME = "operator_resume"
    OPERATOR_KILL = "operator_kill"
    OPERATOR_SILENT = "operator_silent"
    """The dead-man's switch: no word within `heartbeat_max_ms`."""
    BREAKER = "breaker"
    UNEXPLAINED_ORDER = "unexplained_order"
    QUARANTINED_MONEY_MESSAGE = "quarantined_money_message"


class SafetyState(Message, frozen=True, kw_only=True):
    """The latest word of safety for an account; `version` counts up.

    `breakers` and `warnings` name what holds now, `*_until_ms` what the operator pinned (None = not),
    `resumed_*` when a person last said RESUME (None = never).
    """

    account: str
    version: int
    mode: SafetyMode
    reason: SafetyReason
    flatten: bool
    command_id: str
    text: str
    since_ts_ms: int
    breakers: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    hedge_pinned_until_ms: int | None = None
    repay_forbidden_until_ms: int | None = None
    resumed_version: int | None = None
    resumed_ts_ms: int | None = None

    def is_hedge_pinned(self, now_ms: int) -> bool:
        """Whether the hedge is to stay as it is, the hard cliffs apart."""
        return self.hedge_pinned_until_ms is not None and now_ms < self.hedge_pinned_until_ms

    def is_repay_forbidden(self, now_ms: int) -> bool:
        """Whether nothing is to be repaid, the hard cliff apart."""
        return self.repay_forbidden_until_ms is not None and now_ms < self.repay_forbidden_until_ms


def stricter(own: SafetyState | None, house: SafetyState | None) -> SafetyState | None:
    """What binds an account: its own word, or the house's where that is stricter; None = none yet.

    A pin of either holds. Before safety has spoken on the account itself, the house can only forbid.
    """
    if house is None:
        return own
    if own is None:
        return house if house.mode is not SafetyMode.ACTIVE else None
    own = _replace(
        own,
        hedge_pinned_until_ms=_later(own.hedge_pinned_until_ms, house.hedge_pinned_until_ms),
        repay_forbidden_until_ms=_later(own.repay_forbidden_until_ms, house.repay_forbidden_until_ms),
    )
    if _MODES.index(house.mode) <= _MODES.index(own.mode):
        return own
    return _replace(
        own, mode=house.mode, reason=house.reason, flatten=house.flatten, text=house.text,
        command_id=house.command_id, since_ts_ms=house.since_ts_ms,
    )


def _later(one: int | None, other: int | None) -> int | None:
    return max(filter(None, (one, other)), default=None)


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """What a person or an alarm said last."""

    mode: SafetyMode = SafetyMode.ACTIVE
    reason: SafetyReason = SafetyReason.STARTED
    flatten: bool = False
    command_id: str = ""
    text: str = ""
    since_ts_ms: int = 0


class SafetyMemory(msgspec.Struct, frozen=True, kw_only=True):
    """State of safety for one account: what was published last, and what it follows from."""

    state: SafetyState | None = None
    word: Word | None = None
    consumed: tuple[str, ...] = ()
    reserve: Decimal | None = None
    policy_version: int = 0
    """Of the policy written last."""
    watch: Watch = Watch()
    alive_ms: int = 0
    """When the operator last said anything, or the account began."""
    hedge_pinned_until_ms: int = 0
    repay_forbidden_until_ms: int = 0
    crowded: tuple[str, ...] = ()
    """Instruments near auto-deleveraging."""


class Verdict(NamedTuple):
    """What a command leads to. `refusal` "" = accepted."""

    mode: SafetyMode
    reason: SafetyReason
    refusal: str = ""


def _moves() -> dict[tuple[SafetyMode, OperatorAction], Verdict]:
    mode, reason, action = SafetyMode, SafetyReason, OperatorAction
    halted = Verdict(mode.HALTED, reason.OPERATOR_HALT)
    # Not idle when ACTIVE already: a person's word thaws an account that its executor froze.
    resumed = Verdict(mode.ACTIVE, reason.OPERATOR_RESUME)
    # A second kill may add the flattening, or take it back.
    killed = Verdict(mode.KILLED, reason.OPERATOR_KILL)
    moves = {
        (mode.ACTIVE, action.HALT): halted,
        (mode.ACTIVE, action.REDUCE): Verdict(mode.REDUCING, reason.OPERATOR_REDUCE),
        (mode.REDUCING, action.HALT): halted,
        (mode.REDUCING, action.REDUCE): Verdict(
            mode.REDUCING, reason.OPERATOR_REDUCE, "already reducing"
        ),
        (mode.HALTED, action.HALT): Verdict(mode.HALTED, reason.OPERATOR_HALT, "already halted"),
        (mode.HALTED, action.REDUCE): Verdict(
            mode.HALTED, reason.OPERATOR_HALT, "halted forbids more than reducing; resume first"
        ),
        (mode.KILLED, action.HALT): Verdict(
            mode.KILLED, reason.OPERATOR_KILL, "killed forbids more than halted; resume first"
        ),
        (mode.KILLED, action.REDUCE): Verdict(
            mode.KILLED, reason.OPERATOR_KILL, "killed forbids more than reducing; resume first"
        ),
    }
    for now in mode:
        moves[now, action.RESUME] = resumed
        moves[now, action.KILL] = killed
    return moves


MOVES = _moves()
"""Every (mode, action) that is about the mode, decided here and nowhere else; pins change no mode."""

_PINS = {
    OperatorAction.PIN_HEDGE: "hedge_pinned_until_ms",
    OperatorAction.FORBID_REPAY: "repay_forbidden_until_ms",
}

StepFunction = Callable[[SafetyMemory, Tables, Message, Now], Step[SafetyMemory]]


def make_step(key: bytes) -> StepFunction:
    """The fold of the safety service with the operator's key; b"" accepts no command."""

    def step(
        memory: SafetyMemory, tables: Tables, message: Message, now: Now
    ) -> Step[SafetyMemory]:
        """Obey commands, watch the account and write the reserve."""
        known = memory.state.account if memory.state is not None else ""
        account = getattr(message, "account", known) or known
        policy = tables.policy(account) if account else None
        limits = policy.safety if policy is not None else SafetyPolicy()
        outputs: tuple[Output, ...] = ()
        match message:
            case OperatorCommand():
                memory = _command(memory, message, now=now, is_signed=verify(message, key))
            case OrderConfirmation() if is_alarm(message):
                memory = _alarmed(memory, message, now)
            case PositionsRead() | PositionChanged():
                memory = _crowded(memory, message, limits)
            case RiskAssessment():
                if policy is not None:
                    memory, outputs = _reserve(memory, policy, message)
                if _word_of(memory) is None:
                    # The first word on an account. Until it is said nothing may be opened or moved.
                    memory = _replace(
                        memory, word=Word(since_ts_ms=now.now_ms),
                        alive_ms=max(memory.alive_ms, now.now_ms),
                    )
        watch = observe(memory.watch, message, limits, now.now_ms)
        if watch is not memory.watch:
            memory = _replace(memory, watch=watch)
        memory, said = _speak(memory, account, limits, now)
        return Step(memory, (*outputs, *said), hold=_hold(memory, limits, now))

    return step


def _word_of(memory: SafetyMemory) -> Word | None:
    """The word; of a memory written before there was one, what was published last."""
    state = memory.state
    if memory.word is not None or state is None:
        return memory.word
    return Word(
        mode=state.mode, reason=state.reason, flatten=state.flatten, command_id=state.command_id,
        text=state.text, since_ts_ms=state.since_ts_ms,
    )


# ---------------------------------------------------------------- what is said


def _speak(
    memory: SafetyMemory, account: str, limits: SafetyPolicy, now: Now
) -> tuple[SafetyMemory, tuple[Output, ...]]:
    """Publish the word and what lies on top of it, where that is news."""
    word, last = _word_of(memory), memory.state
    if word is None:
        return memory, ()
    mode, reason, since_ms = word.mode, word.reason, word.since_ts_ms
    if mode is SafetyMode.ACTIVE:
        laid = _laid_on(memory, limits, now.now_ms)
        if laid is not None:
            mode, reason = SafetyMode.REDUCING, laid
            is_same = last is not None and (last.mode, last.reason) == (mode, reason)
            since_ms = last.since_ts_ms if last is not None and is_same else now.now_ms
    said = SafetyState(
        account=account, version=last.version if last is not None else 0, mode=mode, reason=reason,
        flatten=word.flatten, command_id=word.command_id, text=word.text, since_ts_ms=since_ms,
        breakers=tuple(breaker.value for breaker in memory.watch.tripped),
        warnings=tuple(f"adl:{name}" for name in memory.crowded),
        hedge_pinned_until_ms=_ahead(memory.hedge_pinned_until_ms, now),
        repay_forbidden_until_ms=_ahead(memory.repay_forbidden_until_ms, now),
        resumed_version=last.resumed_version if last is not None else None,
        resumed_ts_ms=last.resumed_ts_ms if last is not None else None,
    )
    has_resumed = word.reason is SafetyReason.OPERATOR_RESUME
    if has_resumed and said.resumed_ts_ms != word.since_ts_ms:
        said = _replace(said, resumed_version=said.version + 1, resumed_ts_ms=word.since_ts_ms)
    if said == last:
        return memory, ()
    said = _replace(said, version=said.version + 1)
    return _replace(memory, state=said, word=word), (Output("safety_state", account, said),)


def _laid_on(memory: SafetyMemory, limits: SafetyPolicy, now_ms: int) -> SafetyReason | None:
    """What makes an ACTIVE word REDUCING."""
    if memory.watch.tripped:
        return SafetyReason.BREAKER
    silence_ms = limits.heartbeat_max_ms
    if silence_ms and now_ms - memory.alive_ms >= silence_ms:
        return SafetyReason.OPERATOR_SILENT
    return None


def _ahead(until_ms: int, now: Now) -> int | None:
    return until_ms if until_ms > now.now_ms else None


def _hold(memory: SafetyMemory, limits: SafetyPolicy, now: Now) -> Hold:
    """Until a pin ends, a breaker trips by silence, or the operator has been silent too long."""
    turns = [memory.hedge_pinned_until_ms, memory.repay_forbidden_until_ms]
    look_ms = next_look_ms(memory.watch, limits)
    if look_ms is not None:
        turns.append(look_ms)
    if limits.heartbeat_max_ms:
        turns.append(memory.alive_ms + limits.heartbeat_max_ms)
    return Hold(until_ms=min((turn for turn in turns if turn > now.now_ms), default=None))


# ---------------------------------------------------------------- what changes the word


def _alarmed(memory: SafetyMemory, confirmation: OrderConfirmation, now: Now) -> SafetyMemory:
    """An order that nobody can explain halts its account until a person resumes; KILLED stays."""
    word = _word_of(memory)
    if word is not None and word.mode in (SafetyMode.HALTED, SafetyMode.KILLED):
        return memory
    return _replace(memory, word=Word(
        mode=SafetyMode.HALTED, reason=SafetyReason.UNEXPLAINED_ORDER, text=confirmation.text,
        since_ts_ms=now.now_ms,
    ))


def _crowded(
    memory: SafetyMemory, fact: PositionsRead | PositionChanged, limits: SafetyPolicy
) -> SafetyMemory:
    """Warn of positions that auto-deleveraging would take first."""
    match fact:
        case PositionsRead():
            positions, kept = fact.positions, frozenset[str]()
        case _:
            positions, kept = (fact.position,), frozenset(memory.crowded) - {fact.position.instrument}
    near = {
        p.instrument for p in positions if p.position_qty and p.adl_rank >= limits.adl_rank_warn
    }
    crowded = tuple(sorted(kept | near))
    return memory if crowded == memory.crowded else _replace(memory, crowded=crowded)


def _command(
    memory: SafetyMemory, command: OperatorCommand, *, now: Now, is_signed: bool
) -> SafetyMemory:
    if is_signed and command.command_id in memory.consumed:
        return memory
    word = _word_of(memory) or Word()
    verdict = MOVES.get((word.mode, command.action), Verdict(word.mode, word.reason))
    refusal = _refusal(command, verdict, now=now, is_signed=is_signed)
    if is_signed:
        # Only the operator can use up an id.
        consumed = (*memory.consumed, command.command_id)[-COMMANDS_REMEMBERED:]
        memory = _replace(memory, consumed=consumed)
    if refusal:
        text = f"{command.action.value} {command.command_id} refused: {refusal}"
        return _replace(memory, word=_replace(word, text=text))
    if (word.mode, command.action) not in MOVES:
        said = _replace(word, command_id=command.command_id, text="")
        pin = _PINS.get(command.action)
        pinned = {} if pin is None else {pin: command.until_ts_ms or 0}
        return _replace(memory, word=said, alive_ms=now.now_ms, **pinned)
    said = Word(
        mode=verdict.mode, reason=verdict.reason, command_id=command.command_id,
        flatten=command.flatten and verdict.mode is SafetyMode.KILLED, since_ts_ms=now.now_ms,
    )
    is_resume = command.action is OperatorAction.RESUME
    watch = acknowledged(memory.watch) if is_resume else memory.watch
    return _replace(memory, word=said, alive_ms=now.now_ms, watch=watch)


def _refusal(command: OperatorCommand, verdict: Verdict, *, now: Now, is_signed: bool) -> str:
    age_ms = now.now_ms - command.issued_ts_ms
    if not is_signed:
        return "signature is not the operator's"
    if age_ms > COMMAND_TTL_MS:
        return f"expired: issued {age_ms} ms ago"
    if age_ms < -CLOCK_AHEAD_MAX_MS:
        return f"issued {-age_ms} ms in the future: check the clocks"
    if command.action in _PINS and (command.until_ts_ms or 0) > now.now_ms + PIN_MAX_MS:
        return f"a pin holds for {PIN_MAX_MS // 86_400_000} days at most"
    return verdict.refusal


def _reserve(
    memory: SafetyMemory, policy: Policy, risk: RiskAssessment
) -> tuple[SafetyMemory, tuple[Output, ...]]:
    written = with_reserve(policy, risk, known=memory.reserve, version=memory.policy_version)
    if written is None:
        return memory, ()
    memory = _replace(memory, reserve=written.hedge.reserve, policy_version=written.version)
    return memory, (Output("policies", risk.account, written),)
