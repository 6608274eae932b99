"""A wake-up that costs a tenth of `threading.Event`: one lock, sticky, one waiter."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable


class Signal:
    """Set from any thread; a wait returns at once when it was set since the last wait."""

    def __init__(self) -> None:
        self.listener: Callable[[], None] | None = None
        """Also called by every `set`, in the setter's thread."""
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Let the present or the next `wait` through; setting twice is setting once."""
        if self._lock.locked():
            # Two setters may race to here: the later one finds the lock released already.
            with contextlib.suppress(RuntimeError):
                self._lock.release()
        if self.listener is not None:
            self.listener()

    def wait(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` and clear; True when it was set."""
        return self._lock.acquire(timeout=max(0.0, timeout_s))
