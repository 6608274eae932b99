"""The backtest's pockets and the simulated exchange's, along one path: the same money, the same cliffs."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from decimal import Decimal as D

import pytest
from tapes import T0, setting, tape

from hedgelock.backtest.account import Account
from hedgelock.backtest.engine import run
from hedgelock.backtest.plans import BASELINES, Plan
from hedgelock.backtest.terms import Terms
from hedgelock.domain.inflight import Purpose
from hedgelock.domain.order import Side
from hedgelock.domain.policy import HedgePolicy
from hedgelock.domain.situation import HedgeReason, OrderAction, Situation
from hedgelock.domain.sizing import Decision, Numbers
from hedgelock.history.tape import HOUR_MS
from hedgelock.simulator import loans
from hedgelock.simulator.scenarios import LOAN_TERMS, SCENARIOS, AccountSetup
from hedgelock.simulator.venue import Venue

ME = "hedgelock-sim"
TERMS = Terms(slippage=D(0), loan_apr=LOAN_TERMS.hourly_rate * 8760)
CENT = D("0.01")


class Desk:
    """One account at the simulated exchange, on a path given hour by hour."""

    def __init__(self, prices: list[float], rates: dict[int, str], debt: str) -> None:
        setup = AccountSetup(
            ME, "s", unified={"USDT": D(4000), "BTC": D("0.1")}, collateral={"BTC": D(1)},
            debt={"USDT": D(debt)},
        )
        scenario = replace(
            SCENARIOS["calm"], noise_bps=0.0, duration_s=3600.0 * len(prices), accounts=(setup,),
            prices={"BTC": tuple((3600.0 * h, p) for h, p in enumerate(prices))}, funding={},
            settlements={"BTC": tuple((3600.0 * h, D(r)) for h, r in rates.items())},
        )
        self.venue = Venue(scenario, now_ms=T0, tick_ms=60_000, limits_factor=1000)
        self.now_ms = T0

    @property
    def account(self):
        return self.venue.exchange.accounts[ME]

    def hour(self, hour: int) -> Decimal:
        """Go to the end of hour `hour`, everything due then included; the mark just before it.

        The exchange settles before it takes the price of that instant.
        """
        self.now_ms = T0 + hour * HOUR_MS
        self.venue.advance(self.now_ms - 1)
        mark, _ = self.prices()
        self.venue.advance(self.now_ms)
        return mark

    def post(self, path: str, **params: object) -> None:
        reply = self.venue.request("POST", f"/v5/{path}", params, account=ME, now_ms=self.now_ms)
        assert reply.code == 0, reply

    def trade(self, side: str, qty: str) -> Decimal:
        """A market order; returns its average price."""
        self.post("order/create", category="linear", symbol="BTCUSDT", side=side, qty=qty,
                  orderType="Market")  # fmt: skip
        rows = [r for r in self.account.executions if r["orderId"] == self.account.orders[-1].order_id]
        value = sum((D(r["execValue"]) for r in rows), D(0))
        return value / D(qty)

    def balance(self, coin: str, pocket: str) -> Decimal:
        return self.venue.exchange.ledger.balance(f"{ME}/{pocket}", coin)

    def prices(self) -> tuple[Decimal, Decimal]:
        """Mark and index."""
        market = self.venue.exchange.market
        return market.quotes["linear.BTCUSDT"].mark, market.index["BTC"]


def assert_same(desk: Desk, ours: Account) -> None:
    """Cash, coins, FUND, debt, collateral, short, LTV, accountMMRate and what may leave."""
    x, theirs = desk.venue.exchange, desk.account
    mark, index = desk.prices()
    position = x.position(theirs, x.contracts["linear.BTCUSDT"])
    debt = theirs.debts["USDT"].total
    for got, known in (
        (ours.cash, desk.balance("USDT", "UNIFIED")), (ours.coins, desk.balance("BTC", "UNIFIED")),
        (ours.fund, desk.balance("USDT", "FUND")), (ours.debt, debt),
        (ours.collateral, desk.balance("BTC", "LOAN")), (ours.short, -position.size),
        (ours.entry_value, position.entry_value), (ours.ltv(index), loans.ltv(x, theirs)),
        (ours.report(mark, index).mm_rate, x.report(theirs).mm_rate),
    ):
        assert abs(got - known) < D("1E-5")
    reply = desk.venue.request("GET", "/v5/account/withdrawal", {"coinName": "USDT"}, account=ME,
                               now_ms=desk.now_ms)  # fmt: skip
    free = D(reply.result["availableWithdrawalMap"]["USDT"])
    assert abs(ours.withdrawable(mark, index) - free) < CENT


def opened(debt: str) -> Account:
    return Account(TERMS, cash=D(4000), coins=D("0.1"), debt=D(debt), collateral=D(1))


def test_one_path_through_both() -> None:
    """Hours of trades, funding of both signs, interest, transfers, repayments, sold collateral."""
    prices = [40_000, 39_500, 38_200, 37_000, 37_800, 36_500, 36_000, 37_200, 38_500, 38_000, 39_000]
    rates = {2: "0.0004", 5: "-0.0009", 9: "0.0001"}
    desk, ours = Desk(prices, rates, "26000"), opened("26000")
    ours.sell(D("0.6"), desk.trade("Sell", "0.6"))
    for hour in range(1, len(prices)):
        mark = desk.hour(hour)
        ours.accrue(mark)
        if hour in rates:
            ours.settle_funding(D(rates[hour]), mark)
        assert_same(desk, ours)
        if hour == 3:
            ours.buy(D("0.25"), desk.trade("Buy", "0.25"))
            desk.post("asset/transfer/inter-transfer", transferId="a", coin="USDT", amount="900",
                      fromAccountType="UNIFIED", toAccountType="FUND")  # fmt: skip
            desk.post("crypto-loan-flexible/repay", loanCurrency="USDT", amount="700")
            ours.cash, ours.fund = ours.cash - 900, ours.fund + 900
            ours.repay(D(700))
        if hour == 6:
            desk.post("crypto-loan-flexible/repay-collateral", loanCurrency="USDT", amount="500",
                      collateralCoin="BTC")  # fmt: skip
            ours.sell_collateral(D(500), desk.prices()[1])
        if hour == 7:
            ours.sell(D("0.3"), desk.trade("Sell", "0.3"))
        assert_same(desk, ours)
    assert ours.costs.funding < 0 < ours.costs.interest


def test_the_loan_s_cliff_is_the_same() -> None:
    """The hour of liquidation, what is sold and what comes back; the exchange looks once a minute."""
    prices = [40_000, 39_000, 37_500, 36_000, 34_000, 31_000, 33_000]
    desk = Desk(prices, {}, "31000")
    desk.hour(6)
    hour = (desk.account.loan_liquidated_ms - T0) // HOUR_MS
    ours = run(tape(prices[1:], first=prices[0]), BASELINES["unhedged"],
               setting(ltv="0.775"), terms=TERMS)
    assert [e.kind for e in ours.events] == ["loan_liquidated"]
    assert ours.events[0].bar == hour
    assert ours.account.debt == desk.account.debts["USDT"].total == 0
    assert float(ours.account.free_coins) == pytest.approx(float(desk.balance("BTC", "FUND")), abs=2e-3)


def test_the_margin_s_cliff_is_the_same() -> None:
    """A short that a rally kills dies in the same hour."""
    prices = [40_000, 41_000, 43_000, 46_000, 50_000, 56_000]
    desk = Desk(prices, {}, "20000")
    desk.trade("Sell", "0.9")
    desk.hour(5)
    first = next(r for r in desk.account.log if r["type"] in ("LIQUIDATION", "CURRENCY_SELL"))
    hour = (int(first["transactionTime"]) - T0) // HOUR_MS

    def once(s: Situation) -> Decision:
        order = OrderAction(Side.SELL, D("0.9"), reduce_only=False, protective=True,
                            purpose=Purpose.HEDGE, reason=HedgeReason.HEDGE_RAISED)
        return Decision((order,) if not s.exposure.held else (), order.reason,
                        Numbers(D(0), D(0), D(0)))

    ours = run(tape(prices[1:], first=prices[0]), Plan("once", HedgePolicy(), decider=once),
               setting(ltv="0.5"), terms=TERMS)
    assert [e.kind for e in ours.events] == ["hedge", "margin_liquidated"]
    assert ours.events[1].bar == hour

