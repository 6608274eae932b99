"""Who is liquidated, how, at whose cost: the loan, the margin ladder, takeover, ADL, insurance."""

from dataclasses import replace
from decimal import Decimal as D

import pytest

from hedgelock.simulator import adl, liquidation, loans, takeover
from hedgelock.simulator.adl_rank import indicator, score
from hedgelock.simulator.instruments import CONTRACTS
from hedgelock.simulator.insurance import Pools
from hedgelock.simulator.margin import Exposure
from hedgelock.simulator.money import INSURANCE, Ledger

ME, TWIN = "hedgelock-sim", "unprotected-sim"
LINEAR = CONTRACTS["linear.BTCUSDT"]


def falling(quiet_scenario, *corners, **loan):
    """The quiet market with a BTC path and other loan terms; 1 BTC pledged, 33,000 USDT owed."""
    scenario = quiet_scenario()
    return replace(
        scenario,
        prices={"BTC": tuple(corners), "ETH": ((0, 3000),)},
        loan=replace(scenario.loan, **loan),
    )


# ---------------------------------------------------------------------- the loan


def test_margin_call_is_noted_and_lifted(open_desk, quiet_scenario):
    path = ((0, 60000), (1, 60000), (2, 38000), (4, 38000), (5, 60000))
    desk = open_desk(falling(quiet_scenario, *path))
    desk.until(1_000)
    assert desk.account.margin_called_ms == 0
    desk.until(4_000)
    called = desk.account.margin_called_ms
    assert 1_000 < called - 1_700_000_000_000 <= 2_000, "when the LTV reached .85, not later"
    desk.until(6_000)
    assert desk.account.margin_called_ms == 0
    assert desk.account.loan_liquidated_ms == 0


@pytest.mark.parametrize(("delayed_s", "liquidated"), [(None, False), (5, True), (20, False)])
def test_delayed_liquidation_needs_time_above_93(open_desk, quiet_scenario, delayed_s, liquidated):
    """At LTV .94 for ten seconds a loan is liquidated only where the scenario says so."""
    path = ((0, 60000), (1, 60000), (2, 35106), (12, 35106), (13, 60000))
    desk = open_desk(falling(quiet_scenario, *path, delayed_s=delayed_s))
    desk.until(6_500)
    assert desk.account.loan_liquidated_ms == 0
    desk.until(14_000)
    assert bool(desk.account.loan_liquidated_ms) is liquidated
    history = desk.get("crypto-loan-flexible/repayment-history")["list"]
    assert [row["repayType"] for row in history] == ([6] if liquidated else [])


def test_whole_liquidation_sells_debt_and_fee_and_returns_the_rest(open_desk, quiet_scenario):
    desk = open_desk(falling(quiet_scenario, (0, 60000), (1, 60000), (1.1, 34000)))
    desk.until(2_000)
    assert desk.account.debts["USDT"].total == 0
    sold = D(33000) / 34000
    assert abs(desk.balance("BTC", "FUND") - (1 - sold * D("1.02"))) < D("1E-9")
    assert desk.balance("BTC", "LOAN") == 0


def test_partial_liquidation_restores_the_target(open_desk, quiet_scenario):
    """So much is sold, fee included, that the LTV is .80 again; the loan goes on."""
    desk = open_desk(
        falling(quiet_scenario, (0, 60000), (1, 60000), (1.1, 34500), liquidation_target=D("0.8"))
    )
    desk.until(2_000)
    x = desk.venue.exchange
    assert abs(loans.ltv(x, desk.account) - D("0.8")) < D("1E-8")
    owed, left = desk.account.debts["USDT"].total, desk.balance("BTC", "LOAN")
    sold = (33000 - owed) / 34500
    assert abs(1 - left - sold * D("1.02")) < D("1E-9")
    assert desk.balance("BTC", "FUND") == 0, "nothing is returned while the loan goes on"
    (row,) = desk.get("crypto-loan-flexible/repayment-history")["list"]
    assert row["repayType"] == 2


def test_insurance_makes_the_lender_whole_after_a_gap(open_desk, quiet_scenario):
    desk = open_desk(falling(quiet_scenario, (0, 60000), (1, 60000), (1.1, 30000)))
    before = desk.venue.exchange.ledger.balance(INSURANCE, "USDT")
    desk.until(2_000)
    assert before - desk.venue.exchange.ledger.balance(INSURANCE, "USDT") == 2 * 3000
    assert desk.balance("BTC", "FUND") == 0


# ---------------------------------------------------------------------- the margin ladder


def test_the_ladder_cancels_then_converts_then_reduces(open_desk, quiet_scenario):
    """Each rung is taken only while the one before did not suffice."""
    desk = open_desk(falling(quiet_scenario, (0, 60000), (1, 60000), (40, 76900)))
    desk.post("asset/transfer/inter-transfer", transferId="out", coin="USDT", amount="5000",
              fromAccountType="UNIFIED", toAccountType="FUND")  # fmt: skip
    desk.order("Sell", "0.5")
    desk.order("Buy", "0.01", price="58000")
    desk.log.clear()
    desk.until(40_000)
    told = [
        (e.topic, row)
        for e in desk.log
        if e.account == ME and e.topic in {"order", "execution"}
        for row in e.data
    ]
    cancelled = [n for n, (t, r) in enumerate(told) if r.get("cancelType") == "CancelAllBeforeLiq"]
    busts = [n for n, (t, r) in enumerate(told) if r.get("execType") == "BustTrade"]
    assert cancelled
    assert busts
    assert max(cancelled) < min(busts), "orders go first"
    kinds = [r["type"] for r in desk.account.log if r["type"] in {"LIQUIDATION", "CURRENCY_SELL"}]
    assert kinds[0] == "LIQUIDATION", "nothing was owed before a loss was realised"
    assert kinds[1] == "CURRENCY_SELL", "then coins are converted before more is reduced"
    assert {r["createType"] for t, r in told if r.get("execType") == "BustTrade"} == {"CreateByLiq"}
    size = abs(D(desk.position()["size"] or 0))
    assert D(0) < size < D("0.5"), "in steps: a part is left"
    assert desk.venue.exchange.report(desk.account).mm_rate < 1


def short_one(desk, size="1"):
    desk.order("Sell", size)
    return desk.venue.exchange, desk.account


def test_takeover_leaves_the_account_with_nothing_and_the_pool_with_the_profit(desk):
    """Above bankruptcy at mark, what is left of the margin goes to the pool."""
    x, account = short_one(desk)
    before = x.ledger.balance(INSURANCE, "USDT")
    shift = takeover.bankruptcy_shift(x, account)
    assert shift > D("0.1"), "11,700 USD of margin stand behind 60,000"
    assert abs(takeover.left(x, account, shift)) < D("1E-6")
    takeover.take_over(x, account)
    liquidation._convert_to_repay(x, account)
    assert x.ledger.balance(INSURANCE, "USDT") - before > 11_000
    left = x.ledger.coins(account.unified)
    assert abs(left.get("USDT", D(0)) + left.get("BTC", D(0)) * 60000) < D("0.1")
    assert all(v == 0 for v in x.ledger.totals().values())


def test_bankruptcy_of_an_inverse_short_is_solved_in_coin(desk):
    desk.order("Sell", "30000", category="inverse", symbol="BTCUSD")
    x = desk.venue.exchange
    shift = takeover.bankruptcy_shift(x, desk.account)
    assert abs(takeover.left(x, desk.account, shift)) < D("1E-6")


# ---------------------------------------------------------------------- ADL and insurance


def face_off(open_desk, quiet_scenario, **changes):
    """We are short 1 BTC and win; the twin is long 1.1 with the same pocket when the price gaps."""
    path = ((0, 60000), (5, 60000), (5.1, 45000))
    scenario = falling(quiet_scenario, *path)
    desk = open_desk(replace(scenario, **changes))
    desk.order("Sell", "1")
    desk.who = TWIN
    desk.order("Buy", "1.1")
    desk.log.clear()
    desk.who = ME
    return desk


def test_a_full_pool_takes_the_loss_and_the_winner_keeps_the_hedge(open_desk, quiet_scenario):
    desk = face_off(open_desk, quiet_scenario)
    before = desk.venue.exchange.ledger.balance(INSURANCE, "USDT")
    desk.until(6_000)
    assert desk.venue.exchange.accounts[TWIN].margin_liquidated_ms > 0
    assert desk.venue.exchange.ledger.balance(INSURANCE, "USDT") < before - 3000
    assert desk.position()["size"] == "1"


def test_an_empty_pool_deleverages_the_winner_at_the_bankruptcy_price(open_desk, quiet_scenario):
    """AdlTrade: no order of ours, no link, no fee, createType CreateByAdl_PassThrough, status Adl."""
    desk = face_off(open_desk, quiet_scenario, insurance={"USDT": D(10), "BTC": D(1)})
    resting = desk.order("Buy", "0.1", price="40000", reduceOnly=True)
    x = desk.venue.exchange
    fees = x.ledger.balance("fees", "USDT")
    mine = desk.account.fees_usd
    desk.until(6_000)
    (row,) = desk.get("execution/list", category="linear", execType="AdlTrade")["list"]
    assert (row["orderLinkId"], row["createType"]) == ("", "CreateByAdl_PassThrough")
    assert (row["execFee"], row["feeRate"], row["side"], row["execQty"]) == ("0", "0", "Buy", "1")
    bust = next(
        r for a in [x.accounts[TWIN]] for r in a.executions if r["execType"] == "BustTrade"
    )
    assert row["execPrice"] == bust["execPrice"]
    assert D(row["execPrice"]) > x.market.quotes["linear.BTCUSDT"].mark, "worse than mark for us"
    assert desk.position()["size"] == "0"
    assert "Adl" in {p["positionStatus"] for p in desk.pushed("position")}
    assert desk.row(resting["orderId"])["cancelType"] == "CancelAllBeforeAdl"
    assert desk.account.fees_usd == mine
    assert x.ledger.balance("fees", "USDT") > fees, "the bankrupt side pays its closing fee"
    assert {r["type"] for r in desk.account.log} >= {"TRADE", "ADL"}
    assert all(v == 0 for v in x.ledger.totals().values())


def test_winners_are_ranked_by_profit_times_leverage():
    def ranked(size, entry, mark, balance):
        exposure = Exposure(LINEAR, D(size), abs(D(size)) * entry, D(mark), D(10))
        return score(exposure, value_usd=exposure.value, balance=D(balance))

    small = ranked("-1", 60000, 50000, 50000)
    large = ranked("-1", 60000, 50000, 5000)
    loss = ranked("-1", 50000, 60000, 5000)
    assert small == D(10000) / 60000
    assert large == small * 10
    assert loss == D("-0.2") / 12
    assert [indicator(v) for v in (loss, D(0), D("0.01"), small, large, D(9))] == [1, 1, 2, 3, 4, 5]
    assert ranked("0", 60000, 50000, 5000) == 0


def test_the_better_ranked_winner_goes_first(open_desk, quiet_scenario):
    desk = open_desk(falling(quiet_scenario, (0, 60000), (5, 60000), (5.1, 50000)))
    for who, size in ((ME, "0.2"), (TWIN, "0.9")):
        desk.who = who
        desk.order("Sell", size)
    desk.until(6_000)
    x = desk.venue.exchange
    done = adl.deleverage(x, LINEAR, losing_long=True, lots=1000, price=D(51000))
    sizes = {name: a.positions["linear.BTCUSDT"].size for name, a in x.accounts.items()}
    assert sizes == {ME: D("-0.1"), TWIN: D(0)}
    assert done == 1000
    assert adl.deleverage(x, LINEAR, losing_long=False, lots=1, price=D(51000)) == 0, "no longs"


def test_an_open_position_shows_its_light(open_desk, quiet_scenario):
    desk = open_desk(falling(quiet_scenario, (0, 60000), (5, 60000), (5.1, 45000)))
    assert desk.position()["adlRankIndicator"] == 0
    desk.order("Sell", "1")
    assert desk.position()["adlRankIndicator"] == 1
    desk.until(6_000)
    assert desk.position()["adlRankIndicator"] == 3


def test_a_pool_deleverages_from_30_percent_down_until_25():
    pools = Pools(Ledger(), {}, CONTRACTS)
    pools.open({"USDT": D(100_000)})
    assert not pools.exhausted(LINEAR, D(500))
    assert not pools.exhausted(LINEAR, D(-29_000))
    assert pools.exhausted(LINEAR, D(-31_000))
    assert pools.exhausted(LINEAR, D(-28_000)), "between the two levels it goes on"
    assert not pools.exhausted(LINEAR, D(-24_000))
    assert pools.exhausted(LINEAR, D(-100_000)), "empty"
    pools.drain("USDT")
    assert pools.exhausted(LINEAR, D(-1))
    (row,) = pools.rows("USDT")
    assert (row["coin"], row["balance"]) == ("USDT", "0")
    assert "BTCUSDT" in row["symbols"].split(",")
    alert = pools.alert(LINEAR)
    assert (alert["maxBalance"], alert["pnlRatio"]) == ("100000", "-1")
    for _ in range(8):
        pools.record()
    assert pools.alert(LINEAR)["maxBalance"] == "0", "eight hours later the peak is forgotten"


def test_an_isolated_pool_carries_one_contract_alone():
    """Its emptiness is nobody else's, and neither is its money; no coin is without a pool."""
    sol, ether = CONTRACTS["linear.SOLUSDT"], CONTRACTS["inverse.ETHUSD"]
    ledger = Ledger()
    pools = Pools(ledger, {}, CONTRACTS)
    pools.open({"USDT": D(100_000), sol.key: D(500)})
    assert pools.exhausted(sol, D(-501))
    assert not pools.exhausted(LINEAR, D(-501))
    assert (pools.holder(sol), pools.holder(LINEAR)) == ("insurance/linear.SOLUSDT", "insurance")
    assert pools.exhausted(ether, D(-1)), "nothing was paid in"
    shared, alone = pools.rows("USDT")
    assert (alone["symbols"], alone["balance"]) == ("SOLUSDT", "500")
    assert "SOLUSDT" not in shared["symbols"].split(",")
    assert pools.rows(isolated=True) == [alone]
    pools.drain(sol.key)
    assert (pools.alert(sol)["balance"], pools.alert(LINEAR)["balance"]) == ("0", "100000")
    assert ledger.totals() == {"USDT": 0}


def test_a_liquidation_is_told_to_the_public(open_desk, quiet_scenario):
    """allLiquidation: S is the position's side, p the bankruptcy price."""
    desk = face_off(open_desk, quiet_scenario)
    desk.venue.streams.subscribe("linear", "allLiquidation.BTCUSDT")
    desk.until(6_000)
    rows = [r for e in desk.log if e.topic == "allLiquidation.BTCUSDT" for r in e.data]
    assert rows
    assert {r["S"] for r in rows} == {"Buy"}
    assert sum(D(r["v"]) for r in rows) == D("1.1")
