"""The most important at a glance: price, state labels, and all that fits a very small window."""

from __future__ import annotations

from decimal import Decimal

from rich.console import Group
from rich.text import Text

from hedgelock.cli import words
from hedgelock.cli.board import Board
from hedgelock.cli.caption import caption, trouble
from hedgelock.domain.risk import Confidence, RiskAssessment, RiskReason, RiskState

WIDTH_MIN, HEIGHT_MIN = 80, 24
"""From here on the whole screen fits."""

STATES = {
    RiskState.NORMAL: ("NORMAL", "green"),
    RiskState.CAUTION: ("CAUTION !", "yellow"),
    RiskState.DANGER: ("DANGER !!", "dark_orange"),
    RiskState.CRITICAL: ("CRITICAL !!!", "bold red"),
}
"""Word and colour; the word alone suffices."""


def state_label(risk: RiskAssessment) -> tuple[str, str]:
    """Word and colour of an assessment."""
    if risk.confidence is not Confidence.FRESH:
        # Nothing that rests on old or missing inputs may look like an assessment.
        return f"{risk.confidence.name} inputs", "bold magenta"
    name, style = STATES[risk.state]
    held = risk.reason in (RiskReason.HELD_BY_DWELL, RiskReason.HELD_BY_HYSTERESIS)
    return name + " held" * held, style


def state_of(ltv: Decimal, board: Board) -> RiskState:
    """The label of an LTV without hysteresis, for the twin that no risk-engine watches."""
    limits = board.policy.risk
    if ltv >= limits.ltv_critical:
        return RiskState.CRITICAL
    if ltv >= limits.ltv_danger:
        return RiskState.DANGER
    return RiskState.CAUTION if ltv >= limits.ltv_caution else RiskState.NORMAL


def price(board: Board) -> Text:
    """The coin's price and its change since the start."""
    now = board.index_price
    if now is None:
        return Text("no price yet ", "dim")
    moved = f" ({words.signed_percent(board.moved)})" if board.moved is not None else ""
    return Text.assemble(f"{board.policy.hedge.coin} ", (words.money(now), "bold"), f"{moved} ")


def small(board: Board, now_ms: int, width: int, height: int) -> Group:
    """A window too small for the screen: what matters most, and how to see the rest."""
    risk, decision, twin = board.risk, board.decision, board.twin
    state = state_label(risk) if risk else ("no news yet", "dim")
    lines = [
        Text.assemble(f"LTV {words.percent(risk.ltv if risk else None)} ", state),
        Text(f"hedge {words.coins(board.short_held)}, wanted "
             f"{words.coins(decision.target if decision else None)}"),
        price(board),
        Text(trouble(board, now_ms) or caption(board, now_ms).what, "bold"),
        Text(f"for all of it: {WIDTH_MIN} x {HEIGHT_MIN} or more", "dim"),
    ]
    if twin is not None:
        gone = "LIQUIDATED" if twin.liquidated_ms else words.percent(twin.ltv)
        lines.insert(1, Text(f"twin {gone}"))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Group(*lines[:height])
