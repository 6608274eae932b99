"""What the adapter adds for stops, resting orders and the list of open orders."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec

from exchanges.bybit_stub import Stub
from exchanges.conftest import Make
from hedgelock.domain.effect import ListOrders, OpenOrders, OrderAnswer, Outcome, SendOrder
from hedgelock.domain.order import OrderType, Side, TimeInForce
from hedgelock.exchanges.bybit import CAPABILITIES
from hedgelock.exchanges.bybit_order import order_body

D = Decimal
OPEN = "/v5/order/realtime"
STOP = SendOrder(
    account="main", intent_id="i", client_order_id="hl1", instrument="linear:BTCUSDT",
    side=Side.BUY, order_type=OrderType.MARKET, qty=D("0.5"), price=None,
    time_in_force=TimeInForce.IOC, reduce_only=True, expires_ts_ms=9_999_999_999_999,
    protective=True, trigger_price=D("70000.0"),
)


def test_a_stop_waits_for_the_mark_to_rise() -> None:
    """A conditional market order by mark price that only reduces and comes first at its hour."""
    assert order_body(STOP) == {
        "category": "linear", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Market",
        "qty": "0.5", "timeInForce": "IOC", "orderLinkId": "hl1", "positionIdx": 0,
        "reduceOnly": True, "triggerPrice": "70000.0", "triggerDirection": 1,
        "triggerBy": "MarkPrice", "closeOnTrigger": True,
    }
    sale = msgspec.structs.replace(STOP, side=Side.SELL)
    assert order_body(sale)["triggerDirection"] == 2


def test_a_patient_order_is_post_only() -> None:
    """It carries Bybit's word for an order that must not take."""
    resting = msgspec.structs.replace(
        STOP, order_type=OrderType.LIMIT, price=D(60_000), trigger_price=None,
        time_in_force=TimeInForce.POST_ONLY,
    )
    assert order_body(resting)["timeInForce"] == "PostOnly"
    assert "triggerPrice" not in order_body(resting)


async def test_a_mode_without_stops_refuses_them(stub: Stub, make: Make) -> None:
    """Refused here, not sent and left to chance."""
    exchange = make(stub.port, capabilities=CAPABILITIES["sim"]._replace(stops=False))
    event = await exchange.perform(STOP)
    assert isinstance(event, OrderAnswer)
    assert (event.outcome, event.code) == (Outcome.REFUSED, "capability")
    assert stub.count("/v5/order/create") == 0


def row(client_id: str, **changes: Any) -> dict[str, Any]:
    """An open order as Bybit lists it."""
    return {
        "orderId": "v" + client_id, "orderLinkId": client_id, "symbol": "BTCUSDT", "side": "Sell",
        "orderType": "Limit", "price": "60000", "qty": "1", "cumExecQty": "0", "reduceOnly": False,
        "orderStatus": "New", "rejectReason": "EC_NoError", "cancelType": "UNKNOWN",
        "createdTime": "1700000000000", "updatedTime": "1700000000001", **changes,
    }


async def test_every_open_order_is_listed(stub: Stub, make: Make) -> None:
    """Linear by both coins, inverse and spot, each to its last page, with the price as it is held."""
    stub.answer(OPEN, {"category": "linear", "list": [row("hl1"), row("by-hand", price="59000")],
                       "nextPageCursor": ""})
    event = await make(stub.port).perform(ListOrders(account="main"))
    assert isinstance(event, OpenOrders)
    assert event.outcome is Outcome.DONE
    # The stub says the same to each of the four questions.
    assert [r.client_order_id for r in event.reports] == ["hl1", "by-hand"] * 4
    assert {r.price for r in event.reports} == {D(60_000), D(59_000)}
    asked = [request for request in stub.requests if OPEN in request[1]]
    assert len(asked) == 4


async def test_half_a_list_is_no_list(stub: Stub, make: Make) -> None:
    """One category that cannot be read, or one row, and nothing is said of any."""
    stub.answer(OPEN, code=10016, text="internal")
    event = await make(stub.port).perform(ListOrders(account="main"))
    assert isinstance(event, OpenOrders)
    assert (event.outcome, event.reports) == (Outcome.QUERY_FAILED, ())
    stub.answer(OPEN, {"list": [row("hl1", qty="")], "nextPageCursor": ""})
    event = await make(stub.port).perform(ListOrders(account="main"))
    assert isinstance(event, OpenOrders)
    assert (event.outcome, event.reports) == (Outcome.QUERY_FAILED, ())


def test_json_of_a_stop() -> None:
    """The effect survives the journal."""
    again = msgspec.json.decode(msgspec.json.encode(STOP), type=SendOrder)
    assert again == STOP
    assert json.loads(msgspec.json.encode(STOP))["trigger_price"] == "70000.0"
