"""Rows of an account's past, oldest first, forgotten at the old end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class History(list[T]):
    """A list that counts what it has forgotten, so that pages and totals go on."""

    __slots__ = ("gone",)

    def __init__(self) -> None:
        super().__init__()
        self.gone = 0

    @property
    def total(self) -> int:
        """How many there ever were."""
        return self.gone + len(self)

    def forget(self, count: int) -> list[T]:
        """Drop so many of the oldest rows and return them."""
        dropped = self[:count]
        del self[:count]
        self.gone += len(dropped)
        return dropped

    def sift(self, keep: Callable[[T], bool]) -> list[T]:
        """Drop every row that is not to be kept and return them."""
        dropped = [row for row in self if not keep(row)]
        if dropped:
            self[:] = [row for row in self if keep(row)]
            self.gone += len(dropped)
        return dropped
