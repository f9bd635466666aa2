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


def test_counters_start_at_zero_and_grow() -> None:
    metrics = Metrics()
    name = ("pageserver_deletion_queue_submitted_total", ())
    assert scraped(metrics)[name] == 0
    metrics.deletions_submitted.inc(by=3)
    assert scraped(metrics)[name] == 3


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


def test_import_counters() -> None:
    metrics = Metrics()
    metrics.imports.jobs_planned(5)
    metrics.imports.job_done(rerun=True)
    metrics.imports.job_done(rerun=False)
    metrics.imports.bytes_read(100)
    values = scraped(metrics)
    assert values["pageserver_import_jobs_planned_total", ()] == 5
    assert values["pageserver_import_jobs_done_total", ()] == 2
    assert values["pageserver_import_jobs_rerun_total", ()] == 1
    assert values["pageserver_import_bytes_read_total", ()] == 100


def test_gauges_are_read_when_asked() -> None:
    metrics = Metrics()
    seen = [1.0]
    metrics.add_gauges(lambda: [("size", "How much", ("kind",), [(("a",), seen[0])])])
    assert scraped(metrics)["size", ("a",)] == 1
    seen[0] = 2.0
    assert scraped(metrics)["size", ("a",)] == 2
