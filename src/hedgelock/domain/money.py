"""Exact decimal money: strict parsing, rounding to steps, and the trap that catches floats."""

from __future__ import annotations

import decimal
import re
from decimal import Decimal

ZERO = Decimal(0)
ONE = Decimal(1)

_PLAIN = re.compile(r"[+-]?(\d{1,24}(\.\d{0,24})?|\.\d{1,24})([eE][+-]?\d{1,2})?\Z")


def trap_floats() -> None:
    """Make a float that strays into Decimal arithmetic raise, here and in every later thread."""
    for context in (decimal.DefaultContext, decimal.getcontext()):
        context.traps[decimal.FloatOperation] = True
        context.prec = 34


def parse_decimal(text: str) -> Decimal:
    """A finite decimal from a venue's text; ValueError for anything else, including "".

    Stricter than `Decimal`: no NaN, Infinity, underscores or blanks.

    >>> parse_decimal("0.10")
    Decimal('0.10')
    """
    if not isinstance(text, str) or not _PLAIN.match(text):
        raise ValueError(f"not a plain number: {text!r}")
    return Decimal(text)


def floor_to(value: Decimal, step: Decimal) -> Decimal:
    """Round towards zero to a multiple of `step` (> 0), in the step's own digits.

    >>> floor_to(Decimal("0.0519"), Decimal("0.001"))
    Decimal('0.051')
    """
    return (value / step).to_integral_value(decimal.ROUND_DOWN) * step


def ceil_to(value: Decimal, step: Decimal) -> Decimal:
    """Round away from zero to a multiple of `step` (> 0).

    >>> ceil_to(Decimal("0.0511"), Decimal("0.001"))
    Decimal('0.052')
    """
    return (value / step).to_integral_value(decimal.ROUND_UP) * step


def clip(value: Decimal, low: Decimal, high: Decimal) -> Decimal:
    """`value` limited to [low, high]; `low` wins when they cross."""
    return max(low, min(value, high))
