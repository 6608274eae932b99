"""The person in command: `operator status | halt | reduce | resume | kill | pin`, signed, shown."""

from __future__ import annotations

import secrets
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from hedgelock.cli.console import (
    PROBLEM,
    USAGE,
    examples,
    fail,
    load_settings,
    note,
    open_log,
    out,
    typeable,
)

if TYPE_CHECKING:
    from hedgelock.config import Settings
    from hedgelock.domain.command import OperatorAction, OperatorCommand
    from hedgelock.domain.safety import SafetyState

EFFECT_TIMEOUT_S = 5.0
"""How long we wait for safety to say that a command took effect."""

_LOOK_EVERY_S = 0.05
_HTTP_TIMEOUT_S = 3.0

HOUSE = "*"  # domain.policy.HOUSE; the domain is imported only when a command runs
ALL = "all"
"""How the house's account is called on the command line."""

Account = Annotated[
    str | None,
    typer.Option(help="Which account; needed where there are several. `all`: every account.",
                 show_default=False),
]
Hours = Annotated[
    float, typer.Option("--hours", min=0, max=168, help="For how long; 0 lifts the pin.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    group = typer.Typer(
        name="operator",
        help="Take command: status, halt, reduce, resume, kill, pin. Signed with OPERATOR__KEY.",
        no_args_is_help=True, rich_markup_mode="rich",
        epilog=examples(
            "hedgelock operator halt  –  nothing new, but the loan is still protected",
            "hedgelock operator pin --hours 8  –  leave the hedge as it is; the hard cliffs still act",
            "hedgelock operator resume",
            "hedgelock operator kill --flatten  –  stop everything and close the hedge",
        ),
    )
    group.command(
        epilog=examples("hedgelock operator status", "hedgelock operator status --account main"),
    )(status)
    group.command(epilog=examples("hedgelock operator halt", "hedgelock operator halt --account main"))(
        halt
    )
    group.command(epilog=examples("hedgelock operator reduce --account all"))(reduce)
    group.command(epilog=examples("hedgelock operator resume"))(resume)
    group.command(epilog=examples("hedgelock operator pin --hours 8", "hedgelock operator pin --hours 0"))(
        pin
    )
    group.command(name="no-repay", epilog=examples("hedgelock operator no-repay --hours 2"))(no_repay)
    group.command(epilog=examples("hedgelock operator alive  –  from cron, while you watch"))(alive)
    group.command(
        epilog=examples(
            "hedgelock operator kill  –  cancel orders, keep the hedge, do nothing more",
            "hedgelock operator kill --flatten  –  also close the hedge, reduce-only",
            "hedgelock operator kill --account main --flatten --yes  –  without asking",
        ),
    )(kill)
    app.add_typer(group)


def status(account: Account = None) -> None:
    """Show what each account may do and why, and how safe it is. Exits with 1 unless all are ACTIVE."""
    from hedgelock.cli import standing

    settings = load_settings()
    names = settings.account_names() if account is None else (_account(settings, account),)
    bus = open_log(settings)
    try:
        found = [standing.read(bus, name) for name in names]
    finally:
        bus.close()
    for one in found:
        for line in standing.lines(one):
            out().print(typeable(line), markup=False, soft_wrap=True)
    if not all(one.is_active for one in found):
        raise typer.Exit(PROBLEM)


def halt(account: Account = None) -> None:
    """Halt an account: open orders are cancelled, nothing new is opened.

    Protective actions (hedging a falling loan, repaying) go on.
    """
    _order("halt", account)


def reduce(account: Account = None) -> None:
    """No new discretionary exposure, and what there is may only shrink.

    Protection, repaying and the reserve go on.
    """
    _order("reduce", account)


def resume(account: Account = None) -> None:
    """Resume an account: the policy is in charge again.

    Losses that its breakers held against it count from now on.
    """
    _order("resume", account)


def pin(account: Account = None, hours: Hours = 8) -> None:
    """Leave the hedge as it is for a while. What margin demands, or LTV at its limit, is done anyway."""
    _order("pin_hedge", account, hours=hours)


def no_repay(account: Account = None, hours: Hours = 2) -> None:
    """Repay nothing for a while. At the urgent LTV the loan is repaid all the same."""
    _order("forbid_repay", account, hours=hours)


def alive(account: Account = None) -> None:
    """Say that somebody watches: the heartbeat of the dead-man's switch (SAFETY__HEARTBEAT_MAX_S)."""
    _order("alive", account)


def kill(
    account: Account = None,
    flatten: Annotated[
        bool, typer.Option("--flatten", help="Also close the hedge, reduce-only.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for the account's name.")] = False,
) -> None:
    """Kill an account: cancel everything, then do nothing more, not even protect the loan.

    Shows what that means for the loan and asks for the account's name first.
    """
    _order("kill", account, flatten=flatten, yes=yes)


def _order(
    action: str, account: str | None, *, flatten: bool = False, yes: bool = False, hours: float = 0
) -> None:
    from hedgelock.domain.command import OperatorAction

    settings = load_settings()
    chosen = _account(settings, account)
    if action == "kill":
        for name in settings.account_names() if chosen == HOUSE else (chosen,):
            _confirm(settings, name, flatten=flatten, yes=yes)
    command = make_command(settings, chosen, OperatorAction(action), flatten=flatten, hours=hours)
    _send(settings, command)
    _await_effect(settings, command)


def _account(settings: Settings, wanted: str | None) -> str:
    names = settings.account_names()
    if wanted == ALL and ALL not in names:
        return HOUSE
    chosen = names[0] if wanted is None and len(names) == 1 else wanted
    if chosen is None or chosen not in names:
        what = "which account?" if wanted is None else f"there is no account {wanted!r}"
        fail(what, why=f"configured: {', '.join(names)}", todo=f"--account {names[0]}", code=USAGE)
    return chosen


def make_command(
    settings: Settings, account: str, action: OperatorAction, *, flatten: bool, hours: float = 0
) -> OperatorCommand:
    """A command issued now, signed with the configuration's key; `hours` from now ends a pin."""
    import msgspec

    from hedgelock.clock import SystemClock
    from hedgelock.domain.command import OperatorCommand, sign

    now_ms = SystemClock().now_ms()
    bare = OperatorCommand(
        account=account, command_id=secrets.token_hex(12), action=action, flatten=flatten,
        issued_ts_ms=now_ms, signature="",
        until_ts_ms=now_ms + int(hours * 3_600_000) if hours else None,
    )
    key = settings.operator_key.get_secret_value().encode()
    return msgspec.structs.replace(bare, signature=sign(bare, key))


# ---------------------------------------------------------------- before


def _confirm(settings: Settings, account: str, *, flatten: bool, yes: bool) -> None:
    """Show what a kill means; leave unless the operator types the account's name."""
    from rich.markup import escape

    from hedgelock.cli import kill_preview

    bus = open_log(settings)
    try:
        preview = kill_preview.read(bus, settings.policy(account), account)
    finally:
        bus.close()
    console = out()
    for line in kill_preview.lines(preview, flatten=flatten):
        console.print(line)
    for line in kill_preview.hindrances(settings, account):
        console.print(f"[bold red]{escape(line)}[/]")
    if yes:
        return
    if not sys.stdin.isatty():
        fail("a kill needs a yes", why="nobody can type the account's name here",
             todo="add --yes if that is meant", code=USAGE)
    if typer.prompt(f"Type the account's name ({account}) to kill it") != account:
        fail("nothing was changed", why="that was not the account's name", code=USAGE)


# ---------------------------------------------------------------- sending


def _send(settings: Settings, command: OperatorCommand) -> None:
    if settings.kafka.bootstrap_servers:
        _publish(settings, command)
    else:
        _post(settings, command)


def _publish(settings: Settings, command: OperatorCommand) -> None:
    from hedgelock import app
    from hedgelock.bus import codec
    from hedgelock.ports import Outgoing

    ident = f"operator:{command.account}:{command.command_id}"
    value = codec.encode(command, id=ident, trace=codec.new_trace(ident), causes=(),
                         ts_ms=command.issued_ts_ms)
    bus = app.open_bus(settings)
    try:
        publisher = bus.publisher("operator")
        publisher.publish([Outgoing("operator_commands", command.account, value)])
        publisher.flush(EFFECT_TIMEOUT_S)
        publisher.close()
    finally:
        bus.close()


def _post(settings: Settings, command: OperatorCommand) -> None:
    """The embedded log has one writer, the engine: the command goes through its safety service."""
    import http.client

    import msgspec

    from hedgelock.cli.listeners import local

    port = settings.http.ports("safety").http
    connection = http.client.HTTPConnection(local(settings.http.host), port, timeout=_HTTP_TIMEOUT_S)
    try:
        connection.request("POST", "/operator", body=msgspec.json.encode(command),
                           headers={"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read(2_000).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        fail(f"the command was not delivered: safety does not answer on port {port}", why=str(error),
             todo="is `hedgelock run` running? If HedgeLock is down, act at the exchange's own site")
    finally:
        connection.close()
    if answer.status >= http.client.BAD_REQUEST:
        fail(f"the engine refused the command (HTTP {answer.status})", why=text,
             todo="hedgelock doctor")


# ---------------------------------------------------------------- after


def _await_effect(settings: Settings, command: OperatorCommand) -> None:
    bus = open_log(settings)
    deadline = time.monotonic() + EFFECT_TIMEOUT_S
    try:
        while True:
            state = _latest_word(bus, command.account)
            if state is not None and _tell_effect(state, command):
                return
            if time.monotonic() > deadline:
                break
            time.sleep(_LOOK_EVERY_S)
    finally:
        bus.close()
    now = f"{state.mode.name}, command {state.command_id or 'none'}" if state else "nothing yet"
    fail(f"no effect within {EFFECT_TIMEOUT_S:.0f} s: the command may still be taken up",
         why=f"safety's latest word is: {now}",
         todo=f"hedgelock peek safety_state --key {command.account}; then hedgelock doctor")


def _latest_word(bus: object, account: str) -> SafetyState | None:
    from hedgelock.bus import codec
    from hedgelock.domain.safety import SafetyState
    from hedgelock.errors import BadMessage

    found: SafetyState | None = None
    for record in bus.read("safety_state", start=-100):  # type: ignore[attr-defined]
        if record.key == account:
            try:
                body = codec.decode(record.value, "safety_state").body
            except BadMessage:
                continue  # in quarantine with its reason
            if isinstance(body, SafetyState):
                found = body
    return found


def _tell_effect(state: SafetyState, command: OperatorCommand) -> bool:
    """Say what became of the command; False when safety has not spoken about it yet."""
    if state.command_id == command.command_id:
        flat = ", the hedge is being closed" if state.flatten else ""
        out().print(f"[bold]{shown(command.account)} is {state.mode.name}[/]{flat}{_pins(state)}")
        if state.mode.value != "active":
            note("back to work: hedgelock operator resume")
        return True
    if command.command_id in state.text:
        why = state.text.partition("refused: ")[2] or state.text
        wrong_key = "is OPERATOR__KEY the same here as for the engine? hedgelock config operator"
        fail(f"safety refused to {command.action.value} {shown(command.account)}",
             why=f"{why}; the account is {state.mode.name}",
             todo=wrong_key if "signature" in why else "", code=PROBLEM)
    return False


def shown(account: str) -> str:
    """An account's name for people."""
    return "every account" if account == HOUSE else account


def _pins(state: SafetyState) -> str:
    from hedgelock.cli.words import moment

    pinned = (("the hedge stays as it is", state.hedge_pinned_until_ms),
              ("nothing is repaid", state.repay_forbidden_until_ms))
    return "".join(f"; {what} until {moment(until)}" for what, until in pinned if until is not None)
