"""What holding will cost: means over time, persistence, AR(1), the exchange's own prediction."""

from __future__ import annotations

import itertools
from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import T0, amounts

from hedgelock.domain.funding_forecast import (
    HISTORY_MAX,
    History,
    Prediction,
    Settled,
    fit,
    holding_costs,
    mean_apr,
    record,
    settles_in_ms,
)

HOUR = 3_600_000


def series(*aprs: str, interval_h: int = 8, end_ms: int = T0) -> History:
    """Settlements of these APRs, the last one at `end_ms`."""
    return tuple(
        Settled(end_ms - (len(aprs) - 1 - i) * interval_h * HOUR, D(a) * interval_h / 8760,
                D(interval_h))
        for i, a in enumerate(aprs)
    )


def ahead(apr: str, *, interval_h: int = 8, in_h: str = "8", cap: str | None = None) -> Prediction:
    """A prediction of this APR for the settlement in `in_h` hours."""
    rate = D(apr) * interval_h / 8760
    return Prediction(rate, D(interval_h), T0 + int(D(in_h) * HOUR), None if cap is None else D(cap))


# ---------------------------------------------------------------- means and schedule


def test_a_mean_weighs_time_not_settlements() -> None:
    """Eight hours at 10 % and eight hourly settlements at 90 % are 50 % together, not 81 %."""
    before = series("0.1", end_ms=T0 - 8 * HOUR)
    history = before + series(*["0.9"] * 8, interval_h=1)
    assert mean_apr(history, now_ms=T0, window_h=16) == pytest.approx(D("0.5"))


def test_an_interval_counts_as_far_as_it_is_inside() -> None:
    """Of a window of 12 h, the older 8-h interval fills 4 h."""
    history = series("0.3", "0.6")
    assert mean_apr(history, now_ms=T0, window_h=12) == pytest.approx(D("0.5"))


def test_nothing_settled_is_no_mean() -> None:
    """An empty window has no mean rather than a mean of 0."""
    assert mean_apr((), now_ms=T0, window_h=24) is None
    assert mean_apr(series("0.3", end_ms=T0 - 99 * HOUR), now_ms=T0, window_h=24) is None


def test_time_to_settlement_is_unknown_once_it_has_passed() -> None:
    """A schedule that has passed says nothing of the next one."""
    assert settles_in_ms(T0 + 5, T0) == 5
    assert settles_in_ms(T0, T0) is None


def test_history_is_bounded_and_never_goes_back() -> None:
    """The oldest settlement leaves; one that is not newer is not taken twice."""
    history: History = ()
    for settled in series(*["0.1"] * (HISTORY_MAX + 5)):
        history = record(record(history, settled), settled)
    assert len(history) == HISTORY_MAX
    assert history[-1].ts_ms == T0


# ---------------------------------------------------------------- autoregression


def test_ar1_finds_the_persistence_of_a_known_series() -> None:
    """x' = .5·x around 0, alternating starts: phi is .5 per 8 h."""
    values, x = [], D(1)
    for i in range(40):
        x = x / 2 if i % 5 else D((-1) ** (i // 5))
        values.append(str(x))
    model = fit(series(*values))
    assert model is not None
    expected = sum((D(a) * D(b) for a, b in itertools.pairwise(values)), D(0)) / sum(
        (D(a) ** 2 for a in values[:-1]), D(0)
    )
    assert abs(model.phi - expected) < D("0.02")
    assert model.gap_h == 8
    assert abs(model.over(D(16)) - model.phi ** 2) < D("1e-20")


@pytest.mark.parametrize("history", [series("0.1", "0.2"), series(*["0.1"] * 20)])
def test_too_little_to_fit_is_the_prior(history: History) -> None:
    """Two settlements, or a series that never moves, give the prior .8 per 8 h."""
    model = fit(history)
    assert model is not None
    assert (model.phi, model.gap_h) == (D("0.8"), D(8))


def test_no_history_is_no_model() -> None:
    """Then only the exchange's prediction is left."""
    assert fit(()) is None


# ---------------------------------------------------------------- what holding costs


def test_without_history_everything_stays_as_predicted() -> None:
    """10.95 % APR for 24 h is three settlements of one basis point."""
    (cost,) = holding_costs((), ahead("0.1095"), now_ms=T0, horizons_h=(24,))
    assert cost.expected == cost.low == cost.high == D("3.000")


def test_the_cost_falls_due_at_settlements() -> None:
    """Eight hours hold the settlement in 8 h; seven hold none; a settlement in 1 h makes two of 9."""
    costs = holding_costs((), ahead("0.1095"), now_ms=T0, horizons_h=(7, 8))
    assert [c.expected for c in costs] == [D(0), D(1)]
    (cost,) = holding_costs((), ahead("0.1095", in_h="1"), now_ms=T0, horizons_h=(9,))
    assert cost.expected == D(2)


def test_an_hourly_schedule_costs_the_same_apr() -> None:
    """A switch 8 → 1 h at the same APR changes the schedule and not the cost of a day."""
    slow = holding_costs((), ahead("4.38"), now_ms=T0)
    quick = holding_costs((), ahead("4.38", interval_h=1, in_h="1"), now_ms=T0)
    for costs in (slow, quick):
        assert [round(c.expected, 20) for c in costs] == [D(40), D(120), D(360)]


def test_a_due_settlement_is_taken_for_the_one_after() -> None:
    """A schedule in the past moves on by whole intervals."""
    late = ahead("0.1095", in_h="-1")
    (cost,) = holding_costs((), late, now_ms=T0, horizons_h=(8,))
    assert cost.expected == D(1)


def test_the_prediction_counts_more_the_nearer_it_settles() -> None:
    """At the start of an interval the history speaks, at its end the exchange."""
    calm = series(*["0.10", "0.12"] * 10)
    firsts = [
        holding_costs(calm, ahead("3", in_h=h), now_ms=T0, horizons_h=(8,))[0].expected
        for h in ("7.9", "4", "1", "0.001")
    ]
    assert firsts == sorted(firsts)
    per_interval = D(3) * 8 * 10_000 / 8760
    assert firsts[0] < per_interval / 20
    assert abs(firsts[-1] - per_interval) < D("0.2")


def test_a_spike_is_expected_to_fade() -> None:
    """After the spike has settled, 72 h cost less than persistence says and more than the mean."""
    history = series(*["0.1", "0.12"] * 12, "3")
    (cost,) = holding_costs(history, ahead("3", in_h="0.01"), now_ms=T0, horizons_h=(72,))
    model = fit(history)
    assert model is not None
    assert model.mean * 72 * 10_000 / 8760 < cost.expected < D(3) * 72 * 10_000 / 8760
    assert cost.low < cost.expected < cost.high


def test_the_cap_bounds_every_settlement() -> None:
    """No settlement costs more than the venue's cap."""
    (cost,) = holding_costs((), ahead("30", cap="0.00375"), now_ms=T0, horizons_h=(24,))
    assert cost.expected == D("112.5")


rates = amounts("-3", "3")


@given(st.lists(rates, max_size=30), rates, st.sampled_from([1, 2, 4, 8]), st.integers(0, 8))
def test_the_band_holds_the_expectation_and_both_sides_mirror(
    aprs: list[D], apr: D, interval_h: int, in_h: int
) -> None:
    """low ≤ expected ≤ high; a mirrored world costs the short what this one costs the long."""
    history = series(*map(str, aprs), interval_h=interval_h)
    mirror = series(*(str(-a) for a in aprs), interval_h=interval_h)
    costs = holding_costs(history, ahead(str(apr), interval_h=interval_h, in_h=str(in_h)), now_ms=T0)
    other = holding_costs(mirror, ahead(str(-apr), interval_h=interval_h, in_h=str(in_h)), now_ms=T0)
    for cost, reflected in zip(costs, other, strict=True):
        assert cost.low <= cost.expected <= cost.high
        short = reflected.of_short()
        for ours, theirs in zip(cost, short, strict=True):
            assert abs(ours - theirs) < D("1e-20")


def test_ar1_beats_persistence_on_2021(shared) -> None:
    """Over 72 h, the expectation errs less than 'it stays as it is', and the band holds most of it."""
    polars = pytest.importorskip("polars")
    table = polars.read_parquet(shared / "data/mania_2021/BTCUSDT_funding_bybit.parquet")
    rows = [
        Settled(int(ts.timestamp()) * 1000, D(str(rate)), D(8))
        for ts, rate in zip(table["ts"], table["rate"], strict=True)
    ]
    ours = naive = D(0)
    inside = trials = 0
    for i in range(HISTORY_MAX, len(rows) - 9, 9):
        history, last = tuple(rows[i - HISTORY_MAX + 1: i + 1]), rows[i]
        prediction = Prediction(last.rate, D(8), last.ts_ms + 8 * HOUR)
        (cost,) = holding_costs(history, prediction, now_ms=last.ts_ms, horizons_h=(72,))
        paid = sum((r.rate for r in rows[i + 1: i + 10]), D(0)) * 10_000
        ours += (cost.expected - paid) ** 2
        naive += (last.rate * 9 * 10_000 - paid) ** 2
        inside += cost.low <= paid <= cost.high
        trials += 1
    assert ours < naive * D("0.95")
    assert inside >= trials * 0.8
