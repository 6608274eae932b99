"""A desk at the simulated exchange: requests in virtual time, without sockets."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest

from hedgelock.simulator.scenarios import SCENARIOS, Scenario
from hedgelock.simulator.state import Account, Event, Row
from hedgelock.simulator.venue import Response, Venue

T0 = 1_700_000_000_000
ME, TWIN = "hedgelock-sim", "unprotected-sim"


class Desk:
    """Somebody with an account; time passes only when asked to."""

    def __init__(
        self, scenario: Scenario, *, seed: int = 1, limits_factor: int = 1000, tick_ms: int = 100
    ) -> None:
        self.venue = Venue(
            scenario, now_ms=T0, seed=seed, limits_factor=limits_factor, tick_ms=tick_ms
        )
        self.now_ms = T0
        self.who = ME
        self.log: list[Event] = []

    @property
    def account(self) -> Account:
        return self.venue.exchange.accounts[self.who]

    def wait(self, ms: int) -> None:
        self.now_ms += ms
        self.venue.advance(self.now_ms)
        self.log += self.venue.drain()

    def until(self, script_ms: int) -> None:
        self.wait(T0 + script_ms - self.now_ms)

    def call(self, method: str, path: str, **params: object) -> Response:
        reply = self.venue.request(
            method, f"/v5/{path}", params, account=self.who, now_ms=self.now_ms
        )
        self.log += self.venue.drain()
        return reply

    def get(self, path: str, **params: object) -> Row:
        reply = self.call("GET", path, **params)
        assert reply.code == 0, reply
        return reply.result

    def post(self, path: str, **params: object) -> Row:
        reply = self.call("POST", path, **params)
        assert reply.code == 0, reply
        return reply.result

    def order(self, side: str, qty: str, **params: object) -> Row:
        """Place an order (market unless a price is given) and return its row."""
        kind = {"orderType": "Limit" if "price" in params else "Market"}
        base = {"category": "linear", "symbol": "BTCUSDT", "side": side, "qty": qty}
        given = {**base, **kind, **params}
        placed = self.post("order/create", **given)
        return self.row(placed["orderId"], str(given["category"]))

    def refused(self, side: str, qty: str, **params: object) -> int:
        base = {"category": "linear", "symbol": "BTCUSDT", "side": side, "qty": qty}
        kind = {"orderType": "Limit" if "price" in params else "Market"}
        return self.call("POST", "order/create", **{**base, **kind, **params}).code

    def row(self, order_id: str, category: str = "linear") -> Row:
        return self.get("order/realtime", category=category, orderId=order_id)["list"][0]

    def position(self) -> Row:
        return self.get("position/list", category="linear", symbol="BTCUSDT")["list"][0]

    def wallet(self) -> Row:
        return self.get("account/wallet-balance", accountType="UNIFIED")["list"][0]

    def balance(self, coin: str, pocket: str = "UNIFIED") -> Decimal:
        return self.venue.exchange.ledger.balance(f"{self.who}/{pocket}", coin)

    def pushed(self, topic: str) -> list[Row]:
        return [r for e in self.log if e.topic == topic and e.account == self.who for r in e.data]


def quiet(**changes: object) -> Scenario:
    """BTC exactly at 60,000, funding .0001, one settlement at 10 s."""
    return replace(
        SCENARIOS["calm"],
        name="quiet",
        noise_bps=0.0,
        prices={"BTC": ((0, 60000),), "ETH": ((0, 3000),)},
        funding={"BTC": ((0, 0.0001),), "ETH": ((0, 0.0001),)},
        settlements_s=(10,),
        **changes,
    )


@pytest.fixture
def open_desk() -> Callable[..., Desk]:
    def build(scenario: str | Scenario = "quiet", **options: int) -> Desk:
        if isinstance(scenario, str):
            scenario = quiet() if scenario == "quiet" else SCENARIOS[scenario]
        return Desk(scenario, **options)

    return build


@pytest.fixture
def desk(open_desk: Callable[..., Desk]) -> Desk:
    return open_desk()


@pytest.fixture
def quiet_scenario() -> Callable[..., Scenario]:
    return quiet
