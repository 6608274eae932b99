"""The probabilities are scored on months that they were not fitted on, against not looking at all."""

from __future__ import annotations

import math
from decimal import Decimal as D

import numpy as np
import pytest

from hedgelock.domain.volatility import BAR_MS, observe
from hedgelock.research.probability_score import (
    FIT_MONTHS,
    HELD_MONTHS,
    HORIZONS_H,
    SIGMAS,
    Cell,
    Hours,
    Scored,
    cells,
    deviation,
    expected,
    gaussian,
    log_loss,
    lowest_ahead,
    means,
    placed_in,
    pooled,
    read_hours,
    reliability,
    said,
)

COINS = ("BTC", "ETH")


@pytest.fixture(scope="module")
def year(shared):
    """Hours of 2021 per coin."""
    folder = shared / "data" / "mania_2021"
    return {coin: read_hours(folder / f"{coin}USDT_perp_1h_binance.parquet") for coin in COINS}


@pytest.fixture(scope="module")
def scored(year):
    """Every distance and horizon per coin, on the held-out months."""
    return {coin: cells(hours) for coin, hours in year.items()}


def mean(found, name):
    """The mean of a loss over cells."""
    return pooled(found)[name]


# ---------------------------------------------------------------- the score on real months


@pytest.mark.parametrize("coin", COINS)
def test_held_out_months_beat_the_base_rate(scored, coin):
    """Pooled, at every distance and at every horizon: less log loss than the fit months' base rate."""
    found = scored[coin]
    assert mean(found, "loss") < 0.95 * mean(found, "loss_base")
    for sigmas in SIGMAS:
        part = [cell for cell in found if cell.scored.sigmas == sigmas]
        assert mean(part, "loss") < mean(part, "loss_base"), sigmas
    for horizon_h in HORIZONS_H:
        part = [cell for cell in found if cell.scored.horizon_h == horizon_h]
        assert mean(part, "loss") < mean(part, "loss_base"), horizon_h


@pytest.mark.parametrize("coin", COINS)
def test_even_a_base_rate_that_knew_the_future_is_beaten(scored, coin):
    """Pooled: no worse than the held-out months' own frequencies, known only afterwards."""
    assert mean(scored[coin], "loss") < mean(scored[coin], "loss_hindsight")


@pytest.mark.parametrize("coin", COINS)
def test_fat_tails_are_worth_it(scored, coin):
    """A Gaussian with the same expected variance loses at least five per cent more."""
    assert mean(scored[coin], "loss_gaussian") > 1.05 * mean(scored[coin], "loss")


def test_what_is_said_is_seen(scored):
    """In bins of a thousand and more: from .01 up seen as said within 20 %, below within 3.5 times."""
    bins = reliability([cell for found in scored.values() for cell in found])
    checked = [b for b in bins if b.accounts >= 1_000 and b.high <= 0.35]
    assert len(checked) >= 5
    for each in checked:
        assert 1 / 3.5 < each.seen / each.said < 3.5, each
        if each.low >= 0.01:
            assert each.seen == pytest.approx(each.said, rel=0.2), each


def test_falls_of_a_tenth_within_a_day_are_not_missed(year):
    """BTC 2021: of days that held a fall of 10 % at least nine tenths were said in advance."""
    hours = year["BTC"]
    ahead, variance = lowest_ahead(hours, 24), expected(hours, 24)
    known = ~np.isnan(ahead)
    seen = float((ahead[known] <= math.log(0.9)).mean())
    likely = float(said(variance[known], -math.log(0.9), 24).mean())
    assert seen == pytest.approx(0.0576, abs=0.0005)
    assert 0.9 * seen < likely < 1.1 * seen


# ---------------------------------------------------------------- the parts


def hours_of(*bars, month=1):
    """Hours of (high, low, close)."""
    high, low, close = (np.array(column, dtype=float) for column in zip(*bars, strict=True))
    months = np.full(close.size, month) if isinstance(month, int) else np.array(month)
    return Hours(high, low, close, months)


def test_the_means_are_the_engines():
    """The arrays' means equal the engine's Decimal fold of the same hours to nine digits."""
    draw = np.random.default_rng(3)
    ranges = [(100 + round(up, 3), 100 - round(down, 3), 100.0)
              for up, down in draw.uniform(0.01, 3, (200, 2))]
    state = observe(None, D(100), 0)
    for at, (high, low, _) in enumerate(ranges):
        for minute, price in ((20, high), (40, low), (60, 100)):
            state = observe(state, D(str(price)), at * BAR_MS + minute * 60_000)
    fast, slow = means(hours_of(*ranges))
    assert float(state.fast) == pytest.approx(fast[-1], rel=1e-9)
    assert float(state.slow) == pytest.approx(slow[-1], rel=1e-9)


def test_touches_by_hand():
    """The lowest low of the next hours over this close; the record's end says nothing."""
    hours = hours_of((10, 9, 10), (11, 8, 10), (10, 7, 8), (9, 8, 9))
    ahead = lowest_ahead(hours, 2)
    assert ahead[:2] == pytest.approx([math.log(0.7), math.log(0.7)])
    assert np.isnan(ahead[2:]).all()


def test_windows_stay_inside_their_months():
    """No window starts in the warm-up, ends in another month or runs over the record's end."""
    count = 400
    hours = hours_of(*[(2, 1, 1.5)] * count, month=[1] * 250 + [2] * 150)
    assert list(placed_in(hours, [1], 24)) == list(range(168, 226))
    assert list(placed_in(hours, [2], 24)) == list(range(250, 376))
    assert not set(FIT_MONTHS) & set(HELD_MONTHS)


def test_log_loss_by_hand():
    """A coin said .25 that was touched once in two; nobody is surer than a millionth."""
    touched = np.array([1.0, 0.0])
    assert log_loss(np.array([0.25, 0.25]), touched) == pytest.approx(
        -(math.log(0.25) + math.log(0.75)) / 2)
    assert log_loss(np.array([0.0, 0.0]), touched) == pytest.approx(-math.log(1e-6) / 2, rel=1e-6)


def test_deviation_by_hand():
    """Hourly moves of 1 %: .01·√8760 a year; only the months asked for count."""
    close = 100 * 1.01 ** np.arange(100)
    hours = Hours(close, close, close, np.array([1] * 50 + [2] * 50))
    assert deviation(hours, [2]) == pytest.approx(math.log(1.01) * math.sqrt(8760))


def test_gaussian_tails_are_thinner():
    """Far out the Gaussian says much less than the mixture."""
    variance = np.array([0.5, 0.64, 0.8])
    assert (gaussian(variance, 0.2, 24) < said(variance, 0.2, 24) / 5).all()


def test_the_reliability_table_by_hand():
    """Three said .05 of which one came, one said 1 that came; empty bins are left out."""
    row = Scored(24, 1, 4, 0, 0, 0, 0, 0, 0, 0)
    cell = Cell(row, np.array([0.05, 0.05, 0.05, 1.0]), np.array([1.0, 0.0, 0.0, 1.0]))
    low, high = reliability([cell])
    assert (low.low, low.high, low.accounts) == (0.03, 0.1, 3)
    assert (low.said, low.seen) == (pytest.approx(0.05), pytest.approx(1 / 3))
    assert (high.high, high.accounts, high.seen) == (1.0, 1, 1.0)
