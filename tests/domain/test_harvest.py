"""Money: h_cap and its inverse, harvest, slices, last resort, refill, and what waits."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hedge_situations import amounts, held, situation, situations
from hedge_world import D, instrument
from hypothesis import assume, given
from hypothesis import strategies as st

from hedgelock.domain.harvest import Claim, Plan, at_once, claim, plan
from hedgelock.domain.headroom import Headroom
from hedgelock.domain.inflight import Purpose
from hedgelock.domain.instrument import MarginTier
from hedgelock.domain.margin import Book, CoinLine, PositionLine, margin_ratio
from hedgelock.domain.order import Side
from hedgelock.domain.risk import Confidence
from hedgelock.domain.safety import SafetyMode
from hedgelock.domain.situation import MoneyAction, OrderAction, Situation
from hedgelock.domain.treasury import TreasuryKind


def money(s: Situation, *, is_lowering: bool = False) -> Plan:
    """The plan at what the loan wants."""
    return plan(s, claim(s), is_lowering=is_lowering)


def the_money(s: Situation) -> MoneyAction:
    """The one treasury action of the plan."""
    (action,) = money(s).actions
    assert isinstance(action, MoneyAction)
    return action


# ------------------------------------------------------------ headroom


def headroom(
    mark: Decimal = D(50_000), cushion: Decimal = D(0), **changes: Any
) -> Headroom:
    """The pocket's headroom with u = .25, r = .04, ρ = 1."""
    return Headroom(mark, D("0.25"), cushion, D(1), D("0.04"), instrument(**changes))


def holds(room: Headroom, equity: Decimal, short: Decimal) -> bool:
    """DESIGN's inequality, written out anew: U + κbP(1+u) ≥ hP(u + (1+u)m) + .04·max(0, hPu − U)."""
    value = short * room.mark * (1 + room.rise)
    tier = next((t for t in room.instrument.tiers if value <= t.notional_max), None)
    if tier is None:
        return short == 0
    loss = short * room.mark * room.rise
    need = value * (tier.maintenance_rate + room.instrument.taker_fee) - tier.deduction
    owed = max(D(0), loss - equity)
    return equity + room.cushion - loss >= need + room.borrow_rate * owed - D("1e-15")


@given(amounts("-5000", "1000000", 2), amounts("0", "100000", 2), amounts("10000", "100000", 1))
def test_h_cap_is_the_largest_short_that_margin_allows(
    equity: Decimal, cushion: Decimal, mark: Decimal
) -> None:
    """h_cap keeps accountMMRate ≤ 1 at +u; a hair more does not. Through two tiers."""
    room = headroom(mark, cushion)
    cap = room.hedge_cap(equity)
    if cap:
        assert holds(room, equity, cap)
    assert cap >= 0
    assert not holds(room, equity, cap + D("0.0000001"))


@given(amounts("0.001", "60", 3), amounts("0", "100000", 2))
def test_the_equity_needed_is_what_h_cap_asks(short: Decimal, cushion: Decimal) -> None:
    """equity_needed is the least U under which the short fits."""
    room = headroom(cushion=cushion)
    need = room.equity_needed(short)
    if need.is_finite():
        assert holds(room, need, short)
        assert not holds(room, need - D("0.000001"), short)
    else:
        assert short * 62_500 > 2_600_000


@given(amounts("-5000", "1000000", 2), amounts("0", "3", 3), amounts("10000", "100000", 1))
def test_the_risk_engines_margin_agrees_with_h_cap(
    equity: Decimal, coins: Decimal, mark: Decimal
) -> None:
    """A pocket at h_cap has accountMMRate ≤ 1 at +u by `domain.margin`, a larger short more."""
    room = headroom(mark, coins * D("0.95") * mark * D("1.25"))

    def ratio(short: Decimal) -> Decimal | None:
        line = PositionLine(
            "linear:BTCUSDT", "BTC", "USDT", is_inverse=False, position_qty=-short,
            entry_price=mark, mark_price=mark, settle_price=D(1),
            taker_fee=room.instrument.taker_fee, tiers=room.instrument.tiers,
        )
        lines = (
            CoinLine("USDT", equity, max(D(0), equity), D(1)),
            CoinLine("BTC", coins, coins * D("0.95"), mark),
        )
        return margin_ratio(Book(lines, (line,), "USDT", room.borrow_rate, is_whole=True), room.rise)

    cap = room.hedge_cap(equity)
    if cap > D("0.001"):
        at_cap = ratio(cap)
        assert at_cap is not None
        assert at_cap <= 1 + D("1e-12")
        if cap * mark * D("1.25") < 2_599_999:
            beyond = ratio(cap + D("0.0001"))
            assert beyond is None or beyond > 1


def test_without_a_short_only_the_coins_count() -> None:
    """No short: U may fall to minus what the coins are worth as margin."""
    assert headroom(cushion=D(4_000)).equity_needed(D(0)) == D(-4_000)


def test_a_jump_between_tiers_stops_at_the_lower_one() -> None:
    """A table without deductions is not continuous: the short ends where the lower tier ends."""
    tiers = (
        MarginTier(notional_max=D(100_000), initial_rate=D("0.01"), maintenance_rate=D("0.01"),
                   deduction=D(0)),
        MarginTier(notional_max=D(200_000), initial_rate=D("0.5"), maintenance_rate=D("0.5"),
                   deduction=D(0)),
    )
    room = headroom(tiers=tiers)
    assert room.hedge_cap(D(30_000)) == D(100_000) / 62_500
    assert room.hedge_cap(D(10_000_000)) == D(200_000) / 62_500


# ------------------------------------------------------------ what the loan wants


@pytest.mark.parametrize(("price", "need", "is_urgent"), [
    ("48900", "0", False),
    ("48800", "2440", False),
    ("45760", "4568", False),
    ("45750", "2287.50", True),
])
def test_what_the_loan_wants_at_each_level(price: str, need: str, is_urgent: bool) -> None:
    """Below .75 nothing; from .75 on down to .70; from .80 on down to .75, urgently."""
    assert claim(situation(price)) == Claim(D(need), D(need), is_urgent=is_urgent)


def test_what_lies_in_fund_is_as_good_as_repaid() -> None:
    """x = D − F − .70·V; below one percent of V the pocket gives nothing more."""
    wish = claim(situation("48800", fund="2000"))
    assert (wish.need, wish.wanted) == (D(2440), D(0))


# ------------------------------------------------------------ harvest


def test_a_harvest_moves_what_is_missing_and_repays_it() -> None:
    """At .75 with money in the wallet: x moves to FUND and is repaid, F with it."""
    assert the_money(situation("48800"))[:3] == (TreasuryKind.REPAY, D(2440), D(2440))
    action = the_money(situation("48800", fund="600"))
    assert action[:3] == (TreasuryKind.REPAY, D(2440), D(1840))
    action = the_money(situation("48800", fund="2000"))
    assert action[:3] == (TreasuryKind.REPAY, D(2000), D(0))


def test_a_harvest_never_takes_what_the_short_needs() -> None:
    """What h_cap does not allow stays, and the repayment waits for the short to shrink."""
    s = situation("48800", short="0.7", entry="48800", coins="0", equity="9500")
    spare = s.balances.equity - s.headroom.equity_needed(D("0.7"))
    assert D(0) < spare < D(2440)
    assert the_money(s).amount == spare.quantize(D("0.01"), "ROUND_DOWN")
    assert money(s, is_lowering=True).reason.value == "lowering_first"  # type: ignore[union-attr]


@pytest.mark.parametrize(("changes", "reason"), [
    ({"has_treasury": True, "is_settled": False}, "treasury_in_flight"),
    ({"is_settled": False}, "settling"),
    ({"may_move": False}, "backing_off"),
    ({"confidence": Confidence.STALE}, "input_stale"),
    ({"withdrawable": "100"}, "below_minimum"),
])
def test_a_harvest_waits_with_its_reason(changes: dict[str, Any], reason: str) -> None:
    """One action at a time, on settled and fresh figures, above the minimum."""
    done = money(situation("48800", **changes))
    assert not done.actions
    assert done.reason is not None
    assert done.reason.value == reason


def test_a_gain_is_realised_in_slices_of_the_band() -> None:
    """Cash short, gain there: close at most the band, reduce-only, and only what is missing."""
    s = situation("42000", debt="31500", short="0.5", entry="50000", equity="4500", cash="500")
    (action,) = money(s).actions
    assert isinstance(action, OrderAction)
    assert (action.side, action.qty, action.reduce_only) == (Side.BUY, D("0.05"), True)
    assert (action.purpose, action.reason.value) == (Purpose.REALISE, "harvest_realise")
    assert not money(s._replace(may_order=False)).actions
    s = situation("42000", debt="31500", short="0.5", entry="60000", equity="9500", cash="1500")
    (action,) = money(s).actions
    assert isinstance(action, OrderAction)
    gain = D(18_000) - 84_000 * D("0.00055")
    missing = D(2_100) - (1_500 - D("0.5") * 42)
    assert action.qty == (missing / gain).quantize(D("0.001"), "ROUND_UP")


def test_a_rest_below_the_minimum_is_left_to_the_next_payment() -> None:
    """Most of x lies ready: it is paid now, instead of chasing a claim that grows in a fall."""
    s = situation("42000", debt="31500", short="0.5", entry="50000", equity="5900", cash="1900")
    assert the_money(s).amount == D(1_900) - D("0.5") * 42


def under_way(**changes: Any) -> Situation:
    """A realisation decided on settled money, of which 700 USDT are still to come."""
    base: dict[str, Any] = {"is_settled": False, "realising": D(700)}
    return situation(
        "42000", debt="31500", short="0.5", entry="50000", equity="4500", cash="500",
        **(base | changes),
    )


def test_a_realisation_going_on_does_not_wait_for_balances() -> None:
    """Slices follow each other as fast as they fill; each says how much is left after it."""
    (action,) = money(under_way()).actions
    assert isinstance(action, OrderAction)
    gain = D(8_000) - 84_000 * D("0.00055")
    assert (action.qty, action.realise_rest) == (D("0.05"), 700 - D("0.05") * gain)
    (last,) = money(under_way(realising=D(100))).actions
    assert isinstance(last, OrderAction)
    assert (last.qty, last.realise_rest) == (D("0.013"), D(0))


def test_from_80_on_a_realisation_stops_so_that_money_can_settle_and_be_paid() -> None:
    """More slices would only keep balances from settling while the cliff comes nearer."""
    done = money(under_way(counted_value=D(39_000)))
    assert not done.actions
    assert done.reason is not None
    assert done.reason.value == "settling"


@pytest.mark.parametrize("changes", [
    {"has_hedge_order": True}, {"has_treasury": True}, {"may_order": False},
    {"confidence": Confidence.STALE}, {"reopen_qty": D("0.05")}, {"realising": D(0)},
])
def test_a_realisation_going_on_still_waits_for_its_orders(changes: dict[str, Any]) -> None:
    """One slice at a time, reopened before the next, on fresh figures, never beside money."""
    assert not money(under_way(**changes)).actions
    assert not money(under_way(), is_lowering=True).actions


@pytest.mark.parametrize("changes", [
    {"entry": "41000"},
    {"entry": None, "short": "0"},
    {"withdrawable": "100", "cash": "1200"},
    {"reopen_qty": D("0.05")},
    {"entry": "42100"},
    {"instrument": instrument(qty_min=D("0.6"))},
])
def test_no_slice_is_closed_that_would_not_help(changes: dict[str, Any]) -> None:
    """No gain, no short, margin is what binds, a slice is still open, or it makes no payment."""
    base: dict[str, Any] = {
        "debt": "31500", "short": "0.5", "entry": "50000", "equity": "4500", "cash": "300",
        "exposure": held("0.5"),
    }
    s = situation("42000", **(base | changes))
    if not s.entry_price:
        s = s._replace(exposure=held("0"))
    assert not any(isinstance(a, OrderAction) for a in money(s).actions)


def test_what_the_venue_releases_is_paid_when_nothing_can_be_realised() -> None:
    """Cash below x but above the minimum, no gain: pay what there is, less the closing fee."""
    s = situation("42000", debt="31500", short="0.1", entry="41000", equity="1000", cash="1000")
    assert the_money(s).amount == D(1000) - D("4.2")


def test_urgently_what_is_there_is_paidat_once() -> None:
    """From .80 on nothing waits for slices or for the short to shrink."""
    s = situation("40000", debt="33000", short="0.5", entry="50000", equity="6000", cash="1000")
    action = the_money(s)
    assert (action.amount, action.reason.value) == (D(980), "urgent_repay")
    assert plan(s, claim(s), is_lowering=True).actions == (action,)


def test_the_last_resort_sells_collateral_down_to_75() -> None:
    """From .80 on with an empty pocket: A with D − A = .75·(V − κ_c·A)."""
    s = situation("45000", debt="36900", equity="0")
    action = the_money(s)
    assert (action.kind_of, action.reason.value) == (
        TreasuryKind.REPAY_WITH_COLLATERAL, "collateral_repay"
    )
    after = (36_900 - action.amount) / (D(45_000) - action.amount)
    assert abs(after - D("0.75")) < D("0.00001")


@pytest.mark.parametrize(("changes", "reason"), [
    ({"confidence": Confidence.STALE}, "below_minimum"),
    ({"fund": "3149", "may_move": True}, "urgent_repay"),
    ({"collateral": "0", "counted_value": D(45_000)}, "nothing_to_repay_with"),
    ({"loan_ratio": D(2)}, "nothing_to_repay_with"),
])
def test_the_last_resort_is_the_last(changes: dict[str, Any], reason: str) -> None:
    """Not on stale figures, not while other money is there, not without collateral."""
    done = money(situation("45000", **({"debt": "36900", "equity": "0"} | changes)))
    assert done.reason is not None
    assert done.reason.value == reason


def test_collateral_too_small_to_matter_is_kept() -> None:
    """A sale below the minimum waits like every loan action."""
    s = situation("45000", debt="36900", equity="0", collateral="0.005", counted_value=D(45_000))
    assert money(s).reason.value == "below_minimum"  # type: ignore[union-attr]


# ------------------------------------------------------------ refill


def test_a_low_pocket_is_refilled_by_borrowing_below_65() -> None:
    """min(.65·V − D + F, R − U − F), moved to the pocket; a small F stays in FUND."""
    action = the_money(situation("60000", equity="5000"))
    assert action[:3] == (TreasuryKind.BORROW, D(1000), D(1000))
    action = the_money(situation("58000", equity="2000", fund="500"))
    assert action[:3] == (TreasuryKind.BORROW, D(1600), D(1600))


def test_what_lies_idle_in_fund_comes_back_first() -> None:
    """F at or above the minimum returns to a pocket below R, whatever the LTV under .75."""
    action = the_money(situation("50000", equity="2000", fund="700"))
    assert action[:3] == (TreasuryKind.TRANSFER_TO_UNIFIED, D(700), D(700))


@pytest.mark.parametrize(("changes", "reason"), [
    ({"equity": "6000"}, None),
    ({"equity": "5500", "fund": "500"}, None),
    ({"equity": "5900"}, "below_minimum"),
    ({"equity": "3000", "price": "56000"}, None),
    ({"equity": "3000", "confidence": Confidence.STALE}, None),
    ({"equity": "3000", "mode": SafetyMode.HALTED}, None),
])
def test_no_refill_without_need_or_leave(changes: dict[str, Any], reason: str | None) -> None:
    """Enough money, too small a need, LTV at .65, stale figures or HALTED: nothing is borrowed."""
    done = money(situation(changes.pop("price", "60000"), **changes))
    assert not done.actions
    assert (done.reason.value if done.reason else None) == reason


def test_slices_bring_what_was_meant_and_no_fourth_order_pair() -> None:
    """Three slices of .05 of a short of .4, each averaged down by an eighth: q · gain · 2.640625."""
    seen = situation("48000", short=D("0.4"), entry="56000", equity="9000")
    gain = D(8_000) - 2 * D(48_000) * seen.instrument.taker_fee
    assert at_once(seen) == D("0.05") * gain * D("2.640625")
    small = situation("48000", short=D("0.04"), entry="56000")
    assert at_once(small) == D("0.05") * gain
    assert at_once(situation("48000", short=D(0))) == 0


def test_a_crumb_of_a_realisation_is_left_to_the_next() -> None:
    """Less than a fifth of a slice is not worth two orders."""
    for rest, goes_on in (("79", False), ("90", True)):
        seen = situation("48000", short=D("0.4"), entry="56000", equity="9000", realising=D(rest),
                         is_settled=False)
        done = money(seen)
        assert bool(done.actions) is goes_on, rest


def test_a_forbidden_repayment_waits_until_ltv_is_urgent() -> None:
    """Below `urgent_at` nothing is claimed; at it the loan is repaid whatever was pinned."""
    assert not money(situation("48000", is_repay_forbidden=True)).actions
    action = the_money(situation("45500", equity="9000", is_repay_forbidden=True))
    assert action.kind_of is TreasuryKind.REPAY


# ------------------------------------------------------------ properties


@given(situations(), st.booleans())
def test_money_conserves_n_and_never_overdraws(s: Situation, is_lowering: bool) -> None:
    """D − F − U is the same after any plan; nothing is moved that is not there or needed."""
    for action in money(s, is_lowering=is_lowering).actions:
        if isinstance(action, OrderAction):
            assert action.qty <= max(s.policy.no_trade_band, s.instrument.qty_min)
            assert action.reduce_only
            continue
        have, moved, loan = s.balances, action.transfer_amount, action.amount
        debt, fund, equity = have.debt, have.fund, have.equity
        match action.kind_of:
            case TreasuryKind.REPAY:
                assert moved <= have.withdrawable
                debt, fund, equity = debt - loan, fund + moved - loan, equity - moved
                assert not moved or equity >= s.headroom.equity_needed(s.exposure.high)
                assert equity >= 0 or not moved
            case TreasuryKind.BORROW:
                debt, fund, equity = debt + loan, fund + loan - moved, equity + moved
                assert debt - fund <= s.policy.refill_below * s.counted_value
                assert equity + fund <= s.reserve
            case TreasuryKind.TRANSFER_TO_UNIFIED:
                fund, equity = fund - moved, equity + moved
            case _:
                assert loan <= have.collateral_qty * s.index_price
                continue
        assert debt >= 0
        assert fund >= 0
        before = have.debt - have.fund - have.equity
        assert debt - fund - equity == before


@pytest.mark.no_cover
@given(situations(), st.booleans())
def test_no_money_moves_unsettled_or_twice(s: Situation, is_lowering: bool) -> None:
    """No loan action or transfer is decided while something is under way."""
    assume(not s.is_settled or s.has_treasury)
    actions = money(s, is_lowering=is_lowering).actions
    assert not any(isinstance(a, MoneyAction) for a in actions)
    assert not actions or (s.realising > 0 and not s.has_treasury)
