"""The shell that runs effects: order per identity, rate limits, the last look, doubt, closing.

Everything runs on a loop whose clock jumps to the next timer, so nothing waits.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog

from domain.execution_world import T0, D, answer, facts, row
from hedgelock.domain.effect import (
    CancelOrder,
    Effect,
    LoanAnswer,
    OrderAnswer,
    Outcome,
    QueryLoanAction,
    QueryOrder,
    QueryTransfer,
    SendLoanAction,
    SendOrder,
    SendTransfer,
    TransferAnswer,
)
from hedgelock.domain.message import Message
from hedgelock.domain.order import OrderStatus, OrderType, Side, TimeInForce
from hedgelock.domain.treasury import Pocket, TreasuryKind
from hedgelock.services.effects import (
    CLOSE_GRACE_S,
    CONCURRENT_MAX,
    LIMITS,
    LOCAL,
    PERFORM_TIMEOUT_S,
    EffectRunner,
    Endpoint,
    Limit,
    Window,
    answer_to,
    doubt_of,
    identity_of,
)


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop that never waits: when nothing is ready, its clock jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        select = self._selector.select  # type: ignore[attr-defined]

        def jump(timeout: float | None = None) -> Any:
            if timeout:
                self.now_s += timeout
            return select(0)

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        """Seconds of loop time."""
        return self.now_s


virtual_seconds = asyncio.sleep
"""On this file's loop no real time passes in it."""


def send(number: int = 1, **changes: Any) -> SendOrder:
    """An order about to leave."""
    fields: dict[str, Any] = {
        "account": "main", "intent_id": f"i{number}", "client_order_id": f"hl{number}",
        "instrument": "linear:BTCUSDT", "side": Side.SELL, "order_type": OrderType.LIMIT,
        "qty": D(1), "price": D(60_000), "time_in_force": TimeInForce.IOC, "reduce_only": False,
        "expires_ts_ms": T0 + 3_600_000,
    }
    return SendOrder(**{**fields, **changes})


def query(number: int = 1) -> QueryOrder:
    """A question about an order."""
    return QueryOrder(account="main", client_order_id=f"hl{number}", instrument="x", since_ts_ms=0)


def cancel(number: int = 1) -> CancelOrder:
    """A cancel."""
    return CancelOrder(account="main", client_order_id=f"hl{number}", instrument="x")


def transfer(number: int = 1, **changes: Any) -> SendTransfer:
    """A transfer about to leave."""
    return SendTransfer(
        account="main", intent_id=f"i{number}", transfer_id=f"t{number}", coin="USDT",
        amount=D(1), source=Pocket.FUND, target=Pocket.UNIFIED, **changes,
    )


def loan(number: int = 1, **changes: Any) -> SendLoanAction:
    """A loan action about to leave."""
    return SendLoanAction(
        account="main", intent_id=f"i{number}", kind_of=TreasuryKind.REPAY, coin="USDT",
        amount=D(1), collateral_coin="", **changes,
    )


ASK_TRANSFER = QueryTransfer(account="main", intent_id="i1", transfer_id="t1")
ASK_LOAN = QueryLoanAction(
    account="main", intent_id="i1", kind_of=TreasuryKind.REPAY, coin="USDT", amount=D(1),
    since_ts_ms=0,
)


class Desk:
    """An exchange that answers as told, the runner before it, and what came of it."""

    def __init__(self, loop: JumpingLoop) -> None:
        self.loop = loop
        self.begun: list[tuple[float, str]] = []
        self.events: list[Message] = []
        self.seen: list[tuple[str, str]] = []
        self.bugs: list[BaseException] = []
        self.refusals: dict[str, str] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.raises: collections.deque[BaseException] = collections.deque()
        self.answers = {}
        self.under_way = 0
        self.most = 0
        self.runner = EffectRunner(
            self,  # type: ignore[arg-type]
            self.events.append, self, may_send=self.may_send,
            performed=lambda kind, outcome, _seconds: self.seen.append((kind, outcome)),
            on_bug=self.bugs.append,
        )

    def now_ms(self) -> int:
        """Wall clock, in step with the loop."""
        return T0 + round(self.loop.now_s * 1000)

    def monotonic_ms(self) -> float:
        """The loop's clock."""
        return self.loop.now_s * 1000

    def may_send(self, effect: Effect) -> str | None:
        """Safety's word, by identity."""
        return self.refusals.get(identity_of(effect))

    answers: dict[str, tuple[Outcome, str]]
    """What the venue says to an identity, as outcome and code; absent = accepted."""

    async def perform(self, effect: Effect) -> Message:
        """Wait at the gate of this identity if there is one, then answer."""
        self.begun.append((self.loop.now_s, f"{type(effect).__name__} {identity_of(effect)}"))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            gate = self.gates.get(identity_of(effect))
            if gate is not None:
                await gate.wait()
            if self.raises:
                raise self.raises.popleft()
        finally:
            self.under_way -= 1
        outcome, code = self.answers.get(identity_of(effect), (Outcome.ACCEPTED, ""))
        return answer_to(effect, outcome, code=code, text="", now_ms=self.now_ms())

    @property
    def kinds(self) -> list[str]:
        """What reached the exchange, in order."""
        return [what for _, what in self.begun]


Case = Callable[[Desk], Awaitable[None]]


def run(case: Case) -> Desk:
    """Run one case on a fresh loop to its end."""
    loop = JumpingLoop()
    try:
        async def main() -> Desk:
            desk = Desk(loop)
            await case(desk)
            return desk

        return loop.run_until_complete(main())
    finally:
        loop.close()


async def quiet(desk: Desk) -> None:
    """Wait until every effect is answered."""
    while desk.runner.waiting:
        await virtual_seconds(0.001)


def test_effects_of_one_identity_run_in_order() -> None:
    """The question comes after the send it is about, other orders overtake."""
    async def case(desk: Desk) -> None:
        gate = desk.gates["hl1"] = asyncio.Event()
        desk.runner.submit([send(1), query(1), cancel(1), send(2)])
        await virtual_seconds(1)
        assert desk.kinds == ["SendOrder hl1", "SendOrder hl2"]
        gate.set()
        await quiet(desk)

    desk = run(case)
    assert desk.kinds == [
        "SendOrder hl1", "SendOrder hl2", "QueryOrder hl1", "CancelOrder hl1"
    ]
    assert len(desk.events) == 4


def test_effects_submitted_meanwhile_join_their_line() -> None:
    """A later submit of the same identity waits for what is under way."""
    async def case(desk: Desk) -> None:
        gate = desk.gates["i1"] = asyncio.Event()
        desk.runner.submit([loan()])
        await virtual_seconds(1)
        desk.runner.submit([ASK_LOAN])
        await virtual_seconds(1)
        assert desk.kinds == ["SendLoanAction i1"]
        assert desk.runner.waiting == 2
        gate.set()
        await quiet(desk)

    assert run(case).kinds == ["SendLoanAction i1", "QueryLoanAction i1"]


def test_every_answer_says_whether_it_answers_a_question() -> None:
    """A refusal of a send and a refusal found in the books are told apart."""
    async def case(desk: Desk) -> None:
        desk.runner.submit([send(), query(), cancel(), transfer(), ASK_TRANSFER])
        desk.runner.submit([loan(7), ASK_LOAN])
        await quiet(desk)

    marks = {
        (type(e).__name__, e.is_query)  # type: ignore[attr-defined]
        for e in run(case).events
    }
    assert marks == {
        (name, flag) for name in ("OrderAnswer", "TransferAnswer", "LoanAnswer")
        for flag in (True, False)
    }


def test_an_expired_effect_never_leaves() -> None:
    """What waited past its deadline is refused by ourselves, whatever it is."""
    late = {"expires_ts_ms": T0}

    async def case(desk: Desk) -> None:
        desk.runner.submit([send(1, **late), transfer(2, **late), loan(3, **late)])
        desk.runner.submit([transfer(4), loan(5)])
        await quiet(desk)

    desk = run(case)
    assert sorted(desk.kinds) == ["SendLoanAction i5", "SendTransfer i4"]
    local = [e for e in desk.events if e.code == LOCAL]  # type: ignore[attr-defined]
    assert {(type(e), e.outcome, e.text) for e in local} == {  # type: ignore[attr-defined]
        (kind, Outcome.REFUSED, "expired") for kind in (OrderAnswer, TransferAnswer, LoanAnswer)
    }


def test_safety_is_asked_as_the_effect_leaves() -> None:
    """A word that comes while an effect waits in line still counts; questions go anyway."""
    async def case(desk: Desk) -> None:
        gate = desk.gates["hl1"] = asyncio.Event()
        desk.runner.submit([query(1), send(1)])
        await virtual_seconds(1)
        desk.refusals["hl1"] = "halted"
        gate.set()
        await quiet(desk)
        desk.runner.submit([query(1), cancel(1)])
        await quiet(desk)

    desk = run(case)
    assert desk.kinds == ["QueryOrder hl1", "QueryOrder hl1", "CancelOrder hl1"]
    refused = desk.events[1]
    assert isinstance(refused, OrderAnswer)
    assert (refused.outcome, refused.code, refused.text) == (Outcome.REFUSED, LOCAL, "halted")


def test_an_exchange_that_never_answers_leaves_doubt() -> None:
    """After PERFORM_TIMEOUT_S a send is doubtful and a question has failed."""
    async def case(desk: Desk) -> None:
        desk.gates["hl1"] = asyncio.Event()
        desk.gates["hl2"] = asyncio.Event()
        desk.runner.submit([send(1), query(2)])
        await quiet(desk)
        assert desk.loop.now_s >= PERFORM_TIMEOUT_S

    desk = run(case)
    outcomes = {e.client_order_id: e.outcome for e in desk.events}  # type: ignore[attr-defined]
    assert outcomes == {"hl1": Outcome.DOUBTFUL, "hl2": Outcome.QUERY_FAILED}


def test_a_bug_in_the_adapter_leaves_doubt_and_is_told() -> None:
    """What an adapter must not raise becomes doubt; its line goes on; somebody hears of it."""
    async def case(desk: Desk) -> None:
        desk.raises.append(KeyError("planted"))
        desk.runner.submit([send(1), query(1)])
        await quiet(desk)

    desk = run(case)
    first, second = desk.events
    assert isinstance(first, OrderAnswer)
    assert (first.outcome, first.text) == (Outcome.DOUBTFUL, "KeyError")
    assert isinstance(second, OrderAnswer)
    assert second.is_query
    assert [type(bug) for bug in desk.bugs] == [KeyError]


def test_a_venue_that_will_refuse_everything_is_told_at_once() -> None:
    """Alive is not able: a key or a route that is gone is critical, a want of margin is not."""
    async def case(desk: Desk) -> None:
        desk.answers = {
            "hl1": (Outcome.REFUSED, "10017"), "hl2": (Outcome.REFUSED, "110007"),
            "hl3": (Outcome.DUPLICATE, "10017"),
        }
        desk.runner.submit([send(1), send(2), send(3), send(4)])
        await quiet(desk)

    with structlog.testing.capture_logs() as logs:
        run(case)
    told = [(entry["log_level"], entry["event"], entry["code"]) for entry in logs]
    assert told == [("critical", "venue_refuses", "10017")]


def test_without_anybody_to_tell_a_bug_goes_to_the_log() -> None:
    """The default report does not raise."""
    async def case(desk: Desk) -> None:
        runner = EffectRunner(
            desk, desk.events.append, desk, may_send=desk.may_send  # type: ignore[arg-type]
        )
        desk.raises.append(ValueError("planted"))
        runner.submit([send(1)])
        while runner.waiting:
            await virtual_seconds(0.001)

    desk = run(case)
    assert isinstance(desk.events[0], OrderAnswer)
    assert desk.bugs == []


def test_requests_keep_within_the_venues_rate() -> None:
    """Ten orders in any second, however many are wanted; one loan action."""
    async def case(desk: Desk) -> None:
        desk.runner.submit([send(number) for number in range(20)])
        desk.runner.submit([loan(number) for number in range(100, 103)])
        await quiet(desk)

    desk = run(case)
    orders = [at for at, what in desk.begun if what.startswith("SendOrder")]
    assert [round(at, 6) for at in orders[:10]] == [0.0] * 10
    for earlier, later in zip(orders, orders[10:], strict=False):
        assert later - earlier >= 0.99
    loans = [at for at, what in desk.begun if what.startswith("SendLoan")]
    assert [round(at, 2) for at in loans] == [0.0, 1.0, 2.0]


def test_requests_under_way_are_bounded() -> None:
    """No more than CONCURRENT_MAX at once, however many lines there are."""
    async def case(desk: Desk) -> None:
        for number in range(100):
            desk.gates[f"hl{number}"] = asyncio.Event()
            desk.runner.submit([query(number)])
        await virtual_seconds(20)
        for gate in desk.gates.values():
            gate.set()
        await quiet(desk)

    desk = run(case)
    assert desk.most == CONCURRENT_MAX
    assert len(desk.events) == 100


def test_metrics_hear_of_every_request() -> None:
    """Kind and outcome are reported for each request that reached the exchange."""
    async def case(desk: Desk) -> None:
        desk.runner.submit([send()])
        await quiet(desk)

    assert run(case).seen == [("SendOrder", "accepted")]


def test_a_found_order_is_reported_as_found() -> None:
    """An answer without an outcome is a row that was found, and is not stamped."""
    async def case(desk: Desk) -> None:
        async def perform(effect: Effect) -> Message:
            assert isinstance(effect, QueryOrder)
            return facts(row(send(), OrderStatus.NEW))

        desk.perform = perform  # type: ignore[method-assign,assignment]
        desk.runner.submit([query()])
        await quiet(desk)

    assert run(case).seen == [("QueryOrder", "found")]


# ---------------------------------------------------------------- closing and moving away

def test_closing_waits_briefly_for_what_is_under_way() -> None:
    """A request that answers in time is delivered; nothing new starts; nothing is taken."""
    async def case(desk: Desk) -> None:
        gate = desk.gates["hl1"] = asyncio.Event()
        desk.runner.submit([send(1), query(1)])
        await virtual_seconds(0.1)
        desk.loop.call_later(1.0, gate.set)
        await desk.runner.close()
        desk.runner.submit([send(2)])
        await virtual_seconds(1)

    desk = run(case)
    assert desk.kinds == ["SendOrder hl1"]
    assert len(desk.events) == 1
    assert desk.runner.waiting == 0


def test_closing_gives_up_what_takes_too_long() -> None:
    """After the grace nothing is waited for: the next start asks the venue."""
    async def case(desk: Desk) -> None:
        desk.gates["hl1"] = asyncio.Event()
        desk.runner.submit([send(1)])
        await virtual_seconds(0.1)
        before = desk.loop.now_s
        await desk.runner.close()
        assert desk.loop.now_s - before == pytest.approx(CLOSE_GRACE_S)

    desk = run(case)
    assert desk.events == []
    assert desk.bugs == []


def test_closing_starts_nothing_that_waited_for_its_turn() -> None:
    """An effect that still waited for the rate limit never leaves, and nothing is said of it."""
    async def case(desk: Desk) -> None:
        desk.runner.submit([loan(1), loan(2)])
        await virtual_seconds(0.1)
        await desk.runner.close()

    desk = run(case)
    assert desk.kinds == ["SendLoanAction i1"]
    assert len(desk.events) == 1


def test_closing_an_idle_runner() -> None:
    """With nothing under way closing is immediate."""
    async def case(desk: Desk) -> None:
        await desk.runner.close()
        assert desk.loop.now_s == 0

    run(case)


def test_an_account_that_moves_away_takes_its_line_along() -> None:
    """What is under way ends; what waited behind it is forgotten."""
    async def case(desk: Desk) -> None:
        gate = desk.gates["hl1"] = asyncio.Event()
        desk.runner.submit([send(1), query(1), cancel(1)])
        await virtual_seconds(0.1)
        desk.runner.drop_waiting()
        gate.set()
        await quiet(desk)

    desk = run(case)
    assert desk.kinds == ["SendOrder hl1"]
    assert len(desk.events) == 1


# ---------------------------------------------------------------- windows and headers

def test_no_window_ever_holds_more_than_the_limit() -> None:
    """Two a second: the third waits until the first is a second old, wherever the window lies."""
    window = Window(Limit(2, 1.0), 0.0)
    assert [window.take(1, 0.0), window.take(1, 0.4)] == [0.0, 0.0]
    assert window.take(1, 0.5) == pytest.approx(0.5)
    assert window.take(1, 1.0) == 0.0
    assert window.take(1, 1.0) == pytest.approx(0.4)
    assert window.take(2, 1.0) == pytest.approx(1.0)
    assert window.take(2, 2.0) == 0.0


def test_what_costs_more_than_a_window_goes_into_an_empty_one() -> None:
    """A venue that allows one read a second still gets the three reads of a question, slowly."""
    window = Window(Limit(1, 1.0), 0.0)
    assert window.take(3, 0.0) == 0.0
    assert window.take(3, 0.0) == pytest.approx(1.0)


def test_the_venues_headers_correct_the_window() -> None:
    """Limit and remainder come from the venue; an exhausted one is closed until it starts anew."""
    window = Window(Limit(10, 1.0), 0.0)
    window.correct(20, 19, 0.0, 0.0)
    assert window.requests == 20
    assert window.take(19, 0.0) == 0.0
    assert window.take(1, 0.0) == pytest.approx(1.0), "one was somebody else's"
    window.correct(0, 0, 0.3, 1.0)
    assert window.requests == 20
    assert window.take(1, 1.0) == pytest.approx(0.3)
    window.correct(20, 25, -5.0, 3.0)
    assert window.take(20, 3.0) == 0.0


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("endpoint", "kind"),
    [
        ("order/create", Endpoint.ORDER),
        ("/v5/order/cancel", Endpoint.ORDER),
        ("/v5/crypto-loan-flexible/repay", Endpoint.LOAN_WRITE),
        ("/v5/crypto-loan-flexible/repayment-history", Endpoint.LOAN_READ),
        ("/v5/asset/transfer/inter-transfer", Endpoint.TRANSFER),
    ],
)
def test_headers_find_their_window(endpoint: str, kind: Endpoint) -> None:
    """An exhausted limit holds back exactly the requests that share it."""
    async def case(desk: Desk) -> None:
        desk.runner.on_limits(endpoint, 10, 0, desk.now_ms() + 700)
        desk.runner.on_limits("market/tickers", 1, 0, desk.now_ms() + 99_000)
        desk.runner.submit([send(1), transfer(2), loan(3)])
        desk.runner.submit([QueryLoanAction(
            account="main", intent_id="i4", kind_of=TreasuryKind.REPAY, coin="USDT",
            amount=D(1), since_ts_ms=0,
        )])
        await quiet(desk)

    held = {
        Endpoint.ORDER: "SendOrder", Endpoint.LOAN_WRITE: "SendLoanAction",
        Endpoint.LOAN_READ: "QueryLoanAction", Endpoint.TRANSFER: "SendTransfer",
    }[kind]
    for at, what in run(case).begun:
        assert (at >= 0.699) is what.startswith(held), (at, what)


def test_every_endpoint_has_a_limit() -> None:
    """No class of requests is without one."""
    assert set(LIMITS) == set(Endpoint)


EVERY: list[tuple[Effect, type[Message], Outcome, str]] = [
    (send(), OrderAnswer, Outcome.DOUBTFUL, "hl1"),
    (query(), OrderAnswer, Outcome.QUERY_FAILED, "hl1"),
    (cancel(), OrderAnswer, Outcome.DOUBTFUL, "hl1"),
    (transfer(), TransferAnswer, Outcome.DOUBTFUL, "i1"),
    (ASK_TRANSFER, TransferAnswer, Outcome.QUERY_FAILED, "i1"),
    (loan(), LoanAnswer, Outcome.DOUBTFUL, "i1"),
    (ASK_LOAN, LoanAnswer, Outcome.QUERY_FAILED, "i1"),
]


@pytest.mark.parametrize(("effect", "kind", "doubt", "identity"), EVERY)
def test_doubt_is_told_in_the_effects_own_kind(
    effect: Effect, kind: type[Message], doubt: Outcome, identity: str
) -> None:
    """Each effect has an identity, a kind of answer and a word for "cut short"."""
    assert doubt_of(effect) is doubt
    assert identity_of(effect) == identity
    told = answer_to(effect, doubt, code="c", text="t", now_ms=T0)
    assert isinstance(told, kind)
    assert (told.account, told.outcome, told.code, told.text) == ("main", doubt, "c", "t")


def test_the_helpers_of_the_world_agree() -> None:
    """The tests' own answers are of the kind that the runner makes."""
    made = answer(cancel(), Outcome.REFUSED, T0)
    own = answer_to(cancel(), Outcome.REFUSED, code="", text="", now_ms=T0)
    assert made == own
