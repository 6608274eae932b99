"""The comparison at the end of a script: ours, the twin nobody watched, and holding for ever."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from rich.table import Table

from hedgelock.cli import words
from hedgelock.cli.board import OURS, TWIN, Board, SimAccount

TITLES = ("with HedgeLock", "without (twin)", "hold, immortal")
"""The columns; the last is what nobody can have: the same coins held and never liquidated."""

_ROWS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("liquidated", "liquidated", lambda value: "YES" if value else "no"),
    ("highest LTV", "ltv_max", words.percent),
    ("LTV at the end", "ltv", words.percent),
    ("collateral, coins", "collateral", words.coins),
    ("loan, USDT", "debt", words.money),
    ("equity, USDT", "equity", words.money),
    ("orders / repayments", "work", str),
    ("fees, USDT", "fees", lambda value: words.money(value, 2)),
)


def rows(board: Board) -> list[tuple[str, str, str, str]]:
    """Name and three cells per line; – where a figure makes no sense."""
    figures = compare(board)
    columns = [figures[name] or {} for name in ("ours", "twin", "hold")]
    shown = []
    for name, key, show in _ROWS:
        ours, twin, hold = (show(one[key]) if key in one else "–" for one in columns)
        shown.append((name, ours, twin, hold))
    return shown


def table(board: Board) -> Table:
    """Ours against the twin against a hold that no exchange ever liquidates."""
    shown = Table(title="What became of the two accounts", title_style="bold",
                  title_justify="left", box=None, pad_edge=False, header_style="bold")
    shown.add_column("")
    for title in TITLES:
        shown.add_column(title, justify="right")
    for row in rows(board):
        shown.add_row(*row, style="bold" if row[0].startswith("equity") else "")
    return shown


def compare(board: Board) -> dict[str, Any]:
    """The same figures for machines. The board must have seen the simulator's state."""
    assert board.sim is not None, "no simulator's state yet"
    assert board.sim_first is not None, "no simulator's state yet"
    coin = board.policy.hedge.coin
    found: dict[str, Any] = {"scenario": board.sim.scenario, "finished": board.sim.finished}
    for title, name in (("ours", OURS), ("twin", TWIN)):
        account = board.sim.accounts.get(name)
        found[title] = _account(account, coin) if account else None
    start = board.sim_first.accounts.get(TWIN) or board.sim_first.accounts.get(OURS)
    found["hold"] = None
    if start is not None:
        found["hold"] = {
            "liquidated": False,
            "collateral": start.collateral.get(coin, Decimal(0)),
            "debt": sum(start.debt.values(), Decimal(0)),
            "equity": board.sim.hold_equity(start),
        }
    return found


def _account(account: SimAccount, coin: str) -> dict[str, Any]:
    return {
        "liquidated": bool(account.liquidated_ms),
        "ltv_max": account.ltv_max,
        "ltv": account.ltv,
        "collateral": account.collateral.get(coin, Decimal(0)),
        "debt": sum(account.debt.values(), Decimal(0)),
        "equity": account.equity,
        "work": f"{account.counts['orders']} / {account.counts['repayments']}",
        "fees": account.fees,
    }
