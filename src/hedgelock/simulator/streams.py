"""Public streams without sockets: which topics exist, their snapshots and their deltas."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from hedgelock.simulator import api_reference
from hedgelock.simulator.api_market import book_side, ticker_row
from hedgelock.simulator.instruments import Contract
from hedgelock.simulator.intervals import INTERVALS_MS, opening, shifted
from hedgelock.simulator.matching import BUY, SELL
from hedgelock.simulator.money import text
from hedgelock.simulator.state import Event, Exchange, Row

TOPIC = re.compile(
    r"(tickers|publicTrade|orderbook\.(?:1|50|200|1000)|kline\.(?:\d+|[DWM])"
    r"|allLiquidation|priceLimit)\.([A-Z0-9]+)"
)
POOL_TOPIC = re.compile(r"(insurance|adlAlert)\.(USDT|USDC|inverse)")
POOL_EVERY_MS = 1000
ADL_NUMBERS = {
    "b": "balance", "mb": "maxBalance", "i_pr": "insurancePnlRatio", "pr": "pnlRatio",
    "adl_tt": "adlTriggerThreshold", "adl_sr": "adlStopRatio",
}  # fmt: skip
KLINE_EVERY_TICKS = 10
REPEAT_MS = 3_000  # a level-1 book that stays the same is sent again
PRIVATE_TOPICS = frozenset(
    {"order", "execution", "execution.fast", "position", "wallet", "greeks"}
    | {
        f"{t}.{c}"
        for t in ("order", "execution", "position")
        for c in ("linear", "inverse", "spot")
    }
    | {f"dcp.{p}" for p in ("future", "spot", "option")}
)
Side = dict[str, str]


class Streams:
    """Renders public topics for an exchange; remembers what its audience has last seen."""

    def __init__(self, x: Exchange) -> None:
        self._x = x
        self._tickers: dict[str, Row] = {}
        self._books: dict[tuple[str, str], tuple[Side, Side]] = {}
        self._tops: dict[tuple[str, str], Event] = {}  # the last frame of each level-1 book
        self._klines: dict[tuple[str, str], int] = {}
        self._pools: dict[tuple[str, str], Any] = {}
        self._next_pools_ms = 0
        self._updates = 1
        self.ticks = 0

    def known(self, category: str, topic: str) -> bool:
        """Whether there is such a topic."""
        if POOL_TOPIC.fullmatch(topic):
            return category in {"linear", "inverse"}
        return self.contract(category, topic) is not None

    def contract(self, category: str, topic: str) -> tuple[str, Contract] | None:
        """Kind of topic and its contract; None when there is no such topic."""
        match = TOPIC.fullmatch(topic)
        contract = self._x.contracts.get(f"{category}.{match[2]}") if match else None
        if match is None or contract is None:
            return None
        kind = match[1]
        if kind.startswith("kline.") and kind[6:] not in INTERVALS_MS:
            return None
        return kind, contract

    def subscribe(self, category: str, topic: str) -> Event | None:
        """Start rendering a topic; returns the first frame where it has one."""
        found = self.contract(category, topic)
        if found is None:
            return self._subscribe_pool(category, topic)
        kind, c = found
        fresh = (category, topic) not in self._x.wanted
        self._x.wanted.add((category, topic))
        if kind == "tickers":
            if fresh or c.key not in self._tickers:
                self._tickers[c.key] = self._ticker(c)
            return self._event(category, topic, dict(self._tickers[c.key]), "snapshot")
        if kind.startswith("orderbook"):
            if fresh or (category, topic) not in self._books:
                self._books[category, topic] = self._book(c, kind)
            first = self._book_event(category, topic, c, self._books[category, topic], "snapshot")
            if fresh:
                self._tops[category, topic] = first
            return first
        return None

    def _subscribe_pool(self, category: str, topic: str) -> Event | None:
        if not self.known(category, topic):
            return None
        self._x.wanted.add((category, topic))
        rows = self._pools[category, topic] = pool_rows(self._x, topic)
        return self._event(category, topic, self._stamped(topic, rows), "snapshot")

    def unsubscribe(self, category: str, topic: str) -> None:
        """Stop rendering a topic that has no audience left."""
        self._x.wanted.discard((category, topic))

    def tick(self) -> None:
        """Queue the frames of this tick for every topic with an audience."""
        self.ticks += 1
        self._updates += 1
        changed: dict[str, Row] = {}
        pools_due = self._x.now_ms >= self._next_pools_ms
        for category, topic in sorted(self._x.wanted):
            found = self.contract(category, topic)
            if found is None:
                if pools_due:
                    self._pool(category, topic)
                continue
            kind, c = found
            if kind == "tickers":
                if c.key not in changed:
                    changed[c.key] = self._ticker_delta(c)
                self._queue(self._event(category, topic, changed[c.key], self._ticker_kind(c)))
            elif kind.startswith("orderbook"):
                self._book_delta(category, topic, c, kind)
            elif kind.startswith("kline"):
                self._kline(category, topic, c, kind[6:])
        if pools_due:
            self._next_pools_ms = self._x.now_ms + POOL_EVERY_MS

    def _pool(self, category: str, topic: str) -> None:
        """Push what changed about the insurance; ADL alerts are whole each time."""
        rows = pool_rows(self._x, topic)
        before = self._pools.get((category, topic))
        self._pools[category, topic] = rows
        if topic.startswith("adlAlert"):
            self._queue(self._event(category, topic, rows, "snapshot"))
        elif rows != before:
            self._queue(self._event(category, topic, self._stamped(topic, rows), "delta"))

    def _stamped(self, topic: str, rows: list[Row]) -> list[Row]:
        if topic.startswith("adlAlert"):
            return rows
        return [row | {"updateTime": str(self._x.now_ms)} for row in rows]

    def _ticker(self, c: Contract) -> Row:
        row = ticker_row(self._x, c)
        if not c.is_spot:
            row["tickDirection"] = self._x.market.quotes[c.key].tick_direction
        return row

    @staticmethod
    def _ticker_kind(c: Contract) -> str:
        return "snapshot" if c.is_spot else "delta"

    def _ticker_delta(self, c: Contract) -> Row:
        row, before = self._ticker(c), self._tickers.get(c.key, {})
        self._tickers[c.key] = row
        if c.is_spot:
            return row
        delta = {k: v for k, v in row.items() if before.get(k) != v}
        return {"symbol": c.symbol, **delta}

    def _book(self, c: Contract, kind: str) -> tuple[Side, Side]:
        depth = int(kind.split(".")[1])
        bids, asks = (book_side(self._x, c, side, depth) for side in (BUY, SELL))
        return {level[0]: level[1] for level in bids}, {level[0]: level[1] for level in asks}

    def _book_delta(self, category: str, topic: str, c: Contract, kind: str) -> None:
        now, before = self._book(c, kind), self._books[category, topic]
        self._books[category, topic] = now
        if kind == "orderbook.1":
            last = self._tops[category, topic]
            if now != before:
                event = self._book_event(category, topic, c, now, "snapshot")
            elif self._x.now_ms - last.ts_ms >= REPEAT_MS:
                event = replace(last, ts_ms=self._x.now_ms)  # the same u
            else:
                return
            self._tops[category, topic] = event
            self._queue(event)
            return
        # only levels that the audience has may be deleted: a client dies of any other
        sides = [
            {p: q for p, q in new.items() if old.get(p) != q}
            | dict.fromkeys(sorted(old.keys() - new), "0")
            for new, old in zip(now, before, strict=True)
        ]
        if sides[0] or sides[1]:
            self._queue(self._book_event(category, topic, c, (sides[0], sides[1]), "delta"))

    def _book_event(
        self, category: str, topic: str, c: Contract, sides: tuple[Side, Side], kind: str
    ) -> Event:
        bids, asks = ([[p, q] for p, q in side.items()] for side in sides)
        data = {
            "s": c.symbol, "b": bids, "a": asks, "u": self._updates, "seq": self._x.sequence,
        }  # fmt: skip
        return self._event(category, topic, data, kind)

    def _kline(self, category: str, topic: str, c: Contract, interval: str) -> None:
        now = self._x.now_ms
        start = opening(interval, now)
        last = self._klines.setdefault((category, topic), start)
        if start == last and self.ticks % KLINE_EVERY_TICKS:
            return
        self._klines[category, topic] = start
        window = self._x.market.candles[c.key].window(
            interval, start_ms=last, end_ms=start, series="last"
        )
        rows: list[Row] = [
            {
                "start": k.start_ms, "end": shifted(interval, k.start_ms, 1) - 1, "interval": interval,
                "open": text(k.open), "close": text(k.close), "high": text(k.high),
                "low": text(k.low), "volume": text(k.volume), "turnover": text(k.turnover),
                "confirm": k.start_ms < start, "timestamp": now,
            }
            for k in window
        ]  # fmt: skip
        if rows:
            self._queue(self._event(category, topic, rows, "snapshot"))

    def _event(self, category: str, topic: str, data: Any, kind: str) -> Event:
        return Event(topic, "", category, self._x.now_ms, data, kind=kind, sequence=self.ticks)

    def _queue(self, event: Event) -> None:
        self._x.outbox.append(event)


def pool_rows(x: Exchange, topic: str) -> list[Row]:
    """Rows of insurance.* (isolated pools only) or adlAlert.*, whose numbers are numbers."""
    kind, _, group = topic.partition(".")
    if kind == "insurance":
        rows = x.pools.rows("" if group == "inverse" else group, isolated=True)
        return [
            {k: row[k] for k in ("coin", "symbols", "balance")}
            for row in rows
            if group != "inverse" or row["coin"] in x.market.index
        ]
    inverse = {c.symbol for c in x.contracts.values() if c.is_inverse}
    return [
        {
            "c": row["coin"], "s": row["symbol"],
            **{
                short: float(row[long] or row["balance"])
                for short, long in ADL_NUMBERS.items()
            },
        }
        for row in api_reference.adl_alert(x, {})["list"]
        if (row["symbol"] in inverse if group == "inverse" else row["coin"] == group)
    ]  # fmt: skip


def public_frame(event: Event) -> Row:
    """The envelope of a public frame."""
    frame: Row = {"topic": event.topic, "type": event.kind, "ts": event.ts_ms, "data": event.data}
    if event.topic.startswith("tickers"):
        frame["cs"] = event.sequence
    elif event.topic.startswith("orderbook"):
        frame["cts"] = event.ts_ms
    elif event.topic.startswith("priceLimit"):
        del frame["type"]
    return frame


def private_frame(event: Event, topic: str, number: int) -> Row | None:
    """The envelope of a private push for a subscription to `topic`; None when nothing fits."""
    rows = event.data
    base, _, category = topic.partition(".")
    if topic == "execution.fast":
        fast = ("category", "symbol", "execId", "execPrice", "execQty", "orderId", "isMaker",
                "orderLinkId", "side", "execTime", "seq")  # fmt: skip
        rows = [
            {k: r[k] for k in fast} | ({"orderLinkId": ""} if r["isMaker"] else {})
            for r in rows
            if r["execType"] == "Trade"
        ]
        frame = {"topic": topic, "creationTime": event.ts_ms, "data": rows}
        return frame if rows else None
    if category and base != "dcp":
        rows = [r for r in rows if r.get("category") == category]
    if not rows:
        return None
    return {"id": f"{number:x}", "topic": topic, "creationTime": event.ts_ms, "data": rows}
