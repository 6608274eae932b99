"""The executor's books during one step: the memory as it will be, and how anything gets into it."""

from __future__ import annotations

from decimal import Decimal

from msgspec.structs import replace

from hedgelock.domain import budget, order_execution, order_schedule
from hedgelock.domain.effect import Effect, ExecutionReport, ListOrders
from hedgelock.domain.ended_orders import recalled
from hedgelock.domain.execution_memory import (
    FOREIGN_MAX,
    OPEN_MAX,
    SENDS_KEPT_MAX,
    UNEXPLAINED_MAX,
    Attempt,
    ExecutionMemory,
    LegState,
    OrderIntent,
    TreasuryIntent,
    frozen,
)
from hedgelock.domain.execution_scene import QUESTION_LOST_MS, Scene
from hedgelock.domain.instrument import Settlement
from hedgelock.domain.message import Message
from hedgelock.domain.money import ZERO
from hedgelock.domain.order import ALARM, Fill, ForeignCause, ForeignFill, PlaceOrder, Side
from hedgelock.domain.policy import RiskPolicy
from hedgelock.domain.refusal import RATE_WINDOW_MS, Context, notional
from hedgelock.domain.short_room import short_room
from hedgelock.domain.step import Now, Output, Tables
from hedgelock.domain.treasury import TreasuryAction, TreasuryKind

CONFIRMATIONS = "trade_confirmations"
OUR_PREFIX = "hl"
"""How the client order ids of every HedgeLock begin."""

FOREIGN_CAUSES = {"AdlTrade": ForeignCause.ADL, "BustTrade": ForeignCause.LIQUIDATION}
"""The venue's words for what it does itself; every other execution is a stranger's."""


class Book:
    """What one step knows and changes. Lives for one call."""

    def __init__(self, memory: ExecutionMemory, tables: Tables, now: Now) -> None:
        self._before = memory
        self._memory = memory
        self._orders = memory.orders
        self._was = memory.orders
        """The intents as this step found them, those brought back included."""
        self._actions = memory.actions
        self._tables = tables
        self._now = now
        # `service:account:sequence`; messages that name an account say the same.
        self._account = now.decision.partition(":")[2].rpartition(":")[0]
        self._effects: list[Effect] = []
        self._alarms: list[Message] = []
        self._known_scene: Scene | None = None

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
            orders_last_minute=sum(map(since.__lt__, self._memory.sends_ts_ms)),
            ages=policy.risk if policy else RiskPolicy(),
            budget=self._memory.budget,
            is_reconciling=self._memory.is_reconciling,
        )

    def _context_of(self, intent: PlaceOrder) -> Context:
        """What the checks of a *new* intent look at: also what is under way beside it."""
        scene = self._scene()
        context = scene.context(intent, with_book=True)
        under_way = [order for order in self._orders.values() if not order.is_terminal]
        context = context._replace(open_intents=len(under_way), open_intents_max=OPEN_MAX)
        terms = context.instrument
        if terms is None or intent.reduce_only:
            return context
        return context._replace(
            open_notional=sum((_open_notional(order, scene) for order in under_way), ZERO),
            room=short_room(
                self._memory.holdings, self._orders.values(), instrument=terms,
                mark=intent.mark_price, tables=self._tables,
            ) if terms.settlement is not Settlement.SPOT else None,
        )

    def _context_of_action(self, _action: TreasuryAction) -> Context:
        """The same for a treasury action."""
        under_way = [item for item in self._actions.values() if not item.is_terminal]
        borrowing = sum(
            (
                item.action.amount for item in under_way
                if item.action.kind_of is TreasuryKind.BORROW and not _is_lent(item)
            ),
            ZERO,
        )
        return self._scene().context()._replace(
            open_intents=len(under_way), open_intents_max=OPEN_MAX, open_borrowing=borrowing
        )

    def _spend(self, after: budget.Budget) -> None:
        self._memory = replace(self._memory, budget=after)
        self._known_scene = None

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
        filed = recalled(self._memory, client_order_id)
        if filed is None:
            return None
        self._was = {**self._was, filed.intent.intent_id: filed}
        self._put(filed)
        return self._find(client_order_id)

    def _settle_recalled(self) -> None:
        """What was brought back and brought nothing goes where it was; the rest stays whole."""
        for entry in self._memory.ended:
            order = self._was.get(entry.intent_id)
            if order is None:
                continue
            if self._orders[entry.intent_id] is order:
                self._orders = {k: o for k, o in self._orders.items() if o is not order}
            else:
                kept = tuple(e for e in self._memory.ended if e is not entry)
                self._memory = replace(self._memory, ended=kept)

    def _put_attempt(self, order: OrderIntent, index: int, attempt: Attempt) -> OrderIntent:
        if attempt is order.attempts[index]:
            return order
        kept = order.attempts
        order = replace(order, attempts=(*kept[:index], attempt, *kept[index + 1:]))
        self._put(order)
        return order

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

    def _not_ours(self, report: ExecutionReport) -> None:
        """Tell, once, of an execution that changed the account and is nobody's order here."""
        exec_id = report.fill.exec_id
        if exec_id in self._memory.foreign:
            return
        self._alarms.append(
            ForeignFill(
                account=self._account, exec_type=report.exec_type,
                cause=FOREIGN_CAUSES.get(report.exec_type, ForeignCause.NOT_OURS),
                venue_order_id=report.venue_order_id, fill=report.fill,
                ts_seen_ms=self._now.now_ms,
            )
        )
        told = (*self._memory.foreign, exec_id)[-FOREIGN_MAX:]
        self._memory = replace(self._memory, foreign=told)

    def _ask_for_open_orders(self) -> None:
        """Compare the venue's open orders with our books, soon."""
        self._memory = replace(self._memory, list_at_ms=self._now.now_ms)

    def _list_if_due(self) -> None:
        if self._is_due(self._memory.list_at_ms):
            self._effects.append(ListOrders(account=self._account))
            again_ms = self._now.now_ms + QUESTION_LOST_MS
            self._memory = replace(self._memory, list_at_ms=again_ms)

    def _freeze(self, reason: str) -> None:
        safety = self._tables.safety(self._account)
        self._memory = frozen(
            self._memory, reason, now_ms=self._now.now_ms, version=safety.version if safety else 0
        )
        self._known_scene = None

    def _is_due(self, at_ms: int | None) -> bool:
        return at_ms is not None and at_ms <= self._now.now_ms

    def _note_sends(self, count: int) -> None:
        since = self._now.now_ms - RATE_WINDOW_MS
        recent = filter(since.__lt__, self._memory.sends_ts_ms)
        sends = (*recent, *(self._now.now_ms,) * count)[-SENDS_KEPT_MAX:]
        self._memory = replace(self._memory, sends_ts_ms=sends)
        self._known_scene = None

    def _output(self, message: Message) -> Output:
        return Output(CONFIRMATIONS, self._account, message)


def _open_notional(order: OrderIntent, scene: Scene) -> Decimal:
    """What an open intent may still open, quote units."""
    intent = order.intent
    terms = scene.tables.instrument(intent.instrument)
    if intent.reduce_only or terms is None:
        return ZERO
    return notional(max(ZERO, intent.qty - order.booked_qty), intent.mark_price, terms)


def _is_lent(item: TreasuryIntent) -> bool:
    return item.loan is not None and item.loan.state is LegState.DONE
