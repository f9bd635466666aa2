"""Counting, and what a scrape says of it."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from reattach.pageserver.metrics import Metrics


def scraped(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """By name and label values, which are sorted."""
    return {
        (sample.name, tuple(sorted(sample.labels.values()))): sample.value
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }


def test_labels_come_and_go_with_the_timeline() -> None:
    metrics = Metrics()
    metrics.calls_started.inc("t", "0001", "l", "layer", "upload")
    metrics.calls_started.inc("t", "0001", "other", "layer", "upload")
    name = "pageserver_remote_timeline_client_calls_started_total"
    assert scraped(metrics)[name, ("0001", "l", "layer", "t", "upload")] == 1
    metrics.forget_timeline("t", "0001", "l")
    assert [labels for each, labels in scraped(metrics) if each == name] == [
        ("0001", "layer", "other", "t", "upload")
    ]


def test_checkpoint_histogram() -> None:
    metrics = Metrics()
    for seconds in (0.004, 0.005, 0.2, 1000.0):
        metrics.imports.checkpoint_done(seconds)
    values = scraped(metrics)
    name = "pageserver_import_checkpoint_seconds"
    assert values[f"{name}_bucket", ("0.005",)] == 2
    assert values[f"{name}_bucket", ("0.25",)] == 3
    assert values[f"{name}_bucket", ("+Inf",)] == 4
    assert values[f"{name}_count", ()] == 4
    assert values[f"{name}_sum", ()] == pytest.approx(1000.209)
