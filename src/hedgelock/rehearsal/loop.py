"""An asyncio loop whose time jumps to the next timer as soon as nothing is ready.

    loop = VirtualLoop()
    clock = VirtualClock(loop, epoch_ms=1_700_000_000_000)
    loop.run_until_complete(main())

No sockets, no threads, no waiting. Same coroutines → same order, every time.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")

_RESOLUTION_S = 1e-9


class Deadlock(Exception):
    """Everything waits and no timer is set: nothing could ever happen again."""


class _Jump:
    """What BaseEventLoop takes for its selector: instead of waiting it moves the clock."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout_s: float | None) -> list[Any]:
        """Move to the next timer when there is nothing else to do."""
        if timeout_s is None:
            raise Deadlock(self._loop.waiting())
        if timeout_s > 0:
            self._loop.jump()
        return []

    def close(self) -> None:
        """Nothing is open."""


class VirtualLoop(asyncio.BaseEventLoop):
    """See the module. Time starts at 0 s."""

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self._clock_resolution = _RESOLUTION_S
        self._selector = _Jump(self)
        self._numbers = itertools.count()
        self._known: dict[int, asyncio.Task[Any]] = {}

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now_s

    def jump(self) -> None:
        """Go to the instant of the next timer."""
        scheduled: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]
        self._now_s = max(self._now_s, scheduled[0].when())

    def create_task(  # type: ignore[override]  # typeshed leaves the name open
        self, coro: Generator[Any, None, T] | Coroutine[Any, Any, T], *, name: str | None = None,
        context: Any = None,
    ) -> asyncio.Task[T]:
        """As asyncio's; numbered per loop, so that names and orders repeat."""
        number = next(self._numbers)
        task = super().create_task(coro, name=name or f"task-{number}", context=context)
        self._known[number] = task
        task.add_done_callback(lambda _done: self._known.pop(number, None))
        return task

    def tasks(self) -> list[asyncio.Task[Any]]:
        """Every task that is not done, oldest first."""
        return [task for task in self._known.values() if not task.done()]

    def forget(self, belongs: Callable[[asyncio.Handle], bool]) -> None:
        """Cancel every timer and every plain callback that `belongs`.

        Steps of tasks and callbacks of futures stay: a task that is cancelled needs them to end.
        """
        timers: list[asyncio.Handle] = self._scheduled  # type: ignore[attr-defined]
        ready: list[asyncio.Handle] = [
            handle for handle in self._ready  # type: ignore[attr-defined]
            if isinstance(handle._callback, types.MethodType)  # noqa: SLF001
        ]
        for handle in (*timers, *ready):
            if belongs(handle):
                handle.cancel()

    def waiting(self) -> str:
        """Who waits, for the error of a deadlock."""
        names = [task.get_name() for task in self.tasks()]
        return "nothing is scheduled, and these wait for ever: " + ", ".join(names)

    def run_in_executor(  # type: ignore[override]  # there is nothing to hand back
        self, executor: Any, func: Any, *args: Any
    ) -> Any:
        """Raises RuntimeError: no threads, their timing would be somebody else's."""
        raise RuntimeError(f"a simulation runs no threads: {func}")

    # -- what BaseEventLoop asks of a loop with sockets

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps, so nobody needs waking."""


class VirtualClock:
    """`ports.Clock` on a loop's time; `epoch_ms` is UTC at the loop's start."""

    def __init__(self, loop: asyncio.AbstractEventLoop, epoch_ms: int) -> None:
        self._loop = loop
        self.epoch_ms = epoch_ms

    def now_ms(self) -> int:
        """UTC epoch in milliseconds."""
        return self.epoch_ms + int(self._loop.time() * 1e3 + 1e-6)

    def monotonic_ms(self) -> float:
        """Milliseconds since the loop's start."""
        return self._loop.time() * 1e3


def origin(handle: asyncio.Handle) -> tuple[contextvars.Context, str]:
    """The context that a callback was set in, and the module that it belongs to."""
    callback: Any = handle._callback  # type: ignore[attr-defined]  # noqa: SLF001
    while isinstance(callback, functools.partial):
        callback = callback.func
    owner = getattr(callback, "__self__", None)
    module = type(owner).__module__ if owner is not None else getattr(callback, "__module__", "")
    return handle._context, module or ""  # type: ignore[attr-defined]  # noqa: SLF001
