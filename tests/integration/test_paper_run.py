"""`MODE=paper hedgelock run` as its own processes: hedges at another exchange's prices, and stops in order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from trial import environment, get, trial

pytestmark = [pytest.mark.slow, pytest.mark.timed, pytest.mark.timeout(120)]


def test_paper_hedges_at_the_real_prices(tmp_path: Path) -> None:
    """A crash on the "real" exchange raises the paper account's LTV; the engine hedges it on paper only."""
    real = environment(tmp_path / "real")
    feed = f"ws://127.0.0.1:{real['SIM__PORT']}/v5/public"
    with trial(tmp_path, MODE="paper", SIM__FEED_URL=feed) as run:
        with (tmp_path / "real.log").open("ab") as log:
            run.processes["real"] = subprocess.Popen(
                (sys.executable, "-m", "hedgelock.cli", "simulate", "--scenario", "crash",
                 "--speed", "4"), env=real, cwd=tmp_path, stdout=log, stderr=log)
        run.start("run", sys.executable, "-m", "hedgelock.cli", "run")
        run.await_that("a hedge on paper", lambda: run.look().ours["fills"] > 0, 60)
        theirs, ours = get(f"http://127.0.0.1:{real['SIM__PORT']}/sim/state"), get(f"{run.sim}/sim/state")
        assert abs(float(ours["index"]["BTC"]) / float(theirs["index"]["BTC"]) - 1) < 0.05
        assert ours["next_settlement_ms"] == theirs["next_settlement_ms"]
        account = theirs["accounts"]["hedgelock-sim"]
        assert (account["orders"], account["fills"]) == (0, 0), "an order left for the real exchange"
        assert run.stop() == {"run": 0, "real": 0}
