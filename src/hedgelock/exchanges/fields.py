"""Strict readers of a venue's JSON: typed, finite, and with the path of what is wrong.

`""` and null mean absent, never 0. A required field that is missing, absent or of another type
raises BadMessage with its JSON path; so does a number that is not plain.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import msgspec

from hedgelock.domain.money import parse_decimal
from hedgelock.errors import BadMessage

P = ParamSpec("P")
R = TypeVar("R")

_MISSING: Any = object()
_TS_MS_MAX = 10**14
_INT_DIGITS_MAX = 20
_SHOWN_MAX = 60


def decode_json(raw: bytes | str) -> Any:
    """Any JSON value; BadMessage when it is none (or nested beyond reason)."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise BadMessage(f"$: not JSON: {error}") from error


def strict(parse: Callable[P, R]) -> Callable[P, R]:
    """Turn the ValueError of a message that refuses its numbers into BadMessage."""

    @wraps(parse)
    def parsed(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return parse(*args, **kwargs)
        except (ValueError, ArithmeticError) as error:
            raise BadMessage(f"{parse.__name__}: {error}") from error

    return parsed


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "…"


class Row:
    """One JSON object and where it stands."""

    __slots__ = ("_values", "path")

    def __init__(self, values: Any, path: str = "$") -> None:
        if not isinstance(values, dict):
            raise BadMessage(f"{path}: expected an object, got {_shown(values)}")
        self._values: dict[str, Any] = values
        self.path = path

    def __contains__(self, name: str) -> bool:
        """True when the field is there, even empty."""
        return name in self._values

    def names(self) -> list[str]:
        """The fields, in the venue's order."""
        return list(self._values)

    def bad(self, name: str, why: str) -> BadMessage:
        """The error for one field of this row."""
        return BadMessage(f"{self.path}.{name}: {why}")

    def _take(self, name: str) -> Any:
        value = self._values.get(name, _MISSING)
        if value is _MISSING:
            raise self.bad(name, "missing")
        return value

    def text(self, name: str) -> str:
        """A string, which may be empty."""
        value = self._take(name)
        if not isinstance(value, str):
            raise self.bad(name, f"expected text, got {_shown(value)}")
        return value

    def name(self, name: str) -> str:
        """A string that is not empty."""
        value = self.text(name)
        if not value:
            raise self.bad(name, "empty")
        return value

    def text_or(self, name: str, default: str = "") -> str:
        """A string, or `default` when it is missing or null."""
        value = self._values.get(name)
        return default if value is None else self.text(name)

    def decimal(self, name: str) -> Decimal:
        """A number that must be there."""
        number = self.maybe(name)
        if number is None:
            raise self.bad(name, "missing" if name not in self._values else "empty")
        return number

    def maybe(self, name: str) -> Decimal | None:
        """A number, None when the venue sent none (missing, null or "")."""
        value = self._values.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise self.bad(name, f"expected a number as text, got {_shown(value)}")
        try:
            return parse_decimal(value)
        except ValueError as error:
            raise self.bad(name, str(error)[:200]) from error

    def given(self, name: str) -> Decimal | None:
        """A number that must be stated; None where the venue states "" (not applicable).

        Unlike `maybe`, a field that vanished is an error: it would be taken for "not applicable".
        """
        if self._take(name) is None:
            raise self.bad(name, "null")
        return self.maybe(name)

    def integer(self, name: str) -> int:
        """A whole number, as JSON number or as text."""
        value = self._take(name)
        if isinstance(value, bool):
            raise self.bad(name, "expected a whole number, got a flag")
        if isinstance(value, int):
            return value
        if isinstance(value, str) and len(value) <= _INT_DIGITS_MAX:
            digits = value[1:] if value[:1] == "-" else value
            # "-0" and "007" are no venue's numbers: a retCode of "-0" must not pass for success.
            if digits.isascii() and digits.isdigit() and str(int(value)) == value:
                return int(value)
        raise self.bad(name, f"expected a whole number, got {_shown(value)}")

    def ts_ms(self, name: str) -> int:
        """An instant: ms since 1970, in a sane range."""
        value = self.integer(name)
        if not 0 <= value < _TS_MS_MAX:
            raise self.bad(name, f"not an instant in ms: {value}")
        return value

    def flag(self, name: str) -> bool:
        """A JSON boolean."""
        value = self._take(name)
        if not isinstance(value, bool):
            raise self.bad(name, f"expected true or false, got {_shown(value)}")
        return value

    def row(self, name: str) -> Row:
        """An object."""
        return Row(self._take(name), f"{self.path}.{name}")

    def rows(self, name: str) -> list[Row]:
        """A list of objects."""
        return rows_of(self._take(name), f"{self.path}.{name}")

    def texts(self, name: str) -> list[str]:
        """A list of strings."""
        value = self._take(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.bad(name, f"expected a list of texts, got {_shown(value)}")
        return value

    def one_of(self, name: str, table: dict[str, R]) -> R:
        """The meaning of an enum's text; an unknown one is loud."""
        value = self.text(name)
        try:
            return table[value]
        except KeyError:
            raise self.bad(name, f"unknown value {_shown(value)}") from None


def rows_of(value: Any, path: str) -> list[Row]:
    """A list of objects at `path`."""
    if not isinstance(value, list):
        raise BadMessage(f"{path}: expected a list, got {_shown(value)}")
    return [Row(item, f"{path}[{index}]") for index, item in enumerate(value)]
