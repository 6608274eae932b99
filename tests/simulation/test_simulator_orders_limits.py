"""Limits of orders: price bands, quantities, caps, self-matching, slippage, the pre-check."""

from dataclasses import replace
from decimal import Decimal as D

import pytest

from hedgelock.simulator.matching import BookShape
from hedgelock.simulator.orders import OPEN_STATUSES
from hedgelock.simulator.streams import public_frame

LISTED = {"category": "linear", "symbol": "BTCUSDT"}


def quote_of(desk):
    return desk.venue.exchange.market.quotes["linear.BTCUSDT"]


@pytest.mark.parametrize(
    ("mark", "index", "buy", "sell"),
    [
        ("60000", "60000", "60600", "59400"),
        ("60000", "60900", "60900", "58800"),
        ("60000", "63000", "61200", "58800"),
        ("60000", "59000", "61200", "59000"),
        ("60000", "57000", "61200", "58800"),
    ],
)
def test_price_limits_follow_mark_and_index(desk, mark, index, buy, sell):
    """max buy = min(M·1.02, max(I, M·1.01 + max(0, M − I))), min sell mirrored (fact sheet §2.3)."""
    quote = quote_of(desk)
    quote.mark, quote.index = D(mark), D(index)
    row = desk.get("market/price-limit", **LISTED)
    assert (row["buyLmt"], row["sellLmt"], row["ts"]) == (buy, sell, str(desk.now_ms))


def test_price_limits_are_streamed_every_three_ticks(desk):
    """priceLimit.{symbol}: a bare object each 300 ms, without a type, only where somebody listens."""
    desk.wait(600)
    desk.venue.streams.subscribe("linear", "priceLimit.BTCUSDT")
    desk.wait(900)
    frames = [public_frame(e) for e in desk.log if e.topic.startswith("priceLimit")]
    assert len(frames) == 3
    assert {tuple(f) for f in frames} == {("topic", "ts", "data")}
    assert frames[0]["data"] == {"symbol": "BTCUSDT", "buyLmt": "60600", "sellLmt": "59400"}
    assert frames[1]["ts"] - frames[0]["ts"] == 300


def leverage(desk, times):
    given = {**LISTED, "buyLeverage": times, "sellLeverage": times}
    return desk.call("POST", "position/set-leverage", **given).code


def test_leverage_bounds_the_tier_that_orders_may_reach(desk):
    """At 100× the second tier (90×, from 2,000,000) is closed: 110090; position and orders count."""
    assert leverage(desk, "100") == 0
    assert desk.refused("Sell", "35", price="60000") == 110090
    assert desk.refused("Sell", "33", price="60000") == 110007, "within the tier margin decides"
    desk.order("Sell", "5", price="61000")
    assert desk.refused("Sell", "29", price="61000") == 110090
    assert leverage(desk, "10") == 110007, "too dear for the open order"
    desk.post("order/cancel-all", **LISTED)
    assert leverage(desk, "10") == 0
    assert desk.refused("Sell", "35", price="60000") == 110007


def test_a_held_position_bounds_the_leverage(open_desk, quiet_scenario):
    """A position in the third tier (80×) refuses more than 80× by 110013."""
    rich = tuple(
        replace(a, unified={**a.unified, "USDT": D(1_000_000)}) for a in quiet_scenario().accounts
    )
    book = BookShape(level_notional=5_000_000)
    desk = open_desk(replace(quiet_scenario(), accounts=rich, book=book))
    desk.order("Sell", "45")
    assert leverage(desk, "85") == 110013
    assert leverage(desk, "80") == 0


def test_beyond_the_limit_a_price_is_clipped_or_refused_as_set(desk):
    """The account chooses per category; the default clips derivatives and refuses spot."""
    far = {"price": "65000", "timeInForce": "IOC"}
    assert desk.order("Buy", "0.01", **far)["price"] == "60600"
    action = {"category": "linear", "modifyEnable": False}
    assert desk.call("POST", "account/set-limit-px-action", **action).code == 0
    assert desk.refused("Buy", "0.01", **far) == 30208
    assert desk.refused("Sell", "0.01", price="50000") == 30209
    assert desk.order("Buy", "0.01", price="60600")["price"] == "60600"
    spot = {"category": "spot", "price": "60700"}
    assert desk.refused("Buy", "0.01", **spot) == 170193
    desk.post("account/set-limit-px-action", category="spot", modifyEnable="true")
    assert desk.order("Buy", "0.01", **spot)["price"] == "60600"
    assert desk.call("POST", "account/set-limit-px-action", category="option").code == 10001
    assert desk.call("POST", "account/set-limit-px-action", category="linear").code == 10001


def test_a_price_that_only_helps_the_counterparty_of_nobody_is_not_limited(desk):
    """A buy far below and a sell far above the market rest where they are."""
    assert desk.order("Buy", "0.01", price="30000")["price"] == "30000"
    assert desk.order("Sell", "0.01", price="90000")["price"] == "90000"
    assert desk.refused("Sell", "0.01", price="2000000") == 110003


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"qty": "501"}, 10001),
        ({"qty": "1191", "orderType": "Limit", "price": "60000"}, 10001),
        ({"qty": "1191", "orderType": "Limit", "price": "60000", "timeInForce": "PostOnly"}, 10001),
        ({"category": "spot", "qty": "42"}, 170124),
        ({"category": "spot", "qty": "84", "orderType": "Limit", "price": "60000"}, 170124),
        ({"category": "spot", "qty": "84", "orderType": "Limit", "price": "60000",
          "timeInForce": "PostOnly"}, 170131),
        ({"category": "spot", "qty": "0"}, 170136),
        ({"category": "spot", "qty": "0.00005", "orderType": "Limit", "price": "60000"}, 170140),
        ({"smpType": "Cancel"}, 10001),
        ({"slippageToleranceType": "Percent", "slippageTolerance": "11"}, 10001),
        ({"slippageToleranceType": "Ticks", "slippageTolerance": "1"}, 10001),
    ],
)  # fmt: skip
def test_quantities_have_their_own_limits_by_kind(desk, changes, code):
    given = {**LISTED, "side": "Sell", "orderType": "Market", "qty": "0.01", **changes}
    assert desk.call("POST", "order/create", **given).code == code


def test_five_hundred_active_orders_per_symbol(desk):
    """The 501st is refused by 110020; another symbol, and one less, are accepted."""
    first = desk.order("Buy", "0.001", price="30000")
    for _ in range(499):
        desk.order("Buy", "0.001", price="30000")
    assert desk.refused("Buy", "0.001", price="30000") == 110020
    assert desk.order("Buy", "0.01", symbol="ETHUSDT", price="1500")["orderStatus"] == "New"
    desk.post("order/cancel", **LISTED, orderId=first["orderId"])
    assert desk.order("Buy", "0.001", price="30000")["orderStatus"] == "New"


def test_five_hundred_spot_orders_in_all(desk):
    for _ in range(500):
        desk.order("Buy", "0.0002", category="spot", price="30000")
    assert desk.refused("Buy", "0.0002", category="spot", price="30000") == 170810


def test_a_market_orders_own_slippage_bounds_it(open_desk, quiet_scenario):
    """Levels stand 5 ticks apart from 60,000.1: a bound of 3 ticks reaches one, of 8 two."""
    book = BookShape(levels=5, level_notional=1_000, growth=0.0)
    for ticks, most in (("3", "60000.4"), ("8", "60000.9")):
        desk = open_desk(replace(quiet_scenario(), book=book))
        bound = {"slippageToleranceType": "TickSize", "slippageTolerance": ticks}
        row = desk.order("Buy", "1", **bound)
        fills = desk.get("execution/list", **LISTED)["list"]
        assert row["orderStatus"] == "Cancelled"
        assert row["rejectReason"] == "EC_NoEnoughQtyToFill"
        assert max(D(f["execPrice"]) for f in fills) <= D(most)
        assert len(fills) == 1 + (ticks == "8")


@pytest.mark.parametrize(
    ("smp", "maker", "taker", "size"),
    [
        ("None", "Filled", "Filled", "0"),
        ("CancelMaker", "Cancelled", "Filled", "0.1"),
        ("CancelTaker", "New", "Cancelled", "0"),
        ("CancelBoth", "Cancelled", "Cancelled", "0"),
    ],
)
def test_orders_of_one_account_meet_as_their_smp_type_says(desk, smp, maker, taker, size):
    """The taker's smpType decides; cancelled ones name cancelType CancelBySmp and the other order."""
    mine = desk.order("Sell", "0.1", price="60000", timeInForce="PostOnly")
    order = desk.order("Buy", "0.1", smpType=smp)
    rows = {"maker": desk.row(mine["orderId"]), "taker": desk.row(order["orderId"])}
    assert {k: r["orderStatus"] for k, r in rows.items()} == {"maker": maker, "taker": taker}
    for row, other in ((rows["maker"], rows["taker"]), (rows["taker"], rows["maker"])):
        if row["orderStatus"] == "Cancelled":
            assert (row["cancelType"], row["smpOrderId"]) == ("CancelBySmp", other["orderId"])
    assert desk.position()["size"] == size
    assert rows["taker"]["smpType"] == smp


def test_reduce_only_orders_met_by_one_taker_never_turn_the_position(desk):
    """Held .1, resting .06 and .08 to reduce it: a taker of .14 leaves the holder flat."""
    desk.order("Buy", "0.1")
    for qty in ("0.06", "0.08"):
        desk.order("Sell", qty, price="60000", reduceOnly=True, timeInForce="PostOnly")
    desk.who = "unprotected-sim"
    assert desk.order("Buy", "0.14")["orderStatus"] == "Filled"
    assert desk.position()["size"] == "0.14"
    desk.who = "hedgelock-sim"
    assert desk.position()["size"] == "0"
    assert len(desk.account.open_orders) == 0
    history = desk.get("order/history", **LISTED)["list"]
    assert [(r["qty"], r["orderStatus"]) for r in history[:2]] == [
        ("0.04", "Filled"), ("0.06", "Filled"),
    ]  # fmt: skip


def test_a_reduce_only_order_cut_while_it_is_met_rests_with_what_is_left(desk):
    """Of .08 cut to .04 while .02 is taken, .02 stays in the book, not .06."""
    desk.order("Buy", "0.1")
    for qty in ("0.06", "0.08"):
        desk.order("Sell", qty, price="60000", reduceOnly=True, timeInForce="PostOnly")
    desk.who = "unprotected-sim"
    desk.order("Buy", "0.08", price="60000")
    desk.order("Buy", "0.08", price="60000", timeInForce="IOC")
    assert desk.position()["size"] == "0.1"
    desk.who = "hedgelock-sim"
    assert desk.position()["size"] == "0"


def test_self_match_prevention_trades_with_the_others_first(desk):
    """Price-time order holds up to the own order: what stands before it is filled."""
    desk.who = "unprotected-sim"
    desk.order("Sell", "0.03", price="59999.95".replace(".95", ".9"), timeInForce="GTC")
    desk.who = "hedgelock-sim"
    desk.order("Sell", "0.1", price="60000", timeInForce="PostOnly")
    desk.who = "unprotected-sim"
    desk.order("Sell", "0.03", price="60000", timeInForce="PostOnly")
    desk.who = "hedgelock-sim"
    row = desk.order("Buy", "0.05", price="60000", smpType="CancelMaker")
    assert (row["cumExecQty"], row["orderStatus"]) == ("0.03", "PartiallyFilled")


def test_the_pre_check_tells_margin_rates_and_places_nothing(desk):
    """Rates × 10,000 before and after; 110007 carries the rates in retExtInfo."""
    body = {**LISTED, "side": "Sell", "orderType": "Market"}
    reply = desk.post("order/pre-check", **body, qty="0.1", orderLinkId="p")
    assert (reply["preImrE4"], reply["preMmrE4"], reply["orderLinkId"]) == (0, 0, "p")
    assert 450 < reply["postImrE4"] < 550
    assert 0 < reply["postMmrE4"] < reply["postImrE4"]
    assert desk.account.orders == []
    placed = desk.order("Sell", "0.1", orderLinkId="p")
    assert placed["orderStatus"] == "Filled"
    refused = desk.call("POST", "order/pre-check", **body, qty="40")
    assert (refused.code, set(refused.ext)) == (110007, {"post_imr_e4", "post_mmr_e4"})
    once = {**body, "side": "Buy", "reduceOnly": True}
    halved = desk.post("order/pre-check", **once, qty="0.05")
    assert halved["postImrE4"] < halved["preImrE4"]
    turned = desk.post("order/pre-check", **{**body, "side": "Buy"}, qty="0.3")
    assert turned["postImrE4"] > turned["preImrE4"]
    assert desk.position()["size"] == "0.1"
    inverse = {**body, "category": "inverse", "symbol": "BTCUSD", "qty": "100"}
    assert desk.call("POST", "order/pre-check", **inverse).code == 10001
    stop = {**body, "qty": "0.1", "triggerPrice": "59000", "triggerDirection": 2}
    assert desk.call("POST", "order/pre-check", **stop).code == 10001


@pytest.mark.no_cover
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_sums_of_open_orders_equal_a_scan(open_desk, seed):
    """Whatever happens to orders, the kept sums are those of adding up what is open."""
    from test_simulator_money import trade_at_random

    desk = open_desk("whipsaw", seed=seed)
    trade_at_random(desk, seed=seed, steps=150)
    resting = set()
    for account in desk.venue.exchange.accounts.values():
        orders = account.open_orders
        assert {o.order_id for o in account.orders if o.status in OPEN_STATUSES} == set(orders)
        for key, crowd in orders.by_contract.items():
            active = [o for o in orders.values() if o.contract.key == key and o.trigger is None]
            active += [o for o in orders.values() if o.contract.key == key and o.trigger
                       and o.status != "Untriggered"]  # fmt: skip
            assert set(crowd.active) == {o.order_id for o in active}
            resting |= set(crowd.active)
            adding = [o.signed_lots for o in active if not o.only_reduces and not o.contract.is_spot]
            assert crowd.buying == sum(max(0, lots) for lots in adding)
            assert crowd.selling == sum(max(0, -lots) for lots in adding)
    assert set(desk.venue.exchange.resting) == resting
