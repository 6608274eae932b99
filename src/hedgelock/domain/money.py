"""Exact decimal money: strict parsing, rounding to steps, and the trap that catches floats."""

from __future__ import annotations

import decimal
import re
from decimal import Context, Decimal

ZERO = Decimal(0)
ONE = Decimal(1)

_EXPONENT_MAX = 30
_LARGEST = Decimal("1E+30")

_PLAIN = re.compile(r"[+-]?(\d{1,24}(\.\d{0,24})?|\.\d{1,24})([eE][+-]?\d{1,2})?\Z", re.ASCII)


def trap_floats() -> None:
    """Make a float that strays into Decimal arithmetic raise, here and in every later thread."""
    for context in (decimal.DefaultContext, decimal.getcontext()):
        context.traps[decimal.FloatOperation] = True
        context.prec = 34
        # ccxt's decimal_to_precision sets these two on the context of whoever calls it. Set from the
        # start, that changes nothing: the same input gives the same digits before and after it.
        context.rounding = decimal.ROUND_HALF_UP
        context.traps[decimal.Underflow] = True


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
    rounded = (value / step).to_integral_value(decimal.ROUND_DOWN) * step
    # The quotient itself is rounded to the context's digits and may have reached the next integer.
    return rounded if rounded.copy_abs() <= value.copy_abs() else rounded - step.copy_sign(value)


def ceil_to(value: Decimal, step: Decimal) -> Decimal:
    """Round away from zero to a multiple of `step` (> 0).

    >>> ceil_to(Decimal("0.0511"), Decimal("0.001"))
    Decimal('0.052')
    """
    rounded = (value / step).to_integral_value(decimal.ROUND_UP) * step
    return rounded if rounded.copy_abs() >= value.copy_abs() else rounded + step.copy_sign(value)


def clip(value: Decimal, low: Decimal, high: Decimal) -> Decimal:
    """`value` limited to [low, high]; `low` wins when they cross."""
    return max(low, min(value, high))


def digits(count: int) -> Context:
    """A context that rounds to `count` significant digits, the same whenever it is made.

    A bare `Context` takes over what the default is at that moment: a module imported before
    `trap_floats` would round otherwise than one imported after it, and a replay would differ.
    """
    return Context(
        prec=count, rounding=decimal.ROUND_HALF_UP,
        traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
    )


def saturate(value: Decimal) -> Decimal:
    """`value` brought into the range that messages carry: |value| ≤ 1E30, below 1E−30 is 0.

    Products of numbers that each passed the boundary may leave it; an absurd figure must stay
    absurdly large, not stop an account.
    """
    exponent = value.adjusted()
    if -_EXPONENT_MAX <= exponent < _EXPONENT_MAX or not value:
        return value
    return _LARGEST.copy_sign(value) if exponent > 0 else ZERO
