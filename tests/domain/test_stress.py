"""The stress cells against arithmetic by hand, the published figures and the margin formula."""

from __future__ import annotations

from decimal import Decimal as D

import msgspec
import pytest
from hypothesis import assume, given, settings
from strategies import (
    ACCOUNT,
    INVERSE,
    TIERS,
    all_rows,
    amounts,
    coin,
    fund,
    funding_context,
    loan,
    pockets,
    policy,
    position,
    positions,
    prices,
    rows,
    terms,
    tick,
    view,
    wallet,
)

from hedgelock.domain.account_figures import figures_of
from hedgelock.domain.instrument import CollateralTerms, CollateralTier
from hedgelock.domain.margin import margin_ratio
from hedgelock.domain.policy import HedgePolicy
from hedgelock.domain.scene import look, ltv_net_fall
from hedgelock.domain.stress import (
    ALT_CELLS,
    NOTHING,
    SHOCKS,
    AccountFigures,
    CellResult,
    CoinFigures,
    PerpFigures,
    StressCell,
    cells,
    load,
    result,
    shocks_in,
    tier_terms,
    worst,
)

Cell = StressCell


def scene_of(*facts, tables=None):
    """The scene of the demo account with these facts, and its view."""
    seen = view(*facts)
    tables = tables or rows()
    return look(seen, tables.policy(ACCOUNT), tables, 1_700_000_000_000), seen


def figures(*facts, tables=None):
    """The demo account with these facts, as figures."""
    return figures_of(*scene_of(*facts, tables=tables))


def told(*facts, tables=None):
    """Cell -> what is left."""
    return {found.cell: found for found in cells(figures(*facts, tables=tables), SHOCKS)}


SHORT = positions(position("-0.4", "60000"))
LARGE = positions(position("-40", "60000"))


# ---------------------------------------------------------------- by hand


def test_the_demo_account_by_hand():
    """1 BTC for 36,600, 6,000 USDT + .1 BTC, short .4 at 60,000: −25 % and +40 % from the formulas."""
    found = told(SHORT)
    down = found[Cell.DOWN_25]
    assert down.ltv == D(36_600) / 45_000
    # The short gained 6,000; closing .4 at 45,000 costs .1 %.
    assert down.ltv_net == (D(36_600) - 6_000 - 6_000 + 18) / 45_000
    assert down.equity == 6_000 + 6_000 + D("0.095") * 45_000
    up = found[Cell.UP_40]
    # 9,600 lost, 3,600 of it borrowed against the coins, at 4 %.
    needed = D("0.4") * 84_000 * D("0.00555") + 3_600 * D("0.04")
    assert up.equity == 6_000 - 9_600 + D("0.095") * 84_000
    assert up.margin_ratio == needed / up.equity


def test_a_cheap_usdt_shrinks_the_debt_and_the_shorts_gain():
    """USDT at .95: the debt is worth 5 % less; the short at 60,000 USDT loses .4 × 60,000 × .05."""
    found = told(SHORT)[Cell.QUOTE_DOWN]
    assert found.ltv == D(36_600) * D("0.95") / 60_000
    cost = D("0.4") * 60_000 * D("0.001")
    own = D(6_000) * D("0.95") - D("0.4") * (60_000 - D(60_000) * D("0.95"))
    assert abs(found.ltv_net - (D(36_600) * D("0.95") - own + cost) / 60_000) < D("1e-20")


def test_a_dear_usdt_raises_the_debt_and_pays_the_short():
    """USDT at 1.05: debt + 5 %, and a short of .4 gains .4 × 3,000 USD."""
    found, now = told(SHORT)[Cell.QUOTE_UP], told()[Cell.QUOTE_UP]
    assert found.ltv == now.ltv == D(36_600) * D("1.05") / 60_000
    gain = D("0.4") * 60_000 * D("0.05") - D("0.4") * 60_000 * D("0.001")
    assert abs((now.ltv_net - found.ltv_net) * 60_000 - gain) < D("1e-20")


def test_funding_at_its_cap_costs_a_day_of_it():
    """.5 % three times a day on 24,000: 360 USDT."""
    still = result(figures(SHORT), NOTHING, None)
    assert still.equity - told(SHORT)[Cell.FUNDING_CAP].equity == 360


def test_the_interval_decides_how_often_the_cap_is_paid():
    """Hourly settlement at the cap costs eight times as much as every eight hours."""
    hourly = msgspec.structs.replace(funding_context(), funding_interval_h=D(1))
    found = told(SHORT, tables=rows().having(hourly))[Cell.FUNDING_CAP]
    assert result(figures(SHORT), NOTHING, None).equity - found.equity == 8 * 360


def test_the_basis_moves_the_mark_alone():
    """Mark 2 % up: .4 × 1,200 lost by the short, LTV untouched."""
    still, up = result(figures(SHORT), NOTHING, None), told(SHORT)[Cell.BASIS_UP]
    assert up.ltv == still.ltv
    assert still.equity - up.equity == 480
    assert told(SHORT)[Cell.BASIS_DOWN].equity - still.equity == 480


def test_five_points_less_count_in_both_pockets():
    """Loan ratio 1 → .95, margin ratio .95 → .90; USDT stays whole."""
    found = told(SHORT)[Cell.RATIO_CUT]
    assert found.ltv == D(36_600) / 57_000
    assert found.equity == 6_000 + D("0.090") * 60_000


def test_a_cut_never_counts_less_than_nothing():
    """A coin that counts 3 % counts 0 after a cut of 5 points, and what is owed is not cut."""
    poor = rows().having(terms(loan="0.03", margin="0.03"))
    owing = wallet(coin("USDT", "6000"), coin("BTC", "-0.1"))
    found = told(owing, tables=poor)[Cell.RATIO_CUT]
    assert (found.ltv, found.ltv_net) == (None, None)
    assert found.equity == result(figures(owing, tables=poor), NOTHING, None).equity == 0


def test_the_next_tier_of_ratios_and_of_margin():
    """40 BTC short in tier 2 pays tier 3's rate with tier 2's deduction; coins count at .9."""
    tiers = (
        CollateralTier(qty_min=D(0), qty_max=D(5), ratio=D("0.95")),
        CollateralTier(qty_min=D(5), qty_max=None, ratio=D("0.9")),
    )
    table = rows().having(CollateralTerms(
        coin="BTC", loan_tiers=tiers, margin_tiers=tiers, ts_seen_ms=0))
    rich = wallet(coin("USDT", "600000"), coin("BTC", "0.1"))
    found = told(rich, LARGE, tables=table)[Cell.NEXT_TIER]
    assert found.ltv == D(36_600) / (D("0.9") * 60_000)
    equity = 600_000 + D("0.09") * 60_000
    needed = D(2_400_000) * (D("0.0063") + D("0.00055")) - 1_200
    assert (found.equity, found.margin_ratio) == (equity, needed / equity)


def test_a_rate_spike_compounds_for_a_month():
    """30 % a year, hourly for 30 days: 2.496 % more debt, in the loan and in the pocket."""
    found = told(wallet(coin("USDT", "-1000"), coin("BTC", "0.1")))[Cell.RATE_SPIKE]
    growth = (1 + D("0.30") / 8760) ** 720
    assert abs(found.ltv - D(36_600) * growth / 60_000) < D("1e-14")
    assert abs(found.equity - (D("0.095") * 60_000 - 1_000 * growth)) < D("1e-9")


def test_other_coins_fall_further():
    """3 ETH at .9 beside the BTC: at −25 % they lose 37.5 % and 50 %."""
    found = told(loan(others=[("ETH", "3")]), tables=all_rows(D(60_000)))
    eth = D("2.7") * 3_000
    for cell, left in ((Cell.DOWN_25, "0.75"), (Cell.ALTS_DOWN_15, "0.625"),
                       (Cell.ALTS_DOWN_20, "0.5")):
        assert found[cell].ltv == D(36_600) / (45_000 + eth * D(left))
    assert found[Cell.ALTS_UP_20].ltv == D(36_600) / (75_000 + eth * D("1.5"))


def test_no_cells_of_other_coins_where_there_are_none():
    """An account of BTC and USDT alone has no alt cells; any other has them all."""
    assert set(told()) == set(Cell) - ALT_CELLS
    assert set(told(loan(others=[("ETH", "3")]), tables=all_rows(D(60_000)))) == set(Cell)


def test_an_inverse_short_gains_in_coins():
    """−24,000 USD from 60,000: at 45,000 +.1333 BTC = 6,000 USD, as a linear short of .4."""
    short = positions(position("-24000", "60000", instrument=INVERSE))
    down = told(short, tables=all_rows(D(60_000)))[Cell.DOWN_25]
    linear = told(SHORT)[Cell.DOWN_25]
    assert abs(down.equity - linear.equity) < D("1e-20")
    # The cost to close: 24,000 USD is 24,000 USD at any price.
    assert abs((down.ltv_net - linear.ltv_net) * 45_000 - (24 - 18)) < D("1e-20")


# ---------------------------------------------------------------- against what is published


@settings(max_examples=40)
@given(pockets(), prices(), amounts("1000", "6000", 2))
def test_nothing_happens_is_today(read, price, eth):
    """Without a shock LTV and accountMMRate are those of the assessment."""
    scene, seen = scene_of(*read, tables=all_rows(price, eth))
    found = result(figures_of(scene, seen), NOTHING, None)
    if scene.loan.is_uncovered:
        assert found.ltv is None
    else:
        assert abs(found.ltv - scene.ltv) <= D("1e-25") * (1 + found.ltv)
    now = margin_ratio(scene.book)
    assert (found.margin_ratio is None) == (now is None)
    assert now is None or abs(found.margin_ratio - now) <= D("1e-25") * (1 + now)


@settings(max_examples=40)
@given(pockets(), prices())
def test_price_cells_are_the_margin_formula(read, price):
    """accountMMRate of every price cell is `margin_ratio` at that move."""
    scene, seen = scene_of(*read, tables=all_rows(price))
    found = {f.cell: f for f in cells(figures_of(scene, seen), SHOCKS)}
    for cell, move in ((Cell.DOWN_10, "-0.1"), (Cell.DOWN_40, "-0.4"), (Cell.UP_25, "0.25")):
        there = margin_ratio(scene.book, D(move))
        assert (found[cell].margin_ratio is None) == (there is None)
        assert there is None or abs(found[cell].margin_ratio - there) <= D("1e-25") * (1 + there)


@settings(max_examples=40)
@given(amounts("0", "2", 3), prices(), amounts("1", "50000", 2), amounts("0", "9000", 2))
def test_a_fall_is_the_net_ltv_of_the_design(short, price, debt, spare):
    """With linear shorts alone, DOWN_25 is the published ltv_net_fall, the reserve counted."""
    tables = all_rows(price).having(policy(hedge=HedgePolicy(reserve=D(1_234))))
    held = positions(position(-short, "50000")) if short else positions()
    scene, seen = scene_of(held, loan(debt), fund(spare), tables=tables)
    found = {f.cell: f for f in cells(figures_of(scene, seen), SHOCKS)}[Cell.DOWN_25]
    assert abs(found.ltv_net - ltv_net_fall(scene, seen)) < D("1e-20")


@settings(max_examples=40)
@given(pockets(), prices(), amounts("1000", "6000", 2))
def test_floats_say_the_same(read, price, eth):
    """The cells in float agree with Decimal to nine digits."""
    exact = figures(*read, tables=all_rows(price, eth))
    number = float

    def plain(part):
        return part._replace(**{
            name: number(value) for name, value in part._asdict().items() if isinstance(value, D)
        })

    class Tier:
        def __init__(self, tier):
            self.notional_max = number(tier.notional_max)
            self.maintenance_rate = number(tier.maintenance_rate)
            self.deduction = number(tier.deduction)

    rough = plain(exact)._replace(
        coins=tuple(map(plain, exact.coins)),
        perps=tuple(plain(p)._replace(tiers=tuple(map(Tier, p.tiers))) for p in exact.perps),
    )
    for here, there in zip(cells(exact, SHOCKS), cells(rough, shocks_in(number)), strict=True):
        assume(abs(here.equity) > 1)
        assert there.cell is here.cell
        assert there.equity == pytest.approx(number(here.equity), rel=1e-9, abs=1e-6)
        if here.margin_ratio is not None:
            assert there.margin_ratio == pytest.approx(number(here.margin_ratio), rel=1e-7)
        if here.ltv_net is not None:
            assert there.ltv_net == pytest.approx(number(here.ltv_net), rel=1e-9, abs=1e-9)


# ---------------------------------------------------------------- the worst


def left(cell, ltv_net, margin="0", equity="1"):
    """A cell's figures."""
    of = [None if text is None else D(text) for text in (ltv_net, margin)]
    return CellResult(cell, D(0), of[0], of[1], D(equity))


def test_the_worst_cell_uses_up_most_of_a_cliff():
    """Net LTV counts by its distance to liquidation, margin by its distance to 1; first of equals."""
    high_ltv, high_margin = left(Cell.DOWN_40, "0.76"), left(Cell.UP_40, "0.1", "0.9")
    assert load(high_ltv, D("0.95")) == D("0.8")
    assert load(high_margin, D("0.95")) == D("0.9")
    assert worst([high_ltv, high_margin, left(Cell.UP_10, "0.1", "0.9")], D("0.95")) is high_margin
    assert worst([left(Cell.DOWN_10, "0.95"), high_margin], D("0.95")).cell is Cell.DOWN_10


@pytest.mark.parametrize("nothing", [(None, "0"), ("0", None)])
def test_nothing_left_is_worse_than_any_number(nothing):
    """A cell without collateral or equity is the worst; of two, the one with less equity."""
    ruined = left(Cell.UP_40, *nothing, "-1")
    assert worst([left(Cell.DOWN_40, "99"), ruined], D("0.95")) is ruined
    worse = left(Cell.UP_25, *nothing, "-2")
    assert worst([ruined, worse], D("0.95")) is worse


def test_the_demo_accounts_worst_cell_is_the_deepest_fall():
    """Unhedged at LTV .61, a fall of 40 % is the worst; hedged too much, the rally is."""
    assert worst(cells(figures(), SHOCKS), D("0.95")).cell is Cell.DOWN_40
    heavy = positions(position("-1", "60000"))
    assert worst(cells(figures(heavy), SHOCKS), D("0.95")).cell is Cell.UP_40


# ---------------------------------------------------------------- edges


def test_without_debt_ltv_is_nought():
    """No debt: LTV and net LTV are 0 in every cell, whatever is pledged."""
    assert {(f.ltv, f.ltv_net) for f in cells(figures(loan("0")), SHOCKS)} == {(0, 0)}


def test_debt_without_collateral_is_infinite():
    """A debt and nothing pledged has no LTV in any cell."""
    assert {(f.ltv, f.ltv_net) for f in cells(figures(loan("1", "0")), SHOCKS)} == {(None, None)}


def test_an_empty_pocket_needs_nothing():
    """Nothing held, nothing needed: 0; something needed and nothing held: infinite."""
    bare = wallet(coin("USDT", "0"))
    assert {f.margin_ratio for f in cells(figures(bare), SHOCKS)} == {0}
    assert result(figures(bare, SHORT), NOTHING, None).margin_ratio is None
    assert result(figures(wallet(coin("USDT", "-1"))), NOTHING, None).margin_ratio is None


def test_what_is_not_seen_whole_has_no_figures():
    """No loan ratio, no price or no FUND: no figures at all rather than figures of a part."""
    lost = rows()
    lost.collateral.clear()
    assert figures(tables=lost) is None
    scene, seen = scene_of()
    assert figures_of(scene, msgspec.structs.replace(seen, fund=None)) is None
    unpriced = rows()
    unpriced.markets.clear()
    assert figures(loan("0", "0"), wallet(coin("USDT", "5")), tables=unpriced) is None


def test_a_coin_that_is_no_collateral_counts_nothing_in_any_tier():
    """Switched off as collateral: 0 in every cell, the next tier's included."""
    off = wallet(coin("USDT", "6000"), coin("BTC", "0.1", is_collateral=False))
    assert {f.equity for f in cells(figures(off), SHOCKS) if f.cell is Cell.NEXT_TIER} == {6_000}


@pytest.mark.parametrize(
    ("value", "rate", "deduction", "next_rate"),
    [(2_000_000, "0.005", 0, "0.0056"), (2_000_001, "0.0056", 1_200, "0.0063"),
     (3_200_000, "0.0063", 3_020, "0.0063"), (9_000_000, "0.0063", 3_020, "0.0063")],
)
def test_tiers_by_value(value, rate, deduction, next_rate):
    """The first tier that holds the value; beyond the last, and above it, the last."""
    assert tier_terms(D(value), TIERS, False) == (D(rate), deduction)
    assert tier_terms(D(value), TIERS, True) == (D(next_rate), deduction)


def test_figures_can_be_made_by_hand():
    """The solver and the backtest build figures of plain numbers; here the demo account's."""
    o = D(0)
    usdt = CoinFigures(D(1), True, False, D(36_600), o, o, o, D(6_000), D(6_000), D(6_000))
    btc = CoinFigures(D(60_000), False, False, o, D(1), D(1), D(1), D("0.1"), D("0.095"), D("0.095"))
    short = PerpFigures(False, False, D("-0.4"), D(60_000), D(60_000), 0, D("0.00055"), D("0.015"), TIERS)
    made = AccountFigures((usdt, btc), (short,), o, o, D("0.001"), D("0.04"))
    assert made == figures(SHORT)


def test_a_mark_off_the_index_is_kept():
    """Cells move mark and index by the same fraction, so a premium stays one."""
    table = rows().having(tick("60000", mark="60600"))
    found = told(SHORT, tables=table)[Cell.DOWN_10]
    assert found.equity == 6_000 + D("0.4") * (60_000 - 54_540) + D("0.095") * 54_000
