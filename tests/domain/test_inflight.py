"""In flight: what was asked for and is not yet seen, by seq; what is known to have happened."""

from __future__ import annotations

import msgspec
import pytest
from hedge_world import ACCOUNT, PERP, SPOT, D, confirmation, fill_of
from strategies import LINEAR, T0, position, positions, pushed, view

from hedgelock.domain.account import AccountView, fold
from hedgelock.domain.hedge_memory import HedgeMemory, take
from hedgelock.domain.inflight import (
    FINISHED_MAX,
    NO_EFFECTS,
    NO_PAUSE,
    Effects,
    Finished,
    OrderWatch,
    Pause,
    Purpose,
    TreasuryWatch,
    after_fill,
    after_treasury,
    exposure,
    take_order,
    take_treasury,
)
from hedgelock.domain.order import Fill, OrderStatus, PlaceOrder, Side
from hedgelock.domain.treasury import TreasuryConfirmation, TreasuryKind, TreasuryStage

replace = msgspec.structs.replace


def place(qty: str = "0.1", side: Side = Side.SELL, intent_id: str = "i1") -> PlaceOrder:
    """An intent."""
    return PlaceOrder(
        account=ACCOUNT, intent_id=intent_id, instrument=PERP, side=side, qty=D(qty),
        reduce_only=False, protective=True, reason="", mark_price=D(50_000),
        slippage_max=D("0.005"), decided_ts_ms=0, expires_ts_ms=0,
    )


def watch(qty: str = "0.1", side: Side = Side.SELL, **changes: object) -> OrderWatch:
    """An order watched, nothing heard of it yet."""
    bare = OrderWatch(
        intent_id="i1", instrument=PERP, side=side, qty=D(qty), purpose=Purpose.HEDGE
    )
    return replace(bare, **changes)


def fill(qty: str, seq: int, *, side: Side = Side.SELL, **changes: object) -> Fill:
    """One fill."""
    return replace(fill_of(place(side=side), qty=D(qty), seq=seq), **changes)


FLAT = view(positions(at_ms=0))


# ------------------------------------------------------------ exposure


def test_the_unfilled_part_leaves_when_the_intent_is_terminal() -> None:
    """Open: all of it counts; terminal: nothing of what never filled."""
    assert watch().open_qty() == D("0.1")
    assert watch(filled_qty=D("0.04")).open_qty() == D("0.06")
    assert watch(filled_qty=D("0.04"), is_terminal=True).open_qty() == 0


def test_each_fill_leaves_when_a_position_of_its_seq_is_seen() -> None:
    """A fill counts until a position of that instrument at or past its seq was seen."""
    order = watch(fills=(fill("0.04", 10), fill("0.06", 12)), filled_qty=D("0.1"))
    for seq, unseen in ((9, "0.1"), (10, "0.06"), (11, "0.06"), (12, "0"), (13, "0")):
        seen = view(positions(position("-0.1", seq=seq)))
        assert order.unseen_qty(seen) == D(unseen)


def test_a_position_of_another_instrument_proves_nothing() -> None:
    """seq is ordered within one instrument only."""
    order = watch(fills=(fill("0.1", 10),), filled_qty=D("0.1"), ts_confirmed_ms=T0 + 10_000)
    seen = view(positions(position("-0.1", seq=99, instrument="linear:ETHUSDT")))
    assert order.unseen_qty(seen) == D("0.1")


def test_a_flat_position_is_not_listed_and_counts_as_seen_when_asked_for_later() -> None:
    """A complete read requested after the confirmation that lists nothing: flat, all seen."""
    order = watch(fills=(fill("0.1", 10),), filled_qty=D("0.1"), ts_confirmed_ms=T0)
    assert order.unseen_qty(view(positions(at_ms=0))) == D("0.1")
    assert order.unseen_qty(view(positions(at_ms=100))) == 0
    assert order.unseen_qty(AccountView()) == D("0.1")


def test_a_fill_that_was_counted_but_not_listed_is_in_flight_until_read_anew() -> None:
    """filled_qty ahead of the fills: the difference counts, until terminal and re-read."""
    order = watch(filled_qty=D("0.1"), ts_confirmed_ms=T0)
    held = view(positions(position("-0.1", seq=5), at_ms=100))
    assert order.unseen_qty(held) == D("0.1")
    assert replace(order, is_terminal=True).unseen_qty(held) == 0


def test_doubt_is_resolved_against_acting() -> None:
    """Adding counts every open sell and no open buy; reducing every open buy and no open sell."""
    orders = (watch("0.1"), watch("0.03", Side.BUY), watch("5", instrument=SPOT))
    seen = exposure(view(positions(position("-0.2"))), orders, instrument=PERP)
    assert seen == (D("0.2"), D("0.2"), D("0.3"), D("0.17"))


def test_unseen_fills_are_booked_both_ways() -> None:
    """A sell filled raises the short, a buy filled lowers it, before the position shows either."""
    done = {"is_terminal": True, "ts_confirmed_ms": T0 + 10_000}
    sold = watch(fills=(fill("0.1", 10),), filled_qty=D("0.1"), **done)
    bought = watch("0.04", Side.BUY, fills=(fill("0.04", 11, side=Side.BUY),),
                   filled_qty=D("0.04"), **done)
    seen = exposure(view(positions(position("-0.2", seq=9))), (sold, bought), instrument=PERP)
    assert (seen.held, seen.booked, seen.high, seen.low) == (D("0.2"), *(D("0.26"),) * 3)


# ------------------------------------------------------------ confirmations


def test_a_confirmation_counts_each_fill_once() -> None:
    """A newer revision repeats old fills; only the new ones are news."""
    first = confirmation(place(), fills=(fill("0.04", 1),), at_ms=5, is_terminal=False)
    news = take_order((watch(),), (), first)
    assert news is not None
    assert [f.seq for f in news.fills] == [1]
    second = confirmation(place(), fills=(fill("0.04", 1), fill("0.06", 2)), at_ms=6, revision=2)
    more = take_order((news.watch,), (), second)
    assert more is not None
    assert [f.seq for f in more.fills] == [2]
    assert more.watch.is_terminal
    assert take_order((more.watch,), (), second) is None
    assert take_order((more.watch,), (), first) is None


def test_a_late_fill_after_the_end_is_booked_once() -> None:
    """A finished intent is remembered: repeated news is none, a late fill is."""
    done = (Finished("i1", 2, ("x1",)),)
    late = confirmation(place(), fills=(fill("0.04", 1), fill("0.06", 2)), at_ms=9, revision=3)
    assert take_order((), done, replace(late, revision=2)) is None
    news = take_order((), done, late)
    assert news is not None
    assert [f.seq for f in news.fills] == [2]


def test_an_unremembered_intent_is_believed() -> None:
    """What is open at the venue under our name counts as in flight."""
    news = take_order((), (), confirmation(place(), at_ms=9, is_terminal=False))
    assert news is not None
    assert news.watch.open_qty() == D("0.1")


def money(stage: TreasuryStage, *, moved: str = "0", loan: str = "0", revision: int = 1,
          intent_id: str = "t1", kind: TreasuryKind = TreasuryKind.REPAY) -> TreasuryConfirmation:
    """What became of a treasury action."""
    return TreasuryConfirmation(
        account=ACCOUNT, intent_id=intent_id, kind_of=kind, coin="USDT", amount=D(100),
        stage=stage, moved_amount=D(moved), loan_amount=D(loan),
        is_terminal=stage in (TreasuryStage.DONE, TreasuryStage.FAILED), is_unknown=False,
        text="", revision=revision, ts_confirmed_ms=T0,
    )


def repay() -> TreasuryWatch:
    """A repayment of 100 ordered."""
    return TreasuryWatch(intent_id="t1", kind_of=TreasuryKind.REPAY, transfer_amount=D(100))


def test_what_is_ordered_to_leave_counts_as_gone() -> None:
    """U is after every transfer ordered; money coming in counts when it has come."""
    assert repay().outgoing() == D(100)
    assert replace(repay(), moved_amount=D(100)).outgoing() == 0
    assert replace(repay(), kind_of=TreasuryKind.BORROW).outgoing() == 0


def test_a_treasury_confirmation_is_taken_once() -> None:
    """Older and repeated revisions and finished actions bring nothing."""
    news = take_treasury(repay(), (), money(TreasuryStage.TRANSFERRED, moved="100"))
    assert news is not None
    assert news.moved_amount == D(100)
    assert take_treasury(news, (), money(TreasuryStage.STARTED)) is None
    assert take_treasury(None, (Finished("t1", 1),), money(TreasuryStage.DONE)) is None
    assert take_treasury(None, (), money(TreasuryStage.STARTED)) is not None


# ------------------------------------------------------------ effects


def test_fills_change_u_by_price_and_fee_whatever_part_was_realised() -> None:
    """Linear: signed qty, cost, pnl and fee are kept, so that U re-marks at any price."""
    sold = fill("0.1", 1, price=D(50_000), fee=D(3))
    bought = fill("0.1", 2, side=Side.BUY, price=D(48_000), fee=D(2), pnl=D(200))
    effects = NO_EFFECTS
    for one in (sold, bought):
        effects = after_fill(effects, one, quote="USDT", coin="BTC")
    assert effects == Effects(
        hedge_qty=D(0), hedge_cost=D(-200), pnl=D(200), fees=D(5)
    )


@pytest.mark.parametrize(("side", "fee_coin", "moved", "coins"), [
    (Side.SELL, "USDT", "4990", "-0.1"), (Side.BUY, "BTC", "-5000", "-9.9"),
    (Side.BUY, "BNB", "-5000", "0.1"),
])
def test_spot_fills_move_coins_and_money(
    side: Side, fee_coin: str, moved: str, coins: str
) -> None:
    """A spot fee is paid in the coin that the venue names."""
    one = fill("0.1", 1, side=side, instrument=SPOT, price=D(50_000), fee=D(10),
               fee_coin=fee_coin)
    effects = after_fill(NO_EFFECTS, one, quote="USDT", coin="BTC")
    assert (effects.moved, effects.coin_qty) == (D(moved), D(coins))


@pytest.mark.parametrize(("kind", "moved", "fund", "debt", "sold"), [
    (TreasuryKind.REPAY, -70, 40, -30, 0),
    (TreasuryKind.BORROW, 70, -40, 30, 0),
    (TreasuryKind.REPAY_WITH_COLLATERAL, 0, 0, -30, 30),
])
def test_every_loan_action_has_its_effect(
    kind: TreasuryKind, moved: int, fund: int, debt: int, sold: int
) -> None:
    """70 moved and 30 repaid or borrowed: pocket, FUND and debt change with their signs."""
    assert after_treasury(NO_EFFECTS, kind, moved=D(70), repaid=D(30)) == Effects(
        moved=D(moved), fund=D(fund), debt=D(debt), sold_collateral=D(sold)
    )


@pytest.mark.parametrize(("kind", "sign"), [
    (TreasuryKind.TRANSFER_TO_FUND, -1), (TreasuryKind.TRANSFER_TO_UNIFIED, 1),
])
def test_a_transfer_moves_money_and_owes_nothing(kind: TreasuryKind, sign: int) -> None:
    """Pocket and FUND change by the same amount, the debt not at all."""
    effects = after_treasury(NO_EFFECTS, kind, moved=D(70), repaid=D(0))
    assert effects == Effects(moved=D(70) * sign, fund=D(-70) * sign)


# ------------------------------------------------------------ pauses and the memory


def test_a_pause_ends_by_time_and_a_soft_one_by_news() -> None:
    """Refused: time only. Unfilled: a newer assessment too."""
    hard = Pause(since_ms=10, until_ms=20)
    assert hard.holds(19, 15)
    assert not hard.holds(20, 15)
    soft = replace(hard, is_soft=True)
    assert soft.holds(19, 10)
    assert not soft.holds(19, 11)
    assert not NO_PAUSE.holds(1, 0)


def test_an_unremembered_treasury_action_never_hides_the_one_under_way() -> None:
    """News of a foreign action changes balances, and ours stays in flight."""
    memory = HedgeMemory(account=ACCOUNT, treasury=repay())
    foreign = money(TreasuryStage.DONE, moved="5", loan="5", intent_id="t9")
    after = take(memory, foreign, None)
    assert after is not None
    assert after.treasury == repay()
    assert after.effects.debt == D(-5)
    alone = take(HedgeMemory(account=ACCOUNT), replace(foreign, stage=TreasuryStage.STARTED,
                                                       is_terminal=False), None)
    assert alone is not None
    assert alone.treasury is not None


def test_finished_intents_are_bounded() -> None:
    """Only the last ones are remembered."""
    memory = HedgeMemory(account=ACCOUNT)
    for number in range(FINISHED_MAX + 3):
        order = place(intent_id=f"i{number}")
        taken = take(memory, confirmation(order, at_ms=1, status=OrderStatus.REJECTED), None)
        assert taken is not None
        memory = taken
    assert len(memory.finished) == FINISHED_MAX
    assert not memory.orders


def test_a_push_settles_a_fill_but_not_the_money() -> None:
    """The position of a fill's seq takes it out of flight; balances wait for all four reads."""
    filled = confirmation(place(), fills=(fill("0.1", 7),), at_ms=T0 + 5)
    memory = take(HedgeMemory(account=ACCOUNT, view=FLAT), filled, None)
    assert memory is not None
    assert memory.orders
    after = take(memory, pushed(position("-0.1", seq=7), 10), None)
    assert after is not None
    assert not after.orders
    assert after.effects.hedge_qty == D("-0.1")


_ = (LINEAR, fold)
