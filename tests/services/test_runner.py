"""The runner: fold, commit, restore, quarantine, freeze, hold; on the embedded bus, in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

import msgspec
import pytest

from hedgelock.bus import codec
from hedgelock.bus.memory import MemoryBus, MemoryLog
from hedgelock.domain.account import FundBalance, FundRead
from hedgelock.domain.market import MarketTick
from hedgelock.domain.message import Message, Restored, Tick
from hedgelock.domain.policy import Policy
from hedgelock.domain.registry import Quarantined
from hedgelock.domain.safety import SafetyMode, SafetyReason, SafetyState
from hedgelock.domain.step import Hold, Now, Output, PriceBox, Step, Tables
from hedgelock.errors import BusError
from hedgelock.ports import Offsets, Outgoing, StepRecord
from hedgelock.services.journal import replay
from hedgelock.services.runner import Runner
from hedgelock.services.service import Emitted, Service
from hedgelock.services.tables import TableRow


class Counter(msgspec.Struct, frozen=True):
    """A small state: what was seen, how often."""

    reads: int = 0
    ticks: int = 0
    restores: int = 0
    bad: int = 0
    policy_version: int = 0


def count(state: Counter, tables: Tables, message: Message, now: Now) -> Step[Counter]:
    """Count reads and say so; hold prices between 90 and 110, and one second at most."""
    policy = tables.policy("main")
    state = msgspec.structs.replace(state, policy_version=policy.version if policy else 0)
    hold = Hold(
        boxes={"linear:BTCUSDT": PriceBox(Decimal(90), Decimal(110), Decimal(90), Decimal(110))},
        until_ms=now.now_ms + 1000,
    )
    match message:
        case FundRead(balances=balances):
            assert not balances or balances[0].qty < 100, "planted bug"
            state = msgspec.structs.replace(state, reads=state.reads + 1)
            word = SafetyState(
                account="main", version=state.reads, mode=SafetyMode.ACTIVE,
                reason=SafetyReason.STARTED, flatten=False, command_id="", text=now.decision,
                since_ts_ms=now.now_ms,
            )
            out = (Output("safety_state", "main", word),)
            return Step(state, out, (f"effect {state.reads}",), hold)
        case MarketTick() | Tick():
            return Step(msgspec.structs.replace(state, ticks=state.ticks + 1), hold=hold)
        case Restored():
            return Step(msgspec.structs.replace(state, restores=state.restores + 1), hold=hold)
        case Quarantined():
            return Step(msgspec.structs.replace(state, bad=state.bad + 1), hold=hold)
        case _:
            return Step(state, hold=hold)


SERVICE = Service(
    name="counter", inputs=("account_raw",), tables=("market_data", "policies"), step=count,
    initial=lambda _key: Counter(), state_type=Counter,
)


class ManualClock:
    """Virtual time."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic_ms(self) -> float:
        return float(self.ms)


class Bench:
    """One runner on a bus in memory, with everything it did."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.bus = MemoryBus(MemoryLog("runner"), clock=self.clock)
        self.out = self.bus.publisher("test")
        self.effects: list[Emitted] = []
        self.runner = self.start()

    def start(self) -> Runner[Counter]:
        session = self.bus.open(
            service=SERVICE.name, instance="0", inputs=SERVICE.inputs, tables=SERVICE.tables
        )

        def act(effects: Sequence[Emitted]) -> None:
            self.effects += effects

        return Runner(SERVICE, session, clock=self.clock, act=act)

    def send(self, topic: str, key: str, body: Message, number: int) -> None:
        value = codec.encode(body, id=f"t:{number}", trace=codec.new_trace(str(number)),
                             causes=(), ts_ms=self.clock.ms)
        self.out.publish([Outgoing(topic, key, value)])

    def read(self, number: int, qty: str = "1") -> None:
        balance = FundBalance(coin="USDT", qty=Decimal(qty), transferable_qty=Decimal(qty))
        self.send("account_raw", "main", FundRead(
            account="main", balances=(balance,), ts_requested_ms=number, ts_event_ms=number,
            ts_seen_ms=number), number)

    def drain(self) -> None:
        while self.runner.run_once(0):
            pass

    def words(self) -> list[SafetyState]:
        return [codec.decode(r.value).body for r in self.bus.read("safety_state")]


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A fresh bus and runner."""
    bench = Bench()
    yield bench
    bench.bus.close()


def test_folds_in_order_and_acts_after_the_commit(bench: Bench) -> None:
    """Every record steps once, in order; effects are handed over when the outputs stand in the log."""
    for number in range(3):
        bench.read(number)
    bench.drain()
    assert bench.runner.states()["main"].reads == 3
    assert [w.version for w in bench.words()][-1] == 3
    assert [e.effect for e in bench.effects] == ["effect 1", "effect 2", "effect 3"]


def test_restart_restores_state_and_announces_it(bench: Bench) -> None:
    """A new instance goes on from the committed state and steps `Restored` once per account."""
    bench.read(1)
    bench.drain()
    bench.runner.session.close()
    bench.runner = bench.start()
    bench.drain()
    state = bench.runner.states()["main"]
    assert (state.reads, state.restores) == (1, 1)


def test_quarantines_what_does_not_decode(bench: Bench) -> None:
    """Junk is kept whole with its reason, the account hears of it, and the next record still steps."""
    nan = (b'{"id":"a","trace":"","causes":[],"ts_ms":1,"v":1,'
           b'"body":{"kind":"FundRead","account":"main","balances":[{"coin":"BTC","qty":"NaN",'
           b'"transferable_qty":"0"}],"ts_requested_ms":1,"ts_event_ms":1,"ts_seen_ms":1}}')
    for value in (b"{", b'{"v":1}', b"\xff\xfe", nan):
        bench.out.publish([Outgoing("account_raw", "main", value)])
    bench.read(9)
    bench.drain()
    kept = [codec.decode(r.value).body for r in bench.bus.read("quarantine")]
    assert len(kept) == 4
    assert all(k.reason and k.moves_money for k in kept)
    state = bench.runner.states()["main"]
    assert (state.bad, state.reads) == (4, 1)


def test_a_bug_freezes_its_account_only(bench: Bench) -> None:
    """A step that raises stops that account with a quarantined message; what came before it counts."""
    bench.read(1)
    bench.read(2, qty="1000")
    bench.read(3)
    value = codec.encode(FundRead(account="other", balances=(), ts_requested_ms=1, ts_event_ms=1,
                                  ts_seen_ms=1), id="o", trace="", causes=(), ts_ms=1)
    bench.out.publish([Outgoing("account_raw", "other", value)])
    bench.drain()
    states = bench.runner.states()
    assert states["main"].reads == 1
    assert states["other"].reads == 1
    (kept,) = [codec.decode(r.value).body for r in bench.bus.read("quarantine")]
    assert "planted bug" in kept.reason


def test_hold_skips_ticks_inside_the_box(bench: Bench) -> None:
    """A price inside the box needs no step, one outside does, and so does the clock at its end."""
    bench.read(1)
    bench.drain()
    for number, price in enumerate(("100", "95", "111")):
        bench.send("market_data", "linear:BTCUSDT", MarketTick(
            instrument="linear:BTCUSDT", mark_price=Decimal(price), index_price=Decimal(price),
            ts_event_ms=1, ts_seen_ms=1), 100 + number)
        bench.drain()
    assert bench.runner.states()["main"].ticks == 1
    bench.clock.ms += 1001
    bench.drain()
    assert bench.runner.states()["main"].ticks == 2


def test_bus_error_drops_memory_and_folds_again(bench: Bench) -> None:
    """A commit that fails leaves nothing behind; the same records are folded once more."""
    commit = bench.runner.session.commit
    failing = [True]

    def fail_once(steps: Sequence[StepRecord], offsets: Offsets) -> None:
        if failing.pop() if failing else False:
            raise BusError("planted")
        commit(steps, offsets)

    bench.runner.session.commit = fail_once  # type: ignore[method-assign]
    bench.read(1)
    with pytest.raises(BusError, match="planted"):
        bench.drain()
    assert bench.effects == []
    bench.drain()
    assert [e.effect for e in bench.effects] == ["effect 1"]
    assert len(bench.words()) == 1


def test_table_rows_reach_the_step_and_the_journal_replays(bench: Bench) -> None:
    """A policy row steps its account; every journal entry folds again to the same bytes."""
    bench.send("policies", "main", Policy(account="main", version=7), 50)
    for number in range(5):
        bench.read(number)
        bench.drain()
    assert bench.runner.states()["main"].policy_version == 7
    rows = {r.key: r.value for r in bench.bus.read("step_rows")}
    result = replay((r.value for r in bench.bus.read("steps")), rows, {"counter": SERVICE})
    assert result.steps >= 5
    assert (result.skipped, result.differences) == (0, [])


def test_replay_notices_another_rule(bench: Bench) -> None:
    """A step function that decides otherwise is named, step by step."""
    bench.read(1)
    bench.drain()

    def other(state: Counter, tables: Tables, message: Message, now: Now) -> Step[Counter]:
        step = count(state, tables, message, now)
        return step._replace(state=msgspec.structs.replace(step.state, reads=99))

    service = Service(name="counter", inputs=SERVICE.inputs, tables=SERVICE.tables, step=other,
                      initial=SERVICE.initial, state_type=Counter)
    rows = {r.key: r.value for r in bench.bus.read("step_rows")}
    result = replay((r.value for r in bench.bus.read("steps")), rows, {"counter": service})
    assert [d.what for d in result.differences] == ["state differs"]


def test_a_row_that_several_services_read_is_decoded_once() -> None:
    """The same bytes give the same row; equal bytes of another message are read for themselves."""
    tick = MarketTick(
        instrument="linear:BTCUSDT", mark_price=Decimal(100), index_price=Decimal(100),
        bid_price=None, ask_price=None, ts_event_ms=1, ts_seen_ms=1,
    )
    first = codec.encode(tick, id="a", trace="", causes=(), ts_ms=1)
    second = codec.encode(tick, id="b", trace="", causes=(), ts_ms=1)
    row = TableRow.of(first, "market_data")
    assert TableRow.of(first, "market_data") is row
    assert TableRow.of(second, "market_data").envelope.id == "b"
    assert TableRow.of(first, "market_data") == row
