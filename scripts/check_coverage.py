"""The two coverage gates: 90 % of everything, and every line and branch of `domain/`.

Run after the tests: reads the `.coverage*` files, prints the table, exits 1 with what is missing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TOTAL_MIN = 90.0
"""Per cent of lines and branches, everything together."""
_SHOWN_MAX = 8
DOMAIN = "src/hedgelock/domain/"


def shortcomings(report: Mapping[str, Any]) -> list[str]:
    """What coverage's JSON report lacks; [] = both gates pass."""
    lacking: list[str] = []
    total = float(report["totals"]["percent_covered"])
    if total < TOTAL_MIN:
        lacking.append(f"total coverage is {total:.1f} %, the gate is {TOTAL_MIN:.0f} %")
    domain = {name: file for name, file in report["files"].items() if DOMAIN in name}
    if not domain:
        lacking.append(f"nothing was measured in {DOMAIN}")
    for name, file in sorted(domain.items()):
        lines = file["missing_lines"]
        branches = file["missing_branches"]
        if lines or branches:
            lacking.append(f"{name}: not covered: lines {_some(lines)}, branches {_some(branches)}")
    return lacking


def _some(missing: list[Any]) -> str:
    shown = ", ".join(str(item) for item in missing[:_SHOWN_MAX])
    more = len(missing) - _SHOWN_MAX
    return f"[{shown}{f', and {more} more' if more > 0 else ''}]"


def main() -> int:
    """Combine, print the table, apply the gates; the exit status."""
    coverage = [sys.executable, "-m", "coverage"]
    if list(ROOT.glob(".coverage.*")):
        subprocess.run([*coverage, "combine", "-q", "--append"], cwd=ROOT, check=True)
    subprocess.run([*coverage, "report", "--skip-covered"], cwd=ROOT, check=True)
    done = subprocess.run(
        [*coverage, "json", "-q", "-o", "-"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    lacking = shortcomings(json.loads(done.stdout))
    for line in lacking:
        sys.stderr.write(f"coverage gate: {line}\n")
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main())
