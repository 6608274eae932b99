"""Every recorded payload that a parser of ours reads gives the value that its source expects."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exchanges import recorded
from exchanges.recorded import Case, read
from hedgelock.domain.order import OrderStatus, Side
from hedgelock.errors import BadMessage
from hedgelock.exchanges.bybit_channels import Latest, MarketChannel
from hedgelock.exchanges.bybit_dialect import BybitDialect
from hedgelock.exchanges.fields import Row

COUNTS = {
    "instrument": 25, "execution": 20, "coin": 9, "order": 7, "stop": 7, "line": 4, "position": 3,
    "ticker": 3, "closed": 2, "key": 1, "borrowing": 1, "fees": 1, "account": 1, "tiers": 1,
}
"""How many recorded objects each parser reads; they may grow, not shrink."""
RESPONSES = 157
FRAMES = 273
"""Real frames of the capture: every one has a topic, those of `tickers` are ours."""

REFUSED = {
    "Endpoints/V5Api/Trading/GetUserTrades.execution[0]": "closedSize: empty",
    "Subscriptions/V5/Private/UserTrades.execution[0]": "closedSize: empty",
    "Subscriptions/V5/Linear/Ticker.ticker": "without its schedule",
}
"""Examples of Bybit's documents from 2022, before execPnl and fundingIntervalHour existed; what was
recorded since has both. Without them a profit or a payer would have to be guessed."""

DERIVED = frozenset({"wallet_qty", "deduction", "initial_rate", "maintenance_rate"})
"""Numbers of ours that are computed: net of borrowing, tiers in percent, deductions left out."""


@pytest.fixture(scope="module")
def corpus(shared: Path) -> list[Case]:
    """Everything recorded that we read."""
    return recorded.cases(shared)


def figures(value: Any, name: str = "") -> list[tuple[str, Decimal]]:
    """Every number of a message with the name of its field."""
    if isinstance(value, Decimal):
        return [(name, value)]
    if isinstance(value, msgspec.Struct):
        return [f for n in value.__struct_fields__ for f in figures(getattr(value, n), n)]
    if isinstance(value, tuple):
        names = getattr(value, "_fields", [name] * len(value))
        return [f for n, item in zip(names, value, strict=True) for f in figures(item, n)]
    return []


def texts(value: Any) -> set[str]:
    """Every text of a payload."""
    if isinstance(value, dict):
        return {t for item in value.values() for t in texts(item)}
    if isinstance(value, list):
        return {t for item in value for t in texts(item)}
    return {value} if isinstance(value, str) else set()


def numbers_of(body: Any) -> set[Decimal]:
    """Every number that a payload writes as text, and its negative: a side may carry the sign."""
    found = set()
    for text in texts(body):
        try:
            number = Decimal(text)
        except ArithmeticError:
            continue
        if number.is_finite():
            found |= {number, number.copy_negate()}
    return found


def test_nothing_recorded_is_left_out(corpus: list[Case], shared: Path) -> None:
    """No parser reads fewer recorded objects than it did."""
    counts = Counter(case.kind for case in corpus)
    assert {kind: counts[kind] for kind in COUNTS} == COUNTS
    assert len(list(recorded.responses(shared))) >= RESPONSES
    assert len(recorded.captured(shared)) >= FRAMES


def test_every_recorded_object_is_read_with_its_own_numbers(corpus: list[Case]) -> None:
    """Each number of a message stands in its payload; only the named examples are refused."""
    refused = {}
    for case in corpus:
        try:
            got = read(case)
        except BadMessage as error:
            refused[case.name] = str(error)
            continue
        written = {*numbers_of(case.body), Decimal(0), *recorded.FEES}
        strange = [(n, v) for n, v in figures(got) if n not in DERIVED and v not in written]
        assert not strange, (case.name, strange)
    assert refused.keys() == REFUSED.keys()
    for name, reason in REFUSED.items():
        assert reason in refused[name]


def test_every_recorded_answer_is_understood(shared: Path) -> None:
    """retCode 0 is success whatever retMsg, number or text; the time is read where there is one."""
    dialect = BybitDialect()
    for name, _, response in recorded.responses(shared):
        body = Row(response)
        refusal = dialect.refusal(body, {})
        assert (refusal is None) is (int(response["retCode"]) == 0), name
        assert refusal is None or refusal.code == str(response["retCode"])
        at_ms = dialect.event_ms(body)
        assert at_ms is None or at_ms > 1_500_000_000_000, name


# ---------------------------------------------------------------- against ccxt's reading

Check = Callable[[Any, dict[str, Any], dict[str, Any]], None]


def _side(text: str) -> Side:
    return Side.BUY if text == "buy" else Side.SELL


def check_order(got: Any, expected: dict[str, Any], _row: dict[str, Any]) -> None:
    """Id, side, quantities and state of an order."""
    assert got.venue_order_id == expected["id"]
    assert got.side is _side(expected["side"])
    assert (got.qty, got.filled_qty) == (expected["amount"], expected["filled"])
    assert got.status in (OrderStatus.FILLED, OrderStatus.CANCELLED)
    assert expected["status"] == "closed"
    if "reduceOnly" in expected:
        assert got.reduce_only is expected["reduceOnly"]
        assert got.created_ts_ms == expected["timestamp"]


def check_fill(got: Any, expected: dict[str, Any], _row: dict[str, Any]) -> None:
    """Id, time, side, price, quantity and fee of a fill."""
    fill = got.fill
    assert (fill.exec_id, fill.ts_ms) == (expected["id"], expected["timestamp"])
    assert got.venue_order_id == expected.get("order", got.venue_order_id)
    assert fill.side is _side(expected["side"])
    assert (fill.price, fill.qty) == (expected["price"], expected["amount"])
    assert (fill.fee, fill.fee_coin) == (expected["fee"]["cost"], expected["fee"]["currency"])


def check_funding(got: Any, expected: dict[str, Any], _row: dict[str, Any]) -> None:
    """A settlement: + = paid, as ccxt reads Bybit's execFee."""
    assert got.exec_type == "Funding"
    if got.fill.exec_id == expected["id"]:
        assert (got.fill.fee, got.fill.ts_ms) == (expected["amount"], expected["timestamp"])


def check_line(got: Any, expected: dict[str, Any], row: dict[str, Any]) -> None:
    """A ledger line: ccxt drops the sign into `direction`; ours keeps the venue's."""
    assert (got.line_id, got.coin) == (expected["id"], expected["currency"])
    sign = -1 if expected["direction"] == "out" else 1
    assert (got.change, got.balance) == (sign * expected["amount"], expected["after"])
    assert got.funding == Decimal(row["funding"])


def check_closed(got: Any, expected: dict[str, Any], _row: dict[str, Any]) -> None:
    """A closed position: SELL closed a long."""
    assert (got.pnl, got.entry_price) == (expected["realizedPnl"], expected["entryPrice"])
    assert (got.exit_price, got.qty) == (expected["lastPrice"], expected["contracts"])
    assert got.ts_ms == expected["lastUpdateTimestamp"]
    assert (got.side is Side.SELL) is (expected["side"] == "long")


def check_position(got: Any, expected: dict[str, Any], _row: dict[str, Any]) -> None:
    """A flat position is 0; its leverage stays."""
    assert (got.position_qty, got.leverage) == (expected["contracts"], expected["leverage"])
    assert got.liquidation_price is None
    assert expected["side"] is None


CHECKS: dict[str, tuple[str, Check]] = {
    "fetchClosedOrder": ("order", check_order), "fetchOrder": ("order", check_order),
    "fetchMyTrades": ("execution", check_fill), "fetchFundingHistory": ("execution", check_funding),
    "fetchLedger": ("line", check_line), "fetchPositionHistory": ("closed", check_closed),
    "fetchPosition": ("position", check_position),
}


@pytest.mark.parametrize("method", CHECKS)
def test_numbers_are_those_that_ccxt_reads(shared: Path, corpus: list[Case], method: str) -> None:
    """Where ccxt's reading of a real answer is recorded, ours has the same values."""
    kind, check = CHECKS[method]
    compared = 0
    for index, example in enumerate(recorded.static(shared)[method]):
        expected = example["parsedResponse"]
        name = f"ccxt/{method}[{index}].{kind}["
        found = [case for case in corpus if case.name.startswith(name)]
        wanted = expected if isinstance(expected, list) else [expected]
        rows = {e.get("id"): e for e in wanted}
        for case in found:
            got = read(case)
            row_id = case.body.get("execId" if kind == "execution" else "orderId")
            check(got, rows.get(row_id, wanted[0]), case.body)
            compared += 1
    assert compared


def test_balances_are_those_that_ccxt_reads(shared: Path, corpus: list[Case]) -> None:
    """Per coin: what we call the wallet is ccxt's total, what is borrowed its debt."""
    expected = recorded.static(shared)["fetchBalance"][0]["parsedResponse"]
    coins = [read(c) for c in corpus if c.name.startswith("ccxt/fetchBalance") and c.kind == "coin"]
    assert len(coins) == 7
    for coin in coins:
        assert coin.wallet_qty == expected["total"][coin.coin], coin.coin
        assert coin.borrowed_qty == expected["debt"][coin.coin], coin.coin


def test_the_documented_short_is_the_one_that_ccxt_reads(shared: Path, corpus: list[Case]) -> None:
    """An inverse short of 300 USD: negative, in USD, at ccxt's entry."""
    file = shared / "data/payloads/bybit_net/ccxt_parsed.json"
    parsed = json.loads(file.read_text(), parse_float=Decimal)["Trading/GetPositions"]["parsed"][0]
    case = next(c for c in corpus if "Trading/GetPositions" in c.name)
    got = read(case)
    assert got.instrument == "inverse:BTCUSD"
    assert (got.position_qty, got.entry_price) == (-parsed["contracts"], parsed["entryPrice"])
    assert (got.upl, got.leverage) == (parsed["unrealizedPnl"], parsed["leverage"])
    assert parsed["side"] == "short"


def test_captured_tickers_merge_to_what_was_last_sent(shared: Path) -> None:
    """A real minute of snapshot and deltas: every tick equals the plain merge of all fields so far."""
    frames = [f for f in recorded.captured(shared) if f["topic"] == "tickers.DOGEUSDT"]
    bad: list[str] = []
    out = Latest()

    class Clock:
        def now_ms(self) -> int:
            return 1

        def monotonic_ms(self) -> float:
            return 1.0

    channel = MarketChannel(
        "ws://none", ["linear:DOGEUSDT"], out=out, clock=Clock(), saw=lambda _topic: None,
        on_bad=lambda topic, reason, _raw: bad.append(f"{topic}: {reason}"),
    )
    plain: dict[str, str] = {}
    rates = 0
    for frame in frames:
        plain.update(frame["data"])
        channel.on_frame(json.dumps(frame))
        events = list(out._items.values())
        out._items.clear()
        tick = events[0]
        rates += len(events) > 1
        assert tick.mark_price == Decimal(plain["markPrice"])
        assert tick.index_price == Decimal(plain["indexPrice"])
        assert tick.last_price == Decimal(plain["lastPrice"])
        assert (tick.bid_price, tick.ask_price) == (
            Decimal(plain["bid1Price"]), Decimal(plain["ask1Price"]))
        assert tick.ts_event_ms == frame["ts"]
    assert not bad
    assert len(frames) > 100
    assert rates > 20
