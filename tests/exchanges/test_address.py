"""One network address, many users: room for requests, the stand-off after a 403, one engine per key."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from exchanges.bybit_stub import KEYS
from hedgelock.errors import ConfigError, VenueBusy
from hedgelock.exchanges.address import (
    LEASE,
    LIMIT,
    READS_LIMIT,
    SHARE,
    SOCKET_LIMIT,
    SOCKET_SHARE,
    STAND_OFF_MS,
    WINDOW_MS,
    Address,
    Guard,
    Guards,
    SharedBook,
)
from hedgelock.exchanges.bybit_dialect import BybitDialect
from hedgelock.exchanges.ccxt_venue import CcxtVenue
from hedgelock.exchanges.key_lock import KeyLock, name_of
from hedgelock.exchanges.pace import Paces
from hedgelock.exchanges.transport import HttpAnswer, Socket

URL = "https://api.bybit.com"


class Hands:
    """A clock moved by hand."""

    def __init__(self, now_ms: int = 1_760_000_000_000) -> None:
        self.ms = now_ms
        self.started_ms = now_ms
        self.set_by_ms = 0
        """How far somebody set the wall clock."""

    def now_ms(self) -> int:
        return self.ms + self.set_by_ms

    def monotonic_ms(self) -> float:
        return float(self.ms - self.started_ms)


class Wire:
    """Answers every request alike and counts them."""

    def __init__(
        self, status: int = 200, headers: Mapping[str, str] | None = None, code: int = 0
    ) -> None:
        self.sent = 0
        self.code = code
        self.status = status
        self.headers = headers or {}

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> HttpAnswer:
        self.sent += 1
        body_out = b'{"retCode":%d,"retMsg":"","result":{},"time":1760000000000}' % self.code
        return HttpAnswer(self.status, self.headers, body_out if self.status == 200 else b"too often")

    async def open_socket(self, url: str, *, timeout_s: float) -> Socket:
        raise AssertionError("no sockets here")

    async def close(self) -> None:
        """Nothing is open."""


def taken(address: Address, *, is_urgent: bool, most: int = 2_000) -> int:
    """How many requests may leave at this instant."""
    return next(n for n in range(most) if address.take(is_urgent=is_urgent))


def venue(wire: Wire, clock: Hands, guard: Guard) -> CcxtVenue:
    """A connection that shares `guard`."""
    return CcxtVenue("bybit", KEYS, base_url=URL, dialect=BybitDialect(), transport=wire, clock=clock,
                     guard=guard)


@pytest.mark.parametrize("is_shared", [False, True])
def test_reads_leave_room_for_orders(tmp_path: Path, is_shared: bool) -> None:
    """Reads stop below the venue's 600 per 5 s, orders later, and both go on when the window has passed."""
    clock = Hands()
    address = Address(URL, clock, SharedBook(tmp_path) if is_shared else None)
    reads = taken(address, is_urgent=False)
    orders = taken(address, is_urgent=True)
    assert READS_LIMIT - LEASE < reads <= READS_LIMIT
    assert LIMIT - 2 * LEASE < reads + orders <= LIMIT < 600
    assert 0 < address.take(is_urgent=True) <= WINDOW_MS + 1_000
    clock.ms += WINDOW_MS + 1_001
    assert taken(address, is_urgent=False) > READS_LIMIT - LEASE


def test_all_processes_together_stay_below_the_limit(tmp_path: Path) -> None:
    """Three users of one book have one budget: whoever comes late finds less."""
    clock = Hands()
    users = [Address(URL, clock, SharedBook(tmp_path)) for _ in range(3)]
    counts = [taken(user, is_urgent=True) for user in users]
    assert sum(counts) <= LIMIT
    assert sum(counts) > LIMIT - 3 * LEASE
    elsewhere = Address("https://api-testnet.bybit.com", clock, SharedBook(tmp_path))
    assert taken(elsewhere, is_urgent=True) > LIMIT - LEASE, "another venue has its own budget"


def test_no_window_of_five_seconds_holds_more_than_the_limit(tmp_path: Path) -> None:
    """However two processes interleave over 20 s, every 5 s hold at most 540 of the venue's 600."""
    clock = Hands()
    users = [Address(URL, clock, SharedBook(tmp_path)) for _ in range(2)]
    left_ms: list[int] = []
    for step in range(2_000):
        clock.ms += 10
        for user in users if step % 3 else reversed(users):
            left_ms += [clock.ms] * sum(user.take(is_urgent=True) == 0 for _ in range(3))
    worst = max(
        sum(1 for at in left_ms if start <= at < start + WINDOW_MS) for start in set(left_ms[::7])
    )
    assert LIMIT * 0.7 < worst <= LIMIT


def test_without_a_book_each_takes_a_fixed_share(tmp_path: Path) -> None:
    """A folder that cannot be written must not stop requests, nor let everybody take everything."""
    (tmp_path / "file").write_text("")
    address = Address(URL, Hands(), SharedBook(tmp_path / "file" / "below"))
    assert taken(address, is_urgent=True) == SHARE


def test_a_403_stands_everybody_off_and_survives_a_restart(tmp_path: Path) -> None:
    """The refused process stops at once, others with their next lease, a new one at its first look."""
    clock = Hands()
    refused, other = (Address(URL, clock, SharedBook(tmp_path)) for _ in range(2))
    assert other.take(is_urgent=True) == 0
    refused.ban()
    assert refused.take(is_urgent=True) == STAND_OFF_MS
    clock.ms += 1_001
    assert other.take(is_urgent=True) == pytest.approx(STAND_OFF_MS - 1_001)
    restarted = Address(URL, clock, SharedBook(tmp_path))
    assert restarted.stand_off_ms() == pytest.approx(STAND_OFF_MS - 1_001)
    clock.ms += STAND_OFF_MS
    assert [a.take(is_urgent=False) for a in (refused, other, restarted)] == [0, 0, 0]


def test_a_clock_set_back_does_not_prolong_a_stand_off(tmp_path: Path) -> None:
    """A stand-off lasts ten minutes by the monotonic clock, whatever the wall clock does."""
    clock = Hands()
    Address(URL, clock, SharedBook(tmp_path)).ban()
    clock.set_by_ms = -86_400_000
    late = Address(URL, clock, SharedBook(tmp_path))
    assert late.stand_off_ms() == STAND_OFF_MS


@pytest.mark.parametrize("is_shared", [False, True])
def test_trade_sockets_have_room_of_their_own(tmp_path: Path, is_shared: bool) -> None:
    """Below the 3,000 a second and address; REST's window, its end and its stand-off are another's."""
    clock = Hands()
    users = [Address(URL, clock, SharedBook(tmp_path)) for _ in range(2)] if is_shared else [
        Address(URL, clock)]
    taken(users[0], is_urgent=True)
    users[0].ban()
    room = sum(next(n for n in range(4_000) if user.take_socket()) for user in users)
    assert SOCKET_LIMIT - 2 * LEASE < room <= SOCKET_LIMIT < 3_000
    clock.ms += WINDOW_MS + 1_001 if is_shared else 1_000
    assert users[0].take_socket() == 0


def test_a_trade_socket_without_a_book_has_a_share(tmp_path: Path) -> None:
    """A folder that cannot be written: a fixed part of the 3,000, one second at a time."""
    (tmp_path / "file").write_text("")
    clock = Hands()
    address = Address(URL, clock, SharedBook(tmp_path / "file" / "below"))
    assert next(n for n in range(4_000) if address.take_socket()) == SOCKET_SHARE
    clock.ms += 1_000
    assert address.take_socket() == 0


async def test_nothing_leaves_for_any_account_after_a_403(tmp_path: Path) -> None:
    """Two accounts in one process: one is refused, the other's next request does not leave either."""
    clock, wire = Hands(), Wire(status=403)
    guards = Guards(clock, SharedBook(tmp_path))
    first, second = (venue(wire, clock, guards.of(URL, key)) for key in ("a", "b"))
    with pytest.raises(VenueBusy) as refused:
        await first.call("GET", "/v5/market/time", signed=False)
    assert refused.value.retry_at_ms == clock.ms + STAND_OFF_MS
    wire.status = 200
    for method in ("GET", "POST"):
        with pytest.raises(VenueBusy, match="stands off"):
            await second.call(method, "/v5/order/create", {"a": "b"})
    assert wire.sent == 1
    clock.ms += STAND_OFF_MS
    await second.call("GET", "/v5/market/time", signed=False)
    assert wire.sent == 2


async def test_an_order_without_room_is_busy_and_a_read_waits() -> None:
    """An order must not leave late: it is told to come back; a read waits for its turn."""
    clock, wire = Hands(), Wire()
    one = venue(wire, clock, Guard(Address(URL, clock), Paces()))
    for _ in range(10):
        await one.call("POST", "/v5/order/create", {"a": "b"})
    with pytest.raises(VenueBusy, match="no room for order/create") as told:
        await one.call("POST", "/v5/order/create", {"a": "b"})
    assert 0 < told.value.retry_at_ms - clock.ms <= 1_001
    for _ in range(5):
        await one.call("GET", "/v5/crypto-loan-common/position")
    waiting = asyncio.ensure_future(one.call("GET", "/v5/crypto-loan-common/position"))
    await asyncio.sleep(0)
    assert wire.sent == 15
    clock.ms += 1_000
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await one.call("GET", "/v5/crypto-loan-common/position")
    assert wire.sent == 16


async def test_limits_are_learnt_per_account_from_headers() -> None:
    """A raised limit of one key opens its window, and no other key's; "none left" closes it."""
    clock = Hands()
    headers = {"x-bapi-limit": "20", "x-bapi-limit-status": "19",
               "x-bapi-limit-reset-timestamp": str(clock.ms)}
    wire, guards = Wire(headers=headers), Guards(clock)
    raised, plain = guards.of(URL, "raised"), guards.of(URL, "plain")
    await venue(wire, clock, raised).call("POST", "/v5/order/create", {"a": "b"})
    assert raised.paces.limit_of("POST", "order/create") == 20
    assert plain.paces.limit_of("POST", "order/create") == 10
    wire.headers = {**headers, "x-bapi-limit-status": "0",
                    "x-bapi-limit-reset-timestamp": str(clock.ms + 700)}
    await venue(wire, clock, raised).call("POST", "/v5/order/create", {"a": "b"})
    assert raised.paces.take("POST", "order/create", clock.monotonic_ms()) == 700
    assert guards.of(URL, "raised").paces is raised.paces, "collector and executor share one window"


async def test_a_time_request_that_is_refused_for_its_time_ends() -> None:
    """10002 in answer to market/time measures nothing again: it once waited for itself for ever."""
    clock, wire = Hands(), Wire(code=10002)
    one = venue(wire, clock, Guard(Address(URL, clock), Paces()))
    async with asyncio.timeout(5):
        with pytest.raises(VenueBusy):
            await one.sync_clock()
    assert wire.sent < 10


# ---------------------------------------------------------------- one engine per key

HOLD = """
import sys, pathlib
from hedgelock.exchanges.key_lock import KeyLock
lock = KeyLock(pathlib.Path(sys.argv[1]), "https://api.bybit.com", "a-long-key-1234")
lock.acquire("data /somewhere", now_ms=1760000000000)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_engine_on_a_key_is_told_who_has_it(tmp_path: Path) -> None:
    """Another process's lock refuses with pid, time and what to do; a kill -9 frees it at once."""
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        mine = KeyLock(tmp_path, URL, "a-long-key-1234")
        with pytest.raises(ConfigError) as refused:
            mine.acquire("data /here", now_ms=2)
        text = str(refused.value)
        assert f"process {child.pid} (data /somewhere) since 2025-10-09 08:53:20 UTC" in text
        assert "…1234" in text and "a-long-key" not in text
        assert "a key of its own" in text
        held = mine.holder()
        assert held is not None and held.pid == child.pid
        KeyLock(tmp_path, URL, "another-key-1234").acquire("data /here", now_ms=2)
        child.kill()
        child.wait()
    mine.acquire("data /here", now_ms=3)
    mine.release()
    assert mine.holder() is None


def test_services_on_one_kafka_share_a_key_and_no_other(tmp_path: Path) -> None:
    """Same Kafka: the consumer group decides; another Kafka or an embedded engine is refused."""
    first, second, other = (KeyLock(tmp_path, URL, "key") for _ in range(3))
    first.acquire("kafka a", now_ms=1, is_shared=True)
    second.acquire("kafka a", now_ms=2, is_shared=True)
    with pytest.raises(ConfigError, match="kafka a"):
        other.acquire("kafka b", now_ms=3, is_shared=True)
    with pytest.raises(ConfigError, match="in use"):
        other.acquire("data here", now_ms=3)
    first.release()
    second.release()
    other.acquire("data here", now_ms=4)
    with pytest.raises(ConfigError, match="data here"):
        first.acquire("kafka a", now_ms=5, is_shared=True)
    other.release()


def test_the_lock_file_does_not_tell_the_key(tmp_path: Path) -> None:
    """Neither its name nor its content holds the key; the same key at another venue is another lock."""
    lock = KeyLock(tmp_path, URL, "sesame-sesame")
    lock.acquire("data here", now_ms=1)
    (file,) = tmp_path.iterdir()
    assert "sesame" not in file.name + file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    assert name_of(URL, "k") != name_of("https://api-testnet.bybit.com", "k")
    lock.release()


