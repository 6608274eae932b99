"""One step of the executor: take a message, do what is due, confirm what others can see."""

from __future__ import annotations

from msgspec.structs import replace

from hedgelock.domain import (
    budget,
    loan_execution,
    loan_schedule,
    order_attempts,
    order_execution,
    order_schedule,
)
from hedgelock.domain.account import LoanRead, PositionChanged, PositionsRead, WalletRead
from hedgelock.domain.effect import (
    ExecutionReport,
    LoanAnswer,
    OpenOrders,
    OrderAnswer,
    OrderFacts,
    OrderReport,
    Outcome,
    StreamReset,
    TransferAnswer,
)
from hedgelock.domain.ended_orders import filed
from hedgelock.domain.execution_book import OUR_PREFIX, Book
from hedgelock.domain.execution_memory import (
    ExecutionMemory,
    LegState,
    pruned,
    retired,
    thawed,
)
from hedgelock.domain.holdings import HoldingFact, folded
from hedgelock.domain.limits import REPAYMENTS
from hedgelock.domain.message import Message, Restored
from hedgelock.domain.order import CancelOrders, PlaceOrder
from hedgelock.domain.refusal import Refusal
from hedgelock.domain.registry import Quarantined
from hedgelock.domain.safety import SafetyState
from hedgelock.domain.step import Hold, Step
from hedgelock.domain.treasury import TreasuryAction, TreasuryKind

FACTS = "account_raw"
"""The topic of what the collector read of the account."""
LIST_AGAIN_MS = 2_000
"""After a list of open orders that could not be read."""
NOT_FILLS = frozenset({"Funding", "Settle", "Delivery"})
"""Execution types that move money and no position of an order."""


class Fold(Book):
    """One step under way: what a message says, what is due, and the result."""

    # ------------------------------------------------------------ taking a message

    def take(self, message: Message) -> None:
        """Write down what the message says; effects follow in `do_what_is_due`."""
        match message:
            case PlaceOrder():
                self._place(message)
            case CancelOrders():
                self._cancel(message)
            case TreasuryAction():
                self._start(message)
            case TransferAnswer() | LoanAnswer():
                self._half_answer(message)
            case Restored():
                self._restored(message)
            case StreamReset():
                self._stream_reset(message)
            case SafetyState() if message.account == self._account:
                self._safety_spoke(message)
            case Quarantined():
                self._quarantined(message)
            case WalletRead() | LoanRead() | PositionsRead() | PositionChanged():
                self._holding(message)
            case _:
                self._order_news(message)  # the rest (Tick, Policy, Instrument) only wakes

    def _order_news(self, message: Message) -> None:
        match message:
            case OrderAnswer():
                self._order_answer(message)
            case OrderReport():
                self._order_report(message)
            case OrderFacts():
                self._order_facts(message)
            case ExecutionReport():
                self._execution(message)
            case OpenOrders():
                self._open_orders(message)
            case _:
                pass

    def _place(self, intent: PlaceOrder) -> None:
        if intent.intent_id in self._orders or self._memory.is_over(intent.intent_id):
            return
        scene = self._scene()
        if intent.decided_ts_ms <= self._memory.retired_until_ms:
            self._put(order_attempts.refused(intent, Refusal.TOO_OLD, scene))
            return
        if intent.protective:
            self._take_away_patient(intent)
        self._put(order_attempts.start(intent, scene, self._context_of(intent)))

    def _take_away_patient(self, intent: PlaceOrder) -> None:
        """What protects does not wait behind, or trade against, what rests patiently."""
        for order in list(self._orders.values()):
            rests = order.rest_until_ms and order.intent.instrument == intent.instrument
            if rests and order.intent.side is not intent.side:
                self._put(order_execution.cancel(order, self._scene()))

    def _cancel(self, wish: CancelOrders) -> None:
        if self._memory.is_over(wish.intent_id):
            return
        scene = self._scene()
        for order in list(self._orders.values()):
            intent = order.intent
            is_stop = intent.trigger_price is not None
            concerned = wish.instrument in (None, intent.instrument) and (
                intent.intent_id in wish.intents if wish.intents is not None
                else not (wish.keep_stops and is_stop)
            )
            # A cancel that is delivered again must not reach what was decided after it.
            if concerned and intent.decided_ts_ms <= wish.decided_ts_ms:
                self._put(order_execution.cancel(order, scene))
        at_ms = min(wish.decided_ts_ms, self._now.now_ms)
        self._memory = retired(self._memory, [(wish.intent_id, at_ms)], [])

    def _start(self, action: TreasuryAction) -> None:
        if action.intent_id in self._actions or self._memory.is_over(action.intent_id):
            return
        if action.decided_ts_ms <= self._memory.retired_until_ms:
            self._put_action(loan_execution.refused(action, Refusal.TOO_OLD, self._scene()))
            return
        item = loan_execution.start(action, self._scene(), self._context_of_action(action))
        self._put_action(item)
        if item.action.kind_of in REPAYMENTS and not item.refusal:
            self._spend(budget.with_repayment(self._memory.budget, now_ms=self._now.now_ms))

    # ------------------------------------------------------------ news of orders

    def _order_answer(self, answer: OrderAnswer) -> None:
        found = self._find(answer.client_order_id)
        if found is None:
            return
        order, index = found
        after = order_execution.on_answer(
            order.attempts[index], answer, self._scene(), order.intent.expires_ts_ms
        )
        self._put_attempt(order, index, after)

    def _order_facts(self, facts: OrderFacts) -> None:
        self._order_report(facts.report)
        for execution in facts.executions:
            self._execution(execution)
        found = self._find(facts.report.client_order_id)
        if found is not None:
            order, index = found
            after = order_execution.on_answered(order.attempts[index], order, self._scene())
            self._put_attempt(order, index, after)

    def _order_report(self, report: OrderReport) -> None:
        found = self._find(report.client_order_id)
        if found is None:
            is_harmless = report.status.is_terminal and not report.filled_qty
            if not is_harmless:
                self._unexplained(report.client_order_id, report.venue_order_id, report.instrument,
                                  report.side, None)
            return
        order, index = found
        attempt = order.attempts[index]
        if attempt.is_foreign:
            return
        differences = order_execution.mismatch(order, attempt, report)
        if differences:
            self._foreign(order, index, f"the venue's order of our id differs in {differences}")
            return
        if order_execution.is_price_worse(attempt, report):
            order = replace(order, refusal=Refusal.PRICE_OUTSIDE_BOUND.value)
            order = order_execution.cancel(order, self._scene())
            self._put(order)
            attempt = order.attempts[index]
        self._put_attempt(
            order, index, order_execution.on_report(attempt, report, self._scene())
        )

    def _execution(self, report: ExecutionReport) -> None:
        fill = report.fill
        if report.exec_type in NOT_FILLS:
            return
        found = self._find(report.client_order_id)
        if found is None:
            if report.client_order_id.startswith(OUR_PREFIX):
                self._unexplained(report.client_order_id, report.venue_order_id, fill.instrument,
                                  fill.side, fill)
            else:
                self._not_ours(report)
            return
        order, index = found
        if any(fill.exec_id == known.exec_id for a in order.attempts for known in a.fills):
            return
        intent = order.intent
        if fill.instrument != intent.instrument or fill.side is not intent.side:
            self._foreign(order, index, "an execution of our id differs in instrument or side")
            return
        after = order_execution.on_fill(order.attempts[index], fill, self._scene())
        order = self._put_attempt(order, index, after)
        self._spend(
            budget.with_fill(
                self._memory.budget, fill, instrument=self._tables.instrument(fill.instrument),
                mark_price=intent.trigger_price or intent.mark_price, now_ms=self._now.now_ms,
            )
        )
        if order.booked_qty > intent.qty:
            # Booked all the same: the venue's facts stand; but nobody asked for it.
            self._alarm(order, f"filled {order.booked_qty} of {intent.qty}: more than asked for")

    def _quarantined(self, message: Quarantined) -> None:
        # A fact that could not be read is read again in seconds; what was known until then stands.
        if message.moves_money and message.topic != FACTS:
            self._freeze(f"unreadable message on {message.topic}: {message.reason}")

    def _holding(self, fact: HoldingFact) -> None:
        known = self._memory.holdings
        after = folded(known, fact)
        if after is not known:
            self._memory = replace(self._memory, holdings=after)

    def _safety_spoke(self, state: SafetyState) -> None:
        self._memory = thawed(self._memory, state)
        self._known_scene = None

    def _open_orders(self, answer: OpenOrders) -> None:
        """The venue's open orders: ours as it sees them, and whether one of them is unknown."""
        if self._memory.list_at_ms is None:
            return
        if answer.outcome is not Outcome.DONE:
            again_ms = max(answer.retry_at_ms, self._now.now_ms + LIST_AGAIN_MS)
            self._memory = replace(self._memory, list_at_ms=again_ms)
            return
        self._memory = replace(self._memory, list_at_ms=None, is_reconciling=False)
        self._known_scene = None
        for report in answer.reports:
            self._order_report(report)

    def _half_answer(self, answer: TransferAnswer | LoanAnswer) -> None:
        item = self._actions.get(answer.intent_id)
        if item is None:
            return
        scene, deadline_ms = self._scene(), item.action.expires_ts_ms
        if isinstance(answer, TransferAnswer):
            if item.transfer is not None and answer.transfer_id == item.transfer_id:
                after = loan_execution.on_answer(item.transfer, answer, scene, deadline_ms)
                self._put_action(loan_execution.with_half(item, transfer=after))
        elif item.loan is not None:
            others = loan_schedule.others_of(item, self._actions.values())
            is_other = answer.reference in others.references
            fold = loan_execution.on_row_of_another if is_other else loan_execution.on_answer
            after = fold(item.loan, answer, scene, deadline_ms)
            self._put_action(loan_execution.with_half(item, loan=after))
            is_lent = after.state is LegState.DONE and item.loan.state is not LegState.DONE
            if is_lent and item.action.kind_of is TreasuryKind.BORROW:
                self._spend(
                    budget.with_borrowing(
                        self._memory.budget, item.action.amount, now_ms=self._now.now_ms
                    )
                )

    # ------------------------------------------------------------ restarts and gaps

    def _restored(self, message: Restored) -> None:
        if message.now_ms == self._memory.restored_ts_ms:
            return
        self._memory = replace(
            self._memory, restored_ts_ms=message.now_ms, is_reconciling=True
        )
        self._known_scene = None
        self._ask_for_open_orders()
        scene = self._scene()
        for order in list(self._orders.values()):
            if not all(a.is_settled for a in order.attempts):
                self._put(order_execution.on_restored(order, scene))
        for item in list(self._actions.values()):
            if not item.is_terminal:
                self._put_action(loan_execution.on_restored(item, scene))

    def _stream_reset(self, message: StreamReset) -> None:
        if message.ts_seen_ms == self._memory.stream_reset_ts_ms:
            return
        scene = self._scene()
        self._memory = replace(self._memory, stream_reset_ts_ms=message.ts_seen_ms)
        self._ask_for_open_orders()
        for order in list(self._orders.values()):
            if not all(a.is_settled for a in order.attempts):
                self._put(order_execution.on_stream_reset(order, scene))

    # ------------------------------------------------------------ what is due, and the result

    def do_what_is_due(self) -> None:
        """Turn due timers into effects, for whatever this message touched or time woke."""
        self._list_if_due()
        self._replace_stops()
        for order in list(self._orders.values()):
            is_touched = order is not self._was.get(order.intent.intent_id)
            if not is_touched and not self._is_due(order_schedule.deadline_of(order)):
                continue
            advanced = order_schedule.advance(order, self._scene())
            self._put(advanced.order)
            self._effects += advanced.effects
            if advanced.sends:
                self._note_sends(advanced.sends)
        if self._actions is not self._before.actions or any(
            self._is_due(loan_schedule.deadline_of(item)) for item in self._actions.values()
        ):
            while self._advance_actions():
                pass  # the end of one loan action may free the coin for another

    def _replace_stops(self) -> None:
        """A stop that is at the venue now takes the place of the one before it."""
        for order in list(self._orders.values()):
            before = self._orders.get(order.intent.replaces)
            if before is None or before.is_terminal or before.is_cancelling:
                continue
            if any(a.was_seen and not a.status.is_terminal for a in order.attempts):
                self._put(order_execution.cancel(before, self._scene()))

    def _advance_actions(self) -> bool:
        changed = False
        for item in list(self._actions.values()):
            others = loan_schedule.others_of(item, self._actions.values())
            advanced = loan_schedule.advance(item, self._scene(), others)
            self._effects += advanced.effects
            changed |= advanced.item is not item
            self._put_action(advanced.item)
        return changed

    def result(self) -> Step[ExecutionMemory]:
        """Confirm what others can see changing, forget what is long over, set the next deadline."""
        outputs = [self._output(alarm) for alarm in self._alarms]
        self._settle_recalled()
        for order in list(self._orders.values()):
            before = self._was.get(order.intent.intent_id)
            if order is before:
                continue
            if before is None or order_schedule.view(order) != order_schedule.view(before):
                told = replace(order, revision=order.revision + 1)
                self._put(told)
                outputs.append(self._output(order_schedule.confirmation(told, self._now.now_ms)))
        for item in list(self._actions.values()):
            known = self._before.actions.get(item.action.intent_id)
            if item is known:
                continue
            if known is None or loan_execution.view(item) != loan_execution.view(known):
                said = replace(item, revision=item.revision + 1)
                self._put_action(said)
                outputs.append(self._output(loan_execution.confirmation(said, self._now.now_ms)))
        memory = self._memory
        if self._orders is not memory.orders or self._actions is not memory.actions:
            memory = replace(memory, orders=self._orders, actions=self._actions)
        memory = pruned(filed(memory), self._now.now_ms)
        return Step(memory, tuple(outputs), tuple(self._effects), Hold(until_ms=_until(memory)))




def _until(memory: ExecutionMemory) -> int | None:
    due = [order_schedule.deadline_of(order) for order in memory.orders.values()]
    due.append(memory.list_at_ms)
    due += [loan_schedule.deadline_of(item) for item in memory.actions.values()]
    return min((at for at in due if at is not None), default=None)
