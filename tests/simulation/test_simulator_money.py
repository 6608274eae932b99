"""Money is conserved per coin to the last digit, and runs repeat exactly."""

import hashlib
import os
import random
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal as D
from pathlib import Path

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hedgelock.domain.money import trap_floats
from hedgelock.simulator.deeds import Deed
from hedgelock.simulator.generators import generated
from hedgelock.simulator.margin import Exposure
from hedgelock.simulator.money import HOUSE
from hedgelock.simulator.rows import wallet_row
from hedgelock.simulator.venue import Venue

pytestmark = pytest.mark.no_cover


def stops_at_random(call, desk, dice, *, base, mark, number):
    """Amendments, batches, conditional orders, TP/SL and self-matching, sensible or not."""
    near = f"{int(mark) + dice.randint(-300, 300)}"
    qty = f"{dice.randint(1, 300) / 1000:.3f}"
    known = [o.order_id for o in desk.account.open_orders.values()] or ["none"]
    listed = {k: base[k] for k in ("category", "symbol")}
    act = dice.randrange(7)
    if act == 0:
        call("POST", "order/amend", **listed, orderId=dice.choice(known), qty=qty, price=near)
    elif act == 1:
        orders = [
            {**base, "orderType": "Limit", "qty": qty, "price": near, "orderLinkId": f"b-{number}",
             "smpType": dice.choice(("None", "CancelMaker", "CancelTaker", "CancelBoth"))}
            for _ in range(dice.randint(1, 3))
        ]  # fmt: skip
        call("POST", "order/create-batch", category="linear", request=orders)
    elif act == 2:
        call("POST", "order/create", **base, orderType="Market", qty=qty, triggerPrice=near,
             triggerDirection=dice.choice((1, 2)), triggerBy=dice.choice(("LastPrice", "MarkPrice")),
             reduceOnly=dice.random() < 0.4)  # fmt: skip
    elif act == 3:
        call("POST", "order/create", **base, orderType="Market", qty=qty, takeProfit=near,
             smpType="CancelMaker")  # fmt: skip
    elif act == 4:
        call("POST", "position/trading-stop", **listed, positionIdx=0,
             **{dice.choice(("takeProfit", "stopLoss")): dice.choice((near, "0"))})  # fmt: skip
    elif act == 5:
        call("POST", "order/create", category="spot", symbol="BTCUSDT", side=base["side"],
             orderType="Limit", qty="0.01234", price=near)  # fmt: skip
    else:
        call("POST", "order/cancel", **listed, orderId=dice.choice(known))


def trade_at_random(desk, *, seed: int, steps: int):
    """Both accounts do everything they can, sensible or not; returns all responses."""
    dice = random.Random(seed)
    replies = []

    def call(method, path, **params):
        replies.append(desk.call(method, path, **params))

    for number in range(steps):
        desk.who = dice.choice(("hedgelock-sim", "unprotected-sim"))
        side = dice.choice(("Buy", "Sell"))
        act = dice.randrange(12)
        mark = desk.venue.exchange.market.quotes["linear.BTCUSDT"].mark
        base = {"category": "linear", "symbol": "BTCUSDT", "side": side}
        qty = f"{dice.randint(1, 400) / 1000:.3f}"
        if act < 2:
            reduce_only = dice.random() < 0.3
            call("POST", "order/create", **base, orderType="Market", qty=qty,
                 reduceOnly=reduce_only)  # fmt: skip
        elif act == 2:
            price = f"{int(mark) + dice.randint(-60, 60)}.{dice.randint(0, 9)}"
            tif = dice.choice(("GTC", "IOC", "FOK", "PostOnly"))
            call("POST", "order/create", **base, orderType="Limit", qty=qty, price=price,
                 timeInForce=tif, orderLinkId=f"r-{number}")  # fmt: skip
        elif act == 3:
            call("POST", "order/create", category="inverse", symbol="BTCUSD", side=side,
                 orderType="Market", qty=str(dice.randint(1, 9000)))  # fmt: skip
        elif act == 4:
            call("POST", "order/create", category="spot", symbol="BTCUSDT", side=side,
                 orderType="Market", qty="0.012345", marketUnit="baseCoin")  # fmt: skip
        elif act == 5:
            pockets = ["UNIFIED", "FUND"]
            dice.shuffle(pockets)
            call("POST", "asset/transfer/inter-transfer", transferId=f"t{number}",
                 coin=dice.choice(("USDT", "BTC")), amount=f"{dice.randint(1, 3000) / 7:.8f}",
                 fromAccountType=pockets[0], toAccountType=pockets[1])  # fmt: skip
        elif act == 6:
            call("POST", "crypto-loan-flexible/borrow", loanCurrency="USDT",
                 loanAmount=f"{dice.randint(1, 5000) / 3:.6f}")  # fmt: skip
        elif act == 7:
            call("POST", "crypto-loan-flexible/repay", loanCurrency="USDT",
                 amount=f"{dice.randint(1, 3000) / 3:.6f}")  # fmt: skip
        elif act == 8:
            call("POST", "crypto-loan-common/adjust-ltv", currency="BTC", amount="0.01",
                 direction=dice.choice("01"))  # fmt: skip
        else:
            stops_at_random(call, desk, dice, base=base, mark=mark, number=number)
        desk.wait(dice.randint(1, 900))
    return replies


@pytest.mark.parametrize("scenario", ["whipsaw", "crash", "mania"])
def test_money_is_conserved_over_a_random_run(open_desk, scenario):
    desk = open_desk(scenario, seed=7)
    replies = trade_at_random(desk, seed=11, steps=500)
    assert sum(r.code == 0 for r in replies) > 150
    x = desk.venue.exchange
    assert set(x.ledger.totals()) == {"BTC", "ETH", "USDT"}
    assert all(total == 0 for total in x.ledger.totals().values())
    assert x.ledger.balance("fees", "USDT") > 0
    assert sum(a.fees_usd for a in x.accounts.values()) > 0


def test_profit_is_the_negative_of_the_houses_once_all_is_closed(open_desk, quiet_scenario):
    """With everything flat again, what the accounts made is what the house and the fees lost."""
    desk = open_desk("whipsaw", seed=3)
    x = desk.venue.exchange
    before = {a.name: x.ledger.balance(a.unified, "USDT") for a in x.accounts.values()}
    for who, side in (("hedgelock-sim", "Sell"), ("unprotected-sim", "Buy")):
        desk.who = who
        desk.order(side, "0.35")
    desk.wait(15_000)
    open_profit = sum(
        Exposure(p.contract, p.size, p.entry_value, x.market.quotes[k].mark, p.leverage).upl
        for a in x.accounts.values()
        for k, p in a.positions.items()
    )
    assert abs(open_profit) < 2, "equal and opposite, but for the spread"
    for who, side in (("hedgelock-sim", "Buy"), ("unprotected-sim", "Sell")):
        desk.who = who
        desk.order(side, "0", reduceOnly=True, closeOnTrigger=True)
        assert desk.position()["size"] == "0"
    made = sum(x.ledger.balance(a.unified, "USDT") - before[a.name] for a in x.accounts.values())
    assert made == -x.ledger.balance(HOUSE, "USDT") - x.ledger.balance("fees", "USDT")


def test_the_log_adds_up_to_the_wallet(open_desk):
    desk = open_desk("whipsaw", seed=5)
    trade_at_random(desk, seed=23, steps=250)
    for account in desk.venue.exchange.accounts.values():
        for coin, opening in (("USDT", D(6000)), ("BTC", D("0.1"))):
            rows = [r for r in account.log if r["currency"] == coin]
            balance = desk.venue.exchange.ledger.balance(account.unified, coin)
            assert opening + sum(D(r["change"]) for r in rows) == balance
            if rows:
                assert D(rows[-1]["cashBalance"]) == balance


def test_same_seed_and_same_requests_give_the_same_bytes(open_desk):
    logs = []
    for _ in range(2):
        desk = open_desk("whipsaw", seed=9)
        desk.venue.streams.subscribe("linear", "tickers.BTCUSDT")
        desk.venue.streams.subscribe("linear", "orderbook.50.BTCUSDT")
        replies = trade_at_random(desk, seed=31, steps=200)
        logs.append(msgspec.json.encode([desk.log, replies]))
    assert logs[0] == logs[1]
    other = open_desk("whipsaw", seed=10)
    trade_at_random(other, seed=31, steps=20)
    assert msgspec.json.encode(other.log) != logs[0]


# ---------------------------------------------------------------------- any run, any world

T0 = 1_700_000_000_000
SYMBOLS = ("linear.BTCUSDT", "inverse.BTCUSD", "linear.ETHUSDT")
ACCOUNTS = ("hedgelock-sim", "unprotected-sim")


class Driver:
    """As much of a desk as `trade_at_random` needs, importable by another process."""

    def __init__(self, scenario, *, seed: int, tick_ms: int) -> None:
        self.venue = Venue(scenario, now_ms=T0, seed=seed, tick_ms=tick_ms, limits_factor=1000)
        self.now_ms, self.who, self.log = T0, ACCOUNTS[0], []

    @property
    def account(self):
        return self.venue.exchange.accounts[self.who]

    def call(self, method, path, **params):
        return self.venue.request(
            method, f"/v5/{path}", params, account=self.who, now_ms=self.now_ms
        )

    def wait(self, ms: int) -> None:
        self.now_ms += ms
        self.venue.advance(self.now_ms)
        self.log += self.venue.drain()


def deeds():
    """Anything that moves money or breaks margin, within the first ten minutes."""
    at_s = st.floats(0.5, 600, allow_nan=False).map(lambda s: round(s, 1))
    share = st.integers(1, 100).map(lambda n: D(n) / 100)
    size = st.integers(1, 30).map(lambda n: D(n) / 10)
    symbol = st.sampled_from(SYMBOLS)
    side = st.sampled_from(("Buy", "Sell"))
    who = st.sampled_from(ACCOUNTS)
    return st.one_of(
        st.builds(Deed, at_s, st.just("adl"), account=who, symbol=symbol, amount=share),
        st.builds(
            Deed, at_s, st.just("price_gap"), coin=st.sampled_from(("BTC", "ETH")),
            amount=st.integers(-60, 150).filter(bool).map(lambda n: D(n) / 100),
        ),
        st.builds(Deed, at_s, st.just("funding_interval"), symbol=symbol, amount=st.just(D(1))),
        st.builds(Deed, at_s, st.just("ratio_cut"), coin=st.just("BTC"), amount=share),
        st.builds(Deed, at_s, st.just("insurance_drain"), coin=st.sampled_from(("USDT", "BTC", "linear.ETHUSDT"))),
        st.builds(
            Deed, at_s, st.just("human_order"), account=who, symbol=symbol, side=side, amount=size
        ),
        st.builds(Deed, at_s, st.just("bystander"), symbol=symbol, side=side, amount=size),
    )  # fmt: skip


WORLDS = {
    "plan": st.lists(deeds(), max_size=12), "seed": st.integers(0, 10_000),
    "target": st.sampled_from((None, D("0.8"))), "delayed_s": st.sampled_from((None, 5.0)),
}  # fmt: skip
UNSHRUNK = (Phase.explicit, Phase.reuse, Phase.generate)  # shrinking would outlast the test


@settings(max_examples=20, phases=UNSHRUNK)
@given(**WORLDS)
def test_no_world_makes_or_loses_money(plan, seed, target, delayed_s):
    """Orders, funding, interest, loans, transfers, liquidations, ADL: Σ holders stays 0 per coin."""
    live_through(plan, seed, target, delayed_s)


@pytest.mark.soak
@pytest.mark.timeout(900)
@settings(max_examples=600, phases=UNSHRUNK)
@given(**WORLDS)
def test_no_world_at_all_makes_or_loses_money(plan, seed, target, delayed_s):
    live_through(plan, seed, target, delayed_s)


def live_through(plan, seed, target, delayed_s):
    """An hour of a stormy market with these deeds, then the audit of every holder and every log."""
    base = generated("storm", seed=seed % 7)
    loan = replace(base.loan, liquidation_target=target, delayed_s=delayed_s)
    scenario = replace(
        base, deeds=tuple(plan), loan=loan, intervals_h={"BTC": 1}, insurance={"USDT": D(3000), "BTC": D("0.01"), "linear.ETHUSDT": D(20)}
    )
    desk = Driver(scenario, seed=seed, tick_ms=20_000)
    trade_at_random(desk, seed=seed, steps=40)
    desk.wait(3_700_000)
    x = desk.venue.exchange
    assert all(total == 0 for total in x.ledger.totals().values())
    for account in x.accounts.values():
        assert all(b >= 0 for p in (account.fund, account.pledged) for b in x.ledger.coins(p).values())
        assert all(d.total >= 0 for d in account.debts.values())
        for coin, balance in x.ledger.coins(account.unified).items():
            opening = next(
                (s.unified.get(coin, D(0)) for s in scenario.accounts if s.key == account.name), None
            )
            if opening is not None:
                changes = sum(D(r["change"]) for r in account.log if r["currency"] == coin)
                assert opening + changes == balance, "the log explains every digit"


REPEATED = """
import sys
sys.path.insert(0, {here!r})
from test_simulator_money import fingerprint
print(fingerprint())
"""


def fingerprint() -> str:
    """Hash of all events and responses of one busy run in virtual time."""
    trap_floats()  # with its precision: what ran before in this process may have set another
    plan = (
        Deed(20, "price_gap", coin="BTC", amount=D("-0.12")),
        Deed(25, "adl", account=ACCOUNTS[0], symbol=SYMBOLS[0], amount=D("0.5")),
        Deed(40, "bystander", symbol=SYMBOLS[0], side="Sell", amount=D(2)),
        Deed(50, "funding_interval", symbol=SYMBOLS[1], amount=D(1)),
    )
    desk = Driver(replace(generated("mania", seed=4), deeds=plan), seed=4, tick_ms=10_000)
    for category, topic in (
        ("linear", "tickers.BTCUSDT"), ("linear", "orderbook.50.ETHUSDT"),
        ("inverse", "publicTrade.BTCUSD"), ("linear", "kline.1.BTCUSDT"),
        ("linear", "allLiquidation.BTCUSDT"), ("spot", "tickers.BTCUSDT"),
    ):  # fmt: skip
        assert desk.venue.streams.contract(category, topic)
        desk.venue.streams.subscribe(category, topic)
    replies = trade_at_random(desk, seed=77, steps=150)
    desk.wait(3_700_000)
    assert sum(r.code == 0 for r in replies) > 40
    return hashlib.sha256(msgspec.json.encode([desk.log, replies])).hexdigest()


def test_the_same_run_is_the_same_in_another_process_with_another_hash_seed():
    """Byte-identical event logs: nothing depends on the order of sets or on addresses."""
    code = REPEATED.format(here=str(Path(__file__).parent))
    path = os.pathsep.join(sys.path)
    found = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": path},
        ).stdout.strip()
        for seed in ("1", "2")
    }  # fmt: skip
    assert found == {fingerprint()}


def test_a_wallet_has_no_more_digits_than_the_exchange_sends(open_desk):
    """After partial closes at odd sizes every amount is still one that a client parses."""
    desk = open_desk("whipsaw", seed=3)
    for side, qty in (("Sell", "0.347"), ("Buy", "0.113"), ("Sell", "0.059"), ("Buy", "0.071")):
        desk.order(side, qty)
        desk.wait(2_000)
    account = desk.venue.exchange.accounts["hedgelock-sim"]
    coins = wallet_row(desk.venue.exchange, account)["coin"]
    shown = {f"{row['coin']}.{name}": row[name] for row in coins for name in ("equity", "unrealisedPnl")}
    longest = {name: len(text.partition(".")[2]) for name, text in shown.items()}
    assert max(longest.values()) <= 18, shown
    assert shown["USDT.unrealisedPnl"] != "0"
