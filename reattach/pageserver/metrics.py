"""Counters of this process. What the field's names mean to those who scrape them stays the same.

Counting must cost nothing at start-up, so values are plain numbers and the exposition library is imported by
the first scrape.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.core import Metric

Labels = tuple[str, ...]

CHECKPOINT_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(slots=True)
class Counter:
    """A number per label values that only grows."""

    name: str
    help: str
    labels: Labels = ()
    values: dict[Labels, float] = field(default_factory=lambda: defaultdict(float))

    def __post_init__(self) -> None:
        if not self.labels:
            self.values[()] = 0

    def inc(self, *labels: str, by: float = 1) -> None:
        self.values[labels] += by

    def forget(self, *prefix: str) -> None:
        """Drops the values whose labels begin so, since what they counted is gone."""
        for labels in [each for each in self.values if each[: len(prefix)] == prefix]:
            del self.values[labels]

    def collect(self) -> Metric:
        from prometheus_client.core import CounterMetricFamily

        family = CounterMetricFamily(self.name, self.help, labels=self.labels)
        for labels, value in self.values.items():
            family.add_metric(labels, value)
        return family


@dataclass(slots=True)
class Histogram:
    """How often a value was at most so large. `buckets` are upper bounds, rising."""

    name: str
    help: str
    buckets: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.buckets) + 1)

    def observe(self, value: float) -> None:
        self.total += value
        self.counts[sum(bound < value for bound in self.buckets)] += 1

    def collect(self) -> Metric:
        from prometheus_client.core import HistogramMetricFamily

        cumulative, buckets = 0, []
        for bound, count in zip((*map(str, self.buckets), "+Inf"), self.counts, strict=True):
            cumulative += count
            buckets.append((bound, float(cumulative)))
        return HistogramMetricFamily(self.name, self.help, buckets=buckets, sum_value=self.total)


Gauges = Callable[[], Iterable[tuple[str, str, Labels, Iterable[tuple[Labels, float]]]]]
"""Yields `(name, help, label names, [(label values, value)])` of what is known only when asked."""


class ImportCounters:
    """What imports do, over all timelines of the process."""

    def __init__(self) -> None:
        self.planned = Counter("pageserver_import_jobs_planned", "Jobs of the plans that were made")
        self.done = Counter("pageserver_import_jobs_done", "Jobs that finished")
        self.rerun = Counter("pageserver_import_jobs_rerun", "Jobs that replaced a layer written before")
        self.read = Counter("pageserver_import_bytes_read", "Bytes that came from import buckets")
        self.checkpoint = Histogram(
            "pageserver_import_checkpoint_seconds",
            "From the first upload of a checkpoint to the controller's answer",
            CHECKPOINT_BUCKETS,
        )

    def jobs_planned(self, jobs: int) -> None:
        self.planned.inc(by=jobs)

    def job_done(self, rerun: bool) -> None:
        self.done.inc()
        if rerun:
            self.rerun.inc()

    def bytes_read(self, count: int) -> None:
        self.read.inc(by=count)

    def checkpoint_done(self, seconds: float) -> None:
        self.checkpoint.observe(seconds)


class Metrics:
    """Every metric of this process."""

    def __init__(self) -> None:
        def queue(what: str, text: str) -> Counter:
            return Counter(f"pageserver_deletion_queue_{what}", text)

        self.imports = ImportCounters()
        self.deletions_submitted = queue("submitted", "Objects submitted for deletion")
        self.deletions_executed = queue("executed", "Objects deleted")
        self.deletions_validated = queue("validated", "Objects that the controller allowed to delete")
        self.deletions_dropped = queue("dropped", "Objects not deleted since the generation is stale")
        self.dropped_lsn_updates = queue(
            "dropped_lsn_updates", "Updates of remote_consistent_lsn dropped since the generation is stale"
        )
        self.deletion_unexpected_errors = queue("unexpected_errors", "Errors that may leave objects behind")
        timeline = ("tenant_id", "shard_id", "timeline_id")
        call = (*timeline, "file_kind", "op_kind")
        client = "pageserver_remote_timeline_client"
        self.calls_started = Counter(f"{client}_calls_started", "Uploads and deletions asked for", call)
        self.calls_finished = Counter(f"{client}_calls_finished", "Uploads and deletions done", call)
        self.bytes_started = Counter(f"{client}_bytes_started", "Bytes to upload", call)
        self.bytes_finished = Counter(f"{client}_bytes_finished", "Bytes uploaded", call)
        self.evictions = Counter("pageserver_evictions", "Layers removed from the disk", timeline)
        self.ondemand_downloads = Counter(
            "pageserver_ondemand_downloads", "Layers that came from remote storage when they were needed"
        )
        self.tenant_manager_unexpected_errors = Counter(
            "pageserver_tenant_manager_unexpected_errors", "States that the tenant manager cannot explain"
        )
        self._gauges: list[Gauges] = []

    def add_gauges(self, gauges: Gauges) -> None:
        self._gauges.append(gauges)

    def collect(self) -> Iterable[Metric]:
        """What prometheus_client asks a collector for."""
        from prometheus_client.core import GaugeMetricFamily

        for holder in (self, self.imports):
            for metric in vars(holder).values():
                if isinstance(metric, Counter | Histogram):
                    yield metric.collect()
        for gauges in self._gauges:
            for name, text, labels, samples in gauges():
                family = GaugeMetricFamily(name, text, labels=labels)
                for values, value in samples:
                    family.add_metric(values, value)
                yield family

    def forget_timeline(self, *labels: str) -> None:
        for counter in (
            self.calls_started,
            self.calls_finished,
            self.bytes_started,
            self.bytes_finished,
            self.evictions,
        ):
            counter.forget(*labels)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        with _registering:
            registry.register(self)
        return generate_latest(registry)


_registering = threading.Lock()
