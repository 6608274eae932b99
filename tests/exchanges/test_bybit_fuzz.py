"""Spoilt frames and answers by the thousand: BadMessage or VenueError, never a crash or a made-up number.

Seeded and structured: recorded payloads lose fields, swap values, change types and are cut short.
A failure names its input and the seed of its run, which reproduces it.
"""

from __future__ import annotations

import asyncio
import copy
import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from exchanges import recorded
from exchanges.bybit_stub import KEYS
from exchanges.recorded import Case, read
from exchanges.spoil import DELETE, leaves
from exchanges.test_bybit_effects import SEND
from exchanges.test_bybit_mutations import made
from exchanges.test_bybit_payloads import DERIVED, figures, numbers_of
from hedgelock.domain.effect import OrderAnswer, Outcome
from hedgelock.errors import BadMessage, VenueError
from hedgelock.exchanges.bybit import (
    CAPABILITIES,
    BybitExchange,
    BybitSettings,
    simulator_addresses,
)
from hedgelock.exchanges.bybit_channels import Facts, Latest, MarketChannel, PrivateChannel
from hedgelock.exchanges.bybit_dialect import BybitDialect
from hedgelock.exchanges.bybit_effects import BybitEffects
from hedgelock.exchanges.bybit_trade import TradeChannel
from hedgelock.exchanges.ccxt_venue import CcxtVenue
from hedgelock.exchanges.transport import HttpAnswer, Socket
from hedgelock.ports import Clock

SEED = 20260809
OBJECTS, FRAMES, ANSWERS = 12_000, 6_000, 2_000
"""20,000 in `make test`; the soak multiplies them by fifty."""

JUNK: tuple[Any, ...] = (
    DELETE, "", None, True, False, 0, -1, 1, 2**63, -(2**70), 0.0, 1e308, [], {}, [None], {"a": 1}, "0",
    "-0", "NaN", "-Infinity", "1e999", "1E-400", "1_000", " 1", "1 ", "٣", "0x1", "1e5", "9" * 40, "Buy",
    "Sell", "Filled", "None", "null", "\u0000", "\ud800", "💥", "linear", "a" * 5_000, [[[[[[]]]]]],
)


class StillClock:
    """The wall clock stands; a second passes between two requests, so that none has to wait for room."""

    def __init__(self) -> None:
        self._asked = 0

    def now_ms(self) -> int:
        return 1_760_325_052_731

    def monotonic_ms(self) -> float:
        self._asked += 1
        return self._asked * 1_000.0


class Told:
    """Notes the input on whatever escapes: the failure then reproduces by hand."""

    def __init__(self, about: str, sent: Any) -> None:
        self._about = about
        self._sent = sent

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None:
            error.add_note(f"{self._about}: {self._sent!r}")


def spoil(body: Any, rng: random.Random) -> Any:
    """One to three changes at random places of a copy."""
    changed = copy.deepcopy(body)
    for _ in range(rng.randint(1, 3)):
        found = list(leaves(changed))
        if not found:
            return copy.deepcopy(rng.choice(JUNK[1:]))
        path, value = rng.choice(found)
        node = changed
        cut = rng.randint(1, len(path)) if path else 0
        for step in path[: cut - 1]:
            node = node[step]
        if not path:
            return copy.deepcopy(rng.choice(JUNK[1:]))
        junk = rng.choice((*JUNK, rng.choice(found)[1], _bent(value, rng)))
        if junk is DELETE:
            del node[path[cut - 1]]
        else:
            # A copy: a later change must not reach into the next input's junk.
            node[path[cut - 1]] = copy.deepcopy(junk)
    return changed


def _bent(value: Any, rng: random.Random) -> Any:
    """A value with one character changed, or its negative."""
    if isinstance(value, str) and value:
        at = rng.randrange(len(value))
        return value[:at] + rng.choice("-+.eE0 9x\n") + value[at + 1 :]
    return -value if isinstance(value, int) else value


def unjustified(case: Case, body: Any, got: Any) -> list[tuple[str, Decimal]]:
    """Numbers of a message that its payload does not state: a default, and a silent one.

    0 is stated by a payload that says 0, or "" where that means none; a flat position is 0 whatever else
    it says.
    """
    written = {*numbers_of(body), *recorded.FEES}
    if not numbers_of(body) - {Decimal(0)}:
        return []
    zero_is_said = Decimal(0) in written or any(v == "" for _, v in leaves(body))
    return [
        (name, value) for name, value in figures(got)
        if name not in DERIVED and value not in written and not (value == 0 and zero_is_said)
    ]


def fuzz_objects(cases: list[Case], rng: random.Random, count: int) -> int:
    """Give `count` spoilt objects to their parsers; how many were still read."""
    readable = 0
    for _ in range(count):
        case = rng.choice(cases)
        body = spoil(case.body, rng)
        with Told(case.name, body):
            try:
                got = read(case, body)
            except BadMessage:
                continue
            readable += 1
            strange = unjustified(case, body, got)
            assert not strange
    return readable


def raw_of(frame: Any, rng: random.Random) -> str | bytes:
    """A frame on the wire: whole, cut, with a byte changed, or not UTF-8."""
    text = json.dumps(frame)
    kind = rng.random()
    if kind < 0.7:
        return text
    data = bytearray(text.encode("utf-8", "surrogatepass"))
    if kind < 0.8:
        return bytes(data[: rng.randrange(len(data) + 1)])
    data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def fuzz_frames(frames: list[Any], rng: random.Random, count: int) -> int:
    """Push `count` spoilt frames through both channels; how many gave an event."""
    bad: list[str] = []
    clock = StillClock()
    out, facts = Latest(), Facts()

    def on_bad(_topic: str, reason: str, raw: bytes) -> None:
        assert isinstance(raw, bytes)
        bad.append(reason)

    market = MarketChannel("", ["linear:DOGEUSDT", "linear:BTCUSDT"], out=out, clock=clock,
                           on_bad=on_bad, saw=lambda _topic: None)
    venue: Any = None
    private = PrivateChannel("", account="main", venue=venue, out=facts, clock=clock, on_bad=on_bad,
                             reset=lambda: None)
    told = 0
    for _ in range(count):
        raw = raw_of(spoil(rng.choice(frames), rng), rng)
        before = len(bad)
        with Told("frame", raw):
            market.on_frame(raw)
            private.on_frame(raw)
        heard = len(out._items) + len(facts._items)
        told += heard > 0
        assert all(reason for reason in bad[before:])
        for event in (*out._items.values(), *facts._items):
            assert event is None or all(n.is_finite() for _, n in figures(event))
        out._items.clear()
        facts._items.clear()
    assert bad
    return told


class Answers:
    """A transport that answers each path with what a test put there."""

    def __init__(self, bodies: Mapping[str, bytes]) -> None:
        self.bodies = dict(bodies)

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], body: bytes | None, timeout_s: float
    ) -> HttpAnswer:
        path = url.split("?", maxsplit=1)[0].partition("//")[2].partition("/")[2]
        return HttpAnswer(200, {}, self.bodies["/" + path])

    async def open_socket(self, url: str, *, timeout_s: float) -> Socket:
        raise AssertionError("no sockets here")

    async def close(self) -> None:
        """Nothing is open."""


def envelope(result: Any) -> dict[str, Any]:
    """A successful answer."""
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": 1_760_325_052_000}


LOAN = {
    "borrowList": [{"loanCurrency": "USDT", "flexibleTotalDebt": "9355.37", "fixedTotalDebt": "0",
                    "flexibleHourlyInterestRate": "0.0000018847396"}],
    "collateralList": [{"currency": "BTC", "amount": "0.3"}], "ltv": "0.508958", "colRes": "0",
}


def answers_of(shared: Path) -> dict[str, Any]:
    """Path -> a good answer, recorded where there is a recording."""
    known = {path: body for _, path, body in recorded.responses(shared) if path.startswith("/v5/")}
    good = {
        path: known[path] for path in (
            "/v5/account/wallet-balance", "/v5/account/transaction-log", "/v5/user/query-api")
    }
    row = next(c.body for c in made() if c.name == "position")
    good["/v5/position/list"] = envelope({"list": [row], "nextPageCursor": "", "category": "linear"})
    good["/v5/account/withdrawal"] = envelope({"availableWithdrawalMap": {"BTC": "4.5", "USDT": ""}})
    good["/v5/account/info"] = envelope({"unifiedMarginStatus": 6, "marginMode": "REGULAR_MARGIN"})
    good["/v5/crypto-loan-common/position"] = envelope(LOAN)
    good["/v5/asset/transfer/query-account-coins-balance"] = envelope(
        {"balance": [{"coin": "BTC", "walletBalance": "1", "transferBalance": "1"}]})
    good["/v5/market/time"] = envelope({"timeSecond": "1760325052", "timeNano": "1760325052000000000"})
    good["/v5/account/transaction-log"]["result"]["nextPageCursor"] = ""
    return good


async def fuzz_answers(good: Mapping[str, Any], rng: random.Random, count: int) -> int:
    """Spoil one answer at a time and read everything that needs it; how many reads succeeded."""
    bodies = {path: json.dumps(body).encode() for path, body in good.items()}
    wire = Answers(bodies)
    exchange = BybitExchange(
        "main", KEYS, addresses=simulator_addresses(port=1), capabilities=CAPABILITIES["sim"],
        clock=StillClock(), settings=BybitSettings(), transport=wire,
    )
    reads = (exchange.read_wallet, exchange.read_positions, exchange.read_fund, exchange.read_loan,
             lambda: exchange.read_ledger(0), exchange.connect)
    succeeded = done = 0
    while done < count:
        path = rng.choice(list(bodies))
        raw = raw_of(spoil(good[path], rng), rng)
        wire.bodies[path] = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
        # Reads that never ask for the spoilt path prove nothing: only those that do are counted.
        for read_it in _that_ask(path, reads):
            done += 1
            with Told(path, wire.bodies[path]):
                try:
                    await read_it()
                except VenueError:
                    continue
            succeeded += 1
        wire.bodies[path] = bodies[path]
    return succeeded


def _that_ask(path: str, reads: tuple[Any, ...]) -> Iterator[Any]:
    wallet, positions, fund, loan, ledger, connect = reads
    yield {
        "/v5/account/wallet-balance": wallet, "/v5/account/withdrawal": wallet,
        "/v5/position/list": positions, "/v5/crypto-loan-common/position": loan,
        "/v5/asset/transfer/query-account-coins-balance": fund,
        "/v5/account/transaction-log": ledger,
    }.get(path, connect)


class Answering:
    """A trade socket that answers each request at once with a spoilt answer."""

    def __init__(self, good: dict[str, Any], rng: random.Random) -> None:
        self._good = good
        self._rng = rng
        self.channel: TradeChannel | None = None
        self.said: Any = None

    async def send(self, text: str) -> None:
        assert self.channel is not None
        self.said = spoil({**self._good, "reqId": json.loads(text)["reqId"]}, self._rng)
        self.channel.on_frame(json.dumps(self.said))

    async def receive(self) -> str:
        raise AssertionError("the channel is handed its frames")

    async def close(self) -> None:
        """Nothing is open."""


async def fuzz_orders(good: dict[str, Any], rng: random.Random, count: int) -> Counter[Outcome]:
    """Send `count` orders whose answers are spoilt; how each was understood."""
    clock = StillClock()
    venue = CcxtVenue(
        "bybit", KEYS, base_url="http://127.0.0.1:1", dialect=BybitDialect(), clock=clock,
        transport=Answers({"/v5/market/time": json.dumps(envelope({"timeNano": "1"})).encode()}),
    )
    channel = TradeChannel("", venue=venue, clock=clock, on_bad=lambda *_: None, timeout_s=0.0)
    socket = Answering(good, rng)
    socket.channel, channel._socket = channel, socket
    effects = BybitEffects(venue, account="main", clock=clock, capabilities=CAPABILITIES["sim"],
                           trade=channel)
    seen: Counter[Outcome] = Counter()
    for _ in range(count):
        with Told("answer", socket.said):
            answer = await effects.perform(SEND)
            assert isinstance(answer, OrderAnswer)
            seen[answer.outcome] += 1
            said = socket.said
            if answer.outcome is Outcome.ACCEPTED:
                assert str(said["retCode"]) == "0", "a success that the venue did not state"
                assert answer.venue_order_id == said["data"]["orderId"] != ""
            elif answer.outcome is Outcome.REFUSED:
                assert int(said["retCode"]) != 0, "a refusal that the venue did not state"
    return seen


def frames_of(shared: Path) -> list[Any]:
    """Real and documented frames, and pushes made from good rows."""
    frames: list[Any] = list(recorded.captured(shared))
    for topic in ("order", "execution", "position"):
        rows = [c.body for c in (*recorded.cases(shared), *made()) if c.kind == topic]
        frames += [
            {"topic": topic, "id": "1", "creationTime": 1_672_364_262_474,
             "data": [{**row, "category": "linear"}]} for row in rows
        ] * 5
    return frames


def run(shared: Path, times: int, seed: int) -> None:
    """All three kinds, `times` × 20,000 inputs."""
    with Told("seed", seed):
        _run(shared, times, seed)


def _run(shared: Path, times: int, seed: int) -> None:
    cases = [*recorded.cases(shared), *made()]
    kinds = sorted({c.kind for c in cases})
    # Each kind as often as the other, however many recordings there are of it.
    even = [c for kind in kinds for c in ([x for x in cases if x.kind == kind] * 30)[:30]]
    assert fuzz_objects(even, random.Random(seed), times * OBJECTS) > times * OBJECTS // 20
    assert fuzz_frames(frames_of(shared), random.Random(seed + 1), times * FRAMES) > times * FRAMES // 50
    assert asyncio.run(
        fuzz_answers(answers_of(shared), random.Random(seed + 2), times * ANSWERS)) > times * 50


@pytest.mark.no_cover
def test_twenty_thousand_spoilt_inputs(shared: Path) -> None:
    """20,000 inputs: only BadMessage and VenueError come out, and no number that was not sent."""
    run(shared, 1, SEED)


async def test_a_spoilt_answer_to_an_order_is_in_doubt(shared: Path) -> None:
    """Over the trade socket: accepted and refused only as the venue states it, otherwise in doubt."""
    file = shared / "data/payloads/bybit_net/Socket/V5Api/Private/PlaceOrder.json"
    good = json.loads(file.read_text())["steps"][-1]["json"]
    assert good["op"] == "order.create"
    with Told("seed", SEED):
        seen = await fuzz_orders(good, random.Random(SEED), 1_500)
    assert seen[Outcome.ACCEPTED] > 200
    assert seen[Outcome.DOUBTFUL] > 200


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("seed", range(10))
def test_a_million_spoilt_inputs(shared: Path, seed: int) -> None:
    """1,000,000 inputs from ten seeds."""
    run(shared, 5, SEED + 100 * (seed + 1))


def test_the_fuzzer_notices_a_silent_default() -> None:
    """A parser that reads a vanished number as 0 is caught: the guard has a failing example."""
    case = next(c for c in made() if c.kind == "order")

    class Lenient(msgspec.Struct):
        qty: Decimal
        filled_qty: Decimal

    body = {k: v for k, v in case.body.items() if k not in ("qty", "cumExecQty", "leavesQty")}
    body = {**body, "price": "60000"}
    assert unjustified(case, body, Lenient(qty=Decimal(0), filled_qty=Decimal(0)))


def test_the_clock_is_a_clock() -> None:
    """The still clock keeps the port's shape."""
    clock: Clock = StillClock()
    assert clock.now_ms() > 0
