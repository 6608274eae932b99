"""One step of the executor: take a message, do what is due, confirm what others can see."""

from __future__ import annotations

from msgspec.structs import replace

from hedgelock.domain import loan_execution, loan_schedule, order_execution, order_schedule
from hedgelock.domain.effect import (
    Effect,
    ExecutionReport,
    LoanAnswer,
    OrderAnswer,
    OrderFacts,
    OrderReport,
    StreamReset,
    TransferAnswer,
)
from hedgelock.domain.execution_memory import (
    OPEN_MAX,
    SENDS_KEPT_MAX,
    UNEXPLAINED_MAX,
    Attempt,
    ExecutionMemory,
    OrderIntent,
    TreasuryIntent,
    frozen,
    pruned,
    retired,
    thawed,
)
from hedgelock.domain.execution_scene import Scene
from hedgelock.domain.message import Message, Restored
from hedgelock.domain.order import ALARM, CancelOrders, Fill, OrderConfirmation, PlaceOrder, Side
from hedgelock.domain.precheck import RATE_WINDOW_MS, Refusal
from hedgelock.domain.registry import Quarantined
from hedgelock.domain.safety import SafetyState
from hedgelock.domain.step import Hold, Now, Output, Step, Tables
from hedgelock.domain.treasury import TreasuryAction

CONFIRMATIONS = "trade_confirmations"
OUR_PREFIX = "hl"
"""How the client order ids of every HedgeLock begin."""
NOT_FILLS = frozenset({"Funding", "Settle", "Delivery"})
"""Execution types that move money and no position of an order."""


class Fold:
    """One step under way: the memory as it will be, and what it leads to. Lives for one call."""

    def __init__(self, memory: ExecutionMemory, tables: Tables, now: Now) -> None:
        self._before = memory
        self._memory = memory
        self._orders = memory.orders
        self._actions = memory.actions
        self._tables = tables
        self._now = now
        # `service:account:sequence`; messages that name an account say the same.
        self._account = now.decision.partition(":")[2].rpartition(":")[0]
        self._effects: list[Effect] = []
        self._alarms: list[OrderConfirmation] = []
        self._known_scene: Scene | None = None

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
            case SafetyState():
                self._safety_spoke(message)
            case Quarantined():
                self._quarantined(message)
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
            case _:
                pass

    def _scene(self) -> Scene:
        if self._known_scene is None:
            self._known_scene = self._look()
        return self._known_scene

    def _look(self) -> Scene:
        policy = self._tables.policy(self._account)
        since = self._now.now_ms - RATE_WINDOW_MS
        return Scene(
            now_ms=self._now.now_ms,
            log_id=self._now.log_id,
            account=self._account,
            tables=self._tables,
            policy=policy.execution if policy else None,
            safety=self._tables.safety(self._account),
            frozen=self._memory.frozen,
            orders_last_minute=sum(1 for at in self._memory.sends_ts_ms if at > since),
        )

    def _place(self, intent: PlaceOrder) -> None:
        if intent.intent_id in self._orders or self._memory.is_over(intent.intent_id):
            return
        if intent.decided_ts_ms <= self._memory.retired_until_ms:
            self._put(order_execution.refused(intent, Refusal.TOO_OLD, self._scene()))
            return
        under_way = sum(1 for order in self._orders.values() if not order.is_terminal)
        started = order_execution.start(
            intent, self._scene(), open_intents=under_way, open_max=OPEN_MAX
        )
        self._put(started)

    def _cancel(self, wish: CancelOrders) -> None:
        if self._memory.is_over(wish.intent_id):
            return
        scene = self._scene()
        for order in list(self._orders.values()):
            concerned = wish.instrument in (None, order.intent.instrument)
            # A cancel that is delivered again must not reach what was decided after it.
            if concerned and order.intent.decided_ts_ms <= wish.decided_ts_ms:
                self._put(order_execution.cancel(order, scene))
        at_ms = min(wish.decided_ts_ms, self._now.now_ms)
        self._memory = retired(self._memory, [(wish.intent_id, at_ms)], [])

    def _start(self, action: TreasuryAction) -> None:
        if action.intent_id in self._actions or self._memory.is_over(action.intent_id):
            return
        if action.decided_ts_ms <= self._memory.retired_until_ms:
            self._put_action(loan_execution.refused(action, Refusal.TOO_OLD, self._scene()))
            return
        under_way = sum(1 for item in self._actions.values() if not item.is_terminal)
        self._put_action(
            loan_execution.start(
                action, self._scene(), open_intents=under_way, open_max=OPEN_MAX
            )
        )

    def _put(self, order: OrderIntent) -> None:
        if self._orders.get(order.intent.intent_id) is not order:
            self._orders = {**self._orders, order.intent.intent_id: order}

    def _put_action(self, item: TreasuryIntent) -> None:
        if self._actions.get(item.action.intent_id) is not item:
            self._actions = {**self._actions, item.action.intent_id: item}

    def _find(self, client_order_id: str) -> tuple[OrderIntent, int] | None:
        for order in self._orders.values():
            for index, attempt in enumerate(order.attempts):
                if attempt.client_order_id == client_order_id:
                    return order, index
        return None

    def _put_attempt(self, order: OrderIntent, index: int, attempt: Attempt) -> OrderIntent:
        if attempt is order.attempts[index]:
            return order
        kept = order.attempts
        order = replace(order, attempts=(*kept[:index], attempt, *kept[index + 1:]))
        self._put(order)
        return order

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
        self._put_attempt(
            order, index, order_execution.on_report(attempt, report, self._scene())
        )

    def _execution(self, report: ExecutionReport) -> None:
        fill = report.fill
        if report.exec_type in NOT_FILLS:
            return
        found = self._find(report.client_order_id)
        if found is None:
            self._unexplained(report.client_order_id, report.venue_order_id, fill.instrument,
                              fill.side, fill)
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
        if order.booked_qty > intent.qty:
            # Booked all the same: the venue's facts stand; but nobody asked for it.
            self._alarm(order, f"filled {order.booked_qty} of {intent.qty}: more than asked for")

    def _foreign(self, order: OrderIntent, index: int, text: str) -> None:
        after = order_execution.on_foreign(order.attempts[index], text)
        self._alarm(self._put_attempt(order, index, after), text)

    def _alarm(self, order: OrderIntent, text: str) -> None:
        self._put(replace(order, alarm=ALARM + text))
        self._freeze(f"{order.intent.intent_id}: {text}")

    def _unexplained(
        self, client_order_id: str, venue_order_id: str, instrument: str, side: Side,
        fill: Fill | None,
    ) -> None:
        """Stop and alarm for an order with our prefix that is in no book of ours.

        Others' orders are not our business: the collector's positions tell the hedger of them.
        """
        memory = self._memory
        if not client_order_id.startswith(OUR_PREFIX):
            return
        if client_order_id in memory.unexplained or client_order_id in memory.retired_orders:
            return
        self._alarms.append(
            order_schedule.unexplained(
                self._account, client_order_id, venue_order_id,
                instrument=instrument, side=side, fill=fill, now_ms=self._now.now_ms,
            )
        )
        seen = (*memory.unexplained, client_order_id)[-UNEXPLAINED_MAX:]
        self._memory = replace(memory, unexplained=seen)
        self._freeze(f"unexplained order {client_order_id}")

    def _freeze(self, reason: str) -> None:
        safety = self._tables.safety(self._account)
        self._memory = frozen(
            self._memory, reason, now_ms=self._now.now_ms, version=safety.version if safety else 0
        )
        self._known_scene = None

    def _quarantined(self, message: Quarantined) -> None:
        if message.moves_money:
            self._freeze(f"unreadable message on {message.topic}: {message.reason}")

    def _safety_spoke(self, state: SafetyState) -> None:
        self._memory = thawed(self._memory, state)
        self._known_scene = None

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

    # ------------------------------------------------------------ restarts and gaps

    def _restored(self, message: Restored) -> None:
        if message.now_ms == self._memory.restored_ts_ms:
            return
        scene = self._scene()
        self._memory = replace(self._memory, restored_ts_ms=message.now_ms)
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
        for order in list(self._orders.values()):
            if not all(a.is_settled for a in order.attempts):
                self._put(order_execution.on_stream_reset(order, scene))

    # ------------------------------------------------------------ what is due, and the result

    def do_what_is_due(self) -> None:
        """Turn due timers into effects, for whatever this message touched or time woke."""
        for order in list(self._orders.values()):
            is_touched = order is not self._before.orders.get(order.intent.intent_id)
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

    def _is_due(self, at_ms: int | None) -> bool:
        return at_ms is not None and at_ms <= self._now.now_ms

    def _note_sends(self, count: int) -> None:
        since = self._now.now_ms - RATE_WINDOW_MS
        recent = [at for at in self._memory.sends_ts_ms if at > since]
        sends = (*recent, *(self._now.now_ms,) * count)[-SENDS_KEPT_MAX:]
        self._memory = replace(self._memory, sends_ts_ms=sends)
        self._known_scene = None

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
        for order in list(self._orders.values()):
            before = self._before.orders.get(order.intent.intent_id)
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
        memory = pruned(memory, self._now.now_ms)
        return Step(memory, tuple(outputs), tuple(self._effects), Hold(until_ms=_until(memory)))

    def _output(self, message: Message) -> Output:
        return Output(CONFIRMATIONS, self._account, message)


def _until(memory: ExecutionMemory) -> int | None:
    due = [order_schedule.deadline_of(order) for order in memory.orders.values()]
    due += [loan_schedule.deadline_of(item) for item in memory.actions.values()]
    return min((at for at in due if at is not None), default=None)
