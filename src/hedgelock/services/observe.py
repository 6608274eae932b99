"""What a service shows of itself: metrics, canonical log lines, readiness. Nothing decides by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

import structlog
from fastapi import FastAPI

from hedgelock import __version__
from hedgelock.bus import codec
from hedgelock.domain.effect import Outcome
from hedgelock.domain.execution_memory import ExecutionMemory
from hedgelock.domain.funding import FundingContext, FundingRegime
from hedgelock.domain.hedging import HedgeDecision, PositionDiffers
from hedgelock.domain.market import MarketTick
from hedgelock.domain.message import Message
from hedgelock.domain.order import (
    ForeignFill,
    OrderConfirmation,
    OrderStatus,
    PlaceOrder,
    is_alarm,
)
from hedgelock.domain.policy import Policy
from hedgelock.domain.risk import Confidence, RiskAssessment, RiskState
from hedgelock.domain.safety import SafetyMode, SafetyState
from hedgelock.domain.treasury import TreasuryAction, TreasuryConfirmation
from hedgelock.errors import BusError, Fenced
from hedgelock.ports import Clock
from hedgelock.services.collector_source import CollectorSource
from hedgelock.services.runner import Runner
from hedgelock.services.service import Observed
from hedgelock.telemetry.http import service_app
from hedgelock.telemetry.metrics import Metrics
from hedgelock.topics import TOPICS

REFUSALS_IN_A_ROW = 3
"""So many orders rejected one after the other, and a person is told."""

_CODES: dict[type, list[Any]] = {
    kind: list(kind) for kind in (RiskState, Confidence, FundingRegime, SafetyMode)
}


class Telemetry:
    """Metrics and log of one service."""

    def __init__(self, service: str, clock: Clock) -> None:
        self.service = service
        self.metrics = Metrics(service)
        self.metrics.build_info.set(1, version=__version__)
        self._clock = clock
        self._log = structlog.get_logger(service)
        self._sources: dict[str, CollectorSource] = {}
        self._states: dict[tuple[str, str], object] = {}
        self._troubles: dict[str, str] = {}
        self._held_shown = 0
        self._raised: set[str] = set()
        self._refusals: dict[str, int] = {}

    def observed(self) -> Observed:
        """Hooks for a runner."""
        return Observed(
            commit=self._commit, output=self._output, record=self._record,
            quarantined=self._quarantined, restored=self._restored, frozen=self._frozen,
            step_seconds=self.metrics.step_seconds.observe,
        )

    def watch(self, account: str, source: CollectorSource) -> None:
        """Readiness and counters of a shell."""
        self._sources[account] = source

    def effect(self, kind: str, outcome: str, seconds: float) -> None:
        """An effect was run."""
        self.metrics.effects_total.inc(kind=kind, outcome=outcome)
        if outcome == Outcome.BUSY.value:
            self.metrics.rate_limited_total.inc(endpoint=kind)
        self.metrics.effect_seconds.observe(seconds, kind=kind)

    def trouble(self, about: str, reason: str) -> None:
        """Something that `/ready` must name; "" = it is over. Safe from any thread."""
        if reason:
            self._troubles[about] = reason
        else:
            self._troubles.pop(about, None)

    def bus_trouble(self, error: BusError | None) -> None:
        """The log failed, or works again (None)."""
        if error is not None:
            self.metrics.bus_errors_total.inc()
        if isinstance(error, Fenced):
            self.metrics.fenced_total.inc()
        self.trouble("log", str(error) if error is not None else "")

    def bad_input(self, account: str, topic: str, reason: str) -> None:
        """Something from outside could not be read; who keeps it is another matter."""
        self.metrics.bad_input_total.inc(source="exchange")
        self._log.warning("unreadable", account=account, topic=topic, reason=reason)

    def app(self, runner: Runner[Any] | None) -> FastAPI:
        """The service's pages."""
        return service_app(self.metrics, lambda: self._readiness(runner))

    # ------------------------------------------------------------ readiness

    def _readiness(self, runner: Runner[Any] | None) -> tuple[bool, Sequence[str]]:
        reasons = [f"{about}: {reason}" for about, reason in list(self._troubles.items())]
        for account, source in self._sources.items():
            reasons += [f"{account}: {problem}" for problem in source.problems()]
            source.show(self.metrics)
        if runner is not None:
            reasons += self._runner_problems(runner)
        return not reasons, reasons

    def _runner_problems(self, runner: Runner[Any]) -> list[str]:
        self.metrics.partitions_owned.set(len(runner.partitions))
        self._show_market(runner)
        for account, state in runner.states().items():
            if isinstance(state, ExecutionMemory):
                self._show_intents(account, state)
        if not runner.is_ready:
            return ["state is not restored yet"]
        if not runner.partitions:
            return []
        problems = []
        now_ms = self._clock.now_ms()
        for topic in (*runner.service.inputs, *runner.service.tables):
            limit = TOPICS[topic].age_max_ms
            newest = runner.newest_ms.get(topic)
            if newest is not None:
                self.metrics.input_age_seconds.set((now_ms - newest) / 1e3, topic=topic)
            if limit is not None and (newest is None or now_ms - newest > limit):
                age = "never seen" if newest is None else f"{(now_ms - newest) / 1e3:.1f} s old"
                problems.append(f"{topic}: {age}, at most {limit / 1e3:.0f} s allowed")
        return problems

    def _show_market(self, runner: Runner[Any]) -> None:
        """Prices as the service has them in its table, and how many of them changed nothing."""
        for instrument, row in list(runner.tables.get("market_data", {}).items()):
            tick = row.envelope.body
            if isinstance(tick, MarketTick):
                self.metrics.mark_price.set(tick.mark_price, instrument=instrument)
        held, self._held_shown = runner.held_count - self._held_shown, runner.held_count
        self.metrics.steps_held_total.inc(held)

    def _show_intents(self, account: str, memory: ExecutionMemory) -> None:
        """What is under way. A freeze is no matter for `/ready`: the account is still protected."""
        orders = [item for item in memory.orders.values() if not item.is_terminal]
        actions = [item for item in memory.actions.values() if not item.is_terminal]
        unknown = sum(
            any(attempt.status is OrderStatus.UNKNOWN for attempt in item.attempts)
            for item in orders
        )
        self.metrics.intents_open.set(len(orders) + len(actions), account=account)
        self.metrics.intents_unknown.set(unknown, account=account)
        if account in self._raised or not self.changed("frozen", account, memory.frozen):
            return
        self.metrics.account_frozen.set(int(bool(memory.frozen)), account=account)
        if memory.frozen:
            self._log.critical("account_opens_nothing", account=account, reason=memory.frozen)

    # ------------------------------------------------------------ hooks

    def _commit(self, _service: str, milliseconds: float, steps: int) -> None:
        self.metrics.commit_seconds.observe(milliseconds / 1e3)
        self.metrics.steps_total.inc(steps)

    def _record(self, topic: str, count: int) -> None:
        self.metrics.records_total.inc(count, topic=topic)

    def _quarantined(self, topic: str, _reason: str) -> None:
        self.metrics.quarantined_total.inc(topic=topic, reason="undecodable")

    def _restored(self, partition: int, keys: int) -> None:
        self.metrics.restores_total.inc()
        for key in self._raised:  # from the log it steps again; if it raises again, it says so again
            self._states.pop(("frozen", key), None)
            self.metrics.account_frozen.set(0, account=key)
        self._raised.clear()
        if keys:
            self._log.info("restored", partition=partition, keys=keys)

    def _frozen(self, key: str, reason: str) -> None:
        self._raised.add(key)
        self.metrics.account_frozen.set(2, account=key)
        self.metrics.quarantined_total.inc(topic="", reason="step_raised")
        self._log.critical("account_frozen", account=key, reason=reason)

    def _output(self, topic: str, envelope: codec.Envelope) -> None:
        self.metrics.outputs_total.inc(topic=topic)
        show = _SHOW.get(type(envelope.body))
        if show is not None:
            show(self, envelope)

    def count_refusal(self, end: OrderConfirmation) -> None:
        """Alive is not able: orders that the exchange refuses one after the other are an alarm."""
        count = self._refusals.get(end.account, 0) + 1
        if end.status is not OrderStatus.REJECTED or end.filled_qty:
            count = 0
        self._refusals[end.account] = count
        if count == REFUSALS_IN_A_ROW:
            self._log.error("orders_rejected", account=end.account, in_a_row=count, text=end.text)
        text = f"{count} rejected in a row: {end.text}" if count >= REFUSALS_IN_A_ROW else ""
        self.trouble(f"{end.account}'s orders", text)

    def alarm(self, end: OrderConfirmation) -> None:
        """An order that nobody can explain: the account opens nothing until a person resumes it."""
        self.metrics.unexplained_orders_total.inc(account=end.account)
        self._log.critical(
            "unexplained_order", account=end.account, client_order_id=end.client_order_id,
            venue_order_id=end.venue_order_id, instrument=end.instrument, side=end.side.value,
            filled=end.filled_qty, text=end.text,
        )

    def changed(self, name: str, key: str, value: object) -> bool:
        """True the first time and whenever `value` differs from the last."""
        if self._states.get((name, key)) == value:
            return False
        self._states[name, key] = value
        return True

    def say(self, event: str, envelope: codec.Envelope, **fields: object) -> None:
        """One canonical line with id and trace."""
        self._log.info(event, id=envelope.id, trace=envelope.trace, **fields)


def _code(value: Any) -> int:
    return _CODES[type(value)].index(value)


def _show_risk(to: Telemetry, envelope: codec.Envelope) -> None:
    body: RiskAssessment = envelope.body
    metrics, account = to.metrics, body.account
    metrics.ltv.set(Decimal("Infinity") if body.ltv is None else body.ltv, account=account)
    metrics.ltv_exchange.set(body.ltv_exchange, account=account)
    metrics.ltv_net_fall.set(body.ltv_net_fall, account=account)
    metrics.margin_ratio.set(body.margin_ratio, account=account)
    metrics.margin_ratio_rise.set(body.margin_ratio_rise, account=account)
    metrics.risk_state.set(_code(body.state), account=account)
    metrics.risk_confidence.set(_code(body.confidence), account=account)
    metrics.net_delta.set(body.net_delta, account=account)
    metrics.debt.set(body.debt_value, account=account)
    metrics.counted_value.set(body.counted_value, account=account)
    if to.changed("risk", account, (body.state, body.confidence, body.reason)):
        to.say("risk", envelope, account=account, state=body.state.value, reason=body.reason.value,
               confidence=body.confidence.value, ltv=body.ltv, price=body.index_price)


def _show_funding(to: Telemetry, envelope: codec.Envelope) -> None:
    body: FundingContext = envelope.body
    to.metrics.funding_apr.set(body.apr, instrument=body.instrument)
    to.metrics.funding_regime.set(_code(body.regime), instrument=body.instrument)
    if to.changed("funding", body.instrument, (body.regime, body.apr > 0)):
        to.say("funding", envelope, instrument=body.instrument, regime=body.regime.value,
               apr=body.apr, payer="longs" if body.apr > 0 else "shorts",
               interval_h=body.funding_interval_h)


def _show_decision(to: Telemetry, envelope: codec.Envelope) -> None:
    body: HedgeDecision = envelope.body
    to.metrics.hedge_target.set(body.target, account=body.account)
    to.metrics.hedge_held.set(body.held, account=body.account)


def _show_order(to: Telemetry, envelope: codec.Envelope) -> None:
    body: PlaceOrder = envelope.body
    to.metrics.decisions_total.inc(reason=body.reason)
    to.say("order_decided", envelope, account=body.account, intent=body.intent_id,
           side=body.side.value, qty=body.qty, instrument=body.instrument, reason=body.reason,
           reduce_only=body.reduce_only, mark=body.mark_price)


def _show_treasury(to: Telemetry, envelope: codec.Envelope) -> None:
    body: TreasuryAction = envelope.body
    to.metrics.decisions_total.inc(reason=body.reason)
    to.say("treasury_decided", envelope, account=body.account, intent=body.intent_id,
           action=body.kind_of.value, amount=body.amount, coin=body.coin, reason=body.reason)


def _show_order_end(to: Telemetry, envelope: codec.Envelope) -> None:
    body: OrderConfirmation = envelope.body
    if not body.is_terminal or not to.changed("order", body.intent_id, body.revision):
        return
    if is_alarm(body):
        to.alarm(body)
    to.metrics.orders_total.inc(status=body.status.value)
    to.count_refusal(body)
    to.metrics.fills_total.inc(len(body.fills))
    to.say("order_done", envelope, account=body.account, intent=body.intent_id,
           client_order_id=body.client_order_id, status=body.status.value, side=body.side.value,
           qty=body.qty, filled=body.filled_qty, text=body.text)


def _show_foreign(to: Telemetry, envelope: codec.Envelope) -> None:
    body: ForeignFill = envelope.body
    to.say("not_ours", envelope, account=body.account, cause=body.cause.value,
           exec_type=body.exec_type, side=body.fill.side.value, qty=body.fill.qty,
           instrument=body.fill.instrument, price=body.fill.price)


def _show_difference(to: Telemetry, envelope: codec.Envelope) -> None:
    body: PositionDiffers = envelope.body
    to.say("position_differs", envelope, account=body.account, instrument=body.instrument,
           reason=body.reason.value, expected=body.expected_qty, found=body.found_qty)


def _show_treasury_end(to: Telemetry, envelope: codec.Envelope) -> None:
    body: TreasuryConfirmation = envelope.body
    if not body.is_terminal:
        return
    to.metrics.treasury_actions_total.inc(kind=body.kind_of.value, outcome=body.stage.value)
    to.say("treasury_done", envelope, account=body.account, intent=body.intent_id,
           action=body.kind_of.value, stage=body.stage.value, moved=body.moved_amount,
           settled=body.loan_amount, coin=body.coin, text=body.text)


def _show_safety(to: Telemetry, envelope: codec.Envelope) -> None:
    body: SafetyState = envelope.body
    to.metrics.safety_mode.set(_code(body.mode), account=body.account)
    to.say("safety", envelope, account=body.account, mode=body.mode.value,
           reason=body.reason.value, text=body.text)


def _show_policy(to: Telemetry, envelope: codec.Envelope) -> None:
    body: Policy = envelope.body
    to.metrics.reserve.set(body.hedge.reserve, account=body.account)
    to.say("policy", envelope, account=body.account, version=body.version,
           reserve=body.hedge.reserve)


_SHOW: dict[type[Message], Callable[[Telemetry, codec.Envelope], None]] = {
    RiskAssessment: _show_risk,
    FundingContext: _show_funding,
    HedgeDecision: _show_decision,
    PlaceOrder: _show_order,
    TreasuryAction: _show_treasury,
    OrderConfirmation: _show_order_end,
    ForeignFill: _show_foreign,
    PositionDiffers: _show_difference,
    TreasuryConfirmation: _show_treasury_end,
    SafetyState: _show_safety,
    Policy: _show_policy,
}
