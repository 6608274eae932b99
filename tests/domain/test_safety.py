"""Safety: operator commands by table, signed, once and in time; the reserve, once."""

from __future__ import annotations

from decimal import Decimal as D

import msgspec
import pytest
from hedge_world import ACCOUNT, TableRows, World, policy
from hypothesis import given
from hypothesis import strategies as st
from strategies import structs

from hedgelock.domain.account import Position, PositionChanged, PositionsRead
from hedgelock.domain.command import OperatorAction, OperatorCommand, sign, verify
from hedgelock.domain.message import Message, Tick
from hedgelock.domain.order import ALARM, OrderConfirmation, OrderStatus, Side
from hedgelock.domain.policy import Policy, SafetyPolicy
from hedgelock.domain.risk import Confidence, RiskAssessment
from hedgelock.domain.safety import (
    COMMANDS_REMEMBERED,
    MOVES,
    SafetyMemory,
    SafetyMode,
    SafetyReason,
    SafetyState,
    make_step,
    stricter,
)
from hedgelock.domain.step import Now, Step

KEY = b"the operator's key"
T = 1_000_000
STEP = make_step(KEY)
replace = msgspec.structs.replace


def command(
    action: OperatorAction, command_id: str = "c1", *, flatten: bool = False, at_ms: int = T,
    key: bytes = KEY,
) -> OperatorCommand:
    """A signed command."""
    bare = OperatorCommand(
        account=ACCOUNT, command_id=command_id, action=action, flatten=flatten,
        issued_ts_ms=at_ms, signature="",
    )
    return replace(bare, signature=sign(bare, key))


def fold(memory: SafetyMemory, message: Message, *, now_ms: int = T) -> Step[SafetyMemory]:
    """One step of safety."""
    return STEP(memory, TableRows(), message, Now(now_ms, "safety:main:1", "00"))


def in_mode(mode: SafetyMode) -> SafetyMemory:
    """Memory of an account in a mode."""
    return SafetyMemory(state=SafetyState(
        account=ACCOUNT, version=7, mode=mode, reason=SafetyReason.STARTED, flatten=False,
        command_id="c0", text="", since_ts_ms=1,
    ))


@pytest.mark.parametrize(("mode", "action"), MOVES)
def test_every_command_in_every_mode_does_what_the_table_says(
    mode: SafetyMode, action: OperatorAction
) -> None:
    """Accepted: new mode, reason and time; refused: the same mode with the reason as text."""
    memory, expected = in_mode(mode), MOVES[mode, action]
    (output,) = fold(memory, command(action)).outputs
    state = output.message
    assert isinstance(state, SafetyState)
    assert (output.topic, state.version, state.mode) == ("safety_state", 8, expected.mode)
    if expected.refusal:
        assert expected.refusal in state.text
        assert (state.since_ts_ms, state.command_id) == (1, "c0")
    else:
        assert (state.text, state.since_ts_ms, state.command_id) == ("", T, "c1")
        assert state.reason is expected.reason


def test_flatten_belongs_to_kill_alone() -> None:
    """`flatten` on a halt means nothing; a second kill adds it or takes it back."""
    state = fold(SafetyMemory(), command(OperatorAction.HALT, flatten=True)).state.state
    assert state is not None
    assert not state.flatten
    memory = in_mode(SafetyMode.KILLED)
    for number, flatten in enumerate((True, False)):
        memory = fold(memory, command(OperatorAction.KILL, f"k{number}", flatten=flatten)).state
        assert memory.state is not None
        assert memory.state.flatten is flatten


def test_a_command_counts_once() -> None:
    """The same command again changes nothing and says nothing, whatever came between."""
    halt = command(OperatorAction.HALT)
    memory = fold(SafetyMemory(), halt).state
    memory = fold(memory, command(OperatorAction.RESUME, "c2")).state
    assert fold(memory, halt) == Step(memory)


def test_consumed_ids_are_bounded() -> None:
    """Only the last ids are kept; older commands have long expired."""
    memory = SafetyMemory()
    for number in range(COMMANDS_REMEMBERED + 5):
        memory = fold(memory, command(OperatorAction.HALT, f"c{number}")).state
    assert len(memory.consumed) == COMMANDS_REMEMBERED


@pytest.mark.parametrize(("age_ms", "word"), [
    (30_000, ""), (30_001, "expired"), (-5_000, ""), (-5_001, "future"),
])
def test_commands_expire(age_ms: int, word: str) -> None:
    """Valid for 30 s, and not from more than 5 s in the future."""
    state = fold(SafetyMemory(), command(OperatorAction.HALT), now_ms=T + age_ms).state.state
    assert state is not None
    assert word in state.text
    assert state.mode is (SafetyMode.ACTIVE if word else SafetyMode.HALTED)


def test_a_foreign_signature_moves_nothing_and_uses_up_no_id() -> None:
    """Refused with its reason, published once; the operator's own command still counts."""
    forged = replace(command(OperatorAction.RESUME), signature="\ud800 é")
    memory = in_mode(SafetyMode.HALTED)
    done = fold(memory, forged)
    assert done.state.state is not None
    assert done.state.state.mode is SafetyMode.HALTED
    assert "signature" in done.state.state.text
    assert not fold(done.state, forged).outputs
    real = fold(done.state, command(OperatorAction.RESUME)).state.state
    assert real is not None
    assert real.mode is SafetyMode.ACTIVE


def test_an_empty_key_accepts_nothing() -> None:
    """Without OPERATOR__KEY no command is obeyed, not even one signed with nothing."""
    assert not verify(command(OperatorAction.RESUME, key=b""), b"")


@given(structs(OperatorCommand), structs(OperatorCommand))
def test_a_signature_covers_every_field(one: OperatorCommand, other: OperatorCommand) -> None:
    """Two commands share a signature only when they are the same command."""
    same = replace(one, signature="") == replace(other, signature="")
    assert (sign(one, KEY) == sign(other, KEY)) is same


# ------------------------------------------------------------ the reserve


def rows(row: Policy | None) -> TableRows:
    """Tables with this policy."""
    return TableRows(policy_row=row)


STARTED = in_mode(SafetyMode.ACTIVE)


def assess(memory: SafetyMemory, tables: TableRows, **changes: object) -> Step[SafetyMemory]:
    """One step on an assessment of the demo account."""
    risk = World(price=D("61234.56")).assessment(**changes)
    return STEP(memory, tables, risk, Now(T, "safety:main:1", "00"))


def test_the_reserve_is_a_tenth_of_v_in_whole_usdt_written_once() -> None:
    """The first fresh assessment writes R; while the table lags nothing is written again."""
    done = assess(STARTED, rows(policy(reserve=None, version=3)))
    (output,) = done.outputs
    written = output.message
    assert isinstance(written, Policy)
    assert (output.topic, output.key, written.version) == ("policies", ACCOUNT, 4)
    assert written.hedge.reserve == D(6123)
    assert not assess(done.state, rows(policy(reserve=None, version=3))).outputs
    assert not assess(done.state, rows(written)).outputs


def test_the_reserve_is_never_recomputed() -> None:
    """A later policy without R gets the first R again, not a new one."""
    first = assess(STARTED, rows(policy(reserve=None))).state
    (output,) = assess(
        first, rows(policy(reserve=None, version=9)), counted_value=D(1), assessed_ts_ms=5
    ).outputs
    assert isinstance(output.message, Policy)
    assert output.message.hedge.reserve == D(6123)


@pytest.mark.parametrize("changes", [
    {"confidence": Confidence.STALE}, {"confidence": Confidence.ABSENT}, {"counted_value": D(0)},
])
def test_no_reserve_is_written_from_doubtful_figures(changes: dict[str, object]) -> None:
    """Not fresh, or no collateral counted: wait."""
    assert not assess(STARTED, rows(policy(reserve=None)), **changes).outputs


def test_the_first_word_is_active_and_said_once() -> None:
    """An account's first assessment brings STARTED; a mode that is there already is left alone."""
    done = assess(SafetyMemory(), rows(None))
    (output,) = done.outputs
    assert isinstance(output.message, SafetyState)
    assert (output.message.mode, output.message.version) == (SafetyMode.ACTIVE, 1)
    assert output.message.reason is SafetyReason.STARTED
    assert not assess(done.state, rows(None)).outputs
    assert not assess(in_mode(SafetyMode.KILLED), rows(None)).outputs


def test_no_policy_no_reserve() -> None:
    """Nothing to write into."""
    assert not assess(STARTED, rows(None)).outputs


def test_everything_else_changes_nothing() -> None:
    """Ticks and facts are read for later issues."""
    memory = in_mode(SafetyMode.HALTED)
    assert fold(memory, Tick(now_ms=T)) == Step(memory)


@pytest.mark.no_cover
@given(structs(OperatorCommand) | structs(RiskAssessment), structs(Policy), st.booleans())
def test_safety_is_total_and_survives_the_wire(
    message: OperatorCommand | RiskAssessment, row: Policy, signed: bool
) -> None:
    """Any decodable message gives a memory that encodes and decodes to itself."""
    if signed and isinstance(message, OperatorCommand):
        message = replace(message, signature=sign(message, KEY))
    memory = STEP(SafetyMemory(), rows(row), message, Now(T, "safety:main:1", "00")).state
    assert msgspec.json.decode(msgspec.json.encode(memory), type=SafetyMemory) == memory


def confirmed(text: str) -> OrderConfirmation:
    """What the executor says of an order."""
    return OrderConfirmation(
        account=ACCOUNT, intent_id="i", client_order_id="hlx", venue_order_id="v",
        instrument="linear:BTCUSDT", side=Side.SELL, qty=D("0.1"), filled_qty=D(0), fills=(),
        status=OrderStatus.REJECTED, is_terminal=True, is_unknown=False, reduce_only=False,
        text=text, revision=1, ts_confirmed_ms=T,
    )


def test_an_order_that_nobody_can_explain_halts_its_account() -> None:
    """The executor's alarm halts an active account once; its text tells the person why."""
    alarm = confirmed(f"{ALARM}an order with our prefix, but unknown")
    for memory, version in ((SafetyMemory(), 1), (in_mode(SafetyMode.ACTIVE), 8)):
        step = fold(memory, alarm)
        (output,) = step.outputs
        assert output.topic == "safety_state"
        state = step.state.state
        assert state is not None
        assert (state.mode, state.reason) == (SafetyMode.HALTED, SafetyReason.UNEXPLAINED_ORDER)
        assert (state.version, state.text, state.since_ts_ms) == (version, alarm.text, T)
        assert fold(step.state, alarm) == Step(step.state)


def test_an_alarm_changes_no_stricter_word_and_other_confirmations_nothing() -> None:
    """KILLED stays killed; an ordinary confirmation says nothing about the mode."""
    killed = fold(in_mode(SafetyMode.KILLED), confirmed(f"{ALARM}x"))
    assert killed.state.state == in_mode(SafetyMode.KILLED).state
    assert not killed.outputs
    assert not fold(SafetyMemory(), confirmed("filled")).outputs


# ------------------------------------------------------------ breakers, pins, the house


def blind(at_ms: int) -> RiskAssessment:
    """An assessment whose inputs are old."""
    risk = World().assessment(assessed_ts_ms=at_ms)
    return replace(risk, confidence=Confidence.STALE)


def test_a_breaker_makes_it_reducing_and_its_end_active_again() -> None:
    """STALE_INPUT: after 60 s REDUCING, named; the hold wakes safety for it; FRESH ends it."""
    memory = fold(STARTED, blind(T)).state
    step = fold(memory, blind(T + 1))
    assert step.hold.until_ms == T + 60_000
    step = fold(step.state, Tick(now_ms=T + 60_000), now_ms=T + 60_000)
    (output,) = step.outputs
    assert isinstance(output.message, SafetyState)
    said = output.message
    assert (said.mode, said.reason) == (SafetyMode.REDUCING, SafetyReason.BREAKER)
    assert (said.breakers, said.since_ts_ms) == (("stale_input",), T + 60_000)
    assert not fold(step.state, Tick(now_ms=T + 61_000), now_ms=T + 61_000).outputs
    seen = World().assessment(assessed_ts_ms=T + 62_000)
    after = fold(step.state, seen, now_ms=T + 62_000).state.state
    assert after is not None
    assert (after.mode, after.reason, after.breakers) == (SafetyMode.ACTIVE, SafetyReason.STARTED, ())


def test_a_breaker_never_loosens_a_person_s_word() -> None:
    """HALTED stays HALTED whatever breakers say, and stays so when they rest again."""
    memory = fold(in_mode(SafetyMode.HALTED), blind(T)).state
    memory = fold(memory, Tick(now_ms=T + 60_000), now_ms=T + 60_000).state
    assert memory.state is not None
    assert memory.state.mode is SafetyMode.HALTED
    assert memory.state.breakers == ("stale_input",)
    memory = fold(memory, World().assessment(assessed_ts_ms=T + 62_000), now_ms=T + 62_000).state
    assert memory.state is not None
    assert (memory.state.mode, memory.state.breakers) == (SafetyMode.HALTED, ())


def test_a_resume_forgives_and_is_remembered_with_its_version() -> None:
    """Six refused orders: REDUCING; a person's RESUME makes it ACTIVE, and the executor may thaw by it."""
    memory = STARTED
    for number in range(6):
        memory = fold(memory, replace(confirmed("170131 no"), intent_id=f"i{number}")).state
    assert memory.state is not None
    assert (memory.state.mode, memory.state.breakers) == (SafetyMode.REDUCING, ("rejects",))
    resumed = fold(memory, command(OperatorAction.RESUME)).state.state
    assert resumed is not None
    assert (resumed.mode, resumed.breakers) == (SafetyMode.ACTIVE, ())
    assert (resumed.resumed_version, resumed.resumed_ts_ms) == (resumed.version, T)


def test_pins_hold_until_their_time_and_change_no_mode() -> None:
    """Set, shown, lifted by time (the hold wakes safety) or by an earlier time; 7 days at most."""
    until = T + 3_600_000

    def pin(action: OperatorAction, name: str, until_ms: int | None) -> OperatorCommand:
        bare = replace(command(action, name), until_ts_ms=until_ms)
        return replace(bare, signature=sign(bare, KEY))

    step = fold(STARTED, pin(OperatorAction.PIN_HEDGE, "p1", until))
    state = step.state.state
    assert state is not None
    assert (state.mode, state.command_id, state.hedge_pinned_until_ms) == (SafetyMode.ACTIVE, "p1", until)
    assert state.is_hedge_pinned(until - 1)
    assert not state.is_hedge_pinned(until)
    assert not state.is_repay_forbidden(T)
    assert step.hold.until_ms == until
    step = fold(step.state, Tick(now_ms=until), now_ms=until)
    assert step.state.state is not None
    assert step.state.state.hedge_pinned_until_ms is None
    step = fold(STARTED, pin(OperatorAction.FORBID_REPAY, "p2", until))
    assert step.state.state is not None
    assert step.state.state.is_repay_forbidden(T)
    step = fold(step.state, pin(OperatorAction.FORBID_REPAY, "p3", None))
    assert step.state.state is not None
    assert step.state.state.repay_forbidden_until_ms is None
    refused = fold(STARTED, pin(OperatorAction.PIN_HEDGE, "p4", T + 8 * 86_400_000)).state.state
    assert refused is not None
    assert "7 days" in refused.text
    assert refused.hedge_pinned_until_ms is None


def test_the_dead_man_s_switch() -> None:
    """No word within `heartbeat_max_ms`: REDUCING until the operator says anything at all."""
    limits = replace(policy(), safety=SafetyPolicy(heartbeat_max_ms=10_000))
    tables = rows(limits)

    def at(memory: SafetyMemory, message: Message, now_ms: int) -> Step[SafetyMemory]:
        return STEP(memory, tables, message, Now(now_ms, "safety:main:1", "00"))

    step = at(SafetyMemory(), World().assessment(), T)
    assert step.hold.until_ms == T + 10_000
    step = at(step.state, Tick(now_ms=T + 10_000), T + 10_000)
    assert step.state.state is not None
    assert step.state.state.reason is SafetyReason.OPERATOR_SILENT
    assert step.state.state.mode is SafetyMode.REDUCING
    step = at(step.state, command(OperatorAction.ALIVE, at_ms=T + 11_000), T + 11_000)
    assert step.state.state is not None
    assert step.state.state.mode is SafetyMode.ACTIVE
    assert step.hold.until_ms == T + 21_000


def test_a_crowded_position_warns_and_nothing_more() -> None:
    """ADL rank 4 and 5 are named until the rank falls or the position is gone."""
    def position(rank: int, qty: str = "-0.4", name: str = "linear:BTCUSDT") -> Position:
        return Position(
            instrument=name, position_qty=D(qty), entry_price=D(60_000), upl=D(0),
            liquidation_price=None, leverage=None, status="Normal", adl_rank=rank, seq=1,
        )

    def read(*positions: Position) -> PositionsRead:
        return PositionsRead(
            account=ACCOUNT, positions=positions, ts_requested_ms=T, ts_event_ms=T, ts_seen_ms=T
        )

    def push(position: Position) -> PositionChanged:
        return PositionChanged(account=ACCOUNT, position=position, ts_event_ms=T, ts_seen_ms=T)

    memory = fold(STARTED, read(position(4), position(3, name="linear:ETHUSDT"))).state
    assert memory.state is not None
    assert (memory.state.warnings, memory.state.mode) == (("adl:linear:BTCUSDT",), SafetyMode.ACTIVE)
    memory = fold(memory, push(position(5, name="linear:ETHUSDT"))).state
    assert memory.state is not None
    assert memory.state.warnings == ("adl:linear:BTCUSDT", "adl:linear:ETHUSDT")
    memory = fold(memory, push(position(1))).state
    memory = fold(memory, push(position(5, "0", name="linear:ETHUSDT"))).state
    assert memory.state is not None
    assert memory.state.warnings == ()
    assert fold(memory, read()).state is memory


@pytest.mark.parametrize("own", [None, *SafetyMode])
@pytest.mark.parametrize("house", [None, *SafetyMode])
def test_the_stricter_word_binds(own: SafetyMode | None, house: SafetyMode | None) -> None:
    """The house can only forbid more; nothing said on the account itself stays nothing said."""
    order = [None, *SafetyMode]
    mine = in_mode(own).state if own else None
    theirs = replace(in_mode(house).state, account="*", text="theirs") if house else None
    bound = stricter(mine, theirs)
    if own is None and house in (None, SafetyMode.ACTIVE):
        assert bound is None
        return
    assert bound is not None
    assert bound.mode is max(own, house, key=order.index)
    assert (bound.text == "theirs") is (order.index(house) > order.index(own))


def test_a_pin_of_the_house_holds_for_every_account() -> None:
    """The later end counts; a pin of the account alone stays."""
    mine = replace(in_mode(SafetyMode.ACTIVE).state, hedge_pinned_until_ms=5)
    theirs = replace(in_mode(SafetyMode.ACTIVE).state, hedge_pinned_until_ms=9, repay_forbidden_until_ms=3)
    bound = stricter(mine, theirs)
    assert bound is not None
    assert (bound.hedge_pinned_until_ms, bound.repay_forbidden_until_ms) == (9, 3)
