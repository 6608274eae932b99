"""The account's own routes: margin mode, collateral switches, transfers, log, fees, key."""

from dataclasses import replace
from decimal import Decimal as D

import pytest

from hedgelock.simulator.keys import KeyTerms
from hedgelock.simulator.scenarios import RatioTier, flat_ratio

MOVE = "asset/transfer/inter-transfer"
SWITCH = "account/set-collateral-switch"


def move(desk, transfer_id, coin, amount, *, into="FUND"):
    source = "UNIFIED" if into == "FUND" else "FUND"
    return desk.call("POST", MOVE, transferId=transfer_id, coin=coin, amount=amount,
                     fromAccountType=source, toAccountType=into)  # fmt: skip


def coin(desk, name):
    return next(c for c in desk.wallet()["coin"] if c["coin"] == name)


def test_only_cross_margin_can_be_set(desk):
    mode = "account/set-margin-mode"
    assert desk.post(mode, setMarginMode="REGULAR_MARGIN") == {"reasons": []}
    reply = desk.call("POST", mode, setMarginMode="PORTFOLIO_MARGIN")
    assert reply.code == 3400045
    (reason,) = reply.result["reasons"]
    assert set(reason) == {"reasonCode", "reasonMsg"}
    assert set(reply.body()) == {"retCode", "retMsg", "result"}, "as recorded: a bare envelope"
    assert desk.call("POST", mode, setMarginMode="X").code == 10001


def test_the_wallet_ratio_is_tiered(open_desk, quiet_scenario):
    """15 BTC at .95 up to 10 and .90 above are worth 14 BTC of margin, everywhere it shows."""
    tiers = (RatioTier(D(0), D(10), D("0.95")), RatioTier(D(10), None, D("0.9")))
    scenario = quiet_scenario()
    rich = replace(scenario.accounts[0], unified={"BTC": D(15)})
    margin = replace(scenario.margin, collateral_ratio={"BTC": tiers, "USDT": flat_ratio("1")})
    desk = open_desk(replace(scenario, accounts=(rich,), margin=margin))
    wallet = desk.wallet()
    assert wallet["totalEquity"] == "900000"
    assert wallet["totalWalletBalance"] == wallet["totalMarginBalance"] == "840000"
    rows = desk.get("spot-margin-trade/collateral", currency="BTC")["list"][0]
    assert rows["collateralRatioList"] == [
        {"minQty": "0", "maxQty": "10", "collateralRatio": "0.95"},
        {"minQty": "10", "maxQty": "", "collateralRatio": "0.9"},
    ]
    desk.order("Sell", "100", leverage="10")
    used = D(desk.wallet()["totalInitialMargin"])
    free = D(desk.get("account/withdrawal", coinName="BTC")["availableWithdrawal"])
    assert move(desk, "most", "BTC", str(free)).code == 0
    assert D(desk.wallet()["totalAvailableBalance"]) >= 0
    assert used > 590_000


def test_a_coin_that_is_switched_off_is_no_collateral(desk):
    """Its wallet stays, its margin value is gone, and it may leave freely."""
    desk.post(SWITCH, coin="BTC", collateralSwitch="OFF")
    assert desk.wallet()["totalMarginBalance"] == "6000"
    assert desk.wallet()["totalEquity"] == "12000"
    assert (coin(desk, "BTC")["collateralSwitch"], coin(desk, "BTC")["marginCollateral"]) == (
        False, True,
    )  # fmt: skip
    info = desk.get("account/collateral-info", currency="BTC")["list"][0]
    assert (info["collateralSwitch"], info["marginCollateral"]) == (False, True)
    desk.order("Sell", "0.9")
    assert desk.get("account/withdrawal", coinName="BTC")["availableWithdrawal"] == "0.1"
    desk.post(SWITCH, coin="BTC", collateralSwitch="ON")
    assert desk.wallet()["totalEquity"] != desk.wallet()["totalMarginBalance"]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"coin": "USDT", "collateralSwitch": "OFF"}, 182111),
        ({"coin": "DOGE", "collateralSwitch": "ON"}, 182111),
        ({"coin": "BTC", "collateralSwitch": "MAYBE"}, 10001),
        ({"collateralSwitch": "ON"}, 10001),
    ],
)
def test_switches_are_refused_with_their_code(desk, given, code):
    assert desk.call("POST", SWITCH, **given).code == code
    assert desk.account.idle == set()


def test_what_margin_needs_cannot_be_switched_off(desk):
    desk.order("Sell", "0.8")
    desk.order("Sell", "0.09", price="61000")
    assert desk.call("POST", SWITCH, coin="BTC", collateralSwitch="OFF").code == 0
    desk.post(SWITCH, coin="BTC", collateralSwitch="ON")
    desk.order("Sell", "0.3")
    assert desk.call("POST", SWITCH, coin="BTC", collateralSwitch="OFF").code == 182108
    assert desk.account.idle == set()


def test_what_is_switched_off_cannot_save_a_position(open_desk, quiet_scenario):
    """A short of 1 on 6,000 USDT falls at 65,800, although a whole idle BTC lies beside it."""
    rise = ((0, 60000), (3, 60000), (4, 65800))
    scenario = quiet_scenario()
    owner = replace(scenario.accounts[0], unified={"USDT": D(6000), "BTC": D(1)})
    prices = {"BTC": rise, "ETH": ((0, 3000),)}
    desk = open_desk(replace(scenario, accounts=(owner,), prices=prices))
    leverage = {"category": "linear", "symbol": "BTCUSDT"}
    desk.post("position/set-leverage", buyLeverage="20", sellLeverage="20", **leverage)
    desk.order("Sell", "1")
    desk.wait(2_000)
    desk.post(SWITCH, coin="BTC", collateralSwitch="OFF")
    desk.wait(5_000)
    assert desk.account.margin_liquidated_ms > 0


def test_inverse_contracts_need_their_coin_as_collateral(desk):
    """110101 while it is off; and it cannot be switched off under an open inverse position."""
    desk.post(SWITCH, coin="BTC", collateralSwitch="OFF")
    inverse = {"category": "inverse", "symbol": "BTCUSD"}
    assert desk.refused("Sell", "600", **inverse) == 110101
    desk.post(SWITCH, coin="BTC", collateralSwitch="ON")
    desk.order("Sell", "600", **inverse)
    assert desk.call("POST", SWITCH, coin="BTC", collateralSwitch="OFF").code == 182108


def test_a_batch_of_switches_is_all_or_nothing(desk):
    batch = "account/set-collateral-switch-batch"
    both = [{"coin": c, "collateralSwitch": "OFF"} for c in ("BTC", "ETH")]
    assert desk.post(batch, request=both)["list"] == both
    assert desk.account.idle == {"BTC", "ETH"}
    wrong = [{"coin": "BTC", "collateralSwitch": "ON"}, {"coin": "USDC", "collateralSwitch": "ON"}]
    assert desk.call("POST", batch, request=wrong).code == 182111
    assert desk.account.idle == {"BTC", "ETH"}
    assert desk.call("POST", batch, request=[both[0], both[0]]).code == 182112
    for bad in (None, [], "BTC", [1]):
        assert desk.call("POST", batch, request=bad).code == 10001


def test_a_transfer_may_take_its_time(desk):
    """PENDING: the coins have left one pocket, are in neither, and arrive at their instant."""
    x = desk.venue.exchange
    x.transfer_processing_ms = 1_500
    reply = move(desk, "slow", "USDT", "100")
    assert reply.result == {"transferId": "slow", "status": "PENDING"}
    assert (desk.balance("USDT"), desk.balance("USDT", "FUND")) == (5900, 0)
    rows = "asset/transfer/query-inter-transfer-list"
    desk.wait(1_499)
    assert desk.get(rows, transferId="slow")["list"][0]["status"] == "PENDING"
    assert [r["transferId"] for r in desk.get(rows, status="PENDING")["list"]] == ["slow"]
    assert move(desk, "slow", "USDT", "100").code == 131214, "the id works once, also meanwhile"
    desk.wait(1)
    assert desk.get(rows, transferId="slow")["list"][0]["status"] == "SUCCESS"
    assert desk.balance("USDT", "FUND") == 100
    move(desk, "back", "USDT", "40", into="UNIFIED")
    assert desk.balance("USDT") == 5900
    desk.wait(1_500)
    assert desk.balance("USDT") == 5940
    log = desk.get("account/transaction-log")["list"]
    assert [(r["type"], r["change"]) for r in log] == [
        ("TRANSFER_IN", "40"), ("TRANSFER_OUT", "-100"),
    ]  # fmt: skip
    assert int(log[0]["transactionTime"]) - int(log[1]["transactionTime"]) == 3_000
    assert all(total == 0 for total in x.ledger.totals().values())


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"amount": "7000"}, 131212),
        ({"amount": "0.000000001"}, 131210),
        ({"toAccountType": "UNIFIED"}, 131211),
        ({"fromAccountType": "CONTRACT"}, 131203),
        ({"coin": "DOGE"}, 131203),
    ],
)
def test_transfers_are_refused_with_their_code(desk, changes, code):
    given = {
        "transferId": "bad", "coin": "USDT", "amount": "1", "fromAccountType": "UNIFIED",
        "toAccountType": "FUND",
    }  # fmt: skip
    assert desk.call("POST", MOVE, **(given | changes)).code == code
    assert desk.account.transfers == {}


def test_the_log_is_filtered_and_paged(desk):
    """Types, coins, base coins, windows; pages of a cursor with %3A and %2C miss and repeat nothing."""
    for number in range(7):
        move(desk, f"t{number}", "USDT", "1")
        desk.wait(1_000)
    desk.order("Sell", "0.01")
    desk.order("Sell", "0.02", symbol="ETHUSDT")
    path = "account/transaction-log"
    assert {r["type"] for r in desk.get(path, type="TRANSFER_OUT")["list"]} == {"TRANSFER_OUT"}
    assert [r["symbol"] for r in desk.get(path, baseCoin="ETH")["list"]] == ["ETHUSDT"]
    assert desk.get(path, currency="BTC")["list"] == []
    assert len(desk.get(path, category="linear")["list"]) == 2
    seen, cursor = [], ""
    while True:
        page = desk.get(path, limit=2, cursor=cursor)
        seen += [r["id"] for r in page["list"]]
        cursor = page["nextPageCursor"]
        if not cursor:
            break
        assert "%3A" in cursor
        assert "%2C" in cursor
    assert len(seen) == len(set(seen)) == 9
    decoded = desk.get(path, limit=2)["nextPageCursor"].replace("%3A", ":").replace("%2C", ",")
    assert [r["id"] for r in desk.get(path, limit=2, cursor=decoded)["list"]] == seen[2:4]
    assert desk.call("GET", path, cursor="somewhere").code == 10001
    start = 1_700_000_000_000
    some = desk.get(path, startTime=start + 1_000, endTime=start + 2_000)["list"]
    assert len(some) == 2
    week = 7 * 86_400_000
    assert desk.call("GET", path, startTime=start, endTime=start + week + 1).code == 10001
    assert desk.call("GET", path, accountType="SPOT").code == 10001


def test_fees_of_every_category(desk):
    def fees(**params):
        return desk.get("account/fee-rate", **params)

    assert fees(category="linear", symbol="BTCUSDT")["list"] == [
        {"symbol": "BTCUSDT", "baseCoin": "", "takerFeeRate": "0.00055", "makerFeeRate": "0.0002"}
    ]
    assert {r["symbol"] for r in fees(category="inverse")["list"]} == {"BTCUSD", "ETHUSD"}
    assert fees(category="spot")["category"] == "spot"
    assert fees(category="spot")["list"][0]["makerFeeRate"] == "0.001"
    assert fees(category="option") == {"list": [], "category": "option"}
    assert desk.call("GET", "account/fee-rate", category="x").code == 10001


def test_the_key_tells_its_terms(desk):
    key = desk.get("user/query-api")
    assert (key["ips"], key["readOnly"]) == (["*"], 0)
    assert "Withdraw" not in key["permissions"]["Wallet"]
    assert key["permissions"]["Spot"] == ["SpotTrade"]
    day = 86_400_000
    desk.account.terms = KeyTerms(
        permissions={"Wallet": ("Withdraw",)}, ips=("1.2.3.4",), read_only=True,
        expires_ms=desk.now_ms + 3 * day + 5,
    )  # fmt: skip
    key = desk.get("user/query-api")
    assert (key["ips"], key["readOnly"], key["deadlineDay"]) == (["1.2.3.4"], 1, 3)
    assert key["permissions"] == {"Wallet": ["Withdraw"]}
    assert key["expiredAt"] == "2023-11-17T22:13:20Z"
    desk.account.terms = KeyTerms(expires_ms=desk.now_ms - 1)
    assert desk.get("user/query-api")["deadlineDay"] == 0


def test_realised_profit_of_all_time_shows_in_the_wallet(desk):
    """cumRealisedPnl = Σ profit − fees − funding of the coin's contracts, closed ones too."""
    desk.order("Sell", "0.1")
    desk.order("Buy", "0.1", reduceOnly=True)
    made = D(coin(desk, "USDT")["cumRealisedPnl"])
    assert made < 0
    assert made == desk.balance("USDT") - 6000


def test_reads_are_asked_within_their_bounds(desk):
    free = "account/withdrawal"
    assert desk.call("GET", free, coinName=",".join(["BTC"] * 21)).code == 10001
    balances = "asset/transfer/query-account-coins-balance"
    eleven = ",".join(f"C{n}" for n in range(11))
    assert desk.call("GET", balances, accountType="UNIFIED", coin=eleven).code == 10001
    assert desk.get("user/get-member-type")["accounts"][0]["accountType"] == ["UNIFIED", "FUND"]
    assert desk.get("account/instruments-info", category="spot")["list"][0]["symbol"] == "BTCUSDT"
