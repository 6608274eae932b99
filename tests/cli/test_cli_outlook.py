"""The worst cell, both liquidation prices and the 24 h probability, in words: live view and `why`."""

from __future__ import annotations

import io
from decimal import Decimal as D

import msgspec
import pytest
from rich.console import Console

from cli.cli_story import NOW, Cli, Log
from hedgelock.cli import outlook, words
from hedgelock.cli.board import Board
from hedgelock.cli.screen import Screen
from hedgelock.domain.policy import Policy
from hedgelock.domain.risk import Confidence, RiskState
from hedgelock.domain.risk_detail import (
    LiquidationPrices,
    ReachProbability,
    RiskDetail,
    RiskLevel,
)
from hedgelock.domain.risk_score import ScoreParts
from hedgelock.domain.stress import StressCell

PARTS = ScoreParts(ltv=D(64), margin=D(2), stress=D(72), probability=D(41), blindness=D(0))
DETAIL = RiskDetail(
    account="main", policy_version=1, state=RiskState.NORMAL, confidence=Confidence.FRESH,
    score=D(72), parts=PARTS, worst=StressCell.DOWN_40, worst_load=D("0.8812"),
    loan=LiquidationPrices(below=D("38526.4"), distance_below=D("0.3579"), sigmas_below=D("16.93")),
    pocket=LiquidationPrices(above=D("96528.7"), distance_above=D("0.6088"), sigmas_above=D("18.2")),
    volatility=D("0.5"),
    probabilities=(ReachProbability(level=RiskLevel.LIQUIDATION, horizon_h=24,
                                    frozen=D("0.0012"), under_policy=D("0.00002")),),
    assessed_ts_ms=NOW,
)
BLIND = msgspec.structs.replace(
    DETAIL, score=D(100), worst=None, worst_load=None, loan=LiquidationPrices(),
    pocket=LiquidationPrices(), probabilities=(), volatility=None,
    parts=msgspec.structs.replace(PARTS, blindness=D(100)),
)


def test_in_words():
    """Worst cell with its share, both prices with their distance, both probabilities."""
    score, worst, ends, day = outlook.lines(DETAIL)
    assert score == ("risk score 72 of 100, driven by stress: LTV 64, margin 2, stress 72, "
                     "probability 41, blindness 0")
    assert worst == "worst stress: prices −40 % – 88 % of the way to liquidation"
    assert ends == ("liquidated: loan below 38,526 (−36 %), pocket above 96,529 (+61 %); the nearest "
                    "is 16.9 daily σ away at 50 % volatility a year")
    assert day == ("liquidated within 24 h: 0.12 % if nothing more is done, under 0.01 % with the "
                   "hedge's gains repaid")
    assert words.headline(DETAIL) == "risk score 72 of 100, driven by stress"


def test_what_is_not_known_is_not_said():
    """Without figures no number is made up, neither in the story nor on the screen."""
    said = " ".join(outlook.lines(BLIND))
    assert "stress unknown" in said and "prices unknown" in said and "24 h unknown" in said
    assert outlook.brief(BLIND) == "score 100: something was never read"
    half = msgspec.structs.replace(BLIND, score=D(65))
    assert outlook.brief(half) == "risk unknown"


def test_nothing_left_and_no_price():
    """A ruined worst cell leaves nothing; a cliff that no price reaches is said as that."""
    ruined = msgspec.structs.replace(DETAIL, worst_load=None, pocket=LiquidationPrices())
    assert outlook.worst(ruined).endswith("nothing is left")
    assert "pocket at no price" in outlook.ends(ruined)


@pytest.mark.parametrize(
    ("probability", "said"),
    [("0", "under 0.01 %"), ("0.0004", "0.04 %"), ("0.0996", "9.96 %"), ("0.25", "25 %"), ("1", "100 %")],
)
def test_no_false_precision(probability, said):
    """Small probabilities to a hundredth of a per cent, large ones to a per cent."""
    assert outlook.likely(D(probability)) == said


def test_every_cell_has_a_name():
    """No cell falls back to its code."""
    assert set(outlook.CELLS) == set(StressCell)


def test_the_live_view_shows_it(log: Log):
    """One line under the gauges where there is room for it."""
    log.put("risk_detail", "main", DETAIL, "risk-engine:main:9.0")
    seen = Board(account="main", mode="sim", since_ms=0, policy=Policy(account="main", version=1))
    for record in log.bus.read("risk_detail"):
        seen.take(record)
    assert seen.detail == DETAIL
    for height, shown in ((40, True), (24, False)):
        console = Console(width=140, record=True, file=io.StringIO())
        console.print(Screen(140, height).render(seen, NOW))
        assert ("worst prices −40 %" in console.export_text()) is shown


def test_why_tells_the_detail_that_stood_then(cli: Cli, story: Log):
    """The newest detail before the assessment, not a later one."""
    later = msgspec.structs.replace(DETAIL, score=D(99), assessed_ts_ms=NOW + 10**6)
    story.put("risk_detail", "main", DETAIL, "risk-engine:main:1.0", ts_ms=NOW - 1000)
    story.put("risk_detail", "other", later, "risk-engine:other:1.0", ts_ms=NOW - 900)
    story.put_raw("risk_detail", "main", b"no message")
    story.put("risk_detail", "main", later, "risk-engine:main:99.0", ts_ms=NOW + 10**6)
    said = cli("why", "hedger:main:7")
    assert said.code == 0, said.err
    assert "worst stress: prices −40 %" in said.out and "risk score 72" in said.out
    assert "risk score 99" not in said.out
