"""trade-executor: the life of each intent, and the only hands on the exchange's order book.

The fold decides (`domain/execution.py`); this shell runs its effects after their commit and hands
back what the exchange says, through answers and through the private stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from hedgelock.domain import execution, precheck
from hedgelock.domain.execution import ExecutionReport, OrderReport, StreamReset
from hedgelock.domain.message import Message
from hedgelock.ports import Clock, Exchange
from hedgelock.services.effects import EffectRunner
from hedgelock.services.runner import Emitted, Runner, Service

_log = structlog.get_logger("trade-executor")

SERVICE: Service[execution.ExecutionMemory] = Service(
    name="trade-executor",
    inputs=("hedge_trades", "treasury_actions"),
    tables=("safety_state", "policies", "instruments"),
    step=execution.step,
    initial=lambda _account: execution.ExecutionMemory(),
    state_type=execution.ExecutionMemory,
)


class Hands:
    """Runs effects and listens to the private streams, on the asyncio loop it was made in."""

    def __init__(
        self, exchanges: Mapping[str, Exchange], clock: Clock, runner: Runner[execution.ExecutionMemory],
        *, performed: Callable[[str, str, float], None] = lambda _kind, _outcome, _seconds: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._exchanges = exchanges
        self._runner = runner
        self._tasks: list[asyncio.Task[None]] = []
        self._effects = {
            name: EffectRunner(
                exchange, deliver=self._deliver, clock=clock, may_send=self._may_send,
                performed=performed,
            )
            for name, exchange in exchanges.items()
        }

    def act(self, effects: Sequence[Emitted]) -> None:
        """Take effects whose commit stands. Safe from the fold thread."""
        self._loop.call_soon_threadsafe(self._submit, list(effects))

    def _submit(self, effects: list[Emitted]) -> None:
        for emitted in effects:
            self._effects[emitted.effect.account].submit([emitted.effect])

    def _deliver(self, event: Message) -> None:
        self._runner.deliver(event.account, event)  # type: ignore[attr-defined]

    def _may_send(self, effect: execution.Effect) -> str | None:
        """Safety's word at the moment of sending; None = go."""
        row = self._runner.tables["safety_state"].get(effect.account)
        return precheck.forbidden(effect, row.envelope.body if row else None)

    def start(self) -> None:
        """Listen to every account's private stream."""
        for exchange in self._exchanges.values():
            self._tasks.append(asyncio.create_task(self._listen(exchange)))

    async def _listen(self, exchange: Exchange) -> None:
        async for event in exchange.private_stream():
            if isinstance(event, (OrderReport, ExecutionReport, StreamReset)):
                self._deliver(event)

    async def stop(self) -> None:
        """Let effects under way finish briefly; what stays open is asked about at the next start."""
        for effects in self._effects.values():
            await effects.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
