"""Scenario files: the ones in this repository, and what is said about a wrong one."""

from pathlib import Path

import pytest

from hedgelock.simulator.script import BadScript, read_script

FILES = sorted((Path(__file__).parent / "scenarios").glob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_scenario_file_is_readable(path):
    """It says what it shows and where it comes from, and demands at least two things."""
    script = read_script(path)
    assert script.summary
    assert script.source
    assert len(script.checks) >= 2
    assert script.scenario.duration_s > 0
    assert script.healed_s < script.scenario.duration_s, "what is broken heals before the end"
