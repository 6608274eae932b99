"""Circuit breakers: what trips each, what resets it, and what must not trip any."""

from __future__ import annotations

from decimal import Decimal as D

import msgspec
import pytest
from hedge_world import ACCOUNT, World
from hypothesis import given
from hypothesis import strategies as st

from hedgelock.domain.account import LedgerLine
from hedgelock.domain.breakers import (
    OUTCOMES_KEPT,
    Breaker,
    Watch,
    acknowledged,
    next_look_ms,
    observe,
)
from hedgelock.domain.order import Fill, OrderConfirmation, OrderStatus, Side
from hedgelock.domain.policy import SafetyPolicy
from hedgelock.domain.risk import Confidence, RiskAssessment

LIMITS = SafetyPolicy()
DAY_MS = 86_400_000
T = 20_000 * DAY_MS + 1_000
replace = msgspec.structs.replace


def seen(equity: object, at_ms: int, *, mark: object = 60_000, **changes: object) -> RiskAssessment:
    """An assessment with that equity and mark."""
    risk = World().assessment(assessed_ts_ms=at_ms, mark_price=D(str(mark)), **changes)
    return replace(risk, equity_value=None if equity is None else D(str(equity)))


def through(equities: list[object], *, watch: Watch | None = None, start_ms: int = T) -> Watch:
    """One whole window per equity, and the sample that ends the last."""
    watch = watch or Watch()
    for number, equity in enumerate([*equities, equities[-1]]):
        at_ms = start_ms + number * LIMITS.window_ms
        watch = observe(watch, seen(equity, at_ms), LIMITS, at_ms)
    return watch


def ended(intent: str, status: OrderStatus = OrderStatus.FILLED, **changes: object) -> OrderConfirmation:
    """An order that is over."""
    fields = {
        "account": ACCOUNT, "intent_id": intent, "client_order_id": "hlx", "venue_order_id": "v",
        "instrument": "linear:BTCUSDT", "side": Side.BUY, "qty": D("0.1"), "filled_qty": D(0),
        "fills": (), "status": status, "is_terminal": True, "is_unknown": False,
        "reduce_only": False, "text": "", "revision": 1, "ts_confirmed_ms": T,
    }
    return OrderConfirmation(**{**fields, **changes})  # type: ignore[arg-type]


def closing(intent: str, pnl: str) -> OrderConfirmation:
    """A reduce-only order that realised `pnl`, fee .5."""
    fill = Fill(
        exec_id=intent, instrument="linear:BTCUSDT", side=Side.BUY, qty=D("0.1"), price=D(60_000),
        fee=D("0.5"), fee_coin="USDT", pnl=D(pnl), is_maker=False, seq=1, ts_ms=T,
    )
    return ended(intent, fills=(fill,), filled_qty=D("0.1"), reduce_only=True)


def paid(amount: str, at_ms: int = T) -> LedgerLine:
    """A funding settlement; + = paid."""
    return LedgerLine(
        account=ACCOUNT, line_id="l", line_type="SETTLEMENT", coin="USDT",
        instrument="linear:BTCUSDT", side="Sell", qty=D(1), price=None, cash_flow=D(0),
        funding=-D(amount), fee=D(0), change=-D(amount), balance=D(0), client_order_id="",
        trade_id="", ts_event_ms=at_ms, ts_seen_ms=at_ms,
    )


@pytest.mark.parametrize(("equities", "tripped"), [
    ([10_000, 7_001], ()),
    ([10_000, 7_000], (Breaker.DAILY_LOSS,)),
    ([10_000, 5_000], (Breaker.DAILY_LOSS, Breaker.DRAWDOWN)),
    ([0, 0], ()),
])
def test_a_loss_trips_at_its_limit(equities: list[object], tripped: tuple[Breaker, ...]) -> None:
    """30 % of the day's equity, 50 % of the peak; nothing is judged without equity."""
    assert through(equities).tripped == tripped


def test_a_day_ends_the_day_s_loss_and_not_the_drawdown() -> None:
    """The next 00:00 UTC counts from there; the peak stays until half of the drawdown is made good."""
    watch = through([10_000, 5_000])
    tomorrow = T + DAY_MS
    watch = observe(watch, seen(5_000, tomorrow), LIMITS, tomorrow)
    assert watch.tripped == (Breaker.DRAWDOWN,)
    watch = through([7_000, 7_000], watch=watch, start_ms=tomorrow + LIMITS.window_ms)
    assert watch.tripped == (Breaker.DRAWDOWN,)
    watch = through([7_600, 7_600], watch=watch, start_ms=tomorrow + 10 * LIMITS.window_ms)
    assert watch.tripped == ()


def test_one_wrong_reading_makes_no_peak_and_no_loss() -> None:
    """A peak needs a whole window above, a loss a whole window below: money between pockets is in neither."""
    watch = Watch()
    for number in range(40):
        at_ms = T + number * LIMITS.sample_ms
        odd = {9: 90_000, 20: 100}.get(number, 10_000)
        watch = observe(watch, seen(odd, at_ms), LIMITS, at_ms)
        assert watch.tripped == ()
    assert watch.peak == D(10_000)


def test_samples_between_are_not_even_remembered() -> None:
    """An assessment within `sample_ms` of the last changes nothing: the tick's path stays short."""
    watch = observe(Watch(), seen(10_000, T), LIMITS, T)
    assert observe(watch, seen(1, T + 4_999), LIMITS, T + 4_999) is watch


def test_what_is_not_seen_is_neither_loss_nor_peak() -> None:
    """No equity, no judgement."""
    watch = observe(Watch(), seen(None, T), LIMITS, T)
    assert watch.window is None


def test_funding_paid_counts_by_day() -> None:
    """1 % of the day's first equity; what was received counts against it; yesterday's lines do not."""
    watch = through([10_000])
    watch = observe(watch, paid("99.99"), LIMITS, T)
    assert watch.tripped == ()
    watch = observe(watch, paid("0.01"), LIMITS, T)
    assert watch.tripped == (Breaker.FUNDING_COST,)
    assert observe(watch, paid("-50"), LIMITS, T).tripped == ()
    assert observe(watch, paid("1", T - DAY_MS), LIMITS, T).funding_paid == D(100)
    assert observe(watch, seen(10_000, T + DAY_MS), LIMITS, T + DAY_MS).tripped == ()


def test_a_wild_market_trips_and_rests_with_hysteresis() -> None:
    """σ per day over an exponential six hours; quiet takes it below .85 of the limit before it resets."""
    watch, mark = Watch(), D(60_000)
    tripped_at = None
    for number in range(2_400):
        mark *= D("0.96") if number in (10, 11, 12) else D(1)
        at_ms = T + number * LIMITS.window_ms
        watch = observe(watch, seen(10_000, at_ms, mark=mark), LIMITS, at_ms)
        if Breaker.VOLATILITY in watch.tripped and tripped_at is None:
            tripped_at = number
        if tripped_at is not None and Breaker.VOLATILITY not in watch.tripped:
            break
    assert tripped_at is not None
    assert 10 <= tripped_at <= 14
    assert number > tripped_at + 60
    assert (LIMITS.volatility_max * D("0.84")) ** 2 < watch.variance < (LIMITS.volatility_max * D("0.85")) ** 2


def test_losing_closings_in_a_row() -> None:
    """Eight that lost money trip; one that gained resets; openings and repeats do not count."""
    watch = Watch()
    for number in range(7):
        watch = observe(watch, closing(f"i{number}", "0.4"), LIMITS, T)
        watch = observe(watch, closing(f"i{number}", "0.4"), LIMITS, T)
        watch = observe(watch, ended(f"o{number}"), LIMITS, T)
    assert watch.tripped == ()
    watch = observe(watch, closing("i8", "-3"), LIMITS, T)
    assert watch.tripped == (Breaker.LOSING_HEDGES,)
    assert observe(watch, closing("i9", "3"), LIMITS, T).tripped == ()


def test_refused_orders() -> None:
    """Half of the last twenty, of six at least; what our own checks refuse was never sent."""
    watch = Watch()
    for number in range(5):
        watch = observe(watch, ended(f"r{number}", OrderStatus.REJECTED), LIMITS, T)
    assert watch.tripped == ()
    assert observe(watch, ended("x", OrderStatus.REJECTED, client_order_id=""), LIMITS, T).losing == 0
    watch = observe(watch, ended("r5", OrderStatus.REJECTED), LIMITS, T)
    assert watch.tripped == (Breaker.REJECTS,)
    for number in range(OUTCOMES_KEPT):
        watch = observe(watch, ended(f"f{number}"), LIMITS, T)
    assert len(watch.outcomes) == OUTCOMES_KEPT
    assert watch.tripped == ()
    own = Watch()
    for number in range(12):
        own = observe(own, ended(f"r{number}", OrderStatus.REJECTED, client_order_id=""), LIMITS, T)
    assert own.tripped == ()


def test_blindness_trips_by_time_alone() -> None:
    """60 s without a FRESH assessment; the next one resets it at once."""
    blind = seen(10_000, T, confidence=Confidence.STALE)
    watch = observe(Watch(), blind, LIMITS, T)
    assert next_look_ms(watch, LIMITS) == T + 60_000
    watch = observe(watch, replace(blind, assessed_ts_ms=T + 30_000), LIMITS, T + 59_999)
    assert watch.tripped == ()
    watch = observe(watch, paid("0"), LIMITS, T + 60_000)
    assert watch.tripped == (Breaker.STALE_INPUT,)
    assert next_look_ms(watch, LIMITS) is None
    watch = observe(watch, seen(10_000, T + 61_000), LIMITS, T + 61_000)
    assert watch.tripped == ()
    assert next_look_ms(watch, LIMITS) is None


def test_a_person_s_word_lets_losses_count_from_here() -> None:
    """Loss, drawdown, funding, losing closings and refusals are forgiven; the market's state is not."""
    watch = through([10_000, 4_000])
    for number in range(8):
        watch = observe(watch, closing(f"i{number}", "-1"), LIMITS, T)
    watch = observe(watch, paid("5000"), LIMITS, T)
    assert len(watch.tripped) == 4
    watch = observe(acknowledged(watch), seen(4_000, T + 90_001), LIMITS, T + 90_001)
    assert watch.tripped == ()
    assert watch.peak == watch.day_equity == D(4_000)
    assert acknowledged(Watch()).peak is None


@given(st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 60_000)), max_size=40))
def test_no_order_of_events_breaks_it_and_it_survives_the_wire(steps: list[tuple[int, int]]) -> None:
    """Any equities at any times leave a memory that encodes and decodes to itself."""
    watch, at_ms = Watch(), T
    for equity, pause_ms in steps:
        at_ms += pause_ms
        watch = observe(watch, seen(equity, at_ms), LIMITS, at_ms)
    assert msgspec.json.decode(msgspec.json.encode(watch), type=Watch) == watch
