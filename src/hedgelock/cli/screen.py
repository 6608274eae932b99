"""How the live view looks: one screen from 80 × 24 upwards, built line by line.

Colour never carries meaning alone: states are words with exclamation marks, the two bars are filled
differently, thresholds are labelled. `ascii_only` draws with plain signs.
"""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import NamedTuple

from rich.console import Group
from rich.text import Text

from hedgelock.cli import outlook, summary, words
from hedgelock.cli.board import TWIN, Board, SimAccount
from hedgelock.cli.caption import caption, trouble
from hedgelock.cli.console import me
from hedgelock.cli.glance import (
    HEIGHT_MIN,
    STATES,
    WIDTH_MIN,
    price,
    small,
    state_label,
    state_of,
)

HEIGHT_ROOMY = 28
"""From here on the caption also says why."""

_LTV_LOW, _LTV_HIGH = Decimal("0.40"), Decimal("1.00")
"""Ends of the LTV gauge."""

class Glyphs(NamedTuple):
    """Signs to draw with."""

    full: str
    light: str
    empty: str
    mark: str
    line: str
    done: str
    bar: str
    arrow: str


UNICODE = Glyphs("█", "▒", "·", "┊", "─", "━", "│", "▶")
ASCII = Glyphs("#", "=", ".", ":", "-", "=", "|", ">")


@dataclasses.dataclass(frozen=True, slots=True)
class Screen:
    """One size of screen."""

    width: int
    height: int
    glyphs: Glyphs = UNICODE

    def render(self, board: Board, now_ms: int) -> Group:
        """The whole screen at one moment; exactly `height` lines of at most `width` signs."""
        if self.width < WIDTH_MIN or self.height < HEIGHT_MIN:
            return small(board, now_ms, self.width, self.height)
        top = [
            self._title(board, now_ms), *self._caption(board, now_ms), *self._gauges(board),
            *self._columns(board, now_ms),
        ]
        bottom = [self._counts(board), self._foot(board, now_ms)]
        room = self.height - len(top) - len(bottom)
        ended = board.sim is not None and board.sim.finished
        lines = [*top, *(self._ending(board, room) if ended else self._lists(board, room)), *bottom]
        for line in lines:
            line.truncate(self.width, overflow="ellipsis")
        return Group(*lines[: self.height])

    def _lists(self, board: Board, room: int) -> list[Text]:
        """The latest decisions and moves, in `room` lines."""
        rows = max(2, room - 2)
        moves = max(1, rows // 3)
        return [
            self._rule("Decisions", right="`hedgelock why ID` tells the story"),
            *self._decisions(board, rows - moves),
            self._rule("Orders and money moves"),
            *self._moves(board, moves),
        ]

    def _ending(self, board: Board, room: int) -> list[Text]:
        """What became of the two accounts, in `room` lines; decisions where there is more room."""
        head = Text(f"{'':<21}" + "".join(f"{title:>19}" for title in summary.TITLES), "bold")
        lines = [self._rule("The script has ended: what became of the two accounts"), head]
        for name, *cells in summary.rows(board):
            text = Text(f"{name:<21}" + "".join(f"{cell:>19}" for cell in cells))
            text.stylize("bold" if name.startswith("equity") else "")
            lines.append(text)
        left = room - len(lines)
        if left >= 2:
            lines += [self._rule("Decisions"), *self._decisions(board, left - 1)]
        return lines

    def _caption(self, board: Board, now_ms: int) -> list[Text]:
        """What is going on and, where there is room for it, why."""
        if board.sim is not None and board.sim.finished:
            return []  # the table of what became of both says it
        said = caption(board, now_ms)
        lines = [Text.assemble((f"{self.glyphs.arrow} ", "cyan"), (said.what, "bold cyan"))]
        if self.height >= HEIGHT_ROOMY:
            lines.append(Text(f"  {said.why}", "cyan"))
        return lines

    # ---------------------------------------------------------------- pieces

    def _line(self, left: Text, right: Text) -> Text:
        """Left and right aligned on one line; the left gives way."""
        room = self.width - right.cell_len
        left.truncate(max(0, room), overflow="ellipsis", pad=True)
        return Text.assemble(left, right)

    def _rule(self, title: str, *, right: str = "") -> Text:
        dash = self.glyphs.line
        text = Text.assemble((f"{dash} ", "dim"), (title, "bold"), " ")
        tail = f" {right} {dash}" if right else ""
        text.append(dash * max(0, self.width - text.cell_len - len(tail)) + tail, "dim")
        return text

    def _title(self, board: Board, now_ms: int) -> Text:
        left = Text.assemble((" HedgeLock ", "bold reverse"), " ")
        sim = board.sim
        if sim is not None:
            at, end = (_minutes(s) for s in (min(sim.script_s, sim.duration_s), sim.duration_s))
            left.append(f"{sim.scenario} ×{sim.speed:g}  {at}/{end} ")
            self._progress(left, sim.script_s / sim.duration_s if sim.duration_s else 1.0)
        else:
            left.append(f"{board.mode}, account {board.account}, running "
                        f"{words.duration(now_ms - board.since_ms)}")
        return self._line(left, price(board))

    def _progress(self, text: Text, done: float) -> None:
        size = max(0, min(24, self.width - 64))
        filled = min(size, round(size * done))
        text.append(self.glyphs.done * filled, "cyan")
        text.append(self.glyphs.empty * (size - filled), "dim")

    # ---------------------------------------------------------------- loan-to-value

    def _gauges(self, board: Board) -> list[Text]:
        gone = words.percent(board.policy.risk.ltv_liquidation, 0)
        lines = [self._rule(f"Loan-to-value = debt ÷ collateral; at {gone} the exchange liquidates")]
        risk = board.risk
        if risk is None:
            label = Text("no news yet", "dim")
            lines.append(self._gauge("with HedgeLock", None, label, self.glyphs.full))
        else:
            name, style = state_label(risk)
            lines.append(
                self._gauge("with HedgeLock", risk.ltv, Text(name, style), self.glyphs.full)
            )
        if board.twin is not None:
            lines.append(self._twin_gauge(board, board.twin))
        lines.append(self._scale(board))
        if board.detail is not None and self.height >= HEIGHT_ROOMY:
            lines.append(Text(outlook.brief(board.detail), "dim"))
        return lines

    def _twin_gauge(self, board: Board, twin: SimAccount) -> Text:
        if twin.liquidated_ms:
            assert board.sim is not None, "a twin comes from the simulator"
            at_s = (twin.liquidated_ms - board.sim.started_ms) / 1000 * board.sim.speed
            coin = board.policy.hedge.coin
            left = twin.collateral.get(coin, Decimal(0)) + twin.fund.get(coin, Decimal(0))
            lost = board.sim_first.accounts[TWIN].collateral.get(coin) if board.sim_first else None
            return Text.assemble(
                "without (twin)  ", ("LIQUIDATED", "bold red reverse"),
                f" at {_minutes(at_s)}: of {words.plain(lost)} {coin} collateral {left:.4f} is left",
            )
        name, style = STATES[state_of(twin.ltv, board)]
        return self._gauge("without (twin)", twin.ltv, Text(name, style), self.glyphs.light)

    @property
    def _gauge_size(self) -> int:
        return max(10, min(100, self.width - 24 - 15))

    def _cell(self, ltv: Decimal) -> int:
        """Cells of the gauge that are filled at this LTV."""
        share = (ltv - _LTV_LOW) / (_LTV_HIGH - _LTV_LOW)
        return int(max(Decimal(0), min(Decimal(1), share)) * self._gauge_size)

    def _gauge(self, title: str, ltv: Decimal | None, label: Text, full: str) -> Text:
        filled = self._cell(ltv) if ltv is not None else 0
        style = label.style or "default"
        return Text.assemble(
            f"{title:<15}", (f"{words.percent(ltv):>7}", "bold"), " ",
            (full * filled, style), (self.glyphs.empty * (self._gauge_size - filled), "dim"),
            " ", label,
        )

    def _scale(self, board: Board) -> Text:
        """Thresholds under the gauge, each at its place."""
        limits = board.policy.risk
        row = [" "] * (self._gauge_size + 8)
        end = 0
        for ltv, name in (
            (_LTV_LOW, ""), (limits.ltv_caution, "caution"), (limits.ltv_danger, "danger"),
            (limits.ltv_critical, "crit"), (limits.ltv_liquidation, "gone"),
        ):
            at = max(self._cell(ltv), end)
            label = f"^{ltv * 100:.0f}"
            next_at = at + len(label) + 1 + len(name)
            if name and self.width >= 100 and next_at < len(row):
                label += f" {name}"
            row[at : at + len(label)] = label
            end = at + len(label) + 1
        return Text(" " * 23 + "".join(row), "dim")

    # ---------------------------------------------------------------- the three columns

    def _columns(self, board: Board, now_ms: int) -> list[Text]:
        first, last = 26, 23
        middle = self.width - first - last
        coin = board.policy.hedge.coin
        whose = ": ours, twin's" if board.twin else ""
        heads = (f"Hedge (short {coin})", f"{board.policy.hedge.quote}{whose}", "Funding rate")
        widths = (first, middle, last)
        dash = self.glyphs.line
        head = Text()
        for name, size in zip(heads, widths, strict=True):
            head.append(f"{dash} ", "dim").append(name, "bold")
            head.append(" " + dash * (size - len(name) - 3), "dim")
        columns = (
            self._hedge(board), self._money(board, middle - 2), self._funding(board, now_ms)
        )
        lines = [head]
        for cells in zip(*columns, strict=True):
            line = Text()
            for cell, size in zip(cells, widths, strict=True):
                cell.truncate(size - 1, overflow="ellipsis")
                line.append(cell).append(" " * (size - cell.cell_len))
            lines.append(line)
        return lines

    def _hedge(self, board: Board) -> list[Text]:
        decision, risk = board.decision, board.risk
        target = decision.target if decision else None
        cap = decision.h_cap if decision else None
        waiting = decision.in_flight if decision else None
        return [
            _pair("held", words.coins(board.short_held), bold=True),
            _pair("wanted", words.coins(target)),
            _pair("margin allows", words.coins(cap)),
            _pair("under way", words.coins(waiting)),
            _pair("net exposure", words.coins(risk.net_delta if risk else None)),
            _pair(f"LTV if −{board.policy.hedge.stress_fall * 100:.0f} %",
                  words.percent(risk.ltv_net_fall if risk else None)),
        ]

    def _money(self, board: Board, width: int) -> list[Text]:
        """Pockets of ours and, beside it, of the twin."""
        hedge, risk, view = board.policy.hedge, board.risk, board.view
        quote, coin = hedge.quote, hedge.coin
        wallet, twin = view.wallet_of(quote), board.twin
        base = view.wallet_of(coin)
        upl = sum((p.upl for p in view.positions.positions), Decimal(0)) if view.positions else None
        zero = Decimal(0)

        size = (width - 10) // 2 if twin else width - 10

        def row(name: str, ours: str, theirs: str = "", style: str = "") -> Text:
            return Text(f"{name:<10}{ours:>{size}}" + (f"{theirs:>{size}}" if twin else ""), style)

        def theirs(value: Decimal | None) -> str:
            return words.money(value) if twin else ""

        per_coin = board.sim.price(coin) if board.sim else zero
        collateral = risk.collateral_value if risk else None
        return [
            row("collateral", words.money(collateral),
                theirs(twin.collateral.get(coin, zero) * per_coin if twin else None)),
            row("loan", words.money(-risk.debt_value if risk else None),
                theirs(-sum(twin.debt.values(), zero) if twin else None)),
            row("cash", words.money(wallet.wallet_qty if wallet else None),
                theirs(twin.unified.get(quote, zero) + twin.fund.get(quote, zero)
                       if twin else None)),
            row(f"spare {coin}", words.coins(base.wallet_qty if base else None),
                words.coins(twin.unified.get(coin, zero) + twin.fund.get(coin, zero))
                if twin else ""),
            row("hedge gain", words.money(upl), theirs(twin.unrealised if twin else None)),
            row("= equity", words.money(board.equity), theirs(twin.equity if twin else None),
                "bold"),
        ]

    def _funding(self, board: Board, now_ms: int) -> list[Text]:
        funding = board.funding
        if funding is None:
            return [Text("not known yet", "dim"), *(Text() for _ in range(5))]
        short = board.short_held
        if short == 0 or funding.apr == 0:
            ours = "no hedge, no payment" if short == 0 else "nobody pays"
        else:
            # Longs pay at a positive rate: then a short receives.
            ours = "our hedge receives" if funding.apr * short > 0 else "our hedge PAYS"
        # The simulator's script settles when the script says, not at the exchange's eight hours.
        due_ms = board.sim.next_settlement_ms if board.sim else funding.funding_next_ts_ms
        near = now_ms < due_ms < now_ms + 86_400_000
        due = f", paid in {words.duration(due_ms - now_ms)}" if near else ""
        return [
            Text(f"{words.signed_percent(funding.apr)} a year", "bold"),
            Text(words.payer(funding.apr)),
            Text(ours, "yellow" if "PAYS" in ours else ""),
            Text(f"{funding.regime.name}{due}"),
            Text(f"optional size × {funding.multiplier_short:.2f}"),
            Text("protective size × 1"),
        ]

    # ---------------------------------------------------------------- lists

    def _decisions(self, board: Board, rows: int) -> list[Text]:
        lines = []
        for said in list(board.decisions)[-rows:]:
            text = Text.assemble(
                (f"{words.clock(said.ts_ms)[:8]} ", "dim"),
                (f"{said.ident} ", "cyan" if said.acted else "dim"),
                f"LTV {words.percent(said.ltv)} ",
            )
            lines.append(text.append(said.text, "bold" if said.acted else ""))
        return _filled(lines, rows, "none yet")

    def _moves(self, board: Board, rows: int) -> list[Text]:
        lines = []
        for intent, move in list(board.moves.items())[-rows:]:
            left = Text.assemble(
                (f"{words.clock(move.ts_ms)[:8]} ", "dim"), (f"{intent} ", "cyan"), move.text,
            )
            status = Text(f" {move.status}", "bold" if "unknown" not in move.status else "yellow")
            lines.append(self._line(left, status))
        return _filled(lines, rows, "none yet")

    def _counts(self, board: Board) -> Text:
        counts = board.counts
        repaid, borrowed = (sum(t.values(), Decimal(0)) for t in (counts.repaid, counts.borrowed))
        return Text.assemble(
            ("So far: ", "bold"),
            f"{_many(len(counts.orders), 'order')}, {_many(len(counts.fills), 'fill')}, "
            f"{_many(len(counts.repaid), 'repayment')} ({words.money(repaid)} USDT), "
            f"{words.money(borrowed)} borrowed, fees {words.money(counts.fees, 2)}",
            (f", {counts.unreadable} UNREADABLE" if counts.unreadable else "", "bold red"),
        )

    def _foot(self, board: Board, now_ms: int) -> Text:
        warning = trouble(board, now_ms)
        if warning:
            return Text(f"! {warning}", "bold yellow")
        latest = next((d.ident for d in reversed(board.decisions) if d.acted), "ID")
        ours = me() if self.width >= 100 else "hedgelock"
        return Text.assemble(
            ("Ctrl-C", "bold"), f" stops {self.glyphs.bar} ", (f"{ours} why {latest}", "bold"),
            f" {self.glyphs.bar} ", (f"{ours} operator halt", "bold"),
        )


def _pair(name: str, value: str, *, bold: bool = False) -> Text:
    return Text.assemble(f"{name:<14}", (f"{value:>9}", "bold" if bold else ""))


def _filled(lines: list[Text], rows: int, empty: str) -> list[Text]:
    lines = lines or [Text(empty, "dim")]
    return [*lines, *(Text() for _ in range(rows - len(lines)))]


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
