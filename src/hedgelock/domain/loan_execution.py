"""Treasury actions: a transfer half and a loan half, one after the other, each at most once.

    REPAY                  transfer UNIFIED → FUND (when transfer_amount > 0), then repay
    BORROW                 borrow, then transfer FUND → UNIFIED (when transfer_amount > 0)
    REPAY_WITH_COLLATERAL  the loan half only
    TRANSFER_TO_…          the transfer half only, of `amount`

A transfer carries an id (`transfer_id`), so sending it again can never move the money twice. A loan
action has no key at the venue. Therefore: one is in flight per account and coin; it stands as SENT,
with the time, in the committed state before it leaves; after any doubt the venue's history since
that time is asked before anything else; and "not there" counts only when asked late enough for the
request and the history to have arrived (`absent_from_ms`). The second half is not started after the
deadline: the action then ends FAILED with what already happened stated, and the hedger, which counts
money wherever it lies, decides anew.

As in `order_execution`, events write down facts and set timers, and `advance` does what is due.
"""

from __future__ import annotations

import hashlib
import uuid
from decimal import Decimal

from msgspec.structs import replace

from hedgelock.domain import precheck
from hedgelock.domain.effect import LoanAnswer, Outcome, TransferAnswer
from hedgelock.domain.execution_memory import Leg, LegState, TreasuryIntent
from hedgelock.domain.execution_scene import RESTORED_SETTLE_MS, Scene
from hedgelock.domain.money import ZERO
from hedgelock.domain.treasury import (
    Pocket,
    TreasuryAction,
    TreasuryConfirmation,
    TreasuryKind,
    TreasuryStage,
)

_TRANSFERS = {
    TreasuryKind.TRANSFER_TO_FUND: Pocket.FUND,
    TreasuryKind.TRANSFER_TO_UNIFIED: Pocket.UNIFIED,
    TreasuryKind.REPAY: Pocket.FUND,
    TreasuryKind.BORROW: Pocket.UNIFIED,
}
"""Where the transfer half leads."""

_LOANS = frozenset(
    {TreasuryKind.REPAY, TreasuryKind.BORROW, TreasuryKind.REPAY_WITH_COLLATERAL}
)


def transfer_id(*, log_id: str, account: str, intent_id: str) -> str:
    """The transfer's identity: a UUID (in the version-4 form that Bybit asks for) of the intent.

    >>> transfer_id(log_id="00", account="main", intent_id="hedger:main:7.0")[14]
    '4'
    """
    origin = f"{log_id}\x1f{account}\x1f{intent_id}\x1ftransfer"
    digest = hashlib.blake2b(origin.encode(), digest_size=16).digest()
    return str(uuid.UUID(bytes=digest, version=4))


def transfer_amount(action: TreasuryAction) -> Decimal:
    """What the transfer half moves; 0 = there is none."""
    if action.kind_of in (TreasuryKind.TRANSFER_TO_FUND, TreasuryKind.TRANSFER_TO_UNIFIED):
        return action.amount
    return ZERO if action.kind_of is TreasuryKind.REPAY_WITH_COLLATERAL else action.transfer_amount


def target_of(action: TreasuryAction) -> Pocket:
    """Where the transfer half leads."""
    return _TRANSFERS[action.kind_of]


def refused(action: TreasuryAction, refusal: precheck.Refusal, scene: Scene) -> TreasuryIntent:
    """An action that is over before it began."""
    return TreasuryIntent(
        action=action, refusal=refusal.value, ended_ts_ms=max(scene.now_ms, 1)
    )


def start(action: TreasuryAction, scene: Scene, context: precheck.Context) -> TreasuryIntent:
    """A new action: refused at once, or with its halves waiting."""
    refusal = precheck.refusal_of_action(action, context)
    if refusal is not None:
        return refused(action, refusal, scene)
    return TreasuryIntent(
        action=action,
        transfer_id=transfer_id(
            log_id=scene.log_id, account=action.account, intent_id=action.intent_id
        ),
        transfer=Leg() if transfer_amount(action) > 0 else None,
        loan=Leg() if action.kind_of in _LOANS else None,
    )


def with_half(
    item: TreasuryIntent, *, transfer: Leg | None = None, loan: Leg | None = None
) -> TreasuryIntent:
    """`item` with a half replaced; the very same object when it is the same half."""
    if transfer in (None, item.transfer) and loan in (None, item.loan):
        return item
    return replace(item, transfer=transfer or item.transfer, loan=loan or item.loan)


# ---------------------------------------------------------------- events


def on_answer(
    leg: Leg, answer: TransferAnswer | LoanAnswer, scene: Scene, deadline_ms: int
) -> Leg:
    """What an answer to a send or a question tells about one half."""
    if not leg.state.is_open:
        return leg
    if answer.outcome is Outcome.DONE:
        return _ended(leg, LegState.DONE, answer)
    if answer.is_query:
        return _on_question(leg, answer, scene, deadline_ms)
    match answer.outcome:
        case Outcome.ACCEPTED:
            return leg if leg.state is LegState.PROCESSING else _processing(leg, answer, scene)
        case Outcome.REFUSED:
            return _on_refused(leg, answer, scene)
        case Outcome.DUPLICATE | Outcome.DOUBTFUL:
            return _on_doubt(leg, answer, scene)
        case Outcome.BUSY:
            return _on_busy(leg, answer, scene, deadline_ms)
        case _:
            return leg  # ABSENT and QUERY_FAILED answer questions only


def _on_question(
    leg: Leg, answer: TransferAnswer | LoanAnswer, scene: Scene, deadline_ms: int
) -> Leg:
    """What the venue's books say, if this is the question that is open."""
    if not leg.asked_ts_ms or answer.ts_seen_ms < leg.asked_ts_ms:
        return leg
    match answer.outcome:
        case Outcome.ACCEPTED:
            return _processing(leg, answer, scene)
        case Outcome.REFUSED:
            return _ended(leg, LegState.FAILED, answer)
        case Outcome.ABSENT:
            return _on_absent(
                leg, scene, deadline_ms, has_key=isinstance(answer, TransferAnswer)
            )
        case _:
            return _asked_again(leg, answer, scene)


def _asked_again(leg: Leg, answer: TransferAnswer | LoanAnswer, scene: Scene) -> Leg:
    at_ms = max(scene.ask_again_ms(leg.asks), answer.retry_at_ms)
    return replace(leg, asked_ts_ms=0, ask_at_ms=at_ms)


def reference_of(answer: TransferAnswer | LoanAnswer) -> str:
    """The venue's name of what happened."""
    return answer.transfer_id if isinstance(answer, TransferAnswer) else answer.reference


def _text(answer: TransferAnswer | LoanAnswer) -> str:
    return f"{answer.code} {answer.text}".strip()


def _ended(leg: Leg, state: LegState, answer: TransferAnswer | LoanAnswer) -> Leg:
    return replace(
        leg, state=state, reference=reference_of(answer), text=_text(answer), send_at_ms=None,
        ask_at_ms=None, asked_ts_ms=0,
    )


def _processing(leg: Leg, answer: TransferAnswer | LoanAnswer, scene: Scene) -> Leg:
    return replace(
        leg, state=LegState.PROCESSING, was_seen=True, lost_since_ms=0, asked_ts_ms=0,
        send_at_ms=None, ask_at_ms=scene.ask_again_ms(leg.asks),
        reference=reference_of(answer) or leg.reference,
    )


def _on_refused(leg: Leg, answer: TransferAnswer | LoanAnswer, scene: Scene) -> Leg:
    if leg.state is LegState.SENT and not leg.was_doubted:
        return _ended(leg, LegState.FAILED, answer)
    if leg.was_refused or answer.ts_seen_ms < leg.sent_ts_ms:
        return leg
    # A repeated send was refused, perhaps because the first one had arrived (the money is gone).
    return _asked_soon(
        replace(leg, state=LegState.UNKNOWN, was_refused=True, text=_text(answer),
                absent_from_ms=max(leg.absent_from_ms, answer.ts_seen_ms + scene.settle_ms)),
        scene.now_ms,
    )


def _on_doubt(leg: Leg, answer: TransferAnswer | LoanAnswer, scene: Scene) -> Leg:
    if leg.state is not LegState.SENT or answer.ts_seen_ms < leg.sent_ts_ms:
        return leg
    # A duplicate is known to the venue: it is looked for, and never sent again.
    is_duplicate = answer.outcome is Outcome.DUPLICATE
    return _asked_soon(
        replace(
            leg, state=LegState.UNKNOWN, was_doubted=True, send_at_ms=None, text=_text(answer),
            lost_since_ms=scene.now_ms if is_duplicate else leg.lost_since_ms,
            absent_from_ms=max(leg.absent_from_ms, answer.ts_seen_ms + scene.settle_ms),
        ),
        scene.now_ms,
    )


def _asked_soon(leg: Leg, at_ms: int) -> Leg:
    return leg if leg.asked_ts_ms else replace(leg, ask_at_ms=at_ms)


def _on_busy(
    leg: Leg, answer: TransferAnswer | LoanAnswer, scene: Scene, deadline_ms: int
) -> Leg:
    if leg.state is not LegState.SENT or leg.send_at_ms is not None or (
        answer.ts_seen_ms < leg.sent_ts_ms
    ):
        return leg
    return replace(
        leg, send_at_ms=scene.retry_ms(answer.retry_at_ms, deadline_ms), ask_at_ms=None
    )


def _on_absent(leg: Leg, scene: Scene, deadline_ms: int, *, has_key: bool) -> Leg:
    """A question that worked found nothing. `has_key`: sending twice cannot move money twice."""
    asked_ms = leg.asked_ts_ms
    again = replace(leg, asked_ts_ms=0, ask_at_ms=scene.ask_again_ms(leg.asks))
    if leg.was_seen or leg.lost_since_ms:
        since = leg.lost_since_ms or scene.now_ms
        if scene.now_ms - since < scene.timing.absent_after_ms:
            return replace(again, lost_since_ms=since)
        text = "known to the venue, but nowhere to be found"
        return replace(again, state=LegState.FAILED, text=text, ask_at_ms=None)
    final_from = leg.absent_from_ms
    if scene.now_ms >= deadline_ms:
        final_from = max(final_from, deadline_ms + scene.settle_ms)
    elif has_key and not leg.was_refused:
        again_ms = min(scene.again_ms(leg.sends), deadline_ms)
        return replace(again, send_at_ms=again_ms, ask_at_ms=None)
    if asked_ms < final_from:
        return replace(again, ask_at_ms=max(final_from, scene.now_ms + 1))
    if leg.was_refused or scene.now_ms >= deadline_ms:
        text = leg.text or precheck.Refusal.EXPIRED.value
        return replace(again, state=LegState.FAILED, text=text, ask_at_ms=None)
    return replace(again, send_at_ms=scene.now_ms, ask_at_ms=None)


def on_row_of_another(leg: Leg, answer: LoanAnswer, scene: Scene, deadline_ms: int) -> Leg:
    """The history showed a row that is another action's: whether ours is there stays open.

    Questions name the rows that are not meant; a venue that cannot leave them out is asked until
    `absent_after_ms` past the deadline. Then the debt, read anew, decides instead of the history.
    """
    if not leg.state.is_open or not leg.asked_ts_ms:
        return leg
    if scene.now_ms < deadline_ms + scene.timing.absent_after_ms:
        return _asked_again(leg, answer, scene)
    return replace(
        leg, state=LegState.FAILED, ask_at_ms=None, asked_ts_ms=0,
        text=f"may have happened: the history shows {answer.reference}, which is another action's",
    )


def on_restored(item: TreasuryIntent, scene: Scene) -> TreasuryIntent:
    """After a restart: a half that may have left is UNKNOWN and asked about; nothing is sent."""
    return replace(
        item, transfer=_restored(item.transfer, scene), loan=_restored(item.loan, scene)
    )


def _restored(leg: Leg | None, scene: Scene) -> Leg | None:
    if leg is None or not leg.state.is_open:
        return leg
    return replace(
        leg, state=LegState.UNKNOWN, was_doubted=True, asked_ts_ms=0, asks=0, send_at_ms=None,
        ask_at_ms=scene.now_ms,
        absent_from_ms=max(leg.absent_from_ms, scene.now_ms + RESTORED_SETTLE_MS),
    )


# ---------------------------------------------------------------- what others are told


def is_failed(item: TreasuryIntent) -> bool:
    """It ended, or will end, without doing all that was asked."""
    legs = (item.transfer, item.loan)
    return bool(item.refusal) or any(leg and leg.state is LegState.FAILED for leg in legs)


def stage_of(item: TreasuryIntent) -> TreasuryStage:
    """How far the action is."""
    if item.is_terminal:
        return TreasuryStage.FAILED if is_failed(item) else TreasuryStage.DONE
    if item.loan is not None and item.loan.state is LegState.DONE:
        return TreasuryStage.LOAN_DONE
    if item.transfer is not None and item.transfer.state is LegState.DONE:
        return TreasuryStage.TRANSFERRED
    return TreasuryStage.STARTED


def confirmation(item: TreasuryIntent, now_ms: int) -> TreasuryConfirmation:
    """The action's confirmation at its current revision."""
    action, transfer, loan = item.action, item.transfer, item.loan
    is_moved = transfer is not None and transfer.state is LegState.DONE
    is_lent = loan is not None and loan.state is LegState.DONE
    return TreasuryConfirmation(
        account=action.account, intent_id=action.intent_id, kind_of=action.kind_of,
        coin=action.coin, amount=action.amount, stage=stage_of(item),
        moved_amount=transfer_amount(action) if is_moved else ZERO,
        loan_amount=action.amount if is_lent else ZERO,
        is_terminal=item.is_terminal, is_unknown=is_unknown(item), text=text_of(item),
        revision=item.revision, ts_confirmed_ms=now_ms,
    )


def is_unknown(item: TreasuryIntent) -> bool:
    """Part of it may have happened without our knowing."""
    return any(leg and leg.state is LegState.UNKNOWN for leg in (item.transfer, item.loan))


def text_of(item: TreasuryIntent) -> str:
    """Why it is where it is: the refusal, else what the venue said last."""
    texts = [leg.text for leg in (item.loan, item.transfer) if leg and leg.text]
    return item.refusal or (texts[0] if texts else "")


def view(item: TreasuryIntent) -> tuple[object, ...]:
    """What a confirmation shows; a new one is due when this changes."""
    legs = (item.transfer, item.loan)
    done = tuple(leg is not None and leg.state is LegState.DONE for leg in legs)
    return (stage_of(item), done, is_unknown(item), text_of(item), item.is_terminal)
