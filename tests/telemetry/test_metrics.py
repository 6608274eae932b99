"""Metrics: one table, one registry per service, mistakes are assertions."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from hedgelock.telemetry import metrics as module
from hedgelock.telemetry.metrics import METRICS, Metrics


def test_every_metric_is_named_by_the_conventions() -> None:
    """Counters end in _total, times in _seconds; names and labels are snake case; all have help."""
    for row in METRICS.values():
        assert re.fullmatch(r"[a-z][a-z_]*", row.name)
        assert row.name.endswith("_total") is (row.kind == "counter")
        assert row.kind != "histogram" or row.name.endswith("_seconds")
        assert row.name.endswith("_seconds") is (row.unit == "seconds")
        assert row.help.endswith(".")
        assert all(re.fullmatch(r"[a-z]+", label) for label in row.labels)


def test_each_service_has_its_own_registry() -> None:
    """What one service counts does not appear in another, though both live in one process."""
    one, two = Metrics("hedger"), Metrics("safety")
    one.steps_total.inc()
    assert b"hedgelock_steps_total 1.0" in one.exposition()
    assert b"hedgelock_steps_total 0.0" in two.exposition()


def test_values_appear_with_their_labels() -> None:
    """Decimals, unknown values and measurements appear as Prometheus expects them."""
    metrics = Metrics("risk-engine")
    metrics.ltv.set(Decimal("0.7"), account="main")
    metrics.ltv_net_fall.set(None, account="main")
    metrics.records_total.inc(3, topic="account_raw")
    metrics["records_total"].inc(topic="account_raw")
    metrics.step_seconds.observe(0.002)
    text = metrics.exposition().decode()
    assert 'hedgelock_ltv{account="main"} 0.7' in text
    assert 'hedgelock_ltv_net_fall{account="main"} NaN' in text
    assert 'hedgelock_records_total{topic="account_raw"} 4.0' in text
    assert 'hedgelock_step_seconds_bucket{le="0.0025"} 1.0' in text
    assert "_created" not in text


def test_only_some() -> None:
    """A process may register a part of the table."""
    metrics = Metrics("simulator", only=["ready"])
    assert metrics.exposition().count(b"# TYPE") == 1


def test_mistakes_are_assertions() -> None:
    """A wrong name, label or kind is a bug and never passes silently."""
    metrics = Metrics("hedger")
    with pytest.raises(AssertionError, match="there is no metric 'stepz'"):
        _ = metrics.stepz
    with pytest.raises(AssertionError, match="takes labels"):
        metrics.ltv.set(1)
    with pytest.raises(AssertionError, match="takes labels"):
        metrics.ltv.set(1, acount="main")
    with pytest.raises(AssertionError, match="no counter"):
        metrics.ltv.inc(account="main")
    with pytest.raises(AssertionError, match="no gauge"):
        metrics.steps_total.set(1)
    with pytest.raises(AssertionError, match="no histogram"):
        metrics.steps_total.observe(1)


def test_series_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound, further label values are counted together, so that memory cannot grow."""
    monkeypatch.setattr(module, "SERIES_MAX", 2)
    metrics = Metrics("collector")
    for source in ("a", "b", "c", "d"):
        metrics.bad_input_total.inc(source=source)
    text = metrics.exposition().decode()
    assert 'hedgelock_bad_input_total{source="other"} 2.0' in text
    assert 'source="c"' not in text
