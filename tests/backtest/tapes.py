"""Small markets for the backtest's tests: drawn, or written down bar by bar."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from hedgelock.backtest.terms import Setting
from hedgelock.history.tape import HOUR_MS, Series, Settlements, Tape, no_funding, single

T0 = 1_609_459_200_000
"""2021-01-01 00:00 UTC."""


def tape(
    closes: Sequence[float], *, step_ms: int = HOUR_MS, first: float | None = None,
    funding: Settlements | None = None, wick: float = 0.0,
) -> Tape:
    """A market through these closes; each bar opens at the close before, wicks beyond by a fraction."""
    close = np.array(closes, dtype=np.float64)
    opens = np.concatenate([[close[0] if first is None else first], close[:-1]])
    bars = Series(
        opens, np.maximum(opens, close) * (1 + wick), np.minimum(opens, close) * (1 - wick), close
    )
    return single("made", T0, step_ms, bars, funding or no_funding())


def settled(rates: Sequence[float], at_hours: Sequence[int], interval_h: float = 8.0) -> Settlements:
    """Rates that settle some hours after the start."""
    ts = T0 + np.array(at_hours, dtype=np.int64) * HOUR_MS
    return Settlements(ts, np.array(rates), np.full(len(ts), interval_h))


def drawn(
    seed: int, bars: int, *, volatility: float = 0.012, step_ms: int = HOUR_MS, start: float = 40_000,
    basis: float = 0.0,
) -> Tape:
    """A wild market: volatile, with wicks, jumps, funding of both signs and perhaps a basis."""
    dice = np.random.default_rng(seed)
    moves = dice.normal(0, volatility, bars) + dice.choice([0, -0.06, 0.05], bars, p=[0.99, 0.005, 0.005])
    close = start * np.exp(moves.cumsum())
    opens = np.concatenate([[start], close[:-1]])
    up, down = np.exp(np.abs(dice.normal(0, volatility / 2, (2, bars))))
    index = Series(opens, np.maximum(opens, close) * up, np.minimum(opens, close) / down, close)
    hours = np.arange(8, bars * step_ms // HOUR_MS + 1, 8)
    paid = Settlements(
        T0 + hours * HOUR_MS, np.round(dice.normal(0.0001, 0.0006, len(hours)), 8),
        np.full(len(hours), 8.0),
    )
    if not basis:
        return single(f"drawn {seed}", T0, step_ms, index, paid)
    off = 1 + basis * np.sin(np.arange(bars) / 7)
    mark = Series(opens * np.concatenate([[1.0], off[:-1]]), index.high * (1 + basis),
                  index.low * (1 - basis), close * off)
    return Tape(f"drawn {seed}", T0, step_ms, mark, index, paid)


def setting(**changes: Any) -> Setting:
    """The usual account; numbers may be given as text."""
    return Setting(**{
        name: Decimal(value) if isinstance(value, str) else value for name, value in changes.items()
    })
