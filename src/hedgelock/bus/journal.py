"""How both buses write the journal of steps."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

from hedgelock.ports import StepRecord
from hedgelock.topics import JOURNAL_MS

ROWS_REMEMBERED: Final = 20_000
"""Journal rows whose writing a session remembers; a forgotten one is written once more."""

_DAY_MS: Final = 86_400_000

ROWS_MS: Final = JOURNAL_MS + 2 * _DAY_MS
"""How long journal rows are kept. A row is written again when its copy is older than a day, so
whatever a kept step refers to has a copy at most a day older than the step."""


def journal_key(service: str, account: str) -> str:
    """Key of a step in the journal."""
    return f"{service}/{account}"


class RowsWritten:
    """Which content-addressed rows have a copy in the log that is younger than a day."""

    def __init__(self) -> None:
        self._written_ms: OrderedDict[str, int] = OrderedDict()

    def missing(self, steps: Sequence[StepRecord], now_ms: int) -> dict[str, bytes]:
        """The rows of these steps that must be written along with them."""
        written, latest = self._written_ms, now_ms - _DAY_MS
        return {
            name: row for step in steps for name, row in step.rows
            if written.get(name, latest) <= latest
        }

    def add(self, names: Iterable[str], now_ms: int) -> None:
        """Remember rows after their transaction has succeeded."""
        for name in names:
            self._written_ms[name] = now_ms
            self._written_ms.move_to_end(name)
        while len(self._written_ms) > ROWS_REMEMBERED:
            self._written_ms.popitem(last=False)
