"""The reserve: what an account needs along bootstrapped paths, checked by hand and on 2021."""

from __future__ import annotations

from pathlib import Path

import pytest

np = pytest.importorskip("numpy")

from hedgelock.research.reserve import (
    DEPLOYMENT,
    Account,
    History,
    Rules,
    bootstrap,
    compounded,
    deployed,
    peak_need,
    study,
)

FREE = Rules(interest_apr=0.0, cost_rate=0.0, slippage=0.0, delay_h=0)


def path(*prices: float) -> History:
    """One path through these prices (1 at the start), without funding."""
    returns = np.diff(np.log(np.array([1.0, *prices])))[None, :]
    return History(returns, np.zeros_like(returns))


def test_repayments_add_up_along_a_fall() -> None:
    """.65 of debt: at 1 nothing; at .8 LTV is .8125 and .65 − .56 = .09 is due; at .7 .16 in all."""
    account = Account(0.65, pocket=1.0)
    assert peak_need(path(1.0), account, FREE)[0] == 0
    assert peak_need(path(0.8), account, FREE)[0] == pytest.approx(0.09)
    assert peak_need(path(0.8, 1.1, 0.7), account, FREE)[0] == pytest.approx(0.16)


def test_gains_of_the_short_pay_once_they_can_be_realised() -> None:
    """Half short gains .15 in a fall to .7: the need of .16 becomes .01, but not at once."""
    account = Account(0.65, short=0.5, pocket=1.0)
    assert peak_need(path(0.7), account, FREE)[0] == pytest.approx(0.01)
    late = FREE._replace(delay_h=1)
    assert peak_need(path(0.7, 0.7), account, late)[0] == pytest.approx(0.16)


def test_a_rally_needs_margin_for_the_short() -> None:
    """Half short at 1.2 has lost .1 and must outlive +25 % more: what the pocket lacks of it."""
    account = Account(0.5, short=0.5, pocket=0.0, pocket_coins=0.0)
    load = 0.5 * 1.2 * (0.25 + 1.25 * 0.00555)
    assert peak_need(path(1.2), account, FREE)[0] == pytest.approx(load + 0.1)


def test_interest_compounds_every_hour() -> None:
    """30 % a year for 30 days: (1 + .3 ÷ 8760)^720, the figure of the rate spike's cell."""
    assert compounded(0.30, 720)[-1] == pytest.approx(1.024963612579876, abs=1e-14)


def test_blocks_are_drawn_alike_and_again_alike() -> None:
    """Returns and funding of an hour stay together; the same seed gives the same paths."""
    history = History(np.arange(100.0), np.arange(100.0) * 2)
    drawn = bootstrap(history, paths=5, days=4, block_h=24, seed=7)
    assert drawn.returns.shape == (5, 96)
    assert (drawn.funding == drawn.returns * 2).all()
    inside = np.diff(drawn.returns[:, :24], axis=1) % 100
    assert (inside == 1).all()
    again = bootstrap(history, paths=5, days=4, block_h=24, seed=7)
    assert (again.returns == drawn.returns).all()


def test_the_deployment_curve_of_the_seed() -> None:
    """A quarter from .65, a half from .75, all from .85."""
    assert [deployed(x, 8.0) for x in (0.64, 0.65, 0.75, 0.84, 0.85, 1.2)] == [0, 2, 4, 4, 8, 8]
    assert DEPLOYMENT[-1][1] == 1.0


def hours(shared: Path) -> History:
    """BTC's hours of 2021 with Bybit's funding, received by a short at the hour it settled."""
    polars = pytest.importorskip("polars")
    bars = polars.read_parquet(shared / "data/mania_2021/BTCUSDT_perp_1h_binance.parquet")
    rates = polars.read_parquet(shared / "data/mania_2021/BTCUSDT_funding_bybit.parquet")
    close = np.log(bars["close"].to_numpy())
    at = dict(zip(rates["ts"].to_list(), rates["rate"].to_list(), strict=True))
    funding = np.array([at.get(ts, 0.0) for ts in bars["ts"].to_list()][1:])
    return History(np.diff(close), funding)


def test_repay_only_need_of_2021_is_the_studys(shared: Path) -> None:
    """Historical 30-day windows, no hedge: p95/p99/max .11/.17/.18 at .55, .28/.34/.35 at .72."""
    history = hours(shared)
    rules = Rules(interest_apr=0.0)
    for ltv, expected in ((0.55, (0.11, 0.17, 0.18)), (0.65, (0.21, 0.27, 0.28)),
                          (0.72, (0.28, 0.34, 0.35))):
        starts = range(0, len(history.returns) - 720, 24)
        windows = History(*(
            np.stack([series[i: i + 720] for i in starts]) for series in history
        ))
        peaks = peak_need(windows, Account(ltv, pocket=9.0), rules)
        found = (*np.quantile(peaks, (0.95, 0.99)), peaks.max())
        assert found == pytest.approx(expected, abs=0.015)


def test_the_reserve_covers_held_out_paths(shared: Path) -> None:
    """Sized on one draw of 2021, it is exceeded on about 1 % of another, and absence needs its own."""
    history = hours(shared)
    account, rules = Account(0.65, short=0.2), Rules()
    found = study(history, account, rules, paths=1500, seed=1)
    assert 0 < found.percentiles[0] <= found.reserve <= found.percentiles[2]
    assert found.reserve_absent > 0
    other = bootstrap(history, paths=1500, days=30, block_h=72, seed=2)
    exceeded = (peak_need(other, account, rules) > found.reserve).mean()
    assert exceeded < 0.02
    longer = study(history, account, rules._replace(absence_h=24), paths=1500, seed=1)
    assert longer.reserve_absent <= found.reserve_absent
