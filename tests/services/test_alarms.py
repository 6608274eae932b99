"""What a person is told of at once: a ban of the address, orders refused one after the other."""

from __future__ import annotations

from decimal import Decimal

import pytest
from structlog.testing import capture_logs

from hedgelock.bus import codec
from hedgelock.domain.order import OrderConfirmation, OrderStatus, Side
from hedgelock.errors import OutcomeUnknown, VenueBusy
from hedgelock.services.ban_watch import BANNED, NEW_AFTER_MS, BanWatch
from hedgelock.services.observe import REFUSALS_IN_A_ROW, Telemetry


class HandClock:
    """Time that is set by hand."""

    ms = 1_000_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic_ms(self) -> float:
        return float(self.ms)


def test_a_ban_is_told_once_and_a_new_one_again() -> None:
    """Every request fails during a ban: one alarm for all of them, another for the next ban."""
    clock = HandClock()
    watch = BanWatch(clock)
    with capture_logs() as told:
        for _ in range(5):
            watch.heard("main", VenueBusy("banned", code=BANNED))
            clock.ms += NEW_AFTER_MS - 1
        watch.heard("main", VenueBusy("slow", code="10006"))
        watch.heard("main", OutcomeUnknown("gone"))
        clock.ms += NEW_AFTER_MS
        watch.heard("main", VenueBusy("banned", code=BANNED))
    assert [line["event"] for line in told] == ["address_banned"] * 2
    assert {line["log_level"] for line in told} == {"error"}


def ended(number: int, status: OrderStatus, filled: str = "0") -> codec.Envelope:
    """The last word on an order."""
    body = OrderConfirmation(
        account="main", intent_id=f"i{number}", client_order_id=f"c{number}", venue_order_id="",
        instrument="linear:BTCUSDT", side=Side.SELL, qty=Decimal(1), filled_qty=Decimal(filled),
        fills=(), status=status, is_terminal=True, is_unknown=False, reduce_only=False,
        text="10017 Route not found.", revision=1, ts_confirmed_ms=1,
    )
    return codec.Envelope(id=f"m{number}", trace="", causes=(), ts_ms=1, v=1, body=body)


@pytest.mark.parametrize("good", [OrderStatus.FILLED, OrderStatus.CANCELLED])
def test_orders_refused_in_a_row_are_an_alarm(good: OrderStatus) -> None:
    """Alive is not able: the third refusal is told once and named by /ready, until one gets through."""
    telemetry = Telemetry("trade-executor", HandClock())
    output = telemetry.observed().output
    with capture_logs() as told:
        for number in range(REFUSALS_IN_A_ROW - 1):
            output("trade_confirmations", ended(number, OrderStatus.REJECTED))
        assert telemetry._readiness(None)[0]
        for number in range(3):
            output("trade_confirmations", ended(10 + number, OrderStatus.REJECTED))
        is_ready, reasons = telemetry._readiness(None)
        assert not is_ready
        assert "rejected in a row: 10017" in reasons[0]
        output("trade_confirmations", ended(20, good))
        assert telemetry._readiness(None)[0]
    assert [line["event"] for line in told].count("orders_rejected") == 1
