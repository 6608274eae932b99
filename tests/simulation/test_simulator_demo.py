"""The demo, unattended: what the twin must live through, in virtual time."""

from decimal import Decimal as D

from hedgelock.simulator.control import account_state, state

TWIN = "unprotected-sim"


def drive(desk):
    """Every 100 ms of the demo: (script second, twin's state)."""
    for number in range(1, 1251):
        desk.until(number * 100)
        x = desk.venue.exchange
        yield number / 10, account_state(x, x.accounts[TWIN])


def test_the_unattended_twin_passes_every_level_and_is_liquidated(open_desk):
    desk = open_desk("demo")
    crossed = {}
    for at_s, twin in drive(desk):
        for level in ("0.65", "0.80", "0.90", "0.95"):
            if D(twin["ltv_max"]) >= D(level):
                crossed.setdefault(level, at_s)
    assert list(crossed) == ["0.65", "0.80", "0.90", "0.95"]
    assert 8 < crossed["0.65"] < 15
    assert crossed["0.80"] < crossed["0.90"] < crossed["0.95"] < 65
    assert twin["liquidated"] is True
    assert twin["collateral"] == {}
    assert D(twin["debt"]["USDT"]) == 0
    assert D("0.02") < D(twin["fund"]["BTC"]) < D("0.04"), "the rest returned in BTC"
    assert twin["unified"] == {"BTC": "0.1", "USDT": "6000"}
    assert D(12500) < D(twin["equity_usd"]) < D(13000)


def test_liquidation_takes_debt_and_fee_in_collateral(open_desk):
    desk = open_desk("demo")
    for _, twin in drive(desk):
        if twin["liquidated"]:
            break
    x = desk.venue.exchange
    price = x.market.index["BTC"]
    expected = 1 - D(36600) / price * D("1.02")
    assert abs(D(twin["fund"]["BTC"]) - expected) < D("0.0000001")
    history = desk.venue.request(
        "GET", "/v5/crypto-loan-flexible/repayment-history", {}, account=TWIN, now_ms=desk.now_ms
    )
    assert history.result["list"][0]["repayType"] == 2
    assert history.result["list"][0]["repayAmount"] == "36600"


def test_the_script_is_as_agreed(open_desk):
    desk = open_desk("demo")
    first = state(desk.venue)
    assert abs(D(first["index"]["BTC"]) - 60000) < 60
    assert first["next_settlement_ms"] == desk.now_ms + 45_000
    seen = {}
    for second in (5, 30, 44, 46, 67, 90, 96, 121, 150):
        desk.until(second * 1000)
        seen[second] = state(desk.venue)
    apr = {s: D(v["funding_rate"]["BTC"]) * 1095 for s, v in seen.items()}
    assert D("0.10") <= apr[5] < D("0.50"), "NORMAL"
    assert D(-3) < apr[44] <= D(-1), "MANIA, shorts pay"
    assert abs(apr[90]) < D("0.10"), "NEUTRAL"
    assert seen[46]["next_settlement_ms"] - seen[46]["started_ms"] == 95_000
    assert seen[96]["next_settlement_ms"] - seen[96]["now_ms"] > 7 * 3_600_000
    assert abs(D(seen[67]["index"]["BTC"]) - 37000) < 60
    for second in (121, 150):
        assert abs(D(seen[second]["index"]["BTC"]) - 52000) < 80
        assert seen[second]["finished"] is True
    assert seen[90]["finished"] is False


def test_speed_compresses_the_script_and_not_the_ticks(open_desk):
    from hedgelock.simulator.scenarios import SCENARIOS
    from hedgelock.simulator.venue import Venue

    venue = Venue(SCENARIOS["demo"], now_ms=0, speed=4.0)
    venue.advance(16_750)
    assert abs(venue.exchange.market.index["BTC"] - 37000) < 60
    assert venue.streams.ticks == 167
    settled = [at for at, _ in venue.exchange.market.settled if at > 0]
    assert settled == [11_250], "45 s of the script"


def test_a_waiting_script_starts_when_told(open_desk):
    from hedgelock.simulator.scenarios import SCENARIOS
    from hedgelock.simulator.venue import Venue

    venue = Venue(SCENARIOS["demo"], now_ms=0, wait=True)
    venue.advance(200_000)
    assert abs(venue.exchange.market.index["BTC"] - 60000) < 100
    assert all(at <= 0 for at, _ in venue.exchange.market.settled)
    venue.start(200_000)
    venue.start(230_000)
    venue.advance(245_000)
    assert state(venue)["script_s"] == 45
    assert [at for at, _ in venue.exchange.market.settled if at > 0] == [245_000]
