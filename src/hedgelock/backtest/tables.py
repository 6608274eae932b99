"""The results as Markdown: a page to read, and every figure of every setting.

Everything comes from `results.document`; nothing is computed here but means over rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hedgelock.backtest.cells import LTVS, POCKETS
from hedgelock.backtest.study import Compared

Row = Mapping[str, Any]
MAIN_POCKETS = "+".join(POCKETS[0])


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "--:|" * (len(header) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def share(value: float) -> str:
    """A fraction as %.

    >>> share(0.1205)
    '12.1'
    """
    return f"{100 * value + 1e-9:.1f}"


def money(value: float) -> str:
    """Units of the collateral at the start."""
    return f"{value:.3f}"


def cost(value: float) -> str:
    """In bps of the collateral at the start; − = earned."""
    return f"{10_000 * value:.0f}"


def pick(rows: Sequence[Row], **wanted: object) -> list[Row]:
    """Rows with these values."""
    return [r for r in rows if all(r[k] == v for k, v in wanted.items())]


def plans_of(rows: Sequence[Row]) -> list[str]:
    """Plans in the order of the baselines, then any other."""
    return list(dict.fromkeys(r["plan"] for r in rows))


# ---------------------------------------------------------------- the page


def page(document: Mapping[str, Any], compared: Sequence[Compared], remarks: str) -> str:
    """docs/results/README.md."""
    rows: Sequence[Row] = document["rows"]
    parts = [
        "# Results", _INTRODUCTION, _sources(document), "## Liquidated, % of windows",
        "![share of windows liquidated](liquidated.svg)", _liquidated(rows),
        "## Money", "![mean and worst equity](equity.svg)", _MONEY, *_money(rows),
        "## Stress", _STRESS, _stress(rows),
        "## Honesty", _HONESTY, _honesty(rows),
    ]
    if compared:
        parts += ["## Beside the study", _STUDY, _study(compared)]
    return "\n\n".join([*parts, remarks.strip()]) + "\n"


_INTRODUCTION = """The frozen baselines through recorded markets, by `make results`; the same seeds give
the same figures. An account pledges 1 coin, owes the start LTV, and has a trading pocket of .10 of the
collateral's value in USDT and .10 in coins (also .05 and none). It lives through windows of 30 and 90
days, one every 3 days, and is flattened at the end. Money is in units of the collateral's value at the
start. `ltv_target` is the reference policy B\\*. [Every market and length](tables.md), [as JSON](results.json)."""

_MONEY = """Start LTV .65 / .72, windows of 30 days, hourly decisions, repayments at once, real and
mirrored market together (funding reflected with the price). Costs are fees, slippage, funding and
penalties in bps of the collateral; − means that funding earned more than all else cost. Differences to
B\\* are of equity, paired window by window, with 95 % intervals from a circular block bootstrap (blocks
of 10 windows, 2,000 draws); bold where the interval excludes zero."""

_STRESS = """% of windows of 30 days liquidated at start LTV .65 / .72 when a move is put on top of the
real market from the middle of each window on; decisions every five minutes and hourly."""

_HONESTY = """On a martingale (each bar's return reflected with p = ½, 64 hourly or 16
five-minute draws per window, no funding)
nobody can gain by trading: mean(equity − hold + explicit costs − interest saved) has to be zero within
three standard errors. The draws are a martingale from close to close, so a liquidation inside a bar is
valued at its close; without that, hourly draws of the unhedged account miss zero by a wick (`raw` in
the JSON). In 1/10,000 of the collateral: mean ± standard error, start LTV .65 / .72."""

_STUDY = """An independent study of 2021 gave figures for the same baselines (real and mirrored windows
of 30 days, pockets .10 + .10). Agreement means ± 1.5 points in shares and ± .01 in money."""


def _sources(document: Mapping[str, Any]) -> str:
    named = ", ".join(f"{k} `{v}`" for k, v in document["sources"].items() if isinstance(v, str))
    return f"Data: {named}."


def _liquidated(rows: Sequence[Row]) -> str:
    """Real and mirror at both rhythms, martingale; start LTV .55 / .65 / .72."""
    columns = [
        ("real 5 min", {"market": "real", "rhythm": "5m"}),
        ("real 1 h", {"market": "real", "rhythm": "1h"}),
        ("mirror 5 min", {"market": "mirror", "rhythm": "5m"}),
        ("mirror 1 h", {"market": "mirror", "rhythm": "1h"}),
        ("martingale 5 min", {"market": "martingale", "rhythm": "5m"}),
        ("martingale 1 h", {"market": "martingale", "rhythm": "1h"}),
    ]
    parts = []
    for days in sorted({r["days"] for r in rows}):
        known = pick(rows, days=days, pockets=MAIN_POCKETS, delay=0)
        body = [
            [plan, *(_by_ltv(pick(known, plan=plan, **where), "liquidated", LTVS)
                     for _, where in columns)]
            for plan in plans_of(known)
        ]
        if body:
            parts.append(f"{days} days, start LTV .55 / .65 / .72:")
            parts.append(table(["plan", *(name for name, _ in columns)], body))
    return "\n\n".join(parts)


def _by_ltv(rows: Sequence[Row], name: str, ltvs: Sequence[str]) -> str:
    found = [share(r[name]) for ltv in ltvs for r in pick(rows, ltv=ltv)]
    return " / ".join(found) if found else "–"


def _money(rows: Sequence[Row]) -> list[str]:
    parts = []
    known = pick(rows, kind="markets", days=30, rhythm="1h", pockets=MAIN_POCKETS, delay=0)
    for ltv in ("0.65", "0.72"):
        body = []
        for plan in plans_of(known):
            pair = [
                r for market in ("real", "mirror")
                for r in pick(known, plan=plan, ltv=ltv, market=market)
            ]
            if pair:
                body.append([plan, *_money_row(pair)])
        header = ["plan", "equity", "5th pct", "shortfall 5 % USD", "BTC", "upside kept", "costs",
                  "interest saved", "real − B\\*", "mirror − B\\*"]
        parts += [f"Start LTV {ltv}:", table(header, body)]
    return parts


def _money_row(pair: Sequence[Row]) -> list[str]:
    def mean(name: str) -> float:
        return float(sum(r[name] for r in pair) / len(pair))

    figures = [money(mean(n)) for n in ("equity", "equity_p5", "shortfall_usd", "shortfall_btc")]
    figures += [f"{mean('upside'):.2f}", cost(mean("explicit")), cost(mean("interest_saved"))]
    return figures + [_difference(r.get("against_reference")) for r in pair]


def _difference(against: Mapping[str, Any] | None) -> str:
    if against is None:
        return "–"
    found = against["equity"]
    text = f"{found['mean']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"
    return f"**{text}**" if found["low"] > 0 or found["high"] < 0 else text


def _stress(rows: Sequence[Row]) -> str:
    known = pick(rows, kind="stress", pockets=MAIN_POCKETS, delay=0)
    names = list(dict.fromkeys(r["market"] for r in known))
    body = []
    for plan in plans_of(known):
        for rhythm in ("5m", "1h"):
            mine = pick(known, plan=plan, rhythm=rhythm)
            if mine:
                cells = [_by_ltv(pick(mine, market=n), "liquidated", ("0.65", "0.72")) for n in names]
                body.append([f"{plan}, {rhythm}", *cells])
    return table(["plan, decisions", *names], body)


def _honesty(rows: Sequence[Row]) -> str:
    known = pick(rows, kind="martingale", pockets=MAIN_POCKETS, delay=0)
    columns = sorted({(r["days"], r["rhythm"]) for r in known})
    body = []
    for plan in plans_of(known):
        line = [plan]
        for days, rhythm in columns:
            mine = pick(known, plan=plan, days=days, rhythm=rhythm)
            line.append(" / ".join(_kept(r) for ltv in ("0.65", "0.72") for r in pick(mine, ltv=ltv)))
        body.append(line)
    kept = [r["honesty"]["is_kept"] for r in rows if "honesty" in r]
    told = f"\n\nKept in {sum(kept)} of {len(kept)} settings." if kept else ""
    return table(["plan", *(f"{d} days, {r}" for d, r in columns)], body) + told


def _kept(row: Row) -> str:
    found = row["honesty"]
    text = f"{10_000 * found['mean']:+.0f} ± {10_000 * found['error']:.0f}"
    return text if found["is_kept"] else f"**{text}**"


def _study(compared: Sequence[Compared]) -> str:
    names = list(dict.fromkeys(c.figure for c in compared))
    body = []
    for plan in dict.fromkeys(c.plan for c in compared):
        line = [plan]
        for figure in names:
            pair = [c for c in compared if c.plan == plan and c.figure == figure]
            line.append(" / ".join(_beside(c) for c in pair) or "–")
        body.append(line)
    agree = sum(c.agrees for c in compared)
    told = f"\n\nOurs (theirs), start LTV .65 / .72; bold where apart: {agree} of {len(compared)} agree."
    return table(["plan", *names], body) + told


def _beside(c: Compared) -> str:
    say = share if c.figure.startswith("liquidated") else money
    text = f"{say(c.ours)} ({say(c.theirs)})"
    return text if c.agrees else f"**{text}**"


# ---------------------------------------------------------------- everything


_COLUMNS = ("liquidated", "loan", "margin", "margin_call", "equity", "equity_p5", "shortfall_usd",
            "shortfall_btc", "upside", "fees", "slippage", "funding", "penalty", "interest_saved",
            "trades")


def everything(document: Mapping[str, Any]) -> str:
    """docs/results/tables.md: one table per length, rhythm and market."""
    rows: Sequence[Row] = document["rows"]
    parts = ["# Every market and length", _EVERYTHING]
    groups = dict.fromkeys((r["days"], r["rhythm"], r["market"]) for r in rows)
    for days, rhythm, market in groups:
        mine = pick(rows, days=days, rhythm=rhythm, market=market, pockets=MAIN_POCKETS)
        body = [
            [f"{r['plan']} {r['ltv']} d{r['delay']}", *(_cell(n, r[n]) for n in _COLUMNS)]
            for r in mine
        ]
        header = ["plan, LTV, delay", *(n.replace("_", " ") for n in _COLUMNS)]
        parts += [f"## {days} days, {rhythm}, {market} ({mine[0]['windows']} windows)",
                  table(header, body)]
    return "\n\n".join(parts) + "\n"


_EVERYTHING = """Shares in %, money in units of the collateral at the start, costs in bps of it (funding
− = received), trades per window. Pockets .10 + .10 (the small ones are in results.json); d1 = loan
actions land a bar late."""


def _cell(name: str, value: float) -> str:
    if name in ("liquidated", "loan", "margin", "margin_call"):
        return share(value)
    if name in ("fees", "slippage", "funding", "penalty", "interest_saved"):
        return cost(value)
    return f"{value:.0f}" if name == "trades" else f"{value:.3f}"
