"""Who may write the embedded log: one process per file, one thread at a time in it."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

from hedgelock.errors import BusError, StorageFull


class ProcessLock:
    """An advisory lock beside the log: one engine per file. Freed by the kernel on a kill."""

    def __init__(self, path: Path) -> None:
        self._path = path.with_name(path.name + ".lock")
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StorageFull(
                f"cannot write in {path.parent} ({error.strerror}): choose another folder or mend "
                "its permissions"
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.read(self._fd, 32).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise BusError(
                f"another engine (pid {owner}) already writes {path}: stop it, or give this one "
                "another log"
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let the next engine in. The file stays: removing it would race with an opener."""
        os.close(self._fd)


class WriterLock:
    """A re-entrant lock whose every user, once it has let go, looks after what arrived meanwhile.

    A publisher that finds it taken leaves its messages and goes; `after` writes them.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.acquire = self._lock.acquire
        self.release = self._lock.release
        self.after: Callable[[], None] = lambda: None

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc: object) -> None:
        self._lock.release()
        self.after()
