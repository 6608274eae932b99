"""The layers of the design hold, and import-linter notices every kind of violation."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
LINT = Path(sys.executable).with_name("lint-imports")


def lint(folder: Path) -> tuple[bool, str]:
    """Run import-linter on a project folder: (every contract kept, what it printed)."""
    assert LINT.exists(), "import-linter is missing: make setup"
    done = subprocess.run(
        [str(LINT), "--no-cache"], cwd=folder, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(folder / "src"), "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
    )
    return done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_contracts_hold() -> None:
    """Lower layers never import higher ones, services no adapter, the simulator no margin rules."""
    kept, text = lint(ROOT)
    assert kept, text


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("domain/money.py", "import hedgelock.config", "Lower layers never import higher ones"),
        ("config/fields.py", "import hedgelock.telemetry.log", "Lower layers never import higher"),
        ("telemetry/log.py", "import hedgelock.services.runner", "Lower layers never import higher"),
        ("bus/codec.py", "import hedgelock.exchanges.bybit_parse", "Lower layers never import"),
        ("loose.py", "import hedgelock.errors", "Lower layers never import higher ones"),
        ("services/runner.py", "import hedgelock.bus.embedded", "Services import no adapter"),
        ("services/runner.py", "import hedgelock.exchanges.bybit_parse", "Services import no adapter"),
        ("simulator/venue.py", "import hedgelock.domain.margin", "The simulator computes margin"),
        ("domain/money.py", "import hedgelock.ports", "The domain imports nothing but itself"),
        ("services/hedger.py", "import hedgelock.services.safety", "No service imports another"),
    ],
)
def test_a_planted_violation_is_noticed(copy: Path, module: str, line: str, contract: str) -> None:
    """Each contract breaks, by its name, when one forbidden import is added."""
    path = copy / "src" / "hedgelock" / module
    with path.open("a", encoding="utf-8") as stream:
        stream.write(f"\n{line}\n")
    kept, text = lint(copy)
    assert not kept
    broken = [row for row in text.splitlines() if row.rstrip().endswith("BROKEN")]
    assert any(contract in row for row in broken), text
