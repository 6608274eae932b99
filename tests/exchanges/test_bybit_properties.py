"""Whatever Bybit might send: a fact whose numbers were really there, or BadMessage."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchanges.bybit_samples import (
    COIN,
    EXECUTION,
    ORDER,
    POSITION,
    SEEN,
    SNAPSHOT,
    TIER,
    frame,
)
from hedgelock.errors import BadMessage
from hedgelock.exchanges import bybit_market as market
from hedgelock.exchanges import bybit_parse as parse
from hedgelock.exchanges.fields import Row, decode_json

LINE: dict[str, Any] = {
    "id": "1", "symbol": "BTCUSDT", "category": "linear", "side": "Sell", "type": "TRADE",
    "transactionTime": "1672128000000", "qty": "0.5", "currency": "USDT", "tradePrice": "60000",
    "funding": "", "fee": "1", "cashFlow": "0", "change": "-1", "cashBalance": "5", "tradeId": "t",
    "orderLinkId": "",
}
PARSERS: dict[str, tuple[Callable[[Row], Any], dict[str, Any]]] = {
    "coin": (parse.parse_coin, COIN),
    "position": (lambda row: parse.parse_position(row, category="linear"), POSITION),
    "order": (lambda row: parse.parse_order(row, category="linear", seen=SEEN), ORDER),
    "execution": (
        lambda row: parse.parse_execution(row, category="linear", seen=SEEN),
        {**EXECUTION, "execPnl": "1"},
    ),
    "line": (lambda row: parse.parse_ledger_line(row, seen=SEEN), LINE),
    "tiers": (lambda row: market.parse_tiers([row]), TIER),
    "ticker": (
        lambda row: market.TickerMerge("linear:BTCUSDT").take(row, ts_seen_ms=1),
        {"topic": "t", "type": "snapshot", "ts": 1, "data": SNAPSHOT},
    ),
    "fund": (
        parse.parse_fund_balance, {"coin": "BTC", "walletBalance": "1", "transferBalance": "1"}
    ),
    "debt": (
        parse.parse_debt,
        {"loanCurrency": "USDT", "flexibleTotalDebt": "1", "fixedTotalDebt": "0",
         "flexibleHourlyInterestRate": "0.1"},
    ),
    "collateral": (parse.parse_loan_collateral, {"currency": "BTC", "amount": "1"}),
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["", "NaN", "Infinity", "-Infinity", "1_000", "1E+999", " 1", "0x1", "-0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def numbers(value: Any) -> list[Decimal]:
    """Every Decimal inside a message, however deep."""
    if isinstance(value, Decimal):
        return [value]
    if isinstance(value, msgspec.Struct):
        return [n for name in value.__struct_fields__ for n in numbers(getattr(value, name))]
    if isinstance(value, (tuple, list)):
        return [n for item in value for n in numbers(item)]
    return []


@pytest.mark.no_cover
@pytest.mark.parametrize("kind", PARSERS)
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_one_junk_field_is_read_or_refused(kind: str, data: st.DataObject) -> None:
    """A field of any JSON value gives a message of finite numbers or BadMessage, nothing else."""
    parser, good = PARSERS[kind]
    name = data.draw(st.sampled_from(sorted(good)))
    row = {**good, name: data.draw(json_values)}
    if data.draw(st.booleans()):
        del row[name]
    try:
        got = parser(Row(row))
    except BadMessage:
        return
    assert all(number.is_finite() for number in numbers(got))


@given(junk=json_values)
@settings(max_examples=300, deadline=None)
def test_junk_is_never_more_than_a_bad_message(junk: Any) -> None:
    """Any JSON value at all, given to every parser, raises BadMessage only."""
    value = decode_json(json.dumps(junk, allow_nan=True)) if not _has_nan(junk) else junk
    for parser, _ in PARSERS.values():
        try:
            parser(Row(value))
        except BadMessage:
            continue


def _has_nan(value: Any) -> bool:
    return any(word in json.dumps(value) for word in ("NaN", "Infinity"))


@given(raw=st.binary(max_size=60))
@settings(max_examples=300, deadline=None)
def test_any_bytes_decode_or_are_refused(raw: bytes) -> None:
    """Bytes that are no JSON raise BadMessage."""
    try:
        decode_json(raw)
    except BadMessage:
        return


@pytest.mark.parametrize(
    ("kind", "name"),
    [("coin", "walletBalance"), ("coin", "borrowAmount"), ("position", "size"),
     ("order", "cumExecQty"), ("order", "qty"), ("execution", "execFee"),
     ("execution", "execQty"), ("line", "change"), ("line", "cashBalance"),
     ("fund", "walletBalance"), ("debt", "flexibleTotalDebt"), ("collateral", "amount")],
)
@pytest.mark.parametrize("absent", ["", None])
def test_absent_money_is_never_zero(kind: str, name: str, absent: str | None) -> None:
    """Where money matters, "" and null are refused with the field's path."""
    parser, good = PARSERS[kind]
    with pytest.raises(BadMessage, match=name):
        parser(Row({**good, name: absent}))


@given(
    deltas=st.lists(
        st.fixed_dictionaries(
            {}, optional={name: st.decimals("0.1", "99999", places=2).map(str)
                          for name in ("markPrice", "indexPrice", "bid1Price", "ask1Price")}
        ),
        max_size=8,
    )
)
@settings(max_examples=100, deadline=None)
def test_merging_deltas_equals_merging_dicts(deltas: list[dict[str, str]]) -> None:
    """Any series of deltas leaves exactly the last value that was sent for each price."""
    merge, plain = market.TickerMerge("linear:BTCUSDT"), dict(SNAPSHOT)
    tick, _ = merge.take(frame("snapshot", SNAPSHOT), ts_seen_ms=0)
    for delta in deltas:
        plain.update(delta)
        tick, _ = merge.take(frame("delta", delta), ts_seen_ms=0)
    assert tick.mark_price == Decimal(plain["markPrice"])
    assert tick.index_price == Decimal(plain["indexPrice"])
    assert tick.bid_price == Decimal(plain["bid1Price"])
    assert tick.ask_price == Decimal(plain["ask1Price"])
