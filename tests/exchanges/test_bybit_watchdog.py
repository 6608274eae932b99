"""When nobody watches: our opening orders are taken back, reduce-only ones and other people's stay."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exchanges.bybit_samples import ORDER
from exchanges.bybit_stub import Make, Stub
from hedgelock import app
from hedgelock.app import StartRefused
from hedgelock.cli.watchdog import DONE, sweep
from hedgelock.clock import SystemClock
from hedgelock.config import Settings, load
from hedgelock.domain.order import client_order_id
from hedgelock.errors import VenueError
from hedgelock.exchanges.bybit_key import DCP_WINDOW_S
from hedgelock.exchanges.bybit_watchdog import OUR_PREFIX
from hedgelock.exchanges.key_lock import KeyLock
from hedgelock.simulator.server import RunningServer
from hedgelock.supervisor import ABANDONED_S, STEADY_S, WATCHDOG_EVERY_S, Child, Supervisor

ME = "hedgelock-sim"


def rest(server: RunningServer, name: str, **fields: Any) -> None:
    """A resting order far from the market."""
    body = {"category": "linear", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.1",
            "price": "50000", "orderLinkId": name, **fields}
    reply = server.venue.request("POST", "/v5/order/create", body, account=ME,
                                 now_ms=server.carrier.clock())
    assert reply.code == 0, reply


def resting(server: RunningServer) -> set[str]:
    """Client order ids that rest."""
    return {o.link for o in server.venue.exchange.accounts[ME].open_orders.values()}


def settings_of(server: RunningServer, folder: Path) -> Settings:
    """A configuration of the simulator `server`."""
    return load({"SIM__PORT": str(server.port), "DATA_DIR": str(folder)}, env_file=None)


@pytest.fixture
def left(simulator: RunningServer) -> RunningServer:
    """What a dead engine left: an opening order, a reduce-only one and a stranger's."""
    sell = {"category": "linear", "symbol": "BTCUSDT", "side": "Sell", "orderType": "Market", "qty": "0.3"}
    simulator.venue.request("POST", "/v5/order/create", sell, account=ME, now_ms=simulator.carrier.clock())
    rest(simulator, "hl-opens")
    rest(simulator, "hl-reduces", reduceOnly=True)
    rest(simulator, "a-person's".replace("'", ""))
    return simulator


async def test_only_our_opening_orders_are_taken_back(left: RunningServer, tmp_path: Path) -> None:
    """The sweep cancels what is ours and opens; a second one finds nothing to do."""
    settings = settings_of(left, tmp_path)
    assert await sweep(settings) == DONE
    assert resting(left) == {"hl-reduces", "a-persons"}
    assert await sweep(settings) == DONE


async def test_an_engine_that_lives_is_left_alone(left: RunningServer, tmp_path: Path) -> None:
    """While an engine holds the key nothing is cancelled under it."""
    settings = settings_of(left, tmp_path)
    locks = app.lock_keys(settings, SystemClock())
    assert await sweep(settings) == DONE
    assert "hl-opens" in resting(left)
    for lock in locks:
        lock.release()


async def test_a_cancel_that_fails_is_told_and_hides_no_other(stub: Stub, make: Make) -> None:
    """One unreadable row, one refusal, one order already gone, one cancelled: each is accounted for."""
    rows = [{**ORDER, "orderLinkId": f"hl{n}", "orderId": str(n)} for n in range(3)]
    unreadable = {**ORDER, "orderLinkId": "hl9", "reduceOnly": "no"}
    stub.answer("/v5/order/realtime", {"list": [unreadable, *rows], "nextPageCursor": ""})
    codes = {"0": 110001, "1": 10001, "2": 0}

    async def cancel(_request: Any, body: dict[str, Any]) -> Any:
        from exchanges.bybit_stub import envelope

        return envelope({}, code=codes[body["orderId"]])

    stub.routes["/v5/order/cancel"] = cancel
    cancelled, failed = await make(stub.port).cancel_opening_orders()
    assert set(cancelled) == {"hl0", "hl2"}
    assert {text.partition(":")[0] for text in failed} == {"hl9", "hl1"}
    stub.answer("/v5/order/realtime", {"list": "none"})
    with pytest.raises(VenueError):
        await make(stub.port).cancel_opening_orders()


def test_the_prefix_is_that_of_our_ids() -> None:
    """What the watchdog looks for is what every order of ours begins with."""
    name = client_order_id(log_id="00", account="main", decision="d", slice_no=0, attempt=0)
    assert name.startswith(OUR_PREFIX)


def test_an_engine_does_not_start_on_a_key_in_use(tmp_path: Path) -> None:
    """The start is refused in words; a second account's lock is no obstacle."""
    settings = load({"DATA_DIR": str(tmp_path)}, env_file=None)
    endpoint = settings.endpoint("main")
    other = KeyLock(tmp_path, endpoint.rest_url, endpoint.api_key.get_secret_value())
    other.acquire("data folder /elsewhere", now_ms=1)
    with pytest.raises(StartRefused, match="in use by process"):
        app.lock_keys(settings, SystemClock())
    other.release()
    for lock in app.lock_keys(settings, SystemClock()):
        lock.release()


def test_the_exchanges_switch_is_left_alone_where_a_stop_is_kept() -> None:
    """Disconnect-cancel-all might take the protective stop: it is armed only where there is none."""
    policy = load({}, env_file=None).policy("main")
    assert policy.hedge.stop_margin_ratio > 0
    assert app.dcp_window_s(policy) == 0
    without = msgspec.structs.replace(policy.hedge, stop_margin_ratio=Decimal(0))
    assert app.dcp_window_s(msgspec.structs.replace(policy, hedge=without)) == DCP_WINDOW_S


def test_the_shared_folder_must_be_writable(tmp_path: Path) -> None:
    """A folder that cannot be made is told with the setting that names another."""
    (tmp_path / "file").write_text("")
    settings = load({"DATA_DIR": str(tmp_path / "file" / "x")}, env_file=None)
    with pytest.raises(StartRefused, match="SHARED_DIR="):
        app.lock_keys(settings, SystemClock())


class Idle(Supervisor):
    """A supervisor whose watchdogs are counted instead of started."""

    started = 0

    def _start_watchdog(self) -> None:
        self.started += 1


def test_the_watchdog_is_called_when_the_engine_does_not_come_back(tmp_path: Path) -> None:
    """Not while it lives, not at once; after 20 s without it, then every minute."""
    supervisor = Idle(load({"DATA_DIR": str(tmp_path)}, env_file=None))
    engine = Child("engine", ("false",))
    supervisor._mind_the_abandoned(engine, 1_000.0)
    engine.gone_since_s = 1_000.0
    for now in (1_000.0, 1_000.0 + ABANDONED_S - 0.1):
        supervisor._mind_the_abandoned(engine, now)
    assert supervisor.started == 0
    for now in (1_000.0 + ABANDONED_S, 1_021.0, 1_050.0):
        supervisor._mind_the_abandoned(engine, now)
    assert supervisor.started == 1
    supervisor._mind_the_abandoned(engine, 1_000.0 + ABANDONED_S + WATCHDOG_EVERY_S)
    assert supervisor.started == 2
    assert STEADY_S < ABANDONED_S
