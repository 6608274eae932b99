"""One engine per API key on one machine: a file lock named by a hash of venue and key.

Two engines on one key would each take the other's orders for a stranger's, and hedge twice. The kernel
frees the lock when its process dies, however it dies. Engines on one Kafka share the key: there the
consumer group says who acts, so their locks are shared and name the Kafka they belong to. Engines on
different machines cannot see each other: the executor stops at the first order with our prefix that
it does not know.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from hedgelock.errors import ConfigError


class Holder(NamedTuple):
    """Who holds a key."""

    pid: int
    since_ms: int
    owner: str
    """The log it works for: a folder, or a Kafka."""

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since_ms / 1000, UTC)
        return f"process {self.pid} ({self.owner}) since {since:%Y-%m-%d %H:%M:%S} UTC"


def name_of(url: str, api_key: str) -> str:
    """The lock's file name; the key cannot be told from it."""
    digest = hashlib.sha256(f"{urlsplit(url).netloc}\n{api_key}".encode()).hexdigest()
    return f"key-{digest[:32]}.lock"


class KeyLock:
    """Held from `acquire` to `release` or the end of the process."""

    def __init__(self, folder: Path, url: str, api_key: str) -> None:
        self.path = folder / name_of(url, api_key)
        self._host = urlsplit(url).netloc
        self._shown = f"…{api_key[-4:]}" if len(api_key) > 8 else "…"
        self._file: int | None = None

    def acquire(self, owner: str, *, now_ms: int, is_shared: bool = False) -> None:
        """Take the key for `owner`. Raises ConfigError that says who has it and what to do.

        `is_shared`: others of the same owner may hold it too (services on one Kafka).
        """
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        taken = False
        try:
            taken = self._take(file, Holder(os.getpid(), now_ms, owner), is_shared=is_shared)
        finally:
            if not taken:
                os.close(file)
        self._file = file

    def _take(self, file: int, wanted: Holder, *, is_shared: bool) -> bool:
        """True; or ConfigError."""
        if _try(file, fcntl.LOCK_EX):
            _write(file, wanted)
            # Going from exclusive to shared lets another in between: what it wrote counts.
            free = not is_shared or _try(file, fcntl.LOCK_SH)
        else:
            free = is_shared and _try(file, fcntl.LOCK_SH)
        held = _read(file)
        if not free or held is None or held.owner != wanted.owner:
            raise self._refused(file)
        return True

    def holder(self) -> Holder | None:
        """Who holds the key at present; None = nobody."""
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return None if _try(file, fcntl.LOCK_EX) else _read(file)
        finally:
            os.close(file)

    def release(self) -> None:
        """Give the key back."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _refused(self, file: int) -> ConfigError:
        held = _read(file)
        return ConfigError(
            f"the API key {self._shown} at {self._host} is in use by {held or 'another process'}: two"
            " engines on one key would hedge twice; stop that one, or make a key of its own for this"
            f" one (lock: {self.path})"
        )


def _try(file: int, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write(file: int, holder: Holder) -> None:
    os.ftruncate(file, 0)
    os.pwrite(file, json.dumps(holder._asdict()).encode(), 0)


def _read(file: int) -> Holder | None:
    try:
        return Holder(**json.loads(os.pread(file, 4_096, 0)))
    except (ValueError, TypeError):
        return None
