"""The backtest beside NautilusTrader: the same ladder, the same minute bars, one run after the other.

Ours has the loan, funding, both cliffs and the whole live decision; NautilusTrader has none of them. Its
packages stay out of the project: they live in a virtual environment under the cache, made once.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np

from bench.figures import Figure
from bench.processes import BenchError
from hedgelock.backtest.engine import Outcome, run
from hedgelock.backtest.plans import BASELINES, Plan
from hedgelock.backtest.terms import Setting
from hedgelock.domain.policy import Strategy
from hedgelock.history.tape import Series, Settlements, Tape, no_funding, single

NAUTILUS = "nautilus_trader==1.221.0"
BARS = 300_000
DEBT_SHARE = "0.60"
FASTER_BY = 3.0
FUNDING_COST = 0.10
ROUNDS = 5
BEGAN_MS = 1_704_067_200_000
_HERE = Path(__file__).resolve().parent


def market() -> Tape:
    """300,000 minutes from 60,000, a volatility of 51 % a year, funding every 8 h."""
    close = 60_000 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.0007, BARS)))
    opens = np.concatenate([close[:1], close[:-1]])
    bars = Series(opens, np.maximum(opens, close) * 1.0003, np.minimum(opens, close) * 0.9997, close)
    instants = BEGAN_MS + np.arange(1, BARS // 480 + 1, dtype=np.int64) * 8 * 3_600_000
    rates = np.round(np.random.default_rng(2).normal(0.0001, 0.0002, len(instants)), 8)
    return single("minutes", BEGAN_MS, 60_000, bars, Settlements(instants, rates, np.full(len(rates), 8.0)))


def plans() -> dict[str, Plan]:
    """The ladder that NautilusTrader plays too, and the reference policy."""
    return {
        "ladder": Plan("ladder", hedge=BASELINES["ladder"].hedge, has_kernel=True),
        Strategy.LTV_TARGET.value: BASELINES["ltv_target"],
    }


def measure(folder: Path) -> list[Figure]:
    """Times as a share of NautilusTrader's, and what funding adds."""
    tape = market()
    theirs_s, orders = _nautilus(tape, folder)
    figures = [Figure("nautilus_bars_per_s", BARS / theirs_s, "bars/s", note=f"{orders} orders")]
    for name, plan in plans().items():
        took, done = _timed(tape, plan)
        trades = sum(e.kind in ("hedge", "realise", "cover") for e in done.events)
        figures.append(Figure(
            f"backtest_{name}_share_of_nautilus", took / theirs_s, "×", 1 / FASTER_BY,
            note=f"{BARS / took:,.0f} bars/s, {theirs_s / took:.0f} × faster, {trades} orders, "
                 f"{done.instants} instants decided, final LTV max {done.ltv_max:.2f}",
        ))
    figures.append(_funding_cost(tape, plans()["ladder"]))
    return figures


def _timed(tape: Tape, plan: Plan) -> tuple[float, Outcome]:
    """The median of some rounds."""
    setting = Setting(ltv=Decimal(DEBT_SHARE))
    took, done = [], run(tape, plan, setting)
    for _ in range(ROUNDS):
        began = time.perf_counter()
        done = run(tape, plan, setting)
        took.append(time.perf_counter() - began)
    return statistics.median(took), done


def _funding_cost(tape: Tape, plan: Plan) -> Figure:
    """What settlements add to a run: with, and with the same settlements at a rate of nothing."""
    bare = replace(tape, funding=no_funding())
    extra = [_timed(tape, plan)[0] / _timed(bare, plan)[0] - 1 for _ in range(3)]
    return Figure("backtest_funding_cost", statistics.median(extra), "×", FUNDING_COST)


def _nautilus(tape: Tape, folder: Path) -> tuple[float, int]:
    """(seconds, orders) of NautilusTrader on the same closes."""
    closes = folder / "closes.npy"
    np.save(closes, tape.mark.close)
    debt = str(float(tape.mark.open[0]) * float(DEBT_SHARE))
    script = str(_HERE / "nautilus_ladder.py")
    done = subprocess.run([str(_python()), script, str(closes), debt], capture_output=True,
                          text=True, check=False)
    if done.returncode:
        raise BenchError(f"NautilusTrader: {done.stderr.strip().splitlines()[-1:]}")
    seconds, orders = done.stdout.split()[-2:]
    return float(seconds), int(orders)


def _python() -> Path:
    """An interpreter that has NautilusTrader; made on first use."""
    given = os.environ.get("NAUTILUS_PYTHON")
    home = Path(given) if given else _HERE.parent / ".cache" / "nautilus" / "bin" / "python"
    if not home.exists():
        folder = home.parent.parent
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(home), "-m", "pip", "install", "-q", NAUTILUS, "pandas"], check=True)
    return home
