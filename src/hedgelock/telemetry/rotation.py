"""A log file that does not grow for ever, written by several processes at once.

Every writer has the file open for appending, so it cannot be renamed away from them: it is copied and
then emptied. What is written between the two, well under a millisecond, may be missing in the copy.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

BYTES_MAX = 20_000_000
"""Size from which the file is put aside."""

KEPT = 5
"""Files put aside: `.1` is the newest."""


def put_aside(path: Path, *, kept: int = KEPT) -> None:
    """Move a file that nobody writes to `.1`, older ones up, the oldest away; no file is no error."""
    if path.exists():
        _make_room(path, kept)
        path.replace(_numbered(path, 1))


def rotate(path: Path, *, bytes_max: int = BYTES_MAX, kept: int = KEPT) -> bool:
    """Copy a file that others append to into `.1` and empty it, once it is large; True when it was.

    Raises OSError (the disk is full, say); the file is whole then.
    """
    if path.stat().st_size < bytes_max:
        return False
    _make_room(path, kept)
    with path.open("rb") as source, _numbered(path, 1).open("wb") as target:
        shutil.copyfileobj(source, target)
    os.truncate(path, 0)
    return True


def _make_room(path: Path, kept: int) -> None:
    for number in range(kept - 1, 0, -1):
        older = _numbered(path, number)
        if older.exists():
            older.replace(_numbered(path, number + 1))


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")
