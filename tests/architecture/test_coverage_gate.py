"""The coverage gates close: too little in total, or anything missing in the domain."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parent.parent.parent / "scripts" / "check_coverage.py"


@pytest.fixture(scope="module")
def gate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_coverage", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report(percent: float, lines: list[int], branches: list[list[int]]) -> dict[str, Any]:
    def file(missing: list[int], parts: list[list[int]]) -> dict[str, Any]:
        return {"missing_lines": missing, "missing_branches": parts}

    return {
        "totals": {"percent_covered": percent},
        "files": {
            "src/hedgelock/domain/risk.py": file(lines, branches),
            "src/hedgelock/cli/live.py": file([1, 2], [[1, 2]]),
        },
    }


def test_both_gates_pass(gate: ModuleType) -> None:
    """90 % in total and a whole domain are enough, whatever else is missing."""
    assert gate.shortcomings(report(90.0, [], [])) == []


@pytest.mark.parametrize(
    ("planted", "expected"),
    [
        (report(89.9, [], []), "total coverage is 89.9 %"),
        (report(99.0, [7], []), "domain/risk.py: not covered: lines [7]"),
        (report(99.0, [], [[7, -1]]), "branches [[7, -1]]"),
        (report(99.0, list(range(9)), []), "7, and 1 more], branches []"),
        ({"totals": {"percent_covered": 99.0}, "files": {}}, "nothing was measured"),
    ],
)
def test_each_shortcoming_is_noticed(
    gate: ModuleType, planted: dict[str, Any], expected: str
) -> None:
    """One uncovered branch of the domain closes the gate, and so does measuring nothing."""
    assert any(expected in line for line in gate.shortcomings(planted))
