"""Shared by every test: the float trap, and where the shared data lies when it is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from hedgelock.domain.money import trap_floats

ROOT = Path(__file__).resolve().parent.parent




trap_floats()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with recorded data; the test is skipped, by name, where it is absent."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("../shared is absent: recorded data is needed here")
    return folder
