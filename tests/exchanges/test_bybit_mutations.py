"""One field of a recorded payload goes wrong: the same meaning, or BadMessage that names the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exchanges import recorded
from exchanges.bybit_samples import COIN, EXECUTION, ORDER, POSITION, SNAPSHOT, TIER, TIER_2
from exchanges.recorded import PARSERS, Case, read
from exchanges.spoil import leaves, spoilt, wrongs
from hedgelock.errors import BadMessage

pytestmark = pytest.mark.no_cover
ABSENT = frozenset({"delete", "empty", "null"})
EMPTY = frozenset({"empty"})
TEXT = frozenset({"NaN", "Infinity", "1e999", "1_000", " 1", "0x10"})
"""Only looks like a number: an id, where any text is as good as another."""

OPTIONAL: dict[tuple[str, str], frozenset[str]] = {
    # "" = an order of nobody here: the executor looks at its own prefix only.
    ("order", "orderLinkId"): EMPTY | TEXT,
    ("execution", "orderLinkId"): EMPTY | TEXT,
    ("order", "orderId"): TEXT, ("execution", "orderId"): TEXT, ("execution", "execId"): TEXT,
    # Words for people: they decide nothing.
    ("order", "rejectReason"): ABSENT, ("order", "cancelType"): ABSENT,
    # No trigger = a plain order, as Bybit writes it.
    ("stop", "triggerPrice"): EMPTY,
    # "" = none: no liquidation in sight, no leverage of its own (portfolio margin).
    ("position", "liqPrice"): EMPTY, ("position", "leverage"): EMPTY,
    # A line's own kind of money: "" where it has none; the sum of the line tells of a lost one.
    ("line", "funding"): EMPTY, ("line", "fee"): EMPTY, ("line", "qty"): EMPTY,
    ("line", "tradePrice"): EMPTY, ("line", "symbol"): EMPTY, ("line", "side"): EMPTY,
    ("line", "orderLinkId"): EMPTY, ("line", "tradeId"): EMPTY | TEXT, ("line", "category"): EMPTY,
    # No quote on that side of the book, or no trade yet: None, never a price.
    ("ticker", "lastPrice"): ABSENT, ("ticker", "bid1Price"): ABSENT, ("ticker", "ask1Price"): ABSENT,
    # How much stands there: None, and an order is cut by the policy's size instead.
    ("ticker", "bid1Size"): ABSENT, ("ticker", "ask1Size"): ABSENT,
    # "" or 0 = a market order; only what is stated is compared with what was sent.
    ("order", "price"): EMPTY,
    # None = the venue states no cap.
    ("ticker", "fundingCap"): ABSENT,
    # Older symbols have no smallest value; the name it had before.
    ("instrument", "minNotionalValue"): EMPTY,
    ("instrument", "maxLimitOrderQty"): frozenset({"delete"}),
    ("instrument", "maxMarketOrderQty"): frozenset({"delete"}),
    # None = no limit of its own for post-only orders; no price band: the venue's answer decides.
    ("instrument", "postOnlyMaxOrderQty"): ABSENT,
    ("instrument", "postOnlyMaxLimitOrderSize"): ABSENT,
    ("instrument", "priceLimitRatioX"): ABSENT,
    # The key's terms: no date = it does not expire; no addresses stated = from anywhere (warned of).
    ("key", "deadlineDay"): frozenset({"delete"}), ("key", "ips"): frozenset({"delete"}),
    # A permission that is not stated is not there: `connect` refuses what is needed.
    **{("key", group): frozenset({"delete", "empty"})
       for group in ("ContractTrade", "Spot", "Wallet", "Options")},
    # The deduction follows from the tiers below (fact sheet 8.4), which gives the stated one.
    ("tiers", "mmDeduction"): ABSENT,
}
"""(kind, field) -> what may go missing, with the meaning of that beside it. Everything else is loud."""


def made() -> list[Case]:
    """Payloads of which there is no good recording: newer fields, pushes, a stop."""
    push = {**EXECUTION, "execPnl": "-3.5", "closedSize": "0.5", "feeCurrency": "USDT"}
    stop = {**ORDER, "price": "60000", "orderStatus": "Untriggered", "triggerPrice": "65000", "triggerDirection": 1,
            "triggerBy": "MarkPrice"}
    frame = {"topic": "tickers.BTCUSDT", "type": "snapshot", "ts": 1_760_325_052_730, "data": SNAPSHOT}
    return [
        Case("push", "execution", push, "linear"), Case("position", "position", POSITION, "linear"),
        Case("stop", "stop", stop, "linear"), Case("order", "order", ORDER, "linear"),
        Case("coin", "coin", COIN), Case("ticker", "ticker", frame, "linear:BTCUSDT"),
        Case("tiers", "tiers", {"list": [TIER, TIER_2]}, "linear"),
    ]


def field_of(path: tuple[str | int, ...]) -> str:
    """The innermost name of a path."""
    return next(step for step in reversed(path) if isinstance(step, str))


def silent_changes(case: Case) -> list[tuple[str, str, Any]]:
    """Every mutation of `case` that changes its meaning without a BadMessage that names the field."""
    good = read(case)
    found = []
    for path, value in leaves(case.body):
        field = field_of(path)
        for wrong, junk in wrongs(value):
            try:
                got = read(case, spoilt(case.body, path, junk))
            except BadMessage as error:
                if field not in str(error) and not _stands_in(path, str(error)):
                    found.append((field, wrong, str(error)))
                continue
            if got != good and wrong not in OPTIONAL.get((case.kind, field), ()):
                found.append((field, wrong, got))
    return found


def _stands_in(path: tuple[str | int, ...], text: str) -> bool:
    """Names of a group ("permissions", "data") do when the group itself no longer makes sense."""
    return any(str(step) in text for step in path[:-1] if isinstance(step, str))


@pytest.mark.parametrize("kind", PARSERS)
def test_a_spoilt_field_is_refused_by_name_or_means_the_same(shared: Path, kind: str) -> None:
    """Deleted, "", null, of another type, NaN, 1e999: no leaf becomes 0 or a default in silence."""
    chosen = [c for c in (*recorded.cases(shared), *made()) if c.kind == kind]
    readable = 0
    for case in chosen[:12]:
        try:
            read(case)
        except BadMessage:
            continue
        readable += 1
        assert not silent_changes(case), case.name
    assert readable


@pytest.mark.parametrize(("kind", "field"), OPTIONAL)
def test_what_may_be_absent_is_really_read(shared: Path, kind: str, field: str) -> None:
    """Every exception in the list is needed: some payload has the field and reads without it."""
    for case in (*recorded.cases(shared), *made()):
        if case.kind != kind:
            continue
        for path, value in leaves(case.body):
            if field_of(path) != field:
                continue
            for wrong, junk in wrongs(value):
                if wrong in OPTIONAL[kind, field]:
                    try:
                        read(case, spoilt(case.body, path, junk))
                    except BadMessage:
                        continue
                    return
    pytest.fail(f"{field} of {kind} is never read without a value: take it off the list")


UNKNOWN = [
    ("order", "side"), ("order", "orderType"), ("order", "orderStatus"), ("execution", "side"),
    ("execution", "execType"), ("position", "side"), ("position", "positionStatus"),
    ("stop", "triggerBy"), ("closed", "side"), ("ticker", "type"),
]


@pytest.mark.parametrize(("kind", "field"), UNKNOWN)
def test_an_unknown_word_about_money_is_loud(kind: str, field: str) -> None:
    """An enum value nobody knows, in orders, fills, positions or a frame's kind, is BadMessage."""
    closed = Case("closed", "closed", {
        "symbol": "BTCUSDT", "orderId": "1", "side": "Sell", "closedSize": "1", "avgEntryPrice": "1",
        "avgExitPrice": "1", "closedPnl": "1", "execType": "Trade", "updatedTime": "1724408566765",
    }, "linear")
    case = next(c for c in (*made(), closed) if c.kind == kind)
    read(case)
    with pytest.raises(BadMessage, match=field):
        read(case, {**case.body, field: "Dreaming"})


@pytest.mark.parametrize("field", ["status", "contractType", "marginTrading", "copyTrading", "symbolType"])
def test_an_unknown_word_in_reference_data_is_tolerated(shared: Path, field: str) -> None:
    """A new kind of status, contract or direction must not blind us to the steps and limits."""
    case = next(c for c in recorded.cases(shared) if c.kind == "instrument" and field in c.body)
    assert read(case, {**case.body, field: "Dreaming"}) == read(case)


def test_an_unknown_tick_direction_is_tolerated() -> None:
    """A ticker is prices: what it says about the tick's direction is not read."""
    case = next(c for c in made() if c.kind == "ticker")
    body = {**case.body, "data": {**SNAPSHOT, "tickDirection": "Sideways"}}
    assert read(case, body) == read(case)
