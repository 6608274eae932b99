"""What the executor itself reads of the account: the newest of each kind, positions by seq."""

from __future__ import annotations

from typing import Any

import pytest

from domain.execution_world import (
    PERP,
    RICH,
    T0,
    D,
    Desk,
    fill,
    instrument,
    place,
    row,
)
from hedgelock.domain.account import (
    CoinBalance,
    FundRead,
    LoanCollateral,
    LoanRead,
    Position,
    PositionChanged,
    PositionsRead,
    WalletRead,
)
from hedgelock.domain.effect import SendOrder
from hedgelock.domain.execution_memory import ExecutionMemory
from hedgelock.domain.holdings import Held, Holdings, folded
from hedgelock.domain.instrument import Settlement
from hedgelock.domain.message import Message
from hedgelock.domain.order import OrderStatus, Side
from hedgelock.domain.registry import Quarantined
from hedgelock.domain.short_room import short_room

INVERSE = "inverse:BTCUSD"


def stamp(at: int) -> dict[str, Any]:
    """Asked for and seen at a moment."""
    return {"account": "main", "ts_requested_ms": at, "ts_event_ms": at, "ts_seen_ms": at}


def coin(name: str, qty: str) -> CoinBalance:
    """One coin of the wallet."""
    return CoinBalance(
        coin=name, wallet_qty=D(qty), borrowed_qty=D(0), accrued_interest=D(0), upl=D(0),
        locked_qty=D(0), is_collateral=True,
    )


def wallet(at: int, btc: str = "0.1") -> WalletRead:
    """The trading pocket."""
    return WalletRead(
        coins=(coin("BTC", btc), coin("USDT", "-5")), withdrawable=(), margin_balance=None,
        maintenance_margin=None, margin_ratio=None, **stamp(at),
    )


def loan(at: int, btc: str = "1") -> LoanRead:
    """What is locked."""
    return LoanRead(
        debts=(), collateral=(LoanCollateral(coin="BTC", qty=D(btc)),
                              LoanCollateral(coin="ETH", qty=D(0))),
        ltv=None, collateral_state=0, **stamp(at),
    )


def position(qty: str, seq: int, instrument: str = PERP) -> Position:
    """One position."""
    return Position(
        instrument=instrument, position_qty=D(qty), entry_price=D(60_000), upl=D(0),
        liquidation_price=None, leverage=None, status="Normal", adl_rank=0, seq=seq,
    )


def positions(at: int, *listed: Position) -> PositionsRead:
    """A complete read."""
    return PositionsRead(positions=listed, **stamp(at))


def push(at: int, qty: str, seq: int) -> PositionChanged:
    """A push of the hedge."""
    return PositionChanged(
        account="main", position=position(qty, seq), ts_event_ms=at, ts_seen_ms=at
    )


STORIES: list[tuple[str, list[Message], str | None]] = [
    # facts in the order they come → the hedge held, None = not listed
    ("a read", [positions(10, position("-0.5", 5))], "-0.5"),
    ("an older read late", [positions(10, position("-0.5", 5)), positions(9)], "-0.5"),
    ("flat in a later read", [positions(10, position("-0.5", 5)), positions(11)], None),
    ("a push after a read", [positions(10, position("-0.5", 5)), push(12, "-0.3", 6)], "-0.3"),
    ("an old push", [positions(10, position("-0.5", 5)), push(12, "-0.3", 5)], "-0.5"),
    ("a push that overtook a read", [push(12, "-0.3", 6), positions(10, position("-0.5", 5))],
     "-0.3"),
    ("a push that overtook a read without it", [push(12, "-0.3", 6), positions(10)], "-0.3"),
    ("a read after a push", [push(12, "-0.3", 6), positions(13, position("-0.5", 7))], "-0.5"),
    ("flat after a push", [push(12, "-0.3", 6), positions(13)], None),
    ("a push before a read that says flat", [positions(13), push(12, "-0.3", 6)], None),
]


@pytest.mark.parametrize(("name", "facts", "expected"), STORIES)
def test_positions_go_by_seq_and_by_time_of_asking(
    name: str, facts: list[Any], expected: str | None
) -> None:
    """The later position stays, whatever order the news came in."""
    known = Holdings()
    for fact in facts:
        known = folded(known, fact)
        assert folded(known, fact) == known, "taken in twice"
    held = [p.qty for p in known.positions]
    assert held == ([D(expected)] if expected else []), name


def test_coins_are_what_is_locked_and_what_is_owned() -> None:
    """C + b: pledged plus pocket, debts left out; the newer read of each counts."""
    known = folded(folded(Holdings(), wallet(10)), loan(10))
    assert known.coins_of("BTC") == D("1.1")
    assert known.coins_of("USDT") == 0
    assert not known.is_complete
    known = folded(folded(known, wallet(9, "5")), loan(9, "5"))
    assert known.coins_of("BTC") == D("1.1")
    known = folded(folded(known, wallet(11, "0.2")), loan(11, "0.9"))
    assert known.coins_of("BTC") == D("1.1")
    assert folded(known, positions(10)).is_complete


def test_the_executor_reads_the_account_for_itself() -> None:
    """Facts reach its state; FUND is nothing to it; nothing is said or done about them."""
    desk = Desk(memory=ExecutionMemory())
    fund = FundRead(balances=(), **stamp(T0))
    desk.feed(wallet(T0), loan(T0), positions(T0), fund, wallet(T0))
    assert desk.memory.holdings.coins_of("BTC") == D("1.1")
    assert (desk.effects, desk.said) == ([], [])


def test_an_unreadable_fact_freezes_nothing() -> None:
    """The collector reads again in seconds; what was known until then stands."""
    desk = Desk()
    desk.feed(Quarantined(
        topic="account_raw", partition=0, offset=1, key="main", service="trade-executor",
        reason="x", moves_money=True, value="", ts_seen_ms=T0,
    ))
    assert not desk.memory.frozen
    assert desk.memory.holdings == RICH


def room_of(desk: Desk) -> Any:
    """The room of the hedge's coin."""
    return short_room(
        desk.memory.holdings, desk.memory.orders.values(), instrument=instrument(),
        mark=D(60_000), tables=desk.tables,
    )


def test_room_is_unknown_before_all_was_read() -> None:
    """Missing is never taken for zero; nor is a senseless price."""
    desk = Desk(memory=ExecutionMemory())
    assert room_of(desk) is None
    assert short_room(RICH, (), instrument=instrument(), mark=D(0), tables=desk.tables) is None


def test_contracts_of_one_coin_count_together() -> None:
    """Linear coins and inverse dollars by the mark; spot and other coins not at all."""
    desk = Desk()
    desk.tables.instruments |= {
        INVERSE: instrument(instrument=INVERSE, settlement=Settlement.INVERSE),
        "linear:ETHUSDT": instrument(instrument="linear:ETHUSDT", base="ETH"),
    }
    held = tuple(
        Held(name, D(qty), 1, T0) for name, qty in
        ((PERP, "-0.5"), (INVERSE, "-6000"), ("linear:ETHUSDT", "-3"), ("linear:XUSDT", "-9"))
    )
    known = Holdings(
        positions=held, positions_asked_ms=1, collateral=(("BTC", D(1)),), collateral_asked_ms=1,
        coins_asked_ms=1,
    )
    found = short_room(known, (), instrument=instrument(), mark=D(60_000), tables=desk.tables)
    assert found == (D("0.6"), D(1))
    spot = "spot:BTCUSDT"
    desk.tables.instruments[spot] = instrument(instrument=spot, settlement=Settlement.SPOT)
    desk.feed(place(instrument=spot))
    assert room_of(desk).in_reach == 0


def test_fills_count_until_the_position_shows_them() -> None:
    """0.4 of 1 filled: 1 in reach at once, still 1 when the position shows it, not 1.4."""
    desk = Desk()
    (sent,) = desk.feed(place())
    assert isinstance(sent, SendOrder)
    assert room_of(desk).in_reach == 1
    desk.feed(fill(sent, "a", "0.4", seq=7))
    assert room_of(desk).in_reach == 1
    desk.feed(push(T0 + 50, "-0.4", 7))
    assert room_of(desk).in_reach == 1
    desk.feed(row(sent, OrderStatus.CANCELLED, "0.4"))
    desk.tables.instruments[PERP] = instrument(qty_min=D(1))
    desk.tick(60_000)
    assert room_of(desk).in_reach == D("0.4")


def test_a_flat_read_after_an_order_ended_shows_all_of_it() -> None:
    """Sold 1 and bought it back: the read lists nothing, and nothing is in reach."""
    desk = Desk()
    (sold,) = desk.feed(place(1))
    assert isinstance(sold, SendOrder)
    desk.feed(fill(sold, "a", "1", seq=7), row(sold, OrderStatus.FILLED, "1"))
    assert room_of(desk).in_reach == 1
    desk.feed(positions(T0 + 1_000))
    assert room_of(desk).in_reach == 0


def test_an_open_purchase_makes_no_room() -> None:
    """It may fail: only sales count, and what a purchase has filled."""
    desk = Desk()
    (bought,) = desk.feed(place(side=Side.BUY))
    assert isinstance(bought, SendOrder)
    assert room_of(desk).in_reach == 0
    desk.feed(fill(bought, "a", "0.4", seq=7))
    assert room_of(desk).in_reach == D("-0.4")
