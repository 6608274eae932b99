"""The house rules that a machine can check, each with the replacement to use instead.

Every rule is a function from a parsed file to findings; `test_tidy.py` plants a violation of each.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = ROOT / "src" / "hedgelock"
TESTS = ROOT / "tests"

FUNCTION_LINES_MAX = 60
MODULE_LINES_MAX = 400


class File(NamedTuple):
    """A parsed file; `path` is relative to the project (`src/hedgelock/…`, `tests/…`)."""

    path: str
    text: str
    tree: ast.Module

    def inside(self, *folders: str) -> bool:
        """True when the file is one of these, or lies in one of these folders."""
        return any(self.path == folder or self.path.startswith(folder + "/") for folder in folders)


class Finding(NamedTuple):
    """One violation, ready to print."""

    path: str
    line: int
    text: str


Rule = Callable[[File], Iterator[Finding]]


def parse(path: str, text: str) -> File:
    """A file from its text."""
    return File(path, text, ast.parse(text))


def files(folder: Path) -> Iterator[File]:
    """Every Python file below a folder."""
    for path in sorted(folder.rglob("*.py")):
        yield parse(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an attribute chain, "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = dotted(node.value)
        return f"{head}.{node.attr}" if head else ""
    return ""


def _calls(file: File) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Call):
            yield node, dotted(node.func)


def _imports(file: File) -> Iterator[tuple[int, str]]:
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


# ---------------------------------------------------------------- src


def no_floats_in_domain(file: File) -> Iterator[Finding]:
    """Money is exact: Decimal from strings."""
    if not file.inside("src/hedgelock/domain"):
        return
    for call, name in _calls(file):
        if name == "float":
            yield Finding(file.path, call.lineno, "float( in domain: use domain/money.py")
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield Finding(file.path, node.lineno, f"{node.value} in domain: Decimal('{node.value}')")


_IMPURE = frozenset(
    ["asyncio", "datetime", "io", "logging", "os", "pathlib", "random", "socket", "sqlite3", "structlog", "subprocess", "sys", "threading", "time"]
)


def pure_domain(file: File) -> Iterator[Finding]:
    """Decisions know no clock, no I/O, no logging, no randomness, no await."""
    if not file.inside("src/hedgelock/domain"):
        return
    for line, name in _imports(file):
        if name.split(".")[0] in _IMPURE:
            yield Finding(file.path, line, f"{name} in domain: pass what is needed as a message")
    for node in ast.walk(file.tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.Await):
            yield Finding(file.path, node.lineno, "await in domain: return an effect")


_WALL_CLOCK = (
    "time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today",
    "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.date.today", "date.today",
)


def one_clock(file: File) -> Iterator[Finding]:
    """Time comes from the Clock port, so that simulations can replace it."""
    if not file.inside("src") or file.inside("src/hedgelock/clock.py"):
        return
    for call, name in _calls(file):
        if name in _WALL_CLOCK:
            yield Finding(file.path, call.lineno, f"{name}(): use the Clock port")


_DRAWS = frozenset(
    ["random", "randint", "randrange", "uniform", "gauss", "choice", "choices", "shuffle", "sample", "getrandbits", "normalvariate", "expovariate", "betavariate", "triangular", "seed"]
)


def no_chance(file: File) -> Iterator[Finding]:
    """Identity is derived and randomness seeded, or nothing could be replayed."""
    if not file.inside("src"):
        return
    for call, name in _calls(file):
        module, _, function = name.rpartition(".")
        if function in ("uuid4", "uuid1"):
            yield Finding(file.path, call.lineno, f"{name}(): derive the id from the decision")
        if module == "random" and function in _DRAWS:
            yield Finding(file.path, call.lineno, f"{name}(): inject a seeded random.Random")
        if name in ("random.Random", "Random") and not call.args:
            yield Finding(file.path, call.lineno, "random.Random() without a seed: inject one")


def no_print(file: File) -> Iterator[Finding]:
    """Results go through cli/console.py, everything else through the log."""
    if not file.inside("src"):
        return
    for call, name in _calls(file):
        if name == "print":
            yield Finding(file.path, call.lineno, "print(): use the logger, or cli/console.py")


def one_configuration(file: File) -> Iterator[Finding]:
    """Only config reads the environment; everybody else is given settings."""
    if not file.inside("src") or file.inside("src/hedgelock/config"):
        return
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Attribute) and dotted(node) in ("os.environ", "os.getenv"):
            yield Finding(file.path, node.lineno, f"{dotted(node)}: read settings (config)")


def typed_messages(file: File) -> Iterator[Finding]:
    """A message says what it holds: no dict and no Any in it."""
    if not file.inside("src/hedgelock/domain"):
        return
    for node in ast.walk(file.tree):
        if not isinstance(node, ast.ClassDef):
            continue
        if not {"Message", "Value"} & {dotted(base).split(".")[-1] for base in node.bases}:
            continue
        for field in node.body:
            if isinstance(field, ast.AnnAssign):
                names = {dotted(part) for part in ast.walk(field.annotation)}
                if names & {"dict", "Dict", "Any", "object"}:
                    yield Finding(
                        file.path, field.lineno, f"{node.name}: use a Value with named fields"
                    )


_VAGUE = ("utils", "util", "helpers", "helper", "common", "misc", "shared")


def telling_names(file: File) -> Iterator[Finding]:
    """A module is named after its subject."""
    name = Path(file.path).stem
    if name in _VAGUE or Path(file.path).parent.name in _VAGUE:
        yield Finding(file.path, 1, f"module {name}: name it after what it does")


BROAD_EXCEPT = (
    "src/hedgelock/services/runner.py",  # a step that raises freezes its account
    "src/hedgelock/services/pump.py",  # whatever ends the fold thread must end the process
)


def narrow_except(file: File) -> Iterator[Finding]:
    """Only the runner catches everything: a bug elsewhere must stop the process."""
    if not file.inside("src") or file.inside(*BROAD_EXCEPT):
        return
    for node in ast.walk(file.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = [] if node.type is None else [dotted(part) for part in ast.walk(node.type)]
        if node.type is None or {"Exception", "BaseException"} & set(caught):
            yield Finding(file.path, node.lineno, "broad except: name the errors you expect")


SOURCE_RULES: tuple[Rule, ...] = (
    no_floats_in_domain, pure_domain, one_clock, no_chance, no_print, one_configuration,
    typed_messages, telling_names, narrow_except,
)


# ---------------------------------------------------------------- tests


def no_mocks(file: File) -> Iterator[Finding]:
    """A fake that passes the port's contract instead of a mock that passes anything."""
    for line, name in _imports(file):
        if name.startswith(("unittest.mock", "mock", "pytest_mock")):
            yield Finding(file.path, line, f"{name}: write a fake and let the contract prove it")


def no_sleeps(file: File) -> Iterator[Finding]:
    """Wait for the event, or let a virtual clock pass; real processes are waited for by a poll."""
    if file.inside("tests/integration"):
        return
    for call, name in _calls(file):
        nothing = len(call.args) == 1 and getattr(call.args[0], "value", None) == 0
        if name in ("time.sleep", "asyncio.sleep", "sleep") and not nothing:
            yield Finding(file.path, call.lineno, f"{name}(): wait for the event itself")


TEST_RULES: tuple[Rule, ...] = (no_mocks, no_sleeps, telling_names)


# ---------------------------------------------------------------- sizes


def sizes(file: File) -> Iterator[tuple[str, int]]:
    """(`path` or `path::function`, lines) of everything that is longer than asked for."""
    lines = file.text.count("\n")
    if lines > MODULE_LINES_MAX:
        yield file.path, lines
    for node in ast.walk(file.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield f"{file.path}::{node.name}", length


def too_long(found: dict[str, int], allowed: dict[str, int]) -> list[str]:
    """What is longer than asked for and not allowed to be, and allowances nobody needs any more."""
    grown = [f"{name}: {n} lines" for name, n in found.items() if n > allowed.get(name, 0)]
    stale = [f"{name}: is short now, drop it from the list" for name in allowed if name not in found]
    return grown + stale
