"""The live view's two sentences: what is going on, and why."""

from __future__ import annotations

import dataclasses
from decimal import Decimal as D
from typing import Any

import msgspec
import pytest

from cli.cli_story import NOW, Log, decision, funding, positions, risk
from cli.test_cli_live import board, fill, render, sim_row
from hedgelock.cli.board import Board, Decided
from hedgelock.cli.caption import caption, trouble
from hedgelock.domain.risk import Confidence, RiskState
from hedgelock.domain.safety import SafetyMode, SafetyReason, SafetyState

LATER = NOW + 60_000
"""When nothing is news any more."""


def did(reason: str, ts_ms: int = NOW) -> Decided:
    """An action."""
    return Decided(ts_ms, "hedger:main:9", D("0.7"), reason, acted=True, reason=reason)


def a_board(log: Log, *decided: Decided, **sim: Any) -> Board:
    """A running demo with an assessment and what was decided."""
    log.put("risk_state", "main", risk(), "risk-engine:main:3.0", ts_ms=NOW)
    seen = fill(board(), log)
    seen.take_sim(sim_row(**sim))
    seen.decisions.extend(decided)
    return seen


def test_before_the_start_it_says_what_will_be_seen() -> None:
    """Nothing is claimed before the first assessment; a newcomer learns what the twin is."""
    what, why = caption(board(), NOW)
    assert what.startswith("Starting") and "twin" in why
    real = dataclasses.replace(board(), mode="live")
    assert "simulated" not in caption(real, NOW).what


def test_without_a_hedge_it_says_when_one_will_come(log: Log) -> None:
    """The policy's own stress figure tells how near the first hedge is."""
    seen = a_board(log)
    assert "Another 25 % down would take LTV to" in caption(seen, LATER).why
    assert caption(seen, LATER).what.startswith("The loan is safe")
    seen.take_sim(sim_row(price="49000"))
    assert "both accounts near liquidation" in caption(seen, LATER).what


@pytest.mark.parametrize(("reason", "words"), [
    ("harvest_realise", "Harvest"), ("harvest_reopen", "Harvest"), ("harvest_repay", "Harvest"),
    ("urgent_repay", "Harvest"), ("collateral_repay", "Last resort"),
])
def test_a_money_move_is_told_for_a_few_seconds(log: Log, reason: str, words: str) -> None:
    """News gives way to what stands."""
    seen = a_board(log, did(reason))
    assert words in caption(seen, NOW + 1_000).what
    assert words not in caption(seen, LATER).what


def test_the_twins_end_is_told_first(log: Log) -> None:
    """No other news hides it, and it names the exchange's threshold."""
    seen = a_board(log, did("harvest_repay"), loan_liquidated_ms=NOW)
    assert caption(seen, NOW + 1_000).what.startswith("The twin is gone: at 95 %")


def test_funding_that_turns_is_explained(log: Log) -> None:
    """A protective hedge that begins to pay is kept, and the screen says why."""
    log.put("account_raw", "main", positions(), "collector:pos:1", ts_ms=NOW - 90)
    log.put("funding_context", "linear:BTCUSDT", funding(), "funding-engine:x:1.0", ts_ms=NOW)
    seen = a_board(log, did("hedge_raised"))
    turned, later = caption(seen, NOW + 1_000), caption(seen, LATER)
    assert "shorts pay longs 164 % a year" in turned.what and "so it stays" in turned.why
    assert "although shorts pay funding" in later.what
    seen.take_sim(sim_row(price="51000"))
    assert "the hedge stays until" in caption(seen, LATER).what
    seen.decisions.append(did("margin_lowered"))
    assert "bought back" in caption(seen, LATER).what


def test_trouble_comes_before_all_news(log: Log) -> None:
    """Old inputs and a stopped account are never covered by a nicer sentence."""
    seen = a_board(log, did("harvest_repay"))
    log.put("risk_state", "main", risk(RiskState.NORMAL, "0.5", Confidence.STALE), "r:2", ts_ms=NOW)
    fill(seen, log)
    assert "too old" in caption(seen, NOW).what
    seen.own_safety = SafetyState(account="main", mode=SafetyMode.HALTED, version=2, since_ts_ms=NOW,
                              reason=SafetyReason.OPERATOR_HALT, flatten=False, command_id="c",
                              text="")
    assert "HALTED" in caption(seen, NOW).what


def test_a_breaker_is_named_below_the_story_and_the_house_binds_too(log: Log) -> None:
    """REDUCING leaves the caption to the market and says which breaker holds; the stricter word is shown."""
    seen = a_board(log, did("hedge_raised"))
    own = SafetyState(account="main", mode=SafetyMode.REDUCING, version=2, since_ts_ms=NOW,
                      reason=SafetyReason.BREAKER, flatten=False, command_id="", text="",
                      breakers=("daily_loss",))
    seen.own_safety = own
    assert "REDUCING" in trouble(seen, NOW) and "the day's loss is too large" in trouble(seen, NOW)
    assert "REDUCING" not in caption(seen, NOW).what
    seen.house_safety = msgspec.structs.replace(own, account="*", mode=SafetyMode.HALTED, breakers=())
    assert "account HALTED" in trouble(seen, NOW)


def test_the_sentences_fit(log: Log) -> None:
    """The first fits 79 signs beside its arrow, the second 98; on small screens only the first."""
    log.put("account_raw", "main", positions(), "collector:pos:1", ts_ms=NOW - 90)
    log.put("funding_context", "linear:BTCUSDT", funding(), "funding-engine:x:1.0", ts_ms=NOW)
    said = [caption(board(), NOW)]
    for reason in ("hedge_raised", "margin_lowered", "harvest_repay", "collateral_repay", "refill"):
        said += [caption(a_board(log, did(reason)), at) for at in (NOW + 100, LATER)]
    said.append(caption(a_board(log, loan_liquidated_ms=NOW), NOW))
    for what, why in said:
        assert len(what) <= 78, what
        assert len(why) <= 98, why
    seen = a_board(log, did("hedge_raised"))
    assert caption(seen, NOW + 50).why not in render(seen, 100, 24)
    assert caption(seen, NOW + 50).why in render(seen, 100, 30)


def test_news_of_an_order_may_come_before_the_order(story: Log) -> None:
    """Topics are followed side by side: a confirmation that was read first is not lost."""
    seen = board()
    for topic in ("trade_confirmations", "hedge_trades", "hedge_decisions"):
        for record in story.bus.read(topic):
            seen.take(record)
    assert [move.status for move in seen.moves.values()] == ["filled at 49,990"]


def test_the_latest_decision_keeps_its_reason(story: Log) -> None:
    """The caption asks for reasons, not for the words of the list."""
    assert fill(board(), story).decisions[-1].reason == decision().reason
