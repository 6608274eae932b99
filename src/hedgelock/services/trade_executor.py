"""trade-executor: the life of each intent, and the only hands on the exchange's order book.

The fold decides (`domain/execution.py`); this shell runs its effects after their commit and hands
back what the exchange says, through answers and through the private stream.
"""

from __future__ import annotations

import asyncio
import collections
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hedgelock.domain import execution, precheck
from hedgelock.domain.effect import Effect, ExecutionReport, OrderReport, StreamReset
from hedgelock.domain.execution_memory import ExecutionMemory
from hedgelock.ports import Clock, Exchange
from hedgelock.services.effects import EffectRunner
from hedgelock.services.runner import Runner
from hedgelock.services.service import Emitted, Service

SERVICE: Service[ExecutionMemory] = Service(
    name="trade-executor",
    inputs=("hedge_trades", "treasury_actions", "account_raw"),
    tables=("safety_state", "policies", "instruments", "market_data", "funding_context"),
    step=execution.step,
    initial=lambda _account: ExecutionMemory(),
    state_type=ExecutionMemory,
)


TRACES_MAX = 4_096


class Hands:
    """Runs effects and listens to the private streams, on the asyncio loop it was made in."""

    def __init__(
        self, exchanges: Mapping[str, Exchange], clock: Clock,
        runner: Runner[ExecutionMemory], *,
        performed: Callable[[str, str, float], None] = lambda _kind, _outcome, _seconds: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._exchanges = exchanges
        self._runner = runner
        self._traces: collections.OrderedDict[str, str] = collections.OrderedDict()
        self._effects = {
            name: EffectRunner(
                exchange, deliver=self._deliver, clock=clock, may_send=self._may_send,
                performed=performed,
            )
            for name, exchange in exchanges.items()
        }

    def act(self, effects: Sequence[Emitted]) -> None:
        """Take effects whose commit stands. Safe from any thread."""
        if threading.get_ident() == self._thread:
            self._submit(list(effects))
        else:
            self._loop.call_soon_threadsafe(self._submit, list(effects))

    def forget(self, accounts: Sequence[str]) -> None:
        """Accounts moved to another instance: what has not left stays here. Fold thread."""
        self._loop.call_soon_threadsafe(self._drop, list(accounts))

    def on_limits(self, account: str, endpoint: str, limit: int, left: int, reset_ms: int) -> None:
        """What the exchange's headers say of a rate limit."""
        effects = self._effects.get(account)
        if effects is not None:
            effects.on_limits(endpoint, limit, left, reset_ms)

    async def listen(self, exchange: Exchange, alive: Callable[[], None] = lambda: None) -> None:
        """One account's private stream; VenueError ends it. `alive` is called per reconnection."""
        async for event in exchange.private_stream():
            if isinstance(event, StreamReset):
                alive()
            if isinstance(event, (OrderReport, ExecutionReport, StreamReset)):
                self._deliver(event)

    async def stop(self) -> None:
        """Let effects under way finish briefly; what stays open is asked about at the next start."""
        for effects in self._effects.values():
            await effects.close()

    def _submit(self, effects: list[Emitted]) -> None:
        for emitted in effects:
            self._traces[_identity(emitted.effect)] = emitted.trace
            self._effects[emitted.effect.account].submit([emitted.effect])
        while len(self._traces) > TRACES_MAX:
            self._traces.popitem(last=False)

    def _drop(self, accounts: list[str]) -> None:
        for account in accounts:
            if account in self._effects:
                self._effects[account].drop_waiting()

    def _deliver(self, event: Any) -> None:
        self._runner.deliver(event.account, event, trace=self._traces.get(_identity(event), ""))

    def _may_send(self, effect: Effect) -> str | None:
        """Safety's word at the moment of sending; None = go."""
        row = self._runner.tables["safety_state"].get(effect.account)
        return precheck.forbidden(effect, row.envelope.body if row else None)


def _identity(message: Any) -> str:
    """What an effect and its answers have in common."""
    report = getattr(message, "report", message)
    return str(getattr(report, "client_order_id", "") or getattr(report, "intent_id", ""))
