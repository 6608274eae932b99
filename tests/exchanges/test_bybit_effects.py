"""What the executor hears back from each effect, whatever Bybit does."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from aiohttp import web

from exchanges.bybit_samples import EXECUTION, ORDER
from exchanges.bybit_stub import Make, Stub, envelope
from hedgelock.clock import SystemClock
from hedgelock.domain.effect import (
    CancelOrder,
    Effect,
    LoanAnswer,
    OrderAnswer,
    OrderFacts,
    Outcome,
    QueryLoanAction,
    QueryOrder,
    QueryTransfer,
    SendLoanAction,
    SendOrder,
    SendTransfer,
    TransferAnswer,
)
from hedgelock.domain.order import OrderType, Side, TimeInForce
from hedgelock.domain.treasury import Pocket, TreasuryKind
from hedgelock.exchanges.bybit import CAPABILITIES

NEVER = 2**52
SEND = SendOrder(
    account="main", intent_id="i", client_order_id="hl1", instrument="linear:BTCUSDT",
    side=Side.SELL, order_type=OrderType.LIMIT, qty=Decimal("0.010"), price=Decimal("6E+4"),
    time_in_force=TimeInForce.IOC, reduce_only=True, expires_ts_ms=NEVER,
)
QUERY = QueryOrder(
    account="main", client_order_id="hl1", instrument="linear:BTCUSDT", since_ts_ms=0
)
CANCEL = CancelOrder(account="main", client_order_id="hl1", instrument="linear:BTCUSDT")
TRANSFER = SendTransfer(
    account="main", intent_id="i", transfer_id="8f0c", coin="USDT", amount=Decimal("1500.5"),
    source=Pocket.UNIFIED, target=Pocket.FUND,
)
QUERY_TRANSFER = QueryTransfer(account="main", intent_id="i", transfer_id="8f0c")
REPAY = SendLoanAction(
    account="main", intent_id="i", kind_of=TreasuryKind.REPAY, coin="USDT", amount=Decimal(1000),
    collateral_coin="BTC",
)
SINCE_MS = 1_700_000_000_000
QUERY_REPAY = QueryLoanAction(
    account="main", intent_id="i", kind_of=TreasuryKind.REPAY, coin="USDT", amount=Decimal(1000),
    since_ts_ms=SINCE_MS,
)
CREATE, CANCEL_PATH = "/v5/order/create", "/v5/order/cancel"
REALTIME, HISTORY, FILLS = "/v5/order/realtime", "/v5/order/history", "/v5/execution/list"
MOVE, MOVES = "/v5/asset/transfer/inter-transfer", "/v5/asset/transfer/query-inter-transfer-list"
REPAY_PATH = "/v5/crypto-loan-flexible/repay"
REPAYMENTS = "/v5/crypto-loan-flexible/repayment-history"


def lists(stub: Stub, **rows: list[dict[str, Any]]) -> None:
    """Answer the three places an order may be found."""
    for path, name in ((REALTIME, "realtime"), (HISTORY, "history"), (FILLS, "fills")):
        stub.answer(path, {"category": "linear", "list": rows.get(name, []), "nextPageCursor": ""})


# ---------------------------------------------------------------- sending


async def test_an_order_travels_in_plain_digits(stub: Stub, make: Make) -> None:
    """Quantities and prices are text without exponents; one-way mode; our id is orderLinkId."""
    stub.answer(CREATE, {"orderId": "v1", "orderLinkId": "hl1"})
    event = await make(stub.port).perform(SEND)
    assert isinstance(event, OrderAnswer)
    assert (event.outcome, event.venue_order_id) == (Outcome.ACCEPTED, "v1")
    assert json.loads(stub.requests[-1][2]) == {
        "category": "linear", "symbol": "BTCUSDT", "side": "Sell", "orderType": "Limit",
        "qty": "0.010", "price": "60000", "timeInForce": "IOC", "orderLinkId": "hl1",
        "positionIdx": 0, "reduceOnly": True,
    }


async def test_a_spot_market_order_counts_base_coins(stub: Stub, make: Make) -> None:
    """A spot market buy of 0.01 BTC is not one of 0.01 USDT."""
    stub.answer(CREATE, {"orderId": "v1"})
    spot = msgspec.structs.replace(
        SEND, instrument="spot:BTCUSDT", order_type=OrderType.MARKET, price=None, side=Side.BUY
    )
    await make(stub.port).perform(spot)
    body = json.loads(stub.requests[-1][2])
    assert body["marketUnit"] == "baseCoin"
    assert "price" not in body
    assert "positionIdx" not in body


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        (110072, Outcome.DUPLICATE), (170141, Outcome.DUPLICATE), (10006, Outcome.BUSY),
        (10002, Outcome.BUSY), (10000, Outcome.DOUBTFUL), (10016, Outcome.DOUBTFUL),
        (10014, Outcome.DOUBTFUL), (110007, Outcome.REFUSED), (10005, Outcome.REFUSED),
        (131214, Outcome.REFUSED),
    ],
)
async def test_order_codes(stub: Stub, make: Make, code: int, outcome: Outcome) -> None:
    """Duplicate, busy, doubtful and refused are told apart, and the code is kept."""
    stub.answer(CREATE, code=code, text="because")
    event = await make(stub.port).perform(SEND)
    assert isinstance(event, OrderAnswer)
    assert (event.outcome, event.code) == (outcome, str(code))
    assert stub.count(CREATE) == 1
    if outcome is Outcome.BUSY:
        assert event.retry_at_ms > 0


async def test_a_lost_ack_is_doubt(stub: Stub, make: Make) -> None:
    """The connection dies after the order was read by the venue: DOUBTFUL, sent once."""
    stub.drop(CREATE)
    event = await make(stub.port).perform(SEND)
    assert isinstance(event, OrderAnswer)
    assert event.outcome is Outcome.DOUBTFUL
    assert stub.count(CREATE) == 1


async def test_a_success_without_an_id_is_doubt(stub: Stub, make: Make) -> None:
    """RetCode 0 with a result that cannot be read says only that something arrived."""
    stub.answer(CREATE, {"orderId": 5})
    event = await make(stub.port).perform(SEND)
    assert isinstance(event, OrderAnswer)
    assert event.outcome is Outcome.DOUBTFUL


async def test_busy_is_timed_by_our_clock(stub: Stub, make: Make) -> None:
    """retry_at_ms is in our clock even when the venue's is 90 s ahead."""
    now_ms = SystemClock().now_ms()
    stub.answer(
        "/v5/market/time", {"timeSecond": "0", "timeNano": str((now_ms + 90_000) * 10**6)}
    )
    stub.answer(CREATE, code=10006)
    exchange = make(stub.port)
    await exchange.clock_offset_ms()
    event = await exchange.perform(SEND)
    assert isinstance(event, OrderAnswer)
    assert 0 < event.retry_at_ms - now_ms < 5_000


async def test_what_has_expired_is_not_sent(stub: Stub, make: Make) -> None:
    """An order whose time is over is refused here; nothing leaves."""
    event = await make(stub.port).perform(msgspec.structs.replace(SEND, expires_ts_ms=1))
    assert isinstance(event, OrderAnswer)
    assert (event.outcome, event.code) == (Outcome.REFUSED, "expired")
    assert stub.requests == []


@pytest.mark.parametrize(
    "effect", [TRANSFER, REPAY, msgspec.structs.replace(SEND, instrument="spot:BTCUSDT")]
)
async def test_what_a_mode_cannot_do_is_refused_with_its_reason(
    stub: Stub, make: Make, effect: Effect
) -> None:
    """Capability flags stop an effect before anything is sent."""
    none = CAPABILITIES["sim"]._replace(loans=False, transfers=False, spot=False)
    event = await make(stub.port, capabilities=none).perform(effect)
    assert event.outcome is Outcome.REFUSED  # type: ignore[union-attr]
    assert event.code == "capability"  # type: ignore[union-attr]
    assert stub.requests == []


async def test_a_cancel_that_comes_late_is_refused_as_a_cancel(stub: Stub, make: Make) -> None:
    """110001 on a cancel says nothing about the order; the answer is marked as a cancel's."""
    stub.answer(CANCEL_PATH, code=110001)
    event = await make(stub.port).perform(CANCEL)
    assert isinstance(event, OrderAnswer)
    assert (event.outcome, event.is_cancel) == (Outcome.REFUSED, True)
    stub.answer(CANCEL_PATH, {"orderId": "v1"})
    event = await make(stub.port).perform(CANCEL)
    assert isinstance(event, OrderAnswer)
    assert (event.outcome, event.is_cancel) == (Outcome.ACCEPTED, True)


# ---------------------------------------------------------------- asking

FILLED = {**ORDER, "orderStatus": "Filled", "cumExecQty": "0.5", "qty": "0.5"}


@pytest.mark.parametrize("place", ["realtime", "history"])
async def test_an_order_is_found_wherever_it_is(stub: Stub, make: Make, place: str) -> None:
    """Open orders, then history; the row comes with every fill of it."""
    lists(stub, **{place: [FILLED]}, fills=[EXECUTION])
    event = await make(stub.port).perform(QUERY)
    assert isinstance(event, OrderFacts)
    assert event.report.filled_qty == Decimal("0.5")
    assert [e.fill.exec_id for e in event.executions] == ["e"]


async def test_absent_needs_three_empty_answers(stub: Stub, make: Make) -> None:
    """Only when open orders, history and executions all answered empty is an order absent."""
    lists(stub)
    event = await make(stub.port).perform(QUERY)
    assert isinstance(event, OrderAnswer)
    assert event.outcome is Outcome.ABSENT
    assert (stub.count(REALTIME), stub.count(HISTORY), stub.count(FILLS)) == (2, 2, 1)


@pytest.mark.parametrize("path", [REALTIME, HISTORY, FILLS])
@pytest.mark.parametrize("code", [10016, 10005, 10001])
async def test_absent_is_never_said_when_a_place_did_not_answer(
    stub: Stub, make: Make, path: str, code: int
) -> None:
    """One failed read of the three: nothing was learned."""
    lists(stub)
    stub.answer(path, code=code)
    event = await make(stub.port).perform(QUERY)
    assert isinstance(event, OrderAnswer)
    assert event.outcome is Outcome.QUERY_FAILED


@pytest.mark.parametrize(
    "rows",
    [
        {"realtime": [FILLED], "fills": []},
        {"fills": [EXECUTION]},
        {"realtime": [{**FILLED, "orderStatus": "Halted"}], "fills": [EXECUTION]},
        {"realtime": [FILLED], "fills": [{**EXECUTION, "execFee": ""}]},
    ],
)
async def test_facts_that_do_not_fit_together_are_no_facts(
    stub: Stub, make: Make, rows: dict[str, list[dict[str, Any]]]
) -> None:
    """Fills missing, row missing, unknown status or an absent fee: asked again, not guessed."""
    lists(stub, **rows)
    event = await make(stub.port).perform(QUERY)
    assert isinstance(event, OrderAnswer)
    assert event.outcome is Outcome.QUERY_FAILED


async def test_a_closing_fills_profit_comes_from_the_ledger(stub: Stub, make: Make) -> None:
    """REST fills have no execPnl: the transaction log's cash flow of that trade is it."""
    lists(stub, realtime=[FILLED], fills=[{**EXECUTION, "closedSize": "0.5"}])
    path = "/v5/account/transaction-log"
    stub.answer(path, {"list": [], "nextPageCursor": ""})
    event = await make(stub.port).perform(QUERY)
    assert isinstance(event, OrderAnswer)
    assert event.outcome is Outcome.QUERY_FAILED
    stub.answer(path, {"list": [{"tradeId": "e", "cashFlow": "-12.5"}], "nextPageCursor": ""})
    event = await make(stub.port).perform(QUERY)
    assert isinstance(event, OrderFacts)
    assert event.executions[0].fill.pnl == Decimal("-12.5")


# ---------------------------------------------------------------- transfers


@pytest.mark.parametrize(
    ("status", "outcome"),
    [("SUCCESS", Outcome.DONE), ("PENDING", Outcome.ACCEPTED), ("FAILED", Outcome.REFUSED),
     ("STATUS_UNKNOWN", Outcome.DOUBTFUL), ("LATER", Outcome.DOUBTFUL)],
)
async def test_transfer_statuses(stub: Stub, make: Make, status: str, outcome: Outcome) -> None:
    """What the venue says about a transfer; a word we do not know is doubt."""
    stub.answer(MOVE, {"transferId": "8f0c", "status": status})
    event = await make(stub.port).perform(TRANSFER)
    assert isinstance(event, TransferAnswer)
    assert event.outcome is outcome
    assert json.loads(stub.requests[-1][2]) == {
        "transferId": "8f0c", "coin": "USDT", "amount": "1500.5", "fromAccountType": "UNIFIED",
        "toAccountType": "FUND",
    }


async def test_a_used_transfer_id_is_a_duplicate(stub: Stub, make: Make) -> None:
    """131214 means that the earlier attempt arrived."""
    stub.answer(MOVE, code=131214)
    event = await make(stub.port).perform(TRANSFER)
    assert isinstance(event, TransferAnswer)
    assert event.outcome is Outcome.DUPLICATE


async def test_a_transfer_is_asked_for_by_its_id(stub: Stub, make: Make) -> None:
    """Only the row with our id counts; none is ABSENT."""
    exchange = make(stub.port)
    stub.answer(MOVES, {"list": [{"transferId": "other", "status": "SUCCESS"}]})
    event = await exchange.perform(QUERY_TRANSFER)
    assert isinstance(event, TransferAnswer)
    assert event.outcome is Outcome.ABSENT
    stub.answer(MOVES, {"list": [{"transferId": "8f0c", "status": "SUCCESS"}]})
    event = await exchange.perform(QUERY_TRANSFER)
    assert isinstance(event, TransferAnswer)
    assert event.outcome is Outcome.DONE


# ---------------------------------------------------------------- loan


def repayment(**change: Any) -> dict[str, Any]:
    """A row of the repayment history."""
    return {"repayId": "r1", "loanCurrency": "USDT", "repayAmount": "1000.0", "repayType": 1,
            "repayTime": SINCE_MS + 500, "repayStatus": 1, **change}


@pytest.mark.parametrize(
    ("rows", "outcome"),
    [
        ([repayment()], Outcome.DONE),
        ([repayment(repayStatus=2)], Outcome.ACCEPTED),
        ([repayment(repayStatus=3)], Outcome.REFUSED),
        ([repayment(repayStatus=3), repayment(repayId="r0")], Outcome.DONE),
        ([], Outcome.ABSENT),
        ([repayment(repayAmount="999")], Outcome.ABSENT),
        ([repayment(repayTime=SINCE_MS - 5_000)], Outcome.ABSENT),
        ([repayment(loanCurrency="USDC")], Outcome.ABSENT),
        ([repayment(repayType=2)], Outcome.ABSENT),
        ([repayment(repayTime=SINCE_MS - 9_000), repayment()], Outcome.DONE),
        ([repayment(repayTime=SINCE_MS - 8_000), repayment(repayTime=SINCE_MS - 9_000),
          repayment(repayAmount="")], Outcome.QUERY_FAILED),
        ([repayment(repayStatus=9)], Outcome.QUERY_FAILED),
        ([repayment(repayTime=SINCE_MS // 1000)], Outcome.QUERY_FAILED),
        ([repayment(repayAmount="")], Outcome.QUERY_FAILED),
    ],
)
async def test_a_loan_action_is_recognised_by_coin_amount_and_time(
    stub: Stub, make: Make, rows: list[dict[str, Any]], outcome: Outcome
) -> None:
    """Done beats failed; liquidations, other amounts and older rows are not ours; order is no premise."""
    stub.answer(REPAYMENTS, {"list": rows, "nextPageCursor": ""})
    event = await make(stub.port).perform(QUERY_REPAY)
    assert isinstance(event, LoanAnswer)
    assert event.outcome is outcome


async def test_history_is_read_past_a_page_that_is_not_newest_first(
    stub: Stub, make: Make
) -> None:
    """Old rows on the first page end the search only where the page shows that it descends."""
    first = [repayment(repayTime=SINCE_MS - 9_000), repayment(repayTime=SINCE_MS - 8_000)]
    for rows, outcome, count in ((first, Outcome.DONE, 2), (first[::-1], Outcome.ABSENT, 1)):
        pages = {"": (rows, "p2"), "p2": ([repayment()], "")}

        async def route(
            _request: web.Request, query: dict[str, Any], pages: Any = pages
        ) -> web.StreamResponse:
            found, cursor = pages[query.get("cursor", "")]
            return envelope({"list": found, "nextPageCursor": cursor})

        stub.routes[REPAYMENTS] = route
        stub.requests.clear()
        event = await make(stub.port).perform(QUERY_REPAY)
        assert isinstance(event, LoanAnswer)
        assert (event.outcome, stub.count(REPAYMENTS)) == (outcome, count)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(1, Outcome.DONE), (2, Outcome.ACCEPTED), (3, Outcome.REFUSED), (None, Outcome.ACCEPTED)],
)
async def test_a_repayment_is_done_when_the_history_says_so(
    stub: Stub, make: Make, status: int | None, outcome: Outcome
) -> None:
    """The ack alone is ACCEPTED; the history of its id decides."""
    stub.answer(REPAY_PATH, {"repayId": "r7"})
    rows = [] if status is None else [repayment(repayId="r7", repayStatus=status)]
    stub.answer(REPAYMENTS, {"list": rows, "nextPageCursor": ""})
    event = await make(stub.port).perform(REPAY)
    assert isinstance(event, LoanAnswer)
    assert (event.outcome, event.reference) == (outcome, "r7")


async def test_a_repayment_whose_history_fails_stays_accepted(stub: Stub, make: Make) -> None:
    """The venue took it: a failing look at the history does not make it doubtful or refused."""
    stub.answer(REPAY_PATH, {"repayId": "r7"})
    stub.answer(REPAYMENTS, code=10016)
    event = await make(stub.port).perform(REPAY)
    assert isinstance(event, LoanAnswer)
    assert event.outcome is Outcome.ACCEPTED


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(148019, Outcome.BUSY), (148038, Outcome.REFUSED), (10016, Outcome.DOUBTFUL)],
)
async def test_loan_codes(stub: Stub, make: Make, code: int, outcome: Outcome) -> None:
    """Busy is tried again, a refusal is final, a server error is doubt."""
    stub.answer(REPAY_PATH, code=code)
    event = await make(stub.port).perform(REPAY)
    assert isinstance(event, LoanAnswer)
    assert event.outcome is outcome


async def test_what_is_no_loan_action_is_refused(stub: Stub, make: Make) -> None:
    """A transfer kind given as a loan action goes nowhere."""
    wrong = msgspec.structs.replace(REPAY, kind_of=TreasuryKind.TRANSFER_TO_FUND)
    event = await make(stub.port).perform(wrong)
    assert isinstance(event, LoanAnswer)
    assert event.outcome is Outcome.REFUSED
    assert stub.requests == []
