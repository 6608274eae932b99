"""The demo on the embedded log, four times as fast, with a kill -9 of the engine inside."""

from __future__ import annotations

from pathlib import Path

import pytest
from trial import (
    HEDGELOCK,
    assert_explained,
    assert_on_target,
    assert_replays,
    assert_story,
    audited,
    child_pid,
    sigkill,
    trial,
)

pytestmark = [pytest.mark.slow, pytest.mark.timed, pytest.mark.timeout(150)]

END_S = 123.0


def test_the_account_survives_the_crash_and_a_kill(tmp_path: Path) -> None:
    """Ours lives, the twin does not; a kill -9 in the fall costs no order, fill or repayment."""
    with trial(tmp_path, SIM__SPEED="4") as run:
        run.start("run", HEDGELOCK, "run")
        run.await_that("the script's start", lambda: run.look().script_s > 0, 60)
        parent = run.processes["run"].pid
        run.watch(END_S, [(20.0, "engine")], lambda _: sigkill(child_pid(parent, "hedgelock.app")))
        assert run.kills == ["engine"]
        bus = run.bus()
        books = audited(run)
        assert_story(run)
        assert_on_target(run)
        assert_explained(books, bus)
        assert assert_replays(run, bus) > 100
        bus.close()
        assert run.stop() == {"run": 0}
