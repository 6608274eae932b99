"""Two small figures of the results as SVG, without any library: text that diffs and shows in a browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hedgelock.backtest.cells import LTVS
from hedgelock.backtest.tables import MAIN_POCKETS, pick, plans_of

COLOURS = ("#94a3b8", "#f59e0b", "#0ea5e9")
WIDTH, LEFT, TOP, BOTTOM = 760, 60, 40, 46
INK, PALE = "#334155", "#e2e8f0"


class Box(NamedTuple):
    """Where a figure draws, in pixels."""

    height: int
    right: int = 20

    @property
    def wide(self) -> int:
        """Width inside the axes."""
        return WIDTH - LEFT - self.right

    @property
    def high(self) -> int:
        """Height inside the axes."""
        return self.height - TOP - BOTTOM


def liquidated(document: Mapping[str, Any]) -> str:
    """Share of windows liquidated by plan and start LTV, real and mirrored market, hourly decisions."""
    rows = pick(document["rows"], kind="markets", days=30, rhythm="1h", pockets=MAIN_POCKETS, delay=0)
    rows = [r for r in rows if r["market"] in ("real", "mirror")]
    plans, box = plans_of(rows), Box(300)
    top = max([0.01, *(r["liquidated"] for r in rows)])
    parts = _frame(box, "% of 30-day windows liquidated, hourly decisions", top * 100, "%")
    slot = box.wide / max(1, len(plans))
    for i, plan in enumerate(plans):
        for j, ltv in enumerate(LTVS):
            found = [r["liquidated"] for r in pick(rows, plan=plan, ltv=ltv)]
            value = sum(found) / len(found) if found else 0.0
            height = box.high * value / top
            x = LEFT + i * slot + slot * (0.14 + 0.24 * j)
            y = TOP + box.high - height
            parts.append(_bar(x, y, slot * 0.22, height, COLOURS[j], f"{plan} {ltv}: {100 * value:.1f} %"))
            if value:
                parts.append(_text(x + slot * 0.11, y - 4, f"{100 * value:.1f}", 10))
        parts.append(_text(LEFT + (i + 0.5) * slot, box.height - 26, plan, 12))
    return _svg(box, [*parts, *_legend(box)])


def equity(document: Mapping[str, Any]) -> str:
    """Mean and 5th percentile of final equity by plan, start LTV .65 and .72."""
    rows = pick(document["rows"], kind="markets", days=30, rhythm="1h", pockets=MAIN_POCKETS, delay=0)
    rows = [r for r in rows if r["market"] in ("real", "mirror") and r["ltv"] in LTVS[1:]]
    plans, box = plans_of(rows), Box(300)
    top = max([0.1, *(r["equity"] for r in rows)]) * 1.1
    title = "final equity after 30 days: bar from the 5th percentile to the mean"
    parts = _frame(box, title, top, "")
    slot = box.wide / max(1, len(plans))
    for i, plan in enumerate(plans):
        for j, ltv in enumerate(LTVS[1:], start=1):
            pair = pick(rows, plan=plan, ltv=ltv)
            if not pair:
                continue
            mean, low = (sum(r[n] for r in pair) / len(pair) for n in ("equity", "equity_p5"))
            x = LEFT + i * slot + slot * (0.05 + 0.27 * j)
            high_y, low_y = (TOP + box.high * (1 - v / top) for v in (mean, low))
            label = f"{plan} {ltv}: mean {mean:.3f}, 5th percentile {low:.3f}"
            parts.append(_bar(x, high_y, slot * 0.22, low_y - high_y, COLOURS[j], label))
            parts.append(_text(x + slot * 0.11, high_y - 4, f"{mean:.3f}", 10))
            parts.append(_text(x + slot * 0.11, low_y + 11, f"{low:.3f}", 10))
        parts.append(_text(LEFT + (i + 0.5) * slot, box.height - 26, plan, 12))
    return _svg(box, [*parts, *_legend(box)])


def _frame(box: Box, title: str, top: float, unit: str) -> list[str]:
    parts = [_text(LEFT, 22, title, 14, "start")]
    for step in range(5):
        y = TOP + box.high * (1 - step / 4)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - box.right}" y2="{y:.1f}" '
                     f'stroke="{PALE}"/>')
        parts.append(_text(LEFT - 6, y + 4, f"{top * step / 4:.3g}{unit}", 11, "end"))
    return parts


def _legend(box: Box) -> list[str]:
    parts = []
    for j, ltv in enumerate(LTVS):
        x = LEFT + 110 * j
        parts.append(_bar(x, box.height - 16, 10, 10, COLOURS[j], ltv))
        parts.append(_text(x + 16, box.height - 7, f"start LTV {ltv}", 11, "start"))
    return parts


def _bar(x: float, y: float, wide: float, high: float, colour: str, label: str) -> str:
    return (f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{max(high, 0.5):.1f}" '
            f'fill="{colour}"><title>{label}</title></rect>')


def _text(x: float, y: float, text: str, size: int, anchor: str = "middle") -> str:
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
            f'fill="{INK}">{text}</text>')


def _svg(box: Box, parts: Sequence[str]) -> str:
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {box.height}" '
            f'font-family="system-ui, sans-serif" role="img">')
    back = f'<rect width="{WIDTH}" height="{box.height}" fill="white"/>'
    return "\n".join([head, back, *parts, "</svg>"]) + "\n"



