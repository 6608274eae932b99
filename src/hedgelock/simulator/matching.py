"""Price-time matching in integer ticks and lots, against resting orders and a lazy book.

The synthetic side of the book is never stored: a level's size follows from its price, and only
what takers consumed since the last tick is remembered. Resting orders stand before synthetic
size at the same price. `Book` knows neither accounts nor money.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Container, Iterator
from dataclasses import dataclass

BUY, SELL = "Buy", "Sell"


@dataclass(frozen=True, slots=True)
class BookShape:
    """Synthetic liquidity on each side of the mid price."""

    half_spread_ticks: int = 1
    step_ticks: int = 5  # distance between levels
    levels: int = 50
    level_notional: int = 60_000  # quote units at the best level
    growth: float = 0.04  # each further level is larger by this fraction of the best one


@dataclass(frozen=True, slots=True, order=True)
class Resting:
    """An order in the book; sorts by price (best first for its side), then arrival."""

    rank: int  # ticks for sells, minus ticks for buys
    arrival: int
    order_id: str
    side: str
    ticks: int


@dataclass(frozen=True, slots=True)
class Match:
    """Part of a taker's order that met `maker` (None = synthetic size) at `ticks`."""

    ticks: int
    lots: int
    maker: str | None


class Book:
    """One symbol's book."""

    def __init__(self, shape: BookShape) -> None:
        self._shape = shape
        self._mid = 0
        self._best_lots = 1
        self._taken: dict[tuple[str, int], int] = {}
        self._resting: dict[str, list[Resting]] = {BUY: [], SELL: []}
        self._lots: dict[str, int] = {}  # open lots by order id
        self._places: dict[str, Resting] = {}
        self._arrivals = 0

    @property
    def shape(self) -> BookShape:
        """Its synthetic liquidity."""
        return self._shape

    @shape.setter
    def shape(self, shape: BookShape) -> None:
        self._shape = shape

    def recentre(self, *, mid_ticks: int, best_lots: int) -> None:
        """Move the synthetic book to a new mid; what was consumed is replenished."""
        self._mid = mid_ticks
        self._best_lots = max(1, best_lots)
        self._taken.clear()

    def best_bid(self) -> int:
        """Highest price at which one can sell, in ticks."""
        resting = self._resting[BUY]
        synthetic = next(self._synthetic(BUY), (0, 0))[0]
        return max(synthetic, resting[0].ticks) if resting else synthetic

    def best_ask(self) -> int:
        """Lowest price at which one can buy, in ticks."""
        resting = self._resting[SELL]
        synthetic = next(self._synthetic(SELL), (2**62, 0))[0]
        return min(synthetic, resting[0].ticks) if resting else synthetic

    def levels(self, side: str, depth: int) -> list[tuple[int, int]]:
        """Best `depth` (ticks, lots) of one side, best first."""
        sums: dict[int, int] = {}
        for ticks, lots in self._synthetic(side):
            if len(sums) >= depth:
                break
            sums[ticks] = lots
        for entry in self._resting[side][: depth * 4]:
            sums[entry.ticks] = sums.get(entry.ticks, 0) + self._lots[entry.order_id]
        return sorted(sums.items(), reverse=side == BUY)[:depth]

    def rest(self, order_id: str, *, side: str, ticks: int, lots: int) -> None:
        """Put an order into the book behind those at its price."""
        self._arrivals += 1
        rank = ticks if side == SELL else -ticks
        entry = Resting(rank, self._arrivals, order_id, side, ticks)
        insort(self._resting[side], entry)
        self._places[order_id] = entry
        self._lots[order_id] = lots

    def remove(self, order_id: str) -> None:
        """Take an order out; an absent one is no error."""
        if self._lots.pop(order_id, None) is not None:
            entry = self._places.pop(order_id)
            entries = self._resting[entry.side]
            del entries[bisect_left(entries, entry)]

    def shrink(self, order_id: str, lots: int) -> None:
        """Leave an order with at most `lots`, keeping its place."""
        if order_id in self._lots:
            self._lots[order_id] = min(lots, self._lots[order_id])
            if self._lots[order_id] <= 0:
                self.remove(order_id)

    def available(self, side: str, *, limit_ticks: int) -> int:
        """Lots that a taker of `side` could get at `limit_ticks` or better."""
        against = SELL if side == BUY else BUY
        total = 0
        for ticks, lots, _ in self._queue(against):
            if not _crosses(side, limit_ticks, ticks):
                break
            total += lots
        return total

    def head(self, side: str, *, limit_ticks: int) -> str | None:
        """Id of the resting order that a taker of `side` would meet first; None for no such."""
        against = SELL if side == BUY else BUY
        ticks, _, maker = next(self._queue(against), (0, 0, None))
        return maker if maker is not None and _crosses(side, limit_ticks, ticks) else None

    def take(
        self, side: str, *, lots: int, limit_ticks: int, avoid: Container[str] = ()
    ) -> list[Match]:
        """Execute a taker's order as far as the book and its limit allow; consumes the book.

        Stops before the first resting order whose id is in `avoid`.
        """
        against = SELL if side == BUY else BUY
        matches: list[Match] = []
        for ticks, offered, maker in list(self._until(against, side, lots, limit_ticks)):
            if maker is not None and maker in avoid:
                break
            part = min(lots, offered)
            lots -= part
            matches.append(Match(ticks, part, maker))
            if maker is None:
                taken = self._taken.get((against, ticks), 0)
                self._taken[against, ticks] = taken + part
            else:
                self.shrink(maker, offered - part)
            if lots <= 0:
                break
        return matches

    def sweep(self) -> list[Match]:
        """Fill resting orders that the synthetic book now crosses, at their own prices."""
        matches: list[Match] = []
        for side, against in ((BUY, SELL), (SELL, BUY)):
            for entry in list(self._resting[side]):
                wanted = self._lots[entry.order_id]
                filled = self._fill_from_synthetic(against, side, wanted, entry.ticks)
                if not filled:
                    break
                matches.append(Match(entry.ticks, filled, entry.order_id))
                self.shrink(entry.order_id, wanted - filled)
        return matches

    def _fill_from_synthetic(self, against: str, side: str, wanted: int, limit: int) -> int:
        filled = 0
        for ticks, lots in list(self._synthetic(against)):
            if filled >= wanted or not _crosses(side, limit, ticks):
                break
            part = min(lots, wanted - filled)
            self._taken[against, ticks] = self._taken.get((against, ticks), 0) + part
            filled += part
        return filled

    def _until(
        self, against: str, side: str, lots: int, limit_ticks: int
    ) -> Iterator[tuple[int, int, str | None]]:
        for ticks, offered, maker in self._queue(against):
            if lots <= 0 or not _crosses(side, limit_ticks, ticks):
                return
            lots -= offered
            yield ticks, offered, maker

    def _queue(self, side: str) -> Iterator[tuple[int, int, str | None]]:
        """(ticks, lots, order id or None) of one side in the order in which it trades."""
        resting = iter(self._resting[side])
        entry = next(resting, None)
        for ticks, lots in self._synthetic(side):
            while entry is not None and entry.rank <= (ticks if side == SELL else -ticks):
                yield entry.ticks, self._lots[entry.order_id], entry.order_id
                entry = next(resting, None)
            yield ticks, lots, None
        while entry is not None:
            yield entry.ticks, self._lots[entry.order_id], entry.order_id
            entry = next(resting, None)

    def _synthetic(self, side: str) -> Iterator[tuple[int, int]]:
        shape, sign = self._shape, (1 if side == SELL else -1)
        for number in range(shape.levels):
            ticks = self._mid + sign * (shape.half_spread_ticks + number * shape.step_ticks)
            if ticks <= 0:
                return
            # a cheap hash of the price, so that sizes look alive yet need no memory
            jitter = 80 + (ticks * 2654435761 >> 9) % 41
            lots = int(self._best_lots * (1 + shape.growth * number)) * jitter // 100
            lots = max(1, lots) - self._taken.get((side, ticks), 0)
            if lots > 0:
                yield ticks, lots


def _crosses(side: str, limit_ticks: int, ticks: int) -> bool:
    return ticks <= limit_ticks if side == BUY else ticks >= limit_ticks
