"""The harness' own arithmetic: percentiles, bars, JSON, and which tick an order came from."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from bench.figures import Figure, percentile, spread
from bench.latency import Trigger, join

from bench import figures, market, memory

MS = 1_000_000


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([5.0], 0.5, 5.0), ([4.0, 1.0, 3.0, 2.0], 0.5, 2.0), (list(map(float, range(1, 101))), 0.99, 99.0),
     ([1.0, 2.0], 0.99, 2.0), ([1.0, 2.0], 1.0, 2.0)],
)
def test_a_percentile_is_a_value_that_was_seen(
    values: list[float], share: float, expected: float
) -> None:
    """The smallest value that at least that share of all does not exceed."""
    assert percentile(values, share) == expected


def test_a_figure_without_values_misses_every_bar() -> None:
    """Nothing measured is never fine, with a bar or without."""
    empty = spread("none", [], "ms", bars=(1.0, None))
    assert all(math.isnan(figure.value) for figure in empty)
    assert figures.missed(empty) == ["none_p50_ms", "none_p99_ms"]
    assert figures.as_json(empty)["none_p50_ms"]["value"] is None


def test_either_bar_may_be_met() -> None:
    """A busy machine is measured by its own floor, a quiet one by the fixed bar."""
    assert Figure("a", 60.0, "ms", 50.0, or_bar=90.0).ok
    assert Figure("a", 60.0, "ms", 90.0, or_bar=50.0).ok
    assert not Figure("a", 60.0, "ms", 50.0, or_bar=55.0).ok


def test_a_value_on_the_bar_meets_it() -> None:
    """The bar is the last value that is allowed."""
    assert Figure("a", 150.0, "us", 150.0).ok
    assert not Figure("a", 150.1, "us", 150.0).ok


def test_results_are_merged_by_name(tmp_path: Path) -> None:
    """The file is `{name: {value, unit, bar, ok}}`; what was not measured now is kept."""
    path = tmp_path / "results.json"
    figures.write([Figure("a", 1.23456, "ms", 2.0), Figure("b", 3.0, "s")], path)
    figures.write([Figure("a", 9.0, "ms", 2.0)], path)
    assert json.loads(path.read_text()) == {
        "a": {"value": 9.0, "unit": "ms", "bar": 2.0, "ok": False},
        "b": {"value": 3.0, "unit": "s", "bar": None, "ok": True},
    }


def order(name: str, at_ms: float) -> dict[str, object]:
    return {"orderLinkId": name, "received_ns": int(at_ms * MS)}


def test_an_order_is_timed_from_the_tick_that_led_to_it() -> None:
    """Confirmation, intent, assessment and trigger are followed; the nearest tick is not guessed."""
    ticks = [{"id": 1, "ts": 1_000, "ns": 10 * MS}, {"id": 2, "ts": 1_100, "ns": 110 * MS}]
    found = join(
        [order("hla", 13.5), order("hlb", 115.0)], ticks,
        intents={"hla": "h:1.0", "hlb": "h:2.0"}, causes={"h:1.0": "r:1.0", "r:1.0": "c:1",
                                                           "h:2.0": "r:2.0", "r:2.0": "c:1"},
        triggers={"c:1": Trigger("market_data", 1_000)}, started_ms=1_000,
    )
    assert found.ms == [3.5, 105.0]


def test_orders_of_other_origin_are_left_out() -> None:
    """A fill, a balance or an unknown tick is no exchange event whose way can be timed."""
    ticks = [{"id": 1, "ts": 1_000, "ns": 0}]
    found = join(
        [order("hla", 1.0), order("hlb", 1.0), order("hlc", 1.0), order("hld", 1.0)], ticks,
        intents={"hla": "a", "hlb": "b", "hlc": "c"},
        causes={"a": "fill", "b": "r:1", "r:1": "wallet", "c": "r:2", "r:2": "tick"},
        triggers={"wallet": Trigger("account_raw", 1_000), "tick": Trigger("market_data", 999)},
        started_ms=1_000,
    )
    assert (found.ms, found.others) == ([], 4)


def test_an_order_upon_a_later_tick_of_its_jump_is_counted_as_late() -> None:
    """Conflation must not flatter: a decision that skipped the jump's first tick shows."""
    every_ms = int(market.JUMP_EVERY_S * 1e3)
    ticks = [{"id": i, "ts": i * 100, "ns": i * 100 * MS} for i in range(20)]
    first = -(-every_ms // 100) * 100
    causes = {"a": "r1", "r1": "t1", "b": "r2", "r2": "t2"}
    triggers = {"t1": Trigger("market_data", first), "t2": Trigger("market_data", first + 100)}
    found = join(
        [order("hla", first + 1.0), order("hlb", first + 101.0)], ticks,
        intents={"hla": "a", "hlb": "b"}, causes=causes, triggers=triggers, started_ms=0,
    )
    assert (found.ms, found.late) == ([1.0, 1.0], 1)
    assert found.unanswered == int(1.9 / market.JUMP_EVERY_S) - 2


def test_every_jump_moves_the_hedge_by_more_than_a_band() -> None:
    """The bench's market is one in which each side of the zigzag wants another hedge."""
    corners = market.zigzag(10.0)
    prices = {price for _, price in corners}
    low, high = min(prices), max(prices)
    moved = (market.DEBT_USDT / low - market.DEBT_USDT / high) / 0.25
    assert len(prices) == 2
    assert moved > 2 * 0.05
    assert corners == tuple(sorted(corners, key=lambda corner: corner[0]))
    assert market.segment(corners[2][0]) == 1


def test_pss_is_read_in_megabytes() -> None:
    """The kernel says kB and means 1024 bytes."""
    assert memory.pss_of("00400000-7fff [rollup]\nRss: 10 kB\nPss:     1000 kB\nPss_Dirty: 5 kB\n") == 1.024
    assert memory.pss_of("") == 0.0
