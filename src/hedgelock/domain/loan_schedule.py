"""What is due for a treasury action now: the next half, questions, the end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from msgspec.structs import replace

from hedgelock.domain import precheck
from hedgelock.domain.effect import (
    Effect,
    QueryLoanAction,
    QueryTransfer,
    SendLoanAction,
    SendTransfer,
)
from hedgelock.domain.execution_memory import Leg, LegState, TreasuryIntent
from hedgelock.domain.execution_scene import QUESTION_LOST_MS, Scene
from hedgelock.domain.loan_execution import target_of, transfer_amount
from hedgelock.domain.treasury import Pocket, TreasuryKind


class Others(NamedTuple):
    """What the account's other actions mean for this one.

    `busy_coins`: a loan half is in flight there. `references`: the venue's names of their halves.
    """

    busy_coins: frozenset[str]
    references: tuple[str, ...]


def others_of(item: TreasuryIntent, actions: Iterable[TreasuryIntent]) -> Others:
    """What the other loan halves of `actions` mean for `item`."""
    halves = [
        (other.action.coin, other.loan)
        for other in actions
        if other.loan is not None and other.action.intent_id != item.action.intent_id
    ]
    return Others(
        busy_coins=frozenset(coin for coin, leg in halves if leg.state.is_open),
        references=tuple(leg.reference for _, leg in halves if leg.reference),
    )


class Advanced(NamedTuple):
    """The action after what was due was done."""

    item: TreasuryIntent
    effects: tuple[Effect, ...]


def deadline_of(item: TreasuryIntent) -> int | None:
    """When this action next needs a step; None = never by time alone."""
    if item.is_terminal:
        return None
    due = [
        at
        for leg in (item.transfer, item.loan)
        if leg is not None
        for at in (leg.send_at_ms, leg.ask_at_ms)
        if at is not None
    ]
    return min(due, default=None)


def advance(item: TreasuryIntent, scene: Scene, others: Others) -> Advanced:
    """Do everything that is due. Doing it twice does nothing the second time."""
    effects: list[Effect] = []
    if item.is_terminal:
        return Advanced(item, ())
    while True:
        before = item
        for name in _halves(item):
            item = _due(item, name, scene, effects, others)
        if item is before:
            break
    return Advanced(_ended(item, scene), tuple(effects))


def _halves(item: TreasuryIntent) -> tuple[str, ...]:
    order = ("loan", "transfer") if item.action.kind_of is TreasuryKind.BORROW else (
        "transfer", "loan"
    )
    return tuple(name for name in order if getattr(item, name) is not None)


def _due(
    item: TreasuryIntent, name: str, scene: Scene, effects: list[Effect], others: Others
) -> TreasuryIntent:
    leg: Leg = getattr(item, name)
    after = leg
    if leg.state is LegState.WAITING:
        after = _waiting(item, name, leg, scene, others)
    if after.send_at_ms is not None and after.send_at_ms <= scene.now_ms:
        after = _send(item, name, after, scene, effects)
    if after.ask_at_ms is not None and after.ask_at_ms <= scene.now_ms:
        after = _question(item, name, after, scene, effects, others)
    return item if after is leg else replace(item, **{name: after})


def _waiting(
    item: TreasuryIntent, name: str, leg: Leg, scene: Scene, others: Others
) -> Leg:
    """A half that has not started: start it when the one before is done and the coin is free."""
    first = _halves(item)[0]
    ahead: Leg | None = None if name == first else getattr(item, first)
    if ahead is not None and ahead.state is LegState.FAILED:
        return replace(leg, state=LegState.FAILED, send_at_ms=None)
    if ahead is not None and ahead.state is not LegState.DONE:
        return leg
    is_free = name != "loan" or item.action.coin not in others.busy_coins
    if is_free or scene.now_ms >= item.action.expires_ts_ms:
        return leg if leg.send_at_ms == scene.now_ms else replace(leg, send_at_ms=scene.now_ms)
    expires = item.action.expires_ts_ms  # woken by the other action's end, or by the deadline
    return leg if leg.send_at_ms == expires else replace(leg, send_at_ms=expires)


def _send(
    item: TreasuryIntent, name: str, leg: Leg, scene: Scene, effects: list[Effect]
) -> Leg:
    action = item.action
    refusal = precheck.send_refusal_of_action(action, scene.context())
    if refusal is not None and not leg.was_doubted:
        return replace(leg, state=LegState.FAILED, text=refusal.value, send_at_ms=None)
    if refusal is not None:
        return replace(
            leg, send_at_ms=None, text=refusal.value, ask_at_ms=scene.ask_again_ms(leg.asks)
        )
    effects.append(_transfer(item) if name == "transfer" else _loan(item))
    return replace(
        leg, state=LegState.SENT, send_at_ms=None, sent_ts_ms=scene.now_ms, asked_ts_ms=0,
        sends=leg.sends + 1,
        first_sent_ts_ms=leg.first_sent_ts_ms or scene.now_ms,
        ask_at_ms=scene.now_ms + QUESTION_LOST_MS,
        absent_from_ms=scene.now_ms + scene.settle_ms,
    )


def _transfer(item: TreasuryIntent) -> SendTransfer:
    action, target = item.action, target_of(item.action)
    return SendTransfer(
        account=action.account, intent_id=action.intent_id, transfer_id=item.transfer_id,
        coin=action.coin, amount=transfer_amount(action), target=target,
        source=Pocket.UNIFIED if target is Pocket.FUND else Pocket.FUND,
        expires_ts_ms=action.expires_ts_ms,
        protective=action.kind_of in precheck.PROTECTIVE_KINDS,
    )


def _loan(item: TreasuryIntent) -> SendLoanAction:
    action = item.action
    return SendLoanAction(
        account=action.account, intent_id=action.intent_id, kind_of=action.kind_of,
        coin=action.coin, amount=action.amount, collateral_coin=action.collateral_coin,
        expires_ts_ms=action.expires_ts_ms,
    )


def _question(
    item: TreasuryIntent, name: str, leg: Leg, scene: Scene, effects: list[Effect],
    others: Others,
) -> Leg:
    action = item.action
    final_from = leg.absent_from_ms
    if leg.asked_ts_ms or leg.state is LegState.SENT:
        # The old question, or even the send, may yet be answered: that answer decides nothing.
        final_from = max(final_from, scene.now_ms + 1)
    if name == "transfer":
        effects.append(
            QueryTransfer(
                account=action.account, intent_id=action.intent_id,
                transfer_id=item.transfer_id,
            )
        )
    else:
        effects.append(
            QueryLoanAction(
                account=action.account, intent_id=action.intent_id, kind_of=action.kind_of,
                coin=action.coin, amount=action.amount,
                since_ts_ms=leg.first_sent_ts_ms, known_references=others.references,
            )
        )
    is_sent = leg.state is LegState.SENT
    return replace(
        leg, state=LegState.UNKNOWN if is_sent else leg.state,
        was_doubted=leg.was_doubted or is_sent, asked_ts_ms=scene.now_ms, asks=leg.asks + 1,
        ask_at_ms=scene.now_ms + QUESTION_LOST_MS, absent_from_ms=final_from,
    )


def _ended(item: TreasuryIntent, scene: Scene) -> TreasuryIntent:
    states = [leg.state for leg in (item.transfer, item.loan) if leg is not None]
    if all(state in (LegState.DONE, LegState.FAILED) for state in states):
        return replace(item, ended_ts_ms=max(scene.now_ms, 1))
    return item
