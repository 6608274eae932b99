"""The base of everything that travels on the bus, and the envelope around it.

Messages are frozen, tagged with their class name on the wire (`kind`), and refuse numbers that are
not finite or not in the range their class declares, on decoding as on construction. Schemas only
grow: a new field is optional with None for "absent"; anything else is a new class.
"""

from __future__ import annotations

import itertools
from decimal import Decimal
from functools import cache
from typing import ClassVar, get_type_hints

import msgspec

_DIGITS_MAX = 30
"""Largest decimal exponent taken seriously; beyond it a number is a mistake or an attack."""


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """A checked part of a message (no tag of its own)."""

    positive: ClassVar[tuple[str, ...]] = ()
    """Names of Decimal fields that must be > 0 when present."""
    non_negative: ClassVar[tuple[str, ...]] = ()
    """Names of Decimal fields that must be ≥ 0 when present."""

    def __post_init__(self) -> None:
        """Refuse NaN, Infinity, absurd exponents and numbers outside the declared range."""
        kind = type(self)
        for name in _decimal_fields(kind):
            number = getattr(self, name)
            if number is not None and not _is_usable(number):
                raise ValueError(f"{kind.__name__}.{name} is not a usable number: {number}")
        for name in _curve_fields(kind):
            for number in itertools.chain.from_iterable(getattr(self, name)):
                if not _is_usable(number):
                    raise ValueError(f"{kind.__name__}.{name} is not a usable number: {number}")
        for name in kind.positive:
            number = getattr(self, name)
            if number is not None and number <= 0:
                raise ValueError(f"{kind.__name__}.{name} must be > 0, got {number}")
        for name in kind.non_negative:
            number = getattr(self, name)
            if number is not None and number < 0:
                raise ValueError(f"{kind.__name__}.{name} must be ≥ 0, got {number}")


class Message(Value, frozen=True, kw_only=True, tag=True, tag_field="kind"):
    """A message of the bus."""


class Tick(Message, frozen=True, kw_only=True):
    """Time passed; the runner makes it, nothing sends it. `now_ms`: UTC epoch."""

    now_ms: int


class Restored(Message, frozen=True, kw_only=True):
    """This account's state was just restored; whatever was under way must be found out."""

    now_ms: int


def _is_usable(number: Decimal) -> bool:
    return number.is_finite() and (not number or abs(number.adjusted()) <= _DIGITS_MAX)


@cache
def _decimal_fields(kind: type[Value]) -> tuple[str, ...]:
    hints = get_type_hints(kind)
    return tuple(
        field.name
        for field in msgspec.structs.fields(kind)
        if hints[field.name] in (Decimal, Decimal | None)
    )


@cache
def _curve_fields(kind: type[Value]) -> tuple[str, ...]:
    hints = get_type_hints(kind)
    curve = tuple[tuple[Decimal, Decimal], ...]
    return tuple(f.name for f in msgspec.structs.fields(kind) if hints[f.name] == curve)
