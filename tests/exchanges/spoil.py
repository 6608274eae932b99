"""Spoiling JSON in place: every leaf, in every way in which a field goes wrong."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hedgelock.domain.money import parse_decimal

DELETE: Any = object()
Path = tuple[str | int, ...]


def leaves(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every leaf of a JSON value and where it stands."""
    if isinstance(node, dict):
        for name, inner in node.items():
            yield from leaves(inner, (*path, name))
    elif isinstance(node, list):
        for index, inner in enumerate(node):
            yield from leaves(inner, (*path, index))
    else:
        yield path, node


def spoilt(body: Any, path: Path, value: Any) -> Any:
    """A copy of `body` with another value at `path`; DELETE takes it away."""
    changed = copy.deepcopy(body)
    node = changed
    for step in path[:-1]:
        node = node[step]
    if value is DELETE:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return changed


def is_number(value: Any) -> bool:
    """Whether it is a number, or a text that is one."""
    if isinstance(value, bool):
        return False
    if isinstance(value, str):
        try:
            parse_decimal(value)
        except ValueError:
            return False
        return True
    return isinstance(value, int)


def wrongs(value: Any) -> Iterator[tuple[str, Any]]:
    """The ways in which a leaf goes wrong, by name."""
    yield "delete", DELETE
    yield "empty", ""
    yield "null", None
    yield "list", [value]
    yield "object", {"value": value}
    if isinstance(value, bool):
        yield "text", "yes"
        yield "number", 1
        return
    yield "flag", True
    yield "float", 0.5
    if is_number(value):
        for text in ("NaN", "Infinity", "1e999", "1_000", " 1", "0x10"):
            yield text, text
