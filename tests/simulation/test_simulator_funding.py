"""Funding: at the exact instant, to the right side, with both exchanges' signs."""

import itertools
from dataclasses import replace
from decimal import Decimal as D

import pytest

from hedgelock.simulator import premium
from hedgelock.simulator.funding_clock import HOUR_MS, FundingClock, FundingTerms, predicted
from hedgelock.simulator.matching import BookShape
from hedgelock.simulator.paths import Corners
from hedgelock.simulator.venue import Venue

T0 = 1_700_000_000_000
TERMS = FundingTerms()


@pytest.mark.parametrize(
    ("side", "rate", "exec_fee", "own_rate"),
    [
        ("Sell", 0.0001, "-3", "-0.0001"),  # the vector of the fact sheet: a short receives
        ("Buy", 0.0001, "3", "0.0001"),
        ("Sell", -0.0015, "45", "0.0015"),  # mania: shorts pay
        ("Buy", -0.0015, "-45", "-0.0015"),
    ],
)
def test_the_side_that_pays(open_desk, quiet_scenario, side, rate, exec_fee, own_rate):
    funding = {"BTC": ((0, rate),), "ETH": ((0, rate),)}
    desk = open_desk(replace(quiet_scenario(), funding=funding))
    desk.order(side, "0.5")
    before = desk.balance("USDT")
    desk.log.clear()
    desk.until(9_999)
    assert desk.balance("USDT") == before
    desk.until(10_000)
    assert desk.balance("USDT") - before == -D(exec_fee)
    (row,) = desk.get("execution/list", category="linear", execType="Funding")["list"]
    assert (row["execFee"], row["feeRate"], row["execQty"]) == (exec_fee, own_rate, "0.5")
    assert row["execPrice"] == "60000"
    assert row["execTime"] == str(T0 + 10_000)
    assert (row["orderType"], row["orderQty"], row["side"]) == ("UNKNOWN", "0", side)
    (log,) = desk.get("account/transaction-log", type="SETTLEMENT")["list"]
    assert D(log["funding"]) == -D(exec_fee)
    assert D(log["change"]) == -D(exec_fee)
    assert log["feeRate"] == own_rate
    assert log["tradeId"] == row["execId"]
    assert [r["execId"] for r in desk.pushed("execution")] == [row["execId"]]
    (wallet,) = desk.pushed("wallet")
    assert [c["coin"] for c in wallet["coin"]] == ["USDT"]
    assert D(wallet["coin"][0]["walletBalance"]) == desk.balance("USDT")
    assert desk.position()["seq"] == row["seq"]


def test_only_positions_open_at_the_instant_pay(desk):
    desk.until(10_000)
    desk.order("Sell", "0.5")
    desk.wait(5_000)
    assert desk.get("execution/list", category="linear", execType="Funding")["list"] == []


def test_inverse_positions_settle_in_coin(desk):
    desk.order("Sell", "5000", category="inverse", symbol="BTCUSD")
    before = desk.balance("BTC")
    desk.until(10_000)
    mark = desk.venue.exchange.market.quotes["inverse.BTCUSD"].mark
    assert desk.balance("BTC") - before == (D(5000) / mark * D("0.0001")).quantize(D("1E-10"))


def test_history_and_ticker_follow_the_settlement(desk):
    listed = {"category": "linear", "symbol": "BTCUSDT"}
    ticker = desk.get("market/tickers", **listed)["list"][0]
    assert ticker["nextFundingTime"] == str(T0 + 10_000)
    assert (ticker["fundingRate"], ticker["fundingIntervalHour"]) == ("0.0001", "8")
    count = len(desk.get("market/funding/history", **listed)["list"])
    desk.until(10_000)
    rows = desk.get("market/funding/history", **listed)["list"]
    assert len(rows) == count + 1
    assert rows[0] == {
        "symbol": "BTCUSDT",
        "fundingRate": "0.0001",
        "fundingRateTimestamp": str(T0 + 10_000),
    }
    after = desk.get("market/tickers", **listed)["list"][0]
    assert after["nextFundingTime"] == str(T0 + 10_000 + 8 * 3_600_000)
    assert desk.call("GET", "market/funding/history", **listed, startTime="1").code == 10001


def test_a_path_is_straight_between_its_corners():
    path = ((10, 100.0), (20, 200.0), (40, 0.0))
    assert [Corners(path).at(at) for at in (0, 10, 15, 20, 30, 40, 99)] == [
        100.0, 100.0, 150.0, 200.0, 100.0, 0.0, 0.0,
    ]  # fmt: skip


# ---------------------------------------------------------------------- the formula (§8.1)


@pytest.mark.parametrize(
    ("average", "rate"),
    [
        ("0.0002", "0.0001"),
        ("0.001", "0.0005"),
        ("-0.0003", "0.0001"),
        ("-0.001", "-0.0005"),
        ("-0.0055", "-0.00375"),
    ],
)
def test_the_rate_follows_from_the_premium_average(average, rate):
    found = predicted(D(average), interval_h=8, cap=D("0.00375"), terms=TERMS)
    assert found == D(rate)


def test_interest_is_per_interval():
    """.03 % a day: .01 % per 8 h, .00125 % per hour."""
    assert predicted(D(0), interval_h=8, cap=TERMS.cap, terms=TERMS) == D("0.0001")
    assert predicted(D(0), interval_h=1, cap=TERMS.cap, terms=TERMS) == D("0.0000125")


def test_later_minutes_of_the_interval_weigh_more():
    clock = FundingClock(TERMS, 8, "SOL")
    for value in ("0", "0", "0.003"):
        clock.sample(D(value))
    assert clock.average == D("0.003") * 3 / 6
    early = FundingClock(TERMS, 8, "SOL")
    for value in ("0.003", "0", "0"):
        early.sample(D(value))
    assert early.average == D("0.003") / 6


def grid_market(quiet_scenario, *, premium_of=0.0, prices=None, **changes):
    """BTC without a scripted rate: it predicts and settles on the UTC grid."""
    scenario = replace(
        quiet_scenario(), funding={}, settlements_s=(), premium={"BTC": ((0, premium_of),)},
        basis_ms=300_000,
    )  # fmt: skip
    return replace(scenario, **({"prices": prices} if prices else {}), **changes)


def test_premium_is_measured_on_the_book_against_the_index(open_desk, quiet_scenario):
    """Impact prices on both sides of index: no premium; a book above it: the impact bid counts."""
    desk = open_desk(grid_market(quiet_scenario, premium_of=0.002))
    desk.wait(100)
    x = desk.venue.exchange
    c = x.contracts["linear.BTCUSDT"]
    book = x.books[c.key]
    assert premium.premium(x, x.contracts["linear.ETHUSDT"]) == 0
    notional = TERMS.impact_notional
    (best, lots), *_ = book.levels("Buy", 1)
    assert c.qty(lots) * c.price(best) > notional, "the best level holds it all"
    bid = premium.impact_price(book, c, "Buy", notional)
    assert bid == c.price(best)
    assert premium.premium(x, c) == ((bid - 60000) / 60000).quantize(D("1E-8"))
    deep = premium.impact_price(book, c, "Buy", D(500_000))
    assert deep < bid, "a larger order walks down the book"
    assert premium.impact_price(book, c, "Sell", D(500_000)) > c.price(book.best_ask())


def test_settlement_is_at_the_utc_grid_and_the_prediction_converges(open_desk, quiet_scenario):
    desk = open_desk(grid_market(quiet_scenario, premium_of=0.002), tick_ms=10_000)
    due = (T0 // (8 * HOUR_MS) + 1) * 8 * HOUR_MS
    ticker = desk.get("market/tickers", category="linear", symbol="BTCUSDT")["list"][0]
    assert ticker["nextFundingTime"] == str(due)
    assert ticker["fundingRate"] == "0.0001", "no sample yet: interest only"
    desk.order("Sell", "0.5")
    desk.wait(due - 1 - desk.now_ms)
    ticker = desk.get("market/tickers", category="linear", symbol="BTCUSDT")["list"][0]
    assert desk.get("execution/list", category="linear", execType="Funding")["list"] == []
    desk.wait(1)
    (row,) = desk.get("execution/list", category="linear", execType="Funding")["list"]
    assert row["execTime"] == str(due)
    rate = D(ticker["fundingRate"])
    assert abs(rate - D("0.0015")) < D("0.00001"), "premium .2 % less the damping of .05 %"
    assert D(row["feeRate"]) == -rate, "what was predicted last is what settles"
    after = desk.get("market/tickers", category="linear", symbol="BTCUSDT")["list"][0]
    assert after["nextFundingTime"] == str(due + 8 * HOUR_MS)
    (history, *_) = desk.get("market/funding/history", category="linear", symbol="BTCUSDT")["list"]
    assert (history["fundingRate"], history["fundingRateTimestamp"]) == (str(rate), str(due))


def test_funding_belongs_to_the_contract_not_to_the_coin(open_desk, quiet_scenario):
    """Linear and inverse BTC may differ in rate and in interval."""
    scenario = grid_market(
        quiet_scenario,
        funding={"inverse.BTCUSD": ((0, -0.0007),)},
        intervals_h={"inverse.BTCUSD": 1},
    )
    desk = open_desk(scenario, tick_ms=60_000)
    linear, inverse = (
        desk.get("market/tickers", category=c, symbol=s)["list"][0]
        for c, s in (("linear", "BTCUSDT"), ("inverse", "BTCUSD"))
    )
    assert (linear["fundingRate"], linear["fundingIntervalHour"]) == ("0.0001", "8")
    assert (inverse["fundingRate"], inverse["fundingIntervalHour"]) == ("-0.0007", "1")
    assert int(inverse["nextFundingTime"]) <= T0 + HOUR_MS
    desk.order("Sell", "6000", category="inverse", symbol="BTCUSD")
    before = desk.balance("BTC")
    desk.wait(HOUR_MS)
    assert desk.balance("BTC") < before, "the short pays, in coin, within the hour"
    (row,) = desk.get("market/instruments-info", category="inverse", symbol="BTCUSD")["list"]
    assert row["fundingInterval"] == 60


# ---------------------------------------------------------------------- hourly and back


def switching(quiet_scenario, *corners, **terms):
    """ETH (which may switch here) with a premium over hours; the cap is .1 %."""
    allowed = replace(TERMS, cap=D("0.001"), auto_excluded=frozenset({"BTC"}), **terms)
    hours = tuple((h * 3600, value) for h, value in corners)
    return replace(grid_market(quiet_scenario), premium={"ETH": hours}, funding_terms=allowed)


def eth(desk):
    (row,) = desk.get("market/tickers", category="linear", symbol="ETHUSDT")["list"]
    (listed,) = desk.get("market/instruments-info", category="linear", symbol="ETHUSDT")["list"]
    return int(row["fundingIntervalHour"]), int(row["nextFundingTime"]), listed, row


def test_a_rate_at_its_cap_makes_settlement_hourly_until_it_calms(open_desk, quiet_scenario):
    scenario = switching(
        quiet_scenario, (0, 0.004), (9, 0.004), (10, 0.0), calm_settlements=3,
        cap_hourly=D("0.0004"),
    )  # fmt: skip
    desk = open_desk(scenario, tick_ms=60_000)
    interval_h, due, listed, _ = eth(desk)
    assert (interval_h, listed["fundingInterval"]) == (8, 480)
    desk.wait(due - desk.now_ms)
    interval_h, again, listed, row = eth(desk)
    assert (interval_h, again - due) == (1, HOUR_MS)
    assert listed["fundingInterval"] == 60
    assert (row["fundingCap"], listed["upperFundingRate"]) == ("0.0004", "0.0004")
    (settled, *_) = desk.get("market/funding/history", category="linear", symbol="ETHUSDT")["list"]
    assert settled["fundingRate"] == "0.001", "it settled at the cap"
    desk.wait(12 * HOUR_MS)
    interval_h, later, listed, row = eth(desk)
    assert (interval_h, listed["fundingInterval"], row["fundingCap"]) == (8, 480, "0.001")
    assert later % (8 * HOUR_MS) == 0, "back on the grid of eight hours"
    times = [
        int(r["fundingRateTimestamp"])
        for r in desk.get("market/funding/history", category="linear", symbol="ETHUSDT")["list"]
        if int(r["fundingRateTimestamp"]) >= due
    ]
    assert times == sorted(times, reverse=True)
    assert {a - b for a, b in itertools.pairwise(times)} <= {HOUR_MS}


def test_an_excluded_coin_never_switches(open_desk, quiet_scenario):
    scenario = replace(grid_market(quiet_scenario, premium_of=0.02), noise_bps=0.0)
    desk = open_desk(scenario, tick_ms=60_000)
    desk.wait(9 * HOUR_MS)
    row = desk.get("market/tickers", category="linear", symbol="BTCUSDT")["list"][0]
    assert (row["fundingRate"], row["fundingIntervalHour"]) == ("0.005", "8")


def test_recorded_settlements_bring_their_own_rates_and_intervals(open_desk, quiet_scenario):
    told = tuple((h * 3600.0, D(r)) for h, r in ((1, "0.0003"), (9, "-0.002"), (10, "0.001")))
    scenario = replace(grid_market(quiet_scenario), settlements={"BTC": told})
    desk = open_desk(scenario, tick_ms=60_000)
    listed = {"category": "linear", "symbol": "BTCUSDT"}
    seen = []
    for _ in range(11):
        row = desk.get("market/tickers", **listed)["list"][0]
        seen.append((row["fundingRate"], row["fundingIntervalHour"]))
        desk.wait(HOUR_MS)
    assert seen[0] == ("0.0003", "8")
    assert seen[8] == ("-0.002", "8")
    assert seen[9] == ("0.001", "1"), "the interval is the distance of the settlements"
    after, *rows = desk.get("market/funding/history", **listed)["list"][:4]
    assert after["fundingRate"] == "0.0000125", "after the last one, by the formula"
    assert [r["fundingRate"] for r in rows] == ["0.001", "-0.002", "0.0003"]
    assert [int(r["fundingRateTimestamp"]) - T0 for r in rows] == [
        10 * HOUR_MS, 9 * HOUR_MS, HOUR_MS,
    ]  # fmt: skip


def test_a_faster_script_settles_by_script_time(quiet_scenario):
    venue = Venue(grid_market(quiet_scenario), now_ms=T0, speed=60.0, tick_ms=1000)
    venue.advance(T0 + 17 * 60_000)
    settled = [at for at, _ in venue.exchange.market.settled if at > T0]
    assert len(settled) == 2
    assert {at % (8 * 60_000) for at in settled} == {0}


def test_an_unknown_interval_is_refused():
    with pytest.raises(ValueError, match="interval"):
        FundingClock(TERMS, 8, "SOL").switch(3, 0)


# ---------------------------------------------------------------------- mark (§8.2)


def test_mark_is_the_median_of_funding_basis_moving_basis_and_last(open_desk, quiet_scenario):
    """The moving basis averages 5 minutes: a sudden premium moves the mark only slowly."""
    step = {"BTC": ((0, 0.0), (400, 0.0), (400.9, 0.004))}
    desk = open_desk(replace(grid_market(quiet_scenario), premium=step), tick_ms=1000)
    desk.wait(400_000)
    quote = desk.venue.exchange.market.quotes["linear.BTCUSDT"]
    assert quote.mark == 60000
    seen = []
    for _ in range(4):
        desk.wait(75_000)
        seen.append(quote.mark)
        clock = desk.venue.exchange.market.lines["linear.BTCUSDT"].clock
        share = clock.share_left(desk.now_ms, clock.next_ms)
        by_funding = quote.index * (1 + clock.last_rate * share)
        by_basis = quote.index + sum(quote.premiums) / len(quote.premiums)
        expected = sorted((by_funding, by_basis, quote.last))[1]
        assert quote.mark == expected.quantize(D("0.01"))
        assert len(quote.premiums) == 300, "five minutes of ticks"
    assert quote.last == 60240
    assert D(60050) < seen[0] < D(60070)
    assert seen == sorted(seen)


def test_mark_follows_the_rate_that_settled_last_not_the_one_to_come(open_desk, quiet_scenario):
    """P1 = index × (1 + last rate × time left ÷ interval); here it lies between the other two."""
    step = {"BTC": ((0, 0.0), (299, 0.0), (300, 0.01))}
    desk = open_desk(replace(grid_market(quiet_scenario), premium=step), tick_ms=1000)
    clock = desk.venue.exchange.market.lines["linear.BTCUSDT"].clock
    clock.history.append((T0, D("0.005")))
    clock.force(D("-0.005"))
    desk.wait(301_000)
    quote = desk.venue.exchange.market.quotes["linear.BTCUSDT"]
    by_funding = 60000 * (1 + D("0.005") * clock.share_left(desk.now_ms, clock.next_ms))
    assert 60000 < quote.mark == by_funding.quantize(D("0.01")) < quote.last


def test_depth_and_spread_are_the_scenarios_and_per_contract(open_desk, quiet_scenario):
    """A thin ETH book beside a usual BTC one: wider spread, and the same order moves it further."""
    thin = BookShape(half_spread_ticks=40, step_ticks=80, levels=30, level_notional=5_000)
    scenario = replace(quiet_scenario(), books={"linear.ETHUSDT": thin})
    desk = open_desk(scenario)
    x = desk.venue.exchange

    def cost(symbol, notional):
        c, book = x.contracts[symbol], x.books[symbol]
        mid = x.market.quotes[symbol].last
        return premium.impact_price(book, c, "Sell", D(notional)) / mid - 1

    assert cost("linear.ETHUSDT", 1_000) > 50 * cost("linear.BTCUSDT", 1_000)
    assert cost("linear.ETHUSDT", 90_000) > cost("linear.ETHUSDT", 1_000) + D("0.001")


def test_premium_candles_are_served_by_the_minute(open_desk, quiet_scenario):
    desk = open_desk(grid_market(quiet_scenario, premium_of=0.001), tick_ms=1000)
    desk.wait(10 * 60_000)
    candles = desk.venue.exchange.market.candles["linear.BTCUSDT"]
    rows = candles.window("1", start_ms=T0 + 60_000, end_ms=desk.now_ms, series="premium")
    assert len(rows) >= 9
    assert all(abs(k.close - D("0.001")) < D("0.00001") for k in rows)
