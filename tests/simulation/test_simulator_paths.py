"""Courses: corners, seeded diffusions, and files."""

import itertools
import math
import statistics
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal as D

import pytest

from hedgelock.simulator.generators import MODELS, generated
from hedgelock.simulator.paths import HOUR_S, Corners, Diffusion, Drawn, Regime
from hedgelock.simulator.replay import Coin, File, ReplayError, replayed
from hedgelock.simulator.venue import Venue

DAY_S = 86_400
HOUR_MS = 3_600_000


def test_corners_without_a_corner_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        Corners(())


# ---------------------------------------------------------------------- generators


@pytest.mark.no_cover
@pytest.mark.parametrize("name", MODELS)
def test_a_drawn_path_does_not_depend_on_what_was_asked_before(name):
    """Forwards, backwards, in jumps or each second: the same number at the same second."""
    asked = [0.0, 1.0, 59.5, 3599.99, 3600.0, 7200.25, 21_000.0, 18_000.0, 25_199.0, 3600.5]

    def values(order):
        scenario = generated(name, seed=3, bases=("BTC", "ETH"))
        found = {
            at: tuple(c.at(at) for m in (scenario.prices, scenario.premium) for c in m.values())
            for at in order
        }
        return [found[at] for at in asked]

    assert values(asked) == values(sorted(asked)) == values(sorted(asked, reverse=True))


def test_another_seed_is_another_market():
    one, two = (generated("usual", seed=s).prices["BTC"].at(5_000) for s in (1, 2))
    assert one != two
    again = generated("usual", seed=1).prices["BTC"].at(5_000)
    assert again == one


def test_a_path_is_continuous_across_hours():
    course = Drawn(Diffusion(60_000, (Regime(0.6),)), "c").price
    for hour in (1, 2, 7):
        before, after = course.at(hour * HOUR_S - 1e-6), course.at(float(hour * HOUR_S))
        assert abs(after / before - 1) < 1e-6


@pytest.mark.no_cover
def test_the_volatility_drawn_is_the_one_asked_for():
    """60 % a year: hourly log returns of 6 days, within 4 standard errors (24 %)."""
    course = Drawn(Diffusion(60_000, (Regime(0.6),)), "v").price
    prices = [course.at(h * HOUR_S) for h in range(24 * 6 + 1)]
    returns = [math.log(b / a) for a, b in itertools.pairwise(prices)]
    found = statistics.pstdev(returns) * math.sqrt(365 * 24)
    assert abs(found / 0.6 - 1) < 4 / math.sqrt(2 * len(returns))


def test_jumps_arrive_at_their_rate():
    """480 a day of 5 % each: 20 in an hour of a path that hardly moves otherwise, 120 in six."""
    regime = Regime(volatility=0.01, jumps_per_day=480, jump_size=0.05)
    course = Drawn(Diffusion(100, (regime,)), "j").price
    prices = [course.at(float(s)) for s in range(6 * HOUR_S)]
    jumps = sum(abs(b / a - 1) > 0.001 for a, b in itertools.pairwise(prices))
    assert 80 <= jumps <= 160


def test_regimes_change_and_the_premium_walks_to_its_new_mean():
    low, high = Regime(0.2, premium=0.0, stay_h=3), Regime(0.2, premium=0.01, stay_h=3)
    course = Drawn(Diffusion(100, (low, high), premium_half_life_h=0.2), "r").premium
    values = [course.at(float(s)) for s in range(0, 48 * HOUR_S, 60)]
    assert min(values) < 0.001
    assert max(values) > 0.009
    steps = [abs(b - a) for a, b in itertools.pairwise(values)]
    assert max(steps) < 0.002, "no jump of the mean's size within a minute"


def test_followers_move_with_the_leader():
    scenario = generated("storm", seed=2, bases=("BTC", "SOL"))
    btc, sol = (
        [math.log(scenario.prices[b].at(h * 1800.0)) for h in range(49)] for b in ("BTC", "SOL")
    )
    moves = [[b - a for a, b in itertools.pairwise(s)] for s in (btc, sol)]
    assert statistics.correlation(*moves) > 0.8
    assert abs(sol[0] - math.log(150)) < 1e-9


@pytest.mark.no_cover
def test_a_generated_market_predicts_and_settles_its_funding():
    """Euphoria: longs pay by the formula, every 8 h of UTC, and by contract."""
    venue = Venue(generated("mania", seed=1), now_ms=1_700_000_000_000, tick_ms=30_000)
    venue.advance(1_700_000_000_000 + 17 * HOUR_MS)
    settled = [(at, r) for at, r in venue.exchange.market.settled if at > 1_700_000_000_000]
    assert len(settled) == 2
    assert all(at % (8 * HOUR_MS) == 0 for at, _ in settled)
    assert all(rates["linear.BTCUSDT"] > D("0.0005") for _, rates in settled)


@pytest.mark.parametrize(("name", "bases"), [("nope", ("BTC",)), ("usual", ("DOGE",)), ("usual", ())])
def test_unknown_models_and_coins_are_refused(name, bases):
    with pytest.raises(ValueError, match="known"):
        generated(name, seed=1, bases=bases)


# ---------------------------------------------------------------------- files


def iso(hour, minute=0):
    return datetime(2024, 1, 2, hour, minute, tzinfo=UTC).isoformat()


@pytest.fixture
def bars(tmp_path):
    def write(name, rows, header="ts,open,high,low,close"):
        path = tmp_path / name
        path.write_text("\n".join([header, *(",".join(map(str, r)) for r in rows)]) + "\n")
        return path

    return write


def hourly(*closes, start=0, skip=()):
    opens = (closes[0], *closes)
    return [
        (iso(start + n), o, max(o, c) * 1.001, min(o, c) * 0.998, c)
        for n, (o, c) in enumerate(zip(opens, closes, strict=False))
        if n not in skip
    ]


def test_bars_play_open_nearer_extreme_other_extreme_close(bars):
    path = bars("btc.csv", [(iso(0), 100, 130, 95, 120), (iso(1), 121, 122, 60, 61)])
    scenario = replayed(path)
    course = scenario.prices["BTC"]
    assert [course.at(s) for s in (0, 1200, 2400, 3599.999)] == [100, 95, 130, 120]
    assert [course.at(s) for s in (3600, 4800, 6000)] == [121, 122, 60]
    assert course.at(99_999) == 61
    assert scenario.duration_s == 7200
    assert scenario.origin_ms == round(datetime(2024, 1, 2, tzinfo=UTC).timestamp() * 1000)


def test_recorded_funding_settles_at_its_instants(bars):
    prices = bars("btc.csv", hourly(*[60_000 + n for n in range(12)]))
    rates = [(iso(0), "0.0001", 8), (iso(8), "-0.00025", 8), (iso(9), "0.0007", 1)]
    funding = bars("funding.csv", rates, "ts,rate,interval_h")
    scenario = replayed(prices, funding=funding)
    venue = Venue(scenario, now_ms=scenario.origin_ms, tick_ms=60_000)
    venue.advance(scenario.origin_ms + 10 * HOUR_MS)
    settled = [
        (at - scenario.origin_ms, rates["linear.BTCUSDT"])
        for at, rates in venue.exchange.market.settled
        if at > scenario.origin_ms
    ][:2]
    assert settled == [(8 * HOUR_MS, D("-0.00025")), (9 * HOUR_MS, D("0.0007"))]
    index = venue.exchange.market.index["BTC"]
    assert abs(index - 60_009) < 25


def test_many_coins_play_together_from_their_first_common_instant(bars):
    btc = bars("btc.csv", hourly(100, 101, 102, 103))
    perp = bars("perp.csv", hourly(202, 204, 206, start=1))
    eth = bars("eth.csv", hourly(10, 11, 12, 13))
    scenario = replayed({"BTC": Coin(btc, perp=perp), "ETH": eth})
    assert list(scenario.prices) == ["BTC", "ETH"]
    assert scenario.origin_ms % (24 * HOUR_MS) == HOUR_MS
    assert scenario.duration_s == 3 * 3600
    assert scenario.premium["BTC"].at(0) == pytest.approx(202 / 100 - 1)
    venue = Venue(scenario, now_ms=scenario.origin_ms)
    venue.advance(scenario.origin_ms + 100)
    quotes = venue.exchange.market.quotes
    assert quotes["linear.BTCUSDT"].last > 2 * quotes["linear.BTCUSDT"].index
    assert {c.base for c in venue.exchange.contracts.values()} == {"BTC", "ETH"}


def test_a_gap_is_refused_or_held_and_never_interpolated(bars):
    path = bars("btc.csv", hourly(100, 101, 102, 103, 104, 150, skip=(3, 4)))
    with pytest.raises(ReplayError, match=r"1 gaps, 2024-01-02T03:00.* to 2024-01-02T05:00"):
        replayed(path)
    scenario = replayed(path, gaps="hold")
    course = scenario.prices["BTC"]
    assert [course.at(h * 3600.0) for h in (3, 4, 4.9)] == [102, 102, 102]
    assert course.at(5 * 3600.0) == 104
    assert "1 gaps" in scenario.summary


@pytest.mark.parametrize(
    ("rows", "header", "says"),
    [
        ([(iso(0), 1, 1, 1, "")], "ts,open,high,low,close", "close .* is None, not a price"),
        ([(iso(0), 1, 1, "nan", 1)], "ts,open,high,low,close", "low .* is NaN, not a price"),
        ([(iso(0), 1, 1, -5, 1)], "ts,open,high,low,close", "is -5, not a price"),
        ([(iso(0), 1, 1, "x", 1)], "ts,open,high,low,close", "row 1: 'x' is no number"),
        ([("soon", 1, 1, 1, 1)], "ts,open,high,low,close", "row 1: ts 'soon' is no time"),
        ([(iso(1), 1, 1, 1, 1), (iso(0), 1, 1, 1, 1)], "ts,open,high,low,close", "row 2 is not later"),
        ([(iso(0), 1, 1, 1)], "ts,open,high,low", "no column 'close'; it has ts, open"),
        ([], "ts,open,high,low,close", "no rows"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_with_the_place(bars, rows, header, says):
    with pytest.raises(ReplayError, match=says):
        replayed(bars("bad.csv", rows, header))


def test_absent_unknown_and_disjoint_files_are_refused(bars, tmp_path):
    with pytest.raises(ReplayError, match="no such file"):
        replayed(tmp_path / "absent.csv")
    odd = tmp_path / "odd.xls"
    odd.write_text("x")
    with pytest.raises(ReplayError, match=r"not a \.parquet"):
        replayed(odd)
    early, late = bars("a.csv", hourly(1, 2)), bars("b.csv", hourly(1, 2, start=9))
    with pytest.raises(ReplayError, match="no time in common"):
        replayed({"BTC": early, "ETH": late})
    rates = bars("f.csv", [(iso(0), "0.1", 8)], "ts,rate,interval_h")
    with pytest.raises(ReplayError, match="no settlement after"):
        replayed(late, funding=rates)
    bad = bars("g.csv", [(iso(12), "", 8)], "ts,rate,interval_h")
    with pytest.raises(ReplayError, match="the rate at"):
        replayed(late, funding=bad)


def test_rows_and_columns_can_be_chosen(bars):
    rows = [
        (iso(h), venue, price, "")
        for h in range(3)
        for venue, price in (("a", 100 + h), ("b", 500 + h))
    ]
    path = bars("many.csv", rows, "ts,venue,mid,other")
    scenario = replayed(File(path, column="mid", where={"venue": "b"}))
    course = scenario.prices["BTC"]
    assert [course.at(h * 3600.0) for h in (0, 1, 2)] == [500, 501, 502]
    assert scenario.origin_ms % (24 * HOUR_MS) == HOUR_MS, "a close is known at its bar's end"


def test_epoch_milliseconds_are_times_too(bars):
    path = bars("ms.csv", [(1_700_000_000_000, 5), (1_700_000_060_000, 6)], "ts,p")
    assert replayed(File(path, column="p")).origin_ms == 1_700_000_060_000


# ---------------------------------------------------------------------- the recorded data


@pytest.fixture
def recorded(shared):
    pytest.importorskip("polars", reason="Parquet and Feather need polars")
    return shared / "data"


@pytest.mark.no_cover
def test_four_months_of_bybit_replay_with_their_funding(recorded):
    """Parquet: spot as index, perpetual candles as book, funding as settled; three coins."""
    folder = recorded / "bybit_2025"
    coins = {
        base: Coin(
            folder / f"{base}USDT_spot_5m.parquet", folder / f"{base}USDT_perp_5m.parquet",
            folder / f"{base}USDT_funding.parquet",
        )
        for base in ("BTC", "ETH", "SOL")
    }  # fmt: skip
    week_ms = 7 * 24 * HOUR_MS
    first_ms = round(datetime(2025, 5, 1, tzinfo=UTC).timestamp() * 1000)
    scenario = replayed(coins, first_ms=first_ms, last_ms=first_ms + week_ms)
    assert scenario.origin_ms == first_ms
    venue = Venue(scenario, now_ms=first_ms, tick_ms=60_000)
    venue.advance(first_ms + 24 * HOUR_MS)
    market = venue.exchange.market
    settled = [at for at, _ in market.settled if at > first_ms]
    assert [at - first_ms for at in settled] == [8 * HOUR_MS, 16 * HOUR_MS, 24 * HOUR_MS]
    quote = market.quotes["linear.BTCUSDT"]
    assert abs(quote.last / quote.index - 1) < D("0.002")
    assert 90_000 < quote.index < 100_000


def test_the_mania_of_2021_and_the_venues_of_2023_load(recorded):
    year = replayed(
        recorded / "mania_2021" / "BTCUSDT_perp_1h_binance.parquet",
        funding=recorded / "mania_2021" / "BTCUSDT_funding_bybit.parquet",
    )
    assert year.duration_s == 365 * DAY_S
    assert len(year.settlements["BTC"]) == 1094
    path = recorded / "multi_venue_8h_2023" / "binance_bybit_btc_eth_spot_linear_inverse_8h.parquet"
    which = {"exchange": "bybit", "crypto": "bitcoin"}
    spot = File(path, where={**which, "contract": "spot"})
    with pytest.raises(ReplayError, match="no rows"):
        replayed(replace(spot, where={**which, "contract": "nope"}))
    assert replayed(spot).duration_s == 365 * DAY_S
    closes = recorded / "mania_2021" / "BTC_binance_spot_um_cm_close_1h_2021H2.parquet"
    with pytest.raises(ReplayError, match="7 gaps"):
        replayed(File(closes, column="spot_close"))
    coin = Coin(File(closes, column="spot_close"), File(closes, column="um_close"))
    assert replayed(coin, gaps="hold").premium["BTC"].at(3600.0) != 0


def test_feather_reads_like_parquet(recorded, tmp_path):
    polars = pytest.importorskip("polars")
    source = recorded / "freqtrade_xrp_2021" / "XRPUSDT_5m-futures.parquet"
    copy = tmp_path / "xrp.feather"
    polars.read_parquet(source).write_ipc(copy)
    one, two = (replayed(p, base="XRP", gaps="hold").prices["XRP"] for p in (source, copy))
    assert [one.at(s * 7000.0) for s in range(50)] == [two.at(s * 7000.0) for s in range(50)]


def test_without_polars_the_reason_and_the_way_out_are_told(tmp_path, monkeypatch):
    import importlib

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    path = tmp_path / "x.parquet"
    path.write_bytes(b"")
    with pytest.raises(ReplayError, match="pip install polars, or use CSV"):
        replayed(path)
