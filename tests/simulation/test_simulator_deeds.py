"""Deeds: every kind does what its table says, at its instant, and is undone at its end."""

import re
from dataclasses import replace
from decimal import Decimal as D
from pathlib import Path

import pytest

from hedgelock.simulator.deeds import DOES, KINDS, Deed
from hedgelock.simulator.venue import Venue

ME, TWIN = "hedgelock-sim", "unprotected-sim"
T0 = 1_700_000_000_000
BTC = "linear.BTCUSDT"


def deed(kind, at_s=1, **fields):
    if "amount" in fields:
        fields["amount"] = D(fields["amount"])
    return Deed(at_s=at_s, kind=kind, **fields)


@pytest.fixture
def played(open_desk, quiet_scenario):
    def play(*deeds, tick_ms=100):
        return open_desk(replace(quiet_scenario(), deeds=deeds), tick_ms=tick_ms)

    return play


def test_every_kind_is_documented_and_does_something():
    assert list(KINDS) == list(DOES)
    assert all(kind.says for kind in KINDS.values())


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"kind": "nope"}, "unknown"),
        ({"kind": "adl", "account": ME, "amount": D("0.5")}, "needs symbol"),
        ({"kind": "human_order", "account": ME, "symbol": BTC, "side": "Short", "amount": D(1)},
         "Buy or Sell"),
        ({"kind": "insurance_drain", "coin": "USDT", "until_s": 9}, "cannot end"),
        ({"kind": "price_gap", "coin": "BTC", "amount": D("-0.1"), "until_s": 1}, "cannot end"),
    ],
)  # fmt: skip
def test_a_deed_that_cannot_be_done_is_refused_with_its_reason(fields, says):
    with pytest.raises(ValueError, match=says):
        Deed(at_s=2, **fields)


def test_unknown_names_are_refused(played):
    with pytest.raises(ValueError, match="no contract"):
        played(deed("delist", symbol="linear.NOPEUSDT"))
    for kind in ("price_gap", "ratio_cut", "insurance_drain"):
        with pytest.raises(ValueError, match="'DOGE' is none of its coins"):
            played(Deed(1, kind, coin="DOGE", amount=D("0.1")))
    with pytest.raises(ValueError, match="no account"):
        played(deed("human_cancel", account="nobody", symbol=BTC)).wait(2_000)


def test_adl_takes_a_share_of_the_position_without_an_order(played):
    desk = played(deed("adl", account=ME, symbol=BTC, amount="0.5"))
    desk.order("Sell", "0.4", orderLinkId="mine")
    desk.until(999)
    assert desk.position()["size"] == "0.4"
    desk.until(1_000)
    (row,) = desk.get("execution/list", category="linear", execType="AdlTrade")["list"]
    assert row["execTime"] == str(T0 + 1000), "at its exact instant"
    assert (row["execQty"], row["orderLinkId"], row["execFee"]) == ("0.2", "", "0")
    assert D(row["execPrice"]) == D(60300), "worse than mark for the short"
    assert desk.position()["size"] == "0.2"
    assert desk.venue.exchange.ledger.totals() == dict.fromkeys(("BTC", "ETH", "USDT"), D(0))


def test_a_price_gap_comes_at_once_and_a_wick_goes_again(played):
    desk = played(
        deed("price_gap", coin="BTC", amount="-0.2", until_s=3),
        deed("price_gap", 5, coin="BTC", amount="0.1"),
    )
    seen = {}
    for at_ms in (900, 1000, 2900, 3000, 5000, 9000):
        desk.until(at_ms)
        seen[at_ms] = desk.venue.exchange.market.index["BTC"]
    assert [int(p) for p in seen.values()] == [60000, 48000, 48000, 60000, 66000, 66000]
    assert desk.venue.exchange.market.index["ETH"] == 3000


def test_a_premium_gap_moves_the_book_and_not_the_index(played):
    desk = played(deed("premium_gap", symbol=BTC, amount="0.01", until_s=2))
    desk.until(1_500)
    quotes = desk.venue.exchange.market.quotes
    assert (quotes[BTC].last, quotes[BTC].index) == (60600, 60000)
    assert quotes["spot.BTCUSDT"].last == 60000
    desk.until(2_500)
    assert quotes[BTC].last == 60000


def test_funding_turns_hourly_and_back_without_notice(played):
    desk = played(deed("funding_interval", symbol=BTC, amount="1", until_s=8000), tick_ms=10_000)
    listed = {"category": "linear", "symbol": "BTCUSDT"}
    desk.until(1_000)
    row = desk.get("market/tickers", **listed)["list"][0]
    assert row["fundingIntervalHour"] == "1"
    assert int(row["nextFundingTime"]) % 3_600_000 == 0
    assert int(row["nextFundingTime"]) - desk.now_ms <= 3_600_000
    desk.until(8_000_000)
    assert desk.get("market/tickers", **listed)["list"][0]["fundingIntervalHour"] == "8"
    settled = [at for at, _ in desk.venue.exchange.market.settled if at > T0 + 11_000]
    assert len(settled) == 2, "two full hours"


def test_a_prescribed_rate_settles(played):
    desk = played(deed("funding_rate", symbol=BTC, amount="0.003", until_s=20))
    desk.order("Sell", "0.5")
    desk.until(11_000)
    (row,) = desk.get("execution/list", category="linear", execType="Funding")["list"]
    assert D(row["execFee"]) == -90
    desk.until(21_000)
    row = desk.get("market/tickers", category="linear", symbol="BTCUSDT")["list"][0]
    assert row["fundingRate"] == "0.0001"


def test_a_ratio_cut_raises_ltv_and_shrinks_margin_until_undone(played):
    desk = played(deed("ratio_cut", coin="BTC", amount="0.05", until_s=3))
    before = (desk.get("crypto-loan-common/position")["ltv"], desk.wallet()["totalMarginBalance"])
    desk.until(1_000)
    assert D(desk.get("crypto-loan-common/position")["ltv"]) == (D(33000) / 57000).quantize(
        D("0.000001")
    )
    assert D(desk.wallet()["totalMarginBalance"]) == 6000 + 6000 * D("0.9")
    ratios = desk.get("spot-margin-trade/collateral", currency="BTC")["list"][0]
    assert ratios["collateralRatioList"][0]["collateralRatio"] == "0.9"
    desk.until(3_000)
    after = (desk.get("crypto-loan-common/position")["ltv"], desk.wallet()["totalMarginBalance"])
    assert after == before


def test_a_ratio_cut_alone_can_liquidate(played):
    """At LTV .55 a cut that brings it past .95 is noticed at once, though no price moved."""
    desk = played(deed("ratio_cut", coin="BTC", amount="0.43"))
    desk.until(990)
    assert desk.account.loan_liquidated_ms == 0
    desk.until(1_100)
    assert desk.account.loan_liquidated_ms > 0


def test_maintenance_refuses_writes_and_serves_reads(played):
    desk = played(deed("maintenance", until_s=3))
    desk.until(1_000)
    assert desk.refused("Sell", "0.1") == 10016
    assert desk.call("POST", "crypto-loan-flexible/repay", loanCurrency="USDT", amount="1").code == 10016
    assert desk.wallet()["accountType"] == "UNIFIED"
    (row,) = desk.get("system/status")["list"]
    assert (row["state"], row["end"]) == ("ongoing", str(T0 + 3_000)), "as expected"
    desk.until(3_000)
    assert desk.order("Sell", "0.1")["orderStatus"] == "Filled"
    (over,) = desk.get("system/status", state="completed")["list"]
    assert over == row | {"state": "completed"}
    assert desk.get("system/status", id="another")["list"] == []


def test_maintenance_ends_with_a_restart(played):
    """order/realtime no longer knows what had closed before; order/history does."""
    desk = played(deed("maintenance", until_s=3))
    filled = desk.order("Sell", "0.1")
    named = {"category": "linear", "orderId": filled["orderId"]}
    desk.until(3_000)
    assert desk.get("order/realtime", **named)["list"] == []
    assert desk.get("order/realtime", category="linear", symbol="BTCUSDT", openOnly=1)["list"] == []
    assert len(desk.get("order/history", **named)["list"]) == 1


def test_a_wallet_without_account_level_figures(played):
    """As in isolated margin: "" in answers and pushes; the coins stay."""
    desk = played(deed("wallet_blank", until_s=3))
    desk.until(1_000)
    desk.order("Sell", "0.1")
    for row in (desk.wallet(), desk.pushed("wallet")[-1]):
        blank = {key for key, value in row.items() if value == ""}
        assert blank == row.keys() - {"accountType", "coin"}
        assert row["coin"][0]["walletBalance"]
    desk.until(3_000)
    assert D(desk.wallet()["totalEquity"]) > 0


def test_flags_are_set_and_cleared(played):
    desk = played(deed("colres", amount="2", until_s=3), deed("tiers_missing", until_s=3))
    conditions = desk.venue.exchange.conditions
    desk.until(1_000)
    assert (conditions.col_res, conditions.tiers_missing) == ("2", True)
    desk.until(3_000)
    assert (conditions.col_res, conditions.tiers_missing) == ("0", False)


def test_a_contract_being_delisted_takes_closing_orders_only(played):
    desk = played(deed("reduce_only", symbol=BTC, until_s=3), deed("delist", 5, symbol=BTC))
    desk.order("Sell", "0.2")
    resting = desk.order("Sell", "0.1", price="61000")
    desk.until(1_000)
    assert desk.refused("Sell", "0.1") == 30228
    assert desk.order("Buy", "0.1", reduceOnly=True)["orderStatus"] == "Filled"
    desk.until(3_000)
    assert desk.order("Sell", "0.1")["orderStatus"] == "Filled"
    desk.until(5_000)
    assert desk.refused("Buy", "0.1", reduceOnly=True) == 110074
    assert desk.row(resting["orderId"])["cancelType"] == "CancelByAdmin"


def test_a_drained_pool_is_empty(played):
    desk = played(deed("insurance_drain", coin="USDT"))
    desk.until(1_000)
    assert desk.venue.exchange.ledger.balance("insurance", "USDT") == 0
    assert desk.venue.exchange.ledger.balance("insurance", "BTC") > 0


def test_a_human_trades_closes_and_cancels_in_the_app(played):
    desk = played(
        deed("human_order", account=ME, symbol=BTC, side="Buy", amount="0.05"),
        deed("human_cancel", 2, account=ME, symbol=BTC),
        deed("human_close", 3, account=ME, symbol=BTC),
    )
    ours = desk.order("Sell", "0.2", orderLinkId="hl-1")
    resting = desk.order("Sell", "0.1", price="61000", orderLinkId="hl-2")
    desk.until(1_500)
    assert desk.position()["size"] == "0.15"
    assert desk.row(resting["orderId"])["orderStatus"] == "New"
    desk.until(2_500)
    assert desk.row(resting["orderId"])["orderStatus"] == "Cancelled"
    desk.until(3_500)
    assert desk.position()["size"] == "0"
    foreign = [r for r in desk.account.executions if r["orderId"] != ours["orderId"]]
    assert [(r["side"], r["execQty"], r["orderLinkId"]) for r in foreign] == [
        ("Buy", "0.05", ""), ("Buy", "0.15", ""),
    ]  # fmt: skip


def test_a_human_moves_money_and_repays_in_the_app(played):
    """To FUND, back, and into the loan; what was done by hand is known by its ids."""
    desk = played(
        deed("human_transfer", account=ME, coin="USDT", amount="500"),
        deed("human_transfer", 2, account=ME, coin="USDT", amount="-100"),
        deed("human_repay", 3, account=ME, coin="USDT", amount="300"),
        deed("human_repay", 4, account=ME, coin="USDT", amount="300"),
    )
    account = desk.venue.exchange.accounts[ME]
    x, debt = desk.venue.exchange, account.debts["USDT"].total
    before = x.ledger.balance(account.unified, "USDT")
    desk.wait(5_000)
    assert x.ledger.balance(account.unified, "USDT") == before - 400
    assert x.ledger.balance(account.fund, "USDT") == 100
    assert debt - account.debts["USDT"].total == 300
    agenda = desk.venue.agenda
    assert agenda.by_hand == {*account.transfers, account.repayments[-1]["repayId"]}
    assert len(agenda.by_hand) == 3
    assert [refused.at_s for refused, _ in agenda.refused] == [4]


def test_what_a_human_could_not_do_is_kept(played):
    desk = played(deed("human_order", account=ME, symbol=BTC, side="Buy", amount="40"))
    desk.until(1_100)
    ((done, reason),) = desk.venue.agenda.refused
    assert (done.amount, reason[:6]) == (40, "110007")


def test_a_bystander_is_liquidated_in_public_and_the_pool_pays(played):
    desk = played(deed("bystander", symbol=BTC, side="Buy", amount="2"))
    desk.venue.streams.subscribe("linear", "allLiquidation.BTCUSDT")
    pool = desk.venue.exchange.ledger.balance("insurance", "USDT")
    desk.until(1_100)
    rows = [r for e in desk.log if e.topic == "allLiquidation.BTCUSDT" for r in e.data]
    assert [(r["S"], r["v"]) for r in rows] == [("Buy", "2")]
    assert desk.venue.exchange.ledger.balance("insurance", "USDT") < pool - 1000
    x = desk.venue.exchange
    (name,) = [n for n in x.accounts if n.startswith("bystander")]
    assert x.accounts[name].positions[BTC].size == 0
    assert all(v == 0 for v in x.ledger.totals().values())


def test_deeds_wait_for_the_script_and_follow_its_speed(quiet_scenario):
    scenario = replace(quiet_scenario(), deeds=(deed("price_gap", 4, coin="BTC", amount="-0.5"),))
    venue = Venue(scenario, now_ms=0, wait=True, speed=2.0)
    venue.advance(60_000)
    assert venue.exchange.market.index["BTC"] == 60000
    venue.start(60_000)
    venue.advance(61_900)
    assert venue.exchange.market.index["BTC"] == 60000
    venue.advance(62_000)
    assert venue.exchange.market.index["BTC"] == 30000


def test_a_deed_added_late_is_done_at_once(played):
    desk = played()
    desk.wait(10_000)
    desk.venue.agenda.add(deed("price_gap", 2, coin="BTC", amount="0.5"))
    desk.wait(100)
    assert desk.venue.exchange.market.index["BTC"] == 90000
    assert desk.venue.exchange.now_ms == desk.now_ms


def test_all_kinds_are_tested_here():
    written = re.findall(r'deed\(\s*"(\w+)"', Path(__file__).read_text(encoding="utf-8"))
    assert set(written) == set(KINDS)
