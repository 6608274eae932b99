"""What is going on, in two sentences, and what is wrong: the live view's words. Pure; decides nothing.

The first sentence says what happens, the second why. A money move or a turn of the market is told for a
few seconds, so that an eye can follow; otherwise the latest action's purpose stands.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from hedgelock.cli import words
from hedgelock.cli.board import Board
from hedgelock.domain.risk import Confidence
from hedgelock.domain.safety import SafetyMode

SILENT_MS = 5_000
"""The engine speaks at least this often while prices move; longer silence is said aloud."""

HARVEST_MS = 5_000
LIQUIDATED_MS = 9_000
FUNDING_MS = 9_000
"""How long news is told, on our clock."""

_HARVEST = frozenset({"harvest_realise", "harvest_reopen", "harvest_repay", "urgent_repay"})
_RAISED = frozenset({"hedge_raised"})
_LOWERED = frozenset({"hedge_lowered", "margin_lowered", "net_short_lowered", "refill"})

_BACK = Decimal("1.015")
"""This far above its lowest the price counts as coming back."""


class Caption(NamedTuple):
    """Two sentences."""

    what: str
    """At most 78 signs, which fits the narrowest screen."""
    why: str
    """At most 98 signs."""


def caption(board: Board, now_ms: int) -> Caption:
    """The sentences for this moment."""
    return _first(board) or _trouble(board) or _news(board, now_ms) or _standing(board)


def _first(board: Board) -> Caption | None:
    if board.risk is not None and (board.sim is None or board.sim.started_ms):
        return None
    if board.mode != "sim":
        return Caption("Starting: prices, balances, positions and the loan are read.",
                       "Nothing is opened before everything was read and found fresh.")
    return Caption("Starting the simulated exchange and HedgeLock: a few seconds.",
                   "Two accounts with the same loan: HedgeLock watches one, nobody watches its twin.")


def _trouble(board: Board) -> Caption | None:
    assert board.risk is not None
    safety = board.safety
    if safety is not None and safety.mode in (SafetyMode.HALTED, SafetyMode.KILLED):
        return Caption(f"The account is {safety.mode.name}: {words.reason(safety.reason)}.",
                       "`hedgelock operator resume` gives the command back to HedgeLock.")
    if board.risk.confidence is not Confidence.FRESH:
        return Caption("Something was not read or is too old: nothing new is opened until it is back.",
                       "Only what protects the loan is still done; `hedgelock doctor` says what is missing.")
    return None


def _news(board: Board, now_ms: int) -> Caption | None:
    """What has just happened and matters most."""
    twin = board.twin
    if twin is not None and twin.liquidated_ms > now_ms - LIQUIDATED_MS:
        gone = words.percent(board.policy.risk.ltv_liquidation, 0)
        return Caption(f"The twin is gone: at {gone} the exchange sold its collateral to pay its loan.",
                       "Ours had the same loan, the same coins and the same fall, and still has its coins.")
    if _lately(board, _HARVEST, now_ms - HARVEST_MS):
        return Caption("Harvest: part of the hedge is closed, and what it gained repays the loan.",
                       "A gain that stays in the trading account helps no loan; only a repayment lowers "
                       "LTV.")
    if _lately(board, frozenset({"collateral_repay"}), now_ms - HARVEST_MS):
        return Caption("Last resort: collateral is sold to repay the loan.",
                       "The hedge's gains and the cash do not suffice; selling some is better than "
                       "losing all.")
    if board.pays_since_ms > now_ms - FUNDING_MS:
        return _funding(board)
    return None


def _funding(board: Board) -> Caption:
    apr = abs(board.funding.apr) if board.funding else Decimal(0)
    scaled = f" ×{board.funding.multiplier_short:.2f}" if board.funding else ""
    return Caption(f"Funding has turned: shorts pay longs {words.percent(apr, 0)} a year, our hedge pays.",
                   f"It protects the loan, so it stays; only optional size would shrink{scaled}.")


def _standing(board: Board) -> Caption:
    """What the latest action was for."""
    policy = board.policy.hedge
    coin, limit = policy.coin, words.percent(policy.ltv_max, 0)
    fall = words.percent(policy.stress_fall, 0)
    latest = next((d.reason for d in reversed(board.decisions)
                   if d.acted and d.reason in _RAISED | _LOWERED), "")
    if board.short_held <= 0:
        stressed = words.percent(board.risk.ltv_net_fall if board.risk else None)
        whose = "both accounts near" if board.twin else "the account nears"
        falls = board.moved is not None and board.moved < 0
        what = f"{coin} falls, {whose} liquidation." if falls else "The loan is safe as it is."
        return Caption(f"{what} No hedge yet: it would cost and is not needed.",
                       f"Another {fall} down would take LTV to {stressed}; past {limit} it hedges, in "
                       f"steps of {words.plain(policy.no_trade_band)} {coin}.")
    comes_back = board.price_min is not None and (board.index_price or 0) > board.price_min * _BACK
    if latest in _LOWERED:
        return Caption("The price comes back: hedge is bought back, the reserve is borrowed again.",
                       f"What stays of the hedge keeps LTV below {limit} if {coin} fell another {fall}.")
    if comes_back:
        return Caption("The price comes back: the hedge stays until the loan is safe with less of it.",
                       f"It keeps LTV below {limit} if {coin} fell another {fall}.")
    if _pays(board):
        return Caption(f"{coin} falls, the hedge grows with it, although shorts pay funding.",
                       f"Liquidation costs more: the size is what keeps LTV below {limit} after "
                       f"another {fall} down.")
    return Caption(f"HedgeLock sells {coin} short, slice by slice: what the collateral loses, it gains.",
                   f"Just enough to keep LTV below {limit} if {coin} fell another {fall}.")


def _pays(board: Board) -> bool:
    return board.funding is not None and board.funding.apr < 0 < board.short_held


def _lately(board: Board, reasons: frozenset[str], since_ms: int) -> bool:
    return any(d.acted and d.reason in reasons and d.ts_ms > since_ms
               for d in reversed(board.decisions))


def trouble(board: Board, now_ms: int) -> str:
    """What a person should know now; "" when all is well."""
    if board.trouble:
        return board.trouble
    safety = board.safety
    if safety is not None and safety.mode is SafetyMode.REDUCING:
        why = ", ".join(words.reason(name) for name in safety.breakers) or words.reason(safety.reason)
        return f"REDUCING, no new discretionary exposure: {why}; protection goes on"
    if safety is not None and safety.mode is not SafetyMode.ACTIVE:
        return f"account {safety.mode.name}: {words.reason(safety.reason)}; hedgelock operator resume"
    if board.risk is None:
        waited = now_ms - board.since_ms
        return f"no assessment after {words.duration(waited)}" if waited > 2 * SILENT_MS else ""
    silent = now_ms - board.risk_seen_ms
    if silent > SILENT_MS and not (board.sim and board.sim.finished):
        return f"the engine has been silent for {words.duration(silent)}: figures are old"
    return ""
