"""The order's life cycle: the whole product of statuses and events, and its identity."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hedgelock.domain.order import (
    IllegalMove,
    OrderEvent,
    OrderStatus,
    client_order_id,
    next_status,
)

SEEN = [event for event in OrderEvent if event.value.startswith("seen_")]
FILLS = [OrderEvent.FILL_PARTIAL, OrderEvent.FILL_COMPLETE]

# Written out once more, from the venue's rules, not from the table under test.
# columns: pending unknown new partial filled cancelled rejected expired; "-" = illegal
EXPECTED = {
    "acknowledged": "new new new partially_filled filled cancelled new new",
    "refused": "rejected rejected - - - - rejected expired",
    "postponed": "pending unknown - - - - - -",
    "duplicate": "unknown unknown new partially_filled filled cancelled - -",
    "doubted": "unknown unknown unknown unknown filled cancelled rejected expired",
    "resent": "pending pending - - - - - -",
    "given_up": "expired expired expired expired - - - expired",
    "seen_new": "new new new partially_filled filled cancelled new new",
    "seen_partial": "partially_filled partially_filled partially_filled partially_filled "
                    "filled cancelled partially_filled partially_filled",
    "seen_filled": "filled filled filled filled filled filled filled filled",
    "seen_cancelled": "cancelled cancelled cancelled cancelled "
                      "filled cancelled cancelled cancelled",
    "seen_rejected": "rejected rejected rejected - - - rejected rejected",
    "fill_partial": "partially_filled partially_filled partially_filled partially_filled "
                    "filled cancelled partially_filled partially_filled",
    "fill_complete": "filled filled filled filled filled filled filled filled",
}
PRODUCT = [
    (status, OrderEvent(event), cell)
    for event, cells in EXPECTED.items()
    for status, cell in zip(OrderStatus, cells.split(), strict=True)
]


@pytest.mark.parametrize(("status", "event", "cell"), PRODUCT)
def test_every_status_meets_every_event(
    status: OrderStatus, event: OrderEvent, cell: str
) -> None:
    """Each of the 112 cells says where the order goes, or refuses with the contradiction."""
    expected = IllegalMove(status, event) if cell == "-" else OrderStatus(cell)
    assert next_status(status, event) == expected


def test_the_product_is_complete() -> None:
    """No status and no event is missing from the expectation."""
    assert {(s, e) for s, e, _ in PRODUCT} == set(itertools.product(OrderStatus, OrderEvent))


@pytest.mark.parametrize("event", [*SEEN, *FILLS])
def test_filled_is_final(event: OrderEvent) -> None:
    """Nothing the venue says later, a second Filled or a lost cancel race, undoes a full fill."""
    assert next_status(OrderStatus.FILLED, event) in (
        OrderStatus.FILLED, IllegalMove(OrderStatus.FILLED, event),
    )


@pytest.mark.parametrize("status", OrderStatus)
def test_an_execution_is_never_a_contradiction(status: OrderStatus) -> None:
    """A fill has a place in every status: facts about money are never refused."""
    for event in FILLS:
        assert isinstance(next_status(status, event), OrderStatus)


@pytest.mark.parametrize("status", OrderStatus)
def test_news_twice_is_news_once(status: OrderStatus) -> None:
    """Hearing the same thing again changes nothing more."""
    for event in (*SEEN, *FILLS, OrderEvent.ACKNOWLEDGED, OrderEvent.DOUBTED):
        once = next_status(status, event)
        if isinstance(once, OrderStatus):
            again = next_status(once, event)
            assert again in (once, IllegalMove(once, event)), (status, event)


@given(st.text(max_size=20), st.text(max_size=20), st.integers(0, 9), st.integers(0, 9))
def test_identity_is_pure_and_in_the_venues_alphabet(
    account: str, decision: str, slice_no: int, attempt: int
) -> None:
    """The same origin gives the same id of 28 signs; another attempt gives another."""
    one = client_order_id(
        log_id="00", account=account, decision=decision, slice_no=slice_no, attempt=attempt
    )
    assert one == client_order_id(
        log_id="00", account=account, decision=decision, slice_no=slice_no, attempt=attempt
    )
    other = client_order_id(
        log_id="00", account=account, decision=decision, slice_no=slice_no, attempt=attempt + 1
    )
    assert one != other
    assert len(one) == 28
    assert one.startswith("hl")
    assert set(one) <= set("abcdefghijklmnopqrstuvwxyz234567")
