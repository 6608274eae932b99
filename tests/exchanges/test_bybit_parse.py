"""Bybit's payloads, recorded and documented, and what is refused."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from exchanges.bybit_samples import (
    COIN,
    EXECUTION,
    ORDER,
    POSITION,
    SEEN,
    SNAPSHOT,
    TIER,
    TIER_2,
    frame,
)
from hedgelock.domain.money import parse_decimal
from hedgelock.domain.order import OrderStatus, Side
from hedgelock.errors import BadMessage
from hedgelock.exchanges import bybit_market as market
from hedgelock.exchanges import bybit_parse as parse
from hedgelock.exchanges.bybit_market import TickerMerge
from hedgelock.exchanges.fields import Row, decode_json

ENDPOINTS = "data/payloads/bybit_net/Endpoints/V5Api"


def documented(shared: Path, name: str) -> Row:
    """The result of a documentation sample."""
    return Row(json.loads((shared / ENDPOINTS / f"{name}.json").read_text())["response"]["result"])


def recorded(shared: Path, method: str, words: str) -> Row:
    """The result of a response recorded from a real account."""
    path = shared / "data/payloads/ccxt_static/bybit_response_subset.json"
    for entry in json.loads(path.read_text())["methods"][method]:
        if words in entry["description"]:
            return Row(entry["httpResponse"]["result"])
    raise AssertionError(f"{method}: {words}")


def pushed(shared: Path, name: str) -> list[Row]:
    """The data rows of a documented private push."""
    path = shared / f"data/payloads/bybit_net/Subscriptions/V5/Private/{name}.json"
    frames = [step["json"] for step in json.loads(path.read_text())["steps"]]
    return [row for f in frames if "topic" in f for row in Row(f).rows("data")]


# ---------------------------------------------------------------- recorded


def test_a_recorded_wallet_is_read_to_the_digit(shared: Path) -> None:
    """Coins of a real wallet-balance come out as the venue wrote them."""
    account = recorded(shared, "fetchBalance", "balance").rows("list")[0]
    coins = {c.coin: c for c in map(parse.parse_coin, account.rows("coin"))}
    for row in account.rows("coin"):
        coin = coins[row.text("coin")]
        assert coin.wallet_qty == Decimal(row.text("walletBalance"))
        assert coin.upl == Decimal(row.text("unrealisedPnl"))
    assert account.decimal("totalMarginBalance") == Decimal("90042.2788482")


def test_a_recorded_flat_position_is_zero_and_not_an_error(shared: Path) -> None:
    """A flat row has "" for side, value and liquidation price: size 0, no liquidation price."""
    row = recorded(shared, "fetchPosition", "flat").rows("list")[0]
    position = parse.parse_position(row, category="linear")
    assert position is not None
    assert (position.position_qty, position.liquidation_price) == (0, None)


def test_a_documented_short_position_is_negative(shared: Path) -> None:
    """Side Sell makes the quantity negative; inverse sizes are USD."""
    row = documented(shared, "Trading/GetPositions").rows("list")[0]
    position = parse.parse_position(row, category="inverse")
    assert position is not None
    assert position.instrument == "inverse:BTCUSD"
    assert position.position_qty == -300
    assert position.entry_price == Decimal("27464.50441675")
    assert position.seq == 5723621632


@pytest.mark.parametrize(
    ("method", "words", "category"),
    [("fetchClosedOrder", "swap", "linear"), ("fetchOrder", "spot", "spot")],
)
def test_recorded_orders_are_read(shared: Path, method: str, words: str, category: str) -> None:
    """Real order rows, with filled = cumExecQty and a known status."""
    row = recorded(shared, method, words).rows("list")[0]
    report = parse.parse_order(row, category=category, seen=SEEN)
    assert report.filled_qty == Decimal(row.text("cumExecQty"))
    assert report.status.is_terminal


def test_a_documented_order_hedge_mode_row_is_read(shared: Path) -> None:
    """A resting order is NEW and carries the venue's id."""
    row = documented(shared, "Trading/GetOrders").rows("list")[0]
    report = parse.parse_order(row, category="linear", seen=SEEN)
    assert (report.status, report.side) == (OrderStatus.NEW, Side.BUY)
    assert report.client_order_id == "test-000005"


def test_recorded_spot_fee_is_in_the_base_coin(shared: Path) -> None:
    """A spot buy pays its fee in the coin bought; the coin is the venue's word."""
    rows = recorded(shared, "fetchMyTrades", "spot trades without").rows("list")
    report = parse.parse_execution(rows[0], category="spot", seen=SEEN)
    assert report.fill.fee_coin == rows[0].text("feeCurrency") != ""
    assert report.fill.fee > 0


def test_recorded_funding_execution_keeps_its_sign(shared: Path) -> None:
    """A funding row's execFee is + when paid; its coin is derived from the symbol."""
    rows = recorded(shared, "fetchFundingHistory", "funding executions").rows("list")
    for row in rows:
        report = parse.parse_execution(row, category="linear", seen=SEEN)
        assert report.exec_type == "Funding"
        assert report.fill.fee == Decimal(row.text("execFee"))
        assert report.fill.fee_coin == "USDT"


def test_recorded_ledger_line_closes_to_zero(shared: Path) -> None:
    """Change = cash flow + funding − fee on a recorded SETTLEMENT."""
    row = recorded(shared, "fetchLedger", "SETTLEMENT").rows("list")[0]
    line = parse.parse_ledger_line(row, seen=SEEN)
    assert line.funding == Decimal("-0.0006935")
    assert parse.ledger_gap(line) == 0


def test_documented_ledger_lines_close_to_zero(shared: Path) -> None:
    """`funding` "" on a trade line is no funding, and the sum proves it."""
    for row in documented(shared, "Account/GetTransactionHistory").rows("list"):
        assert parse.ledger_gap(parse.parse_ledger_line(row, seen=SEEN)) == 0


def test_documented_pushes_are_read(shared: Path) -> None:
    """The samples of the position and execution topics are read, field names as pushed."""
    for row in pushed(shared, "Position"):
        position = parse.parse_position(row, category=row.text("category"))
        assert position is None  # a flat hedge-mode row
    for row in pushed(shared, "UserTrades"):
        report = parse.parse_execution(row, category="linear", seen=SEEN, pnl=Decimal(0))
        assert report.fill.qty > 0


def test_recorded_ticker_frames_merge_to_the_captured_end(shared: Path) -> None:
    """Every captured snapshot and delta is taken; the merge equals a plain dict merge."""
    path = shared / "data/payloads/cryptofeed_slice/bybit_v5_linear_DOGEUSDT.jsonl"
    merge, plain = TickerMerge("linear:DOGEUSDT"), {}
    frames = 0
    for line in path.read_text().splitlines():
        frame = json.loads(line)
        data = frame.get("data", frame.get("raw"))
        if isinstance(data, str):
            data = json.loads(data)
        if not isinstance(data, dict) or data.get("topic") != "tickers.DOGEUSDT":
            continue
        plain = data["data"] if data["type"] == "snapshot" else {**plain, **data["data"]}
        tick, _ = merge.take(Row(data), ts_seen_ms=1)
        frames += 1
        assert tick.mark_price == Decimal(plain["markPrice"])
        assert tick.index_price == Decimal(plain["indexPrice"])
        assert tick.bid_price == Decimal(plain["bid1Price"])
    assert frames > 1


def test_recorded_instruments_are_read(shared: Path) -> None:
    """Real instruments-info rows give steps above zero."""
    for category in ("linear", "spot"):
        path = shared / f"data/payloads/cryptofeed_slice/instruments_info_{category}.json"
        body = json.loads(path.read_text())
        rows = body["result"]["list"] if "result" in body else body
        for row in rows:
            got = market.parse_instrument(
                Row(row), category=category, tiers=(), fees=(Decimal(0), Decimal(0)), ts_seen_ms=1
            )
            assert got.lot_size > 0
            assert got.tick_size > 0


def test_documented_percent_tiers_are_fractions(shared: Path) -> None:
    """The document's inverse sample is in percent; 1 ÷ maxLeverage tells, the rates are divided."""
    tiers = market.parse_tiers(documented(shared, "ExchangeData/GetRiskLimit").rows("list"))
    assert (tiers[0].maintenance_rate, tiers[0].initial_rate) == (Decimal("0.005"), Decimal("0.01"))


# ---------------------------------------------------------------- rules

@pytest.mark.parametrize("name", ["size", "avgPrice", "unrealisedPnl"])
def test_an_empty_number_of_an_open_position_is_an_error(name: str) -> None:
    """Empty is absent, never 0: an open position without it cannot be read."""
    with pytest.raises(BadMessage, match=name):
        parse.parse_position(Row({**POSITION, name: ""}), category="linear")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"side": "Short"}, "side"), ({"positionStatus": "Frozen"}, "positionStatus"),
        ({"positionIdx": 2}, "hedge mode"), ({"size": "-1"}, "negative"),
        ({"size": 0.5}, "as text"), ({"adlRankIndicator": 9}, "rank"), ({"seq": None}, "seq"),
    ],
)
def test_a_position_that_makes_no_sense_is_loud(change: dict[str, Any], what: str) -> None:
    """Unknown enums, hedge mode, wrong types and impossible ranks raise BadMessage."""
    with pytest.raises(BadMessage, match=what):
        parse.parse_position(Row({**POSITION, **change}), category="linear")


def test_a_flat_hedge_mode_row_is_skipped() -> None:
    """The empty rows of hedge mode say nothing and stop nothing."""
    row = Row({**POSITION, "positionIdx": 1, "size": "0", "side": ""})
    assert parse.parse_position(row, category="linear") is None


def test_manual_borrowing_is_taken_off_the_wallet() -> None:
    """wallet_qty = walletBalance − spotBorrow, so that wallet + UPL is the venue's equity."""
    assert parse.parse_coin(Row(COIN)).wallet_qty == 1


def test_a_coin_counts_only_when_both_switches_are_on() -> None:
    """The platform's and the user's switch must both say collateral."""
    assert not parse.parse_coin(Row({**COIN, "collateralSwitch": False})).is_collateral


def test_filled_is_never_computed_from_leaves() -> None:
    """A cancelled order has leavesQty 0 and cumExecQty 0: nothing was filled."""
    report = parse.parse_order(
        Row({**ORDER, "orderStatus": "Cancelled"}), category="linear", seen=SEEN
    )
    assert (report.status, report.filled_qty) == (OrderStatus.CANCELLED, 0)


@pytest.mark.parametrize("status", ["Active", "", "new", None])
def test_an_unknown_order_status_is_loud(status: str | None) -> None:
    """An order whose status we do not know is not taken for anything."""
    with pytest.raises(BadMessage, match="orderStatus"):
        parse.parse_order(Row({**ORDER, "orderStatus": status}), category="linear", seen=SEEN)


def test_a_closing_fill_without_its_profit_is_an_error_not_zero() -> None:
    """A REST row has no execPnl: only an opening fill is known to have realised nothing."""
    opened = parse.parse_execution(Row(EXECUTION), category="linear", seen=SEEN)
    assert (opened.fill.pnl, opened.fill.fee_coin) == (0, "USDT")
    closing = Row({**EXECUTION, "closedSize": "0.5"})
    with pytest.raises(BadMessage, match="execPnl"):
        parse.parse_execution(closing, category="linear", seen=SEEN)
    told = parse.parse_execution(closing, category="linear", seen=SEEN, pnl=Decimal(-7))
    assert told.fill.pnl == -7


def test_flexible_and_fixed_debt_add_up() -> None:
    """A coin's debt is both kinds together; the rate is the flexible part's."""
    debt = parse.parse_debt(
        Row({"loanCurrency": "USDT", "flexibleTotalDebt": "9355.37", "fixedTotalDebt": "100",
             "flexibleHourlyInterestRate": "0.0000018"})
    )
    assert (debt.qty, debt.hourly_rate) == (Decimal("9455.37"), Decimal("0.0000018"))


def test_a_flexible_debt_without_its_rate_is_an_error() -> None:
    """Interest is never silently 0."""
    row = Row({"loanCurrency": "USDT", "flexibleTotalDebt": "1", "fixedTotalDebt": "0",
               "flexibleHourlyInterestRate": ""})
    with pytest.raises(BadMessage, match="HourlyInterestRate"):
        parse.parse_debt(row)


def test_a_missing_collateral_state_is_not_normal() -> None:
    """An absent colRes is −1 (unknown), not 0 (normal)."""
    assert parse.parse_collateral_state(Row({})) == -1
    assert parse.parse_collateral_state(Row({"colRes": "2"})) == 2


def test_withdrawable_leaves_out_what_was_not_said() -> None:
    """Empty text in the map is no amount; the coin is absent rather than 0."""
    got = parse.parse_withdrawable(Row({"availableWithdrawalMap": {"BTC": "", "USDT": "5.5"}}))
    assert [(w.coin, w.qty) for w in got] == [("USDT", Decimal("5.5"))]


def test_tiers_are_sorted_and_the_missing_deduction_is_computed() -> None:
    """Rows come in any order; d = limit × (mm − mm before) + d before equals the venue's 1,200."""
    stated = market.parse_tiers([Row(TIER_2), Row(TIER)])
    computed = market.parse_tiers([Row({**TIER_2, "mmDeduction": ""}), Row(TIER)])
    assert [t.deduction for t in stated] == [0, 1200]
    assert [t.deduction for t in computed] == [0, 1200]


@pytest.mark.parametrize(
    "rows",
    [
        [], [{**TIER, "maintenanceMargin": "0.02"}], [{**TIER, "maxLeverage": "50"}],
        [{**TIER, "maxLeverage": "0"}], [TIER, TIER],
        [TIER, {**TIER_2, "maintenanceMargin": "0.004"}],
    ],
)
def test_tiers_that_cannot_be_right_are_refused(rows: list[dict[str, Any]]) -> None:
    """No tiers, mm ≥ im, a leverage that does not fit, or a ladder that does not rise: BadMessage."""
    with pytest.raises(BadMessage):
        market.parse_tiers([Row(row) for row in rows])


def test_collateral_tiers_must_join() -> None:
    """A gap between two tiers would value coins at nothing: refused."""
    rows = [{"minQty": "0", "maxQty": "10", "collateralRatio": "0.95"},
            {"minQty": "11", "maxQty": "", "collateralRatio": "0.9"}]
    result = Row({"list": [{"currency": "BTC", "collateralRatioList": rows}]})
    with pytest.raises(BadMessage, match="gap"):
        market.parse_margin_tiers(result, "BTC")
    rows[1]["minQty"] = "10"
    tiers = market.parse_margin_tiers(result, "BTC")
    assert [tier.qty_max for tier in tiers] == [10, None]
    assert market.parse_margin_tiers(result, "DOGE") == ()


def test_loan_tiers_are_those_of_the_coins_group() -> None:
    """Groups name their coins in one comma-separated text."""
    ladder = [{"minValue": "0", "maxValue": "", "collateralRatio": "0.9"}]
    result = Row({"collateralRatioConfigList": [
        {"currencies": "DOGE", "collateralRatioList": []},
        {"currencies": "BTC,ETH", "collateralRatioList": ladder},
    ]})
    assert market.parse_loan_tiers(result, "ETH")[0].ratio == Decimal("0.9")
    assert market.parse_loan_tiers(result, "SOL") == ()


def test_a_field_missing_in_a_delta_is_unchanged() -> None:
    """Deltas carry only what moved; funding comes only when it changed or a second has passed."""
    merge = TickerMerge("linear:BTCUSDT")
    _, first = merge.take(frame("snapshot", SNAPSHOT), ts_seen_ms=1)
    assert first is not None
    tick, rate = merge.take(frame("delta", {"markPrice": "60010"}), ts_seen_ms=2)
    assert (tick.mark_price, tick.index_price) == (60010, 60001)
    assert rate is None
    _, changed = merge.take(frame("delta", {"fundingIntervalHour": "1"}), ts_seen_ms=3)
    assert changed is not None
    assert changed.funding_interval_h == 1
    _, confirmed = merge.take(frame("delta", {}, ts=1_760_325_053_730), ts_seen_ms=4)
    assert confirmed is not None


def test_a_delta_before_a_snapshot_is_refused() -> None:
    """After a gap nothing is merged with what was known before it."""
    merge = TickerMerge("linear:BTCUSDT")
    merge.take(frame("snapshot", SNAPSHOT), ts_seen_ms=1)
    merge.forget()
    with pytest.raises(BadMessage, match="snapshot"):
        merge.take(frame("delta", {"markPrice": "1"}), ts_seen_ms=2)


@pytest.mark.parametrize(
    "bad",
    [{"markPrice": "NaN"}, {"markPrice": ""}, {"markPrice": "-1"}, {"indexPrice": "1_000"},
     {"fundingIntervalHour": ""}, {"nextFundingTime": ""}, {"symbol": "ETHUSDT"},
     {"markPrice": "1E+60"}, {"bid1Price": 5}],
)
def test_a_bad_delta_leaves_the_merge_as_it_was(bad: dict[str, Any]) -> None:
    """A frame that cannot be read changes nothing: the next good one builds on the last good one."""
    merge = TickerMerge("linear:BTCUSDT")
    merge.take(frame("snapshot", SNAPSHOT), ts_seen_ms=1)
    with pytest.raises(BadMessage):
        merge.take(frame("delta", {"lastPrice": "7", **bad}), ts_seen_ms=2)
    tick, _ = merge.take(frame("delta", {}), ts_seen_ms=3)
    assert (tick.mark_price, tick.last_price) == (Decimal("60000.5"), 1)


def test_dated_futures_have_no_funding() -> None:
    """Empty text for the rate means that there is none; a perpetual must state it."""
    none = {"fundingRate": "", "nextFundingTime": "", "fundingIntervalHour": ""}
    dated = {**SNAPSHOT, **none, "symbol": "BTC-26DEC25"}
    tick, rate = TickerMerge("linear:BTC-26DEC25").take(frame("snapshot", dated), ts_seen_ms=1)
    assert tick.mark_price == Decimal("60000.5")
    assert rate is None
    with pytest.raises(BadMessage, match="fundingRate"):
        TickerMerge("linear:BTCUSDT").take(frame("snapshot", {**SNAPSHOT, **none}), ts_seen_ms=1)


def test_spot_is_valued_at_the_usd_index() -> None:
    """Spot has no mark: mark and index are usdIndexPrice; without it the frame is refused."""
    merge = TickerMerge("spot:BTCUSDT")
    data = {"lastPrice": "60002", "usdIndexPrice": "59990"}
    tick, rate = merge.take(frame("snapshot", data), ts_seen_ms=1)
    assert (tick.mark_price, tick.index_price, rate) == (59990, 59990, None)
    with pytest.raises(BadMessage, match="index"):
        TickerMerge("spot:BTCUSDT").take(frame("snapshot", {"lastPrice": "1"}), ts_seen_ms=1)


def test_json_bombs_and_nonsense_are_bad_messages() -> None:
    """What is no JSON, or nested beyond reason, is BadMessage and nothing else."""
    for raw in (b"", b"\xff", b"{", b"[" * 100_000, "nul", b'{"a":1e999}'):
        try:
            decode_json(raw)
        except BadMessage:
            continue
        assert raw == b'{"a":1e999}'
    assert parse_decimal("0.10") == Decimal("0.10")
