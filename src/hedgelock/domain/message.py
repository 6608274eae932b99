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
        decimals, curves = _checked_fields(kind)
        for name in decimals:
            number = getattr(self, name)
            # Inline, because every message passes here several times on its way.
            if number is not None and (
                not number.is_finite()
                or (not -_DIGITS_MAX <= number.adjusted() <= _DIGITS_MAX and number)
            ):
                raise ValueError(f"{kind.__name__}.{name} is not a usable number: {number}")
        for name in curves:
            for number in itertools.chain.from_iterable(getattr(self, name)):
                if not number.is_finite() or (abs(number.adjusted()) > _DIGITS_MAX and number):
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


@cache
def _checked_fields(kind: type[Value]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the fields that are numbers, and of those that are curves of (x, y) points."""
    hints = get_type_hints(kind)
    names = [field.name for field in msgspec.structs.fields(kind)]
    numbers = tuple(name for name in names if hints[name] in (Decimal, Decimal | None))
    curve = tuple[tuple[Decimal, Decimal], ...]
    return numbers, tuple(name for name in names if hints[name] == curve)
