"""A small honest venue and a desk that folds the executor against it, for the executor's tests.

The venue knows ids for ever, fills what its book holds, keeps a loan history and two pockets. Faults
are scripted per request. The desk plays the runner: step, commit (through JSON), effects, answers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from hedgelock.domain import execution
from hedgelock.domain.effect import (
    CancelOrder,
    Effect,
    ExecutionReport,
    ListOrders,
    LoanAnswer,
    OpenOrders,
    OrderAnswer,
    OrderFacts,
    OrderReport,
    Outcome,
    QueryLoanAction,
    QueryOrder,
    QueryTransfer,
    SendLoanAction,
    SendOrder,
    SendTransfer,
    TransferAnswer,
)
from hedgelock.domain.execution_memory import ExecutionMemory
from hedgelock.domain.funding import FundingContext, FundingRegime
from hedgelock.domain.holdings import Holdings
from hedgelock.domain.instrument import Instrument, Settlement
from hedgelock.domain.market import MarketTick
from hedgelock.domain.message import Message, Tick
from hedgelock.domain.order import (
    CancelOrders,
    Fill,
    OrderConfirmation,
    OrderStatus,
    OrderType,
    PlaceOrder,
    Side,
    TimeInForce,
)
from hedgelock.domain.policy import ExecutionPolicy, Policy
from hedgelock.domain.safety import SafetyMode, SafetyReason, SafetyState
from hedgelock.domain.step import Now, Step
from hedgelock.domain.treasury import Pocket, TreasuryAction, TreasuryConfirmation, TreasuryKind
from hedgelock.services.effects import is_question

D = Decimal
T0 = 1_700_000_000_000
PERP = "linear:BTCUSDT"
LATE_MS = 1_900
"""How long a request may be on its way: less than the executor waits before it believes absence."""
LOG = "00112233445566778899aabbccddeeff"


def instrument(**changes: Any) -> Instrument:
    """BTCUSDT as Bybit states it, small numbers."""
    fields: dict[str, Any] = {
        "instrument": PERP, "settlement": Settlement.LINEAR, "base": "BTC", "quote": "USDT",
        "settle": "USDT", "tick_size": D("0.1"), "lot_size": D("0.001"), "qty_min": D("0.001"),
        "qty_max": D(100), "qty_market_max": D(2), "notional_min": D(5),
        "taker_fee": D("0.00055"), "maker_fee": D("0.0002"), "ts_seen_ms": T0,
    }
    return Instrument(**{**fields, **changes})


def safety(mode: SafetyMode = SafetyMode.ACTIVE, **changes: Any) -> SafetyState:
    """A word of safety."""
    fields: dict[str, Any] = {
        "account": "main", "version": 1, "mode": mode, "reason": SafetyReason.STARTED,
        "flatten": False, "command_id": "", "text": "", "since_ts_ms": T0,
    }
    return SafetyState(**{**fields, **changes})


def place(number: int = 1, **changes: Any) -> PlaceOrder:
    """A protective market sale of 1 BTC, decided at T0, 5 s to live."""
    fields: dict[str, Any] = {
        "account": "main", "intent_id": f"hedger:main:{number}.0", "instrument": PERP,
        "side": Side.SELL, "qty": D(1), "reduce_only": False, "protective": True,
        "reason": "below_target", "mark_price": D(60000), "slippage_max": D("0.005"),
        "decided_ts_ms": T0, "expires_ts_ms": T0 + 5_000,
    }
    return PlaceOrder(**{**fields, **changes})


def cancel(number: int = 99, **changes: Any) -> CancelOrders:
    """Cancel everything decided up to T0."""
    fields: dict[str, Any] = {
        "account": "main", "intent_id": f"hedger:main:{number}.0", "instrument": None,
        "reason": "halted", "decided_ts_ms": T0,
    }
    return CancelOrders(**{**fields, **changes})


def treasury(
    kind: TreasuryKind = TreasuryKind.REPAY, number: int = 50, **changes: Any
) -> TreasuryAction:
    """2,000 USDT, 1,500 of it moved (repay, borrow) or all (transfers); 5 s to live from T0."""
    only = kind in (TreasuryKind.TRANSFER_TO_FUND, TreasuryKind.TRANSFER_TO_UNIFIED)
    fields: dict[str, Any] = {
        "account": "main", "intent_id": f"hedger:main:{number}.0", "kind_of": kind, "coin": "USDT",
        "amount": D(2000), "transfer_amount": D(0 if only else 1500), "collateral_coin": "BTC",
        "debt_before": D(36600), "reason": "harvest", "decided_ts_ms": T0,
        "expires_ts_ms": T0 + 5_000,
    }
    return TreasuryAction(**{**fields, **changes})


def tick(bid: str = "59999.9", ask: str = "60000.1", **changes: Any) -> MarketTick:
    """A book of two prices around the mark of 60,000, seen at T0."""
    fields: dict[str, Any] = {
        "instrument": PERP, "mark_price": D(60000), "index_price": D(60000), "bid_price": D(bid),
        "ask_price": D(ask), "ts_event_ms": T0, "ts_seen_ms": T0,
    }
    return MarketTick(**{**fields, **changes})


def funding(rate: str = "0.0001", **changes: Any) -> FundingContext:
    """Longs pay .01 % in an hour."""
    fields: dict[str, Any] = {
        "instrument": PERP, "apr": D("0.1095"), "regime": FundingRegime.NORMAL, "since_ts_ms": T0,
        "multiplier_long": D(1), "multiplier_short": D(1), "funding_rate": D(rate),
        "funding_interval_h": D(8), "funding_next_ts_ms": T0 + 3_600_000, "reason": "first_rate",
        "ts_event_ms": T0, "ts_seen_ms": T0,
    }
    return FundingContext(**{**fields, **changes})


RICH = Holdings(
    positions_asked_ms=1, collateral=(("BTC", D(10_000)),), collateral_asked_ms=1,
    coins_asked_ms=1,
)
"""Ten thousand coins locked, nothing held: no limit of the account is near."""


@dataclass
class FakeTables:
    """The tables as the executor sees them; a missing row is None."""

    policies: Policy | None = field(default_factory=lambda: Policy(account="main", version=1))
    safeties: SafetyState | None = field(default_factory=safety)
    instruments: dict[str, Instrument] = field(default_factory=lambda: {PERP: instrument()})
    ticks: dict[str, MarketTick] = field(default_factory=dict)
    fundings: dict[str, FundingContext] = field(default_factory=lambda: {PERP: funding()})

    def market(self, instrument: str) -> MarketTick | None:
        """Latest prices."""
        return self.ticks.get(instrument)

    def terms(self, _coin: str) -> None:
        """The executor reads no collateral terms."""
        return

    def funding(self, instrument: str) -> FundingContext | None:
        """Latest funding context."""
        return self.fundings.get(instrument)

    def instrument(self, instrument: str) -> Instrument | None:
        """Contract terms."""
        return self.instruments.get(instrument)

    def policy(self, _account: str) -> Policy | None:
        """Limits."""
        return self.policies

    def safety(self, _account: str) -> SafetyState | None:
        """Safety's latest word."""
        return self.safeties


# ---------------------------------------------------------------- the venue


@dataclass
class VenueOrder:
    """An order in the venue's book."""

    sent: SendOrder
    venue_order_id: str
    created_ts_ms: int
    status: OrderStatus = OrderStatus.NEW
    fills: list[Fill] = field(default_factory=list)

    @property
    def filled(self) -> Decimal:
        """cumExecQty."""
        return sum((fill.qty for fill in self.fills), D(0))


@dataclass
class FakeVenue:
    """An honest venue. `depth`: what the book gives to an intent's orders, in turn; then everything.

    `faults`: what happens to the next requests, in turn; then nothing. "lost": not received,
    DOUBTFUL. "unheard": received, DOUBTFUL. "late": DOUBTFUL, received LATE_MS after (`arrive`).
    "busy", "refused", "query_failed": as the words say.
    `pending`: how many times a transfer or loan action is "processing" before it is done.
    """

    now_ms: int = T0
    depth: dict[str, deque[Decimal]] = field(default_factory=dict)
    faults: deque[str] = field(default_factory=deque)
    pending: int = 0
    fund: Decimal = D(10_000)
    unified: Decimal = D(10_000)
    debt: Decimal = D(36_600)
    orders: dict[str, VenueOrder] = field(default_factory=dict)
    transfers: dict[str, SendTransfer] = field(default_factory=dict)
    loans: list[tuple[SendLoanAction, int, str]] = field(default_factory=list)
    pushes: deque[Message] = field(default_factory=deque)
    late: deque[tuple[int, Effect]] = field(default_factory=deque)
    sends: list[Effect] = field(default_factory=list)
    _execs: int = 0
    _waits: dict[str, int] = field(default_factory=dict)

    @property
    def position(self) -> Decimal:
        """Σ signed fills."""
        return sum(
            (o.sent.side.sign * o.filled for o in self.orders.values()), D(0)
        )

    def thin(self, number: int, *parts: str) -> None:
        """The book gives these quantities to the next orders of an intent, then everything."""
        self.depth[f"hedger:main:{number}.0"] = deque(D(part) for part in parts)

    def filled_of(self, intent_id: str) -> Decimal:
        """Σ fills of one intent."""
        return sum(
            (o.filled for o in self.orders.values() if o.sent.intent_id == intent_id), D(0)
        )

    def perform(self, effect: Effect) -> Message:
        """One request, with the next fault."""
        fault = self.faults.popleft() if self.faults else ""
        if fault == "busy":
            return self._answer(effect, Outcome.BUSY, retry_at_ms=self.now_ms + 300)
        if is_question(effect):
            if fault:
                return self._answer(effect, Outcome.QUERY_FAILED)
            return self._asked(effect)
        if fault == "lost":
            return self._answer(effect, Outcome.DOUBTFUL)
        if fault == "late":
            self.late.append((self.now_ms + LATE_MS, effect))
            return self._answer(effect, Outcome.DOUBTFUL)
        if fault == "refused":
            return self._answer(effect, Outcome.REFUSED, code="110007", text="no margin")
        answer = self._received(effect)
        return self._answer(effect, Outcome.DOUBTFUL) if fault == "unheard" else answer

    def arrive(self) -> None:
        """Receive what was on its way long enough; nobody waits for the answers."""
        now_ms = self.now_ms
        while self.late and self.late[0][0] <= now_ms:
            self.now_ms, effect = self.late.popleft()
            self._received(effect)
        self.now_ms = now_ms

    def _answer(self, effect: Effect, outcome: Outcome, **more: Any) -> Message:
        common: dict[str, Any] = {
            "account": effect.account, "outcome": outcome, "ts_seen_ms": self.now_ms,
            "is_query": is_question(effect), **more,
        }
        match effect:
            case ListOrders():
                return OpenOrders(account="main", outcome=outcome, ts_seen_ms=self.now_ms)
            case SendOrder() | QueryOrder() | CancelOrder():
                return OrderAnswer(
                    client_order_id=effect.client_order_id,
                    is_cancel=isinstance(effect, CancelOrder), **common,
                )
            case SendTransfer() | QueryTransfer():
                return TransferAnswer(
                    intent_id=effect.intent_id, transfer_id=effect.transfer_id, **common
                )
            case _:
                return LoanAnswer(intent_id=effect.intent_id, **common)

    def _received(self, effect: Effect) -> Message:
        self.sends.append(effect)
        match effect:
            case SendOrder():
                return self._order(effect)
            case CancelOrder():
                return self._cancel(effect)
            case SendTransfer():
                return self._transfer(effect)
            case _:
                assert isinstance(effect, SendLoanAction)
                return self._loan(effect)

    def _order(self, sent: SendOrder) -> Message:
        if sent.client_order_id in self.orders:
            return self._answer(sent, Outcome.DUPLICATE, code="110072")
        order = VenueOrder(sent, f"v{len(self.orders) + 1}", self.now_ms)
        self.orders[sent.client_order_id] = order
        depth = self.depth.get(sent.intent_id)
        if sent.trigger_price is not None:
            self.pushes.append(self.report(order))
        elif sent.time_in_force is TimeInForce.POST_ONLY:
            self._match(order, depth.popleft() if depth else D(0))
        else:
            self._match(order, depth.popleft() if depth else sent.qty)
        return self._answer(sent, Outcome.ACCEPTED, venue_order_id=order.venue_order_id)

    def _match(self, order: VenueOrder, available: Decimal) -> None:
        sent = order.sent
        self.pushes.append(self.report(order))
        left = min(available, sent.qty - order.filled)
        for part in (left / 2, left - left / 2) if left > 0 else ():
            self._execs += 1
            price = sent.price or sent.trigger_price
            assert price is not None
            order.fills.append(
                Fill(
                    exec_id=f"x{self._execs}", instrument=sent.instrument, side=sent.side,
                    qty=part, price=price, fee=D(1), fee_coin="USDT", pnl=D(0),
                    is_maker=False, seq=self._execs, ts_ms=self.now_ms,
                )
            )
            self.pushes.append(self.execution(order, order.fills[-1]))
        if order.filled == sent.qty:
            order.status = OrderStatus.FILLED
        elif sent.time_in_force is TimeInForce.IOC and sent.trigger_price is None:
            order.status = OrderStatus.CANCELLED
        elif order.filled:
            order.status = OrderStatus.PARTIALLY_FILLED
        self.pushes.append(self.report(order))

    def trade(self, client_order_id: str, qty: Decimal) -> None:
        """Somebody trades against a resting order."""
        order = self.orders[client_order_id]
        if not order.status.is_terminal:
            self._match(order, qty)

    def _cancel(self, effect: CancelOrder) -> Message:
        order = self.orders.get(effect.client_order_id)
        if order is None or order.status.is_terminal:
            return self._answer(effect, Outcome.REFUSED, code="110001")
        order.status = OrderStatus.CANCELLED
        self.pushes.append(self.report(order))
        return self._answer(effect, Outcome.ACCEPTED)

    def _transfer(self, sent: SendTransfer) -> Message:
        if sent.transfer_id in self.transfers:
            return self._answer(sent, Outcome.DUPLICATE, code="131214")
        have = self.fund if sent.source is Pocket.FUND else self.unified
        if have < sent.amount:
            return self._answer(sent, Outcome.REFUSED, code="131212")
        self.transfers[sent.transfer_id] = sent
        change = sent.amount if sent.target is Pocket.FUND else -sent.amount
        self.fund += change
        self.unified -= change
        self._waits[sent.intent_id + "t"] = self.pending
        return self._answer(sent, Outcome.ACCEPTED if self.pending else Outcome.DONE)

    def _loan(self, sent: SendLoanAction) -> Message:
        if sent.kind_of is TreasuryKind.REPAY and self.fund < sent.amount:
            return self._answer(sent, Outcome.REFUSED, code="148029", text="balance short")
        reference = f"r{len(self.loans) + 1}"
        self.loans.append((sent, self.now_ms, reference))
        sign = 1 if sent.kind_of is TreasuryKind.BORROW else -1
        self.debt += sign * sent.amount
        if sent.kind_of is not TreasuryKind.REPAY_WITH_COLLATERAL:
            self.fund += sign * sent.amount
        self._waits[reference] = self.pending
        outcome = Outcome.ACCEPTED if self.pending else Outcome.DONE
        return self._answer(sent, outcome, reference=reference)

    def _asked(self, effect: Effect) -> Message:
        match effect:
            case ListOrders():
                open_rows = [o for o in self.orders.values() if not o.status.is_terminal]
                return OpenOrders(
                    account="main", outcome=Outcome.DONE, ts_seen_ms=self.now_ms,
                    reports=tuple(self.report(order) for order in open_rows),
                )
            case QueryOrder():
                order = self.orders.get(effect.client_order_id)
                if order is None:
                    return self._answer(effect, Outcome.ABSENT)
                return OrderFacts(
                    account="main", report=self.report(order), ts_seen_ms=self.now_ms,
                    executions=tuple(self.execution(order, fill) for fill in order.fills),
                )
            case QueryTransfer():
                if effect.transfer_id not in self.transfers:
                    return self._answer(effect, Outcome.ABSENT)
                return self._answer(effect, self._waited(effect.intent_id + "t"))
            case _:
                assert isinstance(effect, QueryLoanAction)
                for sent, at_ms, reference in self.loans:
                    same = (sent.kind_of, sent.coin, sent.amount) == (
                        effect.kind_of, effect.coin, effect.amount
                    )
                    is_known = reference in effect.known_references
                    if same and at_ms >= effect.since_ts_ms and not is_known:
                        outcome = self._waited(reference)
                        return self._answer(effect, outcome, reference=reference)
                return self._answer(effect, Outcome.ABSENT)

    def _waited(self, key: str) -> Outcome:
        left = self._waits.get(key, 0)
        self._waits[key] = max(left - 1, 0)
        return Outcome.ACCEPTED if left else Outcome.DONE

    def report(self, order: VenueOrder) -> OrderReport:
        """The order's row now."""
        sent = order.sent
        return OrderReport(
            account="main", client_order_id=sent.client_order_id,
            venue_order_id=order.venue_order_id, instrument=sent.instrument, side=sent.side,
            order_type=sent.order_type, qty=sent.qty, filled_qty=order.filled,
            reduce_only=sent.reduce_only, status=order.status, text="",
            created_ts_ms=order.created_ts_ms, ts_event_ms=self.now_ms, ts_seen_ms=self.now_ms,
            price=sent.price,
        )

    def execution(self, order: VenueOrder, fill: Fill) -> ExecutionReport:
        """One execution row."""
        return ExecutionReport(
            account="main", client_order_id=order.sent.client_order_id,
            venue_order_id=order.venue_order_id, exec_type="Trade", fill=fill,
            ts_seen_ms=self.now_ms,
        )


# ---------------------------------------------------------------- the desk

_encode = msgspec.json.encode


def through_json(memory: ExecutionMemory) -> ExecutionMemory:
    """The memory as the changelog gives it back."""
    return msgspec.json.decode(_encode(memory), type=ExecutionMemory)


@dataclass
class Desk:
    """Folds messages by hand: the test says when effects run and what comes back."""

    tables: FakeTables = field(default_factory=FakeTables)
    memory: ExecutionMemory = field(default_factory=lambda: ExecutionMemory(holdings=RICH))
    now_ms: int = T0
    effects: list[Effect] = field(default_factory=list)
    said: list[Message] = field(default_factory=list)
    steps: int = 0
    until_ms: int | None = None

    def feed(self, *messages: Message) -> list[Effect]:
        """Step through messages; returns the effects of these steps alone."""
        new: list[Effect] = []
        for message in messages:
            step = self.step(message)
            self.commit(step)
            new += step.effects
        return new

    def step(self, message: Message) -> Step[ExecutionMemory]:
        """One step, not yet committed."""
        now = Now(self.now_ms, f"trade-executor:main:{self.steps + 1}", LOG)
        return execution.step(self.memory, self.tables, message, now)

    def commit(self, step: Step[ExecutionMemory]) -> None:
        """Make a step stand."""
        self.steps += 1
        self.memory = through_json(step.state)
        assert self.memory == step.state, "the memory does not survive its own encoding"
        self.effects += step.effects
        self.said += [output.message for output in step.outputs]
        self.until_ms = step.hold.until_ms

    def tick(self, after_ms: int) -> list[Effect]:
        """Let time pass, then step once."""
        self.now_ms += after_ms
        return self.feed(Tick(now_ms=self.now_ms))

    def order(self, number: int = 1) -> OrderConfirmation:
        """The latest confirmation of an order intent."""
        return [
            m for m in self.said
            if isinstance(m, OrderConfirmation) and m.intent_id == f"hedger:main:{number}.0"
        ][-1]

    def action(self, number: int = 50) -> TreasuryConfirmation:
        """The latest confirmation of a treasury action."""
        return [
            m for m in self.said
            if isinstance(m, TreasuryConfirmation) and m.intent_id == f"hedger:main:{number}.0"
        ][-1]


@dataclass
class Market(Desk):
    """A desk joined to an honest venue: effects run at once, answers and pushes come back."""

    venue: FakeVenue = field(default_factory=FakeVenue)

    def run(self, *messages: Message) -> None:
        """Feed messages and everything that follows from them."""
        queue: deque[Message] = deque(messages)
        while queue:
            self.venue.now_ms = self.now_ms
            for effect in self.feed(queue.popleft()):
                queue.append(self.venue.perform(effect))
            queue.extend(self.venue.pushes)
            self.venue.pushes.clear()

    def wait(self, total_ms: int, each_ms: int = 250) -> None:
        """Let time pass with the runner's ticks: a step only when the hold is over."""
        for _ in range(0, total_ms, each_ms):
            self.now_ms += each_ms
            if self.until_ms is not None and self.until_ms <= self.now_ms:
                self.run(Tick(now_ms=self.now_ms))


def kinds(effects: Iterable[Effect]) -> str:
    """Effects of intents as words: `SendOrder QueryOrder`; lists of open orders left out."""
    return " ".join(
        type(effect).__name__ for effect in effects if not isinstance(effect, ListOrders)
    )


def answer(
    effect: SendOrder | QueryOrder | CancelOrder, outcome: Outcome, at_ms: int, **more: Any
) -> OrderAnswer:
    """An answer to an order effect."""
    fields: dict[str, Any] = {
        "account": "main", "client_order_id": effect.client_order_id, "outcome": outcome,
        "is_cancel": isinstance(effect, CancelOrder), "ts_seen_ms": at_ms,
        "is_query": outcome in (Outcome.ABSENT, Outcome.QUERY_FAILED),
    }
    return OrderAnswer(**{**fields, **more})


def row(sent: SendOrder, status: OrderStatus, filled: str = "0", **changes: Any) -> OrderReport:
    """A venue's row of an order that we sent."""
    fields: dict[str, Any] = {
        "account": "main", "client_order_id": sent.client_order_id, "venue_order_id": "v1",
        "instrument": sent.instrument, "side": sent.side, "order_type": OrderType.LIMIT,
        "qty": sent.qty, "filled_qty": D(filled), "reduce_only": sent.reduce_only,
        "status": status, "text": "", "created_ts_ms": T0 + 10, "ts_event_ms": T0 + 20,
        "ts_seen_ms": T0 + 30,
    }
    return OrderReport(**{**fields, **changes})


def fill(sent: SendOrder, exec_id: str, qty: str, **changes: Any) -> ExecutionReport:
    """One execution of an order that we sent."""
    fields: dict[str, Any] = {
        "exec_id": exec_id, "instrument": sent.instrument, "side": sent.side, "qty": D(qty),
        "price": D(60000), "fee": D(1), "fee_coin": "USDT", "pnl": D(0), "is_maker": False,
        "seq": 1, "ts_ms": T0 + 20,
    }
    outer = {"client_order_id": sent.client_order_id, "exec_type": "Trade"}
    outer.update({key: changes.pop(key) for key in tuple(outer) if key in changes})
    return ExecutionReport(
        account="main", venue_order_id="v1", fill=Fill(**{**fields, **changes}),
        ts_seen_ms=T0 + 30, **outer,
    )


def facts(report: OrderReport, executions: Sequence[ExecutionReport] = ()) -> OrderFacts:
    """A query's whole answer."""
    return OrderFacts(
        account="main", report=report, executions=tuple(executions), ts_seen_ms=T0 + 40
    )


def policy(**changes: Any) -> Policy:
    """A policy with these execution limits."""
    return Policy(account="main", version=2, execution=ExecutionPolicy(**changes))
